/* leave.c - clients that leave early, and those that are to be let go gently. */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    SENDOFF_S = 5,
    SENDOFFS_MAX = 64,
};

/* ---- who leaves while nobody listens to its connection --------------------------------------- */

struct watch {
    GSource source;
    void (*gone)(void *ctx);
    void *ctx;
};

static gboolean on_watch(GSource *source, GSourceFunc fn, gpointer data)
{
    (void)fn;
    (void)data;
    watch *w = (watch *)source;
    w->gone(w->ctx); /* frees it */
    return G_SOURCE_REMOVE;
}

watch *watch_new(int fd, void (*gone)(void *ctx), void *ctx)
{
    static GSourceFuncs funcs = {.dispatch = on_watch};
    watch *w = (watch *)g_source_new(&funcs, sizeof *w);
    w->gone = gone;
    w->ctx = ctx;
    g_source_add_unix_fd(&w->source, fd, (GIOCondition)POLLRDHUP);
    g_source_attach(&w->source, g_main_context_get_thread_default());
    return w;
}

void watch_free(watch *w)
{
    if (!w)
        return;
    g_source_destroy(&w->source);
    g_source_unref(&w->source);
}

/* ---- who is sent away while it still talks --------------------------------------------------- */

struct sendoff {
    GSource source;
    server *server; /* borrowed */
    int fd;         /* owned: the connection's, once more */
    int64_t until_us;
};

void sendoff_end(sendoff *l)
{
    g_queue_remove(&l->server->sendoffs, l);
    close(l->fd);
    g_source_destroy(&l->source);
    g_source_unref(&l->source);
}

static gboolean on_sendoff(GSource *source, GSourceFunc fn, gpointer data)
{
    (void)fn;
    (void)data;
    sendoff *l = (sendoff *)source;
    char dropped[64 << 10];
    ssize_t n = recv(l->fd, dropped, sizeof dropped, MSG_DONTWAIT);
    bool ended = n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
    if (ended || g_get_monotonic_time() >= l->until_us)
        sendoff_end(l);
    return G_SOURCE_CONTINUE; /* sendoff_end has destroyed it */
}

void sendoff_begin(server *s, int fd)
{
    static GSourceFuncs funcs = {.dispatch = on_sendoff};
    int own = s->sendoffs.length < SENDOFFS_MAX ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1;
    if (own < 0)
        return; /* the answer is then a matter of luck */
    sendoff *l = (sendoff *)g_source_new(&funcs, sizeof *l);
    l->server = s;
    l->fd = own;
    l->until_us = g_get_monotonic_time() + SENDOFF_S * G_USEC_PER_SEC;
    g_source_add_unix_fd(&l->source, own, G_IO_IN);
    g_source_set_ready_time(&l->source, l->until_us);
    g_source_attach(&l->source, g_main_context_get_thread_default());
    g_queue_push_tail(&s->sendoffs, l);
}
