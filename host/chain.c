/* chain.c - plugins in a row; see chain.h.
 *
 * Must stay true: a frame is copied only where shapes differ; references are given back on every
 * path.
 */
#include "chain.h"
#include "error.h"

#include <glib.h>
#include <string.h>

typedef struct moment {
    int64_t pts_us, duration_us;
} moment;

enum { MOMENTS = 2 * (INSTANCE_LATENCY_MAX + 1) };

typedef struct stage {
    instance *in;       /* owned */
    converter *convert; /* owned */
    frame *batch;       /* owned; being filled, for a plugin that takes several frames */
    int filled;
    /* of a plugin that lags, in an aligned chain; frames are counted from the first */
    int64_t taken; /* frames that it was given, repeated ones included */
    int64_t real;  /* of them, those that came in: always the first ones */
    int64_t given; /* frames that it gave on, each once */
    moment *when;  /* owned; of frame i, at i % MOMENTS */
    frame *last;   /* owned; its last input, NULL for a generator */
} stage;

struct chain {
    stage links[RUN_LINKS_MAX];
    int count;
    enum media_fit fit;
    frame_pool *pool; /* borrowed until chain_close */
    int64_t skipped;
    double last_ms;
    /* of the call under way */
    chain_emit emit;
    void *ctx;
    const char *at;
    int64_t length_us;
    int keep_num, keep_den; /* the part of a flushed batch's output that is let through */
    bool aligned;
    int real; /* frames of the next call that came in; -1: all of them */
};

chain *chain_open(const run_plugins *p, enum media_fit fit, frame_pool *pool,
                  const instance_sink *sink, scope_error *err)
{
    chain *c = g_new0(chain, 1);
    c->fit = fit;
    c->pool = pool;
    c->keep_num = c->keep_den = 1;
    c->real = -1;
    for (int i = 0; i < p->count; i++) {
        const run_link *l = &p->link[i];
        stage *to = &c->links[i];
        to->convert = converter_new(pool);
        c->count++;
        to->in = instance_open(l->entry->path, l->entry->id, l->values, pool, sink, err);
        if (to->in && (i == 0 || instance_want(to->in)->t > 0))
            continue;
        if (to->in)
            error_set(err, SCOPE_EINVAL, "", "%s makes frames by itself: put it first",
                      l->entry->id);
        chain_close(c);
        return NULL;
    }
    return c;
}

void chain_close(chain *c)
{
    if (!c)
        return;
    for (int i = 0; i < c->count; i++) {
        frame_unref(c->links[i].batch);
        frame_unref(c->links[i].last);
        g_free(c->links[i].when);
        instance_close(c->links[i].in);
        converter_free(c->links[i].convert);
    }
    g_free(c);
}

bool chain_generates(const chain *c)
{
    return c->count > 0 && instance_want(c->links[0].in)->t == 0;
}

instance *chain_at(chain *c, int i)
{
    return c->links[i].in;
}

int chain_count(const chain *c)
{
    return c->count;
}

void chain_align(chain *c)
{
    c->aligned = true;
}

static int feed(chain *c, int i, frame *f, scope_error *err);

static frame *cut_out(chain *c, const frame *f, int t, scope_error *err)
{
    scope_video shape = f->v;
    shape.t = 1;
    frame *one = frame_new(c->pool, &shape, err);
    if (!one)
        return NULL;
    one->duration_us = f->duration_us / f->v.t;
    one->v.pts_us = f->v.pts_us + t * one->duration_us;
    memcpy(one->v.data, (char *)f->v.data + t * f->v.stride_t, (size_t)one->v.stride_t);
    return one;
}

/* Note what a plugin was given: `in`, or for a generator the time of `out`. */
static void take(stage *l, frame *in, const frame *out, int real)
{
    const frame *f = in ? in : out;
    int t = f->v.t;
    int64_t one_us = f->duration_us / t;
    if (!l->when)
        l->when = g_new(moment, MOMENTS);
    for (int k = 0; k < t; k++, l->taken++)
        l->when[l->taken % MOMENTS] = (moment){f->v.pts_us + k * one_us, one_us};
    l->real += real < 0 ? t : real;
    frame_unref(l->last);
    l->last = in ? frame_ref(in) : NULL;
}

