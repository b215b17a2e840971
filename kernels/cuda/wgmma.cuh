/* wgmma.cuh - products of a warp group (128 threads) on sm_90a: both sides lie in shared memory and
 * run in the background. Source: PTX ISA, "Asynchronous Warpgroup Level Matrix Instructions".
 */
#ifndef KERNELS_CUDA_WGMMA_CUH
#define KERNELS_CUDA_WGMMA_CUH

#include "ptx.cuh"

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define HOPPER 1
#else
#define HOPPER 0
#endif

#if HOPPER

/* A tile of rows of 64 halves, its pieces xor-ed as spot<64> does: PTX's 128-byte swizzle. It
 * begins on 1024 bytes, where groups of eight rows lie one after the other. 16 of depth further is
 * 2 more. */
DEVICE uint64_t describe(const void *tile)
{
    return (uint64_t)(shared_address(tile) >> 4) | 1ull << 16 | 64ull << 32 | 1ull << 62;
}

/* What threads have copied to shared memory so far is for products, too. */
DEVICE void products_see_copies()
{
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

DEVICE void products_begin()
{
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

DEVICE void products_commit()
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

template <int left> DEVICE void products_wait()
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(left) : "memory");
}

/* clang-format off */
#define TEN(t) "%" #t "0,%" #t "1,%" #t "2,%" #t "3,%" #t "4,%" #t "5,%" #t "6,%" #t "7,%" #t "8,%" #t "9"
#define SUMS_1(j) "+f"(d[j][0]), "+f"(d[j][1]), "+f"(d[j][2]), "+f"(d[j][3])
#define SUMS_2(j) SUMS_1(j), SUMS_1((j) + 1)
#define SUMS_4(j) SUMS_2(j), SUMS_2((j) + 2)
#define SUMS_8(j) SUMS_4(j), SUMS_4((j) + 4)
#define SUMS_16(j) SUMS_8(j), SUMS_8((j) + 8)
#define WGMMA(N, TYPE, LIST, A, B, S, ...)                                                            \
    asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, " S ", 0;\n"                                    \
                 "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." TYPE "." TYPE " {" LIST "}, "   \
                 A ", " B ", add, 1, 1, 0, 0;\n}"                                                  \
                 : __VA_ARGS__ : "l"(a), "l"(b), "r"(add))
/* d = a b, or d += a b where add is set, over a warp group: a 64 x 16, b N x 16, rows of both along depth; d: m16n8's layout. */
#define WGMMA_OF(N, LIST, A, B, S, ...)                                                               \
    DEVICE void wgmma(float (&d)[N / 8][4], uint64_t a, uint64_t b, int add, __half)                        \
    {                                                                                              \
        WGMMA(N, "f16", LIST, A, B, S, __VA_ARGS__);                                                  \
    }                                                                                              \
    DEVICE void wgmma(float (&d)[N / 8][4], uint64_t a, uint64_t b, int add, __nv_bfloat16)                 \
    {                                                                                              \
        WGMMA(N, "bf16", LIST, A, B, S, __VA_ARGS__);                                                 \
    }
WGMMA_OF(64, TEN() "," TEN(1) "," TEN(2) ",%30,%31", "%32", "%33", "%34", SUMS_8(0))
WGMMA_OF(80, TEN() "," TEN(1) "," TEN(2) "," TEN(3), "%40", "%41", "%42", SUMS_8(0), SUMS_2(8))
WGMMA_OF(128, TEN() "," TEN(1) "," TEN(2) "," TEN(3) "," TEN(4) "," TEN(5) ",%60,%61,%62,%63",
         "%64", "%65", "%66", SUMS_16(0))
WGMMA_OF(160, TEN() "," TEN(1) "," TEN(2) "," TEN(3) "," TEN(4) "," TEN(5) "," TEN(6) "," TEN(7),
         "%80", "%81", "%82", SUMS_16(0), SUMS_4(16))
WGMMA_OF(256, TEN() "," TEN(1) "," TEN(2) "," TEN(3) "," TEN(4) "," TEN(5) "," TEN(6) "," TEN(7) ","
         TEN(8) "," TEN(9) "," TEN(10) "," TEN(11) ",%120,%121,%122,%123,%124,%125,%126,%127",
         "%128", "%129", "%130", SUMS_16(0), SUMS_16(16))
/* clang-format on */

#endif
#endif
