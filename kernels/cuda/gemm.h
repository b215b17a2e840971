/* gemm.h - what the files of the matrix product share: the arguments of its kernels and the tables
 * of their tiles. gemm.c chooses and launches; gemm_f16.cu and gemm_bf16.cu hold the tiles,
 * gemm_rows.cu what memory bounds: few rows, and sums of partial products.
 */
#ifndef KERNELS_CUDA_GEMM_H
#define KERNELS_CUDA_GEMM_H

#include "cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/* y[m][n] = act(sum over depth of A[m] w[n] + bias + row + residual). Depth is [tap][channel], its
 * channels padded to 8 and zero there, as in CUDA_FILTER. */
typedef struct gemm_args {
    const void *x, *w, *row, *residual;
    const float *bias;
    void *y;
    float *partial;    /* [split][rows][out padded to 4]; NULL: to y */
    int rows, out;     /* of A, of w */
    int depth, c;      /* taps * c; channels padded to 8 */
    int ld;            /* of x */
    int height, width; /* of the picture that x holds */
    int pixels;        /* of an image of y */
    int side, stride, pad;
    int up;         /* the picture is first doubled, by reading pixels twice */
    int phased;     /* the same by phases: w is CUDA_FILTER_UP, and rows of A are [phase][pixel] */
    int each;       /* rows of a phase; else all */
    int area, line; /* pixels of an image of A's rows, and of a line of it */
    int plain;      /* A is x: one tap, no stride */
    int steps, stages;                   /* of depth for one block; of the pipeline */
    int tiles;                           /* blocks side by side along out */
    int y_type, row_type, residual_type; /* k_dtype; 0: none */
    int y_ld, row_ld, residual_ld;
    int act;
    int wide;   /* y, row and residual may be touched four columns at a time */
    int direct; /* sums may leave as halves, eight columns at a time: see leave_direct */
} gemm_args;

typedef void (*gemm_kernel)(gemm_args);

typedef struct gemm_tile {
    int m, n, k, warps; /* rows, columns and depth of one step */
    int spread;         /* bytes of shared memory that the way out needs */
    gemm_kernel kernel; /* NULL: not for this type */
} gemm_tile;

/* GEMM_SMALL: the tile that every type has and that suits every shape. */
enum { GEMM_TILES = 8, GEMM_SMALL = 3 };

extern const gemm_tile gemm_tiles_f16[GEMM_TILES], gemm_tiles_bf16[GEMM_TILES];

/* Tiles for sm_90a alone (gemm_hopper.cu), with 4, 5 or 6 stages that begin on GEMM_ALIGN bytes. */
enum { GEMM_HOPPER = 8, GEMM_ALIGN = 1024 };
const gemm_tile *gemm_hopper(int type);

enum { GEMM_FEW = 8, GEMM_COLUMNS = 16 /* that a block of the kernel for few rows takes */ };

/* The kernel for 1..GEMM_FEW rows, of halves of this type (CUDA_F16, CUDA_BF16); 128 threads. */
gemm_kernel gemm_few(int type, int rows);
enum { GEMM_OUTPUTS = 8 };

/* The kernel for 3 x 3 convolutions of up to GEMM_OUTPUTS outputs, stride 1; 256 threads. */
gemm_kernel gemm_outputs(int type, const gemm_args *a, dim3 *grid, int *shared);
/* Sums partial products in the order of splits and finishes them: four columns a thread, 128
 * threads. stages: how many parts there are. */
gemm_kernel gemm_sum(void);
/* to[row][c padded to 8] = x's channels as halves of this k_dtype, then zeros. */
void gemm_pack(k_ctx *k, void *to, int dtype, k_tensor x);
/* Write halves that look like a network's, for measuring. */
void gemm_fill(k_ctx *k, void *to, size_t bytes);

#ifdef __cplusplus
}
#endif

#ifdef __CUDACC__

#include "launch.cuh"

/* The row of y for a row of A. */
DEVICE int row_of(const gemm_args &a, int m)
{
    if (!a.phased)
        return m;
    int phase = m / a.each, at = m - phase * a.each, y = at / a.line, x = at - y * a.line;
    return (2 * y + phase / 2) * 2 * a.line + 2 * x + phase % 2;
}

/* ---- the way out: four columns of a row, n a multiple of 4 ----------------------------------- */

