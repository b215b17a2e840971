/* live.c - the streams of a server, what they share, and the way of news to [main].
 *
 * Under http/ and osc/. What threads notice comes in as notes, in order; what listeners hear goes
 * out as events, in order, always from the main loop and never from within a call to a stream.
 * Must stay true: a listener may do anything, also end the stream that it hears of.
 */
#include "inside.h"
#include "../error.h"
#include "../media/elements.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/random.h>

enum { STREAMS_MAX = 64, NOTES_AT_ONCE = 256 };

/* An event on its way: a copy that owns what it points to. */
typedef struct news {
    stream_event e;
    scope_error err;
} news;

typedef struct listener {
    guint id;
    stream_listener fn; /* NULL once it has gone */
    void *ctx;
} listener;

/* A source that is woken by its ready time. */
typedef struct bound {
    GSource base;
    live *live;
    stage *stage; /* of a pace: referenced */
} bound;

struct live {
    live_options o; /* its strings are owned */
    frame_pool *frames;
    remotes *remotes;
    registry *registry;
    GHashTable *schemas; /* text -> schema, kept: links of removed plugins still use them */
    GPtrArray *streams;  /* in order of creation */
    int made;
    GArray *listeners;
    guint last_listener;
    int telling; /* depth */

    GMutex notes_lock;
    GQueue notes;    /* of note; notes_lock */
    GQueue events;   /* of news; [main] */
    GSource *source; /* owned; wakes [main] for both */
    GSource *tick;   /* owned; while there are streams */

    GMutex pace_lock;
    GMainContext *pace; /* owned; NULL before the first generator */
    GMainLoop *pace_loop;
    GThread *pacer;
};

/* ---- notes and events ------------------------------------------------------------------------ */

static void note_free(note *n)
{
    stage_unref(n->stage);
    json_decref(n->values);
    g_free(n->text);
    g_free(n);
}

void live_note(live *l, note *n)
{
    g_mutex_lock(&l->notes_lock);
    g_queue_push_tail(&l->notes, n);
    g_mutex_unlock(&l->notes_lock);
    g_source_set_ready_time(l->source, 0);
}

static void news_free(news *n)
{
    stream_unref(n->e.stream);
    json_decref((json_t *)n->e.values);
    g_free((char *)n->e.text);
    g_free(n);
}

/* Is the last event that waits said as well by *e? */
static bool replaces(const stream_event *e, const stream_event *last)
{
    if (last->stream != e->stream || last->kind != e->kind || last->link != e->link)
        return false;
    return e->kind == STREAM_STATE || e->kind == STREAM_PROGRESS ||
           (e->kind == STREAM_VALUES && !last->tag && !last->err);
}

void live_emit(live *l, const stream_event *e)
{
    news *last = g_queue_peek_tail(&l->events);
    if (last && replaces(e, &last->e))
        news_free(g_queue_pop_tail(&l->events));
    news *n = g_new0(news, 1);
    n->e = *e;
    stream_ref(e->stream);
    n->e.values = e->values ? json_deep_copy(e->values) : NULL;
    n->e.text = g_strdup(e->text);
    if (e->err) {
        n->err = *e->err;
        n->e.err = &n->err;
    }
    g_queue_push_tail(&l->events, n);
    g_source_set_ready_time(l->source, 0);
}

static note *next_note(live *l)
{
    g_mutex_lock(&l->notes_lock);
    note *n = g_queue_pop_head(&l->notes);
    g_mutex_unlock(&l->notes_lock);
    return n;
}

static void tell(live *l, const stream_event *e)
{
    l->telling++;
    for (guint i = 0; i < l->listeners->len; i++) {
        listener one = g_array_index(l->listeners, listener, i);
        if (one.fn)
            one.fn(one.ctx, e);
    }
    l->telling--;
    for (guint i = l->listeners->len; !l->telling && i-- > 0;) {
        if (!g_array_index(l->listeners, listener, i).fn)
            g_array_remove_index(l->listeners, i);
    }
}

static void tell_next(live *l)
{
    news *n = g_queue_pop_head(&l->events);
    tell(l, &n->e);
    if (n->e.kind == STREAM_ENDED)
        stream_detach_all(n->e.stream);
    news_free(n);
}

static gboolean deliver(GSource *source, GSourceFunc fn, gpointer data)
{
    (void)fn, (void)data;
    live *l = ((bound *)source)->live;
    g_source_set_ready_time(source, -1);
    note *n;
    for (int i = 0; i < NOTES_AT_ONCE && (n = next_note(l)); i++) {
        if (n->stage ? !n->stage->closed : g_ptr_array_find(l->streams, n->stream, NULL))
            stream_hear(n->stage ? n->stage->stream : n->stream, n);
        note_free(n);
    }
    for (guint i = l->events.length; i > 0 && l->events.length > 0; i--)
        tell_next(l);
    g_mutex_lock(&l->notes_lock);
    bool more = l->notes.length > 0 || l->events.length > 0;
    g_mutex_unlock(&l->notes_lock);
    if (more)
        g_source_set_ready_time(source, 0);
    return G_SOURCE_CONTINUE;
}

