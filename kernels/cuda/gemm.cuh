/* gemm.cuh - the kernel of the matrix product: rows of A are gathered from a picture as they are
 * needed (implicit GEMM), a pipeline of copies feeds tensor cores from shared memory, and results
 * leave through shared memory, so that stores are whole lines.
 *
 * A piece is 8 channels, 16 bytes. A thread brings the same piece of each step's rows, so it walks
 * over taps and channels alone; rows lie in shared memory with their pieces xor-ed, so that eight
 * rows of a matrix touch all banks once.
 */
#ifndef KERNELS_CUDA_GEMM_CUH
#define KERNELS_CUDA_GEMM_CUH

#include "gemm.h"
#include "ptx.cuh"

/* WM x WN warps on a tile of BM x BN, BK deep. */
template <class Type, int BM_, int BN_, int BK_, int WM_, int WN_> struct tile {
    typedef Type T;
    static constexpr int BM = BM_, BN = BN_, BK = BK_, WM = WM_, WN = WN_;
    static constexpr int threads = 32 * WM * WN;
    static constexpr int MI = BM / WM / 16, NI = BN / WN / 8;  /* products of a warp */
    static constexpr int line = BK / 8, pass = threads / line; /* pieces a row, rows at a time */
    static constexpr int AP = BM / pass, BP = (BN + pass - 1) / pass; /* pieces of a thread */
    static constexpr int bytes = (BM + BN) * BK * 2;                  /* of a stage */
    static constexpr int pitch = NI * 8 + 8; /* floats of a row on its way out */
    static constexpr int spread = WM * WN * 16 * pitch * 4;
    static_assert(BM % pass == 0 && NI % 2 == 0 && (BK == 32 || BK == 64), "tile");
};

/* Where a piece of a row lies within a tile of shared memory, in bytes. */
template <int BK> DEVICE int spot(int row, int piece)
{
    return row * BK * 2 + (piece ^ (BK == 32 ? row >> 1 & 3 : row & 7)) * 16;
}

/* What a thread knows of the rows that it brings. */
template <class C> struct feeder {
    int pixel[C::AP];     /* of x, at the tap; negative: zeros */
    int image[C::AP];     /* the first pixel of the row's image; plain: the row */
    int corner[C::AP];    /* y << 16 | x of the filter's first tap */
    int tap, c;           /* of the next step of A */
    int k;                /* depth of the next step of B */
    int first, piece, n0; /* row within a pass, piece within a row, first column */
};

template <class C> DEVICE void find_pixels(const gemm_args &a, feeder<C> &f)
{
    int ky = f.tap / (a.phased ? 2 : 3), kx = f.tap - a.side * ky; /* side 1: tap 0 alone */
    bool more = f.tap < a.side * a.side;
#pragma unroll
    for (int i = 0; i < C::AP; i++) {
        if (a.plain) {
            f.pixel[i] = more ? f.image[i] : -1;
            continue;
        }
        int y = (f.corner[i] >> 16) + ky, x = (short)f.corner[i] + kx;
        bool in = more && (unsigned)y < (unsigned)(a.height << a.up) &&
                  (unsigned)x < (unsigned)(a.width << a.up);
        f.pixel[i] = in ? f.image[i] + (y >> a.up) * a.width + (x >> a.up) : -1;
    }
}

template <class C>
DEVICE void place(const gemm_args &a, feeder<C> &f, int m0, int n0, int first_step)
{
    int phase = blockIdx.z;
    f.first = threadIdx.x / C::line;
    f.piece = threadIdx.x % C::line;
    f.n0 = n0;
    f.k = first_step * C::BK + f.piece * 8;
    f.tap = f.k / a.c;
    f.c = f.k - f.tap * a.c;
#pragma unroll
    for (int i = 0; i < C::AP; i++) {
        int m = m0 + f.first + i * C::pass;
        if (a.plain) {
            f.image[i] = m < a.rows ? m : -1;
            f.corner[i] = 0;
            continue;
        }
        int n = m / a.area, at = m - n * a.area, y = at / a.line, x = at - y * a.line;
        f.image[i] = n * a.height * a.width;
        y = m < a.each ? y * a.stride - a.pad + phase / 2 : -16384; /* no tap is inside */
        x = x * a.stride - a.pad + phase % 2;
        f.corner[i] = (int)((unsigned)y << 16 | (unsigned)(x & 0xffff));
    }
    find_pixels(a, f);
}

