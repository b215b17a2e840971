/* unet.c - see unet.h. Source: diffusers UNet2DConditionModel and its blocks.
 *
 * All resnets and all transformers lie in two flat lists, in the order of the forward pass; a
 * level (one down or up block) is a range of both. So what runs over every resnet (time) or every
 * transformer (text) is one loop.
 */
#include "unet.h"

#include "alloc.h"
#include "resnet.h"
#include "transformer.h"

#include <stdlib.h>

enum { UNET_MAX_LAYERS = 4, UNET_MAX_RESNETS = 64, UNET_MAX_TRANSFORMERS = 64 };
_Static_assert(CONFIG_MAX_BLOCKS *(2 * UNET_MAX_LAYERS + 1) + 2 <= UNET_MAX_RESNETS,
               "the list holds the resnets of any config");

typedef struct unet_level {
    int resnet, count;      /* first of its resnets, and how many */
    int transformer;        /* first of its transformers */
    int attended;           /* how many of its resnets, from the first, have one */
    const k_weight *sample; /* halving or doubling convolution; NULL in the last level */
} unet_level;

struct unet {
    unet_config config;
    resnet_norm norm;
    const k_weight *guidance;        /* cond_proj; NULL: the network takes no guidance embedding */
    const k_weight *added1, *added2; /* add_embedding; NULL: the network has none */
    const k_weight *time1, *time2, *conv_in, *norm_out, *conv_out;
    unet_level down[CONFIG_MAX_BLOCKS], mid, up[CONFIG_MAX_BLOCKS];
    int resnets, transformers;
    int time_channels; /* of all resnets together */
    int attentions;    /* cross-attentions: blocks of all transformers */
    resnet resnet[UNET_MAX_RESNETS];
    transformer transformer[UNET_MAX_TRANSFORMERS];
};

/* ---- building -------------------------------------------------------------------------------- */

static void push_resnet(unet *u, weights *w, net_name name, int in, int out)
{
    resnet *r = &u->resnet[u->resnets++];
    *r = resnet_of(w, name.text, in, out, u->norm, u->config.time_embed_dim);
    r->time_at = u->time_channels;
    u->time_channels += out;
}

/* A transformer of the level whose down block is `block`. */
static void push_transformer(unet *u, weights *w, net_name name, int block)
{
    const unet_config *c = &u->config;
    transformer_shape shape = {.channels = c->block_channels[block],
                               .heads = c->heads[block],
                               .depth = c->transformer_layers[block],
                               .groups = c->norm_groups,
                               .text_channels = c->cross_attention_dim,
                               .linear = c->linear_projection};
    transformer *t = &u->transformer[u->transformers++];
    *t = transformer_of(w, name.text, shape);
    t->text_at = u->attentions;
    u->attentions += shape.depth;
}

static unet_level level_here(const unet *u, int count, int attended)
{
    return (unet_level){
        .resnet = u->resnets, .count = count, .transformer = u->transformers, .attended = attended};
}

/* Fills skip[] with the channels of each output that an up block will take, in order. */
static int build_down(unet *u, weights *w, int *skip)
{
    const unet_config *c = &u->config;
    int in = c->block_channels[0], skips = 0;
    skip[skips++] = in;
    for (int i = 0; i < c->blocks; i++) {
        int out = c->block_channels[i];
        u->down[i] = level_here(u, c->layers[i], c->down_attention[i] ? c->layers[i] : 0);
        for (int j = 0; j < c->layers[i]; j++) {
            push_resnet(u, w, net_name_of("down_blocks.%d.resnets.%d", i, j), in, out);
            if (c->down_attention[i])
                push_transformer(u, w, net_name_of("down_blocks.%d.attentions.%d", i, j), i);
            skip[skips++] = in = out;
        }
        if (i < c->blocks - 1) {
            net_name name = net_name_of("down_blocks.%d.downsamplers.0.conv", i);
            u->down[i].sample = weights_conv(w, name.text, out, out, 3, 1);
            skip[skips++] = out;
        }
    }
    return skips;
}

static void build_mid(unet *u, weights *w)
{
    int last = u->config.blocks - 1, c = u->config.block_channels[last];
    u->mid = level_here(u, 2, 1);
    push_resnet(u, w, net_name_of("mid_block.resnets.0"), c, c);
    push_transformer(u, w, net_name_of("mid_block.attentions.0"), last);
    push_resnet(u, w, net_name_of("mid_block.resnets.1"), c, c);
}

