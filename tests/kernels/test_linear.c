/* test_linear.c - linear maps: joined weights, every type, activation and residual, GEGLU. */
#include "bed.h"

typedef struct linear_case {
    int rows, in, out, parts, bias, act, residual, extra, dtype;
    int x, y; /* k_dtype of these tensors; 0: the network's */
} linear_case;

static void reference_row(const linear_case *t, const bed_weight *w, const float *x, double *to)
{
    for (int o = 0; o < t->out; o++) {
        to[o] = w->bias[o];
        for (int i = 0; i < t->in; i++)
            to[o] += w->value[o * t->in + i] * (double)x[i];
    }
}

static void run_case(bed *b, const linear_case *t)
{
    int columns = t->act == K_GEGLU ? t->out / 2 : t->out;
    bed_weight w = bed_weight_of(b, t->out, t->in, 1, t->parts, t->bias, t->dtype);
    k_tensor x = bed_tensor_of(b, t->x ? t->x : b->real, 1, 1, t->rows, t->in, t->extra);
    k_tensor y = bed_tensor_of(b, t->y ? t->y : b->real, 1, 1, t->rows, columns, t->extra);
    k_linear o = {.act = t->act};
    if (t->residual)
        o.residual = bed_tensor(b, 1, 1, t->rows, columns, 0);
    double *reference = calloc((size_t)t->rows * (size_t)columns, sizeof *reference);
    double *row = calloc((size_t)t->out, sizeof *row);
    for (int r = 0; r < t->rows; r++) {
        reference_row(t, &w, bed_at(x, r), row);
        for (int c = 0; c < columns; c++) {
            double residual = t->residual ? (double)bed_at(o.residual, r)[c] : 0;
            reference[r * columns + c] = t->act == K_GEGLU
                                             ? row[c] * bed_act(row[columns + c], K_GELU) + residual
                                             : bed_act(row[c] + residual, t->act);
        }
    }
    BED_RUN(b, linear, y, x, w.w, &o);
    char what[128];
    snprintf(what, sizeof what, "linear %d x %d -> %d, %d parts, act %d", t->rows, t->in, t->out,
             t->parts, t->act);
    /* fp32 sums of up to 1280 terms; tensor cores cut off what they add, where others round */
    bed_compare(b, y, reference, bed_bar(3e-6, 3e-5), what);
    free(reference);
    free(row);
    bed_drop(b, &x);
    bed_drop(b, &y);
    bed_drop(b, &o.residual);
    bed_weight_free(b, &w);
}

