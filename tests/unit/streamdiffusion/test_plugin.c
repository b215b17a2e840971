/* test_plugin.c - the plugin as a host sees it: frames, effects, failures, notices. What texts and
 * LoRAs do while it runs is test_plugin_live.c's. */
#include "plugin_bed.h"

#include <jansson.h>

static void no_line(void *ctx, const char *text)
{
    (void)ctx;
    ck_abort_msg("%s", text);
}

START_TEST(entry)
{
    ck_assert_uint_eq(scope_entry.abi, SCOPE_ABI);
    ck_assert_str_eq(plugin->id, "streamdiffusion");
    ck_assert_ptr_null(scope_entry.plugins[1]);
    ck_assert_ptr_nonnull(plugin->extension(SCOPE_STAGES));
    ck_assert_ptr_nonnull(plugin->extension(SCOPE_LATENCY));
    ck_assert_ptr_nonnull(plugin->extension(SCOPE_MODEL));
    ck_assert_ptr_null(plugin->extension("scope.other/1"));
}
END_TEST

/* Every property of the schema is among the fields that this test binds, and the other way. */
START_TEST(fields_are_the_schemas)
{
    json_t *schema = json_loads(plugin->schema, 0, NULL);
    json_t *properties = json_object_get(schema, "properties");
    ck_assert_uint_eq(json_object_size(properties), (size_t)kw.count);
    for (int i = 0; i < kw.count; i++)
        ck_assert_msg(json_object_get(properties, fields[i].name) != NULL, "%s", fields[i].name);
    json_decref(schema);
}
END_TEST

START_TEST(a_frame)
{
    ck_assert_msg(!init(), "%s", err.text);
    ck_assert_int_eq(want.t, 1);
    ck_assert_double_eq(host.done, 1);
    ck_assert_int_gt(host.phases, 3);
    scope_video in = input(48, 96, 3);
    ck_assert_msg(!process(&in), "%s", err.text);
    ck_assert_int_eq(out.t * out.h * out.w * out.c, 64 * 64 * 3);
    ck_assert_int_eq(out.dtype, SCOPE_U8);
    unsigned char first[64 * 3];
    memcpy(first, scope_row(&out, 0, 63), sizeof first);
    ck_assert_int_eq(*((unsigned char *)scope_row(&out, 0, 63) + 64 * 3), 0xee); /* the gap */
    ck_assert_int_eq(process(&in), 0);
    ck_assert_int_eq(memcmp(first, scope_row(&out, 0, 63), sizeof first), 0);
    field("seed")->u.i = 1;
    kw.generation++;
    ck_assert_int_eq(process(&in), 0);
    ck_assert_int_ne(memcmp(first, scope_row(&out, 0, 63), sizeof first), 0);
    field("width")->u.i = 128;
    kw.generation++;
    ck_assert_int_eq(process(&in), 0);
    ck_assert_int_eq(out.w, 128);
    const scope_stages *stages = plugin->extension(SCOPE_STAGES);
    scope_stage stage[8];
    ck_assert_int_eq(stages->last(self, stage, 8), 5);
    const scope_plan *plan = plugin->extension(SCOPE_PLAN);
    plan->tell(self, no_line, NULL); /* the CPU has nothing to choose */
    plugin->fini(self);
}
END_TEST

START_TEST(grey_alpha_and_float_inputs)
{
    ck_assert_msg(!init(), "%s", err.text);
    for (int c = 1; c <= 4; c += c == 1 ? 2 : 1) {
        scope_video in = input(16, 24, c);
        ck_assert_msg(!process(&in), "%s", err.text);
        ck_assert_int_eq(out.c, 3);
    }
    static float real[64 * 64 * 3];
    scope_video in = input(64, 64, 3);
    in.data = real;
    in.dtype = SCOPE_F32;
    in.stride_h *= 4;
    in.stride_t *= 4;
    ck_assert_msg(!process(&in), "%s", err.text);
    ck_assert_int_eq(out.dtype, SCOPE_F32);
    plugin->fini(self);
}
END_TEST

