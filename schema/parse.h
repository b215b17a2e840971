/* parse.h - what parse.c and ui.c share: which keywords may stand where.
 *
 * A table of keywords says all there is to say about their form, so that the code that reads a
 * keyword's value can trust its kind.
 */
#ifndef SCHEMA_PARSE_H
#define SCHEMA_PARSE_H

#include "internal.h"

/* Where a field stands; each has its keywords. */
enum { ROOT = 1, TOP = 2, INNER = 4, ITEM = 8, PROPERTY = TOP | INNER, EVERY = 15 };

#define KIND(x)  (1u << JSON_##x)
#define NUMBER   (KIND(INTEGER) | KIND(REAL))
#define BOOLEAN  (KIND(TRUE) | KIND(FALSE))
#define ANY_KIND 0xffu
#define TYPE(x)  (1u << SCOPE_##x)
#define NUMERIC  (TYPE(INT) | TYPE(NUM))
#define ANY_TYPE 0xffffu

typedef struct keyword {
    const char *name;
    unsigned kinds; /* of the keyword's own value */
    unsigned roles; /* fields that may have it, by place ... */
    unsigned types; /* ... and by type */
} keyword;

typedef struct parser {
    schema *s;         /* borrowed: being filled */
    schema_error *err; /* borrowed: the caller's */
} parser;

/* Check each member of `doc` against the table: known, of its kind, allowed here and for this
 * type. `what` is what a member is called: "keyword", "ui key". */
int parse_keywords(parser *p, const json_t *doc, const keyword *table, int n, const char *what,
                   unsigned role, int type, const place *at);

/* ui.c: fill f->ui from the field's "ui" object, which may be missing. */
int parse_ui(parser *p, json_t *field, schema_field *f, unsigned role, const place *at);
/* ui.c: the "visible_if" of f's properties, once all of them are known. */
int parse_conditions(parser *p, json_t *properties, schema_field *f, const place *at);

#endif
