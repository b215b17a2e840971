/* vae.c - see vae.h. Source: diffusers AutoencoderKL, Encoder, Decoder, UNetMidBlock2D. */
#include "vae.h"

#include "alloc.h"
#include "resnet.h"

#include <stdlib.h>

enum { VAE_MAX_LAYERS = 5 };

typedef struct vae_level {
    int out, count;
    resnet resnet[VAE_MAX_LAYERS];
    const k_weight *sample; /* halving or doubling convolution; NULL in the last level */
} vae_level;

/* One head over all pixels, with biases: y = x + out(attention(norm(x))). */
typedef struct vae_attention {
    const k_weight *norm, *qkv, *out; /* NULL: the network has none */
} vae_attention;

typedef struct vae_half {
    const k_weight *conv_in, *norm_out, *conv_out;
    resnet mid[2];
    vae_attention attention;
    vae_level level[CONFIG_MAX_BLOCKS];
} vae_half;

struct vae {
    vae_config config;
    resnet_norm norm;
    vae_half encoder, decoder;
    const k_weight *quant, *post_quant; /* NULL: the network has none */
};

/* ---- building -------------------------------------------------------------------------------- */

static vae_attention attention_of(weights *w, const char *name, int c)
{
    net_name q = net_name_of("%s.to_q", name), k = net_name_of("%s.to_k", name);
    net_name v = net_name_of("%s.to_v", name);
    const char *const qkv[3] = {q.text, k.text, v.text};
    vae_attention a = {0};
    a.norm = weights_norm(w, net_name_of("%s.group_norm", name).text, c);
    a.qkv = weights_joined(w, qkv, 3, c, c, 1);
    a.out = weights_linear(w, net_name_of("%s.to_out.0", name).text, c, c, 1);
    return a;
}

static vae_level level_of(weights *w, const vae *v, net_name name, const char *sampler, int in,
                          int out, int count, int last)
{
    vae_level l = {.out = out, .count = count};
    for (int j = 0; j < count; j++)
        l.resnet[j] = resnet_of(w, net_name_of("%s.resnets.%d", name.text, j).text, j ? out : in,
                                out, v->norm, 0);
    if (!last)
        l.sample =
            weights_conv(w, net_name_of("%s.%s.0.conv", name.text, sampler).text, out, out, 3, 1);
    return l;
}

static void build_mid(vae_half *half, weights *w, const vae *v, const char *side)
{
    int c = v->config.block_channels[v->config.blocks - 1];
    for (int j = 0; j < 2; j++)
        half->mid[j] =
            resnet_of(w, net_name_of("%s.mid_block.resnets.%d", side, j).text, c, c, v->norm, 0);
    if (v->config.mid_attention)
        half->attention = attention_of(w, net_name_of("%s.mid_block.attentions.0", side).text, c);
}

static void build_encoder(vae *v, weights *w)
{
    const vae_config *c = &v->config;
    int last = c->blocks - 1, in = c->block_channels[0];
    v->encoder.conv_in = weights_conv(w, "encoder.conv_in", in, c->in_channels, 3, 1);
    for (int i = 0; i < c->blocks; i++) {
        int out = c->block_channels[i];
        v->encoder.level[i] = level_of(w, v, net_name_of("encoder.down_blocks.%d", i),
                                       "downsamplers", in, out, c->layers, i == last);
        in = out;
    }
    build_mid(&v->encoder, w, v, "encoder");
    v->encoder.norm_out = weights_norm(w, "encoder.conv_norm_out", in);
    v->encoder.conv_out = weights_conv(w, "encoder.conv_out", 2 * c->latent_channels, in, 3, 1);
    if (c->quant_conv)
        v->quant =
            weights_conv(w, "quant_conv", 2 * c->latent_channels, 2 * c->latent_channels, 1, 1);
}

