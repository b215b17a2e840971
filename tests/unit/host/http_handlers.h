/* http_handlers.h - handlers that answer later, or piece by piece, for the tests of host/http. */
#ifndef TEST_HTTP_HANDLERS_H
#define TEST_HTTP_HANDLERS_H

#include "http_fixture.h"

/* Answers that come later: after 30 ms, or never, when the client is to leave. */
typedef struct later {
    request *r;
    int gone;
} later;

static int later_gone;

static gboolean later_tick(gpointer data)
{
    later *l = data;
    request_answer(l->r, response_json(200, json_pack("{s:i}", "gone", l->gone)));
    g_free(l);
    return G_SOURCE_REMOVE;
}

static void later_left(void *ctx)
{
    later *l = ctx;
    l->gone++;
    later_gone++;
}

static response *on_later(request *r)
{
    later *l = g_new0(later, 1);
    int ms = atoi(request_part(r, "ms"));
    l->r = r;
    request_later(r, later_left, l);
    if (ms == 0) { /* before the handler returns */
        later_tick(l);
        return NULL;
    }
    GSource *timer = g_timeout_source_new((guint)ms);
    g_source_set_callback(timer, later_tick, l, NULL);
    g_source_attach(timer, g_main_context_get_thread_default());
    g_source_unref(timer);
    return NULL;
}

/* Streams: `n` pieces, one every 5 ms, and then the end; n = 0: never a piece, never an end. */
typedef struct drip {
    chunks *c;
    GSource *timer;
    int n, at;
} drip;

static int drips;

static gboolean drip_tick(gpointer data)
{
    drip *d = data;
    if (d->at == d->n) {
        chunks_end(d->c);
        return G_SOURCE_REMOVE;
    }
    char *text = g_strdup_printf("piece %d;", d->at++);
    GBytes *b = g_bytes_new_take(text, strlen(text));
    chunks_push(d->c, b);
    g_bytes_unref(b);
    return G_SOURCE_CONTINUE;
}

static void drip_open(void *ctx, chunks *c)
{
    drip *d = ctx;
    d->c = c;
    if (d->n == 0)
        return;
    d->timer = g_timeout_source_new(5);
    g_source_set_callback(d->timer, drip_tick, d, NULL);
    g_source_attach(d->timer, g_main_context_get_thread_default());
}

static void drip_closed(void *ctx)
{
    drip *d = ctx;
    if (d->timer) {
        g_source_destroy(d->timer);
        g_source_unref(d->timer);
    }
    g_free(d);
    drips--;
}

static response *on_drip(request *r)
{
    drip *d = g_new0(drip, 1);
    d->n = atoi(request_part(r, "n"));
    drips++;
    return response_chunks(200, "text/plain", drip_open, drip_closed, d);
}

#endif
