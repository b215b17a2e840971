/* parse.c - schema text to table of fields, strictly.
 *
 * First resolve.c replaces references; then each field is checked keyword by keyword against the
 * table below (those of `ui` in ui.c) and written into a schema_field. Strings and defaults in the
 * table are borrowed from the document, into which completed defaults are put back: it is also what
 * schema_json emits.
 */
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "parse.h"

static const keyword field_keywords[] = {
    {"type", KIND(STRING), EVERY, ANY_TYPE},
    {"title", KIND(STRING), EVERY, ANY_TYPE},
    {"description", KIND(STRING), EVERY, ANY_TYPE},
    {"default", ANY_KIND, PROPERTY, ANY_TYPE},
    {"minimum", NUMBER, PROPERTY | ITEM, NUMERIC},
    {"maximum", NUMBER, PROPERTY | ITEM, NUMERIC},
    {"step", NUMBER, PROPERTY | ITEM, NUMERIC},
    {"enum", KIND(ARRAY), PROPERTY | ITEM, NUMERIC | TYPE(STR)},
    {"items", KIND(OBJECT), PROPERTY | ITEM, TYPE(LIST)},
    {"minItems", KIND(INTEGER), PROPERTY | ITEM, TYPE(LIST)},
    {"maxItems", KIND(INTEGER), PROPERTY | ITEM, TYPE(LIST)},
    {"properties", KIND(OBJECT), EVERY, TYPE(OBJ)},
    {"ui", KIND(OBJECT), PROPERTY, ANY_TYPE},
};

/* JSON Schema has these and we do not: say what to write instead. */
static const struct {
    const char *name, *remedy;
} foreign[] = {
    {"anyOf", "a value is never null: give one type, and a default that means 'none'"},
    {"oneOf", "give one type"},
    {"allOf", "give one type, or override a \"$ref\" in place"},
    {"$defs", "write the field in place, or refer to base.json"},
    {"definitions", "write the field in place, or refer to base.json"},
    {"required", "every field has a default, so none is required"},
    {"additionalProperties", "unknown fields are always refused"},
    {"exclusiveMinimum", "use minimum"},
    {"exclusiveMaximum", "use maximum"},
    {"multipleOf", "use step"},
    {"const", "use enum"},
    {"pattern", "use enum, or check the text in init()"},
    {"format", "strings are UTF-8 text of any form"},
    {"examples", "put them into the description"},
};

#define COUNT(a) ((int)(sizeof(a) / sizeof(a)[0]))

/* ---- keywords ------------------------------------------------------------------------------ */

static const char *kind_name(unsigned kinds)
{
    return kinds == KIND(STRING)    ? "a string"
           : kinds == KIND(ARRAY)   ? "a list"
           : kinds == KIND(OBJECT)  ? "an object"
           : kinds == KIND(INTEGER) ? "a whole number"
           : kinds == BOOLEAN       ? "true or false"
                                    : "a number";
}

static int fail_foreign(parser *p, const place *at, const char *what, const char *key,
                        const keyword *table, int n)
{
    const char *names[16];
    for (int i = 0; i < COUNT(foreign); i++) {
        if (!strcmp(foreign[i].name, key))
            return schema_fail(p->err, at, "'%s' is not supported: %s", key, foreign[i].remedy);
    }
    for (int i = 0; i < n; i++)
        names[i] = table[i].name;
    return schema_fail_unknown(p->err, at, what, key, names, n);
}

int parse_keywords(parser *p, const json_t *doc, const keyword *table, int n, const char *what,
                   unsigned role, int type, const place *at)
{
    const char *key;
    json_t *value;
    char text[64];
    json_object_foreach((json_t *)doc, key, value)
    {
        place here = {at, key, 0};
        const keyword *k = table;
        while (k < table + n && strcmp(k->name, key) != 0)
            k++;
        if (k == table + n)
            return fail_foreign(p, &here, what, key, table, n);
        if (!(k->kinds & 1u << json_typeof(value)))
            return schema_fail_value(p->err, &here, "is %s; it must be %s",
                                     schema_text_value(value, text, sizeof text),
                                     kind_name(k->kinds));
        if (!(k->roles & role))
            return schema_fail(p->err, &here, "'%s' cannot stand here; %s", key,
                               role == ROOT   ? "it belongs to a property"
                               : role == ITEM ? "give it to the list itself"
                                              : "give it to the outermost field");
        if (!(k->types & 1u << type))
            return schema_fail(p->err, &here, "'%s' has no meaning for type %s; remove it", key,
                               schema_type_name(type));
    }
    return 0;
}

