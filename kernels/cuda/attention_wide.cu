/* attention_wide.cu - attention for long heads (an autoencoder's 512), for whatever types and
 * strides the fast kernels do not take, and the sum of what splits of the keys gave.
 */
#include "attention.cuh"

/* ---- long heads ------------------------------------------------------------------------------
 *
 * 8 warps: four times 16 queries, times two. Of a tile's scores, a pair of warps takes 32 keys
 * each, and hands them to the other through shared memory; of the result, it takes 64 of every 128
 * columns each. Queries, keys and values stream through a ring of chunks: the scores' are 64
 * columns of the queries and of the keys, the result's 128 columns of the values.
 */
enum { WIDE_THREADS = 256, RING = 3, CHUNKS = HEAD_MOST / 128 };

struct wide_shared {
    uint4 ring[RING][1024];
    uint4 weights[WIDE_ROWS * 8]; /* the tile's, as halves */
    float row[2][WIDE_ROWS];      /* what two warps tell each other of a row */
};

struct wide_stream {
    const char *q, *k, *v;
    int first, tile, tiles, step, next, now; /* tile, step: of the chunk that is loaded next */
};

/* 64 rows of PITCH pieces, from column `piece` on; zeros behind `limit` and behind the head. */
template <int PITCH>
DEVICE void load_chunk(const attend_args &a, uint4 *to, const char *from, int ld, int first,
                       int limit, int piece)
{
    enum { STEP = WIDE_THREADS / PITCH };
    const int r = threadIdx.x / PITCH, p = threadIdx.x % PITCH;
    const int left = piece + p < a.d / 8 ? limit - first - r : 0;
    const char *at = from + ((int64_t)(first + r) * ld + (piece + p) * 8) * 2;
    to += place<PITCH>(r, p);
#pragma unroll
    for (int j = 0; j < 64 / STEP; j++) {
        const bool valid = j * STEP < left;
        copy_16(to + j * STEP * PITCH, valid ? at + (int64_t)ld * (j * STEP * 2) : from, valid);
    }
}

DEVICE void load_next(const attend_args &a, wide_shared &sm, wide_stream &w)
{
    const int scores = (a.d + 63) / 64, steps = scores + (a.d + 127) / 128;
    if (w.tile < w.tiles) {
        uint4 *to = sm.ring[w.next];
        if (w.step < scores) {
            load_chunk<8>(a, to, w.q, a.q_ld, w.first, a.tq, w.step * 8);
            load_chunk<8>(a, to + 512, w.k, a.k_ld, w.tile * TILE, a.tk, w.step * 8);
        } else {
            load_chunk<16>(a, to, w.v, a.v_ld, w.tile * TILE, a.tk, (w.step - scores) * 16);
        }
        w.next = (w.next + 1) % RING;
        if (++w.step == steps)
            w.step = 0, w.tile++;
    }
    copy_commit();
}

/* The next chunk that is complete; the one before it is given up. */
DEVICE const uint4 *turn(const attend_args &a, wide_shared &sm, wide_stream &w)
{
    copy_wait<RING - 2>();
    __syncthreads();
    load_next(a, sm, w);
    const uint4 *chunk = sm.ring[w.now];
    w.now = (w.now + 1) % RING;
    return chunk;
}

template <class T> DEVICE void wide_score(float (&s)[4][4], const uint4 *chunk)
{
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
    for (int d = 0; d < 4; d++) {
        uint32_t q[4];
        load_matrix(q, chunk + place<8>(warp % 4 * 16 + lane % 16, 2 * d + lane / 16));
#pragma unroll
        for (int n = 0; n < 2; n++) {
            uint32_t b[4];
            load_matrix(b, chunk + 512 +
                               place<8>(warp / 4 * 32 + n * 16 + lane % 8 + lane / 16 * 8,
                                        2 * d + lane / 8 % 2));
            mma(s[2 * n], q, b[0], b[1], T());
            mma(s[2 * n + 1], q, b[2], b[3], T());
        }
    }
}

