/* flags.c - command-line text to values, typed by the schema.
 *
 * A flag names a field, or with dots something inside it; its text is read as the field's type
 * says. Every value passes through schema_value, so a flag takes exactly what JSON takes.
 */
#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "internal.h"

/* ---- names --------------------------------------------------------------------------------- */

enum { SEGMENT_MAX = 63 };

/* Equal over n bytes, '-' counting as '_'. */
static bool same(const char *given, const char *name, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if ((given[i] == '-' ? '_' : given[i]) != name[i])
            return false;
    }
    return true;
}

/* The property that `given` (n bytes) names exactly, as the singular of a list ("prompt"), or as a
 * unique prefix; else NULL, with all that it could be in near[*count]. */
static const schema_field *match(const schema_field *f, const char *given, size_t n,
                                 const char *near[SCHEMA_FIELDS_MAX], int *count)
{
    const schema_field *found = NULL, *singular = NULL;
    *count = 0;
    for (int i = 0; i < f->count && n > 0; i++) {
        const schema_field *p = &f->properties[i];
        if (strlen(p->name) < n || !same(given, p->name, n))
            continue;
        if (!p->name[n])
            return p;
        if (p->type == SCOPE_LIST && !strcmp(p->name + n, "s"))
            singular = p;
        found = p;
        near[(*count)++] = p->name;
    }
    return singular ? singular : *count == 1 ? found : NULL;
}

const schema_field *schema_match(const schema *s, const char *name, size_t n)
{
    const char *near[SCHEMA_FIELDS_MAX];
    int count;
    return match(&s->root, name, n, near, &count);
}

/* The same; NULL fills *err. */
static const schema_field *find(const schema_field *f, const char *given, size_t n, const place *at,
                                schema_error *err)
{
    const char *near[SCHEMA_FIELDS_MAX], *all[SCHEMA_FIELDS_MAX];
    char text[SEGMENT_MAX + 1], list[160] = "";
    int count;
    const schema_field *found = match(f, given, n, near, &count);
    if (found)
        return found;
    snprintf(text, sizeof text, "%.*s", (int)n, given);
    place here = {at, text, 0};
    if (count == 0) {
        schema_fail_unknown(err, &here, "field", text, all, schema_names(f, all));
        return NULL;
    }
    for (int i = 0; i < count && strlen(list) + SCHEMA_NAME_MAX + 3 < sizeof list; i++)
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", i ? ", " : "", near[i]);
    schema_fail(err, &here, "'%s' could be %s; write more of it", text, list);
    return NULL;
}

/* ---- text to JSON -------------------------------------------------------------------------- */

static json_t *read_json(const char *text, const place *at, schema_error *err)
{
    json_error_t why;
    size_t n = strlen(text);
    if (n > SCHEMA_TEXT_MAX) {
        schema_fail_value(err, at, "has %zu bytes; at most %d are allowed", n, SCHEMA_TEXT_MAX);
        return NULL;
    }
    json_t *v = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);
    if (!v)
        schema_fail_json(err, at, &why);
    return v;
}

static json_t *read_bool(const char *text, const place *at, schema_error *err)
{
    static const char *const words[] = {"true", "on", "yes", "1", "false", "off", "no", "0"};
    for (int i = 0; i < 8; i++) {
        if (!strcasecmp(words[i], text))
            return json_boolean(i < 4);
    }
    schema_fail_value(err, at, "is '%.40s'; write true or false (or on, off, yes, no, 1, 0)", text);
    return NULL;
}

/* A JSON number; also ".5", "5." and "+5", which people type. */
static json_t *read_number(const char *text, int type, const place *at, schema_error *err)
{
    char number[64];
    const char *p = text;
    while (isspace((unsigned char)*p))
        p++;
    bool minus = *p == '-';
    if (*p == '-' || *p == '+')
        p++;
    size_t n = strcspn(p, " \t");
    const char *dot = memchr(p, '.', n);
    bool plain =
        n > 0 && n < 48 && strspn(p, "0123456789.eE+-") == n && !p[n + strspn(p + n, " \t")];
    if (plain && *p != '+' && *p != '-') {
        bool head = *p == '.', tail = dot && !isdigit((unsigned char)dot[1]);
        int whole = dot ? (int)(dot - p) : (int)n;
        snprintf(number, sizeof number, "%s%s%.*s%s%.*s", minus ? "-" : "", head ? "0" : "", whole,
                 p, tail && n > 1 ? ".0" : "", (int)n - whole - (tail && n > 1),
                 p + whole + (tail && n > 1));
        json_error_t why;
        json_t *v = json_loads(number, JSON_DECODE_ANY, &why);
        if (v)
            return v;
        if (why.text[0] == '\0' || json_error_code(&why) == json_error_out_of_memory) {
            schema_fail_memory(err, at);
            return NULL;
        }
    }
    schema_fail_value(err, at, "is '%.40s'; write a %s", text,
                      type == SCOPE_INT ? "whole number" : "number");
    return NULL;
}

static json_t *read_string(const char *text, const place *at, schema_error *err)
{
    if (!schema_utf8(text)) {
        schema_fail_value(err, at, "is not UTF-8 text; check the terminal's encoding");
        return NULL;
    }
    json_t *v = json_string_nocheck(text);
    if (!v)
        schema_fail_memory(err, at);
    return v;
}

static json_t *read_text(const schema_field *f, const char *text, const place *at,
                         schema_error *err);

