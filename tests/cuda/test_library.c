/* test_library.c - cuDNN and cuBLASLt as candidates, by fakes that remember what they were told and
 * fail where they are asked to.
 */
#include "fake.h"
#include "standin.h"

#include <check.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FAKES BUILD_DIR "/tests/cuda/fakes"

static fake *dnn, *lt;
static k_weight weight;
static cuda_form form;
static float bias[1280];
static _Alignas(16) char memory[4][64];

/* The fake in that folder, which the backend will find too. */
static fake *fake_in(const char *folder, const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s/%s", FAKES, folder, name);
    void *file = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    ck_assert_msg(file, "%s", dlerror());
    return dlsym(file, "fake_state");
}

static void use(const char *folder)
{
    char path[512];
    snprintf(path, sizeof path, "/nowhere::%s/%s", FAKES, folder);
    setenv("SCOPE_CUDA_LIBS", path, 1);
    dnn = fake_in(folder, "libcudnn.so.9");
    lt = fake_in(folder, "libcublasLt.so.13");
}

static void set_up(void)
{
    memset(&the, 0, sizeof the);
    unsetenv("SCOPE_CUDA_LIBRARIES");
    use("full");
}

/* Everything that was made is gone. */
static void tear_down(void)
{
    ck_assert_int_eq(dnn->live, 0);
    ck_assert_int_eq(lt->live, 0);
    ck_assert_uint_eq(the.bytes, 0);
}

static k_tensor tensor(int at, int n, int h, int w, int c, int ld)
{
    return (k_tensor){memory[at], K_F16, n, h, w, c, ld};
}

/* A 3x3 convolution of 64 x 32 pixels, 320 to 640 channels. */
static cuda_product conv(void)
{
    weight.desc = (k_weight_desc){.out = 640, .in = 320, .kh = 3, .kw = 3, .parts = 1};
    weight.desc.bias[0].data = bias;
    form = (cuda_form){.data = (void *)0x3000, .bias = bias, .depth = 9 * 320};
    return (cuda_product){.op = "conv",
                          .x = tensor(0, 1, 64, 32, 320, 320),
                          .y = tensor(1, 1, 64, 32, 640, 960),
                          .w = &weight,
                          .side = 3,
                          .stride = 1,
                          .pad = 1};
}

/* 77 rows, 1024 to 320 channels. */
static cuda_product linear(void)
{
    weight.desc = (k_weight_desc){.out = 320, .in = 1024, .kh = 1, .kw = 1, .parts = 1};
    weight.desc.bias[0].data = bias;
    form = (cuda_form){.data = (void *)0x3000, .bias = bias, .depth = 1024};
    return (cuda_product){.op = "linear",
                          .x = tensor(0, 1, 1, 77, 1024, 1024),
                          .y = tensor(1, 1, 1, 77, 320, 320),
                          .w = &weight,
                          .side = 1,
                          .stride = 1};
}

/* Plan, then one frame. */
static int plan_and_run(desk *d, int candidate, const cuda_product *p)
{
    d->k.planning = 1;
    int unfit = cuda_library_run(&d->k, candidate, p, &form);
    d->k.planning = 0;
    *dnn->log = *lt->log = 0;
    return unfit ? unfit : cuda_library_run(&d->k, candidate, p, &form);
}

/* ---- finding --------------------------------------------------------------------------------- */

static const char *versions_with(const char *folder)
{
    static char text[LIBRARY_TEXT];
    desk d;
    use(folder);
    desk_open(&d);
    snprintf(text, sizeof text, "%s", cuda_library_versions(d.device.library));
    desk_close(&d);
    return text;
}

START_TEST(both_are_found)
{
    desk d;
    desk_open(&d);
    ck_assert_int_eq(cuda_library_candidates(&d.device), 10);
    ck_assert_str_eq(cuda_library_versions(d.device.library), "cublasLt 13.1.0, cudnn 9.19.0");
    ck_assert_str_eq(cuda_library_name(0), "cudnn 0");
    ck_assert_str_eq(cuda_library_name(9), "cublasLt 5");
    ck_assert_ptr_null(cuda_library_name(10));
    desk_close(&d);
    ck_assert_str_eq(cuda_library_versions(NULL), "none");
}
END_TEST

