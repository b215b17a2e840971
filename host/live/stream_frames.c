/* stream_frames.c - the way of a frame: from the source through mailboxes and plugins to the taps;
 * see inside.h for locks.
 *
 * Runs on the threads that bring frames and answers; [main] has no part in it. Must stay true: one
 * thread at a time sends to a remote; a frame that waits is sent as soon as the one before is
 * answered; what is not sent, shown or kept is counted as dropped.
 */
#include "inside.h"

/* ---- mailboxes ------------------------------------------------------------------------------- */

/* Put f (referenced) in the mailbox; what it replaces is returned. Lock held. */
static frame *place(stage *g, frame *f, unsigned version, double ms)
{
    stream *s = g->stream;
    if (g->gone) {
        s->sum.dropped++;
        return NULL;
    }
    frame *before = g->waiting;
    if (before)
        s->sum.dropped++;
    g->waiting = frame_ref(f);
    g->waiting_version = version;
    g->waiting_ms = ms;
    return before;
}

static bool generates(const stage *g)
{
    return g->ready && g->want.t == 0;
}

/* Lock held. A generator whose time has not come yet is woken then. */
static bool may_send(stage *g)
{
    if (g->gone || !g->ready || g->busy || g->sending)
        return false;
    if (!generates(g))
        return g->waiting != NULL;
    if (!g->pace || g->stream->active[0] != g)
        return false;
    bool due = g_get_monotonic_time() >= g->due_us;
    if (!due)
        g_source_set_ready_time(g->pace, g->due_us);
    return due;
}

/* What is to be sent, NULL for a generator. Lock held. */
static frame *take(stage *g)
{
    frame *f = g->waiting;
    g->waiting = NULL;
    g->sending = g->busy = true;
    g->flight_version = g->waiting_version;
    g->flight_ms = g->waiting_ms;
    if (generates(g)) {
        g->flight_version = g->stream->version;
        g->flight_ms = 0;
        g->due_us = MAX(g->due_us + G_USEC_PER_SEC / GENERATOR_FPS,
                        g_get_monotonic_time() + G_USEC_PER_SEC / GENERATOR_FPS / 2);
    }
    return f;
}

/* Hand f to the remote, in the size that its plugin wants. */
static bool send(stage *g, frame *f, const scope_video *want, enum media_fit fit)
{
    if (!f)
        return remote_process(g->remote, NULL, g_get_monotonic_time(),
                              G_USEC_PER_SEC / GENERATOR_FPS);
    scope_video size = {.h = want->h, .w = want->w, .dtype = SCOPE_U8};
    scope_error err;
    frame *fitting = converter_run(g->convert, f, &size, fit, &err);
    bool sent =
        fitting && remote_process(g->remote, fitting, fitting->v.pts_us, fitting->duration_us);
    frame_unref(fitting);
    return sent;
}

/* It could not be sent: it waits on, unless a newer one waits already, which is returned as true.
 * Lock held. */
static void put_back(stage *g, frame *f)
{
    g->busy = false;
    if (!f)
        return;
    if (g->waiting) {
        g->stream->sum.dropped++;
        return;
    }
    g->waiting = frame_ref(f);
    g->waiting_version = g->flight_version;
    g->waiting_ms = g->flight_ms;
}

void stage_pump(stage *g)
{
    stream *s = g->stream;
    g_mutex_lock(&s->lock);
    for (bool stuck = false; !stuck && may_send(g);) {
        unsigned epoch = g->epoch;
        scope_video want = g->want;
        enum media_fit fit = s->fit;
        bool generator = generates(g);
        frame *f = take(g);
        g_mutex_unlock(&s->lock);
        bool sent = send(g, generator ? NULL : f, &want, fit);
        g_mutex_lock(&s->lock);
        if (!sent) {
            put_back(g, generator ? NULL : f);
            stuck = epoch == g->epoch; /* else the remote became ready while we tried */
        }
        g->sending = false;
        g_cond_broadcast(&s->idle);
        g_mutex_unlock(&s->lock);
        frame_unref(f);
        g_mutex_lock(&s->lock);
    }
    g_mutex_unlock(&s->lock);
}

/* Lock held. */
static bool is_idle(const stage *g)
{
    return !g->sending && (!g->ready || (!g->busy && !g->waiting));
}