static int parse_type(parser *p, const json_t *doc, unsigned role, int *type, const place *at)
{
    place here = {at, "type", 0};
    const json_t *given = json_object_get(doc, "type");
    const char *names[SCOPE_OBJ - SCOPE_BOOL + 1];
    if (!given && role == ROOT) {
        *type = SCOPE_OBJ;
        return 0;
    }
    if (!given)
        return schema_fail(p->err, at, "a field needs a \"type\"");
    if (!json_is_string(given))
        return schema_fail_value(p->err, &here, "must be one type, as a string");
    for (int i = SCOPE_BOOL; i <= SCOPE_OBJ; i++) {
        names[i - SCOPE_BOOL] = schema_type_name(i);
        if (!strcmp(schema_type_name(i), json_string_value(given)))
            *type = i;
    }
    if (*type == 0)
        return schema_fail_unknown(p->err, &here, "type", json_string_value(given), names,
                                   COUNT(names));
    if (role == ROOT && *type != SCOPE_OBJ)
        return schema_fail_value(p->err, &here, "must be \"object\" at the root");
    return 0;
}

/* ---- limits and choices -------------------------------------------------------------------- */

static int parse_limit(parser *p, const json_t *doc, const char *key, const schema_field *f,
                       bool *has, double *out, const place *at)
{
    const json_t *v = json_object_get(doc, key);
    place here = {at, key, 0};
    *has = v != NULL;
    if (!v)
        return 0;
    *out = json_number_value(v);
    /* 2^53: whole numbers up to here are exact as doubles. */
    if (f->type == SCOPE_INT && (floor(*out) != *out || fabs(*out) > 9007199254740992.0))
        return schema_fail_value(p->err, &here, "of an integer must be whole, within 2^53");
    return 0;
}

static int parse_limits(parser *p, const json_t *doc, schema_field *f, const place *at)
{
    bool has_step;
    place max = {at, "maximum", 0}, step = {at, "step", 0};
    char a[32], b[32];
    if (parse_limit(p, doc, "minimum", f, &f->has_min, &f->min, at) != 0 ||
        parse_limit(p, doc, "maximum", f, &f->has_max, &f->max, at) != 0 ||
        parse_limit(p, doc, "step", f, &has_step, &f->step, at) != 0)
        return -1;
    if (f->has_min && f->has_max && f->min > f->max)
        return schema_fail_value(p->err, &max, "is %s, below minimum %s",
                                 schema_text_number(f->max, a, sizeof a),
                                 schema_text_number(f->min, b, sizeof b));
    if (has_step && f->step <= 0)
        return schema_fail_value(p->err, &step, "is %s; it must be above 0",
                                 schema_text_number(f->step, a, sizeof a));
    return 0;
}

/* Each choice must itself be a valid value; the document keeps the canonical form. */
static int parse_choices(parser *p, json_t *doc, schema_field *f, const place *at)
{
    json_t *list = json_object_get(doc, "enum"), *made;
    place here = {at, "enum", 0};
    if (!list)
        return 0;
    if (json_array_size(list) == 0)
        return schema_fail_value(p->err, &here, "is empty; name at least one choice");
    for (size_t i = 0; i < json_array_size(list); i++) {
        place one = {&here, NULL, (int)i};
        made = schema_value(f, json_array_get(list, i), &one, p->err);
        if (!made)
            return -1;
        json_array_set_new(list, i, made);
        for (size_t j = 0; j < i; j++) {
            if (json_equal(made, json_array_get(list, j)))
                return schema_fail_value(p->err, &one, "is listed twice; remove one");
        }
    }
    f->choices = list;
    return 0;
}

/* ---- fields -------------------------------------------------------------------------------- */

