/* onednn.c - oneDNN's matrix product and convolution behind onednn.h; nothing else includes it.
 *
 * Version 3 made memory descriptors opaque and dropped the operation descriptors of version 2;
 * the first section hides that, and the rest reads alike for both.
 */
#include "onednn.h"

#include "../kernels.h"

#include <dnnl.h>
#include <dnnl_debug.h>
#include <stdlib.h>

enum { X, PACKED, BIAS, Y, SCRATCH, PLAIN, PACK_SCRATCH, MEMORIES };

struct onednn_op {
    dnnl_stream_t stream;
    dnnl_primitive_desc_t desc; /* owned: its layouts are asked for */
    dnnl_primitive_t run, pack;
    dnnl_memory_t memory[MEMORIES];
    size_t run_scratch, pack_scratch, packed;
    int bias;
};

/* ---- both versions -------------------------------------------------------------------------- */

typedef struct sides {
    dnnl_dims_t stride, dilate, before, after; /* height and width */
} sides;

#if DNNL_VERSION_MAJOR < 3
typedef dnnl_memory_desc_t layout;
typedef const dnnl_memory_desc_t *layout_ref;

static layout_ref ref(const layout *l)
{
    return l;
}

static int layout_strided(layout *l, int n, const dnnl_dim_t *dims, const dnnl_dim_t *strides)
{
    return dnnl_memory_desc_init_by_strides(l, n, dims, dnnl_f32, strides);
}

static int layout_any(layout *l, int n, const dnnl_dim_t *dims)
{
    return dnnl_memory_desc_init_by_tag(l, n, dims, dnnl_f32, dnnl_format_tag_any);
}

static void layout_fini(layout *l)
{
    (void)l;
}

static int append_sum(dnnl_post_ops_t ops)
{
    return dnnl_post_ops_append_sum(ops, 1);
}

static int append_act(dnnl_post_ops_t ops, dnnl_alg_kind_t kind, float alpha)
{
    return dnnl_post_ops_append_eltwise(ops, 1, kind, alpha, 0);
}

static int matmul_desc(dnnl_primitive_desc_t *to, dnnl_engine_t engine, layout_ref x, layout_ref w,
                       layout_ref bias, layout_ref y, const_dnnl_primitive_attr_t attr)
{
    dnnl_matmul_desc_t d;
    int status = dnnl_matmul_desc_init(&d, x, w, bias, y);
    return status ? status : (int)dnnl_primitive_desc_create(to, &d, attr, engine, NULL);
}

static int conv_desc(dnnl_primitive_desc_t *to, dnnl_engine_t engine, layout_ref x, layout_ref w,
                     layout_ref bias, layout_ref y, const sides *s,
                     const_dnnl_primitive_attr_t attr)
{
    dnnl_convolution_desc_t d;
    int status = dnnl_dilated_convolution_forward_desc_init(
        &d, dnnl_forward_inference, dnnl_convolution_direct, x, w, bias, y, s->stride, s->dilate,
        s->before, s->after);
    return status ? status : (int)dnnl_primitive_desc_create(to, &d, attr, engine, NULL);
}
#else
typedef dnnl_memory_desc_t layout;
typedef const_dnnl_memory_desc_t layout_ref;

static layout_ref ref(const layout *l)
{
    return *l;
}

static int layout_strided(layout *l, int n, const dnnl_dim_t *dims, const dnnl_dim_t *strides)
{
    return dnnl_memory_desc_create_with_strides(l, n, dims, dnnl_f32, strides);
}

static int layout_any(layout *l, int n, const dnnl_dim_t *dims)
{
    return dnnl_memory_desc_create_with_tag(l, n, dims, dnnl_f32, dnnl_format_tag_any);
}

static void layout_fini(layout *l)
{
    if (*l)
        dnnl_memory_desc_destroy(*l);
}

static int append_sum(dnnl_post_ops_t ops)
{
    return dnnl_post_ops_append_sum(ops, 1, 0, dnnl_f32);
}

