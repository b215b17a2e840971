/* whip.c - WHIP and WHEP: who publishes or watches a stream by WebRTC; RFC 9725.
 *
 * Under serve; over media/rtc and live/cast. Must stay true: a session is in its stream's list from
 * its POST to its end, and everything that ends it goes through end(); a publisher takes the stream
 * when it is connected, so an offer that comes to nothing disturbs nobody.
 */
#include "app.h"
#include "mjpeg.h"

#include "../error.h"
#include "../live/cast.h"
#include "../log.h"
#include "../media/rtc.h"
#include "../serve_options.h"

#include <malloc.h>
#include <stdatomic.h>
#include <string.h>

enum { SESSIONS_MAX = 64, OFFER_MAX = 64 << 10, TIDY_S = 3 };

typedef struct session {
    char *id, *about; /* owned */
    stream *stream;   /* borrowed: ends its sessions when it ends */
    GPtrArray *all;   /* borrowed: the stream's sessions, this one among them */
    frame_pool *pool; /* borrowed likewise */
    bool publishes;
    rtc *rtc;         /* owned */
    request *waiting; /* the POST, until it is answered */
    char *playback;   /* owned: the URL to watch at, until the POST is answered */
    int64_t since_us; /* connected; 0: not yet */
    /* Publishers */
    _Atomic(stream_input *) in; /* owned; NULL until connected */
    /* Viewers */
    enum cast_of of;
    enum codec codec, sound_codec; /* 0: none */
    GMutex lock;                   /* over the use of `video` on other threads */
    cast_viewer *video, *sound;    /* owned; NULL until connected */
} session;

/* ---- the sessions of a stream ---------------------------------------------------------------- */

static const char ATTACHED[] = "webrtc";

static void end(session *s, const char *why);

static void end_all(gpointer data)
{
    GPtrArray *all = data;
    while (all->len)
        end(g_ptr_array_index(all, all->len - 1), "the stream has ended");
    g_ptr_array_unref(all);
}

static GPtrArray *sessions_of(stream *st)
{
    GPtrArray *all = stream_attached(st, ATTACHED);
    if (!all)
        stream_attach(st, ATTACHED, all = g_ptr_array_new(), end_all);
    return all;
}

static int count_all(live *l)
{
    int n = 0;
    for (int i = 0; i < live_count(l); i++) {
        const GPtrArray *all = stream_attached(live_at(l, i), ATTACHED);
        n += all ? (int)all->len : 0;
    }
    return n;
}

static session *find(stream *st, const char *id, bool publishes)
{
    const GPtrArray *all = stream_attached(st, ATTACHED);
    for (guint i = 0; all && i < all->len; i++) {
        session *s = g_ptr_array_index(all, i);
        if (!strcmp(s->id, id) && s->publishes == publishes)
            return s;
    }
    return NULL;
}

static session *new_session(request *r, stream *st, bool publishes)
{
    session *s = g_new0(session, 1);
    s->id = live_secret("rtc_");
    s->about = g_strdup(request_peer(r));
    s->stream = st;
    s->pool = live_frames(app_of(r)->live);
    s->publishes = publishes;
    g_mutex_init(&s->lock);
    s->all = sessions_of(st);
    g_ptr_array_add(s->all, s);
    return s;
}

/* ---- how one ends ---------------------------------------------------------------------------- */

static void say_end(const session *s, const char *why)
{
    rtc_stats now;
    char about[64];
    rtc_stats_now(s->rtc, &now);
    g_snprintf(about, sizeof about, "stream %s", stream_id(s->stream));
    log_line(SCOPE_INFO, about, "%s %s: %s after %.1f s (%.1f MB in, %.1f MB out, %d packets lost)",
             s->publishes ? "WHIP" : "WHEP", s->about, why,
             s->since_us ? (double)(g_get_monotonic_time() - s->since_us) / 1e6 : 0,
             (double)now.bytes_in / 1e6, (double)now.bytes_out / 1e6, (int)now.packets_lost);
}

static gboolean tidy(gpointer ctx)
{
    (void)ctx;
    malloc_trim(0); /* a session's megabyte is in small pieces, which stay ours otherwise */
    return G_SOURCE_REMOVE;
}

