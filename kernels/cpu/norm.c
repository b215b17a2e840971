/* norm.c - group norm and layer norm. Statistics do not depend on the number of threads.
 *
 * Sums are taken of x minus the first row of the image, so a mean far from zero does not eat
 * the variance; short runs of rows are added in fp32, everything else in fp64.
 */
#include "cpu.h"

#include <math.h>
#include <string.h>

enum { SLICES = 16 }; /* of an image's rows; fixed, so that the order of additions is */

/* Per image: sums and squares [SLICES][2][c] as double, then means and scales [2][c] as float. */
static size_t image_bytes(int c)
{
    return (size_t)c * (SLICES * 2 * sizeof(double) + 2 * sizeof(float)) + 64;
}

static void slice_sums(const cpu_device *d, k_tensor x, int64_t first, int64_t r0, int64_t r1,
                       double *sums)
{
    const float *shift = cpu_row(x, first);
    memset(sums, 0, (size_t)x.c * 2 * sizeof *sums);
    for (int64_t r = r0; r < r1; r += SIMD_SUM_ROWS) {
        int rows = r1 - r < SIMD_SUM_ROWS ? (int)(r1 - r) : SIMD_SUM_ROWS;
        d->simd->sums(cpu_row(x, first + r), x.ld, rows, shift, x.c, sums, sums + x.c);
    }
}

/* All slices of one image to a mean and a scale per channel. */
static void factors(k_tensor x, int64_t first, int groups, float eps, const double *sums,
                    const float *gamma, float *means, float *scale)
{
    const float *base = cpu_row(x, first);
    int64_t rows = (int64_t)x.h * x.w;
    int each = x.c / groups;
    for (int g = 0; g < groups; g++) {
        double mean = 0, square = 0, count = (double)rows * each;
        double origin = base[g * each];
        for (int c = g * each; c < (g + 1) * each; c++) {
            double s = 0, q = 0, off = base[c] - origin;
            for (int i = 0; i < SLICES; i++) {
                s += sums[i * 2 * x.c + c];
                q += sums[i * 2 * x.c + x.c + c];
            }
            mean += s + (double)rows * off;
            square += q + 2 * off * s + (double)rows * off * off;
        }
        mean /= count;
        double variance = square / count - mean * mean;
        double factor = 1.0 / sqrt((variance > 0 ? variance : 0) + (double)eps);
        for (int c = g * each; c < (g + 1) * each; c++) {
            scale[c] = (float)(factor * gamma[c]);
            means[c] = (float)(mean + origin);
        }
    }
}

/* An element costs a few times what it does in a sum, so fewer are worth waking a thread for. */
static int threads_for(const k_ctx *k, k_tensor x)
{
    return cpu_threads(k, 2 * k_rows(x) * x.c);
}

static int vector_holds(k_ctx *k, const char *op, k_tensor y, k_tensor x, const k_weight *w)
{
    k_tensor none = {0};
    return k_check(k, k_same_shape(y, x), op, "shapes differ", y, x, none) &&
           k_check(k, y.dtype == K_F32 && x.dtype == K_F32, op, "tensors must be f32", y, x,
                   none) &&
           k_check(k,
                   w->desc.out == x.c && w->desc.in * w->desc.kh * w->desc.kw == 1 &&
                       w->desc.bias[0].data,
                   op, "the weight must be a vector of the channels, with a bias", y, x, none);
}

void cpu_group_norm(k_ctx *k, k_tensor y, k_tensor x, const k_weight *w, int groups, float eps,
                    int act)
{
    if (!vector_holds(k, "group_norm", y, x, w) ||
        !k_check(k, groups > 0 && x.c % groups == 0, "group_norm",
                 "groups do not divide the channels", y, x, (k_tensor){0}))
        return;
    const cpu_device *d = cpu_of(k);
    const cpu_form *f = cpu_form_of(k, "group_norm", w, CPU_VECTOR);
    size_t each = (image_bytes(x.c) + 63) / 64 * 64;
    char *scratch = cpu_scratch(k, "group_norm", each * (size_t)x.n);
    if (k->planning || k->status)
        return;
    int64_t rows = (int64_t)x.h * x.w, total = k_rows(x);
    size_t sums_bytes = (size_t)x.c * SLICES * 2 * sizeof(double);
#pragma omp parallel num_threads(threads_for(k, x))
    {
#pragma omp for schedule(static)
        for (int i = 0; i < x.n * SLICES; i++) {
            int s = i % SLICES;
            double *sums = (double *)(scratch + each * (size_t)(i / SLICES)) + s * 2 * x.c;
            slice_sums(d, x, i / SLICES * rows, rows * s / SLICES, rows * (s + 1) / SLICES, sums);
        }
#pragma omp for schedule(static)
        for (int n = 0; n < x.n; n++) {
            char *own = scratch + each * (size_t)n;
            float *means = (float *)(own + sums_bytes);
            factors(x, n * rows, groups, eps, (double *)own, f->data, means, means + x.c);
        }
#pragma omp for schedule(static)
        for (int64_t r = 0; r < total; r++) {
            const float *means = (float *)(scratch + each * (size_t)(r / rows) + sums_bytes);
            d->simd->normalise(cpu_row(y, r), cpu_row(x, r), means, means + x.c, f->bias, x.c, act);
        }
    }
}

void cpu_layer_norm(k_ctx *k, k_tensor y, k_tensor x, const k_weight *w, float eps)
{
    if (!vector_holds(k, "layer_norm", y, x, w))
        return;
    const cpu_device *d = cpu_of(k);
    const cpu_form *f = cpu_form_of(k, "layer_norm", w, CPU_VECTOR);
    if (k->planning || k->status)
        return;
    int64_t rows = k_rows(x);
#pragma omp parallel for schedule(static) num_threads(threads_for(k, x))
    for (int64_t r = 0; r < rows; r++)
        d->simd->layer_norm(cpu_row(y, r), cpu_row(x, r), f->data, f->bias, x.c, eps);
}
