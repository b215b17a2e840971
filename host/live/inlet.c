/* inlet.c - a player on a thread of its own, that feeds a stream's input.
 *
 * Must stay true: the main thread waits for no player, but when the stream itself goes; nothing
 * reaches the input after it has been closed (`stop`, under the lock, says so).
 */
#include "inlet.h"
#include "inlet_url.h"
#include "live.h"

#include "../error.h"

#include <string.h>

enum {
    WAIT_MS = 50,
    FIRST_LIMIT_S = 15, /* until the first frame */
    STALL_LIMIT_S = 10, /* between two */
    BACKOFF_MIN_MS = 500,
    BACKOFF_MAX_MS = 10000,
    STEADY_S = 5, /* what worked for so long starts with a short back-off again */
    STILL_FPS = 30,
};

enum inlet_state { INLET_CONNECTING = 1, INLET_LIVE, INLET_RETRYING, INLET_ENDED };
static const char *const state_names[] = {"", "connecting", "live", "retrying", "ended"};

typedef struct inlet {
    struct inlets *all;
    stream_input *in; /* NULL once closed [main] */
    inlet_url url;
    bool loop;
    int fps;
    frame_pool *pool; /* borrowed from live */
    GThread *thread;
    GMutex lock;
    GCond wake;
    bool stop; /* all that follow under the lock */
    enum inlet_state state;
    char reason[256];
    int64_t frames;
    int opened;
    int w, h;
    guint tell, reap; /* sources of the main loop that are still to run */
} inlet;

/* What is attached to a stream. [main] */
typedef struct inlets {
    stream *stream;
    inlet *now;      /* or NULL */
    GPtrArray *gone; /* of inlet: told to stop, threads not yet joined */
} inlets;

/* ---- on the thread --------------------------------------------------------------------------- */

static bool stopped(inlet *i)
{
    g_mutex_lock(&i->lock);
    bool stop = i->stop;
    g_mutex_unlock(&i->lock);
    return stop;
}

/* True when told to stop before the time is up. */
static bool rest(inlet *i, int64_t until_us)
{
    g_mutex_lock(&i->lock);
    while (!i->stop && g_cond_wait_until(&i->wake, &i->lock, until_us))
        ;
    bool stop = i->stop;
    g_mutex_unlock(&i->lock);
    return stop;
}

/* [main] */
static gboolean on_tell(gpointer user)
{
    inlet *i = user;
    char reason[sizeof i->reason];
    g_mutex_lock(&i->lock);
    i->tell = 0;
    g_strlcpy(reason, i->reason, sizeof reason);
    g_mutex_unlock(&i->lock);
    if (i->in)
        stream_notify(i->all->stream, "source", *reason ? reason : NULL);
    return G_SOURCE_REMOVE;
}

static void say(inlet *i, enum inlet_state state, const char *reason)
{
    g_mutex_lock(&i->lock);
    i->state = state;
    error_copy(i->reason, sizeof i->reason, reason);
    if (!i->tell && !i->stop)
        i->tell = g_idle_add(on_tell, i);
    g_mutex_unlock(&i->lock);
}

static void give(inlet *i, frame *f)
{
    g_mutex_lock(&i->lock);
    if (!i->stop) {
        i->frames++;
        i->w = f->v.w;
        i->h = f->v.h;
        stream_input_frame(i->in, f);
    }
    g_mutex_unlock(&i->lock);
}

/* [GStreamer thread] */
static void on_sound(void *ctx, GstBuffer *sound)
{
    inlet *i = ctx;
    g_mutex_lock(&i->lock);
    if (i->stop)
        gst_buffer_unref(sound);
    else
        stream_input_sound(i->in, sound);
    g_mutex_unlock(&i->lock);
}

/* A picture that does not move is sent again and again, until the stop. */
static int hold_still(inlet *i, const frame *still, scope_error *err)
{
    int64_t began = g_get_monotonic_time();
    int fps = i->fps ? i->fps : STILL_FPS;
    for (int64_t n = 1; !rest(i, began + n * 1000000 / fps); n++) {
        frame *f = frame_new(i->pool, &still->v, err);
        if (!f)
            return SCOPE_ENOMEM;
        memcpy(f->v.data, still->v.data, (size_t)still->v.stride_t);
        f->v.pts_us = g_get_monotonic_time();
        f->duration_us = 1000000 / fps;
        give(i, f);
        frame_unref(f);
    }
    return 0;
}

typedef struct playing {
    player *player;
    frame *last;   /* owned */
    int64_t round; /* frames since the beginning or the last rewinding */
    int64_t last_us;
    bool live;    /* a first frame has come */
    bool rewound; /* at least once */
} playing;

