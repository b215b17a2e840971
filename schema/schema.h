/* schema.h - one description of a plugin's parameters, read by everything.
 *
 * schema_parse turns a plugin's JSON text into a table of fields, strictly; bind, flags and emit
 * are readers of that table (README.md is the vocabulary). Nothing about a parameter is written
 * twice.
 *
 * Errors   0 or a pointer is success; -1 or NULL is failure and fills *err. Both its strings are
 *          printable UTF-8, whatever they quote.
 * Threads  [any]; a parsed schema is immutable.
 */
#ifndef SCHEMA_H
#define SCHEMA_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "../plugin/scope_abi.h"

typedef struct schema_error {
    char
        path[128]; /* JSON path, "/properties/strength/ui/ordr", or the field "prompts[1].weight" */
    char text[256]; /* one sentence: the thing, the value, the remedy */
} schema_error;

typedef struct schema_ui {
    bool shown;                 /* the field has a "ui" object */
    int order;                  /* lower first; 999 when absent */
    const char *label;          /* never NULL: label, else title, else the name in words */
    const char *component;      /* or NULL */
    const char *category;       /* "configuration" (default) or "input" */
    const char *group;          /* or NULL */
    const char *unit;           /* or NULL */
    bool text_mode, video_mode; /* both true when "modes" is absent */
    bool is_load_param;
    bool multiline;
    bool modulatable;
    double modulatable_min, modulatable_max;
    const char *visible_if;   /* name of another field, or NULL */
    json_t *visible_if_value; /* borrowed: shown while that field equals this */
} schema_ui;

typedef struct schema_field schema_field;
struct schema_field {
    const char *name;        /* "" for items */
    int type;                /* scope_type: BOOL INT NUM STR LIST OBJ */
    const char *title;       /* or NULL */
    const char *description; /* "" when absent */
    json_t *def; /* borrowed: the complete, validated default; never NULL in a property */
    bool has_min, has_max;
    double min, max;
    double step;                    /* 0 when absent */
    json_t *choices;                /* borrowed array, or NULL */
    int min_items, max_items;       /* max_items -1: no limit */
    const schema_field *items;      /* LIST */
    const schema_field *properties; /* OBJ, in declaration order */
    int count;                      /* of properties */
    schema_ui ui;
};

typedef struct schema schema;

/* Parse and check a schema text. `base.json#/name` references resolve to the built-in fields. */
schema *schema_parse(const char *text, schema_error *err);
void schema_free(schema *s);

const char *schema_title(const schema *s);       /* "" when absent */
const char *schema_description(const schema *s); /* "" when absent */
/* The properties, in declaration order. */
const schema_field *schema_fields(const schema *s, int *count);
/* The same by ui.order, then name; fields without a ui object last. Array owned by s. */
const schema_field *const *schema_ordered(const schema *s, int *count);
const schema_field *schema_find(const schema *s, const char *name); /* or NULL */
/* The nearest of `count` names to a misspelt one, or NULL if none is near. */
const char *schema_nearest(const char *name, const char *const *names, int count);

/* ---- bind: object -> kwargs ---------------------------------------------------------------- */

/* A complete, validated object: every field once, in schema order, defaults applied, shorthands
 * expanded (README.md). `values` may be partial or NULL. New reference. */
json_t *schema_complete(const schema *s, const json_t *values, schema_error *err);

/* The load parameters among complete values: what two instances that share weights agree in. New
 * reference. */
json_t *schema_load_values(const schema *s, const json_t *values);

/* The same as the tree a plugin receives. One block; free with free(). */
scope_kwargs *schema_bind(const schema *s, const json_t *values, uint64_t generation,
                          schema_error *err);

/* ---- flags: command line -> object --------------------------------------------------------- */

/* The field that a person means by the first n bytes of `name`: its own name, the singular of a
 * list ("prompt"), or a prefix that no other field has, with '-' for '_'. NULL when there is none
 * or more than one. */
const schema_field *schema_match(const schema *s, const char *name, size_t n);
/* Store `text` as field `name` of `values`, typed by the schema: numbers, true/false, enum
 * members, JSON for lists and objects, dotted paths ("prompts.0.weight"). The first part of `name`
 * is read as by schema_match. Range and type are checked here. */
int schema_flag(const schema *s, json_t *values, const char *name, const char *text,
                schema_error *err);
/* Flags grouped and ordered by ui.order, each with range, default and unit. */
void schema_help(const schema *s, FILE *out);

/* ---- emit ---------------------------------------------------------------------------------- */

/* The schema as a UI reads it: references resolved, defaults complete, label and order of every
 * shown field present. New reference, or NULL without memory. */
json_t *schema_json(const schema *s);
/* A manual page in Markdown: a table per group, load parameters marked. */
void schema_markdown(const schema *s, const char *id, const char *version, FILE *out);

#endif
