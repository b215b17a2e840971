/* daydream_params.h - the parameters of Daydream's StreamDiffusion API: one table, and what reads
 * it.
 *
 * Under daydream.c, which knows requests, and daydream_map.h, which knows the plugin; this knows
 * neither. The table (daydream_fields.c) names each field once. Checking, completing, merging and
 * the schema in /openapi.json are readers of it.
 *
 * A complete object has every key of its model's family, in the table's order: strict clients
 * refuse an answer that lacks one. `null` in a request means "the default again".
 *
 * Threads [any]; nothing here keeps state.
 */
#ifndef HTTP_DAYDREAM_PARAMS_H
#define HTTP_DAYDREAM_PARAMS_H

#include "daydream_models.h"
#include <stdbool.h>

enum daydream_kind {
    DAYDREAM_BOOL = 1,
    DAYDREAM_INT,
    DAYDREAM_NUMBER,
    DAYDREAM_TEXT,
    DAYDREAM_CHOICE,   /* one of `choices` */
    DAYDREAM_PROMPT,   /* a text, or [[text, weight], ...] */
    DAYDREAM_SEED,     /* an integer, or [[integer, weight], ...] */
    DAYDREAM_INTEGERS, /* a list of min to max entries */
    DAYDREAM_SCALES,   /* {name: number}; {} is null */
    DAYDREAM_FREE,     /* any object */
    DAYDREAM_PICTURE,  /* an address, or a data: URI */
    DAYDREAM_OBJECT,   /* of `fields`; an empty list is null */
    DAYDREAM_OBJECTS,  /* a list of them, at most max */
};

/* What else a field is. */
enum {
    DAYDREAM_HOT = 1,      /* Daydream changes it while the stream runs */
    DAYDREAM_REQUIRED = 2, /* has no default */
    DAYDREAM_FRESH = 4,    /* left out of an object that is given: the default, not what was */
    DAYDREAM_EXTRA = 8,    /* not Daydream's: kept and told where it was given */
};

typedef struct daydream_field daydream_field;
struct daydream_field {
    const char *name; /* NULL ends a table */
    enum daydream_kind kind;
    unsigned families, flags;
    const char *def; /* JSON text, "null" among them; NULL: it has none */
    double min, max; /* inclusive; both 0: no limits */
    const char *const *choices;
    const daydream_field *fields;
    const char *help; /* one sentence */
};

const daydream_field *daydream_fields(void);
const daydream_field *daydream_field_find(const char *name); /* or NULL */

/* How requests are judged, beside the table. */
typedef struct daydream_rules {
    const char *model;    /* where the first request names none */
    const json_t *models; /* of the configuration file: its names are models, too; or NULL */
    bool strict_sizes;    /* 384 to 1024 in steps of 64, as Daydream has it */
} daydream_rules;

/* The complete parameters after `change`, a partial object, where `before` (complete, or NULL) was.
 * Objects are merged, lists replaced. With another family of models, what belongs to the old one
 * alone (ControlNets, IP-Adapter) goes back to its default, and step indices that no longer fit a
 * changed num_inference_steps keep their share of it. New reference, or NULL with *err:
 * SCOPE_EINVAL and the field, "controlnets[1].preprocessor". */
json_t *daydream_params_merge(const json_t *before, const json_t *change,
                              const daydream_rules *rules, scope_error *err);

/* The first field of `change` that Daydream reloads for, or NULL when all are hot. */
const char *daydream_params_reloads(const json_t *change);

/* The table as a JSON Schema. */
enum daydream_shape {
    DAYDREAM_REQUEST = 1, /* of requests: every key may be left out, and most may be null */
    DAYDREAM_HOT_REQUEST, /* those alone that Daydream takes without a reload */
    DAYDREAM_ANSWER,      /* of what is answered */
};
json_t *daydream_params_schema(enum daydream_shape shape); /* new reference */

#endif
