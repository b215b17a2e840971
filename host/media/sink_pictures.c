/* sink_pictures.c - PNG and JPEG: one picture, a numbered sequence, or a folder of them.
 *
 * Each picture is encoded, written beside its name and renamed, so every file that has a name is
 * whole, also after a failure. PNG keeps alpha when the last plugin made any.
 */
#include "elements.h"
#include "pictures.h"
#include "sink_kind.h"

#include <errno.h>
#include <fcntl.h>
#include <gst/app/gstappsink.h>
#include <gst/app/gstappsrc.h>
#include <gst/video/video.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { WAIT_MS = 50 };

typedef struct pictures_state {
    picture_pattern pattern; /* empty: a single picture */
    GstElement *pipeline;    /* owned; with its three friends NULL until the first frame */
    GstBus *bus;
    GstAppSrc *in;
    GstAppSink *out;
} pictures_state;

static char *name_of(sink *s, int64_t number)
{
    pictures_state *p = s->state;
    return p->pattern.before ? picture_pattern_name(&p->pattern, number) : g_strdup(s->path);
}

/* Can a file be made beside `name`? Told now rather than after the first frame. */
static int check_folder(const char *name, scope_error *err)
{
    char *folder = g_path_get_dirname(name);
    int status = 0;
    if (access(folder, W_OK | X_OK))
        status = error_set(err, SCOPE_EIO, "", "cannot write '%s': %s", name, g_strerror(errno));
    g_free(folder);
    return status;
}

static int pictures_check(sink *s, scope_error *err)
{
    pictures_state *p = g_new0(pictures_state, 1);
    s->state = p;
    int status = media_need(!strcmp(s->ending, "png") ? "pngenc" : "jpegenc", err);
    if (status)
        return status;
    char *pattern = g_strdup(s->path);
    if (g_str_has_suffix(s->path, "/") || g_file_test(s->path, G_FILE_TEST_IS_DIR)) {
        g_free(pattern);
        pattern = g_build_filename(s->path, "%06d.png", NULL);
        if (mkdir(s->path, 0777) && errno != EEXIST)
            status = error_set(err, SCOPE_EIO, "", "cannot make the folder '%s': %s", s->path,
                               g_strerror(errno));
    }
    if (!picture_pattern_init(&p->pattern, pattern) && strchr(pattern, '%'))
        status = error_set(err, SCOPE_EINVAL, "",
                           "'%s': a sequence has one number such as %%04d in its name", s->path);
    g_free(pattern);
    char *first = name_of(s, 0);
    if (!status && !s->opt.overwrite && g_file_test(first, G_FILE_TEST_EXISTS))
        status =
            error_set(err, SCOPE_EINVAL, "", "'%s' exists; add --overwrite to replace it", first);
    if (!status)
        status = check_folder(first, err);
    g_free(first);
    return status;
}

static GstVideoFormat format_of(const scope_video *v)
{
    return v->c == 1   ? GST_VIDEO_FORMAT_GRAY8
           : v->c == 3 ? GST_VIDEO_FORMAT_RGB
                       : GST_VIDEO_FORMAT_RGBA;
}

static void drop_frame(gpointer f)
{
    frame_unref(f);
}

/* The frame as a GStreamer buffer; a reference is kept, nothing copied. */
static GstBuffer *wrap(sink *s, frame *f)
{
    gsize offset[GST_VIDEO_MAX_PLANES] = {0}, bytes = (gsize)f->v.stride_t;
    gint stride[GST_VIDEO_MAX_PLANES] = {(gint)f->v.stride_h};
    GstBuffer *b = gst_buffer_new_wrapped_full(GST_MEMORY_FLAG_READONLY, f->v.data, bytes, 0, bytes,
                                               frame_ref(f), drop_frame);
    gst_buffer_add_video_meta_full(b, GST_VIDEO_FRAME_FLAG_NONE, format_of(&f->v), (guint)f->v.w,
                                   (guint)f->v.h, 1, offset, stride);
    GST_BUFFER_PTS(b) = sink_time(s, f);
    if (f->duration_us > 0)
        GST_BUFFER_DURATION(b) = (GstClockTime)f->duration_us * 1000;
    return b;
}

