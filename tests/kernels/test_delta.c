/* test_delta.c - low-rank changes of weights: the mathematics in every form that a weight can have,
 * later forms, and that taking a change away leaves every form bit by bit as it was. */
#include "bed.h"
#include "kernels/cpu/cpu.h"

typedef struct delta_case {
    int out, in, side, parts, dtype;
    int rank, count;     /* of each change; how many, dealt to the parts in turn */
    int magnitude;       /* of the changes with an odd number */
    int act, h, w, rare; /* h = 0: linear over w rows */
    int up;
} delta_case;

enum { MOST = 4 };

typedef struct deltas {
    k_delta list[MOST];
    float *up[MOST], *down[MOST], *magnitude[MOST];
} deltas;

static deltas deltas_of(const delta_case *t, float scale)
{
    deltas d = {0};
    int each = t->out / t->parts, depth = t->in * t->side * t->side;
    for (int i = 0; i < t->count; i++) {
        int rank = t->rank + i;
        d.up[i] = malloc(4 * (size_t)(each * rank));
        d.down[i] = malloc(4 * (size_t)(rank * depth));
        for (int j = 0; j < each * rank; j++)
            d.up[i][j] = bed_value() / 4;
        for (int j = 0; j < rank * depth; j++)
            d.down[i][j] = bed_value() / 4;
        d.list[i] = (k_delta){.part = i % t->parts,
                              .rank = rank,
                              .scale = scale * (float)(i + 1),
                              .up = {d.up[i], K_F32},
                              .down = {d.down[i], K_F32}};
        if (t->magnitude && i % 2) {
            d.magnitude[i] = malloc(4 * (size_t)each);
            for (int j = 0; j < each; j++)
                d.magnitude[i][j] = 1 + bed_value();
            d.list[i].magnitude = (k_array){d.magnitude[i], K_F32};
        }
    }
    return d;
}

static void deltas_free(deltas *d)
{
    for (int i = 0; i < MOST; i++) {
        free(d->up[i]);
        free(d->down[i]);
        free(d->magnitude[i]);
    }
}

/* Row o of the changed weight, by the formula. */
static void changed_row(const delta_case *t, const bed_weight *w, const deltas *d, int o,
                        double *to)
{
    int each = t->out / t->parts, depth = w->depth;
    double sum[16384];
    memcpy(to, w->value + (size_t)o * (size_t)depth, (size_t)depth * sizeof *to);
    for (int i = 0; i < t->count; i++) {
        const k_delta *c = &d->list[i];
        double square = 0;
        if (c->part != o / each)
            continue;
        for (int j = 0; j < depth; j++) {
            sum[j] = 0;
            for (int r = 0; r < c->rank; r++)
                sum[j] += (double)c->scale * (double)d->up[i][o % each * c->rank + r] *
                          (double)d->down[i][r * depth + j];
            double all = w->value[(size_t)o * (size_t)depth + (size_t)j] + sum[j];
            square += all * all;
        }
        for (int j = 0; j < depth; j++) {
            double from = w->value[(size_t)o * (size_t)depth + (size_t)j];
            to[j] += d->magnitude[i]
                         ? (from + sum[j]) * (double)d->magnitude[i][o % each] / sqrt(square) - from
                         : sum[j];
        }
    }
}

/* A weight with the changed values, as fp32, in its own k_weight. */
static bed_weight changed_weight(bed *b, const delta_case *t, const bed_weight *w, const deltas *d)
{
    char why[K_WHY];
    bed_weight c = {.out = t->out, .depth = w->depth};
    k_weight_desc desc = {.out = t->out, .in = t->in, .kh = t->side, .kw = t->side, .parts = 1};
    double *row = malloc((size_t)w->depth * sizeof *row);
    float *data = c.file = malloc(4 * (size_t)t->out * (size_t)w->depth);
    for (int o = 0; o < t->out; o++) {
        changed_row(t, w, d, o, row);
        for (int j = 0; j < w->depth; j++)
            data[o * w->depth + j] = (float)row[j];
    }
    free(row);
    desc.weight[0] = (k_array){data, K_F32};
    c.w = k_weight_new(b->device, &desc, why);
    ck_assert_ptr_nonnull(c.w);
    return c;
}

static void run_op(bed *b, const delta_case *t, k_tensor y, k_tensor x, const k_weight *w)
{
    if (t->h)
        K_CALL(b->k, conv, y, x, w, &(k_conv){.act = t->act, .up = t->up});
    else
        K_CALL(b->k, linear, y, x, w, &(k_linear){.act = t->act});
    ck_assert_msg(!b->k->status, "%s", b->k->where);
}

static void plan_op(bed *b, const delta_case *t, k_tensor y, k_tensor x, const k_weight *w)
{
    k_plan_begin(b->k);
    run_op(b, t, y, x, w);
    ck_assert_msg(!k_plan_end(b->k), "%s", b->k->where);
}

