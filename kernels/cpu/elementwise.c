/* elementwise.c - ops that read each element once: sums, activations, joins, nearest resizing. */
#include "cpu.h"

#include <string.h>

static int floats_hold(k_ctx *k, const char *op, k_tensor y, k_tensor x)
{
    k_tensor none = {0};
    return k_check(k, y.dtype == K_F32 && x.dtype == K_F32, op, "tensors must be f32", y, x,
                   none) &&
           k_check(k, k_same_shape(y, x), op, "shapes differ", y, x, none);
}

void cpu_activate(k_ctx *k, k_tensor y, k_tensor x, int act)
{
    if (!floats_hold(k, "activate", y, x) ||
        !k_check(k, act >= K_IDENTITY && act < K_GEGLU, "activate", "unknown activation", y, x,
                 (k_tensor){0}) ||
        k->planning)
        return;
    const cpu_device *d = cpu_of(k);
    int64_t rows = k_rows(x);
#pragma omp parallel for schedule(static) num_threads(cpu_threads(k, rows *y.c))
    for (int64_t r = 0; r < rows; r++)
        d->simd->activate(cpu_row(y, r), cpu_row(x, r), x.c, act);
}

void cpu_add(k_ctx *k, k_tensor y, k_tensor x, k_tensor z)
{
    int64_t rows = k_rows(x), per_image = (int64_t)x.h * x.w;
    int64_t every = k_same_shape(x, z) ? 1 : k_rows(z) == x.n && z.n == x.n ? per_image : rows;
    if (!floats_hold(k, "add", y, x) ||
        !k_check(k, z.dtype == K_F32 && z.c == x.c && (every < rows || rows == 1 || k_rows(z) == 1),
                 "add", "z must have x's shape, one row for each image, or one row", y, x, z) ||
        k->planning)
        return;
    const cpu_device *d = cpu_of(k);
#pragma omp parallel for schedule(static) num_threads(cpu_threads(k, rows *y.c))
    for (int64_t r = 0; r < rows; r++)
        d->simd->add(cpu_row(y, r), cpu_row(x, r), cpu_row(z, r / every), x.c);
}

void cpu_soft_clamp(k_ctx *k, k_tensor y, k_tensor x, float limit)
{
    if (!floats_hold(k, "soft_clamp", y, x) || k->planning)
        return;
    const cpu_device *d = cpu_of(k);
    int64_t rows = k_rows(x);
#pragma omp parallel for schedule(static) num_threads(cpu_threads(k, rows *y.c))
    for (int64_t r = 0; r < rows; r++)
        d->simd->soft_clamp(cpu_row(y, r), cpu_row(x, r), x.c, limit);
}

void cpu_mix(k_ctx *k, k_tensor y, k_tensor coef, k_tensor x0, k_tensor x1, k_tensor x2)
{
    if (!floats_hold(k, "mix", y, x0) ||
        !k_check(k, coef.dtype == K_F32 && coef.c == 3 && k_rows(coef) == y.n, "mix",
                 "coef must be f32 [n, 1, 1, 3]", y, coef, (k_tensor){0}) ||
        (x1.dtype && !floats_hold(k, "mix", y, x1)) ||
        (x2.dtype && !floats_hold(k, "mix", y, x2)) || k->planning)
        return;
    const cpu_device *d = cpu_of(k);
    int64_t rows = k_rows(y), per_image = (int64_t)y.h * y.w;
#pragma omp parallel for schedule(static) num_threads(cpu_threads(k, rows *y.c))
    for (int64_t r = 0; r < rows; r++)
        d->simd->mix(cpu_row(y, r), cpu_row(coef, r / per_image), cpu_row(x0, r),
                     x1.dtype ? cpu_row(x1, r) : NULL, x2.dtype ? cpu_row(x2, r) : NULL, y.c);
}

void cpu_resize_nearest(k_ctx *k, k_tensor y, k_tensor x)
{
    if (!k_check(k, y.dtype == K_F32 && x.dtype == K_F32, "resize_nearest", "tensors must be f32",
                 y, x, (k_tensor){0}) ||
        !k_check(k, y.n == x.n && y.c == x.c, "resize_nearest", "images or channels differ", y, x,
                 (k_tensor){0}) ||
        k->planning)
        return;
    int64_t rows = k_rows(y);
#pragma omp parallel for schedule(static) num_threads(cpu_threads(k, rows *y.c))
    for (int64_t r = 0; r < rows; r++) {
        int64_t image = r / ((int64_t)y.h * y.w), at = r % ((int64_t)y.h * y.w);
        int64_t sy = at / y.w * x.h / y.h, sx = at % y.w * x.w / y.w;
        memcpy(cpu_row(y, r), cpu_row(x, (image * x.h + sy) * x.w + sx), 4 * (size_t)x.c);
    }
}
