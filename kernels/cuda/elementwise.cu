/* elementwise.cu - ops that read each element once: sums, activations, joins, nearest resizing.
 *
 * A thread makes eight channels of a row where all rows allow accesses of 16 bytes, else one.
 * Every float type goes with every other; the sums are fp32.
 */
#include "launch.cuh"

enum { THREADS = 256 };

/* A tensor as kernels see it. */
typedef struct rows {
    void *data;
    int32_t dtype, ld;
} rows;

/* What every kernel here is given. */
typedef struct span {
    uint32_t first;  /* row */
    uint32_t count;  /* of threads that have something to do */
    uint32_t chunks; /* of a row */
} span;

static rows rows_of(k_tensor t)
{
    rows r = {t.data, t.dtype, t.ld};
    return r;
}

static int fits_eight(k_tensor t)
{
    return t.c % 8 == 0 && (uintptr_t)t.data % 16 == 0 && k_size(t.dtype) * (size_t)t.ld % 16 == 0;
}

/* The kernel that makes eight channels a thread, or the one that makes one, for every row of y; a
 * launch takes as many rows as let 32 bits count its threads. */
template <class A>
static void launch_rows(k_ctx *k, void (*eight)(A), void (*one)(A), int wide, k_tensor y, A &args)
{
    int64_t chunks = wide ? y.c / 8 : y.c, rows = k_rows(y), most = INT32_MAX / chunks;
    args.span.chunks = (uint32_t)chunks;
    for (int64_t first = 0; first < rows; first += most) {
        int64_t count = (rows - first < most ? rows - first : most) * chunks;
        args.span.first = (uint32_t)first;
        args.span.count = (uint32_t)count;
        launch(k, wide ? eight : one, dim3(blocks_of(count, THREADS)), THREADS, 0, args);
    }
}

static int floats_hold(k_ctx *k, const char *op, k_tensor y, k_tensor x)
{
    k_tensor none = {};
    return k_check(k, k_is_float(y.dtype) && k_is_float(x.dtype), op, "tensors must be floats", y,
                   x, none);
}

static int alike(k_ctx *k, const char *op, k_tensor y, k_tensor x)
{
    k_tensor none = {};
    return floats_hold(k, op, y, x) &&
           k_check(k, k_same_shape(y, x), op, "shapes differ", y, x, none);
}

/* ---- device side: a thread's place, and its channels ------------------------------------------
 */

template <int N> DEVICE bool find(const span &s, uint32_t *row, uint32_t *column)
{
    uint32_t i = blockIdx.x * THREADS + threadIdx.x;
    *row = s.first + i / s.chunks;
    *column = i % s.chunks * N;
    return i < s.count;
}

template <int N> DEVICE void load(float (&v)[N], const rows &t, uint32_t row, uint32_t column)
{
    int64_t at = (int64_t)row * t.ld + column;
    if constexpr (N == 1) {
        v[0] = load_as(t.data, t.dtype, at);
    } else if (t.dtype == K_F32) {
        *(float4 *)v = *(const float4 *)((const float *)t.data + at);
        *(float4 *)(v + 4) = *(const float4 *)((const float *)t.data + at + 4);
    } else {
        uint4 bits = *(const uint4 *)((const uint16_t *)t.data + at);
        const uint32_t pair[4] = {bits.x, bits.y, bits.z, bits.w};
        for (int i = 0; i < 4; i++) {
            float2 two = t.dtype == K_F16 ? __half22float2(*(const __half2 *)&pair[i])
                                          : __bfloat1622float2(*(const __nv_bfloat162 *)&pair[i]);
            v[2 * i] = two.x;
            v[2 * i + 1] = two.y;
        }
    }
}

