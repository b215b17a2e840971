/* resolve.c - "$ref": "base.json#/name", replaced by the shared field it names.
 *
 * What stands beside the reference overrides the shared field: keywords replace, `ui`, `items` and
 * `properties` merge, null removes. base.json itself holds no references, so this ends.
 */
#include <string.h>

#include "internal.h"

/* One long literal is the point of the generated header. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Woverlength-strings"
#include "base.json.h"
#pragma GCC diagnostic pop

#define PREFIX "base.json#/"

typedef struct resolver {
    json_t *base; /* owned; read when the first reference is met */
    schema_error *err;
} resolver;

static int override(json_t *field, const json_t *with);

/* `value` takes the place of member `key`; null removes it. 0 or, without memory, -1. */
static int replace(json_t *owner, const char *key, json_t *value)
{
    if (!json_is_null(value))
        return json_object_set_nocheck(owner, key, value);
    json_object_del(owner, key);
    return 0;
}

/* One keyword onto `field`. */
static int override_key(json_t *field, const char *key, json_t *value)
{
    json_t *old = json_object_get(field, key), *child;
    const char *name;
    if (!json_is_object(old) || !json_is_object(value) || !strcmp(key, "default"))
        return replace(field, key, value);
    if (!strcmp(key, "items"))
        return override(old, value);
    bool fields = !strcmp(key, "properties");
    json_object_foreach(value, name, child)
    {
        json_t *below = json_object_get(old, name);
        bool merge = fields && json_is_object(below) && json_is_object(child);
        if ((merge ? override(below, child) : replace(old, name, child)) != 0)
            return -1;
    }
    return 0;
}

static int override(json_t *field, const json_t *with)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)with, key, value)
    {
        if (override_key(field, key, value) != 0)
            return -1;
    }
    return 0;
}

static json_t *find_base(resolver *r, const char *ref, const place *at)
{
    json_error_t why;
    if (!r->base)
        r->base = json_loadb(base_json, sizeof base_json - 1, JSON_REJECT_DUPLICATES, &why);
    if (!r->base) {
        schema_fail_json(r->err, at, &why);
        return NULL;
    }
    if (strncmp(ref, PREFIX, strlen(PREFIX)) != 0) {
        schema_fail(r->err, at, "'%.60s' cannot be followed; write \"" PREFIX "name\"", ref);
        return NULL;
    }
    json_t *found = json_object_get(r->base, ref + strlen(PREFIX));
    if (found)
        return found;
    const char *key, *names[SCHEMA_FIELDS_MAX];
    json_t *field;
    int n = 0;
    json_object_foreach(r->base, key, field)
    {
        names[n++] = key;
    }
    schema_fail_unknown(r->err, at, "shared field", ref + strlen(PREFIX), names, n);
    return NULL;
}

/* The shared field that `field` refers to, overridden by the rest of `field`. New, or NULL. */
static json_t *follow(resolver *r, const json_t *field, const place *at)
{
    place here = {at, "$ref", 0};
    const json_t *ref = json_object_get(field, "$ref");
    if (!json_is_string(ref)) {
        schema_fail_value(r->err, &here, "must be a string such as \"" PREFIX "seed\"");
        return NULL;
    }
    json_t *base = find_base(r, json_string_value(ref), &here);
    if (!base)
        return NULL;
    json_t *made = json_deep_copy(base);
    if (made && override(made, field) == 0) {
        json_object_del(made, "$ref");
        return made;
    }
    json_decref(made);
    schema_fail_memory(r->err, &here);
    return NULL;
}

static int resolve_properties(resolver *r, json_t *field, const place *at, int depth);

/* Resolve what stands at `key` of `owner`, innermost first. */
static int resolve_field(resolver *r, json_t *owner, const char *key, const place *at, int depth)
{
    json_t *field = json_object_get(owner, key);
    place here = {at, key, 0};
    if (!json_is_object(field))
        return 0; /* parse.c says what is wrong with it, or it is an override that removes */
    if (depth > SCHEMA_DEPTH_MAX)
        return schema_fail(r->err, &here, "nested deeper than %d levels", SCHEMA_DEPTH_MAX);
    if (resolve_properties(r, field, &here, depth + 1) != 0 ||
        resolve_field(r, field, "items", &here, depth + 1) != 0)
        return -1;
    if (!json_object_get(field, "$ref"))
        return 0;
    json_t *made = follow(r, field, &here);
    if (!made)
        return -1;
    if (json_object_set_new_nocheck(owner, key, made) != 0)
        return schema_fail_memory(r->err, &here);
    return 0;
}

static int resolve_properties(resolver *r, json_t *field, const place *at, int depth)
{
    json_t *properties = json_object_get(field, "properties");
    place here = {at, "properties", 0};
    void *iter = json_object_iter(properties);
    for (; iter; iter = json_object_iter_next(properties, iter)) {
        if (resolve_field(r, properties, json_object_iter_key(iter), &here, depth) != 0)
            return -1;
    }
    return 0;
}

json_t *schema_resolve(const json_t *doc, schema_error *err)
{
    place root = {NULL, "/", 0};
    resolver r = {NULL, err};
    json_t *copy = json_deep_copy(doc);
    if (!copy) {
        schema_fail_memory(err, &root);
    } else if (resolve_properties(&r, copy, &root, 0) != 0) {
        json_decref(copy);
        copy = NULL;
    }
    json_decref(r.base);
    return copy;
}
