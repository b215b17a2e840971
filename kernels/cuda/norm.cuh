/* norm.cuh - what the norms share: pieces of 8 channels, sums, checks. */
#ifndef KERNELS_CUDA_NORM_CUH
#define KERNELS_CUDA_NORM_CUH

#include "ptx.cuh"

/* ---- pieces of 8 channels --------------------------------------------------------------------
 */

template <class T> struct piece {
    uint4 raw[sizeof(T) / 2];
};

template <class T> DEVICE piece<T> load_piece(const T *from)
{
    piece<T> p;
#pragma unroll
    for (int i = 0; i < (int)sizeof(T) / 2; i++)
        p.raw[i] = ((const uint4 *)from)[i];
    return p;
}

DEVICE void widen(float (&v)[8], const piece<float> &p)
{
#pragma unroll
    for (int i = 0; i < 2; i++) {
        v[4 * i] = __uint_as_float(p.raw[i].x);
        v[4 * i + 1] = __uint_as_float(p.raw[i].y);
        v[4 * i + 2] = __uint_as_float(p.raw[i].z);
        v[4 * i + 3] = __uint_as_float(p.raw[i].w);
    }
}

DEVICE void widen_pair(float &low, float &high, uint32_t raw, __half)
{
    float2 f = __half22float2(*reinterpret_cast<__half2 *>(&raw));
    low = f.x;
    high = f.y;
}

DEVICE void widen_pair(float &low, float &high, uint32_t raw, __nv_bfloat16)
{
    low = __uint_as_float(raw << 16);
    high = __uint_as_float(raw & 0xffff0000u);
}

template <class T> DEVICE void widen(float (&v)[8], const piece<T> &p)
{
    widen_pair(v[0], v[1], p.raw[0].x, T());
    widen_pair(v[2], v[3], p.raw[0].y, T());
    widen_pair(v[4], v[5], p.raw[0].z, T());
    widen_pair(v[6], v[7], p.raw[0].w, T());
}

template <class T> DEVICE uint4 narrowed(const float (&v)[8])
{
    return make_uint4(pack(v[0], v[1], T()), pack(v[2], v[3], T()), pack(v[4], v[5], T()),
                      pack(v[6], v[7], T()));
}

/* Eight elements of type dtype, from element i on. */
DEVICE void store_piece(void *to, int dtype, int64_t i, const float (&v)[8])
{
    if (dtype == K_F16) {
        *(uint4 *)((__half *)to + i) = narrowed<__half>(v);
    } else if (dtype == K_BF16) {
        *(uint4 *)((__nv_bfloat16 *)to + i) = narrowed<__nv_bfloat16>(v);
    } else {
        ((float4 *)((float *)to + i))[0] = make_float4(v[0], v[1], v[2], v[3]);
        ((float4 *)((float *)to + i))[1] = make_float4(v[4], v[5], v[6], v[7]);
    }
}

DEVICE void load_floats(float (&v)[8], const float *from)
{
    widen(v, load_piece(from));
}

DEVICE float warp_sum(float x)
{
#pragma unroll
    for (int o = 16; o; o /= 2)
        x += __shfl_xor_sync(~0u, x, o);
    return x;
}

/* The weight and the tensors are what a norm takes; 1 when they are. */
int cuda_vector_holds(k_ctx *k, const char *op, k_tensor y, k_tensor x, const k_weight *w);
/* The norm of each image and group, whatever the types and strides. */
void cuda_norm_any(k_ctx *k, k_tensor y, k_tensor x, const cuda_form *f, int images, int groups,
                   float eps, int act);

static inline int whole_pieces(k_tensor t)
{
    return t.c % 8 == 0 && t.ld % 8 == 0 && (uintptr_t)t.data % 16 == 0;
}

#endif
