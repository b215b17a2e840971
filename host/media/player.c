/* player.c - one GStreamer pipeline that plays: its clock is the machine's, and its appsinks wait
 * until what they hold is due.
 *
 * Under live/inlet. Must stay true: the video appsink holds one frame, the newest; nothing in here
 * waits for longer than it was asked to, but for the opening of devices and connections.
 */
#include "player.h"
#include "elements.h"
#include "source.h"

#include <gst/app/gstappsink.h>
#include <gst/video/video.h>
#include <malloc.h>
#include <string.h>

enum {
    TEST_W = 640,
    TEST_H = 360,
    FPS = 30,
    RTSP_LATENCY_MS = 100,
    NET_TIMEOUT_S = 10,
    LATE_STREAM_US = 3000000
};

struct player {
    player_options opt;  /* not its strings */
    char *input, *about; /* owned */
    frame_pool *pool;    /* borrowed */
    GstElement *pipeline;
    GstBus *bus;
    GstAppSink *video; /* owned; NULL until there is a picture [any, atomic] */
    GMutex lock;       /* of the two branches, which are made as their streams turn up */
    GstPad *video_entry, *sound_entry; /* owned; NULL until then */
    bool changed;                      /* another pad took the place of one of them */
    gint strayed;                      /* it led to a file of this machine, which it may not */
    gint pads;                         /* streams that turned up, without the picture */
    gint all;                          /* no more streams will turn up */
    int64_t all_us;                    /* since when it has looked as if there were no picture */
};

/* ---- building -------------------------------------------------------------------------------- */

#define VIDEO_SINK "appsink name=sink sync=true qos=false max-buffers=1 drop=true"
#define SOUND_TAIL                                                                                 \
    "audioconvert ! audioresample ! "                                                              \
    "audio/x-raw,format=S16LE,layout=interleaved,rate=48000,channels=2 ! "                         \
    "appsink name=sound sync=true max-buffers=50 drop=true"

static char *video_tail(const player *p, bool interlaced)
{
    char *rate = p->opt.fps ? g_strdup_printf("videorate drop-only=true max-rate=%d !", p->opt.fps)
                            : g_strdup("");
    char *tail = g_strdup_printf("%s %s videoconvertscale ! " SOURCE_CAPS
                                 " ! videoflip video-direction=auto ! " VIDEO_SINK,
                                 interlaced ? "deinterlace fields=top !" : "", rate);
    g_free(rate);
    return tail;
}

/* Time on the clock at which something is due, in nanoseconds. */
static GstClockTime due(const player *p, GstSample *sample)
{
    GstBuffer *b = gst_sample_get_buffer(sample);
    guint64 running = gst_segment_to_running_time(gst_sample_get_segment(sample), GST_FORMAT_TIME,
                                                  GST_BUFFER_PTS(b));
    if (!GST_BUFFER_PTS_IS_VALID(b) || !GST_CLOCK_TIME_IS_VALID(running))
        return (GstClockTime)g_get_monotonic_time() * 1000;
    return gst_element_get_base_time(p->pipeline) + running;
}

/* [GStreamer thread] */
static GstFlowReturn on_sound(GstAppSink *sink, gpointer user)
{
    player *p = user;
    GstSample *sample = gst_app_sink_try_pull_sample(sink, 0);
    if (!sample)
        return GST_FLOW_OK;
    GstBuffer *b = gst_buffer_copy(gst_sample_get_buffer(sample));
    GST_BUFFER_PTS(b) = due(p, sample);
    GST_BUFFER_DTS(b) = GST_CLOCK_TIME_NONE;
    gst_sample_unref(sample);
    p->opt.sound(p->opt.ctx, b);
    return GST_FLOW_OK;
}

static void take_sinks(player *p, GstBin *bin)
{
    GstElement *sound = gst_bin_get_by_name(bin, "sound");
    if (sound) {
        GstAppSinkCallbacks calls = {.new_sample = on_sound};
        gst_app_sink_set_callbacks(GST_APP_SINK(sound), &calls, p, NULL);
        gst_object_unref(sound);
    }
    GstElement *video = gst_bin_get_by_name(bin, "sink");
    if (!video)
        return;
    /* What comes as it happens is not held back for the latency of its pipeline (50 ms). */
    if (p->opt.kind != PLAYER_URI)
        g_object_set(video, "sync", FALSE, NULL);
    g_atomic_pointer_set(&p->video, GST_APP_SINK(video));
}