static int parse_field(parser *p, json_t *doc, schema_field *f, unsigned role, int depth,
                       const place *at);

static int parse_list(parser *p, json_t *doc, schema_field *f, int depth, const place *at)
{
    json_t *items = json_object_get(doc, "items");
    json_t *min = json_object_get(doc, "minItems"), *max = json_object_get(doc, "maxItems");
    place items_at = {at, "items", 0}, max_at = {at, max ? "maxItems" : "minItems", 0};
    json_int_t low = json_integer_value(min), high = max ? json_integer_value(max) : -1;
    if (low < 0 || low > SCHEMA_ITEMS_MAX || (max && (high < 0 || high > SCHEMA_ITEMS_MAX)))
        return schema_fail_value(p->err, &max_at, "must lie in 0 to %d", SCHEMA_ITEMS_MAX);
    if (max && low > high)
        return schema_fail_value(p->err, &max_at, "is %d, below minItems %d", (int)high, (int)low);
    f->min_items = (int)low;
    f->max_items = (int)high;
    if (!items)
        return schema_fail(p->err, at, "a list needs \"items\", the field that each element is");
    schema_field *item = schema_alloc(sizeof *item);
    if (!item)
        return schema_fail_memory(p->err, &items_at);
    f->items = item;
    item->name = "";
    return parse_field(p, items, item, ITEM, depth + 1, &items_at);
}

static int check_name(parser *p, const char *name, const place *at)
{
    size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");
    if (n == 0 || name[n] || n > SCHEMA_NAME_MAX || isdigit((unsigned char)name[0]))
        return schema_fail(p->err, at,
                           "'%.60s' cannot be a name: use up to %d letters, digits and '_'", name,
                           SCHEMA_NAME_MAX);
    return 0;
}

static int parse_object(parser *p, json_t *doc, schema_field *f, unsigned role, int depth,
                        const place *at)
{
    json_t *properties = json_object_get(doc, "properties");
    place here = {at, "properties", 0};
    size_t n = json_object_size(properties);
    if (n == 0 && role != ROOT)
        return schema_fail(p->err, at, "an object needs \"properties\"");
    if (n > SCHEMA_FIELDS_MAX)
        return schema_fail_value(p->err, &here, "are %zu; at most %d are allowed", n,
                                 SCHEMA_FIELDS_MAX);
    schema_field *list = schema_alloc((n ? n : 1) * sizeof *list);
    if (!list)
        return schema_fail_memory(p->err, &here);
    f->properties = list;
    void *iter = json_object_iter(properties);
    for (; iter; iter = json_object_iter_next(properties, iter)) {
        schema_field *child = &list[f->count++];
        child->name = json_object_iter_key(iter);
        place child_at = {&here, child->name, 0};
        if (check_name(p, child->name, &child_at) != 0 ||
            parse_field(p, json_object_iter_value(iter), child, role == ROOT ? TOP : INNER,
                        depth + 1, &child_at) != 0)
            return -1;
    }
    return parse_conditions(p, properties, f, &here);
}

/* The default passes through the same gate as any value, and comes back complete. */
static int parse_default(parser *p, json_t *doc, schema_field *f, const place *at)
{
    json_t *given = json_object_get(doc, "default"), *none = NULL;
    place here = {at, "default", 0};
    if (!given && f->type != SCOPE_OBJ)
        return schema_fail(p->err, at, "'%s' needs a \"default\"", f->name);
    if (!given && !(given = none = json_object()))
        return schema_fail_memory(p->err, &here);
    f->def = schema_value(f, given, &here, p->err);
    json_decref(none);
    if (!f->def)
        return -1;
    if (json_object_set_new_nocheck(doc, "default", f->def) != 0) {
        f->def = NULL;
        return schema_fail_memory(p->err, &here);
    }
    return 0;
}

