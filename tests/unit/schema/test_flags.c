/* test_flags.c - command-line text becomes values, by exact name, prefix or dotted path. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "plugin/scope_plugin.h"
#include "schema/schema.h"

static const char text[] = SCOPE_JSON({
    "properties" : {
        "on" : {"type" : "boolean", "default" : true},
        "num_inference_steps" : {"$ref" : "base.json#/num_inference_steps"},
        "strength" : {"$ref" : "base.json#/strength"},
        "strength_end" : {"$ref" : "base.json#/strength"},
        "width" : {"$ref" : "base.json#/width"},
        "mode" : {"type" : "string", "default" : "none", "enum" : [ "none", "depth" ]},
        "size" : {"type" : "integer", "default" : 518, "enum" : [ 252, 364, 518 ]},
        "name" : {"type" : "string", "default" : ""},
        "t_index_list" : {
            "type" : "array",
            "default" : [0],
            "maxItems" : 4,
            "items" : {"type" : "integer", "minimum" : 0, "maximum" : 49}
        },
        "flags" : {"type" : "array", "default" : [], "items" : {"type" : "boolean"}},
        "tags" : {"type" : "array", "default" : [], "items" : {"type" : "string"}},
        "prompts" : {"$ref" : "base.json#/prompts"},
        "prompt_interpolation_method" : {"$ref" : "base.json#/prompt_interpolation_method"},
        "lora" : {
            "type" : "object",
            "properties" : {
                "file" : {"type" : "string", "default" : ""},
                "scale" : {"type" : "number", "default" : 1},
                "blocks" : {"type" : "array", "default" : [1], "items" : {"type" : "integer"}}
            }
        }
    }
});

static schema *s;
static json_t *values;

static void setup(void)
{
    schema_error err;
    s = schema_parse(text, &err);
    ck_assert_msg(s != NULL, "%s: %s", err.path, err.text);
    values = json_object();
}

static void teardown(void)
{
    json_decref(values);
    schema_free(s);
}

static void set(const char *name, const char *value)
{
    schema_error err;
    ck_assert_msg(schema_flag(s, values, name, value, &err) == 0, "%s=%s: %s", name, value,
                  err.text);
}

static void expect(const char *field, const char *json)
{
    json_t *want = json_loads(json, JSON_DECODE_ANY, NULL);
    json_t *got = json_object_get(values, field);
    char *dump = got ? json_dumps(got, JSON_ENCODE_ANY) : strdup("nothing");
    ck_assert_msg(json_equal(got, want), "%s is %s, not %s", field, dump, json);
    free(dump);
    json_decref(want);
}

static const struct {
    const char *name, *text, *field, *json;
} good[] = {
    {"on", "off", "on", "false"},
    {"on", "Yes", "on", "true"},
    {"on", "1", "on", "true"},
    {"on", "no", "on", "false"},
    {"num-inference-steps", "4", "num_inference_steps", "4"},
    {"num_inf", "4.0", "num_inference_steps", "4"},
    {"prompt", "a cat", "prompts", "[{\"text\": \"a cat\", \"weight\": 1.0}]"},
    {"tag", "a", "tags", "[\"a\"]"},
    {"prompt_i", "slerp", "prompt_interpolation_method", "\"slerp\""},
    {"strength", ".6", "strength", "0.6"},
    {"strength", "1.", "strength", "1.0"},
    {"strength", "+5e-1", "strength", "0.5"},
    {"strength", " 0.25 ", "strength", "0.25"},
    {"strength-e", "0.6", "strength_end", "0.6"},
    {"w", "520", "width", "520"},
    {"mode", "depth", "mode", "\"depth\""},
    {"size", "252", "size", "252"},
    {"name", "3", "name", "\"3\""},
    {"name", "", "name", "\"\""},
    {"name", "[x", "name", "\"[x\""},
    {"t-index-list", "[0, 16]", "t_index_list", "[0, 16]"},
    {"t_i", "0,16", "t_index_list", "[0, 16]"},
    {"t_i", "7", "t_index_list", "[7]"},
    {"t_i", "", "t_index_list", "[]"},
    {"flags", "on,off", "flags", "[true, false]"},
    {"tags", "a, b", "tags", "[\"a, b\"]"},
    {"tags", "[\"a\", \"b\"]", "tags", "[\"a\", \"b\"]"},
    {"prompts", "a cat, 1", "prompts", "[{\"text\": \"a cat, 1\", \"weight\": 1.0}]"},
    {"prompts", "{\"weight\": 2}", "prompts", "[{\"text\": \"\", \"weight\": 2.0}]"},
    {"prompts", "[\"a\", \"b\"]", "prompts",
     "[{\"text\": \"a\", \"weight\": 1.0}, {\"text\": \"b\", \"weight\": 1.0}]"},
    {"prompts.0.weight", "0.5", "prompts", "[{\"text\": \"\", \"weight\": 0.5}]"},
    {"prompts.1", "b", "prompts",
     "[{\"text\": \"\", \"weight\": 1.0}, {\"text\": \"b\", \"weight\": 1.0}]"},
    {"prompt.1.te", "b", "prompts",
     "[{\"text\": \"\", \"weight\": 1.0}, {\"text\": \"b\", \"weight\": 1.0}]"},
    {"t-i.0", "5", "t_index_list", "[5]"},
    {"lora", "x.safetensors", "lora",
     "{\"file\": \"x.safetensors\", \"scale\": 1.0, \"blocks\": [1]}"},
    {"lora.scale", "2", "lora", "{\"file\": \"\", \"scale\": 2.0, \"blocks\": [1]}"},
    {"lora.blocks.1", "2", "lora", "{\"file\": \"\", \"scale\": 1.0, \"blocks\": [1, 2]}"},
};

START_TEST(accepted)
{
    set(good[_i].name, good[_i].text);
    ck_assert_uint_eq(json_object_size(values), 1);
    expect(good[_i].field, good[_i].json);
}
END_TEST

static const struct {
    const char *name, *text, *path, *says;
} bad[] = {
    {"strenth", "1", "strenth", "did you mean 'strength'"},
    {"st", "1", "st", "'st' could be strength, strength_end"},
    {"", "1", "", "unknown field"},
    {"-", "1", "-", "unknown field"},
    {"on", "maybe", "on", "on is 'maybe'; write true or false"},
    {"on", "", "on", "write true or false"},
    {"width", "513", "width", "512 and 520"},
    {"width", "5x", "width", "width is '5x'; write a whole number"},
    {"width", "", "width", "write a whole number"},
    {"width", "512.5", "width", "must be a whole number"},
    {"width", "99999999999999999999", "width", "write a whole number"},
    {"strength", "nan", "strength", "write a number"},
    {"strength", "inf", "strength", "write a number"},
    {"strength", "1e999", "strength", "write a number"},
    {"strength", "0x1", "strength", "write a number"},
    {"strength", "--1", "strength", "write a number"},
    {"strength", ".", "strength", "write a number"},
    {"strength", "0,5", "strength", "write a number"},
    {"strength", "1.5", "strength", "strength is 1.5; allowed is 0 to 1"},
    {"mode", "trt", "mode", "mode is \"trt\"; choose one of \"none\", \"depth\""},
    {"size", "1", "size", "choose one of 252, 364, 518"},
    {"name", "\xff", "name", "not UTF-8"},
    {"name", "\xed\xa0\x80", "name", "not UTF-8"},
    {"name", "\xc0\x80", "name", "not UTF-8"},
    {"t_i", "1,2,x", "t_index_list[2]", "t_index_list[2] is 'x'"},
    {"t_i", "1,,2", "t_index_list[1]", "write a whole number"},
    {"t_i", "1,", "t_index_list[1]", "write a whole number"},
    {"t_i", "1,50", "t_index_list[1]", "0 to 49"},
    {"t_i", "1,2,3,4,5", "t_index_list", "at most 4"},
    {"t_i", "[1,", "t_index_list", "not valid JSON"},
    {"prompts", "{\"text\": 1}", "prompts.text", "it must be a string"},
    {"prompts", "{\"text\": \"a\", \"text\": \"b\"}", "prompts", "duplicate"},
    {"prompts.0.weight", "-1", "prompts[0].weight", "0 to 100"},
    {"prompts.0.wieght", "1", "prompts[0].wieght", "did you mean 'weight'"},
    {"prompts.2", "x", "prompts", "has 1 item; the next one is 1, not 2"},
    {"prompts.x", "x", "prompts", "write a position, 0 to 1, not 'x'"},
    {"prompts.", "x", "prompts", "write a position"},
    {"prompts.0x", "x", "prompts", "write a position"},
    {"prompts.99999999999999999999", "x", "prompts", "write a position"},
    {"width.0", "1", "width", "has no part '0': it is of type integer"},
    {"lora.", "1", "lora.", "unknown field"},
    {"lora.scale.x", "1", "lora.scale", "has no part"},
};

START_TEST(refused)
{
    schema_error err;
    ck_assert_msg(schema_flag(s, values, bad[_i].name, bad[_i].text, &err) == -1, "accepted: %s=%s",
                  bad[_i].name, bad[_i].text);
    ck_assert_msg(strstr(err.text, bad[_i].says), "%s=%s says: %s", bad[_i].name, bad[_i].text,
                  err.text);
    ck_assert_str_eq(err.path, bad[_i].path);
    ck_assert_uint_eq(json_object_size(values), 0);
}
END_TEST

/* Flags build on one another, and on values that came as JSON with shorthands. */
START_TEST(together)
{
    set("prompts", "a");
    set("prompts.1", "b");
    set("prompts.1.weight", "3");
    set("prompts.0.text", "c");
    expect("prompts", "[{\"text\": \"c\", \"weight\": 1.0}, {\"text\": \"b\", \"weight\": 3.0}]");
    json_object_set_new(values, "prompts", json_string("d"));
    set("prompts.0.weight", "2");
    expect("prompts", "[{\"text\": \"d\", \"weight\": 2.0}]");
    set("lora", "{\"scale\": 3}");
    set("lora.file", "f");
    expect("lora", "{\"file\": \"f\", \"scale\": 3.0, \"blocks\": [1]}");
    ck_assert_uint_eq(json_object_size(values), 2);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("schema flags");
    TCase *tc = tcase_create("flags");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, accepted, 0, (int)(sizeof good / sizeof *good));
    tcase_add_loop_test(tc, refused, 0, (int)(sizeof bad / sizeof *bad));
    tcase_add_test(tc, together);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
