/* conv.c - convolution: arguments checked, then the way that suits its shape: Winograd's algorithm,
 * a product in place, or a product of packed rows. */
#include "cpu.h"

enum { FEW = 1 << 15 }; /* weights of a tap that make a small convolution */

/* Outputs a side of Winograd's tile; 0: the plain product. Winograd saves multiplications and
 * costs memory: weights become floats and grow by (m + 2)^2 / 9, which the smallest pictures do not
 * earn back unless there are few of them (SPEED.md). */
static int winograd_tile(const cpu_device *d, const cpu_product *p)
{
    int64_t pixels = (int64_t)p->a.oh * p->a.ow;
    if (d->direct || cpu_stays(d, &p->w->desc) || p->a.k != 3 || p->a.stride != 1 || p->a.c < 16)
        return 0;
    if (pixels >= 1024 || (pixels >= 256 && p->a.c * p->y.c <= FEW))
        return 4;
    return pixels >= 64 ? 2 : 0;
}

static int shapes_hold(k_ctx *k, k_tensor y, k_tensor x, const k_weight_desc *w, const k_conv *o)
{
    int stride = o->stride ? o->stride : 1, h = o->up ? 2 * x.h : x.h, wide = o->up ? 2 * x.w : x.w;
    k_tensor z = o->residual;
    return k_check(k, (w->kh == 1 || w->kh == 3) && w->kh == w->kw, "conv",
                   "filters must be 1 x 1 or 3 x 3", y, x, z) &&
           k_check(k, x.c == w->in && y.c == w->out, "conv", "channels do not match the weight", y,
                   x, z) &&
           k_check(k, x.dtype == K_F32 && y.dtype == K_F32, "conv", "tensors must be f32", y, x,
                   z) &&
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

void cpu_conv(k_ctx *k, k_tensor y, k_tensor x, const k_weight *w, const k_conv *o)
{
    static const k_conv plain = {0};
    if (!o)
        o = &plain;
    if (!shapes_hold(k, y, x, &w->desc, o))
        return;
    cpu_product p = {
        .op = "conv",
        .a = {.x = x.data,
              .ld = x.ld,
              .h = x.h,
              .w = x.w,
              .c = x.c,
              .oh = y.h,
              .ow = y.w,
              .k = w->desc.kh,
              .stride = o->stride ? o->stride : 1,
              .pad = o->pad_end_only ? 0 : w->desc.kh / 2,
              .up = o->up != 0},
        .w = w,
        .rows = k_rows(y),
        .y = y,
        .row = o->row,
        .residual = o->residual,
        .act = o->act,
    };
    const cpu_device *d = cpu_of(k);
    int direct = !d->library && cpu_direct_fits(d, &p);
    int m = direct && y.c <= SIMD_FEW ? 0 : winograd_tile(d, &p);
    if (m)
        cpu_winograd(k, &p, m);
    else if (d->library)
        cpu_library(k, &p);
    else if (direct)
        cpu_direct(k, &p);
    else
        cpu_gemm(k, &p);
}