static int append_act(dnnl_post_ops_t ops, dnnl_alg_kind_t kind, float alpha)
{
    return dnnl_post_ops_append_eltwise(ops, kind, alpha, 0);
}

static int matmul_desc(dnnl_primitive_desc_t *to, dnnl_engine_t engine, layout_ref x, layout_ref w,
                       layout_ref bias, layout_ref y, const_dnnl_primitive_attr_t attr)
{
    return dnnl_matmul_primitive_desc_create(to, engine, x, w, bias, y, attr);
}

static int conv_desc(dnnl_primitive_desc_t *to, dnnl_engine_t engine, layout_ref x, layout_ref w,
                     layout_ref bias, layout_ref y, const sides *s,
                     const_dnnl_primitive_attr_t attr)
{
    return dnnl_convolution_forward_primitive_desc_create(
        to, engine, dnnl_forward_inference, dnnl_convolution_direct, x, w, bias, y, s->stride,
        s->dilate, s->before, s->after, attr);
}
#endif

/* ---- the engine ----------------------------------------------------------------------------- */

struct dnnl_engine *onednn_open(void)
{
    dnnl_engine_t engine;
    return dnnl_engine_create(&engine, dnnl_cpu, 0) ? NULL : engine;
}

void onednn_close(struct dnnl_engine *engine)
{
    if (engine)
        dnnl_engine_destroy(engine);
}

const char *onednn_text(int status)
{
    return dnnl_status2str((dnnl_status_t)status);
}

/* ---- making an op
 * -------------------------------------------------------------------------------- */

typedef struct layouts {
    layout x, any, plain, bias, y;
} layouts;

static int product_layouts(layouts *l, const onednn_shape *s)
{
    int status = layout_strided(&l->x, 2, (dnnl_dims_t){s->n, s->in}, (dnnl_dims_t){s->ld_x, 1});
    if (!status)
        status = layout_any(&l->any, 2, (dnnl_dims_t){s->in, s->out});
    if (!status)
        status =
            layout_strided(&l->plain, 2, (dnnl_dims_t){s->in, s->out}, (dnnl_dims_t){1, s->in});
    if (!status)
        status = layout_strided(&l->bias, 2, (dnnl_dims_t){1, s->out}, (dnnl_dims_t){s->out, 1});
    if (!status)
        status = layout_strided(&l->y, 2, (dnnl_dims_t){s->n, s->out}, (dnnl_dims_t){s->ld_y, 1});
    return status;
}

static int picture_layout(layout *l, int64_t n, int64_t c, int64_t h, int64_t w, int64_t ld)
{
    return layout_strided(l, 4, (dnnl_dims_t){n, c, h, w},
                          (dnnl_dims_t){h * w * ld, 1, w * ld, ld});
}

static int conv_layouts(layouts *l, const onednn_shape *s)
{
    int64_t taps = (int64_t)s->k * s->k;
    int status = picture_layout(&l->x, s->n, s->in, s->h, s->w, s->ld_x);
    if (!status)
        status = layout_any(&l->any, 4, (dnnl_dims_t){s->out, s->in, s->k, s->k});
    if (!status)
        status = layout_strided(&l->plain, 4, (dnnl_dims_t){s->out, s->in, s->k, s->k},
                                (dnnl_dims_t){s->in * taps, taps, s->k, 1});
    if (!status)
        status = layout_strided(&l->bias, 1, (dnnl_dims_t){s->out}, (dnnl_dims_t){1});
    if (!status)
        status = picture_layout(&l->y, s->n, s->out, s->oh, s->ow, s->ld_y);
    return status;
}

static int post_ops(dnnl_post_ops_t ops, const onednn_shape *s)
{
    int status = s->sum ? append_sum(ops) : 0;
    if (status)
        return status;
    switch (s->act) {
    case K_RELU:
        return append_act(ops, dnnl_eltwise_relu, 0);
    case K_SILU:
        return append_act(ops, dnnl_eltwise_swish, 1);
    case K_GELU:
        return append_act(ops, dnnl_eltwise_gelu_erf, 0);
    case K_QUICK_GELU:
        return append_act(ops, dnnl_eltwise_swish, 1.702f);
    default:
        return 0;
    }
}

