/* outlet.c - the outlets of each stream: made, listed and ended on the main thread.
 *
 * The list is attached to the stream and goes with it. Must stay true: the main thread waits for an
 * outlet's thread only in the outlet's last moments, or when the stream itself goes; and whoever
 * asked for an end is always told.
 */
#include "outlet.h"
#include "inlet_url.h"
#include "outlet_parts.h"

#include "../error.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>

enum { OUTLETS_MAX = 16, CLOSING_MS = 20 };

static const char *const state_names[] = {"",          "starting", "live",  "retrying",
                                          "finishing", "done",     "failed"};

static const struct outlet_kind {
    const char *name;
    enum muxer_kind muxer;
} kinds[] = {
    {"record", MUXER_MP4}, {"rtmp", MUXER_RTMP}, {"hls", MUXER_HLS},
    {"srt", MUXER_SRT},    {"v4l2", MUXER_V4L2},
};

/* What is attached to a stream. [main] */
typedef struct outlets {
    stream *stream;
    GPtrArray *list; /* of outlet */
} outlets;

/* ---- what people see ------------------------------------------------------------------------- */

static json_t *to_json(outlet *o)
{
    g_mutex_lock(&o->lock);
    json_t *j = json_pack("{ss ss ss ss ss ss sf sI sI sI}", "id", o->id, "kind", o->name,
                          o->kind == MUXER_MP4 ? "name" : "url", o->about, "state",
                          state_names[o->state], "reason", o->reason, "started_at", o->started,
                          "seconds", (double)o->length_us / 1e6, "frames", (json_int_t)o->written,
                          "dropped", (json_int_t)o->dropped, "bytes", (json_int_t)o->bytes);
    g_mutex_unlock(&o->lock);
    return j;
}

/* [main] */
gboolean outlet_on_tell(gpointer user)
{
    outlet *o = user;
    char text[sizeof o->reason];
    g_mutex_lock(&o->lock);
    o->tell = 0;
    g_strlcpy(text, o->reason, sizeof text);
    g_mutex_unlock(&o->lock);
    stream_notify(o->stream, o->id, *text ? text : NULL);
    return G_SOURCE_REMOVE;
}

/* ---- the end --------------------------------------------------------------------------------- */

static void remove_folder(const char *folder)
{
    GDir *dir = g_dir_open(folder, 0, NULL);
    const char *name;
    while (dir && (name = g_dir_read_name(dir))) {
        char *path = g_build_filename(folder, name, NULL);
        g_unlink(path);
        g_free(path);
    }
    if (dir)
        g_dir_close(dir);
    g_rmdir(folder);
}

/* No more comes in, and what is in goes out. */
static void stop(outlet *o)
{
    stream_tap_close(o->tap);
    o->tap = NULL;
    g_mutex_lock(&o->lock);
    o->stop = true;
    g_cond_signal(&o->wake);
    g_mutex_unlock(&o->lock);
}

static void join(outlet *o)
{
    if (o->thread)
        g_thread_join(o->thread);
    o->thread = NULL;
    if (o->end)
        g_source_remove(o->end);
    if (o->tell)
        g_source_remove(o->tell);
    o->end = o->tell = 0;
    frame *f;
    while ((f = g_queue_pop_head(&o->frames)))
        frame_unref(f);
    GstBuffer *b;
    while ((b = g_queue_pop_head(&o->sounds)))
        gst_buffer_unref(b);
}

static void tell_done(outlet *o)
{
    void (*done)(void *ctx, const json_t *last) = o->done;
    o->done = NULL;
    if (!done)
        return;
    json_t *last = to_json(o);
    done(o->done_ctx, last);
    json_decref(last);
}

/* Waits for the thread. */
static void outlet_free(outlet *o)
{
    stop(o);
    join(o);
    tell_done(o);
    stream_notify(o->stream, o->id, NULL);
    record_close(&o->file);
    if (o->kind == MUXER_HLS && o->target)
        remove_folder(o->target);
    g_mutex_clear(&o->lock);
    g_cond_clear(&o->wake);
    g_free(o->target);
    g_free(o->about);
    g_free(o->started);
    g_free(o);
}

