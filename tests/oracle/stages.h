/* stages.h - a command in JSON and its tensors, through one stage of a loaded model.
 *
 * Shared by the probe, which writes results for the oracle, and by the golden tests, which compare
 * them with PyTorch's. A command is {"do": STAGE, "id": NAME} and the fields of that stage; tensor
 * fields name tensors of a safetensors file. Tensors are NHWC, pictures and latents in the ranges
 * of vae.h and taesd.h. Header only: each test is one file.
 */
#ifndef ORACLE_STAGES_H
#define ORACLE_STAGES_H

#include "plugin/streamdiffusion/pipeline.h"
#include "plugin/streamdiffusion/safetensors.h"
#include "plugin/streamdiffusion/text.h"

#include <jansson.h>
#include <stdlib.h>

typedef struct stage_call {
    const model *model;
    const st_file *input;
    const json_t *command;
    const net_tap *tap; /* sees the blocks of a UNet; may be NULL */
    /* The result. */
    int dim[4];
    float *y; /* owned by the caller: free */
    char why[256];
} stage_call;

/* ---- fields of a command --------------------------------------------------------------------- */

static inline double stage_number(const stage_call *s, const char *key)
{
    return json_number_value(json_object_get(s->command, key));
}

static inline int stage_true(const stage_call *s, const char *key)
{
    return json_is_true(json_object_get(s->command, key));
}

static inline const char *stage_text_of(const stage_call *s, const char *key)
{
    const char *text = json_string_value(json_object_get(s->command, key));
    return text ? text : "";
}

/* The tensor that the command's field names, or NULL with the reason. */
static inline const st_tensor *stage_tensor(stage_call *s, const char *key)
{
    const st_tensor *t = st_find(s->input, stage_text_of(s, key));
    if (!t)
        snprintf(s->why, sizeof s->why, "no tensor \"%s\" for %s", stage_text_of(s, key), key);
    return t;
}

static inline int stage_result(stage_call *s, int n, int h, int w, int c)
{
    s->dim[0] = n, s->dim[1] = h, s->dim[2] = w, s->dim[3] = c;
    s->y = calloc((size_t)n * (size_t)h * (size_t)w * (size_t)c, sizeof *s->y);
    if (!s->y)
        snprintf(s->why, sizeof s->why, "out of memory");
    return s->y ? 0 : -1;
}

static inline int stage_end(stage_call *s, k_ctx *k)
{
    int rc = k->status;
    if (rc)
        snprintf(s->why, sizeof s->why, "%s", k->where);
    k_close(k);
    return rc;
}

/* ---- networks: everything runs twice, first as the plan -------------------------------------- */

/* ids, skip -> [1, 1, 77, width]; "pooled": ids -> [1, 1, 1, pooled width] */
static inline int stage_text(stage_call *s)
{
    const model *m = s->model;
    const st_tensor *ids = stage_tensor(s, "ids");
    int tail = !strcmp(stage_text_of(s, "do"), "pooled"), width = text_width(m);
    float *flat = malloc(text_size(m) * sizeof *flat);
    if (!ids || !flat ||
        (tail ? stage_result(s, 1, 1, 1, text_pooled(m))
              : stage_result(s, 1, 1, TOKENIZER_LENGTH, width))) {
        free(flat);
        return -1;
    }
    k_ctx *k = k_open(m->device, s->why);
    for (int pass = 0; k && pass < 2 && !k->status; pass++) {
        if (!pass)
            k_plan_begin(k);
        k_tensor in = k_temp(k, K_I32, 1, 1, TOKENIZER_LENGTH, 1);
        k_put(k, in, ids->data);
        text_encode(k, m, in, (int)stage_number(s, "skip"), flat);
        k_release(k, 0);
        if (!pass)
            k_plan_end(k);
    }
    size_t rows = (size_t)TOKENIZER_LENGTH * (size_t)width;
    if (k && !k->status)
        memcpy(s->y, flat + (tail ? rows : 0), (tail ? text_size(m) - rows : rows) * sizeof *flat);
    free(flat);
    return k ? stage_end(s, k) : -1;
}

