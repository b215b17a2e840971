/* source.c - one decode pipeline: a head that brings encoded data, a tail of upright RGB frames.
 *
 * Under run. Heads: uridecodebin (files, URLs), v4l2src (cameras), appsrc (pictures and Y4M, which
 * intake.c brings). Must stay true: bounded memory, because the video appsink blocks the decoder;
 * the audio appsink never blocks, or the demuxer could stall with sound in its hands.
 */
#include "source.h"
#include "elements.h"
#include "intake.h"

#include <errno.h>
#include <gst/app/gstappsink.h>
#include <gst/video/video.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>

enum { WAIT_MS = 50, OPEN_TIMEOUT_S = 30, SLIVER_US = 1000 };

struct source {
    char *input; /* owned */
    source_options opt;
    source_info info;
    frame_pool *pool;          /* borrowed until source_close */
    GstElement *pipeline;      /* owned */
    GstBus *bus;               /* owned */
    GstAppSink *video, *audio; /* owned; NULL until their stream turned up */
    struct intake *intake;     /* owned; NULL unless pictures or Y4M */
    GstSample *held;           /* owned: the first frame, looked at before it is asked for */
    GstBuffer *held_audio;     /* owned: sound that begins later than was asked for */
    int64_t next_us;           /* where the next frame begins if it does not say */
    int64_t missed;
    int64_t pictures; /* how many there are; -1 when unknown */
};

/* ---- building -------------------------------------------------------------------------------- */

static bool is_interlaced(GstCaps *caps)
{
    const char *mode = gst_structure_get_string(gst_caps_get_structure(caps, 0), "interlace-mode");
    return mode && strcmp(mode, "progressive") != 0;
}

/* fields=top keeps the frame rate of interlaced video. */
static char *video_tail(const source *s, GstCaps *caps)
{
    bool resample = s->opt.fps_n && !(s->intake && intake_pictures(s->intake));
    char *rate = resample ? g_strdup_printf("! videorate ! video/x-raw,framerate=%d/%d",
                                            s->opt.fps_n, s->opt.fps_d)
                          : g_strdup("");
    char *tail = g_strdup_printf("%s %s videoconvertscale ! " SOURCE_CAPS " ! "
                                 "videoflip video-direction=auto %s ! "
                                 "appsink name=sink sync=false max-buffers=%d drop=%s",
                                 s->intake ? intake_decoder(s->intake) : "",
                                 is_interlaced(caps) ? "deinterlace fields=top !" : "", rate,
                                 s->info.live ? 1 : 3, s->info.live ? "true" : "false");
    g_free(rate);
    return tail;
}

/* Put a described chain into the pipeline behind `pad`; its appsink, owned. build() made sure of
 * the elements. */
static GstAppSink *attach(source *s, GstPad *pad, const char *description)
{
    GstElement *bin = gst_parse_bin_from_description(description, TRUE, NULL);
    GstElement *sink = gst_bin_get_by_name(GST_BIN(bin), "sink");
    gst_bin_add(GST_BIN(s->pipeline), bin);
    GstPad *entry = gst_element_get_static_pad(bin, "sink");
    gst_pad_link(pad, entry);
    gst_object_unref(entry);
    gst_element_sync_state_with_parent(bin);
    return GST_APP_SINK(sink);
}

/* [GStreamer thread] The first video and, if wanted, the first audio stream; others stay loose. */
static void on_pad(GstElement *decoder, GstPad *pad, gpointer user)
{
    (void)decoder;
    source *s = user;
    GstCaps *caps = gst_pad_get_current_caps(pad);
    if (!caps)
        caps = gst_pad_query_caps(pad, NULL);
    const char *name = gst_structure_get_name(gst_caps_get_structure(caps, 0));
    if (g_str_has_prefix(name, "video/x-raw") && !s->video) {
        char *tail = video_tail(s, caps);
        g_atomic_pointer_set(&s->video, attach(s, pad, tail));
        g_free(tail);
    } else if (g_str_has_prefix(name, "audio/x-raw") && !s->audio && s->opt.audio) {
        s->audio = attach(s, pad,
                          "audioconvert ! audio/x-raw,format=F32LE,layout=interleaved ! "
                          "appsink name=sink sync=false max-buffers=0");
    }
    gst_caps_unref(caps);
}

static GstElement *add_decoder(source *s, const char *factory)
{
    GstElement *decoder = gst_element_factory_make(factory, NULL);
    gst_bin_add(GST_BIN(s->pipeline), decoder);
    g_signal_connect(decoder, "pad-added", G_CALLBACK(on_pad), s);
    return decoder;
}

