/* server.c - libmicrohttpd in the GLib main loop, and the way of a request through it.
 *
 * One thread: the daemon's epoll descriptor and its next timeout are a GSource, and everything that
 * it calls happens in there. A request is refused on its head (route, token, size) but answered
 * after its body, so that a client that is still sending hears it. Every answer, refusals included,
 * gets the headers that browsers of other origins need.
 */
#include "internal.h"

#include <errno.h>
#include <gio/gio.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    CONNECTIONS = 256,
    SPARE = 16, /* beyond the limit, so that one too many can be told */
    IDLE_S = 30,
    MEMORY = 64 << 10,     /* per connection: its head has to fit */
    SLOWEST_BPS = 8 << 10, /* a body that comes slower is not waited for */
};

typedef struct daemon_source {
    GSource source;
    server *server;
} daemon_source;

/* ---- clients that leave while their connection is suspended -----------------------------------
 */

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

/* ---- answers --------------------------------------------------------------------------------- */

static void add_headers(request *r, response *a)
{
    response_header(a, "Access-Control-Allow-Origin", "*");
    response_header(a, "Access-Control-Expose-Headers",
                    "Location, ETag, Link, Livepeer-Playback-Url");
    response_header(a, "X-Request-Id", r->id);
    response_header(a, "X-Content-Type-Options", "nosniff");
    if (!a->cache)
        response_header(a, "Cache-Control", "no-store");
}

/* Hand an answer to libmicrohttpd. */
static enum MHD_Result answer(request *r, response *a)
{
    server *s = r->server;
    if (a->status != 101)
        add_headers(r, a);
    r->link->deadline_us = 0;
    r->chunks = a->chunks;
    if (a->chunks) {
        chunks_answer(a->chunks, r);
        s->open--; /* draining does not wait for what may never end */
        r->open = false;
    }
    s->stats.bytes_out += (int64_t)a->size;
    s->stats.refused +=
        a->status == 401 || a->status == 403 || a->status == 413 || a->status == 429;
    g_debug("%s %s %s: %d", r->id, r->method, r->route ? r->route->path : "?", a->status);
    enum MHD_Result done = MHD_queue_response(r->mhd, (unsigned)a->status, a->mhd);
    response_free(a);
    return done;
}

/* What a browser asks before it sends a request of another origin: no token comes with it. */
static response *preflight(request *r, const char *allow)
{
    response *a =
        response_of(204, NULL, MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT), 0);
    response_header(a, "Access-Control-Allow-Methods", "GET, POST, PUT, PATCH, DELETE, OPTIONS");
    response_header(a, "Access-Control-Allow-Headers", "authorization, content-type, if-match");
    response_header(a, "Access-Control-Max-Age", "86400");
    if (allow) {
        char *all = g_strdup_printf("%s, OPTIONS", allow);
        response_header(a, "Allow", all);
        g_free(all);
    }
    if (r->route && r->route->consumes)
        response_header(a, "Accept-Post", r->route->consumes);
    return a;
}

/* ---- requests -------------------------------------------------------------------------------- */

/* The length that the head announces; 0: none, or in chunks. */
static uint64_t announced(const request *r)
{
    const char *text = request_header(r, "Content-Length");
    return text ? g_ascii_strtoull(text, NULL, 10) : 0;
}

static bool brings_body(const request *r)
{
    return announced(r) > 0 || request_header(r, "Transfer-Encoding");
}

static response *too_large(request *r)
{
    size_t max = r->route->body_max;
    if (max == 0)
        return response_error(r, 413, "REQUEST/TOO_LARGE", NULL, "%s %s takes no body",
                              r->route->method, r->route->path);
    return response_error(r, 413, "REQUEST/TOO_LARGE", NULL,
                          "the body is too large: at most %zu bytes are taken here", max);
}

