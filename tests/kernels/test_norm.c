/* test_norm.c - norms: odd sizes, slices, means far from zero, the same sums on any threads. */
#include "bed.h"

static void reference_group(const k_tensor x, int image, int groups, double eps,
                            const bed_weight *w, int act, double *to)
{
    int64_t rows = (int64_t)x.h * x.w;
    int each = x.c / groups;
    for (int g = 0; g < groups; g++) {
        double mean = 0, variance = 0, count = (double)rows * each;
        for (int64_t i = 0; i < rows * each; i++)
            mean += (double)bed_at(x, image * rows + i / each)[g * each + i % each] / count;
        for (int64_t i = 0; i < rows * each; i++) {
            double v = (double)bed_at(x, image * rows + i / each)[g * each + i % each] - mean;
            variance += v * v / count;
        }
        for (int64_t i = 0; i < rows * each; i++) {
            int c = g * each + (int)(i % each);
            double v = (double)bed_at(x, image * rows + i / each)[c] - mean;
            to[(image * rows + i / each) * x.c + c] =
                bed_act(v / sqrt(variance + eps) * w->value[c] + w->bias[c], act);
        }
    }
}

typedef struct norm_case {
    int n, h, w, c, groups, act, extra, dtype;
    float offset;
} norm_case;

static void run_group(bed *b, const norm_case *t)
{
    bed_weight w = bed_weight_of(b, t->c, 1, 1, 1, 1, t->dtype);
    k_tensor x = bed_tensor(b, t->n, t->h, t->w, t->c, t->extra);
    k_tensor y = bed_tensor(b, t->n, t->h, t->w, t->c, t->extra);
    double *reference = calloc((size_t)k_rows(y) * (size_t)t->c, sizeof *reference);
    for (int64_t r = 0; r < k_rows(x); r++)
        for (int c = 0; c < t->c; c++)
            bed_at(x, r)[c] += t->offset;
    bed_push(b);
    for (int n = 0; n < t->n; n++)
        reference_group(x, n, t->groups, 1e-5, &w, t->act, reference);
    BED_RUN(b, group_norm, y, x, w.w, t->groups, 1e-5f, t->act);
    char what[128];
    snprintf(what, sizeof what, "group_norm %dx%dx%dx%d in %d, offset %g", t->n, t->h, t->w, t->c,
             t->groups, (double)t->offset);
    /* x * scale + shift cancels as many digits as the mean is larger than the deviation. */
    bed_compare(b, y, reference, 2e-6 + 2e-7 * fabs((double)t->offset), what);
    free(reference);
    bed_drop(b, &x);
    bed_drop(b, &y);
    bed_weight_free(b, &w);
}