START_TEST(a_variable_leaves_them_alone)
{
    desk d;
    setenv("SCOPE_CUDA_LIBRARIES", "off", 1);
    desk_open(&d);
    ck_assert_int_eq(cuda_library_candidates(&d.device), 0);
    ck_assert_str_eq(cuda_library_versions(d.device.library), "none");
    cuda_product p = conv();
    ck_assert_int_ne(plan_and_run(&d, 0, &p), 0);
    p = linear();
    ck_assert_int_ne(plan_and_run(&d, 4, &p), 0);
    desk_close(&d);
}
END_TEST

START_TEST(what_does_not_suit_is_refused)
{
    dnn->version = 8902;
    ck_assert_str_eq(versions_with("full"), "cublasLt 13.1.0, cudnn 8902 is too old (90000)");
    dnn->version = 91900;
    dnn->cuda_version = 12080;
    ck_assert_str_eq(versions_with("full"),
                     "cublasLt 13.1.0, cudnn 9.19.0, which is for CUDA 12 and not used");
    dnn->cuda_version = 13000;
    lt->version = 111103;
    ck_assert_str_eq(versions_with("full"), "cublasLt 111103 is too old (120000)");
    lt->version = 130100;
    ck_assert_str_eq(versions_with("full"), "cublasLt 13.1.0, cudnn 9.19.0");
}
END_TEST

START_TEST(all_functions_must_be_there)
{
    ck_assert_str_eq(versions_with("lacking"), "cublasLt without cublasLtMatmul is not used");
    ck_assert_str_eq(versions_with("lacking-cudnn"),
                     "cublasLt 13.1.0, cudnn without cudnnBackendExecute is not used");
}
END_TEST

/* ---- cuDNN ----------------------------------------------------------------------------------- */

START_TEST(a_convolution_runs)
{
    desk d;
    desk_open(&d);
    cuda_product p = conv();
    char want[256];
    ck_assert_int_eq(cuda_library_run(&d.k, 1, &p, &form), 0);
    ck_assert_uint_eq(the.scratch_need, 4096);
    ck_assert_int_eq(the.biases, 1);
    /* x, filter, in between, y, bias */
    ck_assert_str_eq(dnn->log, "pitch=10240,320 pitch=960,320 pitch=20480,640 pitch=30720,960 "
                               "after=1,1 pitch=640,640 pointwise=0 ops=2 ");
    ck_assert_int_eq(plan_and_run(&d, 1, &p), 0);
    ck_assert_int_eq(the.called, 1);
    ck_assert_int_eq(the.call_error, cudaSuccess);
    snprintf(want, sizeof want, "stream=57 at=%lx at=3000 at=%lx at=", (long)(uintptr_t)memory[0],
             (long)(uintptr_t)memory[1]);
    ck_assert_msg(!strncmp(dnn->log, want, strlen(want)), "%s", dnn->log);
    snprintf(want, sizeof want, "workspace=%lx execute ", (long)(uintptr_t)the.scratch);
    ck_assert_msg(strstr(dnn->log, want), "%s", dnn->log);
    desk_close(&d);
}
END_TEST

START_TEST(what_is_fused_comes_in_that_order)
{
    desk d;
    desk_open(&d);
    cuda_product p = conv();
    p.residual = tensor(2, 1, 64, 32, 640, 640);
    p.act = K_RELU;
    ck_assert_int_eq(cuda_library_run(&d.k, 0, &p, &form), 0);
    ck_assert_ptr_nonnull(
        strstr(dnn->log, "pointwise=0 pitch=640,640 pointwise=0 pointwise=100 ops=4"));
    ck_assert_int_eq(plan_and_run(&d, 0, &p), 0);
    char want[64];
    snprintf(want, sizeof want, "at=%lx workspace=", (long)(uintptr_t)memory[2]);
    ck_assert_ptr_nonnull(strstr(dnn->log, want));
    weight.desc.bias[0].data = NULL;
    *dnn->log = 0;
    d.k.planning = 1;
    ck_assert_int_eq(cuda_library_run(&d.k, 0, &p, &form), 0);
    ck_assert_ptr_nonnull(strstr(dnn->log, "ops=3"));
    desk_close(&d);
}
END_TEST