template <int N>
DEVICE void store(const rows &t, uint32_t row, uint32_t column, const float (&v)[N])
{
    int64_t at = (int64_t)row * t.ld + column;
    if constexpr (N == 1) {
        store_as(t.data, t.dtype, at, v[0]);
    } else if (t.dtype == K_F32) {
        *(float4 *)((float *)t.data + at) = make_float4(v[0], v[1], v[2], v[3]);
        *(float4 *)((float *)t.data + at + 4) = make_float4(v[4], v[5], v[6], v[7]);
    } else {
        uint32_t pair[4];
        for (int i = 0; i < 4; i++)
            if (t.dtype == K_F16)
                *(__half2 *)&pair[i] = __floats2half2_rn(v[2 * i], v[2 * i + 1]);
            else
                *(__nv_bfloat162 *)&pair[i] = __floats2bfloat162_rn(v[2 * i], v[2 * i + 1]);
        *(uint4 *)((uint16_t *)t.data + at) = make_uint4(pair[0], pair[1], pair[2], pair[3]);
    }
}

/* ---- activate, soft_clamp -------------------------------------------------------------------- */

struct activate_args {
    span span;
    rows y, x;
    int32_t act;
};

template <int N> static __global__ void activate(const __grid_constant__ activate_args a)
{
    grid_wait();
    grid_release();
    uint32_t row, column;
    if (!find<N>(a.span, &row, &column))
        return;
    float v[N];
    load(v, a.x, row, column);
    for (int i = 0; i < N; i++)
        v[i] = activated(v[i], a.act);
    store(a.y, row, column, v);
}

void cuda_activate(k_ctx *k, k_tensor y, k_tensor x, int act)
{
    k_tensor none = {};
    if (!alike(k, "activate", y, x) ||
        !k_check(k, act >= K_IDENTITY && act < K_GEGLU, "activate", "unknown activation", y, x,
                 none) ||
        k->planning)
        return;
    activate_args a = zeroed<activate_args>();
    a.y = rows_of(y);
    a.x = rows_of(x);
    a.act = act;
    launch_rows(k, activate<8>, activate<1>, fits_eight(y) && fits_eight(x), y, a);
}

struct soft_clamp_args {
    span span;
    rows y, x;
    float limit;
};

template <int N> static __global__ void soft_clamp(const __grid_constant__ soft_clamp_args a)
{
    grid_wait();
    grid_release();
    uint32_t row, column;
    if (!find<N>(a.span, &row, &column))
        return;
    float v[N];
    load(v, a.x, row, column);
    for (int i = 0; i < N; i++)
        v[i] = a.limit * tanhf(v[i] / a.limit);
    store(a.y, row, column, v);
}

void cuda_soft_clamp(k_ctx *k, k_tensor y, k_tensor x, float limit)
{
    if (!alike(k, "soft_clamp", y, x) || k->planning)
        return;
    soft_clamp_args a = zeroed<soft_clamp_args>();
    a.y = rows_of(y);
    a.x = rows_of(x);
    a.limit = limit;
    launch_rows(k, soft_clamp<8>, soft_clamp<1>, fits_eight(y) && fits_eight(x), y, a);
}

/* ---- add, mix -------------------------------------------------------------------------------- */

struct add_args {
    span span;
    rows y, x, z;
    uint32_t every; /* rows of x to one of z */
};

template <int N> static __global__ void add(const __grid_constant__ add_args a)
{
    grid_wait();
    grid_release();
    uint32_t row, column;
    if (!find<N>(a.span, &row, &column))
        return;
    float v[N], w[N];
    load(v, a.x, row, column);
    load(w, a.z, row / a.every, column);
    for (int i = 0; i < N; i++)
        v[i] += w[i];
    store(a.y, row, column, v);
}

void cuda_add(k_ctx *k, k_tensor y, k_tensor x, k_tensor z)
{
    int64_t rows = k_rows(x), per_image = (int64_t)x.h * x.w;
    int64_t every = k_same_shape(x, z) ? 1 : k_rows(z) == x.n && z.n == x.n ? per_image : rows;
    if (!alike(k, "add", y, x) ||
        !k_check(k,
                 k_is_float(z.dtype) && z.c == x.c && (every < rows || rows == 1 || k_rows(z) == 1),
                 "add", "z must have x's shape, one row for each image, or one row", y, x, z) ||
        k->planning)
        return;
    add_args a = zeroed<add_args>();
    a.y = rows_of(y);
    a.x = rows_of(x);
    a.z = rows_of(z);
    a.every = (uint32_t)every;
    launch_rows(k, add<8>, add<1>, fits_eight(y) && fits_eight(x) && fits_eight(z), y, a);
}

