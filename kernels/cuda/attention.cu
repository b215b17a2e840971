/* attention.cu - softmax(q k^T / sqrt d) v on tensor cores, with online softmax.
 *
 * A block takes WARPS * 16 * M queries of a head and walks over the keys, TILE at a time; scores
 * and the rows of the result stay in registers. Where there are too few blocks for the device, the
 * keys are split among several, whose results join_splits adds up in the order of the keys.
 * attention_wide.cu takes what does not fit here: longer heads, fp32, odd strides.
 * Source: Dao 2023 (FlashAttention-2); PTX ISA, "Matrix fragments for mma.m16n8k16".
 */
#include "attention.cuh"

enum { WARPS = 4, THREADS = 32 * WARPS };

/* Rows in shared memory are of 2 * DEEP pieces of 8 halves: whole steps of the product. */
template <int HEAD, int M> struct shape {
    enum {
        DEEP = (HEAD + 15) / 16,
        PITCH = 2 * DEEP,
        ROWS = WARPS * 16 * M,
        BUFFER = 2 * TILE * PITCH, /* pieces: keys, then values */
    };
    static_assert((int)ROWS <= 2 * TILE, "queries, and then results, pass through a buffer");
};

/* What a lane holds of 16 M queries: of rows lane / 4 and lane / 4 + 8, in the layout of mma. */
template <int HEAD, int M> struct state {
    float out[M][HEAD / 8][4];
    float top[M][2], sum[M][2]; /* the largest score so far; the sum of this lane's columns */
};

/* Rows first .. first + ROWS of `from` to shared memory; zeros behind row `limit`. */
template <int ROWS, int PITCH>
DEVICE void load_rows(uint4 *to, const void *from, int ld, int first, int limit, int pieces)
{
    enum { COUNT = ROWS * PITCH / THREADS, STEP = THREADS / PITCH };
    static_assert((int)COUNT * THREADS == ROWS * PITCH, "each thread copies as many pieces");
    if constexpr (STEP * PITCH == THREADS) { /* a thread stays in its column, and in its place */
        const int r = threadIdx.x / PITCH, p = threadIdx.x % PITCH;
        const int left = p < pieces ? limit - first - r : 0;
        const char *at = (const char *)from + ((int64_t)(first + r) * ld + p * 8) * 2;
        to += place<PITCH>(r, p);
#pragma unroll
        for (int j = 0; j < COUNT; j++) {
            const bool valid = j * STEP < left;
            copy_16(to + j * STEP * PITCH, valid ? at + (int64_t)ld * (j * STEP * 2) : from, valid);
        }
    } else {
#pragma unroll
        for (int j = 0; j < COUNT; j++) {
            const int i = threadIdx.x + j * THREADS, r = i / PITCH, p = i % PITCH;
            const bool valid = first + r < limit && p < pieces;
            const char *at = (const char *)from + ((int64_t)(first + r) * ld + p * 8) * 2;
            copy_16(to + place<PITCH>(r, p), valid ? at : from, valid);
        }
    }
}

/* Tile t of keys, and behind it that of values. */
template <class S>
DEVICE void load_tile(const attend_args &a, uint4 *to, const void *k, const void *v, int t)
{
    load_rows<TILE, S::PITCH>(to, k, a.k_ld, t * TILE, a.tk, a.d / 8);
    load_rows<TILE, S::PITCH>(to + TILE * S::PITCH, v, a.v_ld, t * TILE, a.tk, a.d / 8);
}

/* s = q k^T for 16 keys. */
template <class T, int HEAD, int M>
DEVICE void score(float (&s)[M][TILE / 8][4], int n,
                  const uint32_t (&q)[M][shape<HEAD, M>::DEEP][4], const uint4 *keys)
{
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int d = 0; d < shape<HEAD, M>::DEEP; d++) {
        uint32_t b[4];
        load_matrix(b, keys + place<shape<HEAD, M>::PITCH>(n * 16 + lane % 8 + lane / 16 * 8,
                                                           2 * d + lane / 8 % 2));
#pragma unroll
        for (int m = 0; m < M; m++) {
            mma(s[m][2 * n], q[m][d], b[0], b[1], T());
            mma(s[m][2 * n + 1], q[m][d], b[2], b[3], T());
        }
    }
}

