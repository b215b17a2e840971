/* weights_index.h - the tensors of one network, in the words of today's diffusers, whatever wrote
 * the files they lie in.
 *
 * Sits under weights.c, which hands them out, and config_shapes.c, which reads configs off them.
 */
#ifndef SD_WEIGHTS_INDEX_H
#define SD_WEIGHTS_INDEX_H

#include "weights_files.h"

typedef struct named {
    char *name;       /* owned */
    st_tensor tensor; /* its name, data and rows: of the view, which may be a part of a tensor */
    int transposed;   /* the file stores [in, out] */
    int used;         /* weights.c: it was asked for */
} named;

typedef struct weights_index {
    weights_files files; /* owned */
    named *entry;        /* owned, sorted by name */
    int count;
} weights_index;

/* `path` and `label` as in weights_open. On failure *x is empty. [load] */
int weights_index_open(weights_index *x, const char *path, const char *label, scope_error *err);
void weights_index_close(weights_index *x);
/* By the full name; NULL when there is none. */
named *weights_index_find(const weights_index *x, const char *name);

#endif
