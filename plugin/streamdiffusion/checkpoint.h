/* checkpoint.h - what a single file is, told from the names of its tensors.
 *
 * A file may be a whole model, one network of a model, or something else that is shared under the
 * same ending: a LoRA, a ControlNet, a model of another architecture. Each is named, so that a
 * person who picked the wrong file is told what it is.
 */
#ifndef SD_CHECKPOINT_H
#define SD_CHECKPOINT_H

#include "config.h"
#include "safetensors.h"

enum checkpoint_family {
    CHECKPOINT_OTHER = 0, /* nothing that this plugin loads: see name */
    CHECKPOINT_SD1,
    CHECKPOINT_SD2,
    CHECKPOINT_SDXL,
    CHECKPOINT_PART, /* one network alone */
};

typedef struct checkpoint {
    int family;
    const char *name;                   /* static: "Stable Diffusion 1.x", "FLUX", "a LoRA" */
    int unet, text, text_2, vae, taesd; /* the file holds it */
    int inpainting;                     /* the UNet takes a mask and a masked image too */
} checkpoint;

void checkpoint_recognise(checkpoint *c, const st_file *f);

/* The config of a whole model in one file, network by network. The autoencoder may be absent.
 * On failure *err says what the file is instead, or which tensor is missing. [load] */
int checkpoint_config(model_config *c, const char *path, scope_error *err);

#endif
