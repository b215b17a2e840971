/* outlet_work.c - the thread of an outlet: from the queues into a muxer, again when that breaks.
 *
 * Under outlet. Must stay true: the tap never waits, what does not fit is dropped and counted; the
 * first frame is the time 0, and from there on the file's time is the stream's; sound has no gaps
 * (silence fills them) and is never far behind the picture, so that no muxer waits for it.
 */
#include "outlet_parts.h"

#include "../error.h"

#include <string.h>

enum {
    QUEUE_FRAMES = 3,
    QUEUE_SOUNDS = 250, /* five seconds */
    WAIT_MS = 20,
    IDLE_US = 1000000,  /* without a frame for so long, the last one is repeated */
    CHECK_US = 500000,  /* how often the disk is looked at */
    JITTER_US = 40000,  /* of sound's times, which is smoothed */
    BEHIND_US = 700000, /* sound that is so late is taken for missing... */
    FILL_US = 500000,   /* ...and silence goes until so long before the picture */
    FINISH_MS = 10000,
    HANG_UP_MS = 1000,
    BACKOFF_MIN_MS = 500,
    BACKOFF_MAX_MS = 10000,
    STEADY_US = 10000000, /* what worked for so long starts with a short back-off again */
    SOUND_RATE = 48000,
    SOUND_BYTES = 4, /* of one sample of both channels */
};

/* ---- the tap --------------------------------------------------------------------------------- */

/* [any] */
static void on_frame(void *ctx, frame *f)
{
    outlet *o = ctx;
    frame *over = NULL;
    g_mutex_lock(&o->lock);
    if (!o->stop) {
        g_queue_push_tail(&o->frames, frame_ref(f));
        if (o->frames.length > QUEUE_FRAMES) {
            over = g_queue_pop_head(&o->frames);
            o->dropped++;
        }
        g_cond_signal(&o->wake);
    }
    g_mutex_unlock(&o->lock);
    frame_unref(over);
}

/* [any] */
static void on_sound(void *ctx, GstBuffer *sound)
{
    outlet *o = ctx;
    GstBuffer *over = NULL;
    g_mutex_lock(&o->lock);
    if (!o->stop && o->want_sound) {
        g_queue_push_tail(&o->sounds, gst_buffer_ref(sound));
        if (o->sounds.length > QUEUE_SOUNDS)
            over = g_queue_pop_head(&o->sounds);
    }
    g_mutex_unlock(&o->lock);
    if (over)
        gst_buffer_unref(over);
}

const stream_tap_calls outlet_tap = {.frame = on_frame, .sound = on_sound};

/* ---- queues ---------------------------------------------------------------------------------- */

void outlet_say(outlet *o, enum outlet_state state, const char *reason)
{
    g_mutex_lock(&o->lock);
    if (state == OUTLET_FINISHING && (o->state == OUTLET_DONE || o->state == OUTLET_FAILED)) {
        g_mutex_unlock(&o->lock);
        return; /* it has ended by itself in the meantime */
    }
    o->state = state;
    error_copy(o->reason, sizeof o->reason, reason);
    if (!o->tell)
        o->tell = g_idle_add(outlet_on_tell, o);
    g_mutex_unlock(&o->lock);
}

static bool stopped(outlet *o)
{
    g_mutex_lock(&o->lock);
    bool stop = o->stop;
    g_mutex_unlock(&o->lock);
    return stop;
}

/* True when told to stop before the time is up. */
static bool rest(outlet *o, int64_t until_us)
{
    g_mutex_lock(&o->lock);
    while (!o->stop && g_cond_wait_until(&o->wake, &o->lock, until_us))
        ;
    bool stop = o->stop;
    g_mutex_unlock(&o->lock);
    return stop;
}

/* The next frame, or NULL when none came in time, or when there is none and no more will come. */
static frame *next_frame(outlet *o, int wait_ms)
{
    int64_t until = g_get_monotonic_time() + wait_ms * 1000;
    g_mutex_lock(&o->lock);
    while (!o->stop && !o->frames.length && g_cond_wait_until(&o->wake, &o->lock, until))
        ;
    frame *f = g_queue_pop_head(&o->frames);
    g_mutex_unlock(&o->lock);
    return f;
}

static GstBuffer *next_sound(outlet *o)
{
    g_mutex_lock(&o->lock);
    GstBuffer *b = g_queue_pop_head(&o->sounds);
    g_mutex_unlock(&o->lock);
    return b;
}

/* What waited while there was nobody to send it to is old: all but the newest frame goes. */
static void clear_queues(outlet *o)
{
    g_mutex_lock(&o->lock);
    while (o->frames.length > 1) {
        frame_unref(g_queue_pop_head(&o->frames));
        o->dropped++;
    }
    while (o->sounds.length)
        gst_buffer_unref(g_queue_pop_head(&o->sounds));
    g_mutex_unlock(&o->lock);
}

/* ---- one run --------------------------------------------------------------------------------- */

/* From one first frame to what ends it. Times are the stream's but those that end in _at, which
 * begin with 0 at the first frame. */
