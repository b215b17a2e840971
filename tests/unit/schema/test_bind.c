/* test_bind.c - objects become complete values and kwargs, or an error that names the field. */
#include <check.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "plugin/scope_plugin.h"
#include "schema/schema.h"

static const char text[] = SCOPE_JSON({
    "properties" : {
        "on" : {"type" : "boolean", "default" : true},
        "i" : {"type" : "integer", "default" : 3, "minimum" : -5, "maximum" : 5},
        "any" : {"type" : "integer", "default" : 0},
        "even" : {"type" : "integer", "default" : 0, "step" : 2},
        "w" : {"type" : "integer", "default" : 512, "minimum" : 64, "maximum" : 1030, "step" : 8},
        "f" : {"type" : "number", "default" : 0.5, "minimum" : 0, "maximum" : 1},
        "mode" : {"type" : "string", "default" : "a", "enum" : [ "a", "b" ]},
        "s" : {"type" : "string", "default" : "hé"},
        "ns" : {
            "type" : "array",
            "default" : [ 0, 16 ],
            "minItems" : 1,
            "maxItems" : 3,
            "items" : {"type" : "integer", "minimum" : 0}
        },
        "prompts" : {"$ref" : "base.json#/prompts"},
        "o" : {
            "type" : "object",
            "default" : {"y" : 2},
            "properties" : {
                "x" : {"type" : "integer", "default" : 1},
                "y" : {"type" : "integer", "default" : 1}
            }
        },
        "grid" : {
            "type" : "array",
            "default" : [],
            "items" : {"type" : "array", "items" : {"type" : "integer"}, "maxItems" : 2}
        }
    }
});

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

static json_t *read(const char *json)
{
    json_error_t why;
    json_t *v = json_loads(json, JSON_DECODE_ANY, &why);
    ck_assert_msg(v != NULL, "%s: %s", json, why.text);
    return v;
}

static const struct {
    const char *values, *field, *becomes;
} good[] = {
    {"{}", "on", "true"},
    {"{}", "s", "\"h\\u00e9\""},
    {"{}", "o", "{\"x\": 1, \"y\": 2}"},
    {"{}", "prompts", "[{\"text\": \"\", \"weight\": 1.0}]"},
    {"{\"on\": false}", "on", "false"},
    {"{\"i\": 3.0}", "i", "3"},
    {"{\"i\": -0.0}", "i", "0"},
    {"{\"any\": 9223372036854775807}", "any", "9223372036854775807"},
    {"{\"any\": -9223372036854775808}", "any", "-9223372036854775808"},
    {"{\"any\": 1e18}", "any", "1000000000000000000"},
    {"{\"even\": -4}", "even", "-4"},
    {"{\"w\": 64}", "w", "64"},
    {"{\"f\": 1}", "f", "1.0"},
    {"{\"mode\": \"b\"}", "mode", "\"b\""},
    {"{\"ns\": 7}", "ns", "[7]"},
    {"{\"ns\": [1, 2.0]}", "ns", "[1, 2]"},
    {"{\"prompts\": \"a cat\"}", "prompts", "[{\"text\": \"a cat\", \"weight\": 1.0}]"},
    {"{\"prompts\": [\"a\", {\"weight\": 2}]}", "prompts",
     "[{\"text\": \"a\", \"weight\": 1.0}, {\"text\": \"\", \"weight\": 2.0}]"},
    {"{\"prompts\": {\"text\": \"a\"}}", "prompts", "[{\"text\": \"a\", \"weight\": 1.0}]"},
    {"{\"prompts\": []}", "prompts", "[]"},
    {"{\"o\": {\"x\": 5}}", "o", "{\"x\": 5, \"y\": 1}"},
    {"{\"grid\": 3}", "grid", "[[3]]"},
    {"{\"grid\": [1, [2, 3]]}", "grid", "[[1], [2, 3]]"},
};

START_TEST(accepted)
{
    schema_error err;
    json_t *values = read(good[_i].values), *want = read(good[_i].becomes);
    json_t *full = schema_complete(s, values, &err);
    ck_assert_msg(full != NULL, "%s: %s", good[_i].values, err.text);
    ck_assert_msg(json_equal(json_object_get(full, good[_i].field), want), "%s gives %s",
                  good[_i].values, json_dumps(full, 0));
    int n;
    const schema_field *f = schema_fields(s, &n);
    void *iter = json_object_iter(full);
    for (int i = 0; i < n; i++, iter = json_object_iter_next(full, iter))
        ck_assert_str_eq(json_object_iter_key(iter), f[i].name);
    ck_assert_ptr_null(iter);
    json_decref(full);
    json_decref(want);
    json_decref(values);
}
END_TEST

