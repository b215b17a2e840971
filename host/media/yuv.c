/* yuv.c - between RGB and planar YUV; see yuv.h. Under source and sinks.
 *
 * 16.16 fixed point: every coefficient is below 2.2, so a sum of three products of 8-bit values
 * stays below 2^26.
 */
#include "yuv.h"

#include <math.h>
#include <string.h>

/* The row loops vectorise, for AVX2 where the machine has it; sanitizers cannot follow the
 * dispatch. */
#if defined __x86_64__ && !defined __SANITIZE_ADDRESS__
#define FAST __attribute__((optimize("O3"), target_clones("default", "arch=x86-64-v3")))
#else
#define FAST __attribute__((optimize("O3")))
#endif

enum { SHIFT = 16, HALF = 1 << (SHIFT - 1) };

typedef struct matrix {
    int black, y, rv, gu, gv, bu;           /* to RGB */
    int yr, yg, yb, ur, ug, ub, vr, vg, vb; /* from RGB */
} matrix;

static int fixed(double x)
{
    return (int)lround(x * (1 << SHIFT));
}

/* Y' = Kr R + Kg G + Kb B;  Cb = (B - Y') / (2 (1 - Kb));  Cr = (R - Y') / (2 (1 - Kr)); ITU-R
 * BT.601-7 section 2.5. Limited range scales Y' to 16..235 and chroma to 16..240. */
static matrix make_matrix(const GstVideoInfo *info)
{
    double kr = 0.299, kb = 0.114;
    if (!gst_video_color_matrix_get_Kr_Kb(info->colorimetry.matrix, &kr, &kb))
        kr = 0.299, kb = 0.114;
    bool full = info->colorimetry.range == GST_VIDEO_COLOR_RANGE_0_255;
    double kg = 1 - kr - kb, ys = full ? 1 : 219.0 / 255, cs = full ? 1 : 224.0 / 255;
    double u = cs / (2 * (1 - kb)), v = cs / (2 * (1 - kr));
    return (matrix){.black = full ? 0 : 16,
                    .y = fixed(1 / ys),
                    .rv = fixed(1 / v),
                    .gu = fixed(-kb / (u * kg)),
                    .gv = fixed(-kr / (v * kg)),
                    .bu = fixed(1 / u),
                    .yr = fixed(ys * kr),
                    .yg = fixed(ys * kg),
                    .yb = fixed(ys * kb),
                    .ur = fixed(-u * kr),
                    .ug = fixed(-u * kg),
                    .ub = fixed(u * (1 - kb)),
                    .vr = fixed(v * (1 - kr)),
                    .vg = fixed(-v * kg),
                    .vb = fixed(-v * kb)};
}

static inline uint8_t clamp8(int x)
{
    return (uint8_t)(x < 0 ? 0 : x > 255 ? 255 : x);
}

bool yuv_reads(const GstVideoFrame *from)
{
    GstVideoFormat f = GST_VIDEO_FRAME_FORMAT(from);
    return f == GST_VIDEO_FORMAT_I420 || f == GST_VIDEO_FORMAT_Y444 || f == GST_VIDEO_FORMAT_GRAY8;
}

static const uint8_t *row_of(const GstVideoFrame *f, int plane, int y)
{
    return (const uint8_t *)GST_VIDEO_FRAME_PLANE_DATA(f, plane) +
           (gssize)y * GST_VIDEO_FRAME_PLANE_STRIDE(f, plane);
}

/* Pixels at a time: planes in registers, then interleaved. Loops over RUN have a constant count,
 * which vectorises; their surplus is not stored. */
enum { RUN = 64 };

/* Chroma of n pixels from `at` on, without its middle. */
static inline void chroma_run(int *restrict c, const uint8_t *restrict plane, int half, int at,
                              int n)
{
    if (half == 1) {
        const uint8_t *from = plane + at / 2; /* RUN is even */
        for (int x = 0; x < (n + 1) / 2; x++)
            c[2 * x] = c[2 * x + 1] = from[x] - 128;
    } else {
        for (int x = 0; x < n; x++)
            c[x] = plane[(at + x) >> half] - 128;
    }
}

FAST static void row_to_rgb(const matrix *m, const uint8_t *restrict y, const uint8_t *restrict u,
                            const uint8_t *restrict v, int half, uint8_t *restrict rgb, int w)
{
    for (int at = 0; at < w; at += RUN, rgb += 3 * RUN) {
        int n = w - at < RUN ? w - at : RUN;
        int l[RUN] = {0}, cu[RUN] = {0}, cv[RUN] = {0};
        uint8_t r[RUN], g[RUN], b[RUN];
        for (int x = 0; x < n; x++)
            l[x] = m->y * (y[at + x] - m->black) + HALF;
        chroma_run(cu, u, half, at, n);
        chroma_run(cv, v, half, at, n);
        for (int x = 0; x < RUN; x++) {
            r[x] = clamp8((l[x] + m->rv * cv[x]) >> SHIFT);
            g[x] = clamp8((l[x] + m->gu * cu[x] + m->gv * cv[x]) >> SHIFT);
            b[x] = clamp8((l[x] + m->bu * cu[x]) >> SHIFT);
        }
        for (int x = 0; x < n; x++) {
            rgb[3 * x] = r[x];
            rgb[3 * x + 1] = g[x];
            rgb[3 * x + 2] = b[x];
        }
    }
}

