/* cast.c - a stream's picture or sound in one codec, for any number of viewers; see cast.h.
 *
 * One tap and one encoder for each (stream, of, codec) that somebody watches; they stay for two
 * seconds after the last viewer, since pages are loaded anew. Encoders are opened and closed on
 * [main]; frames of another size wait for that, and do not wait for anything else.
 *
 * Locks, outermost first: push (the encoder while it is given a frame), viewers (while they are
 * given a packet), asks. An encoder is closed under none of them: its thread may be in packet().
 */
#include "cast.h"
#include "inside.h"
#include "../error.h"
#include "../log.h"
#include "../media/elements.h"
#include "../media/encoder.h"

#include <stdatomic.h>

enum {
    LINGER_MS = 2000,
    CHECK_MS = 1000,            /* has the encoder failed? */
    KEY_APART_US = 200000,      /* between two key frames that are asked for */
    KEY_APART_MAX_US = 3200000, /* for one viewer who loses packets again and again */
    RECOVERED_US = 5000000,     /* who takes all for so long is forgiven */
    BITRATE_MIN = 100000,
};

typedef struct cast {
    gint refs;      /* atomic: its own life and its viewers */
    stream *stream; /* borrowed until it is shut */
    enum cast_of of;
    enum codec codec;
    stream_tap *tap;     /* owned; NULL once shut */
    GSource *turn;       /* owned; wakes [main] to open, or for a key frame of a still picture */
    guint check, linger; /* [main]; timers, 0: none */

    GMutex push;
    encoder *encoder; /* owned; changed on [main] */
    int w, h;         /* of its pictures */
    int bitrate;      /* of its own accord */
    bool given;       /* it has been given a frame */
    frame *last;      /* referenced; the last one that came */
    int64_t key_us;   /* when a key frame was last asked of it */

    GMutex viewers_lock;
    GPtrArray *viewers; /* of cast_viewer; those that may get packets */
    atomic_bool slower; /* a viewer said what its way can carry */

    GMutex asks;
    int64_t key_due_us; /* when a key frame is wanted; 0: it is not */
} cast;

struct cast_viewer {
    cast *cast; /* referenced */
    cast_calls calls;
    bool counted; /* [main] */
    atomic_int bitrate;
    /* under viewers_lock */
    bool flowing;
    _Atomic int64_t missed;
    int64_t lost_us, apart_us; /* when it last lost something; its share of patience */
};

/* A source that is woken by its ready time. */
typedef struct turn_source {
    GSource base;
    cast *cast; /* borrowed: destroyed before it */
} turn_source;

int cast_can(enum codec codec, scope_error *err)
{
    static const char *const elements[] = {
        [CODEC_VP8] = "vp8enc", [CODEC_JPEG] = "jpegenc", [CODEC_OPUS] = "opusenc"};
    int status = media_init(err);
    if (status < 0)
        return status;
    if (codec == CODEC_H264) /* either will do; the one that is free of GPL is named */
        return media_has("x264enc") ? 0 : media_need("openh264enc", err);
    return media_need(elements[codec], err);
}

static void cast_unref(cast *c)
{
    if (!g_atomic_int_dec_and_test(&c->refs))
        return;
    g_source_unref(c->turn);
    g_ptr_array_unref(c->viewers);
    g_mutex_clear(&c->push);
    g_mutex_clear(&c->viewers_lock);
    g_mutex_clear(&c->asks);
    g_free(c);
}

/* ---- key frames ------------------------------------------------------------------------------ */

static void ask_key(cast *c, int64_t due_us)
{
    g_mutex_lock(&c->asks);
    if (!c->key_due_us || due_us < c->key_due_us)
        c->key_due_us = due_us;
    int64_t wake_us = c->key_due_us + KEY_APART_US; /* where no frame comes until then */
    g_mutex_unlock(&c->asks);
    g_source_set_ready_time(c->turn, wake_us);
}

/* Is it time for one? Then it counts as asked for. Push lock held. */
static bool key_is_due(cast *c, int64_t now_us)
{
    g_mutex_lock(&c->asks);
    bool due = c->key_due_us && now_us >= c->key_due_us && now_us - c->key_us >= KEY_APART_US;
    if (due)
        c->key_due_us = 0;
    g_mutex_unlock(&c->asks);
    if (due)
        c->key_us = now_us;
    return due;
}

