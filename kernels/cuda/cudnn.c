/* cudnn.c - convolutions by cuDNN's backend API: conv, + residual, + bias, ReLU, in that order, for
 * which it has compiled kernels; other orders and activations it would compile at run time.
 */
#include "library.h"

#include <stdbool.h>
#include <string.h>

enum { ID_X = 1, ID_W, ID_BIAS, ID_RESIDUAL, ID_Y, ID_BETWEEN };
enum { CONFIGS = 12, NOTES = 16 };

/* Objects are made one after the other; after a failure the rest does nothing. */
typedef struct maker {
    const dnn_api *api;
    dnn_plan *plan; /* keeps them */
    int status;
} maker;

static dnn_object make(maker *m, int type)
{
    dnn_object o = NULL;
    if (!m->status && m->plan->made_count == DNN_OBJECTS)
        m->status = -1;
    if (!m->status)
        m->status = m->api->make(type, &o);
    if (!m->status)
        m->plan->made[m->plan->made_count++] = o;
    return m->status ? NULL : o;
}

static void set(maker *m, dnn_object o, int name, int type, int64_t count, const void *values)
{
    if (!m->status)
        m->status = m->api->set(o, name, type, count, values);
}

static void set_object(maker *m, dnn_object o, int name, dnn_object value)
{
    set(m, o, name, DNN_T_DESCRIPTOR, 1, &value);
}

static dnn_object done(maker *m, dnn_object o)
{
    if (!m->status)
        m->status = m->api->done(o);
    return o;
}

/* ---- the graph ------------------------------------------------------------------------------ */

static dnn_object tensor(maker *m, int64_t id, int32_t type, const int64_t dims[4],
                         const int64_t strides[4])
{
    bool between = id >= ID_BETWEEN;
    int64_t align = 16;
    dnn_object t = make(m, DNN_TENSOR);
    set(m, t, DNN_TENSOR_ID, DNN_T_INT64, 1, &id);
    set(m, t, DNN_TENSOR_TYPE, DNN_T_DATA_TYPE, 1, &type);
    set(m, t, DNN_TENSOR_DIMENSIONS, DNN_T_INT64, 4, dims);
    set(m, t, DNN_TENSOR_STRIDES, DNN_T_INT64, 4, strides);
    set(m, t, DNN_TENSOR_ALIGNMENT, DNN_T_INT64, 1, &align);
    set(m, t, DNN_TENSOR_VIRTUAL, DNN_T_BOOLEAN, 1, &between);
    return done(m, t);
}

/* Pixels that lie ld apart; dimensions go n, c, h, w whatever the memory's order. */
static dnn_object picture(maker *m, int64_t id, int32_t type, int64_t n, int64_t h, int64_t w,
                          int64_t c, int64_t ld)
{
    const int64_t dims[4] = {n, c, h, w}, strides[4] = {h * w * ld, 1, w * ld, ld};
    return tensor(m, id, type, dims, strides);
}

static dnn_object convolution(maker *m, const library_shape *s, dnn_object x, dnn_object w,
                              dnn_object y)
{
    const int32_t type = DNN_FLOAT, mode = DNN_CROSS_CORRELATION;
    const int64_t two = 2, before[2] = {s->pad, s->pad}, after[2] = {s->end, s->end};
    const int64_t strides[2] = {s->stride, s->stride}, ones[2] = {1, 1};
    const float alpha = 1, beta = 0;
    dnn_object c = make(m, DNN_CONVOLUTION);
    set(m, c, DNN_CONVOLUTION_TYPE, DNN_T_DATA_TYPE, 1, &type);
    set(m, c, DNN_CONVOLUTION_MODE, DNN_T_CONVOLUTION_MODE, 1, &mode);
    set(m, c, DNN_CONVOLUTION_SPATIAL, DNN_T_INT64, 1, &two);
    set(m, c, DNN_CONVOLUTION_PADS_BEFORE, DNN_T_INT64, 2, before);
    set(m, c, DNN_CONVOLUTION_PADS_AFTER, DNN_T_INT64, 2, after);
    set(m, c, DNN_CONVOLUTION_STRIDES, DNN_T_INT64, 2, strides);
    set(m, c, DNN_CONVOLUTION_DILATIONS, DNN_T_INT64, 2, ones);
    done(m, c);
    dnn_object o = make(m, DNN_OPERATION_CONVOLUTION_FORWARD);
    set_object(m, o, DNN_FORWARD_CONVOLUTION, c);
    set_object(m, o, DNN_FORWARD_X, x);
    set_object(m, o, DNN_FORWARD_W, w);
    set_object(m, o, DNN_FORWARD_Y, y);
    set(m, o, DNN_FORWARD_ALPHA, DNN_T_FLOAT, 1, &alpha);
    set(m, o, DNN_FORWARD_BETA, DNN_T_FLOAT, 1, &beta);
    return done(m, o);
}

