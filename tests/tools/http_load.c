/* http_load.c - the HTTP server alone: how fast it answers, or an endless one for other clients.
 *
 * usage: http_load measure   requests per second, and WebSocket echoes, plain and over TLS
 *        http_load serve     prints the port; echoes at /echo, JSON at /json, streams at /drip/{n}
 */
#define FIXTURE_ALONE
#include "tests/unit/host/http_handlers.h"

#include "host/http/tls.h"

#include <glib/gstdio.h>
#include <gnutls/gnutls.h>

static void echo_open(void *ctx, ws *w)
{
    *(ws **)ctx = w;
}

static void echo_text(void *ctx, const char *text, size_t n)
{
    (void)n;
    ws_text(*(ws **)ctx, text);
}

static void echo_binary(void *ctx, const void *bytes, size_t n)
{
    GBytes *b = g_bytes_new(bytes, n);
    ws_binary(*(ws **)ctx, NULL, 0, b);
    g_bytes_unref(b);
}

static response *on_echo(request *r)
{
    static const ws_calls calls = {.open = echo_open,
                                   .text = echo_text,
                                   .binary = echo_binary,
                                   .closed = g_free,
                                   .message_max = 32 << 20};
    return response_websocket(r, &calls, g_new0(ws *, 1));
}

static response *on_json(request *r)
{
    response *no;
    json_t *body = request_json(r, true, &no);
    return body ? response_json(200, json_incref(body)) : no;
}

static response *on_hello(request *r)
{
    return response_json(200, json_pack("{s:s}", "hello", request_part(r, "name")));
}

static response *on_openapi(request *r)
{
    char *origin = request_origin(r);
    response *a = response_json(200, server_openapi(*(server **)request_app(r), origin));
    g_free(origin);
    return a;
}

static const route routes[] = {
    {.method = "GET",
     .path = "/hello/{name}",
     .handler = on_hello,
     .access = ROUTE_OPEN,
     .summary = "Say hello",
     .answer = "{\"type\": \"object\", \"required\": [\"hello\"]}"},
    {.method = "POST",
     .path = "/json",
     .handler = on_json,
     .access = ROUTE_OPEN,
     .summary = "The same again",
     .body_max = 1 << 20,
     .body = "{\"type\": \"object\"}",
     .answer = "{\"type\": \"object\"}"},
    {.method = "GET",
     .path = "/drip/{n}",
     .handler = on_drip,
     .access = ROUTE_OPEN,
     .summary = "Pieces",
     .produces = "text/plain"},
    {.method = "GET",
     .path = "/later/{ms}",
     .handler = on_later,
     .access = ROUTE_OPEN,
     .summary = "After a while"},
    {.method = "GET",
     .path = "/echo",
     .handler = on_echo,
     .access = ROUTE_OPEN,
     .summary = "Echo",
     .status = 101},
    {.method = "GET",
     .path = "/openapi.json",
     .handler = on_openapi,
     .access = ROUTE_OPEN,
     .summary = "This"},
    {0},
};
static const route *const tables[] = {routes, NULL};
static fixture f;

/* A client's connection: bare, or with TLS. */
typedef struct client {
    int fd;
    gnutls_session_t session; /* NULL: bare */
} client;

static gnutls_certificate_credentials_t trust;

static client client_open(bool secure)
{
    client c = {dial(f.port), NULL};
    if (!secure)
        return c;
    gnutls_init(&c.session, GNUTLS_CLIENT);
    gnutls_set_default_priority(c.session);
    gnutls_credentials_set(c.session, GNUTLS_CRD_CERTIFICATE, trust);
    gnutls_transport_set_int(c.session, c.fd);
    if (gnutls_handshake(c.session) != 0)
        g_error("the handshake fails");
    return c;
}

static void client_close(client *c)
{
    if (c->session)
        gnutls_deinit(c->session);
    close(c->fd);
}

static void client_say(client *c, const void *data, size_t n)
{
    for (size_t at = 0; c->session && at < n;)
        at += (size_t)gnutls_record_send(c->session, (const char *)data + at, n - at);
    if (!c->session)
        say(c->fd, data, n);
}

static void client_get(client *c, void *to, size_t n)
{
    for (size_t at = 0; at < n;) {
        ssize_t k = c->session ? gnutls_record_recv(c->session, (char *)to + at, n - at)
                               : recv(c->fd, (char *)to + at, n - at, 0);
        if (k == GNUTLS_E_AGAIN || k == GNUTLS_E_INTERRUPTED)
            continue;
        if (k <= 0)
            g_error("the server hangs up");
        at += (size_t)k;
    }
}

