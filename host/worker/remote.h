/* remote.h - an instance (instance.h) that works in another process.
 *
 * Under live/. A worker process is this same program; it holds one plugin with one set of load
 * parameters, and any number of instances of it, so that they share one copy of the weights. Its
 * death costs nobody but its own instances: they are told, and started again in a fresh worker with
 * the values that were last in force.
 *
 * Threads  [main] the thread of the GLib main loop; [worker] the one thread that reads what a
 *          worker process says: it may not wait for [main].
 */
#ifndef WORKER_REMOTE_H
#define WORKER_REMOTE_H

#include "../../schema/schema.h"
#include "../frame.h"
#include "../media/convert.h"

#include <glib.h>

typedef struct remotes remotes; /* all worker processes of a server */
typedef struct remote remote;   /* one instance in one of them */

typedef struct remotes_options {
    int frame_limit_ms;   /* a call of process() that takes longer is a hang; 0: 10 s */
    int first_limit_ms;   /* the same for the first frames after a load; 0: 120 s */
    int64_t memory_bytes; /* resident; a worker that grows beyond is replaced; 0: no limit */
    bool
        pass_environment; /* workers see the whole environment, as everything else does; else
                             without variables named after a token, a secret, a password or a key */
    const char *program;  /* that is started as `PROGRAM --worker FD`; NULL: this one */
} remotes_options;

/* What is known of a worker process, for status, metrics and people. */
typedef struct remotes_about {
    char plugin[96];
    int pid;       /* 0 while there is none */
    int instances; /* that it holds */
    int restarts;  /* since the first start */
    int64_t rss_bytes, started_us;
    char last_fault[256]; /* "" when it never failed */
} remotes_about;

/* `pool` makes the frames that come back; borrowed until remotes_free. [main] */
remotes *remotes_new(const remotes_options *o, frame_pool *pool);
void remotes_free(remotes *all); /* every remote must be closed; ends all workers [main] */
/* Fill at most `max`; returns how many workers there are. [main] */
int remotes_about_all(remotes *all, remotes_about *about, int max);

/* Why there is no instance right now. */
typedef struct remote_fault {
    scope_error err; /* what init() said, or how the worker died, in one sentence */
    int retry_ms;    /* a fresh worker is started after so long; -1: only remote_retry helps */
} remote_fault;

/* What one call of process() cost. */
typedef struct remote_cost {
    double process_ms; /* inside the plugin */
    double trip_ms;    /* from remote_process to the answer, in this process */
    int64_t repeated;  /* frames so far that repeat an earlier one (SCOPE_REPEATS) */
    int latency;       /* frames that the output lags behind (SCOPE_LATENCY); -1: not told */
} remote_cost;

/* What a remote tells; all [worker], one call at a time for one remote, none after remote_close has
 * returned. Pointers are borrowed until the call returns. Any member may be NULL. */
typedef struct remote_calls {
    void *ctx;
    /* init() is under way. `done` is 0..1. */
    void (*progress)(void *ctx, double done, const char *phase);
    /* init() has succeeded, the first time or again; `want` is what process() is fed (t = 0: a
     * generator). `values` are in force, those of generation `generation`. */
    void (*ready)(void *ctx, const scope_video *want, const json_t *values, uint64_t generation);
    /* There is no instance: init() failed, or the worker died or hung. A frame that was under way
     * is lost. */
    void (*down)(void *ctx, const remote_fault *fault);
    /* The answer to remote_process: a frame to keep a reference of; or NULL, with err when the call
     * failed, without when the plugin emitted nothing. */
    void (*result)(void *ctx, frame *out, const remote_cost *cost, const scope_error *err);
    /* The answer to remote_set: the values now in force, and what the plugin said against those
     * that were asked for, or NULL. Several quick remote_set have one answer. */
    void (*values)(void *ctx, const json_t *values, uint64_t generation, const scope_error *err);
    /* A line that the plugin logged (scope_level). */
    void (*log)(void *ctx, int level, const char *line);
} remote_calls;

typedef struct remote_plugin {
    const char *path, *id; /* of the library, and of the plugin in it */
    const schema *schema;  /* borrowed until remote_close: it tells load parameters apart */
    bool alone;            /* never share a worker, whatever the values */
    enum media_fit fit;    /* of frames into what it wants; 0: MEDIA_CROP */
} remote_plugin;

/* Start an instance with `values` (a partial object). It joins the worker that holds the same
 * plugin with equal load parameters, or starts one; the answer is ready() or down(). Fails only for
 * values that the schema refuses. [main] */
remote *remote_open(remotes *all, const remote_plugin *plugin, const json_t *values,
                    const remote_calls *calls, scope_error *err);
/* No call comes after this; it waits for one that is under way, so hold no lock that calls take.
 * NULL is fine. [main] */
void remote_close(remote *r);
/* After down() without a retry: try again at once. [main] */
void remote_retry(remote *r);

/* Ask for these values from the next frame on (complete, checked by schema_complete; load
 * parameters as they are). The latest wins: what has not been sent yet is replaced. Returns the
 * generation that ready() and values() will name. [any] */
uint64_t remote_set(remote *r, const json_t *values);
/* Forget earlier frames before the next one. [any] */
void remote_reset(remote *r);
/* A second input by name (SCOPE_INPUTS); NULL takes it away. [any] */
void remote_set_input(remote *r, const char *name, frame *f);

/* Send a frame, which stays the caller's; NULL makes a generator work, for the time pts_us. False
 * when the last one has not been answered yet, or there is no instance: keep the newest and send it
 * from result() or ready(). [any] */
bool remote_process(remote *r, frame *in, int64_t pts_us, int64_t duration_us);
int remote_pid(remote *r); /* of its worker, 0 while there is none [any] */

/* The child's side: `scope --worker FD`. Runs until the parent goes. */
int worker_child(const char *fd);

#endif