START_TEST(a_row_is_added_to_the_bias)
{
    desk d;
    desk_open(&d);
    cuda_product p = conv();
    char want[64];
    p.row = (k_tensor){memory[3], K_F16, 1, 1, 1, 640, 640};
    ck_assert_int_eq(plan_and_run(&d, 0, &p), 0);
    ck_assert_uint_eq(the.scratch_need, 4096 + 2 * 640);
    ck_assert_int_eq(the.rows, 1);
    ck_assert_int_eq(the.biases, 0);
    snprintf(want, sizeof want, "at=%lx workspace=", (long)(uintptr_t)(the.scratch + 4096));
    ck_assert_ptr_nonnull(strstr(dnn->log, want));
    desk_close(&d);
}
END_TEST

START_TEST(padding_reaches_as_far_as_it_must)
{
    desk d;
    desk_open(&d);
    cuda_product p = conv();
    p.stride = 2;
    p.y.h = 32, p.y.w = 16;
    ck_assert_int_eq(cuda_library_run(&d.k, 0, &p, &form), 0);
    ck_assert_ptr_nonnull(strstr(dnn->log, "after=1,1"));
    *dnn->log = 0;
    p.pad = 0; /* right and bottom only */
    ck_assert_int_eq(cuda_library_run(&d.k, 0, &p, &form), 0);
    ck_assert_ptr_nonnull(strstr(dnn->log, "after=1,1"));
    p = conv();
    p.y.h = 60; /* not what comes out */
    ck_assert_int_ne(cuda_library_run(&d.k, 0, &p, &form), 0);
    desk_close(&d);
}
END_TEST

START_TEST(engines_that_compile_or_waver_are_left_out)
{
    desk d;
    desk_open(&d);
    cuda_product p = conv();
    dnn->behavior = 0;
    ck_assert_int_ne(cuda_library_run(&d.k, 0, &p, &form), 0);
    p.act = K_RELU; /* another shape: a refusal is remembered */
    dnn->behavior = 1;
    dnn->numerics = 4;
    ck_assert_int_ne(cuda_library_run(&d.k, 0, &p, &form), 0);
    p.stride = 2, p.y.h = 32, p.y.w = 16;
    dnn->numerics = 9;
    dnn->workspace = (size_t)1 << 30;
    ck_assert_int_ne(cuda_library_run(&d.k, 0, &p, &form), 0);
    p.act = K_IDENTITY;
    dnn->workspace = 0;
    dnn->unfinished = 1;
    ck_assert_int_eq(cuda_library_run(&d.k, 1, &p, &form), 0);
    ck_assert_int_ne(cuda_library_run(&d.k, 2, &p, &form), 0); /* two of three are left */
    p.act = K_RELU, p.pad = 0;
    dnn->unmade = 1;
    ck_assert_int_eq(cuda_library_run(&d.k, 1, &p, &form), 0);
    ck_assert_int_ne(cuda_library_run(&d.k, 2, &p, &form), 0);
    desk_close(&d);
}
END_TEST

/* ---- cuBLASLt -------------------------------------------------------------------------------- */

START_TEST(a_product_runs)
{
    desk d;
    desk_open(&d);
    cuda_product p = linear();
    char want[256];
    ck_assert_int_eq(cuda_library_run(&d.k, 6, &p, &form), 0);
    ck_assert_str_eq(lt->log, "epilogue=4 bias=100 [1024,320;1024] [1024,77;1024] [320,77;320] "
                              "[320,77;320] ");
    ck_assert_uint_eq(the.scratch_need, 1 << 20);
    the.scratch_absent = 1;
    ck_assert_int_ne(plan_and_run(&d, 6, &p), 0);
    the.scratch_absent = 0;
    ck_assert_int_eq(plan_and_run(&d, 6, &p), 0);
    snprintf(want, sizeof want, "w=3000 x=%lx c=%lx y=%lx alpha=1 beta=0 algo=2 workspace=%lx+%d ",
             (long)(uintptr_t)memory[0], (long)(uintptr_t)memory[1], (long)(uintptr_t)memory[1],
             (long)(uintptr_t)the.scratch, 1 << 20);
    ck_assert_msg(strstr(lt->log, want), "%s", lt->log);
    desk_close(&d);
}
END_TEST

