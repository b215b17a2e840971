/* mjpeg.c - pictures that replace each other, and one picture; see mjpeg.h.
 *
 * Must stay true: a picture is written when the one before has been; in the meantime the newest
 * takes the place of the one that waits.
 */
#include "mjpeg.h"
#include "app.h"
#include "waker.h"

#include "../media/picture.h"

#include <gio/gio.h>
#include <string.h>

enum { RETRY_MS = 15, SOURCE_WAIT_MS = 1000, QUALITY = 90 };

enum cast_of mjpeg_of(request *r, response **answer)
{
    const char *of = request_query(r, "of");
    if (!of || !strcmp(of, "result"))
        return CAST_RESULT;
    if (!strcmp(of, "source"))
        return CAST_SOURCE;
    *answer = response_error(r, 400, "STREAMS/INVALID_QUERY", "of",
                             "of: there are result and source, not '%.60s'", of);
    return 0;
}

/* ---- pictures that replace each other -------------------------------------------------------- */

typedef struct watcher {
    live *live;        /* borrowed: outlives all connections */
    char *key, *about; /* owned */
    enum cast_of of;
    chunks *body;       /* NULL before it is open */
    cast_viewer *video; /* owned */
    waker *waker;       /* owned */
    GMutex lock;        /* over `newest` */
    packet *newest;     /* owned: waits to be written */
} watcher;

/* [any] */
static bool watcher_packet(void *ctx, packet *p)
{
    watcher *w = ctx;
    g_mutex_lock(&w->lock);
    packet *old = w->newest;
    w->newest = packet_ref(p);
    g_mutex_unlock(&w->lock);
    packet_unref(old);
    waker_wake(w->waker);
    return true;
}

static void push_text(chunks *body, char *text)
{
    GBytes *b = g_bytes_new_take(text, strlen(text));
    chunks_push(body, b);
    g_bytes_unref(b);
}

static void watcher_woken(void *ctx)
{
    watcher *w = ctx;
    if (chunks_waiting(w->body) > 0) {
        waker_later(w->waker, RETRY_MS);
        return;
    }
    g_mutex_lock(&w->lock);
    packet *p = w->newest;
    w->newest = NULL;
    g_mutex_unlock(&w->lock);
    if (!p)
        return;
    push_text(w->body, g_strdup_printf("Content-Type: image/jpeg\r\nContent-Length: %zu\r\n\r\n",
                                       g_bytes_get_size(p->bytes)));
    chunks_push(w->body, p->bytes);
    /* Browsers show a picture when they see where it ends. */
    push_text(w->body, g_strdup("\r\n--frame\r\n"));
    packet_unref(p);
}

static void watcher_ended(void *ctx, const scope_error *err)
{
    (void)err;
    watcher *w = ctx;
    chunks_end(w->body);
}

static void watcher_open(void *ctx, chunks *body)
{
    watcher *w = ctx;
    w->body = body;
    push_text(body, g_strdup("--frame\r\n"));
    w->waker = waker_new(watcher_woken, w);
    cast_calls calls = {.ctx = w, .packet = watcher_packet, .ended = watcher_ended};
    scope_error err;
    stream *s = live_find(w->live, STREAM_PLAYBACK, w->key);
    w->video = s ? cast_join(s, w->of, CODEC_JPEG, "mjpeg", w->about, &calls, &err) : NULL;
    if (!w->video)
        chunks_end(body);
}

static void watcher_closed(void *ctx)
{
    watcher *w = ctx;
    cast_leave(w->video);
    waker_free(w->waker);
    packet_unref(w->newest);
    g_mutex_clear(&w->lock);
    g_free(w->key);
    g_free(w->about);
    g_free(w);
}

