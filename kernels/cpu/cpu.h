/* cpu.h - what the files of the CPU backend share: the device, prepared weights, scratch, GEMM.
 *
 * An op has one body for both modes. It checks its arguments, asks for the forms of its weights
 * and for scratch, and returns there while planning; what follows runs on data.
 */
#ifndef KERNELS_CPU_H
#define KERNELS_CPU_H

#include <pthread.h>
#include <stdatomic.h>

#include "../backend.h"
#include "simd/simd.h"

/* ---- device ------------------------------------------------------------------------------- */

typedef struct cpu_device {
    k_device base;
    const simd *simd; /* the widest table that this processor can run */
    int threads;
    int memory;                  /* k_memory */
    struct dnnl_engine *library; /* owned; NULL: products run on our own loops */
    int direct;           /* convolutions are products always, Winograd's algorithm is left out */
    _Atomic size_t bytes; /* of prepared weights */
    pthread_mutex_t lock; /* guards what follows, and building of forms */
    k_weight *weights;    /* all of them, by their `next` */
    uint64_t contexts;    /* a bit for each open context */
    int changes;          /* weights that are not as in their files */
    void *work;           /* owned, grows: where changed weights are made; gone with the last */
    size_t work_bytes;
} cpu_device;

typedef struct cpu_ctx {
    uint64_t bit;  /* this context in masks of users */
    char *scratch; /* owned; of the op that runs */
    size_t size, need;
    double stamp_ms[K_STAMPS];
} cpu_ctx;

static inline cpu_device *cpu_of(const k_ctx *k)
{
    return (cpu_device *)k->device;
}

/* Threads for a loop over so many elements: waking one costs more than a small loop. */
static inline int cpu_threads(const k_ctx *k, int64_t elements)
{
    return elements < 1 << 15 ? 1 : cpu_of(k)->threads;
}

k_device *cpu_device_open(int index, const k_device_options *options, char why[K_WHY]);
void cpu_device_close(k_device *device);
size_t cpu_device_bytes(const k_device *device);
const char *cpu_device_name(const k_device *device);
int cpu_open(k_ctx *k);
void cpu_close(k_ctx *k);
void cpu_plan_begin(k_ctx *k);
void cpu_plan_end(k_ctx *k);

/* 64-byte aligned and zeroed, on huge pages when large. NULL when there is none. */
void *cpu_alloc(size_t bytes);
void cpu_free(void *data, size_t bytes);

/* Scratch for the op that runs. While planning: note the need and return NULL. */
void *cpu_scratch(k_ctx *k, const char *op, size_t bytes);

/* ---- weights -------------------------------------------------------------------------------- */

/* Panels: out is cut into `groups` of equal size (value and gate of GEGLU), each padded to
 * whole panels; a panel is [taps * in, padded to CHUNK][nr], taps outermost. */
enum cpu_form_kind {
    CPU_BIAS,        /* no data: the bias alone; the op reads the file */
    CPU_BIAS_PAIR,   /* the same in two groups */
    CPU_VECTOR,      /* floats, as in the file */
    CPU_PANELS,      /* in the file's type */
    CPU_PANELS_PAIR, /* the same in two groups */
    CPU_DOTS,        /* floats: [out][taps][in] */
    CPU_WINOGRAD_2,  /* floats: [position][panel][in padded][nr], for F(2x2, 3x3) */
    CPU_WINOGRAD_4,  /* F(4x4, 3x3) */
    CPU_FORMS,
};

typedef struct cpu_form {
    _Atomic uint64_t users; /* contexts whose plans ask for it */
    uint64_t fresh;         /* those that asked in the plan that is being made */
    void *data;             /* owned */
    float *bias;            /* owned: [groups][panels * nr], zero padded */
    size_t bytes, bias_bytes;
} cpu_form;

struct k_weight {
    k_weight_desc desc;        /* a changed weight that stays: its copies in the file's place */
    struct cpu_change *change; /* owned; NULL: as in the file */
    cpu_form forms[CPU_FORMS];
    struct cpu_library *library; /* owned; NULL unless the device has one */
    k_weight *next;
};

