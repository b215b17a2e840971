/* simd.h - the inner loops of the CPU backend, one table of them per instruction set.
 *
 * device.c picks a table once. All matrix work goes through `tile`: A and B come in packed
 * layouts, C leaves as a dense micro-tile, and an epilogue writes it to where it belongs.
 *
 *   A  [k/16][rows][16]   up to mr rows, reduction in chunks of 16, zero padded
 *   B  [k][nr]            one panel of nr columns
 *   C  [rows][nr]
 */
#ifndef KERNELS_CPU_SIMD_H
#define KERNELS_CPU_SIMD_H

#include "../../kernels.h"

enum { CHUNK = 16, MAX_MR = 12, MAX_NR = 32, MAX_OUT = 16 };

static inline int round_up(int n, int to)
{
    return (n + to - 1) / to * to;
}

/* Where a finished micro-tile goes: y = act(c + bias + row + residual) in the columns
 * [first, first + cols). */
typedef struct simd_out {
    float *y[MAX_OUT];              /* each row */
    const float *row[MAX_OUT];      /* added per row; the first NULL: none */
    const float *residual[MAX_OUT]; /* added per row; the first NULL: none */
    const float *bias;              /* of `first` on: nr floats, zero padded; never NULL */
    int first, cols, act;
} simd_out;

/* Rows of A where they lie: row i begins at a + i * step and is `runs` runs of `run` floats, whose
 * beginnings are `jump` floats apart. */
typedef struct simd_runs {
    const float *a;
    int64_t step, jump;
    int runs, run;
} simd_runs;

/* One head of attention, prepared: keys as panels [tk / nr][d16][nr], values as panels
 * [d / nr][tk16][nr], each zero padded (d16: d rounded up to CHUNK). */
typedef struct simd_head {
    const float *keys, *values;
    int tk, d;
    float *scratch; /* simd_attend_scratch floats */
} simd_head;

enum {
    SIMD_FEW = 4,       /* columns that `dots` takes */
    SIMD_KEYS = 256,    /* keys in one step of attention */
    SIMD_SUM_ROWS = 32, /* rows that `sums` may add in fp32 before it moves to fp64 */
};

typedef struct simd {
    const char *name;
    int vl, mr, nr;

    /* ---- matrices (gemm.c) ---- */
    /* c [rows][nr] (+)= a b over `chunks` chunks of 16 */
    void (*tile)(int rows, int chunks, const float *a, const float *b, float *c, int accumulate);
    void (*epilogue)(const float *c, int rows, const simd_out *o);
    /* y = (value + bias) * gelu(gate + gate_bias) */
    void (*epilogue_geglu)(const float *value, const float *gate, const float *gate_bias, int rows,
                           const simd_out *o);
    /* ---- the same in place (direct.c) ---- */
    /* c [rows][nr] = a b */
    void (*tile_runs)(int rows, const simd_runs *a, const float *b, float *c);
    /* the same for `outs` columns, at most SIMD_FEW, of simd_dots_rows(outs) rows; a run is a
     * multiple of 16 floats, w is [outs][runs * run] */
    void (*dots)(int outs, const simd_runs *a, const float *w, float *c);

    /* ---- packing (pack.c) ---- */
    /* n elements of a packed panel, or n bytes of pixels (to 0..1), to floats */
    void (*widen)(float *to, const void *from, int dtype, int64_t n);
    /* n floats to a float type, to nearest, held within its range */
    void (*narrow)(void *to, const float *from, int dtype, int64_t n);
    /* to = from + c, narrowed: `cols` elements, at most nr, of rows that lie `stride` elements
     * apart; those of c lie nr apart */
    void (*merge)(void *to, const void *from, int dtype, int64_t stride, const float *c, int rows,
                  int cols);
    /* one row of A: n floats, scaled, to chunks that lie `step` floats apart, zero padded */
    void (*pack)(float *to, int64_t step, const float *from, int n, float scale);
    /* Rows of a file become columns of a panel: to[k][j] = from[j * stride + k * step] for
     * j < cols, elements of `size` bytes as they are; other columns are left alone. */
    void (*panel)(void *to, const void *from, size_t size, int64_t stride, int step, int k,
                  int cols);

    /* ---- Winograd (winograd.c); m outputs a side, m + 2 inputs, (m + 2)^2 positions ---- */
    /* in: pixels of one tile, (m+2)^2 pointers to chunks of 16 channels, or (m/2+2)^2 where `up`
     * doubles the picture; out: position p of a chunk goes to v + p * stride, 16 floats each, and
     * chunks lie `step` floats apart. With `up` the positions of row and column 2 are zero, not
     * written and, by wino_out, not read. */
    void (*wino_in)(int m, int up, const float *const *in, int chunks, float *v, int64_t step,
                    int64_t stride);
    /* one panel of one tile: position p lies at c + p * stride, nr floats each;
     * out: [m * m][nr] sums, to be finished by an epilogue */
    void (*wino_out)(int m, int up, const float *c, int64_t stride, float *out);

    /* taps: [9][nr] of one input channel; u: position p at u + p * stride, nr floats each */
    void (*wino_weight)(int m, const float *taps, float *u, int64_t stride);

    /* ---- attention (attention.c) ---- */
    /* y rows = softmax(q keys) values; q packed like A with the scale folded in; row i sees
     * keys [0, limit + i) when limit > 0, all keys when it is 0 */
    void (*attend)(const simd_head *h, const float *q, int rows, int limit, float *const *y);

    /* ---- rows (rows.c) ---- */
    /* per column: sum and square += of x - shift over some rows, at most SIMD_SUM_ROWS */
    void (*sums)(const float *x, int64_t ld, int rows, const float *shift, int n, double *sum,
                 double *square);
    /* y = act((x - mean) * scale + shift), per column */
    void (*normalise)(float *y, const float *x, const float *mean, const float *scale,
                      const float *shift, int n, int act);
    void (*layer_norm)(float *y, const float *x, const float *gamma, const float *beta, int n,
                       float eps);
    void (*activate)(float *y, const float *x, int n, int act);
    void (*soft_clamp)(float *y, const float *x, int n, float limit);
    void (*add)(float *y, const float *x, const float *z, int n);
    void (*mix)(float *y, const float *coef, const float *x0, const float *x1, const float *x2,
                int n);
} simd;

static inline int simd_dots_rows(int outs)
{
    return 12 / outs;
}

static inline size_t simd_attend_scratch(const simd *s, int d)
{
    return (size_t)s->mr * (SIMD_KEYS * 2 + (size_t)round_up(d, s->nr));
}

extern const simd simd_base;
#if defined(__x86_64__)
extern const simd simd_avx2, simd_avx512;
#endif

#endif
