/* test_plan.c - which candidate is chosen, what the plan file keeps of it, and what its variables
 * do. Times come from a clock that the candidates move.
 */
#include "standin.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { COUNT = 5, MOST = 40 };

typedef struct shape {
    double us[MOST];     /* of each candidate; negative: it does not fit */
    double launch[MOST]; /* what a launch adds outside of graphs */
    int runs[MOST];
    int fails; /* this one fails its context; -1: none */
    int libraries;
} shape;

static int run_shape(k_ctx *k, int candidate, void *ctx)
{
    shape *s = ctx;
    ck_assert(cuda_measuring(k));
    s->runs[candidate]++;
    if (candidate == s->fails)
        k_fail(k, "candidate: it cannot");
    if (s->us[candidate] < 0)
        return 1;
    standin_spend(s->us[candidate] + (the.capturing ? 0 : s->launch[candidate]));
    return 0;
}

static const char *name_of(int candidate)
{
    static char names[MOST][16];
    snprintf(names[candidate], sizeof names[candidate], "way %d", candidate);
    return names[candidate];
}

static const char *other_name_of(int candidate)
{
    static char names[MOST][16];
    snprintf(names[candidate], sizeof names[candidate], "road %d", candidate);
    return names[candidate];
}

static int total(const shape *s)
{
    int runs = 0;
    for (int i = 0; i < MOST; i++)
        runs += s->runs[i];
    return runs;
}

static int choose_of(desk *d, const char *key, shape *s, int count)
{
    cuda_choice c = {.key = key,
                     .candidates = count,
                     .guess = 1,
                     .libraries = s->libraries,
                     .run = run_shape,
                     .name = name_of,
                     .ctx = s};
    return cuda_choose(&d->k, &c);
}

static int choose(desk *d, const char *key, shape *s)
{
    return choose_of(d, key, s, COUNT);
}

static shape shape_new(double a, double b, double c, double d, double e)
{
    return (shape){.us = {a, b, c, d, e}, .fails = -1};
}

/* The one file in the folder of plans, or "". */
static const char *file(void)
{
    static char text[1 << 14];
    FILE *f = popen("cat cache/plans_1_* 2>/dev/null", "r");
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    pclose(f);
    return text;
}

static void write_file(const char *text)
{
    mkdir("cache", 0777);
    FILE *f = fopen("cache/plans_1_" KERNELS_ID "_NVIDIA_Test_1__sm90_driver_13000_none.txt", "w");
    fputs(text, f);
    fclose(f);
}

static void set_up(void)
{
    memset(&the, 0, sizeof the);
    ck_assert_int_eq(system("rm -rf cache"), 0);
    setenv("SCOPE_CACHE", "cache", 1);
    setenv("SCOPE_CUDA_LIBRARIES", "off", 1);
    unsetenv("SCOPE_CUDA_TUNE");
}

static void tear_down(void)
{
    ck_assert_int_eq(the.graphs, 0);
    ck_assert_int_eq(the.events, 0);
}

START_TEST(the_fastest_wins_and_ours_wins_ties)
{
    int second;
    const double clear[3] = {100, 90, 120}, tie[3] = {100, 99, 98.5}, none[2] = {-1, -1};
    const double alone[3] = {-1, -1, 7};
    ck_assert_int_eq(cuda_plan_winner(clear, 3, &second), 1);
    ck_assert_int_eq(second, 0);
    ck_assert_int_eq(cuda_plan_winner(tie, 3, &second), 0);
    ck_assert_int_eq(second, 2);
    ck_assert_int_eq(cuda_plan_winner(none, 2, &second), -1);
    ck_assert_int_eq(cuda_plan_winner(alone, 3, &second), 2);
    ck_assert_int_eq(second, -1);
}
END_TEST

START_TEST(a_shape_is_measured_once_and_kept)
{
    desk d;
    shape s = shape_new(100, 80, -1, 60, 70);
    desk_open(&d);
    ck_assert_int_eq(choose(&d, "conv a", &s), 3);
    int runs = total(&s);
    ck_assert_int_gt(runs, 0);
    ck_assert_int_eq(choose(&d, "conv a", &s), 3);
    ck_assert_int_eq(total(&s), runs);
    cuda_plans_save(d.device.plans);
    ck_assert_str_eq(file(), "# scope plans 1: shape, candidate, us, runner-up, us\n"
                             "conv a\tway 3\t60.00\tway 4\t70.00\n");
    desk_close(&d);
    desk_open(&d);
    ck_assert_int_eq(choose(&d, "conv a", &s), 3);
    ck_assert_int_eq(total(&s), runs);
    desk_close(&d);
}
END_TEST

