/* front.c - TLS before libmicrohttpd: each connection is decrypted here and handed on through a
 * pair of sockets.
 *
 * libmicrohttpd can do TLS itself, but what it forwards to an upgraded connection goes through
 * eight bytes of buffer (0.9.75: the pool is used up by the head of the answer), which makes
 * 0.1 MB/s of a WebSocket. So it is given plain connections, and does not know.
 */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <gnutls/gnutls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    RECORD = 16 << 10, /* of TLS */
    ROUNDS = 16,       /* records in one go, so that one peer does not keep the others waiting */
    GOODBYE_US = 2 * G_USEC_PER_SEC,
};

typedef struct pipe_end {
    char *data; /* owned: RECORD bytes */
    size_t at, n;
    bool ended;
} pipe_end;

typedef struct tunnel {
    GSource source;
    front *front; /* borrowed */
    GList node;   /* in front.tunnels */
    gnutls_session_t session;
    int outer, inner; /* owned; inner is -1 until the handshake is done */
    gpointer outer_tag, inner_tag;
    pipe_end up, down; /* to libmicrohttpd, to the client */
    struct sockaddr_storage peer;
    socklen_t peer_n;
    bool shaken, full, said_bye, broken; /* full: the client's socket takes no more */
    int64_t deadline_us;                 /* of handshake and goodbye; -1: none */
} tunnel;

struct front {
    server *server; /* borrowed */
    int fd;         /* owned; -1 once quiet */
    int spare;      /* owned: given up to send somebody away when there are no descriptors left */
    GSource *source;
    gnutls_certificate_credentials_t cert;
    gnutls_priority_t priority;
    GQueue tunnels; /* tunnel.node, owned */
};

static void tunnel_free(tunnel *t)
{
    g_queue_unlink(&t->front->tunnels, &t->node);
    gnutls_deinit(t->session);
    close(t->outer);
    if (t->inner >= 0)
        close(t->inner);
    g_free(t->up.data);
    g_free(t->down.data);
    g_source_destroy(&t->source);
    g_source_unref(&t->source);
}

/* libmicrohttpd's end of a pair, whose other end is ours. */
static bool hand_on(tunnel *t)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0)
        return false;
    t->inner = pair[0];
    t->inner_tag = g_source_add_unix_fd(&t->source, t->inner, G_IO_IN);
    return server_add(t->front->server, pair[1], (struct sockaddr *)&t->peer, t->peer_n, t->outer);
}

static void shake(tunnel *t)
{
    int fault = gnutls_handshake(t->session);
    if (fault < 0) {
        t->broken |= gnutls_error_is_fatal(fault);
        return;
    }
    t->shaken = true;
    t->deadline_us = -1;
    t->up.data = g_malloc(RECORD);
    t->down.data = g_malloc(RECORD);
    t->broken |= !hand_on(t);
}

/* One step from the client to libmicrohttpd; false when there is nothing more to be done now. */
static bool step_up(tunnel *t)
{
    pipe_end *p = &t->up;
    if (p->n == 0 && !p->ended) {
        ssize_t n = gnutls_record_recv(t->session, p->data, RECORD);
        if (n == GNUTLS_E_INTERRUPTED)
            return true;
        if (n == GNUTLS_E_AGAIN)
            return false;
        p->at = 0;
        p->n = n > 0 ? (size_t)n : 0;
        p->ended = n <= 0;
        if (p->ended)
            shutdown(t->inner, SHUT_WR);
    }
    if (p->n == 0)
        return false;
    ssize_t n = send(t->inner, p->data + p->at, p->n, MSG_NOSIGNAL);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    p->at += n < 0 ? p->n : (size_t)n; /* nobody is there any more: dropped */
    p->n -= n < 0 ? p->n : (size_t)n;
    return true;
}

static bool say_bye(tunnel *t)
{
    int fault = gnutls_bye(t->session, GNUTLS_SHUT_WR);
    t->full = fault == GNUTLS_E_AGAIN;
    if (fault == GNUTLS_E_AGAIN || fault == GNUTLS_E_INTERRUPTED)
        return false;
    shutdown(t->outer, SHUT_WR);
    t->said_bye = true;
    t->deadline_us = g_get_monotonic_time() + GOODBYE_US;
    return false;
}

