/* rtp_in.c - what a peer sends, from RTP into frames and sound; see rtp_in.h. Under rtc.
 *
 * Must stay true: nothing here waits, and a broken or oversized picture costs that picture only.
 */
#include "rtp_in.h"
#include "elements.h"
#include "yuv.h"

#include <gst/app/gstappsink.h>
#include <gst/rtp/gstrtpbuffer.h>
#include <stdatomic.h>
#include <string.h>

enum {
    PIXELS_MAX = 4096 * 4096, /* larger pictures are dropped */
    LATE_MAX_US = 1000000,
    FULL = 1 << 8,
};

typedef struct unpacker {      /* counted by g_atomic_rc_box */
    frame_pool *pool;          /* borrowed while the pipeline works */
    const rtp_in_calls *calls; /* borrowed likewise */
    GstPad *parsed;            /* owned: where H.264 says its colours, if it does; or NULL */
    int colour_id;             /* of the extension that says them, 0: none */
    atomic_int said;           /* by it: a GstVideoColorMatrix, FULL with it for full range; or 0 */
} unpacker;

static const char *h264_decoder(void)
{
    return media_has("avdec_h264") ? "avdec_h264 max-threads=1" : "openh264dec";
}

int rtp_in_need(scope_error *err)
{
    static const char *const all[] = {"rtpvp8depay",   "vp8dec",  "rtph264depay", "h264parse",
                                      "rtpopusdepay",  "opusdec", "videoconvert", "audioconvert",
                                      "audioresample", "appsink"};
    for (size_t i = 0; i < G_N_ELEMENTS(all); i++) {
        if (media_need(all[i], err))
            return -1;
    }
    return media_has("openh264dec") ? 0 : media_need("avdec_h264", err);
}

/* When a sample was captured as far as we know: when its first packet came, which the jitter buffer
 * has smoothed; or now. Pipelines of rtc run on the monotonic clock with a base time of 0. */
static GstClockTime arrival_of(GstSample *sample)
{
    GstClockTime now = (GstClockTime)g_get_monotonic_time() * 1000,
                 pts = GST_BUFFER_PTS(gst_sample_get_buffer(sample));
    if (GST_CLOCK_TIME_IS_VALID(pts))
        pts = gst_segment_to_running_time(gst_sample_get_segment(sample), GST_FORMAT_TIME, pts);
    bool sane = GST_CLOCK_TIME_IS_VALID(pts) && pts <= now && now - pts < LATE_MAX_US * 1000ULL;
    return sane ? pts : now;
}

/* The last packet of a key frame may tell the colours: H.273's primaries, transfer and matrix, and
 * the range (1: limited, 2: full) in two bits of the fourth byte. */
static GstPadProbeReturn on_packet(GstPad *pad, GstPadProbeInfo *info, gpointer data)
{
    unpacker *u = data;
    GstRTPBuffer rtp = GST_RTP_BUFFER_INIT;
    gpointer told;
    guint size;
    (void)pad;
    if (!gst_rtp_buffer_map(GST_PAD_PROBE_INFO_BUFFER(info), GST_MAP_READ, &rtp))
        return GST_PAD_PROBE_OK;
    if (gst_rtp_buffer_get_extension_onebyte_header(&rtp, (guint8)u->colour_id, 0, &told, &size) &&
        size >= 4) {
        const guint8 *b = told;
        int matrix = (int)gst_video_color_matrix_from_iso(b[2]);
        bool usable = matrix == GST_VIDEO_COLOR_MATRIX_BT601 ||
                      matrix == GST_VIDEO_COLOR_MATRIX_BT709 ||
                      matrix == GST_VIDEO_COLOR_MATRIX_BT2020;
        atomic_store(&u->said, usable ? matrix | (b[3] >> 4 == 2 ? FULL : 0) : 0);
    }
    gst_rtp_buffer_unmap(&rtp);
    return GST_PAD_PROBE_OK;
}

/* What a peer does not say of its colours is BT.601 at every size; GStreamer would guess BT.709 of
 * a large picture. */
static bool read_info(unpacker *u, GstSample *sample, GstVideoInfo *info)
{
    if (!gst_video_info_from_caps(info, gst_sample_get_caps(sample)) ||
        (int64_t)info->width * info->height > PIXELS_MAX)
        return false;
    GstCaps *caps = u->parsed ? gst_pad_get_current_caps(u->parsed) : NULL;
    bool coded = caps && gst_structure_has_field(gst_caps_get_structure(caps, 0), "colorimetry");
    int said = atomic_load(&u->said);
    if (caps)
        gst_caps_unref(caps);
    if (coded)
        return true;
    info->colorimetry.matrix =
        said ? (GstVideoColorMatrix)(said & ~FULL) : GST_VIDEO_COLOR_MATRIX_BT601;
    if (said)
        info->colorimetry.range =
            said & FULL ? GST_VIDEO_COLOR_RANGE_0_255 : GST_VIDEO_COLOR_RANGE_16_235;
    return true;
}

static GstFlowReturn on_picture(GstAppSink *sink, gpointer data)
{
    unpacker *u = data;
    GstSample *sample = gst_app_sink_pull_sample(sink);
    GstVideoInfo info;
    GstVideoFrame from;
    if (!sample)
        return GST_FLOW_EOS;
    if (read_info(u, sample, &info) &&
        gst_video_frame_map(&from, &info, gst_sample_get_buffer(sample), GST_MAP_READ)) {
        scope_error err;
        scope_video shape = {.t = 1, .h = info.height, .w = info.width, .c = 3, .dtype = SCOPE_U8};
        frame *f = frame_new(u->pool, &shape, &err);
        if (f) { /* without memory for it, this picture is dropped */
            yuv_to_rgb(&from, &f->v);
            f->v.pts_us = (int64_t)(arrival_of(sample) / 1000);
            f->duration_us = 0;
            u->calls->picture(u->calls->ctx, f);
            frame_unref(f);
        }
        gst_video_frame_unmap(&from);
    }
    gst_sample_unref(sample);
    return GST_FLOW_OK;
}

