/* cuda.h - what the files of the CUDA backend share: the device, its contexts, the tape of calls,
 * prepared weights, scratch. Files are named as in cpu/, an op lies in the file of its name.
 *
 * An op has one body for both modes. It checks its arguments, asks for the forms of its weights
 * and for scratch, and returns there while planning; what follows writes kernel launches on the
 * context's tape. Nothing runs until the tape is submitted (tape.c); the second time that a tape
 * comes, byte for byte, it becomes a CUDA graph. So whatever a launch is given is part of the
 * graph's identity, and a stale graph cannot be: what changes from frame to frame must lie in
 * tensors.
 *
 * Threads: as in kernels.h; functions that may be called before any other on a thread begin with
 * cuda_enter. One stream per context; forms are made on the loader's own stream, which the context
 * that plans waits for, and are complete when the plan ends.
 */
#ifndef KERNELS_CUDA_H
#define KERNELS_CUDA_H

#include <cuda_runtime_api.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "../backend.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- device ------------------------------------------------------------------------------- */

typedef struct cuda_device {
    k_device base;
    int index;                    /* of the driver */
    int sm;                       /* compute capability: 75, 80, 86, 89, 90, 100, 120 */
    int processors;               /* multiprocessors */
    int shared_bytes;             /* of shared memory that a block may ask for */
    char name[96];                /* "cuda:0 (NVIDIA H200)" */
    pthread_mutex_t lock;         /* guards what follows, and making of forms */
    size_t bytes;                 /* of device memory that is held */
    size_t promised;              /* of weights that were registered and not prepared yet */
    k_weight *weights;            /* all of them, by their `next` */
    struct cuda_loader *loader;   /* owned: brings weights here; gone with the last (prepare.cu) */
    uint64_t contexts;            /* a bit for each open context */
    k_ctx *context[64];           /* borrowed: they, by their bits */
    struct cuda_plans *plans;     /* owned: which candidate runs which shape (plan.c) */
    struct cuda_library *library; /* owned: cuDNN and cuBLASLt, where they are (library.c) */
} cuda_device;

typedef struct cuda_ctx cuda_ctx; /* tape.h */

static inline cuda_device *cuda_of(const k_ctx *k)
{
    return (cuda_device *)k->device;
}

k_device *cuda_device_open(int index, const k_device_options *options, char why[K_WHY]);
void cuda_device_close(k_device *device);
size_t cuda_device_bytes(const k_device *device);
const char *cuda_device_name(const k_device *device);

/* Make the device the calling thread's. */
void cuda_enter(const cuda_device *d);
/* Device memory, 256-byte aligned; NULL where there is none. Takes the lock. */
void *cuda_alloc(k_device *device, size_t bytes, int zeroed);
void cuda_free(k_device *device, void *data, size_t bytes);
/* Bytes that are free on the device now. */
size_t cuda_room(const cuda_device *d);

/* ---- contexts and the tape ------------------------------------------------------------------ */

int cuda_open(k_ctx *k);
void cuda_close(k_ctx *k);
void cuda_plan_begin(k_ctx *k);
void cuda_plan_end(k_ctx *k);

uint64_t cuda_bit(const k_ctx *k);        /* this context in masks of users */
cudaStream_t cuda_stream(const k_ctx *k); /* for work outside of the tape, while planning */

/* What was written down by any context of the device is done. None of them may run meanwhile. */
void cuda_settle(cuda_device *d);

/* Write a launch on the tape: a kernel that takes one struct by value. Its bytes are copied, and
 * must be the same each time for the graph to be found: see zeroed() of launch.cuh. .cu files call
 * launch() of launch.cuh. While cuda_measuring, it is launched at once. */
void cuda_launch(k_ctx *k, const void *kernel, dim3 grid, unsigned threads, size_t shared,
                 const void *args, size_t bytes);
/* The same for a call of a library, which may be captured. */
void cuda_call(k_ctx *k, cudaError_t (*call)(cudaStream_t stream, const void *args),
               const void *args, size_t bytes);
/* Run what is on the tape: as a graph if it was there before. Does not wait. */
void cuda_submit(k_ctx *k);
/* Submit, and wait for the device. Afterwards staging memory is free again. */
void cuda_wait(k_ctx *k);

/* Scratch of device memory for the op that is written, 256-byte aligned. While planning: note the
 * need and return NULL. The next op overwrites it. */
void *cuda_scratch(k_ctx *k, const char *op, size_t bytes);

/* Device copies of what the host gives, for ops that run next, until the next wait: rows of `bytes`
 * bytes, `pitch` apart in host memory, dense on the device. NULL after a failure. */
void *cuda_upload(k_ctx *k, const void *from, size_t pitch, size_t bytes, int64_t rows);
/* Device memory that ops write, until the next wait; cuda_download submits, waits and copies it. */
void *cuda_outbox(k_ctx *k, size_t bytes);
void cuda_download(k_ctx *k, void *to, size_t pitch, const void *outbox, size_t bytes,
                   int64_t rows);

