/* philox.h - normal random numbers as exact arithmetic, for C and for CUDA C.
 *
 * Philox 4x32-10: Salmon, Moraes, Dror and Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3"
 * (2011). Four words become four normals by Box and Muller's method. Must stay true: every
 * floating-point step is one correctly rounded fp32 operation in a fixed order (fma, multiply,
 * divide-free, square root), so that any IEEE processor draws the same bits. Compile without
 * contraction and without fast-math (-std=c11 does).
 */
#ifndef KERNELS_PHILOX_H
#define KERNELS_PHILOX_H

#include <stdint.h>

#if defined(__CUDACC__)
#define PHILOX_FN static __host__ __device__ inline
#else
#define PHILOX_FN static inline
#endif
#if defined(__CUDA_ARCH__)
#define PHILOX_FMA(a, b, c) __fmaf_rn(a, b, c)
#define PHILOX_MUL(a, b)    __fmul_rn(a, b)
#define PHILOX_SQRT(a)      __fsqrt_rn(a)
#define PHILOX_CLZ(n)       __clz((int)(n))
#else
#include <math.h>
#define PHILOX_FMA(a, b, c) fmaf(a, b, c)
#define PHILOX_MUL(a, b)    ((a) * (b))
#define PHILOX_SQRT(a)      sqrtf(a)
#define PHILOX_CLZ(n)       __builtin_clz(n)
#endif

typedef struct philox_words {
    uint32_t w[4];
} philox_words;

PHILOX_FN philox_words philox(philox_words counter, uint32_t key0, uint32_t key1)
{
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * counter.w[0];
        uint64_t b = (uint64_t)0xCD9E8D57u * counter.w[2];
        philox_words next = {{(uint32_t)(b >> 32) ^ counter.w[1] ^ key0, (uint32_t)b,
                              (uint32_t)(a >> 32) ^ counter.w[3] ^ key1, (uint32_t)a}};
        counter = next;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    return counter;
}

/* ln(n / 2^24) for n in 1..2^24. Polynomial: own Chebyshev fit of (ln(1+f) - f + f^2/2) / f^3. */
PHILOX_FN float philox_log(uint32_t n)
{
    int e = PHILOX_CLZ(n) - 7;
    n <<= e;                       /* to [2^24, 2^25) */
    float m = (float)n * 0x1p-24f; /* [1, 2), exact */
    int power = -e;
    if (n > 0x16A09E6u) { /* above sqrt 2 */
        m = m * 0.5f;
        power++;
    }
    float f = m - 1.0f, p = 0.0715135932f;
    p = PHILOX_FMA(p, f, -0.115730077f);
    p = PHILOX_FMA(p, f, 0.116617613f);
    p = PHILOX_FMA(p, f, -0.124108292f);
    p = PHILOX_FMA(p, f, 0.14249891f);
    p = PHILOX_FMA(p, f, -0.166684881f);
    p = PHILOX_FMA(p, f, 0.200007096f);
    p = PHILOX_FMA(p, f, -0.249999896f);
    p = PHILOX_FMA(p, f, 0.333333313f);
    float square = PHILOX_MUL(f, f), k = (float)power;
    float tail = PHILOX_FMA(PHILOX_MUL(square, f), p, PHILOX_MUL(k, -2.12194440e-4f));
    tail = PHILOX_FMA(square, -0.5f, tail);
    return PHILOX_FMA(k, 0.693359375f, PHILOX_FMA(1.0f, f, tail));
}

/* cos and sin of 2 pi n / 2^24 for n in 0..2^24 - 1, by octants. */
PHILOX_FN void philox_cos_sin(uint32_t n, float *cosine, float *sine)
{
    uint32_t octant = n >> 21;
    float r = (float)(n & 0x1FFFFFu) * 0x1p-21f;
    if (octant & 1u)
        r = 1.0f - r; /* exact */
    float z = PHILOX_MUL(r, r), s = 3.0899713e-07f, c = 3.52980419e-06f;
    s = PHILOX_FMA(s, z, -3.65723936e-05f);
    s = PHILOX_FMA(s, z, 0.00249039312f);
    s = PHILOX_FMA(s, z, -0.0807455108f);
    s = PHILOX_FMA(s, z, 0.785398185f);
    s = PHILOX_MUL(s, r);
    c = PHILOX_FMA(c, z, -0.000325938599f);
    c = PHILOX_FMA(c, z, 0.0158543251f);
    c = PHILOX_FMA(c, z, -0.308425128f);
    c = PHILOX_FMA(c, z, 1.0f);
    int swap = octant == 1 || octant == 2 || octant == 5 || octant == 6;
    float x = swap ? s : c, y = swap ? c : s;
    *cosine = octant >= 2 && octant <= 5 ? -x : x;
    *sine = octant >= 4 ? -y : y;
}

/* Normals 4 * block .. 4 * block + 3 of (seed, stream). */
PHILOX_FN void philox_normals(uint64_t seed, uint32_t stream, uint64_t block, float normal[4])
{
    philox_words counter = {{(uint32_t)block, (uint32_t)(block >> 32), stream, 0}};
    philox_words r = philox(counter, (uint32_t)seed, (uint32_t)(seed >> 32));
    for (int i = 0; i < 4; i += 2) {
        float c, s;
        float radius = PHILOX_SQRT(PHILOX_MUL(-2.0f, philox_log((r.w[i] >> 8) + 1)));
        philox_cos_sin(r.w[i + 1] >> 8, &c, &s);
        normal[i] = PHILOX_MUL(radius, c);
        normal[i + 1] = PHILOX_MUL(radius, s);
    }
}

#endif
