/* lora.h - one LoRA file: which changes it makes to which weights of a model.
 *
 * Understood: LoRA for linear maps and filters, LoCon with and without a middle factor, DoRA with
 * one magnitude for each output, LCM-LoRA; in the spellings of lora_names.h. Other keys are counted
 * and the first ones named. A file is refused as a whole when it belongs to another family of
 * models, when a factor is missing, misshapen or not finite, or when none of its keys is known.
 *
 *     W' = W + scale * alpha / rank * up x down
 */
#ifndef SD_LORA_H
#define SD_LORA_H

#include "lora_names.h"

/* What a file does to one module; scale 1. */
typedef struct lora_piece {
    int module; /* of lora_names */
    k_delta delta;
} lora_piece;

typedef struct lora lora;

/* Map and check the file; reads all of it once. n outlives the result. NULL and *err names the file
 * and the remedy. [load] or [frame] */
lora *lora_open(const lora_names *n, const char *path, scope_error *err);
/* The same over bytes that outlive the result. For fuzzing. */
lora *lora_open_memory(const lora_names *n, const void *data, size_t size, const char *label,
                       scope_error *err);
void lora_close(lora *l); /* NULL is fine */

/* Sorted by module. */
int lora_pieces(const lora *l);
const lora_piece *lora_piece_at(const lora *l, int i);
/* Keys that are not understood, in a sentence; "" when all are. */
const char *lora_notice(const lora *l);
/* Let the kernel drop the file's pages; they come back on the next touch. */
void lora_release_pages(const lora *l);

#endif