static GstFlowReturn on_sound(GstAppSink *sink, gpointer data)
{
    unpacker *u = data;
    GstSample *sample = gst_app_sink_pull_sample(sink);
    if (!sample)
        return GST_FLOW_EOS;
    /* A copy of the head only: the sample's buffer may be in use elsewhere. */
    GstBuffer *sound = gst_buffer_copy(gst_sample_get_buffer(sample));
    GST_BUFFER_PTS(sound) = arrival_of(sample);
    GST_BUFFER_DTS(sound) = GST_CLOCK_TIME_NONE;
    u->calls->sound(u->calls->ctx, sound);
    gst_sample_unref(sample);
    return GST_FLOW_OK;
}

/* The elements for these caps, for g_free. */
static char *describe(const GstStructure *s)
{
    const char *media = gst_structure_get_string(s, "media"),
               *codec = gst_structure_get_string(s, "encoding-name");
    const char *picture = "videoconvert ! video/x-raw,format={ " YUV_FORMATS " } ! "
                          "appsink name=picture sync=false async=false max-buffers=1";
    if (!g_strcmp0(media, "video") && !g_strcmp0(codec, "VP8"))
        return g_strdup_printf("rtpvp8depay request-keyframe=true wait-for-keyframe=true ! "
                               "vp8dec threads=1 qos=false ! %s",
                               picture);
    if (!g_strcmp0(media, "video") && !g_strcmp0(codec, "H264"))
        return g_strdup_printf("rtph264depay request-keyframe=true wait-for-keyframe=true ! "
                               "h264parse name=parse ! %s qos=false ! %s",
                               h264_decoder(), picture);
    if (!g_strcmp0(media, "audio") && codec && !g_ascii_strcasecmp(codec, "OPUS"))
        return g_strdup("rtpopusdepay ! opusdec plc=true use-inband-fec=true ! audioconvert ! "
                        "audioresample ! audio/x-raw,format=S16LE,rate=48000,channels=2,"
                        "layout=interleaved ! appsink name=sound sync=false async=false "
                        "max-buffers=1");
    return g_strdup("fakesink sync=false async=false");
}

static void unpacker_clear(gpointer data)
{
    g_clear_object(&((unpacker *)data)->parsed);
}

static void unpacker_drop(gpointer u)
{
    g_atomic_rc_box_release_full(u, unpacker_clear);
}

static void listen_to(GstBin *part, const char *name,
                      GstFlowReturn (*fn)(GstAppSink *sink, gpointer data), unpacker *u)
{
    GstElement *sink = gst_bin_get_by_name(part, name);
    GstAppSinkCallbacks calls = {.new_sample = fn};
    if (!sink)
        return;
    gst_app_sink_set_callbacks(GST_APP_SINK(sink), &calls, g_atomic_rc_box_acquire(u),
                               unpacker_drop);
    gst_object_unref(sink);
}

/* Have the pictures and the sound of a part handed on. */
static void listen_to_all(GstBin *part, GstPad *pad, const unpacker *made)
{
    unpacker *u = g_atomic_rc_box_new0(unpacker);
    GstElement *parse = gst_bin_get_by_name(part, "parse");
    u->pool = made->pool;
    u->calls = made->calls;
    u->colour_id = made->colour_id;
    u->parsed = parse ? gst_element_get_static_pad(parse, "src") : NULL;
    g_clear_object(&parse);
    listen_to(part, "picture", on_picture, u);
    listen_to(part, "sound", on_sound, u);
    if (u->colour_id)
        gst_pad_add_probe(pad, GST_PAD_PROBE_TYPE_BUFFER, on_packet, g_atomic_rc_box_acquire(u),
                          unpacker_drop);
    unpacker_drop(u);
}

int rtp_in_add(GstBin *bin, GstPad *pad, int colour_id, frame_pool *pool, const rtp_in_calls *calls,
               scope_error *err)
{
    GstCaps *caps = gst_pad_get_current_caps(pad);
    if (!caps)
        caps = gst_pad_query_caps(pad, NULL);
    char *text = gst_caps_is_empty(caps) || gst_caps_is_any(caps)
                     ? g_strdup("fakesink sync=false async=false")
                     : describe(gst_caps_get_structure(caps, 0));
    gst_caps_unref(caps);
    GError *cause = NULL;
    GstElement *part = gst_parse_bin_from_description(text, TRUE, &cause);
    g_free(text);
    if (!part) {
        int rc = error_set(err, SCOPE_EIO, "", "cannot decode what is sent: %s", cause->message);
        g_error_free(cause);
        return rc;
    }
    listen_to_all(GST_BIN(part), pad,
                  &(unpacker){.pool = pool, .calls = calls, .colour_id = colour_id});
    gst_bin_add(bin, part);
    gst_element_sync_state_with_parent(part);
    GstPad *in = gst_element_get_static_pad(part, "sink");
    GstPadLinkReturn linked = gst_pad_link(pad, in);
    gst_object_unref(in);
    if (GST_PAD_LINK_FAILED(linked))
        return error_set(err, SCOPE_EIO, "", "cannot decode what is sent: its format does not fit");
    return 0;
}
