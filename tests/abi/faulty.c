/* faulty.c - a plugin with one fault, chosen when it is built (build.sh lists them all).
 *
 * Faults in what it does are told by FAULT at run time; faults in what it is (ABI, ID, SCHEMA, its
 * symbols) by the macros below. With FAULT "good" it is a plugin like any other.
 */
#include "scope_plugin.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#ifndef ABI
#define ABI SCOPE_ABI
#endif
#ifndef ID
#define ID "org.test." FAULT
#endif
#ifndef SCHEMA
#define SCHEMA                                                                                     \
    SCOPE_JSON({"title": "Faulty", "properties": {"amount": { \
    "type": "integer", "default": 3, "minimum": 0, "maximum": 9, "description": "Added to all.", \
    "ui": {"order": 1, "label": "Amount"}}, "model": { \
    "type": "string", "default": "", "description": "Loaded once.", \
    "ui": {"order": 2, "label": "Model", "is_load_param": true}}}})
#endif

enum { LATE = 3 };

struct faulty {
    const scope_host *host;
    uint8_t *kept;      /* a frame of an earlier call */
    uint8_t late[LATE]; /* first bytes of the last frames, the oldest first */
    int frames;
    int64_t width; /* that it was told */
};

static int shared_state; /* of all instances: a fault by itself */

static int is(const char *fault)
{
    return !strcmp(FAULT, fault);
}

static int is_late(void)
{
    return is("late") || is("late_batch");
}

__attribute__((constructor)) static void at_load(void)
{
    if (is("segv_at_load"))
        raise(SIGSEGV);
    if (is("abort_at_load"))
        abort();
    if (is("exit_at_load"))
        exit(0);
    while (is("hang_at_load"))
        pause();
    while (is("talkative"))
        (void)!write(2, FAULT FAULT FAULT FAULT "\n", 4 * sizeof FAULT - 3);
    if (is("prints_at_load"))
        printf("{\"this\": \"is not the report\"}\n"), fflush(stdout);
    if (is("forks_at_load") && fork() == 0) {
        for (;;)
            pause();
    }
}

static int init(const scope_host *host, const scope_kwargs *kw, scope_video *want, void **self,
                scope_error *err)
{
    if (is("fails_in_init"))
        return scope_fail_field(err, SCOPE_EINVAL, "model", "no model %s", scope_str(kw, "model"));
    if (is("fails_silently"))
        return SCOPE_EIO;
    if (is("needs_weights") && !scope_str(kw, "model")[0])
        return scope_fail(err, SCOPE_EIO, "no weights; set model");
    if (is("cancels_alone") || (is("cancels") && host->cancelled(host)))
        return scope_fail(err, SCOPE_ECANCEL, "given up");
    if (is("crashes_in_init"))
        raise(SIGSEGV);
    if (is("fails_at_nine") && scope_int(kw, "amount") == 9)
        return scope_fail_field(err, SCOPE_EINVAL, "amount", "nine is too many");
    if (is("hangs_in_init"))
        host->progress(host, 0.1, "hanging");
    while (is("hangs_in_init"))
        pause();
    for (int i = 0; is("loads_slowly"); i++) { /* until nobody wants it any more */
        host->progress(host, i < 100 ? i * 0.01 : 1, "reading");
        if (host->cancelled(host))
            return scope_fail(err, SCOPE_ECANCEL, "given up");
        usleep(1000);
    }
    if (is("loads_late"))
        host->progress(host, 0.5, "half"), usleep(300 * 1000);
    if (is("wants_nonsense"))
        want->c = 7;
    if (is("video_in_init"))
        host->video(host, want, err);
    if (is("leaks_file"))
        (void)!open("/dev/null", O_RDONLY);
    if (is("fixed_size"))
        want->w = 40, want->h = 24;
    if (is("generator"))
        want->t = 0;
#ifdef BATCH
    want->t = BATCH;
#endif
    if (is("takes_extra"))
        want->c = 0;
    if (is("returns_nan"))
        want->dtype = SCOPE_F32;
    struct faulty *f = calloc(1, sizeof *f);
    f->host = host;
    *self = f;
    return SCOPE_OK;
}

