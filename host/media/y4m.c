/* y4m.c - YUV4MPEG2: headers, dense planes, and a reader that can be stopped.
 *
 * Under source and sink_y4m. Must stay true: a broken stream is told apart from one that has ended,
 * and no size in a header is believed before it is checked.
 */
#include "y4m.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 1024, SIDE_MAX = 32768, WAIT_MS = 100 };

static const struct {
    const char *name;
    GstVideoFormat format;
} chromas[] = {
    {"420jpeg", GST_VIDEO_FORMAT_I420},     {"420mpeg2", GST_VIDEO_FORMAT_I420},
    {"420paldv", GST_VIDEO_FORMAT_I420},    {"420", GST_VIDEO_FORMAT_I420},
    {"422", GST_VIDEO_FORMAT_Y42B},         {"444", GST_VIDEO_FORMAT_Y444},
    {"mono", GST_VIDEO_FORMAT_GRAY8},       {"420p10", GST_VIDEO_FORMAT_I420_10LE},
    {"422p10", GST_VIDEO_FORMAT_I422_10LE}, {"444p10", GST_VIDEO_FORMAT_Y444_10LE},
};

typedef struct header {
    int w, h, fps_n, fps_d, par_n, par_d;
    char interlace;
    bool full_range;
    GstVideoFormat format;
} header;

static bool ratio(const char *text, int *n, int *d)
{
    char *end;
    long a = strtol(text, &end, 10);
    if (*end != ':')
        return false;
    long b = strtol(end + 1, &end, 10);
    if (*end || a < 0 || b < 0 || a > 1 << 30 || b > 1 << 30)
        return false;
    *n = (int)a;
    *d = (int)b;
    return true;
}

static bool number(const char *text, int *n)
{
    char *end;
    long a = strtol(text, &end, 10);
    *n = (int)a;
    return end != text && !*end && a >= 1 && a <= SIDE_MAX;
}

static bool chroma(const char *name, GstVideoFormat *format)
{
    for (size_t i = 0; i < G_N_ELEMENTS(chromas); i++) {
        if (!strcmp(chromas[i].name, name)) {
            *format = chromas[i].format;
            return true;
        }
    }
    return false;
}

static bool header_token(header *h, const char *token)
{
    switch (token[0]) {
    case 'W':
        return number(token + 1, &h->w);
    case 'H':
        return number(token + 1, &h->h);
    case 'F':
        return ratio(token + 1, &h->fps_n, &h->fps_d);
    case 'A':
        return ratio(token + 1, &h->par_n, &h->par_d);
    case 'I':
        h->interlace = token[1];
        return true;
    case 'C':
        return chroma(token + 1, &h->format);
    case 'X':
        h->full_range |= !strcmp(token, "XCOLORRANGE=FULL");
        return true;
    default:
        return true; /* the format lets a reader ignore what it does not know */
    }
}

static void to_info(const header *h, GstVideoInfo *info)
{
    bool interlaced = h->interlace == 't' || h->interlace == 'b';
    gst_video_info_set_interlaced_format(info, h->format,
                                         interlaced ? GST_VIDEO_INTERLACE_MODE_INTERLEAVED
                                                    : GST_VIDEO_INTERLACE_MODE_PROGRESSIVE,
                                         (guint)h->w, (guint)h->h);
    if (interlaced)
        GST_VIDEO_INFO_FIELD_ORDER(info) = h->interlace == 't'
                                               ? GST_VIDEO_FIELD_ORDER_TOP_FIELD_FIRST
                                               : GST_VIDEO_FIELD_ORDER_BOTTOM_FIELD_FIRST;
    if (h->full_range)
        info->colorimetry.range = GST_VIDEO_COLOR_RANGE_0_255;
    bool timed = h->fps_n && h->fps_d, shaped = h->par_n && h->par_d;
    info->fps_n = timed ? h->fps_n : 25;
    info->fps_d = timed ? h->fps_d : 1;
    info->par_n = shaped ? h->par_n : 1;
    info->par_d = shaped ? h->par_d : 1;
}

int y4m_parse(const char *line, GstVideoInfo *info, scope_error *err)
{
    header h = {.format = GST_VIDEO_FORMAT_I420};
    if (strncmp(line, "YUV4MPEG2", 9) || (line[9] && line[9] != ' '))
        return error_set(err, SCOPE_EIO, "",
                         "this is not Y4M: it does not start with 'YUV4MPEG2'; pipe through "
                         "'ffmpeg -i FILE -f yuv4mpegpipe -'");
    gchar **tokens = g_strsplit(line + 9, " ", -1);
    int status = 0;
    for (int i = 0; tokens[i] && !status; i++) {
        if (tokens[i][0] && !header_token(&h, tokens[i]))
            status =
                error_set(err, SCOPE_EIO, "",
                          "the Y4M header field '%.40s' is not understood; sizes of 1 to %d and "
                          "8 or 10 bit 420, 422, 444 and mono are",
                          tokens[i], SIDE_MAX);
    }
    g_strfreev(tokens);
    if (!status && (!h.w || !h.h))
        status = error_set(err, SCOPE_EIO, "", "the Y4M header lacks its width or height");
    if (!status)
        to_info(&h, info);
    return status;
}

