/* websocket.c - publishing and watching over WebSocket; see README.md, "Media".
 *
 * Under serve; over live/cast and media/decoder. Must stay true: packets are made on other threads
 * and sent on [main]; what waits for a viewer is bounded, and a viewer that does not take it costs
 * nobody else anything.
 */
#include "app.h"
#include "mjpeg.h"
#include "waker.h"
#include "ws.h"

#include "../live/cast.h"
#include "../media/decoder.h"

#include <stdatomic.h>
#include <string.h>

enum {
    HEADER = 16,
    FRAMING = 16, /* at most, around a packet with its header */
    SLACK = 4096, /* for messages of text */
    MESSAGE_MAX = 16 << 20,
    WAITING_MAX = 256 << 10, /* a viewer with more bytes waiting for it cannot follow, */
    SPAN_US = 150000,        /* nor one for which those of two spans ago still wait */
    AGE_MAX_US = 1000000,    /* capture times further back are not believed */
};

/* ---- both ------------------------------------------------------------------------------------ */

static void say(ws *w, const char *type, const char *member, const char *value)
{
    ws_json(w, json_pack("{s:s, s:s*}", "type", type, member, value));
}

/* The type of a message, after answering those that both sides take; or NULL. */
static const char *read_text(ws *w, const json_t *m)
{
    const char *type = json_string_value(json_object_get(m, "type"));
    if (type && !strcmp(type, "clock")) {
        ws_json(w, json_pack("{s:s, s:O?, s:I}", "type", "clock", "t", json_object_get(m, "t"),
                             "us", (json_int_t)g_get_monotonic_time()));
        return NULL;
    }
    return type ? type : "";
}

/* ---- viewers --------------------------------------------------------------------------------- */

typedef struct viewer {
    ws *ws;                     /* NULL before it is open */
    live *live;                 /* borrowed: outlives all connections */
    char *key, *about;          /* owned */
    cast_viewer *video, *sound; /* owned; NULL before it is open; sound only when asked for */
    enum codec codec;
    bool with_sound;
    enum cast_of of;
    int w, h;             /* told last */
    waker *waker;         /* owned */
    GMutex lock;          /* over `queue` and `queued` */
    GQueue queue;         /* packets for [main], owned */
    size_t queued;        /* bytes in it */
    atomic_size_t unsent; /* bytes that the peer had not taken when last looked, */
    atomic_size_t recent; /* of those sent in the last two spans */
    size_t now, before;   /* bytes sent in this span, and in the one before */
    int64_t span_us;      /* when this one began */
} viewer;

/* Lock held. */
static bool can_follow(viewer *v, size_t n)
{
    size_t waits = atomic_load(&v->unsent) + v->queued;
    if (!waits)
        return true; /* however large it is */
    return waits + n <= WAITING_MAX && waits <= atomic_load(&v->recent) + v->queued + SLACK;
}

/* [any] */
static bool viewer_packet(void *ctx, packet *p)
{
    viewer *v = ctx;
    size_t n = HEADER + FRAMING + g_bytes_get_size(p->bytes);
    g_mutex_lock(&v->lock);
    bool takes = can_follow(v, n);
    if (takes) {
        g_queue_push_tail(&v->queue, packet_ref(p));
        v->queued += n;
    }
    g_mutex_unlock(&v->lock);
    waker_wake(v->waker); /* in any case: to look again what has been taken */
    return takes;
}

static void put_le(uint8_t *to, uint64_t x, int bytes)
{
    for (int i = 0; i < bytes; i++)
        to[i] = (uint8_t)(x >> 8 * i);
}

/* Colours as in encoder.c, ready for VideoDecoder.configure: browsers take what is unmarked for
 * BT.709. */
static void say_format(viewer *v, const packet *p)
{
    json_t *m = json_pack("{s:s, s:s, s:i, s:i}", "type", "format", "codec", codec_name(p->codec),
                          "w", p->w, "h", p->h);
    if (p->codec != CODEC_JPEG)
        json_object_set_new(m, "colorSpace",
                            json_pack("{s:s, s:s, s:s, s:b}", "matrix", "smpte170m", "primaries",
                                      "smpte170m", "transfer", "smpte170m", "fullRange", 0));
    ws_json(v->ws, m);
}

