/* test_image.c - pixels in and out: every type and channel count, strides, resizing. */
#include "bed.h"

/* torch's antialiased bilinear weight of source pixel j for output pixel i. */
static double weight(int in, int out, int i, int j)
{
    double scale = (double)in / out, wide = scale > 1 ? scale : 1, center = scale * (i + 0.5);
    int first = (int)(center - wide + 0.5), end = (int)(center + wide + 0.5);
    double total = 0, mine = 0;
    first = first > 0 ? first : 0;
    for (int x = first; x < end && x < in; x++) {
        double w = fmax(0, 1 - fabs(x + 0.5 - center) / wide);
        total += w;
        mine = x == j ? w : mine;
    }
    return mine / total;
}

static double source(const k_image *s, int t, int y, int x, int c)
{
    const char *row = (const char *)s->data + t * s->stride_t + y * s->stride_h;
    int i = x * s->c + (s->c == 1 ? 0 : c);
    if (s->dtype == K_U8)
        return ((const uint8_t *)row)[i] / 255.0;
    if (s->dtype == K_F32)
        return (double)((const float *)row)[i];
    uint16_t half;
    memcpy(&half, row + 2 * i, 2);
    return ldexp((half & 0x3ff) | (half & 0x7c00 ? 0x400 : 0),
                 (half >> 10 & 31) - 25 + !(half & 0x7c00));
}

static k_image picture(int dtype, int t, int h, int w, int c)
{
    int size = dtype == K_U8 ? 1 : dtype == K_F16 ? 2 : 4;
    k_image s = {.dtype = dtype, .t = t, .h = h, .w = w, .c = c};
    s.stride_h = (int64_t)w * c * size + 12;
    s.stride_t = s.stride_h * h + 8;
    s.data = calloc((size_t)t, (size_t)s.stride_t);
    for (int64_t r = 0; r < t * h; r++)
        for (int i = 0; i < w * c; i++) {
            char *at = (char *)s.data + r / h * s.stride_t + r % h * s.stride_h + i * size;
            float v = fabsf(bed_value());
            if (dtype == K_U8)
                *(uint8_t *)at = (uint8_t)(v * 255);
            else
                bed_store(at, dtype, (double)v);
        }
    return s;
}

typedef struct image_case {
    int dtype, t, h, w, c, oh, ow;
    int extra; /* channels beside the tensor */
} image_case;

static void run_in(bed *b, const image_case *t)
{
    k_image s = picture(t->dtype, t->t, t->h, t->w, t->c);
    k_tensor y = bed_tensor(b, t->t, t->oh, t->ow, 3, t->extra);
    double *reference = calloc((size_t)k_rows(y) * 3, sizeof *reference);
    for (int64_t i = 0; i < k_rows(y) * 3; i++) {
        int row = (int)(i / 3), n = row / (t->oh * t->ow), at = row % (t->oh * t->ow);
        double sum = 0;
        for (int v = 0; v < t->h; v++)
            for (int u = 0; u < t->w; u++)
                sum += weight(t->h, t->oh, at / t->ow, v) * weight(t->w, t->ow, at % t->ow, u) *
                       source(&s, n, v, u, (int)(i % 3));
        reference[i] = 2 * sum - 1;
    }
    BED_RUN(b, image_in, y, &s, 2.0f, -1.0f);
    /* Sums near 1/2 become values near 0 when y is 2 s - 1: a digit goes. */
    bed_compare(b, y, reference, 1e-5, "image_in");
    free(reference);
    free(s.data);
    bed_drop(b, &y);
}

