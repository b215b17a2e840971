/* trail - state: whatever is bright leaves a fading trail.
 *
 * It teaches to keep a past: in memory of one's own, taken only when the size changes (a frame is
 * the host's, and gone after the call), faded by time and not per frame, forgotten in reset().
 */
#include "scope_plugin.h"

#include <math.h>
#include <stdlib.h>

static const char schema[] = SCOPE_JSON({
    "title": "Trail",
    "description": "Whatever is bright leaves a fading trail.",
    "properties": {
        "half_life": {
            "type": "number", "default": 0.25, "minimum": 0.01, "maximum": 5, "step": 0.01,
            "description": "Time after which a trail is half as bright.",
            "ui": {"order": 1, "label": "Half-life", "unit": "s", "modulatable": true}
        }
    }
});

struct trail {
    const scope_host *host;
    float *past; /* owned; the last output, `size` values */
    size_t size; /* 0: there is no past */
    int64_t pts_us;
};

static int trail_init(const scope_host *host, const scope_kwargs *kw, scope_video *want,
                      void **self, scope_error *err)
{
    (void)kw, (void)want;
    struct trail *tr = *self = calloc(1, sizeof *tr);
    if (tr)
        tr->host = host;
    return tr ? SCOPE_OK : scope_fail(err, SCOPE_ENOMEM, "no memory for an instance");
}

static int trail_process(void *self, const scope_kwargs *kw, const scope_video *in,
                         scope_video *out, scope_error *err)
{
    struct trail *tr = self;
    size_t size = (size_t)in->w * (size_t)in->h * (size_t)in->c;
    if (size != tr->size) { /* another size: another past */
        free(tr->past);
        tr->past = calloc(size, sizeof *tr->past);
        tr->size = tr->past ? size : 0;
        if (!tr->past)
            return scope_fail(err, SCOPE_ENOMEM, "no memory for %dx%d pixels", in->w, in->h);
    }
    *out = *in;
    if (tr->host->video(tr->host, out, err) < 0)
        return err->status;
    double seconds = fmax(0, 1e-6 * (double)(in->pts_us - tr->pts_us));
    float fade = (float)exp2(-seconds / scope_num(kw, "half_life")), *past = tr->past;
    tr->pts_us = in->pts_us;
    for (int y = 0; y < in->h; y++) {
        const uint8_t *src = scope_row(in, 0, y);
        uint8_t *dst = scope_row(out, 0, y);
        for (int x = 0; x < in->w * in->c; x++, past++)
            dst[x] = (uint8_t)(*past = fmaxf(src[x], fade * *past));
    }
    return SCOPE_OK;
}

static void trail_reset(void *self)
{
    ((struct trail *)self)->size = 0;
}

static void trail_fini(void *self)
{
    free(((struct trail *)self)->past);
    free(self);
}

static const scope_plugin trail = {"org.example.trail", "1.0.0",     schema,     trail_init,
                                   trail_process,       trail_reset, trail_fini, NULL};
SCOPE_LIBRARY(&trail);