template <class T>
DEVICE void wide_weigh(float (&out)[CHUNKS * 8][4], int c, const uint4 *weights, const uint4 *chunk)
{
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
    for (int n = 0; n < TILE / 16; n++) {
        uint32_t p[4];
        load_matrix(p, weights + place<8>(warp % 4 * 16 + lane % 16, 2 * n + lane / 16));
#pragma unroll
        for (int d = 0; d < 4; d++) {
            uint32_t b[4];
            load_matrix_turned(
                b, chunk + place<16>(n * 16 + lane % 16, warp / 4 * 8 + 2 * d + lane / 16));
            mma(out[c * 8 + 2 * d], p, b[0], b[1], T());
            mma(out[c * 8 + 2 * d + 1], p, b[2], b[3], T());
        }
    }
}

/* Hide keys behind the last one, and with causal those later than the query. */
DEVICE void wide_mask(const attend_args &a, float (&s)[4][4], int t, int row)
{
    const int first = t * TILE + threadIdx.x / 128 * 32 + threadIdx.x % 4 * 2;
#pragma unroll
    for (int i = 0; i < 16; i++) {
        int key = first + i / 4 * 8 + i % 2;
        if (key >= a.tk || (a.causal && key > row + i % 4 / 2 * 8))
            s[i / 4][i % 4] = -INFINITY;
    }
}

/* Scores to weights in shared memory, for both warps of the pair; returns with none of them
 * visible to others before the next barrier. */
template <class T>
DEVICE void wide_soften(wide_shared &sm, float (&s)[4][4], float (&out)[CHUNKS * 8][4],
                        float (&top)[2], float (&sum)[2], float scale)
{
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, half = warp / 4;
    const int row = warp % 4 * 16 + lane / 4;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float most = s[0][2 * h];
#pragma unroll
        for (int n = 0; n < 4; n++)
            most = fmaxf(most, fmaxf(s[n][2 * h], s[n][2 * h + 1]));
        most = fmaxf(most, __shfl_xor_sync(~0u, most, 1));
        most = fmaxf(most, __shfl_xor_sync(~0u, most, 2));
        if (lane % 4 == 0)
            sm.row[half][row + h * 8] = most;
    }
    __syncthreads();
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const float most = fmaxf(top[h], fmaxf(sm.row[0][row + h * 8], sm.row[1][row + h * 8]));
        const float base = most * scale, keep = exp_2(top[h] * scale - base);
        top[h] = most;
        sum[h] *= keep;
#pragma unroll
        for (int d = 0; d < CHUNKS * 8; d++) {
            out[d][2 * h] *= keep;
            out[d][2 * h + 1] *= keep;
        }
#pragma unroll
        for (int n = 0; n < 4; n++) {
            const float p0 = exp_2(fmaf(s[n][2 * h], scale, -base));
            const float p1 = exp_2(fmaf(s[n][2 * h + 1], scale, -base));
            sum[h] += p0 + p1;
            uint32_t *to = (uint32_t *)(sm.weights + place<8>(row + h * 8, half * 4 + n));
            to[lane % 4] = pack(p0, p1, T());
        }
    }
}

/* 64 columns of 16 rows at a time, by way of shared memory. */
template <class T>
DEVICE void wide_store(const attend_args &a, uint4 *stage, const float (&out)[CHUNKS * 8][4],
                       const float (&sum)[2], T *y, int first)
{
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, row0 = first + warp % 4 * 16;
    stage += warp * 128;
#pragma unroll
    for (int c = 0; c < CHUNKS; c++) {
        const int column = c * 128 + warp / 4 * 64;
        if (column >= a.d)
            continue;
        __syncwarp();
#pragma unroll
        for (int i = 0; i < 16; i++) {
            const int d = i / 2, h = i % 2;
            uint32_t *to = (uint32_t *)(stage + place<8>(h * 8 + lane / 4, d));
            to[lane % 4] =
                pack(out[c * 8 + d][2 * h] / sum[h], out[c * 8 + d][2 * h + 1] / sum[h], T());
        }
        __syncwarp();
#pragma unroll
        for (int i = lane; i < 128; i += 32) {
            const int r = i / 8, p = i % 8;
            if (row0 + r < a.tq && column + p * 8 < a.d)
                *(uint4 *)(y + (int64_t)(row0 + r) * a.y_ld + column + p * 8) =
                    stage[place<8>(r, p)];
        }
    }
}

