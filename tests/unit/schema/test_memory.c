/* test_memory.c - every allocation of the schema layer fails once: an error, no crash, no leak.
 *
 * All of them, ours and Jansson's, go through Jansson's allocator, which is replaced here. Two
 * limits come from Jansson 2.14's reader. It reports most failed allocations as a syntax error, so
 * while a text is being read "not valid JSON" counts as well as "out of memory". And it does not
 * notice when the buffer of a token of more than 15 bytes cannot grow, and may then read past it;
 * so the texts read under injection have short tokens, and base.json itself is read without.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "plugin/scope_plugin.h"
#include "schema/schema.h"

static const char text[] = SCOPE_JSON({
    "title" : "T",
    "properties" : {
        "on" : {"type" : "boolean", "default" : true, "ui" : {"order" : 1}},
        "i" : {
            "type" : "integer",
            "default" : 3.0,
            "minimum" : 1,
            "step" : 2,
            "ui" : {"visible_if" : {"on" : true}}
        },
        "f" : {"type" : "number", "default" : 1, "enum" : [ 1, 2.5 ]},
        "s" : {"type" : "string", "default" : "a", "ui" : {"label" : "S"}},
        "ns" : {"type" : "array", "default" : 1, "items" : {"type" : "integer"}},
        "ps" : {
            "type" : "array",
            "default" : "a",
            "items" : {
                "type" : "object",
                "properties" : {
                    "text" : {"type" : "string", "default" : ""},
                    "weight" : {"type" : "number", "default" : 1}
                }
            }
        }
    }
});

static const char referring[] = SCOPE_JSON({
    "properties" : {
        "seed" : {"$ref" : "base.json#/seed", "ui" : {"order" : 3, "label" : null}},
        "ps" : {
            "$ref" : "base.json#/prompts",
            "items" : {"properties" : {"lang" : {"type" : "string", "default" : ""}}}
        }
    }
});

static long live, count, fail_at;
static bool fail_all;

static void *take(size_t size)
{
    long n = count++;
    if (fail_at >= 0 && (fail_all ? n >= fail_at : n == fail_at))
        return NULL;
    void *p = malloc(size);
    live += p != NULL;
    return p;
}

static void give(void *p)
{
    live -= p != NULL;
    free(p);
}

/* What is done under injection; true when it succeeded, else *err says why it did not. */
typedef bool (*work)(const schema *s, schema_error *err);

static bool parse(const schema *unused, schema_error *err)
{
    (void)unused;
    schema *s = schema_parse(text, err);
    schema_free(s);
    return s != NULL;
}

static bool parse_referring(const schema *unused, schema_error *err)
{
    (void)unused;
    schema *s = schema_parse(referring, err);
    schema_free(s);
    return s != NULL;
}

/* Allocations of parse_referring until base.json has been read. */
static long until_base_is_read(void)
{
    count = 0;
    json_t *read = json_loads(referring, JSON_REJECT_DUPLICATES, NULL);
    json_t *copy = json_deep_copy(read);
    json_t *base = json_load_file(SOURCE_DIR "/schema/base.json", JSON_REJECT_DUPLICATES, NULL);
    long n = count + 1; /* and the schema itself */
    json_decref(base);
    json_decref(copy);
    json_decref(read);
    return n;
}

static bool bind(const schema *s, schema_error *err)
{
    long held = fail_at;
    fail_at = -1;
    json_t *values = json_pack("{s:i, s:[s,{s:i}]}", "i", 5, "ps", "b", "weight", 2);
    fail_at = held;
    count = 0;
    scope_kwargs *kw = schema_bind(s, values, 1, err);
    bool good = kw != NULL;
    give(kw);
    json_decref(values);
    return good;
}

static bool set(const schema *s, schema_error *err, const char *name, const char *value)
{
    long held = fail_at;
    fail_at = -1;
    json_t *values = json_pack("{s:[s]}", "ps", "b");
    fail_at = held;
    count = 0;
    bool good = schema_flag(s, values, name, value, err) == 0;
    json_decref(values);
    return good;
}

static bool flag_json(const schema *s, schema_error *err)
{
    return set(s, err, "ns", "[1, 2]");
}

static bool flag_parts(const schema *s, schema_error *err)
{
    return set(s, err, "ns", "1,2");
}

static bool flag_dotted(const schema *s, schema_error *err)
{
    return set(s, err, "ps.1.weight", "2");
}

static bool flag_string(const schema *s, schema_error *err)
{
    return set(s, err, "s", "a string longer than any small buffer would hold without growing");
}

static bool json(const schema *s, schema_error *err)
{
    json_t *doc = schema_json(s);
    /* schema_json has one way to fail and no error to fill. */
    strcpy(err->text, "out of memory");
    json_decref(doc);
    return doc != NULL;
}

static const struct {
    const char *name;
    work run;
    int least; /* times it must say "out of memory", so that the loop is known to bite */
} works[] = {
    {"parse", parse, 100},
    {"references", parse_referring, 50},
    {"bind", bind, 20},
    {"flag JSON", flag_json, 8},
    {"flag parts", flag_parts, 8},
    {"flag dotted", flag_dotted, 8},
    {"flag string", flag_string, 2},
    {"emit", json, 100},
};

static int inject(work run, const char *name, const schema *s, int least)
{
    int first = run == parse_referring ? (int)until_base_is_read() : 0;
    int n = first, said = 0;
    for (bool good = false; !good; n++) {
        schema_error err = {"", ""};
        long before = live;
        count = 0;
        fail_at = n;
        good = run(s, &err);
        fail_at = -1;
        ck_assert_msg(live == before, "%s: %ld blocks leak when allocation %d fails", name,
                      live - before, n);
        bool memory = !strcmp(err.text, "out of memory");
        bool reader = !strncmp(err.text, "not valid JSON", 14);
        ck_assert_msg(good || memory || reader, "%s, allocation %d: \"%s\"", name, n, err.text);
        said += memory;
        ck_assert_msg(n < 20000, "%s never succeeds", name);
    }
    ck_assert_int_ge(said, least);
    return n - first;
}

START_TEST(every_allocation)
{
    schema_error err;
    fail_at = -1;
    json_object_seed(1);
    json_set_alloc_funcs(take, give);
    schema *s = schema_parse(text, &err);
    ck_assert_msg(s != NULL, "%s: %s", err.path, err.text);
    for (size_t i = 0; i < sizeof works / sizeof *works; i++) {
        int n[2];
        for (int all = 0; all < 2; all++) {
            fail_all = all;
            n[all] = inject(works[i].run, works[i].name, s, works[i].least);
        }
        printf("%-12s %d allocations failed one by one, and from each on\n", works[i].name, n[0]);
    }
    schema_free(s);
    ck_assert_int_eq(live, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("schema memory");
    TCase *tc = tcase_create("memory");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, every_allocation);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
