/* rtc.c - one WebRTC session; see rtc.h. With those two, all that knows webrtcbin.
 *
 * Under http/whip; over sdp, rtp_in, rtp_out, rtc_network and rtc_figures. Each session has a
 * pipeline of its own, which goes by the monotonic clock with a base time of 0, so that times mean
 * the same in all of them.
 *
 * Must stay true: only [main] starts and ends sessions. webrtcbin calls from threads of its own,
 * and stopping it from one of those waits for ever: they set atomics, hand on frames, and post the
 * rest to [main], each with a reference. No streaming thread ever waits for [main].
 *
 * webrtcbin's C types come with a package that pulls in OpenCV; the one struct that is needed is
 * part of the public ABI and written down here.
 */
#include "rtc.h"
#include "../error.h"
#include "elements.h"
#include "rtc_figures.h"
#include "rtc_network.h"
#include "rtp_in.h"
#include "rtp_out.h"
#include "sdp.h"

#include <gst/sdp/sdp.h>
#include <stdatomic.h>
#include <string.h>

typedef struct description {
    int type; /* of GstWebRTCSDPType */
    GstSDPMessage *sdp;
} description;

enum { SDP_OFFER = 1 };
enum { DIRECTION_SENDONLY = 2, DIRECTION_RECVONLY = 3 };
enum { STATE_CONNECTED = 2, STATE_FAILED = 4, STATE_CLOSED = 5 };
enum { GATHERING_COMPLETE = 2 };

enum {
    /* How long a lost packet is waited for; others are not delayed by it. */
    LATENCY_MS = 100,
    GATHER_MAX_US = 2000000,     /* then the candidates that there are have to do */
    NEGOTIATE_MAX_US = 15000000, /* from the offer to a connection */
    SILENCE_MAX_US = 10000000,
    LEFT_MAX_US = 2000000, /* of silence after a farewell (RTCP BYE) */
    STREAMS_MAX = 8,       /* that one peer may send */
};
#define MSID "scope" /* of picture and sound: players show one stream */

struct rtc { /* counted by g_atomic_rc_box */
    rtc_calls calls;
    rtp_in_calls in;
    frame_pool *pool;           /* borrowed until rtc_close */
    GstElement *pipeline, *rtc; /* owned until rtc_close, NULL after it; the second by the first */
    GstElement *video, *sound;  /* of viewers: where packets go; the pipeline's, or NULL */
    sdp_choice choice;
    GSource *tick;
    rtc_rate rate;
    int64_t started_us;
    int64_t described_us;       /* since when candidates are gathered; 0: not yet */
    bool answered, told, asked; /* [main]: what has been done */
    atomic_bool connected, closing, farewell;
    _Atomic int64_t heard_us, key_requests;
};

static rtc *hold(rtc *r)
{
    return g_atomic_rc_box_acquire(r);
}

static void drop(gpointer r)
{
    g_atomic_rc_box_release(r);
}

static void drop_closure(gpointer r, GClosure *closure)
{
    (void)closure;
    drop(r);
}

static void connect_to(gpointer object, const char *signal, GCallback fn, rtc *r)
{
    g_signal_connect_data(object, signal, fn, hold(r), drop_closure, 0);
}

/* ---- from webrtcbin's threads to [main] ------------------------------------------------------ */

typedef struct post {
    rtc *r; /* held */
    void (*fn)(rtc *r, GstPromise *reply);
    GstPromise *reply; /* owned, or NULL */
} post;

static gboolean run_post(gpointer data)
{
    post *p = data;
    if (p->r->pipeline) /* else it was closed meanwhile */
        p->fn(p->r, p->reply);
    return G_SOURCE_REMOVE;
}

static void free_post(gpointer data)
{
    post *p = data;
    if (p->reply)
        gst_promise_unref(p->reply);
    drop(p->r);
    g_free(p);
}

/* Never runs `fn` here and now, as g_main_context_invoke may. [any] */
static void post_main(rtc *r, void (*fn)(rtc *r, GstPromise *reply), GstPromise *reply)
{
    post *p = g_new(post, 1);
    *p = (post){hold(r), fn, reply};
    GSource *source = g_idle_source_new();
    g_source_set_priority(source, G_PRIORITY_DEFAULT);
    g_source_set_callback(source, run_post, p, free_post);
    g_source_attach(source, NULL);
    g_source_unref(source);
}

