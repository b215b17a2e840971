/* test_similar.c - the two decisions that are made on the host: to skip a frame, and how much of
 * the result shows. */
#include "plugin/streamdiffusion/bypass.h"
#include "plugin/streamdiffusion/similar.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static similar state;
static const similar_settings usual = {.threshold = 0.98, .max_skip = 10, .seed = 42};

static void setup(void)
{
    state = (similar){0};
}

/* Skipped frames among n of one likeness. */
static int skipped(const similar_settings *o, double likeness, int n)
{
    int sum = 0;
    for (int i = 0; i < n; i++)
        sum += similar_skip(&state, o, likeness);
    return sum;
}

START_TEST(what_is_never_skipped)
{
    similar_settings o = usual;
    ck_assert_int_eq(skipped(&o, NAN, 100), 0);
    ck_assert_int_eq(skipped(&o, 0.98, 100), 0);
    ck_assert_int_eq(skipped(&o, -1, 100), 0);
    o.max_skip = 0;
    ck_assert_int_eq(skipped(&o, 1, 100), 0);
    o = usual;
    o.threshold = 1;
    ck_assert_int_eq(skipped(&o, 1, 100), 0);
    ck_assert_int_eq(skipped(&o, 1.0000001, 100), 0); /* a rounded cosine */
}
END_TEST

/* Ten in a row and no more, from the first on. */
START_TEST(a_still_picture_is_refreshed)
{
    for (int i = 0; i < 110; i++)
        ck_assert_int_eq(similar_skip(&state, &usual, 1), i % 11 != 10);
}
END_TEST

/* Q9: a frame that is processed for its own sake begins the count anew. */
START_TEST(any_processed_frame_counts)
{
    ck_assert_int_eq(skipped(&usual, 1, 9), 9);
    ck_assert_int_eq(similar_skip(&state, &usual, 0), 0);
    ck_assert_int_eq(skipped(&usual, 1, 10), 10);
    ck_assert_int_eq(similar_skip(&state, &usual, 1), 0);
}
END_TEST

/* p = 1 - (1 - s) / (1 - threshold); of n frames p n are skipped, within 4 standard deviations. */
START_TEST(skips_as_often_as_promised)
{
    enum { N = 20000 };
    similar_settings o = usual;
    o.max_skip = N;
    for (double s = 0.981; s < 1; s += 0.002) {
        double p = 1 - (1 - s) / (1 - 0.98);
        double off = fabs((double)skipped(&o, s, N) - p * N);
        ck_assert_msg(off < 4 * sqrt(N * p * (1 - p)), "%g: off by %g", s, off);
        state.skipped = 0;
    }
    o.threshold = 0;
    ck_assert_int_lt(abs(skipped(&o, 0.3, N) - 6000), 260);
}
END_TEST

START_TEST(runs_repeat)
{
    similar_settings o = usual;
    char first[200], again[200], other[200];
    for (int i = 0; i < 200; i++)
        first[i] = (char)similar_skip(&state, &o, 0.99);
    state = (similar){0};
    for (int i = 0; i < 200; i++)
        again[i] = (char)similar_skip(&state, &o, 0.99);
    ck_assert_mem_eq(first, again, sizeof first);
    state = (similar){0};
    o.seed++;
    for (int i = 0; i < 200; i++)
        other[i] = (char)similar_skip(&state, &o, 0.99);
    ck_assert_mem_ne(first, other, sizeof first);
}
END_TEST

/* ---- bypass -------------------------------------------------------------------------------- */

START_TEST(cuts)
{
    bypass b = {0};
    for (int i = 0; i < 6; i++)
        ck_assert_double_eq(bypass_step(&b, i & 1, 0), i & 1);
}
END_TEST

START_TEST(begins_without_a_fade)
{
    bypass on = {0}, off = {0};
    ck_assert_double_eq(bypass_step(&on, 1, 10), 1);
    ck_assert_double_eq(bypass_step(&off, 0, 10), 0);
}
END_TEST

START_TEST(fades_both_ways)
{
    bypass b = {0};
    bypass_step(&b, 1, 4);
    static const double down[] = {0.75, 0.5, 0.25, 0, 0}, up[] = {0.25, 0.5, 0.75, 1, 1};
    for (int i = 0; i < 5; i++)
        ck_assert_double_eq(bypass_step(&b, 0, 4), down[i]);
    for (int i = 0; i < 5; i++)
        ck_assert_double_eq(bypass_step(&b, 1, 4), up[i]);
    bypass_step(&b, 0, 4);
    ck_assert_double_eq(bypass_step(&b, 1, 4), 1); /* turned round on the way */
    bypass_step(&b, 0, 4);
    ck_assert_double_eq(bypass_step(&b, 0, 8), 0.625); /* slower from here */
    ck_assert_double_eq(bypass_step(&b, 0, 0), 0);     /* and cut */
}
END_TEST

/* The ends are reached exactly, after as many frames as were asked for. */
START_TEST(reaches_its_ends)
{
    for (int n = 1; n <= 600; n++) {
        bypass b = {0};
        bypass_step(&b, 1, n);
        int frames = 1;
        while (bypass_step(&b, 0, n) > 0)
            frames++;
        ck_assert_int_eq(frames, n);
        for (frames = 1; bypass_step(&b, 1, n) < 1;)
            frames++;
        ck_assert_int_eq(frames, n);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("similar");
    TCase *t = tcase_create("similar");
    tcase_add_checked_fixture(t, setup, NULL);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, what_is_never_skipped);
    tcase_add_test(t, a_still_picture_is_refreshed);
    tcase_add_test(t, any_processed_frame_counts);
    tcase_add_test(t, skips_as_often_as_promised);
    tcase_add_test(t, runs_repeat);
    tcase_add_test(t, cuts);
    tcase_add_test(t, begins_without_a_fade);
    tcase_add_test(t, fades_both_ways);
    tcase_add_test(t, reaches_its_ends);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
