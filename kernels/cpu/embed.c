/* embed.c - token and timestep embeddings: tables are read in their file's type. */
#include "cpu.h"

#include <math.h>

static void row_of(const cpu_device *d, const k_weight *table, int64_t row, float *to)
{
    const k_weight_desc *w = &table->desc;
    int part = w->out / w->parts;
    const k_array *a = &w->weight[row / part];
    d->simd->widen(to, (const char *)a->data + (size_t)(row % part * w->in) * k_size(a->dtype),
                   a->dtype, w->in);
}

void cpu_embed(k_ctx *k, k_tensor y, k_tensor ids, const k_weight *tokens,
               const k_weight *positions)
{
    const cpu_device *d = cpu_of(k);
    int t = y.h * y.w, width = y.c;
    int64_t rows = k_rows(y);
    if (!k_check(k, y.dtype == K_F32 && ids.dtype == K_I32 && ids.c == 1 && k_rows(ids) == rows,
                 "embed", "ids must be i32 [n, 1, t, 1] and y f32 [n, 1, t, c]", y, ids,
                 (k_tensor){0}) ||
        !k_check(
            k, tokens->desc.in == width && positions->desc.in == width && positions->desc.out >= t,
            "embed", "the tables do not fit y", y, ids, (k_tensor){0}))
        return;
    float *position = cpu_scratch(k, "embed", 4 * (size_t)width);
    if (k->planning || k->status)
        return;
    for (int64_t r = 0; r < rows; r++) {
        int32_t id = ((const int32_t *)ids.data)[r * ids.ld];
        if (id < 0 || id >= tokens->desc.out) {
            k_fail(k, "embed: token %d of row %d is not in the table of %d tokens.", (int)id,
                   (int)r, (int)tokens->desc.out);
            return;
        }
        row_of(d, tokens, id, cpu_row(y, r));
        row_of(d, positions, r % t, position);
        d->simd->add(cpu_row(y, r), cpu_row(y, r), position, width);
    }
}

void cpu_sinusoid(k_ctx *k, k_tensor y, k_tensor t, int sin_first, float shift)
{
    if (!k_check(k, y.dtype == K_F32 && t.dtype == K_F32, "sinusoid", "tensors must be f32", y, t,
                 (k_tensor){0}) ||
        !k_check(k, y.c % 2 == 0 && k_rows(y) == k_rows(t), "sinusoid",
                 "y must have even channels and a row for each t", y, t, (k_tensor){0}) ||
        k->planning)
        return;
    int half = y.c / 2;
    for (int64_t r = 0; r < k_rows(y); r++)
        for (int i = 0; i < half; i++) {
            double f = exp(-log(10000.0) * i / (half - (double)shift));
            double angle = (double)cpu_row(t, r)[0] * f;
            cpu_row(y, r)[sin_first ? i : half + i] = (float)sin(angle);
            cpu_row(y, r)[sin_first ? half + i : i] = (float)cos(angle);
        }
}
