/* group_norm.cu - group norm, and the activation behind it.
 *
 * A variance is never a difference of large sums: sums are taken of x minus a value of the same
 * group, and means with their sums of squares are joined (Chan et al. 1979). All orders of addition
 * are fixed.
 *
 * A block takes a set of groups, so many that their channels are whole pieces, and a run of an
 * image's pixels. Where a set is small, each of its blocks takes the statistics of the whole image,
 * which costs less than a second kernel; else there are two: statistics of each run, then the
 * result.
 */
#include "norm.cuh"

/* x to act(x). */
DEVICE void activate_piece(float (&v)[8], int act)
{
    if (act == K_IDENTITY)
        return;
    if (act == K_SILU) {
#pragma unroll
        for (int i = 0; i < 8; i++)
            v[i] = activated(v[i], K_SILU);
        return;
    }
    for (int i = 0; i < 8; i++)
        v[i] = activated(v[i], act);
}

struct group_args {
    const void *x;
    void *y;
    const float *gamma, *beta;
    float2 *part; /* [image][group][run]: mean, sum of squared distances from it */
    int x_ld, y_ld, x_type, y_type;
    int pixels, c, groups, act;
    int set;       /* groups of a block */
    int runs, run; /* runs of `run` pixels, the last one shorter */
    int rows;      /* pixels that a block reads at a time */
    float eps;
};

enum { SET_MOST = 8, GROUP_THREADS = 640 };

/* A thread's place: it has 8 channels of every rows'th pixel of the run. */
struct group_place {
    int size, column, row, of_set; /* of_set: its first channel, among those of the set */
    int channel, p0, p1;
    int64_t first; /* the image's first row */
};

DEVICE group_place place_of(const group_args &a)
{
    group_place g;
    g.size = a.c / a.groups;
    const int columns = a.set * g.size / 8;
    g.column = threadIdx.x % columns;
    g.row = threadIdx.x / columns;
    if (g.row >= a.rows)
        g.row = a.pixels; /* none */
    g.of_set = g.column * 8;
    g.channel = blockIdx.y * a.set * g.size + g.of_set;
    g.p0 = blockIdx.x * a.run;
    g.p1 = min(g.p0 + a.run, a.pixels);
    g.first = (int64_t)blockIdx.z * a.pixels;
    return g;
}

/* The group of each of a thread's channels, among those of the set. */
DEVICE void groups_of(const group_place &g, int (&of)[8])
{
    int group = g.of_set / g.size, left = g.size - g.of_set % g.size;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        of[i] = group;
        if (--left == 0) {
            left = g.size;
            group++;
        }
    }
}

/* ---- pixels of a run --------------------------------------------------------------------------
 */

/* What a thread loads at a time. */
template <class T> struct batch {
    enum { COUNT = sizeof(T) == 4 ? 2 : 4 };
    piece<T> in[COUNT];
};

/* A thread's pixels from p on, in front of `end`. */
template <class T>
DEVICE void load_batch(batch<T> &b, const group_args &a, const group_place &g, int p, int end)
{
    const T *x = (const T *)a.x + (g.first + p) * a.x_ld + g.channel;
#pragma unroll
    for (int i = 0; i < batch<T>::COUNT; i++)
        if (p + i * a.rows < end)
            b.in[i] = load_piece(x + (int64_t)i * a.rows * a.x_ld);
}

/* From 2 N values of each lane to N: of its own half, the sums with those of the lane 2 N away. */
template <int N> DEVICE void halve(float (&v)[16])
{
    const int upper = threadIdx.x & 2 * N;
#pragma unroll
    for (int i = 0; i < N; i++) {
        const float low = v[i], high = v[i + N];
        v[i] = (upper ? high : low) + __shfl_xor_sync(~0u, upper ? low : high, 2 * N);
    }
}

/* Sums over a warp of 16 values at once: a lane gets that of value lane / 2. */
DEVICE float warp_sums(float (&v)[16])
{
    halve<8>(v);
    halve<4>(v);
    halve<2>(v);
    halve<1>(v);
    return v[0] + __shfl_xor_sync(~0u, v[0], 1);
}

/* Statistics of the set's groups over pixels p0..p1: float2 g of `to`, `step` apart. sums: shared,
 * 16 floats for each warp. */