guint live_listen(live *l, stream_listener fn, void *ctx)
{
    listener one = {++l->last_listener, fn, ctx};
    g_array_append_val(l->listeners, one);
    return one.id;
}

void live_unlisten(live *l, guint id)
{
    for (guint i = 0; i < l->listeners->len; i++) {
        listener *one = &g_array_index(l->listeners, listener, i);
        if (one->id != id)
            continue;
        one->fn = NULL;
        if (!l->telling)
            g_array_remove_index(l->listeners, i);
        return;
    }
}

/* ---- sources --------------------------------------------------------------------------------- */

static GSource *bind_source(GSourceFuncs *funcs, live *l, stage *g, GMainContext *where)
{
    GSource *s = g_source_new(funcs, sizeof(bound));
    ((bound *)s)->live = l;
    ((bound *)s)->stage = g ? stage_ref(g) : NULL;
    g_source_attach(s, where);
    return s;
}

static void unbind_source(GSource *source)
{
    stage_unref(((bound *)source)->stage);
}

static gboolean pace(GSource *source, GSourceFunc fn, gpointer data)
{
    (void)fn, (void)data;
    live *l = ((bound *)source)->live;
    g_source_set_ready_time(source, -1);
    g_mutex_lock(&l->pace_lock);
    if (!g_source_is_destroyed(source))
        stage_pump(((bound *)source)->stage);
    g_mutex_unlock(&l->pace_lock);
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs deliver_funcs = {.dispatch = deliver};
static GSourceFuncs pace_funcs = {.dispatch = pace, .finalize = unbind_source};

static gpointer run_pacer(gpointer loop)
{
    g_main_loop_run(loop);
    return NULL;
}

GSource *live_pace(live *l, stage *g)
{
    if (!l->pace) {
        l->pace = g_main_context_new();
        l->pace_loop = g_main_loop_new(l->pace, FALSE);
        l->pacer = g_thread_new("pacer", run_pacer, l->pace_loop);
    }
    return bind_source(&pace_funcs, l, g, l->pace);
}

void live_unpace(live *l, GSource *source)
{
    if (!source)
        return;
    g_mutex_lock(&l->pace_lock);
    g_source_destroy(source);
    g_mutex_unlock(&l->pace_lock);
    g_source_unref(source);
}

static gboolean tick(gpointer ctx)
{
    live *l = ctx;
    int64_t now_us = g_get_monotonic_time();
    for (guint i = 0; i < l->streams->len; i++)
        stream_tick(g_ptr_array_index(l->streams, i), now_us);
    return G_SOURCE_CONTINUE;
}

/* ---- the server's ---------------------------------------------------------------------------- */

live *live_new(const live_options *o, scope_error *err)
{
    if (media_init(err) < 0) /* frames are put into other sizes by it */
        return NULL;
    live *l = g_new0(live, 1);
    l->o = *o;
    l->o.plugin_dir = g_strdup(o->plugin_dir);
    l->o.data_dir = g_strdup(o->data_dir);
    l->o.h264 = g_strdup(o->h264);
    l->frames = frame_pool_new();
    l->remotes = l->frames ? remotes_new(&o->remotes, l->frames) : NULL;
    if (!l->remotes) {
        error_set(err, SCOPE_ENOMEM, "", "no memory for the server");
        frame_pool_free(l->frames);
        g_free(l);
        return NULL;
    }
    l->registry = registry_scan(o->plugin_dir);
    l->schemas =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)schema_free);
    l->streams = g_ptr_array_new();
    l->listeners = g_array_new(FALSE, TRUE, sizeof(listener));
    l->source = bind_source(&deliver_funcs, l, NULL, NULL);
    l->tick = g_timeout_source_new(TICK_MS);
    g_source_set_callback(l->tick, tick, l, NULL);
    g_source_attach(l->tick, NULL);
    return l;
}

static void end_sources(live *l)
{
    g_source_destroy(l->tick);
    g_source_unref(l->tick);
    g_source_destroy(l->source);
    g_source_unref(l->source);
    if (!l->pace)
        return;
    g_main_loop_quit(l->pace_loop);
    g_thread_join(l->pacer);
    g_main_loop_unref(l->pace_loop);
    g_main_context_unref(l->pace);
}

