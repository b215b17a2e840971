/* plugin.c - the plugin "streamdiffusion": parameters and frames in, frames out.
 *
 * Translates between the ABI and the pipeline and holds no mathematics. One instance is one
 * pipeline on a model that instances share. Parameters are translated only when their generation
 * changes; every field of schema.json is read here.
 */
#include "lora_live.h"
#include "pipeline.h"
#include "plugin_text.h"

#include "alloc.h"
#include "bypass.h"
#include "inspect.h"

#include <stdlib.h>

/* One long literal is the point of the generated header. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Woverlength-strings"
#include "schema.json.h"
#pragma GCC diagnostic pop

typedef struct instance {
    const scope_host *host; /* borrowed until fini */
    const scope_live *live; /* borrowed from the host; NULL: frames are rendered, not watched */
    const model *model;     /* shared; released at fini */
    pipeline *pipeline;     /* owned */
    lora_live *loras;       /* owned */
    uint64_t generation;    /* of the parameters that were last asked for */
    int set;                /* they are in force, or were refused: what was before them is */
    int passing;            /* the last call passed its input through */
    styles *styles;         /* owned */
    char notice[192];       /* the last one logged */
    bypass bypass;
    const scope_inputs *inputs; /* of the host, borrowed; NULL: it has none to give */
    int told_of_mask;           /* that there is none */
    char lora_notice[256];      /* the same of its LoRAs */
} instance;

/* ---- parameters ------------------------------------------------------------------------------ */

static int is(const scope_kwargs *kw, const char *name, const char *value)
{
    return !strcmp(scope_str(kw, name), value);
}

static noise_seeds seeds_of(const scope_kwargs *kw)
{
    const scope_value *list = scope_get(kw, "seeds");
    noise_seeds s = {.slerp = is(kw, "seed_interpolation_method", "slerp")};
    for (int i = 0; i < list->count && i < NOISE_MAX_SEEDS; i++) {
        const scope_value *one = &list->u.at[i];
        const scope_kwargs fields = {.count = one->count, .at = one->u.at};
        s.seed[i] = (uint64_t)scope_int(&fields, "seed");
        s.weight[i] = scope_num(&fields, "weight");
        s.count++;
    }
    return s;
}

static int guidance_kind_of(const scope_kwargs *kw)
{
    static const char *const name[] = {[GUIDE_FULL] = "full",
                                       [GUIDE_NONE] = "none",
                                       [GUIDE_SELF] = "self",
                                       [GUIDE_INITIALIZE] = "initialize"};
    int kind = GUIDE_FULL;
    while (kind < GUIDE_INITIALIZE && !is(kw, "cfg_type", name[kind]))
        kind++;
    return kind;
}

/* A list of integers; returns how many. */
static int integers_of(const scope_kwargs *kw, const char *name, int at[SCHEDULER_MAX_STEPS])
{
    const scope_value *list = scope_get(kw, name);
    int n = 0;
    for (; n < list->count && n < SCHEDULER_MAX_STEPS; n++)
        at[n] = (int)list->u.at[n].u.i;
    return n;
}

static effects_settings effects_of(const scope_kwargs *kw)
{
    return (effects_settings){
        .loopback = scope_int(kw, "image_loopback") != 0,
        .loopback_mix = scope_num(kw, "loopback_mix"),
        .loopback_zoom = scope_num(kw, "loopback_zoom"),
        .loopback_rotate = scope_num(kw, "loopback_rotate"),
        .loopback_decay = scope_num(kw, "loopback_decay"),
        .loopback_mirror = is(kw, "loopback_edges", "mirror"),
        .latent_feedback = scope_num(kw, "latent_feedback"),
        .masked = scope_int(kw, "mask_compositing") != 0,
        .mask_source = is(kw, "mask_source", "input") ? MASK_INPUT : MASK_ALPHA,
        .mask_feather = scope_num(kw, "mask_feather"),
        .mask_strength = scope_num(kw, "mask_strength"),
        .similar = scope_int(kw, "similar_image_filter_enabled") != 0,
        .similar_threshold = scope_num(kw, "similar_image_filter_threshold"),
        .similar_max_skip = (int)scope_int(kw, "similar_image_filter_max_skip"),
    };
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
        .clip_skip = (int)scope_int(kw, "clip_skip"),
        .original_size = (int)scope_int(kw, "original_size"),
        .seed = (uint64_t)scope_int(kw, "seed"),
        .seeds = seeds_of(kw),
        .noise_refresh = (int)scope_int(kw, "noise_refresh"),
        .guidance_scale = scope_num(kw, "guidance_scale"),
        .cfg_type = guidance_kind_of(kw),
        .delta = scope_num(kw, "delta"),
        .steps = (int)scope_int(kw, "num_inference_steps"),
        .strength = scope_num(kw, "strength"),
        .do_add_noise = scope_int(kw, "do_add_noise") != 0,
        .use_denoising_batch = scope_int(kw, "use_denoising_batch") != 0,
        .frame_buffer_size = (int)scope_int(kw, "frame_buffer_size"),
        .effects = effects_of(kw),
    };
    s.index_count = integers_of(kw, "t_index_list", s.index);
    s.timestep_count = integers_of(kw, "timesteps", s.timestep);
    return s;
}

