/* clip.h - the CLIP text encoder: 77 token ids to 77 rows of embedding.
 *
 * Sits between the tokenizer and the UNet's cross-attention. Pre-norm blocks, causal attention
 * without a padding mask, final LayerNorm; depth, width, heads and activation come from the
 * config (transformers' CLIPTextModel, whose last_hidden_state this is).
 */
#ifndef SD_CLIP_H
#define SD_CLIP_H

#include "config.h"
#include "net.h"
#include "weights.h"

typedef struct clip clip;

/* Ask w for every weight. The caller then asks weights_finish; w outlives the result. NULL with
 * *err filled when the config is beyond us or memory is short. [load] */
clip *clip_open(weights *w, const clip_config *c, scope_error *err);
void clip_close(clip *c); /* NULL is fine */

int clip_width(const clip *c);

/* y [n, 1, t, width]   ids K_I32 [n, 1, t, 1]
 * Taps: "embeddings", "encoder.layers.I", "final_layer_norm". */
void clip_forward(k_ctx *k, const clip *c, k_tensor y, k_tensor ids, const net_tap *tap);

#endif