void yuv_to_rgb(const GstVideoFrame *from, const scope_video *to)
{
    static const uint8_t neutral = 128; /* the chroma of grey, for every x >> 31 */
    matrix m = make_matrix(&from->info);
    bool grey = GST_VIDEO_FRAME_N_PLANES(from) < 3;
    int half = GST_VIDEO_FRAME_FORMAT(from) == GST_VIDEO_FORMAT_I420;
    for (int y = 0; y < to->h; y++) {
        const uint8_t *u = grey ? &neutral : row_of(from, 1, y >> half);
        const uint8_t *v = grey ? &neutral : row_of(from, 2, y >> half);
        row_to_rgb(&m, row_of(from, 0, y), u, v, grey ? 31 : half,
                   (uint8_t *)to->data + y * to->stride_h, to->w);
    }
}

typedef struct planes {
    uint8_t r[RUN], g[RUN], b[RUN];
} planes;

/* n pixels; at an odd end the last one stands for its missing neighbour. */
static inline void read_run(planes *p, const uint8_t *restrict rgb, int n)
{
    for (int x = 0; x < n; x++) {
        p->r[x] = rgb[3 * x];
        p->g[x] = rgb[3 * x + 1];
        p->b[x] = rgb[3 * x + 2];
    }
    if (n & 1) {
        p->r[n] = p->r[n - 1];
        p->g[n] = p->g[n - 1];
        p->b[n] = p->b[n - 1];
    }
}

static inline void luma_run(const matrix *m, const planes *p, uint8_t *restrict luma, int n)
{
    uint8_t l[RUN];
    for (int x = 0; x < RUN; x++)
        l[x] = clamp8(m->black +
                      ((m->yr * p->r[x] + m->yg * p->g[x] + m->yb * p->b[x] + HALF) >> SHIFT));
    memcpy(luma, l, (size_t)n);
}

/* n values of chroma, of sums over 1 << (shift - SHIFT) pixels. */
static inline void chroma_of(const matrix *m, int (*restrict sum)[RUN], int shift,
                             uint8_t *restrict u, uint8_t *restrict v, int n)
{
    int bias = (128 << shift) + (1 << (shift - 1));
    uint8_t cu[RUN], cv[RUN];
    for (int x = 0; x < RUN; x++) {
        cu[x] = clamp8((m->ur * sum[0][x] + m->ug * sum[1][x] + m->ub * sum[2][x] + bias) >> shift);
        cv[x] = clamp8((m->vr * sum[0][x] + m->vg * sum[1][x] + m->vb * sum[2][x] + bias) >> shift);
    }
    memcpy(u, cu, (size_t)n);
    memcpy(v, cv, (size_t)n);
}

static inline void sum_2x2(int *restrict sum, const uint8_t *restrict a, const uint8_t *restrict b)
{
    for (int x = 0; x < RUN / 2; x++)
        sum[x] = a[2 * x] + a[2 * x + 1] + b[2 * x] + b[2 * x + 1];
}

/* Two rows of 4:2:0; chroma is that of the mean of 2x2 pixels. */
FAST static void rows_420(const matrix *m, const uint8_t *const rgb[2], uint8_t *const luma[2],
                          uint8_t *u, uint8_t *v, int w)
{
    for (int at = 0; at < w; at += RUN) {
        int n = w - at < RUN ? w - at : RUN;
        planes p[2] = {0};
        int sum[3][RUN] = {0};
        for (int row = 0; row < 2; row++) {
            read_run(&p[row], rgb[row] + 3 * at, n);
            luma_run(m, &p[row], luma[row] + at, n);
        }
        sum_2x2(sum[0], p[0].r, p[1].r);
        sum_2x2(sum[1], p[0].g, p[1].g);
        sum_2x2(sum[2], p[0].b, p[1].b);
        chroma_of(m, sum, SHIFT + 2, u + at / 2, v + at / 2, (n + 1) / 2);
    }
}

FAST static void row_444(const matrix *m, const uint8_t *rgb, uint8_t *luma, uint8_t *u, uint8_t *v,
                         int w)
{
    for (int at = 0; at < w; at += RUN) {
        int n = w - at < RUN ? w - at : RUN;
        planes p = {0};
        int sum[3][RUN];
        read_run(&p, rgb + 3 * at, n);
        luma_run(m, &p, luma + at, n);
        for (int x = 0; x < RUN; x++) {
            sum[0][x] = p.r[x];
            sum[1][x] = p.g[x];
            sum[2][x] = p.b[x];
        }
        chroma_of(m, sum, SHIFT, u + at, v + at, n);
    }
}

void yuv_from_rgb(const scope_video *from, GstVideoFrame *to)
{
    matrix m = make_matrix(&to->info);
    int half = GST_VIDEO_FRAME_FORMAT(to) == GST_VIDEO_FORMAT_I420;
    int w = GST_VIDEO_FRAME_WIDTH(to), h = GST_VIDEO_FRAME_HEIGHT(to);
    for (int y = 0; y < h; y += 1 + half) {
        int last = y + half < h ? y + half : y; /* the lower edge stands for what is below */
        const uint8_t *rgb[2] = {(const uint8_t *)from->data + y * from->stride_h,
                                 (const uint8_t *)from->data + last * from->stride_h};
        uint8_t *luma[2] = {(uint8_t *)row_of(to, 0, y), (uint8_t *)row_of(to, 0, last)};
        uint8_t *u = (uint8_t *)row_of(to, 1, y >> half), *v = (uint8_t *)row_of(to, 2, y >> half);
        if (half)
            rows_420(&m, rgb, luma, u, v, w);
        else
            row_444(&m, rgb[0], luma[0], u, v, w);
    }
}
