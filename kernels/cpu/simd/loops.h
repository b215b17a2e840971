/* loops.h - the functions that the files of simd/ give to table.c, for one instruction set. */
#ifndef KERNELS_CPU_SIMD_LOOPS_H
#define KERNELS_CPU_SIMD_LOOPS_H

#include "vec.h"

/* One case for each count of rows, so that accumulators stay in registers. */
#define ROWS_CASE(n, f, ...)                                                                       \
    case n:                                                                                        \
        f(n, __VA_ARGS__);                                                                         \
        break;
#if defined(__AVX512F__) || defined(__aarch64__)
#define ROWS_MORE(f, ...)                                                                          \
    ROWS_CASE(7, f, __VA_ARGS__)                                                                   \
    ROWS_CASE(8, f, __VA_ARGS__)                                                                   \
    ROWS_CASE(9, f, __VA_ARGS__)                                                                   \
    ROWS_CASE(10, f, __VA_ARGS__)                                                                  \
    ROWS_CASE(11, f, __VA_ARGS__)                                                                  \
    ROWS_CASE(12, f, __VA_ARGS__)
#else
#define ROWS_MORE(f, ...)
#endif
#define ROWS_SWITCH(rows, f, ...)                                                                  \
    switch (rows) {                                                                                \
        ROWS_CASE(1, f, __VA_ARGS__)                                                               \
        ROWS_CASE(2, f, __VA_ARGS__)                                                               \
        ROWS_CASE(3, f, __VA_ARGS__)                                                               \
        ROWS_CASE(4, f, __VA_ARGS__)                                                               \
        ROWS_CASE(5, f, __VA_ARGS__)                                                               \
        ROWS_CASE(6, f, __VA_ARGS__)                                                               \
        ROWS_MORE(f, __VA_ARGS__)                                                                  \
    default:                                                                                       \
        __builtin_unreachable();                                                                   \
    }

/* gemm.c */
void SIMD(tile)(int rows, int chunks, const float *a, const float *b, float *c, int accumulate);
void SIMD(epilogue)(const float *c, int rows, const simd_out *o);
void SIMD(epilogue_geglu)(const float *value, const float *gate, const float *gate_bias, int rows,
                          const simd_out *o);
/* direct.c */
void SIMD(tile_runs)(int rows, const simd_runs *a, const float *b, float *c);
void SIMD(dots)(int outs, const simd_runs *a, const float *w, float *c);
/* pack.c */
void SIMD(widen)(float *to, const void *from, int dtype, int64_t n);
void SIMD(narrow)(void *to, const float *from, int dtype, int64_t n);
void SIMD(merge)(void *to, const void *from, int dtype, int64_t stride, const float *c, int rows,
                 int cols);
void SIMD(pack)(float *to, int64_t step, const float *from, int n, float scale);
void SIMD(panel)(void *to, const void *from, size_t size, int64_t stride, int step, int k,
                 int cols);
/* winograd.c */
void SIMD(wino_in)(int m, int up, const float *const *in, int chunks, float *v, int64_t step,
                   int64_t stride);
void SIMD(wino_out)(int m, int up, const float *c, int64_t stride, float *out);
void SIMD(wino_weight)(int m, const float *taps, float *u, int64_t stride);
/* attention.c */
void SIMD(attend)(const simd_head *h, const float *q, int rows, int limit, float *const *y);
/* rows.c */
void SIMD(sums)(const float *x, int64_t ld, int rows, const float *shift, int n, double *sum,
                double *square);
void SIMD(normalise)(float *y, const float *x, const float *mean, const float *scale,
                     const float *shift, int n, int act);
void SIMD(layer_norm)(float *y, const float *x, const float *gamma, const float *beta, int n,
                      float eps);
void SIMD(activate)(float *y, const float *x, int n, int act);
void SIMD(soft_clamp)(float *y, const float *x, int n, float limit);
void SIMD(add)(float *y, const float *x, const float *z, int n);
void SIMD(mix)(float *y, const float *coef, const float *x0, const float *x1, const float *x2,
               int n);

#endif