static void images_in(bed *b)
{
    static const image_case cases[] = {
        {K_U8, 1, 1, 1, 3, 1, 1, 0},    {K_U8, 2, 9, 7, 3, 9, 7, 0},
        {K_U8, 1, 30, 50, 4, 8, 16, 0}, {K_F16, 2, 5, 3, 1, 12, 7, 0},
        {K_F32, 1, 17, 9, 3, 7, 31, 0}, {K_F32, 1, 8, 8, 4, 1, 1, 0},
        {K_U8, 1, 9, 7, 3, 9, 7, 2},    {K_U8, 1, 6, 70, 3, 9, 70, 0},
        {K_U8, 2, 9, 7, 4, 9, 7, 0},    {K_F16, 1, 9, 7, 3, 9, 7, 0},
        {K_F32, 1, 5, 9, 1, 5, 9, 0},   {K_U8, 1, 6, 90, 3, 2, 3, 0}, /* a row of many for one */
        {K_F16, 1, 6, 90, 4, 2, 2, 0},  {K_F32, 1, 6, 90, 1, 2, 2, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        run_in(b, &cases[i]);
}

/* The mask of a source pixel: alpha, or BT.601 luma. */
static double masked(const k_image *s, int t, int y, int x)
{
    if (s->c == 4)
        return source(s, t, y, x, 3);
    return 0.299 * source(s, t, y, x, 0) + 0.587 * source(s, t, y, x, 1) +
           0.114 * source(s, t, y, x, 2);
}

static void run_mask(bed *b, const image_case *t)
{
    k_image s = picture(t->dtype, t->t, t->h, t->w, t->c);
    k_tensor y = bed_floats(b, t->t, t->oh, t->ow, 1);
    double *reference = calloc((size_t)k_rows(y), sizeof *reference);
    for (int64_t i = 0; i < k_rows(y); i++) {
        int n = (int)(i / (t->oh * t->ow)), at = (int)(i % (t->oh * t->ow));
        for (int v = 0; v < t->h; v++)
            for (int u = 0; u < t->w; u++)
                reference[i] += weight(t->h, t->oh, at / t->ow, v) *
                                weight(t->w, t->ow, at % t->ow, u) * masked(&s, n, v, u);
    }
    BED_RUN(b, mask_in, y, &s);
    bed_compare(b, y, reference, 1e-5, "mask_in");
    free(reference);
    free(s.data);
    bed_drop(b, &y);
}

static void masks_in(bed *b)
{
    static const image_case cases[] = {
        {K_U8, 1, 1, 1, 4, 1, 1, 0},    {K_U8, 2, 9, 7, 4, 9, 7, 0},
        {K_U8, 1, 30, 50, 4, 8, 16, 0}, {K_F16, 2, 5, 3, 1, 12, 7, 0},
        {K_F32, 1, 17, 9, 3, 7, 31, 0}, {K_U8, 1, 6, 70, 3, 9, 70, 0},
        {K_F32, 1, 5, 9, 1, 5, 9, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        run_mask(b, &cases[i]);
}

static void run_out(bed *b, const image_case *t)
{
    k_image s = picture(t->dtype, t->t, t->h, t->w, t->c);
    k_tensor x = bed_tensor(b, t->t, t->h, t->w, 3, t->extra);
    BED_RUN(b, image_out, &s, x, 0.75f, 0.25f);
    ck_assert_msg(!b->k->status, "%s", b->k->where);
    for (int64_t r = 0; r < k_rows(x); r++) {
        double rgb[3], grey = 0;
        for (int c = 0; c < 3; c++) {
            rgb[c] = fmin(1, fmax(0, 0.75 * (double)bed_at(x, r)[c] + 0.25));
            grey += rgb[c] * (c == 0 ? 0.299 : c == 1 ? 0.587 : 0.114);
        }
        int at = (int)(r % (t->h * t->w));
        for (int c = 0; c < t->c; c++) {
            double want = t->c == 1 ? grey : c == 3 ? 1 : rgb[c];
            double got = source(&s, (int)(r / (t->h * t->w)), at / t->w, at % t->w, c);
            /* half a step of the type: 1/255, 2^-11 of a half */
            double off = t->dtype == K_U8 ? 0.5001 / 255 : t->dtype == K_F16 ? 0x1p-12 : 1e-6;
            ck_assert_msg(fabs(got - want) <= off, "pixel %ld.%d is %g, not %g", (long)r, c, got,
                          want);
        }
    }
    free(s.data);
    bed_drop(b, &x);
}

static void images_out(bed *b)
{
    static const image_case cases[] = {
        {K_U8, 1, 1, 1, 3, 0, 0, 2},   {K_U8, 2, 9, 7, 4, 0, 0, 2},   {K_U8, 1, 3, 5, 1, 0, 0, 2},
        {K_F16, 2, 5, 3, 3, 0, 0, 2},  {K_F16, 1, 4, 4, 4, 0, 0, 2},  {K_F32, 2, 7, 9, 1, 0, 0, 2},
        {K_U8, 2, 3, 130, 3, 0, 0, 0}, {K_U8, 1, 2, 65, 4, 0, 0, 0},  {K_U8, 1, 2, 65, 1, 0, 0, 0},
        {K_U8, 1, 2, 65, 3, 0, 0, 1},  {K_F16, 1, 2, 65, 3, 0, 0, 0}, {K_F32, 1, 2, 65, 4, 0, 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        run_out(b, &cases[i]);
}

START_TEST(test_in)
{
    bed_each(images_in, BED_ALL);
}
END_TEST

START_TEST(test_masks)
{
    bed_each(masks_in, BED_PICTURE);
}
END_TEST

START_TEST(test_out)
{
    bed_each(images_out, BED_ALL);
}
END_TEST

/* 0, 1 and what lies outside: exact bytes, NaN included. */
START_TEST(test_edges)
{
    static const float values[6] = {-1, 0, 1, 7, NAN, 0.5f};
    static const uint8_t bytes[6] = {0, 0, 255, 255, 0, 128};
    uint8_t out[6];
    bed b = bed_open("base", K_MEMORY_NORMAL, 1);
    k_tensor x = bed_floats(&b, 1, 1, 2, 3);
    k_image s = {out, K_U8, 1, 1, 2, 3, 6, 6};
    bed_put(x, values);
    BED_RUN(&b, image_out, &s, x, 1.0f, 0.0f);
    ck_assert_mem_eq(out, bytes, 6);
    bed_drop(&b, &x);
    bed_close(&b);
}
END_TEST

BED_MAIN("image", test_in, test_masks, test_out, test_edges)
