/* picture.cu - ops on whole pictures that lie in tensors: fades, masks, warps, blurs, likeness.
 *
 * Rows are dense fp32, so a thread makes the element of its number, or the pixel. Must stay true: a
 * sum is made in an order that the shape alone decides.
 */
#include "launch.cuh"

#include <math.h>

enum { THREADS = 256, WARP = 32 };

static int dense(k_ctx *k, const char *op, k_tensor y, k_tensor x, k_tensor z)
{
    return k_check(k, y.dtype == K_F32 && x.dtype == K_F32 && (!z.dtype || z.dtype == K_F32), op,
                   "tensors must be f32", y, x, z) &&
           k_check(k, y.ld == y.c && x.ld == x.c && (!z.dtype || z.ld == z.c), op,
                   "rows must be dense", y, x, z) &&
           k_check(k, k_rows(y) * y.c < INT32_MAX && k_rows(x) * x.c < INT32_MAX, op,
                   "the tensor is too large", y, x, z);
}

static int alike(k_ctx *k, const char *op, k_tensor y, k_tensor x, k_tensor z)
{
    return dense(k, op, y, x, z) &&
           k_check(k, k_same_shape(y, x) && (!z.dtype || k_same_shape(y, z)), op, "shapes differ",
                   y, x, z);
}

static int small(k_ctx *k, const char *op, k_tensor coef, int c)
{
    k_tensor none = {};
    return k_check(k, coef.dtype == K_F32 && k_rows(coef) == 1 && coef.c == c, op,
                   "the coefficients must be one f32 row of the documented length", coef, coef,
                   none);
}

static const float *floats(k_tensor t)
{
    return (const float *)t.data;
}

/* A thread for each of args.count. */
template <class A> static void launch_each(k_ctx *k, void (*kernel)(A), int64_t count, A &args)
{
    args.count = (int32_t)count;
    launch(k, kernel, dim3(blocks_of(count, THREADS)), THREADS, 0, args);
}

/* ---- element by element -----------------------------------------------------------------------
 */

struct affine_args {
    float *y;
    const float *x;
    k_affine by;
    int32_t count;
};

/* Rounded twice, as on the CPU. */
static __global__ void affine(const __grid_constant__ affine_args a)
{
    grid_wait();
    grid_release();
    int i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= a.count)
        return;
    float v = __fadd_rn(__fmul_rn(a.by.scale, a.x[i]), a.by.bias);
    v = v > a.by.low ? v : a.by.low; /* NaN as well */
    a.y[i] = v < a.by.high ? v : a.by.high;
}

void cuda_affine(k_ctx *k, k_tensor y, k_tensor x, const k_affine *o)
{
    k_tensor none = {};
    if (!alike(k, "affine", y, x, none) || k->planning)
        return;
    affine_args a = zeroed<affine_args>();
    a.y = (float *)y.data;
    a.x = floats(x);
    a.by = *o;
    launch_each(k, affine, k_rows(y) * y.c, a);
}

struct blend_args {
    float *y;
    const float *mask, *a, *b;
    int32_t count, c;
};

static __global__ void blend(const __grid_constant__ blend_args a)
{
    grid_wait();
    grid_release();
    int i = blockIdx.x * THREADS + threadIdx.x;
    if (i < a.count)
        a.y[i] = a.b[i] + a.mask[i / a.c] * (a.a[i] - a.b[i]);
}

void cuda_blend(k_ctx *k, k_tensor y, k_tensor mask, k_tensor a, k_tensor b)
{
    k_tensor none = {};
    if (!alike(k, "blend", y, a, b) || !dense(k, "blend", y, mask, none) ||
        !k_check(k, mask.n == y.n && mask.h == y.h && mask.w == y.w && mask.c == 1, "blend",
                 "the mask must be [n, h, w, 1] (x is the mask)", y, mask, none) ||
        k->planning)
        return;
    blend_args args = zeroed<blend_args>();
    args.y = (float *)y.data;
    args.mask = floats(mask);
    args.a = floats(a);
    args.b = floats(b);
    args.c = y.c;
    launch_each(k, blend, k_rows(y) * y.c, args);
}

struct ease_args {
    float *y;
    const float *x, *past, *coef;
    int32_t count;
};

static __global__ void ease(const __grid_constant__ ease_args a)
{
    grid_wait();
    grid_release();
    int i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= a.count)
        return;
    float share = a.coef[0], limit = a.coef[1], from = a.x[i], old = a.past[i];
    float p = old < -limit ? -limit : old > limit ? limit : old;
    a.y[i] = isnan(old) ? from : from + share * (p - from);
}

