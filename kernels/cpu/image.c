/* image.c - the host's pixels to tensors and back.
 *
 * Resizing is torch's interpolate(mode="bilinear", antialias=True, align_corners=False): a
 * triangle of two source pixels' width, widened by the ratio when shrinking. Columns of the
 * source are summed first, then rows, so a source pixel is widened once for each output row.
 */
#include "cpu.h"

#include <math.h>
#include <omp.h>
#include <string.h>

/* Taps of one output position along one axis. */
typedef struct taps {
    int first, count;
    float *weight;
} taps;

static int most_taps(int in, int out)
{
    double scale = (double)in / out;
    return 2 * (int)ceil(scale > 1 ? scale : 1) + 2;
}

static void find_taps(int in, int out, int i, taps *t)
{
    double scale = (double)in / out, wide = scale > 1 ? scale : 1;
    double center = scale * (i + 0.5), total = 0;
    int first = (int)(center - wide + 0.5), end = (int)(center + wide + 0.5);
    t->first = first > 0 ? first : 0;
    t->count = (end < in ? end : in) - t->first;
    for (int j = 0; j < t->count; j++) {
        double distance = fabs(t->first + j - center + 0.5) / wide;
        t->weight[j] = distance < 1 ? (float)(1 - distance) : 0;
        total += t->weight[j];
    }
    for (int j = 0; j < t->count; j++)
        t->weight[j] = (float)(t->weight[j] / total);
    while (t->weight[t->count - 1] == 0) /* of equal sizes one tap stays */
        t->count--;
}

static const void *image_row(const k_image *image, int64_t t, int64_t y)
{
    return (const char *)image->data + t * image->stride_t + y * image->stride_h;
}

/* to = the sum of a column's taps over rows of the source, in 0..1 */
static void sum_rows(const cpu_device *d, const k_image *src, int64_t t, const taps *v, float *to,
                     float *wide)
{
    int n = src->w * src->c;
    d->simd->widen(to, image_row(src, t, v->first), src->dtype, n);
    if (v->count == 1)
        return;
    d->simd->mix(to, v->weight, to, NULL, NULL, n);
    for (int j = 1; j < v->count; j++) {
        float coef[2] = {1, v->weight[j]};
        d->simd->widen(wide, image_row(src, t, v->first + j), src->dtype, n);
        d->simd->mix(to, coef, to, wide, NULL, n);
    }
}

static int image_holds(k_ctx *k, const char *op, const k_image *i, k_tensor t, int channels)
{
    k_tensor picture = {.n = i->t, .h = i->h, .w = i->w, .c = i->c};
    return k_check(k, i->dtype == K_U8 || i->dtype == K_F16 || i->dtype == K_F32, op,
                   "pixels must be u8, f16 or f32 (x is the image)", t, picture, (k_tensor){0}) &&
           k_check(k, i->c == 1 || i->c == 3 || i->c == 4, op,
                   "pixels must have 1, 3 or 4 channels (x is the image)", t, picture,
                   (k_tensor){0}) &&
           k_check(k, t.dtype == K_F32 && t.c == channels && t.n == i->t && i->h > 0 && i->w > 0,
                   op,
                   channels == 1 ? "the tensor must be f32 [t, h, w, 1] (x is the image)"
                                 : "the tensor must be f32 [t, h, w, 3] (x is the image)",
                   t, picture, (k_tensor){0});
}

typedef struct columns {
    int most;       /* taps of one column */
    taps *at;       /* [w] */
    float *weights; /* [w][most] */
} columns;

/* y = scale * x + bias */
static void shift_row(float *y, const float *x, int n, float scale, float bias)
{
#pragma omp simd
    for (int i = 0; i < n; i++)
        y[i] = scale * x[i] + bias;
}

