/* kernels.h - every operation a network may use, once, with its mathematics.
 *
 * A backend is a table of these (struct k_ops). cpu/ fills one; a backend for another
 * device fills the same table from files of the same names, so the compiler checks that
 * the signatures agree.
 *
 * Layout   Tensors are [n, h, w, c], row-major, NHWC. A "row" is one (n, y, x); rows lie `ld`
 *          elements apart (ld == c when dense), so a slice of channels is a view. A sequence
 *          of t tokens is [n, 1, t, c], and an image is the sequence of its h*w pixels.
 * Types    Activations inside a network are of type k->real: K_F32 on the CPU, K_F16 on a GPU.
 *          Latents, noise, coefficients and pictures are K_F32 everywhere, token ids K_I32. On a
 *          GPU, x, y and residual of a network's op may be of either type. Weights may be stored
 *          in any float type; sums, statistics and softmax are fp32.
 * Errors   Sticky: after the first failure every op on that context returns at once, so a
 *          network reads as straight-line mathematics. Ask k->status once per frame.
 * Memory   Ops never allocate. A network first runs once between k_plan_begin and k_plan_end:
 *          the same calls, in which ops touch no data but build what they need for the shapes
 *          they see (primitives, prepared weights, scratch), and the arena learns its size.
 *          After that, running the same shapes allocates nothing.
 * Time     On a GPU an op is only written down; k_get, image_out and whatever else hands data to
 *          the caller run what was written down and wait for it. A list of ops that comes a second
 *          time, number for number, becomes one CUDA graph, so what changes from frame to frame
 *          belongs in tensors, not in the arguments of ops.
 * Threads  k_device and k_weight functions: [load]. Everything that takes a k_ctx: one thread at
 *          a time per context; two contexts of one device may run in parallel.
 */
#ifndef KERNELS_H
#define KERNELS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum k_dtype { K_F32 = 1, K_F16, K_BF16, K_U8, K_I32 };

enum k_act {
    K_IDENTITY = 0,
    K_RELU,
    K_SILU,       /* x * sigmoid(x) */
    K_GELU,       /* x * (1 + erf(x / sqrt 2)) / 2 */
    K_QUICK_GELU, /* x * sigmoid(1.702 x) */
    K_GEGLU,      /* linear only: columns [value | gate] become value * gelu(gate) */
};

enum k_memory {
    K_MEMORY_NORMAL = 0, /* fastest: weights are kept in the form each op likes best */
    K_MEMORY_LOW,        /* smallest: weights stay in their file's type, widened as they are used */
};

enum { K_WHY = 192 }; /* room for one sentence */

typedef struct k_device k_device; /* one processor: its primitives and its prepared weights */
typedef struct k_weight k_weight; /* one weight matrix, filter or table, with its bias */

typedef struct k_tensor {
    void *data;    /* borrowed: of the arena, of k_keep, or of the caller */
    int32_t dtype; /* k_dtype; 0 is "no tensor" where one is optional */
    int32_t n, h, w, c;
    int32_t ld; /* elements from one row to the next, >= c */
} k_tensor;

typedef struct k_arena {
    char *base; /* owned; NULL while planning */
    size_t size, used, peak;
} k_arena;

typedef struct k_ops k_ops;

typedef struct k_ctx {
    const k_ops *ops;  /* borrowed, static */
    k_device *device;  /* borrowed until k_close */
    int status;        /* 0, or -1 after the first failure */
    int planning;      /* nonzero between k_plan_begin and k_plan_end */
    int real;          /* k_dtype of activations inside networks */
    int wide;          /* the same for networks that leave fp16's range (SDXL's autoencoder) */
    char where[K_WHY]; /* op, shapes and cause of that failure */
    k_arena arena;     /* activations of one frame */
    void *impl;        /* owned by the backend */
} k_ctx;

/* ---- devices and contexts ------------------------------------------------------------- */