static void send_packet(viewer *v, const packet *p)
{
    if (p->codec == v->codec && (p->w != v->w || p->h != v->h)) {
        v->w = p->w;
        v->h = p->h;
        say_format(v, p);
    }
    uint8_t head[HEADER] = {(uint8_t)p->codec, p->key};
    put_le(head + 4, (uint64_t)p->duration_us, 4);
    put_le(head + 8, (uint64_t)p->pts_us, 8);
    ws_binary(v->ws, head, sizeof head, p->bytes);
}

static void viewer_woken(void *ctx)
{
    viewer *v = ctx;
    g_mutex_lock(&v->lock);
    GQueue queue = v->queue;
    g_queue_init(&v->queue);
    size_t n = v->queued;
    atomic_fetch_add(&v->unsent, n);
    atomic_fetch_add(&v->recent, n);
    v->queued = 0;
    g_mutex_unlock(&v->lock);
    for (packet *p; (p = g_queue_pop_head(&queue)); packet_unref(p))
        send_packet(v, p);
    int64_t now = g_get_monotonic_time();
    if (now - v->span_us >= SPAN_US) {
        v->before = now - v->span_us >= 2 * SPAN_US ? 0 : v->now;
        v->now = 0;
        v->span_us = now;
    }
    v->now += n;
    atomic_store(&v->recent, v->now + v->before);
    atomic_store(&v->unsent, ws_waiting(v->ws));
}

static void viewer_ended(void *ctx, const scope_error *err)
{
    viewer *v = ctx;
    ws_close(v->ws, err ? 1011 : 1000, err ? err->text : "the stream has ended");
}

static void viewer_open(void *ctx, ws *w)
{
    viewer *v = ctx;
    v->ws = w;
    scope_error err = {0};
    stream *s = live_find(v->live, STREAM_PLAYBACK, v->key);
    cast_calls calls = {.ctx = v, .packet = viewer_packet, .ended = viewer_ended};
    if (!s) {
        ws_close(w, 1000, "the stream has ended");
        return;
    }
    v->waker = waker_new(viewer_woken, v);
    v->video = cast_join(s, v->of, v->codec, "websocket", v->about, &calls, &err);
    if (v->video && v->with_sound)
        v->sound = cast_join(s, v->of, CODEC_OPUS, "websocket", v->about, &calls, &err);
    if (!v->video || (v->with_sound && !v->sound))
        ws_close(w, 1011, err.text);
}

static void viewer_text(void *ctx, const char *text, size_t n)
{
    viewer *v = ctx;
    json_t *m = json_loadb(text, n, 0, NULL);
    const char *type = read_text(v->ws, m);
    if (type && !strcmp(type, "keyframe") && v->video)
        cast_keyframe(v->video);
    else if (type)
        say(v->ws, "error", "error", "a viewer sends {\"type\": \"keyframe\"} or \"clock\"");
    json_decref(m);
}

static void viewer_binary(void *ctx, const void *bytes, size_t n)
{
    (void)bytes, (void)n;
    viewer *v = ctx;
    ws_close(v->ws, 1003, "viewers send text alone");
}

static void viewer_closed(void *ctx)
{
    viewer *v = ctx;
    cast_leave(v->video);
    cast_leave(v->sound);
    waker_free(v->waker);
    g_queue_clear_full(&v->queue, (GDestroyNotify)packet_unref);
    g_mutex_clear(&v->lock);
    g_free(v->key);
    g_free(v->about);
    g_free(v);
}

/* The first codec of the list that this machine can encode; 0 with *err when there is none. */
static enum codec choose_codec(const char *list, scope_error *err)
{
    char **names = g_strsplit(list, ",", 8);
    enum codec found = 0;
    g_snprintf(err->text, sizeof err->text, "codec: '%.60s' names none of vp8, h264 and jpeg",
               list);
    for (char **name = names; *name && !found; name++) {
        enum codec c = codec_from_name(g_strstrip(*name));
        if (c && c != CODEC_OPUS && cast_can(c, err) == 0)
            found = c;
    }
    g_strfreev(names);
    return found;
}

