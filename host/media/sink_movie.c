/* sink_movie.c - MP4, Matroska and WebM: encode, mux, file.
 *
 *   appsrc (I420) ! encoder ! queue ! mux ! filesink       sound: appsrc ! encoder ! queue
 * ! mux
 *
 * Must stay true: the muxer takes whichever stream is behind, and both are pushed by one thread; so
 * the queues in front of it hold encoded data without limit, and no push ever blocks on the muxer.
 * Raw frames wait in the appsrc, at most RAW_FRAMES of them.
 */
#include "elements.h"
#include "sink_kind.h"
#include "yuv.h"

#include <gst/app/gstappsrc.h>
#include <gst/video/video.h>
#include <string.h>
#include <sys/statvfs.h>

enum { RAW_FRAMES = 3, WAIT_MS = 5, DISK_FULL_BYTES = 64 * 1024 };

typedef struct movie_state {
    GstElement *pipeline; /* owned, as are the others */
    GstBus *bus;
    GstVideoInfo info;        /* of the frames that are pushed */
    GstAppSrc *video, *sound; /* sound NULL without */
    bool heard;               /* some sound was written */
} movie_state;

#define QUEUE " ! queue max-size-buffers=0 max-size-bytes=0 max-size-time=0 ! mux. "

/* x264 and OpenH264 give the same kind of stream; the first is better for its size. */
static const char *h264_encoder(void)
{
    return media_has("x264enc") ? "x264enc" : "openh264enc";
}

static int movie_check(sink *s, scope_error *err)
{
    bool webm = !strcmp(s->ending, "webm"), mp4 = !strcmp(s->ending, "mp4");
    const char *const h264[] = {h264_encoder(), "h264parse", "videocrop",
                                "avenc_aac",    "aacparse",  mp4 ? "mp4mux" : "matroskamux"};
    const char *const vp8[] = {"vp8enc", "opusenc", "webmmux"};
    const char *const *needed = webm ? vp8 : h264;
    for (size_t i = 0; i < (webm ? G_N_ELEMENTS(vp8) : G_N_ELEMENTS(h264)); i++) {
        int status = media_need(needed[i], err);
        if (status)
            return status;
    }
    return 0;
}

/* H.264 in 4:2:0 needs even sizes: one row or column goes, rather than blurring all of them. */
static char *video_branch(sink *s, const scope_video *v)
{
    if (!strcmp(s->ending, "webm")) {
        double fps = s->opt.fps_n ? (double)s->opt.fps_n / s->opt.fps_d : 30;
        int bitrate = (int)CLAMP(v->w * (double)v->h * fps * 0.25, 200e3, 50e6);
        return g_strdup_printf("vp8enc deadline=1000000 cpu-used=4 threads=1 end-usage=cq "
                               "cq-level=10 min-quantizer=2 max-quantizer=40 target-bitrate=%d "
                               "keyframe-max-dist=120",
                               bitrate);
    }
    if ((v->w | v->h) & 1)
        g_snprintf(s->note, sizeof s->note,
                   "H.264 needs even sizes: %dx%d is cropped to %dx%d (.webm and .png keep it)",
                   v->w, v->h, v->w & ~1, v->h & ~1);
    const char *encoder =
        !strcmp(h264_encoder(), "x264enc")
            ? "x264enc speed-preset=veryfast pass=qual quantizer=20"
            : "openh264enc complexity=medium rate-control=quality bitrate=4000000";
    return g_strdup_printf("%s ! h264parse", encoder);
}

static int movie_begin(sink *s, const scope_video *first, scope_error *err)
{
    if (first->w < 2 || first->h < 2)
        return error_set(err, SCOPE_EINVAL, "", "%dx%d is too small for '%s'; use .png", first->w,
                         first->h, s->path);
    movie_state *m = g_new0(movie_state, 1);
    s->state = m;
    bool webm = !strcmp(s->ending, "webm");
    char *video = video_branch(s, first);
    char *line = g_strdup_printf(
        "appsrc name=video format=time ! %s" QUEUE "%s %s name=mux ! filesink name=file", video,
        !s->opt.audio ? ""
        : webm ? "appsrc name=sound format=time ! audioconvert ! audioresample ! opusenc" QUEUE
               : "appsrc name=sound format=time ! audioconvert ! audioresample ! "
                 "avenc_aac ! aacparse" QUEUE,
        webm                        ? "webmmux"
        : !strcmp(s->ending, "mp4") ? "mp4mux"
                                    : "matroskamux");
    m->pipeline = gst_parse_launch(line, NULL);
    g_free(line);
    g_free(video);
    m->bus = gst_element_get_bus(m->pipeline);
    m->video = GST_APP_SRC(gst_bin_get_by_name(GST_BIN(m->pipeline), "video"));
    int even = webm ? 0 : 1;
    gst_video_info_set_format(&m->info, GST_VIDEO_FORMAT_I420, (guint)(first->w & ~even),
                              (guint)(first->h & ~even));
    m->info.fps_n = s->opt.fps_n;
    m->info.fps_d = s->opt.fps_n ? s->opt.fps_d : 1;
    GstCaps *caps = gst_video_info_to_caps(&m->info);
    gst_app_src_set_caps(m->video, caps);
    gst_caps_unref(caps);
    if (s->opt.audio) {
        m->sound = GST_APP_SRC(gst_bin_get_by_name(GST_BIN(m->pipeline), "sound"));
        gst_app_src_set_caps(m->sound, s->opt.audio);
        g_object_set(m->sound, "max-bytes", (guint64)0, NULL);
    }
    GstElement *file = gst_bin_get_by_name(GST_BIN(m->pipeline), "file");
    g_object_set(file, "location", s->part, NULL);
    gst_object_unref(file);
    gst_element_set_state(m->pipeline, GST_STATE_PLAYING);
    return 0;
}