/* Scratch is the caller's, so that running does not allocate it. */
static int attr_new(dnnl_primitive_attr_t *attr, const onednn_shape *s)
{
    dnnl_post_ops_t ops = NULL;
    int status = dnnl_primitive_attr_create(attr);
    if (!status)
        status = dnnl_primitive_attr_set_scratchpad_mode(*attr, dnnl_scratchpad_mode_user);
    if (!status)
        status = dnnl_post_ops_create(&ops);
    if (!status)
        status = post_ops(ops, s);
    if (!status)
        status = dnnl_primitive_attr_set_post_ops(*attr, ops);
    if (ops)
        dnnl_post_ops_destroy(ops);
    return status;
}

static int64_t pad_after(int size, int out, const onednn_shape *s)
{
    int64_t pad = (int64_t)(out - 1) * s->stride + s->k - size - s->pad;
    return pad > 0 ? pad : 0;
}

static int main_primitive(onednn_op *op, dnnl_engine_t engine, const onednn_shape *s,
                          const layouts *l)
{
    dnnl_primitive_attr_t attr = NULL;
    layout_ref bias = s->bias ? ref(&l->bias) : NULL;
    int status = attr_new(&attr, s);
    if (!status && s->k) {
        sides z = {.stride = {s->stride, s->stride}, .before = {s->pad, s->pad}};
        z.after[0] = pad_after(s->h, s->oh, s);
        z.after[1] = pad_after(s->w, s->ow, s);
        status = conv_desc(&op->desc, engine, ref(&l->x), ref(&l->any), bias, ref(&l->y), &z, attr);
    } else if (!status) {
        status = matmul_desc(&op->desc, engine, ref(&l->x), ref(&l->any), bias, ref(&l->y), attr);
    }
    if (attr)
        dnnl_primitive_attr_destroy(attr);
    return status ? status : (int)dnnl_primitive_create(&op->run, op->desc);
}

static layout_ref packed_layout(const onednn_op *op)
{
    return dnnl_primitive_desc_query_md(op->desc, dnnl_query_weights_md, 0);
}

static int memory_of(onednn_op *op, int which, dnnl_engine_t engine, layout_ref l)
{
    return dnnl_memory_create(&op->memory[which], l, engine, DNNL_MEMORY_NONE);
}

/* The reorder from the file's layout to packed_layout. */
static int pack_primitive(onednn_op *op, dnnl_engine_t engine, const layouts *l)
{
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t desc = NULL;
    int status = attr_new(&attr, &(onednn_shape){0});
    if (!status)
        status = dnnl_reorder_primitive_desc_create(&desc, ref(&l->plain), engine,
                                                    packed_layout(op), engine, attr);
    if (!status)
        status = dnnl_primitive_create(&op->pack, desc);
    if (!status) {
        layout_ref scratch = dnnl_primitive_desc_query_md(desc, dnnl_query_scratchpad_md, 0);
        op->pack_scratch = dnnl_memory_desc_get_size(scratch);
        status = memory_of(op, PACK_SCRATCH, engine, scratch);
    }
    if (desc)
        dnnl_primitive_desc_destroy(desc);
    if (attr)
        dnnl_primitive_attr_destroy(attr);
    return status;
}

static int memories(onednn_op *op, dnnl_engine_t engine, const layouts *l)
{
    layout_ref scratch = dnnl_primitive_desc_query_md(op->desc, dnnl_query_scratchpad_md, 0);
    op->run_scratch = dnnl_memory_desc_get_size(scratch);
    op->packed = dnnl_memory_desc_get_size(packed_layout(op));
    int status = memory_of(op, SCRATCH, engine, scratch);
    if (!status)
        status = memory_of(op, PACKED, engine, packed_layout(op));
    if (!status)
        status = memory_of(op, PLAIN, engine, ref(&l->plain));
    if (!status)
        status = memory_of(op, X, engine, ref(&l->x));
    if (!status)
        status = memory_of(op, BIAS, engine, ref(&l->bias));
    return status ? status : memory_of(op, Y, engine, ref(&l->y));
}

