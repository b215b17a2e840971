/* test_http_life.c - how connections, and the server itself, begin and end: nothing may be left. */
#include "http_handlers.h"

#include "host/http/tls.h"

#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <glib/gstdio.h>
#include <sys/stat.h>

static int sockets;

static void echo_open(void *ctx, ws *w)
{
    *(ws **)ctx = w;
    ws_text(w, "hello");
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

static void echo_closed(void *ctx)
{
    g_free(ctx);
    sockets--;
}

static response *on_echo(request *r)
{
    static const ws_calls calls = {
        .open = echo_open, .text = echo_text, .binary = echo_binary, .closed = echo_closed};
    sockets++;
    return response_websocket(r, &calls, g_new0(ws *, 1));
}

static response *on_hello(request *r)
{
    return response_text(200, "text/plain", request_part(r, "name"));
}

/* A request that nobody answers until the test does. */
static request *kept;
static int kept_gone;

static void kept_left(void *ctx)
{
    (void)ctx;
    kept_gone++;
}

static response *on_keep(request *r)
{
    kept = r;
    request_later(r, kept_left, NULL);
    return NULL;
}

static response *on_put(request *r)
{
    return response_json(200,
                         json_pack("{s:I}", "n", (json_int_t)g_bytes_get_size(request_body(r))));
}

static const route routes[] = {
    {.method = "GET", .path = "/hello/{name}", .handler = on_hello, .access = ROUTE_OPEN},
    {.method = "GET", .path = "/later/{ms}", .handler = on_later, .access = ROUTE_OPEN},
    {.method = "GET", .path = "/drip/{n}", .handler = on_drip, .access = ROUTE_OPEN},
    {.method = "GET", .path = "/echo", .handler = on_echo, .access = ROUTE_OPEN, .status = 101},
    {.method = "GET", .path = "/keep", .handler = on_keep, .access = ROUTE_OPEN},
    {.method = "PUT", .path = "/put", .handler = on_put, .access = ROUTE_OPEN, .body_max = 1 << 20},
    {0},
};
static const route *const tables[] = {routes, NULL};
static fixture f;

#define GET(path) "GET " path " HTTP/1.1\r\nHost: localhost\r\n\r\n"
#define HANDSHAKE                                                                                  \
    "GET /echo HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"       \
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

static void start(void)
{
    f = (fixture){.routes = tables, .options = f.options};
    fixture_start(&f);
}

static void await(const int *count, int value, const char *what)
{
    int64_t until = g_get_monotonic_time() + 20 * G_USEC_PER_SEC;
    while (g_atomic_int_get(count) != value) {
        ck_assert_msg(g_get_monotonic_time() < until, "%s: %d, not %d", what, *count, value);
        g_usleep(2000);
    }
}

static void answer_kept(fixture *at, void *ctx)
{
    (void)at;
    request_answer(kept, response_text(200, "text/plain", ctx));
}

START_TEST(leaving)
{
    start();
    /* While an answer is awaited. */
    int fd = dial(f.port);
    say(fd, GET("/keep"), strlen(GET("/keep")));
    while (fixture_stats(&f).requests < 1)
        g_usleep(1000);
    close(fd);
    await(&kept_gone, 1, "a client left");
    expect_quiet(&f);
    fixture_do(&f, answer_kept, "nobody hears this");
    /* While a stream has nothing to say. */
    fd = dial(f.port);
    say(fd, GET("/drip/0"), strlen(GET("/drip/0")));
    await(&drips, 1, "a stream");
    close(fd);
    await(&drips, 0, "a stream");
    /* While a stream says more than is read. */
    fd = dial(f.port);
    say(fd, GET("/drip/100000"), strlen(GET("/drip/100000")));
    await(&drips, 1, "a stream");
    close(fd);
    await(&drips, 0, "a stream");
    /* In the middle of a body. */
    fd = dial(f.port);
    const char *half = "PUT /put HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nabc";
    say(fd, half, strlen(half));
    close(fd);
    expect_quiet(&f);
    fixture_stop(&f);
}
END_TEST

/* One connection of each kind, ended in each of the ways there are. */
static void one_of_each(int i)
{
    static const char *const whole[] = {GET("/hello/x"), GET("/later/1"),   GET("/drip/1"),
                                        GET("/nowhere"), "garbage\r\n\r\n", "GET /hel",
                                        HANDSHAKE,       GET("/drip/0"),    GET("/later/20")};
    static const guint8 bye[] = {0x88, 0x80, 0, 0, 0, 0};
    for (size_t k = 0; k < G_N_ELEMENTS(whole); k++) {
        int fd = dial(f.port);
        char part[4096];
        say(fd, whole[k], strlen(whole[k]));
        if (i % 3 > 0 && k != 5 && k < 7)
            (void)!recv(fd, part, sizeof part, 0);
        if (i % 3 == 2 && k == 6)
            say(fd, bye, sizeof bye);
        close(fd);
    }
}

START_TEST(leaks)
{
    f.options.idle_s = 2;
    start();
    one_of_each(1);
    expect_quiet(&f);
    int fds = count_fds();
    for (int i = 0; i < 200; i++) {
        one_of_each(i);
        if (i % 20 == 19)
            expect_quiet(&f);
    }
    expect_quiet(&f);
    await(&sockets, 0, "WebSockets");
    await(&drips, 0, "streams");
    int64_t until = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;
    while (count_fds() > fds && g_get_monotonic_time() < until)
        g_usleep(10000);
    ck_assert_int_le(count_fds(), fds);
    ck_assert_int_eq(fixture_stats(&f).websockets, 0);
    fixture_stop(&f);
    ck_assert_int_lt(count_fds(), fds);
}
END_TEST

static void free_now(fixture *at, void *ctx)
{
    (void)ctx;
    server_free(at->server);
    at->server = NULL;
}

START_TEST(freed_with_all_open)
{
    static const char *const all[] = {HANDSHAKE,
                                      GET("/drip/0"),
                                      GET("/drip/100000"),
                                      GET("/keep"),
                                      "GET /hello/",
                                      "PUT /put HTTP/1.1\r\nContent-Length: 9\r\n\r\n",
                                      ""};
    start(); /* what GLib opens once */
    fixture_stop(&f);
    int before = count_fds(), fds[G_N_ELEMENTS(all)];
    start();
    for (size_t i = 0; i < G_N_ELEMENTS(all); i++) {
        fds[i] = dial(f.port);
        say(fds[i], all[i], strlen(all[i]));
    }
    while (fixture_stats(&f).requests < 5 || fixture_stats(&f).websockets < 1)
        g_usleep(1000);
    fixture_do(&f, free_now, NULL);
    ck_assert_int_eq(sockets, 0);
    ck_assert_int_eq(drips, 0);
    ck_assert_int_eq(kept_gone, 1);
    fixture_do(&f, answer_kept, "too late");
    for (size_t i = 0; i < G_N_ELEMENTS(all); i++) {
        char *rest = hear(fds[i]);
        g_free(rest);
    }
    fixture_stop(&f);
    ck_assert_int_le(count_fds(), before);
}
END_TEST

static void drain(fixture *at, void *ctx)
{
    *(bool *)ctx = server_drain(at->server);
}

START_TEST(draining)
{
    start();
    bool dry = true;
    int fd = dial(f.port), stream = dial(f.port), socket_fd = dial(f.port);
    say(socket_fd, HANDSHAKE, strlen(HANDSHAKE));
    g_free(hear_head(socket_fd));
    say(fd, GET("/keep"), strlen(GET("/keep")));
    say(stream, GET("/drip/0"), strlen(GET("/drip/0")));
    while (fixture_stats(&f).requests < 3)
        g_usleep(1000);
    await(&drips, 1, "a stream");
    fixture_do(&f, drain, &dry);
    ck_assert(!dry);
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)f.port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int late = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_ne(connect(late, (struct sockaddr *)&at, sizeof at), 0);
    close(late);
    fixture_do(&f, answer_kept, "the last word");
    char *answer = hear_one(fd);
    ck_assert_str_eq(body_of(answer), "the last word");
    g_free(answer);
    int64_t until = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;
    while (!dry && g_get_monotonic_time() < until)
        fixture_do(&f, drain, &dry);
    ck_assert(dry);
    close(fd);
    close(stream);
    close(socket_fd);
    fixture_stop(&f);
}
END_TEST

