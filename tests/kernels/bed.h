/* bed.h - what the tests of kernels/ share: devices of every kind, random tensors, comparison.
 *
 * Each op is compared with the formula of kernels.h in double precision. Random values are
 * small multiples of 1/128, exact in every float type, so a weight's type changes nothing.
 *
 * A tensor lives on the device, and the floats that a test reads and writes (bed_at) are a mirror
 * of it: BED_RUN puts all mirrors there, runs the op, and gets them back. A test that makes values
 * of its own calls bed_push before it computes with them: they are then what the type holds.
 *
 * BED_DEVICE=cuda runs the tests on that device in place of the CPU's instruction sets,
 * BED_SHARE=I/N every Nth case alone, from case I, and BED_CANDIDATES=FIRST:STEP:LAST:N the matrix
 * product with each of these candidates in turn (SCOPE_CUDA_TUNE), each on another Nth of the
 * cases.
 */
#ifndef TESTS_KERNELS_BED_H
#define TESTS_KERNELS_BED_H

#include "kernels/kernels.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- devices: every instruction set that this machine runs, in both memory modes; or a GPU --- */

typedef struct bed {
    k_device *device;
    k_ctx *k;
    const char *kind; /* an instruction set of the CPU, or the name of another device */
    int memory;
    int real; /* k_dtype of the activations that are tested */
} bed;

/* The device that BED_DEVICE names; NULL: the CPU. */
static inline const char *bed_gpu(void)
{
    const char *name = getenv("BED_DEVICE");
    return name && *name && strcmp(name, "cpu") ? name : NULL;
}

/* Whether case i of a list is left out. */
static inline int bed_skips(size_t i)
{
    const char *share = getenv("BED_SHARE");
    unsigned first, every;
    return share && sscanf(share, "%u/%u", &first, &every) == 2 && i % every != first % every;
}

static inline bed bed_open(const char *kind, int memory, int threads)
{
    char why[K_WHY] = "";
    k_device_options options = {.memory = memory, .threads = threads};
    bed b = {.kind = kind, .memory = memory};
    if (bed_gpu()) {
        b.kind = bed_gpu();
        b.device = k_device_open(b.kind, &options, why);
        ck_assert_msg(b.device != NULL, "%s", why);
    } else {
        setenv("SCOPE_ISA", kind, 1);
        b.device = k_device_open("cpu", &options, why);
        unsetenv("SCOPE_ISA");
    }
    if (b.device) {
        b.k = k_open(b.device, why);
        ck_assert_msg(b.k != NULL, "%s", why);
        b.real = b.k->real;
    }
    return b;
}

static inline void bed_close(bed *b)
{
    k_close(b->k);
    k_device_close(b->device);
}

/* What an op takes: the types of networks, every float type, or fp32 alone. */
enum bed_types { BED_NETWORK, BED_ALL, BED_PICTURE };

static inline void bed_each_type(bed *b, void (*body)(bed *), int types)
{
    int list[3] = {types == BED_PICTURE ? K_F32 : b->k->real}, count = 1;
    if (types != BED_PICTURE && b->k->wide != b->k->real)
        list[count++] = b->k->wide;
    if (types == BED_ALL && list[0] != K_F32 && list[count - 1] != K_F32)
        list[count++] = K_F32;
    for (int i = 0; i < count && !b->k->status; i++) {
        b->real = list[i];
        body(b);
    }
}

/* Every kind of device, and every type of activations that it has. A GPU keeps weights in one form,
 * whatever the memory. */
static inline void bed_each_kind(void (*body)(bed *), int types)
{
    static const char *const isas[] = {"base", "avx2", "avx512"};
    size_t kinds = bed_gpu() ? 1 : sizeof isas / sizeof *isas;
    for (size_t i = 0; i < kinds; i++)
        for (int memory = K_MEMORY_NORMAL; memory <= (bed_gpu() ? 0 : K_MEMORY_LOW); memory++) {
            bed b = bed_open(isas[i], memory, 2);
            if (!b.device) {
                printf("SKIP: this processor does not run %s\n", isas[i]);
                break;
            }
            bed_each_type(&b, body, types);
            bed_close(&b);
        }
}