typedef struct k_device_options {
    int memory;  /* k_memory */
    int threads; /* 0: OpenMP decides (OMP_NUM_THREADS, or all processors) */
} k_device_options;

/* Open a processor by name: "cpu", "cuda" (the first GPU) or "cuda:N". NULL on failure, with one
 * sentence in why. */
k_device *k_device_open(const char *name, const k_device_options *options, char why[K_WHY]);
/* The name of the fastest processor there is, static; where it is not a GPU, why says why. */
const char *k_device_best(char why[K_WHY]);
/* "cpu", or "cuda:0 (NVIDIA H200)"; lives as long as the device. */
const char *k_device_name(const k_device *device);
/* Call line() with a line of text for each shape that had several ways to be computed: which one
 * was measured to be the fastest. No context of the device may plan meanwhile. */
void k_device_plan(const k_device *device, void (*line)(void *ctx, const char *text), void *ctx);
/* All weights and contexts of the device must be gone. */
void k_device_close(k_device *device);
/* Bytes of prepared weights and primitives that the device holds now. */
size_t k_device_bytes(const k_device *device);

k_ctx *k_open(k_device *device, char why[K_WHY]);
void k_close(k_ctx *k);

/* Plan: run the network between the two. k_plan_end sizes the arena (it grows, never shrinks)
 * and returns k->status. Views of the arena from before are void.
 * Several networks may be planned one after the other. A plan speaks for each weight that it
 * touches: what earlier plans of this context prepared of that weight, and this one does not
 * ask for, is given back. */
void k_plan_begin(k_ctx *k);
int k_plan_end(k_ctx *k);

/* A tensor of the frame arena, contents undefined. Rows longer than 64 bytes begin on a multiple
 * of 64, shorter ones are dense. */
k_tensor k_temp(k_ctx *k, int dtype, int n, int h, int w, int c);
/* Everything taken since the mark is given back. Frame start: k_release(k, 0). */
size_t k_mark(const k_ctx *k);
void k_release(k_ctx *k, size_t mark);

/* A zeroed tensor that lives until k_drop (or k_close). [load], or the frame before warm. */
k_tensor k_keep(k_ctx *k, int dtype, int n, int h, int w, int c);
void k_drop(k_ctx *k, k_tensor *t);

/* Host memory to tensor and back, dense on the host side, of the tensor's dtype. */
void k_put(k_ctx *k, k_tensor dst, const void *src);
void k_get(k_ctx *k, k_tensor src, void *dst);
/* The same for little, without a wait of its own: dst is filled when the next image_out or k_get of
 * this context returns. Nothing may write to src until then. */
void k_get_with(k_ctx *k, k_tensor src, void *dst);

/* Note the time at which the device reaches this place among the ops, under number i, and ask for
 * it, in ms of a clock of the device's own, after k_get or image_out. */
enum { K_STAMPS = 8 };
void k_stamp(k_ctx *k, int i);
double k_stamp_ms(const k_ctx *k, int i);

/* Record the first failure. Backends and networks both call it. */
__attribute__((format(printf, 2, 3))) void k_fail(k_ctx *k, const char *fmt, ...);

/* ---- weights ---------------------------------------------------------------------------- */

typedef struct k_array {
    const void *data; /* borrowed until k_weight_free: usually a mapped file */
    int32_t dtype;    /* K_F32, K_F16 or K_BF16 */
} k_array;

enum { K_MAX_PARTS = 3 };

/* A filter is [out, in, kh, kw] (a linear map has kh = kw = 1), a table [out, in], a vector [out].
 * Several parts stack along `out`: joined Q, K, V are one matrix of 3 parts. */
typedef struct k_weight_desc {
    int32_t out, in, kh, kw; /* out: of all parts together */
    int32_t parts;           /* 1..K_MAX_PARTS, of out/parts rows each */
    k_array weight[K_MAX_PARTS];
    k_array bias[K_MAX_PARTS]; /* data NULL: none, for all parts alike */
    /* 1: used once in a while (a text encoder), so it stays in its file's type and place, as all
     * weights do with K_MEMORY_LOW; a few percent slower. */
    int32_t rare;
} k_weight_desc;