/* The prompts lose their LoRA tags. */
static void note_loras(instance *in, const scope_kwargs *kw, pipeline_settings *s)
{
    lora_live_begin(in->loras);
    for (int i = 0; i < s->prompt.count; i++)
        s->prompt.text[i] = lora_live_text(in->loras, s->prompt.text[i]);
    lora_live_fields(in->loras, kw);
}

static void tell_loras(instance *in, const char *notice)
{
    if (notice[0] && strcmp(notice, in->lora_notice))
        in->host->log(in->host, SCOPE_WARN, notice);
    snprintf(in->lora_notice, sizeof in->lora_notice, "%s", notice);
}

/* LoRAs that cannot be had are told, and the stream goes on with those in force. [frame] */
static void change_loras(instance *in)
{
    scope_error err = {0};
    if (!lora_live_differs(in->loras))
        return;
    pipeline_reweigh(in->pipeline);
    int changed = lora_live_set(in->loras, &err);
    int taken_away = changed < 0 && err.status == SCOPE_ENOMEM;
    int any = changed > 0 || taken_away,
        text = taken_away || (any && changed & (LORAS_TEXT | LORAS_TEXT_2));
    pipeline_reweighted(in->pipeline, any, text);
    tell_loras(in, changed < 0 ? err.text : lora_live_notice(in->loras));
}

/* What the settings in force have to say, once. [any] */
static void tell(instance *in)
{
    const char *notice = pipeline_notice(in->pipeline);
    if (notice[0] && strcmp(notice, in->notice))
        in->host->log(in->host, SCOPE_WARN, notice);
    snprintf(in->notice, sizeof in->notice, "%s", notice);
}

/* ---- frames ---------------------------------------------------------------------------------- */

/* The ABI's frame as the kernels see it. SCOPE_U8.. and K_U8.. are different numbers. */
static k_image image_of(const scope_video *v)
{
    static const int32_t dtype[] = {[SCOPE_U8] = K_U8, [SCOPE_F16] = K_F16, [SCOPE_F32] = K_F32};
    return (k_image){.data = v->data,
                     .dtype = dtype[v->dtype],
                     .t = v->t,
                     .h = v->h,
                     .w = v->w,
                     .c = v->c,
                     .stride_t = v->stride_t,
                     .stride_h = v->stride_h};
}

/* The picture that is the mask; data NULL where none is wanted or given, the latter told once. */
static k_image mask_of(instance *in, const scope_kwargs *kw)
{
    if (!scope_int(kw, "mask_compositing") || !is(kw, "mask_source", "input"))
        return (k_image){0};
    const scope_video *v = in->inputs ? in->inputs->get(in->host, "mask") : NULL;
    if (!v && !in->told_of_mask)
        in->host->log(
            in->host, SCOPE_WARN,
            "mask_source is input, but there is no input named mask, so the result covers "
            "everything; scope run --input mask=FILE gives one.");
    in->told_of_mask |= !v;
    k_image mask = v ? image_of(v) : (k_image){0};
    mask.t = 1; /* of a call of several frames, one for all */
    return mask;
}

/* Parameters that the schema allows and the model does not are refused once: that call fails, and
 * the stream goes on with those before. */
static int apply(instance *in, const scope_kwargs *kw, scope_error *err)
{
    pipeline_settings s = settings_of(kw);
    s.live = in->live && in->live->now(in->host);
    int failed = plugin_text(&s, kw, in->styles, err);
    if (!failed) {
        note_loras(in, kw, &s);
        change_loras(in);
        failed = pipeline_set(in->pipeline, &s, err);
    }
    in->generation = kw->generation;
    in->set = pipeline_ready(in->pipeline);
    return failed ? err->status : SCOPE_OK;
}

static int process(void *self, const scope_kwargs *kw, const scope_video *from, scope_video *to,
                   scope_error *err)
{
    instance *in = self;
    /* Without an input there is nothing to fade to. */
    int fade = from ? (int)scope_int(kw, "bypass_fade") : 0;
    double shown = bypass_step(&in->bypass, scope_int(kw, "enabled") != 0, fade);
    in->passing = shown <= 0;
    if (in->passing)
        pipeline_reset(in->pipeline); /* what is on its way is old when it is seen again */
    if (in->passing && !fade) {
        *to = from ? *from : (scope_video){0};
        return SCOPE_OK;
    }
    if ((!in->set || kw->generation != in->generation) && apply(in, kw, err))
        return err->status;
    int width, height;
    pipeline_size(in->pipeline, &width, &height);
    *to = (scope_video){.t = (int32_t)scope_int(kw, "frame_buffer_size"),
                        .h = height,
                        .w = width,
                        .c = 3,
                        .dtype = from ? from->dtype : SCOPE_U8,
                        .device = SCOPE_CPU};
    int status = in->host->video(in->host, to, err);
    if (status)
        return status;
    k_image output = image_of(to), input = from ? image_of(from) : (k_image){0};
    k_image mask = mask_of(in, kw);
    pipeline_with(in->pipeline, mask.data ? &mask : NULL, shown);
    status = pipeline_frame(in->pipeline, from ? &input : NULL, &output, err);
    in->set = pipeline_ready(in->pipeline);
    tell(in); /* after the frame: a text may have come into force with it */
    return status ? err->status : SCOPE_OK;
}

