/* ui.c - the "ui" object of a field: how it is shown, never which values it takes. */
#include <ctype.h>
#include <string.h>

#include "parse.h"

static const keyword ui_keywords[] = {
    {"order", KIND(INTEGER), PROPERTY, ANY_TYPE},
    {"label", KIND(STRING), PROPERTY, ANY_TYPE},
    {"component", KIND(STRING), PROPERTY, ANY_TYPE},
    {"category", KIND(STRING), TOP, ANY_TYPE},
    {"modes", KIND(ARRAY), TOP, ANY_TYPE},
    {"is_load_param", BOOLEAN, TOP, ANY_TYPE},
    {"modulatable", BOOLEAN, TOP, NUMERIC},
    {"modulatable_min", NUMBER, TOP, NUMERIC},
    {"modulatable_max", NUMBER, TOP, NUMERIC},
    {"unit", KIND(STRING), PROPERTY, ANY_TYPE},
    {"group", KIND(STRING), TOP, ANY_TYPE},
    {"multiline", BOOLEAN, PROPERTY, TYPE(STR) | TYPE(LIST)},
    {"visible_if", KIND(OBJECT), PROPERTY, ANY_TYPE},
};

/* "num_inference_steps" as "Num inference steps", kept by the schema. */
static const char *name_in_words(parser *p, const char *name)
{
    char words[SCHEMA_NAME_MAX + 1];
    snprintf(words, sizeof words, "%s", name);
    for (char *c = words; *c; c++) {
        if (*c == '_')
            *c = ' ';
    }
    words[0] = (char)toupper((unsigned char)words[0]);
    json_t *kept = json_string_nocheck(words);
    if (!kept || json_array_append_new(p->s->words, kept) != 0)
        return NULL;
    return json_string_value(kept);
}

static int parse_modes(parser *p, const json_t *list, schema_ui *ui, const place *at)
{
    if (!list)
        return 0;
    ui->text_mode = ui->video_mode = false;
    for (size_t i = 0; i < json_array_size(list); i++) {
        place here = {at, NULL, (int)i};
        const char *mode = json_string_value(json_array_get(list, i));
        bool *which = mode && !strcmp(mode, "text")    ? &ui->text_mode
                      : mode && !strcmp(mode, "video") ? &ui->video_mode
                                                       : NULL;
        if (!which || *which)
            return schema_fail(p->err, &here, "modes lists \"text\", \"video\", each at most once");
        *which = true;
    }
    if (json_array_size(list) == 0)
        return schema_fail_value(p->err, at, "is empty; leave it out for every mode");
    return 0;
}

static int parse_modulation(parser *p, const json_t *doc, schema_field *f, const place *at)
{
    schema_ui *ui = &f->ui;
    const json_t *min = json_object_get(doc, "modulatable_min");
    const json_t *max = json_object_get(doc, "modulatable_max");
    place here = {at, min ? "modulatable_min" : max ? "modulatable_max" : "modulatable", 0};
    char range[72];
    ui->modulatable = json_is_true(json_object_get(doc, "modulatable"));
    if (!ui->modulatable)
        return min || max ? schema_fail_value(p->err, &here, "needs \"modulatable\": true") : 0;
    if ((!min && !f->has_min) || (!max && !f->has_max))
        return schema_fail_value(p->err, &here,
                                 "needs a range: give minimum and maximum to the field");
    ui->modulatable_min = min ? json_number_value(min) : f->min;
    ui->modulatable_max = max ? json_number_value(max) : f->max;
    if (!(ui->modulatable_min < ui->modulatable_max) ||
        (f->has_min && ui->modulatable_min < f->min) ||
        (f->has_max && ui->modulatable_max > f->max))
        return schema_fail_value(p->err, &here, "must leave a range within the field's own (%s)",
                                 schema_text_range(f, range, sizeof range));
    return 0;
}

static int parse_ui_numbers(parser *p, const json_t *doc, schema_field *f, const place *at)
{
    const json_t *order = json_object_get(doc, "order");
    const json_t *category = json_object_get(doc, "category");
    place order_at = {at, "order", 0}, category_at = {at, "category", 0}, modes = {at, "modes", 0};
    if (order) {
        json_int_t n = json_integer_value(order);
        if (n < -1000000 || n > 1000000)
            return schema_fail_value(p->err, &order_at, "must lie within a million of 0");
        f->ui.order = (int)n;
    }
    if (category) {
        f->ui.category = json_string_value(category);
        if (strcmp(f->ui.category, "configuration") != 0 && strcmp(f->ui.category, "input") != 0)
            return schema_fail_value(p->err, &category_at,
                                     "must be \"configuration\" or \"input\"");
    }
    if (parse_modes(p, json_object_get(doc, "modes"), &f->ui, &modes) != 0)
        return -1;
    return parse_modulation(p, doc, f, at);
}

int parse_ui(parser *p, json_t *field, schema_field *f, unsigned role, const place *at)
{
    json_t *doc = json_object_get(field, "ui");
    place here = {at, "ui", 0};
    schema_ui *ui = &f->ui;
    *ui = (schema_ui){
        .order = 999, .category = "configuration", .text_mode = true, .video_mode = true};
    ui->shown = doc != NULL;
    if (parse_keywords(p, doc, ui_keywords, (int)(sizeof ui_keywords / sizeof *ui_keywords),
                       "ui key", role, f->type, &here) != 0 ||
        parse_ui_numbers(p, doc, f, &here) != 0)
        return -1;
    ui->label = json_string_value(json_object_get(doc, "label"));
    ui->component = json_string_value(json_object_get(doc, "component"));
    ui->group = json_string_value(json_object_get(doc, "group"));
    ui->unit = json_string_value(json_object_get(doc, "unit"));
    ui->is_load_param = json_is_true(json_object_get(doc, "is_load_param"));
    ui->multiline = json_is_true(json_object_get(doc, "multiline"));
    if (!ui->label)
        ui->label = f->title ? f->title : name_in_words(p, f->name);
    return ui->label ? 0 : schema_fail_memory(p->err, &here);
}

/* A condition names a sibling and one of the values that it can take. */
int parse_conditions(parser *p, json_t *properties, schema_field *f, const place *at)
{
    schema_field *list = (schema_field *)f->properties;
    for (int i = 0; i < f->count; i++) {
        place field = {at, list[i].name, 0}, ui = {&field, "ui", 0};
        place where = {&ui, "visible_if", 0};
        json_t *doc = json_object_get(json_object_get(properties, list[i].name), "ui");
        json_t *condition = json_object_get(doc, "visible_if");
        if (!condition)
            continue;
        if (json_object_size(condition) != 1)
            return schema_fail_value(p->err, &where, "takes one {\"field\": value}");
        const char *name = json_object_iter_key(json_object_iter(condition));
        const schema_field *other = schema_property(f, name);
        place value_at = {&where, name, 0};
        if (other == &list[i])
            return schema_fail_value(p->err, &value_at, "cannot be its own condition");
        if (!other) {
            const char *names[SCHEMA_FIELDS_MAX];
            return schema_fail_unknown(p->err, &value_at, "neighbour", name, names,
                                       schema_names(f, names));
        }
        json_t *value = schema_value(other, json_object_get(condition, name), &value_at, p->err);
        if (!value)
            return -1;
        if (json_object_set_new_nocheck(condition, name, value) != 0)
            return schema_fail_memory(p->err, &where);
        list[i].ui.visible_if = other->name;
        list[i].ui.visible_if_value = value;
    }
    return 0;
}