static int parse_field(parser *p, json_t *doc, schema_field *f, unsigned role, int depth,
                       const place *at)
{
    if (!json_is_object(doc))
        return schema_fail(p->err, at, "a field must be an object with a \"type\"");
    if (depth > SCHEMA_DEPTH_MAX)
        return schema_fail(p->err, at, "nested deeper than %d levels", SCHEMA_DEPTH_MAX);
    f->max_items = -1;
    f->description = "";
    if (parse_type(p, doc, role, &f->type, at) != 0 ||
        parse_keywords(p, doc, field_keywords, COUNT(field_keywords), "keyword", role, f->type,
                       at) != 0)
        return -1;
    const json_t *description = json_object_get(doc, "description");
    if (description)
        f->description = json_string_value(description);
    f->title = json_string_value(json_object_get(doc, "title"));
    if (parse_limits(p, doc, f, at) != 0 || parse_choices(p, doc, f, at) != 0)
        return -1;
    if (f->type == SCOPE_LIST && parse_list(p, doc, f, depth, at) != 0)
        return -1;
    if (f->type == SCOPE_OBJ && parse_object(p, doc, f, role, depth, at) != 0)
        return -1;
    if (role & PROPERTY && (parse_default(p, doc, f, at) != 0))
        return -1;
    return parse_ui(p, doc, f, role, at);
}

/* ---- the whole ----------------------------------------------------------------------------- */

static int by_order(const void *a, const void *b)
{
    const schema_field *x = *(const schema_field *const *)a;
    const schema_field *y = *(const schema_field *const *)b;
    if (x->ui.shown != y->ui.shown)
        return x->ui.shown ? -1 : 1;
    if (x->ui.order != y->ui.order)
        return x->ui.order < y->ui.order ? -1 : 1;
    return strcmp(x->name, y->name);
}

static json_t *load(const char *text, const place *root, schema_error *err)
{
    json_error_t why;
    size_t n = strlen(text);
    if (n > SCHEMA_TEXT_MAX) {
        schema_fail(err, root, "the schema has %zu bytes; at most %d are allowed", n,
                    SCHEMA_TEXT_MAX);
        return NULL;
    }
    json_t *read = json_loadb(text, n, JSON_REJECT_DUPLICATES, &why);
    if (!read) {
        schema_fail_json(err, root, &why);
        return NULL;
    }
    json_t *doc = NULL;
    if (json_is_object(read))
        doc = schema_resolve(read, err);
    else
        schema_fail(err, root, "a schema is a JSON object with \"properties\"");
    json_decref(read);
    return doc;
}

schema *schema_parse(const char *text, schema_error *err)
{
    place root = {NULL, "/", 0};
    schema *s = schema_alloc(sizeof *s);
    if (!s) {
        schema_fail_memory(err, &root);
        return NULL;
    }
    parser p = {s, err};
    s->root.name = "";
    s->doc = load(text, &root, err);
    if (s->doc && !(s->words = json_array()))
        schema_fail_memory(err, &root);
    if (!s->words || parse_field(&p, s->doc, &s->root, ROOT, 0, &root) != 0) {
        schema_free(s);
        return NULL;
    }
    s->ordered = schema_alloc((size_t)(s->root.count + 1) * sizeof *s->ordered);
    if (!s->ordered) {
        schema_fail_memory(err, &root);
        schema_free(s);
        return NULL;
    }
    for (int i = 0; i < s->root.count; i++)
        s->ordered[i] = &s->root.properties[i];
    qsort(s->ordered, (size_t)s->root.count, sizeof *s->ordered, by_order);
    return s;
}

static void free_children(const schema_field *f)
{
    if (f->items)
        free_children(f->items);
    for (int i = 0; i < f->count; i++)
        free_children(&f->properties[i]);
    schema_release((void *)f->items);
    schema_release((void *)f->properties);
}

void schema_free(schema *s)
{
    if (!s)
        return;
    free_children(&s->root);
    schema_release(s->ordered);
    json_decref(s->words);
    json_decref(s->doc);
    schema_release(s);
}

const char *schema_title(const schema *s)
{
    return s->root.title ? s->root.title : "";
}

const char *schema_description(const schema *s)
{
    return s->root.description;
}

const schema_field *schema_fields(const schema *s, int *count)
{
    *count = s->root.count;
    return s->root.properties;
}

const schema_field *const *schema_ordered(const schema *s, int *count)
{
    *count = s->root.count;
    return s->ordered;
}

const schema_field *schema_find(const schema *s, const char *name)
{
    return schema_property(&s->root, name);
}