START_TEST(graphs_count_launches_do_not)
{
    desk d;
    shape s = shape_new(10, 8, 9, 30, 100);
    s.launch[1] = 9;
    desk_open(&d);
    ck_assert_int_eq(choose(&d, "conv a", &s), 1);
    ck_assert_int_gt(s.runs[1], 4); /* in graphs */
    ck_assert_int_eq(s.runs[4], 4); /* clearly slower: at first sight alone */
    desk_close(&d);
}
END_TEST

START_TEST(of_many_candidates_few_come_to_the_final)
{
    desk d;
    shape s = {.fails = -1};
    for (int i = 0; i < MOST; i++)
        s.us[i] = 100 - i;
    desk_open(&d);
    ck_assert_int_eq(choose_of(&d, "conv a", &s, MOST), MOST - 2); /* 2 % of the last one's 61 us */
    int finalists = 0;
    for (int i = 0; i < MOST; i++)
        finalists += s.runs[i] > 4;
    ck_assert_int_eq(finalists, 10);
    desk_close(&d);
}
END_TEST

START_TEST(unknown_names_are_measured_anew)
{
    desk d;
    shape s = shape_new(5, 4, 3, 2, 1);
    write_file("conv a\troad 2\t1.0\n");
    desk_open(&d);
    ck_assert_int_eq(choose(&d, "conv a", &s), 4);
    ck_assert_int_gt(total(&s), 0);
    desk_close(&d);
    s = shape_new(5, 4, 3, 2, 1);
    write_file("conv a\troad 2\t1.0\n");
    desk_open(&d);
    cuda_choice c = {.key = "conv a",
                     .candidates = COUNT,
                     .guess = 1,
                     .run = run_shape,
                     .name = other_name_of,
                     .ctx = &s};
    ck_assert_int_eq(cuda_choose(&d.k, &c), 2);
    ck_assert_int_eq(total(&s), 0);
    desk_close(&d);
}
END_TEST

START_TEST(strange_lines_are_ignored)
{
    desk d;
    shape s = shape_new(5, 4, 3, 2, 1);
    write_file("# conv a\tway 0\t1\nconv a\nconv a\t\t3\nconv a\tway 1\tfast\nconv a\tway 1\tnan\n"
               "conv a\tway 1\t-3\n\n\tway 1\t2\nconv a\tway 1\t1.5 \nconv b\tway 2\t3\tway\n"
               "conv \x01\tway 1\t1\nconv c\tway 1\t1.0");
    desk_open(&d);
    ck_assert_int_eq(choose(&d, "conv a", &s), 4);
    ck_assert_int_eq(choose(&d, "conv c", &s), 4); /* a line that was cut off */
    s = shape_new(5, 4, 3, 2, 1);
    ck_assert_int_eq(choose(&d, "conv b", &s), 2);
    ck_assert_int_eq(total(&s), 0);
    desk_close(&d);
    ck_assert_str_eq(file(), "# scope plans 1: shape, candidate, us, runner-up, us\n"
                             "conv a\tway 4\t1.00\tway 3\t2.00\n"
                             "conv b\tway 2\t3.00\n"
                             "conv c\tway 4\t1.00\tway 3\t2.00\n");
}
END_TEST

START_TEST(what_another_process_wrote_stays)
{
    desk a, b;
    shape s = shape_new(5, 4, 3, 2, 1), t = shape_new(1, 4, 3, 2, 5);
    desk_open(&a);
    desk_open(&b);
    ck_assert_int_eq(choose(&a, "conv a", &s), 4);
    ck_assert_int_eq(choose(&b, "conv b", &t), 0);
    ck_assert_int_eq(choose(&b, "conv both", &t), 0);
    ck_assert_int_eq(choose(&a, "conv both", &s), 4);
    desk_close(&b);
    desk_close(&a);
    ck_assert_str_eq(file(), "# scope plans 1: shape, candidate, us, runner-up, us\n"
                             "conv a\tway 4\t1.00\tway 3\t2.00\n"
                             "conv b\tway 0\t1.00\tway 3\t2.00\n"
                             "conv both\tway 4\t1.00\tway 3\t2.00\n");
    ck_assert_int_eq(system("test $(ls cache | wc -l) = 1"), 0);
}
END_TEST

