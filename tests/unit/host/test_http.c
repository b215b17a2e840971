/* test_http.c - the HTTP server against raw sockets: routes, bodies, rights, limits, files, streams,
 * and answers that come later. */
#include "http_fixture.h"

#include <fcntl.h>
#include <sys/stat.h>

/* ---- the routes of the tests ----------------------------------------------------------------- */

static response *on_hello(request *r)
{
    return response_text(200, "text/plain", request_part(r, "name"));
}

static response *on_special(request *r)
{
    (void)r;
    return response_text(200, "text/plain", "special");
}

static response *on_rest(request *r)
{
    return response_text(200, "text/plain", request_part(r, "rest"));
}

static response *on_query(request *r)
{
    const char *q = request_query(r, "q");
    return response_text(200, "text/plain", q ? q : "(none)");
}

static response *on_json(request *r)
{
    response *no;
    json_t *body = request_json(r, false, &no);
    return body ? response_json(201, json_pack("{s:O}", "got", body)) : no;
}

static response *on_maybe(request *r)
{
    response *no;
    json_t *body = request_json(r, true, &no);
    return body ? response_json(200, json_incref(body)) : no;
}

static response *on_upload(request *r)
{
    gsize n;
    const guint8 *data = g_bytes_get_data(request_body(r), &n);
    unsigned sum = 0;
    for (gsize i = 0; i < n; i++)
        sum = sum * 31 + data[i];
    return response_json(200, json_pack("{s:I, s:I}", "n", (json_int_t)n, "sum", (json_int_t)sum));
}

static response *on_file(request *r)
{
    const char *path = request_app(r);
    return response_file(r, path, "text/plain", request_query(r, "as"));
}

static response *on_bytes(request *r)
{
    (void)r;
    GBytes *b = g_bytes_new_static("bytes", 5);
    response *a = response_bytes(200, "application/octet-stream", b);
    g_bytes_unref(b);
    return a;
}

static response *on_fault(request *r)
{
    scope_error err = {0};
    error_set(&err, strcmp(request_part(r, "kind"), "bad") == 0 ? SCOPE_EINVAL : SCOPE_EIO, "fps",
              "the fps is wrong");
    return response_fault(r, "STREAMS/INVALID_PARAMS", &err);
}

static response *on_about(request *r)
{
    char *origin = request_origin(r);
    response *a = response_json(
        200, json_pack("{s:s, s:s, s:s, s:s}", "origin", origin, "peer", request_peer(r), "path",
                       request_path(r), "method", request_method(r)));
    g_free(origin);
    return a;
}

/* Answers that come later: after 30 ms, or never, when the client is to leave. */
typedef struct later {
    request *r;
    int gone;
} later;

static int later_gone;

static gboolean later_tick(gpointer data)
{
    later *l = data;
    request_answer(l->r, response_json(200, json_pack("{s:i}", "gone", l->gone)));
    g_free(l);
    return G_SOURCE_REMOVE;
}

static void later_left(void *ctx)
{
    later *l = ctx;
    l->gone++;
    later_gone++;
}

static response *on_later(request *r)
{
    later *l = g_new0(later, 1);
    int ms = atoi(request_part(r, "ms"));
    l->r = r;
    request_later(r, later_left, l);
    if (ms == 0) { /* before the handler returns */
        later_tick(l);
        return NULL;
    }
    GSource *timer = g_timeout_source_new((guint)ms);
    g_source_set_callback(timer, later_tick, l, NULL);
    g_source_attach(timer, g_main_context_get_thread_default());
    g_source_unref(timer);
    return NULL;
}

/* Streams: `n` pieces, one every 5 ms, and then the end; n = 0: never a piece, never an end. */
typedef struct drip {
    chunks *c;
    GSource *timer;
    int n, at;
} drip;

static int drips;

static gboolean drip_tick(gpointer data)
{
    drip *d = data;
    if (d->at == d->n) {
        chunks_end(d->c);
        return G_SOURCE_REMOVE;
    }
    char *text = g_strdup_printf("piece %d;", d->at++);
    GBytes *b = g_bytes_new_take(text, strlen(text));
    chunks_push(d->c, b);
    g_bytes_unref(b);
    return G_SOURCE_CONTINUE;
}