static void build_decoder(vae *v, weights *w)
{
    const vae_config *c = &v->config;
    int last = c->blocks - 1, in = c->block_channels[last];
    if (c->post_quant_conv)
        v->post_quant =
            weights_conv(w, "post_quant_conv", c->latent_channels, c->latent_channels, 1, 1);
    v->decoder.conv_in = weights_conv(w, "decoder.conv_in", in, c->latent_channels, 3, 1);
    build_mid(&v->decoder, w, v, "decoder");
    for (int i = 0; i < c->blocks; i++) {
        int out = c->block_channels[last - i];
        v->decoder.level[i] = level_of(w, v, net_name_of("decoder.up_blocks.%d", i), "upsamplers",
                                       in, out, c->layers + 1, i == last);
        in = out;
    }
    v->decoder.norm_out = weights_norm(w, "decoder.conv_norm_out", in);
    v->decoder.conv_out = weights_conv(w, "decoder.conv_out", c->out_channels, in, 3, 1);
}

vae *vae_open(weights *w, const vae_config *c, scope_error *err)
{
    if (c->layers + 1 > VAE_MAX_LAYERS) {
        scope_fail(err, SCOPE_EINVAL,
                   "The autoencoder has %d layers in a block; at most %d can be run.", c->layers,
                   VAE_MAX_LAYERS - 1);
        return NULL;
    }
    if (c->shift_factor != 0) {
        scope_fail(err, SCOPE_EINVAL,
                   "The autoencoder has shift_factor %g; only 0 is supported, as SD has it.",
                   (double)c->shift_factor);
        return NULL;
    }
    vae *v = sd_calloc(1, sizeof *v);
    if (!v) {
        scope_fail(err, SCOPE_ENOMEM, "Out of memory while building the autoencoder.");
        return NULL;
    }
    v->config = *c;
    v->norm = (resnet_norm){.groups = c->norm_groups, .eps = 1e-6f, .act = c->act};
    build_encoder(v, w);
    build_decoder(v, w);
    return v;
}

void vae_close(vae *v)
{
    free(v);
}

/* ---- running --------------------------------------------------------------------------------- */

static const k_tensor no_time = {0};

static void attend(k_ctx *k, const vae *v, const vae_attention *a, k_tensor y, k_tensor x)
{
    int c = x.c;
    size_t mark = k_mark(k);
    k_tensor normed = net_like(k, x, c); /* then the attention's output */
    k_tensor qkv = net_like(k, x, 3 * c);
    K_CALL(k, group_norm, normed, x, a->norm, v->norm.groups, v->norm.eps, K_IDENTITY);
    K_CALL(k, linear, qkv, normed, a->qkv, &(k_linear){0});
    K_CALL(k, attention, normed, k_slice(qkv, 0, c), k_slice(qkv, c, c), k_slice(qkv, 2 * c, c),
           &(k_attention){.heads = 1});
    K_CALL(k, linear, y, normed, a->out, &(k_linear){.residual = x});
    k_release(k, mark);
}

static void run_mid(k_ctx *k, const vae *v, const vae_half *half, k_tensor y, k_tensor x)
{
    size_t mark = k_mark(k);
    k_tensor a = net_like(k, x, x.c);
    resnet_forward(k, &half->mid[0], a, x, no_time);
    if (half->attention.norm) {
        k_tensor b = net_like(k, x, x.c);
        attend(k, v, &half->attention, b, a);
        a = b;
    }
    resnet_forward(k, &half->mid[1], y, a, no_time);
    k_release(k, mark);
}

/* y = sample(resnets(x)); y has the size that the sampling gives. */
static void run_level(k_ctx *k, const vae_level *l, const k_conv *sampling, k_tensor y, k_tensor x)
{
    size_t mark = k_mark(k);
    k_tensor pair[2] = {{0}, {0}}; /* taken when first written: the first resnet needs most room */
    for (int j = 0; j < l->count; j++) {
        k_tensor *out = &pair[j & 1];
        if (j == l->count - 1 && !l->sample)
            out = &y;
        else if (!out->dtype)
            *out = net_like(k, x, l->out);
        resnet_forward(k, &l->resnet[j], *out, x, no_time);
        x = *out;
    }
    if (l->sample)
        K_CALL(k, conv, y, x, l->sample, sampling);
    k_release(k, mark);
}