static void client_head(client *c)
{
    char end[4] = "";
    while (memcmp(end, "\r\n\r\n", 4) != 0) {
        memmove(end, end + 1, 3);
        client_get(c, end + 3, 1);
    }
}

/* An answer that ends with `end`. */
static void client_answer(client *c, const char *end)
{
    char all[4096];
    size_t n = 0, k = strlen(end);
    while (n < k || memcmp(all + n - k, end, k) != 0) {
        ssize_t got = c->session ? gnutls_record_recv(c->session, all + n, sizeof all - n)
                                 : recv(c->fd, all + n, sizeof all - n, 0);
        if (got > 0)
            n += (size_t)got;
        else if (got != GNUTLS_E_AGAIN && got != GNUTLS_E_INTERRUPTED)
            g_error("the server hangs up");
    }
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void tell(const char *what, double *ms, int n)
{
    qsort(ms, (size_t)n, sizeof *ms, compare);
    printf("%-28s p50 %7.3f ms   p95 %7.3f ms   p99 %7.3f ms   (%d)\n", what, ms[n / 2],
           ms[n * 95 / 100], ms[n * 99 / 100], n);
}

static void measure_echo(bool secure, size_t n, int rounds)
{
    client c = client_open(secure);
    const char *hello =
        "GET /echo HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    client_say(&c, hello, strlen(hello));
    client_head(&c);
    size_t wide = n < 126 ? 0 : n < 65536 ? 2 : 8;
    guint8 *out = g_malloc0(n + 14), *in = g_malloc(n + 10);
    out[0] = 0x82;
    out[1] = 0x80 | (n < 126 ? (guint8)n : n < 65536 ? 126 : 127);
    for (size_t i = 0; i < wide; i++)
        out[2 + i] = (guint8)(n >> 8 * (wide - 1 - i));
    double *ms = g_new(double, rounds);
    for (int i = 0; i < rounds; i++) {
        int64_t at = g_get_monotonic_time();
        client_say(&c, out, 6 + wide + n);
        client_get(&c, in, 2);
        if (in[0] == 0x89) /* a ping comes first */
            client_get(&c, in, 2);
        client_get(&c, in, wide + n);
        ms[i] = (double)(g_get_monotonic_time() - at) / 1000;
    }
    char what[64];
    snprintf(what, sizeof what, "echo of %zu bytes%s", n, secure ? ", TLS" : "");
    tell(what, ms, rounds);
    g_free(ms);
    g_free(out);
    g_free(in);
    client_close(&c);
}

static void measure_requests(bool secure, double seconds)
{
    client c = client_open(secure);
    const char *get = "GET /hello/x HTTP/1.1\r\nHost: localhost\r\n\r\n";
    int64_t begun = g_get_monotonic_time(), end = begun + (int64_t)(seconds * 1e6);
    int n = 0, room = 1 << 20;
    double *ms = g_new(double, room);
    while (g_get_monotonic_time() < end && n < room) {
        int64_t at = g_get_monotonic_time();
        client_say(&c, get, strlen(get));
        client_answer(&c, "{\"hello\":\"x\"}");
        ms[n++] = (double)(g_get_monotonic_time() - at) / 1000;
    }
    printf("%.0f requests a second on one connection%s\n", n / seconds, secure ? ", TLS" : "");
    tell(secure ? "request, TLS" : "request", ms, n);
    g_free(ms);
    client_close(&c);
}

int main(int argc, char **argv)
{
    scope_error err = {0};
    char *folder = g_dir_make_tmp("http_load.XXXXXX", NULL), *key;
    char *cert = tls_self_signed(folder, NULL, &key, &err);
    if (argc != 2 || !cert) {
        fprintf(stderr, "usage: http_load measure|serve\n");
        return 2;
    }
    bool serves = strcmp(argv[1], "serve") == 0;
    gnutls_certificate_allocate_credentials(&trust);
    for (int secure = 0; secure < (serves ? 1 : 2); secure++) {
        f = (fixture){.routes = tables, .app = &f.server};
        if (secure)
            f.options = (server_options){.tls_cert = cert, .tls_key = key};
        fixture_start(&f);
        if (serves) {
            printf("%d\n", f.port);
            fflush(stdout);
            g_thread_join(f.thread);
        }
        measure_requests(secure, 2);
        measure_echo(secure, 100, 2000);
        measure_echo(secure, 30000, 2000);
        measure_echo(secure, 1000000, 100);
        fixture_stop(&f);
    }
    char *path = g_build_filename(folder, "self-signed.pem", NULL);
    g_remove(path);
    g_rmdir(folder);
    return 0;
}
