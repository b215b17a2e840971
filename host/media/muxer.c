/* muxer.c - one pipeline: two appsrcs, encoders, a muxer, a sink.
 *
 *   appsrc (I420) ! H.264 ! h264parse ! queue ! mux ! sink     sound: appsrc ! AAC ! queue ! mux
 *
 * Must stay true: no call waits longer than it says. The queues before the muxer hold more than the
 * time by which sound and picture may be apart, which the outlet bounds, so neither waits for the
 * other for ever. Nothing goes by the clock: no source is live, no sink synchronises.
 */
#include "muxer.h"
#include "elements.h"
#include "yuv.h"

#include <gst/app/gstappsrc.h>
#include <gst/video/video.h>
#include <malloc.h>
#include <string.h>

enum {
    RAW_FRAMES = 2,
    KEYFRAME_US = 2000000,
    LARGE_PIXELS = 1000000, /* beyond it encoding takes more than one thread */
    SOUND_BITRATE = 128000,
    FRAGMENT_MS = 4000, /* what a kill costs; GStreamer 1.22 loses 8 KB of memory for each */
};

struct muxer {
    enum muxer_kind kind;
    char *about; /* owned */
    GstElement *pipeline;
    GstBus *bus;
    GstAppSrc *video, *sound; /* owned; sound NULL without */
    GstVideoInfo info;
    int64_t key_us; /* when the next key frame is due */
    gint pieces;    /* atomic */
    gint64 bytes;   /* atomic */
};

#define QUEUE " ! queue max-size-buffers=0 max-size-bytes=0 max-size-time=5000000000"

/* By kind: what is behind the encoders, and what its pads are called; what it takes; how it is put
 * in errors; how many pieces must have come to the end until it is plain that there is somebody. */
static const struct {
    const char *tail, *video_pad, *sound_pad;
    const char *target, *doing;
    const char *needed[3];
    int works;
} kinds[] = {
    [MUXER_MP4] = {"mp4mux name=mux fragment-mode=first-moov-then-finalise ! filesink name=end",
                   "",
                   "",
                   "location",
                   "write",
                   {"mp4mux"},
                   1},
    [MUXER_RTMP] = {"flvmux name=mux streamable=true ! rtmp2sink name=end sync=false "
                    "async-connect=true",
                    "",
                    "",
                    "location",
                    "send to",
                    {"flvmux", "rtmp2sink"},
                    12}, /* it takes some headers before it is connected */
    [MUXER_HLS] = {"hlssink2 name=end target-duration=2 playlist-length=6 max-files=10 "
                   "send-keyframe-requests=false",
                   "video",
                   "audio",
                   NULL,
                   "write",
                   {"hlssink2", "mpegtsmux"},
                   1},
    [MUXER_SRT] = {"mpegtsmux name=mux alignment=7 ! srtsink name=end sync=false "
                   "wait-for-connection=false auto-reconnect=false",
                   "",
                   "",
                   "uri",
                   "send to",
                   {"mpegtsmux", "srtsink"},
                   2},
    [MUXER_V4L2] = {"v4l2sink name=end sync=false", "", "", "device", "write", {"v4l2sink"}, 2},
};

/* ---- building -------------------------------------------------------------------------------- */

int muxer_can(enum muxer_kind kind, scope_error *err)
{
    static const char *const coded[] = {"h264parse", "avenc_aac", "aacparse", "audioconvert"};
    int status = media_init(err);
    for (int i = 0; !status && kinds[kind].needed[i]; i++)
        status = media_need(kinds[kind].needed[i], err);
    if (kind == MUXER_V4L2)
        return status ? status : media_need("videoconvert", err);
    for (size_t i = 0; !status && i < G_N_ELEMENTS(coded); i++)
        status = media_need(coded[i], err);
    return status || media_has("openh264enc") ? status : media_need("x264enc", err);
}

static int bitrate_of(const muxer_options *o)
{
    double rate = o->bitrate ? o->bitrate : 0.19 * o->w * o->h * (o->fps ? o->fps : 30);
    return (int)CLAMP(rate, 100e3, 80e6);
}

/* A file goes by quality. */
static char *encoder(const muxer_options *o)
{
    int rate = bitrate_of(o), threads = o->w * o->h > LARGE_PIXELS ? 4 : 1;
    bool file = o->kind == MUXER_MP4, open = o->h264 && !strcmp(o->h264, "openh264enc");
    if (!media_has("x264enc") || (open && media_has("openh264enc")))
        return g_strdup_printf("openh264enc complexity=low gop-size=600 multi-thread=%d "
                               "rate-control=bitrate bitrate=%d",
                               threads, file ? rate * 2 : rate);
    if (file)
        return g_strdup_printf("x264enc tune=zerolatency speed-preset=veryfast threads=%d "
                               "key-int-max=600 pass=qual quantizer=21",
                               threads);
    return g_strdup_printf("x264enc tune=zerolatency speed-preset=superfast threads=%d "
                           "key-int-max=600 pass=cbr bitrate=%d vbv-buf-capacity=1000",
                           threads, rate / 1000);
}

