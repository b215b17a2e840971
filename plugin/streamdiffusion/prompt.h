/* prompt.h - weighted prompts to the embedding that the UNet attends to.
 *
 * A text is parsed for emphasis (prompt_syntax.h), turned into token ids with a weight each,
 * encoded (text.h), emphasised (blend.h) and remembered, by its ids, weights and skipped layers:
 * the cache holds PROMPT_SLOTS embeddings of prompts_size floats (0.3 MB each for SD 2.1) and
 * forgets what was used longest ago. Blending is done in fp32 on what is remembered, so moving
 * weights between known texts costs no encoding. Any thread may ask; the encoder takes one text at
 * a time.
 */
#ifndef SD_PROMPT_H
#define SD_PROMPT_H

#include "blend.h"
#include "text.h"

enum { PROMPT_MAX = 16, PROMPT_SLOTS = 64 };

typedef struct prompt_blend {
    int count; /* 0: the empty text */
    const char *text[PROMPT_MAX];
    double weight[PROMPT_MAX];
    int slerp; /* spherical; else linear */
    int raw;   /* weights are not divided by their sum: 2 is twice as much as 1 */
} prompt_blend;

typedef struct prompts prompts;

/* m and k outlive the result; k is used by prompts_plan and while a text is encoded, and for
 * nothing else. [load] */
prompts *prompts_open(k_ctx *k, const model *m, scope_error *err);
void prompts_close(prompts *p); /* NULL is fine */

/* Tokens, width and tail of an embedding, a flat vector of text.h; its floats in all. [any] */
blend_shape prompts_shape(const prompts *p);
size_t prompts_size(const prompts *p);
/* How many texts went through the encoder so far. [any] */
long prompts_encoded(prompts *p);

/* Its weights are about to change: waits for the text under way, and none begins until
 * prompts_release, which forgets what was made of texts when they have changed. [frame] */
void prompts_hold(prompts *p);
void prompts_release(prompts *p, int changed);

/* The text encoder's pass, for planning k. [load] */
void prompts_plan(prompts *p);

/* From now on texts are those of text encoders without so many of their last layers (text_encode's
 * skip): what is asked for below is learned, known and blended so. 0 at first. [frame] */
void prompts_skip(prompts *p, int layers);

/* Encode `text` unless it is known. [any] */
int prompts_learn(prompts *p, const char *text, scope_error *err);
/* Is it known, by its very letters? Quick, and allocates nothing. [any] */
int prompts_known(prompts *p, const char *text);
/* out [prompts_size] = the blend of known texts; -1 when one of them is not known. Adds what the
 * person should know of them to `notice`, unless there is something in it. [any] */
int prompts_blend(prompts *p, const prompt_blend *b, float *out, char *notice, size_t room);

#endif
