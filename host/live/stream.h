/* stream.h - one live picture: a source, plugins in a row, and whoever watches.
 *
 * Under live. Before every plugin there is a mailbox for one frame: the newest replaces the one
 * that waits, which counts as dropped. Nothing queues, so what is shown is never older than what
 * the plugins take. Whatever happens to a plugin, the stream goes on showing its last good frame.
 *
 * Threads  [main] the GLib main loop; [any] any thread, also many at once.
 */
#ifndef LIVE_STREAM_H
#define LIVE_STREAM_H

#include "../frame.h"
#include "../media/convert.h"
#include "../../schema/schema.h"

#include <gst/gst.h>
#include <jansson.h>
#include <stdbool.h>

typedef struct live live;
typedef struct stream stream;

enum { STREAM_LINKS_MAX = 8 };

enum stream_state {
    STREAM_EMPTY = 1, /* no plugins: the source is shown as it is */
    STREAM_LOADING,   /* the first plugins are loading; nothing to show yet */
    STREAM_OFFLINE,   /* ready, but no frame has come for two seconds */
    STREAM_ONLINE,    /* frames come and go */
    STREAM_RELOADING, /* shows the last good frame, or the old plugins, while others load */
    STREAM_DEGRADED,  /* a plugin fails or is being restarted: shows the last good frame */
    STREAM_FAILED,    /* a plugin cannot be loaded; waits for other values or stream_retry */
};
const char *stream_state_name(enum stream_state s); /* "online" */

/* What happens to a stream, told on [main], in order. */
enum stream_event_kind {
    STREAM_CREATED = 1,
    STREAM_ENDED,
    STREAM_STATE,    /* state, notice, source, outputs or chain changed */
    STREAM_VALUES,   /* values are in force, or were refused (err) */
    STREAM_PROGRESS, /* a plugin is loading */
    STREAM_LOG,      /* a plugin logged a line */
};
typedef struct stream_event {
    enum stream_event_kind kind;
    stream *stream;
    int link;               /* of VALUES, PROGRESS, LOG */
    const json_t *values;   /* VALUES: all that are in force now */
    uint64_t generation;    /* VALUES */
    const char *by;         /* VALUES: who asked: "page", "rest", "osc", "load", ... */
    uint64_t tag;           /* VALUES: the caller's number in stream_set, 0 when it has none */
    const scope_error *err; /* VALUES: refused by the plugin, or NULL */
    double done;            /* PROGRESS, 0..1 */
    int level;              /* LOG */
    const char *text;       /* PROGRESS: the phase; LOG: the line */
} stream_event;
typedef void (*stream_listener)(void *ctx, const stream_event *e);

/* ---- who it is [main] ------------------------------------------------------------------------ */

const char *stream_id(const stream *s);
const char *stream_name(const stream *s);
int stream_rename(stream *s, const char *name, scope_error *err);
const char *stream_publish_key(const stream *s); /* "stk_...": who has it may publish */
const char *stream_playback_id(const stream *s); /* "pbk_...": who has it may watch */
int64_t stream_created_ms(const stream *s);      /* since 1970 */
enum stream_state stream_state_now(const stream *s);
/* What a person should know now ("invert crashed (Segmentation fault); starting it again"), or "".
 */
const char *stream_notice(const stream *s);
/* Something else that a person should know, as part of the notice: what becomes of a source or an
 * output. `who` tells them apart; NULL takes it back. Tells STREAM_STATE. */
void stream_notify(stream *s, const char *who, const char *text);
live *stream_live(const stream *s);
/* Tell listeners (STATE) that something kept with it is different: the source, an output. [main] */
void stream_changed(stream *s);
/* Things that others keep with a stream (the Daydream parameters); destroyed when listeners have
 * heard of its end, or when another (or NULL) takes their place. */
void stream_attach(stream *s, const char *what, void *data, GDestroyNotify destroy);
void *stream_attached(const stream *s, const char *what);

/* ---- plugins and parameters [main] ----------------------------------------------------------- */

/* Put these plugins in the place of those there are: [{"plugin": id, "values": {...}}]. They load
 * beside the old ones, which go on until the new ones are ready; the change is made between two
 * frames. Links that keep their plugin and load parameters keep their instance. What follows is
 * told by events. Negative with *err, and nothing changed, when a plugin or a value is refused. */
int stream_chain(stream *s, const json_t *chain, scope_error *err);
int stream_links(const stream *s);
const char *stream_link_plugin(const stream *s, int link); /* its id */
const schema *stream_link_schema(const stream *s, int link);
/* What was asked for last, complete; a new reference. It is in force when a VALUES event of at
 * least its generation says so. */
json_t *stream_link_values(const stream *s, int link);
/* The link that an id, or its last dotted part, names; or -1. */
int stream_link_find(const stream *s, const char *plugin);