static char *describe(const muxer_options *o)
{
    if (o->kind == MUXER_V4L2)
        return g_strdup_printf("appsrc name=video format=time ! videoconvert ! %s",
                               kinds[o->kind].tail);
    const char *mux = o->kind == MUXER_HLS ? "end" : "mux";
    char *coder = encoder(o);
    char *sound =
        o->sound ? g_strdup_printf("  appsrc name=sound format=time max-bytes=0 ! audioconvert ! "
                                   "avenc_aac bitrate=%d ! aacparse" QUEUE " ! %s.%s",
                                   SOUND_BITRATE, mux, kinds[o->kind].sound_pad)
                 : g_strdup("");
    char *line =
        g_strdup_printf("appsrc name=video format=time ! %s ! h264parse config-interval=-1" QUEUE
                        " ! %s.%s  %s  %s",
                        coder, mux, kinds[o->kind].video_pad, kinds[o->kind].tail, sound);
    g_free(sound);
    g_free(coder);
    return line;
}

/* [GStreamer thread] */
static GstPadProbeReturn on_piece(GstPad *pad, GstPadProbeInfo *info, gpointer user)
{
    (void)pad;
    muxer *m = user;
    gsize n = info->type & GST_PAD_PROBE_TYPE_BUFFER_LIST
                  ? gst_buffer_list_calculate_size(gst_pad_probe_info_get_buffer_list(info))
                  : gst_buffer_get_size(gst_pad_probe_info_get_buffer(info));
    g_atomic_int_inc(&m->pieces);
    __atomic_add_fetch(&m->bytes, (gint64)n, __ATOMIC_RELAXED);
    return GST_PAD_PROBE_OK;
}

static gboolean count_pad(GstElement *end, GstPad *pad, gpointer user)
{
    (void)end;
    gst_pad_add_probe(pad, GST_PAD_PROBE_TYPE_BUFFER | GST_PAD_PROBE_TYPE_BUFFER_LIST, on_piece,
                      user, NULL);
    return TRUE;
}

static void set_target(muxer *m, const muxer_options *o)
{
    GstElement *end = gst_bin_get_by_name(GST_BIN(m->pipeline), "end");
    if (o->kind == MUXER_HLS) {
        char *list = g_build_filename(o->target, "index.m3u8", NULL);
        char *pieces = g_strdup_printf("%s/s%lld-%%05d.ts", o->target,
                                       (long long)(g_get_real_time() / 1000000));
        g_object_set(end, "playlist-location", list, "location", pieces, NULL);
        g_free(list);
        g_free(pieces);
    } else {
        g_object_set(end, kinds[o->kind].target, o->target, NULL);
    }
    gst_element_foreach_sink_pad(end, count_pad, m);
    gst_object_unref(end);
    if (o->kind != MUXER_MP4)
        return;
    GstElement *mux = gst_bin_get_by_name(GST_BIN(m->pipeline), "mux");
    GstPad *pad = gst_element_get_static_pad(mux, "video_0");
    g_object_set(pad, "trak-timescale", 90000, NULL); /* times that no frame rate rounds */
    g_object_set(mux, "fragment-duration", FRAGMENT_MS, NULL);
    gst_object_unref(pad);
    gst_object_unref(mux);
}

static void set_caps(muxer *m, const muxer_options *o)
{
    gst_video_info_set_format(&m->info, GST_VIDEO_FORMAT_I420, (guint)(o->w & ~1),
                              (guint)(o->h & ~1));
    m->info.fps_n = o->fps ? o->fps : 30;
    m->info.fps_d = 1;
    GstCaps *caps = gst_video_info_to_caps(&m->info);
    gst_app_src_set_caps(m->video, caps);
    gst_caps_unref(caps);
    if (!m->sound)
        return;
    caps = gst_caps_from_string("audio/x-raw,format=S16LE,layout=interleaved,rate=48000,channels=2,"
                                "channel-mask=(bitmask)3");
    gst_app_src_set_caps(m->sound, caps);
    gst_caps_unref(caps);
}