template <class C> DEVICE void bring_a(const gemm_args &a, feeder<C> &f, unsigned char *stage)
{
    typedef typename C::T T;
    const T *from = (const T *)a.x + f.c;
#pragma unroll
    for (int i = 0; i < C::AP; i++) {
        void *to = stage + spot<C::BK>(f.first + i * C::pass, f.piece);
        copy_16(to, f.pixel[i] < 0 ? (const T *)a.x : from + (int64_t)f.pixel[i] * a.ld,
                f.pixel[i] >= 0);
    }
    f.c += C::BK;
    if (f.c >= a.c) {
        do {
            f.c -= a.c;
            f.tap++;
        } while (f.c >= a.c);
        find_pixels(a, f);
    }
}

template <class C> DEVICE void bring_b(const gemm_args &a, feeder<C> &f, unsigned char *stage)
{
    typedef typename C::T T;
    const T *from = (const T *)a.w + (int64_t)blockIdx.z * a.out * a.depth;
#pragma unroll
    for (int i = 0; i < C::BP; i++) {
        int r = f.first + i * C::pass, n = f.n0 + r;
        bool in = n < a.out && f.k < a.depth;
        if (C::BN % C::pass == 0 || r < C::BN)
            copy_16(stage + C::BM * C::BK * 2 + spot<C::BK>(r, f.piece),
                    in ? from + (n * a.depth + f.k) : from, in);
    }
    f.k += C::BK;
}

/* Wait until the oldest stage of a pipeline of so many is there. */
DEVICE void stage_wait(int stages)
{
    if (stages == 4)
        copy_wait<2>();
    else if (stages == 3)
        copy_wait<1>();
    else if (stages == 2)
        copy_wait<0>();
    else
        copy_wait<4>(); /* 6 */
}

template <class C> struct operands {
    uint32_t a[C::MI][4], b[C::NI / 2][4];
};

/* 16 of depth for the warp's part of a tile. */
template <class C>
DEVICE void read(operands<C> &o, const unsigned char *stage, int wm, int wn, int kk)
{
    int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < C::MI; i++) {
        int r = (wm * C::MI + i) * 16 + lane % 16;
        load_matrix(o.a[i], stage + spot<C::BK>(r, kk * 2 + lane / 16));
    }
#pragma unroll
    for (int j = 0; j < C::NI / 2; j++) {
        int r = (wn * C::NI + 2 * j) * 8 + lane % 8 + lane / 16 * 8;
        load_matrix(o.b[j], stage + C::BM * C::BK * 2 + spot<C::BK>(r, kk * 2 + lane / 8 % 2));
    }
}

template <class C> DEVICE void multiply(float (&sum)[C::MI][C::NI][4], const operands<C> &o)
{
#pragma unroll
    for (int i = 0; i < C::MI; i++)
#pragma unroll
        for (int j = 0; j < C::NI; j++)
            mma(sum[i][j], o.a[i], o.b[j / 2][j % 2 * 2], o.b[j / 2][j % 2 * 2 + 1],
                typename C::T());
}

/* ---- the way out ----------------------------------------------------------------------------- */

/* Rows of A behind this phase. */
DEVICE int rows_end(const gemm_args &a)
{
    return (int)(blockIdx.z + 1) * a.each;
}

template <class T> DEVICE float2 widen_two(uint32_t raw)
{
    T v[2];
    memcpy(v, &raw, 4);
    return make_float2(to_float(v[0]), to_float(v[1]));
}

/* Pieces of 16 rows of y or of the residual, between memory and a warp's shared memory. */
template <class C, int pieces, bool OUT>
DEVICE void move_pieces(const gemm_args &a, uint16_t *mine, int m0, int at0, int end)
{
    const uint16_t *base = (const uint16_t *)(OUT ? a.y : a.residual) + at0;
    int lane = threadIdx.x % 32, ld = OUT ? a.y_ld : a.residual_ld;
#pragma unroll(C::NI < 8 ? 1 : 4)
    for (int j = lane; j < 16 * pieces; j += 32) {
        int r = j / pieces, c = j - r * pieces;
        bool in = m0 + r < rows_end(a) && at0 + c * 8 < end;
        uint4 *here = (uint4 *)(mine + r * C::pitch + c * 8);
        uint4 *there = (uint4 *)(base + (int64_t)row_of(a, m0 + r) * ld + c * 8);
        if (!OUT)
            *here = in ? *there : make_uint4(0, 0, 0, 0);
        else if (in)
            *there = *here;
    }
}