/* SDXL's row of pooled text, on a frame of 8 h x 8 w; none for other models. */
static inline k_tensor stage_added(stage_call *s, k_ctx *k)
{
    const st_tensor *pooled = st_find(s->input, stage_text_of(s, "pooled"));
    int channels = unet_added_channels(s->model->unet);
    if (!channels)
        return (k_tensor){0};
    float size[6] = {8.0f * (float)s->dim[1], 8.0f * (float)s->dim[2], 0, 0,
                     8.0f * (float)s->dim[1], 8.0f * (float)s->dim[2]};
    k_tensor y = k_temp(k, K_F32, 1, 1, 1, channels), sizes = k_temp(k, K_F32, 6, 1, 1, 1);
    k_tensor text = k_temp(k, K_F32, 1, 1, 1, text_pooled(s->model));
    if (!pooled) {
        k_fail(k, "the command has no pooled text");
        return y;
    }
    k_put(k, text, pooled->data);
    k_put(k, sizes, size);
    unet_added(k, s->model->unet, y, text, sizes, s->tap);
    return y;
}

static inline void stage_unet_pass(stage_call *s, k_ctx *k, const unet_text *text,
                                   const st_tensor *in, const st_tensor *states)
{
    const unet_config *c = &s->model->config.unet;
    const unet *u = s->model->unet;
    float t = (float)stage_number(s, "timestep");
    float guidance = 1000 * ((float)stage_number(s, "guidance") - 1);
    k_tensor x = k_temp(k, K_F32, 1, s->dim[1], s->dim[2], c->in_channels);
    k_tensor y = k_temp(k, K_F32, 1, s->dim[1], s->dim[2], c->out_channels);
    k_tensor words = k_temp(k, K_F32, 1, 1, TOKENIZER_LENGTH, c->cross_attention_dim);
    k_tensor level = k_temp(k, K_F32, 1, 1, 1, 1), w = {0};
    k_tensor time = k_temp(k, K_F32, 1, 1, 1, unet_time_channels(u));
    k_put(k, x, in->data);
    k_put(k, words, states->data);
    k_put(k, level, &t);
    if (unet_has_guidance(u)) {
        w = k_temp(k, K_F32, 1, 1, 1, 1);
        k_put(k, w, &guidance);
    }
    unet_text_set(k, u, text, words);
    unet_time(k, u, time, level, w, stage_added(s, k), s->tap);
    unet_forward(k, u, y, x, time, text, s->tap);
    k_get(k, y, s->y);
    k_release(k, 0);
}

/* x [1, h, w, c], timestep, guidance, states [1, 77, width], pooled [1, width] -> [1, h, w, c] */
static inline int stage_unet(stage_call *s)
{
    const st_tensor *x = stage_tensor(s, "x"), *states = stage_tensor(s, "states");
    if (!x || !states ||
        stage_result(s, 1, (int)x->dim[1], (int)x->dim[2], s->model->config.unet.out_channels))
        return -1;
    k_ctx *k = k_open(s->model->device, s->why);
    if (!k)
        return -1;
    unet_text text;
    unet_text_keep(k, s->model->unet, &text, 1, TOKENIZER_LENGTH);
    for (int pass = 0; pass < 2 && !k->status; pass++) {
        if (!pass)
            k_plan_begin(k);
        stage_unet_pass(s, k, &text, x, states);
        if (!pass)
            k_plan_end(k);
    }
    unet_text_drop(k, &text);
    return stage_end(s, k);
}