static void build_up(unet *u, weights *w, const int *skip, int skips)
{
    const unet_config *c = &u->config;
    int last = c->blocks - 1, in = c->block_channels[last];
    for (int i = 0; i < c->blocks; i++) {
        int block = last - i, out = c->block_channels[block];
        int count = c->layers[block] + 1;
        u->up[i] = level_here(u, count, c->up_attention[i] ? count : 0);
        for (int j = 0; j < count; j++) {
            push_resnet(u, w, net_name_of("up_blocks.%d.resnets.%d", i, j), in + skip[--skips],
                        out);
            if (c->up_attention[i])
                push_transformer(u, w, net_name_of("up_blocks.%d.attentions.%d", i, j), block);
            in = out;
        }
        if (i < last) {
            net_name name = net_name_of("up_blocks.%d.upsamplers.0.conv", i);
            u->up[i].sample = weights_conv(w, name.text, out, out, 3, 1);
        }
    }
}

static void build(unet *u, weights *w)
{
    const unet_config *c = &u->config;
    int first = c->block_channels[0], temb = c->time_embed_dim;
    u->norm = (resnet_norm){.groups = c->norm_groups, .eps = c->norm_eps, .act = c->act};
    u->time1 = weights_linear(w, "time_embedding.linear_1", temb, first, 1);
    u->time2 = weights_linear(w, "time_embedding.linear_2", temb, temb, 1);
    if (c->time_cond_proj_dim)
        u->guidance =
            weights_linear(w, "time_embedding.cond_proj", first, c->time_cond_proj_dim, 0);
    if (c->text_time) {
        u->added1 = weights_linear(w, "add_embedding.linear_1", temb, c->addition_input_dim, 1);
        u->added2 = weights_linear(w, "add_embedding.linear_2", temb, temb, 1);
    }
    u->conv_in = weights_conv(w, "conv_in", first, c->in_channels, 3, 1);
    int skip[UNET_MAX_RESNETS];
    int skips = build_down(u, w, skip);
    build_mid(u, w);
    build_up(u, w, skip, skips);
    u->norm_out = weights_norm(w, "conv_norm_out", first);
    u->conv_out = weights_conv(w, "conv_out", c->out_channels, first, 3, 1);
}

/* Is there room for what the config asks? */
static int check(const unet_config *c, scope_error *err)
{
    int attentions = c->transformer_layers[c->blocks - 1];
    for (int i = 0; i < c->blocks; i++) {
        attentions += (2 * c->layers[i] + 1) * c->transformer_layers[i];
        if (c->layers[i] > UNET_MAX_LAYERS)
            return scope_fail(err, SCOPE_EINVAL,
                              "The UNet has %d layers in a block; at most %d can be run.",
                              c->layers[i], UNET_MAX_LAYERS);
        if (c->transformer_layers[i] > TRANSFORMER_MAX_DEPTH)
            return scope_fail(err, SCOPE_EINVAL,
                              "The UNet's transformers are %d deep; at most %d can be run.",
                              c->transformer_layers[i], TRANSFORMER_MAX_DEPTH);
    }
    if (attentions > UNET_MAX_ATTENTIONS)
        return scope_fail(err, SCOPE_EINVAL,
                          "The UNet has %d cross-attentions; at most %d can be run.", attentions,
                          UNET_MAX_ATTENTIONS);
    return 0;
}

unet *unet_open(weights *w, const unet_config *c, scope_error *err)
{
    if (check(c, err))
        return NULL;
    unet *u = sd_calloc(1, sizeof *u);
    if (!u) {
        scope_fail(err, SCOPE_ENOMEM, "Out of memory while building the UNet.");
        return NULL;
    }
    u->config = *c;
    build(u, w);
    return u;
}

void unet_close(unet *u)
{
    free(u);
}

/* ---- text and time --------------------------------------------------------------------------- */

void unet_text_keep(k_ctx *k, const unet *u, unet_text *t, int n, int tokens)
{
    t->count = 0;
    for (int i = 0; i < u->transformers; i++) {
        const transformer *tr = &u->transformer[i];
        for (int j = 0; j < tr->shape.depth; j++)
            t->kv[t->count++] = k_keep(k, k->real, n, 1, tokens, 2 * tr->shape.channels);
    }
}

void unet_text_drop(k_ctx *k, unet_text *t)
{
    for (int i = 0; i < t->count; i++)
        k_drop(k, &t->kv[i]);
    t->count = 0;
}

void unet_text_set(k_ctx *k, const unet *u, const unet_text *t, k_tensor states)
{
    for (int i = 0; i < u->transformers; i++)
        transformer_text(k, &u->transformer[i], t->kv + u->transformer[i].text_at, states);
}

int unet_time_channels(const unet *u)
{
    return u->time_channels;
}

int unet_has_guidance(const unet *u)
{
    return u->guidance != NULL;
}

