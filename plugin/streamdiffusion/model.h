/* model.h - a checkpoint folder in memory: its networks on one processor, shared by all who ask.
 *
 * A diffusers folder holds tokenizer/, text_encoder/, unet/, vae/, scheduler/, and SDXL's also
 * tokenizer_2/, text_encoder_2/; what it holds is read from its configs. Instances that ask for the
 * same folder, processor and memory policy get the same model; the last to release it frees the
 * weights. A model never changes once loaded.
 */
#ifndef SD_MODEL_H
#define SD_MODEL_H

#include "clip.h"
#include "config.h"
#include "scheduler.h"
#include "taesd.h"
#include "tokenizer.h"
#include "unet.h"
#include "vae.h"

typedef struct model_options {
    const char *path;   /* a diffusers folder */
    const char *taesd;  /* a folder with an AutoencoderTiny; "": look inside `path` */
    const char *device; /* "cpu", or "auto" for the fastest there is */
    int memory;         /* k_memory */
} model_options;

/* Read-only. All pointers are owned by the model. */
typedef struct model {
    k_device *device;
    tokenizer *tokens;
    clip *text;
    clip *text_2;  /* NULL: the model has one text encoder */
    int32_t pad_2; /* token that text_2's texts are padded with; the other tokens are those of
                      `tokens` */
    unet *unet;
    vae *vae;     /* NULL: the folder has none */
    taesd *taesd; /* NULL: none was found */
    model_config config;
} model;

/* Load, or share. Progress and cancellation go through host, which may be NULL. On failure NULL
 * and *err names the schema field and the remedy. [load] */
const model *model_acquire(const scope_host *host, const model_options *o, scope_error *err);
void model_release(const model *m); /* [load] NULL is fine */

/* Let go of the mapped pages of the weights: planning has copied what it has come by so far. They
 * come back from the file when they are read again. [any] */
void model_release_pages(const model *m);

#endif
