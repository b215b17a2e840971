/* test_agree.c - the property: every reader of a schema agrees with every other.
 *
 * A seeded generator makes values that are valid or invalid by construction. For each, the judge
 * is the generator; complete, bind, flags and the schema as emitted and parsed again must all
 * come to that verdict, and to the same value. SEED=n in the environment picks another run.
 */
#include <check.h>
#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "schema/schema.h"
#include "schemas.h"

static uint64_t state;

static uint32_t rnd(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 32);
}

static int below(int n)
{
    return (int)(rnd() % (uint32_t)n);
}

/* ---- values, valid and not ----------------------------------------------------------------- */

static json_t *valid(const schema_field *f);

static const schema_field *first_string(const schema_field *f)
{
    for (int i = 0; i < f->count; i++) {
        if (f->properties[i].type == SCOPE_STR)
            return &f->properties[i];
    }
    return NULL;
}

static json_t *valid_number(const schema_field *f)
{
    double low = f->has_min ? f->min : f->has_max ? f->max - 1000 : -1000;
    double high = f->has_max ? f->max : low + 2000;
    if (f->type == SCOPE_NUM) {
        double x = below(4) ? low + (high - low) * (rnd() / 4294967295.0) : below(2) ? low : high;
        return x == (int)x && below(2) ? json_integer((json_int_t)x) : json_real(x);
    }
    int64_t step = f->step > 0 ? (int64_t)f->step : 1;
    int64_t base = f->has_min ? (int64_t)f->min : 0;
    if (!f->has_min)
        low = base;
    int64_t span = (int64_t)((high - low) / (double)step);
    int64_t i = base + step * (int64_t)(rnd() % (uint64_t)(span + 1));
    return below(5) ? json_integer(i) : json_real((double)i); /* 3.0 is an integer */
}

static json_t *valid_string(void)
{
    static const char *const texts[] = {
        "",
        "a",
        "a cat",
        "1",
        "true",
        "[x",
        "{",
        " [",
        "a,b",
        "\xc3\xa9",
        "\xf0\x9f\x90\x88",
        "null",
        "a \"quoted\" \\ one\n",
        "|",
        "-",
        "--flag",
    };
    return json_string(texts[below((int)(sizeof texts / sizeof *texts))]);
}

static json_t *valid_list(const schema_field *f)
{
    int most = f->max_items >= 0 && f->max_items < 5 ? f->max_items : 5;
    int n = f->min_items + below(most - f->min_items + 1);
    if (f->min_items <= 1 && most >= 1 && below(4) == 0) {
        json_t *one = valid(f->items); /* the shorthand, unless it would read as the list */
        if (!json_is_array(one))
            return one;
        json_decref(one);
    }
    json_t *list = json_array();
    for (int i = 0; i < n; i++)
        json_array_append_new(list, valid(f->items));
    return list;
}

static json_t *valid(const schema_field *f)
{
    json_t *made;
    const schema_field *text;
    if (f->choices)
        return json_deep_copy(
            json_array_get(f->choices, (size_t)below((int)json_array_size(f->choices))));
    switch (f->type) {
    case SCOPE_BOOL:
        return json_boolean(below(2));
    case SCOPE_INT:
    case SCOPE_NUM:
        return valid_number(f);
    case SCOPE_STR:
        return valid_string();
    case SCOPE_LIST:
        return valid_list(f);
    default:
        text = first_string(f);
        if (text && below(4) == 0)
            return valid(text);
        made = json_object();
        for (int i = 0; i < f->count; i++) {
            if (below(3))
                json_object_set_new(made, f->properties[i].name, valid(&f->properties[i]));
        }
        return made;
    }
}

static json_t *invalid(const schema_field *f);

static json_t *invalid_number(const schema_field *f)
{
    double past = below(2) ? 1 : 1e12;
    if (f->choices)
        return json_integer(-77);
    if (f->has_min && below(2))
        return json_real(f->min - past);
    if (f->has_max && below(2))
        return json_real(f->max + past);
    if (f->type == SCOPE_INT && f->step > 1 && below(2))
        return json_integer((json_int_t)(f->has_min ? f->min : 0) + (json_int_t)f->step * 2 + 1);
    if (f->type == SCOPE_INT && below(2))
        return json_real((f->has_min ? f->min : 0) + 0.5);
    return below(2) ? json_string("x") : json_true();
}

