/* library.h - inside of library.c, cudnn.c and cublaslt.c, and for their tests.
 *
 * A plan holds what a library made for one shape. Plans are made while a context plans, under the
 * library's lock, and live as long as the device; nothing of them changes afterwards.
 */
#ifndef KERNELS_CUDA_LIBRARY_H
#define KERNELS_CUDA_LIBRARY_H

#include "cuda.h"
#include "library_abi.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { DNN_CANDIDATES = 4, LT_CANDIDATES = 6, DNN_OBJECTS = 80 };
enum { LIBRARY_DNN, LIBRARY_LT };

/* What a plan depends on; compared byte by byte. */
typedef struct library_shape {
    int32_t library, dtype;
    int32_t n, h, w, c, x_ld;       /* of x, pixels */
    int32_t oh, ow, out, y_ld;      /* of y */
    int32_t residual_ld;            /* 0: no residual */
    int32_t depth;                  /* elements from one filter to the next */
    int32_t side, stride, pad, end; /* pad above and left, end below and right */
    int32_t relu, bias;
} library_shape;

typedef struct dnn_plan {
    dnn_object plan[DNN_CANDIDATES];
    size_t workspace[DNN_CANDIDATES];
    int count;
    dnn_object made[DNN_OBJECTS]; /* owned; the plans too */
    int made_count;
} dnn_plan;

typedef struct lt_plan {
    lt_desc desc;                          /* owned */
    lt_layout filter, pixels, residual, y; /* owned; rows are their columns */
    lt_result result[LT_CANDIDATES];
    int count;
} lt_plan;

typedef struct library_plan {
    library_shape shape;
    union {
        dnn_plan dnn;
        lt_plan lt;
    };
    struct library_plan *next;
} library_plan;

/* A bias in the activations' type, as the libraries ask for it. */
typedef struct library_bias {
    const float *from; /* borrowed from a form */
    int dtype, count;
    void *data; /* owned, device memory */
    struct library_bias *next;
} library_bias;

enum { LIBRARY_BUCKETS = 256, LIBRARY_TEXT = 160 };

typedef struct cuda_library {
    k_device *device;         /* borrowed */
    pthread_mutex_t lock;     /* guards all that follows, and calls with the handles */
    int opened;               /* searched for: once, when first asked for */
    void *dnn_file, *lt_file; /* of dlopen; NULL: not here, or refused */
    dnn_api dnn;
    lt_api lt;
    dnn_handle dnn_session; /* made when first planned with */
    lt_handle lt_session;
    char text[LIBRARY_TEXT]; /* versions, or what is wrong with them */
    void *trial;             /* owned: workspace while candidates are timed, one at a time */
    size_t trial_bytes;
    library_plan *plans[LIBRARY_BUCKETS];
    library_bias *biases[LIBRARY_BUCKETS];
} cuda_library;

/* Find both files, once. Under the lock. */
void cuda_library_search(cuda_library *l);

/* Bytes of workspace that a candidate may ask for. */
#define LIBRARY_WORKSPACE ((size_t)64 << 20)

/* Candidates of cuDNN for a convolution: precompiled, deterministic ones. Target: a handle, or
 * properties of a device that need not be here. Returns how many. */
int cuda_dnn_plan(const dnn_api *api, dnn_handle handle, dnn_object properties,
                  const library_shape *s, dnn_plan *plan);
void cuda_dnn_plan_free(const dnn_api *api, dnn_plan *plan);
/* Run one. NULL residual: none. Returns the library's status. */
typedef struct library_data {
    const void *x, *w, *bias, *residual;
    void *y, *workspace;
} library_data;
int cuda_dnn_run(const dnn_api *api, dnn_handle handle, dnn_object plan, const library_data *at);

/* The same of cuBLASLt, for plain rows. */
int cuda_lt_plan(const lt_api *api, lt_handle handle, const library_shape *s, lt_plan *plan);
void cuda_lt_plan_free(const lt_api *api, lt_plan *plan);
int cuda_lt_run(const lt_api *api, lt_handle handle, const lt_plan *plan, int candidate,
                const library_data *at, cudaStream_t stream);

/* out = bias + row in dtype, one row, on the context's tape (library_bias.cu). */
void cuda_bias_row(k_ctx *k, void *out, int dtype, const float *bias, k_tensor row, int count);
/* out = bias in dtype, at once. */
cudaError_t cuda_bias_now(cudaStream_t stream, void *out, int dtype, const float *bias, int count);

#ifdef __cplusplus
}
#endif
#endif
