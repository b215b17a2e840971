/* test_lora.c - LoRA files: keys and tags, what is refused, the live set on a model, and every
 * format against diffusers and PEFT (tests/oracle/lora.py wrote the files and the answers). */
#include "lora_file.h"
#include "tiny.h"

#include "plugin/streamdiffusion/alloc.h"
#include "plugin/streamdiffusion/lora_tags.h"
#include "plugin/streamdiffusion/loras.h"
#include "tests/oracle/stages.h"

#define GOLDEN SOURCE_DIR "/tests/golden/lora/"

/* Relative, fp32 on both sides: the order of summation, and a few weights that lie half way between
 * two halves and round the other way. */
static const double bar = 1e-4;

static const char *dir;
static const model *m;
static loras *live;
static scope_error err;

/* ---- keys and tags --------------------------------------------------------------------------- */

START_TEST(keys_in_every_spelling)
{
    static const struct {
        const char *key, *base;
        int role;
    } all[] = {
        {"lora_unet_mid_block_attentions_0_proj_in.lora_down.weight",
         "unet_mid_block_attentions_0_proj_in", LORA_DOWN},
        {"lora_unet_input_blocks_1_1_proj_in.lora_up.weight", "unet_input_blocks_1_1_proj_in",
         LORA_UP},
        {"lora_unet_conv_in.lora_mid.weight", "unet_conv_in", LORA_MID},
        {"lora_te_text_model_encoder_layers_0_mlp_fc1.alpha",
         "te_text_model_encoder_layers_0_mlp_fc1", LORA_ALPHA},
        {"lora_te1_text_model_encoder_layers_0_mlp_fc1.dora_scale",
         "te_text_model_encoder_layers_0_mlp_fc1", LORA_MAGNITUDE},
        {"lora_te2_text_model_x.alpha", "te2_text_model_x", LORA_ALPHA},
        {"unet.down_blocks.0.attentions.0.proj_in.lora_A.weight",
         "unet_down_blocks_0_attentions_0_proj_in", LORA_DOWN},
        {"text_encoder.text_model.encoder.layers.1.mlp.fc2.lora_B.weight",
         "te_text_model_encoder_layers_1_mlp_fc2", LORA_UP},
        {"base_model.model.mid_block.resnets.0.conv1.lora_B.default.weight",
         "unet_mid_block_resnets_0_conv1", LORA_UP},
        {"base_model.model.mid_block.resnets.0.conv1.lora_A.my style.weight",
         "unet_mid_block_resnets_0_conv1", LORA_DOWN},
        {"unet.x.lora_A.a.b.weight", "", LORA_NONE},
        {"unet.x.lora_magnitude_vector.default.weight", "unet_x", LORA_MAGNITUDE},
        {"base_model.model.text_model.x.lora_A.weight", "te_text_model_x", LORA_DOWN},
        {"unet.x.lora_magnitude_vector", "unet_x", LORA_MAGNITUDE},
        {"mid_block.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.down.weight",
         "unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q", LORA_DOWN},
        {"unet.mid_block.attentions.0.transformer_blocks.0.attn2.processor.to_out_lora.up.weight",
         "unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_out_0", LORA_UP},
        {"text_encoder.text_model.x.lora_linear_layer.up.weight", "te_text_model_x", LORA_UP},
        {"model.diffusion_model.conv_in.lora.down.weight", "unet_conv_in", LORA_DOWN},
        {"lora_unet_conv_in.hada_w1_a", "", LORA_NONE},
        {"", "", LORA_NONE},
        {".alpha", "", LORA_NONE},
    };
    char base[LORA_NAME], longest[2 * LORA_NAME];
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        ck_assert_int_eq(lora_key(all[i].key, base), all[i].role);
        ck_assert_str_eq(base, all[i].base);
    }
    memset(longest, 'a', sizeof longest);
    snprintf(longest + sizeof longest - 20, 20, "%s", ".lora_down.weight");
    ck_assert_int_eq(lora_key(longest, base), LORA_NONE);
}
END_TEST

