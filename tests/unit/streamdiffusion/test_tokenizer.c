/* test_tokenizer.c - the tokenizer against the ids of transformers' CLIPTokenizer (tests/golden/
 * tokenizer, written by tests/oracle/tokenizer_golden.py), and against broken folders.
 *
 * $TOKENIZER_GOLDEN names another folder of that layout, such as one with CLIP's full vocabulary.
 */
#include "plugin/streamdiffusion/tokenizer.h"

#include <check.h>
#include <jansson.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { INNER = TOKENIZER_LENGTH - 2 };

static const char *golden(char out[4096], const char *name)
{
    const char *root = getenv("TOKENIZER_GOLDEN");
    snprintf(out, 4096, "%s/%s", root ? root : SOURCE_DIR "/tests/golden/tokenizer", name);
    return out;
}

static json_t *read_json(const char *name)
{
    char path[4096];
    json_t *root = json_load_file(golden(path, name), 0, NULL);
    ck_assert_msg(root != NULL, "%s", path);
    return root;
}

static tokenizer *open_golden(const char *name)
{
    char path[4096];
    scope_error err;
    tokenizer *t = tokenizer_open(golden(path, name), &err);
    ck_assert_msg(t != NULL, "%s", err.text);
    return t;
}

/* The bytes of a golden string: text, or {"hex": ...}. */
static const char *bytes_of(const json_t *v, char out[4096])
{
    if (json_is_string(v))
        return json_string_value(v);
    const char *hex = json_string_value(json_object_get(v, "hex"));
    size_t n = strlen(hex) / 2;
    for (size_t i = 0; i < n; i++) {
        unsigned byte;
        sscanf(hex + 2 * i, "%2x", &byte);
        out[i] = (char)byte;
    }
    out[n] = '\0';
    return out;
}

static int agrees(const tokenizer *t, const char *text, const json_t *want, int pad)
{
    int32_t ids[TOKENIZER_LENGTH];
    int count = tokenizer_encode(t, text, ids), shown = (int)json_array_size(want) - 1;
    int same =
        count == json_integer_value(json_array_get(want, 0)) && ids[shown + 1] == tokenizer_eos(t);
    for (int i = 0; i < shown; i++)
        same &= ids[i + 1] == json_integer_value(json_array_get(want, (size_t)i + 1));
    for (int i = shown + 2; i < TOKENIZER_LENGTH; i++)
        same &= ids[i] == pad;
    return same && ids[0] == tokenizer_eos(t) - 1;
}

static void check_golden(const char *name, int pad)
{
    char file[64], buffer[4096];
    snprintf(file, sizeof file, "%s.json", name);
    tokenizer *t = open_golden(name);
    json_t *strings = read_json("strings.json"), *ids = read_json(file),
           *plain = read_json("plain.json");
    size_t n = json_array_size(strings), wrong = 0;
    ck_assert_uint_ge(n, 2000);
    ck_assert_uint_eq(n, json_array_size(ids));
    for (size_t i = 0; i < n; i++) {
        const char *text = bytes_of(json_array_get(strings, i), buffer);
        const json_t *want = json_array_get(ids, i);
        if (!json_is_array(want)) /* the same as with the other pad token */
            want = json_array_get(plain, i);
        if (!agrees(t, text, want, pad < 0 ? tokenizer_eos(t) : pad) && wrong++ < 10)
            printf("string %zu differs: \"%s\"\n", i, text);
    }
    ck_assert_msg(wrong == 0, "%s: %zu of %zu strings differ", name, wrong, n);
    json_decref(strings);
    json_decref(ids);
    json_decref(plain);
    tokenizer_close(t);
}

START_TEST(agrees_with_transformers)
{
    check_golden("plain", -1);
}
END_TEST

START_TEST(agrees_when_a_mark_is_special)
{
    check_golden("bang", 0);
}
END_TEST