void cuda_put(k_ctx *k, void *to, size_t to_pitch, const void *from, size_t from_pitch,
              size_t bytes, int64_t rows);
void cuda_get(k_ctx *k, void *to, size_t to_pitch, const void *from, size_t from_pitch,
              size_t bytes, int64_t rows);
/* Noted, and done by the next cuda_get. */
void cuda_get_with(k_ctx *k, void *to, size_t to_pitch, const void *from, size_t from_pitch,
                   size_t bytes, int64_t rows);
void cuda_stamp(k_ctx *k, int i);
double cuda_stamp_ms(const k_ctx *k, int i);
/* The kernel behind cuda_stamp (elementwise.cu): *at = the device's clock in ns. */
void cuda_write_clock(k_ctx *k, uint64_t *at);

/* Record the failure of a CUDA call; 1 when it failed. After an error of the device itself the
 * context is lost, and says so for good. */
int cuda_failed(k_ctx *k, cudaError_t error, const char *what);

/* For tests and benchmarks. */
typedef struct cuda_counts {
    long submits, launches, graphs, captures; /* graphs: replays */
} cuda_counts;
cuda_counts cuda_counted(const k_ctx *k);

/* ---- plans: which candidate runs which shape (plan.c) ----------------------------------------
 *
 * Candidates of one op and shape are numbered; own kernels come first. `key` names op, shape and
 * types in one line, "conv f16 2x64x64x320 3x3 s1 -> 320 row". run(k, candidate, ctx) writes the
 * op once with that candidate, on data that it has at hand; it returns nonzero where a candidate
 * does not take the shape. Returns the fastest by measurement, from the plan file where it is
 * known, else measured now and kept. `guess` is returned where measuring is off
 * (SCOPE_CUDA_TUNE=off), and SCOPE_CUDA_TUNE=N forces candidate N wherever it fits.
 * Only while planning. */
typedef struct cuda_choice {
    const char *key;
    int candidates, guess;
    int libraries; /* candidates from this one on are libraries': 0: none are */
    int (*run)(k_ctx *k, int candidate, void *ctx);
    const char *(*name)(int candidate); /* for the plan file and `scope bench --plan` */
    void *ctx;
} cuda_choice;
int cuda_choose(k_ctx *k, const cuda_choice *c);
/* Nonzero while run is called to be timed: launches go to the stream at once. */
int cuda_measuring(const k_ctx *k);
void cuda_measure_begin(k_ctx *k);
void cuda_measure_end(k_ctx *k);

struct cuda_plans *cuda_plans_open(const cuda_device *d);
void cuda_plans_save(struct cuda_plans *plans);  /* what is new goes to the plan file */
void cuda_plans_close(struct cuda_plans *plans); /* saves; NULL is fine */
/* A line of text for each shape that was chosen for: k_device_plan. */
void cuda_device_plan(const k_device *device, void (*line)(void *ctx, const char *text), void *ctx);

/* ---- weights (weights.c, prepare.cu, delta.c) ------------------------------------------------ */

enum cuda_form_kind {
    CUDA_VECTOR,      /* floats [out], and the bias as floats: norms */
    CUDA_TABLE,       /* [out][in] in the file's type: embeddings */
    CUDA_FILTER,      /* [out][tap][in padded to 8] halves */
    CUDA_FILTER_PAIR, /* the same, rows interleaved: value 0, gate 0, value 1, gate 1, ... */
    CUDA_FILTER_UP, /* [4 phases][out][4 taps][in padded to 8]: 3 x 3 filters of a doubled picture,
                     * see place_up in prepare.cu */
    CUDA_KINDS,
};
/* Of halves; a narrower type for filters would be one more. Vectors and tables are under the first,
 * whatever the activations are. */
enum { CUDA_F16, CUDA_BF16, CUDA_TYPES };

typedef struct cuda_form {
    uint64_t users; /* contexts whose plans ask for it */
    uint64_t fresh; /* those that asked in the plan that is being made */
    void *data;     /* owned, device memory: the rows, then the bias; NULL: not made */
    float *bias;    /* there: [out], in the order of the rows; zero where none. NULL for tables */
    size_t bytes, bias_bytes;
    int depth; /* elements from one row to the next: taps * in padded to 8 (filters) */
} cuda_form;

/* Which candidate runs a shape with this weight (gemm.c): added to under the device's lock, read
 * without it, never taken away. */
enum { CUDA_PICKS = 16 };
typedef struct cuda_pick {
    uint64_t shape; /* hashed */
    int candidate;
} cuda_pick;

struct k_weight {
    k_weight_desc desc;
    struct cuda_change *change; /* owned; NULL: as in the file */
    cuda_form forms[CUDA_KINDS][CUDA_TYPES];
    size_t promised; /* its share of the device's promised bytes */
    cuda_pick picks[CUDA_PICKS];
    int pick_count;
    k_weight *next;
};