START_TEST(tags_leave_the_text)
{
    static const struct {
        const char *text, *rest, *names;
        double scale; /* of the last one */
        int count;
    } all[] = {
        {"a cat", "a cat", "", 0, 0},
        {"a <lora:ink:0.8> cat", "a cat", "ink", 0.8, 1},
        {"<lora:ink>a cat", "a cat", "ink", 1, 1},
        {"<lora:ink> a cat", "a cat", "ink", 1, 1},
        {"a cat<lora:sub/ink:-1.25>", "a cat", "sub/ink", -1.25, 1},
        {"<lora:a:.5><lora:b.safetensors:+2.>", "", "a,b.safetensors", 2, 2},
        {"<lora:a:0><lora:a:4>", "", "a,a", 4, 2},
        {"<lora:a b:1>", "", "a b", 1, 1},
        {"<lora:a:4.1>", "<lora:a:4.1>", "", 0, 0},
        {"<lora:a:x>", "<lora:a:x>", "", 0, 0},
        {"<lora:a:1e3>", "<lora:a:1e3>", "", 0, 0},
        {"<lora:a:>", "<lora:a:>", "", 0, 0},
        {"<lora:a:1:2>", "<lora:a:1:2>", "", 0, 0},
        {"<lora::1>", "<lora::1>", "", 0, 0},
        {"<lora:a", "<lora:a", "", 0, 0},
        {"<lora:<lora:a:1>", "<lora:", "a", 1, 1},
        {"<lora:/etc/x:1>", "<lora:/etc/x:1>", "", 0, 0},
        {"<lora:../x:1>", "<lora:../x:1>", "", 0, 0},
        {"<lora:a/../../x>", "<lora:a/../../x>", "", 0, 0},
        {"<lora:..>", "<lora:..>", "", 0, 0},
        {"<lora:a..b>", "", "a..b", 1, 1},
        {"<LORA:a:1>", "<LORA:a:1>", "", 0, 0},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        lora_tag tags[2];
        char text[64], names[64] = "";
        snprintf(text, sizeof text, "%s", all[i].text);
        int count = lora_tags_take(text, text, tags, 2); /* in place */
        ck_assert_int_eq(count, all[i].count);
        ck_assert_str_eq(text, all[i].rest);
        for (int j = 0; j < count; j++)
            snprintf(names + strlen(names), sizeof names - strlen(names), "%s%.20s", j ? "," : "",
                     tags[j].name);
        ck_assert_str_eq(names, all[i].names);
        if (count)
            ck_assert_double_eq_tol(tags[count - 1].scale, all[i].scale, 1e-12);
    }
    lora_tag one;
    char out[64];
    ck_assert_int_eq(lora_tags_take("<lora:a><lora:b><lora:c>", out, &one, 1), 3);
    ck_assert_str_eq(one.name, "a");
    ck_assert_str_eq(out, "");
}
END_TEST

/* ---- against diffusers ----------------------------------------------------------------------- */

static void apply(const json_t *list)
{
    static char path[8][512];
    lora_want want[8];
    size_t i, count = json_array_size(list);
    json_t *one;
    json_array_foreach((json_t *)list, i, one)
    {
        snprintf(path[i], sizeof path[i], GOLDEN "%s", json_string_value(json_array_get(one, 0)));
        want[i] = (lora_want){path[i], json_number_value(json_array_get(one, 1))};
    }
    ck_assert_msg(loras_set(live, want, (int)count, &err) >= 0, "%s", err.text);
    ck_assert_str_eq(loras_notice(live), "");
}

static double relative_error(const float *ours, const float *theirs, size_t n)
{
    double difference = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        difference += ((double)ours[i] - theirs[i]) * ((double)ours[i] - theirs[i]);
        size += (double)theirs[i] * theirs[i];
    }
    return sqrt(difference / (size > 0 ? size : 1));
}

static float *run(const st_file *input, const json_t *command, size_t *n)
{
    stage_call call = {.model = m, .input = input, .command = command};
    ck_assert_msg(!stage_run(&call), "%s", call.why);
    *n = (size_t)call.dim[0] * (size_t)call.dim[1] * (size_t)call.dim[2] * (size_t)call.dim[3];
    return call.y;
}

static void check_command(const st_file *input, const json_t *command)
{
    char name[128];
    size_t n;
    const char *id = json_string_value(json_object_get(command, "id"));
    apply(json_object_get(command, "loras"));
    float *y = run(input, command, &n);
    snprintf(name, sizeof name, "%s.y", id);
    const st_tensor *t = st_find(input, name);
    ck_assert_msg(t && t->bytes == n * sizeof *y, "no %s", name);
    double error = relative_error(y, t->data, n);
    ck_assert_msg(error <= bar, "%s: error %g, bar %g", id, error, bar);
    free(y);
}

