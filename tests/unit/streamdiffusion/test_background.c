/* test_background.c - lists of texts that come faster than they can be worked on: which are worked
 * on, when, and that the end is clean. Also run under ThreadSanitizer. */
#include "plugin/streamdiffusion/background.h"

#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { SEEN_MAX = 64 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char seen[SEEN_MAX][16]; /* under lock */
static int count;
static atomic_int slow_ms;

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static int work(void *ctx, const char *text, scope_error *err)
{
    ck_assert_ptr_eq(ctx, seen);
    usleep((unsigned)slow_ms * 1000);
    pthread_mutex_lock(&lock);
    if (count < SEEN_MAX)
        snprintf(seen[count++], sizeof seen[0], "%s", text);
    pthread_mutex_unlock(&lock);
    return strcmp(text, "bad") ? 0 : scope_fail(err, SCOPE_EIO, "It is bad.");
}

static int seen_count(void)
{
    pthread_mutex_lock(&lock);
    int n = count;
    pthread_mutex_unlock(&lock);
    return n;
}

static background *start(int quiet_ms, int most_ms)
{
    scope_error err;
    const background_options o = {quiet_ms, most_ms, work, seen};
    count = 0;
    slow_ms = 0;
    background *b = background_open(&o, &err);
    ck_assert_msg(b != NULL, "%s", err.text);
    return b;
}

static scope_error await(background *b, long ticket)
{
    scope_error err;
    for (int i = 0; background_done(b, &err) < ticket; i++) {
        ck_assert_int_lt(i, 10000);
        usleep(1000);
    }
    return err;
}

START_TEST(the_newest_is_worked_on_after_a_rest)
{
    background *b = start(100, 100000);
    double t0 = now_ms();
    long first = background_post(b, "a", 2), last = 0;
    for (int i = 0; i < 10; i++)
        last = background_post(b, "b\0c", 4);
    ck_assert_int_gt(first, 0);
    ck_assert_int_eq(last, first + 10);
    await(b, last);
    ck_assert_double_ge(now_ms() - t0, 99);
    ck_assert_int_eq(seen_count(), 2);
    ck_assert_str_eq(seen[0], "b");
    ck_assert_str_eq(seen[1], "c");
    background_close(b);
}
END_TEST

START_TEST(without_a_rest_it_begins_all_the_same)
{
    background *b = start(100000, 200);
    scope_error err;
    double t0 = now_ms();
    long last = background_post(b, "a", 2);
    while (!background_done(b, &err)) {
        ck_assert_double_lt(now_ms() - t0, 60000);
        usleep(5000);
        last = background_post(b, "b", 2);
    }
    ck_assert_double_ge(now_ms() - t0, 199);
    await(b, last); /* and the rest after another while */
    background_close(b);
}
END_TEST

START_TEST(failures_are_told_and_pass)
{
    background *b = start(1, 1);
    scope_error err = await(b, background_post(b, "a\0bad\0c", 8));
    ck_assert_int_eq(err.status, SCOPE_EIO);
    ck_assert_str_eq(err.text, "It is bad.");
    ck_assert_int_eq(seen_count(), 2); /* what came behind it was left */
    err = await(b, background_post(b, "c", 2));
    ck_assert_int_eq(err.status, 0);
    background_close(b);
}
END_TEST

START_TEST(what_comes_during_the_work_waits)
{
    background *b = start(1, 1);
    slow_ms = 50;
    long first = background_post(b, "a", 2);
    while (!seen_count() && first) {
        usleep(10000);
        background_post(b, "b", 2);
    }
    long last = background_post(b, "c", 2);
    await(b, last);
    ck_assert_str_eq(seen[seen_count() - 1], "c");
    background_close(b);
}
END_TEST

START_TEST(long_lists)
{
    enum { BYTES = 100000 };
    char *text = malloc(BYTES);
    background *b = start(1, 1);
    memset(text, 'x', BYTES);
    text[BYTES - 1] = 0;
    for (int i = 0; i < 3; i++) {
        await(b, background_post(b, text, BYTES));
        await(b, background_post(b, "y", 2));
    }
    ck_assert_int_eq(seen_count(), 6);
    ck_assert_str_eq(seen[4], "xxxxxxxxxxxxxxx");
    ck_assert_str_eq(seen[5], "y");
    background_close(b);
    free(text);
}
END_TEST

START_TEST(the_end)
{
    background_close(NULL);
    background_close(start(1, 1)); /* idle */
    background *b = start(100000, 100000);
    background_post(b, "a", 2); /* waiting */
    background_close(b);
    ck_assert_int_eq(count, 0);
    b = start(1, 1);
    slow_ms = 100; /* at work: the text under way is waited for, the next is left */
    background_post(b, "a\0b\0c", 6);
    usleep(50000);
    background_close(b);
    ck_assert_int_le(count, 2);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("background");
    TCase *tc = tcase_create("background");
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, the_newest_is_worked_on_after_a_rest);
    tcase_add_test(tc, without_a_rest_it_begins_all_the_same);
    tcase_add_test(tc, failures_are_told_and_pass);
    tcase_add_test(tc, what_comes_during_the_work_waits);
    tcase_add_test(tc, long_lists);
    tcase_add_test(tc, the_end);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
