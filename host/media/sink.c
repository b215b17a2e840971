/* sink.c - output by the ending of its name; the part file; what all kinds share. Under run.
 *
 * Must stay true: no half-written file ever has the final name, and no part file outlives its sink.
 */
#include "elements.h"
#include "pictures.h"
#include "sink_kind.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct {
    const char *ending;
    const sink_kind *kind;
} endings[] = {
    {"mp4", &sink_movie},    {"mkv", &sink_movie},    {"webm", &sink_movie},    {"y4m", &sink_y4m},
    {"png", &sink_pictures}, {"jpg", &sink_pictures}, {"jpeg", &sink_pictures},
};

static bool is_folder(const char *path)
{
    return g_str_has_suffix(path, "/") || g_file_test(path, G_FILE_TEST_IS_DIR);
}

static const sink_kind *kind_of(const char *path, char **ending)
{
    const char *name = strrchr(path, '/');
    const char *dot = strrchr(name ? name : path, '.');
    *ending = NULL;
    if (sink_is_stdout(path))
        return &sink_y4m;
    if (is_folder(path)) {
        *ending = g_strdup("png");
        return &sink_pictures;
    }
    *ending = g_ascii_strdown(dot ? dot + 1 : "", -1);
    for (size_t i = 0; i < G_N_ELEMENTS(endings); i++) {
        if (!strcmp(endings[i].ending, *ending))
            return endings[i].kind;
    }
    return NULL;
}

bool sink_is_stdout(const char *path)
{
    return !strcmp(path, "-");
}

bool sink_takes_audio(const char *path)
{
    char *ending;
    const sink_kind *kind = kind_of(path, &ending);
    g_free(ending);
    return kind && kind->audio;
}

bool sink_is_single(const char *path)
{
    picture_pattern pattern;
    bool numbered = picture_pattern_init(&pattern, path);
    picture_pattern_fini(&pattern);
    return !numbered && !is_folder(path) && picture_type(path);
}

/* ---- the part file --------------------------------------------------------------------------- */

static int open_part(sink *s, scope_error *err)
{
    if (sink_is_stdout(s->path)) {
        s->fd = STDOUT_FILENO;
        if (isatty(s->fd))
            return error_set(err, SCOPE_EIO, "",
                             "'-' writes Y4M to a pipe: scope run ... -o - | ffplay -");
        return 0;
    }
    if (!s->opt.overwrite && g_file_test(s->path, G_FILE_TEST_EXISTS))
        return error_set(err, SCOPE_EINVAL, "", "'%s' exists; add --overwrite to replace it",
                         s->path);
    s->part = g_strdup_printf("%s.%d.part", s->path, (int)getpid());
    s->fd = open(s->part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (s->fd >= 0)
        return 0;
    int cause = errno;
    g_free(s->part);
    s->part = NULL;
    return error_set(err, SCOPE_EIO, "", "cannot write '%s': %s", s->path, g_strerror(cause));
}

static int keep_part(sink *s, scope_error *err)
{
    if (!s->part)
        return 0;
    if (fsync(s->fd) || rename(s->part, s->path))
        return error_set(err, SCOPE_EIO, "", "cannot write '%s': %s", s->path, g_strerror(errno));
    g_free(s->part);
    s->part = NULL;
    return 0;
}

/* ---- life ------------------------------------------------------------------------------------ */

sink *sink_open(const char *path, const sink_options *o, frame_pool *pool, scope_error *err)
{
    if (media_init(err))
        return NULL;
    sink *s = g_new0(sink, 1);
    s->opt = *o;
    s->fd = -1;
    s->last_us = -1;
    s->path = g_strdup(path);
    s->convert = converter_new(pool);
    s->kind = kind_of(path, &s->ending);
    int status = 0;
    if (!s->kind)
        status = error_set(err, SCOPE_EINVAL, "",
                           "'%s': unknown ending; use .mp4 .webm .mkv .y4m .png .jpg, a folder "
                           "ending in '/', or '-'",
                           path);
    if (!status && s->kind->check)
        status = s->kind->check(s, err);
    if (!status && s->kind->file)
        status = open_part(s, err);
    if (!status)
        return s;
    sink_close(s);
    return NULL;
}

void sink_close(sink *s)
{
    if (!s)
        return;
    if (s->kind && s->kind->close)
        s->kind->close(s);
    if (s->fd > STDERR_FILENO)
        close(s->fd);
    if (s->part)
        unlink(s->part);
    converter_free(s->convert);
    g_free(s->part);
    g_free(s->path);
    g_free(s->ending);
    g_free(s);
}

int sink_write(sink *s, frame *f, scope_error *err)
{
    int status = 0;
    if (s->frames == 0) {
        int channels = s->kind->channels ? s->kind->channels : f->v.c;
        s->shape =
            (scope_video){.t = 1, .h = f->v.h, .w = f->v.w, .c = channels, .dtype = SCOPE_U8};
        status = s->kind->begin(s, &s->shape, err);
    }
    frame *fitting = status ? NULL : converter_run(s->convert, f, &s->shape, MEDIA_PAD, err);
    if (!fitting)
        return SCOPE_EIO;
    status = s->kind->write(s, fitting, err);
    frame_unref(fitting);
    if (!status)
        s->frames++;
    return status;
}

int sink_audio(sink *s, GstBuffer *sound, scope_error *err)
{
    int64_t at = (int64_t)(GST_BUFFER_PTS(sound) / 1000) - s->opt.origin_us;
    if (at < 0) {
        gst_buffer_unref(sound);
        return 0;
    }
    sound = gst_buffer_make_writable(sound);
    GST_BUFFER_PTS(sound) = (GstClockTime)at * 1000;
    return s->kind->audio_write(s, sound, err);
}

void sink_audio_end(sink *s)
{
    s->kind->audio_end(s);
}

int sink_finish(sink *s, scope_error *err)
{
    if (s->frames == 0)
        return error_set(err, SCOPE_EIO, "", "no frames came out; '%s' is not written", s->path);
    int status = s->kind->finish ? s->kind->finish(s, err) : 0;
    return status ? status : keep_part(s, err);
}

const char *sink_part(const sink *s)
{
    return s->part;
}

const char *sink_note(const sink *s)
{
    return s->note[0] ? s->note : NULL;
}

int64_t sink_frames(const sink *s)
{
    return s->frames;
}

/* ---- shared by the kinds --------------------------------------------------------------------- */

GstClockTime sink_time(sink *s, const frame *f)
{
    int64_t at = MAX(f->v.pts_us - s->opt.origin_us, 0);
    if (s->last_us >= 0 && at <= s->last_us)
        at = s->last_us + 1000; /* muxers refuse time that stands still */
    s->last_us = at;
    return (GstClockTime)at * 1000;
}

int sink_put(sink *s, const void *bytes, gsize n, scope_error *err)
{
    for (const char *at = bytes; n > 0;) {
        gssize k = write(s->fd, at, n);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0 && errno == EPIPE)
            return error_set(err, SCOPE_EIO, "", "the program that reads '%s' has ended", s->path);
        if (k < 0)
            return error_set(err, SCOPE_EIO, "", "cannot write '%s': %s", s->path,
                             errno == ENOSPC ? "the disk is full" : g_strerror(errno));
        at += k;
        n -= (gsize)k;
    }
    return 0;
}
