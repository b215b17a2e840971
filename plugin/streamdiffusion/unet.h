/* unet.h - UNet2DConditionModel: a noisy latent, a noise level and a text to a prediction.
 *
 * What depends on the noise level alone (every resnet's shift) and on the text alone (every
 * cross-attention's keys and values) is computed apart from the forward pass, into tensors that
 * are kept and only recomputed when they change.
 */
#ifndef SD_UNET_H
#define SD_UNET_H

#include "config.h"
#include "net.h"
#include "weights.h"

enum { UNET_MAX_ATTENTIONS = 96 };

typedef struct unet unet;

/* Ask w for every weight. The caller then asks weights_finish; w outlives the result. NULL with
 * *err filled when the config is beyond us or memory is short. [load] */
unet *unet_open(weights *w, const unet_config *c, scope_error *err);
void unet_close(unet *u); /* NULL is fine */

/* Keys and values of every cross-attention: one kept tensor each, [n, 1, t, 2c], [keys | values].
 */
typedef struct unet_text {
    int count;
    k_tensor kv[UNET_MAX_ATTENTIONS]; /* of the context, until unet_text_drop */
} unet_text;

void unet_text_keep(k_ctx *k, const unet *u, unet_text *t, int n, int tokens);
void unet_text_drop(k_ctx *k, unet_text *t);
/* states [n, 1, tokens, cross_attention_dim]: the text encoder's output. */
void unet_text_set(k_ctx *k, const unet *u, const unet_text *t, k_tensor states);

/* Channels of a row of noise level: the shifts of all resnets side by side. */
int unet_time_channels(const unet *u);
/* Does the network take a guidance embedding (LCM's time_cond_proj)? */
int unet_has_guidance(const unet *u);
/* Channels of an added embedding (SDXL's text_time); 0: the network takes none. */
int unet_added_channels(const unet *u);
/* y [1, 1, 1, unet_added_channels] = W2 silu(W1 [pooled | sinusoids of the sizes])
 * pooled [1, 1, 1, the text's pooled width]
 * sizes K_F32 [6, 1, 1, 1]: original height and width, top and left of the crop, target height and
 * width, in pixels. Source: diffusers UNet2DConditionModel.get_aug_embed. Tap: "add_embedding". */
void unet_added(k_ctx *k, const unet *u, k_tensor y, k_tensor pooled, k_tensor sizes,
                const net_tap *tap);
/* y [n, 1, 1, unet_time_channels]   timestep K_F32 [n, 1, 1, 1]
 * guidance: K_F32 [n, 1, 1, 1], 1000 (guidance_scale - 1), or dtype 0 for none.
 * added: from unet_added, of n images or of one for all, or dtype 0 for none. It belongs to one
 * text: rows for another text (the unwanted one) are rows of their own.
 * Source: diffusers TimestepEmbedding and get_guidance_scale_embedding. Tap: "time_embedding". */
void unet_time(k_ctx *k, const unet *u, k_tensor y, k_tensor timestep, k_tensor guidance,
               k_tensor added, const net_tap *tap);

/* y, x [n, h, w, channels], h and w any size >= 1; y may be of out_channels
 * time [n, 1, 1, unet_time_channels] from unet_time; text of n images, or of one for all.
 * Taps: "conv_in", "down_blocks.I.resnets.J", "down_blocks.I.attentions.J",
 * "down_blocks.I.downsamplers.0", "mid_block.resnets.0", "mid_block.attentions.0", "mid_block",
 * "up_blocks.I.resnets.J", "up_blocks.I.attentions.J", "up_blocks.I.upsamplers.0", "conv_out". */
void unet_forward(k_ctx *k, const unet *u, k_tensor y, k_tensor x, k_tensor time,
                  const unet_text *text, const net_tap *tap);
/* The same for planning. done(ctx) is called after each layer: its weights are prepared. */
void unet_plan(k_ctx *k, const unet *u, k_tensor y, k_tensor x, k_tensor time,
               const unet_text *text, void (*done)(void *ctx), void *ctx);

#endif
