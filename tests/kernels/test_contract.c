/* test_contract.c - what kernels.h promises beside mathematics: sticky errors, planning, memory,
 * sharing of weights, and two contexts at once.
 */
#include "bed.h"

#include <pthread.h>
#include <stdatomic.h>

/* ---- every allocation of this program is counted -------------------------------------------- */

static _Atomic long allocations;

#if !defined(__SANITIZE_ADDRESS__)
void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_memalign(size_t, size_t);

void *malloc(size_t n)
{
    allocations++;
    return __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
    allocations++;
    return __libc_calloc(n, size);
}

void *aligned_alloc(size_t to, size_t n)
{
    allocations++;
    return __libc_memalign(to, n);
}
#endif

/* ---- a small network that uses every op with scratch or weights ------------------------------ */

typedef struct net {
    bed_weight conv, small, vector, linear, geglu, table;
    uint8_t pixels[40 * 40 * 3];
} net;

static void net_init(bed *b, net *n)
{
    n->conv = bed_weight_of(b, 16, 16, 3, 1, 1, K_F16);
    n->small = bed_weight_of(b, 16, 3, 3, 1, 1, K_F16);
    n->vector = bed_weight_of(b, 16, 1, 1, 1, 1, K_F32);
    n->linear = bed_weight_of(b, 48, 16, 1, 3, 0, K_F16);
    n->geglu = bed_weight_of(b, 32, 16, 1, 1, 1, K_BF16);
    n->table = bed_weight_of(b, 50, 16, 1, 1, 0, K_F16);
}

static void net_fini(bed *b, net *n)
{
    bed_weight_free(b, &n->conv);
    bed_weight_free(b, &n->small);
    bed_weight_free(b, &n->vector);
    bed_weight_free(b, &n->linear);
    bed_weight_free(b, &n->geglu);
    bed_weight_free(b, &n->table);
}

/* side: 40 takes Winograd's algorithm, 8 its smaller form */
static void net_run(k_ctx *k, const net *n, int side, float *result)
{
    k_image picture = {(void *)n->pixels, K_U8, 1, 40, 40, 3, 40 * 40 * 3, 40 * 3};
    k_conv conv = {.act = K_SILU};
    k_linear linear = {0}, geglu = {.act = K_GEGLU};
    k_attention attention = {.heads = 2};
    k_release(k, 0);
    k_tensor x = k_temp(k, K_F32, 1, side, side, 3), y = k_temp(k, k->real, 1, side, side, 16);
    k_tensor z = k_temp(k, k->real, 1, side, side, 16);
    k_tensor qkv = k_temp(k, k->real, 1, side, side, 48);
    k_tensor noise = k_temp(k, K_F32, 1, side, side, 16);
    k_tensor ids = k_temp(k, K_I32, 1, 1, 5, 1), text = k_temp(k, k->real, 1, 1, 5, 16);
    static const int32_t tokens[5] = {1, 2, 3, 49, 0};
    k_put(k, ids, tokens);
    K_CALL(k, image_in, x, &picture, 2.0f, -1.0f);
    K_CALL(k, conv, y, x, n->small.w, &conv);
    K_CALL(k, conv, z, y, n->conv.w, &conv);
    K_CALL(k, group_norm, y, z, n->vector.w, 4, 1e-5f, K_SILU);
    K_CALL(k, linear, qkv, y, n->linear.w, &linear);
    K_CALL(k, attention, z, k_slice(qkv, 0, 16), k_slice(qkv, 16, 16), k_slice(qkv, 32, 16),
           &attention);
    K_CALL(k, linear, y, z, n->geglu.w, &geglu);
    K_CALL(k, embed, text, ids, n->table.w, n->table.w);
    K_CALL(k, layer_norm, z, y, n->vector.w, 1e-5f);
    K_CALL(k, noise, noise, 1, 2);
    K_CALL(k, activate, y, noise, K_IDENTITY);
    K_CALL(k, add, z, z, y);
    k_get(k, z, result);
}

enum { LARGEST = 40 * 40 * 16 };