START_TEST(starting)
{
    start();
    scope_error err;
    server_options o = {.listen = "127.0.0.1", .port = f.port};
    char *port = g_strdup_printf("the port %d is in use", f.port);
    ck_assert_ptr_null(server_new(&o, tables, NULL, &err));
    ck_assert_msg(strncmp(err.text, port, strlen(port)) == 0, "%s", err.text);
    ck_assert_str_eq(err.field, "port");
    o = (server_options){.listen = "nowhere.invalid"};
    ck_assert_ptr_null(server_new(&o, tables, NULL, &err));
    ck_assert_ptr_nonnull(strstr(err.text, "nowhere.invalid"));
    o = (server_options){.listen = "192.0.2.1"};
    ck_assert_ptr_null(server_new(&o, tables, NULL, &err));
    ck_assert_ptr_nonnull(strstr(err.text, "192.0.2.1"));
    o = (server_options){.listen = "127.0.0.1", .tls_cert = "x", .tls_key = "y"};
    ck_assert_ptr_null(server_new(&o, tables, NULL, &err));
    ck_assert_ptr_nonnull(strstr(err.text, "certificate"));
    g_free(port);
    fixture_stop(&f);
}
END_TEST

/* ---- TLS ------------------------------------------------------------------------------------- */

static char *folder;

