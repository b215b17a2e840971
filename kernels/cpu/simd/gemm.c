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

#define TILE_CASE(n)                                                                               \
    case n:                                                                                        \
        tile_rows(n, chunks, a, b, c, accumulate);                                                 \
        break;

void SIMD(tile)(int rows, int chunks, const float *a, const float *b, float *c, int accumulate)
{
    switch (rows) {
        TILE_CASE(1)
        TILE_CASE(2)
        TILE_CASE(3)
        TILE_CASE(4)
        TILE_CASE(5)
        TILE_CASE(6)
#if defined(__AVX512F__) || defined(__aarch64__)
        TILE_CASE(7)
        TILE_CASE(8)
        TILE_CASE(9)
        TILE_CASE(10)
        TILE_CASE(11)
        TILE_CASE(12)
#endif
    default:
        __builtin_unreachable();
    }
}

/* ---- epilogues --------------------------------------------------------------------------------
 */

INLINE void finish_rows(const float *c, int rows, const simd_out *o, const int act)
{
    int has_row = o->row[0] != NULL, has_residual = o->residual[0] != NULL;
    for (int i = 0; i < rows; i++, c += NR)
        for (int j = 0; j < o->cols; j += VL) {
            int n = o->cols - j;
            vf v = vload(c + j) + vload(o->bias + j);
            if (n >= VL) {
                if (has_row)
                    v += vload(o->row[i] + j);
                if (has_residual)
                    v += vload(o->residual[i] + j);
                vstore(o->y[i] + j, vact(v, act));
            } else {
                if (has_row)
                    v += vload_n(o->row[i] + j, n);
                if (has_residual)
                    v += vload_n(o->residual[i] + j, n);
                vstore_n(o->y[i] + j, vact(v, act), n);
            }
        }
}

void SIMD(epilogue)(const float *c, int rows, const simd_out *o)
{
    switch (o->act) {
    case K_RELU:
        finish_rows(c, rows, o, K_RELU);
        break;
    case K_SILU:
        finish_rows(c, rows, o, K_SILU);
        break;
    case K_GELU:
        finish_rows(c, rows, o, K_GELU);
        break;
    case K_QUICK_GELU:
        finish_rows(c, rows, o, K_QUICK_GELU);
        break;
    default:
        finish_rows(c, rows, o, K_IDENTITY);
    }
}

void SIMD(epilogue_geglu)(const float *value, const float *gate, const float *gate_bias, int rows,
                          const simd_out *o)
{
    for (int i = 0; i < rows; i++, value += NR, gate += NR)
        for (int j = 0; j < o->cols; j += VL) {
            int n = o->cols - j;
            vf g = vgelu(vload(gate + j) + vload(gate_bias + j));
            vf v = (vload(value + j) + vload(o->bias + j)) * g;
            if (o->residual[0])
                v += n >= VL ? vload(o->residual[i] + j) : vload_n(o->residual[i] + j, n);
            if (n >= VL)
                vstore(o->y[i] + j, v);
            else
                vstore_n(o->y[i] + j, v, n);
        }
}