/* One step from libmicrohttpd to the client. */
static bool step_down(tunnel *t)
{
    pipe_end *p = &t->down;
    if (p->n == 0 && !p->ended) {
        ssize_t n = recv(t->inner, p->data, RECORD, 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return false;
        p->at = 0;
        p->n = n > 0 ? (size_t)n : 0;
        p->ended = n <= 0;
    }
    if (p->n == 0)
        return p->ended && !t->said_bye && say_bye(t);
    ssize_t n = gnutls_record_send(t->session, p->data + p->at, p->n);
    t->full = n == GNUTLS_E_AGAIN;
    if (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED)
        return false;
    t->broken |= n < 0;
    p->at += n < 0 ? p->n : (size_t)n;
    p->n -= n < 0 ? p->n : (size_t)n;
    return !t->broken;
}

/* Move what can be moved; true when there may be more. */
static bool pump(tunnel *t)
{
    if (!t->shaken)
        shake(t);
    bool more = t->shaken && !t->broken;
    for (int i = 0; more && i < ROUNDS; i++) {
        bool up = step_up(t), down = step_down(t);
        more = up || down;
    }
    return more && !t->broken;
}

static void settle(tunnel *t, bool more)
{
    int outer = t->up.n == 0 && !t->up.ended ? G_IO_IN : 0;
    bool writes = t->shaken ? t->full : gnutls_record_get_direction(t->session) == 1;
    g_source_modify_unix_fd(&t->source, t->outer_tag, outer | (writes ? G_IO_OUT : 0));
    if (t->inner_tag && t->down.ended) { /* its hang-up would be told for ever */
        g_source_remove_unix_fd(&t->source, t->inner_tag);
        t->inner_tag = NULL;
    }
    if (t->inner_tag)
        g_source_modify_unix_fd(&t->source, t->inner_tag,
                                (t->down.n == 0 ? G_IO_IN : 0) | (t->up.n > 0 ? G_IO_OUT : 0));
    g_source_set_ready_time(&t->source, more ? 0 : t->deadline_us);
}

static gboolean on_tunnel(GSource *source, GSourceFunc fn, gpointer data)
{
    (void)fn;
    (void)data;
    tunnel *t = (tunnel *)source;
    bool more = pump(t);
    if (g_source_query_unix_fd(source, t->outer_tag) & (G_IO_HUP | G_IO_ERR))
        t->broken |= !more;
    if (t->deadline_us >= 0 && g_get_monotonic_time() >= t->deadline_us)
        t->broken = true;
    if (t->broken || (t->said_bye && t->up.ended))
        tunnel_free(t);
    else
        settle(t, more);
    return G_SOURCE_CONTINUE; /* tunnel_free has destroyed it */
}

static void tunnel_new(front *f, int fd, const struct sockaddr_storage *peer, socklen_t n)
{
    static GSourceFuncs funcs = {.dispatch = on_tunnel};
    static const gnutls_datum_t http = {(unsigned char *)(uintptr_t) "http/1.1", 8};
    tunnel *t = (tunnel *)g_source_new(&funcs, sizeof *t);
    t->front = f;
    t->node.data = t;
    t->outer = fd;
    t->inner = -1;
    t->peer = *peer;
    t->peer_n = n;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    gnutls_init(&t->session, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);
    gnutls_priority_set(t->session, f->priority);
    gnutls_credentials_set(t->session, GNUTLS_CRD_CERTIFICATE, f->cert);
    gnutls_alpn_set_protocols(t->session, &http, 1, 0);
    gnutls_transport_set_int(t->session, fd);
    gnutls_handshake_set_timeout(t->session, GNUTLS_INDEFINITE_TIMEOUT);
    t->deadline_us = g_get_monotonic_time() + f->server->idle_us;
    t->outer_tag = g_source_add_unix_fd(&t->source, fd, G_IO_IN);
    g_source_set_ready_time(&t->source, t->deadline_us);
    g_source_attach(&t->source, g_main_context_get_thread_default());
    g_queue_push_tail_link(&f->tunnels, &t->node);
}

static gboolean on_accept(int fd, GIOCondition events, gpointer data)
{
    (void)events;
    front *f = data;
    struct sockaddr_storage peer;
    socklen_t n = sizeof peer;
    int got = accept4(fd, (struct sockaddr *)&peer, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (got < 0 && (errno == EMFILE || errno == ENFILE)) { /* else it would be asked for ever */
        close(f->spare);
        close(accept(fd, NULL, NULL));
        f->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
        return G_SOURCE_CONTINUE;
    }
    if (got >= 0 && (int)f->tunnels.length >= f->server->connections_max + SPARE)
        close(got);
    else if (got >= 0)
        tunnel_new(f, got, &peer, n);
    return G_SOURCE_CONTINUE;
}

front *front_new(server *s, int fd, const char *cert, const char *key, scope_error *err)
{
    gnutls_datum_t cert_pem = {(unsigned char *)(uintptr_t)cert, (unsigned)strlen(cert)};
    gnutls_datum_t key_pem = {(unsigned char *)(uintptr_t)key, (unsigned)strlen(key)};
    front *f = g_new0(front, 1);
    f->server = s;
    f->fd = fd;
    f->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
    gnutls_certificate_allocate_credentials(&f->cert);
    gnutls_priority_init(&f->priority, "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2", NULL);
    int fault =
        gnutls_certificate_set_x509_key_mem(f->cert, &cert_pem, &key_pem, GNUTLS_X509_FMT_PEM);
    if (fault < 0) {
        error_set(err, SCOPE_EINVAL, "tls",
                  "the certificate and its key cannot be used: %s; both have to be PEM, and belong "
                  "together",
                  gnutls_strerror(fault));
        front_free(f);
        return NULL;
    }
    f->source = g_unix_fd_source_new(fd, G_IO_IN);
    g_source_set_callback(f->source, G_SOURCE_FUNC(on_accept), f, NULL);
    g_source_attach(f->source, g_main_context_get_thread_default());
    return f;
}

void front_quiet(front *f)
{
    if (f->source) {
        g_source_destroy(f->source);
        g_clear_pointer(&f->source, g_source_unref);
    }
    if (f->fd >= 0)
        close(f->fd);
    f->fd = -1;
}

void front_free(front *f)
{
    front_quiet(f);
    close(f->spare);
    for (tunnel *t; (t = g_queue_peek_head(&f->tunnels));) {
        if (t->shaken)
            pump(t); /* what libmicrohttpd said last */
        tunnel_free(t);
    }
    gnutls_certificate_free_credentials(f->cert);
    gnutls_priority_deinit(f->priority);
    g_free(f);
}
