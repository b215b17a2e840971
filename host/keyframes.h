/* keyframes.h - parameter values over time, from a JSON file. `scope help keyframes` is
 * keyframes_help; the format is written there and nowhere else.
 */
#ifndef HOST_KEYFRAMES_H
#define HOST_KEYFRAMES_H

#include "../schema/schema.h"

extern const char keyframes_help[];

typedef struct keyframes keyframes;

/* Which plugin of the chain, and which field of its schema, a track's name means. 0 or negative
 * with *err. */
typedef struct keyframes_target {
    int link;
    const schema *schema;      /* borrowed until keyframes_free */
    const schema_field *field; /* borrowed until keyframes_free */
} keyframes_target;
typedef int (*keyframes_resolve)(void *ctx, const char *name, keyframes_target *to,
                                 scope_error *err);

/* Check everything against the schemas: names, types, ranges, order of times. `fps` turns "120f"
 * into seconds; 0 when there is no fixed rate. NULL with *err on failure. [any] */
keyframes *keyframes_parse(const json_t *root, double fps, keyframes_resolve resolve, void *ctx,
                           scope_error *err);
void keyframes_free(keyframes *k); /* NULL is fine */

/* The values of plugin `link` that differ at time_us (of the input) from those told last; NULL when
 * none do. New reference. [frame] */
json_t *keyframes_changes(keyframes *k, int link, int64_t time_us);

#endif