static void reset(void *self)
{
    instance *in = self;
    pipeline_reset(in->pipeline);
    in->bypass = (bypass){0};
}

static int64_t count_repeats(void *self)
{
    const instance *in = self;
    return pipeline_repeats(in->pipeline);
}

static int32_t frames_behind(void *self)
{
    const instance *in = self;
    return in->passing ? 0 : pipeline_latency(in->pipeline);
}

static int32_t last_stages(void *self, scope_stage *stages, int32_t max)
{
    const instance *in = self;
    return pipeline_stages(in->pipeline, stages, max);
}

static void tell_plan(void *self, void (*line)(void *ctx, const char *text), void *ctx)
{
    const instance *in = self;
    k_device_plan(in->model->device, line, ctx);
}

/* ---- life ------------------------------------------------------------------------------------ */

static void fini(void *self)
{
    instance *in = self;
    pipeline_close(in->pipeline);
    styles_close(in->styles);
    lora_live_free(in->loras);
    model_release(in->model);
    free(in);
}

/* Model, pipeline and the first settings. */
static int open_all(instance *in, const scope_kwargs *kw, scope_error *err)
{
    pipeline_settings s = settings_of(kw);
    s.live = in->live && in->live->now(in->host);
    in->styles = styles_open(scope_str(kw, "styles_path"), err);
    in->loras = lora_live_new(err);
    if (!in->styles || !in->loras || plugin_text(&s, kw, in->styles, err))
        return -1;
    note_loras(in, kw, &s);
    const model_options options = {.path = scope_str(kw, "model_id_or_path"),
                                   .taesd = scope_str(kw, "taesd_path"),
                                   .vae = scope_str(kw, "vae_path"),
                                   .text_encoder = scope_str(kw, "text_encoder_path"),
                                   .unet = scope_str(kw, "unet_path"),
                                   .tokenizer = scope_str(kw, "tokenizer_path"),
                                   .prediction = is(kw, "prediction", "epsilon")  ? PREDICT_EPSILON
                                                 : is(kw, "prediction", "v")      ? PREDICT_V
                                                 : is(kw, "prediction", "sample") ? PREDICT_SAMPLE
                                                                                  : 0,
                                   .device = scope_str(kw, "device"),
                                   .memory =
                                       is(kw, "memory", "low") ? K_MEMORY_LOW : K_MEMORY_NORMAL,
                                   .own = lora_live_any(in->loras)};
    in->model = model_acquire(in->host, &options, err);
    if (!in->model || lora_live_bind(in->loras, in->model, err) ||
        lora_live_set(in->loras, err) < 0)
        return -1;
    tell_loras(in, lora_live_notice(in->loras));
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
    in->live = host->extension(host, SCOPE_LIVE);
    if (open_all(in, kw, err)) {
        fini(in);
        return err->status;
    }
    in->inputs = host->extension(host, SCOPE_INPUTS);
    want->t = is(kw, "input_mode", "text") ? 0 : (int32_t)scope_int(kw, "frame_buffer_size");
    if (want->t)
        want->c = 0; /* alpha may be the mask */
    host->progress(host, 1.0, "ready");
    *self = in;
    return SCOPE_OK;
}

static void release_text(char *text)
{
    free(text);
}

static const void *extension(const char *id)
{
    static const char *const names[] = {"mask", NULL};
    static const scope_stages stages = {.last = last_stages};
    static const scope_latency latency = {.frames = frames_behind};
    static const scope_repeats repeats = {.count = count_repeats};
    static const scope_plan plan = {.tell = tell_plan};
    static const scope_input_names inputs = {.names = names};
    static const scope_model models = {.inspect = inspect_model, .release = release_text};
    static const struct {
        const char *id;
        const void *is;
    } known[] = {{SCOPE_STAGES, &stages}, {SCOPE_LATENCY, &latency}, {SCOPE_REPEATS, &repeats},
                 {SCOPE_PLAN, &plan},     {SCOPE_INPUTS, &inputs},   {SCOPE_MODEL, &models}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (!strcmp(id, known[i].id))
            return known[i].is;
    }
    return NULL;
}

static const scope_plugin streamdiffusion = {
    .id = "streamdiffusion",
    .version = "0.1.0",
    .schema = schema_json,
    .init = init,
    .process = process,
    .reset = reset,
    .fini = fini,
    .extension = extension,
};

SCOPE_LIBRARY(&streamdiffusion);