/* Frame t of `out` shows the plugin's frame number `shows`. It stands for those before that never
 * came out, too, and is dropped when its turn is over. */
static int give(chain *c, int i, frame *out, int t, int64_t shows, scope_error *err)
{
    stage *l = &c->links[i];
    int status = 0;
    for (; l->given <= shows && l->given < l->real && !status; l->given++) {
        moment when = l->when[l->given % MOMENTS];
        bool as_it_is = out->v.t == 1 && out->v.pts_us == when.pts_us;
        frame *one = as_it_is ? frame_ref(out) : cut_out(c, out, t, err);
        if (!one)
            return SCOPE_ENOMEM;
        one->v.pts_us = when.pts_us;
        one->duration_us = when.duration_us;
        status = feed(c, i + 1, one, err);
        frame_unref(one);
    }
    return status;
}

/* What a plugin that lags has made, in its place. */
static int realign(chain *c, int i, frame *in, frame *out, int real, scope_error *err)
{
    stage *l = &c->links[i];
    int status = 0, t = out->v.t;
    take(l, in, out, real);
    int64_t first = l->taken - t - instance_latency(l->in);
    for (int k = 0; k < t && !status; k++)
        status = give(c, i, out, k, first + k, err);
    return status;
}

/* One call of plugin i, and what it emits into the next, frame by frame. */
static int process(chain *c, int i, frame *in, scope_error *err)
{
    frame *out = NULL;
    int real = c->real;
    c->real = -1; /* it is said of this plugin alone */
    int status = instance_process(c->links[i].in, in, &out, err);
    c->last_ms += instance_last_ms(c->links[i].in);
    if (status) {
        c->at = instance_id(c->links[i].in);
        return status;
    }
    if (!out) {
        c->skipped++;
        return 0;
    }
    if (!in)
        out->duration_us = c->length_us * out->v.t;
    if (c->aligned && instance_latency(c->links[i].in) >= 0 && (!in || in->v.t == out->v.t)) {
        c->keep_num = c->keep_den = 1; /* realign counts by itself */
        status = realign(c, i, in, out, real, err);
        frame_unref(out);
        return status;
    }
    int keep = (out->v.t * c->keep_num + c->keep_den - 1) / c->keep_den;
    c->keep_num = c->keep_den = 1; /* the cut is made once, where the batch is */
    if (out->v.t == 1)
        status = feed(c, i + 1, out, err);
    for (int t = 0; out->v.t > 1 && t < keep && !status; t++) {
        frame *one = cut_out(c, out, t, err);
        status = one ? feed(c, i + 1, one, err) : SCOPE_ENOMEM;
        frame_unref(one);
    }
    frame_unref(out);
    return status;
}

static int run_batch(chain *c, int i, scope_error *err)
{
    stage *l = &c->links[i];
    frame *batch = l->batch;
    l->batch = NULL;
    l->filled = 0;
    int status = process(c, i, batch, err);
    frame_unref(batch);
    return status;
}

static int collect(chain *c, int i, const frame *f, int t, scope_error *err)
{
    stage *l = &c->links[i];
    scope_video shape = f->v;
    shape.t = t;
    if (l->batch && (l->batch->v.h != f->v.h || l->batch->v.w != f->v.w)) {
        frame_unref(l->batch); /* the size changed between two calls: begin anew */
        l->batch = NULL;
        l->filled = 0;
    }
    if (!l->batch) {
        l->batch = frame_new(c->pool, &shape, err);
        if (!l->batch)
            return SCOPE_ENOMEM;
        l->batch->v.pts_us = f->v.pts_us;
    }
    memcpy((char *)l->batch->v.data + l->filled++ * l->batch->v.stride_t, f->v.data,
           (size_t)l->batch->v.stride_t);
    l->batch->duration_us += f->duration_us;
    return l->filled == t ? run_batch(c, i, err) : 0;
}