/* The mask of a line of c channels, in place. */
static void line_to_mask(float *line, int w, int c)
{
    for (int x = 0; x < w && c != 1; x++) {
        const float *from = line + (int64_t)x * c;
        line[x] = c == 4 ? from[3] : 0.299f * from[0] + 0.587f * from[1] + 0.114f * from[2];
    }
}

static void mask_row(const cpu_device *d, const k_image *src, k_tensor y, int64_t r,
                     const columns *c, float *own)
{
    float *line = own, *wide = line + (int64_t)src->w * src->c;
    taps v = {.weight = wide + (int64_t)src->w * src->c};
    find_taps(src->h, y.h, (int)(r % y.h), &v);
    sum_rows(d, src, r / y.h, &v, line, wide);
    line_to_mask(line, src->w, src->c);
    for (int x = 0; x < y.w; x++) {
        const taps *t = &c->at[x];
        float sum = 0;
        for (int j = 0; j < t->count; j++)
            sum += t->weight[j] * line[t->first + j];
        *cpu_row(y, r * y.w + x) = sum;
    }
}

static void resize_row(const cpu_device *d, const k_image *src, k_tensor y, int64_t r,
                       const columns *c, float *own, float scale, float bias)
{
    int n = src->w * src->c, step = src->c == 1 ? 0 : 1;
    float *line = own, *wide = line + n;
    taps v = {.weight = wide + n};
    find_taps(src->h, y.h, (int)(r % y.h), &v);
    sum_rows(d, src, r / y.h, &v, line, wide);
    if (src->w == y.w && src->c == 3 && y.ld == 3) {
        shift_row(cpu_row(y, r * y.w), line, n, scale, bias);
        return;
    }
    for (int x = 0; x < y.w; x++) {
        const taps *t = &c->at[x];
        float sum[3] = {0};
        for (int j = 0; j < t->count; j++)
            for (int i = 0; i < 3; i++)
                sum[i] += t->weight[j] * line[(t->first + j) * src->c + i * step];
        for (int i = 0; i < 3; i++)
            cpu_row(y, r * y.w + x)[i] = scale * sum[i] + bias;
    }
}

static void resize(k_ctx *k, const char *op, k_tensor y, const k_image *src, float scale,
                   float bias)
{
    const cpu_device *d = cpu_of(k);
    columns c = {.most = most_taps(src->w, y.w)};
    size_t width = (size_t)y.w, line = (size_t)src->w * (size_t)src->c;
    size_t shared = width * (sizeof(taps) + sizeof(float) * (size_t)c.most);
    size_t own = 4 * (2 * line + (size_t)most_taps(src->h, y.h)) / 64 * 64 + 64;
    shared = (shared + 63) / 64 * 64;
    char *scratch = cpu_scratch(k, op, shared + own * (size_t)d->threads);
    if (k->planning || k->status)
        return;
    c.at = (taps *)scratch;
    c.weights = (float *)(scratch + width * sizeof(taps));
    for (int x = 0; x < y.w; x++) {
        c.at[x].weight = c.weights + (size_t)x * (size_t)c.most;
        find_taps(src->w, y.w, x, &c.at[x]);
    }
    int64_t rows = (int64_t)y.n * y.h;
#pragma omp parallel for schedule(static) num_threads(d->threads)
    for (int64_t r = 0; r < rows; r++) {
        float *mine = (float *)(scratch + shared + own * (size_t)omp_get_thread_num());
        if (y.c == 1)
            mask_row(d, src, y, r, &c, mine);
        else
            resize_row(d, src, y, r, &c, mine, scale, bias);
    }
}

void cpu_image_in(k_ctx *k, k_tensor y, const k_image *src, float scale, float bias)
{
    if (image_holds(k, "image_in", src, y, 3))
        resize(k, "image_in", y, src, scale, bias);
}

void cpu_mask_in(k_ctx *k, k_tensor y, const k_image *src)
{
    if (image_holds(k, "mask_in", src, y, 1))
        resize(k, "mask_in", y, src, 1, 0);
}

