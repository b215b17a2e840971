/* invert - a filter: the colours of each frame turned over, by a chosen amount.
 *
 * A complete plugin. It teaches the round trip: a schema becomes a slider and a flag, init() makes
 * an instance, and process() reads the value, asks the host for a frame and fills it.
 */
#include "scope_plugin.h"

#include <stdlib.h>

static const char schema[] =
    SCOPE_JSON({
    "title": "Invert colours",
    "description": "Turns the colours of the input over.",
    "properties": {
        "intensity": {
            "type": "number", "default": 1.0, "minimum": 0.0, "maximum": 1.0, "step": 0.01,
            "description": "0 leaves the picture alone, 1 inverts it fully.",
            "ui": {"order": 1, "label": "Intensity", "modulatable": true}
        }
    }
});

struct invert {
    const scope_host *host;
};

static int invert_init(const scope_host *host, const scope_kwargs *kw, scope_video *want,
                       void **self, scope_error *err)
{
    (void)kw, (void)want; /* one U8 CPU frame per call, of any size, is what we want */
    struct invert *inv = calloc(1, sizeof *inv);
    if (!inv)
        return scope_fail(err, SCOPE_ENOMEM, "no memory for an instance");
    inv->host = host;
    *self = inv;
    return SCOPE_OK;
}

static int invert_process(void *self, const scope_kwargs *kw, const scope_video *in,
                          scope_video *out, scope_error *err)
{
    struct invert *inv = self;
    int k = (int)(256 * scope_num(kw, "intensity")); /* complete and in range: just use it */

    *out = *in; /* the same shape; the host replaces data with a frame of its own */
    int status = inv->host->video(inv->host, out, err);
    if (status < 0)
        return status;
    for (int y = 0; y < in->h; y++) {
        const uint8_t *src = scope_row(in, 0, y);
        uint8_t *dst = scope_row(out, 0, y);
        for (int x = 0; x < in->w * in->c; x++)
            dst[x] = (uint8_t)(src[x] + (((255 - 2 * src[x]) * k) >> 8));
    }
    return SCOPE_OK;
}

static const scope_plugin invert = {
    .id = "org.example.invert",
    .version = "1.0.0",
    .schema = schema,
    .init = invert_init,
    .process = invert_process,
    .fini = free,
};
SCOPE_LIBRARY(&invert);
