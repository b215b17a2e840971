/* run_loop.h - the loop of a run: read, set keyframes, through the chain, write; shared by run
 * (real inputs and outputs) and bench (made-up ones).
 */
#ifndef HOST_RUN_LOOP_H
#define HOST_RUN_LOOP_H

#include "chain.h"
#include "progress.h"

enum { RUN_FAILURES_MAX = 10 }; /* in a row; then a plugin is held to be broken */

/* What comes in: a frame, or, for a generator, the time of a frame to be made. */
typedef struct run_tick {
    frame *in; /* owned by the loop; NULL for a generator */
    int64_t pts_us, duration_us;
} run_tick;

typedef struct run_job {
    chain *chain;    /* borrowed, as all of these */
    keyframes *keys; /* or NULL */
    progress *progress;
    void *ctx; /* of the calls below */
    /* The next tick: 1, 0 at the end, negative when the input broke. */
    int (*read)(void *ctx, run_tick *tick, scope_error *err);
    /* One frame of the output and the one it was made from (NULL for a generator). */
    int (*write)(void *ctx, const run_tick *tick, frame *out, scope_error *err);
    /* After each tick; `ms` inside plugins. May be NULL. */
    void (*done)(void *ctx, double ms);
    /* A plugin failed on a frame. May be NULL. */
    void (*failed)(void *ctx, const run_tick *tick, const char *plugin, const scope_error *err);
    int (*cancelled)(void); /* may be NULL */
    progress_counts counts; /* result */
    int64_t next_us;        /* result: where the next frame would begin */
    /* of the call under way */
    const run_tick *tick;
} run_job;

enum run_end {
    RUN_DONE = 1,
    RUN_CANCELLED,
    RUN_INPUT_BROKE,  /* what came before is good */
    RUN_PLUGIN_BROKE, /* what came before is good */
    RUN_OUTPUT_BROKE,
};

/* *err says what broke. [frame] */
enum run_end run_loop(run_job *job, scope_error *err);

#endif