/* ---- how it ends ----------------------------------------------------------------------------- */

static void fail(rtc *r, const char *why)
{
    scope_error err;
    if (!r->answered) {
        r->answered = r->told = true;
        error_set(&err, SCOPE_EIO, "", "%s", why);
        r->calls.answered(r->calls.ctx, NULL, &err);
    } else if (!r->told) {
        r->told = true;
        r->calls.ended(r->calls.ctx, why);
    }
}

static void on_failed(rtc *r, GstPromise *reply)
{
    (void)reply;
    fail(r, "the connection failed");
}

static void on_closed(rtc *r, GstPromise *reply)
{
    (void)reply;
    fail(r, "the peer has closed the connection");
}

static void on_broken(rtc *r, GstPromise *reply)
{
    (void)reply;
    fail(r, "what the peer sends cannot be decoded");
}

static void on_connected(rtc *r, GstPromise *reply)
{
    (void)reply;
    if (r->calls.connected && !r->told)
        r->calls.connected(r->calls.ctx);
}

static void connection_changed(GstElement *bin, GParamSpec *spec, rtc *r)
{
    int state;
    (void)spec;
    g_object_get(bin, "connection-state", &state, NULL);
    if (state == STATE_CONNECTED && !atomic_exchange(&r->connected, true)) {
        atomic_store(&r->heard_us, g_get_monotonic_time());
        post_main(r, on_connected, NULL);
    }
    if (state == STATE_FAILED || state == STATE_CLOSED) {
        atomic_store(&r->connected, false);
        post_main(r, state == STATE_FAILED ? on_failed : on_closed, NULL);
    }
}

/* ---- offer and answer ------------------------------------------------------------------------ */

/* The answer goes out with all its candidates, or with those there are after a while. */
static void answer_if_ready(rtc *r)
{
    int gathering;
    description *d = NULL;
    if (!r->described_us || r->answered)
        return;
    g_object_get(r->rtc, "ice-gathering-state", &gathering, NULL);
    if (gathering != GATHERING_COMPLETE && g_get_monotonic_time() - r->described_us < GATHER_MAX_US)
        return;
    g_object_get(r->rtc, "local-description", &d, NULL);
    if (!d)
        return;
    char *text = gst_sdp_message_as_text(d->sdp);
    g_boxed_free(g_type_from_name("GstWebRTCSessionDescription"), d);
    if (strstr(text, "a=candidate:")) { /* without one the peer could not come here */
        r->answered = true;
        r->calls.answered(r->calls.ctx, text, NULL);
    }
    g_free(text);
}

static void on_gathered(rtc *r, GstPromise *reply)
{
    (void)reply;
    answer_if_ready(r);
}

static void gathering_changed(GstElement *bin, GParamSpec *spec, rtc *r)
{
    (void)bin, (void)spec;
    post_main(r, on_gathered, NULL);
}

/* A step of webrtcbin's: `fn` is called on [main] with its reply. */
typedef struct step {
    rtc *r; /* held */
    void (*fn)(rtc *r, GstPromise *reply);
} step;

static void promised(GstPromise *promise, gpointer data)
{
    step *s = data;
    post_main(s->r, s->fn, promise);
}

static void free_step(gpointer data)
{
    step *s = data;
    drop(s->r);
    g_free(s);
}

static GstPromise *promise_to(rtc *r, void (*fn)(rtc *r, GstPromise *reply))
{
    step *s = g_new(step, 1);
    *s = (step){hold(r), fn};
    return gst_promise_new_with_change_func(promised, s, free_step);
}

/* Has the step been made? If not, the session has failed. */
static bool made(rtc *r, GstPromise *reply)
{
    GError *cause = NULL;
    bool replied = gst_promise_wait(reply) == GST_PROMISE_RESULT_REPLIED;
    const GstStructure *s = replied ? gst_promise_get_reply(reply) : NULL;
    if (s && gst_structure_has_field(s, "error"))
        gst_structure_get(s, "error", G_TYPE_ERROR, &cause, NULL);
    if (replied && !cause)
        return true;
    char *why = g_strdup_printf("the offer cannot be answered: %s",
                                cause ? cause->message : "it was interrupted");
    g_clear_error(&cause);
    fail(r, why);
    g_free(why);
    return false;
}

