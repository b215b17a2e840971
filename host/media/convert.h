/* convert.h - a frame in another size, channel count or element type. */
#ifndef MEDIA_CONVERT_H
#define MEDIA_CONVERT_H

#include "../frame.h"

/* How a picture of another shape is put into a size. No zero: unset is not a choice. */
enum media_fit {
    MEDIA_CROP = 1, /* fill the size, cut what is over */
    MEDIA_PAD,      /* whole picture, black borders */
    MEDIA_STRETCH,  /* fill the size, shape not kept */
};

typedef struct converter converter;

/* Keeps the filter tables of the last conversion. `pool` is borrowed until converter_free. */
converter *converter_new(frame_pool *pool);
void converter_free(converter *c);

/* `in` as want->h x want->w (0: as it is), want->c channels (0: as it is) and want->dtype; t, pts
 * and duration stay. A new reference to `in` itself when nothing changes. Resizing works in 8 bits.
 * Alpha is composited over black when it goes, 255 when it comes; grey is BT.709 luma. [frame] */
frame *converter_run(converter *c, frame *in, const scope_video *want, enum media_fit fit,
                     scope_error *err);

#endif
