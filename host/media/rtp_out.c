/* rtp_out.c - packets of a codec into RTP, for one viewer; see rtp_out.h. Under rtc.
 *
 * Must stay true: a packet's bytes are shared by all viewers and never copied here.
 */
#include "rtp_out.h"
#include "elements.h"
#include "sdp.h"

#include <gst/app/gstappsrc.h>
#include <gst/rtp/gstrtpbuffer.h>
#include <gst/rtp/gstrtphdrext.h>
#include <gst/video/video.h>

enum {
    MTU = 1200,
    WAITING_MAX = 25, /* packets; more are not taken */
};

typedef struct form {
    enum codec codec;
    const char *media, *name, *in, *pay;
    int rate;
} form;

static const form forms[] = {
    {CODEC_VP8, "video", "VP8", "video/x-vp8", "rtpvp8pay picture-id-mode=15-bit", 90000},
    {CODEC_H264, "video", "H264",
     "video/x-h264,stream-format=byte-stream,alignment=au,profile=constrained-baseline",
     "rtph264pay aggregate-mode=zero-latency config-interval=-1", 90000},
    {CODEC_OPUS, "audio", "OPUS", "audio/x-opus,channel-mapping-family=0,channels=2,rate=48000",
     "rtpopuspay", 48000},
};

static const form *form_of(enum codec codec)
{
    for (size_t i = 0; i < G_N_ELEMENTS(forms); i++) {
        if (forms[i].codec == codec)
            return &forms[i];
    }
    return NULL;
}

int rtp_out_need(scope_error *err)
{
    static const char *const all[] = {"appsrc", "rtpvp8pay", "rtph264pay", "rtpopuspay"};
    for (size_t i = 0; i < G_N_ELEMENTS(all); i++) {
        if (media_need(all[i], err))
            return -1;
    }
    return 0;
}

typedef struct asker {
    void (*want_key)(void *ctx);
    void *ctx; /* borrowed while the pipeline works */
} asker;

/* A picture loss indication of the peer comes upstream. */
static GstPadProbeReturn on_event(GstPad *pad, GstPadProbeInfo *info, gpointer data)
{
    const asker *a = data;
    (void)pad;
    if (!gst_video_event_is_force_key_unit(GST_PAD_PROBE_INFO_EVENT(info)))
        return GST_PAD_PROBE_OK;
    a->want_key(a->ctx);
    return GST_PAD_PROBE_DROP;
}

static void number_packets(GstElement *pay, int id)
{
    GstRTPHeaderExtension *ext = gst_rtp_header_extension_create_from_uri(SDP_TWCC);
    if (!ext)
        return; /* then there is no bandwidth estimate */
    gst_rtp_header_extension_set_id(ext, (guint)id);
    g_signal_emit_by_name(pay, "add-extension", ext);
    gst_object_unref(ext);
}

/* What packets are marked with: numbers of extensions, 0: not at all. */
typedef struct marks {
    guint8 playout, colour;
} marks;

static gboolean mark_packet(GstBuffer **packet, guint i, gpointer data)
{
    /* 12 bits each: the least and the longest that a picture may be held back, in 10 ms */
    static const guint8 at_once[3] = {0};
    /* Primaries, transfer and matrix as in H.273; limited range. As in encoder.c: what is unmarked
     * browsers take for BT.709. */
    static const guint8 bt601[4] = {6, 6, 6, 1 << 4};
    const marks *m = data;
    GstRTPBuffer rtp = GST_RTP_BUFFER_INIT;
    (void)i;
    *packet = gst_buffer_make_writable(*packet);
    if (!gst_rtp_buffer_map(*packet, GST_MAP_READWRITE, &rtp))
        return TRUE;
    if (m->playout)
        gst_rtp_buffer_add_extension_onebyte_header(&rtp, m->playout, at_once, sizeof at_once);
    if (m->colour && gst_rtp_buffer_get_marker(&rtp)) /* the last packet of a picture tells it */
        gst_rtp_buffer_add_extension_onebyte_header(&rtp, m->colour, bt601, sizeof bt601);
    gst_rtp_buffer_unmap(&rtp);
    return TRUE;
}

static GstPadProbeReturn on_packets(GstPad *pad, GstPadProbeInfo *info, gpointer data)
{
    (void)pad;
    if (info->type & GST_PAD_PROBE_TYPE_BUFFER_LIST) {
        GstBufferList *list = gst_buffer_list_make_writable(GST_PAD_PROBE_INFO_BUFFER_LIST(info));
        info->data = list;
        gst_buffer_list_foreach(list, mark_packet, data);
    } else {
        GstBuffer *packet = GST_PAD_PROBE_INFO_BUFFER(info);
        mark_packet(&packet, 0, data);
        info->data = packet;
    }
    return GST_PAD_PROBE_OK;
}

