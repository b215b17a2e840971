/* test_library.c - products through oneDNN (SCOPE_CPU=onednn): the cases of test_linear and
 * test_conv again, and what kernels.h promises of memory, plans and contexts.
 */
#include "bed.h"

#include <pthread.h>
#include <stdatomic.h>

/* ---- allocations: ours, and what all libraries together still hold --------------------------- */

static _Atomic long ours, held;

#if !defined(__SANITIZE_ADDRESS__)
#define SEEN __attribute__((visibility("default")))
extern char __executable_start, etext;
void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_memalign(size_t, size_t);
void __libc_free(void *);

static void *counted(void *data, const void *caller)
{
    held += data != NULL;
    ours += (const char *)caller >= &__executable_start && (const char *)caller < &etext;
    return data;
}

SEEN void *malloc(size_t n)
{
    return counted(__libc_malloc(n), __builtin_return_address(0));
}

SEEN void *calloc(size_t n, size_t size)
{
    return counted(__libc_calloc(n, size), __builtin_return_address(0));
}

SEEN void *aligned_alloc(size_t to, size_t n)
{
    return counted(__libc_memalign(to, n), __builtin_return_address(0));
}

SEEN int posix_memalign(void **data, size_t to, size_t n)
{
    *data = counted(__libc_memalign(to, n), __builtin_return_address(0));
    return *data ? 0 : 12;
}

SEEN void free(void *data)
{
    held -= data != NULL;
    __libc_free(data);
}
#endif

static bed library_open(int memory)
{
    setenv("SCOPE_CPU", "onednn", 1);
    bed b = bed_open("base", memory, 2);
    unsetenv("SCOPE_CPU");
    ck_assert_ptr_nonnull(b.device);
    return b;
}

/* ---- every case of the other tests ----------------------------------------------------------- */

static void run_program(const char *name, const char *cpu, const char *isa)
{
    char command[1024];
    snprintf(command, sizeof command, "SCOPE_CPU=%s ONEDNN_MAX_CPU_ISA=%s %s/tests/kernels/%s", cpu,
             isa, BUILD_DIR, name);
    ck_assert_msg(system(command) == 0, "%s", command);
}

START_TEST(test_linear_cases)
{
    run_program("test_linear", "onednn", "ALL");
    run_program("test_linear", "onednn", "SSE41");
}
END_TEST

START_TEST(test_conv_cases)
{
    run_program("test_conv", "onednn", "ALL");
    run_program("test_conv", "onednn", "SSE41");
    run_program("test_conv", "mixed", "ALL");
}
END_TEST

/* ---- a small network ------------------------------------------------------------------------- */

typedef struct net {
    bed_weight conv, down, qkv, geglu;
} net;

static void net_init(bed *b, net *n)
{
    n->conv = bed_weight_of(b, 32, 32, 3, 1, 1, K_F16);
    n->down = bed_weight_of(b, 24, 32, 3, 1, 0, K_F32);
    n->qkv = bed_weight_of(b, 72, 24, 1, 3, 0, K_BF16);
    n->geglu = bed_weight_of(b, 48, 24, 1, 1, 1, K_F16);
}

static void net_fini(bed *b, net *n)
{
    bed_weight_free(b, &n->conv);
    bed_weight_free(b, &n->down);
    bed_weight_free(b, &n->qkv);
    bed_weight_free(b, &n->geglu);
}

enum { LARGEST = 16 * 16 * 24 };

static void net_run(k_ctx *k, const net *n, int side, float *result)
{
    k_release(k, 0);
    k_tensor x = k_temp(k, K_F32, 1, side, side, 32), y = k_temp(k, K_F32, 1, side, side, 32);
    k_tensor z = k_temp(k, K_F32, 1, side / 2, side / 2, 24);
    k_tensor qkv = k_temp(k, K_F32, 1, side / 2, side / 2, 72);
    K_CALL(k, noise, x, 1, 2);
    K_CALL(k, conv, y, x, n->conv.w, &(k_conv){.act = K_SILU, .residual = x});
    K_CALL(k, conv, z, y, n->down.w, &(k_conv){.stride = 2, .pad_end_only = 1});
    K_CALL(k, linear, qkv, z, n->qkv.w, NULL);
    K_CALL(k, linear, z, k_slice(qkv, 24, 24), n->geglu.w,
           &(k_linear){.act = K_GEGLU, .residual = k_slice(qkv, 48, 24)});
    k_get(k, z, result);
}