static void drip_open(void *ctx, chunks *c)
{
    drip *d = ctx;
    d->c = c;
    if (d->n == 0)
        return;
    d->timer = g_timeout_source_new(5);
    g_source_set_callback(d->timer, drip_tick, d, NULL);
    g_source_attach(d->timer, g_main_context_get_thread_default());
}

static void drip_closed(void *ctx)
{
    drip *d = ctx;
    if (d->timer) {
        g_source_destroy(d->timer);
        g_source_unref(d->timer);
    }
    g_free(d);
    drips--;
}

static response *on_drip(request *r)
{
    drip *d = g_new0(drip, 1);
    d->n = atoi(request_part(r, "n"));
    drips++;
    return response_chunks(200, "text/plain", drip_open, drip_closed, d);
}

static const route first_routes[] = {
    {.method = "GET", .path = "/hello/{name}", .handler = on_hello, .access = ROUTE_TOKEN},
    {.method = "GET", .path = "/query", .handler = on_query, .access = ROUTE_TOKEN},
    {.method = "POST",
     .path = "/json",
     .handler = on_json,
     .access = ROUTE_TOKEN,
     .body_max = 4096,
     .status = 201,
     .body = "{\"type\": \"object\"}"},
    {.method = "POST",
     .path = "/maybe",
     .handler = on_maybe,
     .access = ROUTE_TOKEN,
     .body_max = 4096},
    {.method = "PUT",
     .path = "/upload",
     .handler = on_upload,
     .access = ROUTE_TOKEN,
     .body_max = 1 << 20,
     .consumes = "image/*, application/octet-stream"},
    {0},
};

static const route second_routes[] = {
    {.method = "GET", .path = "/hello/special", .handler = on_special, .access = ROUTE_OPEN},
    {.method = "GET", .path = "/files/{rest*}", .handler = on_rest, .access = ROUTE_OPEN},
    {.method = "DELETE", .path = "/hello/{name}", .handler = on_hello, .access = ROUTE_TOKEN},
    {.method = "GET", .path = "/file", .handler = on_file, .access = ROUTE_OPEN},
    {.method = "GET", .path = "/bytes", .handler = on_bytes, .access = ROUTE_OPEN},
    {.method = "GET", .path = "/fault/{kind}", .handler = on_fault, .access = ROUTE_OPEN},
    {.method = "GET", .path = "/about", .handler = on_about, .access = ROUTE_OPEN},
    {.method = "GET", .path = "/later/{ms}", .handler = on_later, .access = ROUTE_OPEN},
    {.method = "GET", .path = "/drip/{n}", .handler = on_drip, .access = ROUTE_OPEN},
    {.method = "GET", .path = "/secret/{name}", .handler = on_hello, .access = ROUTE_SECRET},
    {0},
};

static const route *const tables[] = {first_routes, second_routes, NULL};

static char file_path[] = "/tmp/test_http.XXXXXX";
static fixture f;

static void start(void)
{
    f = (fixture){.routes = tables, .options = f.options, .app = file_path};
    fixture_start(&f);
}

/* The answer to a method and a path, and further headers and the body. */
static char *fetch(const char *what, const char *more)
{
    char *text = g_strdup_printf("%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%s%s", what,
                                 more ? more : "", more && strstr(more, "\r\n\r\n") ? "" : "\r\n");
    char *answer = ask(f.port, text);
    g_free(text);
    return answer;
}

/* Is the answer an error in the shape that Daydream has, with everything that all answers have? */
static void expect_error(const char *answer, int status, const char *code)
{
    json_error_t at;
    ck_assert_msg(status_of(answer) == status, "%d, not %d: %s", status_of(answer), status, answer);
    json_t *body = json_loads(body_of(answer), 0, &at);
    ck_assert_msg(body != NULL, "no JSON: %s", answer);
    ck_assert(json_is_false(json_object_get(body, "success")));
    ck_assert_str_eq(json_string_value(json_object_get(body, "code")), code);
    ck_assert_int_eq(json_integer_value(json_object_get(body, "status")), status);
    ck_assert(json_string_length(json_object_get(body, "error")) > 5);
    ck_assert(json_object_get(body, "details") && json_object_get(body, "traceId"));
    char *id = header_of(answer, "X-Request-Id"), *origin =
        header_of(answer, "Access-Control-Allow-Origin");
    ck_assert_str_eq(json_string_value(json_object_get(body, "requestId")), id);
    ck_assert_str_eq(origin, "*");
    g_free(id);
    g_free(origin);
    json_decref(body);
}

