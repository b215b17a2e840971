/* gemm_rows.cu - the parts of the matrix product that memory bounds: few rows, where each weight is
 * read once and used at once; sums of partial products; rows packed
 * for copies of 16 bytes; data to measure with. */
#include "gemm.h"

enum { THREADS = 128, COLUMNS = GEMM_COLUMNS / (THREADS / 32) /* of a warp */ };

template <class T> DEVICE void widen(float (&to)[8], uint4 raw)
{
    T v[8];
    memcpy(v, &raw, 16);
#pragma unroll
    for (int i = 0; i < 8; i++)
        to[i] = to_float(v[i]);
}

/* A warp takes COLUMNS columns of all rows; its lanes share the depth. */
template <class T, int ROWS>
static __global__ void __launch_bounds__(THREADS) few(const __grid_constant__ gemm_args a)
{
    int lane = threadIdx.x % 32;
    int n0 = blockIdx.x * GEMM_COLUMNS + threadIdx.x / 32 * COLUMNS;
    float sum[ROWS][COLUMNS] = {};
    grid_wait();
    grid_release();
#pragma unroll 2
    for (int k = lane * 8; k < a.depth; k += 32 * 8) {
        uint4 raw[COLUMNS];
#pragma unroll
        for (int j = 0; j < COLUMNS; j++)
            raw[j] = n0 + j < a.out
                         ? *(const uint4 *)((const T *)a.w + (int64_t)(n0 + j) * a.depth + k)
                         : make_uint4(0, 0, 0, 0);
        float w[COLUMNS][8], x[8];
#pragma unroll
        for (int j = 0; j < COLUMNS; j++)
            widen<T>(w[j], raw[j]);
#pragma unroll
        for (int m = 0; m < ROWS; m++) {
            uint4 piece = make_uint4(0, 0, 0, 0);
            if (m < a.rows)
                piece = *(const uint4 *)((const T *)a.x + (int64_t)m * a.ld + k);
            widen<T>(x, piece);
#pragma unroll
            for (int j = 0; j < COLUMNS; j++)
#pragma unroll
                for (int i = 0; i < 8; i++)
                    sum[m][j] = fmaf(x[i], w[j][i], sum[m][j]);
        }
    }
    float mine[COLUMNS] = {};
#pragma unroll
    for (int m = 0; m < ROWS; m++)
#pragma unroll
        for (int j = 0; j < COLUMNS; j++) {
            for (int step = 16; step; step /= 2)
                sum[m][j] += __shfl_xor_sync(~0u, sum[m][j], step);
            if (lane == m)
                mine[j] = sum[m][j];
        }
    if (lane < ROWS && lane < a.rows && n0 < a.out) {
        float4 v = make_float4(mine[0], mine[1], mine[2], mine[3]);
        finish(a, lane, n0, asks_residual(a) ? add_residual(a, lane, n0, v) : v);
    }
}

gemm_kernel gemm_few(int type, int rows)
{
    if (type == CUDA_F16)
        return rows <= 1 ? few<__half, 1> : rows <= 4 ? few<__half, 4> : few<__half, GEMM_FEW>;
    return rows <= 1   ? few<__nv_bfloat16, 1>
           : rows <= 4 ? few<__nv_bfloat16, 4>
                       : few<__nv_bfloat16, GEMM_FEW>;
}

static __global__ void __launch_bounds__(THREADS) sum_parts(const __grid_constant__ gemm_args a)
{
    int fours = (a.out + 3) / 4;
    int i = blockIdx.x * THREADS + threadIdx.x, each = a.rows * fours; /* few: see way_of */
    grid_wait();
    grid_release();
    if (i >= each)
        return;
    int m = row_of(a, i / fours), n = i % fours * 4;
    float4 sum = make_float4(0, 0, 0, 0);
    if (asks_residual(a))
        sum = add_residual(a, m, n, sum);
    const float4 *from = (const float4 *)a.partial + i;
#pragma unroll 4
    for (int s = 0; s < a.stages; s++, from += each) {
        float4 v = *from;
        sum.x += v.x, sum.y += v.y, sum.z += v.z, sum.w += v.w;
    }
    finish(a, m, n, sum);
}

gemm_kernel gemm_sum(void)
{
    return sum_parts;
}

struct pack_args {
    uint4 *to;
    const void *x;
    int x_type, type, c, ld;
    int pieces; /* of a row */
    int64_t all;
};

template <class T> DEVICE uint4 packed(const pack_args &a, int64_t row, int c)
{
    T v[8];
#pragma unroll
    for (int i = 0; i < 8; i++, c++) {
        float value = 0.0f;
        if (c < a.c)
            value = load_as(a.x, a.x_type, row * a.ld + c);
        from_float(&v[i], value);
    }
    uint4 piece;
    memcpy(&piece, v, 16);
    return piece;
}

static __global__ void __launch_bounds__(THREADS) pack_rows(const __grid_constant__ pack_args a)
{
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x, row = i / a.pieces;
    int c = (int)(i - row * a.pieces) * 8;
    grid_wait();
    grid_release();
    if (i < a.all)
        a.to[i] = a.type == K_F16 ? packed<__half>(a, row, c) : packed<__nv_bfloat16>(a, row, c);
}

void gemm_pack(k_ctx *k, void *to, int dtype, k_tensor x)
{
    pack_args a = zeroed<pack_args>();
    a.to = (uint4 *)to;
    a.x = x.data;
    a.x_type = x.dtype;
    a.type = dtype;
    a.c = x.c;
    a.ld = x.ld;
    a.pieces = (a.c + 7) / 8;
    a.all = k_rows(x) * a.pieces;
    launch(k, pack_rows, blocks_of(a.all, THREADS), THREADS, 0, a);
}

struct fill_args {
    uint32_t *to;
    int64_t words;
};

static __global__ void __launch_bounds__(THREADS) fill(const __grid_constant__ fill_args a)
{
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    grid_wait();
    if (i < a.words) { /* each half: 0.03 to 0.06 as fp16, of either sign */
        uint32_t r = (uint32_t)i * 2654435761u;
        a.to[i] = 0x28002800u | ((r ^ r >> 15) & 0x83ff83ffu);
    }
}

void gemm_fill(k_ctx *k, void *to, size_t bytes)
{
    fill_args a = zeroed<fill_args>();
    a.to = (uint32_t *)to;
    a.words = (int64_t)(bytes / 4);
    launch(k, fill, blocks_of(a.words, THREADS), THREADS, 0, a);
}
