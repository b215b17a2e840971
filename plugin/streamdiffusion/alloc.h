/* alloc.h - where the loader takes its memory, so that a test can make any allocation fail.
 *
 * The files that read a checkpoint (safetensors, weights, config, tokenizer) allocate through these
 * three and release with free(). Size products are checked for overflow.
 */
#ifndef SD_ALLOC_H
#define SD_ALLOC_H

#include <stddef.h>

void *sd_malloc(size_t bytes);
/* Zeroed. */
void *sd_calloc(size_t count, size_t size);
/* As reallocarray: the old block stays valid on failure. */
void *sd_grow(void *block, size_t count, size_t size);
char *sd_strdup(const char *text);

/* Tests: the n-th allocation of this thread from now on (1 is the next) and all later ones fail;
 * 0 lifts that. Returns how many allocations were made since the previous call. */
long sd_alloc_fail_at(long n);

#endif
