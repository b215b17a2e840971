/* added.h - what SDXL's UNet is told beside the text: pooled text and sizes, as one row.
 *
 * The row joins every time row (unet_time), so it is kept, and time rows are renewed when it
 * changes: with the text, and with the size of the frame. One for each text, because the unwanted
 * text has a pooled vector of its own. For a network that takes no such row nothing is done.
 */
#ifndef SD_ADDED_H
#define SD_ADDED_H

#include "text.h"

typedef struct added {
    k_tensor row; /* kept [1, 1, 1, unet_added_channels]; dtype 0: the network takes none */
    float *from;  /* owned, host: the pooled text and the sizes that it was made of */
    int known;    /* row is that of `from` */
} added;

/* Height and width of the frame, and what the model is told of its original: see sizes in unet.h.
 * original: the shorter side of the picture that the frame is said to have been cut from; 0: the
 * frame itself. */
typedef struct added_size {
    int height, width, original;
} added_size;

/* 0, or -1 when out of memory; a->row is taken from k. [load] */
int added_init(k_ctx *k, const model *m, added *a);
void added_fini(k_ctx *k, added *a); /* [load] */
void added_plan(k_ctx *k, const model *m, const added *a);
/* Bring the row up to date with a flat text (text.h) and a size; 1 when it changed, so that the
 * time rows made with it are void, else 0. [frame] */
int added_set(k_ctx *k, const model *m, added *a, const float *flat, added_size size);

#endif
