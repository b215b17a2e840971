/* dnnl_floor.c - what the bare primitives of oneDNN cost for one step of a UNet, weights cold.
 *
 *   dnnl_floor [-v] [SIZE]   SIZE: of the latent (64)
 *
 * For each op of unet_ops.h: convolutions as the faster of direct and Winograd in the layouts that
 * oneDNN likes best, linear maps as matmul with packed weights, attention as matmul, softmax and
 * matmul over chunks of 128 queries. Nothing between the ops is counted: no norm, no activation,
 * no reordering. Prints "floor SIZE seconds", the bar that the whole step is held against.
 */
#include "unet_ops.h"

#include <oneapi/dnnl/dnnl.h>
#include <stdint.h>
#include <stdlib.h>

enum { CHUNK = 128, MAX_ARGS = 4, MAX_COPIES = 64 };

static dnnl_engine_t engine;
static dnnl_stream_t stream;

/* ---- the two versions of the C API ----------------------------------------------------------- */

#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t desc; /* owned */
typedef const_dnnl_memory_desc_t desc_in;
#define DESC(d) (d)

static int desc_new(desc *d, int n, const dnnl_dims_t dims, dnnl_format_tag_t tag)
{
    return dnnl_memory_desc_create_with_tag(d, n, dims, dnnl_f32, tag) != dnnl_success;
}

static int desc_strided(desc *d, int n, const dnnl_dims_t dims, const dnnl_dims_t strides)
{
    return dnnl_memory_desc_create_with_strides(d, n, dims, dnnl_f32, strides) != dnnl_success;
}

static void desc_free(desc *d)
{
    dnnl_memory_desc_destroy(*d);
}

static int conv_desc(dnnl_primitive_desc_t *pd, dnnl_alg_kind_t alg, desc *md, const dnnl_dims_t s,
                     const dnnl_dims_t left, const dnnl_dims_t right)
{
    return dnnl_convolution_forward_primitive_desc_create(pd, engine, dnnl_forward_inference, alg,
                                                          md[0], md[1], md[2], md[3], s, NULL, left,
                                                          right, NULL) != dnnl_success;
}

static int matmul_desc(dnnl_primitive_desc_t *pd, desc *md, int bias)
{
    return dnnl_matmul_primitive_desc_create(pd, engine, md[0], md[1], bias ? md[2] : NULL, md[3],
                                             NULL) != dnnl_success;
}

static int softmax_desc(dnnl_primitive_desc_t *pd, desc *md)
{
    return dnnl_softmax_forward_primitive_desc_create(pd, engine, dnnl_forward_inference,
                                                      dnnl_softmax_accurate, *md, *md, 2,
                                                      NULL) != dnnl_success;
}
#else
typedef dnnl_memory_desc_t desc;
typedef const dnnl_memory_desc_t *desc_in;
#define DESC(d) (&(d))

static int desc_new(desc *d, int n, const dnnl_dims_t dims, dnnl_format_tag_t tag)
{
    return dnnl_memory_desc_init_by_tag(d, n, dims, dnnl_f32, tag) != dnnl_success;
}

static int desc_strided(desc *d, int n, const dnnl_dims_t dims, const dnnl_dims_t strides)
{
    return dnnl_memory_desc_init_by_strides(d, n, dims, dnnl_f32, strides) != dnnl_success;
}

static void desc_free(desc *d)
{
    (void)d;
}

static int conv_desc(dnnl_primitive_desc_t *pd, dnnl_alg_kind_t alg, desc *md, const dnnl_dims_t s,
                     const dnnl_dims_t left, const dnnl_dims_t right)
{
    dnnl_convolution_desc_t d;
    return dnnl_convolution_forward_desc_init(&d, dnnl_forward_inference, alg, &md[0], &md[1],
                                              &md[2], &md[3], s, left, right) != dnnl_success ||
           dnnl_primitive_desc_create(pd, &d, NULL, engine, NULL) != dnnl_success;
}

static int matmul_desc(dnnl_primitive_desc_t *pd, desc *md, int bias)
{
    dnnl_matmul_desc_t d;
    return dnnl_matmul_desc_init(&d, &md[0], &md[1], bias ? &md[2] : NULL, &md[3]) !=
               dnnl_success ||
           dnnl_primitive_desc_create(pd, &d, NULL, engine, NULL) != dnnl_success;
}

static int softmax_desc(dnnl_primitive_desc_t *pd, desc *md)
{
    dnnl_softmax_desc_t d;
    return dnnl_softmax_forward_desc_init(&d, dnnl_forward_inference, md, 2) != dnnl_success ||
           dnnl_primitive_desc_create(pd, &d, NULL, engine, NULL) != dnnl_success;
}
#endif

/* ---- one primitive with its memory ----------------------------------------------------------- */

