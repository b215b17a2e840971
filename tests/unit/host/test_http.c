/* test_http.c - the HTTP server against raw sockets: routes, bodies, rights, limits, files,
 * streams, and answers that come later. */
#include "http_handlers.h"

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

static void start(void)
{
    f = (fixture){.routes = tables, .options = f.options};
    fixture_start(&f);
}

static void expect_text(const char *what, const char *text)
{
    char *answer = fetch(&f, what, NULL);
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
        char *answer = fetch(&f, wrong[i].what, NULL);
        expect_error(answer, wrong[i].status, wrong[i].code);
        g_free(answer);
    }
    char *answer = fetch(&f, "PATCH /hello/x", NULL), *allow = header_of(answer, "Allow");
    ck_assert_str_eq(allow, "GET, HEAD, DELETE");
    g_free(allow);
    g_free(answer);
    fixture_stop(&f);
}
END_TEST

START_TEST(json_bodies)
{
    static const struct {
        const char *more;
        int status;
        const char *code, *text;
    } cases[] = {
        {"Content-Type: application/json\r\nContent-Length: 7\r\n\r\n{\"a\":1}", 201, NULL,
         "{\"got\":{\"a\":1}}"},
        {"Content-Type: application/json; charset=utf-8\r\nContent-Length: 2\r\n\r\n{}", 201, NULL,
         "{\"got\":{}}"},
        {"Content-Length: 2\r\n\r\n{}", 201, NULL, "{\"got\":{}}"},
        {"Content-Type: APPLICATION/JSON\r\nTransfer-Encoding: chunked\r\n\r\n"
         "1\r\n{\r\n1\r\n}\r\n0\r\n\r\n",
         201, NULL, "{\"got\":{}}"},
        {"Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{\n \"a\" 1}", 400,
         "REQUEST/INVALID_JSON", "line 2, column 6"},
        {"Content-Length: 0\r\n\r\n", 400, "REQUEST/INVALID_JSON", "it is empty"},
        {"Content-Length: 2\r\n\r\n[]", 400, "REQUEST/INVALID_JSON", "object"},
        {"Content-Length: 4\r\n\r\nnull", 400, "REQUEST/INVALID_JSON", "object"},
        {"Content-Length: 5\r\n\r\n{} {}", 400, "REQUEST/INVALID_JSON", "line 1"},
        {"Content-Length: 9\r\n\r\n{\"a\":\"\xff\"}", 400, "REQUEST/INVALID_JSON", "line 1"},
        {"Content-Length: 14\r\n\r\n{\"a\":\"\\u0000\"}", 400, "REQUEST/INVALID_JSON", "line 1"},
        {"Content-Length: 9\r\n\r\n{\"a\":1e9999}", 400, "REQUEST/INVALID_JSON", "line 1"},
        {"Content-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}", 415,
         "REQUEST/UNSUPPORTED_MEDIA_TYPE", "text/plain"},
        {"Content-Type: application/jsonx\r\nContent-Length: 2\r\n\r\n{}", 415,
         "REQUEST/UNSUPPORTED_MEDIA_TYPE", "application/json"},
    };
    start();
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        char *answer = fetch(&f, "POST /json", cases[i].more);
        if (cases[i].code)
            expect_error(answer, cases[i].status, cases[i].code);
        ck_assert_int_eq(status_of(answer), cases[i].status);
        ck_assert_msg(strstr(body_of(answer), cases[i].text) != NULL, "%zu: %s", i, answer);
        g_free(answer);
    }
    char *answer = fetch(&f, "POST /maybe", "Content-Length: 0\r\n\r\n");
    ck_assert_str_eq(body_of(answer), "{}");
    g_free(answer);
    GString *deep = g_string_new("Content-Length: 4000\r\n\r\n");
    for (int i = 0; i < 4000; i++)
        g_string_append_c(deep, '[');
    answer = fetch(&f, "POST /json", deep->str);
    expect_error(answer, 400, "REQUEST/INVALID_JSON");
    g_string_free(deep, TRUE);
    g_free(answer);
    fixture_stop(&f);
}
END_TEST

