/* fake_remote.h - remotes without workers: a thread each that does what its "model" parameter says.
 * Linked in the place of host/worker, so that a test decides when a plugin is slow, dies or finds
 * no memory. The plugin is tests/abi's "good": it adds "amount" to every byte.
 *
 *   model "slow"      a frame takes FAKE_SLOW_MS       "long"    loading takes FAKE_LOAD_MS
 *         "fails"     init() fails for good            "big"     the same while others are open
 *         "huge"      finds no memory at all        "generator" makes frames by itself
 *   amount 9: refused, 8: process() fails
 */
#ifndef TESTS_FAKE_REMOTE_H
#define TESTS_FAKE_REMOTE_H

#include "host/error.h"
#include "host/worker/remote.h"

#include <string.h>

enum { FAKE_SLOW_MS = 60, FAKE_LOAD_MS = 1500, FAKE_AGAIN_MS = 100, FAKE_MAX = 64 };

struct remotes {
    frame_pool *pool;
};

struct remote {
    remotes *all;
    remote_calls calls;
    GThread *thread;
    GMutex lock;
    GCond some;
    /* under lock */
    json_t *asked, *force;
    uint64_t asked_generation, force_generation;
    frame *in;
    bool has_frame, makes_one, up, failed, retry, dies, closing, busy;
    int64_t pts_us, duration_us;
    int resets, inputs;
};

static struct {
    GMutex lock;
    remote *open[FAKE_MAX];
    int opened; /* so far */
} fakes;

static bool fake_is(remote *r, const char *model)
{
    return !strcmp(json_string_value(json_object_get(r->asked, "model")), model);
}

static int fake_count(void)
{
    int n = 0;
    g_mutex_lock(&fakes.lock);
    for (int i = 0; i < FAKE_MAX; i++)
        n += fakes.open[i] != NULL;
    g_mutex_unlock(&fakes.lock);
    return n;
}

static void fake_seat(remote *from, remote *to)
{
    g_mutex_lock(&fakes.lock);
    for (int i = 0; i < FAKE_MAX; i++) {
        if (fakes.open[i] == from) {
            fakes.open[i] = to;
            break;
        }
    }
    g_mutex_unlock(&fakes.lock);
}

/* Let every instance die; each comes back after FAKE_AGAIN_MS. */
static inline void fake_kill_all(void)
{
    g_mutex_lock(&fakes.lock);
    for (int i = 0; i < FAKE_MAX; i++) {
        remote *r = fakes.open[i];
        if (!r)
            continue;
        g_mutex_lock(&r->lock);
        r->dies = true;
        g_cond_signal(&r->some);
        g_mutex_unlock(&r->lock);
    }
    g_mutex_unlock(&fakes.lock);
}

/* Wait with the lock held until told or until `ms` have passed; false when it is to close. */
static bool fake_wait(remote *r, int ms)
{
    int64_t until = g_get_monotonic_time() + ms * 1000;
    while (!r->closing && g_cond_wait_until(&r->some, &r->lock, until))
        ;
    return !r->closing;
}

static void fake_down(remote *r, int status, int retry_ms, const char *text)
{
    remote_fault fault = {.retry_ms = retry_ms};
    error_set(&fault.err, status, "", "%s", text);
    r->up = false;
    r->failed = retry_ms < 0;
    frame_unref(r->in);
    r->in = NULL;
    r->has_frame = r->busy = false;
    g_mutex_unlock(&r->lock);
    r->calls.down(r->calls.ctx, &fault);
    g_mutex_lock(&r->lock);
}

static void fake_init(remote *r)
{
    r->retry = false;
    g_mutex_unlock(&r->lock);
    r->calls.progress(r->calls.ctx, 0.5, "half");
    g_mutex_lock(&r->lock);
    if (!fake_wait(r, fake_is(r, "long") ? FAKE_LOAD_MS : 0))
        return;
    if (fake_is(r, "fails")) {
        fake_down(r, SCOPE_EIO, -1, "there are no weights");
    } else if (fake_is(r, "huge") || (fake_is(r, "big") && fake_count() > 1)) {
        fake_down(r, SCOPE_ENOMEM, -1, "out of memory");
    } else {
        scope_video want = {.t = !fake_is(r, "generator"), .c = 3, .dtype = SCOPE_U8};
        json_t *values = r->force = json_incref(r->asked);
        uint64_t generation = r->force_generation = r->asked_generation;
        r->up = true;
        g_mutex_unlock(&r->lock);
        r->calls.ready(r->calls.ctx, &want, values, generation);
        g_mutex_lock(&r->lock);
    }
}

static void fake_values(remote *r)
{
    uint64_t generation = r->asked_generation;
    scope_error err = {0};
    if (json_integer_value(json_object_get(r->asked, "amount")) == 9) {
        error_set(&err, SCOPE_EINVAL, "amount", "9 does not suit this model");
    } else {
        json_decref(r->force);
        r->force = json_incref(r->asked);
    }
    r->force_generation = generation;
    json_t *values = json_incref(r->force);
    g_mutex_unlock(&r->lock);
    r->calls.values(r->calls.ctx, values, generation, err.status ? &err : NULL);
    g_mutex_lock(&r->lock);
    json_decref(values);
}