/* Calls body(bed) for all of them; says which instruction sets it had to leave out. */
static inline void bed_each(void (*body)(bed *), int types)
{
    const char *list = getenv("BED_CANDIDATES");
    unsigned first, step, last, every;
    char number[16], share[32];
    if (!list || sscanf(list, "%u:%u:%u:%u", &first, &step, &last, &every) != 4) {
        bed_each_kind(body, types);
        return;
    }
    for (unsigned n = first, i = 0; n <= last; n += step, i++) {
        snprintf(number, sizeof number, "%u", n);
        snprintf(share, sizeof share, "%u/%u", i, every);
        setenv("SCOPE_CUDA_TUNE", number, 1);
        setenv("BED_SHARE", share, 1);
        bed_each_kind(body, types);
    }
}

/* ---- types ----------------------------------------------------------------------------------- */

static inline size_t bed_size(int dtype)
{
    return dtype == K_F32 ? 4 : 2;
}

/* Half a step of the type, relative: what rounding a result costs. */
static inline double bed_unit(int dtype)
{
    return dtype == K_F16 ? 0x1p-11 : dtype == K_BF16 ? 0x1p-8 : 0x1p-24;
}

static inline float bed_load(const char *from, int dtype)
{
    uint32_t bits = 0;
    uint16_t half;
    float f;
    if (dtype == K_F32) {
        memcpy(&f, from, 4);
        return f;
    }
    memcpy(&half, from, 2);
    if (dtype == K_BF16) {
        bits = (uint32_t)half << 16;
        memcpy(&f, &bits, 4);
        return f;
    }
    int exponent = half >> 10 & 31, fraction = half & 0x3ff;
    f = exponent == 31
            ? (fraction ? NAN : INFINITY)
            : (float)ldexp(fraction | (exponent ? 0x400 : 0), (exponent ? exponent : 1) - 25);
    return half & 0x8000 ? -f : f;
}

