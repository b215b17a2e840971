/* gemm_hopper.cu - the matrix product on sm_90a, whose tensor cores read both sides from shared
 * memory by themselves (wgmma). Feeding and the way out are those of gemm.cuh; a warp group has 64
 * rows of the tile, all its columns.
 *
 * One stage more than gemm.cuh's pipeline is under way: products of the last step may still read
 * theirs while this step's are written. On other processors the kernels are empty, and gemm.c does
 * not choose them.
 */
#include "gemm.cuh"
#include "wgmma.cuh"

#if HOPPER

DEVICE void hopper_wait(int stages)
{
    if (stages == 4)
        copy_wait<1>();
    else if (stages == 5)
        copy_wait<2>();
    else
        copy_wait<3>(); /* 6 */
}

template <class C>
DEVICE void multiply_step(float (&sum)[C::NI][4], const unsigned char *stage, int add)
{
    const unsigned char *rows = stage + threadIdx.x / 128 * 64 * C::BK * 2;
    uint64_t a = describe(rows), b = describe(stage + C::BM * C::BK * 2);
    products_begin();
#pragma unroll
    for (int kk = 0; kk < C::BK / 16; kk++)
        wgmma(sum, a + 2 * kk, b + 2 * kk, add | kk, typename C::T());
    products_commit();
}

template <class C> DEVICE void run_hopper(const gemm_args &a)
{
    unsigned char *room = &shared<unsigned char>();
    room += -shared_address(room) & (GEMM_ALIGN - 1);
    int m0 = blockIdx.x / a.tiles * C::BM, n0 = blockIdx.x % a.tiles * C::BN;
    int first = blockIdx.y * a.steps, total = (a.depth + C::BK - 1) / C::BK;
    int steps = min(a.steps, total - first), ahead = a.stages - 2;
    feeder<C> f;
    place(a, f, m0, n0, first);
    for (int i = 0; i < ahead && i < steps; i++) /* weights are there before x is */
        bring_b(a, f, room + i * C::bytes);
    grid_wait();
    for (int i = 0; i < ahead; i++) {
        if (i < steps)
            bring_a(a, f, room + i * C::bytes);
        copy_commit();
    }
    grid_release();
    float sum[1][C::NI][4]; /* written by the first product */
    unsigned char *now = room, *next = room + ahead * C::bytes, *end = next + 2 * C::bytes;
#pragma unroll 1
    for (int step = 0; step < steps; step++) {
        hopper_wait(a.stages);
        products_see_copies();
        __syncthreads();
        multiply_step<C>(sum[0], now, step);
        if (step + ahead < steps) {
            bring_a(a, f, next);
            bring_b(a, f, next);
        }
        copy_commit();
        products_wait<1>();
        now = now + C::bytes == end ? room : now + C::bytes;
        next = next + C::bytes == end ? room : next + C::bytes;
    }
    products_wait<0>();
    copy_wait<0>();
    __syncthreads();
    leave<C>(a, sum, m0, n0);
}

#endif

template <class C>
__global__ void __launch_bounds__(C::threads) product_hopper(const __grid_constant__ gemm_args a)
{
#if HOPPER
    run_hopper<C>(a);
#endif
}

/* GROUPS warp groups, 64 rows each. */
template <class T, int GROUPS, int BN> static constexpr gemm_tile hopper_tile()
{
    typedef tile<T, 64 * GROUPS, BN, 64, 4 * GROUPS, 1> C;
    return {C::BM, C::BN, C::BK, C::WM, C::spread, product_hopper<C>};
}

template <class T> struct hopper {
    static constexpr gemm_tile tiles[GEMM_HOPPER] = {
        hopper_tile<T, 1, 64>(),  hopper_tile<T, 1, 80>(),  hopper_tile<T, 1, 128>(),
        hopper_tile<T, 1, 160>(), hopper_tile<T, 2, 64>(),  hopper_tile<T, 2, 128>(),
        hopper_tile<T, 2, 160>(), hopper_tile<T, 2, 256>(),
    };
};

const gemm_tile *gemm_hopper(int type)
{
    return type == CUDA_F16 ? hopper<__half>::tiles : hopper<__nv_bfloat16>::tiles;
}
