/* color - a generator: slow waves of colour out of nothing.
 *
 * It teaches three things: want->t = 0 asks for no input, width and height are ordinary parameters
 * (shared ones, from base.json), and time is the frame's own time, never a count of frames, so that
 * the waves move alike at 24 and at 60 frames a second.
 */
#include "scope_plugin.h"

#include <math.h>

static const char schema[] = SCOPE_JSON({
    "title": "Colour waves",
    "description": "Slow waves of colour, of any size and length.",
    "properties": {
        "width": {"$ref": "base.json#/width", "default": 640, "minimum": 16, "step": 1},
        "height": {"$ref": "base.json#/height", "default": 360, "minimum": 16, "step": 1},
        "speed": {
            "type": "number", "default": 0.2, "minimum": 0, "maximum": 4, "step": 0.05,
            "description": "Turns of the colour wheel per second.",
            "ui": {"order": 1, "label": "Speed", "unit": "Hz", "modulatable": true}
        },
        "waves": {
            "type": "number", "default": 2, "minimum": 0.5, "maximum": 20, "step": 0.5,
            "description": "Waves across the height of the picture.",
            "ui": {"order": 2, "label": "Waves"}
        }
    }
});

static int color_init(const scope_host *host, const scope_kwargs *kw, scope_video *want,
                      void **self, scope_error *err)
{
    (void)kw, (void)err;
    want->t = 0;          /* a generator */
    *self = (void *)host; /* all the state we need */
    return SCOPE_OK;
}

static int color_process(void *self, const scope_kwargs *kw, const scope_video *in,
                         scope_video *out, scope_error *err)
{
    const scope_host *host = self;
    const float turn = 6.2831853f;
    float phase = turn * (float)fmod(1e-6 * (double)out->pts_us * scope_num(kw, "speed"), 1.0);

    (void)in; /* NULL; the time to draw is in out->pts_us */
    *out = (scope_video){.t = 1, .c = 3, .dtype = SCOPE_U8, .device = SCOPE_CPU};
    out->w = (int32_t)scope_int(kw, "width");
    out->h = (int32_t)scope_int(kw, "height");
    int status = host->video(host, out, err);
    if (status < 0)
        return status;
    float step = turn * (float)scope_num(kw, "waves") / (float)out->h;
    for (int y = 0; y < out->h; y++) {
        uint8_t *dst = scope_row(out, 0, y);
        float across = sinf(step * (float)y + phase);
        for (int x = 0; x < out->w; x++) {
            float hue = phase + 2 * (across + sinf(step * (float)x - 2 * phase));
            for (int c = 0; c < 3; c++)
                *dst++ = (uint8_t)(128 + 127 * sinf(hue + turn / 3 * (float)c));
        }
    }
    return SCOPE_OK;
}

static void color_fini(void *self)
{
    (void)self; /* the host is not ours */
}

static const scope_plugin color = {
    .id = "org.example.color",
    .version = "1.0.0",
    .schema = schema,
    .init = color_init,
    .process = color_process,
    .fini = color_fini,
};
SCOPE_LIBRARY(&color);