typedef struct call {
    dnnl_primitive_t primitive;
    dnnl_exec_arg_t args[MAX_ARGS];
    int count;
    dnnl_memory_t weights[MAX_COPIES]; /* each use takes the next */
    int copies, weight_arg;
} call;

static int memory_new(dnnl_memory_t *m, desc_in d)
{
    size_t bytes = dnnl_memory_desc_get_size(d);
    float *data;
    if (dnnl_memory_create(m, d, engine, DNNL_MEMORY_ALLOCATE) != dnnl_success ||
        dnnl_memory_get_data_handle(*m, (void **)&data) != dnnl_success)
        return -1;
    for (size_t i = 0; i < bytes / sizeof *data; i++)
        data[i] = (float)(i * 2654435761u % 1000) * 1e-4f - 0.05f;
    return 0;
}

static int call_arg(call *c, int arg, desc_in d)
{
    c->args[c->count].arg = arg;
    return memory_new(&c->args[c->count++].memory, d);
}

static int call_execute(const call *c)
{
    return dnnl_primitive_execute(c->primitive, stream, c->count, c->args) != dnnl_success ||
           dnnl_stream_wait(stream) != dnnl_success;
}

static int call_run(void *data, int repeat)
{
    call *c = data;
    if (c->copies)
        c->args[c->weight_arg].memory = c->weights[repeat % c->copies];
    return call_execute(c);
}

static void call_free(call *c)
{
    for (int i = 0; i < c->count; i++)
        if (!c->copies || i != c->weight_arg)
            dnnl_memory_destroy(c->args[i].memory);
    for (int i = 0; i < c->copies; i++)
        dnnl_memory_destroy(c->weights[i]);
    if (c->primitive)
        dnnl_primitive_destroy(c->primitive);
}

/* A primitive of src, weights, bias and dst, and many copies of its weights. Frees pd. */
static int call_weighted(call *c, dnnl_primitive_desc_t pd, const desc *bias)
{
    desc_in weights = dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
    int bad = dnnl_primitive_create(&c->primitive, pd) != dnnl_success ||
              call_arg(c, DNNL_ARG_SRC, dnnl_primitive_desc_query_md(pd, dnnl_query_src_md, 0)) ||
              call_arg(c, DNNL_ARG_DST, dnnl_primitive_desc_query_md(pd, dnnl_query_dst_md, 0)) ||
              (bias && call_arg(c, DNNL_ARG_BIAS, DESC(*bias)));
    int copies = op_copies(dnnl_memory_desc_get_size(weights));
    while (!bad && c->copies < copies) {
        bad = memory_new(&c->weights[c->copies], weights);
        c->copies++;
    }
    c->weight_arg = c->count;
    c->args[c->count].arg = DNNL_ARG_WEIGHTS;
    c->count++;
    dnnl_primitive_desc_destroy(pd);
    return bad;
}

/* ---- ops: seconds, or -1 --------------------------------------------------------------------- */

static double conv_with(const op *o, dnnl_alg_kind_t alg)
{
    int size = o->up ? 2 * o->size : o->size, out = op_out_size(o);
    int pad = o->side / 2, after = (out - 1) * o->stride + o->side - size - pad;
    dnnl_dims_t x = {1, o->in, size, size}, w = {o->out, o->in, o->side, o->side};
    dnnl_dims_t b = {o->out}, y = {1, o->out, out, out};
    dnnl_dims_t stride = {o->stride, o->stride}, left = {pad, pad}, right = {after, after};
    desc md[4];
    dnnl_primitive_desc_t pd;
    call c = {0};
    double seconds = -1;
    if (desc_new(&md[0], 4, x, dnnl_format_tag_any) ||
        desc_new(&md[1], 4, w, dnnl_format_tag_any) || desc_new(&md[2], 1, b, dnnl_x) ||
        desc_new(&md[3], 4, y, dnnl_format_tag_any))
        return -1;
    if (!conv_desc(&pd, alg, md, stride, left, right)) {
        if (!call_weighted(&c, pd, &md[2]))
            seconds = op_fastest(call_run, &c, 0.15);
        call_free(&c);
    }
    for (int i = 0; i < 4; i++)
        desc_free(&md[i]);
    return seconds;
}

static double conv(const op *o)
{
    double direct = conv_with(o, dnnl_convolution_direct);
    double winograd = o->side == 3 && o->stride == 1 ? conv_with(o, dnnl_convolution_winograd) : -1;
    return winograd > 0 && winograd < direct ? winograd : direct;
}