START_TEST(test_planning_allocates_and_running_does_not)
{
    for (int memory = K_MEMORY_NORMAL; memory <= K_MEMORY_LOW; memory++) {
        bed b = bed_open("base", memory, 2);
        static net n;
        static float first[LARGEST], second[LARGEST];
        net_init(&b, &n);
        ck_assert_uint_eq(k_device_bytes(b.device), 0);
        k_plan_begin(b.k);
        net_run(b.k, &n, 40, first);
        ck_assert_msg(k_plan_end(b.k) == 0, "%s", b.k->where);
        ck_assert_uint_gt(k_device_bytes(b.device), 0);
        net_run(b.k, &n, 40, first); /* the threads of OpenMP start here */
        size_t bytes = k_device_bytes(b.device);
        long before = allocations;
        net_run(b.k, &n, 40, second);
        before = allocations - before;
        ck_assert(bed_gpu() || before == 0); /* a driver may take what it likes */
        ck_assert_uint_eq(k_device_bytes(b.device), bytes);
        ck_assert_msg(!b.k->status, "%s", b.k->where);
        ck_assert_mem_eq(first, second, sizeof first);
        net_fini(&b, &n);
        ck_assert(bed_gpu() || k_device_bytes(b.device) == 0); /* its contexts keep scratch */
        k_close(b.k);
        ck_assert_uint_eq(k_device_bytes(b.device), 0);
        k_device_close(b.device);
    }
#if defined(__SANITIZE_ADDRESS__)
    printf("SKIP: allocations are not counted under AddressSanitizer\n");
#endif
}
END_TEST

START_TEST(test_low_memory_holds_less)
{
    size_t bytes[2] = {1000, 1}; /* a GPU has one form of a weight */
    for (int memory = K_MEMORY_NORMAL; !bed_gpu() && memory <= K_MEMORY_LOW; memory++) {
        bed b = bed_open("base", memory, 2);
        static net n;
        static float result[LARGEST];
        net_init(&b, &n);
        k_plan_begin(b.k);
        net_run(b.k, &n, 40, result);
        ck_assert_int_eq(k_plan_end(b.k), 0);
        bytes[memory] = k_device_bytes(b.device);
        net_fini(&b, &n);
        bed_close(&b);
    }
    ck_assert_uint_lt(bytes[K_MEMORY_LOW] * 10, bytes[K_MEMORY_NORMAL]);
}
END_TEST

/* A weight that is rarely used is not copied, and gives the same result. */
START_TEST(test_rare_weights_stay)
{
    enum { OUT = 70, IN = 50, ROWS = 9 };
    static float values[OUT * IN], results[2][ROWS * OUT];
    char why[K_WHY];
    bed b = bed_open("base", K_MEMORY_NORMAL, 2);
    k_tensor x = bed_tensor(&b, 1, 1, ROWS, IN, 0), y = bed_tensor(&b, 1, 1, ROWS, OUT, 0);
    k_linear o = {0};
    for (int i = 0; i < OUT * IN; i++)
        values[i] = bed_value();
    for (int rare = 0; rare < 2; rare++) {
        k_weight_desc d = {.out = OUT, .in = IN, .kh = 1, .kw = 1, .parts = 1, .rare = rare};
        d.weight[0] = (k_array){values, K_F32};
        k_weight *w = k_weight_new(b.device, &d, why);
        BED_RUN(&b, linear, y, x, w, &o);
        k_get(b.k, y, results[rare]);
        ck_assert(bed_gpu() || (k_device_bytes(b.device) < sizeof values) == rare);
        k_weight_free(b.device, w);
    }
    ck_assert_mem_eq(results[0], results[1], sizeof results[0]);
    bed_drop(&b, &x);
    bed_drop(&b, &y);
    bed_close(&b);
}
END_TEST

START_TEST(test_unplanned_shape_fails)
{
    bed b = bed_open("base", K_MEMORY_NORMAL, 2);
    static net n;
    static float result[LARGEST];
    net_init(&b, &n);
    net_run(b.k, &n, 8, result);
    ck_assert_int_eq(b.k->status, -1);
    k_plan_begin(b.k);
    net_run(b.k, &n, 8, result);
    ck_assert_int_eq(k_plan_end(b.k), 0);
    net_run(b.k, &n, 8, result);
    ck_assert_msg(!b.k->status, "%s", b.k->where);
    long before = allocations;
    net_run(b.k, &n, 40, result);
    before = allocations - before;
    ck_assert(bed_gpu() || before == 0);
    ck_assert_int_eq(b.k->status, -1);
    ck_assert_msg(strstr(b.k->where, "plan") != NULL, "%s", b.k->where);
    /* Planning again clears the failure, and what the first plan alone needed is given back. */
    k_plan_begin(b.k);
    net_run(b.k, &n, 40, result);
    ck_assert_int_eq(k_plan_end(b.k), 0);
    size_t bytes = k_device_bytes(b.device);
    k_plan_begin(b.k);
    net_run(b.k, &n, 8, result);
    ck_assert_int_eq(k_plan_end(b.k), 0);
    ck_assert_uint_lt(k_device_bytes(b.device), bytes + (bed_gpu() != NULL));
    net_run(b.k, &n, 8, result);
    ck_assert_msg(!b.k->status, "%s", b.k->where);
    net_fini(&b, &n);
    bed_close(&b);
}
END_TEST

