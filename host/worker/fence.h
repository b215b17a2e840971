/* fence.h - the memory of a plugin's frames in a worker: what leaves a frame ends the process.
 *
 * Under worker. Each block's end touches a forbidden page, as far as 64-byte alignment allows, and
 * the rest up to there is looked at when the frame comes back. Blocks are kept by size, so that a
 * warm stream maps nothing. One per process, because a signal handler has no other way to it.
 */
#ifndef WORKER_FENCE_H
#define WORKER_FENCE_H

#include "../frame.h"

/* [any] */
frame_memory fence_memory(void);
/* How an access to this address left a frame ("past the end of its frame"), or NULL when
 * it has nothing to do with frames. Safe in a signal handler; the text is static. */
const char *fence_explain(const void *address);
/* Memory that is mapped read-only before a forbidden page: an input. [any] */
void fence_add(const void *data, size_t bytes);
void fence_remove(const void *data);

#endif
