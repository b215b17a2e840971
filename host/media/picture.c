/* picture.c - one picture in memory, through GStreamer; see picture.h. */
#include "picture.h"
#include "elements.h"
#include "yuv.h"

#include "../error.h"

#include <gst/app/gstappsink.h>
#include <gst/app/gstappsrc.h>
#include <gst/video/video.h>
#include <string.h>

enum { SIDE_MAX = 8192, WAIT_MS = 10000, LOOK_MS = 20 };

static const char *decoder_for(GBytes *bytes)
{
    static const unsigned char png[] = {0x89, 'P', 'N', 'G'}, jpeg[] = {0xff, 0xd8, 0xff};
    gsize n;
    const void *data = g_bytes_get_data(bytes, &n);
    if (n > sizeof png && !memcmp(data, png, sizeof png))
        return "pngdec";
    return n > sizeof jpeg && !memcmp(data, jpeg, sizeof jpeg) ? "jpegdec" : NULL;
}

static unsigned big_endian(const unsigned char *p, int n)
{
    unsigned v = 0;
    for (int i = 0; i < n; i++)
        v = v << 8 | p[i];
    return v;
}

/* By its head: some bytes can stand for gigabytes of picture. */
static bool is_large(GBytes *bytes)
{
    gsize n;
    const unsigned char *data = g_bytes_get_data(bytes, &n);
    if (data[0] == 0x89) /* PNG: the first chunk has the size */
        return n >= 24 &&
               (big_endian(data + 16, 4) > SIDE_MAX || big_endian(data + 20, 4) > SIDE_MAX);
    for (gsize at = 2; at + 9 <= n && data[at] == 0xff;) {
        unsigned char mark = data[at + 1];
        /* c0 to cf begin a frame, but for c4, c8 and cc. */
        bool start = mark >= 0xc1 && mark <= 0xcf && mark % 4 != 0;
        if (start || mark == 0xc0)
            return big_endian(data + at + 5, 2) > SIDE_MAX ||
                   big_endian(data + at + 7, 2) > SIDE_MAX;
        at += mark == 0xff ? 1 : 2 + big_endian(data + at + 2, 2);
    }
    return false;
}

/* One buffer through `pipeline`, an appsrc "in" to an appsink "out"; NULL with *err. */
static GstSample *through(GstElement *pipeline, GstBuffer *buffer, const char *doing,
                          scope_error *err)
{
    *err = (scope_error){0};
    GstElement *in = gst_bin_get_by_name(GST_BIN(pipeline), "in");
    GstElement *out = gst_bin_get_by_name(GST_BIN(pipeline), "out");
    GstBus *bus = gst_element_get_bus(pipeline);
    gst_element_set_state(pipeline, GST_STATE_PLAYING);
    gst_app_src_push_buffer(GST_APP_SRC(in), buffer);
    gst_app_src_end_of_stream(GST_APP_SRC(in));
    GstSample *sample = NULL;
    bool over = false; /* what has failed sends no end */
    for (int ms = 0; !sample && !over && ms < WAIT_MS; ms += LOOK_MS) {
        sample = gst_app_sink_try_pull_sample(GST_APP_SINK(out), LOOK_MS * GST_MSECOND);
        over = !sample && (media_bus_failed(bus, doing, "the picture", err) ||
                           gst_app_sink_is_eos(GST_APP_SINK(out)));
    }
    if (!sample && !err->status)
        error_set(err, SCOPE_EINVAL, "", "cannot %s the picture: there is none in it", doing);
    if (!sample)
        err->status = SCOPE_EINVAL;
    gst_element_set_state(pipeline, GST_STATE_NULL);
    gst_object_unref(bus);
    gst_object_unref(in);
    gst_object_unref(out);
    return sample;
}

