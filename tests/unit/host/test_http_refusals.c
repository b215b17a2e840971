/* test_http_refusals.c - whom the HTTP server lets in: origins, tokens and hosts, and those who
 * send nonsense, are slow or are too many. */
#include "http_routes.h"

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

int main(void)
{
    Suite *suite = suite_create("http refusals");
    TCase *tc = tcase_create("http refusals");
    tcase_set_timeout(tc, 120);
    suite_add_tcase(suite, tc);
    tcase_add_test(tc, origins);
    tcase_add_test(tc, tokens);
    tcase_add_test(tc, hosts);
    tcase_add_test(tc, malformed);
    tcase_add_test(tc, slow);
    tcase_add_test(tc, crowd);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