/* out += p v for 16 keys. */
template <class T, int HEAD, int M>
DEVICE void weigh(state<HEAD, M> &st, const float (&s)[M][TILE / 8][4], int n, const uint4 *values)
{
    const int lane = threadIdx.x % 32;
    uint32_t p[M][4];
#pragma unroll
    for (int m = 0; m < M; m++) {
        const float *low = s[m][2 * n], *high = s[m][2 * n + 1];
        p[m][0] = pack(low[0], low[1], T());
        p[m][1] = pack(low[2], low[3], T());
        p[m][2] = pack(high[0], high[1], T());
        p[m][3] = pack(high[2], high[3], T());
    }
#pragma unroll
    for (int d = 0; d < shape<HEAD, M>::DEEP; d++) {
        uint32_t b[4];
        load_matrix_turned(
            b, values + place<shape<HEAD, M>::PITCH>(n * 16 + lane % 16, 2 * d + lane / 16));
#pragma unroll
        for (int m = 0; m < M; m++) {
            mma(st.out[m][2 * d], p[m], b[0], b[1], T());
            if (2 * d + 1 < HEAD / 8)
                mma(st.out[m][2 * d + 1 < HEAD / 8 ? 2 * d + 1 : 0], p[m], b[2], b[3], T());
        }
    }
}

/* Scores of one row become weights, against the largest score so far. */
template <class T, int HEAD, int M>
DEVICE void soften(state<HEAD, M> &st, float (&s)[M][TILE / 8][4], int m, int h, float scale)
{
    float top = st.top[m][h];
#pragma unroll
    for (int n = 0; n < TILE / 8; n++)
        top = fmaxf(top, fmaxf(s[m][n][2 * h], s[m][n][2 * h + 1]));
    top = fmaxf(top, __shfl_xor_sync(~0u, top, 1));
    top = fmaxf(top, __shfl_xor_sync(~0u, top, 2));
    const float base = top * scale, keep = exp_2(st.top[m][h] * scale - base);
    st.top[m][h] = top;
    st.sum[m][h] *= keep;
#pragma unroll
    for (int d = 0; d < HEAD / 8; d++) {
        st.out[m][d][2 * h] *= keep;
        st.out[m][d][2 * h + 1] *= keep;
    }
#pragma unroll
    for (int n = 0; n < TILE / 8; n++)
#pragma unroll
        for (int i = 2 * h; i < 2 * h + 2; i++) {
            s[m][n][i] = exp_2(fmaf(s[m][n][i], scale, -base));
            st.sum[m][h] += s[m][n][i];
        }
}

/* One tile of keys. EDGE: some are hidden, those from `left` on, or with `ahead` >= 0 those later
 * than the query, which is `ahead` keys behind the first one (of the lane's first row). */
template <class T, int HEAD, int M, bool EDGE>
DEVICE void attend_tile(state<HEAD, M> &st, const uint32_t (&q)[M][shape<HEAD, M>::DEEP][4],
                        const uint4 *keys, const uint4 *values, int left, int causal, int ahead,
                        float scale)
{
    float s[M][TILE / 8][4] = {};
#pragma unroll
    for (int n = 0; n < TILE / 16; n++)
        if (!EDGE || n * 16 < left)
            score<T, HEAD, M>(s, n, q, keys);
    if (EDGE) {
#pragma unroll
        for (int m = 0; m < M; m++)
#pragma unroll
            for (int i = 0; i < TILE / 2; i++) {
                int key = i / 4 * 8 + threadIdx.x % 4 * 2 + i % 2;
                int last = causal ? min(left - 1, ahead + m * 16 + i % 4 / 2 * 8) : left - 1;
                if (key > last)
                    s[m][i / 4][i % 4] = -INFINITY;
            }
    }
#pragma unroll
    for (int m = 0; m < M; m++) {
        soften<T, HEAD, M>(st, s, m, 0, scale);
        soften<T, HEAD, M>(st, s, m, 1, scale);
    }
#pragma unroll
    for (int n = 0; n < TILE / 16; n++)
        if (!EDGE || n * 16 < left)
            weigh<T, HEAD, M>(st, s, n, values);
}