START_TEST(every_format_as_diffusers_has_it)
{
    char why[256];
    size_t i, n;
    json_t *command;
    model_options o = {.path = SOURCE_DIR "/tests/golden/networks/sd1",
                       .taesd = "",
                       .device = "cpu",
                       .memory = _i ? K_MEMORY_LOW : K_MEMORY_NORMAL,
                       .own = 1};
    m = model_acquire(NULL, &o, &err);
    ck_assert_msg(m && (live = loras_open(m, &err)), "%s", err.text);
    st_file *input = st_open(GOLDEN "golden.safetensors", why);
    ck_assert_msg(input != NULL, "%s", why);
    const st_tensor *text = st_find(input, "commands");
    json_t *commands = json_loadb(text->data, text->bytes, 0, NULL);
    ck_assert_int_ge((int)json_array_size(commands), 20);
    float *before = run(input, json_array_get(commands, 0), &n);
    json_array_foreach(commands, i, command) check_command(input, command);
    ck_assert_int_gt(loras_set(live, NULL, 0, &err), 0);
    float *after = run(input, json_array_get(commands, 0), &n);
    ck_assert_msg(!memcmp(before, after, n * sizeof *after), "the model is not what it was");
    free(before);
    free(after);
    json_decref(commands);
    st_close(input);
    loras_close(live);
    model_release(m);
}
END_TEST

/* ---- files of our own ------------------------------------------------------------------------ */

#define ATTN  "mid_block_attentions_0_transformer_blocks_0_attn"
#define LAYER "lora_te_text_model_encoder_layers_0_self_attn_"

static const lora_tensor unet_pair[] = {
    {"lora_unet_" ATTN "1_to_k.lora_down.weight", {2, 24}, 0.1f},
    {"lora_unet_" ATTN "1_to_k.lora_up.weight", {24, 2}, 0.2f},
    {"lora_unet_" ATTN "1_to_v.lora_down.weight", {2, 24}, 0.1f},
    {"lora_unet_" ATTN "1_to_v.lora_up.weight", {24, 2}, 0.2f},
};
static const lora_tensor text_pair[] = {
    {LAYER "q_proj.lora_down.weight", {4, 32}, 0.1f},
    {LAYER "q_proj.lora_up.weight", {32, 4}, 0.2f},
};

static void setup(void)
{
    dir = tiny_folder();
    tiny_make(dir, (tiny_options){0});
    model_options o = {.path = dir, .taesd = "", .device = "cpu", .own = 1};
    m = model_acquire(NULL, &o, &err);
    ck_assert_msg(m && (live = loras_open(m, &err)), "%s", err.text);
}

static void teardown(void)
{
    loras_close(live);
    model_release(m);
    tiny_remove(dir);
}

static void refused(const char *name, const lora_tensor *list, int count, const char *word)
{
    lora_want want = {lora_file(dir, name, list, count), 1};
    err = (scope_error){0};
    ck_assert_int_eq(loras_set(live, &want, 1, &err), -1);
    ck_assert_msg(strstr(err.text, word) != NULL, "\"%s\" does not say \"%s\"", err.text, word);
    ck_assert_int_eq(loras_active(live), 0);
    ck_assert_int_eq((int)loras_changed(live), 0);
}

START_TEST(what_is_refused)
{
    lora_tensor list[4];
    memcpy(list, unet_pair, sizeof list);
    refused("half", list, 1, "no up factor");
    list[0].dim[1] = 23;
    refused("wide", list, 4, "[2, 23], which does not fit the model's [24, 24, 1, 1]");
    list[0].dim[1] = 24;
    list[1].value = NAN;
    refused("nan", list, 4, "not finite");
    list[1].value = 0.2f;
    list[0].key = "lora_unet_" ATTN "2_to_k.lora_down.weight";
    list[0].dim[1] = 768;
    refused("sd1", list, 4, "for SD 1.x models (text width 768)");
    list[0].dim[1] = 2048;
    refused("sdxl", list, 4, "for SDXL models");
    const lora_tensor foreign[] = {{"transformer.x.lora_A.weight", {2, 2}, 1}};
    refused("flux", foreign, 1, "transformer.x.lora_A.weight");
    const lora_tensor twice[] = {
        {"lora_unet_" ATTN "1_to_k.lora_down.weight", {2, 24}, 1},
        {"unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_k.lora_A.weight", {2, 24}, 1}};
    refused("twice", twice, 2, "two spellings");
    lora_tensor alpha[3];
    memcpy(alpha, unet_pair, sizeof alpha);
    alpha[2] = (lora_tensor){"lora_unet_" ATTN "1_to_k.alpha", {1}, INFINITY};
    refused("alpha", alpha, 3, "not a usable number");
    lora_want none = {"/no/such/file", 1};
    ck_assert_int_eq(loras_set(live, &none, 1, &err), -1);
    ck_assert_ptr_nonnull(strstr(err.text, "/no/such/file"));
    tiny_text(dir, ".", "broken.safetensors", "this is no safetensors file at all");
    char path[600];
    snprintf(path, sizeof path, "%s/broken.safetensors", dir);
    none.path = path;
    ck_assert_int_eq(loras_set(live, &none, 1, &err), -1);
}
END_TEST