/* Two columns of a row with bias and what belongs to the image; then as y has them. */
template <class C>
DEVICE uint32_t finish_two(const gemm_args &a, const uint32_t *row, const uint32_t *residual,
                           float2 bias, float x, float y)
{
    typedef typename C::T T;
    x += bias.x, y += bias.y;
    if (row) {
        float2 r = widen_two<T>(*row);
        x += r.x, y += r.y;
    }
    if (a.residual_type) {
        float2 r = widen_two<T>(*residual);
        x += r.x, y += r.y;
    }
    if (a.act == K_RELU)
        x = fmaxf(x, 0.0f), y = fmaxf(y, 0.0f);
    return pack(x, y, T());
}

/* Whole pieces of halves: what is done to sums is done where they are, and halves go
 * through shared memory. m0, n0: of 16 rows of a warp. */
template <class C>
DEVICE void leave_direct(const gemm_args &a, uint16_t *mine, const float (&sum)[C::NI][4], int m0,
                         int n0)
{
    typedef typename C::T T;
    int lane = threadIdx.x % 32, n = n0 + lane % 4 * 2;
    uint16_t *to = mine + lane / 4 * C::pitch + lane % 4 * (a.act == K_GEGLU ? 1 : 2);
    if (a.act == K_GEGLU) {
#pragma unroll
        for (int j = 0; j < C::NI; j++, n += 8) {
            float2 b = n < a.out ? *(const float2 *)(a.bias + n) : make_float2(0, 0);
            T v[2];
            from_float(&v[0], (sum[j][0] + b.x) * gelu(sum[j][1] + b.y));
            from_float(&v[1], (sum[j][2] + b.x) * gelu(sum[j][3] + b.y));
            *(T *)(to + j * 4) = v[0];
            *(T *)(to + j * 4 + 8 * C::pitch) = v[1];
        }
        __syncwarp();
        move_pieces<C, C::NI / 2, true>(a, mine, m0, n0 / 2, a.out / 2);
        return;
    }
    if (a.residual_type)
        move_pieces<C, C::NI, false>(a, mine, m0, n0, a.out);
    __syncwarp();
    int image[2] = {};
    if (a.row_type)
        for (int i = 0; i < 2; i++)
            image[i] = row_of(a, min(m0 + lane / 4 + 8 * i, rows_end(a) - 1)) / a.pixels * a.row_ld;
#pragma unroll
    for (int j = 0; j < C::NI; j++, n += 8) {
        bool in = n < a.out;
        float2 b = in ? *(const float2 *)(a.bias + n) : make_float2(0, 0);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            uint32_t *at = (uint32_t *)(to + j * 8 + 8 * i * C::pitch);
            const T *row = in && a.row_type ? (const T *)a.row + image[i] + n : NULL;
            *at = finish_two<C>(a, (const uint32_t *)row, at, b, sum[j][2 * i], sum[j][2 * i + 1]);
        }
    }
    __syncwarp();
    move_pieces<C, C::NI, true>(a, mine, m0, n0, a.out);
}

/* 16 rows of a warp, in shared memory, to y or to partial sums. */
template <class C>
DEVICE void leave_rows(const gemm_args &a, float *mine, float *partial, int m0, int n0)
{
    constexpr int each = C::NI % 4 ? 2 : 4, fours = C::NI * 2, all = 16 * fours;
    int lane = threadIdx.x % 32, across = (a.out + 3) / 4 * 4;
    if (partial || asks_residual(a))
#pragma unroll 1
        for (int j = lane; j < all; j += 32 * each)
#pragma unroll
            for (int e = 0; e < each; e++) { /* so many loads are under way */
                int r = (j + 32 * e) / fours, c = (j + 32 * e) % fours * 4, m = m0 + r, n = n0 + c;
                float4 *v = (float4 *)(mine + r * C::pitch + c);
                if (m < rows_end(a) && n < a.out && partial)
                    *(float4 *)(partial + (int64_t)m * across + n) = *v;
                else if (m < rows_end(a) && n < a.out)
                    *v = add_residual(a, row_of(a, m), n, *v);
            }
    if (!partial)
#pragma unroll 1
        for (int j = lane; j < all; j += 32) {
            int r = j / fours, c = j % fours * 4;
            if (m0 + r < rows_end(a) && n0 + c < a.out)
                finish(a, row_of(a, m0 + r), n0 + c, *(const float4 *)(mine + r * C::pitch + c));
        }
}

