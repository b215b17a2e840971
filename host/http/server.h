/* server.h - HTTP: requests, responses, routes; libmicrohttpd in the GLib main loop.
 *
 * Everything here is [main]. A handler never blocks: what takes long answers later
 * (request_later). One route table is dispatch, authorisation and /openapi.json.
 */
#ifndef HTTP_SERVER_H
#define HTTP_SERVER_H

#include "../../plugin/scope_abi.h"

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>

typedef struct server server;
typedef struct request request;
typedef struct response response;

/* ---- requests -------------------------------------------------------------------------------- */

const char *request_method(const request *r); /* "GET" */
const char *request_path(const request *r);   /* decoded, without the query */
/* A part of the path by its name in the route ("id" of "/v1/streams/{id}"); never NULL for a name
 * that the route has, never empty, UTF-8, without NUL, "..", or a slash in front. A slash within is
 * possible ("%2F"). */
const char *request_part(const request *r, const char *name);
const char *request_query(const request *r, const char *name);  /* decoded, or NULL */
const char *request_header(const request *r, const char *name); /* or NULL */
GBytes *request_body(const request *r);                         /* borrowed, never NULL */
/* The body as a JSON object, borrowed; an empty body is {} where `empty` says so. NULL when it is
 * none, and *answer is the 400 that says what and where. */
json_t *request_json(request *r, bool empty, response **answer);
void *request_app(const request *r);        /* what server_new was given */
const char *request_peer(const request *r); /* "127.0.0.1" */
/* "http://host:port" as the client sees this server: by its Host header, X-Forwarded-Proto and
 * X-Forwarded-Host where proxies are trusted, and TLS. For g_free. */
char *request_origin(const request *r);
const char *request_id(const request *r); /* for logs and error bodies */

/* Answer later: the handler returns NULL after this. The request stays valid until request_answer;
 * `gone` (may be NULL) tells that the client has left, and then request_answer is still to be
 * called. */
void request_later(request *r, void (*gone)(void *ctx), void *ctx);
void request_answer(request *r, response *answer); /* consumes it */

/* ---- responses; each is consumed by returning it --------------------------------------------- */

response *response_json(int status, json_t *body); /* steals body */
response *response_text(int status, const char *type, const char *text);
response *response_bytes(int status, const char *type, GBytes *bytes); /* takes a reference */
/* A file, with Range, Last-Modified and If-Modified-Since; `download`: a name to save it as, or
 * NULL. 404 when it cannot be opened. */
response *response_file(request *r, const char *path, const char *type, const char *download);
void response_header(response *a, const char *name, const char *value);
/* Daydream's error shape: success, error, code, status, details, requestId, traceId. `code` is
 * "STREAMS/NOT_FOUND"; `field` goes to details ({"field": ...}), or NULL. */
__attribute__((format(printf, 5, 6))) response *
response_error(request *r, int status, const char *code, const char *field, const char *fmt, ...);
/* A scope_error as 400 (EINVAL), 404 never, 500 (the rest). */
response *response_fault(request *r, const char *code, const scope_error *err);

/* A body that is written as it is made: multipart pictures, downloads. `open` is called once the
 * head is out; push with chunks_push. */
typedef struct chunks chunks;
response *response_chunks(int status, const char *type, void (*open)(void *ctx, chunks *c),
                          void (*closed)(void *ctx), void *ctx);
void chunks_push(chunks *c, GBytes *bytes); /* takes a reference */
size_t chunks_waiting(const chunks *c);     /* bytes not yet written */
void chunks_end(chunks *c);

/* ---- WebSockets: ws.h is what the handler goes on with --------------------------------------- */

typedef struct ws ws;
typedef struct ws_calls {
    void (*open)(void *ctx, ws *w);
    void (*text)(void *ctx, const char *text, size_t n); /* valid UTF-8, NUL-terminated */
    void (*binary)(void *ctx, const void *bytes, size_t n);
    void (*closed)(void *ctx); /* always the last call; the ws is gone */
    size_t message_max;        /* larger ones close the connection (1009); 0: 1 MiB */
} ws_calls;
/* 101 for a well-formed upgrade, else 426 with the reason. `ctx` is the handler's until closed(),
 * which comes in any case. */
response *response_websocket(request *r, const ws_calls *calls, void *ctx);

/* ---- routes ---------------------------------------------------------------------------------- */

enum route_access {
    ROUTE_OPEN = 1, /* no token: health, the page's files */
    ROUTE_TOKEN,    /* a bearer token when the server asks for one; GET takes ?access_token= too */
    ROUTE_SECRET,   /* the path itself is the secret */
};

typedef struct route {
    const char *method, *path; /* "/v1/streams/{id}"; "/files/{rest*}" takes slashes too; of several
                                  that fit, the more literal one is meant; GET answers HEAD too */
    response *(*handler)(request *r);
    enum route_access access;
    size_t body_max;     /* bytes; 0: no body is taken */
    const char *summary; /* one line, for /openapi.json */
    /* For /openapi.json, JSON text or NULL: the schema of the body, and of the answer; query
     * parameters as an object of schemas. "#Name" refers to a component (server_component). */
    const char *body, *answer, *query;
    int status;           /* of success; 0: 200 */
    const char *produces; /* content type of success; NULL: application/json */
    const char *consumes; /* content types of the body, separated by commas; a star may stand for
                             the second half; NULL: application/json */
} route;

typedef struct server_options {
    const char *listen;             /* address, "127.0.0.1" */
    int port;                       /* 0: any free one */
    const char *token;              /* NULL: none is asked for */
    const char *tls_cert, *tls_key; /* PEM text, or NULL: plain HTTP */
    int connections_max;            /* 0: 256 */
    int idle_s;                     /* a silent connection is closed; 0: 30 */
    bool behind_proxy;              /* believe X-Forwarded-* */
    const char *public_host; /* host[:port] in URLs in place of the request's, and a name that
                                Host may have where no token is asked for; or NULL */
} server_options;

/* `routes` are NULL-terminated tables, each ending with a NULL method; borrowed. NULL with *err:
 * "the port 8080 is in use: ...". */
server *server_new(const server_options *o, const route *const *routes, void *app,
                   scope_error *err);
void server_free(server *s); /* ends all connections */
int server_port(const server *s);
/* Take no new connections; true once the last request has been answered. Streams (response_chunks)
 * and WebSockets are not waited for. */
bool server_drain(server *s);
/* A named schema that routes refer to, JSON text; before the first request. */
void server_component(server *s, const char *name, const char *json);
/* The routes as an OpenAPI 3.1 document, for a client that sees the server at `origin`; new
 * reference. */
json_t *server_openapi(const server *s, const char *origin);

typedef struct server_stats {
    int connections, websockets;
    int64_t requests, refused; /* 401, 403, 413, 429 */
    int64_t bytes_in, bytes_out;
} server_stats;
void server_stats_now(const server *s, server_stats *stats);

#endif
