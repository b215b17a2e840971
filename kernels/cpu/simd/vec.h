/* vec.h - one vector of floats as wide as the instruction set that this file is compiled for.
 *
 * GCC's vector extensions, so that one source serves every instruction set. Included by
 * simd/ only; each file of simd/ is compiled once per -DISA=name, and SIMD(f) is f_name.
 */
#ifndef KERNELS_CPU_SIMD_VEC_H
#define KERNELS_CPU_SIMD_VEC_H

#include "simd.h"

#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define SIMD_PASTE2(a, b) a##_##b
#define SIMD_PASTE(a, b)  SIMD_PASTE2(a, b)
#define SIMD(name)        SIMD_PASTE(name, ISA)

/* VL: floats in a vector. MR: rows of a micro-tile, as many as the registers hold with two
 * vectors of accumulators each. */
#if defined(__AVX512F__)
enum { VL = 16, MR = 12 };
#elif defined(__AVX2__)
enum { VL = 8, MR = 6 };
#elif defined(__aarch64__)
enum { VL = 4, MR = 12 };
#else
enum { VL = 4, MR = 6 };
#endif
enum { NR = 2 * VL };

typedef float vf __attribute__((vector_size(VL * 4)));
typedef int32_t vi __attribute__((vector_size(VL * 4)));

#define INLINE static inline __attribute__((always_inline))

/* Keeps the compiler from merging the two halves of a split constant. */
#if defined(__aarch64__)
#define FENCE(v) __asm__("" : "+w"(v))
#elif defined(__AVX512F__)
#define FENCE(v) __asm__("" : "+v"(v))
#else
#define FENCE(v) __asm__("" : "+x"(v))
#endif

INLINE vf vload(const float *p)
{
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}

INLINE void vstore(float *p, vf v)
{
    memcpy(p, &v, sizeof v);
}

/* n < 2 * VL floats in pieces of fixed sizes: a copy of a size unknown here is a call. */
INLINE void vcopy_n(float *to, const float *from, int n)
{
#pragma GCC unroll 5
    for (int size = VL; size; size /= 2)
        if (n & size) {
            memcpy(to, from, 4 * (size_t)size);
            to += size;
            from += size;
        }
}

/* The first n of VL floats; the others read as 0 and are not written. */
INLINE vf vload_n(const float *p, int n)
{
    float s[VL] = {0};
    vcopy_n(s, p, n);
    return vload(s);
}

INLINE void vstore_n(float *p, vf v, int n)
{
    float s[VL];
    vstore(s, v);
    vcopy_n(p, s, n);
}

INLINE vf vset(float x)
{
    return (vf){0} + x;
}

#if defined(__AVX512F__)
INLINE vf vmax(vf a, vf b)
{
    return (vf)_mm512_max_ps((__m512)a, (__m512)b);
}

INLINE vf vmin(vf a, vf b)
{
    return (vf)_mm512_min_ps((__m512)a, (__m512)b);
}
#elif defined(__AVX2__)
INLINE vf vmax(vf a, vf b)
{
    return (vf)_mm256_max_ps((__m256)a, (__m256)b);
}

INLINE vf vmin(vf a, vf b)
{
    return (vf)_mm256_min_ps((__m256)a, (__m256)b);
}
#elif defined(__x86_64__)
INLINE vf vmax(vf a, vf b)
{
    return (vf)_mm_max_ps((__m128)a, (__m128)b);
}

INLINE vf vmin(vf a, vf b)
{
    return (vf)_mm_min_ps((__m128)a, (__m128)b);
}
#else
INLINE vf vmax(vf a, vf b)
{
    return (vf)vmaxq_f32((float32x4_t)a, (float32x4_t)b);
}

INLINE vf vmin(vf a, vf b)
{
    return (vf)vminq_f32((float32x4_t)a, (float32x4_t)b);
}
#endif

/* |a| with the sign of b. */
INLINE vf vsign(vf a, vf b)
{
    return (vf)(((vi)a & 0x7fffffff) | ((vi)b & (int32_t)0x80000000));
}

INLINE float vsum(vf v)
{
    float s[VL];
    memcpy(s, &v, sizeof v);
    for (int width = VL / 2; width; width /= 2)
        for (int i = 0; i < width; i++)
            s[i] += s[i + width];
    return s[0];
}

INLINE float vtop(vf v)
{
    float s[VL];
    memcpy(s, &v, sizeof v);
    for (int width = VL / 2; width; width /= 2)
        for (int i = 0; i < width; i++)
            s[i] = s[i] > s[i + width] ? s[i] : s[i + width];
    return s[0];
}

