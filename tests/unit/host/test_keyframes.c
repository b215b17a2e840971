/* test_keyframes.c - keyframes: values at times, cross-fades, and what is refused. */
#include "host/keyframes.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static const char text[] =
    "{\"properties\": {"
    "\"strength\": {\"type\": \"number\", \"default\": 0.5, \"minimum\": 0, \"maximum\": 1,"
    "  \"description\": \"s\"},"
    "\"steps\": {\"type\": \"integer\", \"default\": 1, \"minimum\": 1, \"maximum\": 50,"
    "  \"description\": \"s\"},"
    "\"mode\": {\"type\": \"string\", \"default\": \"a\", \"enum\": [\"a\", \"b\"],"
    "  \"description\": \"m\"},"
    "\"model\": {\"type\": \"string\", \"default\": \"\", \"description\": \"m\","
    "  \"ui\": {\"is_load_param\": true}},"
    "\"prompts\": {\"$ref\": \"base.json#/prompts\"}}}";

static schema *s;

static void setup(void)
{
    schema_error why;
    s = schema_parse(text, &why);
    ck_assert_msg(s, "%s: %s", why.path, why.text);
}

static void teardown(void)
{
    schema_free(s);
}

static int resolve(void *ctx, const char *name, keyframes_target *to, scope_error *err)
{
    (void)ctx;
    *to = (keyframes_target){0, s, schema_find(s, name)};
    if (!to->field)
        snprintf(err->text, sizeof err->text, "no field %s", name);
    return to->field ? 0 : SCOPE_EINVAL;
}

static keyframes *parse(const char *json, double fps, scope_error *err)
{
    json_error_t why;
    json_t *root = json_loads(json, JSON_DECODE_ANY, &why);
    ck_assert_msg(root, "%s", why.text);
    keyframes *k = keyframes_parse(root, fps, resolve, NULL, err);
    json_decref(root);
    return k;
}

static keyframes *good(const char *json, double fps)
{
    scope_error err = {0};
    keyframes *k = parse(json, fps, &err);
    ck_assert_msg(k, "%s", err.text);
    return k;
}

/* The value of `name` at a time, asked of a fresh set so that every value counts as changed. */
static json_t *at(const char *json, double fps, const char *name, int64_t time_us)
{
    keyframes *k = good(json, fps);
    json_t *changes = keyframes_changes(k, 0, time_us);
    json_t *value = json_incref(json_object_get(changes, name));
    ck_assert_ptr_nonnull(value);
    json_decref(changes);
    keyframes_free(k);
    return value;
}

static double number(const char *json, double fps, const char *name, int64_t time_us)
{
    json_t *value = at(json, fps, name, time_us);
    double x = json_number_value(value);
    json_decref(value);
    return x;
}

START_TEST(numbers)
{
    const char *line = "{\"strength\": [[1, 0.2], [3, 0.8]]}";
    static const struct {
        int64_t us;
        double want;
    } cases[] = {{0, 0.2},        {1000000, 0.2}, {2000000, 0.5},
                 {2500000, 0.65}, {3000000, 0.8}, {9000000, 0.8}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ck_assert_double_eq_tol(number(line, 24, "strength", cases[i].us), cases[i].want, 1e-12);
}
END_TEST

START_TEST(ways)
{
    const char *ease = "{\"strength\": [[0, 0], [1, 1, \"ease\"]]}";
    ck_assert_double_eq_tol(number(ease, 0, "strength", 250000), 0.15625, 1e-12);
    ck_assert_double_eq_tol(number(ease, 0, "strength", 500000), 0.5, 1e-12);
    const char *hold = "{\"strength\": [[0, 0.25], [1, 1, \"hold\"]]}";
    ck_assert_double_eq(number(hold, 0, "strength", 999999), 0.25);
    ck_assert_double_eq(number(hold, 0, "strength", 1000000), 1);
}
END_TEST

START_TEST(whole_numbers)
{
    const char *steps = "{\"steps\": [[0, 1], [1, 4]]}";
    json_t *value = at(steps, 0, "steps", 500001); /* 2.500003 */
    ck_assert(json_is_integer(value));
    ck_assert_int_eq(json_integer_value(value), 3);
    json_decref(value);
    ck_assert_double_eq(number(steps, 0, "steps", 100000), 1);
}
END_TEST

START_TEST(others_hold)
{
    json_t *value = at("{\"mode\": [[0, \"a\"], [1, \"b\"]]}", 0, "mode", 999000);
    ck_assert_str_eq(json_string_value(value), "a");
    json_decref(value);
}
END_TEST

/* "5f" at 24 fps is 208333.3 us; MP4 says 208333 and Matroska 208000. */
START_TEST(frame_numbers)
{
    const char *line = "{\"strength\": [[0, 0], [\"5f\", 1, \"hold\"]]}";
    ck_assert_double_eq(number(line, 24, "strength", 208333), 1);
    ck_assert_double_eq(number(line, 24, "strength", 208000), 1);
    ck_assert_double_eq(number(line, 24, "strength", 167000), 0);
    ck_assert_double_eq(number(line, 30000.0 / 1001, "strength", 166833), 1);
    ck_assert_double_eq(number(line, 30000.0 / 1001, "strength", 133467), 0);
}
END_TEST

static double weight(const json_t *list, const char *prompt)
{
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item)
    {
        if (!strcmp(json_string_value(json_object_get(item, "text")), prompt))
            return json_number_value(json_object_get(item, "weight"));
    }
    return -1;
}