static const struct {
    const char *values, *path, *says;
} bad[] = {
    {"[]", "", "must be a JSON object"},
    {"\"a\"", "", "must be a JSON object"},
    {"{\"fo\": 1}", "fo", "did you mean 'f'"},
    {"{\"promts\": 1}", "promts", "unknown field 'promts'; did you mean 'prompts'?"},
    {"{\"on\": 1}", "on", "on is 1; it must be true or false"},
    {"{\"on\": null}", "on", "on is null; leave it out"},
    {"{\"i\": 3.5}", "i", "i is 3.5; it must be a whole number"},
    {"{\"i\": true}", "i", "i is true; it must be a whole number"},
    {"{\"i\": \"3\"}", "i", "i is \"3\"; it must be a whole number"},
    {"{\"i\": 6}", "i", "i is 6; allowed is -5 to 5"},
    {"{\"i\": -6}", "i", "i is -6; allowed is -5 to 5"},
    {"{\"any\": 9223372036854775808.0}", "any", "whole number"},
    {"{\"even\": 3}", "even", "nearest valid values are 2 and 4"},
    {"{\"even\": -3}", "even", "nearest valid values are -4 and -2"},
    {"{\"even\": 9223372036854775807}", "even", "nearest valid value is 9223372036854775806"},
    {"{\"w\": 513}", "w", "w is 513; the nearest valid values are 512 and 520"},
    {"{\"w\": 1030}", "w", "w is 1030; the nearest valid value is 1024"},
    {"{\"f\": 1.5}", "f", "f is 1.5; allowed is 0 to 1"},
    {"{\"f\": -1e-9}", "f", "f is -1e-09; allowed is 0 to 1"},
    {"{\"f\": [1]}", "f", "f is a list; it must be a number"},
    {"{\"mode\": \"c\"}", "mode", "mode is \"c\"; choose one of \"a\", \"b\""},
    {"{\"mode\": \"A\"}", "mode", "choose one of"},
    {"{\"s\": 1}", "s", "s is 1; it must be a string"},
    {"{\"ns\": []}", "ns", "ns has 0 items; at least 1 must be given"},
    {"{\"ns\": [1, 2, 3, 4]}", "ns", "ns has 4 items; at most 3 are allowed"},
    {"{\"ns\": [1, -2]}", "ns[1]", "ns[1] is -2; allowed is at least 0"},
    {"{\"ns\": -2}", "ns", "ns is -2"},
    {"{\"ns\": null}", "ns", "ns is null"},
    {"{\"prompts\": [{}, {\"weight\": 101}]}", "prompts[1].weight",
     "prompts[1].weight is 101; allowed is 0 to 100"},
    {"{\"prompts\": [{\"wieght\": 1}]}", "prompts[0].wieght", "did you mean 'weight'"},
    {"{\"prompts\": [3]}", "prompts[0]", "prompts[0] is 3; it must be an object"},
    {"{\"o\": \"text\"}", "o", "o is \"text\"; it must be an object"},
    {"{\"o\": {\"x\": null}}", "o.x", "o.x is null"},
    {"{\"grid\": [[1, 2], [1, 2, 3]]}", "grid[1]", "at most 2"},
    {"{\"grid\": [[1, \"a\"]]}", "grid[0][1]", "whole number"},
};

START_TEST(refused)
{
    schema_error err;
    json_t *values = read(bad[_i].values);
    json_t *full = schema_complete(s, values, &err);
    ck_assert_msg(!full, "accepted: %s", bad[_i].values);
    ck_assert_str_eq(err.path, bad[_i].path);
    ck_assert_msg(strstr(err.text, bad[_i].says), "%s says: %s", bad[_i].values, err.text);
    memset(&err, 0, sizeof err);
    ck_assert_ptr_null(schema_bind(s, values, 1, &err));
    ck_assert_str_eq(err.path, bad[_i].path);
    json_decref(values);
}
END_TEST

START_TEST(load_values)
{
    schema_error err;
    schema *mixed = schema_parse(SCOPE_JSON({"properties": {
            "model": {"type": "string", "default": "m", "ui": {"is_load_param": true}},
            "strength": {"type": "number", "default": 1, "ui": {"order": 1}},
            "size": {"type": "integer", "default": 2, "ui": {"is_load_param": true}}}}),
                     &err);
    ck_assert_msg(mixed != NULL, "%s: %s", err.path, err.text);
    json_t *given = read("{\"size\": 7, \"strength\": 0.5}");
    json_t *complete = schema_complete(mixed, given, &err);
    json_t *load = schema_load_values(mixed, complete);
    json_t *wanted = read("{\"model\": \"m\", \"size\": 7}");
    ck_assert(json_equal(load, wanted));
    json_decref(wanted);
    json_decref(load);
    json_decref(complete);
    json_decref(given);
    schema_free(mixed);
}
END_TEST

