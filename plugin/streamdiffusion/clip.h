/* clip.h - the CLIP text encoder: 77 token ids to 77 rows of embedding, and to one pooled row.
 *
 * Sits between the tokenizer and the UNet's cross-attention. Pre-norm blocks, causal attention
 * without a padding mask, final LayerNorm; depth, width, heads and activation come from the
 * config (transformers' CLIPTextModel and CLIPTextModelWithProjection).
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
int clip_layers(const clip *c);
int clip_projection(const clip *c); /* width of the pooled row; 0: the model makes none */
/* The row that the pooled text is taken from: that of the first end token, which old configs
 * (eos_token_id 2) find as the first of the largest ids; 0 when there is none. */
int clip_pooled_row(const clip *c, const int32_t *ids, int count);

/* What to take of a pass. */
typedef struct clip_take {
    k_tensor states; /* [n, 1, t, width] */
    int skip;        /* the states are those of so many layers before the last; < clip_layers */
    int bare;        /* the states skip the final norm too (SDXL) */
    k_tensor pooled; /* [1, 1, 1, projection]: text_projection(final norm of `row` of the last
                        layer), n 1; or dtype 0: not wanted, and layers past `skip` are not run */
    int row;
} clip_take;

/* ids K_I32 [n, 1, t, 1]
 * Taps: "embeddings", "encoder.layers.I", "final_layer_norm" (of the states). */
void clip_run(k_ctx *k, const clip *c, const clip_take *take, k_tensor ids, const net_tap *tap);
/* y [n, 1, t, width] = transformers' last_hidden_state */
void clip_forward(k_ctx *k, const clip *c, k_tensor y, k_tensor ids, const net_tap *tap);

#endif
