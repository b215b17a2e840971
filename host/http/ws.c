/* ws.c - one WebSocket on a socket that is ours, with its own source in the main loop.
 *
 * wslay takes apart what comes in, answers pings and does the closing handshake; what goes out is
 * put in frames here, so that a picture is never copied: it waits by reference and is written with
 * writev, at once when the socket takes it. Both kinds meet in one queue, whole frames at a time.
 */
#include "internal.h"

#include <errno.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>
#include <wslay/wslay.h>

enum {
    READ_BYTES = 64 << 10,
    READS = 4,   /* in one go, so that one peer does not keep the others waiting */
    FRAMES = 16, /* in one writev */
    PING_US = 5 * G_USEC_PER_SEC,
    SILENCE_US = 20 * G_USEC_PER_SEC,
    GOODBYE_US = 2 * G_USEC_PER_SEC, /* for the peer to say it too */
    PARTS = 1 << 14,                 /* of one message: an empty one costs memory too */
    DEAF_BYTES = 1 << 20,            /* who does not take what it asked for is not read from */
    QUEUE_MAX = 64 << 20,            /* a handler that does not look at ws_waiting ends here */
};

typedef struct frame {
    uint8_t *head; /* owned */
    size_t head_n;
    GBytes *body; /* owned, or NULL */
    size_t body_n;
} frame;

typedef struct ws_source {
    GSource source;
    ws *w;
} ws_source;

struct ws {
    ws_source *source; /* owned */
    gpointer tag;
    int fd, wire;
    wslay_event_context_ptr wslay; /* owned */
    ws_calls calls;
    void *ctx;
    GQueue out;          /* frame, owned */
    size_t queued, done; /* bytes in `out`, without those of the first that are written */
    GByteArray *early;   /* owned, or NULL */
    const uint8_t *in;   /* what wslay has not taken of the last read */
    size_t in_n;
    int64_t heard_us, pinged_us, closing_us; /* 0: not closing */
    int parts;                               /* of the message that is coming in */
    bool broken, dispatching;
    server_stats *stats; /* borrowed */
    void (*release)(void *ctx, ws *w);
    void *release_ctx;
};

/* ---- out ------------------------------------------------------------------------------------- */

static void frame_free(frame *f)
{
    g_free(f->head);
    if (f->body)
        g_bytes_unref(f->body);
    g_free(f);
}

/* Drop what has been written: `n` more bytes. */
static void written(ws *w, size_t n)
{
    w->queued -= n;
    w->stats->bytes_out += (int64_t)n;
    w->done += n;
    for (frame *f; (f = g_queue_peek_head(&w->out)) && w->done >= f->head_n + f->body_n;) {
        w->done -= f->head_n + f->body_n;
        frame_free(g_queue_pop_head(&w->out));
    }
}

/* Write until all is out or the socket is full. */
static void flush(ws *w)
{
    while (w->out.length > 0 && !w->broken) {
        struct iovec iov[2 * FRAMES];
        size_t k = 0, skip = w->done;
        for (GList *l = w->out.head; l && k < 2 * FRAMES; l = l->next) {
            frame *f = l->data;
            size_t in_head = MIN(skip, f->head_n), in_body = skip - in_head;
            iov[k++] = (struct iovec){f->head + in_head, f->head_n - in_head};
            if (f->body_n > in_body)
                iov[k++] =
                    (struct iovec){(char *)(uintptr_t)g_bytes_get_data(f->body, NULL) + in_body,
                                   f->body_n - in_body};
            skip = 0;
        }
        ssize_t n = sendmsg(w->fd, &(struct msghdr){.msg_iov = iov, .msg_iovlen = k}, MSG_NOSIGNAL);
        if (n >= 0)
            written(w, (size_t)n);
        else if (errno == EAGAIN || errno == EWOULDBLOCK)
            return;
        else if (errno != EINTR)
            w->broken = true;
    }
}

/* Take up the wishes of the state: what to wait for, and until when. */
static void settle(ws *w)
{
    if (w->dispatching)
        return; /* comes at its end */
    int events = (w->queued < DEAF_BYTES ? G_IO_IN : 0) | (w->out.length > 0 ? G_IO_OUT : 0);
    int64_t due = MIN(w->heard_us + SILENCE_US, w->pinged_us + PING_US);
    if (w->closing_us)
        due = w->closing_us + GOODBYE_US;
    if (w->broken || w->early)
        due = 0;
    g_source_modify_unix_fd(&w->source->source, w->tag, events);
    g_source_set_ready_time(&w->source->source, due);
}

/* Queue a frame, and write it if nothing waits before it. Takes `head`; refers to `body`. */
static void put(ws *w, uint8_t *head, size_t n, GBytes *body)
{
    frame *f = g_new0(frame, 1);
    *f = (frame){head, n, body ? g_bytes_ref(body) : NULL, body ? g_bytes_get_size(body) : 0};
    g_queue_push_tail(&w->out, f);
    w->queued += f->head_n + f->body_n;
    if (w->out.length == 1)
        flush(w);
    w->broken |= w->queued > QUEUE_MAX;
    settle(w);
}