/* Q10: a byte is the nearest to 255 y; the originals take the next below, which darkens. */
START_TEST(bytes_are_rounded)
{
    static float real[64 * 64 * 3], made[64 * 64 * 3];
    ck_assert_msg(!init(), "%s", err.text);
    scope_video bytes = input(64, 64, 3), in = bytes;
    for (int i = 0; i < 64 * 64 * 3; i++)
        real[i] = (float)pixels[i] / 255;
    in.data = real;
    in.dtype = SCOPE_F32;
    in.stride_h *= 4;
    in.stride_t *= 4;
    ck_assert_int_eq(process(&in), 0);
    for (int y = 0; y < 64; y++)
        memcpy(made + y * 64 * 3, scope_row(&out, 0, y), 64 * 3 * sizeof *made);
    ck_assert_int_eq(process(&bytes), 0);
    for (int i = 0; i < 64 * 64 * 3; i++) {
        int byte = ((unsigned char *)scope_row(&out, 0, i / (64 * 3)))[i % (64 * 3)];
        ck_assert_float_le(fabsf((float)byte - 255 * made[i]), 0.51f);
    }
    plugin->fini(self);
}
END_TEST

START_TEST(disabled_passes_through)
{
    ck_assert_msg(!init(), "%s", err.text);
    field("enabled")->u.i = 0;
    kw.generation++;
    scope_video in = input(33, 47, 4);
    ck_assert_int_eq(process(&in), 0);
    ck_assert_int_eq(out.h, 33);
    ck_assert_int_eq(out.w, 47);
    ck_assert_int_eq(out.c, 4);
    for (int y = 0; y < 33; y++)
        ck_assert_int_eq(memcmp(scope_row(&out, 0, y), scope_row(&in, 0, y), 47 * 4), 0);
    ck_assert_int_eq(process(NULL), 0);
    ck_assert_ptr_null(out.data); /* nothing in, nothing out */
    plugin->fini(self);
}
END_TEST

/* Both ways over 4 frames, at the size of the result; the networks run while they are seen. */
START_TEST(bypass_fades)
{
    unsigned char shown[8][64 * 3];
    field("bypass_fade")->u.i = 4;
    ck_assert_msg(!init(), "%s", err.text);
    scope_video in = input(48, 96, 3);
    for (int i = 0; i < 8; i++) {
        field("enabled")->u.i = i == 0 || i > 5;
        kw.generation++;
        ck_assert_msg(!process(&in), "%s", err.text);
        ck_assert_int_eq(out.h, 64);
        ck_assert_int_eq(out.w, 64);
        memcpy(shown[i], scope_row(&out, 0, 32), sizeof shown[i]);
    }
    ck_assert_mem_eq(shown[4], shown[5], sizeof shown[4]); /* the input */
    for (int i = 0; i < 64 * 3; i++)
        for (int step = 1; step < 4; step++) {
            double want = shown[4][i] + (1 - 0.25 * step) * (shown[0][i] - shown[4][i]);
            ck_assert_double_le(fabs(shown[step][i] - want), 1);
            if (step < 3) { /* and back: 1/4, 2/4 */
                want = shown[4][i] + 0.25 * step * (shown[0][i] - shown[4][i]);
                ck_assert_double_le(fabs(shown[5 + step][i] - want), 1);
            }
        }
    ck_assert_mem_ne(shown[0], shown[4], sizeof shown[0]);
    field("bypass_fade")->u.i = 0;
    field("enabled")->u.i = 0;
    kw.generation++;
    ck_assert_int_eq(process(&in), 0);
    ck_assert_int_eq(out.w, 96); /* untouched */
    plugin->fini(self);
}
END_TEST

/* After reset() a run repeats to the bit, with everything on that remembers. */
START_TEST(reset_forgets)
{
    enum { FRAMES = 6, ROW = 64 * 3 };
    unsigned char first[FRAMES][ROW];
    field("strength")->u.f = 0.5;
    field("image_loopback")->u.i = 1;
    field("loopback_mix")->u.f = 0.6;
    field("loopback_zoom")->u.f = 1.05;
    field("loopback_rotate")->u.f = 3;
    field("latent_feedback")->u.f = 0.3;
    field("similar_image_filter_enabled")->u.i = 1;
    field("similar_image_filter_threshold")->u.f = 0.5;
    ck_assert_msg(!init(), "%s", err.text);
    for (int run = 0; run < 2; run++) {
        for (int i = 0; i < FRAMES; i++) {
            scope_video in = input(48, 96, 3);
            for (size_t j = 0; j < sizeof pixels; j++)
                pixels[j] = (unsigned char)(pixels[j] + (j % 5 == 0) * i * 20);
            ck_assert_msg(!process(&in), "%s", err.text);
            if (run == 0)
                memcpy(first[i], scope_row(&out, 0, 20), ROW);
            else
                ck_assert_mem_eq(first[i], scope_row(&out, 0, 20), ROW);
        }
        ck_assert_mem_ne(first[0], first[FRAMES - 1], ROW);
        plugin->reset(self);
    }
    plugin->fini(self);
}
END_TEST

