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
}

static const void *image_row(const k_image *image, int64_t t, int64_t y)
{
    return (const char *)image->data + t * image->stride_t + y * image->stride_h;
}

/* to += weight * row, in 0..1 */
static void add_row(const cpu_device *d, const k_image *src, const void *row, float weight,
                    float *to, float *wide)
{
    int n = src->w * src->c;
    if (src->dtype == K_U8) {
        const uint8_t *bytes = row;
        for (int i = 0; i < n; i++)
            to[i] += weight * ((float)bytes[i] / 255.0f);
        return;
    }
    d->simd->widen(wide, row, src->dtype, n);
    for (int i = 0; i < n; i++)
        to[i] += weight * wide[i];
}

static int image_holds(k_ctx *k, const char *op, const k_image *i, k_tensor t)
{
    k_tensor picture = {.n = i->t, .h = i->h, .w = i->w, .c = i->c};
    return k_check(k, i->dtype == K_U8 || i->dtype == K_F16 || i->dtype == K_F32, op,
                   "pixels must be u8, f16 or f32 (x is the image)", t, picture, (k_tensor){0}) &&
           k_check(k, i->c == 1 || i->c == 3 || i->c == 4, op,
                   "pixels must have 1, 3 or 4 channels (x is the image)", t, picture,
                   (k_tensor){0}) &&
           k_check(k, t.dtype == K_F32 && t.c == 3 && t.n == i->t && i->h > 0 && i->w > 0, op,
                   "the tensor must be f32 [t, h, w, 3] (x is the image)", t, picture,
                   (k_tensor){0});
}

typedef struct columns {
    int most;       /* taps of one column */
    taps *at;       /* [w] */
    float *weights; /* [w][most] */
} columns;

static void resize_row(const cpu_device *d, const k_image *src, k_tensor y, int64_t r,
                       const columns *c, float *own, float scale, float bias)
{
    int n = src->w * src->c, step = src->c == 1 ? 0 : 1;
    float *line = own, *wide = line + n;
    taps v = {.weight = wide + n};
    find_taps(src->h, y.h, (int)(r % y.h), &v);
    memset(line, 0, 4 * (size_t)n);
    for (int j = 0; j < v.count; j++)
        add_row(d, src, image_row(src, r / y.h, v.first + j), v.weight[j], line, wide);
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

void cpu_image_in(k_ctx *k, k_tensor y, const k_image *src, float scale, float bias)
{
    if (!image_holds(k, "image_in", src, y))
        return;
    const cpu_device *d = cpu_of(k);
    columns c = {.most = most_taps(src->w, y.w)};
    size_t width = (size_t)y.w, line = (size_t)src->w * (size_t)src->c;
    size_t shared = width * (sizeof(taps) + sizeof(float) * (size_t)c.most);
    size_t own = 4 * (2 * line + (size_t)most_taps(src->h, y.h)) / 64 * 64 + 64;
    shared = (shared + 63) / 64 * 64;
    char *scratch = cpu_scratch(k, "image_in", shared + own * (size_t)d->threads);
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
    for (int64_t r = 0; r < rows; r++)
        resize_row(d, src, y, r, &c,
                   (float *)(scratch + shared + own * (size_t)omp_get_thread_num()), scale, bias);
}

/* ---- out ------------------------------------------------------------------------------------- */

static float clamp01(float x)
{
    return x > 0 ? x < 1 ? x : 1 : 0; /* NaN becomes 0 */
}

/* A float of 0..1 to half, nearest even. */
static uint16_t half_of(float x)
{
    float small = x * 0x1p-112f; /* the two exponents' biases differ by 112 */
    uint32_t bits;
    memcpy(&bits, &small, sizeof bits);
    return (uint16_t)((bits + 0xfff + ((bits >> 13) & 1)) >> 13);
}

static void put_pixel(const k_image *dst, void *row, int64_t i, float value)
{
    if (dst->dtype == K_U8)
        ((uint8_t *)row)[i] = (uint8_t)lrintf(value * 255.0f);
    else if (dst->dtype == K_F16)
        ((uint16_t *)row)[i] = half_of(value);
    else
        ((float *)row)[i] = value;
}

void cpu_image_out(k_ctx *k, const k_image *dst, k_tensor x, float scale, float bias)
{
    if (!image_holds(k, "image_out", dst, x) ||
        !k_check(k, dst->h == x.h && dst->w == x.w, "image_out",
                 "the image and the tensor differ in height or width", x, x, (k_tensor){0}) ||
        k->planning)
        return;
    int64_t rows = (int64_t)x.n * x.h;
#pragma omp parallel for schedule(static) num_threads(cpu_of(k)->threads)
    for (int64_t r = 0; r < rows; r++) {
        char *row = (char *)dst->data + r / x.h * dst->stride_t + r % x.h * dst->stride_h;
        for (int64_t i = 0; i < x.w; i++) {
            const float *p = cpu_row(x, r * x.w + i);
            float rgb[3];
            for (int j = 0; j < 3; j++)
                rgb[j] = clamp01(scale * p[j] + bias);
            if (dst->c == 1) {
                put_pixel(dst, row, i,
                          clamp01(0.299f * rgb[0] + 0.587f * rgb[1] + 0.114f * rgb[2]));
                continue;
            }
            for (int j = 0; j < 3; j++)
                put_pixel(dst, row, i * dst->c + j, rgb[j]);
            if (dst->c == 4)
                put_pixel(dst, row, i * 4 + 3, 1.0f);
        }
    }
}
