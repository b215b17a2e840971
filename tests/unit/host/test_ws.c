/* test_ws.c - WebSockets against raw frames: handshake, fragments, masks, control frames, closing,
 * what waits, and who is gone. */
#include "http_fixture.h"

#include <fcntl.h>

/* ---- an endpoint that echoes, and obeys a few words -------------------------------------------
 */

typedef struct echo {
    ws *w;
} echo;

static int opened, closed_count;
static size_t most_waiting;

static void echo_open(void *ctx, ws *w)
{
    echo *e = ctx;
    e->w = w;
    opened++;
    ws_text(w, "hello");
}

static void echo_text(void *ctx, const char *text, size_t n)
{
    echo *e = ctx;
    ck_assert_uint_eq(strlen(text), n);
    if (strcmp(text, "close") == 0) {
        ws_close(e->w, 4001, "as you wish");
        ws_text(e->w, "this is not sent");
    } else if (strcmp(text, "json") == 0) {
        ws_json(e->w, json_pack("{s:i}", "a", 1));
    } else if (strncmp(text, "flood ", 6) == 0) {
        GBytes *b = g_bytes_new_take(g_malloc0((gsize)atoi(text + 6)), (gsize)atoi(text + 6));
        ws_binary(e->w, "head", 4, b);
        g_bytes_unref(b);
        most_waiting = ws_waiting(e->w);
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
    char *head = hear_one(fd), *accept = header_of(head, "Sec-WebSocket-Accept");
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

int main(void)
{
    Suite *suite = suite_create("ws");
    TCase *tc = tcase_create("ws");
    tcase_set_timeout(tc, 120);
    suite_add_tcase(suite, tc);
    tcase_add_test(tc, messages);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