/* exp, relative error below 2e-7; below -87 it stays at exp(-87). */
INLINE vf vexp(vf x)
{
    x = vmin(vmax(x, vset(-87.0f)), vset(88.0f));
    vf t = x * 1.44269504f;
    vi n = __builtin_convertvector(t + vsign(vset(0.5f), t), vi);
    vf f = __builtin_convertvector(n, vf);
    vf r = x - f * 0.693359375f; /* ln 2 in two parts; the first has zeros at its end */
    FENCE(r);
    r = r + f * 2.12194440e-4f;
    vf p = vset(0.0013933733571320772f);
    p = p * r + 0.008363235741853714f;
    p = p * r + 0.041666463017463684f;
    p = p * r + 0.16666576266288757f;
    p = p * r + 0.5f;
    vf e = r * r * p + r;
    FENCE(e);
    e = e + 1.0f;
    vi scale = (n + 127) << 23;
    vf s;
    memcpy(&s, &scale, sizeof s);
    return e * s;
}

/* tanh, absolute error below 3e-7. */
INLINE vf vtanh(vf x)
{
    vf a = vsign(x, vset(1));
    return vsign(1.0f - 2.0f / (1.0f + vexp(2.0f * a)), x);
}

/* erf, absolute error below 5e-7: Abramowitz and Stegun, 7.1.26. */
INLINE vf verf(vf x)
{
    vf a = vsign(x, vset(1));
    vf t = 1.0f / (1.0f + 0.3275911f * a);
    vf p = vset(1.061405429f);
    p = p * t - 1.453152027f;
    p = p * t + 1.421413741f;
    p = p * t - 0.284496736f;
    p = p * t + 0.254829592f;
    vf y = 1.0f - p * t * vexp(-a * a);
    return vsign(y, x);
}

INLINE vf vgelu(vf x)
{
    return 0.5f * x * (1.0f + verf(x * 0.70710678f));
}

INLINE vf vact(vf x, int act)
{
    switch (act) {
    case K_RELU:
        return vmax(x, vset(0));
    case K_SILU:
        return x / (1.0f + vexp(-x));
    case K_GELU:
        return vgelu(x);
    case K_QUICK_GELU:
        return x / (1.0f + vexp(-1.702f * x));
    default:
        return x;
    }
}

/* VL halves to floats. */
INLINE vf vhalf(const uint16_t *p)
{
#if defined(__AVX512F__)
    return (vf)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
#elif defined(__F16C__)
    return (vf)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
#else
    vi h;
    for (int i = 0; i < VL; i++)
        h[i] = p[i];
    vi bits = (h & 0x7fff) << 13, sign = (h & 0x8000) << 16;
    vf v;
    memcpy(&v, &bits, sizeof v);
    v = v * 0x1p112f; /* the two exponents' biases differ by 112; exact, subnormals too */
    memcpy(&bits, &v, sizeof v);
    bits |= ((h & 0x7c00) == 0x7c00) & 0x7f800000; /* infinities and NaN */
    bits |= sign;
    memcpy(&v, &bits, sizeof v);
    return v;
#endif
}

/* VL bfloat16 to floats. */
INLINE vf vbfloat(const uint16_t *p)
{
    vi v;
    for (int i = 0; i < VL; i++)
        v[i] = (int32_t)((uint32_t)p[i] << 16);
    vf f;
    memcpy(&f, &v, sizeof f);
    return f;
}

/* VL elements of a float type. */
INLINE vf vwiden(const void *p, int dtype)
{
    if (dtype == K_F16)
        return vhalf(p);
    if (dtype == K_BF16)
        return vbfloat(p);
    return vload(p);
}

/* VL floats to halves, to nearest even; v is within the range of halves. */
INLINE void vstore_half(uint16_t *p, vf v)
{
#if defined(__AVX512F__)
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT));
#elif defined(__F16C__)
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT));
#else
    vi bits = (vi)v, size = bits & 0x7fffffff;
    /* The sum's last bit is a subnormal half's: the addition rounds. */
    vi small = (vi)((vf)size + 0.5f) - 0x3f000000;
    vi large = ((size + 0xfff + (size >> 13 & 1)) >> 13) - (112 << 10);
    vi low = size < 0x38800000;
    vi h = (small & low) | (large & ~low) | (bits >> 16 & 0x8000);
    for (int i = 0; i < VL; i++)
        p[i] = (uint16_t)h[i];
#endif
}

/* VL floats to bfloat16, to nearest even. */
INLINE void vstore_bfloat(uint16_t *p, vf v)
{
    vi bits = (vi)v;
    bits = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    for (int i = 0; i < VL; i++)
        p[i] = (uint16_t)bits[i];
}

/* VL floats to a float type, held within its range. */
INLINE void vnarrow(void *p, vf v, int dtype)
{
    const float most = dtype == K_F16 ? 65504.0f : 0x1.fep127f;
    if (dtype == K_F32) {
        vstore(p, v);
        return;
    }
    v = vmin(vmax(v, vset(-most)), vset(most));
    if (dtype == K_F16)
        vstore_half(p, v);
    else
        vstore_bfloat(p, v);
}

#endif