static void net_plan(k_ctx *k, const net *n, int side)
{
    k_plan_begin(k);
    net_run(k, n, side, NULL);
    ck_assert_msg(k_plan_end(k) == 0, "%s", k->where);
}

/* oneDNN allocates while it runs (its list of arguments, a buffer of version 2's GEMM) but keeps
 * none of it; we allocate nothing. */
START_TEST(test_running_allocates_nothing_of_ours)
{
    for (int memory = K_MEMORY_NORMAL; memory <= K_MEMORY_LOW; memory++) {
        bed b = library_open(memory);
        static net n;
        static float first[LARGEST], second[LARGEST];
        net_init(&b, &n);
        ck_assert_uint_eq(k_device_bytes(b.device), 0);
        net_plan(b.k, &n, 32);
        net_run(b.k, &n, 32, first); /* the threads of OpenMP start here */
        size_t bytes = k_device_bytes(b.device);
        long ours_before = ours, held_before = held;
        net_run(b.k, &n, 32, second);
        long ours_more = ours - ours_before, held_more = held - held_before;
#if !defined(__SANITIZE_ADDRESS__)
        ck_assert_int_gt(ours_before, 0); /* planning was seen */
#endif
        ck_assert_int_eq(ours_more, 0);
        ck_assert_int_eq(held_more, 0);
        ck_assert_uint_eq(k_device_bytes(b.device), bytes);
        ck_assert_msg(!b.k->status, "%s", b.k->where);
        ck_assert_mem_eq(first, second, sizeof first);
        net_fini(&b, &n);
        ck_assert_uint_eq(k_device_bytes(b.device), 0);
        bed_close(&b);
    }
#if defined(__SANITIZE_ADDRESS__)
    printf("SKIP: allocations are not counted under AddressSanitizer\n");
#endif
}
END_TEST

START_TEST(test_low_memory_packs_as_it_runs)
{
    static float results[2][LARGEST];
    for (int memory = K_MEMORY_NORMAL; memory <= K_MEMORY_LOW; memory++) {
        bed b = library_open(memory);
        static net n;
        bed_state = 1; /* the same weights */
        net_init(&b, &n);
        net_plan(b.k, &n, 32);
        net_run(b.k, &n, 32, results[memory]);
        ck_assert_msg(!b.k->status, "%s", b.k->where);
        size_t weights = 4 * (32 * 32 * 9 + 32 * 24 * 9), most = memory == K_MEMORY_LOW ? 2048 : 0;
        if (most)
            ck_assert_uint_le(k_device_bytes(b.device), most); /* biases */
        else
            ck_assert_uint_ge(k_device_bytes(b.device), weights);
        net_fini(&b, &n);
        bed_close(&b);
    }
    ck_assert_mem_eq(results[0], results[1], sizeof results[0]);
}
END_TEST

START_TEST(test_unplanned_shape_is_named)
{
    bed b = library_open(K_MEMORY_NORMAL);
    static net n;
    static float result[LARGEST];
    net_init(&b, &n);
    net_plan(b.k, &n, 32);
    net_run(b.k, &n, 16, result);
    ck_assert_int_eq(b.k->status, -1);
    ck_assert_msg(strstr(b.k->where, "conv: [1, 16, 16, 32] to [1, 16, 16, 32]") &&
                      strstr(b.k->where, "plan the shape first"),
                  "%s", b.k->where);
    /* A new plan drops what the one before it asked for, and takes it up again. */
    net_plan(b.k, &n, 16);
    net_run(b.k, &n, 16, result);
    ck_assert_msg(!b.k->status, "%s", b.k->where);
    net_run(b.k, &n, 32, result);
    ck_assert_int_eq(b.k->status, -1);
    net_plan(b.k, &n, 32);
    net_run(b.k, &n, 32, result);
    ck_assert_msg(!b.k->status, "%s", b.k->where);
    net_fini(&b, &n);
    bed_close(&b);
}
END_TEST