static int build_camera(source *s, scope_error *err)
{
    int status = media_need("v4l2src", err);
    if (status)
        return status;
    GstElement *camera = gst_element_factory_make("v4l2src", NULL);
    g_object_set(camera, "device", s->input, NULL);
    gst_bin_add(GST_BIN(s->pipeline), camera);
    s->info.live = true;
    gst_element_link(camera, add_decoder(s, "decodebin"));
    return 0;
}

static int build_intake(source *s, scope_error *err)
{
    const intake_options o = {s->opt.fps_n, s->opt.fps_d, s->opt.start, s->opt.frames};
    s->intake = intake_open(s->input, &o, err);
    if (!s->intake)
        return SCOPE_EIO;
    s->pictures = intake_total(s->intake);
    GstElement *head = intake_element(s->intake);
    gst_bin_add(GST_BIN(s->pipeline), head);
    GstPad *pad = gst_element_get_static_pad(head, "src");
    char *tail = video_tail(s, intake_caps(s->intake));
    s->video = attach(s, pad, tail);
    g_free(tail);
    gst_object_unref(pad);
    return 0;
}

static int build_file(source *s, scope_error *err)
{
    struct stat st;
    char *uri = NULL;
    if (strstr(s->input, "://")) { /* a URL: GStreamer finds out */
        uri = g_strdup(s->input);
    } else if (stat(s->input, &st)) {
        return error_set(err, SCOPE_EIO, "", "cannot read '%s': %s", s->input, g_strerror(errno));
    } else if (S_ISREG(st.st_mode) && st.st_size == 0) {
        return error_set(err, SCOPE_EIO, "", "cannot read '%s': it is empty", s->input);
    } else {
        char *path = g_canonicalize_filename(s->input, NULL);
        uri = gst_filename_to_uri(path, NULL);
        g_free(path);
    }
    g_object_set(add_decoder(s, "uridecodebin"), "uri", uri, NULL);
    g_free(uri);
    return 0;
}

static int build(source *s, scope_error *err)
{
    static const char *const needed[] = {"videoconvertscale", "videoflip", "deinterlace"};
    for (size_t i = 0; i < G_N_ELEMENTS(needed); i++) {
        int status = media_need(needed[i], err);
        if (status)
            return status;
    }
    if (g_str_has_prefix(s->input, "/dev/video"))
        return build_camera(s, err);
    if (intake_takes(s->input))
        return build_intake(s, err);
    return build_file(s, err);
}

/* ---- opening --------------------------------------------------------------------------------- */

/* Of a live input the streams turn up, on GStreamer's thread, when they like. */
static GstAppSink *video_sink(source *s)
{
    return g_atomic_pointer_get(&s->video);
}

static bool cancelled(const source *s)
{
    return s->opt.cancelled && s->opt.cancelled(s->opt.ctx);
}

/* An error of the intake says more than the pipeline's that follows from it. */
static bool failed(source *s, scope_error *err)
{
    if (s->intake && intake_failed(s->intake, err))
        return true;
    return media_bus_failed(s->bus, "read", s->input, err);
}

/* Wait until every stream has a first buffer, or its end. */
static int preroll(source *s, scope_error *err)
{
    gint64 limit = g_get_monotonic_time() + OPEN_TIMEOUT_S * G_USEC_PER_SEC;
    while (!cancelled(s)) {
        GstMessage *m = gst_bus_timed_pop_filtered(s->bus, WAIT_MS * GST_MSECOND,
                                                   GST_MESSAGE_ASYNC_DONE | GST_MESSAGE_EOS |
                                                       GST_MESSAGE_ERROR);
        bool done = m && GST_MESSAGE_TYPE(m) != GST_MESSAGE_ERROR;
        if (m && !done)
            gst_bus_post(s->bus, gst_message_ref(m)); /* to where failed() finds it */
        if (m)
            gst_message_unref(m);
        if (failed(s, err))
            return SCOPE_EIO;
        if (done)
            return 0;
        if (g_get_monotonic_time() > limit)
            return error_set(err, SCOPE_EIO, "", "cannot read '%s': nothing came in %d seconds",
                             s->input, OPEN_TIMEOUT_S);
    }
    return error_set(err, SCOPE_ECANCEL, "", "interrupted while '%s' was being opened", s->input);
}