/* The result of this block's share of the keys, in fp32, for join_splits. */
template <int HEAD, int M>
DEVICE void store_part(const attend_args &a, const state<HEAD, M> &st, int64_t rows0, int first)
{
    const int lane = threadIdx.x % 32, own = first + threadIdx.x / 32 * 16 * M + lane / 4;
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            int row = own + m * 16 + h * 8;
            if (row >= a.tq)
                continue;
            float *to = a.part + (rows0 + row) * a.d;
            if (lane % 4 == 0)
                a.stats[rows0 + row] = make_float2(st.top[m][h] * a.scale, st.sum[m][h]);
#pragma unroll
            for (int d = 0; d < HEAD / 8; d++)
                if (d * 8 < a.d)
                    *(float2 *)(to + d * 8 + lane % 4 * 2) =
                        make_float2(st.out[m][d][2 * h], st.out[m][d][2 * h + 1]);
        }
}

/* Rows of the result, by way of shared memory so that whole pieces are written. */
template <class T, int HEAD, int M>
DEVICE void store_rows(const attend_args &a, const state<HEAD, M> &st, uint4 *stage, T *y,
                       int first)
{
    enum { PITCH = shape<HEAD, M>::PITCH };
    const int lane = threadIdx.x % 32, own = threadIdx.x / 32 * 16 * M;
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const float z = 1.0f / st.sum[m][h];
#pragma unroll
            for (int d = 0; d < HEAD / 8; d++) {
                uint4 *to = stage + place<PITCH>(own + m * 16 + h * 8 + lane / 4, d);
                ((uint32_t *)to)[lane % 4] =
                    pack(st.out[m][d][2 * h] * z, st.out[m][d][2 * h + 1] * z, T());
            }
        }
    __syncwarp();
#pragma unroll
    for (int i = lane; i < 16 * M * PITCH; i += 32) {
        int r = own + i / PITCH, p = i % PITCH;
        if (first + r < a.tq && p * 8 < a.d)
            *(uint4 *)(y + (int64_t)(first + r) * a.y_ld + p * 8) = stage[place<PITCH>(r, p)];
    }
}

/* Queries of this block as operands of mma, by way of the last buffer. */
template <int HEAD, int M>
DEVICE void take_queries(uint32_t (&q)[M][shape<HEAD, M>::DEEP][4], const uint4 *stage)
{
    const int lane = threadIdx.x % 32, own = threadIdx.x / 32 * 16 * M;
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int d = 0; d < shape<HEAD, M>::DEEP; d++)
            load_matrix(q[m][d], stage + place<shape<HEAD, M>::PITCH>(own + m * 16 + lane % 16,
                                                                      2 * d + lane / 16));
}