void live_free(live *l)
{
    if (!l)
        return;
    while (l->streams->len)
        live_remove(l, live_at(l, 0));
    for (note *n; (n = next_note(l));)
        note_free(n); /* of stages that are closed */
    while (l->events.length)
        tell_next(l);
    end_sources(l);
    remotes_free(l->remotes);
    registry_free(l->registry);
    g_hash_table_unref(l->schemas);
    g_ptr_array_unref(l->streams);
    g_array_unref(l->listeners);
    frame_pool_free(l->frames);
    g_free((char *)l->o.plugin_dir);
    g_free((char *)l->o.data_dir);
    g_free((char *)l->o.h264);
    g_free(l);
}

frame_pool *live_frames(live *l)
{
    return l->frames;
}

remotes *live_remotes(live *l)
{
    return l->remotes;
}

registry *live_registry(live *l)
{
    return l->registry;
}

void live_rescan(live *l)
{
    registry_free(l->registry);
    l->registry = registry_scan(l->o.plugin_dir);
}

const registry_entry *live_plugin(live *l, const char *id, const schema **s, scope_error *err)
{
    char why[256];
    if (strchr(id, '/') || g_str_has_suffix(id, ".so")) { /* asked from afar: no way to any file */
        error_set(err, SCOPE_EINVAL, "",
                  "%.80s is a path; name a plugin by its id, and give its folder to the server",
                  id);
        return NULL;
    }
    const registry_entry *e = registry_find(l->registry, id, why);
    if (!e) {
        error_set(err, SCOPE_EINVAL, "", "%s", why);
        return NULL;
    }
    schema *found = g_hash_table_lookup(l->schemas, e->schema);
    if (!found) {
        schema_error cause;
        found = schema_parse(e->schema, &cause);
        if (!found) {
            error_from_schema(err, &cause);
            return NULL;
        }
        g_hash_table_insert(l->schemas, g_strdup(e->schema), found);
    }
    if (s)
        *s = found;
    return e;
}

const char *live_data_dir(live *l)
{
    return l->o.data_dir;
}

const live_options *live_settings(live *l)
{
    return &l->o;
}

/* ---- streams --------------------------------------------------------------------------------- */

stream *live_create(live *l, const char *name, scope_error *err)
{
    guint max = l->o.streams_max > 0 ? (guint)l->o.streams_max : STREAMS_MAX;
    if (l->streams->len >= max) {
        error_set(
            err, SCOPE_EINVAL, "",
            "there are %u streams, which is the limit; end one, or start the server with a larger "
            "--streams-max",
            max);
        return NULL;
    }
    if (name && stream_check_name(name, err))
        return NULL;
    char *made_up = name ? NULL : g_strdup_printf("Stream %d", ++l->made);
    stream *s = stream_new(l, name ? name : made_up);
    g_free(made_up);
    g_ptr_array_add(l->streams, s);
    live_emit(l, &(stream_event){.kind = STREAM_CREATED, .stream = s});
    return s;
}

void live_remove(live *l, stream *s)
{
    if (!g_ptr_array_remove(l->streams, s))
        return;
    stream_end(s);
    live_emit(l, &(stream_event){.kind = STREAM_ENDED, .stream = s});
    stream_unref(s);
}

static const char *key_of(const stream *s, enum stream_key which)
{
    return which == STREAM_ID ? s->id : which == STREAM_PUBLISH ? s->publish_key : s->playback_id;
}

/* How long it takes tells nothing of where they differ: keys are secrets. */
static bool same_key(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b);
    unsigned differ = n != m;
    for (size_t i = 0; i < n; i++)
        differ |= (unsigned)(a[i] ^ b[m ? i % m : 0]);
    return !differ;
}

stream *live_find(live *l, enum stream_key which, const char *key)
{
    stream *found = NULL;
    for (guint i = 0; i < l->streams->len; i++) {
        stream *s = g_ptr_array_index(l->streams, i);
        if (same_key(key_of(s, which), key))
            found = s;
    }
    return found;
}

int live_count(const live *l)
{
    return (int)l->streams->len;
}

stream *live_at(live *l, int i)
{
    return g_ptr_array_index(l->streams, i);
}

char *live_secret(const char *prefix)
{
    static const char signs[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint8_t bytes[24];
    size_t have = 0;
    while (have < sizeof bytes) { /* it waits for entropy at boot; a signal may cut it short */
        ssize_t n = getrandom(bytes + have, sizeof bytes - have, 0);
        if (n > 0)
            have += (size_t)n;
        else
            assert(errno == EINTR);
    }
    GString *secret = g_string_new(prefix);
    for (size_t i = 0; i < sizeof bytes; i++)
        g_string_append_c(secret, signs[bytes[i] & 63]);
    return g_string_free(secret, FALSE);
}