/* All forms of a weight of the CPU's, one after the other. */
static size_t forms_copy(const k_weight *w, char *to)
{
    size_t n = 0;
    for (int i = 0; !bed_gpu() && i < CPU_FORMS; i++) {
        if (to && w->forms[i].data)
            memcpy(to + n, w->forms[i].data, w->forms[i].bytes);
        n += w->forms[i].data ? w->forms[i].bytes : 0;
        if (to && w->forms[i].bias)
            memcpy(to + n, w->forms[i].bias, w->forms[i].bias_bytes);
        n += w->forms[i].bias ? w->forms[i].bias_bytes : 0;
    }
    return n;
}

static void set(bed *b, const bed_weight *w, const k_delta *list, int count)
{
    char why[K_WHY] = "";
    ck_assert_msg(!k_weight_delta(b->device, w->w, list, count, why), "%s", why);
}

/* y of the changed weight against y of an fp32 weight that holds the changed values. */
static void compare(bed *b, const delta_case *t, const bed_weight *w, const deltas *d, k_tensor y,
                    k_tensor x)
{
    /* The weight is rounded to its type once; random signs, so the sums' errors are far below. */
    double bar = t->dtype == K_F32 ? 5e-6 : t->dtype == K_F16 ? 1e-3 : 8e-3;
    if (bed_gpu()) /* and once more to the type of its activations */
        bar = fmax(bar, 2 * bed_unit(b->real));
    char what[128];
    bed_weight c = changed_weight(b, t, w, d);
    k_tensor z = bed_tensor(b, y.n, y.h, y.w, y.c, 0);
    bed_push(b);
    plan_op(b, t, z, x, c.w);
    run_op(b, t, z, x, c.w);
    bed_pull(b);
    double *reference = malloc((size_t)k_rows(y) * (size_t)y.c * sizeof *reference);
    for (int64_t i = 0; i < k_rows(y) * y.c; i++)
        reference[i] = (double)bed_at(z, i / y.c)[i % y.c];
    snprintf(what, sizeof what, "[%d, %d, %d] of type %d, rank %d", t->out, t->in, t->side,
             t->dtype, t->rank);
    bed_compare(b, y, reference, bar, what);
    free(reference);
    bed_drop(b, &z);
    k_weight_free(b->device, c.w);
    free(c.file);
}

static int same(k_tensor a, k_tensor b)
{
    for (int64_t i = 0; i < k_rows(a); i++)
        if (memcmp(bed_at(a, i), bed_at(b, i), 4 * (size_t)a.c))
            return 0;
    return 1;
}

static k_tensor result_of(bed *b, const delta_case *t)
{
    int h = t->h ? t->h : 1, columns = t->act == K_GEGLU ? t->out / 2 : t->out;
    return bed_tensor(b, 1, h << t->up, t->w << t->up, columns, 0);
}

static void run_case(bed *b, const delta_case *t)
{
    int h = t->h ? t->h : 1;
    bed_weight w = bed_weight_kind(b, t->out, t->in, t->side, t->parts, 0, t->dtype, t->rare);
    k_tensor x = bed_tensor(b, 1, h, t->w, t->in, 0), y = result_of(b, t);
    k_tensor before = result_of(b, t);
    deltas d = deltas_of(t, 0.25f), e = deltas_of(t, -0.5f);

    bed_push(b);
    plan_op(b, t, y, x, w.w); /* forms first, then a change */
    run_op(b, t, before, x, w.w);
    size_t size = forms_copy(w.w, NULL), held = k_device_bytes(b->device);
    char *forms = malloc(size + 1), *again = malloc(size + 1);
    forms_copy(w.w, forms);
    set(b, &w, d.list, t->count);
    run_op(b, t, y, x, w.w);
    bed_pull(b);
    compare(b, t, &w, &d, y, x);
    set(b, &w, e.list, t->count); /* another change takes its place */
    plan_op(b, t, y, x, w.w);
    run_op(b, t, y, x, w.w);
    bed_pull(b);
    compare(b, t, &w, &e, y, x);
    plan_op(b, t, y, x, w.w);
    set(b, &w, NULL, 0);
    run_op(b, t, y, x, w.w);
    bed_pull(b);
    ck_assert_msg(same(y, before), "taking a change away leaves something");
    ck_assert_uint_eq(forms_copy(w.w, again), size);
    ck_assert_msg(!memcmp(forms, again, size), "a form is not what it was");
    ck_assert_uint_eq(k_device_bytes(b->device), held);
    free(forms);
    free(again);
    deltas_free(&d);
    deltas_free(&e);
    bed_drop(b, &x);
    bed_drop(b, &y);
    bed_drop(b, &before);
    bed_weight_free(b, &w);
}