/* Register a weight. Nothing is copied yet: planning prepares the form that each op needs. Where a
 * form has a narrower range than the file's type, finite numbers are held within it. */
k_weight *k_weight_new(k_device *device, const k_weight_desc *desc, char why[K_WHY]);
void k_weight_free(k_device *device, k_weight *weight);

/* A low-rank change of one part of a weight, as LoRA trains it:
 *     W' = W + scale * up x down                      (filters: as rows of in * kh * kw numbers)
 *     W' = m * (W + scale * up x down) / |W + ...|    with a magnitude m (DoRA), row by row
 * Several changes of a part add up: W' = W + sum of (W'_i - W). */
typedef struct k_delta {
    int32_t part; /* 0..parts-1 */
    int32_t rank;
    float scale;
    k_array up;        /* [out / parts, rank] */
    k_array down;      /* [rank, in, kh, kw] */
    k_array magnitude; /* [out / parts]; data NULL: none */
} k_delta;

/* Put these changes in force in place of those before; count 0 takes all away, and every prepared
 * form is then bit by bit what it was. They are computed in fp32 from the data that k_weight_new
 * was given, rounded once to its type (and held within its range), and written into every form that
 * the weight has; forms that are planned later follow. For weights of conv and linear alone. Arrays
 * are borrowed for the call: the factors are kept (in host memory) and, on the CPU, of a weight
 * that stays in its file's type, a changed copy of each changed part. On failure all stays as it
 * was, with one sentence in why. No context of the device may run or plan meanwhile; works on all
 * threads of the device. Source: Hu et al. 2021; Liu et al. 2024 (DoRA). [load] or [frame], between
 * frames */
int k_weight_delta(k_device *device, k_weight *weight, const k_delta *list, int count,
                   char why[K_WHY]);

/* ---- options of the larger ops ----------------------------------------------------------- */

typedef struct k_conv {
    int stride;        /* 0 or 1: 1; 2 */
    int pad_end_only;  /* pad only right and bottom (AutoencoderKL's downsampler) */
    int up;            /* the input is first doubled in height and width, nearest */
    int act;           /* k_act, applied last */
    k_tensor row;      /* optional [n, 1, 1, c_out], added to every pixel of image n (time) */
    k_tensor residual; /* optional, y's shape, added before act */
} k_conv;

typedef struct k_linear {
    int act;           /* k_act, applied last */
    k_tensor residual; /* optional, y's shape, added before act */
} k_linear;

typedef struct k_attention {
    int heads;
    int causal; /* query i sees keys 0..i */
} k_attention;

typedef struct k_affine {
    float scale, bias, low, high;
} k_affine;

enum { K_BLUR_MAX = 20 };

/* Pixels that the host owns: [t, h, w, c], c 1 (grey), 3 or 4 (alpha is ignored). */
typedef struct k_image {
    void *data;
    int32_t dtype; /* K_U8 (0..255), K_F16 or K_F32 (0..1) */
    int32_t t, h, w, c;
    int64_t stride_t, stride_h; /* bytes */
} k_image;

/* ---- the table ----------------------------------------------------------------------------- */

struct k_ops {
    const char *name; /* "cpu" */

    /* ---- conv ---- */
    /* y = act(conv(x, w) + bias + row + residual)
     * x [n, h, w, c_in]  w [c_out, c_in, kh, kw], kh = kw in {1, 3}, pad kh/2 on each side
     * y [n, oh, ow, c_out]; stride 2: oh = ceil(h / 2); up: oh = 2h */
    void (*conv)(k_ctx *k, k_tensor y, k_tensor x, const k_weight *w, const k_conv *o);

    /* ---- linear ---- */
    /* y = act(x w^T + bias + residual), per row;  x [.., c_in]  w [c_out, c_in]
     * y [.., c_out], or c_out / 2 with K_GEGLU */
    void (*linear)(k_ctx *k, k_tensor y, k_tensor x, const k_weight *w, const k_linear *o);