/* Viewers stop getting packets before their session goes, publishers stop bringing frames before
 * their input does. */
static void end(session *s, const char *why)
{
    g_ptr_array_remove(s->all, s);
    if (!s->all->len)
        g_timeout_add_seconds(TIDY_S, tidy, NULL);
    if (s->rtc && why)
        say_end(s, why);
    g_mutex_lock(&s->lock);
    cast_viewer *video = s->video;
    s->video = NULL;
    g_mutex_unlock(&s->lock);
    cast_leave(video);
    cast_leave(s->sound);
    rtc_close(s->rtc);
    stream_input_close(atomic_load(&s->in));
    if (s->waiting)
        request_answer(s->waiting, response_error(s->waiting, 503, "WEBRTC/ENDED", NULL, "%s",
                                                  why ? why : "the session has ended"));
    g_mutex_clear(&s->lock);
    g_free(s->playback);
    g_free(s->about);
    g_free(s->id);
    g_free(s);
}

static void on_ended(void *ctx, const char *why)
{
    end(ctx, why);
}

static void on_gone(void *ctx)
{
    end(ctx, "the client left before its answer");
}

/* ---- the answer ------------------------------------------------------------------------------ */

/* The ICE servers as a Link header, RFC 9725 section 4.6; for g_free, or NULL. */
static char *links_of(const char *list)
{
    char **all = g_strsplit(list ? list : "", ",", 16);
    GString *to = g_string_new(NULL);
    for (int i = 0; all[i]; i++) {
        const char *one = g_strstrip(all[i]), *at = strrchr(one, '@'), *kind = strchr(one, ':');
        if (!kind)
            continue;
        g_string_append_printf(to, "%s<%.*s:%s>; rel=\"ice-server\"", to->len ? ", " : "",
                               (int)(kind - one), one, at ? at + 1 : kind + 1);
        char **who = g_strsplit(at ? kind + 1 : "", ":", 2);
        if (who[0] && who[1])
            g_string_append_printf(to,
                                   "; username=\"%s\"; credential=\"%.*s\"; "
                                   "credential-type=\"password\"",
                                   who[0], (int)(strrchr(who[1], '@') - who[1]), who[1]);
        g_strfreev(who);
    }
    g_strfreev(all);
    return g_string_free(to, to->len == 0);
}

static void on_answered(void *ctx, const char *sdp, const scope_error *err)
{
    session *s = ctx;
    request *r = s->waiting;
    if (!sdp) {
        end(s, err->text);
        return;
    }
    s->waiting = NULL;
    response *a = response_text(201, "application/sdp", sdp);
    char *location = g_strdup_printf("%s/%s", request_path(r), s->id),
         *tag = g_strdup_printf("W/\"%s\"", s->id),
         *links = links_of(app_of(r)->options->ice_servers);
    response_header(a, "Location", location);
    response_header(a, "ETag", tag);
    if (links)
        response_header(a, "Link", links);
    if (s->playback)
        response_header(a, "Livepeer-Playback-Url", s->playback);
    request_answer(r, a);
    g_clear_pointer(&s->playback, g_free);
    g_free(links);
    g_free(tag);
    g_free(location);
}

/* What rtc said against an offer. */
static response *refuse(request *r, const scope_error *err)
{
    if (err->status == SCOPE_EINVAL && !strcmp(err->field, "codec"))
        return response_error(r, 406, "WEBRTC/NO_CODEC", "codec", "%s", err->text);
    return response_fault(r, "WEBRTC/BAD_OFFER", err);
}

/* The offer as text; or NULL with *answer. For g_free. */
static char *offer_of(request *r, response **answer)
{
    gsize n;
    const char *bytes = g_bytes_get_data(request_body(r), &n);
    *answer = NULL;
    if (n && memchr(bytes, 0, n))
        *answer = response_error(r, 400, "WEBRTC/BAD_OFFER", "offer", "the offer holds a NUL");
    else if (count_all(app_of(r)->live) >= SESSIONS_MAX)
        *answer = response_error(r, 503, "WEBRTC/BUSY", NULL,
                                 "all %d WebRTC sessions of this server are taken; try again later",
                                 SESSIONS_MAX);
    if (*answer)
        return NULL;
    return g_strndup(n ? bytes : "", n);
}