/* Faults that need no frame; nonzero when the call ends with them. */
static int misbehave(struct faulty *f, int64_t amount, const scope_video *in, scope_video *out,
                     scope_error *err)
{
    static uint8_t mine[1 << 20];
    if (is("fails_in_process"))
        return scope_fail(err, SCOPE_EINVAL, "cannot do that");
    if (is("loses_device"))
        return scope_fail(err, SCOPE_EDEVICE, "the device is gone");
    if (is("positive_status"))
        return 5;
    if (is("crashes_in_process") && in->w == 17)
        raise(SIGSEGV);
    if (is("aborts_in_process"))
        abort();
    if (is("exits_in_process"))
        exit(0);
    while (is("hangs_in_process"))
        pause();
    if (is("writes_input"))
        ((uint8_t *)in->data)[0] = 1;
    if (is("leaks_in_process"))
        memset(malloc(1000), 1, 1000);
    if (is("leaks_much"))
        memset(malloc(8 << 20), 1, 8 << 20);
    if (is("fails_tenth") && f->frames++ % 10 == 9)
        return scope_fail_field(err, SCOPE_EINVAL, "amount", "the tenth frame is one too many");
    if (is("prints"))
        fprintf(stderr, "frame %d\n", f->frames++);
    while (is("hangs_at_nine") && amount == 9)
        pause();
    if (is("allocates"))
        free(memset(malloc(1000), 1, 1000));
    if (is("progress_in_process"))
        f->host->progress(f->host, 0.5, "late");
    if (is("uses_old_frame") && f->kept)
        f->kept[0] = 1;
    if (is("alien_output")) {
        *out = *in;
        out->data = mine;
        return 1;
    }
    if (is("emits_nothing") || is("unchanged")) {
        *out = *in;
        out->data = is("unchanged") ? in->data : NULL;
        return 1;
    }
    if (is("many_frames")) {
        for (int i = 0; i < 1000; i++) {
            *out = *in;
            int status = f->host->video(f->host, out, err);
            if (status < 0)
                return status;
        }
    }
    return 0;
}

/* The first byte of the input "extra", and of one that nobody gives. */
static int extra(const struct faulty *f)
{
    const scope_inputs *inputs = is("takes_extra") ? f->host->extension(f->host, SCOPE_INPUTS) : 0;
    const scope_video *v = inputs ? inputs->get(f->host, "extra") : NULL;
    if (inputs && inputs->get(f->host, "other"))
        abort();
    return v ? *(const uint8_t *)v->data : 0;
}