static dnn_object pointwise(maker *m, int32_t mode, dnn_object x, dnn_object b, dnn_object y)
{
    const int32_t type = DNN_FLOAT;
    dnn_object p = make(m, DNN_POINTWISE);
    set(m, p, DNN_POINTWISE_MODE, DNN_T_POINTWISE_MODE, 1, &mode);
    set(m, p, DNN_POINTWISE_PRECISION, DNN_T_DATA_TYPE, 1, &type);
    done(m, p);
    dnn_object o = make(m, DNN_OPERATION_POINTWISE);
    set_object(m, o, DNN_OP_POINTWISE, p);
    set_object(m, o, DNN_OP_X, x);
    if (b)
        set_object(m, o, DNN_OP_B, b);
    set_object(m, o, DNN_OP_Y, y);
    return done(m, o);
}

static dnn_object graph(maker *m, dnn_handle handle, const library_shape *s)
{
    const int32_t type = s->dtype == K_F16 ? DNN_HALF : DNN_BFLOAT16;
    const int64_t taps = s->side, wide = s->depth / (s->side * s->side);
    const int64_t filter[4] = {s->out, s->c, taps, taps};
    const int64_t filter_strides[4] = {s->depth, 1, taps * wide, wide};
    int steps = 1 + !!s->residual_ld + !!s->bias + !!s->relu, count = 0;
    dnn_object ops[4], at[5] = {NULL};
    dnn_object x = picture(m, ID_X, type, s->n, s->h, s->w, s->c, s->x_ld);
    dnn_object w = tensor(m, ID_W, type, filter, filter_strides);
    for (int i = 0; i < steps - 1; i++)
        at[i] = picture(m, ID_BETWEEN + i, DNN_FLOAT, s->n, s->oh, s->ow, s->out, s->out);
    at[steps - 1] = picture(m, ID_Y, type, s->n, s->oh, s->ow, s->out, s->y_ld);
    ops[count++] = convolution(m, s, x, w, at[0]);
    if (s->residual_ld) {
        dnn_object z = picture(m, ID_RESIDUAL, type, s->n, s->oh, s->ow, s->out, s->residual_ld);
        ops[count] = pointwise(m, DNN_ADD, at[count - 1], z, at[count]);
        count++;
    }
    if (s->bias) {
        dnn_object b = picture(m, ID_BIAS, type, 1, 1, 1, s->out, s->out);
        ops[count] = pointwise(m, DNN_ADD, at[count - 1], b, at[count]);
        count++;
    }
    if (s->relu) {
        ops[count] = pointwise(m, DNN_RELU, at[count - 1], NULL, at[count]);
        count++;
    }
    dnn_object g = make(m, DNN_OPERATION_GRAPH);
    set(m, g, DNN_GRAPH_OPS, DNN_T_DESCRIPTOR, count, ops);
    if (handle)
        set(m, g, DNN_GRAPH_HANDLE, DNN_T_HANDLE, 1, &handle);
    return done(m, g);
}

/* ---- candidates ----------------------------------------------------------------------------- */

/* Is the engine of that configuration compiled, and does it sum in float, always in one order? */
static bool good(maker *m, dnn_object config)
{
    int32_t behavior[NOTES], numerics[NOTES];
    int64_t behaviors = 0, notes = 0, one = 0;
    dnn_object engine = make(m, DNN_ENGINE);
    if (m->status || m->api->get(config, DNN_CONFIG_ENGINE, DNN_T_DESCRIPTOR, 1, &one, &engine) ||
        m->api->get(engine, DNN_ENGINE_BEHAVIOR, DNN_T_BEHAVIOR_NOTE, NOTES, &behaviors,
                    behavior) ||
        m->api->get(engine, DNN_ENGINE_NUMERICS, DNN_T_NUMERICAL_NOTE, NOTES, &notes, numerics))
        return false;
    for (int64_t i = 0; i < behaviors && i < NOTES; i++) {
        if (behavior[i] == DNN_COMPILES)
            return false;
    }
    for (int64_t i = 0; i < notes && i < NOTES; i++) {
        if (numerics[i] != DNN_TENSOR_CORE && numerics[i] != DNN_NANS)
            return false;
    }
    return true;
}