/* The form of w: made while planning if it is not there; afterwards NULL (and a failure that
 * names op) unless this context has planned it. */
const cpu_form *cpu_form_of(k_ctx *k, const char *op, const k_weight *w, int kind);
/* Columns [first, first + columns) and depths [k0, k1) of w into a panel of the file's type;
 * other columns are left as they are. */
void cpu_fill_panel(const cpu_device *d, const k_weight_desc *w, int first, int columns, int k0,
                    int k1, void *panel);

k_weight *cpu_weight_new(k_device *device, const k_weight_desc *desc, char why[K_WHY]);
void cpu_weight_free(k_device *device, k_weight *weight);
const k_weight_desc *cpu_weight_desc(const k_weight *weight);
/* Forget what plans of the context asked for: all of it, or what the newest did not repeat. */
void cpu_weights_release(k_ctx *k, int all);
/* Memory to make every form of w anew; nonzero: there is none. Its caller holds the lock. */
int cpu_forms_room(cpu_device *d, k_weight *w);
/* The weight as it is now, in the file's type and order; nonzero: there is no memory. */
int cpu_weight_now(cpu_device *d, const k_weight *w, k_weight_desc *now);
/* Make them, in place. After cpu_forms_room. */
void cpu_forms_again(cpu_device *d, k_weight *w);

/* ---- changed weights (delta.c); callers hold the lock -----------------------------------------
 */

int cpu_weight_delta(k_device *device, k_weight *weight, const k_delta *list, int count,
                     char why[K_WHY]);
void cpu_change_free(cpu_device *d, struct cpu_change *c); /* NULL is fine */
/* Bytes of scratch that a thread needs for making changed rows of w, in whole cache lines. */
size_t cpu_change_spare(const cpu_device *d, const k_weight *w);
/* Rows [first, first + count) of the changed weight, in the file's type and order. */
void cpu_change_rows(const cpu_device *d, const k_weight *w, int first, int count, void *to,
                     void *spare);
/* The same with all threads; spares: one for each. */
void cpu_change_all(const cpu_device *d, const k_weight *w, int first, int count, void *to,
                    void *spares);

/* 1: the weight stays in its file's type and place. */
static inline int cpu_stays(const cpu_device *d, const k_weight_desc *w)
{
    return d->memory == K_MEMORY_LOW || w->rare;
}

static inline int cpu_panels(const cpu_device *d, int columns)
{
    return (columns + d->simd->nr - 1) / d->simd->nr;
}

/* ---- matrix product (gemm.c) -------------------------------------------------------------------
 */

/* Rows of A: the pixels that a filter of k x k sees, or plain rows when k is 1. */
typedef struct cpu_source {
    const float *x;
    int64_t ld;
    int h, w, c;        /* of the picture that x holds */
    int oh, ow;         /* of the picture of rows */
    int k, stride, pad; /* pad: above and left */
    int up;             /* 1: x is doubled in height and width first */
} cpu_source;

/* y[m] = act(A[m] w^T + bias + row[m / (oh * ow)] + residual[m]) for m < rows */
typedef struct cpu_product {
    const char *op;
    cpu_source a;
    const k_weight *w;
    int64_t rows;
    k_tensor y, row, residual;
    int act;
} cpu_product;

void cpu_gemm(k_ctx *k, const cpu_product *p);
/* Row `row` of A to chunks that lie `step` floats apart; zero up to a whole chunk. */
void cpu_pack_row(const cpu_device *d, const cpu_source *s, int64_t row, float *to, int64_t step);
/* Rows [row, row + rows) of y, at most MAX_OUT, and of what is added to them, into o. */
void cpu_rows_out(const cpu_product *p, int64_t row, int rows, simd_out *o);
/* One panel of sums through the epilogue to the rows of o; gates: of K_GEGLU, else NULL. */
void cpu_finish(const cpu_device *d, const cpu_product *p, const cpu_form *f, int panel, int rows,
                const float *sums, const float *gates, simd_out *o);
