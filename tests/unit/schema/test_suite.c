/* test_suite.c - the JSON Schema Test Suite (draft 7), as far as our subset reaches.
 *
 * Each group's schema becomes the property `x` of a schema of ours: a default is added (ours must
 * have one), and the type, where the group leaves it out, follows from its keywords. A group whose
 * schema still does not parse lies outside the subset and is skipped; a case is skipped where we
 * differ on purpose. Both are printed with their reason and counted.
 *
 * Where we differ (README.md): a type is always demanded, so "ignores other types" has no meaning;
 * a single value is a list of one; unknown properties are refused; every property has a default,
 * so a schema's invalid default is an error rather than a note.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "schema/schema.h"

#define SUITE "/usr/share/json-schema-test-suite/tests/draft7/"

static const char *const files[] = {
    "type",
    "minimum",
    "maximum",
    "enum",
    "items",
    "minItems",
    "maxItems",
    "default",
    "required",
    "properties",
    "optional/zeroTerminatedFloats",
};

static int ran, skipped, groups, groups_skipped;

static bool has(const json_t *doc, const char *key)
{
    return json_object_get(doc, key) != NULL;
}

/* The type that a keyword speaks about, when the schema leaves it out. */
static const char *implied_type(const json_t *doc)
{
    const json_t *first = json_array_get(json_object_get(doc, "enum"), 0);
    if (has(doc, "minimum") || has(doc, "maximum"))
        return "number";
    if (has(doc, "minItems") || has(doc, "maxItems") || has(doc, "items"))
        return "array";
    if (has(doc, "properties"))
        return "object";
    return json_is_string(first) ? "string" : json_is_number(first) ? "number" : NULL;
}

/* Give a field what we demand beyond JSON Schema: a type, and as a property a default. */
static void complete_field(json_t *doc, bool property)
{
    json_t *value, *items = json_object_get(doc, "items");
    const char *key;
    if (!json_is_object(doc))
        return;
    const char *type = implied_type(doc);
    if (!has(doc, "type") && type)
        json_object_set_new(doc, "type", json_string(type));
    type = json_string_value(json_object_get(doc, "type"));
    if (type && !strcmp(type, "array") && !items)
        json_object_set_new(doc, "items", json_pack("{s:s}", "type", "integer"));
    if (type && !strcmp(type, "object") && !has(doc, "properties"))
        json_object_set_new(doc, "properties", json_pack("{s:{s:s}}", "foo", "type", "integer"));
    complete_field(items, false);
    json_object_foreach(json_object_get(doc, "properties"), key, value)
    {
        complete_field(value, true);
    }
    if (!property || has(doc, "default") || !type)
        return;
    json_t *first = json_array_get(json_object_get(doc, "enum"), 0);
    json_t *low = json_object_get(doc, "minimum"), *high = json_object_get(doc, "maximum");
    json_int_t n = json_integer_value(json_object_get(doc, "minItems"));
    if (first || low || high)
        json_object_set(doc, "default", first ? first : low ? low : high);
    else if (!strcmp(type, "array"))
        for (json_object_set_new(doc, "default", json_array()); n > 0; n--)
            json_array_append_new(json_object_get(doc, "default"), json_integer(0));
    else if (strcmp(type, "object") != 0)
        json_object_set_new(doc, "default",
                            !strcmp(type, "string")    ? json_string("")
                            : !strcmp(type, "boolean") ? json_false()
                                                       : json_integer(0));
}

/* Why this case cannot be asked of us; NULL: ask it. */
static const char *differs(const json_t *schema_given, const char *type, const json_t *data)
{
    bool list = json_is_array(data), object = json_is_object(data);
    bool right = !strcmp(type, "array")     ? list
                 : !strcmp(type, "object")  ? object
                 : !strcmp(type, "string")  ? json_is_string(data)
                 : !strcmp(type, "boolean") ? json_is_boolean(data)
                                            : json_is_number(data);
    const json_t *properties = json_object_get(schema_given, "properties");
    const char *key;
    json_t *value;
    if (!has(schema_given, "type") && !right)
        return "the type is implied, so other types are not ignored";
    if (!strcmp(type, "array") && !list)
        return "shorthand: a single value is a list of one";
    for (size_t i = 0; i < json_array_size(data) && !has(schema_given, "items"); i++) {
        if (!json_is_integer(json_array_get(data, i)))
            return "a list needs items, here integers";
    }
    json_object_foreach((json_t *)(properties ? data : NULL), key, value)
    {
        if (!json_object_get(properties, key))
            return "unknown properties are refused";
    }
    return NULL;
}

static void run_case(const schema *s, const char *type, const json_t *given, const json_t *test,
                     const char *group)
{
    const char *what = json_string_value(json_object_get(test, "description"));
    const json_t *data = json_object_get(test, "data");
    const char *why = differs(given, type, data);
    if (why) {
        skipped++;
        printf("  skip: %s / %s: %s\n", group, what, why);
        return;
    }
    schema_error err;
    json_t *values = json_pack("{s:O}", "x", data);
    json_t *full = schema_complete(s, values, &err);
    ck_assert_msg(!!full == json_is_true(json_object_get(test, "valid")), "%s / %s: we say %s",
                  group, what, full ? "valid" : err.text);
    ran++;
    json_decref(full);
    json_decref(values);
}

static void run_group(const json_t *group, const char *file)
{
    const json_t *given = json_object_get(group, "schema"),
                 *tests = json_object_get(group, "tests");
    char name[160];
    snprintf(name, sizeof name, "%s: %s", file,
             json_string_value(json_object_get(group, "description")));
    json_t *field = json_deep_copy(given);
    complete_field(field, true);
    json_t *doc = json_pack("{s:{s:O}}", "properties", "x", field);
    char *text = json_dumps(doc, 0);
    schema_error err;
    schema *s = schema_parse(text, &err);
    groups++;
    if (s) {
        for (size_t i = 0; i < json_array_size(tests); i++)
            run_case(s, json_string_value(json_object_get(field, "type")), given,
                     json_array_get(tests, i), name);
    } else {
        groups_skipped++;
        skipped += (int)json_array_size(tests);
        printf("  skip: %s (%zu cases): %s\n", name, json_array_size(tests), err.text);
    }
    schema_free(s);
    free(text);
    json_decref(doc);
    json_decref(field);
}

START_TEST(draft7)
{
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[200];
        snprintf(path, sizeof path, SUITE "%s.json", files[i]);
        json_error_t why;
        json_t *list = json_load_file(path, 0, &why);
        ck_assert_msg(list != NULL, "%s (install json-schema-test-suite)", why.text);
        for (size_t j = 0; j < json_array_size(list); j++)
            run_group(json_array_get(list, j), files[i]);
        json_decref(list);
    }
    printf("JSON Schema Test Suite, draft 7: %d cases run, %d skipped (%d of %d groups lie outside "
           "the subset)\n",
           ran, skipped, groups_skipped, groups);
    ck_assert_int_ge(ran, 50); /* of Debian 12's 131 */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("JSON Schema Test Suite");
    TCase *tc = tcase_create("draft 7");
    tcase_add_test(tc, draft7);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