static void on_described(rtc *r, GstPromise *reply)
{
    if (!made(r, reply))
        return;
    r->described_us = g_get_monotonic_time();
    answer_if_ready(r);
}

static void on_answer(rtc *r, GstPromise *reply)
{
    GType type = g_type_from_name("GstWebRTCSessionDescription");
    description *d = NULL;
    if (!made(r, reply))
        return;
    if (!gst_structure_get(gst_promise_get_reply(reply), "answer", type, &d, NULL) || !d) {
        fail(r, "the offer cannot be answered");
        return;
    }
    g_signal_emit_by_name(r->rtc, "set-local-description", d, promise_to(r, on_described));
    g_boxed_free(type, d);
}

static void on_offered(rtc *r, GstPromise *reply)
{
    if (made(r, reply))
        g_signal_emit_by_name(r->rtc, "create-answer", NULL, promise_to(r, on_answer));
}

/* ---- the peer -------------------------------------------------------------------------------- */

/* A peer that is gone says nothing, and webrtcbin does not notice. */
static GstPadProbeReturn on_packet(GstPad *pad, GstPadProbeInfo *info, gpointer data)
{
    rtc *r = data;
    (void)pad, (void)info;
    atomic_store(&r->heard_us, g_get_monotonic_time());
    return GST_PAD_PROBE_OK;
}

static void element_added(GstBin *bin, GstBin *sub, GstElement *element, rtc *r)
{
    GstElementFactory *factory = gst_element_get_factory(element);
    (void)bin, (void)sub;
    if (!factory || strcmp(GST_OBJECT_NAME(factory), "nicesrc"))
        return;
    GstPad *pad = gst_element_get_static_pad(element, "src");
    gst_pad_add_probe(pad, GST_PAD_PROBE_TYPE_BUFFER | GST_PAD_PROBE_TYPE_BUFFER_LIST, on_packet,
                      hold(r), drop);
    gst_object_unref(pad);
}

/* A source that leaves may be all of the peer, or a track that is changed. */
static void source_left(GstElement *bin, guint session, guint ssrc, rtc *r)
{
    (void)bin, (void)session, (void)ssrc;
    atomic_store(&r->farewell, true);
}

/* It would ask for the next packet before that was sent. */
static void jitter_buffer_added(GstElement *bin, GstElement *buffer)
{
    (void)bin;
    g_object_set(buffer, "rtx-next-seqnum", FALSE, NULL);
}

/* ---- media ----------------------------------------------------------------------------------- */

static void pad_added(GstElement *bin, GstPad *pad, rtc *r)
{
    scope_error err;
    (void)bin;
    if (GST_PAD_DIRECTION(pad) == GST_PAD_SRC && !atomic_load(&r->closing) &&
        rtp_in_add(GST_BIN(r->pipeline), pad, r->choice.colour_id, r->pool, &r->in, &err))
        GST_ELEMENT_ERROR(bin, STREAM, DECODE, ("%s", err.text), (NULL));
}

/* Take the picture, with the extension that lets the peer measure its way here (without it a
 * browser stays at 400 kbit/s), and the one that tells its colours. */
static void add_receiver(rtc *r)
{
    const sdp_choice *c = &r->choice;
    GString *text = g_string_new(NULL);
    g_string_printf(text,
                    "application/x-rtp,media=video,encoding-name=%s,payload=%d,"
                    "clock-rate=90000",
                    c->video == CODEC_H264 ? "H264" : "VP8", c->video_pt);
    if (c->twcc_id)
        g_string_append_printf(text, ",extmap-%d=(string)" SDP_TWCC, c->twcc_id);
    if (c->colour_id)
        g_string_append_printf(text, ",extmap-%d=(string)" SDP_COLOUR, c->colour_id);
    GstCaps *caps = gst_caps_from_string(text->str);
    GObject *transceiver = NULL;
    g_signal_emit_by_name(r->rtc, "add-transceiver", DIRECTION_RECVONLY, caps, &transceiver);
    g_object_set(transceiver, "do-nack", TRUE, NULL);
    g_object_unref(transceiver);
    gst_caps_unref(caps);
    g_string_free(text, TRUE);
    connect_to(r->rtc, "pad-added", G_CALLBACK(pad_added), r);
}