START_TEST(the_variable_tunes)
{
    desk d;
    shape s = shape_new(5, 4, 3, -1, 1);
    setenv("SCOPE_CUDA_TUNE", "off", 1);
    desk_open(&d);
    ck_assert_int_eq(choose(&d, "conv a", &s), 1);
    ck_assert_int_eq(total(&s), 0);
    desk_close(&d);
    setenv("SCOPE_CUDA_TUNE", "2", 1);
    desk_open(&d);
    ck_assert_int_eq(choose(&d, "conv a", &s), 2);
    desk_close(&d);
    setenv("SCOPE_CUDA_TUNE", "3", 1);
    desk_open(&d);
    ck_assert_int_eq(choose(&d, "conv a", &s), 1);
    desk_close(&d);
    setenv("SCOPE_CUDA_TUNE", "7", 1);
    desk_open(&d);
    ck_assert_int_eq(choose(&d, "conv a", &s), 1);
    desk_close(&d);
    ck_assert_str_eq(file(), "");
}
END_TEST

START_TEST(refresh_measures_once_more)
{
    desk d;
    shape s = shape_new(5, 4, 3, 2, 1);
    write_file("conv a\tway 0\t1.0\nconv z\tway 0\t1.0\n");
    setenv("SCOPE_CUDA_TUNE", "refresh", 1);
    desk_open(&d);
    ck_assert_int_eq(choose(&d, "conv a", &s), 4);
    int runs = total(&s);
    cuda_plans_save(d.device.plans);
    ck_assert_int_eq(choose(&d, "conv a", &s), 4);
    ck_assert_int_eq(total(&s), runs);
    ck_assert_int_eq(choose(&d, "conv z", &s), 4); /* the merge brought it, measured it is anyway */
    desk_close(&d);
    ck_assert_str_eq(file(), "# scope plans 1: shape, candidate, us, runner-up, us\n"
                             "conv a\tway 4\t1.00\tway 3\t2.00\n"
                             "conv z\tway 4\t1.00\tway 3\t2.00\n");
}
END_TEST

START_TEST(no_folder_is_no_error)
{
    desk d;
    shape s = shape_new(5, 4, 3, 2, 1);
    setenv("SCOPE_CACHE", "/proc/none/of/it", 1);
    desk_open(&d);
    ck_assert_int_eq(choose(&d, "conv a", &s), 4);
    desk_close(&d);
    unsetenv("SCOPE_CACHE");
    unsetenv("XDG_CACHE_HOME");
    unsetenv("HOME");
    desk_open(&d);
    ck_assert_int_eq(choose(&d, "conv a", &s), 4);
    desk_close(&d);
}
END_TEST

START_TEST(the_folder_is_the_users)
{
    desk d;
    shape s = shape_new(5, 4, 3, 2, 1);
    char here[512];
    ck_assert_ptr_nonnull(getcwd(here, sizeof here));
    unsetenv("SCOPE_CACHE");
    unsetenv("XDG_CACHE_HOME");
    setenv("HOME", here, 1);
    desk_open(&d);
    choose(&d, "conv a", &s);
    desk_close(&d);
    ck_assert_int_eq(system("test $(ls .cache/scope/plans_1_*_NVIDIA_Test_1__sm90_* | wc -l) = 1"),
                     0);
    setenv("XDG_CACHE_HOME", "xdg", 1);
    desk_open(&d);
    choose(&d, "conv a", &s);
    desk_close(&d);
    ck_assert_int_eq(system("test $(ls xdg/scope/plans_1_* | wc -l) = 1"), 0);
}
END_TEST

START_TEST(a_candidate_that_fails_is_not_the_network)
{
    desk d;
    shape s = shape_new(5, 4, 3, 2, 1);
    s.fails = 4;
    desk_open(&d);
    ck_assert_int_eq(choose(&d, "conv a", &s), 3);
    ck_assert_int_eq(d.k.status, 0);
    shape none = shape_new(-1, -1, -1, -1, -1);
    ck_assert_int_eq(choose(&d, "conv b", &none), 1);
    the.captures_fail = 1;
    s = shape_new(5, 4, 3, 2, 1);
    ck_assert_int_eq(choose(&d, "conv c", &s), 1);
    desk_close(&d);
    ck_assert_str_eq(file(), "# scope plans 1: shape, candidate, us, runner-up, us\n"
                             "conv a\tway 3\t2.00\tway 2\t3.00\n");
}
END_TEST

START_TEST(a_lost_device_is)
{
    desk d;
    shape s = shape_new(5, 4, 3, 2, 1);
    desk_open(&d);
    the.lost = 1;
    ck_assert_int_eq(choose(&d, "conv a", &s), 1);
    ck_assert_int_eq(d.k.status, -1);
    int runs = total(&s);
    ck_assert_int_eq(choose(&d, "conv a", &s), 1); /* after a failure nothing is measured */
    ck_assert_int_eq(total(&s), runs);
    desk_close(&d);
    ck_assert_str_eq(file(), "");
}
END_TEST

