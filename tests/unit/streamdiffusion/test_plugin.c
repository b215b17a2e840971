/* test_plugin.c - the plugin as a host sees it: through scope_entry alone, with a host of the
 * test's own. */
#include "lora_file.h"
#include "plugin_host.h"
#include "tiny.h"

#include <jansson.h>

static const char *dir;

static plugin_host host;

/* ---- parameters
 * ------------------------------------------------------------------------------------- */

static scope_value prompt_fields[] = {{"text", SCOPE_STR, 0, {.s = "a cat"}},
                                      {"weight", SCOPE_NUM, 0, {.f = 1}}};
static scope_value prompt_list[] = {{NULL, SCOPE_OBJ, 2, {.at = prompt_fields}}};
static scope_value target_fields[] = {{"text", SCOPE_STR, 0, {.s = "a dog"}},
                                      {"weight", SCOPE_NUM, 0, {.f = 1}}};
static scope_value target_list[] = {{NULL, SCOPE_OBJ, 2, {.at = target_fields}}};
static scope_value transition_fields[] = {{"num_steps", SCOPE_INT, 0, {.i = 0}},
                                          {"method", SCOPE_STR, 0, {.s = "linear"}},
                                          {"target_prompts", SCOPE_LIST, 0, {.at = target_list}}};
static scope_value fields[64];
static scope_kwargs kw;

static scope_value *field(const char *name)
{
    for (int i = 0; i < kw.count; i++) {
        if (!strcmp(fields[i].name, name))
            return &fields[i];
    }
    ck_abort_msg("no field %s", name);
}

/* The schema's defaults, small. */
static void defaults(void)
{
    const scope_value all[] = {
        {"enabled", SCOPE_BOOL, 0, {.i = 1}},
        {"bypass_fade", SCOPE_INT, 0, {.i = 0}},
        {"input_mode", SCOPE_STR, 0, {.s = "video"}},
        {"model_id_or_path", SCOPE_STR, 0, {.s = dir}},
        {"taesd_path", SCOPE_STR, 0, {.s = ""}},
        {"vae_path", SCOPE_STR, 0, {.s = ""}},
        {"text_encoder_path", SCOPE_STR, 0, {.s = ""}},
        {"unet_path", SCOPE_STR, 0, {.s = ""}},
        {"tokenizer_path", SCOPE_STR, 0, {.s = ""}},
        {"prediction", SCOPE_STR, 0, {.s = "auto"}},
        {"device", SCOPE_STR, 0, {.s = "auto"}},
        {"memory", SCOPE_STR, 0, {.s = "normal"}},
        {"use_taesd", SCOPE_BOOL, 0, {.i = 1}},
        {"prompts", SCOPE_LIST, 1, {.at = prompt_list}},
        {"prompt_interpolation_method", SCOPE_STR, 0, {.s = "linear"}},
        {"normalize_prompt_weights", SCOPE_BOOL, 0, {.i = 1}},
        {"transition_steps", SCOPE_INT, 0, {.i = 0}},
        {"transition_method", SCOPE_STR, 0, {.s = "linear"}},
        {"transition_easing", SCOPE_STR, 0, {.s = "linear"}},
        {"transition", SCOPE_OBJ, 3, {.at = transition_fields}},
        {"negative_prompt", SCOPE_STR, 0, {.s = ""}},
        {"negative_prompt_scale", SCOPE_NUM, 0, {.f = 1}},
        {"style", SCOPE_STR, 0, {.s = ""}},
        {"styles_path", SCOPE_STR, 0, {.s = ""}},
        {"seed", SCOPE_INT, 0, {.i = 42}},
        {"seeds", SCOPE_LIST, 0, {.at = NULL}},
        {"seed_interpolation_method", SCOPE_STR, 0, {.s = "linear"}},
        {"noise_refresh", SCOPE_INT, 0, {.i = 0}},
        {"guidance_scale", SCOPE_NUM, 0, {.f = 0}},
        {"cfg_type", SCOPE_STR, 0, {.s = "full"}},
        {"delta", SCOPE_NUM, 0, {.f = 1}},
        {"num_inference_steps", SCOPE_INT, 0, {.i = 1}},
        {"t_index_list", SCOPE_LIST, 0, {.at = NULL}},
        {"timesteps", SCOPE_LIST, 0, {.at = NULL}},
        {"strength", SCOPE_NUM, 0, {.f = 0.99}},
        {"do_add_noise", SCOPE_BOOL, 0, {.i = 1}},
        {"use_denoising_batch", SCOPE_BOOL, 0, {.i = 1}},
        {"frame_buffer_size", SCOPE_INT, 0, {.i = 1}},
        {"similar_image_filter_enabled", SCOPE_BOOL, 0, {.i = 0}},
        {"similar_image_filter_threshold", SCOPE_NUM, 0, {.f = 0.98}},
        {"similar_image_filter_max_skip", SCOPE_INT, 0, {.i = 10}},
        {"latent_feedback", SCOPE_NUM, 0, {.f = 0}},
        {"image_loopback", SCOPE_BOOL, 0, {.i = 0}},
        {"loopback_mix", SCOPE_NUM, 0, {.f = 1}},
        {"loopback_zoom", SCOPE_NUM, 0, {.f = 1}},
        {"loopback_rotate", SCOPE_NUM, 0, {.f = 0}},
        {"loopback_decay", SCOPE_NUM, 0, {.f = 0}},
        {"loopback_edges", SCOPE_STR, 0, {.s = "mirror"}},
        {"mask_compositing", SCOPE_BOOL, 0, {.i = 0}},
        {"mask_source", SCOPE_STR, 0, {.s = "alpha"}},
        {"mask_feather", SCOPE_NUM, 0, {.f = 0}},
        {"mask_strength", SCOPE_NUM, 0, {.f = 1}},
        {"clip_skip", SCOPE_INT, 0, {.i = 0}},
        {"original_size", SCOPE_INT, 0, {.i = 0}},
        {"width", SCOPE_INT, 0, {.i = 64}},
        {"height", SCOPE_INT, 0, {.i = 64}},
        {"fit", SCOPE_STR, 0, {.s = "crop"}},
        {"loras", SCOPE_LIST, 0, {.at = NULL}},
        {"lora_dir", SCOPE_STR, 0, {.s = ""}},
        {"use_lcm_lora", SCOPE_BOOL, 0, {.i = 1}},
        {"lcm_lora_path", SCOPE_STR, 0, {.s = ""}},
    };
    memcpy(fields, all, sizeof all);
    kw = (scope_kwargs){.generation = 1, .count = sizeof all / sizeof *all, .at = fields};
}