/* "0,16": each part read as an element. An empty text is the empty list. */
static json_t *read_parts(const schema_field *f, const char *text, const place *at,
                          schema_error *err)
{
    json_t *list = json_array();
    const char *p = text;
    char part[64];
    if (!list)
        schema_fail_memory(err, at);
    while (list && *text) {
        size_t n = strcspn(p, ",");
        place here = {at, NULL, (int)json_array_size(list)};
        /* A part that does not fit is no number; its beginning is enough to say so. */
        snprintf(part, sizeof part, "%.*s", n > 60 ? 60 : (int)n, p);
        json_t *item = read_text(f->items, part, &here, err);
        if (item && json_array_append_new(list, item) == 0) {
            if (!p[n])
                break;
            p += n + 1;
            continue;
        }
        if (item)
            schema_fail_memory(err, &here);
        json_decref(list);
        return NULL;
    }
    return list;
}

static json_t *read_text(const schema_field *f, const char *text, const place *at,
                         schema_error *err)
{
    const char *p = text + strspn(text, " \t\r\n");
    int item;
    switch (f->type) {
    case SCOPE_BOOL:
        return read_bool(text, at, err);
    case SCOPE_INT:
    case SCOPE_NUM:
        return read_number(text, f->type, at, err);
    case SCOPE_LIST:
        item = f->items->type;
        if (*p == '[' || *p == '{' || item == SCOPE_LIST)
            return read_json(text, at, err);
        if (item == SCOPE_BOOL || item == SCOPE_INT || item == SCOPE_NUM)
            return read_parts(f, text, at, err);
        return read_string(text, at, err);
    case SCOPE_OBJ:
        return *p == '{' ? read_json(text, at, err) : read_string(text, at, err);
    default:
        return read_string(text, at, err);
    }
}

/* ---- dotted paths -------------------------------------------------------------------------- */

typedef struct setter {
    const char *text;
    schema_error *err;
} setter;

static json_t *set_at(setter *s, const schema_field *f, const json_t *now, const char *path,
                      const place *at);

/* The list `now` with the element that `path` begins with replaced, or appended. */
static json_t *set_item(setter *s, const schema_field *f, const json_t *now, const char *path,
                        const place *at)
{
    size_t digits = strspn(path, "0123456789"), size = json_array_size(now), index = 0;
    if (digits == 0 || digits > 6 || (path[digits] && path[digits] != '.')) {
        schema_fail_value(s->err, at, "is a list: write a position, 0 to %zu, not '%.40s'", size,
                          path);
        return NULL;
    }
    for (size_t i = 0; i < digits; i++)
        index = index * 10 + (size_t)(path[i] - '0');
    if (index > size) {
        schema_fail_value(s->err, at, "has %zu item%s; the next one is %zu, not %zu", size,
                          size == 1 ? "" : "s", size, index);
        return NULL;
    }
    place here = {at, NULL, (int)index};
    json_t *list = json_copy((json_t *)now);
    json_t *item = list ? set_at(s, f->items, json_array_get(now, index),
                                 path[digits] ? path + digits + 1 : NULL, &here)
                        : NULL;
    bool good = item && (index < size ? json_array_set_new(list, index, item)
                                      : json_array_append_new(list, item)) == 0;
    if (good)
        return list;
    if (!list || item)
        schema_fail_memory(s->err, &here);
    json_decref(list);
    return NULL;
}

static json_t *set_property(setter *s, const schema_field *f, const json_t *now, const char *path,
                            const place *at)
{
    size_t n = strcspn(path, ".");
    const schema_field *p = find(f, path, n, at, s->err);
    if (!p)
        return NULL;
    place here = {at, p->name, 0};
    json_t *object = now ? json_copy((json_t *)now) : json_object();
    json_t *value = object ? set_at(s, p, now ? json_object_get(now, p->name) : p->def,
                                    path[n] ? path + n + 1 : NULL, &here)
                           : NULL;
    if (value && json_object_set_new_nocheck(object, p->name, value) == 0)
        return object;
    if (!object || value)
        schema_fail_memory(s->err, &here);
    json_decref(object);
    return NULL;
}

/* What `now` (complete, or NULL for a new element) becomes when the text is put at `path` inside
 * it; NULL path: the value itself. New reference, not yet checked as a whole. */
static json_t *set_at(setter *s, const schema_field *f, const json_t *now, const char *path,
                      const place *at)
{
    if (!path)
        return read_text(f, s->text, at, s->err);
    if (f->type == SCOPE_OBJ)
        return set_property(s, f, now, path, at);
    if (f->type == SCOPE_LIST)
        return set_item(s, f, now, path, at);
    schema_fail_value(s->err, at, "has no part '%.40s': it is of type %s", path,
                      schema_type_name(f->type));
    return NULL;
}

int schema_flag(const schema *s, json_t *values, const char *name, const char *text,
                schema_error *err)
{
    place root = {NULL, "", 0};
    size_t n = strcspn(name, ".");
    const schema_field *f = find(&s->root, name, n, &root, err);
    if (!f)
        return -1;
    place here = {&root, f->name, 0};
    setter set = {text, err};
    json_t *given = json_object_get(values, f->name), *now = NULL;
    /* Inside a field, start from what it would be: its value so far, or its default. */
    if (name[n] && !(now = schema_value(f, given ? given : f->def, &here, err)))
        return -1;
    json_t *raw = set_at(&set, f, now, name[n] ? name + n + 1 : NULL, &here);
    json_decref(now);
    json_t *value = raw ? schema_value(f, raw, &here, err) : NULL;
    json_decref(raw);
    if (!value)
        return -1;
    if (json_object_set_new_nocheck(values, f->name, value) != 0)
        return schema_fail_memory(err, &here);
    return 0;
}
