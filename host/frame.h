/* frame.h - frames: memory that the host owns and lends to plugins and media.
 *
 * A pool keeps buffers of past sizes, so that a warm stream allocates nothing. Frames are counted:
 * a plugin only borrows them, so counting stays inside the host.
 */
#ifndef HOST_FRAME_H
#define HOST_FRAME_H

#include "../plugin/scope_abi.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct frame_pool frame_pool;

typedef struct frame {
    scope_video v;       /* v.data is 64-byte aligned and dense; owned by the pool */
    int64_t duration_us; /* 0 when unknown */
    int refs;            /* atomic; the pool's */
    size_t capacity;     /* bytes behind v.data */
    frame_pool *pool;    /* borrowed until the last frame_unref */
} frame;

/* Where a pool's bytes come from. [any] */
typedef struct frame_memory {
    void *ctx;                                         /* borrowed until frame_pool_free */
    void *(*take)(void *ctx, size_t bytes);            /* NULL when there is none */
    void (*give)(void *ctx, void *data, size_t bytes); /* the same bytes as taken */
    bool exact; /* take exactly what a frame needs, anew each time (guard pages do) */
} frame_memory;

frame_pool *frame_pool_new(void);
/* The same over other memory than the heap, whose alignment is then that memory's matter. */
frame_pool *frame_pool_new_in(const frame_memory *memory);
/* Every frame must have come back. */
void frame_pool_free(frame_pool *pool);

/* A frame for the shape in *shape (t, h, w, c, dtype); strides and data are filled in, the pixels
 * are whatever was there. NULL when out of memory or when the shape is not sane (err says which).
 * [any] */
frame *frame_new(frame_pool *pool, const scope_video *shape, scope_error *err);
frame *frame_ref(frame *f);
void frame_unref(frame *f); /* NULL is fine */

size_t frame_dtype_size(int dtype); /* bytes of one element, 0 when unknown */

#endif