static json_t *invalid_list(const schema_field *f)
{
    json_t *list = json_array();
    int n = 1;
    if (f->max_items >= 0 && below(2)) {
        for (int i = 0; i <= f->max_items; i++)
            json_array_append_new(list, valid(f->items));
        return list;
    }
    if (f->min_items > 0 && below(2))
        return list;
    n = f->min_items > n ? f->min_items : n;
    for (int i = 1; i < n; i++)
        json_array_append_new(list, valid(f->items));
    json_array_append_new(list, invalid(f->items));
    return list;
}

static json_t *invalid_object(const schema_field *f)
{
    const schema_field *p = &f->properties[below(f->count)];
    json_t *made = json_object();
    if (below(3) == 0)
        json_object_set_new(made, "no_such_field", json_integer(1));
    else
        json_object_set_new(made, p->name, invalid(p));
    return made;
}

static json_t *invalid(const schema_field *f)
{
    if (below(6) == 0)
        return json_null();
    switch (f->type) {
    case SCOPE_BOOL:
        return below(2) ? json_integer(2) : json_string("perhaps");
    case SCOPE_INT:
    case SCOPE_NUM:
        return invalid_number(f);
    case SCOPE_STR:
        if (f->choices && below(2))
            return json_string("no such choice");
        return below(2) ? json_integer(1) : json_pack("[s]", "a");
    case SCOPE_LIST:
        return invalid_list(f);
    default:
        return below(4) ? invalid_object(f) : json_integer(5);
    }
}

/* ---- readers ------------------------------------------------------------------------------- */

static json_t *from_kwargs(const scope_value *v)
{
    json_t *made;
    switch (v->type) {
    case SCOPE_BOOL:
        return json_boolean(v->u.i);
    case SCOPE_INT:
        return json_integer(v->u.i);
    case SCOPE_NUM:
        return json_real(v->u.f);
    case SCOPE_STR:
        return json_string(v->u.s);
    case SCOPE_LIST:
        made = json_array();
        for (int i = 0; i < v->count; i++) {
            ck_assert_ptr_null(v->u.at[i].name);
            json_array_append_new(made, from_kwargs(&v->u.at[i]));
        }
        return made;
    default:
        ck_assert_int_eq(v->type, SCOPE_OBJ);
        made = json_object();
        for (int i = 0; i < v->count; i++)
            json_object_set_new(made, v->u.at[i].name, from_kwargs(&v->u.at[i]));
        return made;
    }
}

static bool looks_like_json(const char *text)
{
    text += strspn(text, " \t\r\n");
    return *text == '[' || *text == '{';
}

/* What a person would type for this value, or NULL where a flag has no way to say it, or says
 * more than JSON does: in a flag 1 and 0 are booleans, and anything is a string. */
static char *as_flag(const schema_field *f, const json_t *v)
{
    bool list = f->type == SCOPE_LIST;
    int type = list ? f->items->type : f->type;
    bool texty = type == SCOPE_STR || type == SCOPE_OBJ;
    const char *text = json_string_value(v);
    char *wrapped = NULL;
    if (text && texty && !(list && looks_like_json(text)) &&
        !(f->type == SCOPE_OBJ && looks_like_json(text)))
        return strdup(text);
    if (list && !json_is_array(v) && !json_is_object(v)) {
        json_t *one = json_pack("[O]", v);
        wrapped = json_dumps(one, 0);
        json_decref(one);
        return wrapped;
    }
    if (!list && (texty ? !json_is_object(v) : type == SCOPE_BOOL && json_is_number(v)))
        return NULL;
    if (f->type == SCOPE_STR)
        return NULL;
    return json_dumps(v, JSON_ENCODE_ANY);
}

typedef struct counts {
    int values, accepted, flags;
} counts;

