/* server.c - libmicrohttpd in the GLib main loop.
 *
 * One thread: the daemon's epoll descriptor and its next timeout are a GSource, and everything that
 * it calls happens in there. MHD_run is called nowhere else while the server lives.
 */
#include "internal.h"

#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    CONNECTIONS = 256,
    IDLE_S = 30,
    MEMORY = 64 << 10, /* per connection: its head has to fit */
};

typedef struct daemon_source {
    GSource source;
    server *server;
} daemon_source;

static void on_connection(void *cls, struct MHD_Connection *mhd, void **context,
                          enum MHD_ConnectionNotificationCode code)
{
    server *s = cls;
    link_state *link = *context;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
        *context = link = g_new0(link_state, 1);
        link->server = s;
        link->node.data = link;
        if (getnameinfo(info->client_addr, sizeof(struct sockaddr_storage), link->peer,
                        sizeof link->peer, NULL, 0, NI_NUMERICHOST) != 0)
            link->peer[0] = '\0';
        if (strncmp(link->peer, "::ffff:", 7) == 0)
            memmove(link->peer, link->peer + 7, strlen(link->peer + 7) + 1);
        link->fd = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
        link->wire = s->wire >= 0 ? s->wire : link->fd;
        link->deadline_us = g_get_monotonic_time() + 2 * s->idle_us;
        g_queue_push_tail_link(&s->links, &link->node);
    } else {
        g_queue_unlink(&s->links, &link->node);
        g_free(link);
    }
}

/* ---- the main loop --------------------------------------------------------------------------- */

/* Has the client closed its side, with nothing left to be read? libmicrohttpd misses it when it
 * came together with the last bytes. */
