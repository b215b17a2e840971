/* wire.c - messages between the server and a worker process; see wire.h.
 *
 * Must stay true: whatever the other end sends or omits, nothing here waits for more than one
 * recvmsg, grows without bound, or leaks a descriptor.
 */
#include "wire.h"
#include "../frame.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    PAYLOAD_MAX = 16 << 20,
    CHUNK = 64 << 10,
    FDS_MAX = 16, /* received and not yet asked for */
};

typedef struct header {
    uint32_t bytes;
    uint16_t kind, fds;
    uint32_t instance;
    uint32_t zero;
} header;

/* A message, or the rest of one, that found no room. */
typedef struct parcel {
    GBytes *bytes;
    size_t sent;
    int fd; /* owned; -1 none, or gone with the first byte */
} parcel;

struct wire {
    int socket;
    bool wait;
    GByteArray *in;
    size_t used; /* bytes of `in` that were given out */
    int fds[FDS_MAX];
    int fd_count;
    GMutex lock; /* of `out` and of sending */
    GQueue out;  /* of parcel */
};

wire *wire_new(int socket, bool wait)
{
    wire *w = g_new0(wire, 1);
    w->socket = socket;
    w->wait = wait;
    w->in = g_byte_array_new();
    g_mutex_init(&w->lock);
    g_queue_init(&w->out);
    return w;
}

static void parcel_free(gpointer p)
{
    parcel *out = p;
    g_bytes_unref(out->bytes);
    if (out->fd >= 0)
        close(out->fd);
    g_free(out);
}

void wire_free(wire *w)
{
    if (!w)
        return;
    close(w->socket);
    for (int i = 0; i < w->fd_count; i++)
        close(w->fds[i]);
    g_queue_clear_full(&w->out, parcel_free);
    g_byte_array_unref(w->in);
    g_mutex_clear(&w->lock);
    g_free(w);
}

/* ---- receiving ------------------------------------------------------------------------------- */

static void keep_fds(wire *w, struct msghdr *m)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
            if (w->fd_count < FDS_MAX)
                w->fds[w->fd_count++] = fd;
            else
                close(fd);
        }
    }
}

int wire_fill(wire *w)
{
    union {
        char room[CMSG_SPACE(4 * sizeof(int))];
        struct cmsghdr align;
    } control;
    if (w->used) {
        g_byte_array_remove_range(w->in, 0, (guint)w->used);
        w->used = 0;
    }
    guint have = w->in->len;
    g_byte_array_set_size(w->in, have + CHUNK);
    struct iovec v = {w->in->data + have, CHUNK};
    struct msghdr m = {.msg_iov = &v,
                       .msg_iovlen = 1,
                       .msg_control = control.room,
                       .msg_controllen = sizeof control.room};
    ssize_t n;
    do {
        n = recvmsg(w->socket, &m, MSG_CMSG_CLOEXEC | (w->wait ? 0 : MSG_DONTWAIT));
    } while (n < 0 && errno == EINTR);
    g_byte_array_set_size(w->in, have + (n > 0 ? (guint)n : 0));
    if (n < 0)
        return errno == EAGAIN ? 0 : -1;
    keep_fds(w, &m);
    return n > 0 ? 1 : -1;
}

int wire_next(wire *w, wire_message *m)
{
    header h;
    size_t left = w->in->len - w->used;
    if (left < sizeof h)
        return 0;
    memcpy(&h, w->in->data + w->used, sizeof h);
    if (h.bytes > PAYLOAD_MAX || h.fds > 1 || h.zero || h.kind < WIRE_OPEN || h.kind >= WIRE_KINDS)
        return -1;
    if (left < sizeof h + h.bytes + 1)
        return 0;
    const char *payload = (const char *)w->in->data + w->used + sizeof h;
    if (payload[h.bytes] || (h.fds && !w->fd_count))
        return -1;
    *m = (wire_message){h.kind, h.instance, payload, h.bytes, -1};
    if (h.fds) {
        m->fd = w->fds[0];
        memmove(w->fds, w->fds + 1, (size_t)--w->fd_count * sizeof *w->fds);
    }
    w->used += sizeof h + h.bytes + 1;
    return 1;
}

json_t *wire_json(const wire_message *m)
{
    json_t *j = json_loadb(m->payload, m->bytes, JSON_REJECT_DUPLICATES, NULL);
    if (json_is_object(j))
        return j;
    json_decref(j);
    return NULL;
}