DEVICE void wide_store_part(const attend_args &a, const float (&out)[CHUNKS * 8][4],
                            const float (&top)[2], const float (&sum)[2], int64_t rows0, int first)
{
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const int row = first + warp % 4 * 16 + lane / 4 + h * 8;
        if (row >= a.tq)
            continue;
        if (warp < 4 && lane % 4 == 0)
            a.stats[rows0 + row] = make_float2(top[h] * a.scale, sum[h]);
#pragma unroll
        for (int d = 0; d < CHUNKS * 8; d++) {
            const int column = d / 8 * 128 + warp / 4 * 64 + d % 8 * 8;
            if (column < a.d)
                *(float2 *)(a.part + (rows0 + row) * a.d + column + lane % 4 * 2) =
                    make_float2(out[d][2 * h], out[d][2 * h + 1]);
        }
    }
}

/* Grid: tiles of queries times splits, heads, images. */
template <class T>
__global__ void __launch_bounds__(WIDE_THREADS) attend_wide(const __grid_constant__ attend_args a)
{
    wide_shared &sm = shared<wide_shared>();
    const int head = blockIdx.y, image = blockIdx.z, split = blockIdx.x % a.splits;
    const int first = blockIdx.x / a.splits * WIDE_ROWS, tile0 = split * a.each;
    const int seen = a.causal ? min(a.tk, first + WIDE_ROWS) : a.tk;
    const int64_t kv = a.kv_images == 1 ? 0 : (int64_t)image * a.tk;
    wide_stream w = {};
    w.q = (const char *)((const T *)a.q + (int64_t)image * a.tq * a.q_ld + head * a.d);
    w.k = (const char *)((const T *)a.k + kv * a.k_ld + head * a.d);
    w.v = (const char *)((const T *)a.v + kv * a.v_ld + head * a.d);
    w.first = first;
    w.tile = tile0;
    w.tiles = min((seen + TILE - 1) / TILE, tile0 + a.each);
    const int row = first + threadIdx.x / 32 % 4 * 16 + threadIdx.x % 32 / 4;
    float out[CHUNKS * 8][4] = {}, top[2] = {-INFINITY, -INFINITY}, sum[2] = {};

    grid_wait();
    grid_release();
    for (int i = 0; i < RING - 1; i++)
        load_next(a, sm, w);
    for (int t = tile0; t < w.tiles; t++) {
        float s[4][4] = {};
        for (int c = 0; c * 64 < a.d; c++)
            wide_score<T>(s, turn(a, sm, w));
        if ((t + 1) * TILE > a.tk || (a.causal && (t + 1) * TILE > first))
            wide_mask(a, s, t, row);
        wide_soften<T>(sm, s, out, top, sum, a.scale);
#pragma unroll
        for (int c = 0; c < CHUNKS; c++)
            if (c * 128 < a.d)
                wide_weigh<T>(out, c, sm.weights, turn(a, sm, w));
    }
    __syncthreads();
#pragma unroll
    for (int h = 0; h < 2; h++) {
        sum[h] += __shfl_xor_sync(~0u, sum[h], 1);
        sum[h] += __shfl_xor_sync(~0u, sum[h], 2);
        if (threadIdx.x % 4 == 0)
            sm.row[threadIdx.x / 128][row - first + h * 8] = sum[h];
    }
    __syncthreads();
    for (int h = 0; h < 2; h++)
        sum[h] = sm.row[0][row - first + h * 8] + sm.row[1][row - first + h * 8];
    if (a.part) {
        int64_t set = ((int64_t)split * gridDim.z + image) * gridDim.y + head;
        wide_store_part(a, out, top, sum, set * a.tq, first);
        return;
    }
    wide_store<T>(a, sm.ring[0], out, sum, (T *)a.y + (int64_t)image * a.tq * a.y_ld + head * a.d,
                  first);
}