START_TEST(kwargs)
{
    schema_error err;
    json_t *values =
        read("{\"i\": -2, \"prompts\": [\"a cat\", {\"weight\": 0.5}], \"on\": false}");
    scope_kwargs *kw = schema_bind(s, values, 77, &err);
    ck_assert_msg(kw != NULL, "%s", err.text);
    json_decref(values);
    /* One block, on its own: neither the values nor the schema are needed any more. */
    schema_free(s);
    s = NULL;
    ck_assert_uint_eq(kw->generation, 77);
    ck_assert_int_eq(kw->count, 12);
    ck_assert_uint_eq((uintptr_t)kw->at % _Alignof(scope_value), 0);
    ck_assert_int_eq(scope_get(kw, "on")->type, SCOPE_BOOL);
    ck_assert_int_eq(scope_int(kw, "on"), 0);
    ck_assert_int_eq(scope_int(kw, "i"), -2);
    ck_assert_int_eq(scope_get(kw, "f")->type, SCOPE_NUM);
    ck_assert_double_eq(scope_num(kw, "f"), 0.5);
    ck_assert_str_eq(scope_str(kw, "s"), "h\xc3\xa9");
    const scope_value *v = scope_get(kw, "prompts");
    ck_assert(v->type == SCOPE_LIST && v->count == 2);
    ck_assert_ptr_null(v->u.at[0].name);
    ck_assert(v->u.at[1].type == SCOPE_OBJ && v->u.at[1].count == 2);
    ck_assert_str_eq(v->u.at[0].u.at[0].name, "text");
    ck_assert_str_eq(v->u.at[0].u.at[0].u.s, "a cat");
    ck_assert_str_eq(v->u.at[1].u.at[1].name, "weight");
    ck_assert_double_eq(v->u.at[1].u.at[1].u.f, 0.5);
    ck_assert_int_eq(scope_get(kw, "grid")->count, 0);
    ck_assert_int_eq(scope_get(kw, "missing")->type, SCOPE_NULL);
    free(kw);
}
END_TEST

START_TEST(long_strings)
{
    schema_error err;
    for (size_t n = 65536; n <= 65537; n++) {
        char *long_text = malloc(n + 1);
        memset(long_text, 'x', n);
        long_text[n] = '\0';
        json_t *values = json_pack("{s:s}", "s", long_text);
        scope_kwargs *kw = schema_bind(s, values, 0, &err);
        ck_assert(!kw == (n == 65537));
        if (!kw)
            ck_assert_str_eq(err.text, "s has 65537 bytes; at most 65536 are allowed");
        else
            ck_assert_uint_eq(strlen(scope_str(kw, "s")), n);
        free(kw);
        json_decref(values);
        free(long_text);
    }
    json_t *nul = json_object();
    json_object_set_new(nul, "s", json_stringn("a\0b", 3));
    ck_assert_ptr_null(schema_complete(s, nul, &err));
    ck_assert_str_eq(err.text, "s contains a NUL character; remove it");
    json_decref(nul);
}
END_TEST

/* What comes out shares nothing with the schema: changing it cannot change a default. */
START_TEST(independent)
{
    schema_error err;
    json_t *a = schema_complete(s, NULL, &err), *b;
    json_object_set_new(json_array_get(json_object_get(a, "prompts"), 0), "text", json_string("z"));
    json_string_set(json_object_get(a, "s"), "changed");
    b = schema_complete(s, NULL, &err);
    ck_assert_str_eq(json_string_value(json_object_get(b, "s")), "h\xc3\xa9");
    ck_assert_str_eq(json_string_value(
                         json_object_get(json_array_get(json_object_get(b, "prompts"), 0), "text")),
                     "");
    json_decref(a);
    json_decref(b);
}
END_TEST

/* Errors stay valid UTF-8 and in their buffers whatever they quote. */
START_TEST(quoting)
{
    schema_error err;
    for (int n = 1; n < 200; n++) {
        char name[1024] = "";
        for (int i = 0; i < n; i++)
            strcat(name, i % 3 ? "\xe2\x82\xac" : "\xf0\x9f\x90\x88");
        json_t *values = json_pack("{s:i}", name, 1);
        ck_assert_ptr_null(schema_complete(s, values, &err));
        json_decref(values);
        values = json_pack("{s:s}", "mode", name);
        ck_assert_ptr_null(schema_complete(s, values, &err));
        json_decref(values);
        json_t *valid = json_string(err.text), *path = json_string(err.path);
        ck_assert_msg(valid && path, "%d: not UTF-8: %s", n, err.text);
        json_decref(valid);
        json_decref(path);
    }
    /* Nothing that a terminal would obey: a run of such bytes shows as one '?'. */
    json_t *values = json_pack("{s:s}", "mode", "\x1b\x07[31m\n\x7f");
    ck_assert_ptr_null(schema_complete(s, values, &err));
    ck_assert_msg(!strncmp(err.text, "mode is \"?[31m?\"; choose", 23), "%s", err.text);
    json_decref(values);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("schema bind");
    TCase *tc = tcase_create("bind");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, accepted, 0, (int)(sizeof good / sizeof *good));
    tcase_add_loop_test(tc, refused, 0, (int)(sizeof bad / sizeof *bad));
    tcase_add_test(tc, load_values);
    tcase_add_test(tc, kwargs);
    tcase_add_test(tc, long_strings);
    tcase_add_test(tc, independent);
    tcase_add_test(tc, quoting);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