/* A described chain behind `pad`; where it begins, owned. */
static GstPad *attach(player *p, GstPad *pad, const char *description)
{
    GstElement *bin = gst_parse_bin_from_description(description, TRUE, NULL);
    take_sinks(p, GST_BIN(bin));
    gst_bin_add(GST_BIN(p->pipeline), bin);
    GstPad *entry = gst_element_get_static_pad(bin, "sink");
    gst_pad_link(pad, entry);
    gst_element_sync_state_with_parent(bin);
    return entry;
}

/* The first picture and the first sound; what else there is stays loose. When a stream changes its
 * codec, another pad comes in the place of one that has gone. */
static void take_pad(player *p, GstPad *pad, const GstStructure *s)
{
    bool video = gst_structure_has_name(s, "video/x-raw");
    bool sound = gst_structure_has_name(s, "audio/x-raw") && p->opt.sound;
    GstPad **entry = video ? &p->video_entry : &p->sound_entry;
    const char *mode = gst_structure_get_string(s, "interlace-mode");
    if (!video)
        g_atomic_int_inc(&p->pads);
    if (!video && !sound)
        return;
    if (*entry) {
        if (!gst_pad_is_linked(*entry))
            gst_pad_link(pad, *entry);
        p->changed = true;
        return;
    }
    char *tail =
        video ? video_tail(p, mode && strcmp(mode, "progressive") != 0) : g_strdup(SOUND_TAIL);
    *entry = attach(p, pad, tail);
    g_free(tail);
}

/* [GStreamer thread] */
static void on_pad(GstElement *decoder, GstPad *pad, gpointer user)
{
    (void)decoder;
    player *p = user;
    GstCaps *caps = gst_pad_get_current_caps(pad);
    if (!caps)
        caps = gst_pad_query_caps(pad, NULL);
    g_mutex_lock(&p->lock);
    take_pad(p, pad, gst_caps_get_structure(caps, 0));
    g_mutex_unlock(&p->lock);
    gst_caps_unref(caps);
}

/* [GStreamer thread] */
static void on_no_more(GstElement *decoder, gpointer user)
{
    (void)decoder;
    g_atomic_int_set(&((player *)user)->all, 1);
}

static void set_if(GstElement *e, const char *property, guint64 value)
{
    GParamSpec *spec = g_object_class_find_property(G_OBJECT_GET_CLASS(e), property);
    GValue from = G_VALUE_INIT, to = G_VALUE_INIT;
    if (!spec)
        return;
    g_value_init(&from, G_TYPE_UINT64);
    g_value_set_uint64(&from, value);
    g_value_init(&to, spec->value_type);
    if (g_value_transform(&from, &to))
        g_object_set_property(G_OBJECT(e), property, &to);
    g_value_unset(&to);
    g_value_unset(&from);
}

/* [GStreamer thread] Sources give up in time, and a URL leads to no file of this machine. */
static void on_element(GstBin *bin, GstBin *within, GstElement *e, gpointer user)
{
    (void)bin, (void)within;
    player *p = user;
    GstElementFactory *factory = gst_element_get_factory(e);
    const char *name = factory ? GST_OBJECT_NAME(factory) : "";
    if (!strcmp(name, "filesrc") && !p->opt.files) {
        g_atomic_int_set(&p->strayed, 1);
        g_object_set(e, "location", "/dev/null", NULL);
    } else if (!strcmp(name, "souphttpsrc")) {
        set_if(e, "timeout", NET_TIMEOUT_S);
    } else if (!strcmp(name, "rtspsrc")) {
        set_if(e, "latency", RTSP_LATENCY_MS);
    } else if (!strcmp(name, "rtmp2src")) {
        set_if(e, "timeout", NET_TIMEOUT_S);
    }
}

static GstElement *add_decoder(player *p, const char *factory)
{
    GstElement *decoder = gst_element_factory_make(factory, NULL);
    gst_bin_add(GST_BIN(p->pipeline), decoder);
    g_signal_connect(decoder, "pad-added", G_CALLBACK(on_pad), p);
    g_signal_connect(decoder, "no-more-pads", G_CALLBACK(on_no_more), p);
    return decoder;
}