/* May a change of load parameters be made by loading anew? */
enum stream_reload { STREAM_REFUSE_RELOAD = 1, STREAM_RELOAD };
/* Merge a partial object into the values of a link, from the next frame on. Returns the generation
 * that the answering VALUES event names; 0 when it makes a reload (told by events); negative with
 * *err when the schema refuses, or when a load parameter changes and may not. The event carries
 * `by` (static) and `tag`. */
int64_t stream_set(stream *s, int link, const json_t *values, enum stream_reload reload,
                   const char *by, uint64_t tag, scope_error *err);
/* Is a reload all that stands against these values? False for what the schema refuses. */
bool stream_would_reload(stream *s, int link, const json_t *values);
/* Forget what earlier frames left in the plugins. */
void stream_reset(stream *s);
/* After FAILED: load again. */
void stream_retry(stream *s);

/* ---- frames in ------------------------------------------------------------------------------- */

/* Whoever publishes holds the stream's one input: the newest wins, and the one before is told. */
typedef struct stream_input stream_input;
typedef struct stream_input_calls {
    void *ctx;
    void (*replaced)(void *ctx); /* another has taken the stream, or it ends: stop; [main] */
} stream_input_calls;

/* `kind` (static): "whip", "websocket", "url", ...; `about`, for people: an address, a file's name.
 * [main] */
stream_input *stream_input_open(stream *s, const char *kind, const char *about,
                                const stream_input_calls *calls);
/* Also after replaced(). Nothing of the input is used after this. NULL is fine. [main] */
void stream_input_close(stream_input *in);
/* A frame, t = 1, 3 or 4 channels, U8, any size, with its capture time on g_get_monotonic_time's
 * clock in pts_us. It stays the caller's; what comes after replaced() is dropped. [any] */
void stream_input_frame(stream_input *in, frame *f);
/* Sound: interleaved S16LE, 48 kHz, stereo, pts in nanoseconds of the same clock; transfer full.
 * [any] */
void stream_input_sound(stream_input *in, GstBuffer *sound);
/* The frames of a second input by name (SCOPE_INPUTS: "mask"); NULL takes it away. [main] */
int stream_second_input(stream *s, const char *name, frame *f, scope_error *err);
/* How a source of another shape is put into what a plugin wants. [main] */
void stream_fit(stream *s, enum media_fit fit);

/* ---- frames out ------------------------------------------------------------------------------ */

/* Somebody who takes what the stream shows: an encoder, a recording. */
typedef struct stream_tap stream_tap;
typedef struct stream_tap_calls {
    void *ctx;
    /* A finished frame: t = 1, U8, 3 channels, pts_us its capture time; to be referenced or copied
     * before returning. Must not block. [any], one at a time */
    void (*frame)(void *ctx, frame *f);
    /* Sound of the source as in stream_input_sound, to be referenced; may be NULL. [any] */
    void (*sound)(void *ctx, GstBuffer *sound);
} stream_tap_calls;

/* The last frame, where there is one, is given at once. `kind` (static) and `about` for people.
 * [main] */
stream_tap *stream_tap_open(stream *s, const char *kind, const char *about,
                            const stream_tap_calls *calls);
void stream_tap_close(stream_tap *tap); /* no call comes after this; NULL is fine [main] */
/* The same before any plugin: what the source brings. For A/B views. [main] */
stream_tap *stream_source_tap_open(stream *s, const char *kind, const char *about,
                                   const stream_tap_calls *calls);
bool stream_has_sound(const stream *s); /* sound has come within two seconds [any] */
frame *stream_last(stream *s);          /* the last frame shown, referenced, or NULL [any] */

/* ---- numbers --------------------------------------------------------------------------------- */

typedef struct stream_stats {
    int64_t frames_in, frames_out; /* so far */
    int64_t dropped;               /* replaced in a mailbox by a newer one */
    int64_t skipped;               /* calls for which a plugin emitted nothing */
    int64_t repeated;              /* frames that plugins repeated instead of making them */
    int64_t failed;                /* calls that a plugin failed */
    int restarts;                  /* of workers under this stream */
    double fps_in, fps_out;        /* over the last two seconds */
    /* Over the last 256 frames, ms: inside plugins; and from capture to shown. */
    double model_p50, model_p95, model_p99;
    double age_p50, age_p95, age_p99;
    int w, h;                        /* of the last frame out, 0 before the first */
    int64_t last_in_us, last_out_us; /* 0: never */
    int64_t last_set_us, started_us; /* parameters; the first frame out */
    int64_t last_error_us;
    char last_error[256]; /* "" when there was none */
    int viewers;          /* taps and casts that people look at */
} stream_stats;
void stream_stats_now(stream *s, stream_stats *stats); /* [any] */

/* The stream as JSON: everything above but the secrets, for REST, the page and people; new
 * reference. [main] */
json_t *stream_json(stream *s);
json_t *stream_stats_json(stream *s); /* its member "stats" alone; new reference [main] */

#endif