/* 0 to go on; PLAYER_ENDED; negative when that is a fault. */
static int at_end(inlet *i, playing *p, scope_error *err)
{
    if (p->round == 0)
        return error_set(err, SCOPE_EIO, "", "cannot play '%s': there is no picture in it",
                         i->url.about);
    if (p->round == 1 && !i->url.live)
        return hold_still(i, p->last, err);
    if (i->url.live)
        return error_set(err, SCOPE_EIO, "", "'%s' has stopped sending", i->url.about);
    p->round = 0;
    p->rewound = true;
    p->last_us = g_get_monotonic_time();
    return i->loop && player_rewind(p->player) ? 0 : PLAYER_ENDED;
}

static int check_stall(const inlet *i, const playing *p, scope_error *err)
{
    int limit_s = p->live ? STALL_LIMIT_S : FIRST_LIMIT_S;
    if (g_get_monotonic_time() - p->last_us < limit_s * G_USEC_PER_SEC)
        return 0;
    return error_set(err, SCOPE_EIO, "", "'%s' has sent no picture for %d seconds", i->url.about,
                     limit_s);
}

static int play_on(inlet *i, playing *p, scope_error *err)
{
    int status = 0;
    while (!status && !stopped(i)) {
        frame *f = NULL;
        int got = player_next(p->player, WAIT_MS, &f, err);
        if (got == 1) {
            if (!p->live)
                say(i, INLET_LIVE, "");
            p->live = true;
            p->round++;
            p->last_us = g_get_monotonic_time();
            give(i, f);
            frame_unref(p->last);
            p->last = f;
        } else if (got == PLAYER_ENDED) {
            status = at_end(i, p, err);
        } else if (got < 0) { /* what says that it can be rewound and cannot is opened again */
            status = p->rewound && !p->round ? PLAYER_ENDED : got;
        } else {
            status = check_stall(i, p, err);
        }
    }
    return status;
}

/* Play once, or in a loop, until it ends (PLAYER_ENDED), breaks (negative) or is stopped (0). */
static int play(inlet *i, scope_error *err)
{
    player_options o = {.kind = i->url.player,
                        .input = i->url.input,
                        .about = i->url.about,
                        .files = !strcmp(i->url.kind, "file"),
                        .fps = i->fps,
                        .sound = on_sound,
                        .ctx = i};
    playing p = {.last_us = g_get_monotonic_time()};
    g_mutex_lock(&i->lock);
    i->opened++;
    g_mutex_unlock(&i->lock);
    p.player = player_open(&o, i->pool, err);
    int status = p.player ? play_on(i, &p, err) : SCOPE_EIO;
    player_close(p.player);
    frame_unref(p.last);
    return status;
}

static gboolean on_reap(gpointer user);

static gpointer work(gpointer user)
{
    inlet *i = user;
    int wait_ms = BACKOFF_MIN_MS;
    while (!stopped(i)) {
        scope_error err = {0};
        int64_t began = g_get_monotonic_time();
        int status = play(i, &err);
        if (stopped(i) || (status == PLAYER_ENDED && i->loop))
            continue; /* what cannot be rewound is opened again */
        if (status == PLAYER_ENDED) {
            char *text = g_strdup_printf("%s has ended", i->url.about);
            say(i, INLET_ENDED, text);
            g_free(text);
            while (!rest(i, g_get_monotonic_time() + G_USEC_PER_SEC * 60))
                ;
            continue;
        }
        if (g_get_monotonic_time() - began > (STALL_LIMIT_S + FIRST_LIMIT_S) * G_USEC_PER_SEC)
            wait_ms = BACKOFF_MIN_MS;
        char *text = g_strdup_printf("%s; trying again in %g s", err.text, wait_ms / 1000.0);
        say(i, INLET_RETRYING, text);
        g_free(text);
        rest(i, g_get_monotonic_time() + wait_ms * 1000);
        wait_ms = MIN(wait_ms * 2, BACKOFF_MAX_MS);
    }
    g_mutex_lock(&i->lock);
    i->reap = g_idle_add(on_reap, i);
    g_mutex_unlock(&i->lock);
    return NULL;
}

/* ---- on the main thread ---------------------------------------------------------------------- */

/* Waits for the thread. */
static void inlet_free(inlet *i)
{
    g_thread_join(i->thread);
    if (i->tell)
        g_source_remove(i->tell);
    if (i->reap)
        g_source_remove(i->reap);
    inlet_url_fini(&i->url);
    g_mutex_clear(&i->lock);
    g_cond_clear(&i->wake);
    g_free(i);
}

static gboolean on_reap(gpointer user)
{
    inlet *i = user;
    g_mutex_lock(&i->lock); /* the thread may still hold it */
    i->reap = 0;
    g_mutex_unlock(&i->lock);
    g_ptr_array_remove_fast(i->all->gone, i); /* frees it */
    return G_SOURCE_REMOVE;
}