/* ---- to the viewers: the encoder's thread ---------------------------------------------------- */

/* It could not take a packet. Who loses again and again waits longer each time, so that key frames
 * for one do not cost all others their picture. */
static int64_t lose(cast_viewer *v, int64_t now_us)
{
    bool again = v->lost_us && now_us - v->lost_us < RECOVERED_US;
    v->apart_us = again ? MIN(2 * v->apart_us, KEY_APART_MAX_US) : KEY_APART_US;
    v->lost_us = now_us;
    v->flowing = false;
    return now_us + v->apart_us - KEY_APART_US;
}

static void on_packet(void *ctx, packet *p)
{
    cast *c = ctx;
    int64_t now_us = g_get_monotonic_time(), due_us = 0;
    g_mutex_lock(&c->viewers_lock);
    for (guint i = 0; i < c->viewers->len; i++) {
        cast_viewer *v = g_ptr_array_index(c->viewers, i);
        if (v->flowing || p->key) {
            v->flowing = v->calls.packet(v->calls.ctx, p);
            if (v->flowing)
                continue;
            int64_t when_us = lose(v, now_us);
            due_us = due_us ? MIN(due_us, when_us) : when_us;
        }
        atomic_fetch_add(&v->missed, 1);
    }
    g_mutex_unlock(&c->viewers_lock);
    if (due_us)
        ask_key(c, due_us);
}

/* What all of them can take, of what the encoder would make by itself. */
static int slowest(cast *c)
{
    int bitrate = c->bitrate;
    g_mutex_lock(&c->viewers_lock);
    for (guint i = 0; i < c->viewers->len; i++) {
        cast_viewer *v = g_ptr_array_index(c->viewers, i);
        int its = atomic_load(&v->bitrate);
        if (its > 0)
            bitrate = MIN(bitrate, MAX(its, BITRATE_MIN));
    }
    g_mutex_unlock(&c->viewers_lock);
    return bitrate;
}

static bool is_watched(cast *c)
{
    g_mutex_lock(&c->viewers_lock);
    bool watched = c->viewers->len > 0;
    g_mutex_unlock(&c->viewers_lock);
    return watched;
}

/* ---- into the encoder: the tap's thread ------------------------------------------------------ */

/* Push lock held. */
static void push(cast *c, frame *f, int64_t now_us)
{
    if (atomic_exchange(&c->slower, false))
        encoder_bitrate(c->encoder, slowest(c));
    if (key_is_due(c, now_us))
        encoder_keyframe(c->encoder);
    c->given |= encoder_push(c->encoder, f);
}

static void on_frame(void *ctx, frame *f)
{
    cast *c = ctx;
    g_mutex_lock(&c->push);
    frame *before = c->last;
    c->last = frame_ref(f);
    bool fits = c->encoder && c->w == f->v.w && c->h == f->v.h;
    if (fits && is_watched(c))
        push(c, f, g_get_monotonic_time());
    g_mutex_unlock(&c->push);
    frame_unref(before);
    if (!fits)
        g_source_set_ready_time(c->turn, 0);
}

static void on_sound(void *ctx, GstBuffer *sound)
{
    cast *c = ctx;
    g_mutex_lock(&c->push);
    if (c->encoder && is_watched(c))
        encoder_push_sound(c->encoder, gst_buffer_ref(sound));
    g_mutex_unlock(&c->push);
}

/* ---- on [main] ------------------------------------------------------------------------------- */

/* People who look at it; sound alone is not looked at. */
static void count(cast_viewer *v, int by)
{
    bool counts = v->cast->codec != CODEC_OPUS && v->counted == (by < 0);
    if (counts)
        stream_count_viewer(v->cast->stream, by);
    if (counts)
        v->counted = by > 0;
}

static void set_encoder(cast *c, encoder *e, int w, int h, int bitrate)
{
    g_mutex_lock(&c->push);
    encoder *before = c->encoder;
    c->encoder = e;
    c->w = w;
    c->h = h;
    c->bitrate = bitrate;
    c->given = false;
    g_mutex_unlock(&c->push);
    atomic_store(&c->slower, true);
    encoder_close(before);
}

