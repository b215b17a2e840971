/* lora_names.h - which weight of a model a LoRA file speaks of.
 *
 * A file names modules in one of many spellings. From each name that the networks asked for, all
 * spellings that a file may use are made, so that a name is looked up whole and never guessed at:
 * underscores that stand for dots are not ambiguous.
 *
 *   lora_unet_down_blocks_0_attentions_0_...   kohya, diffusers' block names
 *   lora_unet_input_blocks_1_1_...             kohya, the original block names (usual for SDXL)
 *   lora_te_text_model_..., lora_te1_...       kohya, the text encoder; lora_te2_...: SDXL's second
 *   unet.down_blocks.0. ..., text_encoder. ... diffusers and PEFT; text_encoder_2. ...
 *   base_model.model.down_blocks.0. ...        PEFT, of one network alone
 *   down_blocks.0. ... .processor.to_q_lora    diffusers before 0.22, with or without "unet."
 */
#ifndef SD_LORA_NAMES_H
#define SD_LORA_NAMES_H

#include "model.h"

enum { LORA_NAME = 256 }; /* the longest key that is looked at */

enum lora_role { LORA_NONE, LORA_UP, LORA_DOWN, LORA_MID, LORA_ALPHA, LORA_MAGNITUDE };

/* Split a key of a file: its role, and in `base` the module as the table spells it ("unet_...",
 * "te_...", "te2_..."; underscores for dots). LORA_NONE: no LoRA's key. Any text will do. [any] */
int lora_key(const char *key, char base[LORA_NAME]);

typedef struct lora_module {
    weights_module m;
    int network; /* enum model_part */
} lora_module;

typedef struct lora_names lora_names;

/* m outlives the result. [load] */
lora_names *lora_names_open(const model *m, scope_error *err);
void lora_names_close(lora_names *n); /* NULL is fine */

/* Modules, parts of one weight side by side; at most lora_names_count. */
int lora_names_count(const lora_names *n);
const lora_module *lora_names_at(const lora_names *n, int i);
/* The module of a base, or -1. [any] */
int lora_names_find(const lora_names *n, const char *base);
/* Width of the text that the UNet attends to: 768 in SD 1.x, 1024 in SD 2.x, 2048 in SDXL. */
int lora_names_text_width(const lora_names *n);

#endif