response *mjpeg_watch(request *r)
{
    response *answer;
    enum cast_of of = mjpeg_of(r, &answer);
    scope_error err;
    if (!of || !app_by_key(r, STREAM_PLAYBACK, &answer))
        return answer;
    if (cast_can(CODEC_JPEG, &err) < 0)
        return response_fault(r, "STREAMS/NO_ENCODER", &err);
    watcher *w = g_new0(watcher, 1);
    w->live = app_of(r)->live;
    w->key = g_strdup(request_part(r, "key"));
    w->about = g_strdup(request_peer(r));
    w->of = of;
    g_mutex_init(&w->lock);
    response *a = response_chunks(200, "multipart/x-mixed-replace; boundary=frame", watcher_open,
                                  watcher_closed, w);
    response_header(a, "Cache-Control", "no-store");
    return a;
}

/* ---- one picture ----------------------------------------------------------------------------- */

typedef struct still {
    request *request;
    stream_tap *tap; /* owned: of the source, until it has given a frame */
    frame *frame;    /* owned */
    GMutex lock;     /* over `frame` */
    waker *waker;    /* owned */
    guint timeout;
    GBytes *jpeg; /* owned */
    scope_error err;
} still;

static void still_answer(still *k)
{
    response *a;
    if (k->jpeg) {
        a = response_bytes(200, "image/jpeg", k->jpeg);
        response_header(a, "Cache-Control", "no-store");
    } else if (k->frame) {
        a = response_fault(k->request, "STREAMS/NO_PICTURE", &k->err);
    } else {
        a = response_error(k->request, 404, "STREAMS/NO_PICTURE", NULL,
                           "there is no picture yet: nobody publishes to this stream, or its "
                           "plugins are still loading");
    }
    request_answer(k->request, a);
    stream_tap_close(k->tap);
    waker_free(k->waker);
    if (k->timeout)
        g_source_remove(k->timeout);
    frame_unref(k->frame);
    g_clear_pointer(&k->jpeg, g_bytes_unref);
    g_mutex_clear(&k->lock);
    g_free(k);
}

static void encode(GTask *task, gpointer source, gpointer data, GCancellable *cancel)
{
    (void)source, (void)cancel;
    still *k = data;
    k->jpeg = picture_jpeg(k->frame, QUALITY, &k->err);
    g_task_return_boolean(task, TRUE);
}

static void encoded(GObject *source, GAsyncResult *result, gpointer data)
{
    (void)source, (void)result;
    still_answer(data);
}

/* There is a frame: encode it beside the main loop. */
static void still_encode(void *ctx)
{
    still *k = ctx;
    stream_tap_close(k->tap);
    k->tap = NULL;
    if (k->timeout)
        g_source_remove(k->timeout);
    k->timeout = 0;
    GTask *task = g_task_new(NULL, NULL, encoded, k);
    g_task_set_task_data(task, k, NULL);
    g_task_run_in_thread(task, encode);
    g_object_unref(task);
}

/* [any] */
static void still_frame(void *ctx, frame *f)
{
    still *k = ctx;
    g_mutex_lock(&k->lock);
    bool first = !k->frame;
    if (first)
        k->frame = frame_ref(f);
    g_mutex_unlock(&k->lock);
    if (first)
        waker_wake(k->waker);
}

static gboolean still_timeout(gpointer ctx)
{
    still *k = ctx;
    k->timeout = 0;
    stream_tap_close(k->tap);
    k->tap = NULL;
    if (!k->frame) /* else it has been woken already */
        still_answer(k);
    return G_SOURCE_REMOVE;
}

response *mjpeg_still(request *r)
{
    response *answer;
    enum cast_of of = mjpeg_of(r, &answer);
    stream *s = of ? app_by_key(r, STREAM_PLAYBACK, &answer) : NULL;
    if (!s)
        return answer;
    still *k = g_new0(still, 1);
    k->request = r;
    g_mutex_init(&k->lock);
    k->waker = waker_new(still_encode, k);
    request_later(r, NULL, NULL);
    stream_tap_calls calls = {.ctx = k, .frame = still_frame};
    if (of == CAST_SOURCE) {
        k->tap = stream_source_tap_open(s, "picture", request_peer(r), &calls);
        k->timeout = g_timeout_add(SOURCE_WAIT_MS, still_timeout, k);
        return NULL;
    }
    k->frame = stream_last(s);
    if (k->frame)
        still_encode(k);
    else
        still_answer(k);
    return NULL;
}
