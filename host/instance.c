/* instance.c - one loaded plugin at work, and the scope_host that it sees.
 *
 * Sits between media (which has frames) and a plugin (which has a scope_plugin). Must stay true:
 * nothing is read from a library before its abi is known; every frame lent during a call is back in
 * the pool when the call ends, but for the one that is the output; a plugin's answer is believed
 * only as far as it can be checked.
 */
#include "instance.h"
#include "error.h"
#include "library.h"
#include "version.h"

#include <assert.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LENT_MAX = 32 };  /* frames a plugin may ask for in one call */
enum { EXTRAS_MAX = 8 }; /* inputs beside the main one */

enum turn { IDLE, LOADING, FRAMING };

struct instance {
    scope_host host;            /* its ctx is this instance */
    void *library;              /* dlopen handle */
    const scope_plugin *plugin; /* borrowed from the library */
    void *self;                 /* the plugin's; valid while `started` */
    schema *schema;             /* owned */
    json_t *values;             /* owned; complete */
    scope_kwargs *kwargs;       /* owned; the same values, bound */
    scope_video want;
    frame_pool *pool; /* borrowed until instance_close */
    instance_sink sink;
    const scope_stages *stages; /* borrowed from the library, as the next three; NULL: not told */
    const scope_latency *latency;
    const scope_repeats *repeats;
    const scope_plan *plan;
    const scope_input_names *inputs;
    struct {
        const char *name; /* borrowed */
        frame *f;         /* referenced */
        scope_video seen; /* what the plugin gets of it: a copy that it may bend */
    } extra[EXTRAS_MAX];
    int extras;

    int turn;              /* atomic enum turn: which tag is being called */
    pthread_t runner;      /* the thread of that call; valid while turn is not IDLE */
    bool started;          /* init() returned 0 */
    bool lost;             /* process() returned SCOPE_EDEVICE */
    frame *lent[LENT_MAX]; /* referenced; empty between calls */
    int lent_count;
    int64_t pts_us; /* of the frame being made */
    double last_ms;
    pthread_mutex_t misuse_lock;
    char misuse[160]; /* "" while the plugin behaves */
};

/* ---- thread tags ----------------------------------------------------------------------------- */

static void enter(instance *in, enum turn turn)
{
    int idle = IDLE;
    bool alone = __atomic_compare_exchange_n(&in->turn, &idle, turn, false, __ATOMIC_ACQUIRE,
                                             __ATOMIC_RELAXED);
    assert(alone && "[load] and [frame] calls of one instance never overlap");
    (void)alone;
    in->runner = pthread_self();
}

static void leave(instance *in)
{
    __atomic_store_n(&in->turn, IDLE, __ATOMIC_RELEASE);
}

static bool is_turn(const instance *in, enum turn turn)
{
    return __atomic_load_n(&in->turn, __ATOMIC_ACQUIRE) == (int)turn &&
           pthread_equal(in->runner, pthread_self());
}

static void misused(instance *in, const char *what)
{
    pthread_mutex_lock(&in->misuse_lock);
    bool first = !in->misuse[0];
    if (first)
        snprintf(in->misuse, sizeof in->misuse, "%s", what);
    pthread_mutex_unlock(&in->misuse_lock);
    if (first && in->sink.log)
        in->sink.log(in->sink.ctx, SCOPE_WARN, in->plugin->id, what);
}

/* ---- the host, as the plugin sees it --------------------------------------------------------- */

static void host_log(const scope_host *host, int level, const char *line)
{
    instance *in = host->ctx;
    if (in->sink.log)
        in->sink.log(in->sink.ctx, level, in->plugin->id, line ? line : "");
}

static int host_video(const scope_host *host, scope_video *v, scope_error *err)
{
    instance *in = host->ctx;
    if (!is_turn(in, FRAMING)) {
        misused(in, "called host->video() outside process(), or from a thread of its own");
        return error_set(err, SCOPE_EINVAL, "", "host->video() is for the thread of process()");
    }
    if (v->device != SCOPE_CPU)
        return error_set(err, SCOPE_EINVAL, "",
                         "this host has no frames on device %d; ask for SCOPE_CPU", v->device);
    if (in->lent_count == LENT_MAX)
        return error_set(err, SCOPE_EINVAL, "", "more than %d frames asked for in one call",
                         LENT_MAX);
    frame *f = frame_new(in->pool, v, err);
    if (!f)
        return err->status;
    f->v.pts_us = in->pts_us;
    in->lent[in->lent_count++] = f;
    *v = f->v;
    return SCOPE_OK;
}

static void host_progress(const scope_host *host, double done, const char *phase)
{
    instance *in = host->ctx;
    if (__atomic_load_n(&in->turn, __ATOMIC_ACQUIRE) != LOADING)
        misused(in, "called host->progress() outside init()");
    else if (in->sink.progress)
        in->sink.progress(in->sink.ctx, done < 0 ? 0 : done > 1 ? 1 : done, phase ? phase : "");
}