/* ---- the plugin
 * --------------------------------------------------------------------------------------- */

static const scope_plugin *plugin;
static void *self;
static scope_video want, out;
static scope_error err;
static unsigned char pixels[64 * 96 * 4];

static int init(void)
{
    want = (scope_video){.t = 1, .c = 3, .dtype = SCOPE_U8, .device = SCOPE_CPU};
    memset(&err, 0, sizeof err);
    host.done = 0;
    host.phases = 0;
    return plugin->init(&host.host, &kw, &want, &self, &err);
}

static scope_video input(int h, int w, int c)
{
    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (unsigned char)(i * 7 + i / 96);
    return (scope_video){.t = 1,
                         .h = h,
                         .w = w,
                         .c = c,
                         .dtype = SCOPE_U8,
                         .device = SCOPE_CPU,
                         .stride_t = h * w * c,
                         .stride_h = w * c,
                         .data = pixels};
}

static int process(const scope_video *in)
{
    out = (scope_video){0};
    return plugin->process(self, &kw, in, &out, &err);
}

static void setup(void)
{
    dir = tiny_folder();
    tiny_make(dir, (tiny_options){0});
    plugin = scope_entry.plugins[0];
    plugin_host_open(&host);
    defaults();
}

static void teardown(void)
{
    plugin_host_close(&host);
    tiny_remove(dir);
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

/* The last row of the frame now. */
static void shoot(unsigned char row[64 * 3])
{
    scope_video in = input(64, 64, 3);
    ck_assert_msg(!process(&in), "%s", err.text);
    memcpy(row, scope_row(&out, 0, 63), 64 * 3);
}

START_TEST(transitions)
{
    unsigned char cat[64 * 3], dog[64 * 3], row[64 * 3];
    ck_assert_msg(!init(), "%s", err.text);
    shoot(cat);
    prompt_fields[0].u.s = "a dog";
    kw.generation++;
    shoot(dog);
    ck_assert_int_ne(memcmp(cat, dog, sizeof cat), 0);
    prompt_fields[0].u.s = "a cat";
    kw.generation++;
    shoot(row);
    ck_assert_int_eq(memcmp(cat, row, sizeof cat), 0);

    transition_fields[0].u.i = 3; /* to nothing */
    kw.generation++;
    scope_video in = input(64, 64, 3);
    ck_assert_int_eq(process(&in), SCOPE_EINVAL);
    ck_assert_str_eq(err.field, "transition");
    ck_assert_ptr_nonnull(strstr(err.text, "target_prompts"));

    transition_fields[2].count = 1; /* to the dog */
    kw.generation++;
    for (int i = 1; i <= 3; i++) {
        shoot(row);
        ck_assert_int_ne(memcmp(cat, row, sizeof row), 0);
        ck_assert_int_eq(memcmp(dog, row, sizeof row) == 0, i == 3);
    }
    kw.generation++; /* the same again changes nothing */
    shoot(row);
    ck_assert_int_eq(memcmp(dog, row, sizeof row), 0);
    transition_fields[0].u.i = transition_fields[2].count = 0; /* back to the prompts: a cut */
    kw.generation++;
    shoot(row);
    ck_assert_int_eq(memcmp(cat, row, sizeof row), 0);
    plugin->fini(self);
}
END_TEST

START_TEST(each_text_field_has_an_effect)
{
    unsigned char before[64 * 3], row[64 * 3];
    ck_assert_msg(!init(), "%s", err.text);
    shoot(before);
    field("negative_prompt")->u.s = "rain";
    kw.generation++;
    shoot(row);
    ck_assert_int_ne(memcmp(before, row, sizeof row), 0);
    field("negative_prompt_scale")->u.f = 0;
    kw.generation++;
    shoot(row);
    ck_assert_int_eq(memcmp(before, row, sizeof row), 0);
    prompt_fields[1].u.f = 0.2;
    kw.generation++;
    shoot(row);
    ck_assert_int_eq(memcmp(before, row, sizeof row), 0);
    field("normalize_prompt_weights")->u.i = 0;
    kw.generation++;
    shoot(row);
    ck_assert_int_ne(memcmp(before, row, sizeof row), 0);
    prompt_fields[1].u.f = 1;
    field("style")->u.s = "ink";
    kw.generation++;
    shoot(row);
    ck_assert_int_ne(memcmp(before, row, sizeof row), 0);
    field("style")->u.s = "inks";
    kw.generation++;
    scope_video in = input(64, 64, 3);
    ck_assert_int_eq(process(&in), SCOPE_EINVAL);
    ck_assert_str_eq(err.field, "style");
    plugin->fini(self);
    field("styles_path")->u.s = "/nowhere.json";
    ck_assert_int_eq(init(), SCOPE_EIO);
    ck_assert_str_eq(err.field, "styles_path");
}
END_TEST

/* A live host sees the old text until the new one is encoded, then the new one; the same frames
 * come at once where the text is known, or where the host is not live. */
START_TEST(live_frames_do_not_wait)
{
    unsigned char cat[64 * 3], dog[64 * 3], row[64 * 3];
    host.live = 0;
    ck_assert_msg(!init(), "%s", err.text);
    shoot(cat);
    prompt_fields[0].u.s = "a dog";
    kw.generation++;
    shoot(dog);
    plugin->fini(self);
    host.live = 1;
    prompt_fields[0].u.s = "a cat";
    ck_assert_msg(!init(), "%s", err.text);
    shoot(row);
    ck_assert_int_eq(memcmp(cat, row, sizeof row), 0); /* the first text is waited for */
    prompt_fields[0].u.s = "a dog";
    kw.generation++;
    shoot(row);
    ck_assert_int_eq(memcmp(cat, row, sizeof row), 0);
    int frames = 0;
    for (; memcmp(dog, row, sizeof row) && frames < 2000; frames++) {
        usleep(10000);
        shoot(row);
        ck_assert(!memcmp(cat, row, sizeof row) || !memcmp(dog, row, sizeof row));
    }
    ck_assert_int_gt(frames, 0); /* 100 ms of rest first */
    ck_assert_int_lt(frames, 2000);
    prompt_fields[0].u.s = "a cat";
    kw.generation++;
    shoot(row);
    ck_assert_int_eq(memcmp(cat, row, sizeof row), 0);
    prompt_fields[0].u.s = "a bird";
    kw.generation++;
    shoot(row);
    host.live = 0; /* not live any more: the frame waits */
    kw.generation++;
    shoot(row);
    ck_assert_int_ne(memcmp(cat, row, sizeof row), 0);
    prompt_fields[0].u.s = "a fish";
    host.live = 1;
    kw.generation++;
    shoot(row);
    plugin->fini(self); /* while one is under way */
    prompt_fields[0].u.s = "a cat";
}
END_TEST

/* ---- LoRAs --------------------------------------------------------------------------------------
 */

#define TO_V "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_v"
#define FC1  "lora_te_text_model_encoder_layers_0_mlp_fc1"

static const lora_tensor ink[] = {{TO_V ".lora_down.weight", {2, 24}, 0.5f},
                                  {TO_V ".lora_up.weight", {24, 2}, 0.5f},
                                  {FC1 ".lora_down.weight", {2, 32}, 0.5f},
                                  {FC1 ".lora_up.weight", {64, 2}, 0.5f}};
static const lora_tensor odd[] = {{TO_V ".lora_down.weight", {2, 23}, 0.5f},
                                  {TO_V ".lora_up.weight", {24, 2}, 0.5f}};

static scope_value lora_fields[2][2];
static scope_value lora_list[2];

static void loras(int count, const char *a, double a_scale, const char *b, double b_scale)
{
    const char *path[] = {a, b};
    const double scale[] = {a_scale, b_scale};
    for (int i = 0; i < 2; i++) {
        lora_fields[i][0] = (scope_value){"path", SCOPE_STR, 0, {.s = path[i]}};
        lora_fields[i][1] = (scope_value){"scale", SCOPE_NUM, 0, {.f = scale[i]}};
        lora_list[i] = (scope_value){NULL, SCOPE_OBJ, 2, {.at = lora_fields[i]}};
    }
    *field("loras") = (scope_value){"loras", SCOPE_LIST, count, {.at = lora_list}};
    kw.generation++;
}

/* A hash of the next frame. */
static uint64_t next_frame(void)
{
    scope_video in = input(64, 64, 3);
    uint64_t h = 1469598103934665603u;
    ck_assert_msg(!process(&in), "%s", err.text);
    for (int y = 0; y < out.h; y++)
        for (int x = 0; x < 3 * out.w; x++)
            h = (h ^ ((unsigned char *)scope_row(&out, 0, y))[x]) * 1099511628211u;
    return h;
}

static void prompt(const char *text)
{
    prompt_fields[0].u.s = text;
    kw.generation++;
}

START_TEST(loras_come_and_go)
{
    lora_file(dir, "ink", ink, 4);
    field("lora_dir")->u.s = dir;
    ck_assert_msg(!init(), "%s", err.text);
    uint64_t plain = next_frame();
    loras(1, "ink", 1, NULL, 0);
    uint64_t one = next_frame();
    ck_assert(one != plain);
    loras(1, "ink.safetensors", 0.5, NULL, 0);
    uint64_t half = next_frame();
    ck_assert(half != plain && half != one);
    loras(2, "ink", 0.5, "ink", 0.5); /* the same twice adds up */
    ck_assert(next_frame() == one);
    loras(0, NULL, 0, NULL, 0);
    ck_assert(next_frame() == plain);
    *field("lcm_lora_path") = (scope_value){"lcm_lora_path", SCOPE_STR, 0, {.s = "ink"}};
    kw.generation++;
    ck_assert(next_frame() == one);
    field("use_lcm_lora")->u.i = 0;
    kw.generation++;
    ck_assert(next_frame() == plain);
    plugin->fini(self);

    field("use_lcm_lora")->u.i = 1; /* from the start */
    ck_assert_msg(!init(), "%s", err.text);
    ck_assert(next_frame() == one);
    plugin->fini(self);
}
END_TEST

/* Q6: what a model is called does not matter; the originals leave LoRAs out where it says turbo. */
START_TEST(turbo_models_take_loras)
{
    char turbo[80];
    snprintf(turbo, sizeof turbo, "%s/sd-turbo", dir);
    ck_assert_int_eq(mkdir(turbo, 0700), 0);
    tiny_make(turbo, (tiny_options){0});
    lora_file(dir, "ink", ink, 4);
    field("lora_dir")->u.s = dir;
    field("model_id_or_path")->u.s = turbo;
    ck_assert_msg(!init(), "%s", err.text);
    uint64_t plain = next_frame();
    loras(1, "ink", 1, NULL, 0);
    ck_assert(next_frame() != plain);
    plugin->fini(self);
}
END_TEST

START_TEST(tags_in_prompts_are_loras)
{
    lora_file(dir, "ink", ink, 4);
    field("lora_dir")->u.s = dir;
    ck_assert_msg(!init(), "%s", err.text);
    prompt("a cat");
    uint64_t plain = next_frame();
    loras(1, "ink", 0.75, NULL, 0);
    uint64_t one = next_frame();
    loras(0, NULL, 0, NULL, 0);
    prompt("a <lora:ink:0.75> cat");
    ck_assert(next_frame() == one);
    prompt("<lora:ink:0.75><lora:ink:3>a cat"); /* counts once */
    ck_assert(next_frame() == one);
    prompt("a cat<lora:no:1>"); /* told, and the stream goes on with what was */
    ck_assert(next_frame() == one);
    ck_assert_msg(strstr(host.log, "There is no LoRA \"no\"") != NULL, "%s", host.log);
    prompt("a cat");
    ck_assert(next_frame() == plain);
    field("lora_dir")->u.s = "";
    prompt("a cat<lora:ink>");
    ck_assert(next_frame() == plain);
    ck_assert_msg(strstr(host.log, "set lora_dir") != NULL, "%s", host.log);
    prompt_fields[0].u.s = "a cat";
    plugin->fini(self);
}
END_TEST

START_TEST(bad_loras_leave_the_last_good_ones)
{
    lora_file(dir, "ink", ink, 4);
    lora_file(dir, "odd", odd, 2);
    field("lora_dir")->u.s = dir;
    loras(1, "odd", 1, NULL, 0);
    ck_assert_int_lt(init(), 0); /* nothing to go on with */
    ck_assert_str_eq(err.field, "loras");
    loras(1, "nowhere", 1, NULL, 0);
    ck_assert_int_lt(init(), 0);
    ck_assert_str_eq(err.field, "loras");
    loras(1, "ink", 1, NULL, 0);
    ck_assert_msg(!init(), "%s", err.text);
    uint64_t one = next_frame();
    loras(2, "ink", 1, "odd", 1);
    ck_assert(next_frame() == one);
    ck_assert_msg(strstr(host.log, "does not fit") != NULL, "%s", host.log);
    plugin->fini(self);
}
END_TEST

/* Q15: a LoRA of one instance is not seen in another one's pictures. */
START_TEST(loras_do_not_leak_into_a_shared_model)
{
    void *a, *b;
    lora_file(dir, "ink", ink, 4);
    field("lora_dir")->u.s = dir;
    ck_assert_msg(!init(), "%s", err.text);
    uint64_t plain = next_frame();
    a = self;
    ck_assert_msg(!init(), "%s", err.text); /* shares the model of a */
    b = self;
    loras(1, "ink", 1, NULL, 0);
    ck_assert(next_frame() == plain);
    ck_assert_msg(strstr(host.log, "shared with another instance") != NULL, "%s", host.log);
    ck_assert_msg(!init(), "%s", err.text); /* loaded with it: a copy of its own */
    uint64_t one = next_frame();
    ck_assert(one != plain);
    plugin->fini(self);
    plugin->fini(a);
    self = b; /* alone now */
    kw.generation++;
    ck_assert(next_frame() == one);
    loras(0, NULL, 0, NULL, 0);
    ck_assert(next_frame() == plain);
    plugin->fini(b);
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
    tcase_add_test(t, transitions);
    tcase_add_test(t, each_text_field_has_an_effect);
    tcase_add_test(t, live_frames_do_not_wait);
    tcase_add_test(t, loras_come_and_go);
    tcase_add_test(t, turbo_models_take_loras);
    tcase_add_test(t, tags_in_prompts_are_loras);
    tcase_add_test(t, bad_loras_leave_the_last_good_ones);
    tcase_add_test(t, loras_do_not_leak_into_a_shared_model);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
