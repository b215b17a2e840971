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

/* WM x WN warps on a tile of BM x BN, BK deep. ANY: x of every type and alignment. */
template <class Type, int BM_, int BN_, int BK_, int WM_, int WN_, bool ANY_> struct tile {
    typedef Type T;
    static constexpr int BM = BM_, BN = BN_, BK = BK_, WM = WM_, WN = WN_;
    static constexpr bool ANY = ANY_;
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
    int ky = f.tap / 3, kx = f.tap - 3 * ky; /* side 1: tap 0 alone */
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
        int n = m / a.pixels, at = m - n * a.pixels, y = at / a.ow, x = at - y * a.ow;
        f.image[i] = n * a.height * a.width;
        y = m < a.rows ? y * a.stride - a.pad : -16384; /* no tap of it is inside */
        f.corner[i] = (int)((unsigned)y << 16 | (unsigned)((x * a.stride - a.pad) & 0xffff));
    }
    find_pixels(a, f);
}

/* Eight channels of a pixel of x and x2, one by one. */
template <class C> DEVICE uint4 gather(const gemm_args &a, int pixel, int c)
{
    typename C::T v[8];
#pragma unroll
    for (int i = 0; i < 8; i++) {
        float value = 0.0f;
        if (pixel >= 0 && c + i < a.c1)
            value = load_as(a.x, a.x_type, (int64_t)pixel * a.ld1 + c + i);
        else if (pixel >= 0 && c + i - a.c1 < a.c2)
            value = load_as(a.x2, a.x2_type, (int64_t)pixel * a.ld2 + c + i - a.c1);
        from_float(&v[i], value);
    }
    uint4 piece;
    memcpy(&piece, v, 16);
    return piece;
}

template <class C> DEVICE void bring_a(const gemm_args &a, feeder<C> &f, unsigned char *stage)
{
    typedef typename C::T T;
    bool second = f.c >= a.c1;
    const T *from = second ? (const T *)a.x2 + (f.c - a.c1) : (const T *)a.x + f.c;
    int ld = second ? a.ld2 : a.ld1;
#pragma unroll
    for (int i = 0; i < C::AP; i++) {
        void *to = stage + spot<C::BK>(f.first + i * C::pass, f.piece);
        if (C::ANY)
            *(uint4 *)to = gather<C>(a, f.pixel[i], f.c);
        else
            copy_16(to, f.pixel[i] < 0 ? (const T *)a.x : from + (int64_t)f.pixel[i] * ld,
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
    const T *from = (const T *)a.w;
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

/* 16 rows of each warp at a time through shared memory: a row of a warp is whole lines of y. */
template <class C>
DEVICE void leave(const gemm_args &a, float (&sum)[C::MI][C::NI][4], int m0, int n0)
{
    constexpr int each = C::NI % 4 ? 2 : 4, fours = C::NI * 2;
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    int across = (a.out + 3) / 4 * 4;
    float *mine = &shared<float>() + warp * 16 * C::pitch;
    float *partial = a.partial ? a.partial + (int64_t)blockIdx.y * a.rows * across : NULL;
    m0 += warp % C::WM * C::MI * 16;
    n0 += warp / C::WM * C::NI * 8;
#pragma unroll 1
    for (int i = 0; i < C::MI; i++, m0 += 16) {
        float *to = mine + lane / 4 * C::pitch + lane % 4 * 2;
#pragma unroll
        for (int j = 0; j < C::NI; j++) {
            *(float2 *)(to + j * 8) = make_float2(sum[0][j][0], sum[0][j][1]);
            *(float2 *)(to + j * 8 + 8 * C::pitch) = make_float2(sum[0][j][2], sum[0][j][3]);
#pragma unroll
            for (int k = 1; k < C::MI; k++)
#pragma unroll
                for (int e = 0; e < 4; e++)
                    sum[k - 1][j][e] = sum[k][j][e];
        }
        __syncwarp();
#pragma unroll 1
        for (int j = lane; j < 16 * fours; j += 32 * each) {
            float4 last[each];
#pragma unroll
            for (int e = 0; e < each; e++) {
                int m = m0 + (j + 32 * e) / fours, n = n0 + (j + 32 * e) % fours * 4;
                last[e] = make_float4(0, 0, 0, 0);
                if (!partial && m < a.rows && n < a.out)
                    last[e] = ask_residual(a, m, n);
            }
#pragma unroll
            for (int e = 0; e < each; e++) {
                int r = (j + 32 * e) / fours, c = (j + 32 * e) % fours * 4;
                int m = m0 + r, n = n0 + c;
                float4 v = *(const float4 *)(mine + r * C::pitch + c);
                if (m >= a.rows || n >= a.out)
                    continue;
                if (partial)
                    *(float4 *)(partial + (int64_t)m * across + n) = v;
                else
                    finish(a, m, n, v, last[e]);
            }
        }
        __syncwarp();
    }
}

/* blockIdx.x: tile, columns first; blockIdx.y: the part of depth. */
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
