/* config_shapes.c - see config_shapes.h. */
#include "config_shapes.h"

#include "fp8.h"
#include "kernels/kernels.h"

#include <math.h>

enum { MAX_SIDE = 1 << 20, MAX_COUNT = 64, HEAD = 64, GROUPS = 32 };

/* One sticky error: after the first, sizes are 1. */
typedef struct reader {
    const weights_index *x;
    scope_error *err;
} reader;

__attribute__((format(printf, 2, 3))) static const named *look(const reader *r, const char *format,
                                                               ...)
{
    char name[LDM_NAME];
    va_list ap;
    va_start(ap, format);
    vsnprintf(name, sizeof name, format, ap);
    va_end(ap);
    return weights_index_find(r->x, name);
}

/* Dimension `d` of a tensor that must be there, within what the networks can be asked to build. */
static int size(const reader *r, const char *name, int d, int most)
{
    const named *e = weights_index_find(r->x, name);
    if (r->err->status)
        return 1;
    if (!e) {
        scope_fail(r->err, SCOPE_EIO, "the tensor %.80s is missing", name);
    } else if (d >= e->tensor.ndim || e->tensor.dim[d] < 1 || e->tensor.dim[d] > most) {
        scope_fail(r->err, SCOPE_EIO, "the tensor %.80s has a shape that none of its kind has",
                   name);
    } else {
        return (int)e->tensor.dim[d];
    }
    return 1;
}

static int divisible(const reader *r, const char *what, int channels, int by)
{
    if (!r->err->status && channels % by)
        scope_fail(r->err, SCOPE_EIO,
                   "%d channels cannot be split into %d %s; give a folder in diffusers layout, "
                   "whose configs say how",
                   channels, by, what);
    return channels;
}

static void begin(reader *r, const weights_index *x, scope_error *err)
{
    memset(err, 0, sizeof *err);
    *r = (reader){x, err};
}

/* ---- UNet ------------------------------------------------------------------------------------ */

/* Blocks in the transformer `name`; 0 when it is none. */
static int depth(const reader *r, const char *name)
{
    int n = 0;
    while (n < MAX_COUNT && look(r, "%s.transformer_blocks.%d.norm1.weight", name, n))
        n++;
    return n;
}

static void unet_block(const reader *r, unet_config *c, int i)
{
    char name[LDM_NAME];
    int up = c->blocks - 1 - i, down_depth, up_depth;
    snprintf(name, sizeof name, "down_blocks.%d.resnets.0.conv1.weight", i);
    c->block_channels[i] = divisible(r, "norm groups", size(r, name, 0, 8192), GROUPS);
    while (c->layers[i] < MAX_COUNT &&
           look(r, "down_blocks.%d.resnets.%d.conv1.weight", i, c->layers[i]))
        c->layers[i]++;
    snprintf(name, sizeof name, "down_blocks.%d.attentions.0", i);
    down_depth = depth(r, name);
    snprintf(name, sizeof name, "up_blocks.%d.attentions.0", up);
    up_depth = depth(r, name);
    c->down_attention[i] = down_depth > 0;
    c->up_attention[up] = up_depth > 0;
    c->transformer_layers[i] = down_depth ? down_depth : up_depth ? up_depth : 1;
    if (i == c->blocks - 1 && !down_depth)
        c->transformer_layers[i] = depth(r, "mid_block.attentions.0");
    if (!r->err->status && !c->transformer_layers[i])
        scope_fail(r->err, SCOPE_EIO, "the tensors mid_block.attentions.0 are missing");
}

static void unet_text(const reader *r, unet_config *c)
{
    const named *proj = look(r, "mid_block.attentions.0.proj_in.weight");
    c->linear_projection = proj && proj->tensor.ndim == 2;
    for (int i = 0; i < c->blocks; i++) {
        c->heads[i] = c->linear_projection ? c->block_channels[i] / HEAD : 8;
        if (c->down_attention[i] || c->up_attention[c->blocks - 1 - i] || i == c->blocks - 1)
            divisible(r, "channels of an attention head", c->block_channels[i],
                      c->linear_projection ? HEAD : 8);
    }
    c->cross_attention_dim =
        size(r, "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight", 1, 8192);
}