struct mix_args {
    span span;
    rows y, x[3]; /* data NULL: left out */
    const float *coef;
    int32_t coef_ld;
    uint32_t per_image;
};

template <int N> static __global__ void mix(const __grid_constant__ mix_args a)
{
    grid_wait();
    grid_release();
    uint32_t row, column;
    if (!find<N>(a.span, &row, &column))
        return;
    const float *coef = a.coef + (int64_t)(row / a.per_image) * a.coef_ld;
    float sum[N] = {0}, v[N];
    for (int j = 0; j < 3; j++) {
        if (!a.x[j].data)
            continue;
        load(v, a.x[j], row, column);
        for (int i = 0; i < N; i++)
            sum[i] += coef[j] * v[i];
    }
    store(a.y, row, column, sum);
}

void cuda_mix(k_ctx *k, k_tensor y, k_tensor coef, k_tensor x0, k_tensor x1, k_tensor x2)
{
    k_tensor none = {};
    if (!alike(k, "mix", y, x0) ||
        !k_check(k, coef.dtype == K_F32 && coef.c == 3 && k_rows(coef) == y.n, "mix",
                 "coef must be f32 [n, 1, 1, 3]", y, coef, none) ||
        (x1.dtype && !alike(k, "mix", y, x1)) || (x2.dtype && !alike(k, "mix", y, x2)) ||
        k->planning)
        return;
    mix_args a = zeroed<mix_args>();
    k_tensor x[3] = {x0, x1, x2};
    int wide = fits_eight(y);
    for (int i = 0; i < 3; i++) {
        if (!x[i].dtype)
            continue;
        a.x[i] = rows_of(x[i]);
        wide = wide && fits_eight(x[i]);
    }
    a.y = rows_of(y);
    a.coef = (const float *)coef.data;
    a.coef_ld = coef.ld;
    a.per_image = (uint32_t)(y.h * y.w);
    launch_rows(k, mix<8>, mix<1>, wide, y, a);
}

/* ---- resize_nearest ---------------------------------------------------------------------------
 */

struct resize_args {
    span span;
    rows y, x;
    uint32_t yh, yw, xh, xw;
};

template <int N> static __global__ void resize_nearest(const __grid_constant__ resize_args a)
{
    grid_wait();
    grid_release();
    uint32_t row, column;
    if (!find<N>(a.span, &row, &column))
        return;
    uint32_t image = row / (a.yh * a.yw), j = row / a.yw % a.yh, i = row % a.yw;
    uint32_t from = (image * a.xh + j * a.xh / a.yh) * a.xw + i * a.xw / a.yw;
    float v[N];
    load(v, a.x, from, column);
    store(a.y, row, column, v);
}

void cuda_resize_nearest(k_ctx *k, k_tensor y, k_tensor x)
{
    k_tensor none = {};
    if (!floats_hold(k, "resize_nearest", y, x) ||
        !k_check(k, y.n == x.n && y.c == x.c, "resize_nearest", "images or channels differ", y, x,
                 none) ||
        k->planning)
        return;
    resize_args a = zeroed<resize_args>();
    a.y = rows_of(y);
    a.x = rows_of(x);
    a.yh = (uint32_t)y.h;
    a.yw = (uint32_t)y.w;
    a.xh = (uint32_t)x.h;
    a.xw = (uint32_t)x.w;
    launch_rows(k, resize_nearest<8>, resize_nearest<1>, fits_eight(y) && fits_eight(x), y, a);
}

/* ---- the device's clock -----------------------------------------------------------------------
 */

struct clock_args {
    uint64_t *at;
};

static __global__ void write_clock(const __grid_constant__ clock_args a)
{
    grid_wait();
    grid_release();
    uint64_t ns;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(ns)::"memory");
    *a.at = ns;
}

void cuda_write_clock(k_ctx *k, uint64_t *at)
{
    clock_args a = zeroed<clock_args>();
    a.at = at;
    launch(k, write_clock, dim3(1), 1, 0, a);
}
