/* launch.cuh - what every .cu file begins with: launching, and the idioms of our kernels.
 *
 * A kernel takes one struct by value, and calls grid_wait() before it touches global memory that
 * another kernel writes or may still read: launches overlap (programmatic dependent launch).
 */
#ifndef KERNELS_CUDA_LAUNCH_CUH
#define KERNELS_CUDA_LAUNCH_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <string.h>

#include "cuda.h"

#define DEVICE static __device__ __forceinline__

/* ---- host side ------------------------------------------------------------------------------ */

/* Arguments for a launch, padding and all zero: the tape compares bytes. */
template <class A> static inline A zeroed()
{
    A a;
    memset(&a, 0, sizeof a);
    return a;
}

template <class A>
static inline void launch(k_ctx *k, void (*kernel)(A), dim3 grid, unsigned threads, size_t shared,
                          const A &args)
{
    cuda_launch(k, (const void *)kernel, grid, threads, shared, &args, sizeof args);
}

static inline unsigned blocks_of(int64_t items, int64_t each)
{
    return (unsigned)((items + each - 1) / each);
}

static inline int is_half(int dtype)
{
    return dtype == K_F16 || dtype == K_BF16;
}

/* ---- device side ---------------------------------------------------------------------------- */

/* Wait for the kernels before this one. */
DEVICE void grid_wait()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/* Let the next kernel's blocks come while this one's last blocks work; they wait in grid_wait. */
DEVICE void grid_release()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

DEVICE float to_float(float x)
{
    return x;
}
DEVICE float to_float(__half x)
{
    return __half2float(x);
}
DEVICE float to_float(__nv_bfloat16 x)
{
    return __bfloat162float(x);
}

/* x as the type of *to. */
DEVICE void from_float(float *to, float x)
{
    *to = x;
}
DEVICE void from_float(__half *to, float x)
{
    *to = __float2half_rn(x);
}
DEVICE void from_float(__nv_bfloat16 *to, float x)
{
    *to = __float2bfloat16_rn(x);
}

/* Element i of an array of type dtype: for kernels that memory bounds, and odd types. */
DEVICE float load_as(const void *p, int dtype, int64_t i)
{
    if (dtype == K_F32)
        return ((const float *)p)[i];
    if (dtype == K_F16)
        return __half2float(((const __half *)p)[i]);
    return __bfloat162float(((const __nv_bfloat16 *)p)[i]);
}

DEVICE void store_as(void *p, int dtype, int64_t i, float x)
{
    if (dtype == K_F32)
        ((float *)p)[i] = x;
    else if (dtype == K_F16)
        ((__half *)p)[i] = __float2half_rn(x);
    else
        ((__nv_bfloat16 *)p)[i] = __float2bfloat16_rn(x);
}

/* x Phi(x) = max(x, 0) - |x| erfc(|x| / sqrt 2) / 2, within 6e-7. Infinity and NaN are what they
 * are. Source: Abramowitz and Stegun, 7.1.26. */
DEVICE float gelu(float x)
{
    float size = fminf(fabsf(x), 16.0f), t, e, p = 0.5f * 1.061405429f;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(t) : "f"(fmaf(0.3275911f * 0.70710678f, size, 1.0f)));
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(e) : "f"(x * x * -0.72134752f));
    p = fmaf(p, t, 0.5f * -1.453152027f);
    p = fmaf(p, t, 0.5f * 1.421413741f);
    p = fmaf(p, t, 0.5f * -0.284496736f);
    p = fmaf(p, t, 0.5f * 0.254829592f);
    return fmaxf(x, 0.0f) - size * (p * t * e);
}

/* k_act, but for K_GEGLU. */
DEVICE float activated(float x, int act)
{
    switch (act) {
    case K_RELU:
        return fmaxf(x, 0.0f);
    case K_SILU:
        return __fdividef(x, 1.0f + __expf(-x)); /* two units in the last place */
    case K_GELU:
        return gelu(x);
    case K_QUICK_GELU:
        return __fdividef(x, 1.0f + __expf(-1.702f * x));
    default:
        return x;
    }
}

/* Dynamic shared memory as a T. */
template <class T> DEVICE T &shared()
{
    extern __shared__ __align__(128) unsigned char shared_bytes[];
    return *reinterpret_cast<T *>(shared_bytes);
}

#endif