/* Route and rights, from the head alone: NULL, or the refusal. */
static response *admit(request *r, const char *method)
{
    server *s = r->server;
    response *no = NULL;
    char *allow;
    const char *fault;
    bool options = strcmp(method, "OPTIONS") == 0;
    if (strcmp(r->uri, "*") == 0 && options)
        return preflight(r, NULL);
    if (!request_parse(r, &no))
        return no;
    r->method = options ? "POST" : method; /* whose body types are told */
    route_find(s->routes, r, r->uri, &allow, &fault);
    r->method = method;
    if (options) {
        no = preflight(r, allow);
    } else if ((int)s->links.length > s->connections_max) {
        no = response_error(r, 503, "REQUEST/BUSY", NULL, "all %d connections are taken",
                            s->connections_max);
        response_header(no, "Retry-After", "1");
        response_header(no, "Connection", "close");
    } else if (!(no = auth_check(r)) && fault) {
        no = response_error(r, 400, "REQUEST/BAD_URL", NULL, "%s", fault);
    } else if (!no && !r->route && allow) {
        no = response_error(r, 405, "REQUEST/METHOD_NOT_ALLOWED", NULL, "%.40s is not for %.200s",
                            method, r->path);
        response_header(no, "Allow", allow);
    } else if (!no && !r->route) {
        no = response_error(r, 404, "REQUEST/NOT_FOUND", NULL, "there is nothing at %.200s",
                            r->path);
    }
    g_free(allow);
    return no;
}

/* What the body's headers say: NULL, or the refusal. */
static response *admit_body(request *r)
{
    server *s = r->server;
    const char *type = request_header(r, "Content-Type");
    if (!brings_body(r))
        return NULL;
    if (r->route->body_max == 0 || announced(r) > r->route->body_max)
        return too_large(r);
    if (!route_takes(r->route, type)) {
        char *shown = g_utf8_make_valid(type, -1);
        response *no = response_error(r, 415, "REQUEST/UNSUPPORTED_MEDIA_TYPE", NULL,
                                      "the body is \"%.100s\", but has to be %s", shown,
                                      r->route->consumes ? r->route->consumes : "application/json");
        g_free(shown);
        return no;
    }
    if (s->bodies + announced(r) > BODIES_MAX)
        return response_error(r, 503, "REQUEST/BUSY", NULL,
                              "too much is being sent at the moment; try again");
    return NULL;
}

/* The first call for a request: its head is there. */
static enum MHD_Result begin(request *r, const char *method)
{
    server *s = r->server;
    r->begun = true;
    r->link->deadline_us = g_get_monotonic_time() + s->idle_us;
    s->stats.requests++;
    if (s->behind_proxy) {
        const char *chain = request_header(r, "X-Forwarded-For");
        const char *last = chain ? strrchr(chain, ',') : NULL;
        if (chain)
            snprintf(r->peer, sizeof r->peer, "%s",
                     last ? last + 1 + strspn(last + 1, " ") : chain);
    }
    r->refusal = admit(r, method);
    if (!r->refusal)
        r->refusal = admit_body(r);
    bool waits = request_header(r, "Expect") != NULL;
    if (r->refusal && (announced(r) > DRAIN_MAX || (waits && brings_body(r))))
        return answer(r, g_steal_pointer(&r->refusal));
    return MHD_YES;
}

static void forget_body(request *r)
{
    if (!r->incoming)
        return;
    r->server->bodies -= r->incoming->len;
    g_byte_array_unref(r->incoming);
    r->incoming = NULL;
}

/* Some of the body. */
static enum MHD_Result more(request *r, const char *data, size_t n)
{
    server *s = r->server;
    r->received += n;
    s->stats.bytes_in += (int64_t)n;
    r->link->deadline_us += (int64_t)(n * G_USEC_PER_SEC / SLOWEST_BPS);
    if (!r->refusal && r->received > r->route->body_max)
        r->refusal = too_large(r);
    if (!r->refusal && s->bodies + n > BODIES_MAX)
        r->refusal = response_error(r, 503, "REQUEST/BUSY", NULL,
                                    "too much is being sent at the moment; try again");
    if (r->refusal) {
        forget_body(r);
        return r->received > DRAIN_MAX ? MHD_NO : MHD_YES;
    }
    if (!r->incoming)
        r->incoming = g_byte_array_new();
    g_byte_array_append(r->incoming, (const guint8 *)data, (guint)n);
    s->bodies += n;
    return MHD_YES;
}

/* A client left before it had its answer. libmicrohttpd is to notice too. */
static void on_gone(void *ctx)
{
    request *r = ctx;
    g_clear_pointer(&r->watch, watch_free);
    r->left = true;
    MHD_resume_connection(r->mhd);
    if (r->gone)
        r->gone(r->gone_ctx);
}