/* The same in place for 3 x 3 filters with few weights; is p one? */
void cpu_direct(k_ctx *k, const cpu_product *p);
int cpu_direct_fits(const cpu_device *d, const cpu_product *p);
/* The same for 3 x 3 filters of stride 1; m: outputs a side of a tile, 2 or 4. */
void cpu_winograd(k_ctx *k, const cpu_product *p, int m);

/* ---- the same through oneDNN (library.c) ---------------------------------------------------- */

/* Fails for a shape that this context has not planned. */
void cpu_library(k_ctx *k, const cpu_product *p);

/* What a weight keeps for it. The callers of free and release hold the lock. */
struct cpu_library *cpu_library_new(void);
void cpu_library_free(cpu_device *d, struct cpu_library *l);
/* Scratch to pack again, in bytes, and packing itself: w is the weight as it is now. */
size_t cpu_library_room(const struct cpu_library *l, const k_weight_desc *w);
void cpu_library_again(cpu_device *d, struct cpu_library *l, const k_weight_desc *w, void *room);
/* Forget what plans of the context asked for: all of it, or what the newest did not repeat. */
void cpu_library_release(cpu_device *d, struct cpu_library *l, uint64_t bit, int all);

/* The 64-byte pieces that a source pixel is made of; NULL outside of the picture. */
const float *cpu_pixel(const cpu_source *s, int64_t image, int y, int x);

/* ---- ops --------------------------------------------------------------------------------------
 */

void cpu_conv(k_ctx *k, k_tensor y, k_tensor x, const k_weight *w, const k_conv *o);
void cpu_linear(k_ctx *k, k_tensor y, k_tensor x, const k_weight *w, const k_linear *o);
void cpu_attention(k_ctx *k, k_tensor y, k_tensor q, k_tensor key, k_tensor value,
                   const k_attention *o);
void cpu_group_norm(k_ctx *k, k_tensor y, k_tensor x, const k_weight *w, int groups, float eps,
                    int act);
void cpu_layer_norm(k_ctx *k, k_tensor y, k_tensor x, const k_weight *w, float eps);
void cpu_activate(k_ctx *k, k_tensor y, k_tensor x, int act);
void cpu_add(k_ctx *k, k_tensor y, k_tensor x, k_tensor z);
void cpu_soft_clamp(k_ctx *k, k_tensor y, k_tensor x, float limit);
void cpu_mix(k_ctx *k, k_tensor y, k_tensor coef, k_tensor x0, k_tensor x1, k_tensor x2);
void cpu_resize_nearest(k_ctx *k, k_tensor y, k_tensor x);
void cpu_embed(k_ctx *k, k_tensor y, k_tensor ids, const k_weight *tokens,
               const k_weight *positions);
void cpu_sinusoid(k_ctx *k, k_tensor y, k_tensor t, int sin_first, float shift);
void cpu_affine(k_ctx *k, k_tensor y, k_tensor x, const k_affine *o);
void cpu_blend(k_ctx *k, k_tensor y, k_tensor mask, k_tensor a, k_tensor b);
void cpu_warp(k_ctx *k, k_tensor y, k_tensor x, k_tensor coef, int mirror);
void cpu_blur(k_ctx *k, k_tensor y, k_tensor x, float sigma, int down);
void cpu_cosine(k_ctx *k, k_tensor y, k_tensor a, k_tensor b, float middle);
void cpu_ease(k_ctx *k, k_tensor y, k_tensor x, k_tensor past, k_tensor coef);
void cpu_finite(k_ctx *k, k_tensor y, k_tensor x);
void cpu_affine_if(k_ctx *k, k_tensor y, k_tensor x, k_tensor when, const k_affine *o);
void cpu_noise(k_ctx *k, k_tensor y, uint64_t seed, uint32_t stream);
void cpu_image_in(k_ctx *k, k_tensor y, const k_image *src, float scale, float bias);
void cpu_mask_in(k_ctx *k, k_tensor y, const k_image *src);
void cpu_image_out(k_ctx *k, const k_image *dst, k_tensor x, float scale, float bias);

/* Row i of t. */
static inline float *cpu_row(k_tensor t, int64_t i)
{
    return (float *)t.data + i * t.ld;
}

#endif