int unet_added_channels(const unet *u)
{
    return u->config.text_time ? u->config.time_embed_dim : 0;
}

void unet_added(k_ctx *k, const unet *u, k_tensor y, k_tensor pooled, k_tensor sizes,
                const net_tap *tap)
{
    const unet_config *c = &u->config;
    int width = c->addition_time_embed_dim;
    size_t mark = k_mark(k);
    k_tensor all = net_like(k, y, c->addition_input_dim), hidden = net_like(k, y, y.c);
    K_CALL(k, activate, k_slice(all, 0, pooled.c), pooled, K_IDENTITY);
    for (int i = 0; i < sizes.n; i++)
        K_CALL(k, sinusoid, k_slice(all, pooled.c + i * width, width), net_image(sizes, i),
               c->sin_first, c->freq_shift);
    K_CALL(k, linear, hidden, all, u->added1, &(k_linear){.act = K_SILU});
    K_CALL(k, linear, y, hidden, u->added2, &(k_linear){0});
    net_see(k, tap, y, "add_embedding");
    k_release(k, mark);
}

void unet_time(k_ctx *k, const unet *u, k_tensor y, k_tensor timestep, k_tensor guidance,
               k_tensor added, const net_tap *tap)
{
    const unet_config *c = &u->config;
    size_t mark = k_mark(k);
    k_tensor wave = net_like(k, y, c->block_channels[0]);
    K_CALL(k, sinusoid, wave, timestep, c->sin_first, c->freq_shift);
    if (guidance.dtype) {
        k_tensor g = net_like(k, y, c->time_cond_proj_dim), sum = net_like(k, wave, wave.c);
        K_CALL(k, sinusoid, g, guidance, 1, 1.0f);
        K_CALL(k, linear, sum, g, u->guidance, &(k_linear){.residual = wave});
        wave = sum;
    }
    k_tensor hidden = net_like(k, y, c->time_embed_dim), temb = net_like(k, y, c->time_embed_dim);
    K_CALL(k, linear, hidden, wave, u->time1, &(k_linear){.act = c->act});
    K_CALL(k, linear, temb, hidden, u->time2, &(k_linear){0});
    net_see(k, tap, temb, "time_embedding");
    if (added.dtype) {
        K_CALL(k, add, hidden, temb, added);
        temb = hidden;
    }
    K_CALL(k, activate, hidden, temb, c->act);
    for (int i = 0; i < u->resnets; i++) {
        const resnet *r = &u->resnet[i];
        K_CALL(k, linear, k_slice(y, r->time_at, r->out), hidden, r->time, &(k_linear){0});
    }
    k_release(k, mark);
}

/* ---- running --------------------------------------------------------------------------------- */

/* One forward pass: what does not change along it, and the outputs that wait for an up block. */
typedef struct pass {
    k_ctx *k;
    const unet *u;
    k_tensor time;
    const unet_text *text;
    const net_tap *tap;
    void (*done)(void *ctx); /* after each layer; may be NULL */
    void *ctx;
    /* What up layers read, the last one first: the output of the layer before in the left channels,
     * of a down layer in the right ones. Each is written where it will be read. */
    k_tensor both[UNET_MAX_RESNETS], skip[UNET_MAX_RESNETS]; /* skip: the right channels */
    int skips;
} pass;

/* Where the next layer of the down half writes its output, which waits for an up layer. */
static k_tensor next_skip(pass *p, int n, int h, int w, int c)
{
    const unet *u = p->u;
    int last = u->resnets - 1, in = u->resnet[last - p->skips].in;
    p->both[p->skips] = k_temp(p->k, p->k->real, n, h, w, in);
    p->skip[p->skips] = k_slice(p->both[p->skips], in - c, c);
    return p->skip[p->skips++];
}

/* Where the layer before the next up layer writes its output. */
static k_tensor left(const pass *p)
{
    k_tensor both = p->both[p->skips - 1];
    return k_slice(both, 0, both.c - p->skip[p->skips - 1].c);
}

/* y = transformer j of l (resnet j of l (x)), or the resnet alone; `where` names the level. */
static void run_layer(pass *p, const unet_level *l, int j, const char *where, k_tensor y,
                      k_tensor x)
{
    k_ctx *k = p->k;
    const resnet *r = &p->u->resnet[l->resnet + j];
    k_tensor shift = k_slice(p->time, r->time_at, r->out);
    size_t mark = k_mark(k);
    k_tensor h = j < l->attended ? net_like(k, x, r->out) : y;
    resnet_forward(k, r, h, x, shift);
    net_see(k, p->tap, h, "%s.resnets.%d", where, j);
    if (j < l->attended) {
        const transformer *t = &p->u->transformer[l->transformer + j];
        transformer_forward(k, t, y, h, p->text->kv + t->text_at);
        net_see(k, p->tap, y, "%s.attentions.%d", where, j);
    }
    if (p->done)
        p->done(p->ctx);
    k_release(k, mark);
}