int config_shape_unet(unet_config *c, const weights_index *x, scope_error *err)
{
    reader r;
    begin(&r, x, err);
    memset(c, 0, sizeof *c);
    c->in_channels = size(&r, "conv_in.weight", 1, 64);
    c->out_channels = size(&r, "conv_out.weight", 0, 64);
    while (c->blocks < CONFIG_MAX_BLOCKS &&
           look(&r, "down_blocks.%d.resnets.0.conv1.weight", c->blocks))
        c->blocks++;
    if (!c->blocks)
        size(&r, "down_blocks.0.resnets.0.conv1.weight", 0, 1);
    for (int i = 0; i < c->blocks; i++)
        unet_block(&r, c, i);
    unet_text(&r, c);
    c->norm_groups = GROUPS;
    c->norm_eps = 1e-5f;
    c->act = K_SILU;
    c->time_embed_dim = size(&r, "time_embedding.linear_1.weight", 0, 4 * 8192);
    if (look(&r, "time_embedding.cond_proj.weight"))
        c->time_cond_proj_dim = size(&r, "time_embedding.cond_proj.weight", 1, 8192);
    c->text_time = look(&r, "add_embedding.linear_1.weight") != NULL;
    if (c->text_time) {
        c->addition_time_embed_dim = 256;
        c->addition_input_dim = size(&r, "add_embedding.linear_1.weight", 1, 4 * 8192);
    }
    c->sample_size = c->text_time ? 128 : 64;
    return err->status;
}

static double value_at(const st_tensor *t, size_t i)
{
    uint16_t half;
    uint32_t bits;
    float f;
    if (t->dtype == ST_F32) {
        memcpy(&f, (const char *)t->data + 4 * i, 4);
        return (double)f;
    }
    if (t->dtype == ST_BF16) {
        memcpy(&half, (const char *)t->data + 2 * i, 2);
        bits = (uint32_t)half << 16;
        memcpy(&f, &bits, 4);
        return (double)f;
    }
    if (t->dtype == ST_F16)
        memcpy(&half, (const char *)t->data + 2 * i, 2);
    else
        fp8_widen(&half, (const uint8_t *)t->data + i, 1, t->dtype);
    int e = half >> 10 & 31, m = half & 1023;
    double v = e ? ldexp(1 + m / 1024.0, e - 15) : ldexp(m / 1024.0, -14);
    return half & 0x8000 ? -v : v;
}

int config_shape_predicts_v(const weights_index *x)
{
    char name[LDM_NAME];
    const named *last = NULL, *e;
    double sum = 0, squares = 0;
    for (int i = 0; i < CONFIG_MAX_BLOCKS; i++) {
        for (int j = 0; j < MAX_COUNT; j++) {
            snprintf(name, sizeof name,
                     "up_blocks.%d.attentions.%d.transformer_blocks.0.norm1.bias", i, j);
            if ((e = weights_index_find(x, name)))
                last = e;
        }
    }
    if (!last || last->tensor.ndim != 1 || last->tensor.dim[0] < 2 ||
        (last->tensor.dtype > ST_BF16 && last->tensor.dtype < ST_F8_E4M3))
        return 0;
    size_t n = (size_t)last->tensor.dim[0];
    for (size_t i = 0; i < n; i++) {
        double v = value_at(&last->tensor, i);
        sum += v;
        squares += v * v;
    }
    return squares / (double)n - sum / (double)n * (sum / (double)n) > 0.09 * 0.09;
}

/* ---- autoencoders ---------------------------------------------------------------------------- */

