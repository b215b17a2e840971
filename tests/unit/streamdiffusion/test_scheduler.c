/* test_scheduler.c - timesteps and coefficients against diffusers' LCMScheduler. */
#include "plugin/streamdiffusion/scheduler.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>

static scheduler_config usual(void)
{
    scheduler_config c;
    scheduler_defaults(&c);
    return c;
}

static scheduler planned(const scheduler_config *c, int steps, double strength, const int *index,
                         int count)
{
    scheduler s;
    scope_error err = {0};
    ck_assert_msg(!scheduler_plan(&s, c, steps, strength, index, count, &err), "%s", err.text);
    return s;
}

static void refuse(const scheduler_config *c, int steps, double strength, const int *index,
                   int count, const char *field)
{
    scheduler s;
    scope_error err = {0};
    ck_assert_int_lt(scheduler_plan(&s, c, steps, strength, index, count, &err), 0);
    ck_assert_str_eq(err.field, field);
    ck_assert_int_gt((int)strlen(err.text), 20);
}

/* diffusers computes in fp32: its cumulative product of 1000 factors is good to some 1e-6. */
static void near(double is, double want)
{
    ck_assert_msg(fabs(is - want) <= 1e-5 * fabs(want) + 1e-9, "%.9g is not %.9g", is, want);
}

START_TEST(noise_levels)
{
    static const struct {
        int index, t;
        double alpha, sigma;
    } table[] = {
        {0, 999, 0.06826486, 0.99766723},  {1, 979, 0.07689447, 0.99703924},
        {5, 899, 0.11957699, 0.99282493},  {8, 839, 0.16081312, 0.98698487},
        {12, 759, 0.22850136, 0.97354359}, {16, 679, 0.30981265, 0.95079762},
        {18, 639, 0.35483862, 0.93492757}, {20, 599, 0.40218461, 0.91555859},
        {25, 499, 0.52694359, 0.84990026}, {26, 479, 0.55235477, 0.83360915},
        {32, 359, 0.70107073, 0.71309174}, {35, 299, 0.76953439, 0.63860538},
        {36, 279, 0.79103058, 0.61177661}, {37, 259, 0.81177305, 0.58397305},
        {45, 99, 0.94628881, 0.32332257},  {49, 19, 0.99108224, 0.13325159},
    };
    scheduler_config c = usual();
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        scheduler s = planned(&c, 50, 1, &table[i].index, 1);
        ck_assert_int_eq(s.count, 1);
        ck_assert_int_eq(s.step[0].timestep, table[i].t);
        near(s.step[0].alpha, table[i].alpha);
        near(s.step[0].sigma, table[i].sigma);
        near(s.step[0].noise[0], table[i].alpha);
        near(s.step[0].noise[1], table[i].sigma);
        ck_assert(s.step[0].noise[2] == 0 && s.step[0].denoise[2] == 0);
    }
}
END_TEST

START_TEST(grids)
{
    static const int of[][9] = {{1, 999},
                                {2, 999, 499},
                                {3, 999, 679, 339},
                                {4, 999, 759, 499, 259},
                                {8, 999, 879, 759, 639, 499, 379, 259, 139}};
    scheduler_config c = usual();
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        scheduler s = planned(&c, of[i][0], 1, NULL, 0);
        ck_assert_int_eq(s.count, of[i][0]);
        for (int j = 0; j < s.count; j++)
            ck_assert_int_eq(s.step[j].timestep, of[i][j + 1]);
    }
    scheduler s = planned(&c, 50, 1, NULL, 0);
    for (int j = 0; j < 50; j++)
        ck_assert_int_eq(s.step[j].timestep, 999 - 20 * j);
    c.original_steps = 100; /* the grid that mux passes: trailing values */
    s = planned(&c, 4, 1, NULL, 0);
    ck_assert_int_eq(s.step[1].timestep, 749);
    ck_assert_int_eq(s.step[3].timestep, 249);
}
END_TEST

START_TEST(strength_truncates_as_diffusers)
{
    static const struct {
        double strength;
        int t;
    } first[] = {{1, 999},   {.99, 979}, {.9, 899}, {.8, 799}, {.58, 559}, {.5, 499},
                 {.29, 279}, {.1, 99},   {.06, 59}, {.02, 19}, {.019, 19}, {0, 19}};
    scheduler_config c = usual();
    for (size_t i = 0; i < sizeof first / sizeof *first; i++) {
        scheduler s = planned(&c, 1, first[i].strength, NULL, 0);
        ck_assert_int_eq(s.step[0].timestep, first[i].t);
    }
    scheduler s = planned(&c, 8, .06, NULL, 0); /* three timesteps are left: three are run */
    ck_assert_int_eq(s.count, 3);
    ck_assert_int_eq(s.step[2].timestep, 19);
    s = planned(&c, 4, .5, NULL, 0);
    ck_assert_int_eq(s.step[1].timestep, 379);
    ck_assert_int_eq(s.step[3].timestep, 139);
}
END_TEST