static int host_cancelled(const scope_host *host)
{
    instance *in = host->ctx;
    return in->sink.cancelled ? in->sink.cancelled(in->sink.ctx) : 0;
}

static int32_t host_live(const scope_host *host)
{
    const instance *in = host->ctx;
    return in->sink.live;
}

static const scope_video *host_input(const scope_host *host, const char *name)
{
    instance *in = host->ctx;
    if (!is_turn(in, FRAMING)) {
        misused(in, "asked for an input outside process(), or from a thread of its own");
        return NULL;
    }
    for (int i = 0; i < in->extras; i++) {
        if (!strcmp(in->extra[i].name, name) && in->extra[i].f) {
            in->extra[i].seen = in->extra[i].f->v;
            return &in->extra[i].seen;
        }
    }
    return NULL;
}

static const void *host_extension(const scope_host *host, const char *id)
{
    static const scope_live live = {host_live};
    static const scope_inputs inputs = {.get = host_input};
    (void)host;
    if (!strcmp(id, SCOPE_LIVE))
        return &live;
    return strcmp(id, SCOPE_INPUTS) ? NULL : &inputs;
}

/* ---- loading --------------------------------------------------------------------------------- */

static int open_library(instance *in, const char *path, const char *id, scope_error *err)
{
    scope_error why = {0};
    const scope_library *library = library_open(path, &in->library, &why);
    if (library)
        in->plugin = library_find(library, id, &why);
    return in->plugin ? SCOPE_OK : error_set(err, why.status, "", "%s %s", path, why.text);
}

static int bind(instance *in, const json_t *values, scope_error *err)
{
    schema_error cause;
    in->schema = schema_parse(in->plugin->schema, &cause);
    if (in->schema)
        in->values = schema_complete(in->schema, values, &cause);
    if (in->values)
        in->kwargs = schema_bind(in->schema, in->values, 1, &cause);
    return in->kwargs ? SCOPE_OK : error_from_schema(err, &cause);
}

/* A plugin's status, with what it forgot to fill. */
static int settle(instance *in, int status, const char *call, scope_error *err)
{
    if (status == SCOPE_OK)
        return SCOPE_OK;
    err->field[sizeof err->field - 1] = '\0';
    err->text[sizeof err->text - 1] = '\0';
    if (status > 0)
        return error_set(err, SCOPE_EINVAL, "",
                         "%s: %s returned %d, which is neither 0 nor a negative status",
                         in->plugin->id, call, status);
    err->status = status;
    if (!err->text[0])
        snprintf(err->text, sizeof err->text, "%s: %s failed with status %d and did not say why",
                 in->plugin->id, call, status);
    if (status == SCOPE_ECANCEL && !host_cancelled(&in->host))
        misused(in, "returned SCOPE_ECANCEL although nobody had cancelled");
    return status;
}

static int check_want(instance *in, scope_error *err)
{
    const scope_video *w = &in->want;
    if (w->device != SCOPE_CPU)
        return error_set(err, SCOPE_EDEVICE, "",
                         "%s wants frames on device %d; this host has SCOPE_CPU only",
                         in->plugin->id, w->device);
    if (w->t < 0 || w->h < 0 || w->w < 0 || !frame_dtype_size(w->dtype) ||
        (w->c != 0 && w->c != 1 && w->c != 3 && w->c != 4))
        return error_set(err, SCOPE_EINVAL, "",
                         "%s: init() wants impossible frames (t %d, h %d, w %d, c %d, dtype %d)",
                         in->plugin->id, w->t, w->h, w->w, w->c, w->dtype);
    return SCOPE_OK;
}

static int start(instance *in, scope_error *err)
{
    in->want = (scope_video){.t = 1, .c = 3, .dtype = SCOPE_U8, .device = SCOPE_CPU};
    *err = (scope_error){0};
    int status = in->plugin->init(&in->host, in->kwargs, &in->want, &in->self, err);
    status = settle(in, status, "init()", err);
    if (status < 0)
        return status;
    in->started = true;
    if (in->plugin->extension) {
        in->stages = in->plugin->extension(SCOPE_STAGES);
        in->latency = in->plugin->extension(SCOPE_LATENCY);
        in->repeats = in->plugin->extension(SCOPE_REPEATS);
        in->plan = in->plugin->extension(SCOPE_PLAN);
        in->inputs = in->plugin->extension(SCOPE_INPUTS);
    }
    return check_want(in, err);
}

