/* winograd.c - the transforms of Winograd's convolution F(m x m, 3 x 3), m = 2 and 4.
 *
 * Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2015), with the points
 * 0, 1, -1, (2, -2,) infinity. Relative rms error in fp32: about 1e-6 for m = 4.
 */
#include "loops.h"

/* t = B^T d for one line of m + 2 values, `from` and `to` elements apart in arrays. */
INLINE void in_line(const int m, const vf *d, const int from, vf *t, const int to)
{
    if (m == 2) {
        t[0] = d[0] - d[2 * from];
        t[to] = d[from] + d[2 * from];
        t[2 * to] = d[2 * from] - d[from];
        t[3 * to] = d[from] - d[3 * from];
        return;
    }
    vf d1 = d[from], d2 = d[2 * from], d3 = d[3 * from], d4 = d[4 * from];
    vf a = d4 - 4.0f * d2, b = d3 - 4.0f * d1, c = d4 - d2, e = 2.0f * (d3 - d1);
    t[0] = 4.0f * d[0] - 5.0f * d2 + d4;
    t[to] = a + b;
    t[2 * to] = a - b;
    t[3 * to] = c + e;
    t[4 * to] = c - e;
    t[5 * to] = 4.0f * d1 - 5.0f * d3 + d[5 * from];
}

/* t = A^T d: m + 2 values to m. */
INLINE void out_line(const int m, const vf *d, const int from, vf *t, const int to)
{
    vf sum = d[from] + d[2 * from], difference = d[from] - d[2 * from];
    if (m == 2) {
        t[0] = d[0] + sum;
        t[to] = difference - d[3 * from];
        return;
    }
    vf sum2 = d[3 * from] + d[4 * from], difference2 = d[3 * from] - d[4 * from];
    t[0] = d[0] + sum + sum2;
    t[to] = difference + 2.0f * difference2;
    t[2 * to] = sum + 4.0f * sum2;
    t[3 * to] = difference + 8.0f * difference2 + d[5 * from];
}

/* t = G d: 3 values to m + 2. */
INLINE void weight_line(const int m, const vf *d, const int from, vf *t, const int to)
{
    vf sum = d[0] + d[2 * from], middle = d[from];
    if (m == 2) {
        t[0] = d[0];
        t[to] = 0.5f * (sum + middle);
        t[2 * to] = 0.5f * (sum - middle);
        t[3 * to] = d[2 * from];
        return;
    }
    vf far = (d[0] + 4.0f * d[2 * from]) * (1.0f / 24.0f), half = middle * (1.0f / 12.0f);
    t[0] = 0.25f * d[0];
    t[to] = (sum + middle) * (-1.0f / 6.0f);
    t[2 * to] = (sum - middle) * (-1.0f / 6.0f);
    t[3 * to] = far + half;
    t[4 * to] = far - half;
    t[5 * to] = d[2 * from];
}

INLINE void in_tile(const int m, const float *const *in, int channel, float *v, int64_t stride)
{
    const int side = m + 2;
    vf d[6], half[36], t[6];
#pragma GCC unroll 6
    for (int x = 0; x < side; x++) {
#pragma GCC unroll 6
        for (int y = 0; y < side; y++)
            d[y] = vload(in[y * side + x] + channel);
        in_line(m, d, 1, half + x, side);
    }
#pragma GCC unroll 6
    for (int y = 0; y < side; y++) {
        in_line(m, half + y * side, 1, t, 1);
#pragma GCC unroll 6
        for (int x = 0; x < side; x++)
            vstore(v + (y * side + x) * stride + channel, t[x]);
    }
}

void SIMD(wino_in)(int m, const float *const *in, float *v, int64_t stride)
{
    for (int c = 0; c < CHUNK; c += VL)
        if (m == 2)
            in_tile(2, in, c, v, stride);
        else
            in_tile(4, in, c, v, stride);
}

INLINE void out_tile(const int m, const float *c, int64_t stride, float *out)
{
    const int side = m + 2;
    vf d[6], half[24], t[4];
#pragma GCC unroll 6
    for (int x = 0; x < side; x++) {
#pragma GCC unroll 6
        for (int y = 0; y < side; y++)
            d[y] = vload(c + (y * side + x) * stride);
        out_line(m, d, 1, half + x, side);
    }
#pragma GCC unroll 4
    for (int y = 0; y < m; y++) {
        out_line(m, half + y * side, 1, t, 1);
#pragma GCC unroll 4
        for (int x = 0; x < m; x++)
            vstore(out + (y * m + x) * NR, t[x]);
    }
}

void SIMD(wino_out)(int m, const float *c, int64_t stride, float *out)
{
    for (int j = 0; j < NR; j += VL)
        if (m == 2)
            out_tile(2, c + j, stride, out + j);
        else
            out_tile(4, c + j, stride, out + j);
}

INLINE void weight_tile(const int m, const float *taps, float *u, int64_t stride)
{
    const int side = m + 2;
    vf d[3], half[18], t[6];
#pragma GCC unroll 3
    for (int x = 0; x < 3; x++) {
#pragma GCC unroll 3
        for (int y = 0; y < 3; y++)
            d[y] = vload(taps + (y * 3 + x) * NR);
        weight_line(m, d, 1, half + x, 3);
    }
#pragma GCC unroll 6
    for (int y = 0; y < side; y++) {
        weight_line(m, half + y * 3, 1, t, 1);
#pragma GCC unroll 6
        for (int x = 0; x < side; x++)
            vstore(u + (y * side + x) * stride, t[x]);
    }
}

void SIMD(wino_weight)(int m, const float *taps, float *u, int64_t stride)
{
    for (int j = 0; j < NR; j += VL)
        if (m == 2)
            weight_tile(2, taps + j, u + j, stride);
        else
            weight_tile(4, taps + j, u + j, stride);
}