/* A complete object is its own completion, and each field has a flag that restores it. */
static void check_round_trips(const schema *s, const schema_field *f, const json_t *full,
                              const char *dump)
{
    schema_error err = {"", ""};
    json_t *twice = schema_complete(s, full, &err);
    ck_assert_msg(json_equal(twice, full), "not a fixed point: %s", dump);
    json_decref(twice);
    json_t *back = json_object(), *done = json_object_get(full, f->name);
    char *text =
        json_is_string(done) ? strdup(json_string_value(done)) : json_dumps(done, JSON_ENCODE_ANY);
    ck_assert_msg(schema_flag(s, back, f->name, text, &err) == 0, "%s: %s", text, err.text);
    ck_assert_msg(json_equal(json_object_get(back, f->name), done), "round trip of %s", dump);
    json_decref(back);
    free(text);
}

static void judge(const schema *s, const schema *again, const schema_field *f, json_t *v, bool good,
                  counts *c)
{
    schema_error err = {"", ""}, err2 = {"", ""};
    json_t *values = json_object();
    json_object_set(values, f->name, v);
    char *dump = json_dumps(values, 0);
    json_t *full = schema_complete(s, values, &err);
    ck_assert_msg(!full == !good, "complete says %s: %s", full ? "valid" : err.text, dump);
    if (!full)
        ck_assert_msg(!strncmp(err.path, f->name, strlen(f->name)) && err.text[0], "%s at '%s'",
                      err.text, err.path);

    json_t *other = schema_complete(again, values, &err2);
    ck_assert_msg(json_equal(full, other) || (!full && !other), "emitted schema differs: %s", dump);
    ck_assert_str_eq(err.text, err2.text);

    scope_kwargs *kw = schema_bind(s, values, 1, &err2);
    ck_assert_msg(!kw == !good, "bind differs: %s", dump);
    if (kw) {
        scope_value all = {NULL, SCOPE_OBJ, kw->count, {.at = kw->at}};
        json_t *tree = from_kwargs(&all);
        ck_assert_msg(json_equal(tree, full), "kwargs differ: %s", dump);
        json_decref(tree);
    }
    free(kw);

    char *text = as_flag(f, v);
    if (text) {
        json_t *flagged = json_object();
        int rc = schema_flag(s, flagged, f->name, text, &err2);
        ck_assert_msg((rc == 0) == good, "flag --%s '%s' gives %d (%s), complete says %d: %s",
                      f->name, text, rc, err2.text, good, dump);
        json_t *same = rc == 0 ? schema_complete(s, flagged, &err2) : NULL;
        ck_assert_msg(rc != 0 || json_equal(same, full), "flag --%s '%s' differs", f->name, text);
        json_decref(same);
        json_decref(flagged);
        c->flags++;
        free(text);
    }
    if (full)
        check_round_trips(s, f, full, dump);
    c->values++;
    c->accepted += full != NULL;
    free(dump);
    json_decref(full);
    json_decref(other);
    json_decref(values);
}

/* ---- what people read ---------------------------------------------------------------------- */

static char *printed(const schema *s, bool markdown)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (markdown)
        schema_markdown(s, "org.test", "1.2.3", out);
    else
        schema_help(s, out);
    fclose(out);
    return text;
}

static const char *find_field(const char *text, const schema_field *f, bool markdown)
{
    char name[64];
    snprintf(name, sizeof name, markdown ? "\n| `%s` |" : "  --%s ", f->name);
    for (char *c = name; *c && !markdown; c++)
        *c = *c == '_' ? '-' : *c;
    return strstr(text, name);
}

