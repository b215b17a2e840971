/* sheet.h - a contact sheet: frames of a run at even distances, each below its source.
 *
 * Beside run.c. The length of a run need not be known: the sheet keeps every n-th frame and
 * doubles n when it is full, so it holds at most twice its columns.
 */
#ifndef HOST_SHEET_H
#define HOST_SHEET_H

#include "frame.h"

typedef struct sheet sheet;

/* `pool` is borrowed until sheet_free. */
sheet *sheet_new(frame_pool *pool);
void sheet_free(sheet *s); /* NULL is fine */

/* Offer the next frame with its source (NULL for a generator); both stay the caller's. [frame] */
int sheet_offer(sheet *s, frame *source, frame *output, scope_error *err);

/* Draw what was kept: one U8 RGB frame to unref, or NULL with *err. [frame] */
frame *sheet_draw(sheet *s, scope_error *err);

#endif