static GstCaps *caps_of(const sink *s)
{
    GstVideoInfo info;
    gst_video_info_set_format(&info, format_of(&s->shape), (guint)s->shape.w, (guint)s->shape.h);
    info.fps_n = s->opt.fps_n;
    info.fps_d = s->opt.fps_n ? s->opt.fps_d : 1;
    return gst_video_info_to_caps(&info);
}

static int pictures_begin(sink *s, const scope_video *first, scope_error *err)
{
    (void)first, (void)err;
    pictures_state *p = s->state;
    const char *encoder = !strcmp(s->ending, "png") ? "pngenc snapshot=false compression-level=3"
                                                    : "jpegenc quality=92";
    char *line = g_strdup_printf("appsrc name=in format=time ! videoconvert ! %s ! "
                                 "appsink name=out sync=false",
                                 encoder);
    p->pipeline = gst_parse_launch(line, NULL);
    g_free(line);
    p->bus = gst_element_get_bus(p->pipeline);
    p->in = GST_APP_SRC(gst_bin_get_by_name(GST_BIN(p->pipeline), "in"));
    p->out = GST_APP_SINK(gst_bin_get_by_name(GST_BIN(p->pipeline), "out"));
    GstCaps *caps = caps_of(s);
    gst_app_src_set_caps(p->in, caps);
    gst_caps_unref(caps);
    gst_element_set_state(p->pipeline, GST_STATE_PLAYING);
    return 0;
}

static int put_file(sink *s, const char *name, const GstMapInfo *map, scope_error *err)
{
    s->part = g_strdup_printf("%s.%d.part", name, (int)getpid());
    s->fd = open(s->part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    int status = 0;
    if (s->fd < 0)
        status = error_set(err, SCOPE_EIO, "", "cannot write '%s': %s", name, g_strerror(errno));
    else
        status = sink_put(s, map->data, map->size, err);
    if (!status && (fsync(s->fd) || rename(s->part, name)))
        status = error_set(err, SCOPE_EIO, "", "cannot write '%s': %s", name, g_strerror(errno));
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
    if (status)
        unlink(s->part);
    g_free(s->part);
    s->part = NULL;
    return status;
}

static int pictures_write(sink *s, frame *f, scope_error *err)
{
    pictures_state *p = s->state;
    if (!p->pattern.before && s->frames > 0)
        return error_set(err, SCOPE_EINVAL, "",
                         "'%s' holds one picture and more frames came; name a sequence such as "
                         "out%%04d.png, a folder 'out/', or use --frames 1",
                         s->path);
    gst_app_src_push_buffer(p->in, wrap(s, f));
    GstSample *sample = NULL;
    while (!(sample = gst_app_sink_try_pull_sample(p->out, WAIT_MS * GST_MSECOND))) {
        if (media_bus_failed(p->bus, "encode", s->path, err))
            return SCOPE_EIO;
    }
    GstMapInfo map;
    gst_buffer_map(gst_sample_get_buffer(sample), &map, GST_MAP_READ);
    char *name = name_of(s, s->frames);
    int status = put_file(s, name, &map, err);
    g_free(name);
    gst_buffer_unmap(gst_sample_get_buffer(sample), &map);
    gst_sample_unref(sample);
    return status;
}

static void pictures_close(sink *s)
{
    pictures_state *p = s->state;
    if (!p)
        return;
    if (p->pipeline) {
        gst_element_set_state(p->pipeline, GST_STATE_NULL);
        gst_object_unref(p->in);
        gst_object_unref(p->out);
        gst_object_unref(p->bus);
        gst_object_unref(p->pipeline);
    }
    picture_pattern_fini(&p->pattern);
    g_free(p);
}

const sink_kind sink_pictures = {.check = pictures_check,
                                 .begin = pictures_begin,
                                 .write = pictures_write,
                                 .close = pictures_close};
