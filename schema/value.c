/* value.c - the one place that says which values a field takes.
 *
 * Defaults, kwargs, flags and JSON all pass through schema_value, so no reader can accept what
 * another refuses. What comes out is canonical: integers are integers, numbers are reals, lists
 * and objects are complete, shorthands are expanded.
 */
#include <math.h>
#include <string.h>

#include "internal.h"

const schema_field *schema_property(const schema_field *f, const char *name)
{
    for (int i = 0; i < f->count; i++) {
        if (!strcmp(f->properties[i].name, name))
            return &f->properties[i];
    }
    return NULL;
}

int schema_names(const schema_field *f, const char *names[SCHEMA_FIELDS_MAX])
{
    for (int i = 0; i < f->count; i++)
        names[i] = f->properties[i].name;
    return f->count;
}

static int wrong_type(const schema_field *f, const json_t *v, const place *at, schema_error *err)
{
    static const char *const wants[] = {
        [SCOPE_BOOL] = "true or false", [SCOPE_INT] = "a whole number", [SCOPE_NUM] = "a number",
        [SCOPE_STR] = "a string",       [SCOPE_LIST] = "a list",        [SCOPE_OBJ] = "an object",
    };
    char text[64];
    schema_text_value(v, text, sizeof text);
    if (json_is_null(v))
        return schema_fail_value(err, at, "is null; leave it out to get its default");
    return schema_fail_value(err, at, "is %s; it must be %s", text, wants[f->type]);
}

static int out_of_range(const schema_field *f, const json_t *v, const place *at, schema_error *err)
{
    char text[64], range[72];
    return schema_fail_value(err, at, "is %s; allowed is %s",
                             schema_text_value(v, text, sizeof text),
                             schema_text_range(f, range, sizeof range));
}

/* Whether v is one of the choices; true when there are none. Both sides are canonical. */
static int check_choice(const schema_field *f, const json_t *v, const place *at, schema_error *err)
{
    size_t i;
    json_t *choice;
    if (!f->choices)
        return 0;
    json_array_foreach(f->choices, i, choice)
    {
        if (json_equal(choice, v))
            return 0;
    }
    char list[160] = "", text[64];
    size_t used = 0;
    json_array_foreach(f->choices, i, choice)
    {
        schema_text_value(choice, text, sizeof text);
        if (used + strlen(text) + 8 > sizeof list) {
            snprintf(list + used, sizeof list - used, ", ...");
            break;
        }
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", text);
    }
    return schema_fail_value(err, at, "is %s; choose one of %s",
                             schema_text_value(v, text, sizeof text), list);
}

/* The step of an integer is a rule, counted from its minimum (or from 0). */
static int check_step(const schema_field *f, int64_t i, const place *at, schema_error *err)
{
    if (f->step == 0)
        return 0;
    int64_t step = (int64_t)f->step, base = f->has_min ? (int64_t)f->min : 0;
    /* The range was checked, so i >= minimum and the unsigned difference is exact. */
    int64_t over = f->has_min ? (int64_t)(((uint64_t)i - (uint64_t)base) % (uint64_t)step)
                              : ((i % step) + step) % step;
    if (over == 0)
        return 0;
    long long value = i, below = i, above = i;
    bool has_below = !__builtin_sub_overflow(below, over, &below);
    bool has_above = !__builtin_add_overflow(above, step - over, &above) &&
                     !(f->has_max && above > (int64_t)f->max);
    if (has_below && has_above)
        return schema_fail_value(err, at, "is %lld; the nearest valid values are %lld and %lld",
                                 value, below, above);
    return schema_fail_value(err, at, "is %lld; the nearest valid value is %lld", value,
                             has_below ? below : above);
}

static json_t *complete_int(const schema_field *f, const json_t *v, const place *at,
                            schema_error *err)
{
    int64_t i;
    if (json_is_integer(v)) {
        i = json_integer_value(v);
    } else {
        double x = json_is_real(v) ? json_real_value(v) : 0.5;
        /* 2^63 is exact as a double; below it the cast is defined. */
        if (floor(x) != x || x < -9223372036854775808.0 || x >= 9223372036854775808.0) {
            wrong_type(f, v, at, err);
            return NULL;
        }
        i = (int64_t)x;
    }
    /* Limits of integers are whole and within 2^53 (parse.c), so the casts are exact. */
    if ((f->has_min && i < (int64_t)f->min) || (f->has_max && i > (int64_t)f->max)) {
        out_of_range(f, v, at, err);
        return NULL;
    }
    if (check_step(f, i, at, err) != 0)
        return NULL;
    json_t *made = json_integer(i);
    if (!made)
        schema_fail_memory(err, at);
    return made;
}

