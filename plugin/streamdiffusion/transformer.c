/* transformer.c - see transformer.h.
 *
 * The residual stream moves between two tensors: each sub-layer reads one and writes the other,
 * so no op ever has its output among its inputs.
 */
#include "transformer.h"

static const float layer_eps = 1e-5f;
static const float group_eps = 1e-6f;

static transformer_block block_of(weights *w, const char *name, int c, int text)
{
    net_name q1 = net_name_of("%s.attn1.to_q", name), k1 = net_name_of("%s.attn1.to_k", name);
    net_name v1 = net_name_of("%s.attn1.to_v", name);
    net_name k2 = net_name_of("%s.attn2.to_k", name), v2 = net_name_of("%s.attn2.to_v", name);
    transformer_block b = {0};
    b.norm1 = weights_norm(w, net_name_of("%s.norm1", name).text, c);
    b.qkv = weights_joined(w, (const char *const[]){q1.text, k1.text, v1.text}, 3, c, c, 0);
    b.out1 = weights_linear(w, net_name_of("%s.attn1.to_out.0", name).text, c, c, 1);
    b.norm2 = weights_norm(w, net_name_of("%s.norm2", name).text, c);
    b.q = weights_linear(w, net_name_of("%s.attn2.to_q", name).text, c, c, 0);
    b.kv = weights_joined(w, (const char *const[]){k2.text, v2.text}, 2, c, text, 0);
    b.out2 = weights_linear(w, net_name_of("%s.attn2.to_out.0", name).text, c, c, 1);
    b.norm3 = weights_norm(w, net_name_of("%s.norm3", name).text, c);
    b.expand = weights_linear(w, net_name_of("%s.ff.net.0.proj", name).text, 8 * c, c, 1);
    b.reduce = weights_linear(w, net_name_of("%s.ff.net.2", name).text, c, 4 * c, 1);
    return b;
}

/* proj_in or proj_out: the file spells it as a 1x1 filter or as a matrix. */
static const k_weight *projection(weights *w, const char *name, const char *which, int c,
                                  int linear)
{
    net_name full = net_name_of("%s.%s", name, which);
    return linear ? weights_linear(w, full.text, c, c, 1) : weights_conv(w, full.text, c, c, 1, 1);
}

transformer transformer_of(weights *w, const char *name, transformer_shape shape)
{
    int c = shape.channels;
    transformer t = {.shape = shape};
    t.norm = weights_norm(w, net_name_of("%s.norm", name).text, c);
    t.proj_in = projection(w, name, "proj_in", c, shape.linear);
    for (int i = 0; i < shape.depth; i++)
        t.block[i] = block_of(w, net_name_of("%s.transformer_blocks.%d", name, i).text, c,
                              shape.text_channels);
    t.proj_out = projection(w, name, "proj_out", c, shape.linear);
    return t;
}

void transformer_text(k_ctx *k, const transformer *t, const k_tensor *kv, k_tensor states)
{
    for (int i = 0; i < t->shape.depth; i++)
        K_CALL(k, linear, kv[i], states, t->block[i].kv, &(k_linear){0});
}

/* y = x + attn1(norm1(x)) */
static void attend_self(k_ctx *k, const transformer_block *b, int heads, k_tensor y, k_tensor x)
{
    int c = x.c;
    size_t mark = k_mark(k);
    k_tensor normed = net_like(k, x, c); /* then the attention's output */
    k_tensor qkv = net_like(k, x, 3 * c);
    K_CALL(k, layer_norm, normed, x, b->norm1, layer_eps);
    K_CALL(k, linear, qkv, normed, b->qkv, &(k_linear){0});
    K_CALL(k, attention, normed, k_slice(qkv, 0, c), k_slice(qkv, c, c), k_slice(qkv, 2 * c, c),
           &(k_attention){.heads = heads});
    K_CALL(k, linear, y, normed, b->out1, &(k_linear){.residual = x});
    k_release(k, mark);
}

/* y = x + attn2(norm2(x), text) */
static void attend_text(k_ctx *k, const transformer_block *b, int heads, k_tensor y, k_tensor x,
                        k_tensor kv)
{
    int c = x.c;
    size_t mark = k_mark(k);
    k_tensor normed = net_like(k, x, c); /* then the attention's output */
    k_tensor q = net_like(k, x, c);
    K_CALL(k, layer_norm, normed, x, b->norm2, layer_eps);
    K_CALL(k, linear, q, normed, b->q, &(k_linear){0});
    K_CALL(k, attention, normed, q, k_slice(kv, 0, c), k_slice(kv, c, c),
           &(k_attention){.heads = heads});
    K_CALL(k, linear, y, normed, b->out2, &(k_linear){.residual = x});
    k_release(k, mark);
}

/* y = x + ff(norm3(x)) */
static void feed_forward(k_ctx *k, const transformer_block *b, k_tensor y, k_tensor x)
{
    size_t mark = k_mark(k);
    k_tensor normed = net_like(k, x, x.c);
    k_tensor wide = net_like(k, x, 4 * x.c);
    K_CALL(k, layer_norm, normed, x, b->norm3, layer_eps);
    K_CALL(k, linear, wide, normed, b->expand, &(k_linear){.act = K_GEGLU});
    K_CALL(k, linear, y, wide, b->reduce, &(k_linear){.residual = x});
    k_release(k, mark);
}

void transformer_forward(k_ctx *k, const transformer *t, k_tensor y, k_tensor x, const k_tensor *kv)
{
    int heads = t->shape.heads;
    size_t mark = k_mark(k);
    k_tensor h = net_like(k, x, x.c), g = net_like(k, x, x.c);
    K_CALL(k, group_norm, g, x, t->norm, t->shape.groups, group_eps, K_IDENTITY);
    K_CALL(k, linear, h, g, t->proj_in, &(k_linear){0});
    for (int i = 0; i < t->shape.depth; i++) {
        const transformer_block *b = &t->block[i];
        attend_self(k, b, heads, g, h);
        attend_text(k, b, heads, h, g, kv[i]);
        feed_forward(k, b, g, h);
        k_tensor swap = h;
        h = g;
        g = swap;
    }
    K_CALL(k, linear, y, h, t->proj_out, &(k_linear){.residual = x});
    k_release(k, mark);
}