static rtc_options options_of(const request *r)
{
    const serve_options *o = app_of(r)->options;
    rtc_options to = {.ice_servers = o->ice_servers};
    if (o->rtc_ports)
        sscanf(o->rtc_ports, "%d-%d", &to.port_min, &to.port_max);
    return to;
}

/* ---- publishers ------------------------------------------------------------------------------ */

static void on_replaced(void *ctx)
{
    end(ctx, "another publisher has taken the stream, or it has ended");
}

static void on_publishing(void *ctx)
{
    session *s = ctx;
    stream_input_calls calls = {s, on_replaced};
    s->since_us = g_get_monotonic_time();
    atomic_store(&s->in, stream_input_open(s->stream, "whip", s->about, &calls));
}

/* [any] */
static void on_picture(void *ctx, frame *f)
{
    session *s = ctx;
    stream_input *in = atomic_load(&s->in);
    if (in)
        stream_input_frame(in, f);
}

/* [any] */
static void on_sound(void *ctx, GstBuffer *sound)
{
    session *s = ctx;
    stream_input *in = atomic_load(&s->in);
    if (in)
        stream_input_sound(in, sound);
    else
        gst_buffer_unref(sound);
}

static response *publish(request *r)
{
    response *answer;
    scope_error err = {0};
    stream *st = app_by_key(r, STREAM_PUBLISH, &answer);
    char *offer = st ? offer_of(r, &answer) : NULL;
    if (!offer)
        return answer;
    session *s = new_session(r, st, true);
    rtc_calls calls = {.ctx = s,
                       .answered = on_answered,
                       .connected = on_publishing,
                       .ended = on_ended,
                       .picture = on_picture,
                       .sound = on_sound};
    rtc_options o = options_of(r);
    s->rtc = rtc_publish(offer, &o, s->pool, &calls, &err);
    g_free(offer);
    if (!s->rtc) {
        end(s, NULL);
        return refuse(r, &err);
    }
    char *origin = request_origin(r);
    s->playback = g_strdup_printf("%s/live/%s/whep", origin, stream_playback_id(st));
    g_free(origin);
    s->waiting = r;
    request_later(r, on_gone, s);
    return NULL;
}

/* ---- viewers --------------------------------------------------------------------------------- */

/* [any] */
static bool on_packet(void *ctx, packet *p)
{
    return rtc_send(((session *)ctx)->rtc, p);
}

static void on_cast_ended(void *ctx, const scope_error *err)
{
    end(ctx, err ? err->text : "the stream has ended");
}

/* [any] */
static void on_need_key(void *ctx)
{
    session *s = ctx;
    g_mutex_lock(&s->lock);
    if (s->video)
        cast_keyframe(s->video);
    g_mutex_unlock(&s->lock);
}

/* [any] */
static void on_bitrate(void *ctx, int bits)
{
    session *s = ctx;
    g_mutex_lock(&s->lock);
    if (s->video)
        cast_bitrate(s->video, bits);
    g_mutex_unlock(&s->lock);
}

static void on_watching(void *ctx)
{
    session *s = ctx;
    scope_error err = {0};
    cast_calls calls = {s, on_packet, on_cast_ended};
    s->since_us = g_get_monotonic_time();
    cast_viewer *video = cast_join(s->stream, s->of, s->codec, "whep", s->about, &calls, &err);
    g_mutex_lock(&s->lock);
    s->video = video;
    g_mutex_unlock(&s->lock);
    if (video && s->sound_codec)
        s->sound = cast_join(s->stream, s->of, s->sound_codec, "whep", s->about, &calls, &err);
    if (!video || (s->sound_codec && !s->sound))
        end(s, err.text);
}

/* Does the viewer get sound: ?audio=opus, ?audio=none, or else as the stream has it now. */
static bool wants_sound(request *r, stream *st, response **answer)
{
    const char *audio = request_query(r, "audio");
    *answer = NULL;
    if (audio && strcmp(audio, "opus") != 0 && strcmp(audio, "none") != 0)
        *answer = response_error(r, 400, "STREAMS/INVALID_CODEC", "audio",
                                 "audio: there is opus, or none, not '%.60s'", audio);
    return audio ? !strcmp(audio, "opus") : stream_has_sound(st);
}