static void want_key(void *ctx)
{
    rtc *r = ctx;
    atomic_fetch_add(&r->key_requests, 1);
    r->calls.need_key(r->calls.ctx);
}

/* Send a codec in the offer's section `line`; what takes its packets, or NULL. */
static GstElement *add_sender(rtc *r, int line, const rtp_out_options *o, scope_error *err)
{
    GstPad *src = NULL;
    GstElement *out = rtp_out_add(GST_BIN(r->pipeline), o, &src, want_key, r, err);
    if (!out)
        return NULL;
    char *name = g_strdup_printf("sink_%d", line);
    GstPad *sink = gst_element_request_pad_simple(r->rtc, name);
    g_free(name);
    GObject *transceiver = NULL;
    bool linked = sink && gst_pad_link(src, sink) == GST_PAD_LINK_OK;
    if (linked) {
        g_object_set(sink, "msid", MSID, NULL);
        g_object_get(sink, "transceiver", &transceiver, NULL);
        g_object_set(transceiver, "direction", DIRECTION_SENDONLY, "do-nack", TRUE, NULL);
        g_object_unref(transceiver);
    } else {
        error_set(err, SCOPE_EIO, "", "cannot send %s by WebRTC", codec_name(o->codec));
    }
    if (sink)
        gst_object_unref(sink);
    gst_object_unref(src);
    return linked ? out : NULL;
}

/* So that it is answered inactive. */
static void make_inactive(GstSDPMedia *m)
{
    static const char *const all[] = {"sendonly", "recvonly", "sendrecv", NULL};
    for (guint i = gst_sdp_media_attributes_len(m); i-- > 0;) {
        if (g_strv_contains(all, gst_sdp_media_get_attribute(m, i)->key))
            gst_sdp_media_remove_attribute(m, i);
    }
    gst_sdp_media_add_attribute(m, "inactive", "");
}

static int add_senders(rtc *r, GstSDPMessage *offer, bool sound, scope_error *err)
{
    const sdp_choice *c = &r->choice;
    for (guint i = 0; i < gst_sdp_message_medias_len(offer); i++) {
        GstSDPMedia *m = (GstSDPMedia *)gst_sdp_message_get_media(offer, i);
        bool video = !strcmp(gst_sdp_media_get_media(m), "video");
        rtp_out_options o = {c->audio, c->audio_pt, 0, 0, 0};
        if (video)
            o = (rtp_out_options){c->video, c->video_pt, c->twcc_id, c->playout_id, c->colour_id};
        if (video && !(r->video = add_sender(r, (int)i, &o, err)))
            return -1;
        if (!video && sound && !(r->sound = add_sender(r, (int)i, &o, err)))
            return -1;
        if (!video && !sound)
            make_inactive(m);
    }
    return 0;
}

/* ---- a session ------------------------------------------------------------------------------- */

static GstBusSyncReply on_message(GstBus *bus, GstMessage *message, gpointer data)
{
    rtc *r = data;
    (void)bus;
    if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_ERROR)
        post_main(r, on_broken, NULL);
    gst_message_unref(message);
    return GST_BUS_DROP;
}

static void estimate_rate(rtc *r)
{
    rtc_report report;
    int before = r->rate.bits;
    if (rtc_figures_report(r->rtc, &report) && rtc_rate_next(&r->rate, &report) != before)
        r->calls.bitrate(r->calls.ctx, r->rate.bits);
}

static gboolean on_tick(gpointer data)
{
    rtc *r = data;
    int64_t now = g_get_monotonic_time();
    if (!atomic_load(&r->heard_us)) {
        if (now - r->started_us > NEGOTIATE_MAX_US)
            fail(r, "the peer did not connect within 15 seconds");
        else
            answer_if_ready(r);
    } else if (now - atomic_load(&r->heard_us) > SILENCE_MAX_US) {
        fail(r, "the peer has been silent for 10 seconds");
    } else if (now - atomic_load(&r->heard_us) > LEFT_MAX_US && atomic_load(&r->farewell)) {
        fail(r, "the peer has left");
    } else if (r->video && atomic_load(&r->connected)) {
        estimate_rate(r);
        /* A peer that was not ready for the first packets may never ask. */
        if (!r->asked)
            want_key(r);
        r->asked = true;
    }
    return G_SOURCE_CONTINUE;
}