template <class T>
DEVICE void block_stats(const group_args &a, const group_place &g, int p0, int p1, float *sums,
                        float2 *to, int64_t step)
{
    const T *origin = (const T *)a.x + (g.first + p0) * a.x_ld + (g.channel - g.of_set);
    float s[8] = {}, q[8] = {}, shift[8], v[2 * SET_MOST];
    int of[8], p = p0 + g.row;
    batch<T> b;
    load_batch(b, a, g, p, p1);
    groups_of(g, of);
#pragma unroll
    for (int i = 0; i < 8; i++)
        shift[i] = to_float(origin[of[i] * g.size]);
    for (; p < p1; p += batch<T>::COUNT * a.rows, load_batch(b, a, g, p, p1))
#pragma unroll
        for (int i = 0; i < batch<T>::COUNT; i++)
            if (p + i * a.rows < p1) {
                float x[8];
                widen(x, b.in[i]);
#pragma unroll
                for (int e = 0; e < 8; e++) {
                    const float off = x[e] - shift[e];
                    s[e] += off;
                    q[e] = fmaf(off, off, q[e]);
                }
            }
#pragma unroll
    for (int j = 0; j < SET_MOST; j++) {
        v[2 * j] = v[2 * j + 1] = 0;
        if (j < a.set)
#pragma unroll
            for (int i = 0; i < 8; i++) {
                v[2 * j] += of[i] == j ? s[i] : 0.0f;
                v[2 * j + 1] += of[i] == j ? q[i] : 0.0f;
            }
    }
    float sum = warp_sums(v);
    if (threadIdx.x % 2 == 0)
        sums[threadIdx.x / 2] = sum;
    __syncthreads();
    if (threadIdx.x >= 32)
        return;
    sum = 0;
#pragma unroll 4
    for (int w = 0; w < (int)blockDim.x / 32; w++)
        sum += sums[w * 16 + threadIdx.x / 2];
    const float square = __shfl_xor_sync(~0u, sum, 2);
    const int j = threadIdx.x / 4;
    if (threadIdx.x % 4 == 0 && j < a.set) {
        const float mean = sum / ((float)(p1 - p0) * (float)g.size);
        to[j * step] =
            make_float2(to_float(origin[j * g.size]) + mean, fmaxf(fmaf(-sum, mean, square), 0.0f));
    }
}

/* ---- the result -------------------------------------------------------------------------------
 */

/* What the normalisation of 8 channels needs. */
struct group_factors {
    float mean[8], scale[8], beta[8];
};

DEVICE void load_factors(const group_args &a, const group_place &g, group_factors &f)
{
    load_floats(f.scale, a.gamma + g.channel);
    load_floats(f.beta, a.beta + g.channel);
}

/* stats: mean and sum of squared distances of each group of the set. */
DEVICE void take_stats(const group_args &a, const group_place &g, group_factors &f,
                       const float2 *stats)
{
    const float each = 1.0f / ((float)a.pixels * (float)g.size);
    int of[8];
    groups_of(g, of);
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const float2 s = stats[of[i]];
        f.mean[i] = s.x;
        f.scale[i] *= rsqrtf(fmaf(s.y, each, a.eps));
    }
}

template <class T>
DEVICE void write_run(const group_args &a, const group_place &g, const group_factors &f,
                      batch<T> &b)
{
    for (int p = g.p0 + g.row; p < g.p1;
         p += batch<T>::COUNT * a.rows, load_batch(b, a, g, p, g.p1))
#pragma unroll
        for (int i = 0; i < batch<T>::COUNT; i++)
            if (p + i * a.rows < g.p1) {
                float v[8];
                widen(v, b.in[i]);
#pragma unroll
                for (int e = 0; e < 8; e++)
                    v[e] = fmaf(v[e] - f.mean[e], f.scale[e], f.beta[e]);
                activate_piece(v, a.act);
                store_piece(a.y, a.y_type, (g.first + p + i * a.rows) * a.y_ld + g.channel, v);
            }
}

/* ---- kernels ----------------------------------------------------------------------------------
 *
 * Grid: runs, sets, images.
 */

template <class T>
__global__ void __launch_bounds__(GROUP_THREADS) group_sums(const __grid_constant__ group_args a)
{
    const group_place g = place_of(a);
    const int64_t group = (int64_t)blockIdx.z * a.groups + blockIdx.y * a.set;
    grid_wait();
    grid_release();
    block_stats<T>(a, g, g.p0, g.p1, &shared<float>(), a.part + group * a.runs + blockIdx.x,
                   a.runs);
}

/* Statistics of all runs to those of the image. A warp a group. */
DEVICE void join_runs(const group_args &a, const group_place &g, float2 *stats)
{
    const int lane = threadIdx.x % 32;
    for (int i = threadIdx.x / 32; i < a.set; i += blockDim.x / 32) {
        const float2 *part =
            a.part + ((int64_t)blockIdx.z * a.groups + blockIdx.y * a.set + i) * a.runs;
        float mean = 0, square = 0;
        for (int r = lane; r < a.runs; r += 32)
            mean += part[r].x * (float)min(a.run, a.pixels - r * a.run);
        mean = warp_sum(mean) / (float)a.pixels;
        for (int r = lane; r < a.runs; r += 32) {
            const float off = part[r].x - mean;
            square +=
                part[r].y + (float)min(a.run, a.pixels - r * a.run) * (float)g.size * off * off;
        }
        square = warp_sum(square);
        if (lane == 0)
            stats[i] = make_float2(mean, square);
    }
    __syncthreads();
}

template <class T>
__global__ void __launch_bounds__(GROUP_THREADS) group_apply(const __grid_constant__ group_args a)
{
    float2 *const stats = &shared<float2>();
    const group_place g = place_of(a);
    group_factors f;
    batch<T> b;
    load_factors(a, g, f);
    grid_wait();
    grid_release();
    load_batch(b, a, g, g.p0 + g.row, g.p1);
    join_runs(a, g, stats);
    take_stats(a, g, f, stats);
    write_run(a, g, f, b);
}