static void fake_process(remote *r)
{
    frame *in = g_steal_pointer(&r->in);
    int amount = (int)json_integer_value(json_object_get(r->force, "amount"));
    int64_t begun_us = g_get_monotonic_time(), pts_us = r->pts_us;
    r->has_frame = false;
    bool go_on = fake_wait(r, fake_is(r, "slow") ? FAKE_SLOW_MS : 0) && !r->dies;
    g_mutex_unlock(&r->lock);
    scope_video shape = {.t = 1, .h = 8, .w = 8, .c = 3, .dtype = SCOPE_U8};
    if (in)
        shape.h = in->v.h, shape.w = in->v.w;
    scope_error err = {0};
    frame *out = go_on ? frame_new(r->all->pool, &shape, &err) : NULL;
    if (out) {
        memset(out->v.data, (in ? *(uint8_t *)in->v.data : 0) + amount, (size_t)out->v.stride_t);
        out->v.pts_us = in ? in->v.pts_us : pts_us;
    }
    frame_unref(in);
    g_mutex_lock(&r->lock);
    if (go_on) {
        r->busy = false;
        g_mutex_unlock(&r->lock);
        double ms = (double)(g_get_monotonic_time() - begun_us) * 1e-3;
        if (amount == 8)
            error_set(&err, SCOPE_EINVAL, "amount", "8 is too much");
        remote_cost cost = {.process_ms = ms, .trip_ms = ms, .latency = -1};
        r->calls.result(r->calls.ctx, amount == 8 ? NULL : out, &cost, amount == 8 ? &err : NULL);
        g_mutex_lock(&r->lock);
    }
    frame_unref(out);
}

static gpointer fake_thread(gpointer p)
{
    remote *r = p;
    g_mutex_lock(&r->lock);
    fake_init(r);
    while (!r->closing) {
        if (r->dies) {
            r->dies = false;
            fake_down(r, SCOPE_EIO, FAKE_AGAIN_MS, "good crashed (Segmentation fault)");
            if (fake_wait(r, FAKE_AGAIN_MS)) {
                json_decref(g_steal_pointer(&r->force));
                fake_init(r);
            }
        } else if (r->failed && r->retry) {
            r->failed = false;
            fake_init(r);
        } else if (r->up && r->force_generation != r->asked_generation) {
            fake_values(r);
        } else if (r->up && r->has_frame) {
            fake_process(r);
        } else {
            g_cond_wait(&r->some, &r->lock);
        }
    }
    g_mutex_unlock(&r->lock);
    return NULL;
}

remotes *remotes_new(const remotes_options *o, frame_pool *pool)
{
    (void)o;
    remotes *all = g_new0(remotes, 1);
    all->pool = pool;
    return all;
}

void remotes_free(remotes *all)
{
    g_assert(fake_count() == 0);
    g_free(all);
}

int remotes_about_all(remotes *all, remotes_about *about, int max)
{
    (void)all, (void)about, (void)max;
    return 0;
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
    remote *r = g_new0(remote, 1);
    r->all = all;
    r->calls = *calls;
    r->asked = json_deep_copy(complete);
    json_decref(complete);
    r->asked_generation = 1;
    g_mutex_init(&r->lock);
    g_cond_init(&r->some);
    fakes.opened++;
    fake_seat(NULL, r);
    r->thread = g_thread_new("fake", fake_thread, r);
    return r;
}

void remote_close(remote *r)
{
    if (!r)
        return;
    g_mutex_lock(&r->lock);
    r->closing = true;
    g_cond_signal(&r->some);
    g_mutex_unlock(&r->lock);
    g_thread_join(r->thread);
    fake_seat(r, NULL);
    json_decref(r->asked);
    json_decref(r->force);
    frame_unref(r->in);
    g_mutex_clear(&r->lock);
    g_cond_clear(&r->some);
    g_free(r);
}

void remote_retry(remote *r)
{
    g_mutex_lock(&r->lock);
    r->retry = true;
    g_cond_signal(&r->some);
    g_mutex_unlock(&r->lock);
}

uint64_t remote_set(remote *r, const json_t *values)
{
    g_mutex_lock(&r->lock);
    json_decref(r->asked);
    r->asked = json_deep_copy(values);
    uint64_t generation = ++r->asked_generation;
    g_cond_signal(&r->some);
    g_mutex_unlock(&r->lock);
    return generation;
}

void remote_reset(remote *r)
{
    r->resets++;
}

void remote_set_input(remote *r, const char *name, frame *f)
{
    (void)name;
    r->inputs += f ? 1 : -1;
}

bool remote_process(remote *r, frame *in, int64_t pts_us, int64_t duration_us)
{
    g_mutex_lock(&r->lock);
    bool good = r->up && !r->busy && !r->dies;
    if (good) {
        r->in = in ? frame_ref(in) : NULL;
        r->has_frame = r->busy = true;
        r->pts_us = pts_us;
        r->duration_us = duration_us;
        g_cond_signal(&r->some);
    }
    g_mutex_unlock(&r->lock);
    return good;
}

int remote_pid(remote *r)
{
    (void)r;
    return 0;
}

#endif