static response *view(request *r)
{
    static const ws_calls calls = {
        .open = viewer_open, .text = viewer_text, .binary = viewer_binary, .closed = viewer_closed};
    response *answer;
    if (!app_by_key(r, STREAM_PLAYBACK, &answer))
        return answer;
    const char *list = request_query(r, "codec"), *audio = request_query(r, "audio");
    scope_error err;
    enum cast_of of = mjpeg_of(r, &answer);
    if (!of)
        return answer;
    enum codec codec = choose_codec(list ? list : "vp8", &err);
    if (!codec)
        return response_error(r, 400, "STREAMS/INVALID_CODEC", "codec", "%s", err.text);
    if (audio && strcmp(audio, "opus") != 0)
        return response_error(r, 400, "STREAMS/INVALID_CODEC", "audio",
                              "audio: there is opus, not '%.60s'", audio);
    viewer *v = g_new0(viewer, 1);
    v->live = app_of(r)->live;
    v->key = g_strdup(request_part(r, "key"));
    v->about = g_strdup(request_peer(r));
    v->codec = codec;
    v->with_sound = audio != NULL;
    v->of = of;
    g_mutex_init(&v->lock);
    g_queue_init(&v->queue);
    return response_websocket(r, &calls, v);
}

/* ---- publishers ------------------------------------------------------------------------------ */

typedef struct publisher {
    ws *ws;     /* NULL before it is open */
    live *live; /* borrowed: outlives all connections */
    char *key, *about;
    stream_input *in;       /* owned; NULL before it is open */
    decoder *video, *sound; /* owned; NULL before the first packet of each */
    enum codec codec;       /* of `video` */
    json_t *colours;        /* owned: what the publisher said of them, or NULL */
    bool stopped;           /* closing: nothing is taken any more */
    waker *waker;           /* owned: a key frame is wanted */
} publisher;

static void pub_replaced(void *ctx)
{
    publisher *p = ctx;
    if (p->stopped)
        return;
    p->stopped = true;
    say(p->ws, "replaced", "", NULL);
    ws_close(p->ws, 1000, "another publisher has taken the stream, or it has ended");
}

static void refuse(publisher *p, int code, const char *why)
{
    p->stopped = true;
    say(p->ws, "error", "error", why);
    ws_close(p->ws, code, why);
}

static void pub_open(void *ctx, ws *w)
{
    publisher *p = ctx;
    p->ws = w;
    stream *s = live_find(p->live, STREAM_PUBLISH, p->key);
    if (!s) {
        refuse(p, 1000, "the stream has ended");
        return;
    }
    p->in = stream_input_open(s, "websocket", p->about,
                              &(stream_input_calls){.ctx = p, .replaced = pub_replaced});
    say(w, "ready", "", NULL);
}

static void ask_for_key(void *ctx)
{
    publisher *p = ctx;
    if (!p->stopped)
        say(p->ws, "keyframe", "", NULL);
}

/* [any] */
static void pub_need_key(void *ctx)
{
    publisher *p = ctx;
    waker_wake(p->waker);
}

/* [any] */
static void pub_picture(void *ctx, frame *f)
{
    publisher *p = ctx;
    stream_input_frame(p->in, f);
}

/* [any] */
static void pub_sound(void *ctx, GstBuffer *sound)
{
    publisher *p = ctx;
    stream_input_sound(p->in, sound);
}

static void use_colours(publisher *p)
{
    const char *matrix = json_string_value(json_object_get(p->colours, "matrix"));
    if (p->video && matrix)
        decoder_colours(p->video, matrix, json_is_true(json_object_get(p->colours, "fullRange")));
}

/* The decoder for a packet of this codec, or NULL when the packet is to be left out. */
static decoder *decoder_for(publisher *p, enum codec codec, bool key)
{
    decoder **d = codec == CODEC_OPUS ? &p->sound : &p->video;
    if (*d && (codec == CODEC_OPUS || codec == p->codec))
        return *d;
    if (!key && codec != CODEC_JPEG && codec != CODEC_OPUS) {
        ask_for_key(p);
        return NULL;
    }
    decoder_calls calls = {
        .ctx = p, .picture = pub_picture, .sound = pub_sound, .need_key = pub_need_key};
    scope_error err = {0};
    decoder_close(*d);
    *d = decoder_open(codec, live_frames(p->live), &calls, &err);
    if (!*d)
        refuse(p, 1011, err.text);
    else if (codec != CODEC_OPUS)
        p->codec = codec;
    use_colours(p);
    return *d;
}