int onednn_op_new(onednn_op **to, struct dnnl_engine *engine, const onednn_shape *s)
{
    onednn_op *op = calloc(1, sizeof *op);
    layouts l = {0};
    if (!op)
        return dnnl_out_of_memory;
    op->bias = s->bias;
    int status = dnnl_stream_create(&op->stream, engine, dnnl_stream_default_flags);
    if (!status)
        status = s->k ? conv_layouts(&l, s) : product_layouts(&l, s);
    if (!status)
        status = main_primitive(op, engine, s, &l);
    if (!status)
        status = pack_primitive(op, engine, &l);
    if (!status)
        status = memories(op, engine, &l);
    layout_fini(&l.x);
    layout_fini(&l.any);
    layout_fini(&l.plain);
    layout_fini(&l.bias);
    layout_fini(&l.y);
    if (status)
        onednn_op_free(op);
    else
        *to = op;
    return status;
}

void onednn_op_free(onednn_op *op)
{
    if (!op)
        return;
    for (int i = 0; i < MEMORIES; i++)
        if (op->memory[i])
            dnnl_memory_destroy(op->memory[i]);
    if (op->pack)
        dnnl_primitive_destroy(op->pack);
    if (op->run)
        dnnl_primitive_destroy(op->run);
    if (op->desc)
        dnnl_primitive_desc_destroy(op->desc);
    if (op->stream)
        dnnl_stream_destroy(op->stream);
    free(op);
}

/* ---- using it
 * --------------------------------------------------------------------------------------- */

size_t onednn_op_scratch(const onednn_op *op)
{
    return op->run_scratch > op->pack_scratch ? op->run_scratch : op->pack_scratch;
}

size_t onednn_op_packed(const onednn_op *op)
{
    return op->packed;
}

int onednn_op_alike(const onednn_op *a, const onednn_op *b)
{
    return dnnl_memory_desc_equal(packed_layout(a), packed_layout(b));
}

static int set(onednn_op *op, int which, const void *data)
{
    return dnnl_memory_set_data_handle(op->memory[which], (void *)data);
}

static int execute(onednn_op *op, dnnl_primitive_t primitive, int count,
                   const dnnl_exec_arg_t *args)
{
    int status = dnnl_primitive_execute(primitive, op->stream, count, args);
    return status ? status : (int)dnnl_stream_wait(op->stream);
}

int onednn_op_use(onednn_op *op, float *packed)
{
    return set(op, PACKED, packed);
}

int onednn_op_pack(onednn_op *op, const float *plain, float *packed, void *scratch)
{
    int status = set(op, PLAIN, plain);
    if (!status)
        status = set(op, PACK_SCRATCH, scratch);
    if (!status)
        status = set(op, PACKED, packed);
    const dnnl_exec_arg_t args[] = {
        {DNNL_ARG_FROM, op->memory[PLAIN]},
        {DNNL_ARG_TO, op->memory[PACKED]},
        {DNNL_ARG_SCRATCHPAD, op->memory[PACK_SCRATCH]},
    };
    return status ? status : execute(op, op->pack, 3, args);
}

int onednn_op_run(onednn_op *op, const float *x, const float *bias, float *y, void *scratch)
{
    int status = set(op, X, x);
    if (!status)
        status = set(op, Y, y);
    if (!status)
        status = set(op, SCRATCH, scratch);
    if (!status)
        status = set(op, BIAS, bias);
    const dnnl_exec_arg_t args[] = {
        {DNNL_ARG_SRC, op->memory[X]},     {DNNL_ARG_WEIGHTS, op->memory[PACKED]},
        {DNNL_ARG_DST, op->memory[Y]},     {DNNL_ARG_SCRATCHPAD, op->memory[SCRATCH]},
        {DNNL_ARG_BIAS, op->memory[BIAS]}, /* last: left out where there is none */
    };
    return status ? status : execute(op, op->run, op->bias ? 5 : 4, args);
}
