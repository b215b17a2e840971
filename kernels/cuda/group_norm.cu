/* group_norm.cu - group norm, and the activation behind it.
 *
 * A variance is never a difference of large sums: sums are taken of x minus a value of the same
 * channel, and means with their sums of squares are joined (Chan et al. 1979). All orders of
 * addition are fixed.
 *
 * A block takes a set of groups, so many that their channels are whole pieces, and a run of an
 * image's pixels. Where it can hold the whole image in its registers, that is all, else there are
 * two kernels: statistics of each run, then the result.
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

/* A thread's place: it has 8 channels of every rows'th pixel of the run. */
struct group_place {
    int size, columns, column, row; /* row >= rows: none */
    int channel, p0, p1;
    int64_t first; /* the image's first row */
};

DEVICE group_place place_of(const group_args &a)
{
    group_place g;
    g.size = a.c / a.groups;
    g.columns = a.set * g.size / 8;
    g.column = threadIdx.x % g.columns;
    g.row = threadIdx.x / g.columns;
    g.channel = blockIdx.y * a.set * g.size + g.column * 8;
    g.p0 = blockIdx.x * a.run;
    g.p1 = min(g.p0 + a.run, a.pixels);
    g.first = (int64_t)blockIdx.z * a.pixels;
    return g;
}

/* What a thread has summed: x - shift, and its square. */
struct group_sum {
    float s[8], q[8], shift[8];
};

DEVICE void add_piece(group_sum &sum, const float (&v)[8])
{
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const float off = v[i] - sum.shift[i];
        sum.s[i] += off;
        sum.q[i] = fmaf(off, off, sum.q[i]);
    }
}

/* From the sums of each channel of a group, `stride` apart by channel % 8, over count pixels: the
 * group's mean and its sum of squared distances. A warp's work. */
DEVICE float2 join_channels(const float *s, int stride, const float *shift, int columns, int first,
                            int size, float count)
{
    const int lane = threadIdx.x % 32;
    const float origin = shift[first % 8 * columns + first / 8];
    float mean = 0, square = 0;
    for (int i = first + lane; i < first + size; i += 32)
        mean += shift[i % 8 * columns + i / 8] - origin + s[i % 8 * stride + i / 8] / count;
    mean = warp_sum(mean) / (float)size;
    for (int i = first + lane; i < first + size; i += 32) {
        const float sum = s[i % 8 * stride + i / 8], own = sum / count;
        const float off = shift[i % 8 * columns + i / 8] - origin + own - mean;
        square += s[(8 + i % 8) * stride + i / 8] - sum * own + count * off * off;
    }
    return make_float2(origin + mean, warp_sum(square));
}

/* From one of the 16 sums of all threads to the next: rows of `columns` banks follow each other. */
static __host__ __device__ inline int join_stride(int columns, int rows)
{
    return columns + (columns * (rows - 1) + 31) / 32 * 32;
}

/* Floats of shared memory for join_block. */
static __host__ __device__ inline int join_floats(int columns, int rows)
{
    return 16 * join_stride(columns, rows) + 8 * columns;
}

/* Sums of all threads, over rows and then over each group's channels: float2 g of `to`, `step`
 * apart. */
DEVICE void join_block(const group_args &a, const group_place &g, const group_sum &sum, float *sm,
                       float2 *to, int64_t step)
{
    const int stride = join_stride(g.columns, a.rows);
    float *shift = sm + 16 * stride;
    if (g.row < a.rows) {
#pragma unroll
        for (int i = 0; i < 8; i++) {
            sm[i * stride + threadIdx.x] = sum.s[i];
            sm[(8 + i) * stride + threadIdx.x] = sum.q[i];
            if (g.row == 0)
                shift[i * g.columns + g.column] = sum.shift[i];
        }
    }
    __syncthreads();
    for (int i = threadIdx.x; i < 16 * g.columns; i += blockDim.x) {
        float *own = sm + i / g.columns * stride + i % g.columns, total = 0;
#pragma unroll 4
        for (int r = 0; r < a.rows; r++)
            total += own[r * g.columns];
        *own = total;
    }
    __syncthreads();
    for (int i = threadIdx.x / 32; i < a.set; i += blockDim.x / 32) {
        const float2 joined =
            join_channels(sm, stride, shift, g.columns, i * g.size, g.size, (float)(g.p1 - g.p0));
        if (threadIdx.x % 32 == 0)
            to[i * step] = joined;
    }
}