START_TEST(prompts)
{
    const char *json = "{\"prompts\": [[0, [{\"text\": \"a\", \"weight\": 2}, {\"text\": \"c\", "
                       "\"weight\": 1}]], [1, [{\"text\": \"b\", \"weight\": 1}, {\"text\": \"c\", "
                       "\"weight\": 1}]]]}";
    json_t *value = at(json, 0, "prompts", 250000);
    ck_assert_uint_eq(json_array_size(value), 3);
    ck_assert_double_eq_tol(weight(value, "a"), 1.5, 1e-12);
    ck_assert_double_eq_tol(weight(value, "b"), 0.25, 1e-12);
    ck_assert_double_eq_tol(weight(value, "c"), 1, 1e-12); /* in both: kept as one */
    json_decref(value);
    value = at(json, 0, "prompts", 1000000);
    ck_assert_double_eq(weight(value, "a"), -1);
    json_decref(value);
}
END_TEST

START_TEST(only_changes)
{
    keyframes *k = good("{\"strength\": [[0, 0], [1, 1]], \"steps\": [[0, 1], [1, 3]]}", 0);
    json_t *first = keyframes_changes(k, 0, 0);
    ck_assert_uint_eq(json_object_size(first), 2);
    ck_assert_ptr_null(keyframes_changes(k, 0, 0));
    json_t *second = keyframes_changes(k, 0, 100000);
    ck_assert_uint_eq(json_object_size(second), 1); /* steps is 1 still */
    ck_assert_ptr_null(keyframes_changes(k, 1, 100000));
    json_decref(first);
    json_decref(second);
    keyframes_free(k);
}
END_TEST

START_TEST(refusals)
{
    static const struct {
        const char *json, *words;
    } cases[] = {
        {"[]", "object"},
        {"{\"strenth\": [[0, 1]]}", "strenth"},
        {"{\"strength\": 1}", "list"},
        {"{\"strength\": []}", "list"},
        {"{\"strength\": [1]}", "[time, value]"},
        {"{\"strength\": [[1]]}", "[time, value]"},
        {"{\"strength\": [[0, 1, \"linear\", 2]]}", "[time, value]"},
        {"{\"strength\": [[-1, 1]]}", "begin at 0"},
        {"{\"strength\": [[\"soon\", 1]]}", "no time"},
        {"{\"strength\": [[\"3f\", 1]]}", "no fixed rate"},
        {"{\"strength\": [[null, 1]]}", "[time, value]"},
        {"{\"strength\": [[1, 1], [1, 0]]}", "must grow"},
        {"{\"strength\": [[0, 2]]}", "2"},
        {"{\"strength\": [[0, 0], [1, \"much\"]]}", "strength"},
        {"{\"strength\": [[0, 0], [1, 1, \"jump\"]]}", "jump"},
        {"{\"strength\": [[0, 0], [1, 1, 7]]}", "not a string"},
        {"{\"mode\": [[0, \"c\"]]}", "c"},
        {"{\"model\": [[0, \"x\"]]}", "fixed"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        scope_error err = {0};
        ck_assert_msg(!parse(cases[i].json, 0, &err), "%s was taken", cases[i].json);
        ck_assert_msg(strstr(err.text, cases[i].words), "%s: '%s'", cases[i].json, err.text);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("keyframes");
    TCase *c = tcase_create("keyframes");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, numbers);
    tcase_add_test(c, ways);
    tcase_add_test(c, whole_numbers);
    tcase_add_test(c, others_hold);
    tcase_add_test(c, frame_numbers);
    tcase_add_test(c, prompts);
    tcase_add_test(c, only_changes);
    tcase_add_test(c, refusals);
    suite_add_tcase(suite, c);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