static int open_viewer(session *s, const char *offer, const rtc_options *o, bool sound,
                       scope_error *err)
{
    rtc_calls calls = {.ctx = s,
                       .answered = on_answered,
                       .connected = on_watching,
                       .ended = on_ended,
                       .need_key = on_need_key,
                       .bitrate = on_bitrate};
    s->codec = cast_can(CODEC_H264, err) == 0 ? CODEC_H264 : CODEC_VP8;
    s->sound_codec = sound && cast_can(CODEC_OPUS, err) == 0 ? CODEC_OPUS : 0;
    s->rtc = rtc_view(offer, o, &calls, &s->codec, &s->sound_codec, err);
    if (!s->rtc)
        return -1;
    if (cast_can(s->codec, err) == 0)
        return 0;
    err->status = SCOPE_EINVAL; /* the offer has only what this machine cannot encode */
    g_strlcpy(err->field, "codec", sizeof err->field);
    return -1;
}

static response *watch(request *r)
{
    response *answer;
    scope_error err = {0};
    stream *st = app_by_key(r, STREAM_PLAYBACK, &answer);
    enum cast_of of = st ? mjpeg_of(r, &answer) : 0;
    bool sound = of && wants_sound(r, st, &answer);
    char *offer = of && !answer ? offer_of(r, &answer) : NULL;
    if (!offer)
        return answer;
    session *s = new_session(r, st, false);
    rtc_options o = options_of(r);
    s->of = of;
    int status = open_viewer(s, offer, &o, sound, &err);
    g_free(offer);
    if (status) {
        end(s, NULL);
        return refuse(r, &err);
    }
    s->waiting = r;
    request_later(r, on_gone, s);
    return NULL;
}

/* ---- leaving --------------------------------------------------------------------------------- */

static response *leave(request *r, enum stream_key which)
{
    response *answer;
    stream *st = app_by_key(r, which, &answer);
    if (!st)
        return answer;
    session *s = find(st, request_part(r, "session"), which == STREAM_PUBLISH);
    if (!s)
        return response_error(r, 404, "WEBRTC/NOT_FOUND", NULL,
                              "this session has ended, or never was");
    end(s, "has left");
    return response_text(200, "text/plain", "");
}

static response *leave_publisher(request *r)
{
    return leave(r, STREAM_PUBLISH);
}

static response *leave_viewer(request *r)
{
    return leave(r, STREAM_PLAYBACK);
}

/* ---- routes ---------------------------------------------------------------------------------- */

#define SDP  .consumes = "application/sdp", .produces = "application/sdp", .status = 201
#define TEXT "{\"type\": \"string\"}"

const route whip_routes[] = {
    {.method = "POST",
     .path = "/live/{key}/whip",
     .handler = publish,
     .access = ROUTE_SECRET,
     .body_max = OFFER_MAX,
     .body = TEXT,
     .answer = TEXT,
     SDP,
     .summary = "Publish by WebRTC (WHIP): an offer, answered with all its candidates"},
    {.method = "DELETE",
     .path = "/live/{key}/whip/{session}",
     .handler = leave_publisher,
     .access = ROUTE_SECRET,
     .produces = "text/plain",
     .summary = "End a WHIP session"},
    {.method = "POST",
     .path = "/live/{key}/whep",
     .handler = watch,
     .access = ROUTE_SECRET,
     .body_max = OFFER_MAX,
     .body = TEXT,
     .answer = TEXT,
     .query = "{\"audio\": {\"type\": \"string\", \"enum\": [\"opus\", \"none\"]}, \"of\": "
              "{\"type\": \"string\", \"enum\": [\"result\", \"source\"]}}",
     SDP,
     .summary = "Watch by WebRTC (WHEP): an offer, answered with all its candidates"},
    {.method = "DELETE",
     .path = "/live/{key}/whep/{session}",
     .handler = leave_viewer,
     .access = ROUTE_SECRET,
     .produces = "text/plain",
     .summary = "End a WHEP session"},
    {0},
};
