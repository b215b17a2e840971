/* sink_y4m.c - Y4M to a file or stdout, as 8-bit 4:4:4: no chroma is lost, any size will do.
 *
 * Limited-range 4:4:4 survives a trip through RGB unchanged, so pipes of scopes lose nothing.
 */
#include "sink_kind.h"
#include "y4m.h"
#include "yuv.h"

#include <gst/video/video.h>

typedef struct y4m_state {
    GstVideoInfo info;
    GstBuffer *planes; /* owned; dense */
} y4m_state;

static int y4m_begin(sink *s, const scope_video *first, scope_error *err)
{
    y4m_state *y = g_new0(y4m_state, 1);
    s->state = y;
    guint w = (guint)first->w, h = (guint)first->h;
    gst_video_info_set_format(&y->info, GST_VIDEO_FORMAT_Y444, w, h);
    y->info.fps_n = s->opt.fps_n ? s->opt.fps_n : 25;
    y->info.fps_d = s->opt.fps_n ? s->opt.fps_d : 1;
    if (!s->opt.fps_n)
        g_snprintf(s->note, sizeof s->note,
                   "the input has no fixed frame rate and Y4M needs one: written as 25 per second; "
                   "--fps N keeps the time");
    gsize offset[GST_VIDEO_MAX_PLANES];
    gint stride[GST_VIDEO_MAX_PLANES];
    y->planes = gst_buffer_new_allocate(NULL, y4m_layout(&y->info, offset, stride), NULL);
    gst_buffer_add_video_meta_full(y->planes, GST_VIDEO_FRAME_FLAG_NONE, GST_VIDEO_FORMAT_Y444, w,
                                   h, 3, offset, stride);
    char line[128];
    y4m_header(&y->info, line, sizeof line);
    return sink_put(s, line, strlen(line), err);
}

static int y4m_write(sink *s, frame *f, scope_error *err)
{
    y4m_state *y = s->state;
    GstVideoFrame to;
    gst_video_frame_map(&to, &y->info, y->planes, GST_MAP_WRITE);
    yuv_from_rgb(&f->v, &to);
    gst_video_frame_unmap(&to);
    GstMapInfo map;
    gst_buffer_map(y->planes, &map, GST_MAP_READ);
    int status = sink_put(s, "FRAME\n", 6, err);
    if (!status)
        status = sink_put(s, map.data, map.size, err);
    gst_buffer_unmap(y->planes, &map);
    return status;
}

static void y4m_close(sink *s)
{
    y4m_state *y = s->state;
    if (!y)
        return;
    gst_buffer_unref(y->planes);
    g_free(y);
}

const sink_kind sink_y4m = {
    .channels = 3, .file = true, .begin = y4m_begin, .write = y4m_write, .close = y4m_close};