/* ---- anything ----------------------------------------------------------------------------------
 *
 * In fp32, on plain arithmetic, element by element: 32 queries and 32 keys at a time. A thread has
 * four of a tile's scores, and of the result 8 rows of every 64th column.
 */
enum { ANY_THREADS = 256, ANY = 32, ANY_COLUMNS = HEAD_MOST / 64 };

struct any_shared {
    float q[ANY][ANY + 1], k[ANY][ANY + 1], s[ANY][ANY + 1];
    float keep[ANY], sum[ANY];
};

/* Scores of 32 keys from key0 on, in sm.s. */
DEVICE void any_score(const attend_args &a, any_shared &sm, int64_t q0, int64_t k0, int first,
                      int key0)
{
    const int x = threadIdx.x % 16, y = threadIdx.x / 16;
    float s[2][2] = {};
    for (int c = 0; c < a.d; c += ANY) {
        for (int i = threadIdx.x; i < ANY * ANY; i += ANY_THREADS) {
            const int r = i / ANY, d = i % ANY;
            const bool there = c + d < a.d;
            sm.q[r][d] = there && first + r < a.tq
                             ? load_as(a.q, a.q_type, q0 + (int64_t)(first + r) * a.q_ld + c + d)
                             : 0.0f;
            sm.k[r][d] = there && key0 + r < a.tk
                             ? load_as(a.k, a.k_type, k0 + (int64_t)(key0 + r) * a.k_ld + c + d)
                             : 0.0f;
        }
        __syncthreads();
        for (int d = 0; d < ANY; d++)
            for (int i = 0; i < 4; i++)
                s[i / 2][i % 2] += sm.q[y + i / 2 * 16][d] * sm.k[x + i % 2 * 16][d];
        __syncthreads();
    }
    for (int i = 0; i < 4; i++) {
        const int r = y + i / 2 * 16, key = x + i % 2 * 16;
        const bool hidden = key0 + key >= a.tk || (a.causal && key0 + key > first + r);
        sm.s[r][key] = hidden ? -INFINITY : s[i / 2][i % 2] * a.scale;
    }
    __syncthreads();
}

/* Eight threads a row: scores to weights. */
DEVICE void any_soften(any_shared &sm, float &top, float &sum)
{
    float *s = sm.s[threadIdx.x / 8], most = top, added = 0;
    for (int i = threadIdx.x % 8; i < ANY; i += 8)
        most = fmaxf(most, s[i]);
    for (int o = 1; o < 8; o *= 2)
        most = fmaxf(most, __shfl_xor_sync(~0u, most, o));
    for (int i = threadIdx.x % 8; i < ANY; i += 8)
        added += s[i] = exp2f(s[i] - most);
    const float keep = exp2f(top - most);
    top = most;
    sum = sum * keep + added;
    if (threadIdx.x % 8 == 0)
        sm.keep[threadIdx.x / 8] = keep;
    __syncthreads();
}

/* Grid: tiles of queries, heads, images. */
__global__ void __launch_bounds__(ANY_THREADS) attend_any(const __grid_constant__ attend_args a)
{
    __shared__ any_shared sm;
    const int first = blockIdx.x * ANY, column = threadIdx.x % 64, row0 = threadIdx.x / 64 * 8;
    const int64_t image = blockIdx.z, head = (int64_t)blockIdx.y * a.d;
    const int64_t kv = a.kv_images == 1 ? 0 : image * a.tk;
    const int64_t q0 = image * a.tq * a.q_ld + head, k0 = kv * a.k_ld + head;
    const int64_t v0 = kv * a.v_ld + head;
    const int seen = a.causal ? min(a.tk, first + ANY) : a.tk;
    float out[8][ANY_COLUMNS] = {}, top = -INFINITY, sum = 0;

    grid_wait();
    grid_release();
    for (int key0 = 0; key0 < seen; key0 += ANY) {
        any_score(a, sm, q0, k0, first, key0);
        any_soften(sm, top, sum);
        for (int r = 0; r < 8; r++)
#pragma unroll
            for (int j = 0; j < ANY_COLUMNS; j++)
                out[r][j] *= sm.keep[row0 + r];
        for (int i = 0; i < min(ANY, a.tk - key0); i++)
#pragma unroll
            for (int j = 0; j < ANY_COLUMNS; j++) {
                if (column + j * 64 >= a.d)
                    break;
                const float v =
                    load_as(a.v, a.v_type, v0 + (int64_t)(key0 + i) * a.v_ld + column + j * 64);
#pragma unroll
                for (int r = 0; r < 8; r++)
                    out[r][j] += sm.s[row0 + r][i] * v;
            }
        __syncthreads();
    }
    for (int o = 1; o < 8; o *= 2)
        sum += __shfl_xor_sync(~0u, sum, o);
    if (threadIdx.x % 8 == 0)
        sm.sum[threadIdx.x / 8] = sum;
    __syncthreads();
#pragma unroll
    for (int r = 0; r < 8; r++)
#pragma unroll
        for (int j = 0; j < ANY_COLUMNS; j++)
            if (first + row0 + r < a.tq && column + j * 64 < a.d)
                store_as(a.y, a.y_type,
                         (image * a.tq + first + row0 + r) * a.y_ld + head + column + j * 64,
                         out[r][j] / sm.sum[row0 + r]);
}

