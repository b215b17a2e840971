/* controls.c - a plugin with one parameter of every kind, which paints their values: each has a
 * square of its own in a board of 8 x 4, as bright as its value says. So a test sees in the picture
 * what is in force, through encoders and all.
 *
 * It takes frames and looks at none of them; the last square blinks with each.
 */
#include "scope_plugin.h"

#include <stdlib.h>

static const char schema[] = SCOPE_JSON({
    "title": "Controls",
    "description": "One parameter of every kind, painted.",
    "properties": {
        "amount": {"type": "number", "default": 0, "minimum": 0, "maximum": 1,
                   "description": "A share.", "ui": {"order": 1, "label": "Amount", "modulatable": true}},
        "count": {"type": "integer", "default": 0, "minimum": 0, "maximum": 10, "step": 2,
                  "description": "An even number.", "ui": {"order": 2, "label": "Count", "unit": "things"}},
        "free": {"type": "integer", "default": 0, "description": "A number without bounds.",
                 "ui": {"order": 3, "label": "Free"}},
        "on": {"type": "boolean", "default": false, "description": "A switch.", "ui": {"order": 4, "label": "On"}},
        "power": {"type": "integer", "default": 1, "enum": [1, 2, 4, 8], "description": "A choice of numbers.",
                  "ui": {"order": 5, "label": "Power"}},
        "mode": {"type": "string", "default": "nothing", "enum": ["nothing", "a little", "rather more", "very much", "all of it"],
                 "description": "A choice of many words.", "ui": {"order": 6, "label": "Mode"}},
        "word": {"type": "string", "default": "", "description": "A line of text.", "ui": {"order": 7, "label": "Word"}},
        "story": {"type": "string", "default": "", "description": "Several lines.",
                  "ui": {"order": 8, "label": "Story", "multiline": true}},
        "prompts": {"type": "array", "default": [{"text": "", "weight": 1}], "minItems": 1, "maxItems": 8,
                    "description": "Texts with weights.",
                    "items": {"type": "object", "properties": {
                        "text": {"type": "string", "default": "", "ui": {"multiline": true}},
                        "weight": {"type": "number", "default": 1, "minimum": 0, "maximum": 100}}},
                    "ui": {"order": 9, "label": "Prompts", "category": "input"}},
        "transition_steps": {"$ref": "base.json#/transition_steps"},
        "numbers": {"type": "array", "default": [], "maxItems": 8, "items": {"type": "integer", "minimum": 0, "maximum": 999},
                    "description": "Numbers.", "ui": {"order": 12, "label": "Numbers"}},
        "words": {"type": "array", "default": [], "maxItems": 8, "items": {"type": "string"},
                  "description": "Words.", "ui": {"order": 13, "label": "Words"}},
        "things": {"type": "array", "default": [], "maxItems": 8, "description": "Objects.",
                   "items": {"type": "object", "properties": {
                       "name": {"type": "string", "default": "", "ui": {"order": 1, "label": "Name"}},
                       "level": {"type": "number", "default": 0.5, "minimum": 0, "maximum": 1, "ui": {"order": 2, "label": "Level"}}}},
                   "ui": {"order": 14, "label": "Things"}},
        "seed": {"$ref": "base.json#/seed"},
        "picture": {"type": "string", "default": "", "description": "A picture.",
                    "ui": {"order": 16, "label": "Picture", "component": "image"}},
        "data_path": {"type": "string", "default": "", "description": "A file.", "ui": {"order": 17, "label": "Data"}},
        "loras": {"type": "array", "default": [], "maxItems": 4, "description": "LoRAs.",
                  "items": {"type": "object", "properties": {
                      "path": {"type": "string", "default": "", "ui": {"order": 0, "label": "File"}},
                      "scale": {"type": "number", "default": 1, "minimum": -4, "maximum": 4, "ui": {"order": 1, "label": "Scale"}}}},
                  "ui": {"order": 18, "label": "LoRAs", "component": "lora", "group": "More"}},
        "place": {"type": "object", "description": "A place.", "properties": {
                      "x": {"type": "number", "default": 0, "minimum": 0, "maximum": 1, "ui": {"order": 1, "label": "Across"}},
                      "far": {"type": "boolean", "default": false, "ui": {"order": 2, "label": "Far"}}},
                  "ui": {"order": 19, "label": "Place", "group": "More"}},
        "extra": {"type": "number", "default": 0, "minimum": -1, "maximum": 1, "description": "Seen when it is on.",
                  "ui": {"order": 20, "label": "Extra", "visible_if": {"on": true}}},
        "quality": {"type": "integer", "default": 1, "minimum": 1, "maximum": 5, "description": "Read once.",
                    "ui": {"order": 21, "label": "Quality", "is_load_param": true}},
        "odd": {"type": "integer", "default": 1, "minimum": 0, "maximum": 9, "description": "The plugin itself refuses 7 at load.",
                "ui": {"order": 22, "label": "Odd", "is_load_param": true}},
        "hidden": {"type": "integer", "default": 0, "description": "Without ui: shown nowhere."},
        "width": {"$ref": "base.json#/width", "default": 320},
        "height": {"$ref": "base.json#/height", "default": 192}
    }
});

