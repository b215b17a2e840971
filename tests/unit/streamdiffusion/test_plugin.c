/* test_plugin.c - the plugin as a host sees it: through scope_entry alone, with a host of the
 * test's own. */
#include "tiny.h"

#include <jansson.h>

static const char *dir;

/* ---- a host
 * --------------------------------------------------------------------------------------- */

typedef struct test_host {
    scope_host host;       /* first: the callbacks get it back */
    double done;           /* last progress */
    int phases, cancel_at; /* cancelled from this progress call on; 0: never */
    char log[512];
    unsigned char *frame; /* owned: the last video() */
} test_host;

static test_host *mine(const scope_host *h)
{
    return h->ctx;
}

static void on_log(const scope_host *h, int level, const char *line)
{
    (void)level;
    snprintf(mine(h)->log, sizeof mine(h)->log, "%s", line);
}

static int on_video(const scope_host *h, scope_video *v, scope_error *err)
{
    (void)err;
    size_t element = v->dtype == SCOPE_U8 ? 1 : v->dtype == SCOPE_F16 ? 2 : 4;
    v->stride_h = (int64_t)(element * (size_t)v->w * (size_t)v->c) + 32; /* not dense */
    v->stride_t = v->stride_h * v->h;
    free(mine(h)->frame);
    v->data = mine(h)->frame = malloc((size_t)(v->stride_t * v->t));
    memset(v->data, 0xee, (size_t)(v->stride_t * v->t));
    return SCOPE_OK;
}

static void on_progress(const scope_host *h, double done, const char *phase)
{
    ck_assert_double_ge(done, mine(h)->done);
    ck_assert_double_le(done, 1);
    ck_assert_ptr_nonnull(phase);
    mine(h)->done = done;
    mine(h)->phases++;
}

static int on_cancelled(const scope_host *h)
{
    return mine(h)->cancel_at && mine(h)->phases >= mine(h)->cancel_at;
}

static const void *on_extension(const scope_host *h, const char *id)
{
    (void)h, (void)id;
    return NULL;
}

static test_host host;

/* ---- parameters
 * ------------------------------------------------------------------------------------- */

static scope_value prompt_fields[] = {{"text", SCOPE_STR, 0, {.s = "a cat"}},
                                      {"weight", SCOPE_NUM, 0, {.f = 1}}};
static scope_value prompt_list[] = {{NULL, SCOPE_OBJ, 2, {.at = prompt_fields}}};
static scope_value fields[32];
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
        {"input_mode", SCOPE_STR, 0, {.s = "video"}},
        {"model_id_or_path", SCOPE_STR, 0, {.s = dir}},
        {"taesd_path", SCOPE_STR, 0, {.s = ""}},
        {"device", SCOPE_STR, 0, {.s = "auto"}},
        {"memory", SCOPE_STR, 0, {.s = "normal"}},
        {"use_taesd", SCOPE_BOOL, 0, {.i = 1}},
        {"prompts", SCOPE_LIST, 1, {.at = prompt_list}},
        {"prompt_interpolation_method", SCOPE_STR, 0, {.s = "linear"}},
        {"negative_prompt", SCOPE_STR, 0, {.s = ""}},
        {"seed", SCOPE_INT, 0, {.i = 42}},
        {"guidance_scale", SCOPE_NUM, 0, {.f = 0}},
        {"num_inference_steps", SCOPE_INT, 0, {.i = 1}},
        {"t_index_list", SCOPE_LIST, 0, {.at = NULL}},
        {"strength", SCOPE_NUM, 0, {.f = 0.99}},
        {"do_add_noise", SCOPE_BOOL, 0, {.i = 1}},
        {"clip_skip", SCOPE_INT, 0, {.i = 0}},
        {"original_size", SCOPE_INT, 0, {.i = 0}},
        {"width", SCOPE_INT, 0, {.i = 64}},
        {"height", SCOPE_INT, 0, {.i = 64}},
        {"fit", SCOPE_STR, 0, {.s = "crop"}},
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
    host = (test_host){.host = {.abi = SCOPE_ABI,
                                .version = "test",
                                .ctx = &host,
                                .log = on_log,
                                .video = on_video,
                                .progress = on_progress,
                                .cancelled = on_cancelled,
                                .extension = on_extension}};
    defaults();
}

static void teardown(void)
{
    free(host.frame);
    host.frame = NULL;
    tiny_remove(dir);
}

START_TEST(entry)
{
    ck_assert_uint_eq(scope_entry.abi, SCOPE_ABI);
    ck_assert_str_eq(plugin->id, "streamdiffusion");
    ck_assert_ptr_null(scope_entry.plugins[1]);
    ck_assert_ptr_nonnull(plugin->extension(SCOPE_STAGES));
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

START_TEST(bad_frame_parameters_name_their_field)
{
    ck_assert_msg(!init(), "%s", err.text);
    static const scope_value falling[] = {{NULL, SCOPE_INT, 0, {.i = 30}},
                                          {NULL, SCOPE_INT, 0, {.i = 10}}};
    scope_video in = input(64, 64, 3);
    field("t_index_list")->count = 2;
    field("t_index_list")->u.at = falling;
    kw.generation++;
    ck_assert_int_eq(process(&in), SCOPE_EINVAL);
    ck_assert_str_eq(err.field, "t_index_list");
    ck_assert_int_eq(process(&in), SCOPE_EINVAL); /* again: nothing has changed */
    field("t_index_list")->count = 0;
    kw.generation++;
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
    tcase_add_test(t, disabled_passes_through);
    tcase_add_test(t, text_mode_needs_no_input);
    tcase_add_test(t, failures_of_init);
    tcase_add_test(t, cancelled_loads);
    tcase_add_test(t, bad_frame_parameters_name_their_field);
    tcase_add_test(t, notice_is_logged_once);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