/* The library's list, its guess at the fastest first. */
static int configs(maker *m, dnn_object g, dnn_object properties, dnn_object list[CONFIGS])
{
    const int32_t mode = DNN_HEUR_A;
    int64_t count = 0;
    dnn_object h = make(m, DNN_HEURISTICS);
    set_object(m, h, DNN_HEURISTICS_GRAPH, g);
    set(m, h, DNN_HEURISTICS_MODE, DNN_T_HEUR_MODE, 1, &mode);
    if (properties)
        set_object(m, h, DNN_HEURISTICS_DEVICE, properties);
    done(m, h);
    for (int i = 0; i < CONFIGS; i++)
        list[i] = make(m, DNN_ENGINE_CONFIG);
    if (!m->status)
        m->status = m->api->get(h, DNN_HEURISTICS_RESULTS, DNN_T_DESCRIPTOR, CONFIGS, &count, list);
    return m->status ? 0 : count < CONFIGS ? (int)count : CONFIGS;
}

static void try_config(maker *m, dnn_handle handle, dnn_object properties, dnn_object config)
{
    dnn_plan *plan = m->plan;
    int64_t one = 0, bytes = -1;
    if (!good(m, config))
        return;
    dnn_object p = make(m, DNN_EXECUTION_PLAN);
    set_object(m, p, DNN_PLAN_CONFIG, config);
    if (properties)
        set_object(m, p, DNN_PLAN_DEVICE, properties);
    else
        set(m, p, DNN_PLAN_HANDLE, DNN_T_HANDLE, 1, &handle);
    if (m->status || m->api->done(p) ||
        m->api->get(p, DNN_PLAN_WORKSPACE, DNN_T_INT64, 1, &one, &bytes) || bytes < 0 ||
        (size_t)bytes > LIBRARY_WORKSPACE)
        return;
    plan->plan[plan->count] = p;
    plan->workspace[plan->count++] = (size_t)bytes;
}

int cuda_dnn_plan(const dnn_api *api, dnn_handle handle, dnn_object properties,
                  const library_shape *s, dnn_plan *plan)
{
    maker m = {.api = api, .plan = plan};
    dnn_object list[CONFIGS];
    memset(plan, 0, sizeof *plan);
    dnn_object g = graph(&m, handle, s);
    int count = configs(&m, g, properties, list);
    for (int i = 0; i < count && plan->count < DNN_CANDIDATES; i++)
        m.status = 0, try_config(&m, handle, properties, list[i]);
    if (!plan->count)
        cuda_dnn_plan_free(api, plan);
    return plan->count;
}

void cuda_dnn_plan_free(const dnn_api *api, dnn_plan *plan)
{
    while (plan->made_count > 0)
        api->drop(plan->made[--plan->made_count]);
    plan->count = 0;
}

/* ---- running -------------------------------------------------------------------------------- */

int cuda_dnn_run(const dnn_api *api, dnn_handle handle, dnn_object plan, const library_data *at)
{
    int64_t ids[5] = {ID_X, ID_W, ID_Y};
    const void *data[5] = {at->x, at->w, at->y};
    int count = 3;
    if (at->bias) {
        ids[count] = ID_BIAS;
        data[count++] = at->bias;
    }
    if (at->residual) {
        ids[count] = ID_RESIDUAL;
        data[count++] = at->residual;
    }
    dnn_object pack = NULL;
    int status = api->make(DNN_VARIANT_PACK, &pack);
    if (status)
        return status;
    status = api->set(pack, DNN_PACK_IDS, DNN_T_INT64, count, ids);
    if (!status)
        status = api->set(pack, DNN_PACK_POINTERS, DNN_T_VOID_PTR, count, data);
    if (!status)
        status = api->set(pack, DNN_PACK_WORKSPACE, DNN_T_VOID_PTR, 1, &at->workspace);
    if (!status)
        status = api->done(pack);
    if (!status)
        status = api->execute(handle, plan, pack);
    api->drop(pack);
    return status;
}
