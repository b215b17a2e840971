/* taesd.h - AutoencoderTiny (TAESD): image to latent and back at a hundredth of the work.
 *
 * Its latents are in the UNet's scaled space already, and its images are 0..1 on both sides
 * (diffusers wraps the same network in (x + 1) / 2 and 2 y - 1).
 */
#ifndef SD_TAESD_H
#define SD_TAESD_H

#include "config.h"
#include "net.h"
#include "weights.h"

typedef struct taesd taesd;

/* Ask w for every weight. The caller then asks weights_finish; w outlives the result. NULL with
 * *err filled when the config is beyond us or memory is short. [load] */
taesd *taesd_open(weights *w, const taesd_config *c, scope_error *err);
void taesd_close(taesd *t); /* NULL is fine */

/* y [n, h/8, w/8, latent]   x [n, h, w, 3] in 0..1.  Taps: "encoder.layers.I". */
void taesd_encode(k_ctx *k, const taesd *t, k_tensor y, k_tensor x, const net_tap *tap);
/* y [n, 8h, 8w, 3] around 0..1   x [n, h, w, latent].  Taps: "decoder.layers.I". */
void taesd_decode(k_ctx *k, const taesd *t, k_tensor y, k_tensor x, const net_tap *tap);

#endif
