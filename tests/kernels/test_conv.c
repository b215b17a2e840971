/* test_conv.c - convolutions of every kind against their formula in double. */
#include "bed.h"

typedef struct conv_case {
    int n, h, w, in, out, side, stride, pad_end_only, up, act, row, residual, extra, dtype;
    int x, y; /* k_dtype of these tensors; 0: the network's */
} conv_case;

static double pixel(k_tensor x, int n, int y, int xx, int c, int up)
{
    int h = up ? 2 * x.h : x.h, w = up ? 2 * x.w : x.w;
    if (y < 0 || xx < 0 || y >= h || xx >= w)
        return 0;
    if (up) {
        y /= 2;
        xx /= 2;
    }
    return (double)bed_at(x, ((int64_t)n * x.h + y) * x.w + xx)[c];
}

static double one(const conv_case *t, k_tensor x, const bed_weight *w, int n, int oy, int ox, int o)
{
    int pad = t->pad_end_only ? 0 : t->side / 2, stride = t->stride ? t->stride : 1;
    double sum = w->bias[o];
    for (int c = 0; c < t->in; c++)
        for (int i = 0; i < t->side; i++)
            for (int j = 0; j < t->side; j++)
                sum += w->value[((o * t->in + c) * t->side + i) * t->side + j] *
                       pixel(x, n, oy * stride + i - pad, ox * stride + j - pad, c, t->up);
    return sum;
}

/* One case: its tensors, and what they must become. residual 2: y itself. */
typedef struct setting {
    bed_weight w;
    k_tensor x, y;
    k_conv o;
} setting;

static setting setting_of(bed *b, const conv_case *t)
{
    int stride = t->stride ? t->stride : 1, up = t->up ? 2 : 1;
    int oh = (t->h * up + stride - 1) / stride, ow = (t->w * up + stride - 1) / stride;
    setting s = {.w = bed_weight_of(b, t->out, t->in, t->side, 1, t->act != K_RELU, t->dtype)};
    int x = t->x ? t->x : b->real, y = t->y ? t->y : b->real;
    s.x = bed_tensor_of(b, x, t->n, t->h, t->w, t->in, t->extra);
    s.y = bed_tensor_of(b, y, t->n, oh, ow, t->out, t->extra);
    s.o =
        (k_conv){.stride = t->stride, .pad_end_only = t->pad_end_only, .up = t->up, .act = t->act};
    if (t->row)
        s.o.row = bed_tensor(b, t->n, 1, 1, t->out, 0);
    if (t->residual == 1)
        s.o.residual = bed_tensor(b, t->n, oh, ow, t->out, t->extra);
    if (t->residual == 2)
        s.o.residual = s.y;
    return s;
}

static void setting_free(bed *b, const conv_case *t, setting *s)
{
    if (t->residual == 1)
        bed_drop(b, &s->o.residual);
    bed_drop(b, &s->x);
    bed_drop(b, &s->y);
    bed_drop(b, &s->o.row);
    bed_weight_free(b, &s->w);
}

static void run_case(bed *b, const conv_case *t)
{
    setting s = setting_of(b, t);
    int each = s.y.h * s.y.w;
    double *reference = calloc((size_t)k_rows(s.y) * (size_t)t->out, sizeof *reference);
    for (int64_t r = 0; r < k_rows(s.y); r++)
        for (int c = 0; c < t->out; c++) {
            int n = (int)(r / each), at = (int)(r % each);
            double v = one(t, s.x, &s.w, n, at / s.y.w, at % s.y.w, c);
            if (t->row)
                v += (double)bed_at(s.o.row, n)[c];
            if (t->residual)
                v += (double)bed_at(s.o.residual, r)[c];
            reference[r * t->out + c] = bed_act(v, t->act);
        }
    BED_RUN(b, conv, s.y, s.x, s.w.w, &s.o);
    char what[160];
    snprintf(what, sizeof what, "conv %dx%dx%dx%d -> %d, side %d, stride %d, up %d, act %d", t->n,
             t->h, t->w, t->in, t->out, t->side, t->stride, t->up, t->act);
    /* fp32 sums of up to 9 * 640 terms: 2e-6; Winograd's F(4x4) loses a digit: 1e-5. Tensor cores
     * cut off what they add to a sum, where others round. A GPU adds the weights of a doubled
     * picture's filters that see the same pixel, and rounds each sum to the network's type. */
    double rounded = t->up && t->side == 3 ? bed_unit(b->real) : 0;
    bed_compare(b, s.y, reference, bed_bar(1e-5, 3e-5 + rounded), what);
    free(reference);
    setting_free(b, t, &s);
}