START_TEST(test_first_failure_stays)
{
    bed b = bed_open("base", K_MEMORY_NORMAL, 2);
    bed_weight w = bed_weight_of(&b, 8, 6, 1, 1, 1, K_F32);
    k_tensor x = bed_tensor(&b, 1, 2, 3, 7, 0), y = bed_tensor(&b, 1, 2, 3, 8, 0);
    k_linear o = {0};
    float kept[48];
    bed_push(&b);
    k_plan_begin(b.k);
    K_CALL(b.k, linear, y, x, w.w, &o);
    ck_assert_int_eq(k_plan_end(b.k), -1);
    ck_assert_msg(strstr(b.k->where, "linear") && strstr(b.k->where, "[1, 2, 3, 7]"), "%s",
                  b.k->where);
    char where[K_WHY];
    memcpy(where, b.k->where, sizeof where);
    for (int i = 0; i < 48; i++)
        kept[i] = bed_at(y, i / 8)[i % 8];
    K_CALL(b.k, activate, y, y, K_SILU);
    K_CALL(b.k, noise, y, 1, 1);
    b.k->status = 0; /* to look at y */
    bed_pull(&b);
    b.k->status = -1;
    for (int i = 0; i < 48; i++)
        ck_assert(kept[i] == bed_at(y, i / 8)[i % 8]);
    k_fail(b.k, "another");
    ck_assert_str_eq(where, b.k->where);
    ck_assert_int_eq(k_temp(b.k, K_F32, 1, 1, 1, 1).dtype, 0);
    bed_drop(&b, &x);
    bed_drop(&b, &y);
    bed_weight_free(&b, &w);
    bed_close(&b);
}
END_TEST

typedef void misuse(bed *b, k_tensor x, const bed_weight *w);

static void wrong_heads(bed *b, k_tensor x, const bed_weight *w)
{
    k_attention o = {.heads = 5};
    (void)w;
    K_CALL(b->k, attention, x, x, x, x, &o);
}

static void wrong_groups(bed *b, k_tensor x, const bed_weight *w)
{
    (void)w;
    K_CALL(b->k, group_norm, x, x, w->w, 3, 1e-5f, 0);
}

static void wrong_stride(bed *b, k_tensor x, const bed_weight *w)
{
    k_conv o = {.stride = 3};
    K_CALL(b->k, conv, x, x, w->w, &o);
}

static void wrong_size(bed *b, k_tensor x, const bed_weight *w)
{
    k_conv o = {.stride = 2};
    K_CALL(b->k, conv, x, x, w->w, &o);
}

static void wrong_residual(bed *b, k_tensor x, const bed_weight *w)
{
    k_conv o = {.residual = k_slice(x, 0, 4)};
    K_CALL(b->k, conv, x, x, w->w, &o);
}

static void wrong_sum(bed *b, k_tensor x, const bed_weight *w)
{
    (void)w;
    K_CALL(b->k, add, x, x, k_slice(x, 1, 7));
}

static void wrong_type(bed *b, k_tensor x, const bed_weight *w)
{
    (void)w;
    x.dtype = K_I32;
    K_CALL(b->k, activate, x, x, K_SILU);
}

static void wrong_coefficients(bed *b, k_tensor x, const bed_weight *w)
{
    (void)w;
    K_CALL(b->k, mix, x, x, x, (k_tensor){0}, (k_tensor){0});
}