static void remove_folder(void)
{
    char *path = g_build_filename(folder, "self-signed.pem", NULL);
    g_remove(path);
    g_rmdir(folder);
    g_free(path);
    g_free(folder);
}

START_TEST(certificates)
{
    scope_error err = {0};
    char *key, *again_key;
    folder = g_dir_make_tmp("test_tls.XXXXXX", NULL);
    char *cert = tls_self_signed(folder, "studio.example, 10.1.2.3", &key, &err);
    ck_assert_msg(cert != NULL, "%s", err.text);
    char *again = tls_self_signed(folder, "studio.example", &again_key, &err);
    ck_assert_str_eq(again, cert);
    g_free(again);
    g_free(again_key);
    gnutls_datum_t text = {(unsigned char *)cert, (unsigned)strlen(cert)};
    gnutls_x509_crt_t crt;
    gnutls_x509_crt_init(&crt);
    ck_assert_int_eq(gnutls_x509_crt_import(crt, &text, GNUTLS_X509_FMT_PEM), 0);
    static const char *const names[] = {"localhost", "127.0.0.1", "studio.example", "10.1.2.3"};
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++)
        ck_assert_msg(gnutls_x509_crt_check_hostname(crt, names[i]), "%s", names[i]);
    ck_assert(!gnutls_x509_crt_check_hostname(crt, "evil.example"));
    gnutls_x509_crt_deinit(crt);
    again = tls_self_signed(folder, "other.example", &again_key, &err); /* not named before */
    ck_assert_str_ne(again, cert);
    g_free(again);
    g_free(again_key);
    char *path = g_build_filename(folder, "self-signed.pem", NULL);
    struct stat st;
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_int_eq(st.st_mode & 0777, 0600);
    ck_assert(g_file_set_contents(path, "rubbish", -1, NULL));
    again = tls_self_signed(folder, NULL, &again_key, &err);
    ck_assert_msg(again != NULL, "%s", err.text);
    g_free(again);
    g_free(again_key);
    ck_assert_ptr_null(tls_self_signed("/proc/nowhere", NULL, &again_key, &err));
    ck_assert_ptr_nonnull(strstr(err.text, "kept"));
    g_free(path);
    g_free(cert);
    g_free(key);
    remove_folder();
}
END_TEST

typedef struct secure {
    int fd;
    gnutls_session_t session;
    gnutls_certificate_credentials_t trust;
} secure;

static secure secure_dial(void)
{
    secure c = {.fd = dial(f.port)};
    gnutls_certificate_allocate_credentials(&c.trust);
    gnutls_init(&c.session, GNUTLS_CLIENT);
    gnutls_set_default_priority(c.session);
    gnutls_credentials_set(c.session, GNUTLS_CRD_CERTIFICATE, c.trust);
    gnutls_transport_set_int(c.session, c.fd);
    int fault;
    while ((fault = gnutls_handshake(c.session)) < 0 && !gnutls_error_is_fatal(fault))
        ;
    ck_assert_msg(fault == 0, "%s", gnutls_strerror(fault));
    return c;
}

static void secure_close(secure *c)
{
    gnutls_deinit(c->session);
    gnutls_certificate_free_credentials(c->trust);
    close(c->fd);
}

static void secure_get(secure *c, void *to, size_t n)
{
    for (size_t at = 0; at < n;) {
        ssize_t k = gnutls_record_recv(c->session, (char *)to + at, n - at);
        if (k == GNUTLS_E_AGAIN || k == GNUTLS_E_INTERRUPTED)
            continue; /* a ticket came */
        ck_assert_msg(k > 0, "%s", k < 0 ? gnutls_strerror((int)k) : "the server closes");
        at += (size_t)k;
    }
}

