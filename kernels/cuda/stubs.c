/* stubs.c - what is not written yet. */
#include "cuda.h"

#pragma GCC diagnostic ignored "-Wunused-parameter"
__attribute__((weak)) void cuda_write_clock(k_ctx *k, uint64_t *at)
{
    k_fail(k, "cuda_write_clock: not written yet");
}
__attribute__((weak)) const cuda_form *cuda_form_of(k_ctx *k, const char *op, const k_weight *w,
                                                    int kind, int dtype)
{
    return NULL;
}
__attribute__((weak)) k_weight *cuda_weight_new(k_device *device, const k_weight_desc *desc,
                                                char why[K_WHY])
{
    return NULL;
}
__attribute__((weak)) void cuda_weight_free(k_device *device, k_weight *weight)
{
}
__attribute__((weak)) const k_weight_desc *cuda_weight_desc(const k_weight *weight)
{
    return NULL;
}
__attribute__((weak)) int cuda_weight_delta(k_device *device, k_weight *weight, const k_delta *list,
                                            int count, char why[K_WHY])
{
    return -1;
}
__attribute__((weak)) void cuda_weights_release(k_ctx *k, int all)
{
}
__attribute__((weak)) void cuda_gemm(k_ctx *k, const cuda_product *p)
{
    k_fail(k, "cuda_gemm: not written yet");
}
__attribute__((weak)) void cuda_conv(k_ctx *k, k_tensor y, k_tensor x, const k_weight *w,
                                     const k_conv *o)
{
    k_fail(k, "cuda_conv: not written yet");
}
__attribute__((weak)) void cuda_linear(k_ctx *k, k_tensor y, k_tensor x, const k_weight *w,
                                       const k_linear *o)
{
    k_fail(k, "cuda_linear: not written yet");
}
__attribute__((weak)) void cuda_attention(k_ctx *k, k_tensor y, k_tensor q, k_tensor key,
                                          k_tensor value, const k_attention *o)
{
    k_fail(k, "cuda_attention: not written yet");
}
__attribute__((weak)) void cuda_group_norm(k_ctx *k, k_tensor y, k_tensor x, const k_weight *w,
                                           int groups, float eps, int act)
{
    k_fail(k, "cuda_group_norm: not written yet");
}
__attribute__((weak)) void cuda_layer_norm(k_ctx *k, k_tensor y, k_tensor x, const k_weight *w,
                                           float eps)
{
    k_fail(k, "cuda_layer_norm: not written yet");
}
__attribute__((weak)) void cuda_activate(k_ctx *k, k_tensor y, k_tensor x, int act)
{
    k_fail(k, "cuda_activate: not written yet");
}
__attribute__((weak)) void cuda_add(k_ctx *k, k_tensor y, k_tensor x, k_tensor z)
{
    k_fail(k, "cuda_add: not written yet");
}
__attribute__((weak)) void cuda_soft_clamp(k_ctx *k, k_tensor y, k_tensor x, float limit)
{
    k_fail(k, "cuda_soft_clamp: not written yet");
}
__attribute__((weak)) void cuda_mix(k_ctx *k, k_tensor y, k_tensor coef, k_tensor x0, k_tensor x1,
                                    k_tensor x2)
{
    k_fail(k, "cuda_mix: not written yet");
}
__attribute__((weak)) void cuda_concat(k_ctx *k, k_tensor y, k_tensor a, k_tensor b)
{
    k_fail(k, "cuda_concat: not written yet");
}
__attribute__((weak)) void cuda_resize_nearest(k_ctx *k, k_tensor y, k_tensor x)
{
    k_fail(k, "cuda_resize_nearest: not written yet");
}
__attribute__((weak)) void cuda_embed(k_ctx *k, k_tensor y, k_tensor ids, const k_weight *tokens,
                                      const k_weight *positions)
{
    k_fail(k, "cuda_embed: not written yet");
}
__attribute__((weak)) void cuda_sinusoid(k_ctx *k, k_tensor y, k_tensor t, int sin_first,
                                         float shift)
{
    k_fail(k, "cuda_sinusoid: not written yet");
}
__attribute__((weak)) void cuda_affine(k_ctx *k, k_tensor y, k_tensor x, const k_affine *o)
{
    k_fail(k, "cuda_affine: not written yet");
}
__attribute__((weak)) void cuda_blend(k_ctx *k, k_tensor y, k_tensor mask, k_tensor a, k_tensor b)
{
    k_fail(k, "cuda_blend: not written yet");
}
__attribute__((weak)) void cuda_warp(k_ctx *k, k_tensor y, k_tensor x, k_tensor coef, int mirror)
{
    k_fail(k, "cuda_warp: not written yet");
}
__attribute__((weak)) void cuda_blur(k_ctx *k, k_tensor y, k_tensor x, float sigma, int down)
{
    k_fail(k, "cuda_blur: not written yet");
}
__attribute__((weak)) void cuda_cosine(k_ctx *k, k_tensor y, k_tensor a, k_tensor b, float middle)
{
    k_fail(k, "cuda_cosine: not written yet");
}
__attribute__((weak)) void cuda_ease(k_ctx *k, k_tensor y, k_tensor x, k_tensor past, k_tensor coef)
{
    k_fail(k, "cuda_ease: not written yet");
}
__attribute__((weak)) void cuda_noise(k_ctx *k, k_tensor y, uint64_t seed, uint32_t stream)
{
    k_fail(k, "cuda_noise: not written yet");
}
__attribute__((weak)) void cuda_image_in(k_ctx *k, k_tensor y, const k_image *src, float scale,
                                         float bias)
{
    k_fail(k, "cuda_image_in: not written yet");
}
__attribute__((weak)) void cuda_mask_in(k_ctx *k, k_tensor y, const k_image *src)
{
    k_fail(k, "cuda_mask_in: not written yet");
}
__attribute__((weak)) void cuda_image_out(k_ctx *k, const k_image *dst, k_tensor x, float scale,
                                          float bias)
{
    k_fail(k, "cuda_image_out: not written yet");
}