instance *instance_open(const char *path, const char *id, const json_t *values, frame_pool *pool,
                        const instance_sink *sink, scope_error *err)
{
    instance *in = calloc(1, sizeof *in);
    if (!in) {
        error_set(err, SCOPE_ENOMEM, "", "no memory for an instance of %s", path);
        return NULL;
    }
    pthread_mutex_init(&in->misuse_lock, NULL);
    in->pool = pool;
    if (sink)
        in->sink = *sink;
    in->host = (scope_host){SCOPE_ABI,      HOST_VERSION,  in, host_log, host_video, host_progress,
                            host_cancelled, host_extension};
    enter(in, LOADING);
    int status = open_library(in, path, id, err);
    if (status == SCOPE_OK)
        status = bind(in, values, err);
    if (status == SCOPE_OK)
        status = start(in, err);
    leave(in);
    if (status == SCOPE_OK)
        return in;
    instance_close(in);
    return NULL;
}

void instance_close(instance *in)
{
    if (!in)
        return;
    enter(in, LOADING);
    if (in->started)
        in->plugin->fini(in->self);
    for (int i = 0; i < in->extras; i++)
        frame_unref(in->extra[i].f);
    free(in->kwargs);
    json_decref(in->values);
    schema_free(in->schema);
    if (in->library)
        dlclose(in->library);
    leave(in);
    pthread_mutex_destroy(&in->misuse_lock);
    free(in);
}

/* ---- values ---------------------------------------------------------------------------------- */

static int check_load_params(const instance *in, const json_t *next, scope_error *err)
{
    int count;
    const schema_field *fields = schema_fields(in->schema, &count);
    for (int i = 0; i < count; i++) {
        const char *name = fields[i].name;
        if (fields[i].ui.is_load_param &&
            !json_equal(json_object_get(in->values, name), json_object_get(next, name)))
            return error_set(err, SCOPE_EINVAL, name,
                             "%s is fixed while the plugin is loaded; load it anew to change it",
                             name);
    }
    return SCOPE_OK;
}

/* The present values with `values` laid over them, complete; NULL with *err filled. */
static json_t *merge(const instance *in, const json_t *values, scope_error *err)
{
    schema_error cause;
    if (!json_is_object(values)) {
        error_set(err, SCOPE_EINVAL, "", "parameters come as a JSON object of names and values");
        return NULL;
    }
    json_t *merged = json_deep_copy(in->values);
    if (!merged || json_object_update_recursive(merged, (json_t *)values) < 0) {
        json_decref(merged);
        error_set(err, SCOPE_ENOMEM, "", "no memory for the parameters");
        return NULL;
    }
    json_t *next = schema_complete(in->schema, merged, &cause);
    json_decref(merged);
    if (!next)
        error_from_schema(err, &cause);
    return next;
}

int instance_set(instance *in, const json_t *values, scope_error *err)
{
    schema_error cause;
    int status = SCOPE_OK;
    scope_kwargs *kwargs = NULL;
    json_t *next = merge(in, values, err);
    if (!next)
        return err->status;
    /* Unchanged values keep their generation, so that what a plugin cached stays good. */
    if (json_equal(next, in->values) || (status = check_load_params(in, next, err)) < 0) {
        json_decref(next);
        return status;
    }
    kwargs = schema_bind(in->schema, next, in->kwargs->generation + 1, &cause);
    if (!kwargs) {
        json_decref(next);
        return error_from_schema(err, &cause);
    }
    enter(in, FRAMING);
    json_decref(in->values);
    free(in->kwargs);
    in->values = next;
    in->kwargs = kwargs;
    leave(in);
    return SCOPE_OK;
}

json_t *instance_values(const instance *in)
{
    return json_incref(in->values);
}

void instance_set_time(instance *in, int64_t pts_us)
{
    in->pts_us = pts_us;
}

/* ---- frames ---------------------------------------------------------------------------------- */

static int check_input(const instance *in, const frame *input, scope_error *err)
{
    const scope_video *w = &in->want;
    if (!input != !w->t)
        return error_set(err, SCOPE_EINVAL, "",
                         w->t ? "%s is a filter and needs an input"
                              : "%s is a generator: it takes "
                                "no input",
                         in->plugin->id);
    if (!input)
        return SCOPE_OK;
    const scope_video *v = &input->v;
    if (v->t != w->t || (w->c && v->c != w->c) || v->dtype != w->dtype || (w->h && v->h != w->h) ||
        (w->w && v->w != w->w))
        return error_set(err, SCOPE_EINVAL, "",
                         "%s wants t %d, h %d, w %d, c %d, dtype %d, not t %d, h %d, w %d, c %d, "
                         "dtype %d",
                         in->plugin->id, w->t, w->h, w->w, w->c, w->dtype, v->t, v->h, v->w, v->c,
                         v->dtype);
    return SCOPE_OK;
}