static int need_elements(scope_error *err)
{
    static const char *const all[] = {"webrtcbin",   "nicesrc",         "dtlssrtpenc",
                                      "dtlssrtpdec", "srtpenc",         "srtpdec",
                                      "rtpbin",      "rtpjitterbuffer", "rtprtxsend"};
    if (media_init(err))
        return -1;
    for (size_t i = 0; i < G_N_ELEMENTS(all); i++) {
        if (media_need(all[i], err))
            return -1;
    }
    return rtp_in_need(err) || rtp_out_need(err) ? -1 : 0;
}

static rtc *new_session(const rtc_options *o, const rtc_calls *calls, scope_error *err)
{
    GstElement *bin = need_elements(err) ? NULL : gst_element_factory_make("webrtcbin", NULL);
    if (!bin)
        return NULL;
    rtc *r = g_atomic_rc_box_new0(rtc);
    r->calls = *calls;
    r->started_us = g_get_monotonic_time();
    r->pipeline = gst_pipeline_new(NULL);
    r->rtc = bin;
    gst_util_set_object_arg(G_OBJECT(bin), "bundle-policy", "max-bundle");
    g_object_set(bin, "latency", LATENCY_MS, NULL);
    connect_to(r->pipeline, "deep-element-added", G_CALLBACK(element_added), r);
    gst_bin_add(GST_BIN(r->pipeline), bin);
    GstClock *clock = gst_system_clock_obtain();
    gst_pipeline_use_clock(GST_PIPELINE(r->pipeline), clock);
    gst_object_unref(clock);
    gst_element_set_base_time(r->pipeline, 0);
    gst_element_set_start_time(r->pipeline, GST_CLOCK_TIME_NONE);
    GstElement *rtpbin = gst_bin_get_by_name(GST_BIN(bin), "rtpbin");
    /* The name of our own is else that of the machine and its user. */
    char *name = g_strdup_printf("%08x%08x", g_random_int(), g_random_int());
    GstStructure *sdes =
        gst_structure_new("application/x-rtp-source-sdes", "cname", G_TYPE_STRING, name, NULL);
    g_object_set(rtpbin, "max-streams", STREAMS_MAX, "sdes", sdes, NULL);
    gst_structure_free(sdes);
    g_free(name);
    g_signal_connect(rtpbin, "new-jitterbuffer", G_CALLBACK(jitter_buffer_added), NULL);
    connect_to(rtpbin, "on-bye-ssrc", G_CALLBACK(source_left), r);
    gst_object_unref(rtpbin);
    connect_to(bin, "notify::ice-gathering-state", G_CALLBACK(gathering_changed), r);
    connect_to(bin, "notify::connection-state", G_CALLBACK(connection_changed), r);
    GstBus *bus = gst_element_get_bus(r->pipeline);
    gst_bus_set_sync_handler(bus, on_message, hold(r), drop);
    gst_object_unref(bus);
    rtc_network_set_up(r->rtc, o);
    r->tick = g_timeout_source_new(1000);
    g_source_set_callback(r->tick, on_tick, hold(r), drop);
    g_source_attach(r->tick, NULL);
    return r;
}

/* From here on the answer comes by itself. Takes `offer`. */
static int start(rtc *r, GstSDPMessage *offer, scope_error *err)
{
    description d = {SDP_OFFER, offer};
    int rc = 0;
    if (gst_element_set_state(r->pipeline, GST_STATE_PLAYING) == GST_STATE_CHANGE_FAILURE)
        rc = error_set(err, SCOPE_EIO, "", "WebRTC does not start");
    else
        g_signal_emit_by_name(r->rtc, "set-remote-description", &d, promise_to(r, on_offered));
    gst_sdp_message_free(offer);
    return rc;
}

