/* vae.h - AutoencoderKL: image to latent and back, the checkpoint's own.
 *
 * Latents here are as the network makes them; the pipeline applies scaling_factor.
 */
#ifndef SD_VAE_H
#define SD_VAE_H

#include "config.h"
#include "net.h"
#include "weights.h"

typedef struct vae vae;

/* Ask w for every weight. The caller then asks weights_finish; w outlives the result. NULL with
 * *err filled when the config is beyond us or memory is short. [load] */
vae *vae_open(weights *w, const vae_config *c, scope_error *err);
void vae_close(vae *v); /* NULL is fine */

/* y [n, h/8, w/8, latent]: the mode (mean) of the posterior   x [n, h, w, 3] in -1..1
 * Taps: "encoder.conv_in", "encoder.down_blocks.I", "encoder.mid_block", "encoder". */
void vae_encode(k_ctx *k, const vae *v, k_tensor y, k_tensor x, const net_tap *tap);
/* y [n, 8h, 8w, 3] around -1..1   x [n, h, w, latent], already divided by scaling_factor
 * Taps: "decoder.conv_in", "decoder.mid_block", "decoder.up_blocks.I", "decoder". */
void vae_decode(k_ctx *k, const vae *v, k_tensor y, k_tensor x, const net_tap *tap);

#endif