START_TEST(a_residual_is_the_third_matrix)
{
    desk d;
    desk_open(&d);
    cuda_product p = linear();
    char want[64];
    weight.desc.bias[0].data = NULL;
    p.residual = tensor(2, 1, 1, 77, 320, 640);
    p.act = K_RELU;
    ck_assert_int_eq(cuda_library_run(&d.k, 4, &p, &form), 0);
    ck_assert_str_eq(lt->log,
                     "epilogue=2 [1024,320;1024] [1024,77;1024] [320,77;320] [320,77;640] ");
    ck_assert_int_eq(plan_and_run(&d, 4, &p), 0);
    ck_assert_int_eq(the.biases, 0);
    snprintf(want, sizeof want, "c=%lx y=%lx alpha=1 beta=1 ", (long)(uintptr_t)memory[2],
             (long)(uintptr_t)memory[1]);
    ck_assert_ptr_nonnull(strstr(lt->log, want));
    p.act = K_IDENTITY;
    *lt->log = 0;
    d.k.planning = 1;
    ck_assert_int_eq(cuda_library_run(&d.k, 4, &p, &form), 0);
    ck_assert_ptr_nonnull(strstr(lt->log, "epilogue=1 "));
    desk_close(&d);
}
END_TEST

START_TEST(a_1x1_convolution_is_a_product)
{
    desk d;
    desk_open(&d);
    cuda_product p = linear();
    p.x.h = p.y.h = 2;
    ck_assert_int_eq(plan_and_run(&d, 4, &p), 0);
    ck_assert_int_ne(plan_and_run(&d, 0, &p), 0); /* and cuDNN's it is not */
    p = conv();
    ck_assert_int_ne(plan_and_run(&d, 4, &p), 0);
    desk_close(&d);
}
END_TEST

/* ---- what no library takes ------------------------------------------------------------------- */

START_TEST(other_products_are_left_to_us)
{
    desk d;
    desk_open(&d);
    for (int i = 0; i < 13; i++) {
        cuda_product p = conv();
        switch (i) {
        case 0:
            p.x.dtype = K_F32;
            break;
        case 1:
            p.y.dtype = K_F32;
            break;
        case 2:
            p.y.dtype = K_BF16;
            break;
        case 3:
            p.up = 1;
            break;
        case 4:
            p.act = K_SILU;
            break;
        case 5:
            p.residual = tensor(2, 1, 64, 32, 640, 640), p.residual.dtype = K_F32;
            break;
        case 6:
            p.x.c = 4, form.depth = 9 * 8;
            break;
        case 7:
            p.x.ld = 321;
            break;
        case 8:
            p.y.data = memory[1] + 2;
            break;
        case 9:
            p.x.n = p.y.n = 2, p.row = (k_tensor){memory[3], K_F16, 2, 1, 1, 640, 640};
            break;
        case 10:
            form.depth = 9 * 328;
            break;
        case 11:
            p.x.dtype = p.y.dtype = K_BF16, d.device.sm = 75;
            break;
        case 12:
            p.residual = tensor(2, 1, 64, 32, 640, 644);
            break;
        }
        ck_assert_msg(plan_and_run(&d, 0, &p) != 0, "case %d", i);
        d.device.sm = 90;
    }
    cuda_product p = conv();
    d.k.planning = 0;
    ck_assert_int_ne(cuda_library_run(&d.k, 0, &p, &form), 0); /* not planned */
    p.x.dtype = p.y.dtype = K_BF16;
    ck_assert_int_eq(plan_and_run(&d, 0, &p), 0);
    desk_close(&d);
}
END_TEST

/* ---- biases ---------------------------------------------------------------------------------- */

START_TEST(each_plan_writes_the_copy_of_a_bias_anew)
{
    desk d;
    desk_open(&d);
    cuda_product p = linear();
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(plan_and_run(&d, 4, &p), 0);
    ck_assert_int_eq(the.biases, 3);
    ck_assert_uint_eq(the.bytes, 2 * 320);
    p.x.dtype = p.y.dtype = K_BF16;
    ck_assert_int_eq(plan_and_run(&d, 4, &p), 0);
    ck_assert_uint_eq(the.bytes, 4 * 320);
    p = conv();
    the.alloc_fails = 1;
    ck_assert_int_ne(plan_and_run(&d, 0, &p), 0);
    the.alloc_fails = 0;
    ck_assert_int_eq(plan_and_run(&d, 0, &p), 0);
    desk_close(&d);
}
END_TEST

