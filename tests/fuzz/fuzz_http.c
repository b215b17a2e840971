/* fuzz_http.c - any bytes as what a client sends to the server: it answers or hangs up, and keeps
 * nothing. */
#include "host/http/internal.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <unistd.h>

#define REQUIRE(x)                                                                                 \
    do {                                                                                           \
        if (!(x))                                                                                  \
            abort();                                                                               \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int open_things;

static response *on_part(request *r)
{
    const char *name = request_part(r, "name"), *q = request_query(r, "q");
    REQUIRE(g_utf8_validate(name, -1, NULL) && (!q || g_utf8_validate(q, -1, NULL)));
    REQUIRE(!strstr(name, "../") && name[0] != '/' && strcmp(name, "..") != 0);
    char *origin = request_origin(r);
    response *a = response_text(200, "text/plain", origin);
    g_free(origin);
    return a;
}

static response *on_json(request *r)
{
    response *no;
    json_t *body = request_json(r, true, &no);
    return body ? response_json(201, json_incref(body)) : no;
}

static response *on_body(request *r)
{
    REQUIRE(g_bytes_get_size(request_body(r)) <= 1000);
    return response_bytes(200, "image/png", request_body(r));
}

static response *on_file(request *r)
{
    return response_file(r, "/proc/self/exe", "text/plain", request_query(r, "as"));
}

static gboolean on_idle(gpointer r)
{
    request_answer(r, response_text(200, "text/plain", "later"));
    return G_SOURCE_REMOVE;
}

static response *on_later(request *r)
{
    request_later(r, NULL, NULL);
    g_idle_add(on_idle, r);
    return NULL;
}

static void chunk_open(void *ctx, chunks *c)
{
    (void)ctx;
    GBytes *b = g_bytes_new_static("piece", 5);
    chunks_push(c, b);
    g_bytes_unref(b);
    chunks_end(c);
}

static void thing_closed(void *ctx)
{
    (void)ctx;
    open_things--;
}

static response *on_chunks(request *r)
{
    (void)r;
    open_things++;
    return response_chunks(200, "text/plain", chunk_open, thing_closed, NULL);
}

static void ws_opened(void *ctx, ws *w)
{
    (void)ctx;
    ws_text(w, "hello");
}

static response *on_ws(request *r)
{
    static const ws_calls calls = {.open = ws_opened, .closed = thing_closed};
    open_things++;
    return response_websocket(r, &calls, NULL);
}

static const route routes[] = {
    {.method = "GET", .path = "/part/{name}", .handler = on_part, .access = ROUTE_OPEN},
    {.method = "GET", .path = "/rest/{name*}", .handler = on_part, .access = ROUTE_TOKEN},
    {.method = "POST", .path = "/json", .handler = on_json, .access = ROUTE_OPEN, .body_max = 1000},
    {.method = "PUT",
     .path = "/body",
     .handler = on_body,
     .access = ROUTE_OPEN,
     .body_max = 1000,
     .consumes = "image/*, video/mp4"},
    {.method = "GET", .path = "/file", .handler = on_file, .access = ROUTE_OPEN},
    {.method = "GET", .path = "/later", .handler = on_later, .access = ROUTE_OPEN},
    {.method = "GET", .path = "/chunks", .handler = on_chunks, .access = ROUTE_OPEN},
    {.method = "GET", .path = "/ws", .handler = on_ws, .access = ROUTE_OPEN},
    {0},
};
static const route *const tables[] = {routes, NULL};

/* Is there nothing left of the connection? */
static bool is_over(server *s)
{
    server_stats now;
    server_stats_now(s, &now);
    return now.connections == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static server *s;
    scope_error err;
    if (!s)
        s = server_new(&(server_options){.listen = "127.0.0.1", .token = "sesame", .idle_s = 5},
                       tables, NULL, &err);
    REQUIRE(s);
    int pair[2];
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
    REQUIRE(server_add(s, pair[1], (struct sockaddr *)&at, sizeof at, pair[1]));
    for (size_t sent = 0; !is_over(s);) {
        char answer[4096];
        ssize_t n = sent < size ? send(pair[0], data + sent, size - sent, MSG_NOSIGNAL) : 0;
        sent += n > 0 ? (size_t)n : 0;
        if (sent == size)
            shutdown(pair[0], SHUT_WR);
        s->sweep_us = 0;
        g_main_context_iteration(NULL, FALSE);
        g_source_set_ready_time(s->source, 0);
        while (recv(pair[0], answer, sizeof answer, 0) > 0)
            ;
    }
    close(pair[0]);
    while (g_main_context_iteration(NULL, FALSE)) /* who answers nobody */
        ;
    REQUIRE(open_things == 0 && s->open == 0 && s->bodies == 0);
    REQUIRE(s->requests.length == 0 && s->sockets.length == 0);
    return 0;
}
