/* remote_fixture.h - a remote and what it told, for the tests of host/worker. */
#ifndef TESTS_REMOTE_FIXTURE_H
#define TESTS_REMOTE_FIXTURE_H

#include "faulty.h"
#include "host/library.h"
#include "host/worker/remote.h"

#include <check.h>
#include <dlfcn.h>
#include <signal.h>
#include <string.h>

static frame_pool *pool;
static remotes *all;

/* One remote, and what it told. */
typedef struct player {
    remote *r;
    void *library;
    schema *schema;
    GMutex lock; /* of what follows */
    int readies, downs, results, empties, errors, answers, lines, steps;
    double progress;
    scope_video want;
    remote_fault fault;
    int retries_ms[32]; /* of each down() */
    scope_error error, refusal;
    uint64_t generation;
    int amount; /* in force */
    remote_cost cost;
    int byte, w, h; /* of the last frame: its middle byte */
    int64_t pts_us, duration_us;
} player;

/* ---- what they tell -------------------------------------------------------------------------- */

static void on_progress(void *ctx, double done, const char *phase)
{
    player *p = ctx;
    (void)phase;
    g_mutex_lock(&p->lock);
    p->progress = done;
    p->steps++;
    g_mutex_unlock(&p->lock);
}

static void on_ready(void *ctx, const scope_video *want, const json_t *values, uint64_t generation)
{
    player *p = ctx;
    g_mutex_lock(&p->lock);
    p->want = *want;
    p->amount = (int)json_integer_value(json_object_get(values, "amount"));
    p->generation = generation;
    p->readies++;
    g_mutex_unlock(&p->lock);
}

static void on_down(void *ctx, const remote_fault *fault)
{
    player *p = ctx;
    g_mutex_lock(&p->lock);
    p->fault = *fault;
    p->retries_ms[p->downs++ % G_N_ELEMENTS(p->retries_ms)] = fault->retry_ms;
    g_mutex_unlock(&p->lock);
}

static void on_result(void *ctx, frame *out, const remote_cost *cost, const scope_error *err)
{
    player *p = ctx;
    g_mutex_lock(&p->lock);
    p->cost = *cost;
    if (out) {
        const uint8_t *data = out->v.data;
        p->byte = data[out->v.stride_t / 2];
        p->w = out->v.w;
        p->h = out->v.h;
        p->pts_us = out->v.pts_us;
        p->duration_us = out->duration_us;
    }
    p->empties += !out && !err;
    p->errors += err != NULL;
    if (err)
        p->error = *err;
    p->results++;
    g_mutex_unlock(&p->lock);
}

static void on_values(void *ctx, const json_t *values, uint64_t generation, const scope_error *err)
{
    player *p = ctx;
    g_mutex_lock(&p->lock);
    p->amount = (int)json_integer_value(json_object_get(values, "amount"));
    p->generation = generation;
    p->refusal = err ? *err : (scope_error){0};
    p->answers++;
    g_mutex_unlock(&p->lock);
}

static void on_log(void *ctx, int level, const char *line)
{
    player *p = ctx;
    (void)level, (void)line;
    g_mutex_lock(&p->lock);
    p->lines++;
    g_mutex_unlock(&p->lock);
}

/* ---- doing ----------------------------------------------------------------------------------- */

static inline int get(player *p, const int *what)
{
    g_mutex_lock(&p->lock);
    int now = *what;
    g_mutex_unlock(&p->lock);
    return now;
}

/* Until the counter is at least `least`; false after `seconds`. */
static inline bool await(player *p, const int *what, int least, double seconds)
{
    int64_t end = g_get_monotonic_time() + (int64_t)(seconds * 1e6);
    while (get(p, what) < least) {
        if (g_get_monotonic_time() > end)
            return false;
        g_main_context_iteration(NULL, FALSE);
        g_usleep(500);
    }
    return true;
}

#define AWAIT(p, what, least)                                                                      \
    ck_assert_msg(await(p, &(p)->what, least, 30), "%s is %d, not %d; fault \"%s\" error \"%s\"",  \
                  #what, get(p, &(p)->what), least, (p)->fault.err.text, (p)->error.text)

static inline void begin(const remotes_options *more)
{
    remotes_options o = *more;
    o.program = BUILD_DIR "/scope";
    pool = frame_pool_new();
    all = remotes_new(&o, pool);
}

static inline void end(void)
{
    remotes_free(all);
    frame_pool_free(pool); /* asserts that all frames are back */
}

static inline void player_open(player *p, const char *path, json_t *values)
{
    scope_error err = {0};
    schema_error cause;
    const remote_calls calls = {p, on_progress, on_ready, on_down, on_result, on_values, on_log};
    *p = (player){0};
    g_mutex_init(&p->lock);
    const scope_library *library = library_open(path, &p->library, &err);
    ck_assert_msg(library != NULL, "%s %s", path, err.text);
    p->schema = schema_parse(library->plugins[0]->schema, &cause);
    remote_plugin plugin = {.path = path, .id = library->plugins[0]->id, .schema = p->schema};
    p->r = remote_open(all, &plugin, values, &calls, &err);
    ck_assert_msg(p->r != NULL, "%s", err.text);
    json_decref(values);
}

static inline void player_close(player *p)
{
    remote_close(p->r);
    schema_free(p->schema);
    dlclose(p->library);
    g_mutex_clear(&p->lock);
}

static inline frame *make_frame(int w, int h, int c, int fill, int64_t pts_us)
{
    scope_error err;
    scope_video v = {.t = 1, .h = h, .w = w, .c = c, .dtype = SCOPE_U8, .device = SCOPE_CPU};
    frame *f = frame_new(pool, &v, &err);
    memset(f->v.data, fill, (size_t)f->v.stride_t);
    f->v.pts_us = pts_us;
    f->duration_us = 33333;
    return f;
}

static inline bool send_size(player *p, int w, int h, int fill)
{
    frame *f = make_frame(w, h, 3, fill, 123456);
    bool went = remote_process(p->r, f, 123456, 33333);
    frame_unref(f);
    return went;
}

/* One frame there and back; its middle byte, or -1 when no frame came. */
static inline int trip(player *p, int w, int h, int fill)
{
    int before = get(p, &p->results);
    p->byte = -1;
    ck_assert(send_size(p, w, h, fill));
    AWAIT(p, results, before + 1);
    return get(p, &p->byte);
}

static inline json_t *amount(int n)
{
    return json_pack("{si ss}", "amount", n, "model", "");
}

static inline void set_amount(player *p, int n)
{
    json_t *values = amount(n);
    uint64_t generation = remote_set(p->r, values);
    json_decref(values);
    int64_t end_us = g_get_monotonic_time() + 30 * G_USEC_PER_SEC;
    while (true) {
        g_mutex_lock(&p->lock);
        bool there = p->generation >= generation;
        g_mutex_unlock(&p->lock);
        if (there)
            break;
        ck_assert_msg(g_get_monotonic_time() < end_us, "values were not answered");
        g_usleep(500);
    }
}

/* For qsort. */
static inline int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

#endif
