/* encoder.c - one encoding pipeline: appsrc ! encoder ! appsink; see encoder.h.
 *
 * Under live/cast. Pictures become I420 on the caller's thread, by yuv.c, so that colours are exact
 * and the encoder's thread has nothing but the encoder. Must stay true: at most one frame waits
 * while one is encoded; what the encoder's thread calls never waits for the thread that closes.
 */
#include "encoder.h"
#include "elements.h"
#include "yuv.h"

#include <gst/app/gstappsink.h>
#include <gst/app/gstappsrc.h>
#include <gst/video/video.h>
#include <stdatomic.h>
#include <string.h>

enum { KEYFRAME_S = 5, FRAME_US = 33333, OPUS_BITRATE = 96000, BITRATE_MIN = 50000 };

/* An encoder element and how it is made to work live. Key frames come on demand alone, since frames
 * need not come at any steady rate. */
typedef struct kind {
    enum codec codec;
    const char *element, *settings;
    const char *bitrate; /* its property, or NULL */
    int unit;            /* bits a second that 1 stands for in it */
    const char *after;   /* caps behind it, or NULL */
    const char *speed;   /* its property that gives quality up for time, or NULL */
    int calm, hurried;   /* values of it: as in the settings; and while frames are lost */
} kind;

#define H264_CAPS "video/x-h264,profile=constrained-baseline,stream-format=byte-stream,alignment=au"

static const kind kinds[] = {
    {CODEC_VP8, "vp8enc",
     "deadline=1 cpu-used=10 threads=1 lag-in-frames=0 end-usage=cbr keyframe-max-dist=100000 "
     "min-quantizer=2 max-quantizer=56 undershoot=95 buffer-size=600 buffer-initial-size=300 "
     "buffer-optimal-size=400",
     "target-bitrate", 1, NULL, "cpu-used", 10, 16},
    {CODEC_H264, "x264enc",
     "tune=zerolatency speed-preset=superfast threads=1 key-int-max=100000 bframes=0", "bitrate",
     1000, H264_CAPS, NULL, 0, 0},
    {CODEC_H264, "openh264enc",
     "complexity=low rate-control=bitrate gop-size=100000 scene-change-detection=false "
     "multi-thread=1",
     "bitrate", 1, H264_CAPS, NULL, 0, 0},
    {CODEC_JPEG, "jpegenc", "quality=80", NULL, 1, NULL, NULL, 0, 0},
    {CODEC_OPUS, "opusenc", "frame-size=20", "bitrate", 1, NULL, NULL, 0, 0},
};

struct encoder {
    encoder_options o; /* with the encoder's own, even size */
    const kind *kind;
    void (*packet)(void *ctx, packet *p);
    void *ctx;                  /* borrowed until encoder_close */
    GstElement *pipeline, *enc; /* owned */
    GstAppSrc *src;             /* owned */
    GstPad *sink_pad;           /* owned; requests go up from it */
    GstVideoInfo info;          /* of what the encoder is given */
    GstBufferPool *pool;        /* owned; NULL for sound */
    int64_t last_us;            /* of the frame before; the pusher's */
    _Atomic int64_t key_us;     /* of the last key frame */
    atomic_int bitrate;         /* asked for */
    int bitrate_set;            /* in force; the encoder's thread's, as the next two */
    bool hurried;
    int64_t looked_us;  /* when frames that were refused were last counted */
    atomic_int refused; /* frames, since then, because it was busy */
};

/* ---- on the encoder's thread ----------------------------------------------------------------- */

/* A machine that cannot keep up gets coarser pictures before it gets fewer. */
static void look_at_speed(encoder *e)
{
    enum { HURRY_AFTER = 2, SECOND_US = 1000000, CALM_AFTER_US = 10 * SECOND_US };
    int64_t now_us = g_get_monotonic_time();
    int64_t since_us = now_us - e->looked_us;
    if (!e->kind->speed || since_us < (e->hurried ? CALM_AFTER_US : SECOND_US))
        return;
    int refused = atomic_exchange(&e->refused, 0);
    bool hurry = refused > HURRY_AFTER;
    e->looked_us = now_us;
    if (hurry != e->hurried)
        g_object_set(e->enc, e->kind->speed, hurry ? e->kind->hurried : e->kind->calm, NULL);
    e->hurried = hurry;
}

static GstPadProbeReturn on_input(GstPad *pad, GstPadProbeInfo *info, gpointer data)
{
    (void)pad, (void)info;
    encoder *e = data;
    int bitrate = atomic_load(&e->bitrate);
    if (bitrate != e->bitrate_set)
        g_object_set(e->enc, e->kind->bitrate, bitrate / e->kind->unit, NULL);
    e->bitrate_set = bitrate;
    look_at_speed(e);
    return GST_PAD_PROBE_OK;
}