bool instance_knows_input(const instance *in, const char *name)
{
    for (int i = 0; in->inputs && in->inputs->names[i]; i++) {
        if (!strcmp(in->inputs->names[i], name))
            return true;
    }
    return false;
}

int instance_set_input(instance *in, const char *name, frame *f, scope_error *err)
{
    int i = 0;
    while (i < in->extras && strcmp(in->extra[i].name, name))
        i++;
    if (i == EXTRAS_MAX)
        return error_set(err, SCOPE_EINVAL, "", "there are more than %d inputs beside the main one",
                         EXTRAS_MAX);
    frame *before = i < in->extras ? in->extra[i].f : NULL;
    in->extra[i].name = name;
    in->extra[i].f = f ? frame_ref(f) : NULL;
    in->extras = i < in->extras ? in->extras : i + 1;
    frame_unref(before);
    return 0;
}

static bool same_layout(const scope_video *a, const scope_video *b)
{
    return a->t == b->t && a->h == b->h && a->w == b->w && a->c == b->c && a->dtype == b->dtype &&
           a->device == b->device && a->stride_t == b->stride_t && a->stride_h == b->stride_h;
}

/* Turn the plugin's answer into a frame: one that it was lent, or the input unchanged. */
static int accept(instance *in, frame *input, const scope_video *out, frame **output,
                  scope_error *err)
{
    if (!out->data)
        return SCOPE_OK;
    frame *f = input && out->data == input->v.data ? input : NULL;
    for (int i = 0; i < in->lent_count && !f; i++) {
        if (in->lent[i]->v.data == out->data)
            f = in->lent[i];
    }
    if (!f)
        return error_set(err, SCOPE_EINVAL, "",
                         "%s: process() returned memory that is neither its input nor from "
                         "host->video()",
                         in->plugin->id);
    if (!same_layout(&f->v, out))
        return error_set(err, SCOPE_EINVAL, "",
                         "%s: process() changed the shape or the strides of a frame after "
                         "host->video() had made it",
                         in->plugin->id);
    *output = frame_ref(f);
    if (f != input) {
        f->v.pts_us = out->pts_us;
        f->duration_us = input ? input->duration_us : 0;
    }
    return SCOPE_OK;
}

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

int instance_process(instance *in, frame *input, frame **output, scope_error *err)
{
    *output = NULL;
    *err = (scope_error){0};
    if (in->lost)
        return error_set(err, SCOPE_EDEVICE, "", "%s has lost its device; load it anew",
                         in->plugin->id);
    int status = check_input(in, input, err);
    if (status < 0)
        return status;
    enter(in, FRAMING);
    if (input)
        in->pts_us = input->v.pts_us;
    /* The plugin gets a copy of the description, so that it cannot bend the host's own. */
    scope_video seen = input ? input->v : (scope_video){0};
    scope_video out = {.pts_us = in->pts_us};
    double start = now_ms();
    status = in->plugin->process(in->self, in->kwargs, input ? &seen : NULL, &out, err);
    in->last_ms = now_ms() - start;
    status = settle(in, status, "process()", err);
    in->lost = status == SCOPE_EDEVICE;
    if (status == SCOPE_OK)
        status = accept(in, input, &out, output, err);
    while (in->lent_count > 0)
        frame_unref(in->lent[--in->lent_count]);
    leave(in);
    return status;
}

void instance_reset(instance *in)
{
    if (!in->plugin->reset || in->lost)
        return;
    enter(in, FRAMING);
    in->plugin->reset(in->self);
    leave(in);
}

/* ---- what there is to know ------------------------------------------------------------------- */

int instance_stages(const instance *in, scope_stage *stages, int max)
{
    if (!in->stages || max <= 0)
        return 0;
    int count = in->stages->last(in->self, stages, max);
    return count < 0 ? 0 : count > max ? max : count;
}

int instance_latency(const instance *in)
{
    int frames = in->latency ? in->latency->frames(in->self) : -1;
    return !in->latency                    ? -1
           : frames < 0                    ? 0
           : frames > INSTANCE_LATENCY_MAX ? INSTANCE_LATENCY_MAX
                                           : frames;
}

int64_t instance_repeated(const instance *in)
{
    return in->repeats ? in->repeats->count(in->self) : 0;
}

void instance_plan(const instance *in, void (*line)(void *ctx, const char *text), void *ctx)
{
    if (in->plan)
        in->plan->tell(in->self, line, ctx);
}

double instance_last_ms(const instance *in)
{
    return in->last_ms;
}

const char *instance_id(const instance *in)
{
    return in->plugin->id;
}

const schema *instance_schema(const instance *in)
{
    return in->schema;
}

const scope_video *instance_want(const instance *in)
{
    return &in->want;
}

const char *instance_misuse(const instance *in)
{
    return in->misuse[0] ? in->misuse : NULL;
}