DEVICE float4 load_four(const void *p, int dtype, int64_t i)
{
    if (dtype == K_F32)
        return *(const float4 *)((const float *)p + i);
    uint2 raw = *(const uint2 *)((const uint16_t *)p + i);
    float2 low, high;
    if (dtype == K_F16) {
        low = __half22float2(*(const __half2 *)&raw.x);
        high = __half22float2(*(const __half2 *)&raw.y);
    } else {
        low = __bfloat1622float2(*(const __nv_bfloat162 *)&raw.x);
        high = __bfloat1622float2(*(const __nv_bfloat162 *)&raw.y);
    }
    return make_float4(low.x, low.y, high.x, high.y);
}

DEVICE uint32_t pack_as(float a, float b, int dtype)
{
    if (dtype == K_F16) {
        __half2 h = __floats2half2_rn(a, b);
        return *(uint32_t *)&h;
    }
    __nv_bfloat162 h = __floats2bfloat162_rn(a, b);
    return *(uint32_t *)&h;
}

DEVICE void store_four(void *p, int dtype, int64_t i, float4 v)
{
    if (dtype == K_F32)
        *(float4 *)((float *)p + i) = v;
    else
        *(uint2 *)((uint16_t *)p + i) =
            make_uint2(pack_as(v.x, v.y, dtype), pack_as(v.z, v.w, dtype));
}

DEVICE void store_two(void *p, int dtype, int64_t i, float a, float b)
{
    if (dtype == K_F32)
        *(float2 *)((float *)p + i) = make_float2(a, b);
    else
        *(uint32_t *)((uint16_t *)p + i) = pack_as(a, b, dtype);
}

/* A column by itself; gate: the next one, of K_GEGLU. */
DEVICE void finish_one(const gemm_args &a, int m, int n, float v, float gate)
{
    int at = a.act == K_GEGLU ? n / 2 : n;
    if (a.bias)
        v += a.bias[n];
    if (a.row_type)
        v += load_as(a.row, a.row_type, (int64_t)(m / a.pixels) * a.row_ld + n);
    if (a.act == K_GEGLU)
        v *= activated(gate + (a.bias ? a.bias[n + 1] : 0.0f), K_GELU);
    if (a.residual_type)
        v += load_as(a.residual, a.residual_type, (int64_t)m * a.residual_ld + at);
    store_as(a.y, a.y_type, (int64_t)m * a.y_ld + at, activated(v, a.act));
}

/* Columns from n on, one by one. */
DEVICE void finish_each(const gemm_args &a, int m, int n, float4 v)
{
    int step = a.act == K_GEGLU ? 2 : 1;
#pragma unroll 1
    for (int end = min(n + 4, a.out); n < end; n += step) {
        finish_one(a, m, n, v.x, v.y);
        v = step == 2 ? make_float4(v.z, v.w, 0, 0) : make_float4(v.y, v.z, v.w, 0);
    }
}

/* The residual of these columns, where finish leaves it to its caller: so that it can be asked for
 * early. */
DEVICE float4 add_residual(const gemm_args &a, int m, int n, float4 v)
{
    float4 r = load_four(a.residual, a.residual_type, (int64_t)m * a.residual_ld + n);
    return make_float4(v.x + r.x, v.y + r.y, v.z + r.z, v.w + r.w);
}

DEVICE bool asks_residual(const gemm_args &a)
{
    return a.residual_type && a.wide;
}

DEVICE void finish(const gemm_args &a, int m, int n, float4 v)
{
    if (!a.wide) {
        finish_each(a, m, n, v);
        return;
    }
    if (a.bias) {
        float4 b = *(const float4 *)(a.bias + n);
        v.x += b.x, v.y += b.y, v.z += b.z, v.w += b.w;
    }
    if (a.row_type) {
        float4 r = load_four(a.row, a.row_type, (int64_t)(m / a.pixels) * a.row_ld + n);
        v.x += r.x, v.y += r.y, v.z += r.z, v.w += r.w;
    }
    if (a.act == K_GEGLU) {
        store_two(a.y, a.y_type, (int64_t)m * a.y_ld + n / 2, v.x * activated(v.y, K_GELU),
                  v.z * activated(v.w, K_GELU));
        return;
    }
    v.x = activated(v.x, a.act);
    v.y = activated(v.y, a.act);
    v.z = activated(v.z, a.act);
    v.w = activated(v.w, a.act);
    store_four(a.y, a.y_type, (int64_t)m * a.y_ld + n, v);
}

#endif
#endif
