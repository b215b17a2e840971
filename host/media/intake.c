/* intake.c - pictures and Y4M into a pipeline. Under source.
 *
 * Must stay true: the appsrc asks (need-data) on its own thread, and one frame is brought for each
 * question, so nothing queues up; a broken input ends the stream and leaves its reason here.
 */
#include "intake.h"
#include "elements.h"
#include "pictures.h"
#include "y4m.h"

#include <fcntl.h>
#include <gst/app/gstappsrc.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

struct intake {
    GstCaps *caps;       /* owned */
    char *input;         /* owned */
    char **paths;        /* owned; NULL for Y4M */
    int64_t next, total; /* pictures */
    int fps_n, fps_d;
    bool single; /* one picture, repeated */
    y4m_reader y4m;
    GMutex lock;
    scope_error error; /* under lock */
};

bool intake_takes(const char *input)
{
    picture_pattern pattern;
    bool numbered = !strstr(input, "://") && picture_pattern_init(&pattern, input);
    if (numbered)
        picture_pattern_fini(&pattern);
    return numbered || !strcmp(input, "-") || g_str_has_suffix(input, ".y4m") ||
           (!strstr(input, "://") && picture_type(input)) || g_file_test(input, G_FILE_TEST_IS_DIR);
}

static int open_y4m(intake *f, const char *input, scope_error *err)
{
    bool pipe = !strcmp(input, "-");
    int fd = pipe ? STDIN_FILENO : open(input, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_set(err, SCOPE_EIO, "", "cannot read '%s': %s", input, g_strerror(errno));
    if (pipe && isatty(fd))
        return error_set(err, SCOPE_EIO, "",
                         "'-' reads Y4M from a pipe: ffmpeg -i FILE -f yuv4mpegpipe - | scope ...");
    int status = y4m_open(&f->y4m, fd, pipe ? "stdin" : f->input, err);
    if (status)
        return status;
    f->caps = gst_video_info_to_caps(&f->y4m.info);
    f->total = -1;
    return 0;
}

static int open_pictures(intake *f, const char *input, const intake_options *o, scope_error *err)
{
    f->paths = pictures_list(input, err);
    if (!f->paths)
        return SCOPE_EIO;
    const char *type = picture_type(f->paths[0]);
    if (!type)
        return error_set(err, SCOPE_EIO, "", "'%s' is no sequence of .png or .jpg pictures", input);
    int status = media_need(!strcmp(type, "image/png") ? "pngdec" : "jpegparse", err);
    if (status)
        return status;
    f->fps_n = o->fps_n ? o->fps_n : INTAKE_FPS;
    f->fps_d = o->fps_n ? o->fps_d : 1;
    f->single = !f->paths[1];
    f->next = (int64_t)ceil(o->start * f->fps_n / f->fps_d - 1e-3);
    int64_t have = f->single ? MAX(o->frames, 1) + f->next : (int64_t)g_strv_length(f->paths);
    f->total = have;
    if (f->next >= have)
        return error_set(err, SCOPE_EINVAL, "",
                         "--start %g is after the last of the %lld pictures of '%s'", o->start,
                         (long long)have, input);
    f->caps = gst_caps_new_simple(type, "framerate", GST_TYPE_FRACTION, f->fps_n, f->fps_d, NULL);
    return 0;
}

intake *intake_open(const char *input, const intake_options *o, scope_error *err)
{
    intake *f = g_new0(intake, 1);
    g_mutex_init(&f->lock);
    f->input = g_strdup(input);
    f->y4m.fd = -1;
    bool y4m = !strcmp(input, "-") || g_str_has_suffix(input, ".y4m");
    int status = y4m ? open_y4m(f, input, err) : open_pictures(f, input, o, err);
    if (!status)
        return f;
    intake_close(f);
    return NULL;
}

void intake_close(intake *f)
{
    if (!f)
        return;
    if (f->y4m.fd > STDIN_FILENO)
        close(f->y4m.fd);
    if (f->caps)
        gst_caps_unref(f->caps);
    g_strfreev(f->paths);
    g_free(f->input);
    g_mutex_clear(&f->lock);
    g_free(f);
}

void intake_stop(intake *f)
{
    g_atomic_int_set(&f->y4m.stop, 1);
}

/* Does it begin and end as its name says? Bytes after the end are not unusual. */
static bool is_picture(const char *path, const char *data, gsize size)
{
    static const char png[] = "\x89PNG\r\n\x1a\n", iend[] = "IEND\xae\x42\x60\x82";
    if (strcmp(picture_type(path), "image/png"))
        return size > 4 && !memcmp(data, "\xff\xd8", 2);
    return size > 16 && !memcmp(data, png, 8) && memmem(data, size, iend, 8);
}

/* 1, 0 at the end, negative when the file cannot be read. */
static int next_picture(intake *f, GstBuffer **out, scope_error *err)
{
    if (f->next >= f->total)
        return 0;
    const char *path = f->paths[f->single ? 0 : f->next];
    GError *cause = NULL;
    gchar *data;
    gsize size;
    if (!g_file_get_contents(path, &data, &size, &cause)) {
        error_set(err, SCOPE_EIO, "", "cannot read '%s': %s", path, cause->message);
        g_error_free(cause);
        return SCOPE_EIO;
    }
    if (size == 0) {
        g_free(data);
        return error_set(err, SCOPE_EIO, "", "cannot read '%s': it is empty", path);
    }
    if (!is_picture(path, data, size)) { /* libpng would talk on stderr */
        g_free(data);
        return error_set(err, SCOPE_EIO, "", "cannot read '%s': it is no %s picture, or cut off",
                         path, picture_type(path) + strlen("image/"));
    }
    GstBuffer *b = gst_buffer_new_wrapped(data, size);
    guint64 second = GST_SECOND * (guint64)f->fps_d, rate = (guint64)f->fps_n;
    GST_BUFFER_PTS(b) = gst_util_uint64_scale_round((guint64)f->next, second, rate);
    GST_BUFFER_DURATION(b) =
        gst_util_uint64_scale_round((guint64)f->next + 1, second, rate) - GST_BUFFER_PTS(b);
    f->next++;
    *out = b;
    return 1;
}

/* [GStreamer thread] */
static void on_need(GstAppSrc *appsrc, guint length, gpointer user)
{
    (void)length;
    intake *f = user;
    scope_error err = {0};
    GstBuffer *b = NULL;
    int got = f->paths ? next_picture(f, &b, &err) : y4m_read(&f->y4m, &b, &err);
    if (got > 0) {
        gst_app_src_push_buffer(appsrc, b);
        return;
    }
    if (got < 0) {
        g_mutex_lock(&f->lock);
        f->error = err;
        g_mutex_unlock(&f->lock);
    }
    gst_app_src_end_of_stream(appsrc);
}

GstElement *intake_element(intake *f)
{
    GstElement *head = gst_element_factory_make("appsrc", NULL);
    g_object_set(head, "format", GST_FORMAT_TIME, "caps", f->caps, NULL);
    GstAppSrcCallbacks calls = {.need_data = on_need};
    gst_app_src_set_callbacks(GST_APP_SRC(head), &calls, f, NULL);
    return head;
}

GstCaps *intake_caps(const intake *f)
{
    return f->caps;
}

const char *intake_decoder(const intake *f)
{
    if (!f->paths)
        return "";
    return !strcmp(picture_type(f->paths[0]), "image/png") ? "pngdec !" : "jpegparse ! jpegdec !";
}

bool intake_pictures(const intake *f)
{
    return f->paths != NULL;
}

int64_t intake_total(const intake *f)
{
    return f->paths ? f->total - f->next : -1;
}

bool intake_failed(intake *f, scope_error *err)
{
    g_mutex_lock(&f->lock);
    bool bad = f->error.status != 0;
    if (bad)
        *err = f->error;
    g_mutex_unlock(&f->lock);
    return bad;
}