static const delta_case cases[] = {
    {33, 40, 1, 1, K_F16, 4, 1, 0, K_IDENTITY, 0, 9, 0, 0},
    {1, 1, 1, 1, K_F32, 1, 1, 0, K_IDENTITY, 0, 1, 0, 0},
    {96, 77, 1, 3, K_F16, 16, 4, 0, K_IDENTITY, 0, 20, 0, 0},  /* q has two changes, k and v one */
    {130, 64, 1, 2, K_BF16, 20, 1, 0, K_IDENTITY, 0, 7, 0, 0}, /* only keys change */
    {96, 48, 1, 1, K_F32, 8, 2, 0, K_GEGLU, 0, 30, 0, 0},
    {132, 31, 1, 1, K_F16, 3, 3, 0, K_GEGLU, 0, 30, 0, 0},
    {60, 50, 1, 3, K_F16, 5, 4, 1, K_IDENTITY, 0, 12, 0, 0}, /* magnitudes beside plain changes */
    {40, 24, 1, 1, K_F32, 2, 4, 1, K_IDENTITY, 0, 12, 0, 0},
    {66, 96, 1, 3, K_F16, 8, 3, 0, K_IDENTITY, 0, 12, 1, 0}, /* rare: stays in its place */
    {48, 33, 1, 1, K_F32, 8, 2, 1, K_IDENTITY, 0, 12, 1, 0},
    {24, 20, 3, 1, K_F16, 4, 2, 0, K_IDENTITY, 32, 32, 0, 0}, /* Winograd, 4 outputs a side */
    {24, 40, 3, 1, K_F32, 6, 1, 0, K_IDENTITY, 8, 8, 0, 0},   /* 2 outputs a side */
    {24, 40, 3, 2, K_F16, 6, 2, 1, K_IDENTITY, 5, 4, 0, 1},   /* a doubled picture */
    {24, 40, 3, 1, K_F32, 6, 2, 1, K_IDENTITY, 8, 8, 0, 0},
    {24, 8, 3, 1, K_F32, 4, 1, 0, K_IDENTITY, 6, 6, 0, 0},   /* a product of packed rows */
    {4, 32, 3, 1, K_F32, 4, 1, 0, K_IDENTITY, 16, 40, 0, 0}, /* dot products */
    {20, 8, 3, 1, K_F16, 4, 1, 0, K_IDENTITY, 16, 40, 0, 0}, /* in place */
    {40, 24, 1, 1, K_F16, 4, 1, 0, K_IDENTITY, 5, 5, 0, 0},  /* a 1 x 1 filter */
};

static void all_cases(bed *b)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (!bed_skips(i))
            run_case(b, &cases[i]);
}

START_TEST(test_delta)
{
    bed_each(all_cases, BED_NETWORK);
}
END_TEST

START_TEST(test_delta_library)
{
    static const char *const names[] = {"mixed", "onednn"};
    for (int i = 0; i < (bed_gpu() ? 0 : 2); i++)
        for (int memory = K_MEMORY_NORMAL; memory <= K_MEMORY_LOW; memory++) {
            setenv("SCOPE_CPU", names[i], 1);
            bed b = bed_open("base", memory, 2);
            unsetenv("SCOPE_CPU");
            ck_assert_ptr_nonnull(b.device);
            all_cases(&b);
            bed_close(&b);
        }
}
END_TEST

/* Changes that come before the first plan are in the forms that it makes. */
static void early(bed *b)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const delta_case *t = &cases[i];
        if (bed_skips(i))
            continue;
        int h = t->h ? t->h : 1;
        bed_weight w = bed_weight_kind(b, t->out, t->in, t->side, t->parts, 0, t->dtype, t->rare);
        k_tensor x = bed_tensor(b, 1, h, t->w, t->in, 0), y = result_of(b, t);
        k_tensor z = result_of(b, t);
        deltas d = deltas_of(t, 0.25f);
        bed_push(b);
        set(b, &w, d.list, t->count);
        plan_op(b, t, y, x, w.w);
        run_op(b, t, y, x, w.w);
        set(b, &w, NULL, 0);
        set(b, &w, d.list, t->count);
        run_op(b, t, z, x, w.w);
        bed_pull(b);
        ck_assert(same(y, z));
        deltas_free(&d);
        bed_drop(b, &x);
        bed_drop(b, &y);
        bed_drop(b, &z);
        bed_weight_free(b, &w);
    }
}

START_TEST(test_delta_early)
{
    bed_each(early, BED_NETWORK);
}
END_TEST

/* v as a number of a GPU's activations: a form that is made for them is rounded to their type, and
 * held within its range. */
static double through(double v, int type)
{
    char bits[4];
    bed_store(bits, type, type == K_F16 ? fmax(-65504, fmin(v, 65504)) : v);
    return (double)bed_load(bits, type);
}

