/* decoder.c - one decoding pipeline: appsrc ! decoder ! appsink; see decoder.h.
 *
 * Under http/ (WebSocket publishers). Packets wait in a queue of our own and go in one at a time,
 * when the decoder has done with the one before; so it is known which of them gave no picture, and
 * those that are late can be left out up to a key frame. Must stay true: nothing is called with the
 * lock held; the decoder's thread never waits for the one that closes.
 */
#include "decoder.h"
#include "../error.h"
#include "elements.h"
#include "yuv.h"

#include <gst/app/gstappsink.h>
#include <gst/app/gstappsrc.h>
#include <stdatomic.h>
#include <string.h>

enum {
    WAITING_US = 250 * 1000,   /* for the oldest packet: then decoding lags behind; */
    WAITING_MAX = 64,          /* and so many at most */
    WAITING_BYTES = 16 << 20,  /* and their size */
    BEHIND = 2,                /* with so many waiting, a key frame makes them superfluous */
    SILENT_MAX = 8,            /* packets without a picture: something is wrong */
    ASK_AGAIN_US = 500 * 1000, /* for a key frame that has not come */
    FULL = 1 << 8,
    PIXELS_MAX = 4096 * 4096, /* larger pictures are refused */
};

struct decoder {
    enum codec codec;
    frame_pool *pool; /* borrowed until decoder_close */
    decoder_calls calls;
    GstElement *pipeline; /* owned */
    GstAppSrc *src;       /* owned */
    _Atomic int64_t broken;
    atomic_bool failed; /* the pipeline has stopped: start it anew */
    atomic_int said;  /* of the colours: a GstVideoColorMatrix, FULL with it for full range; or 0 */
    atomic_bool gave; /* the packet that went in last has given something */

    GMutex lock;
    GQueue waiting; /* of GstBuffer, owned */
    size_t waiting_bytes;
    bool hungry;      /* the decoder waits for a packet */
    bool fed;         /* it has had one */
    int silent;       /* packets in a row that gave nothing */
    bool wants_key;   /* nothing but a key frame is taken */
    int64_t asked_us; /* for a key frame, last */
    int64_t last_us;  /* pts of the packet before */

    GstCaps *caps; /* owned; of `info`; the decoder's thread's */
    GstVideoInfo info;
};

/* ---- on the decoder's thread ----------------------------------------------------------------- */

static void drop_waiting(decoder *d)
{
    g_queue_clear_full(&d->waiting, (GDestroyNotify)gst_buffer_unref);
    d->waiting_bytes = 0;
}

/* Take nothing but a key frame from now on; true when it is time to ask for one. Lock held. */
static bool lose(decoder *d)
{
    int64_t now = g_get_monotonic_time();
    drop_waiting(d);
    d->wants_key = true;
    if (now - d->asked_us < ASK_AGAIN_US)
        return false;
    d->asked_us = now;
    return true;
}

static void packet_broke(decoder *d)
{
    atomic_fetch_add(&d->broken, 1);
    atomic_store(&d->gave, true); /* counted once */
    g_mutex_lock(&d->lock);
    bool ask = lose(d);
    g_mutex_unlock(&d->lock);
    if (ask)
        d->calls.need_key(d->calls.ctx);
}

/* The next packet for the decoder, or NULL. Lock held. */
static GstBuffer *next(decoder *d)
{
    GstBuffer *b = g_queue_pop_head(&d->waiting);
    d->hungry = !b;
    if (!b)
        return NULL;
    d->waiting_bytes -= gst_buffer_get_size(b);
    d->fed = true;
    atomic_store(&d->gave, false);
    return b;
}

/* The decoder has done with a packet and wants another. */
static void on_hungry(GstAppSrc *src, guint length, gpointer data)
{
    (void)length;
    decoder *d = data;
    g_mutex_lock(&d->lock);
    d->silent = d->fed && !atomic_load(&d->gave) ? d->silent + 1 : 0;
    d->fed = false;
    bool broke = d->silent >= SILENT_MAX;
    if (broke)
        d->silent = 0;
    GstBuffer *b = broke ? NULL : next(d);
    if (broke)
        d->hungry = true;
    g_mutex_unlock(&d->lock);
    if (b)
        gst_app_src_push_buffer(src, b);
    if (broke)
        packet_broke(d);
}

