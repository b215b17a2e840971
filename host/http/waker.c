/* waker.c - one GSource that is ready when it was woken; see waker.h. */
#include "waker.h"

struct waker {
    GSource source; /* first: GLib allocates and counts it */
    void (*fn)(void *ctx);
    void *ctx; /* borrowed until waker_free */
};

static gboolean dispatch(GSource *source, GSourceFunc unused, gpointer data)
{
    (void)unused, (void)data;
    waker *w = (waker *)source;
    g_source_set_ready_time(source, -1); /* before the call: what comes during it wakes again */
    w->fn(w->ctx);
    return G_SOURCE_CONTINUE;
}

waker *waker_new(void (*fn)(void *ctx), void *ctx)
{
    static GSourceFuncs funcs = {.dispatch = dispatch};
    waker *w = (waker *)g_source_new(&funcs, sizeof *w);
    w->fn = fn;
    w->ctx = ctx;
    g_source_set_priority(&w->source, G_PRIORITY_HIGH); /* live pictures before requests */
    g_source_attach(&w->source, NULL);
    return w;
}

void waker_free(waker *w)
{
    if (!w)
        return;
    g_source_destroy(&w->source);
    g_source_unref(&w->source);
}

void waker_wake(waker *w)
{
    g_source_set_ready_time(&w->source, 0);
}

void waker_later(waker *w, int ms)
{
    g_source_set_ready_time(&w->source, g_get_monotonic_time() + (gint64)ms * 1000);
}
