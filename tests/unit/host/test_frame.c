/* test_frame.c - the frame pool: shapes, reuse, counting, refusal. */
#include "host/frame.h"

#include <check.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static scope_video shape(int t, int h, int w, int c, int dtype)
{
    return (scope_video){.t = t, .h = h, .w = w, .c = c, .dtype = dtype, .device = SCOPE_CPU};
}

START_TEST(layout)
{
    static const struct {
        int t, h, w, c, dtype;
        int64_t stride_h, stride_t;
    } cases[] = {
        {1, 3, 5, 3, SCOPE_U8, 15, 45},
        {2, 7, 1, 4, SCOPE_F16, 8, 56},
        {4, 1, 9, 1, SCOPE_F32, 36, 36},
    };
    frame_pool *pool = frame_pool_new();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        scope_error err;
        scope_video v = shape(cases[i].t, cases[i].h, cases[i].w, cases[i].c, cases[i].dtype);
        frame *f = frame_new(pool, &v, &err);
        ck_assert_ptr_nonnull(f);
        ck_assert_int_eq(f->v.stride_h, cases[i].stride_h);
        ck_assert_int_eq(f->v.stride_t, cases[i].stride_t);
        ck_assert_uint_eq((uintptr_t)f->v.data % 64, 0);
        memset(f->v.data, 1, (size_t)(f->v.stride_t * f->v.t)); /* all of it is ours */
        frame_unref(f);
    }
    frame_pool_free(pool);
}
END_TEST

START_TEST(reuse)
{
    scope_error err;
    frame_pool *pool = frame_pool_new();
    scope_video big = shape(1, 100, 100, 3, SCOPE_U8), less = shape(1, 90, 90, 3, SCOPE_U8);
    scope_video tiny = shape(1, 2, 2, 3, SCOPE_U8);
    frame *f = frame_new(pool, &big, &err);
    void *data = f->v.data;
    frame_ref(f);
    frame_unref(f);
    frame *other = frame_new(pool, &big, &err);
    ck_assert_ptr_ne(other->v.data, data); /* f is still out */
    frame_unref(f);
    frame *again = frame_new(pool, &less, &err);
    ck_assert_ptr_eq(again->v.data, data); /* by capacity, not by shape */
    ck_assert_int_eq(again->v.w, 90);
    frame_unref(again);
    frame *small = frame_new(pool, &tiny, &err);
    ck_assert_ptr_ne(small->v.data, data); /* not wasted on what is far smaller */
    frame_unref(small);
    frame_unref(other);
    frame_unref(NULL);
    frame_pool_free(pool);
}
END_TEST

START_TEST(refusal)
{
    static const struct {
        int t, h, w, c, dtype;
        const char *says;
    } cases[] = {
        {0, 4, 4, 3, SCOPE_U8, "time"},          {1, 0, 4, 3, SCOPE_U8, "height"},
        {1, 4, -1, 3, SCOPE_U8, "width"},        {1, 4, 40000, 3, SCOPE_U8, "32768"},
        {1, 4, 4, 2, SCOPE_U8, "2 channels"},    {1, 4, 4, 3, 0, "0 is no element type"},
        {1, 4, 4, 3, 9, "9 is no element type"}, {99, 32768, 32768, 4, SCOPE_F32, "too large"},
    };
    frame_pool *pool = frame_pool_new();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        scope_error err = {0};
        scope_video v = shape(cases[i].t, cases[i].h, cases[i].w, cases[i].c, cases[i].dtype);
        ck_assert_ptr_null(frame_new(pool, &v, &err));
        ck_assert_int_eq(err.status, SCOPE_EINVAL);
        ck_assert_msg(strstr(err.text, cases[i].says), "%s", err.text);
    }
    frame_pool_free(pool);
}
END_TEST

static void *no_memory(void *ctx, size_t bytes)
{
    (void)ctx, (void)bytes;
    return NULL;
}

static void give_nothing(void *ctx, void *data, size_t bytes)
{
    (void)ctx, (void)data, (void)bytes;
}

START_TEST(out_of_memory)
{
    scope_error err = {0};
    scope_video v = shape(1, 512, 512, 3, SCOPE_U8);
    frame_pool *pool = frame_pool_new_in(&(frame_memory){0, no_memory, give_nothing, false});
    ck_assert_ptr_null(frame_new(pool, &v, &err));
    ck_assert_int_eq(err.status, SCOPE_ENOMEM);
    ck_assert_msg(strstr(err.text, "512 x 512"), "%s", err.text);
    frame_pool_free(pool);
}
END_TEST

static void *churn(void *pool)
{
    for (int i = 0; i < 2000; i++) {
        scope_error err;
        scope_video v = shape(1, 8 + i % 5, 16, 3, SCOPE_U8);
        frame *f = frame_new(pool, &v, &err);
        memset(f->v.data, i, (size_t)f->v.stride_t);
        frame_unref(frame_ref(f));
        ck_assert_int_eq(((uint8_t *)f->v.data)[f->v.stride_t - 1], (uint8_t)i);
        frame_unref(f);
    }
    return NULL;
}

START_TEST(threads)
{
    pthread_t threads[4];
    frame_pool *pool = frame_pool_new();
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, churn, pool);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    frame_pool_free(pool); /* asserts that all came back */
}
END_TEST

int main(void)
{
    Suite *s = suite_create("frame");
    TCase *c = tcase_create("pool");
    tcase_add_test(c, layout);
    tcase_add_test(c, reuse);
    tcase_add_test(c, refusal);
    tcase_add_test(c, out_of_memory);
    tcase_add_test(c, threads);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