/* The form of w for activations of type dtype (K_F16, K_BF16): made while planning if it is not
 * there; afterwards NULL (and a failure that names op) unless this context has planned it. */
const cuda_form *cuda_form_of(k_ctx *k, const char *op, const k_weight *w, int kind, int dtype);

k_weight *cuda_weight_new(k_device *device, const k_weight_desc *desc, char why[K_WHY]);
void cuda_weight_free(k_device *device, k_weight *weight);
const k_weight_desc *cuda_weight_desc(const k_weight *weight);
int cuda_weight_delta(k_device *device, k_weight *weight, const k_delta *list, int count,
                      char why[K_WHY]);
/* Forget what plans of the context asked for: all of it, or what the newest did not repeat. */
void cuda_weights_release(k_ctx *k, int all);

/* ---- the matrix product behind conv and linear (gemm.c) ---------------------------------------
 *
 * Rows of A are the pixels that a filter sees (implicit GEMM), or plain rows when side is 1.
 * y[m] = act(A[m] w^T + bias + row[m / (oh * ow)] + residual[m]), with K_GEGLU on paired columns.
 */
typedef struct cuda_product {
    const char *op;
    k_tensor x, y, row, residual;
    const k_weight *w;
    int side, stride, pad, up; /* pad: above and left */
    int act;
} cuda_product;
void cuda_gemm(k_ctx *k, const cuda_product *p);

/* Candidates of libraries (library.c): how many there may be, and one of them. Nonzero: not for
 * this shape, or the library is not here. form: of p->w. */
int cuda_library_candidates(const cuda_device *d);
const char *cuda_library_name(int candidate);
int cuda_library_run(k_ctx *k, int candidate, const cuda_product *p, const cuda_form *form);
void cuda_library_rest(struct cuda_library *l); /* give back what measuring took */
struct cuda_library *cuda_library_open(const cuda_device *d);
void cuda_library_close(struct cuda_library *l); /* NULL is fine */
/* Versions of what was found, for the plan file's name and for people: "cudnn 9.19.0, cublasLt
 * 13.1.0", or "none". */
const char *cuda_library_versions(struct cuda_library *l);

/* ---- ops --------------------------------------------------------------------------------------
 */

void cuda_conv(k_ctx *k, k_tensor y, k_tensor x, const k_weight *w, const k_conv *o);
void cuda_linear(k_ctx *k, k_tensor y, k_tensor x, const k_weight *w, const k_linear *o);
void cuda_attention(k_ctx *k, k_tensor y, k_tensor q, k_tensor key, k_tensor value,
                    const k_attention *o);
void cuda_group_norm(k_ctx *k, k_tensor y, k_tensor x, const k_weight *w, int groups, float eps,
                     int act);
void cuda_layer_norm(k_ctx *k, k_tensor y, k_tensor x, const k_weight *w, float eps);
void cuda_activate(k_ctx *k, k_tensor y, k_tensor x, int act);
void cuda_add(k_ctx *k, k_tensor y, k_tensor x, k_tensor z);
void cuda_soft_clamp(k_ctx *k, k_tensor y, k_tensor x, float limit);
void cuda_mix(k_ctx *k, k_tensor y, k_tensor coef, k_tensor x0, k_tensor x1, k_tensor x2);
void cuda_resize_nearest(k_ctx *k, k_tensor y, k_tensor x);
void cuda_embed(k_ctx *k, k_tensor y, k_tensor ids, const k_weight *tokens,
                const k_weight *positions);
void cuda_sinusoid(k_ctx *k, k_tensor y, k_tensor t, int sin_first, float shift);
void cuda_affine(k_ctx *k, k_tensor y, k_tensor x, const k_affine *o);
void cuda_blend(k_ctx *k, k_tensor y, k_tensor mask, k_tensor a, k_tensor b);
void cuda_warp(k_ctx *k, k_tensor y, k_tensor x, k_tensor coef, int mirror);
void cuda_blur(k_ctx *k, k_tensor y, k_tensor x, float sigma, int down);
void cuda_cosine(k_ctx *k, k_tensor y, k_tensor a, k_tensor b, float middle);
void cuda_ease(k_ctx *k, k_tensor y, k_tensor x, k_tensor past, k_tensor coef);
void cuda_finite(k_ctx *k, k_tensor y, k_tensor x);
void cuda_affine_if(k_ctx *k, k_tensor y, k_tensor x, k_tensor when, const k_affine *o);
void cuda_noise(k_ctx *k, k_tensor y, uint64_t seed, uint32_t stream);
void cuda_image_in(k_ctx *k, k_tensor y, const k_image *src, float scale, float bias);
void cuda_mask_in(k_ctx *k, k_tensor y, const k_image *src);
void cuda_image_out(k_ctx *k, const k_image *dst, k_tensor x, float scale, float bias);

#ifdef __cplusplus
}
#endif
#endif