/* The narrowed offer as a message, or NULL with *err. */
static GstSDPMessage *read_offer(const char *offer, enum codec prefer, sdp_choice *choice,
                                 scope_error *err)
{
    GstSDPMessage *message = NULL;
    char *text = sdp_narrow(offer, prefer, choice, err);
    if (text && gst_sdp_message_new_from_text(text, &message) != GST_SDP_OK) {
        error_set(err, SCOPE_EINVAL, "offer", "the offer cannot be read as SDP");
        message = NULL;
    }
    g_free(text);
    return message;
}

/* What publishers and viewers have in common: the session, and the narrowed offer in *message; NULL
 * with *err. */
static rtc *begin(const char *offer, enum codec prefer, bool viewer, const rtc_options *o,
                  const rtc_calls *calls, GstSDPMessage **message, scope_error *err)
{
    sdp_choice choice;
    *message = read_offer(offer, prefer, &choice, err);
    if (!*message)
        return NULL;
    rtc *r = NULL;
    if (viewer && !choice.receives)
        error_set(err, SCOPE_EINVAL, "offer",
                  "the offer does not receive a picture; a viewer offers a=recvonly");
    else if (!viewer && !choice.sends)
        error_set(err, SCOPE_EINVAL, "offer",
                  "the offer does not send its picture; a publisher offers a=sendonly");
    else
        r = new_session(o, calls, err);
    if (r)
        r->choice = choice;
    else
        gst_sdp_message_free(*message);
    return r;
}

/* start, or nothing is left. */
static rtc *started(rtc *r, GstSDPMessage *message, scope_error *err)
{
    if (!start(r, message, err))
        return r;
    rtc_close(r);
    return NULL;
}

rtc *rtc_publish(const char *offer, const rtc_options *o, frame_pool *pool, const rtc_calls *calls,
                 scope_error *err)
{
    GstSDPMessage *message;
    rtc *r = begin(offer, 0, false, o, calls, &message, err);
    if (!r)
        return NULL;
    r->pool = pool;
    r->in = (rtp_in_calls){calls->ctx, calls->picture, calls->sound};
    add_receiver(r);
    return started(r, message, err);
}

rtc *rtc_view(const char *offer, const rtc_options *o, const rtc_calls *calls, enum codec *video,
              enum codec *audio, scope_error *err)
{
    GstSDPMessage *message;
    rtc *r = begin(offer, *video, true, o, calls, &message, err);
    if (!r)
        return NULL;
    bool sound = *audio && r->choice.audio;
    if (add_senders(r, message, sound, err)) {
        gst_sdp_message_free(message);
        rtc_close(r);
        return NULL;
    }
    *video = r->choice.video;
    *audio = sound ? r->choice.audio : 0;
    return started(r, message, err);
}

static void stop_element(const GValue *element, gpointer data)
{
    (void)data;
    gst_element_set_state(g_value_get_object(element), GST_STATE_NULL);
}

/* webrtcbin's own thread may add elements, and start them, while it is being stopped. */
static void stop(GstElement *pipeline)
{
    gst_element_set_state(pipeline, GST_STATE_NULL);
    GstIterator *all = gst_bin_iterate_recurse(GST_BIN(pipeline));
    while (gst_iterator_foreach(all, stop_element, NULL) == GST_ITERATOR_RESYNC)
        gst_iterator_resync(all);
    gst_iterator_free(all);
}

void rtc_close(rtc *r)
{
    if (!r)
        return;
    atomic_store(&r->closing, true);
    atomic_store(&r->connected, false);
    g_source_destroy(r->tick);
    g_source_unref(r->tick);
    stop(r->pipeline);
    GstBus *bus = gst_element_get_bus(r->pipeline);
    gst_bus_set_sync_handler(bus, NULL, NULL, NULL);
    gst_object_unref(bus);
    gst_object_unref(r->pipeline);
    r->pipeline = r->rtc = r->video = r->sound = NULL;
    drop(r);
}

bool rtc_send(rtc *r, packet *p)
{
    GstElement *out = p->codec == CODEC_OPUS        ? r->sound
                      : p->codec == r->choice.video ? r->video
                                                    : NULL;
    return out && atomic_load(&r->connected) && rtp_out_push(out, p);
}

void rtc_stats_now(rtc *r, rtc_stats *stats)
{
    rtc_figures_stats(r->rtc, stats);
    stats->key_requests = atomic_load(&r->key_requests);
}