/* Send a head and then `n` bytes, `at_once` or in chunks of HTTP. */
static char *upload(const char *head, size_t n, bool in_chunks)
{
    int fd = dial(f.port);
    char *data = g_malloc(n + 1), size[32];
    memset(data, 'x', n);
    say(fd, head, strlen(head));
    for (size_t at = 0; in_chunks && at < n; at += 50000) {
        size_t k = MIN(n - at, 50000);
        snprintf(size, sizeof size, "%zx\r\n", k);
        say(fd, size, strlen(size));
        say(fd, data + at, k);
        say(fd, "\r\n", 2);
    }
    if (in_chunks)
        say(fd, "0\r\n\r\n", 5);
    else
        say(fd, data, n);
    g_free(data);
    return hear(fd);
}

#define PUT                                                                                        \
    "PUT /upload HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: image/png\r\n"

START_TEST(body_sizes)
{
    start();
    char *answer = upload(PUT "Content-Length: 1048576\r\n\r\n", 1 << 20, false);
    ck_assert_ptr_nonnull(strstr(answer, "{\"n\":1048576,"));
    g_free(answer);
    answer = upload(PUT "Transfer-Encoding: chunked\r\n\r\n", 1 << 20, true);
    ck_assert_ptr_nonnull(strstr(answer, "{\"n\":1048576,"));
    g_free(answer);
    answer = upload(PUT "Content-Length: 1048577\r\n\r\n", (1 << 20) + 1, false);
    expect_error(answer, 413, "REQUEST/TOO_LARGE");
    ck_assert_ptr_nonnull(strstr(answer, "1048576 bytes"));
    g_free(answer);
    answer = upload(PUT "Transfer-Encoding: chunked\r\n\r\n", 5 << 20, true);
    expect_error(answer, 413, "REQUEST/TOO_LARGE");
    g_free(answer);
    /* More than is read to the end: the answer comes at once, and arrives. */
    answer = upload(PUT "Content-Length: 60000000\r\n\r\n", 60000000, false);
    expect_error(answer, 413, "REQUEST/TOO_LARGE");
    g_free(answer);
    answer = fetch(&f, "GET /query", "Content-Length: 3\r\n\r\nabc");
    expect_error(answer, 413, "REQUEST/TOO_LARGE");
    ck_assert_ptr_nonnull(strstr(answer, "takes no body"));
    g_free(answer);
    /* Expect: 100-continue is answered with what is to come. */
    answer = upload(PUT "Expect: 100-continue\r\nContent-Length: 2000000\r\n\r\n", 0, false);
    expect_error(answer, 413, "REQUEST/TOO_LARGE");
    g_free(answer);
    int fd = dial(f.port);
    const char *head = PUT "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    say(fd, head, strlen(head));
    answer = hear_one(fd);
    ck_assert_int_eq(status_of(answer), 100);
    g_free(answer);
    say(fd, "abc", 3);
    answer = hear(fd);
    ck_assert_int_eq(status_of(answer), 200);
    g_free(answer);
    ck_assert_int_eq(fixture_stats(&f).refused, 5);
    fixture_stop(&f);
}
END_TEST

START_TEST(origins)
{
    f.options.token = "sesame";
    start();
    static const char *const paths[] = {"/json", "/hello/x", "/nowhere", "*"};
    for (size_t i = 0; i < G_N_ELEMENTS(paths); i++) {
        char *what = g_strdup_printf("OPTIONS %s", paths[i]);
        char *answer = fetch(&f, what,
                             "Origin: https://app.example\r\n"
                             "Access-Control-Request-Method: POST\r\n");
        ck_assert_int_eq(status_of(answer), 204);
        expect_header(answer, "Access-Control-Allow-Origin", "*");
        expect_header(answer, "Access-Control-Allow-Methods",
                      "GET, POST, PUT, PATCH, DELETE, OPTIONS");
        expect_header(answer, "Access-Control-Allow-Headers",
                      "authorization, content-type, if-match");
        expect_header(answer, "Access-Control-Max-Age", "86400");
        g_free(answer);
        g_free(what);
    }
    char *answer = fetch(&f, "OPTIONS /hello/x", NULL);
    expect_header(answer, "Allow", "GET, HEAD, DELETE, OPTIONS");
    g_free(answer);
    answer = fetch(&f, "GET /hello/special", "cookie:\r\n");
    ck_assert_int_eq(status_of(answer), 200);
    expect_header(answer, "Access-Control-Allow-Origin", "*");
    expect_header(answer, "Access-Control-Expose-Headers",
                  "Location, ETag, Link, Livepeer-Playback-Url");
    expect_header(answer, "Cache-Control", "no-store");
    expect_header(answer, "Content-Type", "text/plain");
    g_free(answer);
    fixture_stop(&f);
}
END_TEST