/* Is there an error on the bus? Some muxers do not tell that it was the disk. */
static bool failed(sink *s, scope_error *err)
{
    movie_state *m = s->state;
    struct statvfs disk;
    if (!media_bus_failed(m->bus, "write", s->path, err))
        return false;
    if (!fstatvfs(s->fd, &disk) && disk.f_bavail * disk.f_frsize < DISK_FULL_BYTES)
        error_set(err, SCOPE_EIO, "", "cannot write '%s': the disk is full", s->path);
    return true;
}

static int movie_write(sink *s, frame *f, scope_error *err)
{
    movie_state *m = s->state;
    GstBuffer *b = gst_buffer_new_allocate(NULL, GST_VIDEO_INFO_SIZE(&m->info), NULL);
    GstVideoFrame to;
    gst_video_frame_map(&to, &m->info, b, GST_MAP_WRITE);
    yuv_from_rgb(&f->v, &to);
    gst_video_frame_unmap(&to);
    GST_BUFFER_PTS(b) = sink_time(s, f);
    if (f->duration_us > 0)
        GST_BUFFER_DURATION(b) = (GstClockTime)f->duration_us * 1000;
    gst_app_src_push_buffer(m->video, b);
    for (;;) {
        if (failed(s, err))
            return SCOPE_EIO;
        if (gst_app_src_get_current_level_buffers(m->video) < RAW_FRAMES)
            return 0;
        GstMessage *error =
            gst_bus_timed_pop_filtered(m->bus, WAIT_MS * GST_MSECOND, GST_MESSAGE_ERROR);
        if (error) /* back to where media_bus_failed finds it */
            gst_bus_post(m->bus, error);
    }
}

static int movie_audio(sink *s, GstBuffer *sound, scope_error *err)
{
    movie_state *m = s->state;
    (void)err; /* what goes wrong shows on the bus, with the next frame */
    gst_app_src_push_buffer(m->sound, sound);
    m->heard = true;
    return 0;
}

/* mp4mux writes an unreadable file when its sound has no data at all. */
static void ensure_heard(sink *s)
{
    movie_state *m = s->state;
    int rate = 0, channels = 0;
    const GstStructure *caps = gst_caps_get_structure(s->opt.audio, 0);
    gst_structure_get_int(caps, "rate", &rate);
    gst_structure_get_int(caps, "channels", &channels);
    gsize bytes = (gsize)(rate / 50 * channels) * sizeof(float);
    if (m->heard || !bytes)
        return;
    GstBuffer *silence = gst_buffer_new_allocate(NULL, bytes, NULL);
    gst_buffer_memset(silence, 0, 0, bytes);
    GST_BUFFER_PTS(silence) = 0;
    gst_app_src_push_buffer(m->sound, silence);
    m->heard = true;
}

static void movie_audio_end(sink *s)
{
    movie_state *m = s->state;
    ensure_heard(s);
    gst_app_src_end_of_stream(m->sound);
}

static int movie_finish(sink *s, scope_error *err)
{
    movie_state *m = s->state;
    gst_app_src_end_of_stream(m->video);
    if (m->sound)
        movie_audio_end(s);
    for (;;) {
        GstMessage *message = gst_bus_timed_pop_filtered(m->bus, GST_CLOCK_TIME_NONE,
                                                         GST_MESSAGE_EOS | GST_MESSAGE_ERROR);
        bool ended = GST_MESSAGE_TYPE(message) == GST_MESSAGE_EOS;
        if (!ended)
            gst_bus_post(m->bus, message);
        else
            gst_message_unref(message);
        if (!ended && failed(s, err))
            return SCOPE_EIO;
        if (ended) {
            gst_element_set_state(m->pipeline, GST_STATE_NULL); /* filesink's last write */
            return failed(s, err) ? SCOPE_EIO : 0;
        }
    }
}

static void movie_close(sink *s)
{
    movie_state *m = s->state;
    if (!m)
        return;
    gst_element_set_state(m->pipeline, GST_STATE_NULL);
    gst_object_unref(m->video);
    if (m->sound)
        gst_object_unref(m->sound);
    gst_object_unref(m->bus);
    gst_object_unref(m->pipeline);
    g_free(m);
}

const sink_kind sink_movie = {.channels = 3,
                              .audio = true,
                              .file = true,
                              .check = movie_check,
                              .begin = movie_begin,
                              .write = movie_write,
                              .audio_write = movie_audio,
                              .audio_end = movie_audio_end,
                              .finish = movie_finish,
                              .close = movie_close};
