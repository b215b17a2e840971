/* stream_taps.c - what a stream shows, and who takes it; see inside.h for locks.
 *
 * Under stream_frames.c. The lists of taps are replaced, never changed, so that frames go along
 * them without a lock. Must stay true: a tap gets frames in their order, one at a time, none after
 * stream_tap_close has returned.
 */
#include "inside.h"

#include <string.h>

/* ---- taps ------------------------------------------------------------------------------------ */

static void tap_unref(gpointer p)
{
    stream_tap *t = p;
    if (!g_atomic_int_dec_and_test(&t->refs))
        return;
    g_rec_mutex_clear(&t->lock);
    g_free(t->about);
    g_free(t);
}

/* The list with `add` and without `remove`; NULL when it would be empty. */
static GPtrArray *list_with(const GPtrArray *list, stream_tap *add, const stream_tap *remove)
{
    GPtrArray *other = g_ptr_array_new_with_free_func(tap_unref);
    for (guint i = 0; list && i < list->len; i++) {
        stream_tap *t = g_ptr_array_index(list, i);
        if (t == remove)
            continue;
        g_atomic_int_inc(&t->refs);
        g_ptr_array_add(other, t);
    }
    if (add) {
        g_atomic_int_inc(&add->refs);
        g_ptr_array_add(other, add);
    }
    if (!other->len)
        g_clear_pointer(&other, g_ptr_array_unref);
    return other;
}

static void change_taps(stream *s, GPtrArray **list, stream_tap *add, const stream_tap *remove)
{
    GPtrArray *other = list_with(*list, add, remove); /* [main] alone changes it */
    g_mutex_lock(&s->lock);
    GPtrArray *before = *list;
    *list = other;
    g_mutex_unlock(&s->lock);
    if (before)
        g_ptr_array_unref(before);
}

static void give(stream_tap *t, frame *f, uint64_t seq)
{
    g_rec_mutex_lock(&t->lock);
    if (!t->closed && seq > t->seen) { /* two threads may come in the wrong order */
        t->seen = seq;
        if (t->calls.frame)
            t->calls.frame(t->calls.ctx, f);
    }
    g_rec_mutex_unlock(&t->lock);
}

void taps_give(GPtrArray *taps, frame *f, uint64_t seq)
{
    if (!taps)
        return;
    for (guint i = 0; i < taps->len; i++)
        give(g_ptr_array_index(taps, i), f, seq);
    g_ptr_array_unref(taps);
}

GPtrArray *taps_ref(GPtrArray *taps)
{
    return taps ? g_ptr_array_ref(taps) : NULL;
}

frame *stream_frame_again(stream *s, frame *f, int64_t pts_us)
{
    scope_error err;
    frame *copy = frame_new(live_frames(s->live), &f->v, &err);
    if (copy) {
        memcpy(copy->v.data, f->v.data, (size_t)f->v.stride_t);
        copy->v.pts_us = pts_us;
        copy->duration_us = f->duration_us;
    }
    return copy;
}

static stream_tap *open_tap(stream *s, bool of_source, const char *kind, const char *about,
                            const stream_tap_calls *calls)
{
    stream_tap *t = g_new0(stream_tap, 1);
    t->refs = 1;
    t->stream = stream_ref(s);
    t->kind = kind;
    t->about = g_strdup(about);
    t->calls = *calls;
    t->of_source = of_source;
    g_rec_mutex_init(&t->lock);
    change_taps(s, of_source ? &s->source_taps : &s->taps, t, NULL);
    return t;
}

stream_tap *stream_tap_open(stream *s, const char *kind, const char *about,
                            const stream_tap_calls *calls)
{
    enum { FRESH_US = 500000 };
    stream_tap *t = open_tap(s, false, kind, about, calls);
    g_mutex_lock(&s->lock);
    frame *last = s->last ? frame_ref(s->last) : NULL;
    uint64_t seq = s->seq;
    g_mutex_unlock(&s->lock);
    int64_t now_us = g_get_monotonic_time();
    frame *now =
        last && now_us - last->v.pts_us > FRESH_US ? stream_frame_again(s, last, now_us) : NULL;
    if (last)
        give(t, now ? now : last, seq);
    frame_unref(now);
    frame_unref(last);
    return t;
}

stream_tap *stream_source_tap_open(stream *s, const char *kind, const char *about,
                                   const stream_tap_calls *calls)
{
    return open_tap(s, true, kind, about, calls);
}