static GstFlowReturn on_sample(GstAppSink *sink, gpointer data)
{
    encoder *e = data;
    GstSample *sample = gst_app_sink_pull_sample(sink);
    if (!sample)
        return GST_FLOW_EOS;
    GstBuffer *b = gst_sample_get_buffer(sample);
    gpointer bytes;
    gsize n;
    gst_buffer_extract_dup(b, 0, (gsize)-1, &bytes, &n);
    /* x264enc shifts its times by 1000 hours, and the segment with them. */
    GstClockTime pts = gst_segment_to_running_time(gst_sample_get_segment(sample), GST_FORMAT_TIME,
                                                   GST_BUFFER_PTS(b));
    packet *p = g_new(packet, 1);
    *p = (packet){
        .codec = e->o.codec,
        .key = !GST_BUFFER_FLAG_IS_SET(b, GST_BUFFER_FLAG_DELTA_UNIT),
        .w = e->o.w,
        .h = e->o.h,
        .pts_us = GST_CLOCK_TIME_IS_VALID(pts) ? (int64_t)GST_TIME_AS_USECONDS(pts) : 0,
        .duration_us =
            GST_BUFFER_DURATION_IS_VALID(b) ? (int64_t)GST_TIME_AS_USECONDS(b->duration) : 0,
        .made_us = g_get_monotonic_time(),
        .bytes = g_bytes_new_take(bytes, n),
        .refs = 1,
    };
    gst_sample_unref(sample);
    if (p->key)
        atomic_store(&e->key_us, p->pts_us);
    e->packet(e->ctx, p);
    packet_unref(p);
    return GST_FLOW_OK;
}

/* ---- opening --------------------------------------------------------------------------------- */

static const kind *choose(const encoder_options *o, scope_error *err)
{
    const char *only = o->codec == CODEC_H264 ? o->h264 : NULL;
    const kind *known = NULL;
    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
        if (kinds[i].codec != o->codec || (only && strcmp(only, kinds[i].element) != 0))
            continue;
        if (media_has(kinds[i].element))
            return &kinds[i];
        known = &kinds[i]; /* the last one is free of charge and of GPL */
    }
    if (known)
        media_need(known->element, err);
    else
        error_set(err, SCOPE_EINVAL, "",
                  "'%s' is no H.264 encoder that scope knows; use x264enc or openh264enc", only);
    return NULL;
}

static void picture_info(encoder *e)
{
    gst_video_info_set_format(&e->info, GST_VIDEO_FORMAT_I420, (guint)e->o.w, (guint)e->o.h);
    e->info.fps_n = 30;
    e->info.fps_d = 1;
    /* What browsers take unmarked pictures for, whatever their size; JPEG has the full range. */
    e->info.colorimetry = (GstVideoColorimetry){
        .range =
            e->o.codec == CODEC_JPEG ? GST_VIDEO_COLOR_RANGE_0_255 : GST_VIDEO_COLOR_RANGE_16_235,
        .matrix = GST_VIDEO_COLOR_MATRIX_BT601,
        .transfer = GST_VIDEO_TRANSFER_BT601,
        .primaries = GST_VIDEO_COLOR_PRIMARIES_SMPTE170M,
    };
}

static GstCaps *input_caps(encoder *e)
{
    if (e->o.codec == CODEC_OPUS)
        return gst_caps_from_string("audio/x-raw,format=S16LE,rate=48000,channels=2,"
                                    "layout=interleaved");
    picture_info(e);
    GstCaps *caps = gst_video_info_to_caps(&e->info);
    e->pool = gst_buffer_pool_new();
    GstStructure *config = gst_buffer_pool_get_config(e->pool);
    gst_buffer_pool_config_set_params(config, caps, (guint)e->info.size, 2, 0);
    gst_buffer_pool_set_config(e->pool, config);
    gst_buffer_pool_set_active(e->pool, TRUE);
    return caps;
}

static int build(encoder *e, scope_error *err)
{
    const kind *k = e->kind;
    char *text =
        g_strdup_printf("appsrc name=src is-live=true format=time max-buffers=0 max-bytes=0 "
                        "max-time=%d leaky-type=downstream ! %s name=enc %s %s %s ! "
                        "appsink name=sink sync=false async=false",
                        e->o.codec == CODEC_OPUS ? 500000000 : 0, k->element, k->settings,
                        k->after ? "!" : "", k->after ? k->after : "");
    GError *cause = NULL;
    e->pipeline = gst_parse_launch(text, &cause);
    g_free(text);
    if (cause) {
        error_set(err, SCOPE_EIO, "", "the encoder %s does not start: %s", k->element,
                  cause->message);
        g_error_free(cause);
        return SCOPE_EIO;
    }
    e->enc = gst_bin_get_by_name(GST_BIN(e->pipeline), "enc");
    e->src = GST_APP_SRC(gst_bin_get_by_name(GST_BIN(e->pipeline), "src"));
    GstCaps *caps = input_caps(e);
    gst_app_src_set_caps(e->src, caps);
    gst_caps_unref(caps);
    GstElement *sink = gst_bin_get_by_name(GST_BIN(e->pipeline), "sink");
    e->sink_pad = gst_element_get_static_pad(sink, "sink");
    GstAppSinkCallbacks calls = {.new_sample = on_sample};
    gst_app_sink_set_callbacks(GST_APP_SINK(sink), &calls, e, NULL);
    gst_object_unref(sink);
    if (k->bitrate) {
        GstPad *pad = gst_element_get_static_pad(e->enc, "sink");
        gst_pad_add_probe(pad, GST_PAD_PROBE_TYPE_BUFFER, on_input, e, NULL);
        gst_object_unref(pad);
        g_object_set(e->enc, k->bitrate, e->bitrate_set / k->unit, NULL);
    }
    if (gst_element_set_state(e->pipeline, GST_STATE_PLAYING) == GST_STATE_CHANGE_FAILURE)
        return error_set(err, SCOPE_EIO, "", "the encoder %s does not start", k->element);
    return 0;
}

