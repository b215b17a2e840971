/* crew.h - what the files of the server's side of remote.h share.
 *
 * remote.c the public functions; crew.c workers: which there are, start, restart; reader.c the
 * thread of a worker; process.c its process.
 *
 * Locks: worker.lock guards the worker and all its remotes, and is held for moments only, never
 * while anybody is called back or anything is waited for. remote.calling is held while a remote's
 * owner is called back; it comes before worker.lock.
 */
#ifndef WORKER_CREW_H
#define WORKER_CREW_H

#include "process.h"
#include "remote.h"
#include "shared.h"
#include "wire.h"

#include <string.h>

typedef struct worker worker;

struct remotes {
    remotes_options options;
    char *program;
    frame_pool *pool;      /* borrowed until remotes_free */
    GMainContext *context; /* of [main] */
    GPtrArray *workers;    /* [main] */
};

enum remote_state {
    REMOTE_LOADING = 1, /* its init() is under way, or will be when the worker has started */
    REMOTE_READY,
    REMOTE_FAILED, /* init() has failed; waits for remote_retry */
};

/* So many frames after a load, or a change of size, may take first_limit_ms. */
enum { REMOTE_YOUNG = 3 };

enum flight { FLIGHT_NONE, FLIGHT_CLAIMED, FLIGHT_SENT }; /* of a frame */

struct remote {
    int refs; /* atomic */
    worker *worker;
    uint32_t id;
    const schema *schema; /* borrowed until remote_close */
    enum media_fit fit;
    GMutex calling;
    remote_calls calls;
    bool closed; /* under `calling` */

    /* under worker.lock */
    enum remote_state state;
    bool opened;           /* this process knows it */
    json_t *asked, *force; /* owned; complete values: asked for last, and in force */
    uint64_t asked_generation, force_generation;
    uint64_t sent_generation; /* last one that this process was told */
    int unanswered;           /* messages with values that it has not answered */
    GHashTable *inputs;       /* name -> frame */
    enum flight flight;
    uint64_t serial;
    frame *sent; /* referenced while it is under way; NULL for a generator */
    int64_t sent_us, deadline_us;
    int young; /* frames that may still take first_limit_ms */
    int in_h, in_w;

    /* the frame's: of who has claimed the flight */
    shared in;
    uint64_t in_known; /* the worker's life that was told of it */
    /* the reading thread's */
    shared out;
};

struct worker {
    remotes *all;
    char *path, *id;
    const char *name; /* the last part of id */
    json_t *load;     /* owned; the load parameters */
    bool alone;

    GMutex lock;
    GPtrArray *members; /* of remote; each is referenced */
    uint32_t last_id;
    uint64_t life;   /* which process this is, counted */
    wire *wire;      /* NULL while there is no process */
    process process; /* the reading thread's, but for pid */
    int wake;        /* an eventfd that the reading thread listens to */
    bool stopping;   /* it was told to end, and has until stop_us */
    int64_t stop_us;
    char doomed[192]; /* why it is to be killed, "" when it is not */
    bool over;        /* the reading thread is done */
    GThread *thread;  /* [main] */
    GSource *source;  /* owned; starts the next process */
    int failures;     /* in a row */
    int restarts;
    bool worked;                  /* this process has answered a frame */
    int64_t started_us, ready_us; /* of this process; 0: not yet */
    char last_fault[192];
};

/* crew.c */
worker *worker_for(remotes *all, const remote_plugin *plugin, const json_t *values); /* [main] */
void worker_start(worker *w);                                                        /* [main] */
void worker_free(worker *w);                                                         /* [main] */
void worker_over(worker *w, int delay_ms); /* the reading thread is done [worker] */
void worker_hurry(worker *w);              /* start at once what waits to be started [main] */

/* With worker.lock held. */
void worker_tell_open(worker *w, remote *r); /* if there is a process to tell */
void worker_tell_values(worker *w, remote *r);
void worker_tell_input(worker *w, remote *r, const char *name, frame *f);
void worker_stop(worker *w); /* nobody needs the process any more */
void worker_wake(worker *w);
bool worker_has(const worker *w, enum remote_state state); /* a remote in this state */

remote *remote_ref(remote *r);
void remote_unref(remote *r);

/* reader.c */
gpointer reader_thread(gpointer w);

#endif
