/* fuzz_safetensors.c - any bytes as a checkpoint file: what is accepted lies within the file, the
 * tensors tile its data, every name has a spelling in every part, and one-byte types widen. */
#include "plugin/streamdiffusion/checkpoint.h"
#include "plugin/streamdiffusion/fp8.h"
#include "plugin/streamdiffusion/ldm.h"
#include "plugin/streamdiffusion/safetensors.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void rename_all(const st_file *f)
{
    static const char *const parts[] = {"unet", "vae", "text_encoder", "text_encoder_2"};
    for (int p = 0; p < 4; p++) {
        ldm l;
        if (!ldm_init(&l, f, ldm_part_of(parts[p])))
            continue;
        for (int i = 0; i < st_count(f); i++) {
            ldm_view view[LDM_VIEWS];
            int n = ldm_views(&l, st_at(f, i)->name, view);
            for (int v = 0; v < n; v++) {
                if (memchr(view[v].name, 0, LDM_NAME) == NULL || view[v].part >= view[v].parts)
                    abort();
            }
        }
    }
}

static void widen(const st_tensor *t)
{
    uint16_t y[64];
    size_t n = t->bytes < 64 ? t->bytes : 64;
    if (t->dtype == ST_F8_E4M3 || t->dtype == ST_F8_E5M2)
        fp8_widen(y, t->data, n, t->dtype);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    checkpoint is;
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
        widen(t);
    }
    if (bytes > size - 8)
        abort();
    checkpoint_recognise(&is, f);
    if (!is.name)
        abort();
    rename_all(f);
    st_release_pages(f);
    st_close(f);
    return 0;
}