/* The thread has ended: when that was asked for, so has the outlet; else it stays, to say why. */
gboolean outlet_on_end(gpointer user)
{
    outlet *o = user;
    stream *s = o->stream;
    g_mutex_lock(&o->lock); /* the thread may still hold it */
    o->end = 0;
    bool asked = o->stop;
    g_mutex_unlock(&o->lock);
    stop(o);
    join(o);
    if (asked)
        g_ptr_array_remove(o->all->list, o); /* frees it */
    stream_changed(s);
    return G_SOURCE_REMOVE;
}

static void outlets_free(gpointer user)
{
    outlets *all = user;
    for (guint i = 0; i < all->list->len; i++)
        stop(all->list->pdata[i]); /* all of them, before the first is waited for */
    g_ptr_array_free(all->list, TRUE);
    g_free(all);
}

static outlets *outlets_of(stream *s)
{
    outlets *all = stream_attached(s, "outlets");
    if (all)
        return all;
    all = g_new0(outlets, 1);
    all->stream = s;
    all->list = g_ptr_array_new_with_free_func((GDestroyNotify)outlet_free);
    stream_attach(s, "outlets", all, outlets_free);
    return all;
}

/* ---- opening --------------------------------------------------------------------------------- */

typedef struct request {
    const struct outlet_kind *kind;
    const char *url, *name; /* borrowed, or NULL */
    int bitrate;
    bool sound;
} request;

static int read_kind(request *r, const json_t *what, scope_error *err)
{
    const char *name = json_string_value(json_object_get(what, "kind"));
    for (size_t i = 0; name && i < G_N_ELEMENTS(kinds); i++) {
        if (!strcmp(kinds[i].name, name))
            r->kind = &kinds[i];
    }
    return r->kind ? 0
                   : error_set(err, SCOPE_EINVAL, "kind",
                               "an output's kind is record, rtmp, hls, srt or v4l2");
}

/* What the value should have been, or NULL when it is right. */
static const char *take_member(request *r, const char *key, json_t *value)
{
    json_int_t number = json_integer_value(value);
    if (!strcmp(key, "url")) {
        r->url = json_string_value(value);
        return r->url ? NULL : "text";
    }
    if (!strcmp(key, "name")) {
        r->name = json_string_value(value);
        return r->name ? NULL : "text";
    }
    if (!strcmp(key, "audio")) {
        r->sound = json_is_true(value);
        return json_is_boolean(value) ? NULL : "true or false";
    }
    r->bitrate = (int)CLAMP(number, 0, 80000) * 1000;
    return number >= 100 && number <= 80000 ? NULL : "a whole number from 100 to 80000";
}

static int read_member(request *r, const char *key, json_t *value, scope_error *err)
{
    bool file = r->kind->muxer == MUXER_MP4;
    bool has_url = !file && r->kind->muxer != MUXER_HLS;
    if (!strcmp(key, "kind") || json_is_null(value))
        return 0;
    bool known = !strcmp(key, "audio") || !strcmp(key, "bitrate_kbps") ||
                 (has_url && !strcmp(key, "url")) || (file && !strcmp(key, "name"));
    if (!known)
        return error_set(err, SCOPE_EINVAL, key, "an output of kind %s has no '%s'", r->kind->name,
                         key);
    const char *right = take_member(r, key, value);
    return right ? error_set(err, SCOPE_EINVAL, key, "'%s' of an output is %s", key, right) : 0;
}

static int check_device(const char *path, scope_error *err)
{
    struct stat st;
    const char *number = path + strlen("/dev/video");
    if (!g_str_has_prefix(path, "/dev/video") || !*number ||
        strspn(number, "0123456789") != strlen(number))
        return error_set(err, SCOPE_EINVAL, "url",
                         "'%s' is no video device; they are called /dev/video0 and so on", path);
    if (stat(path, &st) || !S_ISCHR(st.st_mode))
        return error_set(err, SCOPE_EINVAL, "url",
                         "there is no %s; `modprobe v4l2loopback` makes devices that can be "
                         "written to",
                         path);
    return 0;
}