START_TEST(repeats_are_counted)
{
    const scope_repeats *repeats = plugin->extension(SCOPE_REPEATS);
    ck_assert_ptr_nonnull(repeats);
    field("similar_image_filter_enabled")->u.i = 1;
    ck_assert_msg(!init(), "%s", err.text);
    scope_video in = input(48, 96, 3);
    for (int i = 0; i < 12; i++)
        ck_assert_int_eq(process(&in), 0);
    ck_assert_int_eq(repeats->count(self), 10);
    plugin->fini(self);
}
END_TEST

START_TEST(a_mask_from_the_host)
{
    const scope_input_names *known = plugin->extension(SCOPE_INPUTS);
    ck_assert_str_eq(known->names[0], "mask");
    ck_assert_ptr_null(known->names[1]);
    static unsigned char left[64 * 64], whole[64 * 3];
    for (int i = 0; i < 64 * 64; i++)
        left[i] = i % 64 < 32 ? 255 : 0;
    const scope_video mask = {.t = 1,
                              .h = 64,
                              .w = 64,
                              .c = 1,
                              .dtype = SCOPE_U8,
                              .device = SCOPE_CPU,
                              .stride_t = 64 * 64,
                              .stride_h = 64,
                              .data = left};
    field("mask_compositing")->u.i = 1;
    field("mask_source")->u.s = "input";
    ck_assert_msg(!init(), "%s", err.text);
    ck_assert_int_eq(want.c, 0);
    scope_video in = input(64, 64, 3);
    host.log[0] = 0;
    ck_assert_int_eq(process(&in), 0);
    ck_assert_ptr_nonnull(strstr(host.log, "--input mask=FILE"));
    memcpy(whole, scope_row(&out, 0, 9), sizeof whole);
    host.log[0] = 0;
    ck_assert_int_eq(process(&in), 0);
    ck_assert_str_eq(host.log, ""); /* once is enough */
    host.mask = &mask;
    ck_assert_int_eq(process(&in), 0);
    ck_assert_mem_eq(whole, scope_row(&out, 0, 9), 32 * 3);
    ck_assert_mem_eq((unsigned char *)scope_row(&out, 0, 9) + 32 * 3,
                     (unsigned char *)scope_row(&in, 0, 9) + 32 * 3, 32 * 3);
    plugin->fini(self);
}
END_TEST

START_TEST(text_mode_needs_no_input)
{
    field("input_mode")->u.s = "text";
    ck_assert_msg(!init(), "%s", err.text);
    ck_assert_int_eq(want.t, 0);
    ck_assert_msg(!process(NULL), "%s", err.text);
    ck_assert_ptr_nonnull(out.data);
    field("input_mode")->u.s = "video";
    kw.generation++;
    ck_assert_int_lt(process(NULL), 0);
    ck_assert_str_eq(err.field, "input_mode");
    field("input_mode")->u.s = "text";
    kw.generation++;
    ck_assert_int_eq(process(NULL), 0);
    plugin->fini(self);
}
END_TEST

START_TEST(failures_of_init)
{
    field("model_id_or_path")->u.s = "";
    ck_assert_int_eq(init(), SCOPE_EIO);
    ck_assert_str_eq(err.field, "model_id_or_path");
    field("model_id_or_path")->u.s = dir;
    field("width")->u.i = 65;
    ck_assert_int_eq(init(), SCOPE_EINVAL);
    ck_assert_str_eq(err.field, "width");
    defaults();
    ck_assert_int_eq(init(), 0);
    plugin->fini(self);
}
END_TEST

/* Wherever the user gives up, init ends with SCOPE_ECANCEL; and the next one succeeds. */
START_TEST(cancelled_loads)
{
    for (int at = 1; at <= 5; at++) {
        host.cancel_at = at;
        ck_assert_int_eq(init(), SCOPE_ECANCEL);
        ck_assert_str_eq(err.field, "");
    }
    host.cancel_at = 0;
    ck_assert_msg(!init(), "%s", err.text);
    plugin->fini(self);
}
END_TEST