START_TEST(test_misuse_is_named)
{
    static misuse *const misuses[] = {wrong_heads, wrong_groups,      wrong_stride,
                                      wrong_size,  wrong_residual,    wrong_sum,
                                      wrong_type,  wrong_coefficients};
    bed b = bed_open("base", K_MEMORY_NORMAL, 1);
    bed_weight w = bed_weight_of(&b, 8, 8, 1, 1, 1, K_F32);
    k_tensor x = bed_tensor(&b, 2, 3, 4, 8, 0);
    for (size_t i = 0; i < sizeof misuses / sizeof *misuses; i++) {
        k_plan_begin(b.k);
        misuses[i](&b, x, &w);
        ck_assert_msg(k_plan_end(b.k) == -1, "misuse %zu went unseen", i);
        ck_assert_msg(strchr(b.k->where, ':') && strchr(b.k->where, '['), "%s", b.k->where);
    }
    bed_drop(&b, &x);
    bed_weight_free(&b, &w);
    bed_close(&b);
}
END_TEST

START_TEST(test_bad_devices_and_weights)
{
    char why[K_WHY] = "";
    k_device_options options = {.threads = -1};
    ck_assert_ptr_null(k_device_open("abacus", NULL, why));
    ck_assert_ptr_nonnull(strstr(why, "abacus"));
    ck_assert_ptr_null(k_device_open("cpu", &options, why));
    ck_assert_ptr_nonnull(strstr(why, "-1"));
    setenv("SCOPE_ISA", "mmx", 1);
    ck_assert_ptr_null(k_device_open("cpu", NULL, why));
    unsetenv("SCOPE_ISA");
    ck_assert_ptr_nonnull(strstr(why, "mmx"));

    float data[12] = {0};
    k_device *d = k_device_open("cpu", NULL, why);
    k_weight_desc good = {
        .out = 4, .in = 3, .kh = 1, .kw = 1, .parts = 1, .weight = {{data, K_F32}}};
    k_weight_desc bad[6] = {good, good, good, good, good, good};
    bad[0].out = 0;
    bad[1].parts = 4;
    bad[2].parts = 3;
    bad[3].weight[0].data = NULL;
    bad[4].weight[0].dtype = K_U8;
    bad[5].parts = 2; /* the second part is missing */
    for (int i = 0; i < 6; i++) {
        why[0] = 0;
        ck_assert_ptr_null(k_weight_new(d, &bad[i], why));
        ck_assert_msg(strchr(why, '['), "%s", why);
    }
    k_weight_free(d, k_weight_new(d, &good, why));
    k_device_close(d);
}
END_TEST

/* ---- two contexts of one device, in two threads ---------------------------------------------- */

typedef struct worker {
    bed b;
    const net *n;
    int side, frames;
    float result[LARGEST];
} worker;

static void *work(void *data)
{
    worker *w = data;
    for (int i = 0; i < w->frames; i++) {
        k_plan_begin(w->b.k);
        net_run(w->b.k, w->n, w->side, w->result);
        if (k_plan_end(w->b.k))
            break;
        net_run(w->b.k, w->n, w->side, w->result);
    }
    return NULL;
}

START_TEST(test_two_contexts)
{
    static worker workers[2];
    static net n;
    static float alone[2][LARGEST];
    bed b = bed_open("base", K_MEMORY_NORMAL, 2);
    pthread_t threads[2];
    char why[K_WHY];
    net_init(&b, &n);
    for (int i = 0; i < 2; i++) {
        workers[i] = (worker){.b = b, .n = &n, .side = i ? 20 : 40, .frames = 1};
        workers[i].b.k = k_open(b.device, why);
        work(&workers[i]);
        memcpy(alone[i], workers[i].result, sizeof alone[i]);
        memset(workers[i].result, 0, sizeof alone[i]);
        workers[i].frames = 8;
    }
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        ck_assert_msg(!workers[i].b.k->status, "%s", workers[i].b.k->where);
        ck_assert_mem_eq(alone[i], workers[i].result, sizeof alone[i]);
        k_close(workers[i].b.k);
    }
    net_fini(&b, &n);
    bed_close(&b);
}
END_TEST

/* ---- tensors --------------------------------------------------------------------------------- */