/* RFC 6455, 5.2: a whole message in one frame, unmasked, as a server sends. */
static void send_message(ws *w, uint8_t opcode, const void *head, size_t n, GBytes *body)
{
    if (w->closing_us || w->broken)
        return;
    uint64_t total = n + (body ? g_bytes_get_size(body) : 0);
    int wide = total < 126 ? 0 : total <= 0xffff ? 2 : 8;
    uint8_t *frame = g_malloc(2 + (size_t)wide + n);
    frame[0] = 0x80 | opcode;
    frame[1] = wide == 0 ? (uint8_t)total : wide == 2 ? 126 : 127;
    for (int i = 0; i < wide; i++)
        frame[2 + i] = (uint8_t)(total >> 8 * (wide - 1 - i));
    if (n)
        memcpy(frame + 2 + wide, head, n);
    put(w, frame, 2 + (size_t)wide + n, body);
}

/* wslay's own frames: pong and close. It sends head and payload apart; nothing comes between. */
static ssize_t on_send(wslay_event_context_ptr ctx, const uint8_t *data, size_t n, int flags,
                       void *user)
{
    (void)ctx;
    (void)flags;
    put(user, g_memdup2(data, n), n, NULL);
    return (ssize_t)n;
}

/* ---- in -------------------------------------------------------------------------------------- */

static ssize_t on_recv(wslay_event_context_ptr ctx, uint8_t *to, size_t n, int flags, void *user)
{
    (void)flags;
    ws *w = user;
    if (w->in_n == 0) {
        wslay_event_set_error(ctx, WSLAY_ERR_WOULDBLOCK);
        return -1;
    }
    n = MIN(n, w->in_n);
    memcpy(to, w->in, n);
    w->in += n;
    w->in_n -= n;
    return (ssize_t)n;
}

static void on_message(wslay_event_context_ptr ctx, const struct wslay_event_on_msg_recv_arg *m,
                       void *user)
{
    ws *w = user;
    if (!wslay_is_ctrl_frame(m->opcode))
        w->parts = 0;
    wslay_event_send(ctx); /* a pong goes before what the handler says */
    if (w->closing_us)     /* we have said goodbye: nothing is listened to any more */
        return;
    const void *msg = m->msg_length ? (const void *)m->msg : ""; /* NULL where it is empty */
    if (m->opcode == WSLAY_TEXT_FRAME && w->calls.text) {
        char *text = g_malloc(m->msg_length + 1); /* there may be a NUL in it */
        memcpy(text, msg, m->msg_length);
        text[m->msg_length] = '\0';
        w->calls.text(w->ctx, text, m->msg_length);
        g_free(text);
    } else if (m->opcode == WSLAY_BINARY_FRAME && w->calls.binary) {
        w->calls.binary(w->ctx, msg, m->msg_length);
    }
}

static void on_part(wslay_event_context_ptr ctx,
                    const struct wslay_event_on_frame_recv_start_arg *part, void *user)
{
    (void)ctx;
    ws *w = user;
    if (!wslay_is_ctrl_frame(part->opcode))
        w->parts++;
}

/* Say goodbye in a frame of our own: wslay's would have no code after what it cannot read. */
static void refuse(ws *w, int code)
{
    uint8_t reason[2] = {(uint8_t)(code >> 8), (uint8_t)code};
    send_message(w, WSLAY_CONNECTION_CLOSE, reason, 2, NULL);
    wslay_event_shutdown_read(w->wslay);
    wslay_event_shutdown_write(w->wslay);
    if (!w->closing_us)
        w->closing_us = w->heard_us;
}

/* Have wslay take `n` bytes apart, and its answers sent. */
static void feed(ws *w, const uint8_t *data, size_t n)
{
    w->heard_us = g_get_monotonic_time();
    w->stats->bytes_in += (int64_t)n;
    w->in = data;
    w->in_n = n;
    int fault = wslay_event_recv(w->wslay);
    w->in_n = 0;
    if (fault)
        refuse(w, fault == WSLAY_ERR_NOMEM ? 1011 : 1002);
    else if (w->parts > PARTS)
        refuse(w, 1009);
    else if (wslay_event_send(w->wslay) != 0)
        w->broken = true;
    if (!w->closing_us &&
        (wslay_event_get_close_sent(w->wslay) || wslay_event_get_close_received(w->wslay)))
        w->closing_us = w->heard_us;
}

static void receive(ws *w)
{
    uint8_t data[READ_BYTES];
    for (int i = 0; i < READS && !w->broken; i++) {
        ssize_t n = recv(w->fd, data, sizeof data, 0);
        if (n > 0)
            feed(w, data, (size_t)n);
        else if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR))
            w->broken = true;
        if (n < (ssize_t)sizeof data)
            return;
    }
}