static bool is_done(const link_state *link)
{
    char next;
    return recv(link->fd, &next, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

/* Hang up on those who are to speak, and have left or had their time; libmicrohttpd's own timeout
 * knows only silence. */
static void sweep(server *s, int64_t now)
{
    if (now < s->sweep_us)
        return;
    s->sweep_us = now + G_USEC_PER_SEC;
    for (GList *l = s->links.head; l; l = l->next) {
        link_state *link = l->data;
        if (link->deadline_us && (now > link->deadline_us || is_done(link)))
            shutdown(link->fd, SHUT_RDWR);
    }
}

static void schedule(server *s)
{
    MHD_UNSIGNED_LONG_LONG ms;
    int64_t due = s->links.length > 0 ? s->sweep_us : -1;
    if (MHD_get_timeout(s->daemon, &ms) == MHD_YES) {
        int64_t at = g_get_monotonic_time() + (int64_t)ms * 1000;
        due = due < 0 ? at : MIN(due, at);
    }
    g_source_set_ready_time(s->source, due);
}

static gboolean on_daemon(GSource *source, GSourceFunc fn, gpointer data)
{
    (void)fn;
    (void)data;
    server *s = ((daemon_source *)source)->server;
    sweep(s, g_get_monotonic_time());
    MHD_run(s->daemon);
    schedule(s);
    return G_SOURCE_CONTINUE;
}

/* ---- starting and ending --------------------------------------------------------------------- */

static void on_log(void *cls, const char *fmt, va_list ap)
{
    (void)cls;
    g_logv("libmicrohttpd", G_LOG_LEVEL_DEBUG, fmt, ap);
}

/* Escapes are undone by us, part by part. */
static size_t on_unescape(void *cls, struct MHD_Connection *mhd, char *text)
{
    (void)cls;
    (void)mhd;
    return strlen(text);
}

static bool start(server *s, const server_options *o, int fd, scope_error *err)
{
    struct MHD_OptionItem options[] = {
        {MHD_OPTION_EXTERNAL_LOGGER, (intptr_t)on_log, NULL},
        {MHD_OPTION_CONNECTION_LIMIT, s->connections_max + SPARE, NULL},
        {MHD_OPTION_CONNECTION_TIMEOUT, s->idle_us / G_USEC_PER_SEC, NULL},
        {MHD_OPTION_CONNECTION_MEMORY_LIMIT, MEMORY, NULL},
        {MHD_OPTION_NOTIFY_COMPLETED, (intptr_t)exchange_completed, s},
        {MHD_OPTION_NOTIFY_CONNECTION, (intptr_t)on_connection, s},
        {MHD_OPTION_URI_LOG_CALLBACK, (intptr_t)exchange_begin, s},
        {MHD_OPTION_UNESCAPE_CALLBACK, (intptr_t)on_unescape, NULL},
        {s->tls ? MHD_OPTION_END : MHD_OPTION_LISTEN_SOCKET, fd, NULL},
        {MHD_OPTION_END, 0, NULL},
    };
    unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_UPGRADE | MHD_ALLOW_SUSPEND_RESUME |
                     MHD_USE_ERROR_LOG | (s->tls ? MHD_USE_NO_LISTEN_SOCKET : 0);

    s->daemon = MHD_start_daemon(flags, 0, NULL, NULL, exchange_request, s, MHD_OPTION_ARRAY,
                                 options, MHD_OPTION_END);
    if (!s->daemon) {
        close(fd);
        error_set(err, SCOPE_EIO, "",
                  "the server does not start: no descriptors or memory are left");
        return false;
    }
    static GSourceFuncs funcs = {.dispatch = on_daemon};
    s->source = g_source_new(&funcs, sizeof(daemon_source));
    ((daemon_source *)s->source)->server = s;
    int epoll = MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
    g_source_add_unix_fd(s->source, epoll, G_IO_IN);
    g_source_set_ready_time(s->source, 0); /* the first run puts the socket into the set */
    g_source_attach(s->source, g_main_context_get_thread_default());
    if (s->tls)
        s->front = front_new(s, fd, o->tls_cert, o->tls_key, err);
    return !s->tls || s->front;
}

bool server_add(server *s, int fd, const struct sockaddr *peer, socklen_t n, int wire)
{
    s->wire = wire;
    bool added = MHD_add_connection(s->daemon, fd, peer, n) == MHD_YES;
    s->wire = -1;
    g_source_set_ready_time(s->source, 0); /* it is to be looked at */
    return added;
}

server *server_new(const server_options *o, const route *const *routes, void *app, scope_error *err)
{
    server *s = g_new0(server, 1);
    s->routes = routes;
    s->app = app;
    s->tls = o->tls_cert != NULL;
    s->wire = -1;
    s->behind_proxy = o->behind_proxy;
    s->token = g_strdup(o->token);
    s->public_host = g_strdup(o->public_host);
    s->connections_max = o->connections_max ? o->connections_max : CONNECTIONS;
    s->idle_us = (o->idle_s ? o->idle_s : IDLE_S) * G_USEC_PER_SEC;
    s->limiter = limiter_new();
    s->components = json_object();
    int fd = listen_on(s, o->listen, o->port, err);
    if (fd < 0 || !start(s, o, fd, err)) {
        server_free(s);
        return NULL;
    }
    return s;
}

/* Let libmicrohttpd have back what is suspended: it may not be stopped before. */
static void abandon(server *s)
{
    for (GList *l = s->requests.head, *next; l; l = next) {
        next = l->next;
        exchange_abandon(l->data);
    }
}

void server_free(server *s)
{
    if (s->daemon) {
        g_source_destroy(s->source);
        for (GList *l = s->sockets.head; l; l = l->next)
            ws_close(l->data, 1001, "the server ends");
        while (s->sockets.length > 0)
            ws_end(g_queue_peek_head(&s->sockets));
        abandon(s);
        MHD_stop_daemon(s->daemon);
        if (s->front)
            front_free(s->front);
        while (s->sendoffs.length > 0)
            sendoff_end(g_queue_peek_head(&s->sendoffs));
        g_source_unref(s->source); /* until now, whatever was resumed has set its time */
    }
    for (request *r; (r = g_queue_peek_head(&s->requests));) {
        g_queue_unlink(&s->requests, &r->node);
        r->server = NULL; /* whoever owes it an answer frees it */
    }
    limiter_free(s->limiter);
    json_decref(s->components);
    g_free(s->token);
    g_free(s->public_host);
    g_free(s->address);
    g_free(s);
}

int server_port(const server *s)
{
    return s->port;
}

bool server_drain(server *s)
{
    if (!s->draining) {
        s->draining = true;
        int fd = s->front ? -1 : MHD_quiesce_daemon(s->daemon);
        if (s->front)
            front_quiet(s->front);
        if (fd >= 0)
            close(fd);
    }
    return s->open == 0;
}

void server_component(server *s, const char *name, const char *json)
{
    json_error_t at;
    json_t *schema = json_loads(json, 0, &at);
    if (!schema)
        g_error("the schema %s: line %d: %s", name, at.line, at.text);
    json_object_set_new(s->components, name, schema);
}

void server_stats_now(const server *s, server_stats *stats)
{
    *stats = s->stats;
    stats->connections = (int)s->links.length;
}
