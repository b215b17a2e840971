/* linear.c - y = act(x w^T + bias + residual): arguments checked, then the matrix product. */
#include "cpu.h"

void cpu_linear(k_ctx *k, k_tensor y, k_tensor x, const k_weight *w, const k_linear *o)
{
    static const k_linear plain = {0};
    if (!o)
        o = &plain;
    const k_weight_desc *d = &w->desc;
    int columns = o->act == K_GEGLU ? d->out / 2 : d->out;
    if (!k_check(k,
                 d->kh == 1 && d->kw == 1 && x.c == d->in && y.c == columns &&
                     (o->act != K_GEGLU || d->out % 2 == 0),
                 "linear", "channels do not match the weight", y, x, o->residual) ||
        !k_check(k, k_rows(x) == k_rows(y), "linear", "rows differ", y, x, o->residual) ||
        !k_check(k, x.dtype == K_F32 && y.dtype == K_F32, "linear", "tensors must be f32", y, x,
                 o->residual) ||
        !k_check(k,
                 !o->residual.dtype || (o->residual.c == y.c && k_rows(o->residual) == k_rows(y)),
                 "linear", "the residual's shape is not y's", y, x, o->residual))
        return;
    int64_t rows = k_rows(x);
    cpu_product p = {
        .op = "linear",
        .a = {.x = x.data,
              .ld = x.ld,
              .h = 1,
              .w = 1,
              .c = x.c,
              .oh = 1,
              .ow = 1,
              .k = 1,
              .stride = 1},
        .w = w,
        .rows = rows,
        .y = y,
        .residual = o->residual,
        .act = o->act,
    };
    if (cpu_of(k)->library)
        cpu_library(k, &p);
    else
        cpu_gemm(k, &p);
}
