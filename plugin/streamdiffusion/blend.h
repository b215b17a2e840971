/* blend.h - several prompt embeddings into one, in fp32 on host memory.
 *
 * An embedding is [tokens, width], row-major. Formulas: Daydream Scope's EmbeddingBlender, with the
 * repairs of its known faults (no NaN where two tokens agree, fp32 throughout).
 */
#ifndef SD_BLEND_H
#define SD_BLEND_H

#include <stdint.h>

enum blend_method { BLEND_LINEAR = 1, BLEND_SLERP };

/* out = the blend of `count` >= 1 embeddings; out may be none of the inputs. Weights below 0 and
 * weights that are not finite count as 0; they are divided by their sum, and all zero means equal.
 * BLEND_LINEAR: sum w_i e_i, scaled so that its Frobenius norm is sum w_i |e_i|.
 * BLEND_SLERP, exactly two embeddings: per token, along the great circle between the directions of
 *   the two raw vectors; a token whose vectors are parallel or zero (sin of the angle < 1e-6) is
 *   interpolated linearly. With any other count it is BLEND_LINEAR, as in the original.
 * One embedding is copied. [any] */
void blend_embeddings(float *out, const float *const *embedding, const double *weight, int count,
                      int tokens, int width, int method);

#endif