static void odd_sizes(bed *b)
{
    static const conv_case cases[] = {
        {1, 1, 1, 3, 5, 3, 1, 0, 0, K_IDENTITY, 0, 0, 0, K_F32, 0, 0},
        {2, 3, 7, 17, 33, 3, 1, 0, 0, K_SILU, 1, 1, 3, K_F16, 0, 0},
        {3, 7, 9, 20, 19, 3, 2, 0, 0, K_RELU, 0, 1, 5, K_BF16, 0, 0},
        {1, 9, 3, 16, 48, 3, 2, 1, 0, K_IDENTITY, 1, 0, 0, K_F16, 0, 0},
        {1, 8, 6, 16, 16, 3, 2, 1, 0, K_IDENTITY, 0, 0, 0, K_F32, 0, 0},
        {2, 3, 1, 24, 40, 3, 1, 0, 1, K_GELU, 1, 0, 2, K_F32, 0, 0},
        {1, 5, 5, 33, 31, 1, 1, 0, 0, K_QUICK_GELU, 0, 1, 4, K_F16, 0, 0},
        {2, 7, 5, 9, 64, 1, 2, 0, 0, K_IDENTITY, 0, 0, 0, K_F32, 0, 0},
        {1, 3, 3, 4, 4, 1, 1, 0, 1, K_IDENTITY, 0, 0, 0, K_BF16, 0, 0},
        {1, 5, 3, 130, 8, 3, 1, 0, 0, K_IDENTITY, 0, 1, 0, K_F16, 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (!bed_skips(i))
            run_case(b, &cases[i]);
}

/* Large enough that the backend takes Winograd's algorithm, with edges that do not fit tiles: tiles
 * of 4 and 2 outputs, few weights (blocks of one thread) and many (passes of all threads). */
static const conv_case large[] = {
    {1, 33, 34, 16, 32, 3, 1, 0, 0, K_RELU, 0, 0, 0, K_F32, 0, 0},
    {2, 32, 35, 18, 37, 3, 1, 0, 0, K_SILU, 1, 1, 3, K_F16, 0, 0},
    {1, 17, 16, 48, 33, 3, 1, 0, 0, K_IDENTITY, 1, 0, 0, K_BF16, 0, 0},
    {1, 16, 17, 17, 20, 3, 1, 0, 1, K_IDENTITY, 0, 1, 2, K_F16, 0, 0},
    {2, 8, 9, 16, 16, 3, 1, 0, 1, K_GELU, 1, 1, 0, K_F32, 0, 0},
    {1, 9, 11, 32, 32, 3, 1, 0, 0, K_RELU, 0, 2, 0, K_F16, 0, 0},
    {2, 8, 9, 70, 50, 3, 1, 0, 0, K_RELU, 1, 1, 0, K_F16, 0, 0},
    {1, 4, 17, 80, 50, 3, 1, 0, 1, K_IDENTITY, 0, 0, 0, K_F32, 0, 0},
    {3, 33, 31, 50, 40, 3, 1, 0, 0, K_RELU, 1, 2, 3, K_F16, 0, 0},
    {1, 17, 18, 50, 40, 3, 1, 0, 1, K_SILU, 0, 1, 0, K_F32, 0, 0},
};

/* Dense pixels and few weights: products in place, with a packed border; dot products where up to
 * 4 channels leave; and the same shapes with gaps between pixels, which are packed. */
static const conv_case narrow[] = {
    {2, 5, 27, 3, 33, 3, 1, 0, 0, K_RELU, 1, 1, 0, K_F16, 0, 0},
    {1, 4, 49, 3, 32, 3, 1, 0, 0, K_IDENTITY, 0, 2, 0, K_F32, 0, 0},
    {2, 9, 51, 32, 40, 3, 2, 0, 0, K_SILU, 1, 1, 0, K_BF16, 0, 0},
    {1, 8, 50, 32, 16, 3, 2, 1, 0, K_IDENTITY, 0, 2, 0, K_F16, 0, 0},
    {1, 9, 49, 16, 32, 3, 2, 1, 0, K_RELU, 0, 0, 0, K_F32, 0, 0},
    {1, 5, 49, 32, 40, 3, 2, 0, 0, K_RELU, 0, 0, 4, K_F16, 0, 0},
    {2, 5, 31, 32, 1, 3, 1, 0, 0, K_IDENTITY, 0, 2, 0, K_F16, 0, 0},
    {1, 7, 29, 16, 2, 3, 2, 0, 0, K_SILU, 1, 0, 0, K_BF16, 0, 0},
    {2, 33, 34, 32, 3, 3, 1, 0, 0, K_RELU, 1, 1, 0, K_F16, 0, 0},
    {1, 6, 11, 80, 4, 3, 1, 0, 0, K_IDENTITY, 0, 2, 0, K_F32, 0, 0},
    {1, 33, 34, 32, 3, 3, 1, 0, 0, K_IDENTITY, 0, 0, 5, K_F16, 0, 0},
    {1, 5, 27, 18, 3, 3, 1, 0, 0, K_IDENTITY, 0, 0, 0, K_F16, 0, 0},
};

/* What networks ask of a GPU: latents and pictures of fp32 beside activations of halves, few pixels
 * under many channels (the sum is split), whole tiles and their edges, every epilogue. */
static const conv_case mixed[] = {
    {1, 9, 7, 4, 64, 3, 1, 0, 0, K_IDENTITY, 0, 0, 0, K_F16, K_F32, 0},
    {2, 9, 7, 3, 40, 3, 1, 0, 0, K_RELU, 0, 0, 0, K_F16, K_F32, 0},
    {1, 8, 8, 64, 4, 3, 1, 0, 0, K_IDENTITY, 0, 0, 0, K_F16, 0, K_F32},
    {2, 7, 5, 40, 3, 3, 1, 0, 0, K_IDENTITY, 0, 1, 0, K_F16, 0, K_F32},
    {1, 5, 5, 8, 8, 1, 1, 0, 0, K_IDENTITY, 0, 0, 0, K_F32, K_F32, K_F32},
    {1, 4, 4, 320, 72, 3, 1, 0, 0, K_IDENTITY, 1, 1, 0, K_F16, 0, 0},
    {2, 2, 3, 640, 64, 3, 1, 0, 0, K_IDENTITY, 1, 0, 0, K_F16, 0, 0},
    {1, 4, 4, 648, 40, 1, 1, 0, 0, K_SILU, 0, 1, 8, K_F16, 0, 0},
    {1, 3, 5, 320, 48, 3, 2, 0, 0, K_RELU, 0, 1, 0, K_F16, 0, 0},
    {1, 16, 16, 64, 64, 3, 1, 0, 0, K_RELU, 0, 2, 0, K_F16, 0, 0},
    {2, 12, 11, 72, 136, 3, 1, 0, 0, K_IDENTITY, 1, 1, 16, K_F16, 0, 0},
    {1, 13, 12, 64, 72, 1, 1, 0, 0, K_QUICK_GELU, 1, 1, 8, K_BF16, 0, 0},
    {2, 9, 9, 64, 64, 3, 2, 0, 0, K_GELU, 1, 1, 0, K_F16, 0, 0},
    {1, 10, 10, 64, 64, 3, 2, 1, 0, K_IDENTITY, 0, 0, 0, K_F16, 0, 0},
    {1, 6, 7, 64, 64, 3, 1, 0, 1, K_IDENTITY, 0, 0, 0, K_F16, 0, 0},
    {1, 2, 2, 320, 64, 3, 1, 0, 1, K_RELU, 0, 0, 0, K_F16, 0, 0},
};

static void mixed_types(bed *b)
{
    for (size_t i = 0; i < sizeof mixed / sizeof *mixed; i++)
        if (!bed_skips(i))
            run_case(b, &mixed[i]);
}

static void large_sizes(bed *b)
{
    for (size_t i = 0; i < sizeof large / sizeof *large; i++)
        if (!bed_skips(i))
            run_case(b, &large[i]);
}

static void narrow_sizes(bed *b)
{
    for (size_t i = 0; i < sizeof narrow / sizeof *narrow; i++)
        if (!bed_skips(i))
            run_case(b, &narrow[i]);
}

START_TEST(test_mixed_types)
{
    bed_each(mixed_types, BED_NETWORK);
}
END_TEST

/* The floats of y; to be freed. */
static float *result_of(const char *isa, int threads, const conv_case *t, size_t *bytes)
{
    bed b = bed_open(isa, K_MEMORY_NORMAL, threads);
    if (!b.device)
        return NULL;
    bed_state = 1;
    setting s = setting_of(&b, t);
    BED_RUN(&b, conv, s.y, s.x, s.w.w, &s.o);
    *bytes = (size_t)k_rows(s.y) * (size_t)t->out * sizeof(float);
    float *to = malloc(*bytes);
    k_get(b.k, s.y, to);
    setting_free(&b, t, &s);
    bed_close(&b);
    return to;
}

static void threads_agree(const conv_case *t)
{
    static const char *const isas[] = {"base", "avx2", "avx512"};
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
        size_t bytes = 0;
        float *first = result_of(isas[i], 1, t, &bytes);
        for (int threads = 2; first && threads <= 3; threads++) {
            float *other = result_of(isas[i], threads, t, &bytes);
            ck_assert_msg(!memcmp(first, other, bytes), "%d channels to %d, up %d, %s: %d threads",
                          t->in, t->out, t->up, isas[i], threads);
            free(other);
        }
        free(first);
    }
}

START_TEST(test_odd_sizes)
{
    bed_each(odd_sizes, BED_NETWORK);
}
END_TEST

START_TEST(test_large_sizes)
{
    bed_each(large_sizes, BED_NETWORK);
}
END_TEST

START_TEST(test_narrow_sizes)
{
    bed_each(narrow_sizes, BED_NETWORK);
}
END_TEST

/* How the work is cut follows the number of threads; the bits of the result do not. */
START_TEST(test_threads_agree)
{
    for (size_t i = 0; !bed_gpu() && i < sizeof large / sizeof *large; i++)
        threads_agree(&large[i]);
    for (size_t i = 0; !bed_gpu() && i < sizeof narrow / sizeof *narrow; i++)
        threads_agree(&narrow[i]);
}
END_TEST

BED_MAIN("conv", test_odd_sizes, test_large_sizes, test_narrow_sizes, test_mixed_types,
         test_threads_agree)
