/* internal.h - what the files of schema/ share and nobody else sees.
 *
 * A `place` says where in a document we are; it lives on the stack and is only written out when
 * something fails. Every allocation goes through Jansson's allocator, so one hook tests them all.
 */
#ifndef SCHEMA_INTERNAL_H
#define SCHEMA_INTERNAL_H

#include "schema.h"

/* Bounds, all documented in README.md. */
enum {
    SCHEMA_TEXT_MAX = 1 << 20,  /* bytes of a schema text, and of JSON inside a flag */
    SCHEMA_DEPTH_MAX = 8,       /* levels of items and properties */
    SCHEMA_FIELDS_MAX = 256,    /* properties of one object */
    SCHEMA_NAME_MAX = 48,       /* bytes of a property name */
    SCHEMA_ITEMS_MAX = 1 << 16, /* elements of a list without maxItems */
    SCHEMA_STRING_MAX = 1 << 16 /* bytes of a string value */
};

/* One step of a path: a key, or an index when key is NULL. The root's key chooses how the path is
 * written: "/" as a JSON pointer, "" as a field ("prompts[1].weight"). */
typedef struct place {
    const struct place *up; /* borrowed, NULL at the root */
    const char *key;        /* borrowed */
    int index;
} place;

struct schema {
    json_t *doc;   /* owned: the document with references resolved and defaults complete */
    json_t *words; /* owned: array of the labels made from names */
    schema_field root;
    const schema_field **ordered; /* owned */
};

/* ---- text.c -------------------------------------------------------------------------------- */

/* Fill *err with the path and one sentence; -1. */
__attribute__((format(printf, 3, 4))) int schema_fail(schema_error *err, const place *at,
                                                      const char *fmt, ...);
/* The same, the sentence beginning with what the place is called: "strength is 3, ...". */
__attribute__((format(printf, 3, 4))) int schema_fail_value(schema_error *err, const place *at,
                                                            const char *fmt, ...);
int schema_fail_memory(schema_error *err, const place *at);
/* "unknown field 'strenght'; did you mean 'strength'?" `what` is "field", "keyword". */
int schema_fail_unknown(schema_error *err, const place *at, const char *what, const char *name,
                        const char *const *names, int count);
/* The reason a JSON text could not be read, memory included. */
int schema_fail_json(schema_error *err, const place *at, const json_error_t *why);

/* Text for a person, always terminated; each returns buf. */
char *schema_text_number(double x, char *buf, size_t size);
char *schema_text_value(const json_t *v, char *buf, size_t size);
char *schema_text_range(const schema_field *f, char *buf, size_t size); /* "" without limits */
const char *schema_type_name(int type);                                 /* "integer" */
bool schema_utf8(const char *text);

/* Zeroed memory from Jansson's allocator, or NULL; and back. */
void *schema_alloc(size_t size);
void schema_release(void *p);

/* ---- resolve.c ----------------------------------------------------------------------------- */

/* A copy of the document in which every "$ref" is replaced by the field it names. New reference,
 * or NULL. */
json_t *schema_resolve(const json_t *doc, schema_error *err);

/* ---- value.c ------------------------------------------------------------------------------- */

/* The complete, checked form of `v` as a value of `f`, sharing nothing with `v`. New reference. */
json_t *schema_value(const schema_field *f, const json_t *v, const place *at, schema_error *err);
/* A property by name, or NULL. */
const schema_field *schema_property(const schema_field *f, const char *name);
/* The names of f's properties. */
int schema_names(const schema_field *f, const char *names[SCHEMA_FIELDS_MAX]);

#endif
