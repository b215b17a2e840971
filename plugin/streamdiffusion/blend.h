/* blend.h - what is done to prompt embeddings, in fp32 on host memory: weighted blends of several,
 * emphasis on tokens, and a step away from an embedding that is not wanted.
 *
 * An embedding is [tokens, width], row-major, and behind it a tail: one vector that speaks for the
 * whole text (SDXL's pooled state), or nothing. Each rule below says what it does to the tail.
 * Sources: Daydream Scope's EmbeddingBlender, without its faults (no NaN where two tokens agree,
 * fp32 throughout, tails blended too).
 */
#ifndef SD_BLEND_H
#define SD_BLEND_H

#include <stddef.h>

enum blend_method { BLEND_LINEAR = 1, BLEND_SLERP };

typedef struct blend_shape {
    int tokens, width;
    int tail; /* floats behind the rows; 0: none */
} blend_shape;

static inline size_t blend_size(blend_shape s)
{
    return (size_t)s.tokens * (size_t)s.width + (size_t)s.tail;
}

/* out = the blend of `count` >= 1 embeddings; out may be none of the inputs. Weights below 0 and
 * weights that are not finite count as 0; they are divided by their sum, and all zero means equal.
 * BLEND_LINEAR: sum w_i e_i, scaled so that its Frobenius norm is sum w_i |e_i|; rows and tail are
 *   scaled apart.
 * BLEND_SLERP: per row, and for the tail as one row, along the great circle between the directions
 *   of two raw vectors; where they are parallel or zero (sin of the angle < 1e-6) linearly. More
 *   than two are taken in one after the other, each by its share of the weights so far: the order
 *   counts a little, a weight of 0 is as good as absent, and nothing jumps when one falls to 0.
 * One embedding is copied. [any] */
void blend_embeddings(float *out, const float *const *embedding, const double *weight, int count,
                      blend_shape shape, int method);

/* The sum of the weights as blend_embeddings counts them: what a blend is multiplied by when
 * weights are not to be normalised. [any] */
double blend_weight(const double *weight, int count);
void blend_scale(float *e, double by, blend_shape shape);

/* Emphasis: row i of e becomes empty_i + w_i (e_i - empty_i), where `empty` is the embedding of the
 * empty text. w = 1 leaves the row as it is to the bit, w = 0 makes it say nothing. The tail stays.
 * Source of the formula: ComfyUI's token weights. [any] */
void blend_emphasise(float *e, const float *empty, const float *weight, blend_shape shape);

/* A negative without guidance: row i of e, and the tail as one row, becomes
 *   d_i |e_i| / |d_i|,  d_i = e_i - scale (negative_i - empty_i)
 * so that it points away from what the negative says beyond the empty text and keeps its length,
 * which is what the attention's softmax is used to. Rows where d is 0 stay. [any] */
void blend_away(float *e, const float *negative, const float *empty, double scale,
                blend_shape shape);

#endif