/* What the normalisation of 8 channels needs. */
struct group_factors {
    float mean[8], scale[8], beta[8];
};

DEVICE void load_factors(const group_args &a, const group_place &g, group_factors &f)
{
    load_floats(f.scale, a.gamma + g.channel);
    load_floats(f.beta, a.beta + g.channel);
}

/* stats: mean and sum of squared distances of each group of the block. */
DEVICE void take_stats(const group_args &a, const group_place &g, group_factors &f,
                       const float2 *stats)
{
    const float count = (float)a.pixels * (float)g.size;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const float2 s = stats[(g.column * 8 + i) / g.size];
        f.mean[i] = s.x;
        f.scale[i] *= rsqrtf(fmaxf(s.y / count, 0.0f) + a.eps);
    }
}

template <class T>
DEVICE void normalise(const group_args &a, const group_place &g, const group_factors &f,
                      const piece<T> &in, int p)
{
    float v[8];
    widen(v, in);
#pragma unroll
    for (int i = 0; i < 8; i++)
        v[i] = fmaf(v[i] - f.mean[i], f.scale[i], f.beta[i]);
    activate_piece(v, a.act);
    store_piece(a.y, a.y_type, (g.first + p) * a.y_ld + g.channel, v);
}

template <class T> DEVICE piece<T> piece_at(const group_args &a, const group_place &g, int p)
{
    return load_piece((const T *)a.x + (g.first + p) * a.x_ld + g.channel);
}

enum { GROUP_THREADS = 512, SMALL_THREADS = 640 }; /* at most */
enum { AHEAD = 4 };                                /* pieces that a thread loads at a time */

/* Pieces that a thread keeps, of elements of `size` bytes. */
static __host__ __device__ constexpr int keep_of(size_t size)
{
    return size == 4 ? 4 : 8;
}

/* Grid: runs, sets, images. */
template <class T>
__global__ void __launch_bounds__(GROUP_THREADS, 1) group_sums(const __grid_constant__ group_args a)
{
    const group_place g = place_of(a);
    group_sum sum = {};
    grid_wait();
    grid_release();
    if (g.row < a.rows) {
        widen(sum.shift, piece_at<T>(a, g, g.p0));
        for (int p = g.p0 + g.row; p < g.p1; p += AHEAD * a.rows) {
            piece<T> in[AHEAD];
#pragma unroll
            for (int i = 0; i < AHEAD; i++)
                if (p + i * a.rows < g.p1)
                    in[i] = piece_at<T>(a, g, p + i * a.rows);
#pragma unroll
            for (int i = 0; i < AHEAD; i++)
                if (p + i * a.rows < g.p1) {
                    float v[8];
                    widen(v, in[i]);
                    add_piece(sum, v);
                }
        }
    }
    const int64_t group = (int64_t)blockIdx.z * a.groups + blockIdx.y * a.set;
    join_block(a, g, sum, &shared<float>(), a.part + group * a.runs + blockIdx.x, a.runs);
}