static json_t *complete_num(const schema_field *f, const json_t *v, const place *at,
                            schema_error *err)
{
    if (!json_is_number(v)) {
        wrong_type(f, v, at, err);
        return NULL;
    }
    double x = json_number_value(v);
    if ((f->has_min && x < f->min) || (f->has_max && x > f->max)) {
        out_of_range(f, v, at, err);
        return NULL;
    }
    json_t *made = json_real(x);
    if (!made)
        schema_fail_memory(err, at);
    return made;
}

static json_t *complete_str(const schema_field *f, const json_t *v, const place *at,
                            schema_error *err)
{
    if (!json_is_string(v)) {
        wrong_type(f, v, at, err);
        return NULL;
    }
    const char *text = json_string_value(v);
    size_t n = json_string_length(v);
    if (n > SCHEMA_STRING_MAX) {
        schema_fail_value(err, at, "has %zu bytes; at most %d are allowed", n, SCHEMA_STRING_MAX);
        return NULL;
    }
    if (strlen(text) != n) {
        schema_fail_value(err, at, "contains a NUL character; remove it");
        return NULL;
    }
    json_t *made = json_stringn_nocheck(text, n);
    if (!made)
        schema_fail_memory(err, at);
    return made;
}

static json_t *complete_list(const schema_field *f, const json_t *v, const place *at,
                             schema_error *err)
{
    bool one = !json_is_array(v); /* shorthand: a single value is a list of one */
    size_t n = one ? 1 : json_array_size(v);
    size_t max = f->max_items < 0 ? SCHEMA_ITEMS_MAX : (size_t)f->max_items;
    if (json_is_null(v)) {
        wrong_type(f, v, at, err);
        return NULL;
    }
    if (n < (size_t)f->min_items || n > max) {
        bool few = n < (size_t)f->min_items;
        schema_fail_value(err, at, "has %zu item%s; at %s %zu %s", n, n == 1 ? "" : "s",
                          few ? "least" : "most", few ? (size_t)f->min_items : max,
                          few ? "must be given" : "are allowed");
        return NULL;
    }
    json_t *list = json_array();
    if (!list) {
        schema_fail_memory(err, at);
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        place here = {at, NULL, (int)i};
        json_t *item =
            schema_value(f->items, one ? v : json_array_get(v, i), one ? at : &here, err);
        if (!item || json_array_append_new(list, item) != 0) {
            if (item)
                schema_fail_memory(err, at);
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static const schema_field *first_string(const schema_field *f)
{
    for (int i = 0; i < f->count; i++) {
        if (f->properties[i].type == SCOPE_STR)
            return &f->properties[i];
    }
    return NULL;
}

static int check_known(const schema_field *f, const json_t *v, const place *at, schema_error *err)
{
    const char *key, *names[SCHEMA_FIELDS_MAX];
    json_t *value;
    json_object_foreach((json_t *)v, key, value)
    {
        if (!schema_property(f, key)) {
            place here = {at, key, 0};
            return schema_fail_unknown(err, &here, "field", key, names, schema_names(f, names));
        }
    }
    return 0;
}

static json_t *complete_obj(const schema_field *f, const json_t *v, const place *at,
                            schema_error *err)
{
    /* shorthand: a string is the object's first string property */
    const schema_field *text = json_is_string(v) ? first_string(f) : NULL;
    if (!text && !json_is_object(v)) {
        wrong_type(f, v, at, err);
        return NULL;
    }
    if (!text && check_known(f, v, at, err) != 0)
        return NULL;
    json_t *made = json_object();
    if (!made) {
        schema_fail_memory(err, at);
        return NULL;
    }
    for (int i = 0; i < f->count; i++) {
        const schema_field *p = &f->properties[i];
        place here = {at, p->name, 0};
        const json_t *given = text ? (p == text ? v : NULL) : json_object_get(v, p->name);
        json_t *value = given ? schema_value(p, given, &here, err) : json_deep_copy(p->def);
        if (!value && !given)
            schema_fail_memory(err, &here);
        if (!value || json_object_set_new_nocheck(made, p->name, value) != 0) {
            if (value)
                schema_fail_memory(err, &here);
            json_decref(made);
            return NULL;
        }
    }
    return made;
}

json_t *schema_value(const schema_field *f, const json_t *v, const place *at, schema_error *err)
{
    json_t *made = NULL;
    switch (f->type) {
    case SCOPE_BOOL:
        if (json_is_boolean(v))
            made = json_boolean(json_is_true(v));
        else
            wrong_type(f, v, at, err);
        break;
    case SCOPE_INT:
        made = complete_int(f, v, at, err);
        break;
    case SCOPE_NUM:
        made = complete_num(f, v, at, err);
        break;
    case SCOPE_STR:
        made = complete_str(f, v, at, err);
        break;
    case SCOPE_LIST:
        made = complete_list(f, v, at, err);
        break;
    case SCOPE_OBJ:
        made = complete_obj(f, v, at, err);
        break;
    }
    if (made && check_choice(f, made, at, err) != 0) {
        json_decref(made);
        made = NULL;
    }
    return made;
}