/* y += f(x), as residual connections are written where memory is dear. */
START_TEST(test_residual_may_be_y)
{
    bed b = library_open(K_MEMORY_NORMAL);
    bed_weight w = bed_weight_of(&b, 33, 20, 3, 1, 1, K_F16);
    for (int extra = 0; extra <= 3; extra += 3) {
        k_tensor x = bed_tensor(&b, 2, 6, 5, 20, extra), y = bed_tensor(&b, 2, 6, 5, 33, extra);
        k_tensor row = bed_tensor(&b, 2, 1, 1, 33, 0), z = bed_tensor(&b, 2, 6, 5, 33, 0);
        double sum[2 * 6 * 5 * 33];
        BED_RUN(&b, conv, z, x, w.w, &(k_conv){.row = row});
        for (int i = 0; i < 2 * 6 * 5 * 33; i++)
            sum[i] = (double)bed_at(y, i / 33)[i % 33] + (double)bed_at(z, i / 33)[i % 33];
        BED_RUN(&b, conv, y, x, w.w, &(k_conv){.row = row, .residual = y});
        bed_compare(&b, y, sum, 1e-6, "y += conv(x)"); /* one more rounding, another order */
        bed_drop(&b, &x);
        bed_drop(&b, &y);
        bed_drop(&b, &row);
        bed_drop(&b, &z);
    }
    bed_weight_free(&b, &w);
    bed_close(&b);
}
END_TEST

/* ---- contexts -------------------------------------------------------------------------------- */

typedef struct worker {
    k_ctx *k;
    const net *n;
    int side;
    float result[LARGEST];
} worker;

static void *work(void *data)
{
    worker *w = data;
    for (int i = 0; i < 6; i++) {
        k_plan_begin(w->k);
        net_run(w->k, w->n, w->side, NULL);
        if (k_plan_end(w->k))
            break;
        net_run(w->k, w->n, w->side, w->result);
    }
    return NULL;
}

START_TEST(test_two_contexts_share_weights)
{
    static worker workers[2];
    static net n;
    static float alone[2][LARGEST];
    pthread_t threads[2];
    char why[K_WHY];
    bed b = library_open(K_MEMORY_NORMAL);
    net_init(&b, &n);
    for (int i = 0; i < 2; i++) {
        workers[i] = (worker){.n = &n, .side = i ? 16 : 32};
        workers[i].k = k_open(b.device, why);
        work(&workers[i]);
        ck_assert_msg(!workers[i].k->status, "%s", workers[i].k->where);
        memcpy(alone[i], workers[i].result, sizeof alone[i]);
    }
    net_plan(b.k, &n, 32);
    size_t bytes = k_device_bytes(b.device);
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        ck_assert_msg(!workers[i].k->status, "%s", workers[i].k->where);
        ck_assert_mem_eq(alone[i], workers[i].result, sizeof alone[i]);
    }
    ck_assert_uint_eq(k_device_bytes(b.device), bytes); /* one copy of what all of them use */
    for (int i = 0; i < 2; i++)
        k_close(workers[i].k);
    net_fini(&b, &n);
    ck_assert_uint_eq(k_device_bytes(b.device), 0);
    bed_close(&b);
}
END_TEST

START_TEST(test_choice)
{
    char why[K_WHY] = "";
    setenv("SCOPE_CPU", "abacus", 1);
    ck_assert_ptr_null(k_device_open("cpu", NULL, why));
    ck_assert_msg(strstr(why, "abacus") && strstr(why, "onednn"), "%s", why);
    setenv("SCOPE_CPU", "own", 1);
    k_device *d = k_device_open("cpu", NULL, why);
    ck_assert_msg(d != NULL, "%s", why);
    k_device_close(d);
    unsetenv("SCOPE_CPU");
}
END_TEST

BED_MAIN("library", test_linear_cases, test_conv_cases, test_running_allocates_nothing_of_ours,
         test_low_memory_packs_as_it_runs, test_unplanned_shape_is_named, test_residual_may_be_y,
         test_two_contexts_share_weights, test_choice)
