/* fuzz_ws.c - any bytes as a peer's WebSocket frames: only whole and valid messages come out, what
 * goes out is frames, and the end comes once. */
#include "host/http/internal.h"

#include <stdlib.h>
#include <unistd.h>

#define REQUIRE(x)                                                                                 \
    do {                                                                                           \
        if (!(x))                                                                                  \
            abort();                                                                               \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int ends;

static void on_text(void *ctx, const char *text, size_t n)
{
    ws *w = *(ws **)ctx;
    REQUIRE(n <= 5000 && text[n] == '\0');
    for (size_t at = 0; at < n; at += strlen(text + at) + 1)
        REQUIRE(g_utf8_validate(text + at, -1, NULL));
    if (strcmp(text, "close") == 0)
        ws_close(w, 4000, "caf\xc3\xa9");
    ws_text(w, text);
}

static void on_binary(void *ctx, const void *bytes, size_t n)
{
    REQUIRE(n <= 5000);
    GBytes *b = g_bytes_new(bytes, n);
    ws_binary(*(ws **)ctx, "head", n & 7 ? 4 : 0, b);
    REQUIRE(ws_waiting(*(ws **)ctx) < 1 << 24);
    g_bytes_unref(b);
}

static void on_closed(void *ctx)
{
    (void)ctx;
    ends++;
}

static void on_release(void *ctx, ws *w)
{
    (void)w;
    close(*(int *)ctx);
    ends++;
}

/* What the server sent has to be whole, unmasked frames. */
static void check_frames(const GByteArray *all)
{
    size_t at = 0;
    while (at < all->len) {
        REQUIRE(at + 2 <= all->len && (all->data[at] & 0x70) == 0 && all->data[at + 1] < 0x80);
        size_t n = all->data[at + 1], wide = n < 126 ? 0 : n == 126 ? 2 : 8;
        REQUIRE(at + 2 + wide <= all->len);
        for (size_t i = n = wide ? 0 : n; i < wide && wide; i++)
            n = n << 8 | all->data[at + 2 + i];
        at += 2 + wide + n;
        REQUIRE(at <= all->len);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const ws_calls calls = {
        .text = on_text, .binary = on_binary, .closed = on_closed, .message_max = 5000};
    server_stats stats = {0};
    ws *w = NULL;
    int pair[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
    ends = 0;
    size_t early = size > 0 ? MIN(data[0], size - 1) : 0; /* this much comes with the handshake */
    w = ws_new(pair[1], pair[1], &calls, &w, data + (size > 0), early, &stats, on_release,
               &pair[1]);
    data += (size > 0) + early;
    size -= (size > 0) + early;
    GByteArray *out = g_byte_array_new();
    for (size_t sent = 0; ends == 0;) {
        guint8 part[4096];
        ssize_t n = sent < size ? send(pair[0], data + sent, size - sent, MSG_NOSIGNAL) : 0;
        sent += n > 0 ? (size_t)n : 0;
        if (sent == size)
            shutdown(pair[0], SHUT_WR);
        while ((n = recv(pair[0], part, sizeof part, 0)) > 0)
            g_byte_array_append(out, part, (guint)n);
        g_main_context_iteration(NULL, FALSE);
        if (n == 0)
            break;
    }
    for (ssize_t n = 1; n > 0;) {
        guint8 part[4096];
        n = recv(pair[0], part, sizeof part, 0);
        if (n > 0)
            g_byte_array_append(out, part, (guint)n);
    }
    close(pair[0]);
    while (ends == 0)
        g_main_context_iteration(NULL, FALSE);
    REQUIRE(ends == 2);
    check_frames(out);
    g_byte_array_unref(out);
    return 0;
}
