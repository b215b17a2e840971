/* cuda.c - the CUDA backend as the rest of kernels/ sees it: the table of ops. */
#include "cuda.h"

static const k_ops cuda_ops = {
    .name = "cuda",
    .conv = cuda_conv,
    .linear = cuda_linear,
    .attention = cuda_attention,
    .group_norm = cuda_group_norm,
    .layer_norm = cuda_layer_norm,
    .activate = cuda_activate,
    .add = cuda_add,
    .soft_clamp = cuda_soft_clamp,
    .mix = cuda_mix,
    .resize_nearest = cuda_resize_nearest,
    .embed = cuda_embed,
    .sinusoid = cuda_sinusoid,
    .affine = cuda_affine,
    .blend = cuda_blend,
    .warp = cuda_warp,
    .blur = cuda_blur,
    .cosine = cuda_cosine,
    .ease = cuda_ease,
    .finite = cuda_finite,
    .affine_if = cuda_affine_if,
    .noise = cuda_noise,
    .image_in = cuda_image_in,
    .mask_in = cuda_mask_in,
    .image_out = cuda_image_out,
};

static size_t room(const k_device *device)
{
    return cuda_room((const cuda_device *)device);
}

const k_backend cuda_backend = {
    .name = "cuda",
    .ops = &cuda_ops,
    .device_open = cuda_device_open,
    .device_close = cuda_device_close,
    .device_bytes = cuda_device_bytes,
    .device_name = cuda_device_name,
    .device_plan = cuda_device_plan,
    .open = cuda_open,
    .close = cuda_close,
    .plan_begin = cuda_plan_begin,
    .plan_end = cuda_plan_end,
    .stamp = cuda_stamp,
    .stamp_ms = cuda_stamp_ms,
    .alloc = cuda_alloc,
    .free = cuda_free,
    .room = room,
    .settle = cuda_wait,
    .put = cuda_put,
    .get = cuda_get,
    .get_with = cuda_get_with,
    .weight_new = cuda_weight_new,
    .weight_free = cuda_weight_free,
    .weight_delta = cuda_weight_delta,
    .weight_desc = cuda_weight_desc,
};
