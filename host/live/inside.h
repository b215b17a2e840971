/* inside.h - what the files of a stream share: the stream, its stages, the queue to [main].
 *
 * Under live. A stage is one plugin of a stream: its remote, its mailbox, its values. The frame
 * path (stream_frames.c) runs on whatever thread brings a frame or an answer and only ever takes
 * stream.lock, for some lines; plugins are exchanged (stream_chain.c), values are asked for and
 * answered (stream_values.c) and states are told (stream_state.c) on [main].
 *
 * Locks, outermost first. None is held while a remote is closed, since that waits for its
 * callbacks. live.pace_lock     while the pacer sends for a generator stream_tap.lock    while a
 * tap is called: it waits for no other tap, and [main] for one frame stream.source_lock while a
 * source's frame is given 3 channels stream.lock        mailboxes, numbers, the lists of taps, the
 * last frame; nothing is called under it but a GSource's ready time and what needs no lock
 *   live.notes_lock    a leaf
 *
 * Who may still run when: a remote's callbacks until remote_close has returned; a thread inside
 * remote_process until stage.sending is false, which stage_close waits for. So a stream, which is
 * freed after its stages are closed and its inputs and taps have let go of it, is in no thread's
 * hands then.
 */
#ifndef LIVE_INSIDE_H
#define LIVE_INSIDE_H

#include "live.h"

enum {
    GENERATOR_FPS = 30, /* at most; a plugin that makes frames by itself is slower or waits */
    TICK_MS = 200,      /* how often the last frame is repeated, and states are looked at */
    SILENCE_MS = 2000,  /* without a frame for so long a stream is offline */
    DRAIN_MS = 1000,    /* the time that exchanged plugins have for their last frame */
    ROOM_MS = 500,      /* after others were closed to make room, until a load is tried again */
    FAILURES_MAX = 3,   /* calls in a row that a plugin may fail before people are told */
    LOGS_WAITING_MAX = 100,
    FPS_KEPT = 512,
    SERIES_KEPT = 256,
};

/* ---- numbers --------------------------------------------------------------------------------- */

typedef struct times {
    int64_t at_us[FPS_KEPT]; /* the last ones */
    unsigned count;
} times;

typedef struct series {
    float at[SERIES_KEPT]; /* the last ones */
    unsigned count;
} series;

void times_add(times *t, int64_t now_us);
void series_add(series *s, double value);

/* ---- stages ---------------------------------------------------------------------------------- */

/* Somebody asked for values and waits for the word that they are in force. */
typedef struct ask {
    uint64_t sent;       /* the remote's generation; 0: those that it was opened with */
    uint64_t generation; /* the stream's */
    const char *by;      /* static */
    uint64_t tag;
} ask;

typedef struct stage stage;

/* Where a stage's frames go. */
typedef struct hop {
    stage *to; /* or NULL, then: */
    bool out;  /* to the taps; else nowhere */
} hop;

struct stage {
    gint refs;            /* atomic */
    stream *stream;       /* borrowed until stage_close */
    char *plugin, *path;  /* owned */
    const schema *schema; /* the live's */
    remote *remote; /* owned; [main] sets and closes it, frames use it while it is installed */

    /* [main] */
    json_t *load;        /* owned; its load parameters */
    json_t *asked;       /* owned; complete; what was asked for last */
    json_t *in_force;    /* owned; NULL before the first ready */
    GArray *asks;        /* of ask, the oldest first */
    uint64_t generation; /* the stream's, of what was asked for last */
    uint64_t answered;   /* the remote's, of what is in force */
    scope_error refusal; /* what the plugin said of `answered`; status 0: nothing */
    scope_error fault;   /* while it is down */
    int index;           /* in the chain that people see */
    int64_t retry_us;    /* when a second try for want of memory is due; 0: none is */
    int64_t told_us;     /* when its failing was last logged */
    bool installed;      /* it is, or was, part of the chain that works */
    bool generator;      /* as its last ready said */
    bool ever_ready, down, failed, second_try, closed;
    bool recovering; /* started again, and has not answered a frame yet */
    GSource *pace;   /* owned; of a generator */

