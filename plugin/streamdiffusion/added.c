/* added.c - see added.h. */
#include "added.h"

#include "alloc.h"

#include <stdlib.h>

enum { SIZES = 6 };

int added_init(k_ctx *k, const model *m, added *a)
{
    int channels = unet_added_channels(m->unet);
    *a = (added){0};
    if (!channels)
        return 0;
    a->row = k_keep(k, K_F32, 1, 1, 1, channels);
    a->from = sd_calloc((size_t)text_pooled(m) + SIZES, sizeof *a->from);
    return a->from ? 0 : -1;
}

void added_fini(k_ctx *k, added *a)
{
    k_drop(k, &a->row);
    free(a->from);
    a->from = NULL;
}

static void make(k_ctx *k, const model *m, const added *a)
{
    size_t mark = k_mark(k);
    int n = text_pooled(m);
    k_tensor pooled = k_temp(k, K_F32, 1, 1, 1, n), sizes = k_temp(k, K_F32, SIZES, 1, 1, 1);
    k_put(k, pooled, a->from);
    k_put(k, sizes, a->from + n);
    unet_added(k, m->unet, a->row, pooled, sizes, NULL);
    k_release(k, mark);
}

void added_plan(k_ctx *k, const model *m, const added *a)
{
    if (a->row.dtype)
        make(k, m, a);
}

/* a's shape, with `shorter` as its shorter side. */
static void original_of(const added_size *a, float *height, float *width)
{
    int shorter = a->height < a->width ? a->height : a->width;
    double scale = a->original > 0 ? (double)a->original / shorter : 1;
    *height = (float)(int)(a->height * scale + 0.5);
    *width = (float)(int)(a->width * scale + 0.5);
}

int added_set(k_ctx *k, const model *m, added *a, const float *flat, added_size size)
{
    if (!a->row.dtype)
        return 0;
    size_t n = (size_t)text_pooled(m);
    const float *pooled = flat + (text_size(m) - n);
    float sizes[SIZES] = {0, 0, 0, 0, (float)size.height, (float)size.width};
    original_of(&size, &sizes[0], &sizes[1]);
    if (a->known && !memcmp(a->from, pooled, n * sizeof *pooled) &&
        !memcmp(a->from + n, sizes, sizeof sizes))
        return 0;
    memcpy(a->from, pooled, n * sizeof *pooled);
    memcpy(a->from + n, sizes, sizeof sizes);
    make(k, m, a);
    a->known = !k->status;
    return 1;
}
