/* control.c - the control WebSocket of a stream; see control.h and README.md.
 *
 * Must stay true: a page shows what is in force, so everything that changes a value is told to all
 * of them, whoever asked.
 */
#include "control.h"
#include "ws.h"

#include "../error.h"
#include "../live/inlet.h"
#include "../live/outlet.h"
#include "../log.h"

#include <string.h>

enum { STATS_MS = 250, WAITING_MAX = 4 << 20 };

typedef struct control {
    ws *ws; /* NULL before it is open */
    live *live;
    stream *stream; /* NULL once it has ended */
    guint listener, stats;
    unsigned log;
    GHashTable *asked; /* our tags -> the client's n (json_t) */
} control;

json_t *control_stream_json(stream *s)
{
    json_t *all = stream_json(s);
    json_object_set_new(all, "publish_key", json_string(stream_publish_key(s)));
    json_object_set_new(all, "playback_id", json_string(stream_playback_id(s)));
    json_t *inlet = inlet_json(s);
    if (json_is_object(inlet))
        json_object_set(all, "source", inlet);
    json_decref(inlet);
    json_object_set_new(all, "outputs", outlet_list(s));
    return all;
}

uint64_t control_tag(void)
{
    static uint64_t last; /* [main] */
    return ++last;
}

/* ---- to the client --------------------------------------------------------------------------- */

/* A client that does not read is not written to without end: the next state tells it all again. */
static void say(control *c, json_t *message)
{
    if (c->ws && ws_waiting(c->ws) < WAITING_MAX)
        ws_json(c->ws, message);
    else
        json_decref(message);
}

static void say_state(control *c)
{
    say(c, json_pack("{s:s, s:o}", "type", "state", "stream", control_stream_json(c->stream)));
}

static json_t *take_n(control *c, uint64_t tag)
{
    json_t *n = g_hash_table_lookup(c->asked, &tag);
    json_incref(n);
    g_hash_table_remove(c->asked, &tag);
    return n;
}

static void say_refused(control *c, int link, const scope_error *err, bool reload, json_t *n)
{
    json_t *m = json_pack("{s:s, s:i, s:s, s:s, s:b}", "type", "refused", "link", link, "field",
                          err->field, "error", err->text, "reload", reload);
    if (n)
        json_object_set(m, "n", n);
    say(c, m);
}

static void say_values(control *c, const stream_event *e)
{
    json_t *n = take_n(c, e->tag);
    if (e->err)
        say_refused(c, e->link, e->err, false, n);
    json_t *m = json_pack("{s:s, s:i, s:O, s:I, s:s}", "type", "values", "link", e->link, "values",
                          (json_t *)e->values, "generation", (json_int_t)e->generation, "by",
                          e->by ? e->by : "load");
    if (n && !e->err)
        json_object_set(m, "n", n);
    json_decref(n);
    say(c, m);
}

static void heard(void *ctx, const stream_event *e)
{
    control *c = ctx;
    if (e->stream != c->stream || !c->stream)
        return;
    switch (e->kind) {
    case STREAM_STATE:
        say_state(c);
        break;
    case STREAM_VALUES:
        say_values(c, e);
        break;
    case STREAM_PROGRESS:
        say(c, json_pack("{s:s, s:i, s:f, s:s}", "type", "progress", "link", e->link, "done",
                         e->done, "phase", e->text ? e->text : ""));
        break;
    case STREAM_ENDED:
        say(c, json_pack("{s:s}", "type", "ended"));
        c->stream = NULL;
        if (c->ws)
            ws_close(c->ws, 1000, "the stream has ended");
        break;
    case STREAM_CREATED:
    case STREAM_LOG: /* goes through the log */
        break;
    }
}

static void logged(void *ctx, const json_t *line)
{
    say(ctx, json_pack("{s:s, s:O}", "type", "log", "line", (json_t *)line));
}

