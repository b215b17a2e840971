/* test_plugin_live.c - texts and LoRAs that change while the plugin runs, as a host sees it. */
#include "lora_file.h"
#include "plugin_bed.h"

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

/* ---- LoRAs ----------------------------------------------------------------------------------- */

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
    Suite *s = suite_create("plugin, live");
    TCase *t = tcase_create("plugin");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
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
