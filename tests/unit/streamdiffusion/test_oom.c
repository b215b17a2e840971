/* test_oom.c - every allocation of the loader fails once: each time the call says so, leaves
 * nothing behind (the sanitizers watch) and works again afterwards. */
#include "plugin/streamdiffusion/alloc.h"
#include "plugin/streamdiffusion/clip.h"
#include "plugin/streamdiffusion/config.h"
#include "plugin/streamdiffusion/parts.h"
#include "plugin/streamdiffusion/safetensors.h"
#include "plugin/streamdiffusion/tokenizer.h"
#include "plugin/streamdiffusion/weights.h"

#include <check.h>
#include <jansson.h>
#include <stdlib.h>
#include <unistd.h>

static k_device *device;
static char root[64];

/* One file of three tensors, the last of which does not lie aligned. */
static const char header[] =
    "{\"a.weight\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
    "\"b.query.weight\":{\"dtype\":\"F16\",\"shape\":[3],\"data_offsets\":[24,30]},"
    "\"c\":{\"dtype\":\"BF16\",\"shape\":[1,1],\"data_offsets\":[30,32]}} ";
enum { HEADER = sizeof header - 1, SIZE = 8 + HEADER + 32 };

static void file_bytes(char file[SIZE])
{
    memset(file, 0, SIZE);
    file[0] = (char)(HEADER & 0xff);
    file[1] = (char)(HEADER >> 8);
    memcpy(file + 8, header, HEADER);
}

/* Jansson reports some of its own failed allocations as errors of syntax. */
static int memory_sentence(const char *text)
{
    return strstr(text, "out of memory") || strstr(text, "is not valid: ");
}

/* ---- what is tried: 0 when it worked, -1 when it failed with a sentence ---------------------- */

static int try_safetensors(void)
{
    char file[SIZE], why[256] = "";
    file_bytes(file);
    st_file *f = st_open_memory(file, SIZE, "x", why);
    if (f)
        ck_assert_int_eq(st_count(f), 3);
    else
        ck_assert_msg(memory_sentence(why), "%s", why);
    st_close(f);
    return f ? 0 : -1;
}

static int try_weights(void)
{
    scope_error err = {0};
    weights *w = weights_open(device, root, "net", &err);
    if (w) {
        weights_linear(w, "a", 2, 3, 0);
        weights_table(w, "c", 1, 1);
        weights_finish(w, NULL, &err);
        weights_close(w);
    }
    ck_assert_msg(!err.status || memory_sentence(err.text), "%s", err.text);
    return err.status ? -1 : 0;
}

static int try_problems(void)
{
    scope_error err = {0};
    weights *w = weights_open(device, root, "net", &err);
    for (int i = 0; w && i < 5; i++)
        weights_norm(w, "none", 3);
    if (w)
        weights_finish(w, NULL, &err);
    weights_close(w);
    ck_assert_int_lt(err.status, 0);
    return memory_sentence(err.text) ? -1 : 0;
}

static int try_recorder(void)
{
    scope_error err = {0};
    weights *w = weights_open_recorder(device, "net", &err);
    for (int i = 0; w && i < 5; i++)
        weights_conv(w, "c", 3, 4, 3, 1);
    if (w)
        weights_finish(w, NULL, &err);
    weights_close(w);
    ck_assert_msg(!err.status || memory_sentence(err.text), "%s", err.text);
    return err.status ? -1 : 0;
}

static int try_config(void)
{
    scope_error err = {0};
    model_config c;
    int rc = config_read(&c, SOURCE_DIR "/tests/golden/configs/sd15", &err);
    ck_assert_msg(!rc || strlen(err.text) > 10, "\"%s\"", err.text);
    return rc ? -1 : 0;
}

/* A single file: its parts, their configs, and the weights of one of them, fp8 and joined. */
static int try_single(void)
{
    static const char *const asked[ASKED] = {
        [ASKED_MODEL] = SOURCE_DIR "/tests/golden/networks/ldm2/model.safetensors",
        [ASKED_VAE] = SOURCE_DIR "/tests/golden/networks/ldm1/model.safetensors"};
    scope_error err = {0};
    model_config c;
    parts p;
    weights *w = NULL;
    if (!parts_ask(&p, asked, &err) && !parts_find(&p, &c, NULL, &err))
        w = weights_open(device, p.at[PART_TEXT], "text_encoder", &err);
    clip *text = w ? clip_open(w, &c.text, &err) : NULL;
    if (text)
        weights_finish(w, NULL, &err);
    clip_close(text);
    weights_close(w);
    parts_fini(&p);
    ck_assert_msg(!err.status || strlen(err.text) > 10, "\"%s\"", err.text);
    return err.status ? -1 : 0;
}

static int try_tokenizer(void)
{
    scope_error err = {0};
    int32_t ids[TOKENIZER_LENGTH];
    tokenizer *t = tokenizer_open(SOURCE_DIR "/tests/golden/tokenizer/bang", &err);
    ck_assert_msg(t || strlen(err.text) > 10, "\"%s\"", err.text);
    int rc = t ? tokenizer_encode(t, "a photo! of <|endoftext|> a cat", ids) : -1;
    ck_assert(rc == -1 || rc > 5);
    tokenizer_close(t);
    return rc < 0 ? -1 : 0;
}

/* Make allocation n fail, and all after it, for growing n until the attempt succeeds. */
static void check_all(int (*attempt)(void), long least)
{
    sd_alloc_fail_at(0);
    ck_assert_int_eq(attempt(), 0);
    long made = sd_alloc_fail_at(0);
    ck_assert_int_ge(made, least);
    for (long n = 1; n <= made; n += 1 + n / 200) {
        sd_alloc_fail_at(n);
        int rc = attempt();
        sd_alloc_fail_at(0);
        ck_assert_msg(rc == -1, "allocation %ld of %ld failed unnoticed", n, made);
    }
    ck_assert_int_eq(attempt(), 0);
}

static void setup(void)
{
    char path[128], file[SIZE], why[K_WHY];
    snprintf(root, sizeof root, "/tmp/test_oom.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(root));
    snprintf(path, sizeof path, "%s/model.safetensors", root);
    file_bytes(file);
    FILE *f = fopen(path, "wb");
    ck_assert(f && fwrite(file, 1, SIZE, f) == SIZE && !fclose(f));
    device = k_device_open("cpu", &(k_device_options){.threads = 1}, why);
    ck_assert_msg(device != NULL, "%s", why);
    json_set_alloc_funcs(sd_malloc, free);
}

static void teardown(void)
{
    char path[128];
    snprintf(path, sizeof path, "%s/model.safetensors", root);
    unlink(path);
    rmdir(root);
    k_device_close(device);
}

START_TEST(safetensors)
{
    check_all(try_safetensors, 20);
}
END_TEST

START_TEST(weights_of_a_folder)
{
    check_all(try_weights, 20);
    check_all(try_problems, 20);
    check_all(try_recorder, 10);
}
END_TEST

START_TEST(configs)
{
    check_all(try_config, 100);
}
END_TEST

START_TEST(single_file)
{
    check_all(try_single, 1000);
}
END_TEST

START_TEST(tokenizer_folder)
{
    check_all(try_tokenizer, 1000);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("oom");
    TCase *tc = tcase_create("oom");
    tcase_set_timeout(tc, 120);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, safetensors);
    tcase_add_test(tc, weights_of_a_folder);
    tcase_add_test(tc, configs);
    tcase_add_test(tc, single_file);
    tcase_add_test(tc, tokenizer_folder);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
