/* test_ws.c - WebSockets against raw frames: handshake, fragments, masks, control frames, closing,
 * what waits, and who is gone. */
#include "http_fixture.h"

/* ---- an endpoint that echoes, and obeys a few words ------------------------------------------ */

typedef struct echo {
    ws *w;
} echo;

static int opened, closed_count;
static ws *last_ws;

static void echo_open(void *ctx, ws *w)
{
    echo *e = ctx;
    e->w = last_ws = w;
    opened++;
    ws_text(w, "hello");
}

static void echo_text(void *ctx, const char *text, size_t n)
{
    echo *e = ctx;
    if (n == 3 && memcmp(text, "a\0b", 4) == 0)
        text = "a NUL in it";
    else
        ck_assert_uint_eq(strlen(text), n);
    if (strcmp(text, "close") == 0) {
        ws_close(e->w, 4001, "as you wish");
        ws_text(e->w, "this is not sent");
    } else if (strcmp(text, "json") == 0) {
        ws_json(e->w, json_pack("{s:i}", "a", 1));
    } else if (strncmp(text, "flood", 5) == 0) {
        gsize size = (gsize)atoi(strchr(text, ' '));
        GBytes *b = g_bytes_new_take(g_malloc0(size), size);
        for (int i = 0; i < (text[5] == 's' ? 12 : 1); i++)
            ws_binary(e->w, "head", 4, b);
        g_bytes_unref(b);
    } else {
        ws_text(e->w, text);
    }
}

static void echo_binary(void *ctx, const void *bytes, size_t n)
{
    echo *e = ctx;
    GBytes *b = g_bytes_new(bytes, n);
    ws_binary(e->w, NULL, 0, b);
    g_bytes_unref(b);
}

static void echo_closed(void *ctx)
{
    closed_count++;
    g_free(ctx);
}

static response *on_echo(request *r)
{
    static const ws_calls calls = {.open = echo_open,
                                   .text = echo_text,
                                   .binary = echo_binary,
                                   .closed = echo_closed,
                                   .message_max = 300000};
    return response_websocket(r, &calls, g_new0(echo, 1));
}

static const route routes[] = {
    {.method = "GET", .path = "/echo", .handler = on_echo, .access = ROUTE_TOKEN, .status = 101},
    {0},
};
static const route *const tables[] = {routes, NULL};
static fixture f;

static void start(void)
{
    f = (fixture){.routes = tables, .options = f.options};
    fixture_start(&f);
}

#define HANDSHAKE                                                                                  \
    "GET /echo HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"                              \
    "Connection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n"                             \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

/* ---- a client -------------------------------------------------------------------------------- */

/* One frame, masked as a client's is; `op` with 0x80 for the last of a message. */
static void put_frame(GByteArray *to, int op, const void *data, size_t n)
{
    static const guint8 mask[4] = {0x12, 0x34, 0x56, 0x78};
    guint8 head[14] = {(guint8)op, 0x80 | (n < 126 ? (guint8)n : n < 65536 ? 126 : 127)};
    size_t k = 2, wide = n < 126 ? 0 : n < 65536 ? 2 : 8;
    for (size_t i = 0; i < wide; i++)
        head[k++] = (guint8)(n >> 8 * (wide - 1 - i));
    memcpy(head + k, mask, 4);
    g_byte_array_append(to, head, (guint)k + 4);
    size_t at = to->len;
    g_byte_array_append(to, data, (guint)n);
    for (size_t i = 0; i < n; i++)
        to->data[at + i] ^= mask[i & 3];
}

static void say_frame(int fd, int op, const void *data, size_t n)
{
    GByteArray *out = g_byte_array_new();
    put_frame(out, op, data, n);
    say(fd, out->data, out->len);
    g_byte_array_unref(out);
}

static bool get(int fd, void *to, size_t n)
{
    return n == 0 || recv(fd, to, n, MSG_WAITALL) == (ssize_t)n;
}

/* The next frame of the server, pings left out; the opcode, or -1 at the end. *data for g_free,
 * and terminated. */
