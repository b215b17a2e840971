/* test_model.c - loading a folder, sharing it, and what a bad folder says. */
#include "tiny.h"

#include "plugin/streamdiffusion/alloc.h"

static char dir[64];

static void setup(void)
{
    snprintf(dir, sizeof dir, "%s", tiny_folder());
}

static void teardown(void)
{
    tiny_remove(dir);
}

static const model *acquire(const char *path, int memory, scope_error *err)
{
    const model_options o = {.path = path, .taesd = "", .device = "auto", .memory = memory};
    memset(err, 0, sizeof *err);
    return model_acquire(NULL, &o, err);
}

START_TEST(equal_parameters_share_one_copy)
{
    scope_error err;
    char other[80];
    tiny_make(dir, (tiny_options){0});
    snprintf(other, sizeof other, "%s/unet/..", dir); /* the same folder by another name */
    const model *a = acquire(dir, K_MEMORY_NORMAL, &err);
    ck_assert_msg(a != NULL, "%s", err.text);
    const model *b = acquire(other, K_MEMORY_NORMAL, &err);
    const model *c = acquire(dir, K_MEMORY_LOW, &err);
    ck_assert_ptr_eq(a, b);
    ck_assert_ptr_eq(a->unet, b->unet);
    ck_assert_ptr_nonnull(c);
    ck_assert_ptr_ne(a, c);
    model_release(a);
    const model *again = acquire(dir, K_MEMORY_NORMAL, &err);
    ck_assert_ptr_eq(again, b); /* b still holds it */
    model_release(again);
    model_release(b);
    model_release(c);
    model_release(NULL);
}
END_TEST

START_TEST(parts_follow_the_folder)
{
    scope_error err;
    tiny_make(dir, (tiny_options){.no_vae = 1, .lcm = 1, .linear = 1});
    const model *m = acquire(dir, K_MEMORY_NORMAL, &err);
    ck_assert_msg(m != NULL, "%s", err.text);
    ck_assert_ptr_null(m->vae);
    ck_assert_ptr_nonnull(m->taesd);
    ck_assert_int_eq(unet_has_guidance(m->unet), 1);
    ck_assert_int_eq(clip_width(m->text), 32);
    /* 2 down, 2 mid and 4 up resnets of 16 or 24 channels */
    ck_assert_int_eq(unet_time_channels(m->unet), 16 + 24 + 2 * 24 + 2 * 24 + 2 * 16);
    model_release(m);
}
END_TEST

START_TEST(taesd_may_lie_elsewhere)
{
    scope_error err;
    char taesd[80];
    tiny_make(dir, (tiny_options){0});
    snprintf(taesd, sizeof taesd, "%s/taesd", dir);
    model_options o = {.path = dir, .taesd = taesd, .device = "cpu"};
    const model *m = model_acquire(NULL, &o, &err);
    ck_assert_msg(m && m->taesd, "%s", err.text);
    model_release(m);
    o.taesd = "/no/such/folder";
    ck_assert_ptr_null(model_acquire(NULL, &o, &err));
    ck_assert_str_eq(err.field, "taesd_path");
    o.taesd = "";
    o.device = "abacus";
    ck_assert_ptr_null(model_acquire(NULL, &o, &err));
    ck_assert_str_eq(err.field, "device");
}
END_TEST

/* Each bad folder is refused, blames the field and says the word. */
static void refused(const char *path, const char *word)
{
    scope_error err;
    ck_assert_ptr_null(acquire(path, K_MEMORY_NORMAL, &err));
    ck_assert_int_lt(err.status, 0);
    ck_assert_str_eq(err.field, "model_id_or_path");
    ck_assert_msg(strstr(err.text, word) != NULL, "\"%s\" does not say \"%s\"", err.text, word);
}

START_TEST(no_folder)
{
    refused("", "scope model get stabilityai/sd-turbo");
    refused("stabilityai/sd-turbo", "stabilityai/sd-turbo");
    refused(dir, "model_index.json"); /* it is empty */
}
END_TEST

START_TEST(missing_weights)
{
    char path[128];
    tiny_make(dir, (tiny_options){0});
    snprintf(path, sizeof path, "%s/unet/diffusion_pytorch_model.safetensors", dir);
    ck_assert_int_eq(truncate(path, 4000), 0);
    refused(dir, "unet");
    ck_assert_int_eq(unlink(path), 0);
    refused(dir, "unet");
}
END_TEST

START_TEST(shapes_against_the_config)
{
    tiny_make(dir, (tiny_options){0});
    tiny_text(dir, "text_encoder", "config.json",
              "{\"architectures\": [\"CLIPTextModel\"], \"vocab_size\": 190, \"hidden_size\": 32,"
              " \"intermediate_size\": 96, \"num_hidden_layers\": 2, \"num_attention_heads\": 2}");
    refused(dir, "fc1");
}
END_TEST

/* Whichever allocation fails, loading and opening end with an error and leave nothing behind. */
START_TEST(memory_runs_out_anywhere)
{
    scope_error err;
    tiny_make(dir, (tiny_options){0});
    const model *m = NULL;
    pipeline *p = NULL;
    long n = 1;
    for (; !p; n += 1 + n / 40) {
        sd_alloc_fail_at(n);
        m = acquire(dir, K_MEMORY_NORMAL, &err);
        p = m ? pipeline_open(m, &err) : NULL;
        sd_alloc_fail_at(0);
        if (!p) {
            ck_assert_int_lt(err.status, 0);
            ck_assert_str_ne(err.text, "");
            model_release(m);
        }
    }
    ck_assert_int_gt(n, 100);
    pipeline_close(p);
    model_release(m);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("model");
    TCase *t = tcase_create("model");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, equal_parameters_share_one_copy);
    tcase_add_test(t, parts_follow_the_folder);
    tcase_add_test(t, taesd_may_lie_elsewhere);
    tcase_add_test(t, no_folder);
    tcase_add_test(t, missing_weights);
    tcase_add_test(t, shapes_against_the_config);
    tcase_add_test(t, memory_runs_out_anywhere);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