/* Statistics of all runs of a group to those of the image. Eight threads a group. */
DEVICE void join_runs(const group_args &a, const group_place &g, float2 *stats)
{
    for (int first = 0; first < a.set; first += blockDim.x / 8) {
        const int i = first + threadIdx.x / 8, count = i < a.set ? a.runs : 0;
        const float2 *part =
            a.part + ((int64_t)blockIdx.z * a.groups + blockIdx.y * a.set + i) * a.runs;
        const float size = (float)g.size;
        float mean = 0, square = 0;
        for (int r = threadIdx.x % 8; r < count; r += 8)
            mean += part[r].x * (float)min(a.run, a.pixels - r * a.run);
        for (int o = 1; o < 8; o *= 2)
            mean += __shfl_xor_sync(~0u, mean, o);
        mean /= (float)a.pixels;
        for (int r = threadIdx.x % 8; r < count; r += 8) {
            const float off = part[r].x - mean;
            square += part[r].y + (float)min(a.run, a.pixels - r * a.run) * size * off * off;
        }
        for (int o = 1; o < 8; o *= 2)
            square += __shfl_xor_sync(~0u, square, o);
        if (count && threadIdx.x % 8 == 0)
            stats[i] = make_float2(mean, square);
    }
    __syncthreads();
}

/* Grid: runs (of their own), sets, images. */
template <class T>
__global__ void __launch_bounds__(GROUP_THREADS, 1)
    group_apply(const __grid_constant__ group_args a)
{
    float2 *const stats = &shared<float2>();
    const group_place g = place_of(a);
    group_factors f;
    load_factors(a, g, f);
    grid_wait();
    grid_release();
    join_runs(a, g, stats);
    if (g.row >= a.rows)
        return;
    take_stats(a, g, f, stats);
    for (int p = g.p0 + g.row; p < g.p1; p += AHEAD * a.rows) {
        piece<T> in[AHEAD];
#pragma unroll
        for (int i = 0; i < AHEAD; i++)
            if (p + i * a.rows < g.p1)
                in[i] = piece_at<T>(a, g, p + i * a.rows);
#pragma unroll
        for (int i = 0; i < AHEAD; i++)
            if (p + i * a.rows < g.p1)
                normalise(a, g, f, in[i], p + i * a.rows);
    }
}

/* Grid: 1, sets, images: a block keeps the whole image's channels. */
template <class T>
__global__ void __launch_bounds__(SMALL_THREADS) group_small(const __grid_constant__ group_args a)
{
    const int keep = keep_of(sizeof(T));
    float *const sm = &shared<float>();
    const group_place g = place_of(a);
    float2 *const stats = (float2 *)(sm + join_floats(g.columns, a.rows));
    group_factors f;
    piece<T> in[keep];
    grid_wait();
    grid_release();
    group_sum sum = {};
    if (g.row < a.rows) {
#pragma unroll
        for (int i = 0; i < keep; i++)
            if (g.row + i * a.rows < a.pixels)
                in[i] = piece_at<T>(a, g, g.row + i * a.rows);
        widen(sum.shift, piece_at<T>(a, g, 0));
#pragma unroll
        for (int i = 0; i < keep; i++)
            if (g.row + i * a.rows < a.pixels) {
                float v[8];
                widen(v, in[i]);
                add_piece(sum, v);
            }
    }
    join_block(a, g, sum, sm, stats, 1);
    __syncthreads();
    if (g.row >= a.rows)
        return;
    load_factors(a, g, f);
    take_stats(a, g, f, stats);
#pragma unroll
    for (int i = 0; i < keep; i++)
        if (g.row + i * a.rows < a.pixels)
            normalise(a, g, f, in[i], g.row + i * a.rows);
}

/* ---- host side ------------------------------------------------------------------------------ */

/* The smallest set of groups that is whole multiples of `unit` channels, and at least `least`; 0
 * where there is none. */
static int set_of(int groups, int size, int unit, int least)
{
    for (int set = 1; set <= groups; set++)
        if (groups % set == 0 && set * size % unit == 0 && (set * size >= least || set == groups))
            return set;
    return 0;
}

/* How group norm goes: the groups of a block, the pixels that it reads at a time. */
struct group_way {
    int set, rows, small; /* set 0: element by element */
};