/* A change that leaves the range of halves ends at its edge, not at infinity; a bad one is refused
 * with a sentence and changes nothing. */
static void edges(bed *b)
{
    char why[K_WHY] = "";
    float one = 1, huge = 3e38f, nan = NAN;
    bed_weight w = bed_weight_of(b, 1, 1, 1, 1, 0, K_F16);
    k_tensor x = bed_tensor(b, 1, 1, 1, 1, 0), y = bed_tensor(b, 1, 1, 1, 1, 0);
    k_delta c = {.rank = 1, .scale = 1, .up = {&one, K_F32}, .down = {&huge, K_F32}};
    delta_case t = {.w = 1};
    bed_at(x, 0)[0] = 1;
    bed_push(b);
    plan_op(b, &t, y, x, w.w);
    set(b, &w, &c, 1);
    run_op(b, &t, y, x, w.w);
    bed_pull(b);
    double edge = through(65504, b->real);
    ck_assert_double_eq((double)bed_at(y, 0)[0], edge);
    const k_delta bad[] = {{.rank = 1, .scale = 1, .part = 1, .up = c.up, .down = c.down},
                           {.rank = 0, .scale = 1, .up = c.up, .down = c.down},
                           {.rank = 1, .scale = nan, .up = c.up, .down = c.down},
                           {.rank = 1, .scale = 1, .up = c.up},
                           {.rank = 1, .scale = 1, .up = {&one, K_I32}, .down = c.down}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_int_ne(k_weight_delta(b->device, w.w, &bad[i], 1, why), 0);
        ck_assert_str_ne(why, "");
        run_op(b, &t, y, x, w.w);
        bed_pull(b);
        ck_assert_double_eq((double)bed_at(y, 0)[0], edge);
    }
    bed_drop(b, &x);
    bed_drop(b, &y);
    bed_weight_free(b, &w);
}

START_TEST(test_delta_edges)
{
    bed_each(edges, BED_NETWORK);
}
END_TEST

/* v to the nearest number of a type with so many bits of fraction, even on a tie. */
static double rounded(double v, int fraction, int least, double most)
{
    int e = v != 0 ? ilogb(v) : least;
    double step = ldexp(1, (e < least ? least : e) - fraction);
    double r = nearbyint(v / step) * step;
    return r > most ? most : r < -most ? -most : r;
}

/* W' = 0 + v, read back: each value is the nearest of the weight's type. */
static void rounding(bed *b)
{
    enum { MANY = 3000 };
    static float values[MANY];
    static const uint16_t zeros[MANY];
    const float one = 1;
    for (int type = K_F16; type <= K_BF16; type++) {
        char why[K_WHY];
        uint32_t state = 7;
        for (int i = 0; i < MANY; i++) {
            state = state * 1664525u + 1013904223u;
            double fraction = 1 + (double)(state >> 12 & 0x3ff) / 1024 + (i % 3 - 1) / 2048.0;
            values[i] =
                (float)ldexp(i & 1 ? -fraction : fraction, (int)(state >> 27) - 16 - i % 11);
        }
        values[0] = 65519.9f, values[1] = 65520, values[2] = 0x1p-25f, values[3] = 0x1.8p-24f;
        k_weight_desc d = {.out = MANY, .in = 1, .kh = 1, .kw = 1, .parts = 1};
        d.weight[0] = (k_array){zeros, type};
        bed_weight w = {.w = k_weight_new(b->device, &d, why)};
        k_delta c = {.rank = 1, .scale = 1, .up = {values, K_F32}, .down = {&one, K_F32}};
        k_tensor x = bed_tensor(b, 1, 1, 1, 1, 0), y = bed_tensor(b, 1, 1, 1, MANY, 0);
        bed_at(x, 0)[0] = 1;
        bed_push(b);
        set(b, &w, &c, 1);
        plan_op(b, &(delta_case){.w = 1}, y, x, w.w);
        run_op(b, &(delta_case){.w = 1}, y, x, w.w);
        bed_pull(b);
        for (int i = 0; i < MANY; i++) {
            double v = (double)values[i];
            double want = type == K_F16 ? rounded(v, 10, -14, 65504) : rounded(v, 7, -126, 3.38e38);
            want = through(want, b->real);
            ck_assert_msg((double)bed_at(y, 0)[i] == want, "%s, type %d: %a became %a, not %a",
                          b->kind, type, v, (double)bed_at(y, 0)[i], want);
        }
        bed_drop(b, &x);
        bed_drop(b, &y);
        bed_weight_free(b, &w);
    }
}

START_TEST(test_delta_rounding)
{
    bed_each(rounding, BED_NETWORK);
}
END_TEST

BED_MAIN("delta", test_delta, test_delta_library, test_delta_early, test_delta_edges,
         test_delta_rounding)
