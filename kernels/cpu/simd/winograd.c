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

/* The same where neighbours are equal: the m / 2 + 2 values d[0], d[1], d[1], d[2] (, d[2], d[3]).
 * t[2], of the point -1, is zero and left out. */
INLINE void in_line_up(const int m, const vf *d, const int from, vf *t, const int to)
{
    vf d1 = d[from], d2 = d[2 * from];
    if (m == 2) {
        t[0] = d[0] - d1;
        t[to] = d1 + d1;
        t[3 * to] = d1 - d2;
        return;
    }
    vf step = d2 - d1;
    t[0] = 4.0f * d[0] - 5.0f * d1 + d2;
    t[to] = 2.0f * d2 - 8.0f * d1;
    t[3 * to] = 3.0f * step;
    t[4 * to] = -step;
    t[5 * to] = 4.0f * d1 - 5.0f * d2 + d[3 * from];
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

INLINE void in_tile(const int m, const int up, const float *const *in, int channel, float *v,
                    int64_t stride)
{
    const int side = m + 2, reach = up ? m / 2 + 2 : side;
    vf d[6], half[36], t[6];
#pragma GCC unroll 1
    for (int x = 0; x < reach; x++) {
#pragma GCC unroll 6
        for (int y = 0; y < reach; y++)
            d[y] = vload(in[y * reach + x] + channel);
        if (up)
            in_line_up(m, d, 1, half + x, reach);
        else
            in_line(m, d, 1, half + x, reach);
    }
#pragma GCC unroll 1
    for (int y = 0; y < side; y++) {
        if (up && y == 2)
            continue;
        if (up)
            in_line_up(m, half + y * reach, 1, t, 1);
        else
            in_line(m, half + y * reach, 1, t, 1);
#pragma GCC unroll 6
        for (int x = 0; x < side; x++)
            if (!up || x != 2)
                vstore(v + (y * side + x) * stride + channel, t[x]);
    }
}

void SIMD(wino_in)(int m, int up, const float *const *in, int chunks, float *v, int64_t step,
                   int64_t stride)
{
    for (int c = 0; c < chunks * CHUNK; c += VL) {
        float *to = v + c / CHUNK * (step - CHUNK);
        if (m == 2 && up)
            in_tile(2, 1, in, c, to, stride);
        else if (m == 2)
            in_tile(2, 0, in, c, to, stride);
        else if (up)
            in_tile(4, 1, in, c, to, stride);
        else
            in_tile(4, 0, in, c, to, stride);
    }
}

INLINE void out_tile(const int m, const int up, const float *c, int64_t stride, float *out)
{
    const int side = m + 2;
    vf d[6], half[24], t[4];
#pragma GCC unroll 1
    for (int x = 0; x < side; x++) {
        if (up && x == 2)
            continue;
#pragma GCC unroll 6
        for (int y = 0; y < side; y++)
            d[y] = up && y == 2 ? (vf){0} : vload(c + (y * side + x) * stride);
        out_line(m, d, 1, half + x, side);
    }
#pragma GCC unroll 1
    for (int y = 0; y < m; y++) {
        if (up)
            half[y * side + 2] = (vf){0};
        out_line(m, half + y * side, 1, t, 1);
#pragma GCC unroll 4
        for (int x = 0; x < m; x++)
            vstore(out + (y * m + x) * NR, t[x]);
    }
}

void SIMD(wino_out)(int m, int up, const float *c, int64_t stride, float *out)
{
    for (int j = 0; j < NR; j += VL)
        if (m == 2 && up)
            out_tile(2, 1, c + j, stride, out + j);
        else if (m == 2)
            out_tile(2, 0, c + j, stride, out + j);
        else if (up)
            out_tile(4, 1, c + j, stride, out + j);
        else
            out_tile(4, 0, c + j, stride, out + j);
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