enum { ACROSS = 8, DOWN = 4 };

struct board {
    const scope_host *host;
    int64_t quality;
    int frames;
};

static int init(const scope_host *host, const scope_kwargs *kw, scope_video *want, void **self,
                scope_error *err)
{
    (void)want;
    if (scope_int(kw, "odd") == 7)
        return scope_fail_field(err, SCOPE_EINVAL, "odd", "odd is 7, which is too odd");
    struct board *b = *self = calloc(1, sizeof *b);
    if (!b)
        return scope_fail(err, SCOPE_ENOMEM, "no memory for an instance");
    b->host = host;
    b->quality = scope_int(kw, "quality");
    host->progress(host, 0.5, "colours");
    return SCOPE_OK;
}

/* A number that says something of any value: numbers as they are, texts by their length, lists and
 * objects by the sum of what they hold. */
static double measure(const scope_value *v)
{
    double sum = 0;
    switch (v->type) {
    case SCOPE_NUM:
        return v->u.f;
    case SCOPE_STR:
        return (double)strlen(v->u.s);
    case SCOPE_LIST:
    case SCOPE_OBJ:
        for (int i = 0; i < v->count; i++)
            sum += measure(&v->u.at[i]);
        return sum;
    default:
        return (double)v->u.i;
    }
}

static void squares(const struct board *b, const scope_kwargs *kw, double *level)
{
    static const struct {
        const char *name;
        double unit; /* brightness of 1 */
    } at[] = {
        {"amount", 250},  {"count", 25}, {"free", 1},    {"on", 250},     {"power", 30},
        {"mode", 20},     {"word", 20},  {"story", 10},  {"prompts", 20}, {"transition_steps", 1},
        {"numbers", 0.2}, {"words", 20}, {"things", 50}, {"seed", 1e-7},  {"picture", 4},
        {"data_path", 4}, {"loras", 5},  {"place", 100}, {"extra", 200}};
    size_t n = sizeof at / sizeof *at;
    for (size_t i = 0; i < n; i++)
        level[i] = measure(scope_get(kw, at[i].name)) * at[i].unit;
    level[n] = 50.0 * (double)b->quality;
    level[ACROSS * DOWN - 1] = b->frames & 1 ? 250 : 0;
}

static int process(void *self, const scope_kwargs *kw, const scope_video *in, scope_video *out,
                   scope_error *err)
{
    struct board *b = self;
    double level[ACROSS * DOWN] = {0};
    *out =
        (scope_video){.t = 1, .c = 3, .dtype = SCOPE_U8, .device = SCOPE_CPU, .pts_us = in->pts_us};
    out->w = (int32_t)scope_int(kw, "width");
    out->h = (int32_t)scope_int(kw, "height");
    if (b->host->video(b->host, out, err) < 0)
        return err->status;
    b->frames++;
    squares(b, kw, level);
    for (int y = 0; y < out->h; y++) {
        uint8_t *row = scope_row(out, 0, y);
        for (int x = 0; x < out->w; x++) {
            double v = level[y * DOWN / out->h * ACROSS + x * ACROSS / out->w];
            memset(row + 3 * x, (int)(v < 0 ? 0 : v > 255 ? 255 : v), 3);
        }
    }
    return SCOPE_OK;
}

static const scope_plugin controls = {
    .id = "org.test.controls",
    .version = "1.0.0",
    .schema = schema,
    .init = init,
    .process = process,
    .fini = free,
};
SCOPE_LIBRARY(&controls);
