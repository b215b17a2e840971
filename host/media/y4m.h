/* y4m.h - YUV4MPEG2, the pipe format of raw video.
 *
 * Ours because GStreamer 1.22's y4menc writes, and its y4mdec expects, rows padded to four bytes,
 * which no other program does. Format: mjpegtools, man page yuv4mpeg(5).
 */
#ifndef MEDIA_Y4M_H
#define MEDIA_Y4M_H

#include "../error.h"

#include <gst/video/video.h>
#include <stdbool.h>

/* A reader of one stream. [frame] */
typedef struct y4m_reader {
    int fd;           /* borrowed */
    const char *name; /* borrowed; for errors */
    GstVideoInfo info;
    gsize offset[GST_VIDEO_MAX_PLANES]; /* of dense planes */
    gint stride[GST_VIDEO_MAX_PLANES];
    gsize bytes;        /* of one frame */
    int64_t frames;     /* read so far */
    volatile gint stop; /* set from another thread: reading ends within 100 ms */
} y4m_reader;

/* Parse a header line without its newline. 8-bit and 10-bit 420, 422, 444 and mono. */
int y4m_parse(const char *line, GstVideoInfo *info, scope_error *err);
/* Write the header line of an 8-bit 4:4:4 stream, newline and NUL included. */
void y4m_header(const GstVideoInfo *info, char *line, size_t size);
/* Where dense planes lie; returns the bytes of a frame. */
gsize y4m_layout(const GstVideoInfo *info, gsize offset[], gint stride[]);

int y4m_open(y4m_reader *r, int fd, const char *name, scope_error *err);
/* The next frame with pts and duration: 1, 0 at the end, negative when the stream is broken. */
int y4m_read(y4m_reader *r, GstBuffer **out, scope_error *err);

#endif