static void expect_text(const char *what, const char *text)
{
    char *answer = fetch(what, NULL);
    ck_assert_msg(status_of(answer) == 200, "%s: %s", what, answer);
    ck_assert_str_eq(body_of(answer), text);
    g_free(answer);
}

START_TEST(routes)
{
    start();
    expect_text("GET /hello/you", "you");
    expect_text("GET /hello/special", "special");
    expect_text("GET /hello/a%2Fb%20%C3%A9", "a/b \xc3\xa9");
    expect_text("GET /h%65llo/special", "special");
    expect_text("GET http://localhost/hello/absolute?x", "absolute");
    expect_text("GET /files/a/b%20c/d", "a/b c/d");
    expect_text("GET /query?q=a+b%26c%3d&q=2", "a b&c=");
    expect_text("GET /query?p=1", "(none)");
    expect_text("GET /query", "(none)");
    expect_text("DELETE /hello/x", "x");
    static const struct {
        const char *what;
        int status;
        const char *code;
    } wrong[] = {
        {"GET /nowhere", 404, "REQUEST/NOT_FOUND"},
        {"GET /hello/", 404, "REQUEST/NOT_FOUND"},
        {"GET /hello/a/b", 404, "REQUEST/NOT_FOUND"},
        {"GET /hello/%zz", 400, "REQUEST/BAD_URL"},
        {"GET /hello/%00", 400, "REQUEST/BAD_URL"},
        {"GET /hello/%ff", 400, "REQUEST/BAD_URL"},
        {"GET /hello/..", 400, "REQUEST/BAD_URL"},
        {"GET /hello/%2e%2e", 400, "REQUEST/BAD_URL"},
        {"GET /files/../../etc/passwd", 400, "REQUEST/BAD_URL"},
        {"GET /files/a/%2e%2e/%2e%2e/etc/passwd", 400, "REQUEST/BAD_URL"},
        {"GET /files/a%2f..%2f..%2fetc", 400, "REQUEST/BAD_URL"},
        {"GET /files/%2fetc%2fpasswd", 400, "REQUEST/BAD_URL"},
        {"GET /files//etc/passwd", 400, "REQUEST/BAD_URL"},
        {"GET /files/a%5c..%5cb", 400, "REQUEST/BAD_URL"},
        {"GET /query?q=%", 400, "REQUEST/BAD_URL"},
        {"GET /query?q=%f", 400, "REQUEST/BAD_URL"},
        {"PATCH /hello/x", 405, "REQUEST/METHOD_NOT_ALLOWED"},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++) {
        char *answer = fetch(wrong[i].what, NULL);
        expect_error(answer, wrong[i].status, wrong[i].code);
        g_free(answer);
    }
    char *answer = fetch("PATCH /hello/x", NULL), *allow = header_of(answer, "Allow");
    ck_assert_str_eq(allow, "GET, HEAD, DELETE");
    g_free(allow);
    g_free(answer);
    fixture_stop(&f);
}
END_TEST

START_TEST(waiting)
{
    start();
    expect_text("GET /later/30", "{\"gone\":0}");
    expect_text("GET /later/0", "{\"gone\":0}");
    expect_text("GET /bytes", "bytes");
    char *answer = fetch("GET /drip/40", NULL);
    ck_assert_ptr_nonnull(strstr(answer, "piece 39;"));
    g_free(answer);
    fixture_stop(&f);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("http");
    TCase *tc = tcase_create("http");
    tcase_set_timeout(tc, 120);
    suite_add_tcase(suite, tc);
    tcase_add_test(tc, routes);
    tcase_add_test(tc, waiting);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