static int start(source *s, scope_error *err)
{
    GstStateChangeReturn change = gst_element_set_state(s->pipeline, GST_STATE_PAUSED);
    s->info.live |= change == GST_STATE_CHANGE_NO_PREROLL;
    if (s->info.live || change == GST_STATE_CHANGE_FAILURE)
        gst_element_set_state(s->pipeline, GST_STATE_PLAYING);
    int status = s->info.live ? 0 : preroll(s, err);
    if (status)
        return status;
    /* Where a stream cannot seek, read() drops what comes before the start. */
    if (s->opt.start > 0 && !s->intake && !s->info.live &&
        gst_element_seek_simple(s->pipeline, GST_FORMAT_TIME,
                                GST_SEEK_FLAG_FLUSH | GST_SEEK_FLAG_ACCURATE,
                                (gint64)llround(s->opt.start * 1e6) * 1000))
        status = preroll(s, err);
    gst_element_set_state(s->pipeline, GST_STATE_PLAYING);
    return status;
}

/* Wait for a frame: 1, 0 at the end, negative on an error. */
static int pull(source *s, GstSample **sample, scope_error *err)
{
    while (!cancelled(s)) {
        GstAppSink *video = video_sink(s);
        *sample = video ? gst_app_sink_try_pull_sample(video, WAIT_MS * GST_MSECOND) : NULL;
        if (*sample)
            return 1;
        if (!video)
            g_usleep(WAIT_MS * 1000);
        bool ended = video && gst_app_sink_is_eos(video);
        if (failed(s, err))
            return SCOPE_EIO;
        if (ended)
            return 0;
    }
    return 0;
}

/* Time in the input, -1 when the stream does not say. */
static int64_t stream_us(GstSample *sample, GstClockTime time)
{
    const GstSegment *segment = gst_sample_get_segment(sample);
    if (!GST_CLOCK_TIME_IS_VALID(time))
        return -1;
    guint64 t = gst_segment_to_stream_time(segment, GST_FORMAT_TIME, time);
    return GST_CLOCK_TIME_IS_VALID(t) ? (int64_t)((t + 500) / 1000) : -1;
}

static int64_t duration_us(const source *s, GstBuffer *b)
{
    if (GST_BUFFER_DURATION_IS_VALID(b))
        return (int64_t)(GST_BUFFER_DURATION(b) + 500) / 1000;
    return s->info.fps_n ? (int64_t)1000000 * s->info.fps_d / s->info.fps_n : 40000;
}

/* The sound of a sample, its pts turned into time in the input. */
static GstBuffer *timed_buffer(GstSample *sample)
{
    GstBuffer *b = gst_buffer_copy(gst_sample_get_buffer(sample));
    int64_t at = stream_us(sample, GST_BUFFER_PTS(b));
    GST_BUFFER_PTS(b) = at < 0 ? 0 : (GstClockTime)at * 1000;
    GST_BUFFER_DTS(b) = GST_CLOCK_TIME_NONE;
    return b;
}

static void learn_audio(source *s)
{
    /* It has prerolled, but shows only when its thread has run once more. */
    GstSample *sound = s->audio ? gst_app_sink_try_pull_sample(s->audio, GST_SECOND) : NULL;
    if (!sound)
        return; /* a stream without a single sample counts as none: muxers choke on it */
    s->info.audio = gst_caps_ref(gst_sample_get_caps(sound));
    s->held_audio = timed_buffer(sound);
    gst_sample_unref(sound);
}

static int learn(source *s, scope_error *err)
{
    GstVideoInfo v;
    if (!gst_video_info_from_caps(&v, gst_sample_get_caps(s->held)))
        return error_set(err, SCOPE_EIO, "", "cannot read '%s': it has frames of no size",
                         s->input);
    s->info.w = v.width;
    s->info.h = v.height;
    s->info.fps_n = v.fps_n;
    s->info.fps_d = v.fps_n ? v.fps_d : 1;
    gint64 ns = 0;
    if (s->intake) {
        s->info.total = s->pictures;
    } else if (!s->info.live && v.fps_n &&
               gst_element_query_duration(s->pipeline, GST_FORMAT_TIME, &ns) && ns > 0) {
        double seconds = fmax((double)ns / 1e9 - s->opt.start, 0);
        s->info.total = llround(seconds * v.fps_n / v.fps_d);
    }
    learn_audio(s);
    return 0;
}

