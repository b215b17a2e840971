/* weights_files.h - which files make one set of weights, opened.
 *
 * Sits under weights_index.c. In a folder looks for, in this order: the plain file, its .fp16, its
 * .bf16 variant; of each, one file or an index with shards; diffusers' name before transformers';
 * last madebyollin's pair taesd_encoder, taesd_decoder. A path of a file is that file, of which
 * the part called `label` is meant; one of madebyollin's pair brings the other with it.
 */
#ifndef SD_WEIGHTS_FILES_H
#define SD_WEIGHTS_FILES_H

#include "ldm.h"
#include "safetensors.h"
#include "scope_plugin.h"

enum { WEIGHTS_MAX_FILES = 64 };

/* How the names of a file are spelt. */
enum weights_role {
    WEIGHTS_PLAIN = 1,
    WEIGHTS_TAESD_ENCODER, /* "0.weight" for encoder.layers.0.weight */
    WEIGHTS_TAESD_DECODER, /* "1.weight" for decoder.layers.0.weight */
    WEIGHTS_TAESD_PAIR,    /* both, as "encoder.0.weight" and "decoder.1.weight" */
    WEIGHTS_BARE_CLIP,     /* without the prefix "text_model.", as transformers 5 writes */
    WEIGHTS_SINGLE,        /* a part of a checkpoint of one file, by `single` */
};

typedef struct weights_files {
    int count;
    st_file *file[WEIGHTS_MAX_FILES]; /* owned */
    int role[WEIGHTS_MAX_FILES];
    ldm single;
} weights_files;

/* On failure *f is empty and *err names the file and the remedy. [load] */
int weights_files_open(weights_files *f, const char *path, const char *label, scope_error *err);
void weights_files_close(weights_files *f);

#endif