static frame *to_frame(GstSample *sample, frame_pool *pool, scope_error *err)
{
    GstVideoInfo info;
    GstVideoFrame mapped;
    if (!gst_video_info_from_caps(&info, gst_sample_get_caps(sample)) || info.width > SIDE_MAX ||
        info.height > SIDE_MAX ||
        !gst_video_frame_map(&mapped, &info, gst_sample_get_buffer(sample), GST_MAP_READ)) {
        error_set(err, SCOPE_EINVAL, "", "the picture is larger than %d x %d", SIDE_MAX, SIDE_MAX);
        return NULL;
    }
    scope_video shape = {.t = 1,
                         .h = info.height,
                         .w = info.width,
                         .c = GST_VIDEO_INFO_HAS_ALPHA(&info) ? 4 : 3,
                         .dtype = SCOPE_U8,
                         .device = SCOPE_CPU};
    frame *f = frame_new(pool, &shape, err);
    for (int y = 0; f && y < shape.h; y++)
        memcpy((char *)f->v.data + y * f->v.stride_h,
               (char *)GST_VIDEO_FRAME_PLANE_DATA(&mapped, 0) +
                   y * GST_VIDEO_FRAME_PLANE_STRIDE(&mapped, 0),
               (size_t)(shape.w * shape.c));
    gst_video_frame_unmap(&mapped);
    return f;
}

frame *picture_read(GBytes *bytes, frame_pool *pool, scope_error *err)
{
    const char *decoder = decoder_for(bytes);
    if (!decoder) {
        error_set(err, SCOPE_EINVAL, "", "this is neither a PNG nor a JPEG picture");
        return NULL;
    }
    if (is_large(bytes)) {
        error_set(err, SCOPE_EINVAL, "", "the picture is larger than %d x %d", SIDE_MAX, SIDE_MAX);
        return NULL;
    }
    if (media_init(err) || media_need(decoder, err))
        return NULL;
    char *text = g_strdup_printf("appsrc name=in ! %s ! videoconvert ! "
                                 "video/x-raw,format={RGB,RGBA} ! appsink name=out sync=false",
                                 decoder);
    GstElement *pipeline = gst_parse_launch(text, NULL);
    g_free(text);
    GstBuffer *buffer = gst_buffer_new_wrapped_bytes(bytes);
    GstSample *sample = through(pipeline, buffer, "read", err);
    gst_object_unref(pipeline);
    frame *f = sample ? to_frame(sample, pool, err) : NULL;
    if (sample)
        gst_sample_unref(sample);
    return f;
}

/* The frame as I420 of the full range, which is what every reader of JPEG knows. */
static GstBuffer *to_yuv(const frame *f, GstVideoInfo *info)
{
    gst_video_info_set_format(info, GST_VIDEO_FORMAT_I420, (guint)f->v.w, (guint)f->v.h);
    info->colorimetry = (GstVideoColorimetry){.range = GST_VIDEO_COLOR_RANGE_0_255,
                                              .matrix = GST_VIDEO_COLOR_MATRIX_BT601};
    GstBuffer *b = gst_buffer_new_allocate(NULL, info->size, NULL);
    GstVideoFrame mapped;
    if (gst_video_frame_map(&mapped, info, b, GST_MAP_WRITE)) {
        yuv_from_rgb(&f->v, &mapped);
        gst_video_frame_unmap(&mapped);
    }
    GST_BUFFER_PTS(b) = 0;
    return b;
}

GBytes *picture_jpeg(frame *f, int quality, scope_error *err)
{
    if (media_init(err) || media_need("jpegenc", err))
        return NULL;
    char *text = g_strdup_printf("appsrc name=in format=time ! jpegenc quality=%d ! "
                                 "appsink name=out sync=false",
                                 quality);
    GstElement *pipeline = gst_parse_launch(text, NULL);
    g_free(text);
    GstVideoInfo info;
    GstBuffer *buffer = to_yuv(f, &info);
    GstElement *in = gst_bin_get_by_name(GST_BIN(pipeline), "in");
    GstCaps *caps = gst_video_info_to_caps(&info);
    gst_app_src_set_caps(GST_APP_SRC(in), caps);
    gst_caps_unref(caps);
    gst_object_unref(in);
    GstSample *sample = through(pipeline, buffer, "encode", err);
    gst_object_unref(pipeline);
    if (!sample)
        return NULL;
    gpointer bytes;
    gsize n;
    gst_buffer_extract_dup(gst_sample_get_buffer(sample), 0, (gsize)-1, &bytes, &n);
    gst_sample_unref(sample);
    return g_bytes_new_take(bytes, n);
}