source *source_open(const char *input, const source_options *o, frame_pool *pool, scope_error *err)
{
    if (media_init(err))
        return NULL;
    source *s = g_new0(source, 1);
    s->input = g_strdup(input);
    s->opt = *o;
    s->pool = pool;
    s->info.total = -1;
    s->next_us = llround(o->start * 1e6);
    s->pipeline = gst_pipeline_new(NULL);
    s->bus = gst_element_get_bus(s->pipeline);
    int got = build(s, err);
    if (!got)
        got = start(s, err);
    if (!got && !s->info.live && !video_sink(s))
        got = error_set(err, SCOPE_EIO, "", "cannot read '%s': there is no video in it", input);
    if (!got)
        got = pull(s, &s->held, err);
    if (got == 0)
        error_set(err, SCOPE_EIO, "",
                  o->start > 0 ? "'%s' has no frames after --start %g" : "'%s' has no frames",
                  input, o->start);
    if (got == 1 && !learn(s, err))
        return s;
    source_close(s);
    return NULL;
}

void source_close(source *s)
{
    if (!s)
        return;
    if (s->intake)
        intake_stop(s->intake);
    gst_element_set_state(s->pipeline, GST_STATE_NULL);
    if (s->held)
        gst_sample_unref(s->held);
    if (s->held_audio)
        gst_buffer_unref(s->held_audio);
    if (s->info.audio)
        gst_caps_unref(s->info.audio);
    if (s->video)
        gst_object_unref(s->video);
    if (s->audio)
        gst_object_unref(s->audio);
    gst_object_unref(s->bus);
    gst_object_unref(s->pipeline);
    intake_close(s->intake);
    g_free(s->input);
    g_free(s);
}

const source_info *source_about(const source *s)
{
    return &s->info;
}

/* ---- reading --------------------------------------------------------------------------------- */

frame *source_frame(GstSample *sample, frame_pool *pool, scope_error *err)
{
    GstVideoInfo info;
    GstVideoFrame from;
    if (!gst_video_info_from_caps(&info, gst_sample_get_caps(sample)) ||
        !gst_video_frame_map(&from, &info, gst_sample_get_buffer(sample), GST_MAP_READ)) {
        error_set(err, SCOPE_EIO, "", "a frame came that cannot be read");
        return NULL;
    }
    scope_video shape = {.t = 1,
                         .h = info.height,
                         .w = info.width,
                         .c = GST_VIDEO_INFO_FORMAT(&info) == GST_VIDEO_FORMAT_RGBA ? 4 : 3,
                         .dtype = SCOPE_U8};
    frame *f = frame_new(pool, &shape, err);
    if (f && yuv_reads(&from))
        yuv_to_rgb(&from, &f->v);
    for (int y = 0; f && !yuv_reads(&from) && y < info.height; y++)
        memcpy((char *)f->v.data + y * f->v.stride_h,
               (char *)GST_VIDEO_FRAME_PLANE_DATA(&from, 0) +
                   (gsize)y * (gsize)GST_VIDEO_FRAME_PLANE_STRIDE(&from, 0),
               (size_t)f->v.stride_h);
    gst_video_frame_unmap(&from);
    return f;
}

int source_read(source *s, frame **out, scope_error *err)
{
    int64_t start_us = llround(s->opt.start * 1e6);
    for (;;) {
        GstSample *sample = s->held;
        s->held = NULL;
        int got = sample ? 1 : pull(s, &sample, err);
        if (got <= 0)
            return got;
        GstBuffer *b = gst_sample_get_buffer(sample);
        int64_t pts = stream_us(sample, GST_BUFFER_PTS(b)), length = duration_us(s, b);
        if (pts < 0)
            pts = s->next_us;
        if (s->info.live && pts > s->next_us + length / 2 && length > 0)
            s->missed += (pts - s->next_us + length / 2) / length;
        s->next_us = pts + length;
        /* A seek leaves a sliver of the frame before, where the start was rounded. */
        if (s->next_us - start_us < SLIVER_US && !s->info.live) {
            gst_sample_unref(sample);
            continue;
        }
        frame *f = source_frame(sample, s->pool, err);
        gst_sample_unref(sample);
        if (!f)
            return SCOPE_EIO;
        f->v.pts_us = pts;
        f->duration_us = length;
        *out = f;
        return 1;
    }
}

GstBuffer *source_audio(source *s, int64_t until_us, enum source_silence *why)
{
    if (!s->held_audio) {
        GstSample *sound = gst_app_sink_try_pull_sample(s->audio, 0);
        *why = gst_app_sink_is_eos(s->audio) ? SOURCE_NO_MORE : SOURCE_NOT_YET;
        if (!sound)
            return NULL;
        s->held_audio = timed_buffer(sound);
        gst_sample_unref(sound);
    }
    GstBuffer *b = s->held_audio;
    *why = SOURCE_LATER;
    if ((int64_t)(GST_BUFFER_PTS(b) / 1000) >= until_us)
        return NULL;
    s->held_audio = NULL;
    return b;
}

int64_t source_missed(const source *s)
{
    return s->missed;
}
