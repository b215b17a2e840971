/* loops.h - the functions that the files of simd/ give to table.c, for one instruction set. */
#ifndef KERNELS_CPU_SIMD_LOOPS_H
#define KERNELS_CPU_SIMD_LOOPS_H

#include "vec.h"

/* gemm.c */
void SIMD(tile)(int rows, int chunks, const float *a, const float *b, float *c, int accumulate);
void SIMD(epilogue)(const float *c, int rows, const simd_out *o);
void SIMD(epilogue_geglu)(const float *value, const float *gate, const float *gate_bias, int rows,
                          const simd_out *o);
/* pack.c */
void SIMD(widen)(float *to, const void *from, int dtype, int64_t n);
void SIMD(pack)(float *to, int64_t step, const float *from, int n, float scale);
void SIMD(panel)(void *to, const void *from, size_t size, int64_t stride, int step, int k,
                 int cols);
/* winograd.c */
void SIMD(wino_in)(int m, const float *const *in, float *v, int64_t stride);
void SIMD(wino_out)(int m, const float *c, int64_t stride, float *out);
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
void SIMD(add)(float *y, const float *x, const float *z, int n);
void SIMD(mix)(float *y, const float *coef, const float *x0, const float *x1, const float *x2,
               int n);

#endif