int config_shape_vae(vae_config *c, const weights_index *x, scope_error *err)
{
    reader r;
    char name[LDM_NAME];
    begin(&r, x, err);
    memset(c, 0, sizeof *c);
    c->in_channels = size(&r, "encoder.conv_in.weight", 1, 16);
    c->out_channels = size(&r, "decoder.conv_out.weight", 0, 16);
    c->latent_channels = size(&r, "decoder.conv_in.weight", 1, 64);
    while (c->blocks < CONFIG_MAX_BLOCKS &&
           look(&r, "encoder.down_blocks.%d.resnets.0.conv1.weight", c->blocks)) {
        snprintf(name, sizeof name, "encoder.down_blocks.%d.resnets.0.conv1.weight", c->blocks);
        c->block_channels[c->blocks++] =
            divisible(&r, "norm groups", size(&r, name, 0, 8192), GROUPS);
    }
    while (c->layers < MAX_COUNT &&
           look(&r, "encoder.down_blocks.0.resnets.%d.conv1.weight", c->layers))
        c->layers++;
    if (!c->blocks)
        size(&r, "encoder.down_blocks.0.resnets.0.conv1.weight", 0, 1);
    c->act = K_SILU;
    c->norm_groups = GROUPS;
    c->mid_attention = look(&r, "decoder.mid_block.attentions.0.group_norm.weight") != NULL;
    c->quant_conv = look(&r, "quant_conv.weight") != NULL;
    c->post_quant_conv = look(&r, "post_quant_conv.weight") != NULL;
    c->scaling_factor = 0.18215f;
    return err->status;
}

int config_shape_taesd(taesd_config *c, const weights_index *x, scope_error *err)
{
    static const int blocks[] = {1, 3, 3, 3};
    reader r;
    begin(&r, x, err);
    memset(c, 0, sizeof *c);
    c->in_channels = size(&r, "encoder.layers.0.weight", 1, 16);
    c->latent_channels = size(&r, "decoder.layers.0.weight", 1, 64);
    c->out_channels = size(&r, "decoder.layers.18.weight", 0, 16);
    c->stages = 4;
    for (int i = 0; i < 4; i++) {
        c->encoder_channels[i] = size(&r, "encoder.layers.0.weight", 0, 8192);
        c->decoder_channels[i] = size(&r, "decoder.layers.0.weight", 0, 8192);
        c->encoder_blocks[i] = blocks[i];
        c->decoder_blocks[i] = blocks[3 - i];
    }
    c->act = K_RELU;
    c->scaling_factor = 1;
    return err->status;
}

/* ---- text encoder ---------------------------------------------------------------------------- */

/* ViT-L was trained with the quick GELU; OpenCLIP's with the exact one, under whoever's names. */
static int clip_act(const weights_index *x, int width)
{
    int open = x->files.count == 1 && x->files.role[0] == WEIGHTS_SINGLE &&
               ldm_open_clip(&x->files.single);
    return open || width == 1024 || width == 1280 ? K_GELU : K_QUICK_GELU;
}

int config_shape_clip(clip_config *c, const weights_index *x, scope_error *err)
{
    static const char tokens[] = "text_model.embeddings.token_embedding.weight";
    reader r;
    begin(&r, x, err);
    memset(c, 0, sizeof *c);
    c->vocab_size = size(&r, tokens, 0, MAX_SIDE);
    c->width = divisible(&r, "channels of an attention head", size(&r, tokens, 1, 8192), HEAD);
    c->heads = c->width / HEAD;
    c->positions = size(&r, "text_model.embeddings.position_embedding.weight", 0, 4096);
    c->intermediate = size(&r, "text_model.encoder.layers.0.mlp.fc1.weight", 0, 4 * 8192);
    while (c->layers < MAX_COUNT &&
           look(&r, "text_model.encoder.layers.%d.layer_norm1.weight", c->layers))
        c->layers++;
    c->act = clip_act(x, c->width);
    c->norm_eps = 1e-5f;
    c->eos_token_id = c->vocab_size - 1;
    const named *projection = look(&r, "text_projection.weight");
    if (projection)
        c->projection = size(&r, "text_projection.weight", projection->transposed, 8192);
    if (!err->status && c->positions < 77)
        return scope_fail(err, SCOPE_EIO,
                          "the text encoder reads %d tokens; at least 77 are needed", c->positions);
    return err->status;
}