/* The request is whole. */
static enum MHD_Result dispatch(request *r)
{
    r->link->deadline_us = 0;
    if (r->refusal)
        return answer(r, g_steal_pointer(&r->refusal));
    if (r->incoming) {
        r->server->bodies -= r->incoming->len;
        g_bytes_unref(r->body);
        r->body = g_byte_array_free_to_bytes(g_steal_pointer(&r->incoming));
    }
    response *a = r->route->handler(r);
    if (!a && r->waiting) {
        MHD_suspend_connection(r->mhd);
        r->watch = watch_new(r->link->fd, on_gone, r);
        return MHD_YES;
    }
    if (!a)
        a = g_steal_pointer(&r->answer);
    g_assert(a); /* a handler answers, or says request_later() */
    return answer(r, a);
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *mhd, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *n, void **con_cls)
{
    (void)cls;
    (void)mhd;
    (void)url;
    (void)version;
    request *r = *con_cls;
    if (!r->begun)
        return begin(r, method);
    if (*n > 0) {
        size_t got = *n;
        *n = 0;
        return more(r, data, got);
    }
    if (r->left)
        return MHD_NO;
    if (r->answer)
        return answer(r, g_steal_pointer(&r->answer));
    return r->waiting ? MHD_YES : dispatch(r);
}

void request_later(request *r, void (*gone)(void *ctx), void *ctx)
{
    r->waiting = true;
    r->gone = gone;
    r->gone_ctx = ctx;
}

void request_answer(request *r, response *a)
{
    r->waiting = false;
    if (!r->mhd) { /* nobody is left to hear it */
        response_free(a);
        request_free(r);
        return;
    }
    r->answer = a;
    if (r->watch) {
        g_clear_pointer(&r->watch, watch_free);
        MHD_resume_connection(r->mhd);
    }
}

static void *on_uri(void *cls, const char *uri, struct MHD_Connection *mhd)
{
    server *s = cls;
    request *r = request_new(s, mhd, uri);
    r->open = true;
    s->open++;
    return r;
}

static void on_completed(void *cls, struct MHD_Connection *mhd, void **con_cls,
                         enum MHD_RequestTerminationCode code)
{
    (void)mhd;
    (void)code;
    server *s = cls;
    request *r = *con_cls;
    *con_cls = NULL;
    if (!r)
        return;
    s->open -= r->open;
    r->open = false;
    r->link->deadline_us = g_get_monotonic_time() + 2 * s->idle_us;
    forget_body(r);
    if (r->upgrade)
        upgrade_drop(g_steal_pointer(&r->upgrade));
    r->mhd = NULL;
    r->link = NULL;
    if (!r->waiting)
        request_free(r);
}

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
        link->deadline_us = g_get_monotonic_time() + 2 * s->idle_us;
        g_queue_push_tail_link(&s->links, &link->node);
    } else {
        g_queue_unlink(&s->links, &link->node);
        g_free(link);
    }
}

/* ---- the main loop --------------------------------------------------------------------------- */