bool frames_drained(stream *s)
{
    bool drained = true;
    g_mutex_lock(&s->lock);
    for (guint i = 0; i < s->retired->len; i++)
        drained &= is_idle(g_ptr_array_index(s->retired, i));
    for (int i = 0; i < s->count; i++) { /* kept ones may still give frames to those */
        const stage *g = s->active[i];
        bool old = (g->busy && g->flight_version != s->version) ||
                   (g->waiting && g->waiting_version != s->version);
        drained &= !(old && g->ready && g->old_next.to && g->old_next.to->retired);
    }
    g_mutex_unlock(&s->lock);
    return drained;
}

/* ---- what remotes say ------------------------------------------------------------------------ */

static note *new_note(stage *g, enum note_kind kind)
{
    note *n = g_new0(note, 1);
    n->kind = kind;
    n->stage = stage_ref(g);
    return n;
}

static void on_progress(void *ctx, double done, const char *phase)
{
    stage *g = ctx;
    note *n = new_note(g, NOTE_PROGRESS);
    n->done = done;
    n->text = g_strdup(phase);
    live_note(g->stream->live, n);
}

static void on_ready(void *ctx, const scope_video *want, const json_t *values, uint64_t generation)
{
    stage *g = ctx;
    stream *s = g->stream;
    g_mutex_lock(&s->lock);
    g->want = *want;
    g->ready = true;
    g->busy = false;
    g->epoch++;
    g->failures = 0;
    g->proven = false;
    g->repeated = 0; /* a fresh instance counts from the start */
    frame *useless = want->t == 0 ? g->waiting : NULL;
    if (useless)
        g->waiting = NULL;
    g_mutex_unlock(&s->lock);
    frame_unref(useless);
    note *n = new_note(g, NOTE_READY);
    n->values = json_deep_copy(values);
    n->generation = generation;
    n->generator = want->t == 0;
    live_note(s->live, n);
    stage_pump(g);
}

static void on_down(void *ctx, const remote_fault *fault)
{
    stage *g = ctx;
    stream *s = g->stream;
    g_mutex_lock(&s->lock);
    g->ready = g->busy = false;
    g_mutex_unlock(&s->lock);
    note *n = new_note(g, NOTE_DOWN);
    n->err = fault->err;
    n->retry_ms = fault->retry_ms;
    live_note(s->live, n);
}

static void on_values(void *ctx, const json_t *values, uint64_t generation, const scope_error *err)
{
    stage *g = ctx;
    note *n = new_note(g, NOTE_VALUES);
    n->values = json_deep_copy(values);
    n->generation = generation;
    if (err)
        n->err = *err;
    live_note(g->stream->live, n);
}

static void on_log(void *ctx, int level, const char *line)
{
    stage *g = ctx;
    stream *s = g->stream;
    g_mutex_lock(&s->lock);
    bool too_many = g->logs_waiting >= LOGS_WAITING_MAX;
    g->logs_waiting += !too_many;
    g_mutex_unlock(&s->lock);
    if (too_many) /* [main] is behind: a plugin that talks without end is cut short */
        return;
    note *n = new_note(g, NOTE_LOG);
    n->level = level;
    n->text = g_strdup(line);
    live_note(s->live, n);
}

/* Does [main] have to look at the stage, because it has begun or ceased to fail? Lock held. */
static bool count_answer(stage *g, const frame *out, const remote_cost *cost,
                         const scope_error *err)
{
    stream_stats *sum = &g->stream->sum;
    int before = g->failures;
    g->failures = err ? before + 1 : 0;
    sum->failed += err != NULL;
    sum->skipped += !out && !err;
    if (cost->repeated > g->repeated)
        sum->repeated += cost->repeated - g->repeated;
    g->repeated = cost->repeated;
    if (err) {
        sum->last_error_us = g_get_monotonic_time();
        g_strlcpy(sum->last_error, err->text, sizeof sum->last_error);
    }
    bool first = !g->proven;
    g->proven = true;
    return first || g->failures == 1 || g->failures == FAILURES_MAX ||
           (before >= FAILURES_MAX && !g->failures);
}