static void secure_say(secure *c, const void *data, size_t n)
{
    for (size_t at = 0; at < n;) {
        ssize_t k = gnutls_record_send(c->session, (const char *)data + at, n - at);
        ck_assert_int_gt(k, 0);
        at += (size_t)k;
    }
}

static char *secure_head(secure *c)
{
    GString *all = g_string_new(NULL);
    while (!strstr(all->str, "\r\n\r\n")) {
        char next;
        secure_get(c, &next, 1);
        g_string_append_c(all, next);
    }
    return g_string_free(all, FALSE);
}

/* Send `n` bytes in one masked frame (mask 0), and get them back. */
static void secure_echo(secure *c, size_t n)
{
    int wide = n < 65536 ? 2 : 8;
    guint8 head[14] = {0x82, 0x80 | (n < 65536 ? 126 : 127)}, got[10];
    for (int i = 0; i < wide; i++)
        head[2 + i] = (guint8)((guint64)n >> 8 * (wide - 1 - i));
    char *data = g_malloc(n), *back = g_malloc(n);
    for (size_t i = 0; i < n; i++)
        data[i] = (char)(i * 13);
    secure_say(c, head, (size_t)wide + 6); /* with a mask of 0 */
    secure_say(c, data, n);
    secure_get(c, got, (size_t)wide + 2);
    ck_assert_int_eq(got[0], 0x82);
    secure_get(c, back, n);
    ck_assert_int_eq(memcmp(back, data, n), 0);
    g_free(data);
    g_free(back);
}

START_TEST(encrypted)
{
    scope_error err = {0};
    char *key;
    folder = g_dir_make_tmp("test_tls.XXXXXX", NULL);
    char *cert = tls_self_signed(folder, NULL, &key, &err);
    ck_assert_msg(cert != NULL, "%s", err.text);
    f.options = (server_options){.tls_cert = cert, .tls_key = key, .idle_s = 2};
    start();
    int before = count_fds();
    for (int i = 0; i < 20; i++) {
        secure c = secure_dial();
        secure_say(&c, GET("/hello/x"), strlen(GET("/hello/x")));
        char *head = secure_head(&c);
        ck_assert_int_eq(status_of(head), 200);
        g_free(head);
        char body;
        secure_get(&c, &body, 1);
        ck_assert_int_eq(body, 'x');
        secure_say(&c, HANDSHAKE, strlen(HANDSHAKE));
        head = secure_head(&c);
        ck_assert_int_eq(status_of(head), 101);
        g_free(head);
        char hello[7];
        secure_get(&c, hello, 7);
        ck_assert_int_eq(memcmp(hello, "\x81\x05hello", 7), 0);
        secure_echo(&c, 1000);
        secure_echo(&c, 30000);
        secure_echo(&c, 1000000);
        if (i % 2) {
            static const guint8 bye[] = {0x88, 0x80, 0, 0, 0, 0};
            secure_say(&c, bye, sizeof bye);
            secure_get(&c, hello, 2);
            ck_assert_int_eq((guint8)hello[0], 0x88);
        }
        secure_close(&c);
    }
    int plain = dial(f.port); /* HTTP where TLS is spoken */
    say(plain, GET("/hello/x"), strlen(GET("/hello/x")));
    g_free(hear(plain));
    int silent = dial(f.port); /* no handshake at all */
    g_free(hear(silent));
    expect_quiet(&f);
    await(&sockets, 0, "WebSockets");
    ck_assert_int_le(count_fds(), before);
    secure open = secure_dial();
    secure_say(&open, HANDSHAKE, strlen(HANDSHAKE));
    g_free(secure_head(&open));
    fixture_stop(&f); /* with it open */
    ck_assert_int_eq(sockets, 0);
    secure_close(&open);
    g_free(cert);
    g_free(key);
    remove_folder();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("http_life");
    TCase *tc = tcase_create("http_life");
    tcase_set_timeout(tc, 240);
    suite_add_tcase(suite, tc);
    tcase_add_test(tc, leaving);
    tcase_add_test(tc, leaks);
    tcase_add_test(tc, freed_with_all_open);
    tcase_add_test(tc, draining);
    tcase_add_test(tc, starting);
    tcase_add_test(tc, certificates);
    tcase_add_test(tc, encrypted);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
