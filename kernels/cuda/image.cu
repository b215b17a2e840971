/* image.cu - the host's pixels to tensors and back.
 *
 * Resizing is torch's interpolate(mode="bilinear", antialias=True, align_corners=False): a
 * triangle of two source pixels' width, widened by the ratio when shrinking. It is one kernel
 * without scratch, whatever the source: each pixel sums its window, alone or, where windows are
 * wide, with a warp. All windows together read a source pixel four times, which costs less than
 * its way over the bus; so a pass for columns and one for rows would only cost memory.
 */
#include "launch.cuh"

enum { THREADS = 256, WARP = 32, WIDE = 16 /* columns of a window that is worth a warp */ };

static int image_holds(k_ctx *k, const char *op, const k_image *i, k_tensor t, int channels)
{
    k_tensor picture = {}, none = {};
    picture.n = i->t;
    picture.h = i->h;
    picture.w = i->w;
    picture.c = i->c;
    return k_check(k, i->dtype == K_U8 || i->dtype == K_F16 || i->dtype == K_F32, op,
                   "pixels must be u8, f16 or f32 (x is the image)", t, picture, none) &&
           k_check(k, i->c == 1 || i->c == 3 || i->c == 4, op,
                   "pixels must have 1, 3 or 4 channels (x is the image)", t, picture, none) &&
           k_check(k, k_is_float(t.dtype) && t.c == channels && t.n == i->t && i->h > 0 && i->w > 0,
                   op,
                   channels == 1 ? "the tensor must be floats [t, h, w, 1] (x is the image)"
                                 : "the tensor must be floats [t, h, w, 3] (x is the image)",
                   t, picture, none) &&
           k_check(k, k_rows(t) < INT32_MAX / 2, op, "the tensor is too large", t, picture, none);
}

/* Images whose rows lie evenly move at once, others one by one. */
static int moves(const k_image *i)
{
    return i->t == 1 || i->stride_t == i->h * i->stride_h ? 1 : i->t;
}

/* ---- device side ------------------------------------------------------------------------------
 */

/* Rounded twice, as on the CPU. */
DEVICE float times_plus(float a, float b, float c)
{
    return __fadd_rn(__fmul_rn(a, b), c);
}

DEVICE float luma(const float (&rgb)[3])
{
    return times_plus(0.114f, rgb[2], times_plus(0.587f, rgb[1], __fmul_rn(0.299f, rgb[0])));
}

DEVICE float to_float(uint8_t x)
{
    return (float)x;
}

/* Taps of one output position along one axis: those within the triangle. What is found in ints is
 * exact: places are whole numbers of 1 / (2 out) of a source pixel. */
typedef struct taps {
    int first, count;
    float place, step; /* of the first one's middle, from the position, and on to the next one's, in
                          the triangle's reach */
} taps;

DEVICE taps taps_of(int in, int out, int i)
{
    taps t;
    int middle = in * (2 * i + 1), reach = 2 * max(in, out), low = middle - reach - out;
    t.first = low < 0 ? 0 : low / (2 * out) + 1;
    t.count = min(in, (middle + reach + out - 1) / (2 * out)) - t.first;
    t.place = t.count == 1 ? 0.0f : (float)((2 * t.first + 1) * out - middle) / (float)reach;
    t.step = (float)(2 * out) / (float)reach;
    return t;
}

/* Weights are divided by their sum in the end; a single one is 1. */
DEVICE float weight(const taps &t, int j)
{
    return 1.0f - fabsf(fmaf((float)j, t.step, t.place));
}

/* ---- in ---------------------------------------------------------------------------------------
 */

struct resize_args {
    void *y;
    const void *pixels; /* dense */
    int32_t real, yh, yw, ld;
    int32_t h, w, c;
    int32_t first, step; /* channels that become y's: first, first + step, first + 2 step */
    int32_t channels;    /* of y */
    int32_t grey;        /* y is their luma */
    int32_t count;       /* of y's pixels */
    float scale, bias;
};

/* LANES lanes make a pixel. */
template <class P, int LANES> static __global__ void resize(const __grid_constant__ resize_args a)
{
    grid_wait();
    grid_release();
    int pixel = blockIdx.x * (THREADS / LANES) + threadIdx.x / LANES, lane = threadIdx.x % LANES;
    if (pixel >= a.count)
        return;
    int line = pixel / a.yw;
    taps u = taps_of(a.w, a.yw, pixel % a.yw), v = taps_of(a.h, a.yh, line % a.yh);
    int64_t top = (int64_t)(line / a.yh) * a.h + v.first;
    const P *from = (const P *)a.pixels + (top * a.w + u.first) * a.c + a.first;
    float sum[4] = {0, 0, 0, 0}; /* the last is that of the weights */
    for (int j = 0; j < v.count; j++, from += a.w * a.c) {
        float row[4] = {0, 0, 0, 0};
        for (int i = lane; i < u.count; i += LANES) {
            float w = weight(u, i);
            for (int e = 0; e < 3; e++)
                row[e] += w * to_float(from[i * a.c + e * a.step]);
            row[3] += w;
        }
        for (int e = 0; e < 4; e++)
            sum[e] += weight(v, j) * row[e];
    }
    for (int e = 0; e < 4; e++)
        for (int by = LANES / 2; by; by /= 2)
            sum[e] += __shfl_xor_sync(~0u, sum[e], by);
    float rgb[3], all = sum[3] * (sizeof(P) == 1 ? 255.0f : 1.0f);
    for (int e = 0; e < 3; e++)
        rgb[e] = sum[e] / all;
    if (a.grey)
        rgb[0] = luma(rgb);
    for (int e = 0; e < 3; e++)
        if (lane == 0 && e < a.channels)
            store_as(a.y, a.real, (int64_t)pixel * a.ld + e, times_plus(a.scale, rgb[e], a.bias));
}