static GstBusSyncReply on_message(GstBus *bus, GstMessage *message, gpointer data)
{
    (void)bus;
    decoder *d = data;
    if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_ERROR)
        atomic_store(&d->failed, true);
    if (GST_MESSAGE_TYPE(message) & (GST_MESSAGE_ERROR | GST_MESSAGE_WARNING))
        packet_broke(d);
    gst_message_unref(message);
    return GST_BUS_DROP;
}

/* Rows of RGB are taken as they are. */
static void copy_rgb(const GstVideoFrame *from, const scope_video *to)
{
    for (int y = 0; y < to->h; y++)
        memcpy((uint8_t *)to->data + y * to->stride_h,
               (const uint8_t *)from->data[0] + (gssize)y * from->info.stride[0],
               (size_t)to->w * 3);
}

static void take_colours(const decoder *d, GstVideoColorimetry *c)
{
    int said = atomic_load(&d->said);
    if (!said)
        return;
    c->matrix = (GstVideoColorMatrix)(said & ~FULL);
    c->range = said & FULL ? GST_VIDEO_COLOR_RANGE_0_255 : GST_VIDEO_COLOR_RANGE_16_235;
}

static frame *to_frame(decoder *d, GstBuffer *b)
{
    GstVideoFrame from;
    if ((int64_t)d->info.width * d->info.height > PIXELS_MAX ||
        !gst_video_frame_map(&from, &d->info, b, GST_MAP_READ))
        return NULL;
    take_colours(d, &from.info.colorimetry);
    scope_video shape = {
        .t = 1, .h = d->info.height, .w = d->info.width, .c = 3, .dtype = SCOPE_U8};
    scope_error err;
    frame *f = frame_new(d->pool, &shape, &err);
    if (f && yuv_reads(&from))
        yuv_to_rgb(&from, &f->v);
    else if (f)
        copy_rgb(&from, &f->v);
    gst_video_frame_unmap(&from);
    if (f)
        f->v.pts_us = (int64_t)GST_TIME_AS_USECONDS(GST_BUFFER_PTS(b));
    return f;
}

static bool read_caps(decoder *d, GstCaps *caps)
{
    if (d->caps == caps)
        return true;
    if (!caps || !gst_video_info_from_caps(&d->info, caps))
        return false;
    /* Unmarked VP8 is BT.601 at every size; GStreamer would guess BT.709 of a large one. */
    if (d->codec == CODEC_VP8)
        d->info.colorimetry.matrix = GST_VIDEO_COLOR_MATRIX_BT601;
    gst_caps_replace(&d->caps, caps);
    return true;
}

static void on_picture(decoder *d, GstSample *sample)
{
    GstBuffer *b = gst_sample_get_buffer(sample);
    bool whole = !GST_BUFFER_FLAG_IS_SET(b, GST_BUFFER_FLAG_CORRUPTED) &&
                 GST_BUFFER_PTS_IS_VALID(b) && read_caps(d, gst_sample_get_caps(sample));
    frame *f = whole ? to_frame(d, b) : NULL;
    if (!f) {
        packet_broke(d);
        return;
    }
    atomic_store(&d->gave, true);
    d->calls.picture(d->calls.ctx, f);
    frame_unref(f);
}

static GstFlowReturn on_sample(GstAppSink *sink, gpointer data)
{
    decoder *d = data;
    GstSample *sample = gst_app_sink_pull_sample(sink);
    if (!sample)
        return GST_FLOW_EOS;
    if (d->codec != CODEC_OPUS) {
        on_picture(d, sample);
    } else {
        atomic_store(&d->gave, true);
        d->calls.sound(d->calls.ctx, gst_buffer_ref(gst_sample_get_buffer(sample)));
    }
    gst_sample_unref(sample);
    return GST_FLOW_OK;
}

/* ---- opening --------------------------------------------------------------------------------- */

