/* onednn.h - the little of oneDNN's C API that library.c needs, alike for its versions 2 and 3.
 *
 * An op is one primitive with the memory objects that it runs on. It is made while planning;
 * running it uses memory that the caller gives. An op serves one thread at a time.
 * Functions return 0, or what onednn_text can put in words.
 */
#ifndef KERNELS_CPU_ONEDNN_H
#define KERNELS_CPU_ONEDNN_H

#include <stddef.h>
#include <stdint.h>

struct dnnl_engine;
typedef struct onednn_op onednn_op;

/* y = act(A w^T + bias + y before): k is 0 for n plain rows (h = w = oh = ow = 1), else the side
 * of a filter over n pictures. Only int32_t, so that shapes compare as bytes. */
typedef struct onednn_shape {
    int32_t n, h, w, in, oh, ow, out;
    int32_t k, stride, pad; /* pad: above and left */
    int32_t ld_x, ld_y;     /* from one row to the next; filters run fast only over dense ones */
    int32_t bias, sum, act; /* bias, sum: 1 where there is one; act: k_act but K_GEGLU */
} onednn_shape;

/* NULL when the library cannot be used. */
struct dnnl_engine *onednn_open(void);
void onednn_close(struct dnnl_engine *engine);

int onednn_op_new(onednn_op **op, struct dnnl_engine *engine, const onednn_shape *shape);
void onednn_op_free(onednn_op *op); /* NULL is fine */

size_t onednn_op_scratch(const onednn_op *op); /* bytes that packing and running use */
size_t onednn_op_packed(const onednn_op *op);  /* bytes of packed weights */
/* 1 when both take weights packed in the same way. */
int onednn_op_alike(const onednn_op *a, const onednn_op *b);

/* plain [out][in][k][k] to the layout that op likes best; scratch and packed 64-byte aligned. */
int onednn_op_pack(onednn_op *op, const float *plain, float *packed, void *scratch);
/* packed is read whenever op runs. */
int onednn_op_use(onednn_op *op, float *packed);
int onednn_op_run(onednn_op *op, const float *x, const float *bias, float *y, void *scratch);

const char *onednn_text(int status);

#endif
