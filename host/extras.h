/* extras.h - inputs of a run beside the main one: `--input NAME=FILE`, for plugins that know NAME.
 *
 * They go by the main input's time: a frame holds until the next one is due, the last one holds to
 * the end, so that a single picture is the same for the whole run.
 */
#ifndef HOST_EXTRAS_H
#define HOST_EXTRAS_H

#include "chain.h"

typedef struct extras extras;

/* given: NULL-terminated "NAME=FILE", borrowed until extras_close; FILE is anything that
 * source_open takes, and begins at `start` seconds unless it is a single picture. NULL with *err.
 * [load] */
extras *extras_open(char *const *given, double start, int (*cancelled)(void *ctx), frame_pool *pool,
                    scope_error *err);
void extras_close(extras *x); /* after the chain; NULL is fine */

/* Give the chain what belongs to this time. Negative with *err when no plugin knows a name, or an
 * input broke. [frame] */
int extras_show(extras *x, chain *c, int64_t pts_us, scope_error *err);

#endif