template <class P> static void launch_resize(k_ctx *k, const resize_args &a)
{
    if (2 * a.w > WIDE * a.yw)
        launch(k, resize<P, WARP>, dim3(blocks_of((int64_t)a.count * WARP, THREADS)), THREADS, 0,
               a);
    else
        launch(k, resize<P, 1>, dim3(blocks_of(a.count, THREADS)), THREADS, 0, a);
}

static void resize_from(k_ctx *k, k_tensor y, const k_image *src, const resize_args *how)
{
    int parts = moves(src), images = src->t / parts;
    size_t line = k_size(src->dtype) * (size_t)src->w * (size_t)src->c;
    resize_args a = *how;
    a.real = y.dtype;
    a.yh = y.h;
    a.yw = y.w;
    a.ld = y.ld;
    a.channels = y.c;
    a.h = src->h;
    a.w = src->w;
    a.c = src->c;
    a.count = images * y.h * y.w;
    for (int i = 0; i < parts; i++) {
        a.y = (char *)y.data + k_offset(y, (int64_t)i * a.count, 0);
        a.pixels = cuda_upload(k, (const char *)src->data + i * src->stride_t,
                               (size_t)src->stride_h, line, (int64_t)images * src->h);
        if (!a.pixels)
            return;
        if (src->dtype == K_U8)
            launch_resize<uint8_t>(k, a);
        else if (src->dtype == K_F16)
            launch_resize<__half>(k, a);
        else
            launch_resize<float>(k, a);
    }
}

/* Places along an axis must be ints. */
static int ratio_holds(k_ctx *k, const char *op, const k_image *src, k_tensor y)
{
    k_tensor none = {};
    return k_check(k,
                   (int64_t)src->w * y.w < INT32_MAX / 4 && (int64_t)src->h * y.h < INT32_MAX / 4,
                   op, "the image is too large", y, y, none);
}

void cuda_image_in(k_ctx *k, k_tensor y, const k_image *src, float scale, float bias)
{
    if (!image_holds(k, "image_in", src, y, 3) || !ratio_holds(k, "image_in", src, y) ||
        k->planning)
        return;
    resize_args a = zeroed<resize_args>();
    a.step = src->c > 1;
    a.scale = scale;
    a.bias = bias;
    resize_from(k, y, src, &a);
}

void cuda_mask_in(k_ctx *k, k_tensor y, const k_image *src)
{
    if (!image_holds(k, "mask_in", src, y, 1) || !ratio_holds(k, "mask_in", src, y) || k->planning)
        return;
    resize_args a = zeroed<resize_args>();
    a.first = src->c == 4 ? 3 : 0;
    a.step = a.grey = src->c == 3;
    a.scale = 1;
    resize_from(k, y, src, &a);
}

/* ---- out --------------------------------------------------------------------------------------
 */

struct out_args {
    void *to; /* dense */
    const void *x;
    int32_t real, ld, dtype, c;
    int32_t count; /* of pixels */
    float scale, bias;
};

/* A value of 0..1 as element i. */
DEVICE void put_value(void *to, int dtype, int64_t i, float v)
{
    if (dtype == K_U8)
        ((uint8_t *)to)[i] = (uint8_t)__float2int_rn(__fmul_rn(v, 255.0f));
    else
        store_as(to, dtype, i, v);
}

static __global__ void pixels_out(const __grid_constant__ out_args a)
{
    grid_wait();
    grid_release();
    int64_t pixel = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (pixel >= a.count)
        return;
    float rgb[3];
    for (int e = 0; e < 3; e++) {
        float v = times_plus(a.scale, load_as(a.x, a.real, pixel * a.ld + e), a.bias);
        v = v > 0 ? v : 0; /* NaN as well */
        rgb[e] = v < 1 ? v : 1;
    }
    if (a.c == 1) {
        put_value(a.to, a.dtype, pixel, fminf(luma(rgb), 1.0f));
        return;
    }
    for (int e = 0; e < 3; e++)
        put_value(a.to, a.dtype, pixel * a.c + e, rgb[e]);
    if (a.c == 4)
        put_value(a.to, a.dtype, pixel * 4 + 3, 1.0f);
}

void cuda_image_out(k_ctx *k, const k_image *dst, k_tensor x, float scale, float bias)
{
    k_tensor none = {};
    if (!image_holds(k, "image_out", dst, x, 3) ||
        !k_check(k, dst->h == x.h && dst->w == x.w, "image_out",
                 "the image and the tensor differ in height or width", x, x, none) ||
        k->planning)
        return;
    int parts = moves(dst);
    int64_t lines = (int64_t)(dst->t / parts) * dst->h;
    size_t line = k_size(dst->dtype) * (size_t)dst->w * (size_t)dst->c;
    out_args a = zeroed<out_args>();
    a.real = x.dtype;
    a.ld = x.ld;
    a.dtype = dst->dtype;
    a.c = dst->c;
    a.count = (int32_t)(lines * dst->w);
    a.scale = scale;
    a.bias = bias;
    for (int i = 0; i < parts; i++) {
        a.x = (const char *)x.data + k_offset(x, (int64_t)i * a.count, 0);
        a.to = cuda_outbox(k, line * (size_t)lines);
        if (!a.to)
            return;
        launch(k, pixels_out, dim3(blocks_of(a.count, THREADS)), THREADS, 0, a);
        cuda_download(k, (char *)dst->data + i * dst->stride_t, (size_t)dst->stride_h, a.to, line,
                      lines);
    }
}
