/* gemm.c - the micro-kernel of all matrix work, its epilogues, and packing of weights.
 *
 * Must stay true: `tile` keeps its rows x 2 accumulators in registers (check the assembly for
 * spills after touching it), so MR follows the number of vector registers.
 */
#include "loops.h"

/* ---- tile ----------------------------------------------------------------------------------- */

INLINE void tile_rows(const int rows, int chunks, const float *a, const float *b, float *c,
                      int accumulate)
{
    vf acc[MR][2];
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
        acc[i][0] = accumulate ? vload(c + i * NR) : (vf){0};
        acc[i][1] = accumulate ? vload(c + i * NR + VL) : (vf){0};
    }
    for (int q = 0; q < chunks; q++, a += (rows - 1) * CHUNK)
#pragma GCC unroll 2
        for (int j = 0; j < CHUNK; j++, a++, b += NR) {
            vf b0 = vload(b), b1 = vload(b + VL);
#pragma GCC unroll 16
            for (int i = 0; i < rows; i++) {
                vf x = vset(a[i * CHUNK]);
                acc[i][0] += x * b0;
                acc[i][1] += x * b1;
            }
        }
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
        vstore(c + i * NR, acc[i][0]);
        vstore(c + i * NR + VL, acc[i][1]);
    }
}

void SIMD(tile)(int rows, int chunks, const float *a, const float *b, float *c,
                int accumulate){ROWS_SWITCH(rows, tile_rows, chunks, a, b, c, accumulate)}

/* ---- epilogues --------------------------------------------------------------------------------
 */

/* `full`: all NR columns. */
INLINE void finish_rows(const float *c, int rows, const simd_out *o, const int act, const int full)
{
    int has_row = o->row[0] != NULL, has_residual = o->residual[0] != NULL;
    int cols = full ? NR : o->cols;
    for (int i = 0; i < rows; i++, c += NR)
#pragma GCC unroll 2
        for (int j = 0; j < cols; j += VL) {
            int n = cols - j, at = o->first + j;
            vf v = vload(c + j) + vload(o->bias + j);
            if (full || n >= VL) {
                if (has_row)
                    v += vload(o->row[i] + at);
                if (has_residual)
                    v += vload(o->residual[i] + at);
                vstore(o->y[i] + at, vact(v, act));
            } else {
                if (has_row)
                    v += vload_n(o->row[i] + at, n);
                if (has_residual)
                    v += vload_n(o->residual[i] + at, n);
                vstore_n(o->y[i] + at, vact(v, act), n);
            }
        }
}

INLINE void finish_as(const float *c, int rows, const simd_out *o, const int act)
{
    if (o->cols == NR)
        finish_rows(c, rows, o, act, 1);
    else
        finish_rows(c, rows, o, act, 0);
}

void SIMD(epilogue)(const float *c, int rows, const simd_out *o)
{
    switch (o->act) {
    case K_RELU:
        finish_as(c, rows, o, K_RELU);
        break;
    case K_SILU:
        finish_as(c, rows, o, K_SILU);
        break;
    case K_GELU:
        finish_as(c, rows, o, K_GELU);
        break;
    case K_QUICK_GELU:
        finish_as(c, rows, o, K_QUICK_GELU);
        break;
    default:
        finish_as(c, rows, o, K_IDENTITY);
    }
}

void SIMD(epilogue_geglu)(const float *value, const float *gate, const float *gate_bias, int rows,
                          const simd_out *o)
{
    for (int i = 0; i < rows; i++, value += NR, gate += NR)
        for (int j = 0; j < o->cols; j += VL) {
            int n = o->cols - j, at = o->first + j;
            vf g = vgelu(vload(gate + j) + vload(gate_bias + j));
            vf v = (vload(value + j) + vload(o->bias + j)) * g;
            if (o->residual[0])
                v += n >= VL ? vload(o->residual[i] + at) : vload_n(o->residual[i] + at, n);
            if (n >= VL)
                vstore(o->y[i] + at, v);
            else
                vstore_n(o->y[i] + at, v, n);
        }
}