static void all_cases(bed *b)
{
    static const linear_case cases[] = {
        {1, 1, 1, 1, 1, K_IDENTITY, 0, 0, K_F32, 0, 0},
        {1, 320, 77, 1, 1, K_SILU, 0, 0, K_F16, 0, 0},
        {7, 17, 33, 1, 0, K_IDENTITY, 1, 3, K_F16, 0, 0},
        {13, 33, 51, 3, 1, K_IDENTITY, 0, 0, K_F16, 0, 0},
        {29, 40, 62, 2, 1, K_RELU, 1, 5, K_BF16, 0, 0},
        {77, 64, 66, 1, 1, K_GEGLU, 0, 2, K_F16, 0, 0},
        {12, 31, 80, 1, 1, K_GEGLU, 1, 0, K_F32, 0, 0},
        {5, 20, 14, 1, 0, K_GEGLU, 0, 1, K_BF16, 0, 0},
        {33, 1100, 40, 1, 1, K_GELU, 0, 0, K_F16, 0, 0},
        {100, 530, 90, 2, 1, K_QUICK_GELU, 0, 0, K_F16, 0, 0},
        {50, 1030, 70, 1, 1, K_GEGLU, 0, 0, K_F16, 0, 0},
        {1100, 24, 40, 1, 1, K_IDENTITY, 1, 0, K_F16, 0, 0},
        {300, 48, 1000, 1, 0, K_IDENTITY, 0, 0, K_F32, 0, 0},
        {1, 320, 128, 1, 1, K_SILU, 0, 0, K_F16, K_F32, K_F32},
        {2, 1280, 72, 1, 1, K_IDENTITY, 0, 0, K_F16, 0, K_F32},
        {77, 128, 192, 3, 0, K_IDENTITY, 0, 0, K_F16, 0, 0},
        {77, 1024, 64, 2, 0, K_IDENTITY, 0, 0, K_F16, 0, 0},
        {130, 64, 136, 1, 1, K_IDENTITY, 1, 0, K_F16, 0, 0},
        {65, 72, 264, 1, 1, K_GEGLU, 0, 0, K_F16, 0, 0},
        {16, 640, 80, 1, 1, K_IDENTITY, 1, 8, K_BF16, 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (!bed_skips(i))
            run_case(b, &cases[i]);
}

START_TEST(test_linear)
{
    bed_each(all_cases, BED_NETWORK);
}
END_TEST

/* Halves that need care: subnormals, infinities, signed zero. */
static void special_halves(bed *b)
{
    static const uint16_t halves[16] = {0x0000, 0x8000, 0x0001, 0x8001, 0x03ff, 0x0400,
                                        0x7bff, 0xfbff, 0x3c00, 0xbc00, 0x3555, 0x0200,
                                        0x8400, 0x7c00, 0xfc00, 0x2e66};
    static const double values[16] = {
        0, 0,  0x1p-24,        -0x1p-24, 1023 * 0x1p-24, 0x1p-14,  65504,     -65504,
        1, -1, 1365 * 0x1p-12, 0x1p-15,  -0x1p-14,       INFINITY, -INFINITY, 1638 * 0x1p-14};
    char why[K_WHY];
    k_weight_desc d = {.out = 16, .in = 1, .kh = 1, .kw = 1, .parts = 1};
    d.weight[0] = (k_array){halves, K_F16};
    k_weight *w = k_weight_new(b->device, &d, why);
    k_tensor x = bed_tensor(b, 1, 1, 1, 1, 0), y = bed_tensor(b, 1, 1, 1, 16, 0);
    k_linear o = {0};
    bed_at(x, 0)[0] = 1;
    BED_RUN(b, linear, y, x, w, &o);
    for (int i = 0; i < 16; i++) {
        char rounded[4];
        bed_store(rounded, b->real, values[i]);
        double want = (double)bed_load(rounded, b->real);
        ck_assert_msg((double)bed_at(y, 0)[i] == want, "%s: half %04x became %g, not %g", b->kind,
                      halves[i], (double)bed_at(y, 0)[i], want);
    }
    bed_drop(b, &x);
    bed_drop(b, &y);
    k_weight_free(b->device, w);
}

/* Floats that halves do not reach: a form of halves holds them at the edge, but what is infinite or
 * no number in the file stays so. */
static void wide_floats(bed *b)
{
    static const float floats[] = {65519, 1e6f, -3e38f, INFINITY, -INFINITY, NAN, 0x1p-26f, 1};
    enum { COUNT = sizeof floats / sizeof *floats };
    char why[K_WHY], rounded[4];
    k_weight_desc d = {.out = COUNT, .in = 1, .kh = 1, .kw = 1, .parts = 1};
    d.weight[0] = (k_array){floats, K_F32};
    k_weight *w = k_weight_new(b->device, &d, why);
    k_tensor x = bed_tensor(b, 1, 1, 1, 1, 0), y = bed_tensor(b, 1, 1, 1, COUNT, 0);
    k_linear o = {0};
    bed_at(x, 0)[0] = 1;
    BED_RUN(b, linear, y, x, w, &o);
    for (int i = 0; i < COUNT; i++) {
        float v = floats[i], got = bed_at(y, 0)[i];
        if (b->real == K_F16 && isfinite(v))
            v = fmaxf(-65504, fminf(v, 65504));
        bed_store(rounded, b->real, (double)v);
        float want = bed_load(rounded, b->real);
        ck_assert_msg(isnan(want) ? isnan(got) : got == want, "%s: %g became %g, not %g", b->kind,
                      (double)floats[i], (double)got, (double)want);
    }
    bed_drop(b, &x);
    bed_drop(b, &y);
    k_weight_free(b->device, w);
}

START_TEST(test_halves)
{
    bed_each(special_halves, BED_NETWORK);
    bed_each(wide_floats, BED_NETWORK);
}
END_TEST

BED_MAIN("linear", test_linear, test_halves)
