/* direct.c - products whose rows of A stay where they are, for many columns and for a few.
 *
 * Must stay true: both keep their accumulators in registers, as gemm.c's `tile` does.
 */
#include "loops.h"

INLINE void tile_runs_rows(const int rows, const simd_runs *r, const float *b, float *c)
{
    vf acc[MR][2];
    const float *line = r->a;
    int64_t step = r->step;
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++)
        acc[i][0] = acc[i][1] = (vf){0};
    for (int q = 0; q < r->runs; q++, line += r->jump) {
        const float *a[MR / 3];
#pragma GCC unroll 4
        for (int i = 0; i < MR / 3; i++)
            a[i] = line + 3 * i * step;
        for (int j = 0; j < r->run; j++, b += NR) {
            vf b0 = vload(b), b1 = vload(b + VL);
#pragma GCC unroll 16
            for (int i = 0; i < rows; i++) {
                vf x = vset(a[i / 3][i % 3 * step + j]);
                acc[i][0] += x * b0;
                acc[i][1] += x * b1;
            }
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
        vstore(c + i * NR, acc[i][0]);
        vstore(c + i * NR + VL, acc[i][1]);
    }
}

void SIMD(tile_runs)(int rows, const simd_runs *a, const float *b,
                     float *c){ROWS_SWITCH(rows, tile_runs_rows, a, b, c)}

/* ---- dots: a few columns, each a product of two rows -------------------------------------------
 */

/* `outs` columns and as many rows as make 12 accumulators. */
INLINE void dots_outs(const int outs, const simd_runs *r, const float *w, float *c)
{
    enum { SUMS = 12 };
    const int rows = SUMS / outs;
    vf acc[SUMS];
    const float *line = r->a;
    int64_t depth = (int64_t)r->runs * r->run;
#pragma GCC unroll 12
    for (int i = 0; i < SUMS; i++)
        acc[i] = (vf){0};
    for (int q = 0; q < r->runs; q++, line += r->jump)
        for (int j = 0; j < r->run; j += VL, w += VL) {
            vf b[SIMD_FEW];
#pragma GCC unroll 4
            for (int o = 0; o < outs; o++)
                b[o] = vload(w + o * depth);
#pragma GCC unroll 12
            for (int i = 0; i < rows; i++) {
                vf x = vload(line + i * r->step + j);
#pragma GCC unroll 4
                for (int o = 0; o < outs; o++)
                    acc[i * outs + o] += x * b[o];
            }
        }
#pragma GCC unroll 12
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int o = 0; o < outs; o++)
            c[i * NR + o] = vsum(acc[i * outs + o]);
}

void SIMD(dots)(int outs, const simd_runs *a, const float *w, float *c)
{
    switch (outs) {
    case 1:
        dots_outs(1, a, w, c);
        break;
    case 2:
        dots_outs(2, a, w, c);
        break;
    case 3:
        dots_outs(3, a, w, c);
        break;
    default:
        dots_outs(4, a, w, c);
    }
}
