/* stages.h - one network of a loaded model on given numbers: plan, run, fetch.
 *
 * Shared by the probe (tests/oracle) and the golden tests. Every function opens a context of its
 * own, takes and fills dense host arrays in NHWC, and returns 0, or -1 with a sentence in why.
 */
#ifndef ORACLE_STAGES_H
#define ORACLE_STAGES_H

#include "plugin/streamdiffusion/model.h"

typedef struct stage_unet_input {
    const float *x; /* [1, h, w, in_channels] */
    int h, w;
    float timestep;
    int has_guidance;
    float guidance;      /* guidance scale; the network is told 1000 (guidance - 1) */
    const float *states; /* [1, 77, cross_attention_dim] */
    const net_tap *tap;  /* may be NULL */
} stage_unet_input;

static inline int stage_end(k_ctx *k, char why[K_WHY])
{
    int rc = k->status;
    if (rc)
        memcpy(why, k->where, K_WHY);
    k_close(k);
    return rc;
}

/* y [77, width] */
static inline int stage_text(const model *m, const int32_t *ids, float *y, char why[K_WHY])
{
    k_ctx *k = k_open(m->device, why);
    if (!k)
        return -1;
    for (int pass = 0; pass < 2 && !k->status; pass++) {
        if (!pass)
            k_plan_begin(k);
        k_tensor in = k_temp(k, K_I32, 1, 1, TOKENIZER_LENGTH, 1);
        k_tensor out = k_temp(k, K_F32, 1, 1, TOKENIZER_LENGTH, clip_width(m->text));
        k_put(k, in, ids);
        clip_forward(k, m->text, out, in, NULL);
        k_get(k, out, y);
        k_release(k, 0);
        if (!pass)
            k_plan_end(k);
    }
    return stage_end(k, why);
}

/* y [1, h, w, out_channels] */
static inline int stage_unet(const model *m, const stage_unet_input *in, float *y, char why[K_WHY])
{
    const unet_config *c = &m->config.unet;
    k_ctx *k = k_open(m->device, why);
    if (!k)
        return -1;
    unet_text text;
    unet_text_keep(k, m->unet, &text, 1, TOKENIZER_LENGTH);
    for (int pass = 0; pass < 2 && !k->status; pass++) {
        if (!pass)
            k_plan_begin(k);
        k_tensor x = k_temp(k, K_F32, 1, in->h, in->w, c->in_channels);
        k_tensor out = k_temp(k, K_F32, 1, in->h, in->w, c->out_channels);
        k_tensor states = k_temp(k, K_F32, 1, 1, TOKENIZER_LENGTH, c->cross_attention_dim);
        k_tensor t = k_temp(k, K_F32, 1, 1, 1, 1), w = {0};
        k_tensor time = k_temp(k, K_F32, 1, 1, 1, unet_time_channels(m->unet));
        k_put(k, x, in->x);
        k_put(k, states, in->states);
        k_put(k, t, &in->timestep);
        if (in->has_guidance) {
            w = k_temp(k, K_F32, 1, 1, 1, 1);
            k_put(k, w, &(float){1000 * (in->guidance - 1)});
        }
        unet_text_set(k, m->unet, &text, states);
        unet_time(k, m->unet, time, t, w, in->tap);
        unet_forward(k, m->unet, out, x, time, &text, in->tap);
        k_get(k, out, y);
        k_release(k, 0);
        if (!pass)
            k_plan_end(k);
    }
    unet_text_drop(k, &text);
    return stage_end(k, why);
}

/* Which of the two autoencoders, and which way. */
enum stage_coder { STAGE_VAE_ENCODE, STAGE_VAE_DECODE, STAGE_TAESD_ENCODE, STAGE_TAESD_DECODE };

/* Pictures are [1, 8h, 8w, 3] and latents [1, h, w, channels], in the ranges of vae.h and taesd.h;
 * h and w are the latent's. */
static inline int stage_code(const model *m, enum stage_coder way, const float *x, int h, int w,
                             float *y, char why[K_WHY])
{
    int tiny = way >= STAGE_TAESD_ENCODE,
        encode = way == STAGE_VAE_ENCODE || way == STAGE_TAESD_ENCODE;
    int c = tiny ? m->config.taesd.latent_channels : m->config.vae.latent_channels;
    k_ctx *k = k_open(m->device, why);
    if (!k)
        return -1;
    for (int pass = 0; pass < 2 && !k->status; pass++) {
        if (!pass)
            k_plan_begin(k);
        k_tensor picture = k_temp(k, K_F32, 1, 8 * h, 8 * w, 3);
        k_tensor latent = k_temp(k, K_F32, 1, h, w, c);
        k_put(k, encode ? picture : latent, x);
        if (way == STAGE_VAE_ENCODE)
            vae_encode(k, m->vae, latent, picture, NULL);
        else if (way == STAGE_VAE_DECODE)
            vae_decode(k, m->vae, picture, latent, NULL);
        else if (way == STAGE_TAESD_ENCODE)
            taesd_encode(k, m->taesd, latent, picture, NULL);
        else
            taesd_decode(k, m->taesd, picture, latent, NULL);
        k_get(k, encode ? latent : picture, y);
        k_release(k, 0);
        if (!pass)
            k_plan_end(k);
    }
    return stage_end(k, why);
}

/* y [1, h, w, c]: the noise of one denoising step */
static inline int stage_noise(const model *m, uint64_t seed, uint32_t stream, int h, int w,
                              float *y, char why[K_WHY])
{
    k_ctx *k = k_open(m->device, why);
    if (!k)
        return -1;
    k_tensor out = k_keep(k, K_F32, 1, h, w, m->config.unet.in_channels);
    K_CALL(k, noise, out, seed, stream);
    if (!k->status)
        k_get(k, out, y);
    k_drop(k, &out);
    return stage_end(k, why);
}
#endif