void cuda_ease(k_ctx *k, k_tensor y, k_tensor x, k_tensor past, k_tensor coef)
{
    if (!alike(k, "ease", y, x, past) || !small(k, "ease", coef, 2) || k->planning)
        return;
    ease_args a = zeroed<ease_args>();
    a.y = (float *)y.data;
    a.x = floats(x);
    a.past = floats(past);
    a.coef = floats(coef);
    launch_each(k, ease, k_rows(y) * y.c, a);
}

/* ---- likeness ---------------------------------------------------------------------------------
 */

enum { PARTS = 512, PART = 32 * THREADS }; /* at most so many parts, at least so long each */

typedef struct products {
    float ab, aa, bb;
} products;

struct cosine_args {
    float *y;
    const float *a, *b;
    products *part; /* [n][parts] */
    float middle;
    int32_t count, parts, y_ld; /* count: of elements of an image */
};

/* The sum over a warp, in every lane. */
template <class T> DEVICE T warp_sum(T v)
{
    for (int by = WARP / 2; by; by /= 2)
        v += __shfl_xor_sync(~0u, v, by);
    return v;
}

/* A block makes part blockIdx.x of image blockIdx.y. */
static __global__ void cosine_parts(const __grid_constant__ cosine_args a)
{
    grid_wait();
    grid_release();
    __shared__ products of_warp[THREADS / WARP];
    const float *u = a.a + (int64_t)blockIdx.y * a.count, *v = a.b + (int64_t)blockIdx.y * a.count;
    int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    int first = (int)((int64_t)a.count * blockIdx.x / a.parts);
    int end = (int)((int64_t)a.count * (blockIdx.x + 1) / a.parts);
    products sum = {0, 0, 0};
    for (int i = first + threadIdx.x; i < end; i += THREADS) {
        float x = u[i] - a.middle, z = v[i] - a.middle;
        sum.ab += x * z;
        sum.aa += x * x;
        sum.bb += z * z;
    }
    sum = {warp_sum(sum.ab), warp_sum(sum.aa), warp_sum(sum.bb)};
    if (lane == 0)
        of_warp[warp] = sum;
    __syncthreads();
    if (threadIdx.x)
        return;
    for (int i = 1; i < THREADS / WARP; i++) {
        sum.ab += of_warp[i].ab;
        sum.aa += of_warp[i].aa;
        sum.bb += of_warp[i].bb;
    }
    a.part[blockIdx.y * a.parts + blockIdx.x] = sum;
}

/* A warp makes image blockIdx.x. */
static __global__ void cosine_whole(const __grid_constant__ cosine_args a)
{
    grid_wait();
    grid_release();
    double ab = 0, aa = 0, bb = 0;
    for (int i = threadIdx.x; i < a.parts; i += WARP) {
        const products p = a.part[blockIdx.x * a.parts + i];
        ab += (double)p.ab;
        aa += (double)p.aa;
        bb += (double)p.bb;
    }
    ab = warp_sum(ab);
    aa = warp_sum(aa);
    bb = warp_sum(bb);
    if (threadIdx.x == 0)
        a.y[(int64_t)blockIdx.x * a.y_ld] =
            (float)(ab / (fmax(sqrt(aa), 1e-6) * fmax(sqrt(bb), 1e-6)));
}

void cuda_cosine(k_ctx *k, k_tensor y, k_tensor a, k_tensor b, float middle)
{
    k_tensor none = {};
    if (!alike(k, "cosine", a, b, none) ||
        !k_check(k, y.dtype == K_F32 && y.c == 1 && y.n == a.n && k_rows(y) == y.n, "cosine",
                 "y must be f32 [n, 1, 1, 1]", y, a, b) ||
        !k_check(k, a.n < 1 << 16, "cosine", "there are too many images", y, a, b))
        return;
    cosine_args args = zeroed<cosine_args>();
    args.count = a.h * a.w * a.c;
    args.parts = (int)blocks_of(args.count, PART);
    args.parts = args.parts < PARTS ? args.parts : (int)PARTS;
    args.part =
        (products *)cuda_scratch(k, "cosine", sizeof(products) * (size_t)args.parts * (size_t)a.n);
    if (k->planning || k->status)
        return;
    args.y = (float *)y.data;
    args.y_ld = y.ld;
    args.a = floats(a);
    args.b = floats(b);
    args.middle = middle;
    launch(k, cosine_parts, dim3((unsigned)args.parts, (unsigned)a.n), THREADS, 0, args);
    launch(k, cosine_whole, dim3((unsigned)a.n), WARP, 0, args);
}

/* ---- warp -------------------------------------------------------------------------------------
 */