START_TEST(test_tensors)
{
    bed b = bed_open("base", K_MEMORY_NORMAL, 1);
    k_tensor t[2];
    for (int planning = 1; planning >= 0; planning--) {
        if (planning)
            k_plan_begin(b.k);
        k_release(b.k, 0);
        t[0] = k_temp(b.k, K_F32, 2, 3, 5, 33);
        size_t mark = k_mark(b.k);
        t[1] = k_temp(b.k, K_F16, 1, 1, 7, 100);
        k_release(b.k, mark);
        ck_assert_uint_eq(k_mark(b.k), mark);
        ck_assert((t[0].data == NULL) == planning);
        ck_assert(t[0].ld * 4 % 64 == 0 && t[0].ld >= 33);
        if (planning)
            ck_assert_int_eq(k_plan_end(b.k), 0);
    }
    ck_assert((uintptr_t)t[0].data % 64 == 0 && (uintptr_t)t[1].data % 64 == 0);
    float in[2 * 3 * 5 * 33], out[2 * 3 * 5 * 33];
    for (int i = 0; i < 2 * 3 * 5 * 33; i++)
        in[i] = (float)i;
    k_put(b.k, t[0], in);
    k_get(b.k, t[0], out);
    ck_assert_mem_eq(in, out, sizeof in);
    k_tensor slice = k_slice(t[0], 3, 30);
    k_get(b.k, slice, out);
    ck_assert(out[30] == 36 && slice.ld == t[0].ld);
    k_tensor kept = k_keep(b.k, K_F32, 1, 2, 2, 3);
    k_get(b.k, kept, out);
    for (int i = 0; i < 4 * 3; i++)
        ck_assert(out[i] == 0);
    k_drop(b.k, &kept);
    ck_assert_ptr_null(kept.data);
    k_temp(b.k, K_F32, 1, 100, 100, 100);
    ck_assert_int_eq(b.k->status, -1);
    bed_close(&b);
}
END_TEST

/* What is asked for with k_get_with comes with the next picture, or with what k_get gets; the
 * picture is so large that it may move in pieces. */
START_TEST(test_get_with)
{
    enum { H = 203, W = 240, PITCH = 3 * W + 5, ASKED = 7 };
    bed b = bed_open("base", K_MEMORY_NORMAL, 1);
    float *in = malloc(H * PITCH * sizeof *in), *out = calloc(H * PITCH, sizeof *out);
    for (int i = 0; i < H * PITCH; i++)
        in[i] = (float)(i * 7 % 1024) / 1024;
    const int64_t line = PITCH * (int64_t)sizeof(float);
    k_image from = {in, K_F32, 1, H, W, 3, H * line, line}, to = from;
    to.data = out;
    k_tensor x = k_keep(b.k, K_F32, 1, H, W, 3), small = k_keep(b.k, K_F32, 2, 1, 3, 8);
    float values[2 * 3 * 8], got[ASKED][2 * 3 * 2] = {{0}}, all[2 * 3 * 8];
    for (int i = 0; i < 2 * 3 * 8; i++)
        values[i] = (float)i;
    k_put(b.k, small, values);
    for (int planning = 1; planning >= 0; planning--) {
        if (planning)
            k_plan_begin(b.k);
        K_CALL(b.k, image_in, x, &from, 1.0f, 0.0f);
        for (int i = 0; i < ASKED; i++)
            k_get_with(b.k, k_slice(small, i, 1 + i % 2), got[i]);
        K_CALL(b.k, image_out, &to, x, 1.0f, 0.0f);
        ck_assert_int_eq(planning ? k_plan_end(b.k) : b.k->status, 0);
    }
    for (int y = 0; y < H; y++)
        ck_assert_mem_eq(out + y * PITCH, in + y * PITCH, 3 * W * sizeof *in);
    for (int i = 0; i < ASKED; i++)
        for (int r = 0; r < 2 * 3; r++)
            for (int c = 0; c <= i % 2; c++)
                ck_assert(got[i][r * (1 + i % 2) + c] == values[r * 8 + i + c]);
    memset(got, 0, sizeof got);
    k_get_with(b.k, k_slice(small, 2, 1), got[0]);
    k_get(b.k, small, all);
    ck_assert(got[0][5] == values[5 * 8 + 2] && all[47] == 47);
    k_drop(b.k, &x);
    k_drop(b.k, &small);
    free(in);
    free(out);
    bed_close(&b);
}
END_TEST

BED_MAIN("contract", test_planning_allocates_and_running_does_not, test_low_memory_holds_less,
         test_rare_weights_stay, test_unplanned_shape_fails, test_first_failure_stays,
         test_misuse_is_named, test_bad_devices_and_weights, test_two_contexts, test_tensors,
         test_get_with)