static int open_encoder(cast *c, int w, int h, scope_error *err)
{
    const live_options *o = live_settings(stream_live(c->stream));
    int by_size = (int)CLAMP((int64_t)w * h * 57 / 10, 2 * BITRATE_MIN, 50000000);
    encoder_options eo = {.codec = c->codec, .w = w, .h = h, .h264 = o->h264};
    if (c->codec != CODEC_OPUS)
        eo.bitrate = o->bitrate > 0 ? o->bitrate : by_size;
    encoder *e = encoder_open(&eo, on_packet, c, err);
    if (!e)
        return err->status ? err->status : SCOPE_EIO;
    set_encoder(c, e, w, h, eo.bitrate);
    return 0;
}

/* Nobody gets anything any more; those who watch are told. */
static void shut(cast *c, const scope_error *err)
{
    if (!c->tap)
        return;
    GPtrArray *casts = stream_attached(c->stream, "casts");
    if (casts)
        g_ptr_array_remove(casts, c);
    stream_tap_close(c->tap);
    c->tap = NULL;
    g_source_destroy(c->turn);
    g_clear_handle_id(&c->check, g_source_remove);
    g_clear_handle_id(&c->linger, g_source_remove);
    set_encoder(c, NULL, 0, 0, 0);
    g_mutex_lock(&c->push);
    frame *last = g_steal_pointer(&c->last);
    g_mutex_unlock(&c->push);
    frame_unref(last);
    while (c->viewers->len) { /* who is told may leave, or make others leave */
        g_mutex_lock(&c->viewers_lock);
        cast_viewer *v = g_ptr_array_steal_index(c->viewers, 0);
        g_mutex_unlock(&c->viewers_lock);
        count(v, -1);
        if (v->calls.ended)
            v->calls.ended(v->calls.ctx, err);
    }
    cast_unref(c);
}

/* The last frame for who has none yet, or as a key frame for who lost the picture. */
static void push_last(cast *c)
{
    int64_t now_us = g_get_monotonic_time(), next_us = -1;
    g_mutex_lock(&c->push);
    g_mutex_lock(&c->asks);
    if (c->key_due_us)
        next_us = MAX(c->key_due_us, c->key_us + KEY_APART_US);
    g_mutex_unlock(&c->asks);
    bool can = c->encoder && c->last && is_watched(c);
    if (can && (!c->given || (next_us >= 0 && now_us >= next_us))) {
        frame *again = stream_frame_again(c->stream, c->last, now_us);
        if (again)
            push(c, again, now_us);
        frame_unref(again);
        next_us = -1;
    }
    g_mutex_unlock(&c->push);
    if (can && next_us >= 0)
        g_source_set_ready_time(c->turn, next_us);
}

static gboolean on_turn(GSource *source, GSourceFunc fn, gpointer data)
{
    (void)fn, (void)data;
    cast *c = ((turn_source *)source)->cast;
    scope_error err = {0};
    int w = 0, h = 0, status = 0;
    g_source_set_ready_time(source, -1);
    g_mutex_lock(&c->push);
    if (c->last && (!c->encoder || c->w != c->last->v.w || c->h != c->last->v.h)) {
        w = c->last->v.w;
        h = c->last->v.h;
    }
    g_mutex_unlock(&c->push);
    if (w && is_watched(c))
        status = open_encoder(c, w, h, &err);
    if (status < 0)
        shut(c, &err);
    else
        push_last(c);
    return G_SOURCE_CONTINUE;
}

static gboolean on_check(gpointer p)
{
    cast *c = p;
    scope_error err = {0};
    if (!c->encoder || !encoder_failed(c->encoder, &err))
        return G_SOURCE_CONTINUE;
    log_line(SCOPE_ERROR, stream_id(c->stream), "%s", err.text);
    c->check = 0;
    shut(c, &err);
    return G_SOURCE_REMOVE;
}

static gboolean on_linger(gpointer p)
{
    cast *c = p;
    c->linger = 0;
    shut(c, NULL);
    return G_SOURCE_REMOVE;
}

static void casts_free(gpointer p)
{
    GPtrArray *casts = p;
    while (casts->len)
        shut(g_ptr_array_steal_index(casts, 0), NULL);
    g_ptr_array_unref(casts);
}

