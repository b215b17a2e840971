/* yuv.c - between RGB and planar YUV; see yuv.h. Under source and sinks.
 *
 * 16.16 fixed point: every coefficient is below 2.2, so a sum of three products of 8-bit values
 * stays below 2^26.
 */
#include "yuv.h"

#include <math.h>

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

enum { RUN = 64 }; /* pixels at a time: planes in registers, then interleaved */

FAST static void row_to_rgb(const matrix *m, const uint8_t *restrict y, const uint8_t *restrict u,
                            const uint8_t *restrict v, int half, uint8_t *restrict rgb, int w)
{
    for (int at = 0; at < w; at += RUN, rgb += 3 * RUN) {
        int n = w - at < RUN ? w - at : RUN;
        int l[RUN] = {0}, cu[RUN] = {0}, cv[RUN] = {0};
        uint8_t r[RUN], g[RUN], b[RUN];
        for (int x = 0; x < n; x++) {
            l[x] = m->y * (y[at + x] - m->black) + HALF;
            cu[x] = u[(at + x) >> half] - 128;
            cv[x] = v[(at + x) >> half] - 128;
        }
        for (int x = 0; x < RUN; x++) { /* a constant count vectorises; the surplus is not stored */
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

FAST static void row_to_luma(const matrix *m, const uint8_t *restrict rgb, uint8_t *restrict luma,
                             int w)
{
    for (int x = 0; x < w; x++, rgb += 3)
        luma[x] =
            clamp8(m->black + ((m->yr * rgb[0] + m->yg * rgb[1] + m->yb * rgb[2] + HALF) >> SHIFT));
}

/* Chroma of the mean of 2x2 pixels (a and b are two rows), or of each pixel; at odd edges the last
 * pixel stands for its missing neighbour. */
static void row_to_chroma(const matrix *m, const uint8_t *a, const uint8_t *b, int half, uint8_t *u,
                          uint8_t *v, int w)
{
    int shift = SHIFT + 2 * half, bias = (128 << shift) + (1 << (shift - 1));
    for (int x = 0; x < w; x += 1 + half) {
        int r = a[3 * x], g = a[3 * x + 1], l = a[3 * x + 2];
        if (half) {
            int next = 3 * (x + 1 < w ? x + 1 : x);
            r += a[next] + b[3 * x] + b[next];
            g += a[next + 1] + b[3 * x + 1] + b[next + 1];
            l += a[next + 2] + b[3 * x + 2] + b[next + 2];
        }
        u[x >> half] = clamp8((m->ur * r + m->ug * g + m->ub * l + bias) >> shift);
        v[x >> half] = clamp8((m->vr * r + m->vg * g + m->vb * l + bias) >> shift);
    }
}

void yuv_from_rgb(const scope_video *from, GstVideoFrame *to)
{
    matrix m = make_matrix(&to->info);
    int half = GST_VIDEO_FRAME_FORMAT(to) == GST_VIDEO_FORMAT_I420;
    int w = GST_VIDEO_FRAME_WIDTH(to), h = GST_VIDEO_FRAME_HEIGHT(to);
    for (int y = 0; y < h; y++) {
        const uint8_t *a = (const uint8_t *)from->data + y * from->stride_h;
        row_to_luma(&m, a, (uint8_t *)row_of(to, 0, y), w);
        if (half && y % 2)
            continue;
        const uint8_t *b = half && y + 1 < h ? a + from->stride_h : a;
        row_to_chroma(&m, a, b, half, (uint8_t *)row_of(to, 1, y >> half),
                      (uint8_t *)row_of(to, 2, y >> half), w);
    }
}