/* ---- failures -------------------------------------------------------------------------------- */

START_TEST(while_measuring_it_runs_at_once)
{
    desk d;
    desk_open(&d);
    cuda_product p = linear();
    cuda_measure_begin(&d.k);
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(cuda_library_run(&d.k, 4, &p, &form), 0);
    ck_assert_int_eq(the.called, 0);
    ck_assert_int_eq(the.biases, 1);
    ck_assert_uint_eq(the.bytes, (1 << 20) + 2 * 320);
    lt->runs_fail = 1;
    ck_assert_int_ne(cuda_library_run(&d.k, 4, &p, &form), 0);
    cuda_measure_end(&d.k);
    cuda_library_rest(d.device.library);
    ck_assert_uint_eq(the.bytes, 2 * 320);
    cuda_measure_begin(&d.k);
    the.alloc_fails = 1;
    ck_assert_int_ne(cuda_library_run(&d.k, 4, &p, &form), 0);
    cuda_measure_end(&d.k);
    desk_close(&d);
    lt->runs_fail = 0;
}
END_TEST

START_TEST(a_run_that_fails_is_reported)
{
    desk d;
    desk_open(&d);
    cuda_product p = conv();
    dnn->runs_fail = 1;
    ck_assert_int_eq(plan_and_run(&d, 0, &p), 0);
    ck_assert_int_eq(the.call_error, cudaErrorNotSupported);
    dnn->runs_fail = 0;
    desk_close(&d);
}
END_TEST

START_TEST(no_candidates_is_an_answer)
{
    desk d;
    desk_open(&d);
    dnn->found = lt->found = 0;
    cuda_product p = conv();
    ck_assert_int_ne(plan_and_run(&d, 0, &p), 0);
    p = linear();
    ck_assert_int_ne(plan_and_run(&d, 4, &p), 0);
    desk_close(&d);
    dnn->found = 3, lt->found = 6;
}
END_TEST

/* Whichever call fails, the product is refused or the run reports it, and nothing is left behind.
 */
START_TEST(each_call_may_fail)
{
    for (int library = 0; library < 2; library++) {
        fake *f = library ? lt : dnn;
        int quiet = 0;
        for (int at = 1; quiet < 2; at++) {
            desk d;
            desk_open(&d);
            cuda_product p = library ? linear() : conv();
            the.call_error = cudaSuccess;
            f->calls = 0;
            f->fail_at = at;
            plan_and_run(&d, library ? 4 : 0, &p);
            quiet = f->calls < at ? quiet + 1 : 0;
            f->fail_at = 0;
            desk_close(&d);
            ck_assert_msg(f->live == 0, "library %d, call %d: %d are left", library, at, f->live);
            ck_assert_uint_eq(the.bytes, 0);
            ck_assert_int_lt(at, 1000);
        }
    }
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("library");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, both_are_found);
    tcase_add_test(t, a_variable_leaves_them_alone);
    tcase_add_test(t, what_does_not_suit_is_refused);
    tcase_add_test(t, all_functions_must_be_there);
    tcase_add_test(t, a_convolution_runs);
    tcase_add_test(t, what_is_fused_comes_in_that_order);
    tcase_add_test(t, a_row_is_added_to_the_bias);
    tcase_add_test(t, padding_reaches_as_far_as_it_must);
    tcase_add_test(t, engines_that_compile_or_waver_are_left_out);
    tcase_add_test(t, a_product_runs);
    tcase_add_test(t, a_residual_is_the_third_matrix);
    tcase_add_test(t, a_1x1_convolution_is_a_product);
    tcase_add_test(t, other_products_are_left_to_us);
    tcase_add_test(t, each_plan_writes_the_copy_of_a_bias_anew);
    tcase_add_test(t, while_measuring_it_runs_at_once);
    tcase_add_test(t, a_run_that_fails_is_reported);
    tcase_add_test(t, no_candidates_is_an_answer);
    tcase_add_test(t, each_call_may_fail);
    Suite *s = suite_create("library");
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
