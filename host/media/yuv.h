/* yuv.h - between RGB and the planar YUV of codecs, correctly rounded.
 *
 * Ours because GStreamer 1.22's 8-bit converter is off by 2 to 4 levels on average (it darkens a
 * video by that much on each pass). Here a limited-range 4:4:4 frame survives the way to RGB and
 * back bit for bit. 4:2:0 chroma is repeated on the way in and averaged over 2x2 on the way out,
 * which undo each other. Matrices: ITU-R BT.601, BT.709, BT.2020, as the stream says.
 */
#ifndef MEDIA_YUV_H
#define MEDIA_YUV_H

#include "../../plugin/scope_abi.h"

#include <gst/video/video.h>
#include <stdbool.h>

/* The formats that yuv_to_rgb reads, for caps. */
#define YUV_FORMATS "I420, Y444, GRAY8"

bool yuv_reads(const GstVideoFrame *from);
/* A frame into to->data (U8, c = 3, the same size). [any] */
void yuv_to_rgb(const GstVideoFrame *from, const scope_video *to);
/* A U8 frame with c = 3 into I420 or Y444; of a frame that is larger, the top left part. [any] */
void yuv_from_rgb(const scope_video *from, GstVideoFrame *to);

#endif
