/* rows.c - loops over the channels of a row: norms, activations, sums. */
#include "loops.h"

INLINE void sums_of(const float *x, int64_t ld, int rows, vf shift, int n, double *sum,
                    double *square)
{
    vf s = {0}, q = {0};
    for (int r = 0; r < rows; r++) {
        vf v = (n == VL ? vload(x + r * ld) : vload_n(x + r * ld, n)) - shift;
        s += v;
        q += v * v;
    }
    for (int i = 0; i < n; i++) {
        sum[i] += (double)s[i];
        square[i] += (double)q[i];
    }
}

void SIMD(sums)(const float *x, int64_t ld, int rows, const float *shift, int n, double *sum,
                double *square)
{
    int j = 0;
    for (; j + VL <= n; j += VL)
        sums_of(x + j, ld, rows, vload(shift + j), VL, sum + j, square + j);
    if (j < n)
        sums_of(x + j, ld, rows, vload_n(shift + j, n - j), n - j, sum + j, square + j);
}

INLINE void normalise_as(float *y, const float *x, const float *mean, const float *scale,
                         const float *shift, int n, const int act)
{
    int j = 0;
    for (; j + VL <= n; j += VL) {
        vf v = vload(x + j) - vload(mean + j);
        vstore(y + j, vact(v * vload(scale + j) + vload(shift + j), act));
    }
    if (j < n) {
        vf v = vload_n(x + j, n - j) - vload_n(mean + j, n - j);
        v = v * vload_n(scale + j, n - j) + vload_n(shift + j, n - j);
        vstore_n(y + j, vact(v, act), n - j);
    }
}

void SIMD(normalise)(float *y, const float *x, const float *mean, const float *scale,
                     const float *shift, int n, int act)
{
    if (act == K_IDENTITY)
        normalise_as(y, x, mean, scale, shift, n, K_IDENTITY);
    else if (act == K_SILU)
        normalise_as(y, x, mean, scale, shift, n, K_SILU);
    else
        normalise_as(y, x, mean, scale, shift, n, act);
}

void SIMD(layer_norm)(float *y, const float *x, const float *gamma, const float *beta, int n,
                      float eps)
{
    int whole = n / VL * VL, rest = n - whole;
    vf sum = {0};
    for (int j = 0; j < whole; j += VL)
        sum += vload(x + j);
    if (rest)
        sum += vload_n(x + whole, rest);
    float mean = vsum(sum) / (float)n;
    /* The second pass reads from L1 and cannot cancel. */
    vf square = {0};
    for (int j = 0; j < whole; j += VL) {
        vf v = vload(x + j) - mean;
        square += v * v;
    }
    float extra = 0;
    for (int j = whole; j < n; j++)
        extra += (x[j] - mean) * (x[j] - mean);
    float scale = 1.0f / __builtin_sqrtf((vsum(square) + extra) / (float)n + eps);
    for (int j = 0; j < whole; j += VL)
        vstore(y + j, (vload(x + j) - mean) * scale * vload(gamma + j) + vload(beta + j));
    for (int j = whole; j < n; j++)
        y[j] = (x[j] - mean) * scale * gamma[j] + beta[j];
}

INLINE void activate_as(float *y, const float *x, int n, const int act)
{
    int j = 0;
    for (; j + VL <= n; j += VL)
        vstore(y + j, vact(vload(x + j), act));
    if (j < n)
        vstore_n(y + j, vact(vload_n(x + j, n - j), act), n - j);
}

void SIMD(activate)(float *y, const float *x, int n, int act)
{
    switch (act) {
    case K_RELU:
        activate_as(y, x, n, K_RELU);
        break;
    case K_SILU:
        activate_as(y, x, n, K_SILU);
        break;
    case K_GELU:
        activate_as(y, x, n, K_GELU);
        break;
    case K_QUICK_GELU:
        activate_as(y, x, n, K_QUICK_GELU);
        break;
    default:
        memmove(y, x, 4 * (size_t)n);
    }
}

void SIMD(soft_clamp)(float *y, const float *x, int n, float limit)
{
    int j = 0;
    for (; j + VL <= n; j += VL)
        vstore(y + j, limit * vtanh(vload(x + j) / limit));
    if (j < n)
        vstore_n(y + j, limit * vtanh(vload_n(x + j, n - j) / limit), n - j);
}

void SIMD(add)(float *y, const float *x, const float *z, int n)
{
    for (int j = 0; j < n; j++)
        y[j] = x[j] + z[j];
}

void SIMD(mix)(float *y, const float *coef, const float *x0, const float *x1, const float *x2,
               int n)
{
    for (int j = 0; j < n; j++) {
        float v = coef[0] * x0[j];
        if (x1)
            v += coef[1] * x1[j];
        if (x2)
            v += coef[2] * x2[j];
        y[j] = v;
    }
}