/* Grid: tiles of queries times splits, heads, images. */
template <class T, int HEAD, int M>
__global__ void __launch_bounds__(THREADS) attend(const __grid_constant__ attend_args a)
{
    typedef shape<HEAD, M> S;
    uint4 *const buffers = &shared<uint4>();
    const int head = blockIdx.y, image = blockIdx.z, split = blockIdx.x % a.splits;
    const int first = blockIdx.x / a.splits * S::ROWS;
    const int tile0 = split * a.each, lane = threadIdx.x % 32;
    const int seen = a.causal ? min(a.tk, first + S::ROWS) : a.tk;
    const int tiles = min((seen + TILE - 1) / TILE, tile0 + a.each);
    const int64_t kv = a.kv_images == 1 ? 0 : (int64_t)image * a.tk;
    const T *q = (const T *)a.q + (int64_t)image * a.tq * a.q_ld + head * a.d;
    const T *k = (const T *)a.k + kv * a.k_ld + head * a.d;
    const T *v = (const T *)a.v + kv * a.v_ld + head * a.d;
    uint32_t own[M][S::DEEP][4];
    state<HEAD, M> st = {};
#pragma unroll
    for (int i = 0; i < 2 * M; i++)
        st.top[i / 2][i % 2] = -INFINITY;

    grid_wait();
    grid_release();
    uint4 *last = buffers + (BUFFERS - 1) * S::BUFFER;
    load_rows<S::ROWS, S::PITCH>(last, q, a.q_ld, first, a.tq, a.d / 8);
    copy_commit();
    if (BUFFERS > 1)
        load_tile<S>(a, buffers, k, v, tile0);
    copy_commit();
    copy_wait<1>();
    __syncthreads();
    take_queries<HEAD, M>(own, last);
    for (int t = tile0; t < tiles; t++) {
        uint4 *const keys = buffers + (t - tile0) % BUFFERS * S::BUFFER;
        copy_wait<0>();
        __syncthreads();
        if (BUFFERS > 1 && t + 1 < tiles)
            load_tile<S>(a, buffers + (t + 1 - tile0) % BUFFERS * S::BUFFER, k, v, t + 1);
        copy_commit();
        if (BUFFERS == 1) {
            load_tile<S>(a, keys, k, v, t);
            __syncthreads();
        }
        const int ahead = first + threadIdx.x / 32 * 16 * M + lane / 4 - t * TILE;
        const int left = a.tk - t * TILE;
        if (left < TILE || (a.causal && (t + 1) * TILE > first))
            attend_tile<T, HEAD, M, true>(st, own, keys, keys + TILE * S::PITCH, left, a.causal,
                                          ahead, a.scale);
        else
            attend_tile<T, HEAD, M, false>(st, own, keys, keys + TILE * S::PITCH, left, a.causal,
                                           ahead, a.scale);
    }
#pragma unroll
    for (int i = 0; i < 2 * M; i++) {
        float &sum = st.sum[i / 2][i % 2];
        sum += __shfl_xor_sync(~0u, sum, 1);
        sum += __shfl_xor_sync(~0u, sum, 2);
    }
    if (a.part) {
        int64_t set = ((int64_t)split * gridDim.z + image) * gridDim.y + head;
        store_part<HEAD, M>(a, st, set * a.tq, first);
        return;
    }
    __syncthreads();
    store_rows<T, HEAD, M>(a, st, buffers, (T *)a.y + (int64_t)image * a.tq * a.y_ld + head * a.d,
                           first);
}

/* ---- host side ------------------------------------------------------------------------------ */

typedef void (*attend_kernel)(attend_args);

/* One way to run it: the kernel, what a block takes, and into how many splits the keys go. */
struct attend_way {
    attend_kernel kernel; /* NULL: attend_wide */
    int rows;
    size_t shared;
};

template <class T, int HEAD, int M> static attend_way way_of(int buffers)
{
    typedef shape<HEAD, M> S;
    return {attend<T, HEAD, M>, S::ROWS, (size_t)buffers * S::BUFFER * 16};
}

/* large: 32 queries a warp, which halves what it reads from shared memory. */
template <class T> static attend_way way_for(int d, int large, int buffers)
{
    if (d <= 32)
        return large ? way_of<T, 32, 2>(buffers) : way_of<T, 32, 1>(buffers);
    if (d <= 40)
        return large ? way_of<T, 40, 2>(buffers) : way_of<T, 40, 1>(buffers);
    if (d <= 64)
        return large ? way_of<T, 64, 2>(buffers) : way_of<T, 64, 1>(buffers);
    if (d <= 80)
        return way_of<T, 80, 1>(buffers);
    if (d <= 128)
        return way_of<T, 128, 1>(buffers);
    if (d <= 160)
        return way_of<T, 160, 1>(buffers);
    return {NULL, WIDE_ROWS, 0};
}

/* Enough blocks for the device, but at least four tiles of keys in each. */
static void split_keys(const cuda_device *d, attend_args *a, int64_t blocks)
{
    int tiles = (a->tk + TILE - 1) / TILE;
    a->splits = 1;
    while (!a->causal && blocks * a->splits * 3 <= d->processors * 2 && a->splits * 8 <= tiles)
        a->splits *= 2;
    a->each = (tiles + a->splits - 1) / a->splits;
    a->splits = (tiles + a->each - 1) / a->each;
}

static int whole_pieces(k_tensor t)
{
    return t.ld % 8 == 0 && (uintptr_t)t.data % 16 == 0;
}

static int fast_holds(k_tensor y, k_tensor q, k_tensor key, k_tensor value, int d)
{
    return is_half(q.dtype) && y.dtype == q.dtype && key.dtype == q.dtype &&
           value.dtype == q.dtype && d % 8 == 0 && whole_pieces(y) && whole_pieces(q) &&
           whole_pieces(key) && whole_pieces(value);
}

