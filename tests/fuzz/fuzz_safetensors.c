/* fuzz_safetensors.c - any bytes as a checkpoint file: what is accepted lies within the file, and
 * the tensors tile its data. */
#include "plugin/streamdiffusion/safetensors.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char why[256] = "";
    size_t bytes = 0;
    st_file *f = st_open_memory(data, size, "fuzz", why);
    if (!f) {
        if (!*why)
            abort();
        return 0;
    }
    for (int i = 0; i < st_count(f); i++) {
        const st_tensor *t = st_at(f, i);
        const uint8_t *begin = t->data;
        if (begin < data + 8 || begin > data + size || t->bytes > (size_t)(data + size - begin))
            abort();
        if (st_find(f, t->name) != t || t->ndim < 0 || t->ndim > 8 ||
            *st_dtype_name(t->dtype) == '?')
            abort();
        bytes += t->bytes;
    }
    if (bytes > size - 8)
        abort();
    st_release_pages(f);
    st_close(f);
    return 0;
}