START_TEST(tokens)
{
    f.options.token = "sesame";
    start();
    char *answer = fetch(&f, "GET /hello/x", NULL);
    expect_error(answer, 401, "AUTH/UNAUTHORIZED");
    expect_header(answer, "WWW-Authenticate", "Bearer realm=\"scope\"");
    g_free(answer);
    answer = fetch(&f, "GET /hello/x", "Authorization: Basic c2VzYW1l\r\n");
    expect_error(answer, 401, "AUTH/UNAUTHORIZED");
    g_free(answer);
    static const char *const right[] = {"Authorization: Bearer sesame\r\n",
                                        "authorization: bearer  sesame\r\n"};
    for (size_t i = 0; i < G_N_ELEMENTS(right); i++) {
        answer = fetch(&f, "GET /hello/x", right[i]);
        ck_assert_int_eq(status_of(answer), 200);
        g_free(answer);
    }
    expect_text("GET /hello/x?access_token=sesame", "x");
    expect_text("GET /secret/x", "x");                               /* the path is the secret */
    answer = fetch(&f, "DELETE /hello/x?access_token=sesame", NULL); /* only for what reads */
    expect_error(answer, 401, "AUTH/UNAUTHORIZED");
    g_free(answer);
    for (int i = 0; i < 12; i++) { /* to be without one is no guess */
        answer = fetch(&f, "GET /hello/x", NULL);
        expect_error(answer, 401, "AUTH/UNAUTHORIZED");
        g_free(answer);
    }
    static const char *const wrong[] = {"sesam", "sesame2", "Sesame", ""};
    for (int i = 0; i < 10; i++) {
        char *more = g_strdup_printf("Authorization: Bearer %s\r\n", wrong[i % 4]);
        answer = fetch(&f, "GET /hello/x", more);
        expect_error(answer, 401, "AUTH/UNAUTHORIZED");
        expect_header(answer, "WWW-Authenticate", "Bearer error=\"invalid_token\"");
        g_free(answer);
        g_free(more);
    }
    answer = fetch(&f, "GET /hello/x", right[0]);
    expect_error(answer, 429, "AUTH/TOO_MANY_ATTEMPTS");
    char *wait = header_of(answer, "Retry-After");
    ck_assert(wait && atoi(wait) > 0 && atoi(wait) <= 60);
    g_free(wait);
    g_free(answer);
    expect_text("GET /secret/x", "x");
    fixture_stop(&f);
}
END_TEST

