/* linear.c - y = act(x w^T + bias + residual): arguments checked, then the matrix product. */
#include "cuda.h"

void cuda_linear(k_ctx *k, k_tensor y, k_tensor x, const k_weight *w, const k_linear *o)
{
    static const k_linear plain = {0};
    if (!o)
        o = &plain;
    const k_weight_desc *d = &w->desc;
    k_tensor z = o->residual;
    int columns = o->act == K_GEGLU ? d->out / 2 : d->out;
    if (!k_check(k,
                 d->kh == 1 && d->kw == 1 && x.c == d->in && y.c == columns &&
                     (o->act != K_GEGLU || d->out % 2 == 0),
                 "linear", "channels do not match the weight", y, x, z) ||
        !k_check(k, k_rows(x) == k_rows(y), "linear", "rows differ", y, x, z) ||
        !k_check(k, k_is_float(x.dtype) && k_is_float(y.dtype) && (!z.dtype || k_is_float(z.dtype)),
                 "linear", "tensors must be floats", y, x, z) ||
        !k_check(k, !z.dtype || (z.c == y.c && k_rows(z) == k_rows(y)), "linear",
                 "the residual's shape is not y's", y, x, z))
        return;
    cuda_product p = {
        .op = "linear",
        .x = x,
        .y = y,
        .residual = z,
        .w = w,
        .side = 1,
        .stride = 1,
        .act = o->act,
    };
    cuda_gemm(k, &p);
}