#define PICTURES                                                                                   \
    "videoconvert ! video/x-raw,format=(string){" YUV_FORMATS ", RGB}" /* nearly always as it is   \
                                                                        */

static const struct {
    enum codec codec;
    const char *element, *caps, *settings, *after;
} kinds[] = {
    {CODEC_VP8, "vp8dec", "video/x-vp8", "threads=1 qos=false", PICTURES},
    {CODEC_H264, "avdec_h264", "video/x-h264,stream-format=byte-stream,alignment=au",
     "max-threads=1 qos=false", PICTURES},
    {CODEC_H264, "openh264dec", "video/x-h264,stream-format=byte-stream,alignment=au", "qos=false",
     PICTURES},
    {CODEC_JPEG, "jpegdec", "image/jpeg", "idct-method=islow qos=false", PICTURES},
    {CODEC_OPUS, "opusdec", "audio/x-opus,channel-mapping-family=0,channels=2,rate=48000", "",
     "audioconvert ! audioresample ! "
     "audio/x-raw,format=S16LE,rate=48000,channels=2,layout=interleaved"},
};

static int choose(enum codec codec, scope_error *err)
{
    int first = -1;
    for (int i = 0; i < (int)G_N_ELEMENTS(kinds); i++) {
        if (kinds[i].codec != codec)
            continue;
        if (media_has(kinds[i].element))
            return i;
        first = first < 0 ? i : first;
    }
    return media_need(kinds[first].element, err);
}

static int build(decoder *d, int kind, scope_error *err)
{
    char *text = g_strdup_printf(
        "appsrc name=src is-live=true format=time max-buffers=0 max-bytes=0 max-time=0 caps=\"%s\" "
        "! %s %s ! %s ! appsink name=sink sync=false async=false",
        kinds[kind].caps, kinds[kind].element, kinds[kind].settings, kinds[kind].after);
    GError *cause = NULL;
    d->pipeline = gst_parse_launch(text, &cause);
    g_free(text);
    if (cause) {
        error_set(err, SCOPE_EIO, "", "the decoder %s does not start: %s", kinds[kind].element,
                  cause->message);
        g_error_free(cause);
        return SCOPE_EIO;
    }
    d->src = GST_APP_SRC(gst_bin_get_by_name(GST_BIN(d->pipeline), "src"));
    GstAppSrcCallbacks src_calls = {.need_data = on_hungry};
    gst_app_src_set_callbacks(d->src, &src_calls, d, NULL);
    GstElement *sink = gst_bin_get_by_name(GST_BIN(d->pipeline), "sink");
    GstAppSinkCallbacks sink_calls = {.new_sample = on_sample};
    gst_app_sink_set_callbacks(GST_APP_SINK(sink), &sink_calls, d, NULL);
    gst_object_unref(sink);
    GstBus *bus = gst_element_get_bus(d->pipeline);
    gst_bus_set_sync_handler(bus, on_message, d, NULL);
    gst_object_unref(bus);
    if (gst_element_set_state(d->pipeline, GST_STATE_PLAYING) == GST_STATE_CHANGE_FAILURE)
        return error_set(err, SCOPE_EIO, "", "the decoder %s does not start", kinds[kind].element);
    return 0;
}

decoder *decoder_open(enum codec codec, frame_pool *pool, const decoder_calls *calls,
                      scope_error *err)
{
    if (media_init(err) < 0)
        return NULL;
    int kind = choose(codec, err);
    if (kind < 0)
        return NULL;
    decoder *d = g_new0(decoder, 1);
    d->codec = codec;
    d->pool = pool;
    d->calls = *calls;
    d->wants_key = true;
    g_mutex_init(&d->lock);
    g_queue_init(&d->waiting);
    if (build(d, kind, err) < 0) {
        decoder_close(d);
        return NULL;
    }
    return d;
}

void decoder_close(decoder *d)
{
    if (!d)
        return;
    if (d->pipeline)
        gst_element_set_state(d->pipeline, GST_STATE_NULL);
    gst_clear_object(&d->src);
    gst_clear_object(&d->pipeline);
    drop_waiting(d);
    gst_clear_caps(&d->caps);
    g_mutex_clear(&d->lock);
    g_free(d);
}