    /* stream.lock */
    frame *waiting; /* referenced: the mailbox */
    unsigned waiting_version, flight_version;
    unsigned renewed; /* version of the chain that its values belong to: what it answers to a frame
                         of an older one would be half of each */
    double waiting_ms, flight_ms; /* inside the plugins before */
    scope_video want;
    bool ready, busy;   /* busy: the remote has a frame */
    bool sending;       /* a thread is about to give it one */
    bool gone;          /* gets nothing more */
    bool retired;       /* has been exchanged, and finishes its last frames */
    unsigned epoch;     /* counts readies */
    hop next, old_next; /* for frames of this version, and of the one before */
    int64_t due_us;     /* a generator's next frame */
    int64_t repeated;
    int failures; /* in a row */
    bool proven;  /* has answered a frame since it was ready */
    int logs_waiting;
    converter *convert; /* owned; the sender's */
};

/* A chain that loads beside the one that works. */
typedef struct plan {
    int count;
    stage *at[STREAM_LINKS_MAX];      /* those not installed are the plan's own */
    json_t *values[STREAM_LINKS_MAX]; /* owned; of a kept stage, to be set at the swap; or NULL */
    GArray *asks[STREAM_LINKS_MAX];   /* owned; of ask: who wants them; NULL like values */
} plan;

struct stream_input {
    stream *stream; /* referenced */
    const char *kind;
    char *about; /* owned */
    stream_input_calls calls;
};

struct stream_tap {
    gint refs;      /* atomic: the list's and the owner's */
    stream *stream; /* referenced until it is closed */
    const char *kind;
    char *about; /* owned */
    stream_tap_calls calls;
    bool of_source;
    GRecMutex lock; /* a tap may close itself from its own call */
    bool closed;    /* under lock, as the next */
    uint64_t seen;  /* the number of the last frame it was given */
};

typedef struct attached {
    char *what; /* owned */
    void *data;
    GDestroyNotify destroy;
} attached;

struct stream {
    int refs; /* [main] */
    live *live;
    char *id, *name, *publish_key, *playback_id; /* owned */
    char *log_name;                              /* owned */
    int64_t created_ms;
    bool ended; /* [main]; and frames stop under lock */

    /* [main] */
    enum stream_state state;
    char *notice;      /* owned; of the state that was told */
    char *remark;      /* owned; of the last change of plugins, or NULL */
    json_t *before;    /* owned; the plugins that made room for others, until those work; or NULL */
    GHashTable *notes; /* what others want people to know: who -> text */
    GArray *attached;  /* of attached */
    plan *plan;        /* owned, or NULL */
    GPtrArray *retired; /* of stage, owned; being drained */
    int64_t retired_us, closed_us;
    uint64_t generation;
    GHashTable *second; /* name -> frame: inputs beside the main one */

    GMutex lock;
    GCond idle;                      /* a `sending` ended */
    stage *active[STREAM_LINKS_MAX]; /* owned by [main], which changes it under lock */
    int count;
    unsigned version, shown_version; /* of the chain; of the frame shown last */
    stream_input *input;             /* the one that holds the stream, or NULL */
    GPtrArray *taps, *source_taps;   /* of stream_tap; replaced, never changed; NULL: none */
    frame *last;                     /* referenced */
    uint64_t seq, source_seq;
    int64_t last_sound_us;
    bool flowing; /* frames come */
    enum media_fit fit;
    stream_stats sum; /* the counts; the rest is filled by stream_stats_now */
    times in, out;
    series model, age;

    GMutex source_lock;
    converter *to_three; /* owned; source_lock */
    gint viewers;        /* atomic */
};

/* ---- live.c: to [main] and to listeners ------------------------------------------------------ */

enum note_kind {
    NOTE_READY = 1,
    NOTE_DOWN,
    NOTE_VALUES,
    NOTE_PROGRESS,
    NOTE_LOG,
    NOTE_LOOK,
    NOTE_WOKEN
};

/* Something that a thread tells [main]. */
typedef struct note {
    enum note_kind kind;
    stage *stage;   /* referenced; NULL for WOKEN */
    stream *stream; /* WOKEN: to be looked for, it may be gone */
    json_t *values; /* owned */
    uint64_t generation;
    scope_error err; /* status 0: none */
    int retry_ms, level;
    double done;
    bool generator; /* READY */
    char *text;     /* owned */
} note;