static int check_url(const request *r, scope_error *err)
{
    const char *url = r->url ? r->url : "";
    bool valid = g_uri_is_valid(url, G_URI_FLAGS_PARSE_RELAXED, NULL) && strlen(url) <= 2000;
    switch (r->kind->muxer) {
    case MUXER_MP4:
    case MUXER_HLS:
        return 0;
    case MUXER_V4L2:
        return check_device(url, err);
    case MUXER_RTMP:
        if (valid && (g_str_has_prefix(url, "rtmp://") || g_str_has_prefix(url, "rtmps://")))
            return 0;
        return error_set(err, SCOPE_EINVAL, "url",
                         "an output of kind rtmp has a \"url\" like rtmp://host/app/key");
    case MUXER_SRT:
        if (valid && g_str_has_prefix(url, "srt://"))
            return 0;
    }
    return error_set(err, SCOPE_EINVAL, "url",
                     "an output of kind srt has a \"url\" like srt://host:port or "
                     "srt://:port?mode=listener");
}

static int read_request(request *r, const json_t *what, scope_error *err)
{
    const char *key;
    json_t *value;
    *r = (request){.sound = true};
    int status = read_kind(r, what, err);
    json_object_foreach((json_t *)what, key, value)
    {
        if (!status)
            status = read_member(r, key, value, err);
    }
    if (!status)
        status = check_url(r, err);
    return status ? status : muxer_can(r->kind->muxer, err);
}

/* The last part of an RTMP address is the key to somebody's channel. */
static char *public_url(enum muxer_kind kind, const char *url)
{
    char *text = inlet_url_public(url);
    char *key = kind == MUXER_RTMP ? strrchr(text, '/') : NULL;
    if (!key || key - text < (ptrdiff_t)strlen("rtmps://"))
        return text;
    char *hidden = g_strdup_printf("%.*s/...", (int)(key - text), text);
    g_free(text);
    return hidden;
}

/* What the outlet writes to; negative with *err when that cannot be. */
static int set_target(outlet *o, const request *r, scope_error *err)
{
    if (o->kind == MUXER_MP4) {
        int status =
            record_open(&o->file, stream_live(o->stream), stream_name(o->stream), r->name, err);
        if (status)
            return status;
        o->target = g_strdup(o->file.part);
        o->about = g_path_get_basename(o->file.path);
    } else if (o->kind == MUXER_HLS) {
        GError *cause = NULL;
        o->target = g_dir_make_tmp("scope-hls-XXXXXX", &cause);
        if (!o->target) {
            error_set(err, SCOPE_EIO, "", "cannot make a folder for HLS: %s", cause->message);
            g_error_free(cause);
            return SCOPE_EIO;
        }
        o->about = g_strdup_printf("/live/%s/hls/index.m3u8", stream_playback_id(o->stream));
    } else {
        o->target = g_strdup(r->url);
        o->about = public_url(o->kind, r->url);
    }
    return 0;
}

/* Room for one more; those that have failed make way. */
static int make_room(outlets *all, enum muxer_kind kind, scope_error *err)
{
    for (guint i = 0; i < all->list->len; i++) {
        outlet *o = all->list->pdata[i];
        if (kind == MUXER_HLS && o->kind == MUXER_HLS)
            return error_set(err, SCOPE_EINVAL, "kind", "this stream has an HLS output already");
    }
    for (guint i = 0; all->list->len >= OUTLETS_MAX && i < all->list->len; i++) {
        if (!((outlet *)all->list->pdata[i])->thread)
            g_ptr_array_remove_index(all->list, i--);
    }
    if (all->list->len < OUTLETS_MAX)
        return 0;
    return error_set(err, SCOPE_EINVAL, "kind", "a stream has at most %d outputs; end one first",
                     OUTLETS_MAX);
}

json_t *outlet_open(stream *s, const json_t *what, scope_error *err)
{
    static unsigned made; /* [main] */
    request r;
    outlets *all = outlets_of(s);
    if (read_request(&r, what, err) || make_room(all, r.kind->muxer, err))
        return NULL;
    outlet *o = g_new0(outlet, 1);
    o->all = all;
    o->kind = r.kind->muxer;
    o->name = r.kind->name;
    o->stream = s;
    o->want_sound = r.sound;
    o->bitrate = r.bitrate ? r.bitrate : live_settings(stream_live(s))->bitrate;
    GDateTime *now = g_date_time_new_now_utc();
    o->started = g_date_time_format_iso8601(now);
    g_date_time_unref(now);
    o->state = OUTLET_STARTING;
    o->file.fd = -1;
    g_snprintf(o->id, sizeof o->id, "out_%u", ++made);
    g_mutex_init(&o->lock);
    g_cond_init(&o->wake);
    g_queue_init(&o->frames);
    g_queue_init(&o->sounds);
    if (set_target(o, &r, err)) {
        outlet_free(o);
        return NULL;
    }
    g_ptr_array_add(all->list, o);
    o->thread = g_thread_new("outlet", outlet_work, o);
    stream_tap_calls calls = outlet_tap;
    calls.ctx = o;
    o->tap = stream_tap_open(s, o->name, o->about, &calls);
    json_t *j = to_json(o);
    stream_changed(s);
    return j;
}