/* All outputs stay until their up layer has read them. Returns the last one. */
static k_tensor run_down(pass *p, k_tensor x)
{
    k_ctx *k = p->k;
    const unet *u = p->u;
    k_tensor h = next_skip(p, x.n, x.h, x.w, u->config.block_channels[0]);
    K_CALL(k, conv, h, x, u->conv_in, &(k_conv){0});
    net_see(k, p->tap, h, "conv_in");
    for (int i = 0; i < u->config.blocks; i++) {
        const unet_level *l = &u->down[i];
        net_name where = net_name_of("down_blocks.%d", i);
        for (int j = 0; j < l->count; j++) {
            k_tensor y = next_skip(p, h.n, h.h, h.w, u->config.block_channels[i]);
            run_layer(p, l, j, where.text, y, h);
            h = y;
        }
        if (l->sample) {
            k_tensor y = next_skip(p, h.n, (h.h + 1) / 2, (h.w + 1) / 2, h.c);
            K_CALL(k, conv, y, h, l->sample, &(k_conv){.stride = 2});
            net_see(k, p->tap, y, "%s.downsamplers.0", where.text);
            h = y;
        }
    }
    return h;
}

static void run_mid(pass *p, k_tensor y, k_tensor x)
{
    k_ctx *k = p->k;
    const unet_level *l = &p->u->mid;
    size_t mark = k_mark(k);
    k_tensor h = net_like(k, x, x.c);
    run_layer(p, l, 0, "mid_block", h, x);
    run_layer(p, l, 1, "mid_block", y, h);
    net_see(k, p->tap, y, "mid_block");
    k_release(k, mark);
}

/* y = conv(x, nearest-resized to y's size): doubled, or one less where halving rounded up. */
static void run_upsample(k_ctx *k, const k_weight *w, k_tensor y, k_tensor x)
{
    if (y.h == 2 * x.h && y.w == 2 * x.w) {
        K_CALL(k, conv, y, x, w, &(k_conv){.up = 1});
        return;
    }
    size_t mark = k_mark(k);
    k_tensor resized = net_like(k, y, x.c);
    K_CALL(k, resize_nearest, resized, x);
    K_CALL(k, conv, y, resized, w, &(k_conv){0});
    k_release(k, mark);
}

/* y: the output of the last layer. */
static void run_up(pass *p, k_tensor y)
{
    k_ctx *k = p->k;
    const unet *u = p->u;
    for (int i = 0; i < u->config.blocks; i++) {
        const unet_level *l = &u->up[i];
        net_name where = net_name_of("up_blocks.%d", i);
        size_t mark = k_mark(k);
        for (int j = 0; j < l->count; j++) {
            k_tensor x = p->both[--p->skips], h = y;
            if (j == l->count - 1 && l->sample)
                h = net_like(k, x, u->resnet[l->resnet + j].out);
            else if (p->skips)
                h = left(p);
            run_layer(p, l, j, where.text, h, x);
            if (j == l->count - 1 && l->sample) {
                run_upsample(k, l->sample, left(p), h);
                net_see(k, p->tap, left(p), "%s.upsamplers.0", where.text);
            }
        }
        k_release(k, mark);
    }
}

static void run(pass *p, k_tensor y, k_tensor x)
{
    k_ctx *k = p->k;
    const unet *u = p->u;
    size_t mark = k_mark(k);
    k_tensor h = net_like(k, x, u->config.block_channels[0]);
    k_tensor deepest = run_down(p, x);
    run_mid(p, left(p), deepest);
    run_up(p, h);
    k_tensor normed = net_like(k, h, h.c);
    K_CALL(k, group_norm, normed, h, u->norm_out, u->norm.groups, u->norm.eps, u->norm.act);
    K_CALL(k, conv, y, normed, u->conv_out, &(k_conv){0});
    net_see(k, p->tap, y, "conv_out");
    k_release(k, mark);
}

void unet_forward(k_ctx *k, const unet *u, k_tensor y, k_tensor x, k_tensor time,
                  const unet_text *text, const net_tap *tap)
{
    run(&(pass){.k = k, .u = u, .time = time, .text = text, .tap = tap}, y, x);
}

void unet_plan(k_ctx *k, const unet *u, k_tensor y, k_tensor x, k_tensor time,
               const unet_text *text, void (*done)(void *ctx), void *ctx)
{
    run(&(pass){.k = k, .u = u, .time = time, .text = text, .done = done, .ctx = ctx}, y, x);
}
