/* finite.cu - are all numbers of a picture numbers? And taking a picture over only if they are: the
 * answer stays on the device, so nobody waits for it within a frame.
 */
#include "launch.cuh"

enum { THREADS = 256, WARP = 32, PART = 4096, PARTS = THREADS };

static int is_dense(k_ctx *k, const char *op, k_tensor y, k_tensor x)
{
    k_tensor none = {};
    return k_check(k, x.dtype == K_F32 && y.dtype == K_F32, op, "tensors must be f32", y, x,
                   none) &&
           k_check(k, x.ld == x.c, op, "rows must be dense", y, x, none) &&
           k_check(k, k_rows(x) * x.c < INT32_MAX, op, "the tensor is too large", y, x, none);
}

/* ---- finite? -------------------------------------------------------------------------------- */

struct finite_args {
    float *y;
    const float *x;
    int *part;                  /* [n][parts]: something is not finite */
    int32_t count, parts, y_ld; /* count: of elements of an image */
};

/* Is it so for any thread of the block? Every thread asks, and thread 0 gets the answer. */
DEVICE bool any_of_block(bool here)
{
    __shared__ int of_warp[THREADS / WARP];
    int warp = (int)threadIdx.x / WARP, any = __any_sync(~0u, here);
    if (threadIdx.x % WARP == 0)
        of_warp[warp] = any;
    __syncthreads();
    for (int i = 1; threadIdx.x == 0 && i < THREADS / WARP; i++)
        any |= of_warp[i];
    return any;
}

/* A block looks at part blockIdx.x of image blockIdx.y. */
static __global__ void __launch_bounds__(THREADS)
    finite_parts(const __grid_constant__ struct finite_args a)
{
    grid_wait();
    const float *x = a.x + (int64_t)blockIdx.y * a.count;
    bool found = false;
    for (int i = (int)(blockIdx.x * THREADS + threadIdx.x); i < a.count; i += a.parts * THREADS)
        found |= !isfinite(x[i]);
    found = any_of_block(found);
    if (threadIdx.x == 0)
        a.part[blockIdx.y * a.parts + blockIdx.x] = found;
}

/* A block for each image. */
static __global__ void __launch_bounds__(THREADS)
    finite_whole(const __grid_constant__ struct finite_args a)
{
    grid_wait();
    int i = (int)threadIdx.x;
    bool found = any_of_block(i < a.parts && a.part[blockIdx.x * a.parts + i]);
    if (i == 0)
        a.y[(int64_t)blockIdx.x * a.y_ld] = found ? 0.0f : 1.0f;
}

void cuda_finite(k_ctx *k, k_tensor y, k_tensor x)
{
    k_tensor none = {};
    if (!is_dense(k, "finite", y, x) ||
        !k_check(k, y.c == 1 && y.n == x.n && k_rows(y) == y.n, "finite",
                 "y must be f32 [n, 1, 1, 1]", y, x, none) ||
        !k_check(k, x.n < 1 << 16, "finite", "there are too many images", y, x, none))
        return;
    struct finite_args a = zeroed<struct finite_args>();
    a.count = x.h * x.w * x.c;
    a.parts = (int)blocks_of(a.count, PART);
    a.parts = a.parts < (int)PARTS ? a.parts : (int)PARTS;
    a.part = (int *)cuda_scratch(k, "finite", sizeof(int) * (size_t)a.parts * (size_t)x.n);
    if (k->planning || k->status)
        return;
    a.y = (float *)y.data;
    a.y_ld = y.ld;
    a.x = (const float *)x.data;
    launch(k, finite_parts, dim3((unsigned)a.parts, (unsigned)x.n), THREADS, 0, a);
    launch(k, finite_whole, dim3((unsigned)x.n), THREADS, 0, a);
}

/* ---- if it is ------------------------------------------------------------------------------- */

struct affine_if_args {
    float *y;
    const float *x, *when;
    k_affine by;
    int32_t count, conditions;
};

/* Rounded twice, as on the CPU. */
static __global__ void __launch_bounds__(THREADS)
    affine_if(const __grid_constant__ struct affine_if_args a)
{
    grid_wait();
    int i = (int)(blockIdx.x * THREADS + threadIdx.x);
    for (int c = 0; c < a.conditions; c++)
        if (a.when[c] == 0)
            return;
    if (i >= a.count)
        return;
    float v = __fadd_rn(__fmul_rn(a.by.scale, a.x[i]), a.by.bias);
    v = v > a.by.low ? v : a.by.low; /* NaN as well */
    a.y[i] = v < a.by.high ? v : a.by.high;
}

void cuda_affine_if(k_ctx *k, k_tensor y, k_tensor x, k_tensor when, const k_affine *o)
{
    k_tensor none = {};
    if (!is_dense(k, "affine_if", y, x) ||
        !k_check(k, k_same_shape(y, x) && y.ld == y.c, "affine_if", "shapes differ", y, x, none) ||
        !k_check(k, when.dtype == K_F32 && k_rows(when) == 1, "affine_if",
                 "the conditions must be one f32 row", when, when, none) ||
        k->planning)
        return;
    struct affine_if_args a = zeroed<struct affine_if_args>();
    a.y = (float *)y.data;
    a.x = (const float *)x.data;
    a.when = (const float *)when.data;
    a.conditions = when.c;
    a.by = *o;
    a.count = (int32_t)(k_rows(y) * y.c);
    launch(k, affine_if, dim3(blocks_of(a.count, THREADS)), THREADS, 0, a);
}