static int feed(chain *c, int i, frame *f, scope_error *err)
{
    if (i == c->count)
        return c->emit(c->ctx, f, err);
    const scope_video *want = instance_want(c->links[i].in);
    frame *fitting = converter_run(c->links[i].convert, f, want, c->fit, err);
    if (!fitting)
        return SCOPE_ENOMEM;
    int status = want->t > 1 ? collect(c, i, fitting, want->t, err) : process(c, i, fitting, err);
    frame_unref(fitting);
    return status;
}

int chain_push(chain *c, frame *in, int64_t pts_us, int64_t duration_us, chain_emit emit, void *ctx,
               const char **at, scope_error *err)
{
    c->emit = emit;
    c->ctx = ctx;
    c->at = NULL;
    c->last_ms = 0;
    c->length_us = duration_us;
    if (!in)
        instance_set_time(c->links[0].in, pts_us);
    int status = in ? feed(c, 0, in, err) : process(c, 0, NULL, err);
    *at = c->at;
    return status;
}

/* A batch that never filled. */
static int flush_batch(chain *c, int i, scope_error *err)
{
    stage *l = &c->links[i];
    int have = l->filled, t = l->batch->v.t;
    char *data = l->batch->v.data;
    size_t one = (size_t)l->batch->v.stride_t;
    l->batch->duration_us = l->batch->duration_us / have * t;
    for (; l->filled < t; l->filled++)
        memcpy(data + (size_t)l->filled * one, data + (size_t)(have - 1) * one, one);
    c->keep_num = c->real = have;
    c->keep_den = t;
    int status = run_batch(c, i, err);
    c->keep_num = c->keep_den = 1;
    return status;
}

/* The last input again and again, until what lags is out. */
static int flush_late(chain *c, int i, scope_error *err)
{
    stage *l = &c->links[i];
    frame *again = l->last ? frame_ref(l->last) : NULL;
    int status = 0;
    for (int calls = 0; l->given < l->real && calls <= INSTANCE_LATENCY_MAX && !status; calls++) {
        c->real = 0;
        status = process(c, i, again, err);
    }
    frame_unref(again);
    return status;
}

int chain_flush(chain *c, chain_emit emit, void *ctx, const char **at, scope_error *err)
{
    c->emit = emit;
    c->ctx = ctx;
    c->at = NULL;
    int status = 0;
    for (int i = 0; i < c->count && !status; i++) {
        if (c->links[i].batch)
            status = flush_batch(c, i, err);
        if (!status)
            status = flush_late(c, i, err);
    }
    *at = c->at;
    return status;
}

int64_t chain_waiting(const chain *c, int64_t *pts_us)
{
    int64_t waiting = 0;
    for (int i = c->count - 1; i >= 0; i--) {
        const stage *l = &c->links[i];
        if (l->given < l->real && !waiting)
            *pts_us = l->when[l->given % MOMENTS].pts_us;
        waiting += l->real - l->given;
    }
    return waiting;
}

int chain_set_input(chain *c, const char *name, frame *f, scope_error *err)
{
    for (int i = 0; i < c->count; i++) {
        if (instance_knows_input(c->links[i].in, name))
            return instance_set_input(c->links[i].in, name, f, err);
    }
    return error_set(err, SCOPE_EINVAL, "", "--input %s: no plugin here has an input of that name",
                     name);
}

int64_t chain_repeated(const chain *c)
{
    int64_t sum = 0;
    for (int i = 0; i < c->count; i++)
        sum += instance_repeated(c->links[i].in);
    return sum;
}

int64_t chain_skipped(const chain *c)
{
    return c->skipped;
}

double chain_last_ms(const chain *c)
{
    return c->last_ms;
}