START_TEST(long_input_is_quick)
{
    static char text[200001];
    int32_t ids[TOKENIZER_LENGTH];
    tokenizer *t = open_golden("plain");
    clock_t begin = clock();
    memset(text, 'a', sizeof text - 1); /* one word: every merge competes with every other */
    ck_assert_int_gt(tokenizer_encode(t, text, ids), INNER);
    for (size_t i = 0; i < sizeof text - 1; i++)
        text[i] = (char)(i % 7 ? 'a' + i % 5 : 0x80 + i % 60);
    ck_assert_int_gt(tokenizer_encode(t, text, ids), INNER);
    ck_assert_int_lt((int)((clock() - begin) / (CLOCKS_PER_SEC / 1000)),
                     3000); /* n^2 takes minutes */
    tokenizer_close(t);
}
END_TEST

/* ---- broken folders ------------------------------------------------------------------------ */

static char folder[] = "/tmp/test_tokenizer.XXXXXX";

static void put(const char *name, const char *text)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (!text) {
        unlink(path);
        return;
    }
    FILE *f = fopen(path, "wb");
    ck_assert(f && fputs(text, f) >= 0 && !fclose(f));
}

static void refuse(const char *vocab, const char *merges, const char *config, const char *says)
{
    scope_error err;
    put("vocab.json", vocab);
    put("merges.txt", merges);
    put("tokenizer_config.json", config);
    tokenizer *t = tokenizer_open(folder, &err);
    ck_assert_msg(t == NULL, "accepted; expected \"%s\"", says);
    ck_assert_int_lt(err.status, 0);
    ck_assert_msg(strstr(err.text, says), "\"%s\" lacks \"%s\"", err.text, says);
}

#define SPECIALS "\"<|startoftext|>\": 8, \"<|endoftext|>\": 9"

START_TEST(broken_folders_are_refused)
{
    ck_assert_ptr_nonnull(mkdtemp(folder));
    refuse(NULL, NULL, NULL, "no vocab.json");
    refuse("{", "", NULL, "vocab.json");
    refuse("[]", "", NULL, "not a JSON object");
    refuse("{\"a\": -1}", "", NULL, "no id of 0");
    refuse("{\"a\": 1.5}", "", NULL, "no id of 0");
    refuse("{\"a\": 99999999}", "", NULL, "no id of 0");
    refuse("{\"a\": 1, \"a\": 2}", "", NULL, "duplicate");
    refuse("{\"a\": 1}", "", NULL, "<|startoftext|>");
    refuse("{" SPECIALS "}", NULL, NULL, "merges.txt");
    refuse("{\"a\": 1, " SPECIALS "}", "#version: 0.2\na b\n", NULL, "merge 1, \"a b\"");
    refuse("{\"a\": 1, " SPECIALS "}", "aa\n", NULL, "merge 1");
    refuse("{" SPECIALS "}", "", "{\"pad_token\": \"nope\"}", "pad_token \"nope\"");
    refuse("{" SPECIALS "}", "", "{\"pad_token\": ", "tokenizer_config.json");
    put("merges.txt", NULL);
    put("tokenizer_config.json", NULL);
    put("vocab.json", NULL);
    rmdir(folder);
}
END_TEST

START_TEST(what_is_not_in_the_vocabulary_is_unknown)
{
    char made[] = "/tmp/test_tokenizer.XXXXXX";
    int32_t ids[TOKENIZER_LENGTH];
    scope_error err;
    ck_assert_ptr_nonnull(mkdtemp(made));
    memcpy(folder, made, sizeof made);
    put("tokenizer.json",
        "{\"model\": {\"vocab\": {\"a\": 1, \"b</w>\": 2, \"ab</w>\": 3, " SPECIALS "},"
        " \"merges\": [[\"a\", \"b</w>\"]]}}");
    tokenizer *t = tokenizer_open(folder, &err);
    ck_assert_msg(t != NULL, "%s", err.text);
    ck_assert_int_eq(tokenizer_encode(t, "AB zb", ids), 3);
    ck_assert_int_eq(ids[1], 3);
    ck_assert_int_eq(ids[2], 9);
    ck_assert_int_eq(ids[3], 2);
    tokenizer_close(t);
    put("tokenizer.json", NULL);
    rmdir(folder);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tokenizer");
    TCase *tc = tcase_create("tokenizer");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, agrees_with_transformers);
    tcase_add_test(tc, agrees_when_a_mark_is_special);
    tcase_add_test(tc, long_input_is_quick);
    tcase_add_test(tc, broken_folders_are_refused);
    tcase_add_test(tc, what_is_not_in_the_vocabulary_is_unknown);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