static inline void stage_code_pass(stage_call *s, k_ctx *k, int tiny, int encode, k_tensor picture,
                                   k_tensor latent)
{
    const model *m = s->model;
    if (tiny && encode)
        taesd_encode(k, m->taesd, latent, picture, NULL);
    else if (tiny)
        taesd_decode(k, m->taesd, picture, latent, NULL);
    else if (encode)
        vae_encode(k, m->vae, latent, picture, NULL);
    else
        vae_decode(k, m->vae, picture, latent, NULL);
}

/* x, tiny, encode: picture -> latent or latent -> picture */
static inline int stage_code(stage_call *s)
{
    int tiny = stage_true(s, "tiny"), encode = stage_true(s, "encode");
    const model *m = s->model;
    const st_tensor *x = stage_tensor(s, "x");
    if (!x || (tiny ? !m->taesd : !m->vae))
        return -1;
    int h = (int)x->dim[1] / (encode ? 8 : 1), w = (int)x->dim[2] / (encode ? 8 : 1);
    int c = tiny ? m->config.taesd.latent_channels : m->config.vae.latent_channels;
    if (encode ? stage_result(s, 1, h, w, c) : stage_result(s, 1, 8 * h, 8 * w, 3))
        return -1;
    k_ctx *k = k_open(m->device, s->why);
    for (int pass = 0; k && pass < 2 && !k->status; pass++) {
        if (!pass)
            k_plan_begin(k);
        k_tensor picture = k_temp(k, K_F32, 1, 8 * h, 8 * w, 3);
        k_tensor latent = k_temp(k, K_F32, 1, h, w, c);
        k_put(k, encode ? picture : latent, x->data);
        stage_code_pass(s, k, tiny, encode, picture, latent);
        k_get(k, encode ? latent : picture, s->y);
        k_release(k, 0);
        if (!pass)
            k_plan_end(k);
    }
    return k ? stage_end(s, k) : -1;
}

/* seed, count, h, w -> [count, h, w, c]: the noise of the denoising steps */
static inline int stage_noise(stage_call *s)
{
    int n = (int)stage_number(s, "count"), c = s->model->config.unet.in_channels;
    if (stage_result(s, n, (int)stage_number(s, "h"), (int)stage_number(s, "w"), c))
        return -1;
    k_ctx *k = k_open(s->model->device, s->why);
    if (!k)
        return -1;
    k_tensor z = k_keep(k, K_F32, n, s->dim[1], s->dim[2], c);
    for (int i = 0; i < n; i++)
        K_CALL(k, noise, net_image(z, i), (uint64_t)stage_number(s, "seed"), (uint32_t)i);
    k_get(k, z, s->y);
    k_drop(k, &z);
    return stage_end(s, k);
}

/* ---- text, schedule, frame ------------------------------------------------------------------- */

/* texts -> [1, 1, n, 77] token ids */
static inline int stage_tokens(stage_call *s)
{
    const json_t *texts = json_object_get(s->command, "texts"), *text;
    int32_t ids[TOKENIZER_LENGTH];
    size_t i;
    if (stage_result(s, 1, 1, (int)json_array_size(texts), TOKENIZER_LENGTH))
        return -1;
    json_array_foreach(texts, i, text)
    {
        if (tokenizer_encode(s->model->tokens, json_string_value(text), ids) < 0)
            return -1;
        for (int j = 0; j < TOKENIZER_LENGTH; j++)
            s->y[i * TOKENIZER_LENGTH + (size_t)j] = (float)ids[j];
    }
    return 0;
}

static inline int stage_integers(const stage_call *s, const char *key, int *index)
{
    const json_t *list = json_object_get(s->command, key);
    int n = (int)json_array_size(list);
    for (int i = 0; i < n && i < SCHEDULER_MAX_STEPS; i++)
        index[i] = (int)json_integer_value(json_array_get(list, (size_t)i));
    return n;
}