/* ---- closing and asking ---------------------------------------------------------------------- */

static outlet *find(stream *s, const char *id)
{
    outlets *all = stream_attached(s, "outlets");
    for (guint i = 0; all && i < all->list->len; i++) {
        outlet *o = all->list->pdata[i];
        if (!strcmp(o->id, id))
            return o;
    }
    return NULL;
}

/* False when its end has been asked for already. */
static bool close_one(outlet *o, void (*done)(void *ctx, const json_t *last), void *ctx)
{
    if (o->done || (o->thread && !o->tap))
        return false;
    o->done = done;
    o->done_ctx = ctx;
    if (!o->thread) { /* it had failed */
        stream *s = o->stream;
        g_ptr_array_remove(o->all->list, o);
        stream_changed(s);
        return true;
    }
    outlet_say(o, OUTLET_FINISHING, "");
    stop(o);
    return true;
}

int outlet_close(stream *s, const char *id, void (*done)(void *ctx, const json_t *last), void *ctx,
                 scope_error *err)
{
    outlet *o = find(s, id);
    if (!o)
        return error_set(err, SCOPE_EINVAL, "output", "this stream has no output '%s'", id);
    if (!close_one(o, done, ctx))
        return error_set(err, SCOPE_EINVAL, "output", "'%s' is being ended already", id);
    return 0;
}

json_t *outlet_list(stream *s)
{
    outlets *all = stream_attached(s, "outlets");
    json_t *list = json_array();
    for (guint i = 0; all && i < all->list->len; i++)
        json_array_append_new(list, to_json(all->list->pdata[i]));
    return list;
}

/* Everybody's end, waited for. */
typedef struct closing {
    live *live;
    char *id; /* owned; of the one stream that is meant, or NULL */
    void (*done)(void *ctx);
    void *ctx;
} closing;

static gboolean look_whether_closed(gpointer user)
{
    closing *c = user;
    for (int i = 0; i < live_count(c->live); i++) {
        stream *s = live_at(c->live, i);
        outlets *all = stream_attached(s, "outlets");
        bool meant = !c->id || !strcmp(c->id, stream_id(s));
        for (guint k = 0; all && meant && k < all->list->len; k++) {
            outlet *o = all->list->pdata[k];
            if (!o->thread)
                continue;
            close_one(o, NULL, NULL); /* where it was opened meanwhile */
            return G_SOURCE_CONTINUE;
        }
    }
    c->done(c->ctx);
    return G_SOURCE_REMOVE;
}

static void closing_free(gpointer user)
{
    closing *c = user;
    g_free(c->id);
    g_free(c);
}

static void await_closed(live *l, const char *id, void (*done)(void *ctx), void *ctx)
{
    closing *c = g_new(closing, 1);
    *c = (closing){l, g_strdup(id), done, ctx};
    g_timeout_add_full(G_PRIORITY_DEFAULT, CLOSING_MS, look_whether_closed, c, closing_free);
}

static void close_outlets_of(stream *s)
{
    outlets *all = stream_attached(s, "outlets");
    for (guint k = all ? all->list->len : 0; k > 0; k--)
        close_one(all->list->pdata[k - 1], NULL, NULL);
}

void outlet_close_all(live *l, void (*done)(void *ctx), void *ctx)
{
    for (int i = 0; i < live_count(l); i++)
        close_outlets_of(live_at(l, i));
    await_closed(l, NULL, done, ctx);
}

void outlet_close_stream(stream *s, void (*done)(void *ctx), void *ctx)
{
    close_outlets_of(s);
    await_closed(stream_live(s), stream_id(s), done, ctx);
}

const char *outlet_hls_folder(stream *s)
{
    outlets *all = stream_attached(s, "outlets");
    for (guint i = 0; all && i < all->list->len; i++) {
        outlet *o = all->list->pdata[i];
        if (o->kind == MUXER_HLS)
            return o->target;
    }
    return NULL;
}
