/* outlet_parts.h - what the files of an outlet share: the outlet, its thread, its file.
 *
 * Threads: [main] makes, lists and ends outlets (outlet.c). Each has a thread (outlet_work.c) that
 * owns the muxer and, of a recording, the file (outlet_record.c). The tap's calls only fill the two
 * queues. The thread tells [main] by idle sources, and [main] joins it in the last of them.
 */
#ifndef LIVE_OUTLET_PARTS_H
#define LIVE_OUTLET_PARTS_H

#include "../media/muxer.h"
#include "live.h"
#include "outlet.h"

enum outlet_state {
    OUTLET_STARTING = 1,
    OUTLET_LIVE,
    OUTLET_RETRYING,
    OUTLET_FINISHING,
    OUTLET_DONE,
    OUTLET_FAILED,
};

/* The file of a recording. */
typedef struct record {
    char *path, *part; /* owned; the final name, and the one while it is written */
    int fd;            /* keeps the part locked, so that nobody takes it for a leftover; or -1 */
} record;

typedef struct outlet {
    struct outlets *all;
    char id[24];
    enum muxer_kind kind;
    const char *name;     /* static: of the kind */
    char *target, *about; /* owned; what is opened, and what people may see */
    record file;          /* of recordings */
    bool want_sound;
    int bitrate;
    char *started;                               /* owned; ISO 8601 */
    stream *stream;                              /* borrowed: outlets end with it */
    stream_tap *tap;                             /* owned [main] */
    GThread *thread;                             /* owned [main] */
    void (*done)(void *ctx, const json_t *last); /* or NULL [main] */
    void *done_ctx;

    GMutex lock; /* all that follow are under it */
    GCond wake;
    GQueue frames; /* of frame, referenced */
    GQueue sounds; /* of GstBuffer, owned */
    bool stop;     /* nothing comes any more: finish */
    enum outlet_state state;
    char reason[256];
    int64_t written, dropped, bytes, length_us;
    guint tell, end; /* sources of the main loop that are still to run */
} outlet;

/* ---- outlet_work.c --------------------------------------------------------------------------- */

extern const stream_tap_calls outlet_tap; /* its ctx is to be the outlet */
gpointer outlet_work(gpointer o);         /* the thread */
/* Set the state, and have [main] tell the stream's listeners. [any] */
void outlet_say(outlet *o, enum outlet_state state, const char *reason);
gboolean outlet_on_tell(gpointer o); /* outlet.c; [main] */
gboolean outlet_on_end(gpointer o);  /* outlet.c: the thread is about to end; [main] */

/* ---- outlet_record.c ------------------------------------------------------------------------- */

/* Make the part file, in the folder of recordings; `name` as asked for, or NULL: of the stream and
 * the time. Negative with *err when the name or the disk does not allow it. */
int record_open(record *r, live *l, const char *stream_name, const char *name, scope_error *err);
/* Is there still room to go on, and to finish? */
int record_check(const record *r, scope_error *err);
/* Give it its name: `whole`, or after it broke, cut down to what can be played; negative with *err
 * when nothing is left to be named. */
int record_keep(record *r, bool whole, scope_error *err);
void record_close(record *r); /* a part that was not kept is removed */

#endif
