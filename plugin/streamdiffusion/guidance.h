/* guidance.h - classifier-free guidance and its residual forms as rows for k_ops.mix. Pure
 * arithmetic, in double.
 *
 * With p the network's noise estimate for the prompts and u the one to move away from, a step uses
 * eps = u + g (p - u). Where u comes from:
 *
 *   full        the network, run a second time with the negative prompt: twice the time
 *   self        u = delta S: S is the noise that is known to be in each latent; free
 *   initialize  the same, but the first step's S is the network's answer for the negative prompt,
 *               so that it costs one more image a frame
 *
 * S_0 = E_0 for every new frame. A frame that moves from step i to i + 1 takes its S along:
 *
 *   d_i = c_out_i (s_i S_i - s_i eps_i) / a_i + c_skip_i s_i S_i
 *   S_i+1 = E_i+1 + (a_i+1 / s_i+1) d_i
 *
 * Source: Kodaira et al. 2023 (StreamDiffusion), residual classifier-free guidance. There, S is
 * kept from one frame to the next when there is but one step; here each frame begins with its own
 * noise, because another frame's residual says nothing about this one.
 */
#ifndef SD_GUIDANCE_H
#define SD_GUIDANCE_H

#include "scheduler.h"

/* Zero is the schema's default. */
enum guidance_kind { GUIDE_FULL = 0, GUIDE_NONE, GUIDE_SELF, GUIDE_INITIALIZE };

typedef struct guidance {
    int kind;            /* enum guidance_kind; GUIDE_NONE whenever scale <= 1 */
    double scale, delta; /* g, delta */
} guidance;

/* Has u = delta S? */
static inline int guidance_is_residual(guidance g)
{
    return g.kind == GUIDE_SELF || g.kind == GUIDE_INITIALIZE;
}

/* Residual guidance divides by the signal, which some checkpoints have none of at their last
 * timestep. Errors name cfg_type. */
int guidance_check(guidance g, const scheduler *s, scope_error *err);

/* The clean latent of a step = row[0] x + row[1] output + row[2] u, where u is the second output
 * of the network (full) or S (self, initialize). */
void guidance_denoise(guidance g, const scheduler_step *at, double row[3]);
/* S_i+1 - E_i+1 = row[0] S_i + row[1] output + row[2] x. */
void guidance_residual(guidance g, const scheduler_step *at, const scheduler_step *next,
                       double row[3]);

#endif
