/* internal.h - what the files of the HTTP server share; nobody else includes it.
 *
 * All of it is [main]. A connection is libmicrohttpd's; a request is ours, made when its first line
 * has been read and freed when libmicrohttpd is done with it and nobody owes it an answer.
 */
#ifndef HTTP_INTERNAL_H
#define HTTP_INTERNAL_H

#include "../error.h"
#include "server.h"
#include "ws.h"

#include <microhttpd.h>
#include <string.h>
#include <sys/socket.h>

enum {
    PARTS_MAX = 6,          /* {names} in a route */
    DRAIN_MAX = 16 << 20,   /* of a body that is refused, this much is read before the answer */
    BODIES_MAX = 256 << 20, /* of all bodies being read at a time */
    WS_MESSAGE_DEFAULT = 1 << 20,
    SPARE = 16, /* connections beyond the limit, so that one too many can be told */
};

/* ---- connections (server.c, leave.c) --------------------------------------------------------- */

typedef struct link_state {
    server *server; /* borrowed */
    int fd, wire;   /* borrowed: libmicrohttpd's, and the client's (with TLS another) */
    char peer[48];
    int64_t deadline_us; /* the client has to have said all by then; 0: it is our turn */
    GList node;          /* in server.links */
} link_state;

/* A client that leaves while its connection is suspended, when libmicrohttpd does not look. */
typedef struct watch watch;
watch *watch_new(int fd, void (*gone)(void *ctx), void *ctx);
void watch_free(watch *w); /* NULL is fine */

/* A client that was answered before it had sent all: closing at once would reset the connection and
 * take the answer from it, so what it sends is read, and dropped, for some seconds more. */
typedef struct sendoff sendoff;
void sendoff_begin(server *s, int fd);
void sendoff_end(sendoff *l);

/* ---- requests (request.c) -------------------------------------------------------------------- */

typedef struct part {
    const char *name; /* in the route's path, not terminated; borrowed */
    size_t n;
    char *value; /* owned */
} part;

typedef struct upgrade upgrade;

struct request {
    server *server;             /* borrowed; NULL once it has ended */
    struct MHD_Connection *mhd; /* borrowed; NULL once the client has left */
    link_state *link;           /* borrowed until mhd is NULL */
    const route *route;         /* borrowed, or NULL */
    const char *method;         /* libmicrohttpd's, for as long as the request */
    char *uri;                  /* as sent; owned */
    char *path;                 /* owned */
    GHashTable *query;          /* owned */
    part parts[PARTS_MAX];
    int part_count;
    char id[24], peer[48];
    GByteArray *incoming; /* owned */
    GBytes *body;         /* owned */
    json_t *json;         /* owned */
    response *refusal;    /* owned: decided on the head, sent after the body */
    uint64_t received;    /* bytes of body, kept or not */
    bool begun, waiting, left, open;
    void (*gone)(void *ctx);
    void *gone_ctx;
    response *answer; /* owned */
    watch *watch;     /* owned */
    upgrade *upgrade; /* owned until the handshake is out */
    chunks *chunks;   /* borrowed, while they are the answer */
    GList node;       /* in server.requests */
};

request *request_new(server *s, struct MHD_Connection *mhd, const char *uri);
void request_free(request *r);
/* Path and query out of the URI; false with *answer 400. */
bool request_parse(request *r, response **answer);
/* A body as a JSON object, new; or NULL with `why`. */
json_t *json_body(const char *text, size_t n, bool empty, char *why, size_t size);

/* ---- the way of a request (exchange.c): libmicrohttpd's callbacks ---------------------------- */

void *exchange_begin(void *cls, const char *uri, struct MHD_Connection *mhd);
enum MHD_Result exchange_request(void *cls, struct MHD_Connection *mhd, const char *url,
                                 const char *method, const char *version, const char *data,
                                 size_t *n, void **con_cls);
void exchange_completed(void *cls, struct MHD_Connection *mhd, void **con_cls,
                        enum MHD_RequestTerminationCode code);
/* Go on with a connection that was suspended. It gets its turn in MHD_run, which no descriptor asks
 * for. */
void exchange_resume(request *r);
/* The server ends: a suspended connection is libmicrohttpd's again, its client counts as gone. */
void exchange_abandon(request *r);

