/* test_readme.c - what schema/README.md shows and lists is what the code does. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "schema/schema.h"
#include "schemas.h"

static char *readme;

static void setup(void)
{
    size_t size = 0;
    FILE *f = fopen(SOURCE_DIR "/schema/README.md", "r");
    ck_assert_ptr_nonnull(f);
    ck_assert_int_gt(getdelim(&readme, &size, '\0', f), 0);
    fclose(f);
}

static void teardown(void)
{
    free(readme);
    readme = NULL;
}

static schema *parse(const char *text)
{
    schema_error err;
    schema *s = schema_parse(text, &err);
    ck_assert_msg(s != NULL, "%s: %s\n%s", err.path, err.text, text);
    return s;
}

/* Each block of JSON parses: the first as it stands, fields after it as the body of properties. */
START_TEST(examples)
{
    int blocks = 0;
    char *end;
    for (char *at = readme; (at = strstr(at, "```json\n")); at = end + 3, blocks++) {
        at += strlen("```json\n");
        end = strstr(at, "```");
        char *text = malloc((size_t)(end - at) + 32);
        sprintf(text, *at == '{' ? "%.*s" : "{\"properties\": {%.*s}}", (int)(end - at), at);
        schema_free(parse(text));
        free(text);
    }
    ck_assert_int_ge(blocks, 2);
}
END_TEST

/* The table of shared fields has a row for each, with its default, order and label. */
START_TEST(shared_fields)
{
    char *text = base_schema();
    schema *s = parse(text);
    int n;
    const schema_field *f = schema_fields(s, &n);
    json_t *base = json_load_file(SOURCE_DIR "/schema/base.json", 0, NULL);
    ck_assert_int_eq(n, (int)json_object_size(base));
    for (int i = 0; i < n; i++) {
        char start[80], says[200], *def;
        def = json_dumps(json_object_get(json_object_get(base, f[i].name), "default"),
                         JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
        snprintf(start, sizeof start, "\n| `%s` |", f[i].name);
        const char *row = strstr(readme, start);
        ck_assert_msg(row != NULL, "README.md lacks %s", f[i].name);
        snprintf(says, sizeof says, " `%s` | ", def);
        const char *end = strchr(row + 1, '\n'), *found = strstr(row, says);
        ck_assert_msg(found && found < end, "README.md: %s does not say%s", f[i].name, says);
        snprintf(says, sizeof says, " %d, %s", f[i].ui.order, f[i].ui.label);
        found = strstr(row, says);
        ck_assert_msg(found && found < end, "README.md: %s does not say%s", f[i].name, says);
        free(def);
    }
    json_decref(base);
    schema_free(s);
    free(text);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("schema README");
    TCase *tc = tcase_create("readme");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, examples);
    tcase_add_test(tc, shared_fields);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