static void check_texts(const schema *s)
{
    for (int markdown = 0; markdown < 2; markdown++) {
        char *text = printed(s, markdown);
        int n;
        const schema_field *const *list = schema_ordered(s, &n);
        for (int i = 0; i < n; i++) {
            const char *at = find_field(text, list[i], markdown);
            ck_assert_msg(at != NULL, "%s is not mentioned in\n%s", list[i]->name, text);
            ck_assert_msg(strstr(at, list[i]->ui.label) != NULL, "label of %s", list[i]->name);
            /* Fields of one group stand in schema_ordered's order. */
            const schema_ui *a = &list[i]->ui;
            for (int j = i + 1; j < n; j++) {
                const schema_ui *b = &list[j]->ui;
                bool same = a->shown == b->shown && !strcmp(a->category, b->category) &&
                            !strcmp(a->group ? a->group : "", b->group ? b->group : "");
                const char *later = find_field(text, list[j], markdown);
                ck_assert_msg(!same || (later && later > at), "%s stands before %s", list[j]->name,
                              list[i]->name);
            }
        }
        json_t *utf8 = json_string(text);
        ck_assert_ptr_nonnull(utf8);
        json_decref(utf8);
        free(text);
    }
}

static void check_emitted(const schema *s, const schema *again)
{
    int n, m;
    json_t *a = schema_json(s), *b = schema_json(again);
    ck_assert_msg(json_equal(a, b), "emit is no fixed point");
    const schema_field *const *x = schema_ordered(s, &n), *const *y = schema_ordered(again, &m);
    ck_assert_int_eq(n, m);
    for (int i = 0; i < n; i++) {
        ck_assert_str_eq(x[i]->name, y[i]->name);
        ck_assert_str_eq(x[i]->ui.label, y[i]->ui.label);
        ck_assert_int_eq(x[i]->ui.order, y[i]->ui.order);
        ck_assert(x[i]->ui.is_load_param == y[i]->ui.is_load_param);
        json_t *doc = json_object_get(json_object_get(a, "properties"), x[i]->name);
        ck_assert(json_equal(json_object_get(doc, "default"), x[i]->def));
        ck_assert_ptr_null(json_object_get(doc, "$ref"));
        json_t *ui = json_object_get(doc, "ui");
        if (x[i]->ui.shown)
            ck_assert_str_eq(json_string_value(json_object_get(ui, "label")), x[i]->ui.label);
    }
    json_decref(a);
    json_decref(b);
}

/* ---- the walk ------------------------------------------------------------------------------ */

static void walk(const char *text, int rounds, counts *c)
{
    schema_error err;
    schema *s = schema_parse(text, &err);
    ck_assert_msg(s != NULL, "%s: %s\n%s", err.path, err.text, text);
    json_t *doc = schema_json(s);
    char *emitted = json_dumps(doc, 0);
    schema *again = schema_parse(emitted, &err);
    ck_assert_msg(again != NULL, "emitted schema: %s: %s\n%s", err.path, err.text, emitted);
    check_emitted(s, again);
    check_texts(s);
    int n;
    const schema_field *f = schema_fields(s, &n);
    for (int i = 0; i < n; i++) {
        for (int r = 0; r < rounds; r++) {
            bool good = below(2);
            json_t *v = good ? valid(&f[i]) : invalid(&f[i]);
            judge(s, again, &f[i], v, good, c);
            json_decref(v);
        }
    }
    free(emitted);
    json_decref(doc);
    schema_free(again);
    schema_free(s);
}

START_TEST(readers_agree)
{
    const char *seed = getenv("SEED");
    counts c = {0, 0, 0};
    state = 0x9e3779b97f4a7c15u ^ (seed ? strtoull(seed, NULL, 10) : 1);
    for (int i = 0; i < INLINE_SCHEMAS; i++)
        walk(inline_schemas[i], 100, &c);
    char *base = base_schema(), *plugin = plugin_schema();
    walk(base, 100, &c);
    if (plugin)
        walk(plugin, 100, &c);
    printf("agree: %d schemas, %d values (%d valid), %d of them also as flags%s\n",
           INLINE_SCHEMAS + 1 + !!plugin, c.values, c.accepted, c.flags,
           plugin ? "" : "; plugin/streamdiffusion/schema.json not there");
    free(base);
    free(plugin);
    ck_assert_int_gt(c.values, 5000);
    ck_assert_int_gt(c.accepted, c.values / 3);
    ck_assert_int_lt(c.accepted, c.values * 2 / 3);
    ck_assert_int_gt(c.flags, c.values / 2);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("schema agreement");
    TCase *tc = tcase_create("agree");
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, readers_agree);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
