/* unet_ops.h - the matrix work of one step of a Stable Diffusion 2.1 UNet, as a list of distinct
 * ops.
 *
 * Derived from the configuration below, as diffusers builds the network from it. Both benchmarks
 * of this folder walk the same list, so their tables can be laid side by side.
 */
#ifndef TESTS_BENCH_UNET_OPS_H
#define TESTS_BENCH_UNET_OPS_H

#include <omp.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum op_kind { OP_CONV, OP_LINEAR, OP_ATTENTION };

typedef struct op {
    int kind, count;
    int size, in, out, side, stride, up; /* conv: size x size in, `up` doubles it first */
    int rows, bias;                      /* linear: rows x in -> out */
    int heads, tq, tk, d;                /* attention */
} op;

typedef struct op_list {
    op ops[128];
    int count;
} op_list;

enum { BLOCKS = 4, LAYERS = 2, CROSS = 1024, TOKENS = 77, HEAD = 64, LATENT = 4 };
static const int unet_channels[BLOCKS] = {320, 640, 1280, 1280};

static inline void op_add(op_list *l, op o)
{
    o.count = 0;
    for (int i = 0; i < l->count; i++) {
        op same = l->ops[i];
        same.count = 0;
        if (!memcmp(&same, &o, sizeof o)) {
            l->ops[i].count++;
            return;
        }
    }
    o.count = 1;
    l->ops[l->count++] = o;
}

static inline void op_conv(op_list *l, int size, int in, int out, int side, int stride, int up)
{
    op_add(l, (op){.kind = OP_CONV,
                   .size = size,
                   .in = in,
                   .out = out,
                   .side = side,
                   .stride = stride,
                   .up = up,
                   .bias = 1});
}

static inline void op_linear(op_list *l, int rows, int in, int out, int bias)
{
    op_add(l, (op){.kind = OP_LINEAR, .rows = rows, .in = in, .out = out, .bias = bias});
}

static inline void op_resnet(op_list *l, int size, int in, int out)
{
    op_conv(l, size, in, out, 3, 1, 0);
    op_linear(l, 1, 4 * unet_channels[0], out, 1);
    op_conv(l, size, out, out, 3, 1, 0);
    if (in != out)
        op_conv(l, size, in, out, 1, 1, 0);
}

static inline void op_transformer(op_list *l, int size, int c)
{
    int rows = size * size, heads = c / HEAD;
    op_linear(l, rows, c, c, 1); /* in */
    for (int i = 0; i < 4; i++)
        op_linear(l, rows, c, c, 0); /* q, k, v, and q of the text */
    op_add(l, (op){.kind = OP_ATTENTION, .heads = heads, .tq = rows, .tk = rows, .d = HEAD});
    op_linear(l, rows, c, c, 1);
    for (int i = 0; i < 2; i++)
        op_linear(l, TOKENS, CROSS, c, 0); /* k, v of the text */
    op_add(l, (op){.kind = OP_ATTENTION, .heads = heads, .tq = rows, .tk = TOKENS, .d = HEAD});
    op_linear(l, rows, c, c, 1);
    op_linear(l, rows, c, 8 * c, 1);
    op_linear(l, rows, 4 * c, c, 1);
    op_linear(l, rows, c, c, 1); /* out */
}

/* size: of the latent, a multiple of 8. */
static inline op_list unet_ops(int size)
{
    op_list l = {.count = 0};
    int skips[1 + BLOCKS * (LAYERS + 1)], depth = 0, c = unet_channels[0];
    op_linear(&l, 1, c, 4 * c, 1);
    op_linear(&l, 1, 4 * c, 4 * c, 1);
    op_conv(&l, size, LATENT, c, 3, 1, 0);
    skips[depth++] = c;
    for (int b = 0; b < BLOCKS; b++) {
        for (int i = 0; i < LAYERS; i++) {
            op_resnet(&l, size, c, unet_channels[b]);
            c = unet_channels[b];
            if (b < BLOCKS - 1)
                op_transformer(&l, size, c);
            skips[depth++] = c;
        }
        if (b < BLOCKS - 1) {
            op_conv(&l, size, c, c, 3, 2, 0);
            size /= 2;
            skips[depth++] = c;
        }
    }
    op_resnet(&l, size, c, c);
    op_transformer(&l, size, c);
    op_resnet(&l, size, c, c);
    for (int b = BLOCKS - 1; b >= 0; b--) {
        for (int i = 0; i <= LAYERS; i++) {
            op_resnet(&l, size, c + skips[--depth], unet_channels[b]);
            c = unet_channels[b];
            if (b < BLOCKS - 1)
                op_transformer(&l, size, c);
        }
        if (b > 0) {
            op_conv(&l, size, c, c, 3, 1, 1);
            size *= 2;
        }
    }
    op_conv(&l, size, c, LATENT, 3, 1, 0);
    return l;
}

static inline int op_out_size(const op *o)
{
    return (o->up ? 2 * o->size : o->size) / o->stride;
}

static inline double op_flops(const op *o)
{
    if (o->kind == OP_LINEAR)
        return 2.0 * o->rows * o->in * o->out;
    if (o->kind == OP_ATTENTION)
        return 4.0 * o->heads * o->tq * o->tk * o->d;
    return 2.0 * op_out_size(o) * op_out_size(o) * o->in * o->out * o->side * o->side;
}

static inline const char *op_name(const op *o, char text[64])
{
    if (o->kind == OP_LINEAR)
        snprintf(text, 64, "linear-%dx%d-%d%s", o->rows, o->in, o->out, o->bias ? "-bias" : "");
    else if (o->kind == OP_ATTENTION)
        snprintf(text, 64, "attention-%dx%d-%dx%d", o->heads, o->d, o->tq, o->tk);
    else
        snprintf(text, 64, "conv%d-%dx%d-%d-%d%s%s", o->side, o->size, o->size, o->in, o->out,
                 o->stride == 2 ? "-half" : "", o->up ? "-up" : "");
    return text;
}

/* With OMP_NUM_THREADS=1 the processor's time is taken, which says something on a busy machine. */
static inline double now_s(void)
{
    struct timespec t;
    clock_gettime(omp_get_max_threads() == 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Copies of a weight that together do not fit any cache, so that each use reads it from memory,
 * as a step of the network does. */
static inline int op_copies(size_t bytes)
{
    size_t copies = ((size_t)160 << 20) / bytes + 1;
    return copies > 64 ? 64 : copies < 2 ? 2 : (int)copies;
}

/* The fastest of some repeats of run(data, repeat): at least 3, then until `seconds` are over. */
static inline double op_fastest(int (*run)(void *, int), void *data, double seconds)
{
    double best = 1e9, start = now_s();
    for (int i = 0; i < 4 || now_s() - start < seconds; i++) {
        double t = now_s();
        if (run(data, i))
            return -1;
        t = now_s() - t;
        if (i && t < best) /* the first warms up */
            best = t;
    }
    return best;
}

#endif