static gboolean stats(gpointer ctx)
{
    control *c = ctx;
    if (c->stream)
        say(c, json_pack("{s:s, s:o}", "type", "stats", "stats", stream_stats_json(c->stream)));
    return G_SOURCE_CONTINUE;
}

/* ---- from the client ------------------------------------------------------------------------- */

static void complain_of(control *c, const char *what)
{
    say(c, json_pack("{s:s, s:i, s:s, s:s, s:b}", "type", "refused", "link", -1, "field", "",
                     "error", what, "reload", 0));
}

static void set(control *c, const json_t *m)
{
    json_t *values = json_object_get(m, "values"), *n = json_object_get(m, "n");
    const json_t *which = json_object_get(m, "link");
    json_int_t asked = json_is_integer(which) ? json_integer_value(which) : -1;
    int link = asked >= 0 && asked < stream_links(c->stream) ? (int)asked : -1;
    scope_error err;
    if (!json_is_object(values) || link < 0) {
        error_set(&err, SCOPE_EINVAL, "", "set: give a link from 0 to %d and an object of values",
                  stream_links(c->stream) - 1);
        say_refused(c, link, &err, false, n);
        return;
    }
    bool reload = json_is_true(json_object_get(m, "reload"));
    uint64_t tag = control_tag();
    if (n)
        g_hash_table_insert(c->asked, g_memdup2(&tag, sizeof tag), json_incref(n));
    int64_t done = stream_set(c->stream, link, values,
                              reload ? STREAM_RELOAD : STREAM_REFUSE_RELOAD, "page", tag, &err);
    if (done < 0) {
        g_hash_table_remove(c->asked, &tag);
        say_refused(c, link, &err, !reload && stream_would_reload(c->stream, link, values), n);
    }
}

static void text(void *ctx, const char *bytes, size_t length)
{
    control *c = ctx;
    json_error_t why;
    json_t *m = json_loadb(bytes, length, JSON_REJECT_DUPLICATES, &why);
    const char *type = json_string_value(json_object_get(m, "type"));
    if (!c->stream) {
        /* closing */
    } else if (!type) {
        complain_of(c, m ? "a message is an object with a \"type\"" : why.text);
    } else if (!strcmp(type, "set")) {
        set(c, m);
    } else if (!strcmp(type, "reset")) {
        stream_reset(c->stream);
    } else if (!strcmp(type, "retry")) {
        stream_retry(c->stream);
    } else if (!strcmp(type, "clock")) {
        json_t *t = json_object_get(m, "t");
        say(c, json_pack("{s:s, s:O?, s:I}", "type", "clock", "t", t, "us",
                         (json_int_t)g_get_monotonic_time()));
    } else {
        complain_of(c, "the types of message are set, reset, retry and clock");
    }
    json_decref(m);
}

static void binary(void *ctx, const void *bytes, size_t n)
{
    (void)bytes, (void)n;
    complain_of(ctx, "messages here are text");
}

static void opened(void *ctx, ws *w)
{
    control *c = ctx;
    c->ws = w;
    if (!c->stream) {
        ws_close(w, 1000, "the stream has ended");
        return;
    }
    say_state(c);
    c->stats = g_timeout_add(STATS_MS, stats, c);
    c->log = log_listen(logged, c);
}

static void closed(void *ctx)
{
    control *c = ctx;
    live_unlisten(c->live, c->listener);
    if (c->stats)
        g_source_remove(c->stats);
    if (c->log)
        log_unlisten(c->log);
    g_hash_table_unref(c->asked);
    g_free(c);
}

response *control_open(request *r, stream *s)
{
    static const ws_calls calls = {
        .open = opened, .text = text, .binary = binary, .closed = closed};
    control *c = g_new0(control, 1);
    c->live = app_of(r)->live;
    c->stream = s;
    c->asked =
        g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, (GDestroyNotify)json_decref);
    c->listener = live_listen(c->live, heard, c);
    return response_websocket(r, &calls, c);
}
