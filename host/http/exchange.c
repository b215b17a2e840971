/* exchange.c - the way of a request through the server: refused, taken, answered, or left.
 *
 * A request is refused on its head (route, token, size) but answered after its body, so that a
 * client that is still sending hears it. Every answer, refusals included, gets the headers that
 * browsers of other origins need. libmicrohttpd calls on_request for the head, for each part of the
 * body, at its end, and again when a suspended connection goes on.
 */
#include "internal.h"

enum { SLOWEST_BPS = 8 << 10 }; /* a body that comes slower is not waited for */

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
    if (a->chunks)
        chunks_answer(a->chunks, r);
    if (a->chunks || a->status == 101) { /* draining does not wait for what may never end */
        s->open--;
        r->open = false;
    }
    if (strcmp(r->method, "HEAD") != 0)
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
    if (r->refusal && (announced(r) > DRAIN_MAX || (waits && brings_body(r)))) {
        sendoff_begin(s, r->link->fd);
        return answer(r, g_steal_pointer(&r->refusal));
    }
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

void exchange_resume(request *r)
{
    MHD_resume_connection(r->mhd);
    g_source_set_ready_time(r->server->source, 0);
}

/* A client left before it had its answer. libmicrohttpd is to notice too. */
static void on_gone(void *ctx)
{
    request *r = ctx;
    g_clear_pointer(&r->watch, watch_free);
    r->left = true;
    exchange_resume(r);
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

enum MHD_Result exchange_request(void *cls, struct MHD_Connection *mhd, const char *url,
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
        exchange_resume(r);
    }
}

void exchange_abandon(request *r)
{
    if (r->watch)
        on_gone(r);
    else if (r->chunks)
        chunks_abandon(r->chunks);
}

void *exchange_begin(void *cls, const char *uri, struct MHD_Connection *mhd)
{
    server *s = cls;
    request *r = request_new(s, mhd, uri);
    r->open = true;
    s->open++;
    return r;
}

void exchange_completed(void *cls, struct MHD_Connection *mhd, void **con_cls,
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
