/* taesd.c - see taesd.h. Source: diffusers EncoderTiny, DecoderTiny, AutoencoderTinyBlock.
 *
 * Each half is one list of layers under their numbers in the checkpoint ("encoder.layers.7"); an
 * activation or a doubling, which the checkpoint counts as a layer, is folded into the convolution
 * beside it.
 */
#include "taesd.h"

#include "alloc.h"

#include <stdlib.h>

enum { TAESD_MAX_LAYERS = 64 };

typedef struct tiny_layer {
    int number; /* in the checkpoint */
    int out;
    int stride, up, act;     /* of a convolution, as in k_conv */
    int block;               /* three convolutions around a residual, else one */
    const k_weight *conv[3]; /* borrowed: of the weights set */
} tiny_layer;

typedef struct tiny_stack {
    const char *name; /* "encoder" */
    int count;
    int next; /* number of the next layer */
    tiny_layer layer[TAESD_MAX_LAYERS];
} tiny_stack;

struct taesd {
    taesd_config config;
    tiny_stack encoder, decoder;
};

static const float latent_limit = 3.0f; /* the decoder first bounds its input by 3 tanh(x / 3) */

/* ---- building -------------------------------------------------------------------------------- */

/* The weights of `l`, which has its options set, as the next layer. */
static void push(tiny_stack *s, weights *w, tiny_layer l, int in, int bias)
{
    l.number = s->next++;
    if (l.block) { /* the numbers between belong to the activations */
        for (int i = 0; i < 3; i++)
            l.conv[i] =
                weights_conv(w, net_name_of("%s.layers.%d.conv.%d", s->name, l.number, 2 * i).text,
                             l.out, in, 3, 1);
    } else {
        net_name name = net_name_of("%s.layers.%d", s->name, l.number);
        l.conv[0] = weights_conv(w, name.text, l.out, in, 3, bias);
    }
    s->layer[s->count++] = l;
}

static void build_encoder(tiny_stack *s, weights *w, const taesd_config *c)
{
    int in = c->in_channels;
    for (int i = 0; i < c->stages; i++) {
        int out = c->encoder_channels[i];
        push(s, w, (tiny_layer){.out = out, .stride = i ? 2 : 1}, in, i == 0);
        for (int j = 0; j < c->encoder_blocks[i]; j++)
            push(s, w, (tiny_layer){.out = out, .block = 1, .act = c->act}, out, 1);
        in = out;
    }
    push(s, w, (tiny_layer){.out = c->latent_channels}, in, 1);
}

static void build_decoder(tiny_stack *s, weights *w, const taesd_config *c)
{
    push(s, w, (tiny_layer){.out = c->decoder_channels[0], .act = c->act}, c->latent_channels, 1);
    s->next++; /* that activation */
    for (int i = 0; i < c->stages; i++) {
        int last = i == c->stages - 1, in = c->decoder_channels[i];
        for (int j = 0; j < c->decoder_blocks[i]; j++)
            push(s, w, (tiny_layer){.out = in, .block = 1, .act = c->act}, in, 1);
        s->next += !last; /* the doubling */
        push(s, w, (tiny_layer){.out = last ? c->out_channels : in, .up = !last}, in, last);
    }
}

/* Of the longer half: each stage's blocks and convolution, and the ends. */
static int layers_needed(const taesd_config *c)
{
    int encoder = 1, decoder = 1;
    for (int i = 0; i < c->stages; i++) {
        encoder += c->encoder_blocks[i] + 1;
        decoder += c->decoder_blocks[i] + 1;
    }
    return encoder > decoder ? encoder : decoder;
}

