/* test_emit.c - the JSON, the help and the manual page, word for word on a small schema. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "plugin/scope_plugin.h"
#include "schema/schema.h"

static const char text[] = SCOPE_JSON({
    "title" : "Trail",
    "description" : "Leaves a trail.",
    "properties" : {
        "model_path" : {
            "type" : "string",
            "default" : "",
            "description" : "Folder | file",
            "ui" : {"order" : 2, "label" : "Model", "is_load_param" : true, "group" : "Model"}
        },
        "decay" : {
            "type" : "number",
            "default" : 0.9,
            "minimum" : 0,
            "maximum" : 1,
            "step" : 0.05,
            "title" : "Decay",
            "description" : "Per frame.",
            "ui" : {"order" : 1, "unit" : "of 1"}
        },
        "mode" :
            {"type" : "string", "enum" : [ "add", "max" ], "default" : "max", "ui" : {"order" : 0}},
        "seed" : {"$ref" : "base.json#/seed", "ui" : null},
        "prompts" : {"$ref" : "base.json#/prompts", "maxItems" : 2}
    }
});

static const char help[] =
    "Configuration:\n"
    "  --mode TEXT\n"
    "      Mode\n"
    "      \"add\", \"max\"; default \"max\"\n"
    "  --decay X\n"
    "      Decay. Per frame.\n"
    "      0 to 1 of 1, step 0.05; default 0.9\n"
    "Model:\n"
    "  --model-path TEXT   [load: fixed while running]\n"
    "      Model. Folder | file\n"
    "      default \"\"\n"
    "Input:\n"
    "  --prompts LIST\n"
    "      Prompts. What the picture should show: texts, blended by weight.\n"
    "      0 to 2 items; default [{\"text\": \"\", \"weight\": 1.0}]\n"
    "Not shown in the UI:\n"
    "  --seed N\n"
    "      Seed. Start of the random numbers: the same seed gives the same "
    "noise.\n"
    "      0 to 2147483647; default 42\n";

static schema *s;

static void setup(void)
{
    schema_error err;
    s = schema_parse(text, &err);
    ck_assert_msg(s != NULL, "%s: %s", err.path, err.text);
}

static void teardown(void)
{
    schema_free(s);
}

START_TEST(help_text)
{
    char *out = NULL;
    size_t size;
    FILE *f = open_memstream(&out, &size);
    schema_help(s, f);
    fclose(f);
    ck_assert_str_eq(out, help);
    free(out);
}
END_TEST

START_TEST(manual)
{
    char *out = NULL;
    size_t size;
    FILE *f = open_memstream(&out, &size);
    schema_markdown(s, "org.test.trail", "1.2.0", f);
    fclose(f);
    const char *const lines[] = {
        "# Trail\n\n`org.test.trail` 1.2.0\n\nLeaves a trail.\n\n## Configuration\n\n| Parameter |",
        "\n| `decay` | number | 0 to 1 of 1, step 0.05 | `0.9` | live | Decay. Per frame. |\n",
        "\n| `model_path` | string |  | `\"\"` | **load** | Model. Folder \\| file |\n",
        "\n| `prompts` | list of object | 0 to 2 items |",
        "\n| `prompts[].weight` | number | 0 to 100, step 0.01 | `1` | live | Weight. Its share",
        "\n## Not shown in the UI\n",
        "\n**load** parameters are fixed",
    };
    const char *at = out;
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        const char *found = strstr(at, lines[i]);
        ck_assert_msg(found != NULL, "missing, or out of order: %s\nin %s", lines[i], out);
        at = found;
    }
    free(out);
}
END_TEST

START_TEST(json)
{
    json_t *doc = schema_json(s);
    json_t *fields = json_object_get(doc, "properties");
    ck_assert_str_eq(json_string_value(json_object_get(doc, "type")), "object");
    ck_assert_str_eq(json_object_iter_key(json_object_iter(fields)), "model_path");
    json_t *decay = json_object_get(fields, "decay");
    json_t *want =
        json_loads(SCOPE_JSON({
                                  "type" : "number",
                                  "default" : 0.9,
                                  "minimum" : 0,
                                  "maximum" : 1,
                                  "step" : 0.05,
                                  "title" : "Decay",
                                  "description" : "Per frame.",
                                  "ui" : {"order" : 1, "unit" : "of 1", "label" : "Decay"}
                              }),
                                0, NULL);
    ck_assert(json_equal(decay, want));
    json_decref(want);
    ck_assert_ptr_null(json_object_get(json_object_get(fields, "seed"), "ui"));
    ck_assert_int_eq(
        (int)json_integer_value(json_object_get(json_object_get(fields, "seed"), "default")), 42);
    /* The caller's own: changing it leaves the schema alone. */
    json_object_set_new(decay, "default", json_real(0.1));
    ck_assert_double_eq(json_real_value(schema_find(s, "decay")->def), 0.9);
    json_decref(doc);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("schema emit");
    TCase *tc = tcase_create("emit");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, help_text);
    tcase_add_test(tc, manual);
    tcase_add_test(tc, json);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