START_TEST(hosts)
{
    static const struct {
        const char *host;
        bool known;
    } cases[] = {
        {"localhost", true},
        {"LOCALHOST:8080", true},
        {"127.0.0.1", true},
        {"192.168.1.2:80", true},
        {"[::1]:8080", true},
        {"studio.example", true},
        {"studio.example:9", true},
        {"evil.example", false},
        {"localhost.evil.example", false},
        {"evil.example:80", false},
        {"127.0.0.1.evil.example", false},
        {"", false},
        {"localhost:x", false},
        {"[::1", false},
        {"a b", false},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
        ck_assert_msg(host_known(cases[i].host, "studio.example:443") == cases[i].known, "%s",
                      cases[i].host);
    ck_assert(!host_known("studio.example", NULL));
    f.options.public_host = "studio.example";
    start();
    char *answer = ask(f.port, "GET /hello/special HTTP/1.1\r\nHost: evil.example\r\n"
                               "Connection: close\r\n\r\n");
    expect_error(answer, 403, "REQUEST/UNKNOWN_HOST");
    g_free(answer);
    answer =
        ask(f.port, "GET /about HTTP/1.1\r\nHost: studio.example\r\nConnection: close\r\n\r\n");
    ck_assert_ptr_nonnull(strstr(answer, "\"origin\":\"http://studio.example\""));
    g_free(answer);
    fixture_stop(&f);
    f.options = (server_options){.token = "x"};
    start();
    answer = ask(f.port, "GET /hello/special HTTP/1.1\r\nHost: a.example\r\n"
                         "Connection: close\r\n\r\n");
    ck_assert_int_eq(status_of(answer), 200); /* the token protects */
    g_free(answer);
    fixture_stop(&f);
}
END_TEST

START_TEST(about)
{
    start();
    char *want = g_strdup_printf("\"origin\":\"http://localhost\",\"peer\":\"127.0.0.1\"");
    char *answer =
        fetch(&f, "GET /about", "X-Forwarded-Proto: https\r\nX-Forwarded-For: 9.9.9.9\r\n");
    ck_assert_ptr_nonnull(strstr(answer, want));
    g_free(answer);
    g_free(want);
    want = g_strdup_printf("\"origin\":\"http://127.0.0.1:%d\"", f.port);
    answer = ask(f.port, "GET /about HTTP/1.0\r\n\r\n"); /* no Host at all */
    ck_assert_ptr_nonnull(strstr(answer, want));
    g_free(answer);
    g_free(want);
    fixture_stop(&f);
    f.options = (server_options){.behind_proxy = true, .token = "x"};
    start();
    answer = fetch(&f, "GET /about",
                   "X-Forwarded-Proto: https\r\nX-Forwarded-Host: a.example\r\n"
                   "X-Forwarded-For: 9.9.9.9, 8.8.8.8\r\n");
    ck_assert_ptr_nonnull(strstr(answer, "\"origin\":\"https://a.example\",\"peer\":\"8.8.8.8\""));
    g_free(answer);
    answer = fetch(&f, "GET /about", "X-Forwarded-Host: a\"b\r\n");
    ck_assert_ptr_nonnull(strstr(answer, "\"origin\":\"http://localhost\""));
    g_free(answer);
    fixture_stop(&f);
}
END_TEST

START_TEST(forms)
{
    start();
    char *answer = fetch(&f, "HEAD /hello/abc", NULL);
    ck_assert_int_eq(status_of(answer), 200);
    expect_header(answer, "Content-Length", "3");
    ck_assert_str_eq(body_of(answer), "");
    g_free(answer);
    answer = fetch(&f, "HEAD /drip/3", NULL);
    ck_assert_int_eq(status_of(answer), 200);
    g_free(answer);
    int fd = dial(f.port);
    const char *one = "GET /hello/a HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for (int i = 0; i < 3; i++) { /* one connection, three requests */
        say(fd, one, strlen(one));
        answer = hear_one(fd);
        ck_assert_str_eq(body_of(answer), "a");
        g_free(answer);
    }
    close(fd);
    answer = ask(f.port, "GET /hello/1 HTTP/1.1\r\nHost: localhost\r\n\r\n" /* pipelined */
                         "GET /later/30 HTTP/1.1\r\nHost: localhost\r\n\r\n"
                         "GET /drip/2 HTTP/1.1\r\nHost: localhost\r\n\r\n"
                         "GET /hello/4 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    const char *first = strstr(answer, "\r\n\r\n1HTTP"), *second = strstr(answer, "{\"gone\":0}");
    const char *third = strstr(answer, "piece 1;");
    ck_assert(first && second > first && third > second);
    ck_assert(g_str_has_suffix(answer, "\r\n\r\n4"));
    g_free(answer);
    answer = ask(f.port, "GET /drip/2 HTTP/1.0\r\n\r\n");
    ck_assert(g_str_has_suffix(answer, "piece 0;piece 1;")); /* no chunks for the old */
    g_free(answer);
    answer = fetch(&f, "GET /fault/bad", NULL);
    expect_error(answer, 400, "STREAMS/INVALID_PARAMS");
    ck_assert_ptr_nonnull(strstr(answer, "\"details\":{\"field\":\"fps\"}"));
    g_free(answer);
    answer = fetch(&f, "GET /fault/io", NULL);
    expect_error(answer, 500, "STREAMS/INVALID_PARAMS");
    g_free(answer);
    fixture_stop(&f);
    ck_assert_int_eq(drips, 0);
}
END_TEST

START_TEST(malformed)
{
    start();
    static const char *const garbage[] = {
        "\r\n\r\n\r\n",
        "hello\r\n\r\n",
        "GET\r\n\r\n",
        "GET /hello/x HTTP/9.9\r\n\r\n",
        "GET /hello/x HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        "GET /hello/x HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        "POST /json HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "POST /json HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: "
        "chunked\r\n\r\nffffffffff\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    };
    for (size_t i = 0; i < G_N_ELEMENTS(garbage); i++) {
        int fd = dial(f.port);
        say(fd, garbage[i], strlen(garbage[i]));
        shutdown(fd, SHUT_WR);
        char *answer = hear(fd);
        ck_assert_msg(status_of(answer) == 0 || status_of(answer) >= 400, "%s", answer);
        g_free(answer);
    }
    GString *huge = g_string_new("GET /hello/x HTTP/1.1\r\nHost: localhost\r\n");
    for (int i = 0; i < 4000; i++)
        g_string_append_printf(huge, "X-Header-%d: some text that is of no use\r\n", i);
    g_string_append(huge, "\r\n");
    char *answer = ask(f.port, huge->str);
    ck_assert_msg(status_of(answer) == 431 || status_of(answer) == 0, "%.80s", answer);
    g_free(answer);
    g_string_assign(huge, "GET /hello/");
    for (int i = 0; i < 100000; i++)
        g_string_append_c(huge, 'a');
    g_string_append(huge, " HTTP/1.1\r\nHost: localhost\r\n\r\n");
    answer = ask(f.port, huge->str);
    ck_assert_msg(status_of(answer) == 414 || status_of(answer) == 0, "%.80s", answer);
    g_free(answer);
    g_string_free(huge, TRUE);
    expect_text("GET /hello/x", "x");
    expect_quiet(&f);
    fixture_stop(&f);
}
END_TEST

/* How long until the server hangs up on somebody who says `first`, and then `drop` every 100 ms. */
static double patience(const char *first, const char *drop)
{
    int fd = dial(f.port);
    int64_t begun = g_get_monotonic_time();
    char c;
    ssize_t n = -1;
    say(fd, first, strlen(first));
    while (n != 0 && g_get_monotonic_time() - begun < 20 * G_USEC_PER_SEC) {
        g_usleep(100000);
        say(fd, drop, strlen(drop));
        n = recv(fd, &c, 1, MSG_DONTWAIT);
        if (n < 0 && errno != EAGAIN)
            n = 0;
    }
    close(fd);
    return (double)(g_get_monotonic_time() - begun) / G_USEC_PER_SEC;
}

START_TEST(slow)
{
    f.options.idle_s = 1;
    start();
    ck_assert_double_lt(patience("", ""), 10);
    ck_assert_double_lt(patience("GET /hello/x HTTP/1.1\r\nHost: ", ""), 10);
    ck_assert_double_lt(patience("GET /hello/x HTTP/1.1\r\nHost: ", "a"), 10);
    ck_assert_double_lt(patience("GET /hello/x HTTP/1.1\r\n", "X: a\r\n"), 10);
    ck_assert_double_lt(patience("POST /json HTTP/1.1\r\nHost: localhost\r\n"
                                 "Content-Length: 4000\r\n\r\n",
                                 "a"),
                        10);
    expect_quiet(&f);
    fixture_stop(&f);
}
END_TEST

START_TEST(crowd)
{
    f.options.connections_max = 8;
    start();
    int fds[8];
    for (int i = 0; i < 8; i++)
        fds[i] = dial(f.port);
    while (fixture_stats(&f).connections < 8)
        g_usleep(1000);
    char *answer = fetch(&f, "GET /hello/x", NULL);
    expect_error(answer, 503, "REQUEST/BUSY");
    expect_header(answer, "Retry-After", "1");
    g_free(answer);
    for (int i = 0; i < 8; i++)
        close(fds[i]);
    expect_quiet(&f);
    expect_text("GET /hello/x", "x");
    fixture_stop(&f);
}
END_TEST

START_TEST(waiting)
{
    start();
    expect_text("GET /later/30", "{\"gone\":0}");
    expect_text("GET /later/0", "{\"gone\":0}");
    expect_text("GET /bytes", "bytes");
    char *answer = fetch(&f, "GET /drip/40", NULL);
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
    tcase_add_test(tc, json_bodies);
    tcase_add_test(tc, body_sizes);
    tcase_add_test(tc, origins);
    tcase_add_test(tc, tokens);
    tcase_add_test(tc, hosts);
    tcase_add_test(tc, about);
    tcase_add_test(tc, forms);
    tcase_add_test(tc, malformed);
    tcase_add_test(tc, slow);
    tcase_add_test(tc, crowd);
    tcase_add_test(tc, waiting);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
