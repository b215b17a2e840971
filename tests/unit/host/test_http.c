/* test_http.c - the HTTP server against raw sockets: routes, bodies and their limits, the forms of
 * answers, streams, and answers that come later. */
#include "http_routes.h"

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
    tcase_add_test(tc, about);
    tcase_add_test(tc, forms);
    tcase_add_test(tc, waiting);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