void y4m_header(const GstVideoInfo *info, char *line, size_t size)
{
    g_snprintf(line, size, "YUV4MPEG2 W%d H%d F%d:%d Ip A1:1 C444\n", info->width, info->height,
               info->fps_n, info->fps_d);
}

gsize y4m_layout(const GstVideoInfo *info, gsize offset[], gint stride[])
{
    gsize at = 0;
    for (guint p = 0; p < GST_VIDEO_INFO_N_PLANES(info); p++) {
        offset[p] = at;
        stride[p] =
            GST_VIDEO_INFO_COMP_WIDTH(info, p) * (GST_VIDEO_INFO_COMP_DEPTH(info, p) > 8 ? 2 : 1);
        at += (gsize)stride[p] * (gsize)GST_VIDEO_INFO_COMP_HEIGHT(info, p);
    }
    return at;
}

/* Up to n bytes: fewer only at the end of the stream or when stopped. Negative on an error. */
static gssize read_some(y4m_reader *r, void *to, gsize n)
{
    gsize got = 0;
    while (got < n && !g_atomic_int_get(&r->stop)) {
        struct pollfd p = {.fd = r->fd, .events = POLLIN};
        if (poll(&p, 1, WAIT_MS) == 0)
            continue;
        gssize k = read(r->fd, (char *)to + got, n - got);
        if (k < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (k < 0)
            return -1;
        if (k == 0)
            break;
        got += (gsize)k;
    }
    return (gssize)got;
}

/* Bytes up to a newline, which is dropped; the line's first `have` bytes are there already. */
static bool read_line(y4m_reader *r, char *line, gsize have)
{
    for (gsize n = have; n < LINE_MAX_BYTES - 1; n++) {
        if (read_some(r, line + n, 1) != 1)
            return false;
        if (line[n] == '\n') {
            line[n] = '\0';
            return true;
        }
    }
    return false;
}

int y4m_open(y4m_reader *r, int fd, const char *name, scope_error *err)
{
    *r = (y4m_reader){.fd = fd, .name = name};
    char line[LINE_MAX_BYTES] = {0};
    gssize magic = read_some(r, line, 9);
    if (magic == 0)
        return error_set(err, SCOPE_EIO, "", "cannot read '%s': it is empty", name);
    /* Whatever is not Y4M need not have a newline anywhere near. */
    if (magic == 9 && !strcmp(line, "YUV4MPEG2") && !read_line(r, line, 9))
        return error_set(err, SCOPE_EIO, "", "cannot read '%s': its Y4M header has no end", name);
    int status = y4m_parse(line, &r->info, err);
    if (!status)
        r->bytes = y4m_layout(&r->info, r->offset, r->stride);
    return status;
}

int y4m_read(y4m_reader *r, GstBuffer **out, scope_error *err)
{
    char line[LINE_MAX_BYTES];
    gssize got = read_some(r, line, 6);
    if (got == 0 || g_atomic_int_get(&r->stop))
        return 0;
    bool good = got == 6 && !memcmp(line, "FRAME", 5);
    if (good && line[5] != '\n')
        good = line[5] == ' ' && read_line(r, line, 6);
    GstBuffer *b = good ? gst_buffer_new_allocate(NULL, r->bytes, NULL) : NULL;
    if (b) {
        GstMapInfo map;
        gst_buffer_map(b, &map, GST_MAP_WRITE);
        good = read_some(r, map.data, r->bytes) == (gssize)r->bytes;
        gst_buffer_unmap(b, &map);
    }
    if (!good) {
        if (b)
            gst_buffer_unref(b);
        if (g_atomic_int_get(&r->stop))
            return 0;
        return error_set(err, SCOPE_EIO, "", "'%s' is cut off or damaged in frame %lld", r->name,
                         (long long)r->frames);
    }
    gst_buffer_add_video_meta_full(b, GST_VIDEO_FRAME_FLAG_NONE, GST_VIDEO_INFO_FORMAT(&r->info),
                                   (guint)r->info.width, (guint)r->info.height,
                                   GST_VIDEO_INFO_N_PLANES(&r->info), r->offset, r->stride);
    guint64 second = GST_SECOND * (guint64)r->info.fps_d, rate = (guint64)r->info.fps_n;
    GST_BUFFER_PTS(b) = gst_util_uint64_scale_round((guint64)r->frames, second, rate);
    GST_BUFFER_DURATION(b) =
        gst_util_uint64_scale_round((guint64)r->frames + 1, second, rate) - GST_BUFFER_PTS(b);
    r->frames++;
    *out = b;
    return 1;
}