    /* ---- attention ---- */
    /* per image n and head: y = softmax(q k^T / sqrt d) v, d = c / heads
     * q, y [n, .., tq rows, c]   k, v [n or 1, .., tk rows, c]; any of them may be a slice.
     * Never more than a tile of scores is held. */
    void (*attention)(k_ctx *k, k_tensor y, k_tensor q, k_tensor key, k_tensor value,
                      const k_attention *o);

    /* ---- norm ---- */
    /* y = act((x - mean_g) * rsqrt(var_g + eps) * gamma + beta), per image and group of
     * channels;  c % groups == 0; w is a [c] vector with a bias */
    void (*group_norm)(k_ctx *k, k_tensor y, k_tensor x, const k_weight *w, int groups, float eps,
                       int act);
    /* the same per row over all c */
    void (*layer_norm)(k_ctx *k, k_tensor y, k_tensor x, const k_weight *w, float eps);

    /* ---- elementwise ---- */
    /* y = act(x) */
    void (*activate)(k_ctx *k, k_tensor y, k_tensor x, int act);
    /* y = x + z; z may have one row per image (h = w = 1) or one row in all */
    void (*add)(k_ctx *k, k_tensor y, k_tensor x, k_tensor z);
    /* y = limit * tanh(x / limit) */
    void (*soft_clamp)(k_ctx *k, k_tensor y, k_tensor x, float limit);
    /* y = coef[n][0] x0 + coef[n][1] x1 + coef[n][2] x2, per image; coef K_F32 [n, 1, 1, 3].
     * x1, x2 optional. Noising, x0 from epsilon or v, guidance and renoising are all of this
     * form; y may be any of the inputs. */
    void (*mix)(k_ctx *k, k_tensor y, k_tensor coef, k_tensor x0, k_tensor x1, k_tensor x2);
    /* y = x at y's height and width, nearest: source = floor(dst * in / out) */
    void (*resize_nearest)(k_ctx *k, k_tensor y, k_tensor x);

    /* ---- embed ---- */
    /* y[n, 0, i] = tokens[ids[n, 0, i]] + positions[i];  ids K_I32 [n, 1, t, 1] */
    void (*embed)(k_ctx *k, k_tensor y, k_tensor ids, const k_weight *tokens,
                  const k_weight *positions);
    /* y[n] = [cos(t_n f), sin(t_n f)] (or sin first), f_i = exp(-ln(10000) i / (c/2 - shift));
     * t K_F32 [n, 1, 1, 1]  y [n, 1, 1, c], c even. Source: diffusers get_timestep_embedding. */
    void (*sinusoid)(k_ctx *k, k_tensor y, k_tensor t, int sin_first, float shift);