void stream_tap_close(stream_tap *t)
{
    if (!t)
        return;
    stream *s = t->stream;
    change_taps(s, t->of_source ? &s->source_taps : &s->taps, NULL, t);
    g_rec_mutex_lock(&t->lock);
    t->closed = true;
    g_rec_mutex_unlock(&t->lock);
    stream_unref(s);
    tap_unref(t);
}

frame *stream_last(stream *s)
{
    g_mutex_lock(&s->lock);
    frame *last = s->last ? frame_ref(s->last) : NULL;
    g_mutex_unlock(&s->lock);
    return last;
}

/* ---- showing --------------------------------------------------------------------------------- */

/* Lock held. */
static void count_shown(stream *s, const frame *f, double model_ms, bool through_plugins)
{
    int64_t now_us = g_get_monotonic_time();
    s->sum.frames_out++;
    s->sum.w = f->v.w;
    s->sum.h = f->v.h;
    s->sum.last_out_us = now_us;
    if (!s->sum.started_us)
        s->sum.started_us = now_us;
    times_add(&s->out, now_us);
    series_add(&s->age, (double)(now_us - f->v.pts_us) * 1e-3);
    if (through_plugins)
        series_add(&s->model, model_ms);
}

void taps_show(stream *s, frame *f, unsigned version, double model_ms, bool through_plugins)
{
    g_mutex_lock(&s->lock);
    if (s->ended || version < s->shown_version) { /* a newer chain has shown something */
        s->sum.dropped++;
        g_mutex_unlock(&s->lock);
        return;
    }
    s->shown_version = version;
    frame *before = s->last;
    s->last = frame_ref(f);
    uint64_t seq = ++s->seq;
    count_shown(s, f, model_ms, through_plugins);
    GPtrArray *taps = taps_ref(s->taps);
    g_mutex_unlock(&s->lock);
    frame_unref(before);
    taps_give(taps, f, seq);
}

void frames_repeat(stream *s, int64_t now_us)
{
    enum { SINCE_US = 180000 };
    g_mutex_lock(&s->lock);
    bool due = s->last && s->taps && now_us - s->sum.last_out_us >= SINCE_US;
    frame *last = due ? frame_ref(s->last) : NULL;
    /* Its age stays what it was, so that the next real frame comes after it. */
    int64_t pts_us = last ? last->v.pts_us + now_us - s->sum.last_out_us : 0;
    GPtrArray *taps = due ? taps_ref(s->taps) : NULL;
    uint64_t seq = due ? ++s->seq : 0;
    g_mutex_unlock(&s->lock);
    frame *copy = last ? stream_frame_again(s, last, pts_us) : NULL;
    if (copy)
        taps_give(taps, copy, seq);
    else if (taps)
        g_ptr_array_unref(taps);
    frame_unref(copy);
    frame_unref(last);
}

void frames_stop(stream *s)
{
    g_mutex_lock(&s->lock);
    s->ended = true;
    frame *last = s->last;
    s->last = NULL;
    g_mutex_unlock(&s->lock);
    frame_unref(last);
}

/* ---- sound ----------------------------------------------------------------------------------- */

void stream_input_sound(stream_input *in, GstBuffer *sound)
{
    stream *s = in->stream;
    g_mutex_lock(&s->lock);
    bool ours = s->input == in && !s->ended;
    if (ours)
        s->last_sound_us = g_get_monotonic_time();
    GPtrArray *both[2] = {ours ? taps_ref(s->taps) : NULL, ours ? taps_ref(s->source_taps) : NULL};
    g_mutex_unlock(&s->lock);
    for (int k = 0; k < 2; k++) {
        for (guint i = 0; both[k] && i < both[k]->len; i++) {
            stream_tap *t = g_ptr_array_index(both[k], i);
            g_rec_mutex_lock(&t->lock);
            if (!t->closed && t->calls.sound)
                t->calls.sound(t->calls.ctx, sound);
            g_rec_mutex_unlock(&t->lock);
        }
        if (both[k])
            g_ptr_array_unref(both[k]);
    }
    gst_buffer_unref(sound);
}

bool stream_has_sound(const stream *cs)
{
    stream *s = (stream *)cs;
    g_mutex_lock(&s->lock);
    int64_t last_us = s->last_sound_us;
    g_mutex_unlock(&s->lock);
    return last_us && g_get_monotonic_time() - last_us < SILENCE_MS * 1000;
}
