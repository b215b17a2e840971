/* norm.cu - layer norm, and the norm of anything element by element; group_norm.cu is the other.
 *
 * Statistics are fp32: a mean first, then the squared distances from it. All orders of addition are
 * fixed.
 */
#include "norm.cuh"

/* ---- layer norm ------------------------------------------------------------------------------
 */

struct layer_args {
    const void *x;
    void *y;
    const float *gamma, *beta;
    int64_t rows;
    int x_ld, y_ld, x_type, y_type, c;
    int warps; /* of a row */
    float eps;
};

/* What a lane has of a row, four channels each; warps of a row; channels that they have; warps of
 * a block where a row takes fewer. */
enum { FOURS = 3, ROW_WARPS = 8, LAYER_MOST = ROW_WARPS * FOURS * 128, LAYER_WARPS = 4 };

/* Four channels at a time, so that gamma and beta are read as densely as x. */
DEVICE float4 load_four(const float *from)
{
    return *(const float4 *)from;
}

template <class T> DEVICE float4 load_four(const T *from)
{
    const uint2 raw = *(const uint2 *)from;
    float4 v;
    widen_pair(v.x, v.y, raw.x, T());
    widen_pair(v.z, v.w, raw.y, T());
    return v;
}

DEVICE void store_four(void *to, int dtype, int64_t i, float4 v)
{
    if (dtype == K_F16)
        *(uint2 *)((__half *)to + i) =
            make_uint2(pack(v.x, v.y, __half()), pack(v.z, v.w, __half()));
    else if (dtype == K_BF16)
        *(uint2 *)((__nv_bfloat16 *)to + i) =
            make_uint2(pack(v.x, v.y, __nv_bfloat16()), pack(v.z, v.w, __nv_bfloat16()));
    else
        *(float4 *)((float *)to + i) = v;
}

DEVICE float sum_of(float4 v)
{
    return v.x + v.y + (v.z + v.w);
}

/* A row's mean and its sum of squared distances, from those of its warps' `count` channels each
 * (Chan et al. 1979). */
DEVICE float2 join_warps(const layer_args &a, float mean, float square, float count)
{
    __shared__ float3 part[ROW_WARPS];
    const int warp = threadIdx.x / 32, first = warp / a.warps * a.warps;
    float all = 0, squares = 0;
    if (threadIdx.x % 32 == 0)
        part[warp] = make_float3(mean, square, count);
    __syncthreads();
    for (int i = first; i < first + a.warps; i++)
        all += part[i].x * (part[i].z / (float)a.c);
    for (int i = first; i < first + a.warps; i++) {
        const float off = part[i].x - all;
        squares += fmaf(part[i].z * off, off, part[i].y);
    }
    return make_float2(all, squares);
}

/* A row is kept by its warps, which take 128 channels in turn. */
template <class T>
__global__ void __launch_bounds__(32 * ROW_WARPS) layer_rows(const __grid_constant__ layer_args a)
{
    const int warp = threadIdx.x / 32, rows = (int)blockDim.x / 32 / a.warps;
    const int first = (warp % a.warps * 32 + (int)threadIdx.x % 32) * 4, step = a.warps * 128;
    const int64_t row = (int64_t)blockIdx.x * rows + warp / a.warps;
    const T *x = (const T *)a.x + row * a.x_ld + first;
    float4 v[FOURS], gamma[FOURS], beta[FOURS];
    float sum = 0, square = 0;
    int count = 0;
#pragma unroll
    for (int i = 0; i < FOURS; i++) {
        count += max(0, min(a.c - (warp % a.warps * 128 + i * step), 128));
        if (first + i * step < a.c) {
            gamma[i] = load_four(a.gamma + first + i * step);
            beta[i] = load_four(a.beta + first + i * step);
        }
    }
    grid_wait();
    grid_release();
#pragma unroll
    for (int i = 0; i < FOURS; i++)
        v[i] = row < a.rows && first + i * step < a.c ? load_four(x + i * step)
                                                      : make_float4(0, 0, 0, 0);
#pragma unroll
    for (int i = 0; i < FOURS; i++)
        sum += sum_of(v[i]);
    float mean = warp_sum(sum) / (float)max(count, 1);
#pragma unroll
    for (int i = 0; i < FOURS; i++)
        if (first + i * step < a.c) {
            const float4 off =
                make_float4(v[i].x - mean, v[i].y - mean, v[i].z - mean, v[i].w - mean);
            square += off.x * off.x + off.y * off.y + (off.z * off.z + off.w * off.w);
        }
    square = warp_sum(square);
    if (a.warps > 1) {
        const float2 joined = join_warps(a, mean, square, (float)count);
        mean = joined.x;
        square = joined.y;
    }
    if (row >= a.rows)
        return;
    const float scale = rsqrtf(square / (float)a.c + a.eps);
#pragma unroll
    for (int i = 0; i < FOURS; i++)
        if (first + i * step < a.c) {
            const float4 y = make_float4(fmaf((v[i].x - mean) * scale, gamma[i].x, beta[i].x),
                                         fmaf((v[i].y - mean) * scale, gamma[i].y, beta[i].y),
                                         fmaf((v[i].z - mean) * scale, gamma[i].z, beta[i].z),
                                         fmaf((v[i].w - mean) * scale, gamma[i].w, beta[i].w));
            store_four(a.y, a.y_type, row * a.y_ld + first + i * step, y);
        }
}

