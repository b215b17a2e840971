/* http_routes.h - a server with routes of every kind, for the tests of host/http. */
#ifndef TEST_HTTP_ROUTES_H
#define TEST_HTTP_ROUTES_H

#include "http_handlers.h"

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
    response *a = response_json(200, json_pack("{s:s, s:s, s:s, s:s}", "origin", origin, "peer",
                                               request_peer(r), "path", request_path(r), "method",
                                               request_method(r)));
    g_free(origin);
    return a;
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
    {.method = "GET", .path = "/bytes", .handler = on_bytes, .access = ROUTE_OPEN},
    {.method = "GET", .path = "/fault/{kind}", .handler = on_fault, .access = ROUTE_OPEN},
    {.method = "GET", .path = "/about", .handler = on_about, .access = ROUTE_OPEN},
    {.method = "GET", .path = "/later/{ms}", .handler = on_later, .access = ROUTE_OPEN},
    {.method = "GET", .path = "/drip/{n}", .handler = on_drip, .access = ROUTE_OPEN},
    {.method = "GET", .path = "/secret/{name}", .handler = on_hello, .access = ROUTE_SECRET},
    {0},
};

static const route *const tables[] = {first_routes, second_routes, NULL};

static fixture f;

static inline void start(void)
{
    f = (fixture){.routes = tables, .options = f.options};
    fixture_start(&f);
}

static inline void expect_text(const char *what, const char *text)
{
    char *answer = fetch(&f, what, NULL);
    ck_assert_msg(status_of(answer) == 200, "%s: %s", what, answer);
    ck_assert_str_eq(body_of(answer), text);
    g_free(answer);
}

#endif