/* ---- out ------------------------------------------------------------------------------------- */

enum { BLOCK = 64 }; /* pixels that go through the three steps at once */

/* to = clamp(scale * x + bias, 0, 1) of `pixels` pixels that lie ld floats apart; NaN becomes 0 */
static void clamp_pixels(float *to, const float *x, int ld, int pixels, float scale, float bias)
{
    float moved[3 * BLOCK];
    if (ld != 3) {
        for (int i = 0; i < 3 * pixels; i++)
            moved[i] = x[i / 3 * ld + i % 3];
        x = moved;
    }
#pragma omp simd
    for (int i = 0; i < 3 * pixels; i++) {
        float v = scale * x[i] + bias;
        v = v > 0 ? v : 0;
        to[i] = v < 1 ? v : 1;
    }
}

/* Red, green, blue to c channels. */
static void spread_pixels(float *to, const float *rgb, int pixels, int c)
{
    for (int i = 0; i < pixels; i++, rgb += 3, to += c) {
        if (c == 1) {
            float grey = 0.299f * rgb[0] + 0.587f * rgb[1] + 0.114f * rgb[2];
            to[0] = grey < 1 ? grey : 1;
            continue;
        }
        memcpy(to, rgb, 3 * sizeof *rgb);
        to[3] = 1.0f;
    }
}

/* A float of 0..1 to half, nearest even. */
static uint16_t half_of(float x)
{
    float small = x * 0x1p-112f; /* the two exponents' biases differ by 112 */
    uint32_t bits;
    memcpy(&bits, &small, sizeof bits);
    return (uint16_t)((bits + 0xfff + ((bits >> 13) & 1)) >> 13);
}

/* Floats of 0..1 to the image's type. */
static void put_values(void *to, int dtype, const float *value, int n)
{
    if (dtype == K_F32) {
        memcpy(to, value, sizeof *value * (size_t)n);
    } else if (dtype == K_F16) {
        for (int i = 0; i < n; i++)
            ((uint16_t *)to)[i] = half_of(value[i]);
    } else {
#pragma omp simd
        for (int i = 0; i < n; i++) {
            float sum = value[i] * 255.0f + 0x1.8p23f; /* rounds; the integer is its last bits */
            uint32_t bits;
            memcpy(&bits, &sum, sizeof bits);
            ((uint8_t *)to)[i] = (uint8_t)bits;
        }
    }
}

static void put_row(const k_image *dst, char *row, k_tensor x, int64_t first, float scale,
                    float bias)
{
    float rgb[3 * BLOCK], spread[4 * BLOCK];
    for (int i = 0; i < x.w; i += BLOCK) {
        int pixels = x.w - i < BLOCK ? x.w - i : BLOCK;
        clamp_pixels(rgb, cpu_row(x, first + i), x.ld, pixels, scale, bias);
        if (dst->c != 3)
            spread_pixels(spread, rgb, pixels, dst->c);
        put_values(row + (size_t)(i * dst->c) * k_size(dst->dtype), dst->dtype,
                   dst->c == 3 ? rgb : spread, pixels * dst->c);
    }
}

void cpu_image_out(k_ctx *k, const k_image *dst, k_tensor x, float scale, float bias)
{
    if (!image_holds(k, "image_out", dst, x, 3) ||
        !k_check(k, dst->h == x.h && dst->w == x.w, "image_out",
                 "the image and the tensor differ in height or width", x, x, (k_tensor){0}) ||
        k->planning)
        return;
    int64_t rows = (int64_t)x.n * x.h;
#pragma omp parallel for schedule(static) num_threads(cpu_of(k)->threads)
    for (int64_t r = 0; r < rows; r++) {
        char *row = (char *)dst->data + r / x.h * dst->stride_t + r % x.h * dst->stride_h;
        put_row(dst, row, x, r * x.w, scale, bias);
    }
}