/* A whole pipeline from text; build() made sure of the elements. */
static void add_line(player *p, const char *line)
{
    GstElement *bin = gst_parse_bin_from_description(line, FALSE, NULL);
    take_sinks(p, GST_BIN(bin));
    gst_bin_add(GST_BIN(p->pipeline), bin);
    g_atomic_int_set(&p->all, 1);
}

static int build_screen(player *p, scope_error *err)
{
    int status = media_need("ximagesrc", err);
    if (status)
        return status;
    if (!g_getenv("DISPLAY"))
        return error_set(err, SCOPE_EIO, "",
                         "the server has no display to take pictures of (DISPLAY is not set)");
    char *line = g_strdup_printf("ximagesrc use-damage=false show-pointer=true ! "
                                 "video/x-raw,framerate=%d/1 ! videoconvertscale ! " SOURCE_CAPS
                                 " ! " VIDEO_SINK,
                                 p->opt.fps ? p->opt.fps : FPS);
    add_line(p, line);
    g_free(line);
    return 0;
}

static int build_test(player *p, scope_error *err)
{
    int status = media_need("videotestsrc", err);
    if (!status)
        status = media_need("audiotestsrc", err);
    if (status)
        return status;
    bool tone = p->opt.sound && !strcmp(p->input, "tone");
    char *line = g_strdup_printf(
        "videotestsrc is-live=true pattern=smpte horizontal-speed=2 ! "
        "video/x-raw,format=RGB,width=%d,height=%d,framerate=%d/1,pixel-aspect-ratio=1/1 "
        "! " VIDEO_SINK "%s",
        TEST_W, TEST_H, p->opt.fps ? p->opt.fps : FPS,
        tone
            ? "  audiotestsrc is-live=true wave=ticks volume=0.3 samplesperbuffer=960 ! " SOUND_TAIL
            : "");
    add_line(p, line);
    g_free(line);
    return 0;
}

static int build(player *p, scope_error *err)
{
    static const char *const needed[] = {"videoconvertscale", "videoflip", "deinterlace",
                                         "videorate", "audioresample"};
    int status = 0;
    for (size_t i = 0; !status && i < G_N_ELEMENTS(needed); i++)
        status = media_need(needed[i], err);
    if (!status && p->opt.kind == PLAYER_CAMERA)
        status = media_need("v4l2src", err);
    if (status)
        return status;
    switch (p->opt.kind) {
    case PLAYER_SCREEN:
        return build_screen(p, err);
    case PLAYER_TEST:
        return build_test(p, err);
    case PLAYER_CAMERA: {
        GstElement *camera = gst_element_factory_make("v4l2src", NULL);
        g_object_set(camera, "device", p->input, NULL);
        gst_bin_add(GST_BIN(p->pipeline), camera);
        gst_element_link(camera, add_decoder(p, "decodebin"));
        return 0;
    }
    case PLAYER_URI:
        g_object_set(add_decoder(p, "uridecodebin"), "uri", p->input, NULL);
    }
    return 0;
}

/* ---- life ------------------------------------------------------------------------------------ */

static bool failed(player *p, scope_error *err)
{
    if (g_atomic_int_get(&p->strayed)) {
        error_set(err, SCOPE_EINVAL, "", "cannot play '%s': it leads to a file of the server",
                  p->about);
        return true;
    }
    return media_bus_failed(p->bus, "play", p->about, err);
}

player *player_open(const player_options *o, frame_pool *pool, scope_error *err)
{
    if (media_init(err))
        return NULL;
    player *p = g_new0(player, 1);
    p->opt = *o;
    p->input = g_strdup(o->input);
    p->about = g_strdup(o->about);
    p->pool = pool;
    g_mutex_init(&p->lock);
    p->pipeline = gst_pipeline_new(NULL);
    p->bus = gst_element_get_bus(p->pipeline);
    g_signal_connect(p->pipeline, "deep-element-added", G_CALLBACK(on_element), p);
    GstClock *clock = gst_system_clock_obtain();
    gst_pipeline_use_clock(GST_PIPELINE(p->pipeline), clock);
    gst_object_unref(clock);
    bool good = !build(p, err);
    if (good && gst_element_set_state(p->pipeline, GST_STATE_PLAYING) == GST_STATE_CHANGE_FAILURE) {
        if (!failed(p, err))
            error_set(err, SCOPE_EIO, "", "cannot play '%s'", p->about);
        good = false;
    }
    if (good)
        return p;
    player_close(p);
    return NULL;
}