/* ---- element by element ------------------------------------------------------------------------
 */

enum { ANY_THREADS = 256 };

/* The sum of all threads' x, in all of them. */
DEVICE float block_sum(float x)
{
    __shared__ float sums[ANY_THREADS / 32];
    x = warp_sum(x);
    __syncthreads();
    if (threadIdx.x % 32 == 0)
        sums[threadIdx.x / 32] = x;
    __syncthreads();
    x = 0;
    for (int i = 0; i < ANY_THREADS / 32; i++)
        x += sums[i];
    return x;
}

struct any_args {
    const void *x;
    void *y;
    const float *gamma, *beta;
    int x_ld, y_ld, x_type, y_type;
    int pixels, size, act; /* what one mean is of: pixels times `size` channels */
    float eps;
};

/* Grid: images (or rows), groups. */
__global__ void __launch_bounds__(ANY_THREADS) norm_any(const __grid_constant__ any_args a)
{
    const int64_t first = (int64_t)blockIdx.x * a.pixels, count = (int64_t)a.pixels * a.size;
    const int channel = blockIdx.y * a.size;
    grid_wait();
    grid_release();
    const float origin = load_as(a.x, a.x_type, first * a.x_ld + channel);
    float sum = 0, square = 0;
    for (int64_t i = threadIdx.x; i < count; i += ANY_THREADS)
        sum +=
            load_as(a.x, a.x_type, (first + i / a.size) * a.x_ld + channel + i % a.size) - origin;
    const float mean = origin + block_sum(sum) / (float)count;
    for (int64_t i = threadIdx.x; i < count; i += ANY_THREADS) {
        const float off =
            load_as(a.x, a.x_type, (first + i / a.size) * a.x_ld + channel + i % a.size) - mean;
        square = fmaf(off, off, square);
    }
    const float scale = rsqrtf(block_sum(square) / (float)count + a.eps);
    for (int64_t i = threadIdx.x; i < count; i += ANY_THREADS) {
        const int64_t row = first + i / a.size;
        const int c = channel + (int)(i % a.size);
        const float v = load_as(a.x, a.x_type, row * a.x_ld + c) - mean;
        store_as(a.y, a.y_type, row * a.y_ld + c,
                 activated(fmaf(v * scale, a.gamma[c], a.beta[c]), a.act));
    }
}

/* ---- host side ------------------------------------------------------------------------------ */

int cuda_vector_holds(k_ctx *k, const char *op, k_tensor y, k_tensor x, const k_weight *w)
{
    k_tensor none = {};
    return k_check(k, k_same_shape(y, x), op, "shapes differ", y, x, none) &&
           k_check(k, k_is_float(y.dtype) && k_is_float(x.dtype), op,
                   "tensors must be f32, f16 or bf16", y, x, none) &&
           k_check(k,
                   w->desc.out == x.c && w->desc.in * w->desc.kh * w->desc.kw == 1 &&
                       w->desc.bias[0].data,
                   op, "the weight must be a vector of the channels, with a bias", y, x, none);
}

void cuda_norm_any(k_ctx *k, k_tensor y, k_tensor x, const cuda_form *f, int images, int groups,
                   float eps, int act)
{
    any_args a = zeroed<any_args>();
    a.x = x.data;
    a.y = y.data;
    a.gamma = (const float *)f->data;
    a.beta = f->bias;
    a.x_ld = x.ld;
    a.y_ld = y.ld;
    a.x_type = x.dtype;
    a.y_type = y.dtype;
    a.pixels = (int)(k_rows(x) / images);
    a.size = x.c / groups;
    a.act = act;
    a.eps = eps;
    launch(k, norm_any, dim3((unsigned)images, (unsigned)groups), ANY_THREADS, 0, a);
}

template <class T> static void write_layers(k_ctx *k, const layer_args &a)
{
    const int rows = a.warps > LAYER_WARPS ? 1 : LAYER_WARPS / a.warps;
    launch(k, layer_rows<T>, dim3(blocks_of(a.rows, rows)), (unsigned)(32 * a.warps * rows), 0, a);
}

void cuda_layer_norm(k_ctx *k, k_tensor y, k_tensor x, const k_weight *w, float eps)
{
    if (!cuda_vector_holds(k, "layer_norm", y, x, w))
        return;
    const cuda_form *f = cuda_form_of(k, "layer_norm", w, CUDA_VECTOR, K_F16);
    if (k->planning || k->status)
        return;
    if (x.c > LAYER_MOST || !whole_pieces(y) || !whole_pieces(x)) {
        cuda_norm_any(k, y, x, f, (int)k_rows(x), 1, eps, K_IDENTITY);
        return;
    }
    layer_args a = zeroed<layer_args>();
    a.x = x.data;
    a.y = y.data;
    a.gamma = (const float *)f->data;
    a.beta = f->bias;
    a.rows = k_rows(x);
    a.x_ld = x.ld;
    a.y_ld = y.ld;
    a.x_type = x.dtype;
    a.y_type = y.dtype;
    a.c = x.c;
    a.warps = (int)blocks_of(x.c, FOURS * 128);
    a.eps = eps;
    if (x.dtype == K_F16)
        write_layers<__half>(k, a);
    else if (x.dtype == K_BF16)
        write_layers<__nv_bfloat16>(k, a);
    else
        write_layers<float>(k, a);
}
