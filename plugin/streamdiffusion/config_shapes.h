/* config_shapes.h - the configs of networks that come without config.json, from the names and
 * shapes of their tensors.
 *
 * What shapes cannot tell is the same in all published models of the architecture: groups of 32
 * channels, SiLU, the noise schedule. Heads are 8 where the projections around attention are
 * convolutions (SD 1.x), else 64 channels wide; a text encoder's are 64 wide always.
 */
#ifndef SD_CONFIG_SHAPES_H
#define SD_CONFIG_SHAPES_H

#include "config.h"
#include "weights_index.h"

/* Each 0, or *err names the first tensor that is missing or cannot be of this network. [load] */
int config_shape_unet(unet_config *c, const weights_index *x, scope_error *err);
/* scaling_factor is the family's, not the file's: SD's, until the caller sets another. */
int config_shape_vae(vae_config *c, const weights_index *x, scope_error *err);
int config_shape_clip(clip_config *c, const weights_index *x, scope_error *err);
int config_shape_taesd(taesd_config *c, const weights_index *x, scope_error *err);

/* Was a UNet of SD 2's kind trained to predict v? The file does not say; the biases of its last
 * transformer's first norm do: they are spread wider (0.09) in all published ones that were. */
int config_shape_predicts_v(const weights_index *x);

#endif