/* ---- splits ------------------------------------------------------------------------------------
 */

struct join_args {
    attend_args a;
    int heads;
    int64_t rows; /* images * heads * tq */
};

/* y = sum of parts / sum of sums, all against the largest score of all. A thread has 4 columns. */
template <class T>
__global__ void __launch_bounds__(256) join_splits(const __grid_constant__ join_args j)
{
    const attend_args &a = j.a;
    const int fours = a.d / 4;
    const int64_t i = (int64_t)blockIdx.x * 256 + threadIdx.x;
    const int64_t row = i / fours, image = row / a.tq / j.heads;
    const int column = (int)(i % fours) * 4, head = (int)(row / a.tq % j.heads);
    grid_wait();
    grid_release();
    if (row >= j.rows)
        return;
    float top = -INFINITY, sum = 0;
    float4 out = make_float4(0, 0, 0, 0);
    for (int s = 0; s < a.splits; s++)
        top = fmaxf(top, a.stats[s * j.rows + row].x);
    for (int s = 0; s < a.splits; s++) {
        const float2 stat = a.stats[s * j.rows + row];
        const float keep = exp_2(stat.x - top);
        const float4 part = *(const float4 *)(a.part + (s * j.rows + row) * a.d + column);
        sum += stat.y * keep;
        out = make_float4(fmaf(part.x, keep, out.x), fmaf(part.y, keep, out.y),
                          fmaf(part.z, keep, out.z), fmaf(part.w, keep, out.w));
    }
    const float z = 1.0f / sum;
    T *y = (T *)a.y + (image * a.tq + row % a.tq) * a.y_ld + head * a.d + column;
    *(uint2 *)y = make_uint2(pack(out.x * z, out.y * z, T()), pack(out.z * z, out.w * z, T()));
}

/* ---- launches ----------------------------------------------------------------------------------
 */

void cuda_attend_wide(k_ctx *k, const attend_args &a, int heads, int images)
{
    dim3 grid(blocks_of(a.tq, WIDE_ROWS) * (unsigned)a.splits, (unsigned)heads, (unsigned)images);
    launch(k, a.q_type == K_F16 ? attend_wide<__half> : attend_wide<__nv_bfloat16>, grid,
           WIDE_THREADS, sizeof(wide_shared), a);
}

void cuda_attend_any(k_ctx *k, const attend_args &a, int heads, int images)
{
    dim3 grid(blocks_of(a.tq, ANY), (unsigned)heads, (unsigned)images);
    launch(k, attend_any, grid, ANY_THREADS, 0, a);
}

void cuda_attend_join(k_ctx *k, const attend_args &a, int heads, int images)
{
    join_args j = zeroed<join_args>();
    j.a = a;
    j.heads = heads;
    j.rows = (int64_t)images * heads * a.tq;
    launch(k, a.q_type == K_F16 ? join_splits<__half> : join_splits<__nv_bfloat16>,
           blocks_of(j.rows * (a.d / 4), 256), 256, 0, j);
}