/* ---- responses (response.c, file.c, chunks.c, upgrade.c) ------------------------------------- */

struct response {
    int status;
    struct MHD_Response *mhd; /* owned */
    size_t size;              /* of the body; 0 where it is not known */
    bool cache;               /* says itself how long it may be kept */
    chunks *chunks;           /* owned by mhd; NULL: the body is whole */
};

response *response_of(int status, const char *type, struct MHD_Response *mhd, size_t size);
void response_free(response *a);
/* Bytes first..last of a file of `size` that a Range header asks for: 0 whole, 1 a part, -1 none
 * of it. */
int range_parse(const char *text, uint64_t size, uint64_t *first, uint64_t *last);
/* The stream is the answer to `r` now. */
void chunks_answer(chunks *c, request *r);
void chunks_abandon(chunks *c); /* its client has left, or the server ends */
/* The end of a request whose upgrade did not come about. */
void upgrade_drop(upgrade *u);

/* ---- WebSockets (ws.c) ----------------------------------------------------------------------- */

/* `fd` is read and written, `wire` (the same, or the socket behind a TLS layer) is asked what it
 * has not sent. `early`: what came with the handshake. release() is called after closed(), and
 * closes fd. */
ws *ws_new(int fd, int wire, const ws_calls *calls, void *ctx, const void *early, size_t n,
           server_stats *stats, void (*release)(void *ctx, ws *w), void *release_ctx);
void ws_end(ws *w); /* at once: closed() and release() come from here */
/* The answer to a Sec-WebSocket-Key; for g_free. */
char *ws_accept(const char *key);

/* ---- routes (route.c) ------------------------------------------------------------------------ */

/* The route of a path as sent, without its query, or NULL: then *allow is the methods that the
 * path has (for g_free) or NULL where it has none. Fills r's path and parts. */
bool route_find(const route *const *tables, request *r, const char *raw, char **allow,
                const char **fault);
/* Does a Content-Type (NULL: none was given) fit what a route takes? */
bool route_takes(const route *route, const char *type);
/* The decoded form, or NULL for broken escapes, NUL, or what is no UTF-8. */
char *percent_decode(const char *text, size_t n);

/* ---- who may (auth.c) ------------------------------------------------------------------------ */

typedef struct limiter limiter;
limiter *limiter_new(void);
void limiter_free(limiter *l);

bool token_equal(const char *given, const char *token);
/* Is `host` (a Host header) one that only this machine's user can have meant: an address,
 * localhost, or `allowed`? */
bool host_known(const char *host, const char *allowed);
/* Well-formed as host[:port], so that it may stand in a URL. */
bool host_valid(const char *host);
/* NULL, or the refusal. */
response *auth_check(request *r);

/* A listening socket, or -1 with *err; port, address and loopback of s are filled (listen.c). */
int listen_on(server *s, const char *at, int port, scope_error *err);

/* Speaks TLS on a listening socket, which it takes, and hands connections on to libmicrohttpd. */
typedef struct front front;
front *front_new(server *s, int fd, const char *cert, const char *key, scope_error *err);
void front_quiet(front *f); /* no more connections */
void front_free(front *f);

/* ---- the server ------------------------------------------------------------------------------ */

struct server {
    struct MHD_Daemon *daemon;  /* owned */
    GSource *source;            /* owned */
    front *front;               /* owned; NULL: plain HTTP */
    int wire;                   /* of the connection that is being added, or -1 */
    const route *const *routes; /* borrowed */
    void *app;                  /* borrowed */
    char *token, *public_host;  /* owned, or NULL */
    char *address;              /* owned: what it listens on, for URLs */
    bool tls, loopback, behind_proxy, draining;
    int port, connections_max;
    int64_t idle_us, sweep_us;
    size_t bodies;    /* bytes held in request bodies */
    int open;         /* requests that draining waits for */
    GQueue links;     /* link_state.node */
    GQueue requests;  /* request.node: all */
    GQueue sendoffs;  /* sendoff*, owned */
    GQueue sockets;   /* ws*, owned by themselves */
    limiter *limiter; /* owned */
    json_t *components;
    server_stats stats;
};

/* Give libmicrohttpd a connection, `fd`, which it takes; `wire` is the client's socket behind it.
 */
bool server_add(server *s, int fd, const struct sockaddr *peer, socklen_t n, int wire);

#endif
