/* test_guidance.c - the rows of every kind of guidance against the formulas written out, for
 * networks that predict noise, v or the sample; and where residual guidance cannot be. */
#include "plugin/streamdiffusion/guidance.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>

static const double x = 0.83, output = -0.61, second = 0.37, stock = 1.21;

static scheduler planned(int prediction, int zero_terminal_snr)
{
    scheduler s;
    scheduler_config c;
    scope_error err = {0};
    scheduler_defaults(&c);
    c.prediction = prediction;
    c.zero_terminal_snr = zero_terminal_snr;
    ck_assert_msg(!scheduler_plan_timesteps(&s, &c, (int[]){999, 499, 0}, 3, &err), "%s", err.text);
    return s;
}

/* The noise that a network's output means for x. */
static double noise_of(int prediction, const scheduler_step *at, double y)
{
    return prediction == PREDICT_EPSILON ? y
           : prediction == PREDICT_V     ? at->alpha * y + at->sigma * x
                                         : (x - at->alpha * y) / at->sigma;
}

static double clean(const scheduler_step *at, double eps)
{
    return at->out * (x - at->sigma * eps) / at->alpha + at->skip * x;
}

START_TEST(rows_are_the_formulas)
{
    const guidance g = {_i / 3, 1.7, 0.6};
    int prediction = PREDICT_EPSILON + _i % 3;
    scheduler s = planned(prediction, 0);
    for (int i = 0; i < 3; i++) {
        const scheduler_step *at = &s.step[i];
        double p = noise_of(prediction, at, output), row[3];
        double u = guidance_is_residual(g) ? g.delta * stock : noise_of(prediction, at, second);
        double eps = g.kind == GUIDE_NONE ? p : u + g.scale * (p - u);
        guidance_denoise(g, at, row);
        double got =
            row[0] * x + row[1] * output + row[2] * (guidance_is_residual(g) ? stock : second);
        ck_assert_double_eq_tol(got, clean(at, eps), 1e-5 * fmax(1, fabs(clean(at, eps))));
        if (!guidance_is_residual(g) || i == 2)
            continue;
        const scheduler_step *next = &s.step[i + 1];
        double d = at->out * (at->sigma * stock - at->sigma * eps) / at->alpha +
                   at->skip * at->sigma * stock;
        guidance_residual(g, at, next, row);
        got = row[0] * stock + row[1] * output + row[2] * x;
        ck_assert_double_eq_tol(got, next->alpha / next->sigma * d, 1e-9 * fmax(1, fabs(got)));
    }
}
END_TEST

/* At a timestep without signal the noise is all there is, and u = delta S says nothing. */
START_TEST(no_signal_no_residual)
{
    scheduler s = planned(PREDICT_V, 1);
    for (int kind = GUIDE_FULL; kind <= GUIDE_INITIALIZE; kind++) {
        scope_error err = {0};
        const guidance g = {kind, 2, 1};
        int refused = guidance_check(g, &s, &err) != 0;
        ck_assert_int_eq(refused, guidance_is_residual(g));
        ck_assert_str_eq(err.field, refused ? "cfg_type" : "");
    }
}
END_TEST

/* A latent of known clean part and noise: with S the true noise and delta 1, self guidance moves
 * nothing when the network agrees, for any scale. */
START_TEST(agreement_needs_no_guidance)
{
    scheduler s = planned(PREDICT_EPSILON, 0);
    const scheduler_step *at = &s.step[1];
    double eps = 0.4, z = (x - at->sigma * eps) / at->alpha, row[3];
    for (double g = 1; g <= 8; g += 3.5) {
        guidance_denoise((guidance){GUIDE_SELF, g, 1}, at, row);
        ck_assert_double_eq_tol(row[0] * x + row[1] * eps + row[2] * eps, z, 1e-6);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("guidance");
    TCase *t = tcase_create("guidance");
    tcase_add_loop_test(t, rows_are_the_formulas, 0, 12);
    tcase_add_test(t, no_signal_no_residual);
    tcase_add_test(t, agreement_needs_no_guidance);
    suite_add_tcase(suite, t);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
