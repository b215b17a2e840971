/* embed.cu - token and timestep embeddings: tables are read in their file's type. */
#include "launch.cuh"

#include <math.h>

enum { THREADS = 128, WARP = 32 };

/* ---- embed ----------------------------------------------------------------------------------- */

struct embed_args {
    void *y;
    const int32_t *ids;
    const void *tokens, *positions;
    int32_t dtype, ld, ids_ld, tokens_dtype, positions_dtype;
    int32_t count; /* of tokens that the table has */
    int32_t t, width;
};

/* A block makes a row. A token that is not in the table cannot fail the context from here: its row
 * is not a number. */
static __global__ void embed(const __grid_constant__ embed_args a)
{
    grid_wait();
    grid_release();
    int64_t row = blockIdx.x, id = a.ids[row * a.ids_ld], position = row % a.t;
    bool known = id >= 0 && id < a.count;
    for (int i = threadIdx.x; i < a.width; i += THREADS) {
        float v = NAN;
        if (known)
            v = load_as(a.tokens, a.tokens_dtype, id * a.width + i) +
                load_as(a.positions, a.positions_dtype, position * a.width + i);
        store_as(a.y, a.dtype, row * a.ld + i, v);
    }
}

void cuda_embed(k_ctx *k, k_tensor y, k_tensor ids, const k_weight *tokens,
                const k_weight *positions)
{
    k_tensor none = {};
    int t = y.h * y.w, width = y.c;
    int64_t rows = k_rows(y);
    if (!k_check(k,
                 k_is_float(y.dtype) && ids.dtype == K_I32 && ids.c == 1 && k_rows(ids) == rows &&
                     rows <= INT32_MAX,
                 "embed", "ids must be i32 [n, 1, t, 1] and y floats [n, 1, t, c]", y, ids, none) ||
        !k_check(
            k, tokens->desc.in == width && positions->desc.in == width && positions->desc.out >= t,
            "embed", "the tables do not fit y", y, ids, none))
        return;
    /* The same whatever the type of y. */
    const cuda_form *token = cuda_form_of(k, "embed", tokens, CUDA_TABLE, K_F16);
    const cuda_form *position = cuda_form_of(k, "embed", positions, CUDA_TABLE, K_F16);
    if (k->planning || k->status)
        return;
    embed_args a = zeroed<embed_args>();
    a.y = y.data;
    a.ids = (const int32_t *)ids.data;
    a.tokens = token->data;
    a.positions = position->data;
    a.dtype = y.dtype;
    a.ld = y.ld;
    a.ids_ld = ids.ld;
    a.tokens_dtype = tokens->desc.weight[0].dtype;
    a.positions_dtype = positions->desc.weight[0].dtype;
    a.count = tokens->desc.out;
    a.t = t;
    a.width = width;
    launch(k, embed, dim3((unsigned)rows), THREADS, 0, a);
}

/* ---- sinusoid -------------------------------------------------------------------------------- */

struct sinusoid_args {
    void *y;
    const float *t;
    double step; /* of ln f, from one channel to the next */
    int32_t dtype, ld, t_ld;
    int32_t half, sin_first;
};

/* In doubles, because angles go to 1000; a warp is a block, so that the few double units of many
 * multiprocessors share the work. */
static __global__ void sinusoid(const __grid_constant__ sinusoid_args a)
{
    grid_wait();
    grid_release();
    int i = blockIdx.x * WARP + threadIdx.x;
    int64_t row = blockIdx.y;
    if (i >= a.half)
        return;
    double sine, cosine;
    sincos((double)a.t[row * a.t_ld] * exp(a.step * i), &sine, &cosine);
    store_as(a.y, a.dtype, row * a.ld + (a.sin_first ? i : a.half + i), (float)sine);
    store_as(a.y, a.dtype, row * a.ld + (a.sin_first ? a.half + i : i), (float)cosine);
}

void cuda_sinusoid(k_ctx *k, k_tensor y, k_tensor t, int sin_first, float shift)
{
    k_tensor none = {};
    if (!k_check(k, k_is_float(y.dtype) && t.dtype == K_F32, "sinusoid",
                 "y must be floats and t f32 (x is t)", y, t, none) ||
        !k_check(k, y.c % 2 == 0 && k_rows(y) == k_rows(t) && k_rows(y) < 1 << 16, "sinusoid",
                 "y must have even channels and a row for each t", y, t, none) ||
        k->planning)
        return;
    sinusoid_args a = zeroed<sinusoid_args>();
    a.y = y.data;
    a.t = (const float *)t.data;
    a.half = y.c / 2;
    a.step = -log(10000.0) / (a.half - (double)shift);
    a.dtype = y.dtype;
    a.ld = y.ld;
    a.t_ld = t.ld;
    a.sin_first = sin_first != 0;
    launch(k, sinusoid, dim3(blocks_of(a.half, WARP), (unsigned)k_rows(y)), WARP, 0, a);
}