/* Sums of any type and alignment. */
template <class C>
DEVICE void leave_sums(const gemm_args &a, float *mine, const float (&sum)[C::NI][4], int m0,
                       int n0)
{
    int lane = threadIdx.x % 32;
    float *to = mine + lane / 4 * C::pitch + lane % 4 * 2, *partial = a.partial;
    if (partial)
        partial += (int64_t)blockIdx.y * a.rows * ((a.out + 3) / 4 * 4);
#pragma unroll
    for (int j = 0; j < C::NI; j++) {
        *(float2 *)(to + j * 8) = make_float2(sum[j][0], sum[j][1]);
        *(float2 *)(to + j * 8 + 8 * C::pitch) = make_float2(sum[j][2], sum[j][3]);
    }
    __syncwarp();
    leave_rows<C>(a, mine, partial, m0, n0);
}

/* Sums leave 16 rows of each warp at a time through shared memory: a row of a warp is whole lines
 * of y. */
template <class C>
DEVICE void leave(const gemm_args &a, float (&sum)[C::MI][C::NI][4], int m0, int n0)
{
    int warp = threadIdx.x / 32;
    float *mine = &shared<float>() + warp * 16 * C::pitch;
    m0 += blockIdx.z * a.each + warp % C::WM * C::MI * 16;
    n0 += warp / C::WM * C::NI * 8;
#pragma unroll 1
    for (int i = 0; i < C::MI; i++, m0 += 16) {
        if (a.direct)
            leave_direct<C>(a, (uint16_t *)mine, sum[0], m0, n0);
        else
            leave_sums<C>(a, mine, sum[0], m0, n0);
        __syncwarp();
#pragma unroll
        for (int k = 1; k < C::MI; k++)
#pragma unroll
            for (int j = 0; j < C::NI; j++)
#pragma unroll
                for (int e = 0; e < 4; e++)
                    sum[k - 1][j][e] = sum[k][j][e];
    }
}

/* blockIdx.x: tile, columns first; blockIdx.y: the part of depth; blockIdx.z: phase. */
template <class C>
__global__ void __launch_bounds__(C::threads) product(const __grid_constant__ gemm_args a)
{
    unsigned char *room = &shared<unsigned char>();
    int m0 = blockIdx.x / a.tiles * C::BM, n0 = blockIdx.x % a.tiles * C::BN;
    int first = blockIdx.y * a.steps, total = (a.depth + C::BK - 1) / C::BK;
    int steps = min(a.steps, total - first);
    int wm = threadIdx.x / 32 % C::WM, wn = threadIdx.x / 32 / C::WM;
    feeder<C> f;
    place(a, f, m0, n0, first);
    for (int i = 0; i < a.stages - 1 && i < steps; i++) /* weights are there before x is */
        bring_b(a, f, room + i * C::bytes);
    grid_wait();
    for (int i = 0; i < a.stages - 1; i++) {
        if (i < steps)
            bring_a(a, f, room + i * C::bytes);
        copy_commit();
    }
    grid_release();
    float sum[C::MI][C::NI][4] = {};
    operands<C> o[2];
    unsigned char *now = room, *next = room + (a.stages - 1) * C::bytes;
    unsigned char *end = room + a.stages * C::bytes;
    stage_wait(a.stages);
    __syncthreads();
    read(o[0], now, wm, wn, 0);
#pragma unroll 1
    for (int step = 0; step < steps; step++) {
#pragma unroll
        for (int kk = 0; kk < C::BK / 16; kk++) {
            if (kk == C::BK / 16 - 1) {
                stage_wait(a.stages);
                __syncthreads();
                now = now + C::bytes == end ? room : now + C::bytes;
            }
            if (kk < C::BK / 16 - 1 || step + 1 < steps)
                read(o[(kk + 1) % 2], now, wm, wn, (kk + 1) % (C::BK / 16));
            if (kk == 0) {
                if (step + a.stages - 1 < steps) {
                    bring_a(a, f, next);
                    bring_b(a, f, next);
                }
                copy_commit();
                next = next + C::bytes == end ? room : next + C::bytes;
            }
            multiply<C>(sum, o[kk % 2]);
        }
    }
    copy_wait<0>();
    __syncthreads();
    leave<C>(a, sum, m0, n0);
}

template <class C> static constexpr gemm_tile tile_of()
{
    return {C::BM, C::BN, C::BK, C::WM * C::WN, C::spread, product<C>};
}

#endif