void player_close(player *p)
{
    if (!p)
        return;
    gst_element_set_state(p->pipeline, GST_STATE_NULL);
    GstObject *const owned[] = {GST_OBJECT(p->video), GST_OBJECT(p->video_entry),
                                GST_OBJECT(p->sound_entry)};
    for (size_t i = 0; i < G_N_ELEMENTS(owned); i++) {
        if (owned[i])
            gst_object_unref(owned[i]);
    }
    g_mutex_clear(&p->lock);
    gst_object_unref(p->bus);
    gst_object_unref(p->pipeline);
    g_free(p->input);
    g_free(p->about);
    g_free(p);
    malloc_trim(0); /* the heap of a pipeline's threads is kept otherwise, one after another */
}

/* ---- playing --------------------------------------------------------------------------------- */

/* Digits of 3 x 5 dots, a row of three bits each, from the top. */
static const uint16_t digits[10] = {075557, 026227, 071747, 071717, 055711,
                                    074717, 074757, 071111, 075757, 075717};

/* The number of the frame, in the middle: one that is dropped is missed. */
static void draw_count(const scope_video *v, int64_t count)
{
    enum { DOT = 12, COLUMNS = 4, PLACES = 6 };
    char text[24];
    g_snprintf(text, sizeof text, "%0*lld", PLACES, (long long)(count % 1000000));
    int left = (v->w - PLACES * COLUMNS * DOT) / 2, top = (v->h - 5 * DOT) / 2;
    for (int y = -DOT; y < 6 * DOT; y++) {
        uint8_t *row = (uint8_t *)v->data + (top + y) * v->stride_h;
        for (int x = -DOT; x < PLACES * COLUMNS * DOT; x++) {
            int dot = x / DOT % COLUMNS, line = y / DOT, lit = 0;
            if (x >= 0 && y >= 0 && line < 5 && dot < 3)
                lit = digits[text[x / (DOT * COLUMNS)] - '0'] >> (14 - 3 * line - dot) & 1;
            memset(row + (left + x) * v->c, lit ? 255 : 0, 3);
        }
    }
}

/* Nothing came: is it the end, or is there no picture at all? Streams inside of streams turn up
 * later than their container's. */
static int at_end(player *p, GstAppSink *video, scope_error *err)
{
    if (video)
        return gst_app_sink_is_eos(video) ? PLAYER_ENDED : 0;
    int64_t now = g_get_monotonic_time();
    if (g_atomic_int_get(&p->all) && g_atomic_int_get(&p->pads) && !p->all_us)
        p->all_us = now;
    if (!p->all_us || now - p->all_us < LATE_STREAM_US)
        return 0;
    return error_set(err, SCOPE_EIO, "", "cannot play '%s': there is no picture in it", p->about);
}

int player_next(player *p, int wait_ms, frame **out, scope_error *err)
{
    GstAppSink *video = g_atomic_pointer_get(&p->video);
    GstSample *sample = video ? gst_app_sink_try_pull_sample(video, wait_ms * GST_MSECOND) : NULL;
    if (!video)
        g_usleep((gulong)wait_ms * 1000);
    if (failed(p, err)) {
        if (sample)
            gst_sample_unref(sample);
        return SCOPE_EIO;
    }
    if (!sample)
        return at_end(p, g_atomic_pointer_get(&p->video), err);
    frame *f = source_frame(sample, p->pool, err);
    if (f) {
        GstBuffer *b = gst_sample_get_buffer(sample);
        f->v.pts_us = (int64_t)(due(p, sample) / 1000);
        f->duration_us =
            GST_BUFFER_DURATION_IS_VALID(b) ? (int64_t)GST_BUFFER_DURATION(b) / 1000 : 0;
        if (p->opt.kind == PLAYER_TEST)
            draw_count(&f->v, (int64_t)GST_BUFFER_OFFSET(b));
    }
    gst_sample_unref(sample);
    *out = f;
    return f ? 1 : SCOPE_EIO;
}

bool player_rewind(player *p)
{
    g_mutex_lock(&p->lock);
    bool changed = p->changed; /* its beginning is not like its end: opening it again is safer */
    g_mutex_unlock(&p->lock);
    return p->opt.kind == PLAYER_URI && !changed &&
           gst_element_seek_simple(p->pipeline, GST_FORMAT_TIME,
                                   GST_SEEK_FLAG_FLUSH | GST_SEEK_FLAG_KEY_UNIT, 0);
}