    /* ---- picture: tensors whose rows are dense (ld == c) ---- */
    /* y = scale * x + bias, no less than low and no more than high; NaN becomes low */
    void (*affine)(k_ctx *k, k_tensor y, k_tensor x, const k_affine *o);
    /* y = b + mask (a - b);  mask [n, h, w, 1]; y may be a or b */
    void (*blend)(k_ctx *k, k_tensor y, k_tensor mask, k_tensor a, k_tensor b);
    /* y = x at the points (u, v) = (c0 i + c1 j + c2, c3 i + c4 j + c5), where (i, j) is the middle
     * of y's pixel in pixels from the left upper corner, a whole pixel's middle being at 1/2;
     * bilinear. coef K_F32 [1, 1, 1, 6]; x has any height and width. Outside of x lies its edge, or
     * with `mirror` its mirror image (torch grid_sample with align_corners=False, padding_mode
     * "border" or "reflection"). y is not x. */
    void (*warp)(k_ctx *k, k_tensor y, k_tensor x, k_tensor coef, int mirror);
    /* y = sum_d g_d x(i + d) / sum_d g_d along w, or along h where `down` is set, over |d| <=
     * ceil(3 sigma) that lie inside of x: an edge does not darken. g_d = exp(-d^2 / (2 sigma^2)),
     * sigma 0..K_BLUR_MAX, 0 copies; y is not x. */
    void (*blur)(k_ctx *k, k_tensor y, k_tensor x, float sigma, int down);
    /* y = (a - middle) . (b - middle) / (max(|a - middle|, 1e-6) max(|b - middle|, 1e-6)), per
     * image, over all its elements;  y K_F32 [n, 1, 1, 1]. The same for any number of threads.
     * Source: torch cosine_similarity. */
    void (*cosine)(k_ctx *k, k_tensor y, k_tensor a, k_tensor b, float middle);
    /* y = x + s (p - x), p = past within -limit..limit, and y = x where past is NaN;
     * coef K_F32 [1, 1, 1, 2] is s, limit; y may be x */
    void (*ease)(k_ctx *k, k_tensor y, k_tensor x, k_tensor past, k_tensor coef);
    /* y = 1 where all elements of an image are finite, else 0;  y K_F32 [n, 1, 1, 1] */
    void (*finite)(k_ctx *k, k_tensor y, k_tensor x);
    /* affine where all numbers of `when` are other than 0; else y stays as it is, and x may hold
     * anything;  when K_F32 [1, 1, 1, any] */
    void (*affine_if)(k_ctx *k, k_tensor y, k_tensor x, k_tensor when, const k_affine *o);

    /* ---- noise ---- */
    /* y = N(0, 1), a pure function of (seed, stream, element index): Philox 4x32-10 (Salmon et
     * al. 2011), then Box-Muller in the exact fp32 operations of philox.h, so that every backend
     * draws the same bits. */
    void (*noise)(k_ctx *k, k_tensor y, uint64_t seed, uint32_t stream);

    /* ---- image ---- */
    /* y [t, h, w, 3] = scale * resized(src in 0..1) + bias; bilinear, widened when shrinking
     * (torch interpolate(antialias=True)) */
    void (*image_in)(k_ctx *k, k_tensor y, const k_image *src, float scale, float bias);
    /* y [t, h, w, 1] = the mask that src is, 0..1, resized alike: its alpha channel, or where it
     * has none its BT.601 luma */
    void (*mask_in)(k_ctx *k, k_tensor y, const k_image *src);
    /* dst = clamp(scale * x + bias, 0, 1), complete on return; U8 rounded to nearest; same height
     * and width; a grey dst takes the BT.601 luma, an alpha channel becomes opaque */
    void (*image_out)(k_ctx *k, const k_image *dst, k_tensor x, float scale, float bias);
};

/* ---- the ops, as networks call them: nothing happens after a failure ------------------------- */

#define K_CALL(k, op, ...)                                                                         \
    do {                                                                                           \
        if (!(k)->status)                                                                          \
            (k)->ops->op((k), __VA_ARGS__);                                                        \
    } while (0)

static inline int64_t k_rows(k_tensor t)
{
    return (int64_t)t.n * t.h * t.w;
}

/* Bytes from the beginning of x to element i of its row r. */
static inline size_t k_offset(k_tensor x, int64_t r, int i)
{
    size_t size = x.dtype == K_U8 ? 1 : x.dtype == K_F16 || x.dtype == K_BF16 ? 2 : 4;
    return size * ((size_t)r * (size_t)x.ld + (size_t)i);
}

/* Channels [first, first + c) of x. */
static inline k_tensor k_slice(k_tensor x, int first, int c)
{
    if (x.data)
        x.data = (char *)x.data + k_offset(x, 0, first);
    x.c = c;
    return x;
}

/* Rows [first, first + n) of x as one image, n wide. */
static inline k_tensor k_row(k_tensor x, int64_t first, int n)
{
    if (x.data)
        x.data = (char *)x.data + k_offset(x, first, 0);
    x.n = x.h = 1;
    x.w = n;
    return x;
}

#ifdef __cplusplus
}
#endif
#endif