/* Let go of what is open, without waiting. */
static void drop(inlets *all)
{
    inlet *i = all->now;
    all->now = NULL;
    if (!i)
        return;
    g_mutex_lock(&i->lock);
    i->stop = true;
    g_cond_signal(&i->wake);
    g_mutex_unlock(&i->lock);
    stream_input *in = i->in;
    i->in = NULL;
    g_ptr_array_add(all->gone, i);
    stream_input_close(in);
    stream_notify(all->stream, "source", NULL);
}

static void on_replaced(void *ctx)
{
    inlets *all = ctx;
    drop(all);
}

static void inlets_free(gpointer user)
{
    inlets *all = user;
    drop(all);
    g_ptr_array_free(all->gone, TRUE);
    g_free(all);
}

static inlets *inlets_of(stream *s)
{
    inlets *all = stream_attached(s, "inlets");
    if (all)
        return all;
    all = g_new0(inlets, 1);
    all->stream = s;
    all->gone = g_ptr_array_new_with_free_func((GDestroyNotify)inlet_free);
    stream_attach(s, "inlets", all, inlets_free);
    return all;
}

static int read_request(const json_t *source, const char **url, bool *loop, int *fps,
                        scope_error *err)
{
    const char *key;
    json_t *value;
    *loop = true;
    *fps = 0;
    *url = json_string_value(json_object_get(source, "url"));
    if (!*url)
        return error_set(err, SCOPE_EINVAL, "url", "a source is {\"url\": text}");
    json_object_foreach((json_t *)source, key, value)
    {
        double number = json_number_value(value);
        if (!strcmp(key, "loop") && json_is_boolean(value))
            *loop = json_is_true(value);
        else if (!strcmp(key, "fps") && number >= 1 && number <= 240)
            *fps = (int)(number + 0.5);
        else if (!strcmp(key, "loop") || !strcmp(key, "fps"))
            return error_set(err, SCOPE_EINVAL, key, "'%s' of a source is %s", key,
                             *key == 'l' ? "true or false" : "a number from 1 to 240");
        else if (strcmp(key, "url") != 0)
            return error_set(err, SCOPE_EINVAL, key, "a source has no '%s'; it has url, loop, fps",
                             key);
    }
    return 0;
}

/* What is asked for, checked; nothing to be freed after an error. */
static int read_source(stream *s, const json_t *source, inlet_url *u, bool *loop, int *fps,
                       scope_error *err)
{
    const char *url;
    int status = read_request(source, &url, loop, fps, err);
    if (status)
        return status;
    live *l = stream_live(s);
    char *assets = g_build_filename(live_data_dir(l), "assets", NULL);
    status = inlet_url_init(u, url, assets, live_settings(l)->local_files, err);
    g_free(assets);
    if (status)
        inlet_url_fini(u);
    return status;
}

int inlet_check(stream *s, const json_t *source, scope_error *err)
{
    inlet_url u;
    bool loop;
    int fps;
    int status = json_is_null(source) ? 0 : read_source(s, source, &u, &loop, &fps, err);
    if (!status && !json_is_null(source))
        inlet_url_fini(&u);
    return status;
}

int inlet_set(stream *s, const json_t *source, scope_error *err)
{
    inlets *all = inlets_of(s);
    if (!source || json_is_null(source)) {
        drop(all);
        return 0;
    }
    inlet_url url;
    bool loop;
    int fps, status = read_source(s, source, &url, &loop, &fps, err);
    if (status)
        return status;
    inlet *i = g_new0(inlet, 1);
    drop(all);
    i->all = all;
    i->url = url;
    i->loop = loop;
    i->fps = fps;
    i->pool = live_frames(stream_live(s));
    i->state = INLET_CONNECTING;
    g_mutex_init(&i->lock);
    g_cond_init(&i->wake);
    stream_input_calls calls = {all, on_replaced};
    i->in = stream_input_open(s, i->url.kind, i->url.about, &calls);
    all->now = i;
    i->thread = g_thread_new("inlet", work, i);
    return 0;
}

json_t *inlet_json(stream *s)
{
    inlets *all = stream_attached(s, "inlets");
    inlet *i = all ? all->now : NULL;
    if (!i)
        return json_null();
    g_mutex_lock(&i->lock);
    json_t *j = json_pack("{ss ss ss sb si ss ss sI si si si}", "kind", i->url.kind, "about",
                          i->url.about, "url", i->url.url, "loop", i->loop, "fps", i->fps, "state",
                          state_names[i->state], "reason", i->reason, "frames",
                          (json_int_t)i->frames, "opened", i->opened, "w", i->w, "h", i->h);
    g_mutex_unlock(&i->lock);
    return j;
}