static double linear(const op *o)
{
    dnnl_dims_t x = {o->rows, o->in}, w = {o->in, o->out}, b = {1, o->out};
    dnnl_dims_t y = {o->rows, o->out};
    desc md[4];
    dnnl_primitive_desc_t pd;
    call c = {0};
    double seconds = -1;
    if (desc_new(&md[0], 2, x, dnnl_ab) || desc_new(&md[1], 2, w, dnnl_format_tag_any) ||
        desc_new(&md[2], 2, b, dnnl_ab) || desc_new(&md[3], 2, y, dnnl_ab))
        return -1;
    if (!matmul_desc(&pd, md, o->bias)) {
        if (!call_weighted(&c, pd, o->bias ? &md[2] : NULL))
            seconds = op_fastest(call_run, &c, 0.15);
        call_free(&c);
    }
    for (int i = 0; i < 4; i++)
        desc_free(&md[i]);
    return seconds;
}

/* q, k, v and the result are [tokens][heads * d], as linear maps leave them. */
typedef struct attention {
    call scores, soften, values;
    int chunks;
} attention;

static int attention_run(void *data, int repeat)
{
    attention *a = data;
    (void)repeat;
    for (int i = 0; i < a->chunks; i++)
        if (call_execute(&a->scores) || call_execute(&a->soften) || call_execute(&a->values))
            return -1;
    return 0;
}

static int attention_call(call *c, dnnl_primitive_desc_t pd, const desc *x, const desc *w,
                          const desc *y)
{
    int bad = dnnl_primitive_create(&c->primitive, pd) != dnnl_success ||
              call_arg(c, DNNL_ARG_SRC, DESC(*x)) || call_arg(c, DNNL_ARG_DST, DESC(*y)) ||
              (w && call_arg(c, DNNL_ARG_WEIGHTS, DESC(*w)));
    dnnl_primitive_desc_destroy(pd);
    return bad;
}

static double attention_of(const op *o)
{
    int rows = o->tq < CHUNK ? o->tq : CHUNK, wide = o->heads * o->d;
    dnnl_dims_t q = {o->heads, rows, o->d}, k = {o->heads, o->d, o->tk};
    dnnl_dims_t s = {o->heads, rows, o->tk}, v = {o->heads, o->tk, o->d};
    dnnl_dims_t by_row = {o->d, wide, 1}, by_column = {o->d, 1, wide};
    desc md[5]; /* q, k, scores, v, result */
    dnnl_primitive_desc_t pd;
    attention a = {.chunks = (o->tq + rows - 1) / rows};
    if (desc_strided(&md[0], 3, q, by_row) || desc_strided(&md[1], 3, k, by_column) ||
        desc_new(&md[2], 3, s, dnnl_abc) || desc_strided(&md[3], 3, v, by_row) ||
        desc_strided(&md[4], 3, q, by_row))
        return -1;
    desc first[4] = {md[0], md[1], md[1], md[2]}, last[4] = {md[2], md[3], md[3], md[4]};
    double seconds = -1;
    if (!matmul_desc(&pd, first, 0) && !attention_call(&a.scores, pd, &md[0], &md[1], &md[2]) &&
        !softmax_desc(&pd, &md[2]) && !attention_call(&a.soften, pd, &md[2], NULL, &md[2]) &&
        !matmul_desc(&pd, last, 0) && !attention_call(&a.values, pd, &md[2], &md[3], &md[4]))
        seconds = op_fastest(attention_run, &a, 0.15);
    call_free(&a.scores);
    call_free(&a.soften);
    call_free(&a.values);
    for (int i = 0; i < 5; i++)
        desc_free(&md[i]);
    return seconds;
}

int main(int argc, char **argv)
{
    int verbose = argc > 1 && !strcmp(argv[1], "-v");
    int size = argc > 1 + verbose ? atoi(argv[1 + verbose]) : 64;
    op_list list = unet_ops(size);
    char name[64];
    double total = 0;
    if (dnnl_engine_create(&engine, dnnl_cpu, 0) != dnnl_success ||
        dnnl_stream_create(&stream, engine, dnnl_stream_default_flags) != dnnl_success) {
        fprintf(stderr, "dnnl_floor: oneDNN gives no CPU engine\n");
        return 1;
    }
    for (int i = 0; i < list.count; i++) {
        const op *o = &list.ops[i];
        double seconds = o->kind == OP_CONV     ? conv(o)
                         : o->kind == OP_LINEAR ? linear(o)
                                                : attention_of(o);
        if (seconds < 0) {
            fprintf(stderr, "dnnl_floor: oneDNN refuses %s\n", op_name(o, name));
            return 1;
        }
        total += seconds * o->count;
        if (verbose)
            printf("%-36s %3d %9.3f ms %7.1f GFLOP/s\n", op_name(o, name), o->count, seconds * 1e3,
                   op_flops(o) / seconds * 1e-9);
        fflush(stdout);
    }
    printf("floor %d %.4f\n", size, total);
    dnnl_stream_destroy(stream);
    dnnl_engine_destroy(engine);
    return 0;
}