START_TEST(unknown_keys_are_named)
{
    lora_tensor list[5];
    memcpy(list, unet_pair, sizeof unet_pair);
    list[4] = (lora_tensor){"lora_unet_conv_in.hada_w1_a", {2, 2}, 1};
    lora_want want = {lora_file(dir, "mixed", list, 5), 1};
    ck_assert_int_eq(loras_set(live, &want, 1, &err), LORAS_UNET);
    ck_assert_ptr_nonnull(strstr(loras_notice(live), "1 of its 5 keys is not understood"));
    ck_assert_ptr_nonnull(strstr(loras_notice(live), "hada_w1_a"));
}
END_TEST

START_TEST(only_what_changes_is_changed)
{
    lora_want want[3] = {{lora_file(dir, "a", unet_pair, 4), 0.5},
                         {lora_file(dir, "b", text_pair, 2), 1}};
    ck_assert_int_eq(loras_set(live, want, 2, &err), LORAS_UNET | LORAS_TEXT);
    ck_assert_int_eq((int)loras_read(live), 2);
    ck_assert_int_eq((int)loras_changed(live), 2); /* k and v are one weight with q */
    ck_assert_int_eq(loras_set(live, want, 2, &err), 0);
    want[0].scale = 0.25;
    ck_assert_int_eq(loras_set(live, want, 2, &err), LORAS_UNET);
    ck_assert_int_eq((int)loras_changed(live), 3);
    want[1].scale = 0; /* still known, no longer in force */
    ck_assert_int_eq(loras_set(live, want, 2, &err), LORAS_TEXT);
    ck_assert_int_eq(loras_active(live), 1);
    want[1].scale = 2;
    want[2] = (lora_want){want[1].path, -2}; /* the same twice: the sum */
    ck_assert_int_eq(loras_set(live, want, 3, &err), 0);
    ck_assert_int_eq(loras_set(live, want, 1, &err), 0);
    want[2].path = "/no/such/file"; /* nothing happens */
    ck_assert_int_eq(loras_set(live, want, 3, &err), -1);
    ck_assert_int_eq(loras_active(live), 1);
    ck_assert_int_eq(loras_set(live, NULL, 0, &err), LORAS_UNET);
    ck_assert_int_eq((int)loras_read(live), 2);
}
END_TEST

/* Whichever allocation fails, the list is refused or put in force, and nothing is left behind. */
START_TEST(memory_runs_out_anywhere)
{
    const lora_want want[] = {{lora_file(dir, "a", unet_pair, 4), 1},
                              {lora_file(dir, "b", text_pair, 2), 1}};
    long n = 1;
    for (int changed = -1; changed < 0; n++) {
        loras *l = NULL;
        err = (scope_error){0};
        sd_alloc_fail_at(n);
        l = loras_open(m, &err);
        changed = l ? loras_set(l, want, 2, &err) : -1;
        sd_alloc_fail_at(0);
        if (changed < 0) {
            ck_assert_int_lt(err.status, 0);
            ck_assert_str_ne(err.text, "");
            ck_assert(!l || !loras_active(l));
        }
        loras_close(l);
    }
    ck_assert_int_gt(n, 50);
}
END_TEST

/* ---- frames ---------------------------------------------------------------------------------- */

enum { SIDE = 64, PIXELS = 3 * SIDE * SIDE };

