/* noise.h - the noise E_i of every denoising step, from one seed or from several.
 *
 * E_i is a function of (seeds, epoch, i) alone. Each seed j has noise n_j of its own; they blend as
 *
 *   linear   sum w_j n_j / sqrt(sum w_j^2)      which keeps the variance at 1
 *   slerp    sin((1 - t) o) / sin o n_1 + sin(t o) / sin o n_2, o the angle between the two,
 *            t = w_2 / (w_1 + w_2); exactly two seeds, others are linear
 *
 * A seed that is given twice counts once, with both weights.
 */
#ifndef SD_NOISE_H
#define SD_NOISE_H

#include "net.h"

enum { NOISE_MAX_SEEDS = 8, NOISE_MAX_STEPS = 64 };

typedef struct noise_seeds {
    int count; /* 1.. */
    int slerp; /* along the great circle between exactly two; else linear */
    uint64_t seed[NOISE_MAX_SEEDS];
    double weight[NOISE_MAX_SEEDS];
} noise_seeds; /* without padding: it is compared as bytes */

/* Each seed once, weights that add up to 1, and comparable with memcmp. */
noise_seeds noise_seeds_of(const noise_seeds *given);

typedef struct noise {
    noise_seeds seeds; /* that e holds, when drawn */
    uint32_t epoch;
    int drawn;
    k_tensor e;    /* kept [steps * repeats, h, w, channels], E_i repeated */
    int repeats;   /* images that share one E_i */
    k_tensor coef; /* kept [1, 1, 1, 3] */
    float *host;   /* owned: two latents, for the angle; NULL until a slerp */
    size_t room;   /* floats that host holds */
} noise;

/* Tensors for another shape, void; nothing happens for the same one. Failures: k->status. */
void noise_resize(k_ctx *k, noise *z, int steps, int repeats, int h, int w, int channels);
/* Room for what the seeds need, so that drawing allocates nothing. 0 or -1: no memory. */
int noise_reserve(noise *z, const noise_seeds *s);
/* Draw, unless e holds just this. Returns whether it drew. Takes one latent of the arena. [frame]
 */
int noise_draw(k_ctx *k, noise *z, const noise_seeds *s, uint32_t epoch);
void noise_fini(k_ctx *k, noise *z);

#endif