/* Browsers else hold pictures back to smooth their rhythm, and guess their colours. */
static void mark_packets(GstElement *pay, const rtp_out_options *o)
{
    marks *m = g_new(marks, 1);
    *m = (marks){(guint8)o->playout_id, (guint8)o->colour_id};
    GstPad *pad = gst_element_get_static_pad(pay, "src");
    gst_pad_add_probe(pad, GST_PAD_PROBE_TYPE_BUFFER | GST_PAD_PROBE_TYPE_BUFFER_LIST, on_packets,
                      m, g_free);
    gst_object_unref(pad);
}

/* For caps: ",extmap-4=(string)URI"; for g_free. */
static char *extensions_of(const rtp_out_options *o)
{
    GString *to = g_string_new(NULL);
    if (o->twcc_id)
        g_string_append_printf(to, ",extmap-%d=(string)" SDP_TWCC, o->twcc_id);
    if (o->playout_id)
        g_string_append_printf(to, ",extmap-%d=(string)" SDP_PLAYOUT, o->playout_id);
    if (o->colour_id)
        g_string_append_printf(to, ",extmap-%d=(string)" SDP_COLOUR, o->colour_id);
    return g_string_free(to, FALSE);
}

GstElement *rtp_out_add(GstBin *bin, const rtp_out_options *o, GstPad **src,
                        void (*want_key)(void *ctx), void *ctx, scope_error *err)
{
    const form *f = form_of(o->codec);
    guint ssrc = g_random_int();
    GError *cause = NULL;
    char *extensions = extensions_of(o);
    char *text = g_strdup_printf(
        "appsrc name=%s is-live=true format=time max-bytes=0 max-buffers=%d "
        "leaky-type=downstream caps=\"%s\" ! %s name=pay pt=%d ssrc=%u mtu=%d ! "
        "capsfilter caps=\"application/x-rtp,media=%s,encoding-name=%s,payload=%d,clock-rate=%d,"
        "ssrc=(uint)%u%s\"",
        f->media, 2 * WAITING_MAX, f->in, f->pay, o->pt, ssrc, MTU, f->media, f->name, o->pt,
        f->rate, ssrc, extensions);
    GstElement *part = gst_parse_bin_from_description(text, TRUE, &cause);
    g_free(text);
    g_free(extensions);
    if (!part) {
        error_set(err, SCOPE_EIO, "", "cannot send %s: %s", codec_name(o->codec), cause->message);
        g_error_free(cause);
        return NULL;
    }
    GstElement *pay = gst_bin_get_by_name(GST_BIN(part), "pay"),
               *from = gst_bin_get_by_name(GST_BIN(part), f->media);
    if (o->twcc_id)
        number_packets(pay, o->twcc_id);
    if (o->playout_id || o->colour_id)
        mark_packets(pay, o);
    GstPad *pad = gst_element_get_static_pad(from, "src");
    asker *a = g_new(asker, 1);
    *a = (asker){want_key, ctx};
    gst_pad_add_probe(pad, GST_PAD_PROBE_TYPE_EVENT_UPSTREAM, on_event, a, g_free);
    gst_object_unref(pad);
    gst_object_unref(pay);
    gst_object_unref(from); /* the bin holds it */
    gst_bin_add(bin, part);
    *src = gst_element_get_static_pad(part, "src");
    return from;
}

bool rtp_out_push(GstElement *out, packet *p)
{
    gsize size;
    const void *bytes = g_bytes_get_data(p->bytes, &size);
    if (gst_app_src_get_current_level_buffers(GST_APP_SRC(out)) >= WAITING_MAX)
        return false;
    GstBuffer *b =
        gst_buffer_new_wrapped_full(GST_MEMORY_FLAG_READONLY, (gpointer)bytes, size, 0, size,
                                    g_bytes_ref(p->bytes), (GDestroyNotify)g_bytes_unref);
    GST_BUFFER_PTS(b) = (GstClockTime)p->pts_us * 1000;
    if (p->duration_us)
        GST_BUFFER_DURATION(b) = (GstClockTime)p->duration_us * 1000;
    if (!p->key)
        GST_BUFFER_FLAG_SET(b, GST_BUFFER_FLAG_DELTA_UNIT);
    return gst_app_src_push_buffer(GST_APP_SRC(out), b) == GST_FLOW_OK;
}
