/* parts.h - which files a model is made of: what was asked for, where each part lies, what it is.
 *
 * A model is a diffusers folder or a single file; a part that was asked for by its own path stands
 * in for the model's own.
 */
#ifndef SD_PARTS_H
#define SD_PARTS_H

#include "config.h"

/* What a person can name. */
enum { ASKED_MODEL, ASKED_TAESD, ASKED_VAE, ASKED_TEXT, ASKED_UNET, ASKED_TOKENIZER, ASKED };

enum part {
    PART_UNET,
    PART_TEXT,
    PART_TEXT_2,
    PART_VAE,
    PART_TAESD,
    PART_TOKENIZER,
    PART_TOKENIZER_2,
    PARTS
};

typedef struct parts {
    char *asked[ASKED]; /* owned real paths; "" where the model decides */
    char *at[PARTS];    /* owned: the folder or file that holds it; NULL: the model has none */
    int prediction;     /* enum prediction; 0: the model's own */
    int pad;            /* the token to pad with; -1: the tokenizer says */
} parts;

/* The schema field of something that can be asked for. */
const char *parts_field(int asked);
/* The label of a part in messages, which weights_open knows it by. */
const char *parts_label(int part);

/* Find what the paths name; NULL and "" are the model's own. Only ASKED_MODEL must be given. On
 * failure *err names the field and the remedy; parts_fini is due in any case. [load] */
int parts_ask(parts *p, const char *const path[ASKED], scope_error *err);
int parts_same(const parts *a, const parts *b);
/* Fill p->at and *c. On failure *err names what is missing and the remedy, and the field when it is
 * not the model's. With `lenient` (may be NULL) what is missing is not fatal: bit i of *lenient
 * says that part i is. [load] */
int parts_find(parts *p, model_config *c, unsigned *lenient, scope_error *err);
void parts_fini(parts *p);

#endif
