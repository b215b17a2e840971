/* remote.c - instances in other processes: the public functions; see remote.h and crew.h.
 *
 * Must stay true: nothing here waits for a worker, but for remote_close, which waits for a call
 * into its owner to end, and remotes_free.
 */
#include "crew.h"

#include "../error.h"

#include <assert.h>

/* ---- all of them ----------------------------------------------------------------------------- */

remotes *remotes_new(const remotes_options *o, frame_pool *pool)
{
    remotes *all = g_new0(remotes, 1);
    all->options = *o;
    if (!o->frame_limit_ms)
        all->options.frame_limit_ms = 10 * 1000;
    if (!o->first_limit_ms)
        all->options.first_limit_ms = 120 * 1000;
    all->program = g_strdup(o->program ? o->program : "/proc/self/exe");
    all->options.program = all->program;
    all->pool = pool;
    all->context = g_main_context_ref_thread_default();
    all->workers = g_ptr_array_new();
    return all;
}

void remotes_free(remotes *all)
{
    if (!all)
        return;
    while (all->workers->len > 0) { /* they end side by side; each has been told */
        worker *w = g_ptr_array_index(all->workers, 0);
        assert(w->members->len == 0);
        worker_free(w);
    }
    g_ptr_array_unref(all->workers);
    g_main_context_unref(all->context);
    g_free(all->program);
    g_free(all);
}

int remotes_about_all(remotes *all, remotes_about *about, int max)
{
    for (guint i = 0; i < all->workers->len && (int)i < max; i++) {
        worker *w = g_ptr_array_index(all->workers, i);
        remotes_about *a = &about[i];
        g_mutex_lock(&w->lock);
        *a = (remotes_about){.pid = w->wire ? w->process.pid : 0,
                             .instances = (int)w->members->len,
                             .restarts = w->restarts,
                             .started_us = w->started_us};
        g_strlcpy(a->plugin, w->id, sizeof a->plugin);
        g_strlcpy(a->last_fault, w->last_fault, sizeof a->last_fault);
        if (a->pid)
            a->rss_bytes = process_rss(a->pid);
        g_mutex_unlock(&w->lock);
    }
    return (int)all->workers->len;
}

/* ---- one ------------------------------------------------------------------------------------- */

remote *remote_ref(remote *r)
{
    g_atomic_int_inc(&r->refs);
    return r;
}

void remote_unref(remote *r)
{
    if (!g_atomic_int_dec_and_test(&r->refs))
        return;
    shared_drop(&r->in);
    shared_drop(&r->out);
    frame_unref(r->sent);
    g_hash_table_unref(r->inputs);
    json_decref(r->asked);
    json_decref(r->force);
    g_mutex_clear(&r->calling);
    g_free(r);
}

static void unref_frame(gpointer f)
{
    frame_unref(f);
}

remote *remote_open(remotes *all, const remote_plugin *plugin, const json_t *values,
                    const remote_calls *calls, scope_error *err)
{
    schema_error cause;
    json_t *complete = schema_complete(plugin->schema, values, &cause);
    if (!complete) {
        error_from_schema(err, &cause);
        return NULL;
    }
    worker *w = worker_for(all, plugin, complete);
    remote *r = g_new0(remote, 1);
    r->refs = 1;
    r->worker = w;
    r->schema = plugin->schema;
    r->fit = plugin->fit ? plugin->fit : MEDIA_CROP;
    r->calls = *calls;
    r->state = REMOTE_LOADING;
    r->asked = complete;
    r->force = json_incref(complete);
    r->asked_generation = r->force_generation = 1;
    r->inputs = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, unref_frame);
    r->in.fd = r->out.fd = -1;
    g_mutex_init(&r->calling);
    g_mutex_lock(&w->lock);
    r->id = ++w->last_id;
    g_ptr_array_add(w->members, r);
    worker_tell_open(w, r);
    g_mutex_unlock(&w->lock);
    if (!w->thread)
        worker_start(w);
    return r;
}

void remote_close(remote *r)
{
    if (!r)
        return;
    worker *w = r->worker;
    g_mutex_lock(&w->lock);
    g_ptr_array_remove(w->members, r);
    if (w->wire && r->opened)
        wire_send(w->wire, WIRE_CLOSE, r->id, NULL, 0, -1);
    if (!worker_has(w, REMOTE_LOADING) && !worker_has(w, REMOTE_READY))
        worker_stop(w); /* nobody is left, or only those whose init() failed */
    bool idle = w->members->len == 0 && !w->thread;
    bool waits = w->members->len == 0 && w->over;
    g_mutex_unlock(&w->lock);
    g_mutex_lock(&r->calling); /* a call that is under way ends first */
    r->closed = true;
    g_mutex_unlock(&r->calling);
    remote_unref(r);
    if (idle || waits)
        worker_free(w);
}

void remote_retry(remote *r)
{
    worker *w = r->worker;
    g_mutex_lock(&w->lock);
    bool ready = r->state == REMOTE_READY;
    if (r->state == REMOTE_FAILED) {
        r->state = REMOTE_LOADING;
        json_decref(r->force);
        r->force = json_incref(r->asked);
        r->force_generation = r->asked_generation;
        if (w->wire && r->opened) /* what failed gives its seat back */
            wire_send(w->wire, WIRE_CLOSE, r->id, NULL, 0, -1);
        r->id = ++w->last_id;
        worker_tell_open(w, r);
    }
    g_mutex_unlock(&w->lock);
    if (!ready)
        worker_hurry(w);
}