void live_note(live *l, note *n);     /* takes it [any] */
void stream_hear(stream *s, note *n); /* acts on it; stream_state.c [main] */
/* Copies *e, values, error and text, and tells it to the listeners from the main loop. [main] */
void live_emit(live *l, const stream_event *e);
stream *stream_ref(stream *s); /* [main] */
void stream_unref(stream *s);  /* [main] */
int stream_check_name(const char *name, scope_error *err);
stream *stream_new(live *l, const char *name);
/* Closes what works and lets the input go; listeners hear of it, then what is attached goes. */
void stream_end(stream *s);
/* After the listeners have heard of the end. */
void stream_detach_all(stream *s);
/* The source of a generator: sends when its ready time comes, on the pacer's thread. */
GSource *live_pace(live *l, stage *g);
void live_unpace(live *l, GSource *pace); /* it does not run any more after this */

/* ---- stream_frames.c ------------------------------------------------------------------------- */

extern const remote_calls stage_calls; /* but for ctx, the stage */
/* Send what waits, where that is possible. [any] */
void stage_pump(stage *g);
/* Make `at` the chain that works; frames of the old one go their old way to the end. [main] */
void frames_install(stream *s, stage *const *at, int count);
/* The stage is about to get values of the chain that is installed next. */
void frames_renew(stage *g);
/* No frame of the old chain is under way any more. [main] */
bool frames_drained(stream *s);

/* ---- stream_taps.c --------------------------------------------------------------------------- */

GPtrArray *taps_ref(GPtrArray *taps); /* NULL is fine */
/* To each of the list, whose reference is consumed; NULL is fine. [any] */
void taps_give(GPtrArray *taps, frame *f, uint64_t seq);
/* A frame at its end, made by the chain of that version. [any] */
void taps_show(stream *s, frame *f, unsigned version, double model_ms, bool through_plugins);
/* The last frame once more, with a time of its own. [main] */
void frames_repeat(stream *s, int64_t now_us);
void frames_stop(stream *s); /* no tap is called by frames after this but those being called */

/* ---- stream_stage.c -------------------------------------------------------------------------- */

/* A link that somebody asks for. */
typedef struct want {
    const char *plugin, *path; /* borrowed */
    const schema *schema;
    json_t *values; /* owned; complete */
} want;

/* The stage loads its values, for `by` and `tag`, who are told when they are in force. NULL with
 * *err. */
stage *stage_open(stream *s, const want *w, const char *by, uint64_t tag, scope_error *err);
void stage_close(stage *g); /* and gives up [main]'s reference */
stage *stage_ref(stage *g);
void stage_unref(stage *g); /* [any] */

/* ---- stream_chain.c -------------------------------------------------------------------------- */

stage *stage_at(const stream *s, int link); /* of the chain that people see, or NULL */
int stage_count(const stream *s);
json_t *stage_values(const stream *s, int link); /* asked for last; borrowed */
/* Change one stage's values so that it loads anew. Negative with *err. */
int plan_reload(stream *s, int link, json_t *values, const char *by, uint64_t tag,
                scope_error *err);
void plan_loaded(stream *s);                                     /* swap when all is ready */
void plan_failed(stream *s, stage *g, const scope_error *fault); /* a stage of the plan */
/* A stage for which others made room has failed: load those again. */
void plan_back(stream *s, stage *g, const scope_error *fault);
void chain_try_later(stage *g); /* others are gone: perhaps there is memory now */
void plan_tick(stream *s, int64_t now_us);
void plan_close(stream *s);

/* ---- stream_values.c ------------------------------------------------------------------------- */

/* Ask the remote for complete values, for `count` who wait for them. */
void stage_ask(stage *g, json_t *values, const ask *asks, guint count);
/* The remote's word; takes `values`. */
void stage_answered(stage *g, json_t *values, uint64_t sent, const scope_error *err);
/* Tell what is in force to those who wait for it, once the stage is installed; `always`: and to all
 * others. */
void stage_tell_values(stage *g, bool always);
/* Nobody will answer those who wait: tell them why. */
void stage_refuse(stage *g, const scope_error *err);
void stage_refuse_these(stage *g, const GArray *asks, const scope_error *err);

/* ---- stream_state.c -------------------------------------------------------------------------- */

void stage_retry(stage *g);    /* after it failed */
void stream_settle(stream *s); /* what state it is in now; tells a change [main] */
void stream_remark(stream *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void stream_went_wrong(stream *s, const char *text); /* keep it as the last error [any] */
void stream_tick(stream *s, int64_t now_us);

/* ---- for cast.c ------------------------------------------------------------------------------ */

void stream_count_viewer(stream *s, int by); /* [any] */
/* The same picture at another time; NULL without memory. [any] */
frame *stream_frame_again(stream *s, frame *f, int64_t pts_us);

#endif
