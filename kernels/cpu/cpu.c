/* cpu.c - the CPU backend as the rest of kernels/ sees it: memory, copies, and the table of ops. */
#include "cpu.h"

#include <string.h>
#include <time.h>

static const k_ops cpu_ops = {
    .name = "cpu",
    .conv = cpu_conv,
    .linear = cpu_linear,
    .attention = cpu_attention,
    .group_norm = cpu_group_norm,
    .layer_norm = cpu_layer_norm,
    .activate = cpu_activate,
    .add = cpu_add,
    .soft_clamp = cpu_soft_clamp,
    .mix = cpu_mix,
    .resize_nearest = cpu_resize_nearest,
    .embed = cpu_embed,
    .sinusoid = cpu_sinusoid,
    .affine = cpu_affine,
    .blend = cpu_blend,
    .warp = cpu_warp,
    .blur = cpu_blur,
    .cosine = cpu_cosine,
    .ease = cpu_ease,
    .finite = cpu_finite,
    .affine_if = cpu_affine_if,
    .noise = cpu_noise,
    .image_in = cpu_image_in,
    .mask_in = cpu_mask_in,
    .image_out = cpu_image_out,
};

static void *alloc(k_device *device, size_t bytes, int zeroed)
{
    (void)device;
    (void)zeroed; /* it always is */
    return cpu_alloc(bytes);
}

static void release(k_device *device, void *data, size_t bytes)
{
    (void)device;
    cpu_free(data, bytes);
}

static void settle(k_ctx *k)
{
    (void)k; /* they always are */
}

static void copy(k_ctx *k, void *to, size_t to_pitch, const void *from, size_t from_pitch,
                 size_t bytes, int64_t rows)
{
    (void)k;
    for (int64_t i = 0; i < rows; i++)
        memcpy((char *)to + (size_t)i * to_pitch, (const char *)from + (size_t)i * from_pitch,
               bytes);
}

static void stamp(k_ctx *k, int i)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    ((cpu_ctx *)k->impl)->stamp_ms[i] = (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static double stamp_ms(const k_ctx *k, int i)
{
    return ((const cpu_ctx *)k->impl)->stamp_ms[i];
}

const k_backend cpu_backend = {
    .name = "cpu",
    .ops = &cpu_ops,
    .device_open = cpu_device_open,
    .device_close = cpu_device_close,
    .device_bytes = cpu_device_bytes,
    .device_name = cpu_device_name,
    .open = cpu_open,
    .close = cpu_close,
    .plan_begin = cpu_plan_begin,
    .plan_end = cpu_plan_end,
    .stamp = stamp,
    .stamp_ms = stamp_ms,
    .alloc = alloc,
    .free = release,
    .settle = settle,
    .put = copy,
    .get = copy,
    .get_with = copy,
    .weight_new = cpu_weight_new,
    .weight_free = cpu_weight_free,
    .weight_delta = cpu_weight_delta,
    .weight_desc = cpu_weight_desc,
};