static void on_result(void *ctx, frame *out, const remote_cost *cost, const scope_error *err)
{
    stage *g = ctx;
    stream *s = g->stream;
    frame *replaced = NULL;
    g_mutex_lock(&s->lock);
    g->busy = false;
    unsigned version = g->flight_version;
    double ms = g->flight_ms + cost->process_ms;
    bool look = count_answer(g, out, cost, err);
    hop way = version == s->version ? g->next : version + 1 == s->version ? g->old_next : (hop){0};
    if (version < g->renewed)
        way = (hop){0};
    stage *to = out && way.to ? stage_ref(way.to) : NULL;
    if (to)
        replaced = place(to, out, version, ms);
    else if (out && !way.out)
        s->sum.dropped++;
    look |= g->retired; /* it may have been its last frame */
    g_mutex_unlock(&s->lock);
    frame_unref(replaced);
    stage_pump(g);
    if (to) {
        stage_pump(to);
        stage_unref(to);
    } else if (out && way.out) {
        taps_show(s, out, version, ms, true);
    }
    if (look) {
        note *n = new_note(g, NOTE_LOOK);
        if (err)
            n->err = *err;
        live_note(s->live, n);
    }
}

const remote_calls stage_calls = {
    .progress = on_progress,
    .ready = on_ready,
    .down = on_down,
    .result = on_result,
    .values = on_values,
    .log = on_log,
};

/* ---- exchanging the chain -------------------------------------------------------------------- */

/* Lock held. */
static void link_up(stream *s, stage *const *at, int count)
{
    s->version++;
    for (int i = 0; i < s->count; i++) {
        s->active[i]->old_next = s->active[i]->next;
        s->active[i]->retired = true;
    }
    for (int i = 0; i < count; i++) {
        if (!at[i]->retired)
            at[i]->old_next = (hop){0};
        at[i]->retired = false;
    }
    for (int i = 0; i < count; i++)
        at[i]->next = (hop){i + 1 < count ? at[i + 1] : NULL, i + 1 == count};
}

void frames_renew(stage *g)
{
    g_mutex_lock(&g->stream->lock);
    g->renewed = g->stream->version + 1;
    g_mutex_unlock(&g->stream->lock);
}

void frames_install(stream *s, stage *const *at, int count)
{
    frame *rest = NULL;
    g_mutex_lock(&s->lock);
    stage *first = s->count ? s->active[0] : NULL;
    link_up(s, at, count);
    s->count = count;
    for (int i = 0; i < count; i++)
        s->active[i] = at[i];
    if (first && first->retired && first->waiting) { /* the new chain takes it over */
        rest = first->waiting;
        first->waiting = NULL;
        if (count && !at[0]->waiting)
            place(at[0], rest, s->version, 0);
        else
            s->sum.dropped++;
    }
    stage *head = count ? stage_ref(at[0]) : NULL;
    g_mutex_unlock(&s->lock);
    frame_unref(rest);
    if (head) {
        stage_pump(head);
        stage_unref(head);
    }
}

/* ---- in -------------------------------------------------------------------------------------- */

/* As taps take it: with 3 channels. NULL without memory. */
static frame *in_three(stream *s, frame *f)
{
    if (f->v.c == 3)
        return frame_ref(f);
    scope_video want = {.c = 3, .dtype = SCOPE_U8};
    scope_error err;
    g_mutex_lock(&s->source_lock);
    frame *three = converter_run(s->to_three, f, &want, MEDIA_CROP, &err);
    g_mutex_unlock(&s->source_lock);
    return three;
}

/* Lock held. */
static void count_in(stream *s)
{
    int64_t now_us = g_get_monotonic_time();
    s->sum.frames_in++;
    s->sum.last_in_us = now_us;
    times_add(&s->in, now_us);
}

void stream_input_frame(stream_input *in, frame *f)
{
    stream *s = in->stream;
    frame *replaced = NULL;
    g_mutex_lock(&s->lock);
    if (s->input != in || s->ended) {
        g_mutex_unlock(&s->lock);
        return;
    }
    count_in(s);
    bool woken = !s->flowing;
    s->flowing = true;
    unsigned version = s->version;
    GPtrArray *taps = taps_ref(s->source_taps);
    uint64_t seq = ++s->source_seq;
    stage *first = s->count ? stage_ref(s->active[0]) : NULL;
    bool as_it_is = !first;
    if (first && !generates(first))
        replaced = place(first, f, version, 0);
    g_mutex_unlock(&s->lock);
    frame_unref(replaced);
    if (first) {
        stage_pump(first);
        stage_unref(first);
    }
    frame *three = taps || as_it_is ? in_three(s, f) : NULL;
    if (three && as_it_is)
        taps_show(s, three, version, 0, false);
    if (three)
        taps_give(taps, three, seq);
    else if (taps)
        g_ptr_array_unref(taps);
    frame_unref(three);
    if (woken) {
        note *n = g_new0(note, 1);
        n->kind = NOTE_WOKEN;
        n->stream = s;
        live_note(s->live, n);
    }
}
