/* bind.c - values in, kwargs out: completes an object and lays it out as one block of memory.
 *
 * The block holds the kwargs, then every scope_value, then every string, names included, so it
 * outlives the schema and the values and goes with one free().
 */
#include <string.h>

#include "internal.h"

json_t *schema_complete(const schema *s, const json_t *values, schema_error *err)
{
    place root = {NULL, "", 0};
    if (values && !json_is_object(values)) {
        schema_fail(err, &root, "the parameters must be a JSON object of name and value");
        return NULL;
    }
    json_t *none = values ? NULL : json_object();
    if (!values && !none) {
        schema_fail_memory(err, &root);
        return NULL;
    }
    json_t *made = schema_value(&s->root, values ? values : none, &root, err);
    json_decref(none);
    return made;
}

/* Room for everything below v: entries, and bytes of strings. */
static void measure(const json_t *v, size_t *entries, size_t *bytes)
{
    const char *key;
    json_t *child;
    size_t i;
    if (json_is_string(v))
        *bytes += json_string_length(v) + 1;
    json_array_foreach(v, i, child)
    {
        *entries += 1;
        measure(child, entries, bytes);
    }
    json_object_foreach((json_t *)v, key, child)
    {
        *entries += 1;
        *bytes += strlen(key) + 1;
        measure(child, entries, bytes);
    }
}

typedef struct layout {
    scope_value *next; /* the first free entry */
    char *text;        /* the first free byte */
} layout;

static const char *put_text(layout *l, const char *text, size_t n)
{
    char *at = l->text;
    memcpy(at, text, n + 1);
    l->text += n + 1;
    return at;
}

static void put(layout *l, const schema_field *f, const json_t *v, scope_value *out);

/* The children of a list or an object stand side by side. */
static const scope_value *put_children(layout *l, const schema_field *f, const json_t *v, int count)
{
    scope_value *at = l->next;
    l->next += count;
    for (int i = 0; i < count; i++) {
        const schema_field *child = f->type == SCOPE_LIST ? f->items : &f->properties[i];
        const json_t *value =
            f->type == SCOPE_LIST ? json_array_get(v, (size_t)i) : json_object_get(v, child->name);
        if (f->type == SCOPE_OBJ)
            at[i].name = put_text(l, child->name, strlen(child->name));
        put(l, child, value, &at[i]);
    }
    return at;
}

static void put(layout *l, const schema_field *f, const json_t *v, scope_value *out)
{
    out->type = f->type;
    switch (f->type) {
    case SCOPE_BOOL:
        out->u.i = json_is_true(v);
        break;
    case SCOPE_INT:
        out->u.i = json_integer_value(v);
        break;
    case SCOPE_NUM:
        out->u.f = json_real_value(v);
        break;
    case SCOPE_STR:
        out->u.s = put_text(l, json_string_value(v), json_string_length(v));
        break;
    case SCOPE_LIST:
    case SCOPE_OBJ:
        out->count = f->type == SCOPE_LIST ? (int32_t)json_array_size(v) : f->count;
        out->u.at = put_children(l, f, v, out->count);
        break;
    }
}

json_t *schema_load_values(const schema *s, const json_t *values)
{
    json_t *load = json_object();
    for (int i = 0; i < s->root.count; i++) {
        const schema_field *f = &s->root.properties[i];
        if (f->ui.is_load_param)
            json_object_set(load, f->name, json_object_get(values, f->name));
    }
    return load;
}

scope_kwargs *schema_bind(const schema *s, const json_t *values, uint64_t generation,
                          schema_error *err)
{
    json_t *full = schema_complete(s, values, err);
    if (!full)
        return NULL;
    size_t entries = 0, bytes = 0;
    measure(full, &entries, &bytes);
    scope_kwargs *kw = schema_alloc(sizeof *kw + entries * sizeof(scope_value) + bytes);
    if (kw) {
        scope_value *first = (scope_value *)(kw + 1);
        layout l = {first, (char *)(first + entries)};
        kw->generation = generation;
        kw->count = s->root.count;
        kw->at = put_children(&l, &s->root, full, kw->count);
    } else {
        place root = {NULL, "", 0};
        schema_fail_memory(err, &root);
    }
    json_decref(full);
    return kw;
}