int remote_pid(remote *r)
{
    worker *w = r->worker;
    g_mutex_lock(&w->lock);
    int pid = w->wire && r->opened ? w->process.pid : 0;
    g_mutex_unlock(&w->lock);
    return pid;
}

/* ---- time limits ----------------------------------------------------------------------------- */

static int64_t deadline(const worker *w, const remote *r, int64_t start_us)
{
    const remotes_options *o = &w->all->options;
    int limit_ms = r->young > 0 ? MAX(o->first_limit_ms, o->frame_limit_ms) : o->frame_limit_ms;
    return start_us + limit_ms * G_GINT64_CONSTANT(1000);
}

/* Another size, by the names that sizes have in base.json, is planned for as after a load. */
static void expect_plans(const worker *w, remote *r, const json_t *next)
{
    static const char *const sizes[] = {"width", "height"};
    bool same = true;
    for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
        const json_t *before = json_object_get(r->asked, sizes[i]);
        same = same && (!before || json_equal(before, json_object_get(next, sizes[i])));
    }
    if (same)
        return;
    r->young = REMOTE_YOUNG;
    r->deadline_us = deadline(w, r, g_get_monotonic_time()); /* it may meet a frame under way */
}

/* ---- values ---------------------------------------------------------------------------------- */

uint64_t remote_set(remote *r, const json_t *values)
{
    enum { UNANSWERED_MAX = 4 };
    worker *w = r->worker;
    json_t *copy = json_deep_copy(values);
    g_mutex_lock(&w->lock);
    expect_plans(w, r, copy);
    json_decref(r->asked);
    r->asked = copy;
    uint64_t generation = ++r->asked_generation;
    /* What is not sent now goes with the next answer. */
    if (w->wire && r->opened && r->state != REMOTE_FAILED && r->unanswered < UNANSWERED_MAX &&
        !wire_is_behind(w->wire))
        worker_tell_values(w, r);
    g_mutex_unlock(&w->lock);
    return generation;
}

void remote_reset(remote *r)
{
    worker *w = r->worker;
    g_mutex_lock(&w->lock);
    if (w->wire && r->opened)
        wire_send(w->wire, WIRE_RESET, r->id, NULL, 0, -1);
    g_mutex_unlock(&w->lock);
}

void remote_set_input(remote *r, const char *name, frame *f)
{
    worker *w = r->worker;
    g_mutex_lock(&w->lock);
    if (f)
        g_hash_table_insert(r->inputs, g_strdup(name), frame_ref(f));
    else
        g_hash_table_remove(r->inputs, name);
    if (w->wire && r->opened)
        worker_tell_input(w, r, name, f);
    g_mutex_unlock(&w->lock);
}

/* ---- frames ---------------------------------------------------------------------------------- */

/* Write the picture where the worker will read it. */
static bool place(remote *r, const frame *in, wire_picture *p)
{
    *p = (wire_picture){in->v.h, in->v.w, in->v.c, in->v.dtype, in->v.pts_us, in->duration_us, 0};
    size_t bytes = wire_picture_bytes(p);
    assert(in->v.t == 1 && bytes == (size_t)in->v.stride_t);
    if (!shared_suits(&r->in, bytes)) {
        shared_drop(&r->in);
        r->in_known = 0;
        if (shared_make(&r->in, bytes) < 0)
            return false;
    }
    p->offset = shared_place(&r->in, bytes);
    memcpy(r->in.data + p->offset, in->v.data, bytes);
    return true;
}

/* With worker.lock held: the frame goes, and its time runs. */
static void take_off(worker *w, remote *r, wire_frame *f, frame *in, int64_t start_us)
{
    if (f->in.h && r->in_known != w->life) {
        wire_send(w->wire, WIRE_REGION, r->id, NULL, 0, r->in.fd);
        r->in_known = w->life;
    }
    if (f->in.h != r->in_h || f->in.w != r->in_w) {
        r->in_h = f->in.h;
        r->in_w = f->in.w;
        r->young = REMOTE_YOUNG;
    }
    f->serial = ++r->serial;
    r->sent = in ? frame_ref(in) : NULL;
    r->sent_us = start_us;
    r->deadline_us = deadline(w, r, start_us);
    r->flight = FLIGHT_SENT;
    wire_send(w->wire, WIRE_FRAME, r->id, f, sizeof *f, -1);
}

bool remote_process(remote *r, frame *in, int64_t pts_us, int64_t duration_us)
{
    worker *w = r->worker;
    int64_t start_us = g_get_monotonic_time();
    wire_frame f = {.in = {.pts_us = pts_us, .duration_us = duration_us}};
    g_mutex_lock(&w->lock);
    uint64_t life = w->life;
    bool good = r->state == REMOTE_READY && r->flight == FLIGHT_NONE && !w->doomed[0];
    if (good)
        r->flight = FLIGHT_CLAIMED;
    g_mutex_unlock(&w->lock);
    if (!good)
        return false;
    good = !in || place(r, in, &f.in); /* not under the lock: it takes a while */
    g_mutex_lock(&w->lock);
    good =
        good && w->wire && w->life == life && r->state == REMOTE_READY && !wire_is_behind(w->wire);
    if (good)
        take_off(w, r, &f, in, start_us);
    else
        r->flight = FLIGHT_NONE;
    g_mutex_unlock(&w->lock);
    return good;
}
