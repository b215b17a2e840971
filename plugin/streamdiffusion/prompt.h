/* prompt.h - weighted prompts to the text states that the UNet attends to.
 *
 * Each distinct text is encoded once and remembered; blending (blend.h) is done in fp32 on the
 * remembered states, so moving weights between known texts costs no encoding.
 */
#ifndef SD_PROMPT_H
#define SD_PROMPT_H

#include "model.h"

enum { PROMPT_MAX = 16 };

typedef struct prompt_blend {
    int count; /* 0: the empty text */
    const char *text[PROMPT_MAX];
    double weight[PROMPT_MAX];
    int slerp; /* spherical between exactly two texts; else linear */
} prompt_blend;

typedef struct prompts prompts;

/* m and k outlive the result. [load] */
prompts *prompts_open(k_ctx *k, const model *m, scope_error *err);
void prompts_close(prompts *p); /* NULL is fine */

/* Floats of a result: text_size of text.h. */
size_t prompts_size(const prompts *p);
/* How many texts went through the encoder so far. */
long prompts_encoded(const prompts *p);

/* What the person should know of the texts that were encoded last, or "". */
const char *prompts_notice(const prompts *p);

/* The text encoder's pass, for planning. [load] or [frame] */
void prompts_plan(prompts *p);
/* Leave out so many of the text encoders' last layers, from now on: forgets what was encoded. */
void prompts_skip(prompts *p, int layers);
/* states: host memory, a flat vector of text.h. Encodes what is new, then blends. [frame] */
int prompts_encode(prompts *p, const prompt_blend *b, float *states, scope_error *err);

#endif
