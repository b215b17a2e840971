/* transformer.h - Transformer2DModel: the pixels of an image attend to each other and to the text.
 *
 *   h = proj_in(group_norm(x))
 *   per block:  h += attn1(ln1 h);  h += attn2(ln2 h, text);  h += ff(ln3 h)
 *   y = proj_out(h) + x
 * with attn the usual softmax(q k^T / sqrt d) v and ff(x) = W2 geglu(W1 x).
 * Source: diffusers Transformer2DModel and BasicTransformerBlock. proj_in and proj_out may be 1x1
 * convolutions or linear maps; on rows of pixels the two are one.
 */
#ifndef SD_TRANSFORMER_H
#define SD_TRANSFORMER_H

#include "net.h"
#include "weights.h"

enum { TRANSFORMER_MAX_DEPTH = 12 };

typedef struct transformer_block {
    const k_weight *norm1, *qkv, *out1;      /* among the pixels */
    const k_weight *norm2, *q, *kv, *out2;   /* towards the text */
    const k_weight *norm3, *expand, *reduce; /* per pixel */
} transformer_block;

typedef struct transformer_shape {
    int channels, heads, depth, groups;
    int text_channels; /* cross_attention_dim */
    int linear;        /* use_linear_projection */
} transformer_shape;

typedef struct transformer {
    transformer_shape shape;
    int text_at; /* index of its first block among all cross-attentions */
    const k_weight *norm, *proj_in, *proj_out;
    transformer_block block[TRANSFORMER_MAX_DEPTH];
} transformer;

/* Ask w for the weights under `name`; depth <= TRANSFORMER_MAX_DEPTH. */
transformer transformer_of(weights *w, const char *name, transformer_shape shape);
/* kv[i] [n or 1, 1, tokens, 2c] = keys and values of block i; states [.., text_channels] */
void transformer_text(k_ctx *k, const transformer *t, const k_tensor *kv, k_tensor states);
/* y, x [n, h, w, c]; kv as made by transformer_text */
void transformer_forward(k_ctx *k, const transformer *t, k_tensor y, k_tensor x,
                         const k_tensor *kv);

#endif
