/* moody.c - a plugin that behaves for `after` frames, and then does what `mood` says; for tests of
 * what the host makes of it. Otherwise it adds `amount` to every byte, after `slow_ms`.
 */
#include "scope_plugin.h"

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static const char schema[] = SCOPE_JSON({
    "title": "Moody",
    "properties": {
        "mood": {
            "type": "string", "default": "good", "description": "What it does.",
            "enum": ["good", "segv", "abort", "exit", "hang", "leak", "overrun", "nan", "tenth", "nothing", "device", "refuse"],
            "ui": {"order": 1, "label": "Mood"}
        },
        "after": {
            "type": "integer", "default": 20, "minimum": 0, "maximum": 100000,
            "description": "Good frames before it.", "ui": {"order": 2, "label": "After"}
        },
        "slow_ms": {
            "type": "integer", "default": 0, "minimum": 0, "maximum": 5000,
            "description": "Time of a frame.", "ui": {"order": 3, "label": "Slow", "unit": "ms"}
        },
        "amount": {
            "type": "integer", "default": 0, "minimum": 0, "maximum": 255,
            "description": "Added to every byte.", "ui": {"order": 4, "label": "Amount"}
        },
        "load_mb": {
            "type": "integer", "default": 0, "minimum": 0, "maximum": 100000,
            "description": "Memory that init takes; above 10000 it fails for want of it.",
            "ui": {"order": 5, "label": "Memory", "is_load_param": true}
        },
        "load_ms": {
            "type": "integer", "default": 0, "minimum": 0, "maximum": 60000,
            "description": "Time that init takes.", "ui": {"order": 6, "label": "Load time", "is_load_param": true}
        }
    }
});

struct moody {
    const scope_host *host;
    int frames;
    char *memory;
};

static void wait_ms(int64_t ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&t, 0);
}

static int init(const scope_host *host, const scope_kwargs *kw, scope_video *want, void **self,
                scope_error *err)
{
    int64_t mb = scope_int(kw, "load_mb");
    (void)want;
    for (int64_t ms = 0; ms < scope_int(kw, "load_ms"); ms += 50) {
        if (host->cancelled(host))
            return scope_fail(err, SCOPE_ECANCEL, "cancelled");
        host->progress(host, (double)ms / (double)scope_int(kw, "load_ms"), "waiting");
        wait_ms(50);
    }
    if (mb > 10000)
        return scope_fail(err, SCOPE_ENOMEM, "%lld MB are too much", (long long)mb);
    struct moody *m = calloc(1, sizeof *m);
    m->host = host;
    m->memory = mb ? malloc((size_t)mb << 20) : 0;
    if (m->memory)
        memset(m->memory, 1, (size_t)mb << 20);
    *self = m;
    return 0;
}

static int fail_in(struct moody *m, const char *mood, scope_video *out, scope_error *err)
{
    if (!strcmp(mood, "segv"))
        raise(SIGSEGV);
    if (!strcmp(mood, "abort"))
        abort();
    if (!strcmp(mood, "exit"))
        exit(3);
    while (!strcmp(mood, "hang"))
        pause();
    if (!strcmp(mood, "leak"))
        memset(malloc(8 << 20), 1, 8 << 20);
    if (!strcmp(mood, "overrun"))
        memset((char *)out->data + out->h * out->stride_h, 1, 1 << 20);
    if (!strcmp(mood, "tenth") && m->frames % 10 == 0)
        return scope_fail(err, SCOPE_EIO, "every tenth frame fails");
    if (!strcmp(mood, "refuse")) {
        scope_fail(err, SCOPE_EINVAL, "not in this mood");
        strcpy(err->field, "mood");
        return SCOPE_EINVAL;
    }
    if (!strcmp(mood, "device"))
        return scope_fail(err, SCOPE_EDEVICE, "the device is lost");
    if (!strcmp(mood, "nothing"))
        out->data = 0;
    return 0;
}

static int process(void *self, const scope_kwargs *kw, const scope_video *in, scope_video *out,
                   scope_error *err)
{
    struct moody *m = self;
    const char *mood = scope_str(kw, "mood");
    int nan_now = !strcmp(mood, "nan") && m->frames >= scope_int(kw, "after");
    int amount = (int)scope_int(kw, "amount");
    *out = *in;
    out->dtype = nan_now ? SCOPE_F32 : SCOPE_U8;
    out->data = 0;
    if (scope_int(kw, "slow_ms"))
        wait_ms(scope_int(kw, "slow_ms"));
    int status = m->host->video(m->host, out, err);
    if (status)
        return status;
    if (m->frames++ >= scope_int(kw, "after") && (status = fail_in(m, mood, out, err)))
        return status;
    for (int y = 0; out->data && y < out->h; y++) {
        const uint8_t *from = (const uint8_t *)in->data + y * in->stride_h;
        uint8_t *to = (uint8_t *)out->data + y * out->stride_h;
        for (int x = 0; x < out->w * out->c; x++) {
            if (nan_now)
                ((float *)(void *)to)[x] = NAN;
            else
                to[x] = (uint8_t)(from[x] + amount);
        }
    }
    return 0;
}

static void fini(void *self)
{
    free(((struct moody *)self)->memory);
    free(self);
}

static const scope_plugin moody = {"org.test.moody", "1.0.0", schema, init, process, 0, fini, 0};

SCOPE_LIBRARY(&moody);
