/* bed.h - what the tests of kernels/ share: devices of every kind, random tensors, comparison.
 *
 * Each op is compared with the formula of kernels.h in double precision. Random values are
 * small multiples of 1/128, exact in every float type, so a weight's type changes nothing.
 */
#ifndef TESTS_KERNELS_BED_H
#define TESTS_KERNELS_BED_H

#include "kernels/kernels.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- devices: every instruction set that this machine runs, in both memory modes ------------ */

typedef struct bed {
    k_device *device;
    k_ctx *k;
    const char *isa;
    int memory;
} bed;

static inline bed bed_open(const char *isa, int memory, int threads)
{
    char why[K_WHY] = "";
    k_device_options options = {.memory = memory, .threads = threads};
    bed b = {.isa = isa, .memory = memory};
    setenv("SCOPE_ISA", isa, 1);
    b.device = k_device_open("cpu", &options, why);
    unsetenv("SCOPE_ISA");
    if (b.device) {
        b.k = k_open(b.device, why);
        ck_assert_msg(b.k != NULL, "%s", why);
    }
    return b;
}

static inline void bed_close(bed *b)
{
    k_close(b->k);
    k_device_close(b->device);
}

/* Calls body(bed) for each kind of device; says which instruction sets it had to leave out. */
static inline void bed_each(void (*body)(bed *))
{
    static const char *const isas[] = {"base", "avx2", "avx512"};
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++)
        for (int memory = K_MEMORY_NORMAL; memory <= K_MEMORY_LOW; memory++) {
            bed b = bed_open(isas[i], memory, 2);
            if (!b.device) {
                printf("SKIP: this processor does not run %s\n", isas[i]);
                break;
            }
            body(&b);
            bed_close(&b);
        }
}

/* ---- values ------------------------------------------------------------------------------------
 */

static uint32_t bed_state = 1;

static inline float bed_value(void)
{
    bed_state = bed_state * 1664525u + 1013904223u;
    return (float)((int)(bed_state >> 8) % 128) / 128.0f;
}

/* A kept tensor of random values; `extra` channels beside it make it a slice. */
static inline k_tensor bed_tensor(bed *b, int n, int h, int w, int c, int extra)
{
    k_tensor t = k_keep(b->k, K_F32, n, h, w, c + extra);
    ck_assert_msg(!b->k->status, "%s", b->k->where);
    for (int64_t i = 0; i < k_rows(t) * t.ld; i++)
        ((float *)t.data)[i] = bed_value();
    return k_slice(t, extra / 2, c);
}

/* Give back what bed_tensor made. */
static inline void bed_drop(bed *b, k_tensor *t, int extra)
{
    if (!t->dtype)
        return;
    t->data = (char *)t->data - 4 * (size_t)(extra / 2);
    t->c += extra;
    k_drop(b->k, t);
}

static inline float *bed_at(k_tensor t, int64_t row)
{
    return (float *)t.data + row * t.ld;
}

/* ---- weights
 * ------------------------------------------------------------------------------------- */

typedef struct bed_weight {
    k_weight *w;
    double *value, *bias; /* owned; [out][in][kh][kw], [out] */
    void *file;           /* owned: what the weight borrows */
    int out, depth;
} bed_weight;

static inline size_t bed_store(char *to, int dtype, double value)
{
    float f = (float)value;
    uint32_t bits;
    memcpy(&bits, &f, 4);
    if (dtype == K_F32) {
        memcpy(to, &f, 4);
        return 4;
    }
    uint16_t half = (uint16_t)(bits >> 16);
    if (dtype == K_F16) {
        f *= 0x1p-112f; /* exact: values are small multiples of 1/128 */
        memcpy(&bits, &f, 4);
        half = (uint16_t)((bits >> 13 & 0x7fff) | (value < 0 ? 0x8000 : 0));
    }
    memcpy(to, &half, 2);
    return 2;
}

