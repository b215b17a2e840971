/* prepare.h - what the files that make forms of weights share: weights.c keeps the forms, delta.c
 * changes them, prepare.cu brings data to the device and converts it. Callers hold the device's
 * lock; nobody else includes this.
 */
#ifndef KERNELS_CUDA_PREPARE_H
#define KERNELS_CUDA_PREPARE_H

#include "cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The way to the device: pieces of the file are copied into pinned memory by turns, from there to
 * the device in the background, and converted there, all in the order of one stream. */
enum { LOADER_TURNS = 4 };

typedef struct cuda_loader {
    cudaStream_t stream;
    cudaEvent_t done;                /* all that was asked for so far */
    char *pinned;                    /* owned: LOADER_TURNS pieces */
    cudaEvent_t taken[LOADER_TURNS]; /* the piece has left for the device */
    int turn;
    void *raw; /* owned, device memory: rows as they lie in the file */
    size_t raw_bytes;
    char *factors; /* owned, device memory: of the change that is applied; gone with the last one */
    size_t factor_bytes;
} cuda_loader;

/* Makes d->loader where there is none. */
cudaError_t cuda_loader_open(cuda_device *d);
void cuda_loader_close(cuda_device *d);
/* Room on the device for the factors of a change; 0 gives it back. */
cudaError_t cuda_loader_factors(cuda_device *d, size_t bytes);

/* One low-rank change, as the device reads it; places are bytes from the front of the image. */
typedef struct cuda_term {
    int32_t part, rank;
    float scale;
    int32_t up_type, down_type, magnitude_type; /* k_dtype; magnitude: 0 where there is none */
    uint64_t up, down, magnitude;
    uint64_t gain; /* floats [out / parts]: magnitude / |row|, made on the device */
} cuda_term;

/* The changes of a weight: copies of their factors in the types of their files, on the host, where
 * memory is cheaper, for forms that are made later. */
struct cuda_change {
    int terms;
    unsigned parts;     /* a bit for each part that changes */
    size_t image_bytes; /* terms, then factors */
    size_t bytes;       /* with the gains behind them */
    char image[];       /* from malloc: aligned for terms */
};

/* Write parts of w (a bit for each), as they are with w->change, or its bias into the form; what
 * pads rows is not written. In order behind what was asked for before; the loader's `done` tells
 * the end. */
cudaError_t cuda_form_fill(cuda_device *d, const k_weight *w, int kind, int type,
                           const cuda_form *f, unsigned parts);
cudaError_t cuda_form_bias(cuda_device *d, const k_weight *w, int kind, const cuda_form *f);

#ifdef __cplusplus
}
#endif
#endif