/* y = conv_out(act(norm_out(x))) */
static void run_out(k_ctx *k, const vae *v, const vae_half *half, k_tensor y, k_tensor x)
{
    size_t mark = k_mark(k);
    k_tensor normed = net_like(k, x, x.c);
    K_CALL(k, group_norm, normed, x, half->norm_out, v->norm.groups, v->norm.eps, v->norm.act);
    K_CALL(k, conv, y, normed, half->conv_out, &(k_conv){0});
    k_release(k, mark);
}

void vae_encode(k_ctx *k, const vae *v, k_tensor y, k_tensor x, const net_tap *tap)
{
    const vae_config *c = &v->config;
    size_t mark = k_mark(k);
    int real = k->real;
    k->real = c->wide ? k->wide : real;
    k_tensor h = net_like(k, x, c->block_channels[0]);
    K_CALL(k, conv, h, x, v->encoder.conv_in, &(k_conv){0});
    net_see(k, tap, h, "encoder.conv_in");
    for (int i = 0; i < c->blocks; i++) {
        const vae_level *l = &v->encoder.level[i];
        int halves = l->sample != NULL;
        k_tensor next = k_temp(k, k->real, h.n, h.h >> halves, h.w >> halves, l->out);
        run_level(k, l, &(k_conv){.stride = 2, .pad_end_only = 1}, next, h);
        net_see(k, tap, next, "encoder.down_blocks.%d", i);
        h = next;
    }
    k_tensor mid = net_like(k, h, h.c);
    run_mid(k, v, &v->encoder, mid, h);
    net_see(k, tap, mid, "encoder.mid_block");

    k_tensor moments = net_like(k, mid, 2 * c->latent_channels);
    run_out(k, v, &v->encoder, moments, mid);
    net_see(k, tap, moments, "encoder");
    if (v->quant) {
        k_tensor mixed = net_like(k, moments, moments.c);
        K_CALL(k, conv, mixed, moments, v->quant, &(k_conv){0});
        moments = mixed;
    }
    K_CALL(k, activate, y, k_slice(moments, 0, c->latent_channels), K_IDENTITY); /* the mean */
    k->real = real;
    k_release(k, mark);
}

void vae_decode(k_ctx *k, const vae *v, k_tensor y, k_tensor x, const net_tap *tap)
{
    const vae_config *c = &v->config;
    size_t mark = k_mark(k);
    int real = k->real;
    k->real = c->wide ? k->wide : real;
    k_tensor z = x;
    if (v->post_quant) {
        z = net_like(k, x, x.c);
        K_CALL(k, conv, z, x, v->post_quant, &(k_conv){0});
    }
    k_tensor h = net_like(k, x, c->block_channels[c->blocks - 1]);
    K_CALL(k, conv, h, z, v->decoder.conv_in, &(k_conv){0});
    net_see(k, tap, h, "decoder.conv_in");
    k_tensor mid = net_like(k, h, h.c);
    run_mid(k, v, &v->decoder, mid, h);
    net_see(k, tap, mid, "decoder.mid_block");
    h = mid;
    for (int i = 0; i < c->blocks; i++) {
        const vae_level *l = &v->decoder.level[i];
        int times = l->sample ? 2 : 1;
        k_tensor next = k_temp(k, k->real, h.n, times * h.h, times * h.w, l->out);
        run_level(k, l, &(k_conv){.up = 1}, next, h);
        net_see(k, tap, next, "decoder.up_blocks.%d", i);
        h = next;
    }
    run_out(k, v, &v->decoder, y, h);
    net_see(k, tap, y, "decoder");
    k->real = real;
    k_release(k, mark);
}
