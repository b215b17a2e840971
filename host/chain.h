/* chain.h - plugins in a row: each frame goes through all of them.
 *
 * The chain converts between what one plugin emits and what the next wants (size, channels, element
 * type, frames per call), so run and bench only see frames going in and coming out.
 */
#ifndef HOST_CHAIN_H
#define HOST_CHAIN_H

#include "instance.h"
#include "media/convert.h"
#include "run_params.h"

typedef struct chain chain;

/* Takes each finished frame, t = 1, which stays the chain's. 0 or negative with *err. */
typedef int (*chain_emit)(void *ctx, frame *out, scope_error *err);

/* Start every plugin with its values. `pool` and *p are borrowed until chain_close. NULL with *err,
 * naming the plugin, on failure. [load] */
chain *chain_open(const run_plugins *p, enum media_fit fit, frame_pool *pool,
                  const instance_sink *sink, scope_error *err);
void chain_close(chain *c); /* [load] NULL is fine */

/* Does the first plugin make frames out of nothing? */
bool chain_generates(const chain *c);
instance *chain_at(chain *c, int link); /* borrowed */
int chain_count(const chain *c);
/* From here on, take out what plugins lag behind (SCOPE_LATENCY): each frame that goes in comes out
 * once, with its own time and the picture that was made of it, and chain_flush waits for the last
 * ones. Frames then come out later than they are made; for what is rendered, not for what is
 * watched. Before the first push. */
void chain_align(chain *c);

/* Put one frame through, or, for a generator, make one (`in` is NULL) for the time pts_us; its
 * length is duration_us. On failure *at is the plugin at fault, or NULL when emit() failed. [frame]
 */
int chain_push(chain *c, frame *in, int64_t pts_us, int64_t duration_us, chain_emit emit, void *ctx,
               const char **at, scope_error *err);
/* Frames that wait for a plugin that takes several, or that lags: the last one is repeated until
 * they are out, and what comes out beyond their time is cut. [frame] */
int chain_flush(chain *c, chain_emit emit, void *ctx, const char **at, scope_error *err);

/* Frames that went in and wait inside a plugin that lags; the time of the first in *pts_us. */
int64_t chain_waiting(const chain *c, int64_t *pts_us);
/* The first plugin that knows an input of this name gets f at its next calls (NULL: none); the name
 * is borrowed until chain_close. Negative with *err when none knows it. [frame] */
int chain_set_input(chain *c, const char *name, frame *f, scope_error *err);

int64_t chain_repeated(const chain *c); /* frames that plugins repeated instead of making them */
int64_t chain_skipped(const chain *c);  /* calls for which a plugin emitted nothing */
double chain_last_ms(const chain *c);   /* inside plugins, in the last chain_push */

#endif