static void frame(pipeline *p, int changed, unsigned char *pixels)
{
    const pipeline_settings s = {.width = SIDE,
                                 .height = SIDE,
                                 .fit = FIT_STRETCH,
                                 .from_text = 1,
                                 .use_taesd = 1,
                                 .prompt = {.count = 1, .text = {"a cat"}, .weight = {1}},
                                 .negative_prompt = "",
                                 .seed = 3,
                                 .steps = 1,
                                 .strength = 1};
    const k_image out = {pixels, K_U8, 1, SIDE, SIDE, 3, PIXELS, 3 * SIDE};
    ck_assert_int_ge(changed, 0);
    if (changed) {
        pipeline_reweigh(p);
        pipeline_reweighted(p, 1, (changed & LORAS_TEXT) != 0);
    }
    ck_assert_msg(!pipeline_set(p, &s, &err), "%s", err.text);
    ck_assert_msg(!pipeline_frame(p, NULL, &out, &err), "%s", err.text);
}

START_TEST(a_storm_of_weights_ends_where_it_should)
{
    unsigned char plain[PIXELS], one[PIXELS], now[PIXELS];
    lora_want want[2] = {{lora_file(dir, "a", unet_pair, 4), 0},
                         {lora_file(dir, "b", text_pair, 2), 0}};
    pipeline *p = pipeline_open(m, &err);
    ck_assert_ptr_nonnull(p);
    frame(p, 0, plain);
    for (int i = 0; i < 2; i++) { /* each file is seen in the picture */
        want[i].scale = 2;
        frame(p, loras_set(live, want, 2, &err), one);
        ck_assert_int_ne(memcmp(plain, one, PIXELS), 0);
        want[i].scale = 0;
        frame(p, loras_set(live, want, 2, &err), now);
        ck_assert_int_eq(memcmp(plain, now, PIXELS), 0);
    }
    want[0].scale = 1.5;
    want[1].scale = -0.5;
    frame(p, loras_set(live, want, 2, &err), one);
    for (int i = 0; i < 60; i++) {
        want[0].scale = (i * 37 % 17) / 8.0 - 1;
        want[1].scale = (i * 23 % 13) / 8.0 - 1;
        int changed = loras_set(live, want, i % 7 ? 2 : i % 3, &err);
        if (i % 10) {
            pipeline_reweigh(p);
            pipeline_reweighted(p, changed != 0, changed != 0);
        } else {
            frame(p, changed, now);
        }
    }
    want[0].scale = 1.5;
    want[1].scale = -0.5;
    frame(p, loras_set(live, want, 2, &err), now);
    ck_assert_int_eq(memcmp(one, now, PIXELS), 0);
    frame(p, loras_set(live, NULL, 0, &err), now);
    ck_assert_int_eq(memcmp(plain, now, PIXELS), 0);
    ck_assert_int_eq((int)loras_read(live), 2);
    pipeline_close(p);
}
END_TEST

START_TEST(a_claimed_model_is_not_shared)
{
    model_options o = {.path = dir, .taesd = "", .device = "cpu"};
    const model *a = model_acquire(NULL, &o, &err); /* m is this test's own already */
    ck_assert_ptr_ne(a, m);
    const model *b = model_acquire(NULL, &o, &err);
    ck_assert_ptr_eq(a, b);
    ck_assert_int_ne(model_claim(a), 0);
    model_release(b);
    ck_assert_int_eq(model_claim(a), 0);
    ck_assert_int_eq(model_claim(a), 0); /* again is fine */
    const model *c = model_acquire(NULL, &o, &err);
    ck_assert_ptr_ne(c, a);
    model_release(c);
    model_share(a);
    c = model_acquire(NULL, &o, &err);
    ck_assert_ptr_eq(c, a);
    model_release(c);
    model_release(a);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("lora");
    TCase *t = tcase_create("files");
    TCase *g = tcase_create("golden");
    tcase_set_timeout(t, 120);
    tcase_set_timeout(g, 120);
    tcase_add_test(g, keys_in_every_spelling);
    tcase_add_test(g, tags_leave_the_text);
    tcase_add_loop_test(g, every_format_as_diffusers_has_it, 0, 2);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, what_is_refused);
    tcase_add_test(t, unknown_keys_are_named);
    tcase_add_test(t, only_what_changes_is_changed);
    tcase_add_test(t, memory_runs_out_anywhere);
    tcase_add_test(t, a_storm_of_weights_ends_where_it_should);
    tcase_add_test(t, a_claimed_model_is_not_shared);
    suite_add_tcase(s, g);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
