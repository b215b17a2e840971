/* test_blend.c - prompt blending against its formulas, and no NaN where directions agree. */
#include "plugin/streamdiffusion/blend.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TOKENS = 5, WIDTH = 7, N = TOKENS * WIDTH };

static float a[N], b[N], c[N], out[N];

static void fill(void)
{
    srand(1);
    for (int i = 0; i < N; i++) {
        a[i] = (float)rand() / (float)RAND_MAX - .5f;
        b[i] = (float)rand() / (float)RAND_MAX - .3f;
        c[i] = 3 * (float)rand() / (float)RAND_MAX;
    }
    memcpy(b, a, WIDTH * sizeof *a); /* the first token is the same, as BOS is */
}

static double norm(const float *x, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += (double)x[i] * x[i];
    return sqrt(sum);
}

START_TEST(linear_keeps_the_norm)
{
    const float *in[] = {a, b, c};
    double w[] = {1, 2, 5};
    fill();
    double mean = (norm(a, N) + 2 * norm(b, N) + 5 * norm(c, N)) / 8;
    blend_embeddings(out, in, w, 3, TOKENS, WIDTH, BLEND_LINEAR);
    ck_assert_double_eq_tol(norm(out, N), mean, 1e-5 * mean);
    double scale = out[9] / (a[9] + 2 * b[9] + 5 * c[9]);
    for (int i = 0; i < N; i++)
        ck_assert_double_eq_tol(out[i], scale * (a[i] + 2 * b[i] + 5 * c[i]), 1e-5);
}
END_TEST

START_TEST(slerp_of_two)
{
    const float *in[] = {a, b};
    double w[] = {3, 1}, t = .25;
    fill();
    blend_embeddings(out, in, w, 2, TOKENS, WIDTH, BLEND_SLERP);
    for (int k = 0; k < TOKENS; k++) {
        double dot = 0, na = norm(a + k * WIDTH, WIDTH), nb = norm(b + k * WIDTH, WIDTH);
        for (int i = k * WIDTH; i < (k + 1) * WIDTH; i++)
            dot += (double)a[i] * b[i];
        double angle = acos(fmin(1, dot / na / nb));
        for (int i = k * WIDTH; i < (k + 1) * WIDTH; i++) {
            double want =
                k == 0 ? a[i] : (sin((1 - t) * angle) * a[i] + sin(t * angle) * b[i]) / sin(angle);
            ck_assert_double_eq_tol(out[i], want, 1e-5);
        }
    }
}
END_TEST

START_TEST(parallel_opposite_and_zero_tokens)
{
    const float *in[] = {a, b};
    double w[] = {1, 1};
    for (int i = 0; i < N; i++) {
        a[i] = i < WIDTH ? 0 : 1;
        b[i] = i < 2 * WIDTH ? 2 : i < 3 * WIDTH ? -1 : 0; /* parallel, opposite, zero */
    }
    blend_embeddings(out, in, w, 2, TOKENS, WIDTH, BLEND_SLERP);
    for (int i = 0; i < N; i++)
        ck_assert_double_eq_tol(out[i], (a[i] + b[i]) / 2, 1e-6);
    for (int i = 0; i < N; i++)
        b[i] = -a[i];
    blend_embeddings(out, in, w, 2, TOKENS, WIDTH,
                     BLEND_LINEAR); /* cancels to nothing, not to NaN */
    for (int i = 0; i < N; i++)
        ck_assert(out[i] == 0);
}
END_TEST

START_TEST(weights)
{
    const float *in[] = {a, c};
    float equal[N];
    fill();
    blend_embeddings(equal, in, (double[]){1, 1}, 2, TOKENS, WIDTH, BLEND_LINEAR);
    const double odd[][2] = {{0, 0},   {1e308, 1e308}, {7, 7},
                             {-1, -1}, {NAN, NAN},     {1e-300, 1e-300}};
    for (size_t k = 0; k < sizeof odd / sizeof *odd; k++) {
        blend_embeddings(out, in, odd[k], 2, TOKENS, WIDTH, BLEND_LINEAR);
        for (int i = 0; i < N; i++)
            ck_assert_double_eq_tol(out[i], equal[i], 1e-6);
    }
    blend_embeddings(out, in, (double[]){0, 2}, 2, TOKENS, WIDTH, BLEND_LINEAR);
    for (int i = 0; i < N; i++)
        ck_assert_double_eq_tol(out[i], c[i], 1e-5);
    blend_embeddings(out, in, (double[]){INFINITY, 2}, 2, TOKENS, WIDTH, BLEND_SLERP);
    for (int i = 0; i < N; i++)
        ck_assert_double_eq_tol(out[i], c[i], 1e-5);
}
END_TEST

START_TEST(one_is_itself_and_three_are_linear)
{
    const float *in[] = {a, b, c};
    float linear[N];
    fill();
    blend_embeddings(out, in, (double[]){0}, 1, TOKENS, WIDTH, BLEND_SLERP);
    ck_assert_mem_eq(out, a, sizeof a);
    blend_embeddings(linear, in, (double[]){1, 2, 3}, 3, TOKENS, WIDTH, BLEND_LINEAR);
    blend_embeddings(out, in, (double[]){1, 2, 3}, 3, TOKENS, WIDTH, BLEND_SLERP);
    ck_assert_mem_eq(out, linear, sizeof out);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("blend");
    TCase *tc = tcase_create("blend");
    tcase_add_test(tc, linear_keeps_the_norm);
    tcase_add_test(tc, slerp_of_two);
    tcase_add_test(tc, parallel_opposite_and_zero_tokens);
    tcase_add_test(tc, weights);
    tcase_add_test(tc, one_is_itself_and_three_are_linear);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