/* steps, strength, indices -> [1, 1, steps, 7]: timestep, alpha, sigma, noise[2], denoise[2] */
static inline int stage_plan(stage_call *s)
{
    scheduler plan;
    scope_error err = {0};
    int index[SCHEDULER_MAX_STEPS], n = stage_integers(s, "indices", index);
    if (scheduler_plan(&plan, &s->model->config.scheduler, (int)stage_number(s, "steps"),
                       stage_number(s, "strength"), index, n, &err)) {
        snprintf(s->why, sizeof s->why, "%s", err.text);
        return -1;
    }
    if (stage_result(s, 1, 1, plan.count, 7))
        return -1;
    for (int i = 0; i < plan.count; i++) {
        const scheduler_step *t = &plan.step[i];
        float row[7] = {(float)t->timestep, t->alpha,      t->sigma,     t->noise[0],
                        t->noise[1],        t->denoise[0], t->denoise[1]};
        memcpy(s->y + 7 * i, row, sizeof row);
    }
    return 0;
}

static inline pipeline_settings stage_settings(const stage_call *s)
{
    pipeline_settings p = {
        .width = (int)stage_number(s, "width"),
        .height = (int)stage_number(s, "height"),
        .fit = !strcmp(stage_text_of(s, "fit"), "crop") ? FIT_CROP : FIT_STRETCH,
        .from_text = !json_object_get(s->command, "image"),
        .use_taesd = stage_true(s, "tiny"),
        .negative_prompt = stage_text_of(s, "negative"),
        .seed = (uint64_t)stage_number(s, "seed"),
        .guidance_scale = stage_number(s, "guidance"),
        .steps = (int)stage_number(s, "steps"),
        .strength = stage_number(s, "strength"),
        .do_add_noise = stage_true(s, "add_noise"),
        .delta = stage_number(s, "delta"),
        .use_denoising_batch = stage_true(s, "batch"),
        .frame_buffer_size = (int)stage_number(s, "frames"),
    };
    p.index_count = stage_integers(s, "indices", p.index);
    p.timestep_count = stage_integers(s, "timesteps", p.timestep);
    static const char *const kind[] = {[GUIDE_FULL] = "full",
                                       [GUIDE_NONE] = "none",
                                       [GUIDE_SELF] = "self",
                                       [GUIDE_INITIALIZE] = "initialize"};
    for (int i = 0; i <= GUIDE_INITIALIZE; i++)
        p.cfg_type = strcmp(stage_text_of(s, "cfg"), kind[i]) ? p.cfg_type : i;
    p.prompt.slerp = !strcmp(stage_text_of(s, "method"), "slerp");
    const json_t *prompts = json_object_get(s->command, "prompts");
    p.prompt.count = (int)json_array_size(prompts);
    for (size_t i = 0; i < (size_t)p.prompt.count && i < PROMPT_MAX; i++) {
        const json_t *one = json_array_get(prompts, i);
        p.prompt.text[i] = json_string_value(json_array_get(one, 0));
        p.prompt.weight[i] = json_number_value(json_array_get(one, 1));
    }
    return p;
}

/* In place of the picture in s->y: the latent that it was decoded from. */
static inline int stage_take_latent(stage_call *s, pipeline *line)
{
    free(s->y);
    if (stage_result(s, 1, s->dim[1] / 8, s->dim[2] / 8, s->model->config.unet.out_channels))
        return -1;
    pipeline_latent(line, s->y);
    return 0;
}

/* A whole frame -> [1, height, width, 3] in 0..1; for "latent", what it was decoded from. It is
 * made twice, and must be the same twice. */