typedef struct work_run {
    outlet *o;
    muxer *m;
    converter *convert;
    scope_video shape;   /* of the first frame */
    bool sound, aligned; /* aligned: the next sound follows upon the last */
    int64_t base_us;
    int64_t frame_at, sound_at; /* of the last frame, and where the next sound goes; -1: none yet */
    int64_t repeats_us;         /* when a frame came or was repeated last, on the clock */
    int64_t checked_us;
    frame *last;       /* owned */
    bool live, broken; /* broken: the muxer is, and cannot be finished */
} work_run;

static int64_t samples_us(int64_t samples)
{
    return samples * 1000000 / SOUND_RATE;
}

static void push_silence(work_run *r, int64_t until_at)
{
    while (r->sound_at < until_at) {
        int64_t samples =
            CLAMP((until_at - r->sound_at) * SOUND_RATE / 1000000, 1, SOUND_RATE / 50);
        GstBuffer *b = gst_buffer_new_allocate(NULL, (gsize)samples * SOUND_BYTES, NULL);
        gst_buffer_memset(b, 0, 0, (gsize)samples * SOUND_BYTES);
        GST_BUFFER_PTS(b) = (GstClockTime)r->sound_at * 1000;
        GST_BUFFER_DURATION(b) = (GstClockTime)samples_us(samples) * 1000;
        muxer_sound(r->m, b);
        r->sound_at += samples_us(samples);
    }
}

/* One piece goes where its time says; exactly so at first and after a gap, but for jitter then. */
static void push_sound(work_run *r, GstBuffer *b)
{
    int64_t at = (int64_t)(GST_BUFFER_PTS(b) / 1000) - r->base_us;
    int64_t jitter = r->aligned ? JITTER_US : 0;
    gsize size = gst_buffer_get_size(b), over = 0;
    if (at < r->sound_at - jitter)
        over = (gsize)((r->sound_at - at) * SOUND_RATE / 1000000) * SOUND_BYTES;
    if (over >= size)
        return;
    if (at > r->sound_at + jitter)
        push_silence(r, at);
    GstBuffer *rest = gst_buffer_copy_region(b, GST_BUFFER_COPY_MEMORY, over, size - over);
    int64_t length = samples_us((int64_t)(size - over) / SOUND_BYTES);
    GST_BUFFER_PTS(rest) = (GstClockTime)r->sound_at * 1000;
    GST_BUFFER_DURATION(rest) = (GstClockTime)length * 1000;
    muxer_sound(r->m, rest);
    r->sound_at += length;
    r->aligned = true;
}

static void push_sounds(work_run *r)
{
    GstBuffer *b;
    while ((b = next_sound(r->o))) {
        if (r->sound)
            push_sound(r, b);
        gst_buffer_unref(b);
    }
}

static int push_frame(work_run *r, frame *f, int64_t pts_us, scope_error *err)
{
    frame *fitting = converter_run(r->convert, f, &r->shape, MEDIA_PAD, err);
    if (!fitting)
        return SCOPE_EIO;
    int64_t at = MAX(pts_us - r->base_us, r->frame_at + 1000);
    if (r->sound && r->sound_at < at - BEHIND_US) {
        push_silence(r, at - FILL_US);
        r->aligned = false;
    }
    muxer_frame(r->m, fitting, at);
    frame_unref(fitting);
    r->frame_at = at;
    r->repeats_us = g_get_monotonic_time();
    g_mutex_lock(&r->o->lock);
    r->o->written++;
    r->o->length_us = MAX(r->o->length_us, at);
    g_mutex_unlock(&r->o->lock);
    return 0;
}

static int start_run(work_run *r, frame *first, scope_error *err)
{
    outlet *o = r->o;
    stream_stats stats;
    stream_stats_now(o->stream, &stats);
    r->base_us = first->v.pts_us;
    r->frame_at = -1000;
    r->shape = (scope_video){.t = 1, .h = first->v.h, .w = first->v.w, .c = 3, .dtype = SCOPE_U8};
    r->sound = o->want_sound && o->kind != MUXER_V4L2 && stream_has_sound(o->stream);
    if (r->shape.w < 2 || r->shape.h < 2)
        return error_set(err, SCOPE_EINVAL, "", "a picture of %dx%d is too small for '%s'",
                         r->shape.w, r->shape.h, o->about);
    muxer_options mo = {.kind = o->kind,
                        .target = o->target,
                        .about = o->about,
                        .w = r->shape.w,
                        .h = r->shape.h,
                        .fps = CLAMP((int)(stats.fps_out + 0.5), 0, 120),
                        .bitrate = o->bitrate,
                        .sound = r->sound,
                        .h264 = live_settings(stream_live(o->stream))->h264};
    r->m = muxer_open(&mo, err);
    return r->m ? 0 : SCOPE_EIO;
}

/* Every now and then: does it arrive, is there room? */
static int look_after(work_run *r, scope_error *err)
{
    outlet *o = r->o;
    int64_t now = g_get_monotonic_time();
    g_mutex_lock(&o->lock);
    o->bytes = muxer_bytes(r->m);
    g_mutex_unlock(&o->lock);
    if (!r->live && muxer_works(r->m)) {
        r->live = true;
        if (!stopped(o))
            outlet_say(o, OUTLET_LIVE, "");
    }
    if (o->kind != MUXER_MP4 || now - r->checked_us < CHECK_US)
        return 0;
    r->checked_us = now;
    return record_check(&o->file, err);
}

