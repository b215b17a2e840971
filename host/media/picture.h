/* picture.h - one picture in memory: what a person uploads, and what is shown as a still.
 *
 * Under http/. JPEG and PNG by GStreamer.
 */
#ifndef MEDIA_PICTURE_H
#define MEDIA_PICTURE_H

#include "../frame.h"

#include <glib.h>

/* Decode a JPEG or PNG, at most 8192 pixels a side: U8 with 3 channels, or 4 where the picture has
 * alpha. NULL with *err when it is no such picture. Takes some milliseconds. [any] */
frame *picture_read(GBytes *bytes, frame_pool *pool, scope_error *err);
/* A U8 frame with 3 channels as JPEG; NULL with *err. [any] */
GBytes *picture_jpeg(frame *f, int quality, scope_error *err);

#endif
