/* test_blend.c - prompt blending against its formulas, and no NaN where directions agree. */
#include "plugin/streamdiffusion/blend.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TOKENS = 5, WIDTH = 7, N = TOKENS * WIDTH };
static const blend_shape rows = {.tokens = TOKENS, .width = WIDTH};

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
    blend_embeddings(out, in, w, 3, rows, BLEND_LINEAR);
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
    blend_embeddings(out, in, w, 2, rows, BLEND_SLERP);
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

/* Q18: tokens that agree, as the first of all prompts do, have no arc between them; the originals
 * divide 0 by 0 there. */
START_TEST(parallel_opposite_and_zero_tokens)
{
    const float *in[] = {a, b};
    double w[] = {1, 1};
    for (int i = 0; i < N; i++) {
        a[i] = i < WIDTH ? 0 : 1;
        b[i] = i < 2 * WIDTH ? 2 : i < 3 * WIDTH ? -1 : 0; /* parallel, opposite, zero */
    }
    blend_embeddings(out, in, w, 2, rows, BLEND_SLERP);
    for (int i = 0; i < N; i++)
        ck_assert_double_eq_tol(out[i], (a[i] + b[i]) / 2, 1e-6);
    for (int i = 0; i < N; i++)
        b[i] = -a[i];
    blend_embeddings(out, in, w, 2, rows, BLEND_LINEAR); /* cancels to nothing, not to NaN */
    for (int i = 0; i < N; i++)
        ck_assert(out[i] == 0);
}
END_TEST

/* Q19: an angle of a thousandth is one; the originals take its cosine in fp16, which is 1. */
START_TEST(a_small_angle_is_one)
{
    static const double angle = 1e-3, t = 0.25;
    const float *in[] = {a, b};
    double w[] = {1 - t, t};
    memset(a, 0, sizeof a);
    memset(b, 0, sizeof b);
    for (int k = 0; k < TOKENS; k++) {
        a[k * WIDTH] = 1000;
        b[k * WIDTH] = (float)(1000 * cos(angle));
        b[k * WIDTH + 1] = (float)(1000 * sin(angle));
    }
    b[0] = 3000; /* a longer one of the same direction: its length counts, too */
    b[1] = 0;
    blend_embeddings(out, in, w, 2, rows, BLEND_SLERP);
    ck_assert_double_eq_tol(out[0], 1000 + t * 2000, 1e-3);
    for (int k = 1; k < TOKENS; k++) {
        ck_assert_double_eq_tol(norm(out + k * WIDTH, WIDTH), 1000, 1e-3); /* a chord is shorter */
        ck_assert_double_eq_tol(out[k * WIDTH + 1], 1000 * sin(t * angle), 1e-4);
    }
}
END_TEST

START_TEST(weights)
{
    const float *in[] = {a, c};
    float equal[N];
    fill();
    blend_embeddings(equal, in, (double[]){1, 1}, 2, rows, BLEND_LINEAR);
    const double odd[][2] = {{0, 0},   {1e308, 1e308}, {7, 7},
                             {-1, -1}, {NAN, NAN},     {1e-300, 1e-300}};
    for (size_t k = 0; k < sizeof odd / sizeof *odd; k++) {
        blend_embeddings(out, in, odd[k], 2, rows, BLEND_LINEAR);
        for (int i = 0; i < N; i++)
            ck_assert_double_eq_tol(out[i], equal[i], 1e-6);
    }
    blend_embeddings(out, in, (double[]){0, 2}, 2, rows, BLEND_LINEAR);
    for (int i = 0; i < N; i++)
        ck_assert_double_eq_tol(out[i], c[i], 1e-5);
    blend_embeddings(out, in, (double[]){INFINITY, 2}, 2, rows, BLEND_SLERP);
    for (int i = 0; i < N; i++)
        ck_assert_double_eq_tol(out[i], c[i], 1e-5);
}
END_TEST

START_TEST(one_is_itself_and_the_third_is_taken_in)
{
    const float *in[] = {a, b, c};
    float pair[N], want[N];
    fill();
    blend_embeddings(out, in, (double[]){0}, 1, rows, BLEND_SLERP);
    ck_assert_mem_eq(out, a, sizeof a);
    /* the third goes to the first two by its share of all: 3 of 6 */
    const float *two[] = {pair, c};
    blend_embeddings(pair, in, (double[]){1, 2}, 2, rows, BLEND_SLERP);
    blend_embeddings(want, two, (double[]){3, 3}, 2, rows, BLEND_SLERP);
    blend_embeddings(out, in, (double[]){1, 2, 3}, 3, rows, BLEND_SLERP);
    for (int i = 0; i < N; i++)
        ck_assert_double_eq_tol(out[i], want[i], 1e-6);
    blend_embeddings(out, in, (double[]){1, 2, 0}, 3, rows, BLEND_SLERP); /* as good as absent */
    for (int i = 0; i < N; i++)
        ck_assert_double_eq_tol(out[i], pair[i], 1e-6);
    blend_embeddings(out, in, (double[]){0, 0, 3}, 3, rows, BLEND_SLERP);
    for (int i = 0; i < N; i++)
        ck_assert_double_eq_tol(out[i], c[i], 1e-6);
}
END_TEST