/* The nearest value of the type, to even on a tie. Returns its bytes. */
static inline size_t bed_store(char *to, int dtype, double value)
{
    float f = (float)value;
    uint32_t bits;
    memcpy(&bits, &f, 4);
    if (dtype == K_F32) {
        memcpy(to, &f, 4);
        return 4;
    }
    uint16_t half = (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
    if (dtype == K_F16) {
        float size = fabsf(f);
        half = (uint16_t)(bits >> 16 & 0x8000);
        if (!(size < 65520)) {
            half |= isnan(f) ? 0x7e00 : 0x7c00;
        } else { /* a carry out of the fraction is the next exponent */
            int exponent = size < 0x1p-14f ? -14 : ilogbf(size);
            uint32_t steps = (uint32_t)nearbyint(ldexp((double)size, 10 - exponent));
            half |= (uint16_t)(steps + (size < 0x1p-14f ? 0 : (uint32_t)(exponent + 14) << 10));
        }
    }
    memcpy(to, &half, 2);
    return 2;
}

/* ---- tensors --------------------------------------------------------------------------------- */

static uint32_t bed_state = 1;

static inline float bed_value(void)
{
    bed_state = bed_state * 1664525u + 1013904223u;
    return (float)((int)(bed_state >> 8) % 128) / 128.0f;
}

typedef struct bed_mirror {
    k_ctx *k;
    k_tensor whole;
    float *value, *before; /* owned; [rows][ld]: now, and when it was last put there */
} bed_mirror;

static bed_mirror bed_mirrors[32];
static int bed_count;
static const bed_mirror *bed_last = bed_mirrors;

static inline int bed_holds(const bed_mirror *m, k_tensor t)
{
    size_t bytes = (size_t)k_rows(m->whole) * (size_t)m->whole.ld * bed_size(m->whole.dtype);
    return m->whole.data && (size_t)((char *)t.data - (char *)m->whole.data) < bytes;
}

static inline const bed_mirror *bed_mirror_of(k_tensor t)
{
    if (bed_holds(bed_last, t))
        return bed_last;
    for (int i = 0; i < bed_count; i++)
        if (bed_holds(&bed_mirrors[i], t))
            return bed_last = &bed_mirrors[i];
    ck_abort_msg("no tensor of bed_tensor");
    return NULL;
}

/* A row's floats. */
static inline float *bed_at(k_tensor t, int64_t row)
{
    const bed_mirror *m = bed_mirror_of(t);
    size_t first = (size_t)((char *)t.data - (char *)m->whole.data) >> (t.dtype == K_F32 ? 2 : 1);
    return m->value + first + row * t.ld;
}

/* Mirrors to the device, rounded to its types. */
static inline void bed_push(bed *b)
{
    for (int i = 0; i < bed_count; i++) {
        bed_mirror *m = &bed_mirrors[i];
        int64_t count = k_rows(m->whole) * m->whole.c;
        size_t size = bed_size(m->whole.dtype);
        char *dense = malloc((size_t)count * size);
        for (int64_t e = 0; m->k == b->k && e < count; e++) {
            float *v = m->value + e / m->whole.c * m->whole.ld + e % m->whole.c;
            bed_store(dense + (size_t)e * size, m->whole.dtype, (double)*v);
            *v = bed_load(dense + (size_t)e * size, m->whole.dtype);
        }
        if (m->k == b->k) {
            memcpy(m->before, m->value,
                   (size_t)(k_rows(m->whole) * m->whole.ld) * sizeof *m->value);
            k_put(b->k, m->whole, dense);
        }
        free(dense);
    }
}

/* And back. */
static inline void bed_pull(bed *b)
{
    for (int i = 0; i < bed_count; i++) {
        bed_mirror *m = &bed_mirrors[i];
        int64_t count = k_rows(m->whole) * m->whole.c;
        size_t size = bed_size(m->whole.dtype);
        char *dense = malloc((size_t)count * size);
        if (m->k == b->k && !b->k->status) {
            k_get(b->k, m->whole, dense);
            for (int64_t e = 0; e < count; e++)
                m->value[e / m->whole.c * m->whole.ld + e % m->whole.c] =
                    bed_load(dense + (size_t)e * size, m->whole.dtype);
        }
        free(dense);
    }
}

/* A kept tensor of random values; `extra` channels beside it make it a slice. */
static inline k_tensor bed_tensor_of(bed *b, int dtype, int n, int h, int w, int c, int extra)
{
    k_tensor t = k_keep(b->k, dtype, n, h, w, c + extra);
    ck_assert_msg(!b->k->status, "%s", b->k->where);
    ck_assert_int_lt(bed_count, (int)(sizeof bed_mirrors / sizeof *bed_mirrors));
    bed_mirror *m = &bed_mirrors[bed_count++];
    size_t count = (size_t)(k_rows(t) * t.ld);
    *m = (bed_mirror){b->k, t, malloc(count * sizeof(float)), malloc(count * sizeof(float))};
    for (size_t i = 0; i < count; i++)
        m->before[i] = m->value[i] = bed_value();
    return k_slice(t, extra / 2, c);
}

static inline k_tensor bed_tensor(bed *b, int n, int h, int w, int c, int extra)
{
    return bed_tensor_of(b, b->real, n, h, w, c, extra);
}

/* One for coefficients, pictures and latents: fp32 on every device. */
static inline k_tensor bed_floats(bed *b, int n, int h, int w, int c)
{
    return bed_tensor_of(b, K_F32, n, h, w, c, 0);
}

/* Values of the test's own, dense. */
static inline void bed_put(k_tensor t, const float *from)
{
    for (int64_t r = 0; r < k_rows(t); r++)
        memcpy(bed_at(t, r), from + r * t.c, (size_t)t.c * sizeof *from);
}

/* Give back what bed_tensor made. */
static inline void bed_drop(bed *b, k_tensor *t)
{
    if (!t->dtype)
        return;
    bed_mirror *m = &bed_mirrors[bed_mirror_of(*t) - bed_mirrors];
    k_drop(b->k, &m->whole);
    free(m->value);
    free(m->before);
    *m = bed_mirrors[--bed_count];
    bed_mirrors[bed_count] = (bed_mirror){0};
    *t = (k_tensor){0};
}

/* ---- weights --------------------------------------------------------------------------------- */

typedef struct bed_weight {
    k_weight *w;
    double *value, *bias; /* owned; [out][in][kh][kw], [out] */
    void *file;           /* owned: what the weight borrows */
    int out, depth;
} bed_weight;

static inline bed_weight bed_weight_kind(bed *b, int out, int in, int side, int parts, int has_bias,
                                         int dtype, int rare)
{
    char why[K_WHY] = "";
    bed_weight w = {.out = out, .depth = in * side * side};
    k_weight_desc d = {.out = out, .in = in, .kh = side, .kw = side, .parts = parts, .rare = rare};
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

static inline bed_weight bed_weight_of(bed *b, int out, int in, int side, int parts, int has_bias,
                                       int dtype)
{
    return bed_weight_kind(b, out, in, side, parts, has_bias, dtype, 0);
}

static inline void bed_weight_free(bed *b, bed_weight *w)
{
    k_weight_free(b->device, w->w);
    free(w->value);
    free(w->bias);
    free(w->file);
}

/* ---- comparison ------------------------------------------------------------------------------ */

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

/* A bar of the CPU, which computes in fp32 throughout, or of a GPU. */
static inline double bed_bar(double cpu, double gpu)
{
    return bed_gpu() ? gpu : cpu;
}

static inline const char *bed_candidate(void)
{
    const char *tune = getenv("SCOPE_CUDA_TUNE");
    return tune ? tune : "any";
}

/* Nothing beside a slice has changed. */
static inline void bed_compare_beside(const bed *b, k_tensor y, const char *what)
{
    const bed_mirror *m = bed_mirror_of(y);
    int64_t first = bed_at(y, 0) - m->value;
    for (int64_t e = 0; e < k_rows(m->whole) * m->whole.c; e++) {
        int64_t c = e % m->whole.c, at = e / m->whole.c * m->whole.ld + c;
        if (c < first || c >= first + y.c)
            ck_assert_msg(!memcmp(&m->value[at], &m->before[at], sizeof *m->value),
                          "%s (%s): row %ld, channel %ld beside the slice became %g", what, b->kind,
                          (long)(e / m->whole.c), (long)(c - first), (double)m->value[at]);
    }
}

/* Element by element, y is within `relative` of the reference's largest magnitude and the rounding
 * of its own type, and nothing beside y has changed. */
static inline void bed_compare(const bed *b, k_tensor y, const double *reference, double relative,
                               const char *what)
{
    double most = 1e-3, worst = 0;
    int64_t count = k_rows(y) * y.c, at = 0;
    ck_assert_msg(!b->k->status, "%s: %s", what, b->k->where);
    for (int64_t i = 0; i < count; i++)
        most = fmax(most, fabs(reference[i]));
    for (int64_t i = 0; i < count; i++) {
        double off = fabs((double)bed_at(y, i / y.c)[i % y.c] - reference[i]);
        if (y.dtype != K_F32)
            off -= 1.001 * bed_unit(y.dtype) * fmax(fabs(reference[i]), 0x1p-14);
        if (!(off <= worst)) {
            worst = off;
            at = i;
        }
    }
    ck_assert_msg(
        worst <= relative * most,
        "%s (%s, type %d, memory %d, candidate %s): element %ld is %g, not %g: off by %.2g of "
        "%.2g",
        what, b->kind, b->real, b->memory, bed_candidate(), (long)at,
        (double)bed_at(y, at / y.c)[at % y.c], reference[at], worst / most, relative);
    bed_compare_beside(b, y, what);
}

/* Plan an op, then run it. */
#define BED_RUN(b, op, ...)                                                                        \
    do {                                                                                           \
        bed_push(b);                                                                               \
        k_plan_begin((b)->k);                                                                      \
        K_CALL((b)->k, op, __VA_ARGS__);                                                           \
        ck_assert_msg(k_plan_end((b)->k) == 0, "%s", (b)->k->where);                               \
        K_CALL((b)->k, op, __VA_ARGS__);                                                           \
        bed_pull(b);                                                                               \
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
