/* test_conv.c - convolutions of every kind against their formula in double. */
#include "bed.h"

typedef struct conv_case {
    int n, h, w, in, out, side, stride, pad_end_only, up, act, row, residual, extra, dtype;
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

static void run_case(bed *b, const conv_case *t)
{
    int stride = t->stride ? t->stride : 1, up = t->up ? 2 : 1;
    int oh = (t->h * up + stride - 1) / stride, ow = (t->w * up + stride - 1) / stride;
    bed_weight w = bed_weight_of(b, t->out, t->in, t->side, 1, t->act != K_RELU, t->dtype);
    k_tensor x = bed_tensor(b, t->n, t->h, t->w, t->in, t->extra);
    k_tensor y = bed_tensor(b, t->n, oh, ow, t->out, t->extra);
    k_conv o = {.stride = t->stride, .pad_end_only = t->pad_end_only, .up = t->up, .act = t->act};
    if (t->row)
        o.row = bed_tensor(b, t->n, 1, 1, t->out, 0);
    if (t->residual)
        o.residual = bed_tensor(b, t->n, oh, ow, t->out, t->extra);
    double *reference = calloc((size_t)k_rows(y) * (size_t)t->out, sizeof *reference);
    for (int64_t r = 0; r < k_rows(y); r++)
        for (int c = 0; c < t->out; c++) {
            int n = (int)(r / (oh * ow)), at = (int)(r % (oh * ow));
            double v = one(t, x, &w, n, at / ow, at % ow, c);
            if (t->row)
                v += (double)bed_at(o.row, n)[c];
            if (t->residual)
                v += (double)bed_at(o.residual, r)[c];
            reference[r * t->out + c] = bed_act(v, t->act);
        }
    BED_RUN(b, conv, y, x, w.w, &o);
    char what[160];
    snprintf(what, sizeof what, "conv %dx%dx%dx%d -> %d, side %d, stride %d, up %d, act %d", t->n,
             t->h, t->w, t->in, t->out, t->side, stride, t->up, t->act);
    /* fp32 sums of up to 9 * 80 terms: 1e-6; Winograd's F(4x4) loses a digit: 1e-5. */
    bed_compare(b, y, reference, 1e-5, what);
    free(reference);
    bed_drop(b, &x, t->extra);
    bed_drop(b, &y, t->extra);
    bed_drop(b, &o.residual, t->extra);
    bed_drop(b, &o.row, 0);
    bed_weight_free(b, &w);
}

static void odd_sizes(bed *b)
{
    static const conv_case cases[] = {
        {1, 1, 1, 3, 5, 3, 1, 0, 0, K_IDENTITY, 0, 0, 0, K_F32},
        {2, 3, 7, 17, 33, 3, 1, 0, 0, K_SILU, 1, 1, 3, K_F16},
        {3, 7, 9, 20, 19, 3, 2, 0, 0, K_RELU, 0, 1, 5, K_BF16},
        {1, 9, 3, 16, 48, 3, 2, 1, 0, K_IDENTITY, 1, 0, 0, K_F16},
        {1, 8, 6, 16, 16, 3, 2, 1, 0, K_IDENTITY, 0, 0, 0, K_F32},
        {2, 3, 1, 24, 40, 3, 1, 0, 1, K_GELU, 1, 0, 2, K_F32},
        {1, 5, 5, 33, 31, 1, 1, 0, 0, K_QUICK_GELU, 0, 1, 4, K_F16},
        {2, 7, 5, 9, 64, 1, 2, 0, 0, K_IDENTITY, 0, 0, 0, K_F32},
        {1, 3, 3, 4, 4, 1, 1, 0, 1, K_IDENTITY, 0, 0, 0, K_BF16},
        {1, 5, 3, 130, 8, 3, 1, 0, 0, K_IDENTITY, 0, 1, 0, K_F16},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        run_case(b, &cases[i]);
}

/* Large enough that the backend takes Winograd's algorithm, with edges that do not fit tiles. */
static void large_sizes(bed *b)
{
    static const conv_case cases[] = {
        {1, 33, 34, 16, 32, 3, 1, 0, 0, K_RELU, 0, 0, 0, K_F32},
        {2, 32, 35, 18, 37, 3, 1, 0, 0, K_SILU, 1, 1, 3, K_F16},
        {1, 17, 16, 48, 33, 3, 1, 0, 0, K_IDENTITY, 1, 0, 0, K_BF16},
        {1, 16, 17, 17, 20, 3, 1, 0, 1, K_IDENTITY, 0, 1, 2, K_F16},
        {2, 8, 9, 16, 16, 3, 1, 0, 1, K_GELU, 1, 1, 0, K_F32},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        run_case(b, &cases[i]);
}

START_TEST(test_odd_sizes)
{
    bed_each(odd_sizes);
}
END_TEST

START_TEST(test_large_sizes)
{
    bed_each(large_sizes);
}
END_TEST

BED_MAIN("conv", test_odd_sizes, test_large_sizes)
