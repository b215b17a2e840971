/* ldm.h - the names of a single-file checkpoint, in the words of diffusers.
 *
 * Files that people share hold all networks at once, named as CompVis' LDM, OpenCLIP and
 * transformers named them. A tensor of such a file becomes one view, or three (a joined in_proj is
 * q, k and v), under today's names. How many layers a level has is read off the file's own names,
 * so that any size maps. Source of the table: the two programs' module names.
 */
#ifndef SD_LDM_H
#define SD_LDM_H

#include "safetensors.h"

enum { LDM_NAME = 200, LDM_MAX_BLOCKS = 64, LDM_VIEWS = 3 };

enum ldm_part { LDM_UNET = 1, LDM_VAE, LDM_TEXT, LDM_TEXT2 };

/* How one part of one file is spelt. */
typedef struct ldm {
    int part;
    const char *prefix; /* static; "" in a file of this part alone */
    int style;
    int in_level[LDM_MAX_BLOCKS], in_layer[LDM_MAX_BLOCKS]; /* UNet: of input_blocks.I */
    int out_level[LDM_MAX_BLOCKS], out_layer[LDM_MAX_BLOCKS];
    int ups;    /* autoencoder: levels of the decoder */
    int blocks; /* OpenCLIP: resblocks that are used */
} ldm;

typedef struct ldm_view {
    char name[LDM_NAME];
    int part, parts; /* these of `parts` equal ranges of rows */
    int transposed;  /* stored [in, out] */
} ldm_view;

/* The part by the label that messages give it ("unet"); 0 when it is none of them. */
int ldm_part_of(const char *label);
/* 1 when the file holds the part, and *l tells how; else 0. A file without any of the prefixes of
 * whole checkpoints is one part, of whichever kind is asked for. */
int ldm_init(ldm *l, const st_file *f, int part);
/* The views of a tensor of the file; 0 when it is of another part, or of no use. */
int ldm_views(const ldm *l, const char *name, ldm_view view[LDM_VIEWS]);
/* Are the names OpenCLIP's? */
int ldm_open_clip(const ldm *l);
/* Does the file hold several parts, each under a prefix? */
int ldm_whole(const st_file *f);

#endif
