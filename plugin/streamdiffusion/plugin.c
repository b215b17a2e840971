/* plugin.c - the plugin "streamdiffusion": parameters and frames in, frames out.
 *
 * Translates between the ABI and the pipeline and holds no mathematics. One instance is one
 * pipeline on a model that instances share. Parameters are translated only when their generation
 * changes; every field of schema.json is read here.
 */
#include "pipeline.h"

#include "alloc.h"

#include <stdlib.h>

/* One long literal is the point of the generated header. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Woverlength-strings"
#include "schema.json.h"
#pragma GCC diagnostic pop

typedef struct instance {
    const scope_host *host; /* borrowed until fini */
    const model *model;     /* shared; released at fini */
    pipeline *pipeline;     /* owned */
    uint64_t generation;    /* of the parameters in force */
    int set;                /* they are in force */
    char notice[192];       /* the last one logged */
} instance;

/* ---- parameters -------------------------------------------------------------------------------
 */

static int is(const scope_kwargs *kw, const char *name, const char *value)
{
    return !strcmp(scope_str(kw, name), value);
}

static prompt_blend prompts_of(const scope_kwargs *kw)
{
    const scope_value *list = scope_get(kw, "prompts");
    prompt_blend b = {.slerp = is(kw, "prompt_interpolation_method", "slerp")};
    for (int i = 0; i < list->count && i < PROMPT_MAX; i++) {
        const scope_value *one = &list->u.at[i];
        const scope_kwargs fields = {.count = one->count, .at = one->u.at};
        b.text[i] = scope_str(&fields, "text");
        b.weight[i] = scope_num(&fields, "weight");
        b.count++;
    }
    return b;
}

/* Strings stay the host's, until the call of the ABI returns. */
static pipeline_settings settings_of(const scope_kwargs *kw)
{
    pipeline_settings s = {
        .width = (int)scope_int(kw, "width"),
        .height = (int)scope_int(kw, "height"),
        .fit = is(kw, "fit", "stretch") ? FIT_STRETCH : FIT_CROP,
        .from_text = is(kw, "input_mode", "text"),
        .use_taesd = scope_int(kw, "use_taesd") != 0,
        .prompt = prompts_of(kw),
        .negative_prompt = scope_str(kw, "negative_prompt"),
        .clip_skip = (int)scope_int(kw, "clip_skip"),
        .original_size = (int)scope_int(kw, "original_size"),
        .seed = (uint64_t)scope_int(kw, "seed"),
        .guidance_scale = scope_num(kw, "guidance_scale"),
        .steps = (int)scope_int(kw, "num_inference_steps"),
        .strength = scope_num(kw, "strength"),
        .do_add_noise = scope_int(kw, "do_add_noise") != 0,
    };
    const scope_value *index = scope_get(kw, "t_index_list");
    for (int i = 0; i < index->count && i < SCHEDULER_MAX_STEPS; i++)
        s.index[s.index_count++] = (int)index->u.at[i].u.i;
    return s;
}

/* What the settings in force have to say, once. [any] */
static void tell(instance *in)
{
    const char *notice = pipeline_notice(in->pipeline);
    if (notice[0] && strcmp(notice, in->notice))
        in->host->log(in->host, SCOPE_WARN, notice);
    snprintf(in->notice, sizeof in->notice, "%s", notice);
}

/* ---- frames -----------------------------------------------------------------------------------
 */

/* The ABI's frame as the kernels see it. SCOPE_U8.. and K_U8.. are different numbers. */
static k_image image_of(const scope_video *v)
{
    static const int32_t dtype[] = {[SCOPE_U8] = K_U8, [SCOPE_F16] = K_F16, [SCOPE_F32] = K_F32};
    return (k_image){.data = v->data,
                     .dtype = dtype[v->dtype],
                     .t = 1,
                     .h = v->h,
                     .w = v->w,
                     .c = v->c,
                     .stride_t = v->stride_t,
                     .stride_h = v->stride_h};
}