static void pub_binary(void *ctx, const void *bytes, size_t n)
{
    publisher *p = ctx;
    const uint8_t *b = bytes;
    if (p->stopped)
        return;
    if (n <= HEADER || b[0] < CODEC_VP8 || b[0] > CODEC_OPUS) {
        refuse(p, 1003,
               "a packet is a header of 16 bytes, of which the first is a codec from 1 "
               "to 4, and a coded frame");
        return;
    }
    uint64_t captured = 0;
    for (int i = 0; i < 8; i++)
        captured |= (uint64_t)b[8 + i] << 8 * i;
    int64_t now = g_get_monotonic_time();
    int64_t pts_us = captured ? CLAMP((int64_t)captured, now - AGE_MAX_US, now) : now;
    bool key = b[1] & 1;
    decoder *d = decoder_for(p, b[0], key);
    if (d)
        decoder_push(d, b + HEADER, n - HEADER, pts_us, key);
}

static void pub_text(void *ctx, const char *text, size_t n)
{
    publisher *p = ctx;
    if (p->stopped)
        return;
    json_t *m = json_loadb(text, n, 0, NULL);
    const char *type = read_text(p->ws, m);
    if (type && !strcmp(type, "format")) {
        json_decref(p->colours);
        p->colours = json_incref(json_object_get(m, "colorSpace"));
        use_colours(p);
    } else if (type) {
        say(p->ws, "error", "error", "a publisher sends {\"type\": \"format\"} or \"clock\"");
    }
    json_decref(m);
}

static void pub_closed(void *ctx)
{
    publisher *p = ctx;
    decoder_close(p->video); /* first: its thread uses what goes next */
    decoder_close(p->sound);
    stream_input_close(p->in);
    waker_free(p->waker);
    json_decref(p->colours);
    g_free(p->key);
    g_free(p->about);
    g_free(p);
}

static response *publish(request *r)
{
    static const ws_calls calls = {.open = pub_open,
                                   .text = pub_text,
                                   .binary = pub_binary,
                                   .closed = pub_closed,
                                   .message_max = MESSAGE_MAX};
    response *answer;
    if (!app_by_key(r, STREAM_PUBLISH, &answer))
        return answer;
    publisher *p = g_new0(publisher, 1);
    p->live = app_of(r)->live;
    p->key = g_strdup(request_part(r, "key"));
    p->about = g_strdup(request_peer(r));
    p->waker = waker_new(ask_for_key, p);
    return response_websocket(r, &calls, p);
}

/* ---- routes ---------------------------------------------------------------------------------- */

#define OF "\"of\": {\"type\": \"string\", \"enum\": [\"result\", \"source\"]}"

const route websocket_routes[] = {
    {.method = "GET",
     .path = "/live/{key}/publish",
     .handler = publish,
     .access = ROUTE_SECRET,
     .status = 101,
     .summary = "Publish a picture and sound: a WebSocket (README)"},
    {.method = "GET",
     .path = "/live/{key}/view",
     .handler = view,
     .access = ROUTE_SECRET,
     .status = 101,
     .query = "{\"codec\": {\"type\": \"string\"}, \"audio\": {\"type\": \"string\", \"enum\": "
              "[\"opus\"]}, " OF "}",
     .summary = "Watch a stream: a WebSocket (README)"},
    {.method = "GET",
     .path = "/live/{key}/mjpeg",
     .handler = mjpeg_watch,
     .access = ROUTE_SECRET,
     .query = "{" OF "}",
     .produces = "multipart/x-mixed-replace",
     .summary = "Watch a stream as pictures that replace each other"},
    {.method = "GET",
     .path = "/live/{key}/frame.jpg",
     .handler = mjpeg_still,
     .access = ROUTE_SECRET,
     .query = "{" OF "}",
     .produces = "image/jpeg",
     .summary = "The picture that the stream shows now"},
    {0},
};
