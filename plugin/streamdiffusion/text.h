/* text.h - token ids to what a UNet is told of a text, by the model's one or two text encoders.
 *
 * Sits between the prompts and the encoders. What a text becomes is one flat vector of floats in
 * host memory, in which prompts are remembered, compared and blended:
 *   77 rows of text_width numbers, which the UNet attends to (of two encoders: side by side), then
 *   text_pooled numbers, the pooled text that joins the time rows (SDXL; none elsewhere).
 * SDXL reads both encoders' last layer but one, without the final norm, and pools the second's.
 * Its second encoder was trained on the tokens of the first, padded with "!": only the padding is
 * changed. diffusers' tokenizer_2 also takes a "!" that was typed for padding, which is not
 * followed.
 */
#ifndef SD_TEXT_H
#define SD_TEXT_H

#include "model.h"

int text_width(const model *m);   /* of a row: the UNet's cross_attention_dim */
int text_pooled(const model *m);  /* numbers after the rows; 0: none */
size_t text_size(const model *m); /* of a flat vector, in floats */

/* ids: K_I32 [1, 1, 77, 1] of the model's tokenizer. The second encoder gets the same ids, padded
 * as its own tokenizer pads.
 * skip: layers before the last to stop at ("clip skip"), on top of SDXL's one; at most as many as
 * leave a layer. flat: text_size floats, not touched while planning. [load] or [frame]
 * Source: diffusers' encode_prompt of both pipelines, and their clip_skip. */
void text_encode(k_ctx *k, const model *m, k_tensor ids, int skip, float *flat);

/* Is `unwanted`, as a negative prompt, all zeros instead of an encoding? SDXL was trained so for
 * the empty text, and its index says so (force_zeros_for_empty_prompt). */
int text_is_zero(const model *m, const char *unwanted);

#endif