/* 0.19 bit for each pixel, 30 times a second. */
static int bitrate_of(const encoder_options *o)
{
    if (o->bitrate)
        return MAX(o->bitrate, BITRATE_MIN);
    if (o->codec == CODEC_OPUS)
        return OPUS_BITRATE;
    return (int)CLAMP((int64_t)o->w * o->h * 57 / 10, 4 * BITRATE_MIN, 50000000);
}

encoder *encoder_open(const encoder_options *o, void (*packet)(void *ctx, packet *p), void *ctx,
                      scope_error *err)
{
    if (media_init(err) < 0)
        return NULL;
    const kind *k = choose(o, err);
    if (!k)
        return NULL;
    if (o->codec != CODEC_OPUS && (o->w < 2 || o->h < 2)) {
        error_set(err, SCOPE_EINVAL, "", "a picture of %d x %d pixels is too small to be sent",
                  o->w, o->h);
        return NULL;
    }
    encoder *e = g_new0(encoder, 1);
    e->o = *o;
    e->o.w = o->w & ~1;
    e->o.h = o->h & ~1;
    e->o.keyframe_s = o->keyframe_s ? o->keyframe_s : KEYFRAME_S;
    e->kind = k;
    e->packet = packet;
    e->ctx = ctx;
    e->bitrate_set = bitrate_of(o);
    atomic_init(&e->bitrate, e->bitrate_set);
    atomic_init(&e->key_us, INT64_MAX); /* the first frame is a key frame anyway */
    if (build(e, err) < 0) {
        encoder_close(e);
        return NULL;
    }
    return e;
}

void encoder_close(encoder *e)
{
    if (!e)
        return;
    if (e->pipeline)
        gst_element_set_state(e->pipeline, GST_STATE_NULL);
    gst_clear_object(&e->sink_pad);
    gst_clear_object(&e->enc);
    gst_clear_object(&e->src);
    gst_clear_object(&e->pipeline);
    if (e->pool)
        gst_buffer_pool_set_active(e->pool, FALSE);
    gst_clear_object(&e->pool);
    g_free(e);
}

/* ---- at work --------------------------------------------------------------------------------- */

bool encoder_push(encoder *e, frame *f)
{
    if (f->v.w / 2 != e->o.w / 2 || f->v.h / 2 != e->o.h / 2)
        return false;
    if (gst_app_src_get_current_level_buffers(e->src) > 0) {
        atomic_fetch_add(&e->refused, 1);
        return false;
    }
    GstBuffer *b = NULL;
    if (gst_buffer_pool_acquire_buffer(e->pool, &b, NULL) != GST_FLOW_OK)
        return false;
    GstVideoFrame to;
    if (!gst_video_frame_map(&to, &e->info, b, GST_MAP_WRITE)) {
        gst_buffer_unref(b);
        return false;
    }
    yuv_from_rgb(&f->v, &to);
    gst_video_frame_unmap(&to);
    /* Encoders want times that grow. */
    e->last_us = MAX(MAX(f->v.pts_us, 0), e->last_us + 1);
    GST_BUFFER_PTS(b) = (GstClockTime)e->last_us * GST_USECOND;
    int64_t duration_us = f->duration_us > 0 ? f->duration_us : FRAME_US;
    GST_BUFFER_DURATION(b) = (GstClockTime)duration_us * GST_USECOND;
    int64_t key_us = atomic_load(&e->key_us);
    if (e->last_us - (int64_t)e->o.keyframe_s * 1000000 >= key_us) {
        atomic_store(&e->key_us, e->last_us); /* asked for once, even while it is under way */
        encoder_keyframe(e);
    }
    return gst_app_src_push_buffer(e->src, b) == GST_FLOW_OK;
}

void encoder_push_sound(encoder *e, GstBuffer *sound)
{
    gst_app_src_push_buffer(e->src, sound);
}

void encoder_keyframe(encoder *e)
{
    gst_pad_push_event(e->sink_pad,
                       gst_video_event_new_upstream_force_key_unit(GST_CLOCK_TIME_NONE, TRUE, 0));
}

void encoder_bitrate(encoder *e, int bitrate)
{
    atomic_store(&e->bitrate, MAX(bitrate, BITRATE_MIN));
}

bool encoder_failed(encoder *e, scope_error *err)
{
    GstBus *bus = gst_element_get_bus(e->pipeline);
    bool failed = media_bus_failed(bus, "encode with", e->kind->element, err);
    gst_object_unref(bus);
    return failed;
}