static group_way way_of(k_tensor y, k_tensor x, int groups)
{
    group_way w = {};
    if (!whole_pieces(y) || !whole_pieces(x))
        return w;
    const int pixels = x.h * x.w, size = x.c / groups;
    int columns;
    w.set = set_of(groups, size, 8, 1);
    columns = w.set * size / 8;
    if (columns <= SMALL_THREADS / 2) {
        const int least = (int)blocks_of(pixels, keep_of(x.dtype == K_F32 ? 4 : 2)),
                  good = SMALL_THREADS / 2 / columns;
        w.rows = pixels < good ? pixels : least > good ? least : good;
        w.small = (int64_t)w.rows * columns <= SMALL_THREADS;
        if (w.small)
            return w;
    }
    w.set = set_of(groups, size, 16, 64);
    columns = w.set * size / 8;
    if (!w.set || columns > GROUP_THREADS) {
        w.set = set_of(groups, size, 8, 1);
        columns = w.set * size / 8;
    }
    w.rows = columns > 256 ? 1 : 256 / columns;
    if (columns > GROUP_THREADS)
        w.set = 0;
    return w;
}

template <class T>
static void write_groups(k_ctx *k, group_args a, const group_way &w, int images, float2 *part)
{
    const int columns = a.set * (a.c / a.groups) / 8, sets = a.groups / a.set;
    const unsigned threads = blocks_of(columns * w.rows, 32) * 32;
    const size_t stats = (size_t)a.set * sizeof(float2);
    const size_t joining = (size_t)join_floats(columns, w.rows) * sizeof(float);
    const dim3 grid((unsigned)a.runs, (unsigned)sets, (unsigned)images);
    a.part = part;
    if (w.small) {
        launch(k, group_small<T>, grid, threads, joining + stats, a);
        return;
    }
    launch(k, group_sums<T>, grid, threads, joining, a);
    launch(k, group_apply<T>, grid, threads, stats, a);
}

static group_args group_args_of(const cuda_device *d, k_tensor y, k_tensor x, int groups, float eps,
                                int act, const group_way &w)
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
    a.set = w.set;
    a.rows = w.rows;
    a.eps = eps;
    a.runs = 1;
    a.run = a.pixels;
    if (!w.small) {
        const int blocks = x.n * (groups / w.set);
        const int run = (int)blocks_of((int64_t)a.pixels * blocks, 2 * d->processors);
        a.run = run > w.rows * AHEAD ? run : w.rows * AHEAD;
        a.runs = (int)blocks_of(a.pixels, a.run);
    }
    return a;
}

void cuda_group_norm(k_ctx *k, k_tensor y, k_tensor x, const k_weight *w, int groups, float eps,
                     int act)
{
    if (!cuda_vector_holds(k, "group_norm", y, x, w) ||
        !k_check(k, groups > 0 && x.c % groups == 0, "group_norm",
                 "groups do not divide the channels", y, x, k_tensor()))
        return;
    const cuda_form *f = cuda_form_of(k, "group_norm", w, CUDA_VECTOR, K_F16);
    const group_way way = way_of(y, x, groups);
    group_args a = zeroed<group_args>();
    float2 *part = NULL;
    if (way.set)
        a = group_args_of(cuda_of(k), y, x, groups, eps, act, way);
    if (way.set && !way.small)
        part = (float2 *)cuda_scratch(
            k, "group_norm", sizeof(float2) * (size_t)x.n * (size_t)groups * (size_t)a.runs);
    if (k->planning || k->status)
        return;
    if (!way.set) {
        cuda_norm_any(k, y, x, f, x.n, groups, eps, act);
        return;
    }
    a.gamma = (const float *)f->data;
    a.beta = f->bias;
    if (x.dtype == K_F16)
        write_groups<__half>(k, a, way, x.n, part);
    else if (x.dtype == K_BF16)
        write_groups<__nv_bfloat16>(k, a, way, x.n, part);
    else
        write_groups<float>(k, a, way, x.n, part);
}