taesd *taesd_open(weights *w, const taesd_config *c, scope_error *err)
{
    if (layers_needed(c) > TAESD_MAX_LAYERS) {
        scope_fail(err, SCOPE_EINVAL, "The tiny autoencoder has %d layers; at most %d can be run.",
                   layers_needed(c), TAESD_MAX_LAYERS);
        return NULL;
    }
    if (c->shift_factor != 0) {
        scope_fail(err, SCOPE_EINVAL,
                   "The tiny autoencoder has shift_factor %g; only 0 is supported, as SD has it.",
                   (double)c->shift_factor);
        return NULL;
    }
    taesd *t = sd_calloc(1, sizeof *t);
    if (!t) {
        scope_fail(err, SCOPE_ENOMEM, "Out of memory while building the tiny autoencoder.");
        return NULL;
    }
    t->config = *c;
    t->encoder.name = "encoder";
    t->decoder.name = "decoder";
    build_encoder(&t->encoder, w, c);
    build_decoder(&t->decoder, w, c);
    return t;
}

void taesd_close(taesd *t)
{
    free(t);
}

/* ---- running --------------------------------------------------------------------------------- */

/* y = act(conv(act(conv(act(conv x)))) + x) */
static void run_block(k_ctx *k, const tiny_layer *l, k_tensor y, k_tensor x)
{
    size_t mark = k_mark(k);
    k_tensor a = net_like(k, x, l->out), b = net_like(k, x, l->out);
    K_CALL(k, conv, a, x, l->conv[0], &(k_conv){.act = l->act});
    K_CALL(k, conv, b, a, l->conv[1], &(k_conv){.act = l->act});
    K_CALL(k, conv, y, b, l->conv[2], &(k_conv){.residual = x, .act = l->act});
    k_release(k, mark);
}

/* The shape of layer l's output for an input of x's shape; no data. */
static k_tensor shape_after(const k_ctx *k, const tiny_layer *l, k_tensor x)
{
    x.data = NULL;
    x.dtype = k->real;
    x.h = l->up ? 2 * x.h : l->stride == 2 ? (x.h + 1) / 2 : x.h;
    x.w = l->up ? 2 * x.w : l->stride == 2 ? (x.w + 1) / 2 : x.w;
    x.c = x.ld = l->out;
    return x;
}

/* Two tensors, each large enough for any layer's output: the layers write them in turn. */
static void take_pair(k_ctx *k, const tiny_stack *s, k_tensor x, k_tensor pair[2])
{
    k_tensor largest = x;
    for (int i = 0; i < s->count - 1; i++) {
        x = shape_after(k, &s->layer[i], x);
        if (k_rows(x) * x.c > k_rows(largest) * largest.c)
            largest = x;
    }
    for (int i = 0; i < 2; i++)
        pair[i] = k_temp(k, k->real, largest.n, largest.h, largest.w, largest.c);
}

static void run(k_ctx *k, const tiny_stack *s, k_tensor y, k_tensor x, const net_tap *tap)
{
    size_t mark = k_mark(k);
    k_tensor pair[2];
    take_pair(k, s, x, pair);
    for (int i = 0; i < s->count; i++) {
        const tiny_layer *l = &s->layer[i];
        k_tensor out = y;
        if (i < s->count - 1) {
            out = shape_after(k, l, x);
            out.data = pair[i & 1].data;
        }
        if (l->block)
            run_block(k, l, out, x);
        else
            K_CALL(k, conv, out, x, l->conv[0],
                   &(k_conv){.stride = l->stride, .up = l->up, .act = l->act});
        net_see(k, tap, out, "%s.layers.%d", s->name, l->number);
        x = out;
    }
    k_release(k, mark);
}

void taesd_encode(k_ctx *k, const taesd *t, k_tensor y, k_tensor x, const net_tap *tap)
{
    run(k, &t->encoder, y, x, tap);
}

void taesd_decode(k_ctx *k, const taesd *t, k_tensor y, k_tensor x, const net_tap *tap)
{
    size_t mark = k_mark(k);
    k_tensor bounded = net_like(k, x, x.c);
    K_CALL(k, soft_clamp, bounded, x, latent_limit);
    run(k, &t->decoder, y, bounded, tap);
    k_release(k, mark);
}