static int process(void *self, const scope_kwargs *kw, const scope_video *in, scope_video *out,
                   scope_error *err)
{
    struct faulty *f = self;
    scope_video none = {.t = 1, .h = 8, .w = 8, .c = 3, .dtype = SCOPE_U8, .device = SCOPE_CPU};
    if (is("replans") && f->width != scope_int(kw, "width"))
        usleep(2500 * 1000);
    f->width = scope_int(kw, "width");
    int status = misbehave(f, scope_int(kw, "amount"), in, out, err);
    if (status)
        return is("positive_status") || status < 0 ? status : SCOPE_OK;
    *out = in ? *in : none;
    if ((status = f->host->video(f->host, out, err)) < 0)
        return status;
    shared_state++;
    for (int i = 0; is("returns_nan") && i < out->h * out->w * out->c; i++)
        ((float *)out->data)[i] = 0.0f / 0.0f;
    if (is("returns_nan"))
        return SCOPE_OK;
    int noise = is("random") || is("shares_state") ? shared_state : extra(f);
    int rows = is("unwritten") ? out->h - 1 : out->h;
    for (int y = 0; y < rows; y++) {
        uint8_t *dst = scope_row(out, 0, y);
        for (int x = 0; x < out->w * out->c; x++) {
            uint8_t from = in ? ((uint8_t *)scope_row(in, 0, y))[x] : (uint8_t)(out->pts_us / 1000);
            dst[x] = (uint8_t)(from + scope_int(kw, "amount") + noise);
        }
    }
    for (int t = 0; is_late() && t < out->t; t++) { /* each picture is that of LATE frames ago */
        const uint8_t *from = scope_row(in, t, 0);
        uint8_t first = f->frames++ ? f->late[0] : *from;
        for (int i = 0; f->frames == 1 && i < LATE; i++)
            f->late[i] = *from;
        memset(scope_row(out, t, 0), first, (size_t)out->stride_t);
        memmove(f->late, f->late + 1, LATE - 1);
        f->late[LATE - 1] = *from;
    }
    if (is("overruns"))
        ((uint8_t *)out->data)[out->stride_t] = 1;
    if (is("underruns"))
        ((uint8_t *)out->data)[-1] = 1;
    if (is("bends_strides"))
        out->stride_h++;
    if (is("sets_pts"))
        out->pts_us = 77;
    f->kept = out->data;
    return SCOPE_OK;
}

static void reset(void *self)
{
    (void)self;
    if (!is("random"))
        shared_state = 0;
}

static void fini(void *self)
{
    if (is("crashes_in_fini"))
        raise(SIGSEGV);
    if (!is("leaks_instance"))
        free(self);
}

static int32_t last_stages(void *self, scope_stage *stages, int32_t max)
{
    (void)self;
    static const scope_stage all[] = {{"add", 1.5}, {"rest", 0.5}};
    for (int32_t i = 0; i < max && i < 2; i++)
        stages[i] = all[i];
    return 2;
}

static int32_t frames_late(void *self)
{
    const struct faulty *f = self;
    return f->frames ? LATE : 0;
}

static int64_t count(void *self)
{
    (void)self;
    return shared_state;
}

static void tell_plan(void *self, void (*line)(void *ctx, const char *text), void *ctx)
{
    (void)self;
    char text[] = "first";
    line(ctx, text);
    memcpy(text, "later", sizeof text);
    line(ctx, text);
}

static const void *extension(const char *id)
{
    static const scope_stages stages = {last_stages};
    static const scope_latency latency = {frames_late};
    if (is_late() && !strcmp(id, SCOPE_LATENCY))
        return &latency;
    static const char *const names[] = {"other", "extra", NULL};
    static const scope_input_names inputs = {names};
    static const scope_repeats repeats = {count};
    static const scope_plan plan = {tell_plan};
    if (is("takes_extra") && strcmp(id, SCOPE_STAGES))
        return !strcmp(id, SCOPE_INPUTS)    ? (const void *)&inputs
               : !strcmp(id, SCOPE_REPEATS) ? (const void *)&repeats
               : !strcmp(id, SCOPE_PLAN)    ? (const void *)&plan
                                            : NULL;
    return strcmp(id, SCOPE_STAGES) ? NULL : &stages;
}

#ifdef EXTRA_SYMBOL
SCOPE_EXPORT int extra_symbol(void);
int extra_symbol(void)
{
    return 1;
}
#endif

#ifndef NO_SYMBOL
#ifdef NO_PROCESS
#define process NULL
#endif
static const scope_plugin faulty = {ID, "1.2.3", SCHEMA, init, process, reset, fini, extension};
#ifdef TWO_PLUGINS
static const scope_plugin second = {ID ".second", "1.2.3", SCHEMA, init,
                                    process,      reset,   fini,   extension};
static const scope_plugin *const plugins[] = {&faulty, &second, NULL};
#else
static const scope_plugin *const plugins[] = {&faulty, NULL};
#endif
const scope_library scope_entry = {ABI, plugins};
#endif