static inline int stage_frame(stage_call *s)
{
    scope_error err = {0};
    pipeline_settings p = stage_settings(s);
    k_image in = {0};
    const st_tensor *x = p.from_text ? NULL : stage_tensor(s, "image");
    if ((!x && !p.from_text) || stage_result(s, 1, p.height, p.width, 3))
        return -1;
    if (x)
        in = (k_image){
            (void *)(uintptr_t)x->data, K_U8,         1, (int)x->dim[0], (int)x->dim[1], 3,
            3 * x->dim[0] * x->dim[1],  3 * x->dim[1]};
    size_t size = 3 * sizeof(float) * (size_t)p.width * (size_t)p.height;
    float *first = malloc(size);
    k_image out = {first, K_F32, 1, p.height, p.width, 3, (int64_t)size, 12 * (int64_t)p.width};
    pipeline *line = first ? pipeline_open(s->model, &err) : NULL;
    int rc = line ? pipeline_set(line, &p, &err) : -1;
    for (int i = 0; i < 2 && !rc; i++) {
        out.data = i ? s->y : first;
        rc = pipeline_frame(line, x ? &in : NULL, &out, &err);
    }
    if (rc)
        snprintf(s->why, sizeof s->why, "%s", err.text);
    else if (memcmp(first, s->y, size))
        rc = snprintf(s->why, sizeof s->why, "one frame twice gave two results");
    else if (!strcmp(stage_text_of(s, "do"), "latent"))
        rc = stage_take_latent(s, line);
    pipeline_close(line);
    free(first);
    return rc;
}

/* image [T, H, W, 3] of the settings' size -> what comes out call by call, [T, height, width, 3];
 * for "latents", what it was decoded from. */
static inline int stage_stream(stage_call *s)
{
    scope_error err = {0};
    pipeline_settings p = stage_settings(s);
    const st_tensor *x = stage_tensor(s, "image");
    int latents = !strcmp(stage_text_of(s, "do"), "latents"), calls, rc;
    int frames = p.frame_buffer_size, size = 3 * p.height * p.width;
    int per = latents ? size / 192 * s->model->config.unet.out_channels : size;
    if (!x || frames < 1 ||
        (latents ? stage_result(s, (int)x->dim[0], p.height / 8, p.width / 8,
                                s->model->config.unet.out_channels)
                 : stage_result(s, (int)x->dim[0], p.height, p.width, 3)))
        return -1;
    calls = (int)x->dim[0] / frames;
    float *picture = malloc(sizeof *picture * (size_t)(frames * size));
    pipeline *line = picture ? pipeline_open(s->model, &err) : NULL;
    rc = line ? pipeline_set(line, &p, &err) : -1;
    for (int i = 0; i < calls && !rc; i++) {
        uint8_t *from = (uint8_t *)(uintptr_t)x->data + (size_t)(i * frames * size);
        k_image in = {from, K_U8, frames, p.height, p.width, 3, size, 3 * p.width};
        k_image out = {latents ? picture : s->y + (size_t)(i * frames * size),
                       K_F32,
                       frames,
                       p.height,
                       p.width,
                       3,
                       4 * (int64_t)size,
                       12 * (int64_t)p.width};
        rc = pipeline_frame(line, &in, &out, &err);
        if (latents && !rc)
            pipeline_latent(line, s->y + (size_t)(i * frames * per));
    }
    if (rc)
        snprintf(s->why, sizeof s->why, "%s", err.text);
    pipeline_close(line);
    free(picture);
    return rc;
}

/* Run s->command: 0 and the result, or nonzero and why. */
static inline int stage_run(stage_call *s)
{
    static const struct {
        const char *name;
        int (*run)(stage_call *s);
    } stages[] = {{"tokens", stage_tokens}, {"text", stage_text},     {"pooled", stage_text},
                  {"unet", stage_unet},     {"code", stage_code},     {"noise", stage_noise},
                  {"plan", stage_plan},     {"frame", stage_frame},   {"latent", stage_frame},
                  {"stream", stage_stream}, {"latents", stage_stream}};
    snprintf(s->why, sizeof s->why, "the command cannot be run on this model");
    s->y = NULL;
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++)
        if (!strcmp(stages[i].name, stage_text_of(s, "do")))
            return stages[i].run(s);
    return -1;
}
#endif
