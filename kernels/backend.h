/* backend.h - what a backend gives to kernels.c, and what the two share.
 *
 * kernels.c holds everything that is the same on every processor: names, the arena, kept
 * tensors, sticky errors, the checks of a weight. A backend gives memory, copies and ops.
 * Only files of kernels/ include this.
 */
#ifndef KERNELS_BACKEND_H
#define KERNELS_BACKEND_H

#include "kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct k_backend {
    const char *name;
    const k_ops *ops;

    k_device *(*device_open)(int index, const k_device_options *options, char why[K_WHY]);
    void (*device_close)(k_device *device);
    size_t (*device_bytes)(const k_device *device);
    const char *(*device_name)(const k_device *device);
    /* NULL where there is nothing to choose */
    void (*device_plan)(const k_device *device, void (*line)(void *ctx, const char *text),
                        void *ctx);

    /* The backend's half of a context: k->impl. */
    int (*open)(k_ctx *k); /* also sets k->real and k->wide */
    void (*close)(k_ctx *k);
    void (*plan_begin)(k_ctx *k);
    void (*plan_end)(k_ctx *k); /* may k_fail */

    void (*stamp)(k_ctx *k, int i);
    double (*stamp_ms)(const k_ctx *k, int i);

    /* 64-byte aligned; NULL when there is none. */
    void *(*alloc)(k_device *device, size_t bytes, int zeroed);
    /* Ops that were called so far are done: their tensors may be freed. */
    void (*settle)(k_ctx *k);
    void (*free)(k_device *device, void *data, size_t bytes);
    /* Bytes that are free there; NULL where that says nothing. */
    size_t (*room)(const k_device *device);
    /* rows of `bytes` bytes, `to_pitch` and `from_pitch` bytes apart */
    void (*put)(k_ctx *k, void *to, size_t to_pitch, const void *from, size_t from_pitch,
                size_t bytes, int64_t rows);
    void (*get)(k_ctx *k, void *to, size_t to_pitch, const void *from, size_t from_pitch,
                size_t bytes, int64_t rows);
    /* the same, at the latest with the next get or image_out */
    void (*get_with)(k_ctx *k, void *to, size_t to_pitch, const void *from, size_t from_pitch,
                     size_t bytes, int64_t rows);

    k_weight *(*weight_new)(k_device *device, const k_weight_desc *desc, char why[K_WHY]);
    void (*weight_free)(k_device *device, k_weight *weight);
    int (*weight_delta)(k_device *device, k_weight *weight, const k_delta *list, int count,
                        char why[K_WHY]);
    const k_weight_desc *(*weight_desc)(const k_weight *weight);
} k_backend;

/* Every backend's k_device begins with this. */
struct k_device {
    const k_backend *backend;
};

extern const k_backend cpu_backend;
#ifdef K_CUDA /* this build has it */
extern const k_backend cuda_backend;
#endif

size_t k_size(int dtype); /* bytes of one element; 0: unknown */

static inline int k_is_float(int dtype)
{
    return dtype == K_F32 || dtype == K_F16 || dtype == K_BF16;
}

/* ---- what every backend's ops ask of their arguments ------------------------------------ */

/* "[1, 64, 64, 320]" into a buffer that the caller gives. */
enum { K_SHAPE = 48 };
const char *k_shape(char text[K_SHAPE], k_tensor t);

/* Fail with op, shapes and cause unless `holds`; 1 when it holds. z may be empty. */
int k_check(k_ctx *k, int holds, const char *op, const char *cause, k_tensor y, k_tensor x,
            k_tensor z);

static inline int k_same_shape(k_tensor a, k_tensor b)
{
    return a.n == b.n && a.h == b.h && a.w == b.w && a.c == b.c;
}

#ifdef __cplusplus
}
#endif
#endif