START_TEST(frames_ask_without_measuring)
{
    desk d;
    shape s = shape_new(5, 4, 3, 2, 1);
    desk_open(&d);
    d.k.planning = 0;
    ck_assert_int_eq(choose(&d, "conv a", &s), 1);
    ck_assert_int_eq(total(&s), 0);
    d.k.planning = 1;
    choose(&d, "conv a", &s);
    d.k.planning = 0;
    ck_assert_int_eq(choose(&d, "conv a", &s), 4);
    desk_close(&d);
}
END_TEST

static void *plan_all(void *ctx)
{
    desk *d = ctx;
    k_ctx k = {.device = &d->device.base, .planning = 1};
    for (int i = 0; i < 200; i++) {
        shape s = shape_new(5, 4, 3, 2, 1);
        char key[32];
        snprintf(key, sizeof key, "conv %d", i);
        cuda_choice c = {.key = key,
                         .candidates = COUNT,
                         .guess = 1,
                         .run = run_shape,
                         .name = name_of,
                         .ctx = &s};
        if (cuda_choose(&k, &c) != 4)
            return ctx;
    }
    return NULL;
}

START_TEST(two_contexts_plan_at_once)
{
    desk d;
    desk_open(&d);
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, plan_all, &d);
    for (int i = 0; i < 2; i++) {
        void *wrong;
        pthread_join(threads[i], &wrong);
        ck_assert_ptr_null(wrong);
    }
    desk_close(&d);
    int lines = 0;
    for (const char *at = file(); *at; at++)
        lines += *at == '\n';
    ck_assert_int_eq(lines, 201);
}
END_TEST

static void take_line(void *ctx, const char *text)
{
    strcat(strcat(ctx, text), "|");
}

START_TEST(people_read_the_plan)
{
    desk d;
    char text[512] = "";
    shape s = shape_new(5, 4, 3, 2, 1);
    write_file("conv z\tway 0\t1.0\n");
    desk_open(&d);
    choose(&d, "conv a", &s);
    cuda_device_plan(&d.device.base, take_line, text);
    ck_assert_str_eq(text, "conv a                                                "
                           "1.0 us  way 4 (way 3 2.0)|");
    desk_close(&d);
}
END_TEST

START_TEST(long_keys_are_measured_and_not_kept)
{
    desk d;
    shape s = shape_new(5, 4, 3, 2, 1);
    char key[400];
    memset(key, 'x', sizeof key - 1);
    key[sizeof key - 1] = 0;
    desk_open(&d);
    ck_assert_int_eq(choose(&d, key, &s), 4);
    ck_assert_int_eq(choose(&d, "a\tb", &s), 4);
    desk_close(&d);
    ck_assert_str_eq(file(), "");
}
END_TEST

/* A library's call costs the host a lot, and that is not what is compared. */
START_TEST(libraries_are_measured_to_the_end)
{
    desk d;
    shape s = shape_new(5, 6, 7, 8, 1);
    s.launch[4] = 100;
    desk_open(&d);
    ck_assert_int_eq(choose(&d, "linear own", &s), 0); /* not worth a graph, at first sight */
    s.libraries = 4;
    ck_assert_int_eq(choose(&d, "linear", &s), 4);
    desk_close(&d);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("plan");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, the_fastest_wins_and_ours_wins_ties);
    tcase_add_test(t, a_shape_is_measured_once_and_kept);
    tcase_add_test(t, graphs_count_launches_do_not);
    tcase_add_test(t, of_many_candidates_few_come_to_the_final);
    tcase_add_test(t, unknown_names_are_measured_anew);
    tcase_add_test(t, strange_lines_are_ignored);
    tcase_add_test(t, what_another_process_wrote_stays);
    tcase_add_test(t, the_variable_tunes);
    tcase_add_test(t, refresh_measures_once_more);
    tcase_add_test(t, no_folder_is_no_error);
    tcase_add_test(t, the_folder_is_the_users);
    tcase_add_test(t, a_candidate_that_fails_is_not_the_network);
    tcase_add_test(t, a_lost_device_is);
    tcase_add_test(t, frames_ask_without_measuring);
    tcase_add_test(t, two_contexts_plan_at_once);
    tcase_add_test(t, libraries_are_measured_to_the_end);
    tcase_add_test(t, people_read_the_plan);
    tcase_add_test(t, long_keys_are_measured_and_not_kept);
    Suite *s = suite_create("plan");
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