START_TEST(indices)
{
    scheduler_config c = usual();
    scheduler s = planned(&c, 50, 1, (int[]){32, 45}, 2);
    ck_assert_int_eq(s.count, 2);
    ck_assert_int_eq(s.step[0].timestep, 359);
    ck_assert_int_eq(s.step[1].timestep, 99);
    s = planned(&c, 4, 1, (int[]){0, 3, 3}, 3);
    ck_assert_int_eq(s.step[0].timestep, 999);
    ck_assert_int_eq(s.step[2].timestep, 259);
    s = planned(&c, 4, .3, (int[]){16},
                1); /* beyond the grid of 4: the grid of 50; strength is moot */
    ck_assert_int_eq(s.step[0].timestep, 679);
    refuse(&c, 50, 1, (int[]){3, 2}, 2, "t_index_list");
    refuse(&c, 50, 1, (int[]){50}, 1, "t_index_list");
    refuse(&c, 50, 1, (int[]){-1}, 1, "t_index_list");
    refuse(&c, 50, 1, (int[]){0}, 51, "t_index_list");
    refuse(&c, 0, 1, NULL, 0, "num_inference_steps");
    refuse(&c, 51, 1, NULL, 0, "num_inference_steps");
    refuse(&c, 1, 1.5, NULL, 0, "strength");
    refuse(&c, 1, NAN, NULL, 0, "strength");
    c.train_timesteps = 0;
    refuse(&c, 1, 1, NULL, 0, "");
}
END_TEST

START_TEST(timesteps)
{
    scheduler_config c = usual();
    scheduler s, grid = planned(&c, 50, 1, (int[]){0, 25}, 2);
    scope_error err = {0};
    ck_assert(!scheduler_plan_timesteps(&s, &c, (int[]){999, 749, 499, 249}, 4, &err));
    ck_assert_int_eq(s.count, 4);
    ck_assert_int_eq(s.step[1].timestep, 749);
    ck_assert_int_eq(memcmp(&s.step[2], &grid.step[1], sizeof s.step[2]), 0);
    ck_assert(!scheduler_plan_timesteps(&s, &c, (int[]){5, 5, 0}, 3, &err)); /* 0: x itself */
    ck_assert_float_eq(s.step[2].denoise[0], 1);
    ck_assert_float_eq(s.step[2].denoise[1], 0);
    static const struct {
        int timestep[2], count;
        const char *says;
    } bad[] = {{{1000}, 1, "entry 0 is 1000; use 0 to 999"},
               {{9, -1}, 2, "entry 1 is -1"},
               {{9, 10}, 2, "entry 1 is 10, after 9"},
               {{9}, 0, "0 entries; give 1 to 50"},
               {{9}, 51, "51 entries"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_int_lt(scheduler_plan_timesteps(&s, &c, bad[i].timestep, bad[i].count, &err), 0);
        ck_assert_str_eq(err.field, "timesteps");
        ck_assert_msg(strstr(err.text, bad[i].says) != NULL, "%s", err.text);
    }
    c.zero_terminal_snr = 1; /* noise that is predicted where there is nothing else */
    ck_assert_int_lt(scheduler_plan_timesteps(&s, &c, (int[]){999}, 1, &err), 0);
    ck_assert_str_eq(err.field, "timesteps");
}
END_TEST

/* With x_t = a x0 + s eps, each prediction leads back to x0. Q1: the originals take every output
 * for noise, which makes a v-model (SD 2.1) paint mud. */
START_TEST(predictions)
{
    double x0 = 0.7, eps = -1.3;
    for (int i = 0; i < 50; i++) {
        scheduler_config c = usual();
        const scheduler_step *p;
        c.prediction = PREDICT_EPSILON;
        scheduler s = planned(&c, 50, 1, &i, 1);
        p = &s.step[0];
        double a = p->alpha, d = p->sigma, x = a * x0 + d * eps;
        double tolerance = 2e-5; /* c_skip is up to 7e-6, and 1/alpha magnifies fp32 15-fold */
        ck_assert_double_eq_tol(p->denoise[0] * x + p->denoise[1] * eps, x0, tolerance);
        c.prediction = PREDICT_V;
        s = planned(&c, 50, 1, &i, 1);
        ck_assert_double_eq_tol(p->denoise[0] * x + p->denoise[1] * (a * eps - d * x0), x0,
                                tolerance);
        c.prediction = PREDICT_SAMPLE;
        s = planned(&c, 50, 1, &i, 1);
        ck_assert_double_eq_tol(p->denoise[0] * x + p->denoise[1] * x0, x0, tolerance);
    }
}
END_TEST

START_TEST(boundary_condition)
{
    scheduler_config c = usual();
    c.prediction = PREDICT_SAMPLE; /* denoise = c_skip, c_out */
    scheduler s = planned(&c, 50, 1, (int[]){49}, 1);
    near(s.step[0].denoise[0], 6.925e-6 / 1.0000361); /* the table has four digits */
    near(s.step[0].denoise[1], 190 / sqrt(190 * 190 + .25));
}
END_TEST

START_TEST(zero_terminal_snr)
{
    scheduler_config c = usual();
    c.zero_terminal_snr = 1;
    refuse(&c, 1, 1, NULL, 0, "strength");
    c.prediction = PREDICT_V;
    scheduler s = planned(&c, 2, 1, NULL, 0);
    ck_assert_double_eq_tol(s.step[0].alpha, 0, 1e-7);
    ck_assert_double_eq_tol(s.step[0].sigma, 1, 1e-7);
    ck_assert_double_eq_tol(s.step[0].denoise[1], -1, 1e-6);
    near(s.step[1].alpha, (0.52694359 - 0.06826486) * 0.99957491 / (0.99957491 - 0.06826486));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("scheduler");
    TCase *tc = tcase_create("scheduler");
    tcase_add_test(tc, noise_levels);
    tcase_add_test(tc, grids);
    tcase_add_test(tc, strength_truncates_as_diffusers);
    tcase_add_test(tc, indices);
    tcase_add_test(tc, timesteps);
    tcase_add_test(tc, predictions);
    tcase_add_test(tc, boundary_condition);
    tcase_add_test(tc, zero_terminal_snr);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
