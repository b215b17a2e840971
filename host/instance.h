/* instance.h - one loaded plugin at work: dlopen, init, process, reset, fini.
 *
 * It is the scope_host that a plugin sees. Thread tags are checked: that [load] and [frame] calls
 * never overlap is the host's promise, and asserted; what a plugin does out of turn is refused,
 * logged and remembered (instance_misuse).
 */
#ifndef HOST_INSTANCE_H
#define HOST_INSTANCE_H

#include "../schema/schema.h"
#include "frame.h"

typedef struct instance instance;

/* How an instance talks to the person in front of it. Any member may be NULL. */
typedef struct instance_sink {
    void *ctx;
    void (*log)(void *ctx, int level, const char *plugin_id, const char *line);
    void (*progress)(void *ctx, double done, const char *phase);
    int (*cancelled)(void *ctx);
    bool live; /* the frames are watched as they are made: plugins are told by SCOPE_LIVE */
} instance_sink;

/* Load library `path`, find plugin `id` (NULL: the only one) and call init with `values` (a
 * partial JSON object; completed by the schema; NULL: the defaults). NULL on failure with *err
 * filled. `pool` is borrowed until instance_close, *sink is copied and may be NULL. [load] */
instance *instance_open(const char *path, const char *id, const json_t *values, frame_pool *pool,
                        const instance_sink *sink, scope_error *err);
void instance_close(instance *in); /* [load] NULL is fine */

const char *instance_id(const instance *in);
const schema *instance_schema(const instance *in);
/* What process() is to be fed, as init() left it: t = 0 for a generator; h, w, c, dtype. h and w
 * are 0 when any size will do, c when any channels will. */
const scope_video *instance_want(const instance *in);

/* Put new values in force from the next frame on: a partial object merged over the present ones,
 * all or nothing. Load parameters may only repeat their value. [frame] */
int instance_set(instance *in, const json_t *values, scope_error *err);
/* The values now in force; new reference. [frame] */
json_t *instance_values(const instance *in);

/* The time that a generator finds in out->pts_us at its next call; 0 until told. [frame] */
void instance_set_time(instance *in, int64_t pts_us);

/* Does the plugin know an input of this name beside its main one (SCOPE_INPUTS)? */
bool instance_knows_input(const instance *in, const char *name);
/* What it then gets at its next calls; NULL for none. `name` is borrowed, and f is referenced,
 * until another takes its place or instance_close. Negative with *err when there are too many.
 * [frame] */
int instance_set_input(instance *in, const char *name, frame *f, scope_error *err);

/* One call. `input` is NULL for a generator. *output is a frame to unref, or NULL when the plugin
 * emitted nothing; it may be `input` itself, referenced once more, when the plugin left it
 * unchanged. It carries the input's pts, unless the plugin set its own, and its duration. After
 * SCOPE_EDEVICE only instance_close is of use. [frame] */
int instance_process(instance *in, frame *input, frame **output, scope_error *err);
void instance_reset(instance *in); /* [frame] */

/* Stage times of the last frame where the plugin tells them (SCOPE_STAGES), else 0. [frame] */
int instance_stages(const instance *in, scope_stage *stages, int max);
/* Frames by which the last output lags behind its input (SCOPE_LATENCY): 0 to INSTANCE_LATENCY_MAX,
 * or -1 where the plugin does not tell, and so answers at once. [frame] */
enum { INSTANCE_LATENCY_MAX = 255 };
int instance_latency(const instance *in);
/* Frames so far that repeat an earlier one, where the plugin tells them (SCOPE_REPEATS), else 0.
 * [frame] */
int64_t instance_repeated(const instance *in);
/* line() for each line of what the plugin measured and chose, where it tells (SCOPE_PLAN). [frame]
 */
void instance_plan(const instance *in, void (*line)(void *ctx, const char *text), void *ctx);
/* Wall time of the last process() call in ms. [frame] */
double instance_last_ms(const instance *in);

/* The first thing the plugin did that its contract forbids but the host survived ("called
 * host->progress() in process()"), or NULL. */
const char *instance_misuse(const instance *in);

#endif
