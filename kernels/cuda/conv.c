/* conv.c - convolution: arguments checked, then the matrix product. */
#include "cuda.h"

static int shapes_hold(k_ctx *k, k_tensor y, k_tensor x, const k_weight_desc *w, const k_conv *o)
{
    int stride = o->stride ? o->stride : 1, h = o->up ? 2 * x.h : x.h, wide = o->up ? 2 * x.w : x.w;
    k_tensor z = o->residual;
    return k_check(k, (w->kh == 1 || w->kh == 3) && w->kh == w->kw, "conv",
                   "filters must be 1 x 1 or 3 x 3", y, x, z) &&
           k_check(k, x.c == w->in && y.c == w->out, "conv", "channels do not match the weight", y,
                   x, z) &&
           k_check(k,
                   k_is_float(x.dtype) && k_is_float(y.dtype) &&
                       (!z.dtype || k_is_float(z.dtype)) &&
                       (!o->row.dtype || k_is_float(o->row.dtype)),
                   "conv", "tensors must be floats", y, x, z) &&
           k_check(k, stride == 1 || stride == 2, "conv", "the stride must be 1 or 2", y, x, z) &&
           k_check(k,
                   y.n == x.n && y.h == (h + stride - 1) / stride &&
                       y.w == (wide + stride - 1) / stride,
                   "conv", "y has the wrong height or width", y, x, z) &&
           k_check(k, !z.dtype || k_same_shape(z, y), "conv", "the residual's shape is not y's", y,
                   x, z) &&
           k_check(k, !o->row.dtype || (o->row.c == y.c && k_rows(o->row) == y.n), "conv",
                   "row must have one row for each image", y, x, o->row) &&
           k_check(k, o->act != K_GEGLU, "conv", "only linear has K_GEGLU", y, x, z);
}

void cuda_conv(k_ctx *k, k_tensor y, k_tensor x, const k_weight *w, const k_conv *o)
{
    static const k_conv plain = {0};
    if (!o)
        o = &plain;
    if (!shapes_hold(k, y, x, &w->desc, o))
        return;
    cuda_product p = {
        .op = "conv",
        .x = x,
        .y = y,
        .row = o->row,
        .residual = o->residual,
        .w = w,
        .side = w->desc.kh,
        .stride = o->stride ? o->stride : 1,
        .pad = o->pad_end_only ? 0 : w->desc.kh / 2,
        .up = o->up != 0,
        .act = o->act,
    };
    cuda_gemm(k, &p);
}
