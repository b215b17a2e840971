/* resnet.h - ResnetBlock2D, the convolutional block of the UNet and of AutoencoderKL.
 *
 *   a = conv1(act(norm1(x))) + time
 *   y = conv2(act(norm2(a))) + (conv_shortcut(x), or x where the channels agree)
 * Source: diffusers ResnetBlock2D with output_scale_factor 1.
 */
#ifndef SD_RESNET_H
#define SD_RESNET_H

#include "net.h"
#include "weights.h"

typedef struct resnet_norm {
    int groups;
    float eps;
    int act; /* k_act, after each norm */
} resnet_norm;

typedef struct resnet {
    int in, out;
    resnet_norm norm;
    int time_at; /* first channel of its shift in a time row; UNet only */
    const k_weight *norm1, *conv1, *norm2, *conv2;
    const k_weight *shortcut; /* NULL where in == out */
    const k_weight *time;     /* [out, time channels]; NULL in an autoencoder */
} resnet;

/* Ask w for the weights under `name`; time_channels 0: no time projection. */
resnet resnet_of(weights *w, const char *name, int in, int out, resnet_norm norm,
                 int time_channels);
/* y [n, h, w, out]   x [n, h, w, in]   time: [n, 1, 1, out], or dtype 0 for none */
void resnet_forward(k_ctx *k, const resnet *r, k_tensor y, k_tensor x, k_tensor time);

#endif