static int shapes_hold(k_ctx *k, k_tensor y, k_tensor q, k_tensor key, k_tensor value, int heads)
{
    return k_check(k,
                   k_is_float(y.dtype) && k_is_float(q.dtype) && k_is_float(key.dtype) &&
                       k_is_float(value.dtype),
                   "attention", "tensors must be f32, f16 or bf16", y, q, key) &&
           k_check(k, heads > 0 && q.c % heads == 0, "attention",
                   "heads do not divide the channels", y, q, key) &&
           k_check(k, k_same_shape(y, q) && k_same_shape(key, value) && key.c == q.c, "attention",
                   "shapes differ (z is the key)", y, q, key) &&
           k_check(k, key.n == q.n || key.n == 1, "attention",
                   "keys must be of one image or of as many as the queries (z is the key)", y, q,
                   key) &&
           k_check(k, q.c / heads <= HEAD_MOST, "attention", "a head has more than 512 channels", y,
                   q, key);
}

static attend_args args_of(k_tensor y, k_tensor q, k_tensor key, k_tensor value,
                           const k_attention *o)
{
    attend_args a = zeroed<attend_args>();
    a.q = q.data;
    a.k = key.data;
    a.v = value.data;
    a.y = y.data;
    a.q_ld = q.ld;
    a.k_ld = key.ld;
    a.v_ld = value.ld;
    a.y_ld = y.ld;
    a.q_type = q.dtype;
    a.k_type = key.dtype;
    a.v_type = value.dtype;
    a.y_type = y.dtype;
    a.tq = q.h * q.w;
    a.tk = key.h * key.w;
    a.d = q.c / o->heads;
    a.kv_images = key.n;
    a.causal = o->causal != 0;
    a.splits = 1;
    a.scale = 1.4426950408889634f / sqrtf((float)a.d);
    return a;
}

/* Whether the busiest multiprocessor is done sooner with 32 queries a warp: its blocks are twice as
 * long, and a query takes some 3/4 of the time. */
static int large_fills(const cuda_device *d, int64_t sets, int tq)
{
    int64_t large = sets * blocks_of(tq, 2 * WARPS * 16), small = sets * blocks_of(tq, WARPS * 16);
    int64_t p = d->processors;
    return large >= p && (large + p - 1) / p * 6 < (small + p - 1) / p * 4;
}

/* The tensor cores' kernels. */
static void attend_fast(k_ctx *k, attend_args a, int heads, int images)
{
    const cuda_device *d = cuda_of(k);
    if (cuda_attend_hopper(k, a, heads, images))
        return;
    int buffers = d->sm < 80 ? 1 : 2;
    int64_t sets = (int64_t)heads * images, rows = sets * a.tq;
    int large = large_fills(d, sets, a.tq);
    attend_way w = a.q_type == K_F16 ? way_for<__half>(a.d, large, buffers)
                                     : way_for<__nv_bfloat16>(a.d, large, buffers);
    unsigned tiles = blocks_of(a.tq, w.rows);
    split_keys(d, &a, sets * tiles);
    size_t part = (size_t)a.splits * (size_t)rows * (size_t)a.d * sizeof(float);
    if (a.splits > 1) {
        a.part = (float *)cuda_scratch(k, "attention",
                                       part + (size_t)a.splits * (size_t)rows * sizeof(float2));
        a.stats = (float2 *)((char *)a.part + part);
    }
    if (k->planning || k->status)
        return;
    if (w.kernel)
        launch(k, w.kernel, dim3(tiles * (unsigned)a.splits, (unsigned)heads, (unsigned)images),
               THREADS, w.shared, a);
    else
        cuda_attend_wide(k, a, heads, images);
    if (a.splits > 1)
        cuda_attend_join(k, a, heads, images);
}

void cuda_attention(k_ctx *k, k_tensor y, k_tensor q, k_tensor key, k_tensor value,
                    const k_attention *o)
{
    if (!shapes_hold(k, y, q, key, value, o->heads))
        return;
    attend_args a = args_of(y, q, key, value, o);
    if (fast_holds(y, q, key, value, a.d))
        attend_fast(k, a, o->heads, q.n);
    else if (!k->planning)
        cuda_attend_any(k, a, o->heads, q.n);
}