static void groups(bed *b)
{
    static const norm_case cases[] = {
        {1, 1, 1, 32, 32, K_IDENTITY, 0, K_F32, 0},  {1, 3, 7, 33, 3, K_SILU, 0, K_F16, 0},
        {3, 9, 5, 50, 5, K_SILU, 6, K_F32, 0},       {2, 7, 7, 64, 32, K_IDENTITY, 0, K_BF16, 100},
        {1, 40, 40, 18, 2, K_RELU, 3, K_F32, 1000},  {1, 1, 3, 7, 1, K_GELU, 0, K_F32, -5},
        {2, 8, 8, 320, 32, K_SILU, 0, K_F16, 0},     {1, 3, 5, 640, 32, K_IDENTITY, 64, K_F16, 30},
        {1, 64, 64, 64, 32, K_SILU, 0, K_F16, 0},    {3, 4, 4, 960, 32, K_SILU, 0, K_F16, 0},
        {1, 96, 80, 32, 32, K_SILU, 0, K_F16, 4},    {2, 2, 2, 1280, 32, K_SILU, 0, K_F16, 0},
        {1, 13, 11, 40, 4, K_SILU, 8, K_F16, 2},     {1, 37, 61, 40, 4, K_SILU, 8, K_F16, 2},
        {1, 43, 67, 24, 1, K_IDENTITY, 0, K_F32, 9}, {1, 5, 3, 240, 8, K_QUICK_GELU, 0, K_F16, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (!bed_skips(i))
            run_group(b, &cases[i]);
}

static void run_layer(bed *b, const norm_case *t)
{
    bed_weight w = bed_weight_of(b, t->c, 1, 1, 1, 1, t->dtype);
    k_tensor x = bed_tensor(b, t->n, t->h, t->w, t->c, t->extra);
    k_tensor y = bed_tensor(b, t->n, t->h, t->w, t->c, t->extra);
    double *reference = calloc((size_t)k_rows(y) * (size_t)t->c, sizeof *reference);
    for (int64_t r = 0; r < k_rows(x); r++)
        for (int c = 0; c < t->c; c++)
            bed_at(x, r)[c] += t->offset;
    bed_push(b);
    for (int64_t r = 0; r < k_rows(x); r++) {
        k_tensor one = x;
        one.n = one.h = one.w = 1;
        one.data = (char *)x.data + (size_t)(r * x.ld) * bed_size(x.dtype);
        reference_group(one, 0, 1, 1e-5, &w, K_IDENTITY, reference + r * t->c);
    }
    BED_RUN(b, layer_norm, y, x, w.w, 1e-5f);
    bed_compare(b, y, reference, 2e-6 + 2e-7 * fabs((double)t->offset), "layer_norm");
    free(reference);
    bed_drop(b, &x);
    bed_drop(b, &y);
    bed_weight_free(b, &w);
}

static void layers(bed *b)
{
    static const norm_case cases[] = {
        {1, 1, 1, 3, 1, 0, 0, K_F32, 0},     {2, 3, 7, 33, 1, 0, 3, K_F16, 0},
        {1, 1, 77, 320, 1, 0, 0, K_F32, 0},  {1, 9, 9, 70, 1, 0, 2, K_BF16, 500},
        {1, 1, 5, 640, 1, 0, 0, K_F16, 10},  {2, 1, 9, 768, 1, 0, 0, K_F16, 0},
        {1, 2, 3, 1024, 1, 0, 32, K_F16, 0}, {3, 1, 7, 1280, 1, 0, 0, K_F16, 0},
        {1, 1, 4, 1999, 1, 0, 0, K_F16, 0},  {1, 1, 2, 2056, 1, 0, 0, K_F16, 0},
        {1, 1, 5, 1536, 1, 0, 16, K_F16, 0}, {1, 2, 2, 8, 1, 0, 0, K_F16, 0},
        {1, 1, 2, 2048, 1, 0, 0, K_F32, 1},  {1, 3, 3, 320, 1, 0, 64, K_F16, 3},
        {1, 1, 3, 3072, 1, 0, 0, K_F16, 2},  {1, 1, 2, 3080, 1, 0, 0, K_F16, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (!bed_skips(i))
            run_layer(b, &cases[i]);
}

START_TEST(test_group_norm)
{
    bed_each(groups, BED_ALL);
}
END_TEST

START_TEST(test_layer_norm)
{
    bed_each(layers, BED_ALL);
}
END_TEST

/* Bit for bit the same with one thread and with five. */
START_TEST(test_threads)
{
    float first[11 * 13 * 48];
    for (int threads = 1; threads <= 5; threads += 4) {
        bed b = bed_open("base", K_MEMORY_NORMAL, threads);
        bed_state = 7;
        bed_weight w = bed_weight_of(&b, 48, 1, 1, 1, 1, K_F32);
        k_tensor x = bed_tensor(&b, 1, 11, 13, 48, 0), y = bed_tensor(&b, 1, 11, 13, 48, 0);
        BED_RUN(&b, group_norm, y, x, w.w, 8, 1e-5f, K_SILU);
        float dense[11 * 13 * 48];
        memset(dense, 0, sizeof dense);
        k_get(b.k, y, dense);
        if (threads == 1)
            memcpy(first, dense, sizeof first);
        ck_assert(!memcmp(first, dense, sizeof first));
        bed_drop(&b, &x);
        bed_drop(&b, &y);
        bed_weight_free(&b, &w);
        bed_close(&b);
    }
}
END_TEST

BED_MAIN("norm", test_group_norm, test_layer_norm, test_threads)