static int get_frame(int fd, char **data, size_t *n)
{
    guint8 head[2], wide[8];
    *data = NULL;
    for (;;) {
        if (!get(fd, head, 2))
            return -1;
        ck_assert_msg(!(head[1] & 0x80), "the server masks");
        ck_assert_msg((head[0] & 0xf0) == 0x80, "the server fragments");
        size_t k = head[1] == 126 ? 2 : head[1] == 127 ? 8 : 0;
        *n = k ? 0 : head[1];
        ck_assert(get(fd, wide, k));
        for (size_t i = 0; i < k; i++)
            *n = *n << 8 | wide[i];
        *data = g_malloc(*n + 1);
        ck_assert(get(fd, *data, *n));
        (*data)[*n] = '\0';
        if ((head[0] & 0xf) != 9)
            return head[0] & 0xf;
        g_free(*data);
    }
}

static int connect_ws(void)
{
    int fd = dial(f.port);
    say(fd, HANDSHAKE, strlen(HANDSHAKE));
    char *head = hear_head(fd), *accept = header_of(head, "Sec-WebSocket-Accept");
    ck_assert_int_eq(status_of(head), 101);
    ck_assert_str_eq(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="); /* RFC 6455, 1.3 */
    g_free(accept);
    g_free(head);
    char *text;
    size_t n;
    ck_assert_int_eq(get_frame(fd, &text, &n), 1);
    ck_assert_str_eq(text, "hello");
    g_free(text);
    return fd;
}

static void expect_frame(int fd, int op, const char *text)
{
    char *got;
    size_t n;
    ck_assert_int_eq(get_frame(fd, &got, &n), op);
    ck_assert_str_eq(got, text);
    g_free(got);
}

static void expect_close(int fd, int code)
{
    char *got;
    size_t n;
    int op = get_frame(fd, &got, &n);
    ck_assert_msg(op == 8, "opcode %d, not a close", op);
    ck_assert_int_eq((guint8)got[0] << 8 | (guint8)got[1], code);
    g_free(got);
}

START_TEST(messages)
{
    start();
    int fd = connect_ws();
    say_frame(fd, 0x81, "abc", 3);
    expect_frame(fd, 1, "abc");
    say_frame(fd, 0x81, "a\0b", 3);
    expect_frame(fd, 1, "a NUL in it");
    say_frame(fd, 0x81, "", 0);
    expect_frame(fd, 1, "");
    say_frame(fd, 0x81, "json", 4);
    expect_frame(fd, 1, "{\"a\":1}");
    say_frame(fd, 0x01, "in ", 3);
    say_frame(fd, 0x00, "three ", 6);
    say_frame(fd, 0x89, "now", 3); /* a ping in between */
    say_frame(fd, 0x80, "parts", 5);
    expect_frame(fd, 10, "now");
    expect_frame(fd, 1, "in three parts");
    static const size_t sizes[] = {0, 1, 125, 126, 127, 4096, 65535, 65536, 299000};
    for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
        char *data = g_malloc(sizes[i] + 1), *got;
        size_t n;
        for (size_t k = 0; k < sizes[i]; k++)
            data[k] = (char)(k * 7 + i);
        say_frame(fd, 0x82, data, sizes[i]);
        ck_assert_int_eq(get_frame(fd, &got, &n), 2);
        ck_assert_uint_eq(n, sizes[i]);
        ck_assert_int_eq(memcmp(got, data, n), 0);
        g_free(got);
        g_free(data);
    }
    say_frame(fd, 0x88, "\x03\xe8", 2);
    expect_close(fd, 1000);
    char c;
    ck_assert_int_eq(recv(fd, &c, 1, 0), 0);
    close(fd);
    fixture_stop(&f);
    ck_assert_int_eq(closed_count, 1);
}
END_TEST