/* A tail is a vector of its own: what the rows do does not reach it. */
START_TEST(tails)
{
    enum { TAIL = 6, ROWS = N - TAIL - 1 }; /* 4 rows of 7, 1 float over: not read */
    const blend_shape tailed = {.tokens = 4, .width = 7, .tail = TAIL}, alone = {1, TAIL, 0};
    const float *in[] = {a, b}, *ends[] = {a + ROWS, b + ROWS};
    float want[TAIL];
    fill();
    ck_assert_uint_eq(blend_size(tailed), 34);
    ck_assert_int_eq(ROWS, 28);
    for (int method = BLEND_LINEAR; method <= BLEND_SLERP; method++) {
        memset(out, 0x7f, sizeof out);
        blend_embeddings(out, in, (double[]){1, 2}, 2, tailed, method);
        blend_embeddings(want, ends, (double[]){1, 2}, 2, alone, method);
        ck_assert_mem_eq(out + ROWS, want, sizeof want);
        ck_assert_int_eq(memcmp(&out[34], (char[]){0x7f, 0x7f, 0x7f, 0x7f}, 4), 0);
    }
    memcpy(out, a, sizeof out);
    blend_emphasise(out, c, (float[]){1, 2, 0, 1}, tailed);
    ck_assert_mem_eq(out, a, 7 * sizeof *a);
    ck_assert_mem_eq(out + 14, c + 14, 7 * sizeof *a);
    ck_assert_mem_eq(out + 21, a + 21, 7 * sizeof *a);
    ck_assert_mem_eq(out + ROWS, a + ROWS, TAIL * sizeof *a);
    for (int i = 7; i < 14; i++)
        ck_assert_double_eq_tol(out[i], c[i] + 2 * (a[i] - c[i]), 1e-6);
}
END_TEST

START_TEST(away_from_a_negative)
{
    const blend_shape tailed = {.tokens = 4, .width = 7, .tail = 7};
    float zero[N] = {0};
    fill();
    memcpy(out, a, sizeof out);
    blend_away(out, b, c, 1.5, tailed);
    for (int row = 0; row < 5; row++) {
        double length = norm(a + 7 * row, 7), d[7], squares = 0;
        ck_assert_double_eq_tol(norm(out + 7 * row, 7), length, 1e-5);
        for (int i = 0; i < 7; i++) {
            d[i] = a[7 * row + i] - 1.5 * (b[7 * row + i] - c[7 * row + i]);
            squares += d[i] * d[i];
        }
        for (int i = 0; i < 7; i++)
            ck_assert_double_eq_tol(out[7 * row + i], d[i] * length / sqrt(squares), 1e-5);
    }
    memcpy(out, a, sizeof out);
    blend_away(out, c, c, 2, tailed); /* the empty negative says nothing */
    for (int i = 0; i < N; i++)
        ck_assert_double_eq_tol(out[i], a[i], 1e-6);
    memcpy(out, a, sizeof out);
    blend_away(out, a, zero, 1, tailed); /* what is left is nothing: the row stays */
    ck_assert_mem_eq(out, a, sizeof a);
}
END_TEST

START_TEST(raw_weights)
{
    ck_assert_double_eq(blend_weight((double[]){1, -2, NAN, .5}, 4), 1.5);
    fill();
    memcpy(out, a, sizeof out);
    blend_scale(out, 0.5, rows);
    for (int i = 0; i < N; i++)
        ck_assert(out[i] == a[i] / 2);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("blend");
    TCase *tc = tcase_create("blend");
    tcase_add_test(tc, linear_keeps_the_norm);
    tcase_add_test(tc, slerp_of_two);
    tcase_add_test(tc, parallel_opposite_and_zero_tokens);
    tcase_add_test(tc, a_small_angle_is_one);
    tcase_add_test(tc, weights);
    tcase_add_test(tc, tails);
    tcase_add_test(tc, away_from_a_negative);
    tcase_add_test(tc, raw_weights);
    tcase_add_test(tc, one_is_itself_and_the_third_is_taken_in);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
