/* library_bias.cu - biases as libraries ask for them: in the type of the activations, and one
 * vector where ours are two.
 */
#include "library.h"

#include "launch.cuh"

enum { THREADS = 256 };

struct bias_args {
    void *out;
    const float *bias;
    const void *row; /* NULL: none */
    int dtype, row_dtype, count;
};

__global__ void bias_row(const __grid_constant__ bias_args a)
{
    grid_wait();
    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i >= a.count)
        return;
    float v = a.bias[i];
    if (a.row)
        v += load_as(a.row, a.row_dtype, i);
    store_as(a.out, a.dtype, i, v);
}

static bias_args args_of(void *out, int dtype, const float *bias, int count)
{
    bias_args a = zeroed<bias_args>();
    a.out = out;
    a.dtype = dtype;
    a.bias = bias;
    a.count = count;
    return a;
}

void cuda_bias_row(k_ctx *k, void *out, int dtype, const float *bias, k_tensor row, int count)
{
    bias_args a = args_of(out, dtype, bias, count);
    a.row = row.data;
    a.row_dtype = row.dtype;
    launch(k, bias_row, blocks_of(count, THREADS), THREADS, 0, a);
}

cudaError_t cuda_bias_now(cudaStream_t stream, void *out, int dtype, const float *bias, int count)
{
    bias_args a = args_of(out, dtype, bias, count);
    bias_row<<<blocks_of(count, THREADS), THREADS, 0, stream>>>(a);
    return cudaGetLastError();
}