START_TEST(handshakes)
{
    static const struct {
        const char *head;
        int status;
    } cases[] = {
        {"GET /echo HTTP/1.1\r\nHost: localhost\r\n", 426},
        {"GET /echo HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
         "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
         426},
        {"GET /echo HTTP/1.1\r\nHost: localhost\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n"
         "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
         426},
        {"GET /echo HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
         "Sec-WebSocket-Version: 8\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
         426},
        {"GET /echo HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
         "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: c2hvcnQ=\r\n",
         426},
        {"GET /echo HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
         "Sec-WebSocket-Version: 13\r\n",
         426},
        {"HEAD /echo HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n", 426},
        {"POST /echo HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n", 405},
    };
    start();
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        int fd = dial(f.port);
        say(fd, cases[i].head, strlen(cases[i].head));
        say(fd, "\r\n", 2);
        char *answer = hear_head(fd);
        ck_assert_msg(status_of(answer) == cases[i].status, "%zu: %s", i, answer);
        if (cases[i].status == 426)
            expect_header(answer, "Sec-WebSocket-Version", "13");
        g_free(answer);
        close(fd);
    }
    /* Frames that come along with the handshake. */
    GByteArray *out = g_byte_array_new();
    g_byte_array_append(out, (const guint8 *)HANDSHAKE, strlen(HANDSHAKE));
    put_frame(out, 0x81, "early", 5);
    int fd = dial(f.port);
    say(fd, out->data, out->len);
    g_byte_array_unref(out);
    g_free(hear_head(fd));
    expect_frame(fd, 1, "hello");
    expect_frame(fd, 1, "early");
    close(fd);
    fixture_stop(&f);
    ck_assert_int_eq(closed_count, 8); /* all but the POST, which met no handler */
}
END_TEST

START_TEST(closing)
{
    start();
    int fd = connect_ws();
    say_frame(fd, 0x81, "close", 5);
    char *got;
    size_t n;
    ck_assert_int_eq(get_frame(fd, &got, &n), 8);
    ck_assert_int_eq((guint8)got[0] << 8 | (guint8)got[1], 4001);
    ck_assert_str_eq(got + 2, "as you wish");
    g_free(got);
    say_frame(fd, 0x81, "not heard", 9);
    say_frame(fd, 0x88, "\x0f\xa1", 2);
    ck_assert_int_eq(get_frame(fd, &got, &n), -1);
    close(fd);
    /* Whoever does not say goodbye in turn is hung up on. */
    fd = connect_ws();
    say_frame(fd, 0x81, "close", 5);
    expect_close(fd, 4001);
    ck_assert_int_eq(get_frame(fd, &got, &n), -1);
    close(fd);
    /* Nor does one have to: the peer is just gone. */
    fd = connect_ws();
    close(fd);
    expect_quiet(&f);
    ck_assert_int_eq(closed_count, 3);
    fixture_stop(&f);
}
END_TEST

/* What the server closes with after these bytes. */
static void expect_fault(const void *bytes, size_t n, int code)
{
    int fd = connect_ws();
    say(fd, bytes, n);
    expect_close(fd, code);
    close(fd);
}

START_TEST(faults)
{
    start();
    expect_fault("\x81\x03"
                 "abc",
                 5, 1002);                                      /* no mask */
    expect_fault("\xc1\x80\0\0\0\0", 6, 1002);                  /* a reserved bit */
    expect_fault("\x83\x80\0\0\0\0", 6, 1002);                  /* a reserved opcode */
    expect_fault("\x80\x80\0\0\0\0", 6, 1002);                  /* continues nothing */
    expect_fault("\x09\x80\0\0\0\0", 6, 1002);                  /* a control frame in parts */
    expect_fault("\x89\xfe\x00\x7e\0\0\0\0", 8, 1002);          /* a long control frame */
    expect_fault("\x01\x80\0\0\0\0\x81\x80\0\0\0\0", 12, 1002); /* a message within a message */
    expect_fault("\x81\x81\0\0\0\0\xff", 7, 1007);              /* no UTF-8 */
    expect_fault("\x81\x82\0\0\0\0\xc3\x28", 8, 1007);
    expect_fault("\x81\x81\0\0\0\0\xc3", 7, 1007);                     /* half a character */
    expect_fault("\x88\x82\0\0\0\0\x03\xed", 8, 1002);                 /* 1005 is never sent */
    expect_fault("\x82\xff\0\0\0\0\0\x04\x93\xe1\0\0\0\0a", 15, 1009); /* 300001 bytes */
    expect_fault("\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0a", 15, 1009); /* all there are */
    int fd = connect_ws(); /* too large in parts */
    char *data = g_malloc0(200000);
    say_frame(fd, 0x02, data, 200000);
    say_frame(fd, 0x80, data, 200000);
    expect_close(fd, 1009);
    close(fd);
    g_free(data);
    GByteArray *nothing = g_byte_array_new(); /* in too many parts */
    for (int i = 0; i < 20000; i++)
        put_frame(nothing, i == 0 ? 0x01 : 0x00, "", 0);
    fd = connect_ws();
    say(fd, nothing->data, nothing->len);
    expect_close(fd, 1009);
    close(fd);
    g_byte_array_unref(nothing);
    expect_quiet(&f);
    ck_assert_int_eq(opened, closed_count);
    fixture_stop(&f);
}
END_TEST