static cast *find(GPtrArray *casts, enum cast_of of, enum codec codec)
{
    for (guint i = 0; i < casts->len; i++) {
        cast *c = g_ptr_array_index(casts, i);
        if (c->of == of && c->codec == codec)
            return c;
    }
    return NULL;
}

static cast *new_cast(stream *s, enum cast_of of, enum codec codec)
{
    static GSourceFuncs funcs = {.dispatch = on_turn};
    cast *c = g_new0(cast, 1);
    c->refs = 1;
    c->stream = s;
    c->of = of;
    c->codec = codec;
    c->viewers = g_ptr_array_new();
    g_mutex_init(&c->push);
    g_mutex_init(&c->viewers_lock);
    g_mutex_init(&c->asks);
    c->turn = g_source_new(&funcs, sizeof(turn_source));
    ((turn_source *)c->turn)->cast = c;
    g_source_attach(c->turn, NULL);
    c->check = g_timeout_add(CHECK_MS, on_check, c);
    return c;
}

/* Begin to take what the stream shows. */
static void tap(cast *c)
{
    stream_tap_calls calls = {.ctx = c};
    if (c->codec == CODEC_OPUS)
        calls.sound = on_sound;
    else
        calls.frame = on_frame;
    c->tap = c->of == CAST_SOURCE
                 ? stream_source_tap_open(c->stream, "cast", codec_name(c->codec), &calls)
                 : stream_tap_open(c->stream, "cast", codec_name(c->codec), &calls);
}

/* The cast, which is new where there was none; NULL with *err. */
static cast *need_cast(stream *s, enum cast_of of, enum codec codec, scope_error *err)
{
    GPtrArray *casts = stream_attached(s, "casts");
    cast *c = casts ? find(casts, of, codec) : NULL;
    if (c)
        return c;
    if (cast_can(codec, err) < 0)
        return NULL;
    if (!casts) {
        casts = g_ptr_array_new();
        stream_attach(s, "casts", casts, casts_free);
    }
    c = new_cast(s, of, codec);
    g_ptr_array_add(casts, c);
    tap(c);
    if (codec == CODEC_OPUS && open_encoder(c, 0, 0, err) < 0) {
        shut(c, err);
        return NULL;
    }
    return c;
}

cast_viewer *cast_join(stream *s, enum cast_of of, enum codec codec, const char *kind,
                       const char *about, const cast_calls *calls, scope_error *err)
{
    cast *c = need_cast(s, of, codec, err);
    if (!c)
        return NULL;
    cast_viewer *v = g_new0(cast_viewer, 1);
    v->cast = c;
    v->calls = *calls;
    g_atomic_int_inc(&c->refs);
    g_clear_handle_id(&c->linger, g_source_remove);
    g_mutex_lock(&c->viewers_lock);
    g_ptr_array_add(c->viewers, v);
    g_mutex_unlock(&c->viewers_lock);
    count(v, 1);
    atomic_store(&c->slower, true);
    ask_key(c, g_get_monotonic_time());
    g_mutex_lock(&c->push);
    bool given = c->given;
    g_mutex_unlock(&c->push);
    if (!given)
        g_source_set_ready_time(c->turn, 0);
    log_line(SCOPE_DEBUG, stream_id(s), "%s %s watches as %s", kind, about, codec_name(codec));
    return v;
}

void cast_leave(cast_viewer *v)
{
    if (!v)
        return;
    cast *c = v->cast;
    g_mutex_lock(&c->viewers_lock);
    g_ptr_array_remove(c->viewers, v);
    bool last = !c->viewers->len;
    g_mutex_unlock(&c->viewers_lock);
    count(v, -1);
    atomic_store(&c->slower, true);
    if (c->tap && last && !c->linger)
        c->linger = g_timeout_add(LINGER_MS, on_linger, c);
    cast_unref(c);
    g_free(v);
}

void cast_keyframe(cast_viewer *v)
{
    ask_key(v->cast, g_get_monotonic_time());
}

void cast_bitrate(cast_viewer *v, int bitrate)
{
    atomic_store(&v->bitrate, bitrate);
    atomic_store(&v->cast->slower, true);
}

int64_t cast_missed(const cast_viewer *v)
{
    return atomic_load(&v->missed);
}