struct warp_args {
    float *y;
    const float *x, *coef;
    int32_t count, yh, yw, xh, xw, c, mirror; /* count: of y's pixels */
};

/* Two neighbours along an axis of n pixels and the second one's share, of a point in pixels from
 * the axis' beginning. */
typedef struct pair {
    int first, second;
    float share;
} pair;

DEVICE pair neighbours(float at, int n, int mirror)
{
    float most = (float)(n - 1);
    if (mirror && (at < 0 || at > (float)n)) {
        float period = 2 * (float)n;
        at = fabsf(at);
        float turns = at / period;
        at = turns < 1e6f ? at - period * (float)(int)turns : 0;
        at = at > (float)n ? period - at : at;
    }
    at -= 0.5f;
    at = at > 0 ? at : 0; /* NaN as well */
    at = at < most ? at : most;
    int first = (int)at;
    pair p = {first, first + (first < n - 1), at - (float)first};
    return p;
}

static __global__ void warp(const __grid_constant__ warp_args a)
{
    grid_wait();
    grid_release();
    int pixel = blockIdx.x * THREADS + threadIdx.x;
    if (pixel >= a.count)
        return;
    int line = pixel / a.yw;
    float i = (float)(pixel % a.yw) + 0.5f, j = (float)(line % a.yh) + 0.5f;
    pair u = neighbours(a.coef[0] * i + a.coef[1] * j + a.coef[2], a.xw, a.mirror);
    pair v = neighbours(a.coef[3] * i + a.coef[4] * j + a.coef[5], a.xh, a.mirror);
    const float *image = a.x + (int64_t)(line / a.yh) * a.xh * a.xw * a.c;
    const float *top = image + v.first * a.xw * a.c, *low = image + v.second * a.xw * a.c;
    for (int e = 0; e < a.c; e++) {
        float b = top[u.first * a.c + e], d = low[u.first * a.c + e];
        b += u.share * (top[u.second * a.c + e] - b);
        d += u.share * (low[u.second * a.c + e] - d);
        a.y[pixel * a.c + e] = b + v.share * (d - b);
    }
}

void cuda_warp(k_ctx *k, k_tensor y, k_tensor x, k_tensor coef, int mirror)
{
    k_tensor none = {};
    if (!dense(k, "warp", y, x, none) || !small(k, "warp", coef, 6) ||
        !k_check(k, y.n == x.n && y.c == x.c, "warp", "images or channels differ", y, x, none) ||
        k->planning)
        return;
    warp_args a = zeroed<warp_args>();
    a.y = (float *)y.data;
    a.x = floats(x);
    a.coef = floats(coef);
    a.yh = y.h;
    a.yw = y.w;
    a.xh = x.h;
    a.xw = x.w;
    a.c = y.c;
    a.mirror = mirror != 0;
    launch_each(k, warp, k_rows(y), a);
}

/* ---- blur -------------------------------------------------------------------------------------
 */

struct blur_args {
    float *y;
    const float *x;
    int32_t count, step, length; /* elements to the next pixel of the axis, its pixels */
    int32_t reach;
    float weight[3 * K_BLUR_MAX + 1]; /* of distance 0.. */
};

static __global__ void blur(const __grid_constant__ blur_args a)
{
    grid_wait();
    grid_release();
    int i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= a.count)
        return;
    int at = i / a.step % a.length;
    float sum = a.weight[0] * a.x[i], total = a.weight[0];
    for (int d = 1; d <= a.reach; d++) {
        float w = a.weight[d];
        if (d <= at) {
            sum += w * a.x[i - d * a.step];
            total += w;
        }
        if (d < a.length - at) {
            sum += w * a.x[i + d * a.step];
            total += w;
        }
    }
    a.y[i] = sum / total;
}

void cuda_blur(k_ctx *k, k_tensor y, k_tensor x, float sigma, int down)
{
    k_tensor none = {};
    if (!alike(k, "blur", y, x, none) ||
        !k_check(k, sigma >= 0 && sigma <= K_BLUR_MAX, "blur", "sigma is out of range", y, x,
                 none) ||
        k->planning)
        return;
    blur_args a = zeroed<blur_args>();
    a.y = (float *)y.data;
    a.x = floats(x);
    a.step = down ? y.w * y.c : y.c;
    a.length = down ? y.h : y.w;
    a.reach = (int)ceilf(3 * sigma);
    double s = sigma > 0 ? (double)sigma : 1;
    for (int d = 0; d <= a.reach; d++)
        a.weight[d] = (float)exp(-d * d / (2 * s * s));
    launch_each(k, blur, k_rows(y) * y.c, a);
}