static void most_now(fixture *at, void *ctx)
{
    (void)at;
    *(size_t *)ctx = ws_waiting(last_ws);
}

START_TEST(waiting)
{
    start();
    int fd = connect_ws();
    say_frame(fd, 0x81, "flood 8000000", 13);
    size_t waits = 0, n = 0;
    int64_t until = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;
    while (waits < 1000000 && g_get_monotonic_time() < until) {
        g_usleep(2000);
        fixture_do(&f, most_now, &waits);
    }
    ck_assert_uint_gt(waits, 1000000); /* more than the kernel takes */
    ck_assert_uint_le(waits, 8000014);
    char *got;
    ck_assert_int_eq(get_frame(fd, &got, &n), 2);
    ck_assert_uint_eq(n, 8000004);
    ck_assert_int_eq(memcmp(got, "head\0\0", 6), 0);
    g_free(got);
    say_frame(fd, 0x81, "x", 1);
    expect_frame(fd, 1, "x");
    until = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;
    while (waits > 0 && g_get_monotonic_time() < until)
        fixture_do(&f, most_now, &waits);
    ck_assert_uint_eq(waits, 0);
    /* A handler that floods a peer which does not read is cut off. */
    say_frame(fd, 0x81, "floods 8000000", 14);
    expect_quiet(&f);
    ck_assert_int_eq(closed_count, 1);
    close(fd);
    fixture_stop(&f);
}
END_TEST

START_TEST(silence)
{
    start();
    int fd = connect_ws();
    int64_t begun = g_get_monotonic_time();
    guint8 ping[2];
    ck_assert(get(fd, ping, 2));
    ck_assert_int_eq(ping[0], 0x89);
    double first = (double)(g_get_monotonic_time() - begun) / G_USEC_PER_SEC;
    ck_assert_msg(first > 4 && first < 12, "a ping after %g s", first);
    expect_quiet(&f); /* it is never answered */
    double gone = (double)(g_get_monotonic_time() - begun) / G_USEC_PER_SEC;
    ck_assert_msg(gone > 19 && gone < 30, "gone after %g s", gone);
    ck_assert_int_eq(closed_count, 1);
    close(fd);
    fixture_stop(&f);
}
END_TEST

START_TEST(rights)
{
    f.options.token = "sesame";
    start();
    int fd = dial(f.port);
    say(fd, HANDSHAKE, strlen(HANDSHAKE));
    char *answer = hear_one(fd);
    ck_assert_int_eq(status_of(answer), 401);
    g_free(answer);
    close(fd);
    fd = dial(f.port);
    char *with =
        g_strdup_printf("GET /echo?access_token=sesame%s", HANDSHAKE + strlen("GET /echo"));
    say(fd, with, strlen(with));
    answer = hear_head(fd);
    ck_assert_int_eq(status_of(answer), 101);
    g_free(with);
    g_free(answer);
    close(fd);
    fixture_stop(&f);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ws");
    TCase *tc = tcase_create("ws");
    tcase_set_timeout(tc, 120);
    suite_add_tcase(suite, tc);
    tcase_add_test(tc, messages);
    tcase_add_test(tc, handshakes);
    tcase_add_test(tc, closing);
    tcase_add_test(tc, faults);
    tcase_add_test(tc, waiting);
    tcase_add_test(tc, silence);
    tcase_add_test(tc, rights);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