template <class T>
__global__ void __launch_bounds__(GROUP_THREADS) group_whole(const __grid_constant__ group_args a)
{
    float2 *const stats = &shared<float2>();
    const group_place g = place_of(a);
    group_factors f;
    batch<T> b;
    load_factors(a, g, f);
    grid_wait();
    grid_release();
    block_stats<T>(a, g, 0, a.pixels, (float *)(stats + SET_MOST), stats, 1);
    __syncthreads();
    take_stats(a, g, f, stats);
    load_batch(b, a, g, g.p0 + g.row, g.p1);
    write_run(a, g, f, b);
}

/* ---- host side ------------------------------------------------------------------------------ */

/* A set of that many bytes, or fewer, is read by each of its blocks. */
enum { WHOLE_BYTES = 64 << 10 };

/* The smallest set of groups that is whole pieces, and 16 channels where that is possible; 0 where
 * there is none. */
static int set_of(int groups, int size)
{
    int set = 1;
    while (set * size % 8 && set < SET_MOST)
        set *= 2;
    if (groups % set || set * size % 8)
        return 0;
    while (set * size < 16 && 2 * set <= SET_MOST && groups % (2 * set) == 0)
        set *= 2;
    return set;
}

static int whole_set(const group_args &a)
{
    return (int64_t)a.pixels * a.set * (a.c / a.groups) * (a.x_type == K_F32 ? 4 : 2) <=
           WHOLE_BYTES;
}

/* How the work is divided: a.set 0 where it goes element by element. */
static group_args group_args_of(const cuda_device *d, k_tensor y, k_tensor x, int groups, float eps,
                                int act)
{
    group_args a = zeroed<group_args>();
    a.x = x.data;
    a.y = y.data;
    a.x_ld = x.ld;
    a.y_ld = y.ld;
    a.x_type = x.dtype;
    a.y_type = y.dtype;
    a.pixels = x.h * x.w;
    a.c = x.c;
    a.groups = groups;
    a.act = act;
    a.eps = eps;
    a.set = whole_pieces(y) && whole_pieces(x) ? set_of(groups, x.c / groups) : 0;
    const int columns = a.set * (x.c / groups) / 8;
    if (!a.set || columns > GROUP_THREADS) {
        a.set = 0;
        return a;
    }
    const int whole = whole_set(a), blocks = x.n * (groups / a.set);
    const int alone = (whole && x.data == y.data) || blocks > d->processors;
    a.run = (int)blocks_of(a.pixels, alone ? 1 : d->processors / blocks);
    a.runs = (int)blocks_of(a.pixels, a.run);
    const int64_t fair = (int64_t)(whole ? a.pixels : a.run) * columns / 4;
    const int threads = fair < 128 ? 128 : fair < GROUP_THREADS ? (int)fair : GROUP_THREADS;
    a.rows = columns > threads ? 1 : threads / columns;
    return a;
}

template <class T> static void write_groups(k_ctx *k, const group_args &a, int images)
{
    const unsigned threads = blocks_of(a.rows * (a.set * (a.c / a.groups) / 8), 32) * 32;
    const size_t stats = SET_MOST * sizeof(float2), sums = threads / 2 * sizeof(float);
    const dim3 grid((unsigned)a.runs, (unsigned)(a.groups / a.set), (unsigned)images);
    if (whole_set(a)) {
        launch(k, group_whole<T>, grid, threads, stats + sums, a);
        return;
    }
    launch(k, group_sums<T>, grid, threads, sums, a);
    launch(k, group_apply<T>, grid, threads, stats, a);
}

void cuda_group_norm(k_ctx *k, k_tensor y, k_tensor x, const k_weight *w, int groups, float eps,
                     int act)
{
    if (!cuda_vector_holds(k, "group_norm", y, x, w) ||
        !k_check(k, groups > 0 && x.c % groups == 0, "group_norm",
                 "groups do not divide the channels", y, x, k_tensor()))
        return;
    const cuda_form *f = cuda_form_of(k, "group_norm", w, CUDA_VECTOR, K_F16);
    group_args a = group_args_of(cuda_of(k), y, x, groups, eps, act);
    if (a.set && !whole_set(a))
        a.part = (float2 *)cuda_scratch(
            k, "group_norm", sizeof(float2) * (size_t)x.n * (size_t)groups * (size_t)a.runs);
    if (k->planning || k->status)
        return;
    if (!a.set) {
        cuda_norm_any(k, y, x, f, x.n, groups, eps, act);
        return;
    }
    a.gamma = (const float *)f->data;
    a.beta = f->bias;
    if (x.dtype == K_F16)
        write_groups<__half>(k, a, x.n);
    else if (x.dtype == K_BF16)
        write_groups<__nv_bfloat16>(k, a, x.n);
    else
        write_groups<float>(k, a, x.n);
}