/* Hang up on those whose time is over; libmicrohttpd's own timeout knows only silence. */
static void sweep(server *s, int64_t now)
{
    if (now < s->sweep_us)
        return;
    s->sweep_us = now + G_USEC_PER_SEC;
    for (GList *l = s->links.head; l; l = l->next) {
        link_state *link = l->data;
        if (link->deadline_us && now > link->deadline_us)
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

static int bind_fault(scope_error *err, const char *listen_at, int port)
{
    if (errno == EADDRINUSE)
        return error_set(err, SCOPE_EINVAL, "port",
                         "the port %d is in use: end the other program, or choose another port",
                         port);
    if (errno == EACCES)
        return error_set(err, SCOPE_EINVAL, "port",
                         "the port %d may not be opened: ports below 1024 are the administrator's; "
                         "choose another",
                         port);
    return error_set(err, SCOPE_EINVAL, "listen", "cannot listen on %s, port %d: %s", listen_at,
                     port, strerror(errno));
}

/* A listening socket, or -1 with *err; the port that it has goes to s. */
static int listen_on(server *s, const char *at, int port, scope_error *err)
{
    char service[8];
    struct addrinfo *found, hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    snprintf(service, sizeof service, "%d", port);
    int fault = getaddrinfo(at, service, &hints, &found);
    if (fault)
        return error_set(err, SCOPE_EINVAL, "listen", "cannot listen on \"%s\": %s", at,
                         gai_strerror(fault));
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0) {
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
        if (found->ai_family == AF_INET6)
            setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &(int){0}, sizeof(int));
    }
    if (fd < 0 || bind(fd, found->ai_addr, found->ai_addrlen) != 0 || listen(fd, 128) != 0) {
        bind_fault(err, at, port);
        if (fd >= 0)
            close(fd);
        fd = -1;
    } else {
        struct sockaddr_storage bound;
        char name[64];
        getsockname(fd, (struct sockaddr *)&bound, &(socklen_t){sizeof bound});
        getnameinfo((struct sockaddr *)&bound, found->ai_addrlen, name, sizeof name, service,
                    sizeof service, NI_NUMERICHOST | NI_NUMERICSERV);
        s->port = atoi(service);
        s->address = g_strdup_printf(strchr(name, ':') ? "[%s]:%d" : "%s:%d", name, s->port);
        GInetAddress *address = g_inet_address_new_from_string(name);
        s->loopback = g_inet_address_get_is_loopback(address);
        g_object_unref(address);
    }
    freeaddrinfo(found);
    return fd;
}

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
    struct MHD_OptionItem options[16] = {
        {MHD_OPTION_EXTERNAL_LOGGER, (intptr_t)on_log, NULL},
        {MHD_OPTION_LISTEN_SOCKET, fd, NULL},
        {MHD_OPTION_CONNECTION_LIMIT, s->connections_max + SPARE, NULL},
        {MHD_OPTION_CONNECTION_TIMEOUT, s->idle_us / G_USEC_PER_SEC, NULL},
        {MHD_OPTION_CONNECTION_MEMORY_LIMIT, MEMORY, NULL},
        {MHD_OPTION_NOTIFY_COMPLETED, (intptr_t)on_completed, s},
        {MHD_OPTION_NOTIFY_CONNECTION, (intptr_t)on_connection, s},
        {MHD_OPTION_URI_LOG_CALLBACK, (intptr_t)on_uri, s},
        {MHD_OPTION_UNESCAPE_CALLBACK, (intptr_t)on_unescape, NULL},
    };
    int n = 9;
    unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_UPGRADE | MHD_ALLOW_SUSPEND_RESUME |
                     MHD_USE_ERROR_LOG | MHD_USE_TURBO;
    if (s->tls) {
        flags |= MHD_USE_TLS;
        options[n++] =
            (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_CERT, 0, (void *)(uintptr_t)o->tls_cert};
        options[n++] =
            (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_KEY, 0, (void *)(uintptr_t)o->tls_key};
        options[n++] = (struct MHD_OptionItem){
            MHD_OPTION_HTTPS_PRIORITIES, 0, (void *)"NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"};
    }
    options[n] = (struct MHD_OptionItem){MHD_OPTION_END, 0, NULL};
    s->daemon = MHD_start_daemon(flags, 0, NULL, NULL, on_request, s, MHD_OPTION_ARRAY, options,
                                 MHD_OPTION_END);
    if (!s->daemon) {
        close(fd);
        error_set(err, SCOPE_EINVAL, s->tls ? "tls" : "", "%s",
                  s->tls ? "the server does not start: is the certificate PEM, and the key its own?"
                         : "the server does not start: no descriptors or memory are left");
        return false;
    }
    static GSourceFuncs funcs = {.dispatch = on_daemon};
    s->source = g_source_new(&funcs, sizeof(daemon_source));
    ((daemon_source *)s->source)->server = s;
    int epoll = MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
    g_source_add_unix_fd(s->source, epoll, G_IO_IN);
    g_source_set_ready_time(s->source, 0); /* the first run puts the socket into the set */
    g_source_attach(s->source, g_main_context_get_thread_default());
    return true;
}

server *server_new(const server_options *o, const route *const *routes, void *app, scope_error *err)
{
    server *s = g_new0(server, 1);
    s->routes = routes;
    s->app = app;
    s->tls = o->tls_cert != NULL;
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
        request *r = l->data;
        next = l->next;
        if (r->watch)
            on_gone(r);
        else if (r->chunks)
            chunks_abandon(r->chunks);
    }
}

void server_free(server *s)
{
    if (s->daemon) {
        g_source_destroy(s->source);
        g_source_unref(s->source);
        for (GList *l = s->sockets.head; l; l = l->next)
            ws_close(l->data, 1001, "the server ends");
        MHD_run(s->daemon); /* with TLS: what the sockets have just written */
        while (s->sockets.length > 0)
            ws_end(g_queue_peek_head(&s->sockets));
        abandon(s);
        MHD_stop_daemon(s->daemon);
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
        int fd = MHD_quiesce_daemon(s->daemon);
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