size_t wire_picture_bytes(const wire_picture *p)
{
    enum { SIDE_MAX = 32768 };
    size_t element = frame_dtype_size(p->dtype);
    bool sane = p->h > 0 && p->h <= SIDE_MAX && p->w > 0 && p->w <= SIDE_MAX &&
                (p->c == 1 || p->c == 3 || p->c == 4);
    return sane ? (size_t)p->h * (size_t)p->w * (size_t)p->c * element : 0;
}

/* ---- sending --------------------------------------------------------------------------------- */

/* Bytes that went, 0 when there is no room, -1 when the other end is gone. */
static ssize_t push(wire *w, struct iovec *v, int parts, int fd)
{
    union {
        char room[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {{0}};
    struct msghdr m = {.msg_iov = v, .msg_iovlen = (size_t)parts};
    if (fd >= 0) {
        m.msg_control = control.room;
        m.msg_controllen = sizeof control.room;
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(c), &fd, sizeof fd);
    }
    ssize_t n;
    do {
        n = sendmsg(w->socket, &m, MSG_NOSIGNAL | (w->wait ? 0 : MSG_DONTWAIT));
    } while (n < 0 && errno == EINTR);
    return n < 0 && errno == EAGAIN ? 0 : n;
}

static bool flush_locked(wire *w)
{
    for (parcel *p; (p = g_queue_peek_head(&w->out));) {
        gsize size;
        const char *data = g_bytes_get_data(p->bytes, &size);
        struct iovec v = {(char *)data + p->sent, size - p->sent};
        ssize_t n = push(w, &v, 1, p->fd);
        if (n <= 0)
            return n == 0;
        if (p->fd >= 0)
            close(p->fd);
        p->fd = -1;
        p->sent += (size_t)n;
        if (p->sent == size)
            parcel_free(g_queue_pop_head(&w->out));
    }
    return true;
}

bool wire_flush(wire *w)
{
    g_mutex_lock(&w->lock);
    bool good = flush_locked(w);
    g_mutex_unlock(&w->lock);
    return good;
}

static void keep(wire *w, const header *h, const void *payload, size_t sent, int fd)
{
    GByteArray *all = g_byte_array_sized_new((guint)(sizeof *h + h->bytes + 1));
    g_byte_array_append(all, (const guint8 *)h, sizeof *h);
    if (h->bytes)
        g_byte_array_append(all, payload, h->bytes);
    g_byte_array_append(all, (const guint8 *)"", 1);
    parcel *p = g_new(parcel, 1);
    *p = (parcel){g_byte_array_free_to_bytes(all), sent, -1};
    if (fd >= 0 && !sent)
        p->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    g_queue_push_tail(&w->out, p);
}

bool wire_send(wire *w, enum wire_kind kind, uint32_t instance, const void *payload, size_t bytes,
               int fd)
{
    header h = {(uint32_t)bytes, (uint16_t)kind, fd >= 0, instance, 0};
    struct iovec v[] = {{&h, sizeof h}, {(void *)payload, bytes}, {(char[1]){0}, 1}};
    if (bytes > PAYLOAD_MAX)
        return false;
    g_mutex_lock(&w->lock);
    ssize_t n = flush_locked(w) ? 0 : -1;
    if (n == 0 && g_queue_is_empty(&w->out))
        n = push(w, v, 3, fd);
    if (n >= 0 && (size_t)n < sizeof h + bytes + 1) {
        keep(w, &h, payload, (size_t)n, fd);
        if (w->wait)
            n = flush_locked(w) ? n : -1;
    }
    g_mutex_unlock(&w->lock);
    return n >= 0;
}

bool wire_send_json(wire *w, enum wire_kind kind, uint32_t instance, json_t *payload)
{
    char *text = json_dumps(payload, JSON_COMPACT);
    bool good = text && wire_send(w, kind, instance, text, strlen(text), -1);
    free(text);
    json_decref(payload);
    return good;
}

bool wire_is_behind(wire *w)
{
    g_mutex_lock(&w->lock);
    bool behind = !g_queue_is_empty(&w->out);
    g_mutex_unlock(&w->lock);
    return behind;
}

void wire_end(wire *w)
{
    shutdown(w->socket, SHUT_WR);
}