/* Refused once; then the stream goes on as before. */
START_TEST(bad_frame_parameters_name_their_field)
{
    ck_assert_msg(!init(), "%s", err.text);
    static const scope_value falling[] = {{NULL, SCOPE_INT, 0, {.i = 30}},
                                          {NULL, SCOPE_INT, 0, {.i = 10}}};
    scope_video in = input(64, 64, 3);
    unsigned char good[64 * 3];
    ck_assert_int_eq(process(&in), 0);
    memcpy(good, scope_row(&out, 0, 31), sizeof good);
    field("t_index_list")->count = 2;
    field("t_index_list")->u.at = falling;
    field("width")->u.i = 128;
    kw.generation++;
    ck_assert_int_eq(process(&in), SCOPE_EINVAL);
    ck_assert_str_eq(err.field, "t_index_list");
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(process(&in), 0); /* the last good state, its size included */
        ck_assert_int_eq(out.w, 64);
        ck_assert_int_eq(memcmp(good, scope_row(&out, 0, 31), sizeof good), 0);
    }
    kw.generation++; /* said again, refused again */
    ck_assert_int_eq(process(&in), SCOPE_EINVAL);
    field("t_index_list")->count = 0;
    kw.generation++;
    ck_assert_int_eq(process(&in), 0);
    ck_assert_int_eq(out.w, 128);
    plugin->fini(self);
}
END_TEST

START_TEST(latency_is_told)
{
    const scope_latency *latency = plugin->extension(SCOPE_LATENCY);
    field("num_inference_steps")->u.i = 3;
    field("frame_buffer_size")->u.i = 2;
    ck_assert_msg(!init(), "%s", err.text);
    ck_assert_int_eq(want.t, 2);
    scope_video in = input(16, 24, 3);
    in.t = 2;
    ck_assert_msg(!process(&in), "%s", err.text);
    ck_assert_int_eq(out.t, 2);
    ck_assert_int_eq(latency->frames(self), 4);
    field("use_denoising_batch")->u.i = 0;
    kw.generation++;
    ck_assert_int_eq(process(&in), 0);
    ck_assert_int_eq(latency->frames(self), 0);
    field("use_denoising_batch")->u.i = 1;
    field("enabled")->u.i = 0;
    kw.generation++;
    ck_assert_int_eq(process(&in), 0);
    ck_assert_int_eq(latency->frames(self), 0); /* what passes through is not late */
    field("enabled")->u.i = 1;
    kw.generation++;
    ck_assert_int_eq(process(&in), 0);
    ck_assert_int_eq(latency->frames(self), 4);
    plugin->reset(self);
    ck_assert_int_eq(process(&in), 0);
    plugin->fini(self);
}
END_TEST

START_TEST(notice_is_logged_once)
{
    tiny_remove(dir);
    mkdir(dir, 0700);
    tiny_make(dir, (tiny_options){.no_taesd = 1});
    ck_assert_msg(!init(), "%s", err.text);
    ck_assert_ptr_nonnull(strstr(host.log, "TAESD"));
    host.log[0] = 0;
    field("seed")->u.i++;
    kw.generation++;
    scope_video in = input(64, 64, 3);
    ck_assert_int_eq(process(&in), 0);
    ck_assert_str_eq(host.log, "");
    plugin->fini(self);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("plugin");
    TCase *t = tcase_create("plugin");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, entry);
    tcase_add_test(t, fields_are_the_schemas);
    tcase_add_test(t, a_frame);
    tcase_add_test(t, grey_alpha_and_float_inputs);
    tcase_add_test(t, bytes_are_rounded);
    tcase_add_test(t, disabled_passes_through);
    tcase_add_test(t, bypass_fades);
    tcase_add_test(t, reset_forgets);
    tcase_add_test(t, repeats_are_counted);
    tcase_add_test(t, a_mask_from_the_host);
    tcase_add_test(t, text_mode_needs_no_input);
    tcase_add_test(t, failures_of_init);
    tcase_add_test(t, cancelled_loads);
    tcase_add_test(t, bad_frame_parameters_name_their_field);
    tcase_add_test(t, latency_is_told);
    tcase_add_test(t, notice_is_logged_once);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
