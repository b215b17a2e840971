/* chunks.c - a body that is written as it is made, in libmicrohttpd's chunks.
 *
 * libmicrohttpd asks for bytes when the client can take some. With none to give, the connection is
 * suspended until the next push, and then nobody but `watch` would see the client leave.
 */
#include "internal.h"

struct chunks {
    void (*open)(void *ctx, chunks *c);
    void (*closed)(void *ctx);
    void *ctx;
    request *request; /* borrowed; NULL until it is being answered */
    GQueue waiting;   /* GBytes, owned */
    size_t bytes, at; /* all that wait; of the first, these have been written */
    bool opened, ended, suspended, left;
    watch *watch; /* owned, while suspended */
};

static void resume(chunks *c)
{
    if (!c->suspended)
        return;
    c->suspended = false;
    g_clear_pointer(&c->watch, watch_free);
    exchange_resume(c->request);
}

void chunks_abandon(chunks *c)
{
    c->left = true;
    resume(c);
}

static void on_gone(void *ctx)
{
    chunks_abandon(ctx);
}

/* Copy what fits of what waits. */
static size_t take(chunks *c, char *to, size_t max)
{
    size_t done = 0;
    while (done < max && c->waiting.length > 0) {
        gsize n;
        GBytes *first = g_queue_peek_head(&c->waiting);
        const char *from = g_bytes_get_data(first, &n);
        size_t k = MIN(n - c->at, max - done);
        memcpy(to + done, from + c->at, k);
        done += k;
        c->at += k;
        if (c->at == n) {
            g_bytes_unref(g_queue_pop_head(&c->waiting));
            c->at = 0;
        }
    }
    c->bytes -= done;
    return done;
}

static ssize_t on_read(void *ctx, uint64_t at, char *to, size_t max)
{
    (void)at;
    chunks *c = ctx;
    if (!c->opened) {
        c->opened = true;
        c->open(c->ctx, c);
    }
    if (c->left)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    size_t n = take(c, to, max);
    if (n > 0) {
        c->request->server->stats.bytes_out += (int64_t)n;
        return (ssize_t)n;
    }
    if (c->ended)
        return MHD_CONTENT_READER_END_OF_STREAM;
    c->suspended = true;
    MHD_suspend_connection(c->request->mhd);
    c->watch = watch_new(c->request->link->fd, on_gone, c);
    return 0;
}

static void on_free(void *ctx)
{
    chunks *c = ctx;
    watch_free(c->watch);
    if (c->closed)
        c->closed(c->ctx);
    g_queue_clear_full(&c->waiting, (GDestroyNotify)g_bytes_unref);
    g_free(c);
}

response *response_chunks(int status, const char *type, void (*open)(void *ctx, chunks *c),
                          void (*closed)(void *ctx), void *ctx)
{
    chunks *c = g_new0(chunks, 1);
    c->open = open;
    c->closed = closed;
    c->ctx = ctx;
    response *a = response_of(
        status, type,
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 64 << 10, on_read, c, on_free), 0);
    a->chunks = c;
    return a;
}

void chunks_answer(chunks *c, request *r)
{
    c->request = r;
}

void chunks_push(chunks *c, GBytes *bytes)
{
    if (c->ended || g_bytes_get_size(bytes) == 0)
        return;
    g_queue_push_tail(&c->waiting, g_bytes_ref(bytes));
    c->bytes += g_bytes_get_size(bytes);
    resume(c);
}

size_t chunks_waiting(const chunks *c)
{
    return c->bytes;
}

void chunks_end(chunks *c)
{
    c->ended = true;
    resume(c);
}
