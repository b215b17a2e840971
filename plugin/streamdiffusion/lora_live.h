/* lora_live.h - an instance's LoRAs as its parameters ask for them: fields, tags in prompts, files.
 *
 *   lora_live_begin(l);
 *   text = lora_live_text(l, text);          each prompt, before it is tokenised
 *   lora_live_fields(l, kw);                 then the fields
 *   lora_live_set(l, &err);                  and the weights follow
 *
 * A LoRA that stands in several prompts counts once, with the scale of the first. One that stands
 * in a tag and in the list has the sum of both scales.
 */
#ifndef SD_LORA_LIVE_H
#define SD_LORA_LIVE_H

#include "loras.h"

typedef struct lora_live lora_live;

/* [load] */
lora_live *lora_live_new(scope_error *err);
void lora_live_free(lora_live *l); /* [load] NULL is fine; before the model is released */

/* A new set of parameters begins. [load] or [frame] */
void lora_live_begin(lora_live *l);
/* The text without its tags, which are noted: valid until lora_live_begin. */
const char *lora_live_text(lora_live *l, const char *text);
/* Note the fields loras, lora_dir, use_lcm_lora and lcm_lora_path. */
void lora_live_fields(lora_live *l, const scope_kwargs *kw);
/* Is any asked for? Then the model must be this instance's own (model_options.own). */
int lora_live_any(const lora_live *l);

/* The model, once it is loaded; outlives l. [load] */
int lora_live_bind(lora_live *l, const model *m, scope_error *err);
/* Is what was noted other than what is in force? [any] */
int lora_live_differs(const lora_live *l);
/* Put what was noted in force on it: what loras_set returns. On failure *err names the field, and
 * the LoRAs from before stay in force. [load] or [frame], between frames */
int lora_live_set(lora_live *l, scope_error *err);
/* What the person should know of the LoRAs in force, or "". */
const char *lora_live_notice(const lora_live *l);

#endif