/* One frame, new or repeated, where one is due. */
static int step(work_run *r, scope_error *err)
{
    int ready = muxer_ready(r->m, WAIT_MS, err);
    r->broken = ready < 0;
    if (ready <= 0)
        return ready;
    push_sounds(r);
    frame *f = next_frame(r->o, WAIT_MS);
    int64_t now = g_get_monotonic_time();
    int status = 0;
    if (f) {
        status = push_frame(r, f, f->v.pts_us, err);
        frame_unref(r->last);
        r->last = f;
    } else if (now - r->repeats_us > IDLE_US) {
        status = push_frame(r, r->last, r->base_us + r->frame_at + (now - r->repeats_us), err);
    }
    return status ? status : look_after(r, err);
}

static bool more(outlet *o)
{
    g_mutex_lock(&o->lock);
    bool any = !o->stop || o->frames.length;
    g_mutex_unlock(&o->lock);
    return any;
}

/* From the first frame until the stop (0) or a fault (negative). */
static int run(work_run *r, scope_error *err)
{
    frame *first = NULL;
    while (!first && more(r->o))
        first = next_frame(r->o, 1000);
    if (!first)
        return 0;
    r->last = first;
    int status = start_run(r, first, err);
    if (!status)
        status = push_frame(r, first, first->v.pts_us, err);
    int64_t give_up = 0; /* set once stopped: what is queued must get in before it */
    while (!status && more(r->o)) {
        status = step(r, err);
        int64_t now = g_get_monotonic_time();
        if (!give_up && stopped(r->o))
            give_up = now + HANG_UP_MS * 1000;
        if (give_up && now > give_up)
            break;
    }
    return status;
}

/* ---- ends ------------------------------------------------------------------------------------ */

/* The file gets its name when anything of it can be played, whatever went wrong. */
static int keep_recording(work_run *r, int status, scope_error *err)
{
    scope_error later = {0};
    if (!r->m)
        return status ? status
                      : error_set(err, SCOPE_EIO, "", "no frame came; nothing was recorded");
    bool whole = !r->broken && !muxer_finish(r->m, FINISH_MS, &later);
    muxer_close(r->m);
    if (record_keep(&r->o->file, whole, whole ? &later : &(scope_error){0}) && !later.status)
        error_set(&later, SCOPE_EIO, "", "nothing of the recording could be kept");
    if (!status && later.status) {
        *err = later;
        status = SCOPE_EIO;
    }
    return status;
}

/* Once from the first frame to the end. 0 when it was stopped. */
static int attempt(outlet *o, int64_t *live_us, scope_error *err)
{
    work_run r = {.o = o, .convert = converter_new(live_frames(stream_live(o->stream)))};
    int64_t began = g_get_monotonic_time();
    int status = run(&r, err);
    g_mutex_lock(&o->lock);
    o->bytes = r.m ? MAX(o->bytes, muxer_bytes(r.m)) : o->bytes;
    g_mutex_unlock(&o->lock);
    if (o->kind == MUXER_MP4) {
        status = keep_recording(&r, status, err);
    } else if (r.m) {
        scope_error unheard; /* nobody is hurt when a connection is not said goodbye to */
        if (!status)
            muxer_finish(r.m, HANG_UP_MS, &unheard);
        muxer_close(r.m);
    }
    *live_us = r.live ? g_get_monotonic_time() - began : 0;
    frame_unref(r.last);
    converter_free(r.convert);
    return status;
}

static int again(outlet *o, int status, int64_t live_us, int *wait_ms, const scope_error *err)
{
    if (live_us > STEADY_US)
        *wait_ms = BACKOFF_MIN_MS;
    char *text = g_strdup_printf("%s; trying again in %g s", err->text, *wait_ms / 1000.0);
    outlet_say(o, OUTLET_RETRYING, text);
    g_free(text);
    bool stop = rest(o, g_get_monotonic_time() + *wait_ms * 1000);
    *wait_ms = MIN(*wait_ms * 2, BACKOFF_MAX_MS);
    clear_queues(o);
    return stop ? 0 : status;
}

gpointer outlet_work(gpointer user)
{
    outlet *o = user;
    scope_error err = {0};
    int64_t live_us = 0;
    int wait_ms = BACKOFF_MIN_MS;
    int status = attempt(o, &live_us, &err);
    while (status && o->kind != MUXER_MP4 && (status = again(o, status, live_us, &wait_ms, &err))) {
        err = (scope_error){0};
        status = attempt(o, &live_us, &err);
    }
    outlet_say(o, status ? OUTLET_FAILED : OUTLET_DONE, status ? err.text : "");
    g_mutex_lock(&o->lock);
    o->end = g_idle_add(outlet_on_end, o);
    g_mutex_unlock(&o->lock);
    return NULL;
}
