/* test_lost.c - frames that the networks make of values that are not finite: they do not reach the
 * output, nothing of them lives on, and the person is told. */
#include "tiny.h"

enum { SIDE = 64, N = 3 * SIDE * SIDE };

static const char *dir;
static const model *m;
static pipeline *p;
static scope_error err;
static float a[2 * N], b[2 * N];

static void setup(void)
{
    dir = tiny_folder();
    tiny_make(dir, (tiny_options){0});
    const model_options o = {.path = dir, .taesd = "", .device = "cpu"};
    m = model_acquire(NULL, &o, &err);
    ck_assert_msg(m != NULL, "%s", err.text);
    p = pipeline_open(m, &err);
    ck_assert_msg(p != NULL, "%s", err.text);
}

static void teardown(void)
{
    pipeline_close(p);
    model_release(m);
    tiny_remove(dir);
}

static pipeline_settings usual(void)
{
    return (pipeline_settings){.width = SIDE,
                               .height = SIDE,
                               .fit = FIT_CROP,
                               .use_taesd = 1,
                               .prompt = {.count = 1, .text = {"a cat"}, .weight = {1}},
                               .negative_prompt = "",
                               .seed = 42,
                               .steps = 3,
                               .strength = 0.8,
                               .do_add_noise = 1,
                               .guidance_scale = 2,
                               .cfg_type = GUIDE_FULL,
                               .delta = 1,
                               .effects = {.loopback_mix = 1,
                                           .loopback_zoom = 1,
                                           .mask_source = MASK_ALPHA,
                                           .mask_strength = 1,
                                           .similar_threshold = 0.98,
                                           .similar_max_skip = 10}};
}

/* Call number i of a moving picture. */
static void call(const pipeline_settings *s, int i, float *out)
{
    static uint8_t in[2 * N];
    int frames = s->frame_buffer_size ? s->frame_buffer_size : 1;
    for (int j = 0; j < frames * N; j++)
        in[j] = (uint8_t)(128 + 100 * sin(0.05 * j / 3 + 0.3 * i));
    k_image from = {in, K_U8, frames, SIDE, SIDE, 3, N, 3 * SIDE};
    k_image to = {out, K_F32, frames, SIDE, SIDE, 3, 4 * N, 12 * SIDE};
    ck_assert_msg(!pipeline_set(p, s, &err), "%s", err.text);
    ck_assert_msg(!pipeline_frame(p, s->from_text ? NULL : &from, &to, &err), "%s", err.text);
    for (int j = 0; j < frames * N; j++)
        ck_assert(out[j] >= 0 && out[j] <= 1);
}

/* Guidance that no float can hold. */
static pipeline_settings broken(pipeline_settings s)
{
    s.guidance_scale = 3e38;
    return s;
}

static void run(pipeline_settings s)
{
    size_t bytes = sizeof *a * N * (size_t)(s.frame_buffer_size ? s.frame_buffer_size : 1);
    pipeline_settings bad = broken(s);
    for (int i = 0; i < 4; i++)
        call(&s, i, a);
    ck_assert_str_eq(pipeline_notice(p), "");
    /* What was on its way before the change may still be good. */
    for (int i = 4; i < 4 + s.steps; i++) {
        memcpy(b, a, bytes);
        call(&bad, i, a);
    }
    ck_assert_mem_eq(a, b, bytes);
    ck_assert_ptr_nonnull(strstr(pipeline_notice(p), "not finite"));
    ck_assert_ptr_nonnull(strstr(pipeline_notice(p), "guidance_scale"));
    int64_t repeats = pipeline_repeats(p);
    ck_assert_int_gt(repeats, 0);
    call(&s, 20, a);
    ck_assert_int_eq(pipeline_repeats(p), repeats);
    for (int i = 21; i < 24; i++)
        call(&s, i, a);
    /* As if the stream had begun after the loss. */
    pipeline_reset(p);
    for (int i = 20; i < 24; i++)
        call(&s, i, b);
    ck_assert_mem_eq(a, b, bytes);
    ck_assert_str_eq(pipeline_notice(p), "");
}

START_TEST(in_sequence)
{
    pipeline_settings s = usual();
    s.effects.latent_feedback = 0.3;
    run(s);
}
END_TEST

START_TEST(in_a_stream_batch)
{
    pipeline_settings s = usual();
    s.use_denoising_batch = 1;
    s.effects.latent_feedback = 0.3;
    run(s);
    s.frame_buffer_size = 2;
    run(s);
    s.frame_buffer_size = 0;
    s.cfg_type = GUIDE_SELF;
    run(s);
}
END_TEST

START_TEST(with_the_large_autoencoder)
{
    pipeline_settings s = usual(), bad = broken(s);
    bad.use_taesd = 0;
    call(&s, 0, a);
    call(&bad, 1, b);
    ck_assert_mem_eq(a, b, sizeof *a * N);
    ck_assert_ptr_nonnull(strstr(pipeline_notice(p), "switch use_taesd on"));
}
END_TEST

/* The first frame of all: the input is seen; of text, black. */
START_TEST(from_the_beginning)
{
    pipeline_settings s = usual(), bad = broken(s);
    call(&bad, 0, a);
    ck_assert_float_eq_tol(a[0], 128.0f / 255, 2e-3f);
    bad.from_text = 1;
    call(&bad, 1, a);
    for (int i = 0; i < N; i++)
        ck_assert_float_eq(a[i], 0);
    call(&s, 2, a);
    pipeline_reset(p);
    call(&s, 2, b);
    ck_assert_mem_eq(a, b, sizeof *a * N);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("lost");
    TCase *t = tcase_create("lost");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 120);
    tcase_add_test(t, in_sequence);
    tcase_add_test(t, in_a_stream_batch);
    tcase_add_test(t, with_the_large_autoencoder);
    tcase_add_test(t, from_the_beginning);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