static inline bed_weight bed_weight_of(bed *b, int out, int in, int side, int parts, int has_bias,
                                       int dtype)
{
    char why[K_WHY] = "";
    bed_weight w = {.out = out, .depth = in * side * side};
    k_weight_desc d = {.out = out, .in = in, .kh = side, .kw = side, .parts = parts};
    size_t count = (size_t)out * (size_t)w.depth, part = (size_t)out / (size_t)parts;
    char *at = w.file = malloc(4 * (count + (size_t)out) + 64);
    w.value = calloc(count, sizeof *w.value);
    w.bias = calloc((size_t)out, sizeof *w.bias);
    for (size_t i = 0; i < count; i++) {
        w.value[i] = (double)bed_value() / 4;
        if (i % (part * (size_t)w.depth) == 0)
            d.weight[i / (part * (size_t)w.depth)] = (k_array){at, dtype};
        at += bed_store(at, dtype, w.value[i]);
    }
    for (size_t i = 0; has_bias && i < (size_t)out; i++) {
        w.bias[i] = bed_value();
        if (i % part == 0)
            d.bias[i / part] = (k_array){at, dtype};
        at += bed_store(at, dtype, w.bias[i]);
    }
    w.w = k_weight_new(b->device, &d, why);
    ck_assert_msg(w.w != NULL, "%s", why);
    return w;
}

static inline void bed_weight_free(bed *b, bed_weight *w)
{
    k_weight_free(b->device, w->w);
    free(w->value);
    free(w->bias);
    free(w->file);
}

/* ---- comparison
 * ------------------------------------------------------------------------------------ */

static inline double bed_act(double x, int act)
{
    switch (act) {
    case K_RELU:
        return x > 0 ? x : 0;
    case K_SILU:
        return x / (1 + exp(-x));
    case K_GELU:
        return x * (1 + erf(x / sqrt(2.0))) / 2;
    case K_QUICK_GELU:
        return x / (1 + exp(-1.702 * x));
    default:
        return x;
    }
}

/* y is within `relative` of the reference's largest magnitude, element by element. */
static inline void bed_compare(const bed *b, k_tensor y, const double *reference, double relative,
                               const char *what)
{
    double most = 1e-3, worst = 0;
    int64_t rows = k_rows(y), at = 0;
    ck_assert_msg(!b->k->status, "%s: %s", what, b->k->where);
    for (int64_t i = 0; i < rows * y.c; i++)
        most = fmax(most, fabs(reference[i]));
    for (int64_t i = 0; i < rows * y.c; i++) {
        double off = fabs((double)bed_at(y, i / y.c)[i % y.c] - reference[i]);
        if (!(off <= worst)) {
            worst = off;
            at = i;
        }
    }
    ck_assert_msg(worst <= relative * most,
                  "%s (%s, memory %d): element %ld is %g, not %g: off by %.2g of %.2g", what,
                  b->isa, b->memory, (long)at, (double)bed_at(y, at / y.c)[at % y.c], reference[at],
                  worst / most, relative);
}

/* Plan an op, then run it. */
#define BED_RUN(b, op, ...)                                                                        \
    do {                                                                                           \
        k_plan_begin((b)->k);                                                                      \
        K_CALL((b)->k, op, __VA_ARGS__);                                                           \
        ck_assert_msg(k_plan_end((b)->k) == 0, "%s", (b)->k->where);                               \
        K_CALL((b)->k, op, __VA_ARGS__);                                                           \
    } while (0)

/* main of a test program: its cases, run in this process where CK_FORK=no says so. */
#define BED_MAIN(title, ...)                                                                       \
    int main(void)                                                                                 \
    {                                                                                              \
        const TTest *const tests[] = {__VA_ARGS__};                                                \
        Suite *suite = suite_create(title);                                                        \
        for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {                                \
            TCase *one = tcase_create(tests[i]->name);                                             \
            tcase_set_timeout(one, 120);                                                           \
            tcase_add_test(one, tests[i]);                                                         \
            suite_add_tcase(suite, one);                                                           \
        }                                                                                          \
        SRunner *runner = srunner_create(suite);                                                   \
        srunner_run_all(runner, CK_NORMAL);                                                        \
        int failed = srunner_ntests_failed(runner);                                                \
        srunner_free(runner);                                                                      \
        return failed != 0;                                                                        \
    }

#endif
