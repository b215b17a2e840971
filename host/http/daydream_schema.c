/* daydream_schema.c - the table of Daydream's parameters as a JSON Schema, for /openapi.json.
 *
 * Beside daydream_params.c. The schema says what requests are judged by, but for the rules between
 * fields, which a schema cannot say.
 */
#include "daydream_params.h"

#include <math.h>
#include <string.h>

static json_t *schema_of(const daydream_field *table, enum daydream_shape shape, bool outermost);

static json_t *typed(const char *type, bool nullable)
{
    return nullable ? json_pack("{s:[ss]}", "type", type, "null")
                    : json_pack("{s:s}", "type", type);
}

static json_t *one_of(json_t *a, json_t *b, bool nullable)
{
    json_t *all = json_pack("[oo]", a, b);
    if (nullable)
        json_array_append_new(all, json_pack("{s:s}", "type", "null"));
    return json_pack("{s:o}", "anyOf", all);
}

/* [[what, weight], ...] */
static json_t *pairs(const char *what, const daydream_field *f)
{
    json_t *first = json_pack("{s:s}", "type", what);
    if (f->kind == DAYDREAM_PROMPT)
        json_object_set_new(first, "minLength", json_integer(1));
    json_t *pair = json_pack("{s:s, s:i, s:i, s:[o, {s:s}], s:b}", "type", "array", "minItems", 2,
                             "maxItems", 2, "prefixItems", first, "type", "number", "items", 0);
    return json_pack("{s:s, s:i, s:i, s:o}", "type", "array", "minItems", (int)f->min, "maxItems",
                     (int)f->max, "items", pair);
}

static json_t *range(json_t *o, const daydream_field *f)
{
    if (f->min == 0 && f->max == 0)
        return o;
    bool integer = f->kind == DAYDREAM_INT;
    json_object_set_new(o, "minimum",
                        integer ? json_integer((json_int_t)f->min) : json_real(f->min));
    json_object_set_new(o, "maximum",
                        integer ? json_integer((json_int_t)f->max) : json_real(f->max));
    return o;
}

static json_t *choices(const daydream_field *f, bool nullable)
{
    json_t *all = json_array();
    for (int i = 0; f->choices[i]; i++)
        json_array_append_new(all, json_string(f->choices[i]));
    if (nullable)
        json_array_append_new(all, json_null());
    return json_pack("{s:o}", "enum", all);
}

/* The models that are always there; the configuration may know more. */
static json_t *models(void)
{
    json_t *all = json_array();
    for (int i = 0; daydream_model_at(i); i++)
        json_array_append_new(all, json_string(daydream_model_at(i)));
    return json_pack("{s:s, s:o}", "type", "string", "enum", all);
}

static json_t *of_kind(const daydream_field *f, enum daydream_shape shape, bool nullable)
{
    switch (f->kind) {
    case DAYDREAM_BOOL:
        return typed("boolean", nullable);
    case DAYDREAM_INT:
        return range(typed("integer", nullable), f);
    case DAYDREAM_NUMBER:
        return range(typed("number", nullable), f);
    case DAYDREAM_CHOICE:
        return choices(f, nullable);
    case DAYDREAM_PROMPT:
        return one_of(typed("string", false), pairs("string", f), nullable);
    case DAYDREAM_SEED:
        return one_of(typed("integer", false), pairs("integer", f), nullable);
    case DAYDREAM_SCALES: {
        json_t *o = typed("object", nullable);
        json_object_set_new(o, "additionalProperties", typed("number", false));
        json_object_set_new(o, "maxProperties", json_integer((json_int_t)f->max));
        return o;
    }
    case DAYDREAM_INTEGERS: {
        json_t *o = typed("array", nullable);
        json_object_set_new(o, "minItems", json_integer((json_int_t)f->min));
        json_object_set_new(o, "maxItems", json_integer((json_int_t)f->max));
        json_object_set_new(
            o, "items",
            json_pack("{s:s, s:i, s:i}", "type", "integer", "minimum", 0, "maximum", 100));
        return o;
    }
    case DAYDREAM_OBJECT: {
        json_t *o = schema_of(f->fields, shape, false);
        return nullable ? json_pack("{s:[o, {s:s}]}", "anyOf", o, "type", "null") : o;
    }
    case DAYDREAM_OBJECTS: {
        json_t *o = typed("array", nullable);
        json_object_set_new(o, "maxItems", json_integer((json_int_t)f->max));
        json_object_set_new(o, "items", schema_of(f->fields, shape, false));
        return o;
    }
    case DAYDREAM_FREE:
        return typed("object", nullable);
    case DAYDREAM_TEXT:
    case DAYDREAM_PICTURE:
        break;
    }
    return typed("string", nullable);
}

/* May an answer have null here? A request may, wherever there is a default to go back to. */
static bool is_nullable(const daydream_field *f, enum daydream_shape shape)
{
    return shape == DAYDREAM_ANSWER ? f->def && !strcmp(f->def, "null")
                                    : !(f->flags & DAYDREAM_REQUIRED);
}

static json_t *property(const daydream_field *f, enum daydream_shape shape, bool outermost)
{
    bool request = shape != DAYDREAM_ANSWER;
    json_t *o = request && outermost && !strcmp(f->name, "model_id")
                    ? models()
                    : of_kind(f, shape, is_nullable(f, shape));
    json_object_set_new(o, "description", json_string(f->help));
    if (!strcmp(f->name, "width") || !strcmp(f->name, "height"))
        json_object_set_new(o, "multipleOf", json_integer(8));
    if (request && f->def)
        json_object_set_new(o, "default", json_loads(f->def, JSON_DECODE_ANY, NULL));
    if (request && outermost)
        json_object_set_new(o, "x-hot", json_boolean(f->flags & DAYDREAM_HOT));
    return o;
}

static json_t *schema_of(const daydream_field *table, enum daydream_shape shape, bool outermost)
{
    json_t *properties = json_object(), *required = json_array();
    for (const daydream_field *f = table; f->name; f++) {
        if (shape == DAYDREAM_HOT_REQUEST && outermost && !(f->flags & DAYDREAM_HOT))
            continue;
        json_object_set_new(properties, f->name, property(f, shape, outermost));
        /* model_id has a default where a stream has none yet */
        bool must = shape == DAYDREAM_ANSWER
                        ? f->families == DAYDREAM_ANY && !(f->flags & DAYDREAM_EXTRA)
                        : f->flags & DAYDREAM_REQUIRED && !outermost;
        if (must)
            json_array_append_new(required, json_string(f->name));
    }
    return json_pack("{s:s, s:o, s:o, s:b}", "type", "object", "required", required, "properties",
                     properties, "additionalProperties", 0);
}

json_t *daydream_params_schema(enum daydream_shape shape)
{
    return schema_of(daydream_fields(), shape, true);
}