/* ---- at work --------------------------------------------------------------------------------- */

/* After an error that the decoder itself does not get over. */
static void start_anew(decoder *d)
{
    gst_element_set_state(d->pipeline, GST_STATE_NULL); /* its thread has ended after this */
    atomic_store(&d->failed, false);
    g_mutex_lock(&d->lock);
    drop_waiting(d);
    d->hungry = d->fed = false;
    d->silent = 0;
    d->wants_key = true;
    g_mutex_unlock(&d->lock);
    gst_element_set_state(d->pipeline, GST_STATE_PLAYING);
}

/* Does a VP8 key frame announce more pixels than we take? libvpx would get memory for them before
 * anybody could object. RFC 6386, 9.1. */
static bool too_large(enum codec codec, const uint8_t *b, size_t n)
{
    return codec == CODEC_VP8 && n >= 10 && !(b[0] & 1) &&
           (int64_t)((b[6] | b[7] << 8) & 0x3fff) * ((b[8] | b[9] << 8) & 0x3fff) > PIXELS_MAX;
}

/* When a waiting packet was pushed: its offset, of which decoders make nothing. */
static int64_t came(const GstBuffer *b)
{
    return (int64_t)GST_BUFFER_OFFSET(b);
}

/* Is the packet to be left out? Lock held. */
static bool left_out(decoder *d, size_t n, bool key, int64_t now, bool *ask)
{
    unsigned count = g_queue_get_length(&d->waiting);
    GstBuffer *oldest = g_queue_peek_head(&d->waiting);
    bool full = count >= WAITING_MAX || d->waiting_bytes + n > WAITING_BYTES ||
                (oldest && now - came(oldest) > WAITING_US);
    if (key && (full || count > BEHIND))
        drop_waiting(d);
    if (!key && (full || d->wants_key)) {
        *ask = lose(d);
        return true;
    }
    d->wants_key = false;
    return false;
}

void decoder_push(decoder *d, const void *bytes, size_t n, int64_t pts_us, bool key)
{
    if (atomic_load(&d->failed))
        start_anew(d);
    key = key || d->codec == CODEC_JPEG || d->codec == CODEC_OPUS;
    if (!n || too_large(d->codec, bytes, n)) {
        packet_broke(d);
        return;
    }
    bool ask = false;
    int64_t now = g_get_monotonic_time();
    g_mutex_lock(&d->lock);
    if (!left_out(d, n, key, now, &ask)) {
        GstBuffer *b = gst_buffer_new_memdup(bytes, n);
        GST_BUFFER_OFFSET(b) = (guint64)now;
        /* Decoders want times that grow. */
        d->last_us = MAX(MAX(pts_us, 0), d->last_us + 1);
        GST_BUFFER_PTS(b) = (GstClockTime)d->last_us * GST_USECOND;
        if (!key)
            GST_BUFFER_FLAG_SET(b, GST_BUFFER_FLAG_DELTA_UNIT);
        g_queue_push_tail(&d->waiting, b);
        d->waiting_bytes += n;
        if (d->hungry)
            gst_app_src_push_buffer(d->src, next(d));
    }
    g_mutex_unlock(&d->lock);
    if (ask)
        d->calls.need_key(d->calls.ctx);
}

void decoder_colours(decoder *d, const char *matrix, bool full_range)
{
    static const struct {
        const char *name;
        GstVideoColorMatrix matrix;
    } names[] = {{"bt709", GST_VIDEO_COLOR_MATRIX_BT709},
                 {"smpte170m", GST_VIDEO_COLOR_MATRIX_BT601},
                 {"bt470bg", GST_VIDEO_COLOR_MATRIX_BT601},
                 {"bt2020-ncl", GST_VIDEO_COLOR_MATRIX_BT2020}};
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        if (!strcmp(names[i].name, matrix))
            atomic_store(&d->said, (int)names[i].matrix | (full_range ? FULL : 0));
    }
}

int64_t decoder_broken(const decoder *d)
{
    return atomic_load(&d->broken);
}
