/* live_fixture.h - a live, a stream and its eyes, for tests: what came out, what was told. */
#ifndef TESTS_LIVE_FIXTURE_H
#define TESTS_LIVE_FIXTURE_H

#include "faulty.h"
#include "host/live/live.h"

#include <check.h>
#include <dirent.h>

enum { SHOWN_MAX = 4096 };

/* What a tap was given. */
typedef struct eyes {
    GMutex lock;
    int count;
    int first[SHOWN_MAX]; /* the first byte */
    int64_t pts_us[SHOWN_MAX];
    int w, h, c;
} eyes;

static live *on;
static GString *told; /* "state online\nvalues 0 page 7 {...}\n" */
static frame_pool *own;

static void see(void *ctx, frame *f)
{
    eyes *e = ctx;
    g_mutex_lock(&e->lock);
    if (e->count < SHOWN_MAX) {
        e->first[e->count] = *(uint8_t *)f->v.data;
        e->pts_us[e->count] = f->v.pts_us;
    }
    e->count++;
    e->w = f->v.w;
    e->h = f->v.h;
    e->c = f->v.c;
    g_mutex_unlock(&e->lock);
}

static inline stream_tap *look(stream *s, eyes *e)
{
    return stream_tap_open(s, "test", "", &(stream_tap_calls){.ctx = e, .frame = see});
}

static inline int seen(eyes *e)
{
    g_mutex_lock(&e->lock);
    int n = e->count;
    g_mutex_unlock(&e->lock);
    return n;
}

static inline int last_seen(eyes *e)
{
    g_mutex_lock(&e->lock);
    int n = e->count ? e->first[MIN(e->count, SHOWN_MAX) - 1] : -1;
    g_mutex_unlock(&e->lock);
    return n;
}

static void hear(void *ctx, const stream_event *e)
{
    (void)ctx;
    char *values = e->values ? json_dumps(e->values, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    if (e->kind == STREAM_VALUES)
        g_string_append_printf(told, "values %d by %s tag %d %s %s\n", e->link, e->by, (int)e->tag,
                               e->err ? e->err->text : "ok", values);
    else if (e->kind == STREAM_STATE)
        g_string_append_printf(told, "state %s: %s\n",
                               stream_state_name(stream_state_now(e->stream)),
                               stream_notice(e->stream));
    else if (e->kind == STREAM_CREATED || e->kind == STREAM_ENDED)
        g_string_append(told, e->kind == STREAM_CREATED ? "created\n" : "ended\n");
    else if (e->kind == STREAM_LOG)
        g_string_append_printf(told, "log %s\n", e->text);
    free(values);
}

static inline bool heard(const char *what)
{
    return strstr(told->str, what) != NULL;
}

static inline int times_heard(const char *what)
{
    int n = 0;
    for (const char *at = told->str; (at = strstr(at, what)); at++)
        n++;
    return n;
}

static gboolean wake(gpointer woken)
{
    *(bool *)woken = true;
    return G_SOURCE_REMOVE;
}

/* Let the main loop run for so long. */
static inline void run_for(int ms)
{
    bool over = false;
    g_timeout_add((guint)ms, wake, &over);
    while (!over)
        g_main_context_iteration(NULL, TRUE);
}

/* Let the main loop run until `what` holds; a test that waits 30 s in vain has failed. */
#define UNTIL(what)                                                                                \
    do {                                                                                           \
        int64_t until_ = g_get_monotonic_time() + 30 * G_USEC_PER_SEC;                             \
        while (!(what)) {                                                                          \
            ck_assert_msg(g_get_monotonic_time() < until_, "in vain: %s\n%s", #what, told->str);   \
            run_for(2);                                                                            \
        }                                                                                          \
    } while (0)

static inline frame *picture(int first, int w, int h, int c)
{
    scope_error err;
    scope_video v = {.t = 1, .h = h, .w = w, .c = c, .dtype = SCOPE_U8, .device = SCOPE_CPU};
    frame *f = frame_new(own, &v, &err);
    memset(f->v.data, first, (size_t)f->v.stride_t);
    f->v.pts_us = g_get_monotonic_time();
    f->duration_us = 33333;
    return f;
}

static inline void push(stream_input *in, int first)
{
    frame *f = picture(first, 8, 8, 3);
    stream_input_frame(in, f);
    frame_unref(f);
}

static inline json_t *parse(const char *text)
{
    char *json = g_strdelimit(g_strdup(text), "'", '"');
    json_t *j = json_loads(json, JSON_DECODE_ANY, NULL);
    ck_assert_msg(j != NULL, "%s", text);
    g_free(json);
    return j;
}

static inline void chain(stream *s, const char *text)
{
    scope_error err = {0};
    json_t *j = parse(text);
    ck_assert_msg(stream_chain(s, j, &err) == 0, "%s", err.text);
    json_decref(j);
}

static inline int64_t set(stream *s, int link, const char *text, enum stream_reload reload,
                          uint64_t tag, scope_error *err)
{
    json_t *j = parse(text);
    int64_t done = stream_set(s, link, j, reload, "page", tag, err);
    json_decref(j);
    return done;
}

static inline void live_begin(const char *plugins)
{
    scope_error err = {0};
    told = g_string_new(NULL);
    own = frame_pool_new();
    live_options o = {
        .plugin_dir = plugins,
        .streams_max = 300,
        .remotes = {.program = BUILD_DIR "/scope", .frame_limit_ms = 500, .first_limit_ms = 2000}};
    on = live_new(&o, &err);
    ck_assert_msg(on != NULL, "%s", err.text);
    live_listen(on, hear, NULL);
}

static inline void live_end(void)
{
    live_free(on);
    frame_pool_free(own); /* asserts that all frames are back */
    g_string_free(told, TRUE);
}

static inline stream *new_stream(void)
{
    scope_error err;
    stream *s = live_create(on, NULL, &err);
    ck_assert_ptr_nonnull(s);
    return s;
}

/* How many descriptors ("/proc/self/fd") or threads ("/proc/self/task") there are. */
static inline int entries(const char *folder)
{
    int n = 0;
    DIR *d = opendir(folder);
    while (d && readdir(d))
        n++;
    closedir(d);
    return n;
}

#endif
