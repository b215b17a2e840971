/* clip.c - see clip.h. Source: transformers CLIPTextTransformer. */
#include "clip.h"

#include "alloc.h"

#include <stdlib.h>

enum { CLIP_MAX_LAYERS = 64 };

typedef struct clip_layer {
    const k_weight *norm1, *qkv, *out;
    const k_weight *norm2, *expand, *reduce;
} clip_layer;

struct clip {
    clip_config config;
    const k_weight *tokens, *positions, *final_norm; /* borrowed: of the weights set */
    const k_weight *projection;                      /* NULL: the model has none */
    clip_layer layer[CLIP_MAX_LAYERS];
};

static clip_layer layer_of(weights *w, int i, const clip_config *c)
{
    net_name name = net_name_of("text_model.encoder.layers.%d", i);
    net_name q = net_name_of("%s.self_attn.q_proj", name.text);
    net_name k = net_name_of("%s.self_attn.k_proj", name.text);
    net_name v = net_name_of("%s.self_attn.v_proj", name.text);
    net_name out = net_name_of("%s.self_attn.out_proj", name.text);
    clip_layer l = {0};
    l.norm1 = weights_norm(w, net_name_of("%s.layer_norm1", name.text).text, c->width);
    l.qkv =
        weights_joined(w, (const char *const[]){q.text, k.text, v.text}, 3, c->width, c->width, 1);
    l.out = weights_linear(w, out.text, c->width, c->width, 1);
    l.norm2 = weights_norm(w, net_name_of("%s.layer_norm2", name.text).text, c->width);
    l.expand =
        weights_linear(w, net_name_of("%s.mlp.fc1", name.text).text, c->intermediate, c->width, 1);
    l.reduce =
        weights_linear(w, net_name_of("%s.mlp.fc2", name.text).text, c->width, c->intermediate, 1);
    return l;
}

clip *clip_open(weights *w, const clip_config *config, scope_error *err)
{
    if (config->layers > CLIP_MAX_LAYERS) {
        scope_fail(err, SCOPE_EINVAL, "The text encoder has %d layers; at most %d are supported.",
                   config->layers, CLIP_MAX_LAYERS);
        return NULL;
    }
    clip *c = sd_calloc(1, sizeof *c);
    if (!c) {
        scope_fail(err, SCOPE_ENOMEM, "Out of memory while building the text encoder.");
        return NULL;
    }
    c->config = *config;
    c->tokens = weights_table(w, "text_model.embeddings.token_embedding.weight", config->vocab_size,
                              config->width);
    c->positions = weights_table(w, "text_model.embeddings.position_embedding.weight",
                                 config->positions, config->width);
    for (int i = 0; i < config->layers; i++)
        c->layer[i] = layer_of(w, i, config);
    c->final_norm = weights_norm(w, "text_model.final_layer_norm", config->width);
    if (config->projection)
        c->projection = weights_linear(w, "text_projection", config->projection, config->width, 0);
    return c;
}

int clip_width(const clip *c)
{
    return c->config.width;
}

int clip_layers(const clip *c)
{
    return c->config.layers;
}

int clip_projection(const clip *c)
{
    return c->config.projection;
}

int clip_pooled_row(const clip *c, const int32_t *ids, int count)
{
    int row = 0;
    for (int i = 0; i < count; i++) {
        if (c->config.eos_token_id == 2)
            row = ids[i] > ids[row] ? i : row;
        else if (ids[i] == c->config.eos_token_id)
            return i;
    }
    return row;
}

void clip_close(clip *c)
{
    free(c);
}

/* y = x + out(attention(norm1(x))) */
static void attend(k_ctx *k, const clip_layer *l, const clip_config *o, k_tensor y, k_tensor x)
{
    int c = x.c;
    size_t mark = k_mark(k);
    k_tensor normed = net_like(k, x, c); /* then the attention's output */
    k_tensor qkv = net_like(k, x, 3 * c);
    K_CALL(k, layer_norm, normed, x, l->norm1, o->norm_eps);
    K_CALL(k, linear, qkv, normed, l->qkv, &(k_linear){0});
    K_CALL(k, attention, normed, k_slice(qkv, 0, c), k_slice(qkv, c, c), k_slice(qkv, 2 * c, c),
           &(k_attention){.heads = o->heads, .causal = 1});
    K_CALL(k, linear, y, normed, l->out, &(k_linear){.residual = x});
    k_release(k, mark);
}

/* y = x + fc2(act(fc1(norm2(x)))) */
static void feed_forward(k_ctx *k, const clip_layer *l, const clip_config *o, k_tensor y,
                         k_tensor x)
{
    size_t mark = k_mark(k);
    k_tensor normed = net_like(k, x, x.c);
    k_tensor wide = net_like(k, x, o->intermediate);
    K_CALL(k, layer_norm, normed, x, l->norm2, o->norm_eps);
    K_CALL(k, linear, wide, normed, l->expand, &(k_linear){.act = o->act});
    K_CALL(k, linear, y, wide, l->reduce, &(k_linear){.residual = x});
    k_release(k, mark);
}

/* y = h, or its final norm */
static void take_states(k_ctx *k, const clip *c, const clip_take *take, k_tensor h,
                        const net_tap *tap)
{
    if (take->bare) {
        K_CALL(k, activate, take->states, h, K_IDENTITY);
        return;
    }
    K_CALL(k, layer_norm, take->states, h, c->final_norm, c->config.norm_eps);
    net_see(k, tap, take->states, "final_layer_norm");
}

static void take_pooled(k_ctx *k, const clip *c, const clip_take *take, k_tensor h)
{
    size_t mark = k_mark(k);
    h = k_row(h, take->row, 1);
    k_tensor normed = net_like(k, h, h.c);
    K_CALL(k, layer_norm, normed, h, c->final_norm, c->config.norm_eps);
    K_CALL(k, linear, take->pooled, normed, c->projection, &(k_linear){0});
    k_release(k, mark);
}

void clip_run(k_ctx *k, const clip *c, const clip_take *take, k_tensor ids, const net_tap *tap)
{
    size_t mark = k_mark(k);
    int last = c->config.layers - 1, wanted = last - take->skip;
    k_tensor h = net_like(k, take->states, c->config.width), g = net_like(k, h, h.c);
    K_CALL(k, embed, h, ids, c->tokens, c->positions);
    net_see(k, tap, h, "embeddings");
    for (int i = 0; i <= (take->pooled.dtype ? last : wanted); i++) {
        attend(k, &c->layer[i], &c->config, g, h);
        feed_forward(k, &c->layer[i], &c->config, h, g);
        net_see(k, tap, h, "encoder.layers.%d", i);
        if (i == wanted)
            take_states(k, c, take, h, tap);
    }
    if (take->pooled.dtype)
        take_pooled(k, c, take, h);
    k_release(k, mark);
}

void clip_forward(k_ctx *k, const clip *c, k_tensor y, k_tensor ids, const net_tap *tap)
{
    clip_run(k, c, &(clip_take){.states = y}, ids, tap);
}