/* enabled = false: the input as it is, or nothing where there is none. */
static int pass_through(instance *in, const scope_video *from, scope_video *to, scope_error *err)
{
    *to = (scope_video){0};
    if (!from)
        return SCOPE_OK;
    *to = (scope_video){.t = from->t,
                        .h = from->h,
                        .w = from->w,
                        .c = from->c,
                        .dtype = from->dtype,
                        .device = from->device};
    int status = in->host->video(in->host, to, err);
    size_t element = from->dtype == SCOPE_U8 ? 1 : from->dtype == SCOPE_F16 ? 2 : 4;
    size_t row = (size_t)from->w * (size_t)from->c * element;
    for (int t = 0; t < from->t && !status; t++) {
        for (int y = 0; y < from->h; y++)
            memcpy(scope_row(to, t, y), scope_row(from, t, y), row);
    }
    return status;
}

static int process(void *self, const scope_kwargs *kw, const scope_video *from, scope_video *to,
                   scope_error *err)
{
    instance *in = self;
    if (!scope_int(kw, "enabled"))
        return pass_through(in, from, to, err);
    if (!in->set || kw->generation != in->generation) {
        pipeline_settings s = settings_of(kw);
        in->set = 0;
        if (pipeline_set(in->pipeline, &s, err))
            return err->status;
        tell(in);
        in->generation = kw->generation;
    }
    *to = (scope_video){.t = 1,
                        .h = (int32_t)scope_int(kw, "height"),
                        .w = (int32_t)scope_int(kw, "width"),
                        .c = 3,
                        .dtype = from ? from->dtype : SCOPE_U8,
                        .device = SCOPE_CPU};
    int status = in->host->video(in->host, to, err);
    if (status)
        return status;
    k_image output = image_of(to), input = from ? image_of(from) : (k_image){0};
    in->set = !pipeline_frame(in->pipeline, from ? &input : NULL, &output, err);
    return in->set ? SCOPE_OK : err->status;
}

static int32_t last_stages(void *self, scope_stage *stages, int32_t max)
{
    const instance *in = self;
    return pipeline_stages(in->pipeline, stages, max);
}

/* ---- life -------------------------------------------------------------------------------------
 */

static void fini(void *self)
{
    instance *in = self;
    pipeline_close(in->pipeline);
    model_release(in->model);
    free(in);
}

/* Model, pipeline and the first settings. */
static int open_all(instance *in, const scope_kwargs *kw, scope_error *err)
{
    const model_options options = {.path = scope_str(kw, "model_id_or_path"),
                                   .taesd = scope_str(kw, "taesd_path"),
                                   .device = scope_str(kw, "device"),
                                   .memory =
                                       is(kw, "memory", "low") ? K_MEMORY_LOW : K_MEMORY_NORMAL};
    const pipeline_settings s = settings_of(kw);
    in->model = model_acquire(in->host, &options, err);
    if (!in->model)
        return -1;
    in->pipeline = pipeline_open(in->model, err);
    if (!in->pipeline || pipeline_load(in->pipeline, in->host, &s, err))
        return -1;
    tell(in);
    in->generation = kw->generation;
    in->set = 1;
    return 0;
}

static int init(const scope_host *host, const scope_kwargs *kw, scope_video *want, void **self,
                scope_error *err)
{
    instance *in = sd_calloc(1, sizeof *in);
    if (!in)
        return scope_fail(err, SCOPE_ENOMEM, "Out of memory while opening the plugin.");
    in->host = host;
    if (open_all(in, kw, err)) {
        fini(in);
        return err->status;
    }
    if (is(kw, "input_mode", "text"))
        want->t = 0;
    host->progress(host, 1.0, "ready");
    *self = in;
    return SCOPE_OK;
}

static const void *extension(const char *id)
{
    static const scope_stages stages = {.last = last_stages};
    return strcmp(id, SCOPE_STAGES) ? NULL : &stages;
}

static const scope_plugin streamdiffusion = {
    .id = "streamdiffusion",
    .version = "0.1.0",
    .schema = schema_json,
    .init = init,
    .process = process,
    .fini = fini,
    .extension = extension,
};

SCOPE_LIBRARY(&streamdiffusion);