/* ---- the source ------------------------------------------------------------------------------ */

static void tick(ws *w)
{
    int64_t now = g_get_monotonic_time();
    if (now >= w->heard_us + SILENCE_US || (w->closing_us && now >= w->closing_us + GOODBYE_US))
        w->broken = true;
    if (w->closing_us || now < w->pinged_us + PING_US)
        return;
    w->pinged_us = now;
    if (w->out.length == 0) /* else it would only wait behind what the peer does not take */
        send_message(w, WSLAY_PING, NULL, 0, NULL);
}

static gboolean on_dispatch(GSource *source, GSourceFunc fn, gpointer data)
{
    (void)fn;
    (void)data;
    ws *w = ((ws_source *)source)->w;
    GIOCondition events = g_source_query_unix_fd(source, w->tag);
    w->dispatching = true;
    if (w->early) {
        GByteArray *early = g_steal_pointer(&w->early);
        feed(w, early->data, early->len);
        g_byte_array_unref(early);
    }
    if (events & G_IO_OUT)
        flush(w);
    if (events & (G_IO_IN | G_IO_HUP | G_IO_ERR))
        receive(w);
    tick(w);
    w->dispatching = false;
    bool said = w->out.length == 0 && wslay_event_get_close_sent(w->wslay) &&
                wslay_event_get_close_received(w->wslay);
    if (w->broken || said)
        ws_end(w);
    else
        settle(w);
    return G_SOURCE_CONTINUE; /* ws_end has destroyed it */
}

ws *ws_new(int fd, int wire, const ws_calls *calls, void *ctx, const void *early, size_t n,
           server_stats *stats, void (*release)(void *ctx, ws *w), void *release_ctx)
{
    static GSourceFuncs source = {.dispatch = on_dispatch};
    static const struct wslay_event_callbacks callbacks = {.recv_callback = on_recv,
                                                           .send_callback = on_send,
                                                           .on_frame_recv_start_callback = on_part,
                                                           .on_msg_recv_callback = on_message};
    ws *w = g_new0(ws, 1);
    w->fd = fd;
    w->wire = wire;
    w->calls = *calls;
    w->ctx = ctx;
    w->stats = stats;
    w->release = release;
    w->release_ctx = release_ctx;
    w->heard_us = w->pinged_us = g_get_monotonic_time();
    if (n > 0)
        w->early = g_byte_array_append(g_byte_array_new(), early, (guint)n);
    if (wslay_event_context_server_init(&w->wslay, &callbacks, w) != 0)
        g_error("out of memory");
    wslay_event_config_set_max_recv_msg_length(w->wslay, calls->message_max ? calls->message_max
                                                                            : WS_MESSAGE_DEFAULT);
    w->source = (ws_source *)g_source_new(&source, sizeof *w->source);
    w->source->w = w;
    w->tag = g_source_add_unix_fd(&w->source->source, fd, G_IO_IN);
    g_source_attach(&w->source->source, g_main_context_get_thread_default());
    settle(w);
    return w;
}

void ws_end(ws *w)
{
    g_source_destroy(&w->source->source);
    g_source_unref(&w->source->source);
    w->calls.closed(w->ctx);
    w->release(w->release_ctx, w);
    wslay_event_context_free(w->wslay);
    g_queue_clear_full(&w->out, (GDestroyNotify)frame_free);
    if (w->early)
        g_byte_array_unref(w->early);
    g_free(w);
}

/* ---- for handlers ---------------------------------------------------------------------------- */

void ws_text(ws *w, const char *text)
{
    send_message(w, WSLAY_TEXT_FRAME, text, strlen(text), NULL);
}

void ws_json(ws *w, json_t *message)
{
    char *text = json_dumps(message, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
    if (text) /* else a text somewhere in it was no UTF-8 */
        ws_text(w, text);
    free(text);
    json_decref(message);
}

void ws_binary(ws *w, const void *head, size_t n, GBytes *body)
{
    send_message(w, WSLAY_BINARY_FRAME, head, n, body);
}

size_t ws_waiting(const ws *w)
{
    int unsent = 0, unpaired = 0;
    if (ioctl(w->wire, SIOCOUTQ, &unsent) != 0)
        unsent = 0;
    if (w->fd != w->wire && ioctl(w->fd, SIOCOUTQ, &unpaired) != 0)
        unpaired = 0;
    return w->queued + (size_t)unsent + (size_t)unpaired;
}

void ws_close(ws *w, int code, const char *reason)
{
    if (w->closing_us)
        return;
    const char *end;
    g_utf8_validate_len(reason, MIN(strlen(reason), 120), &end); /* no half character */
    wslay_event_queue_close(w->wslay, (uint16_t)code, (const uint8_t *)reason,
                            (size_t)(end - reason));
    if (wslay_event_send(w->wslay) != 0)
        w->broken = true;
    w->closing_us = g_get_monotonic_time();
    settle(w);
}