muxer *muxer_open(const muxer_options *o, scope_error *err)
{
    if (muxer_can(o->kind, err))
        return NULL;
    char *line = describe(o);
    GError *cause = NULL;
    GstElement *pipeline = gst_parse_launch(line, &cause);
    g_free(line);
    if (cause) {
        error_set(err, SCOPE_EIO, "", "cannot %s '%s': %s", kinds[o->kind].doing, o->about,
                  cause->message);
        g_error_free(cause);
        if (pipeline)
            gst_object_unref(pipeline);
        return NULL;
    }
    muxer *m = g_new0(muxer, 1);
    m->kind = o->kind;
    m->about = g_strdup(o->about);
    m->pipeline = pipeline;
    m->bus = gst_element_get_bus(m->pipeline);
    m->video = GST_APP_SRC(gst_bin_get_by_name(GST_BIN(m->pipeline), "video"));
    m->sound = (GstAppSrc *)gst_bin_get_by_name(GST_BIN(m->pipeline), "sound");
    set_caps(m, o);
    set_target(m, o);
    if (gst_element_set_state(m->pipeline, GST_STATE_PLAYING) != GST_STATE_CHANGE_FAILURE)
        return m;
    if (!media_bus_failed(m->bus, kinds[m->kind].doing, m->about, err))
        error_set(err, SCOPE_EIO, "", "cannot %s '%s'", kinds[m->kind].doing, m->about);
    muxer_close(m);
    return NULL;
}

void muxer_close(muxer *m)
{
    if (!m)
        return;
    gst_element_set_state(m->pipeline, GST_STATE_NULL);
    gst_object_unref(m->video);
    if (m->sound)
        gst_object_unref(m->sound);
    gst_object_unref(m->bus);
    gst_object_unref(m->pipeline);
    g_free(m->about);
    g_free(m);
    malloc_trim(0); /* the heap of a pipeline's threads is kept otherwise, one after another */
}

/* ---- working --------------------------------------------------------------------------------- */

int muxer_ready(muxer *m, int wait_ms, scope_error *err)
{
    bool full = gst_app_src_get_current_level_buffers(m->video) >= RAW_FRAMES;
    GstMessage *error =
        gst_bus_timed_pop_filtered(m->bus, full ? wait_ms * GST_MSECOND : 0, GST_MESSAGE_ERROR);
    if (error) { /* back to where media_bus_failed finds it */
        gst_bus_post(m->bus, error);
        media_bus_failed(m->bus, kinds[m->kind].doing, m->about, err);
        return SCOPE_EIO;
    }
    return gst_app_src_get_current_level_buffers(m->video) < RAW_FRAMES;
}

void muxer_frame(muxer *m, const frame *f, int64_t at_us)
{
    GstBuffer *b = gst_buffer_new_allocate(NULL, GST_VIDEO_INFO_SIZE(&m->info), NULL);
    GstVideoFrame to;
    gst_video_frame_map(&to, &m->info, b, GST_MAP_WRITE);
    yuv_from_rgb(&f->v, &to);
    gst_video_frame_unmap(&to);
    GST_BUFFER_PTS(b) = (GstClockTime)at_us * 1000;
    if (at_us >= m->key_us) {
        gst_element_send_event(GST_ELEMENT(m->video),
                               gst_video_event_new_downstream_force_key_unit(
                                   GST_BUFFER_PTS(b), GST_CLOCK_TIME_NONE, GST_CLOCK_TIME_NONE,
                                   TRUE, (guint)(m->key_us / KEYFRAME_US)));
        m->key_us += KEYFRAME_US * ((at_us - m->key_us) / KEYFRAME_US + 1);
    }
    gst_app_src_push_buffer(m->video, b);
}

void muxer_sound(muxer *m, GstBuffer *sound)
{
    gst_app_src_push_buffer(m->sound, sound);
}

int muxer_finish(muxer *m, int limit_ms, scope_error *err)
{
    gst_app_src_end_of_stream(m->video);
    if (m->sound)
        gst_app_src_end_of_stream(m->sound);
    GstMessage *message = gst_bus_timed_pop_filtered(m->bus, limit_ms * GST_MSECOND,
                                                     GST_MESSAGE_EOS | GST_MESSAGE_ERROR);
    if (!message)
        return error_set(err, SCOPE_EIO, "", "cannot %s '%s': it was not finished in %g s",
                         kinds[m->kind].doing, m->about, limit_ms / 1000.0);
    bool ended = GST_MESSAGE_TYPE(message) == GST_MESSAGE_EOS;
    if (ended)
        gst_message_unref(message);
    else
        gst_bus_post(m->bus, message);
    gst_element_set_state(m->pipeline, GST_STATE_READY); /* the file sink's last write */
    return media_bus_failed(m->bus, kinds[m->kind].doing, m->about, err) ? SCOPE_EIO : 0;
}

int64_t muxer_bytes(const muxer *m)
{
    return __atomic_load_n(&m->bytes, __ATOMIC_RELAXED);
}

bool muxer_works(const muxer *m)
{
    return g_atomic_int_get(&m->pieces) >= kinds[m->kind].works;
}
