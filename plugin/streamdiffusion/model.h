/* model.h - a checkpoint in memory: its networks on one processor, shared by all who ask.
 *
 * A diffusers folder holds tokenizer/, text_encoder/, unet/, vae/, scheduler/, SDXL's also
 * tokenizer_2/ and text_encoder_2/, and configs that say what they are; a single file holds the
 * networks, and parts.h says what they are. Instances that ask for the same files, processor and
 * memory policy get the same model; the last to release it frees the weights. A model never changes
 * once loaded, but for the weights of one that is claimed, which has one user alone.
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
    const char *path;   /* a diffusers folder, a .safetensors file, or a name that was downloaded */
    const char *taesd;  /* a folder or file with an AutoencoderTiny; "": look inside `path` */
    const char *device; /* "cpu", "cuda", "cuda:N", or "auto" for the fastest there is */
    int memory;         /* k_memory */
    /* Folders or files that stand in for the model's own parts; NULL and "": its own. */
    const char *vae, *text_encoder, *unet, *tokenizer;
    int prediction; /* enum prediction; 0: as the model says */
    int own;        /* 1: a copy that is not shared, claimed from the start */
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

/* The only user takes the model for itself: nobody shares it until model_share, and its weights may
 * be changed. Nonzero: there are other users. Does not wait. [any] */
int model_claim(const model *m);
/* The weights are as they were loaded: it may be shared again. [any] */
void model_share(const model *m);

enum model_part { MODEL_TEXT, MODEL_TEXT_2, MODEL_UNET, MODEL_PARTS };

/* The weights of a part, borrowed. */
weights *model_weights(const model *m, int part);

/* Let go of the mapped pages of the weights: planning has copied what it has come by so far. They
 * come back from the file when they are read again. [any] */
void model_release_pages(const model *m);

#endif
