/* probe.c - runs named stages of a model on given tensors, for the oracle to compare.
 *
 *   probe MODEL INPUT.safetensors OUTPUT_FOLDER [normal|low] <commands
 *
 * Each line of standard input is one JSON command; it reads tensors of INPUT by name and writes
 * OUTPUT_FOLDER/ID.npy, where "id" is the command's. Any failure ends the program with a sentence
 * and status 1. Tensors are NHWC.
 */
#include "tests/oracle/stages.h"

#include "plugin/streamdiffusion/pipeline.h"
#include "plugin/streamdiffusion/safetensors.h"

#include <jansson.h>
#include <stdlib.h>

typedef struct probe {
    const model *model;
    st_file *input;
    const char *folder;
} probe;

static void die(const char *what, const char *why)
{
    fprintf(stderr, "probe: %s: %s\n", what, why);
    exit(1);
}

/* ---- tensors in and out ------------------------------------------------------------------------
 */

static const char *text_of(const json_t *cmd, const char *key)
{
    const char *s = json_string_value(json_object_get(cmd, key));
    if (!s)
        die(key, "the command lacks this string");
    return s;
}

static int int_of(const json_t *cmd, const char *key)
{
    return (int)json_integer_value(json_object_get(cmd, key));
}

static const st_tensor *tensor_of(const probe *p, const json_t *cmd, const char *key)
{
    const char *name = text_of(cmd, key);
    const st_tensor *t = st_find(p->input, name);
    if (!t)
        die(name, "the input file lacks this tensor");
    return t;
}

/* numpy's .npy, version 1.0. `type` is its dtype, as "<f4". */
static void write_npy(const probe *p, const char *name, const char *type, size_t size,
                      const void *data, const int *dim, int dims)
{
    char path[4096], shape[128] = "", header[256];
    size_t count = 1, used = 0;
    for (int i = 0; i < dims; i++) {
        used += (size_t)snprintf(shape + used, sizeof shape - used, "%d,", dim[i]);
        count *= (size_t)dim[i];
    }
    int n = snprintf(header, sizeof header,
                     "{'descr': '%s', 'fortran_order': False, 'shape': (%s), }", type, shape);
    int padded = (10 + n + 1 + 63) / 64 * 64 - 10;
    unsigned char magic[10] = {0x93,
                               'N',
                               'U',
                               'M',
                               'P',
                               'Y',
                               1,
                               0,
                               (unsigned char)(padded & 255),
                               (unsigned char)(padded >> 8)};
    snprintf(path, sizeof path, "%s/%s.npy", p->folder, name);
    FILE *f = fopen(path, "wb");
    if (!f)
        die(path, "it cannot be written");
    fwrite(magic, 1, sizeof magic, f);
    fprintf(f, "%s%*s", header, padded - n, "\n");
    if (fwrite(data, size, count, f) != count || fclose(f))
        die(path, "it could not be written in full");
}

static void write_floats(const probe *p, const char *name, const float *data, int n, int h, int w,
                         int c)
{
    write_npy(p, name, "<f4", sizeof *data, data, (int[]){n, h, w, c}, 4);
}

static float *floats(size_t count)
{
    float *y = malloc(sizeof *y * count);
    if (!y)
        die("memory", "there is none left");
    return y;
}

/* ---- stages -------------------------------------------------------------------------------------
 */

static void do_tokens(const probe *p, const json_t *cmd)
{
    const json_t *texts = json_object_get(cmd, "texts");
    int n = (int)json_array_size(texts);
    int32_t *ids = calloc((size_t)n + 1, TOKENIZER_LENGTH * sizeof *ids);
    if (!ids)
        die("memory", "there is none left");
    for (int i = 0; i < n; i++)
        tokenizer_encode(p->model->tokens, json_string_value(json_array_get(texts, (size_t)i)),
                         ids + i * TOKENIZER_LENGTH);
    write_npy(p, text_of(cmd, "id"), "<i4", sizeof *ids, ids, (int[]){n, TOKENIZER_LENGTH}, 2);
    free(ids);
}

static void do_text(const probe *p, const json_t *cmd)
{
    char why[K_WHY];
    int width = clip_width(p->model->text);
    float *y = floats((size_t)width * TOKENIZER_LENGTH);
    if (stage_text(p->model, tensor_of(p, cmd, "ids")->data, y, why))
        die("text", why);
    write_floats(p, text_of(cmd, "id"), y, 1, 1, TOKENIZER_LENGTH, width);
    free(y);
}

typedef struct tap_file {
    const probe *probe;
    const char *id;
} tap_file;

static void see(void *ctx, const char *name, k_tensor x)
{
    const tap_file *t = ctx;
    char file[512];
    snprintf(file, sizeof file, "%s.%s", t->id, name);
    float *dense = floats((size_t)k_rows(x) * (size_t)x.c);
    for (int64_t r = 0; r < k_rows(x); r++)
        memcpy(dense + r * x.c, (const float *)x.data + r * x.ld, sizeof *dense * (size_t)x.c);
    write_floats(t->probe, file, dense, x.n, x.h, x.w, x.c);
    free(dense);
}

static void do_unet(const probe *p, const json_t *cmd)
{
    char why[K_WHY];
    const st_tensor *x = tensor_of(p, cmd, "x");
    const json_t *guidance = json_object_get(cmd, "guidance");
    tap_file file = {p, text_of(cmd, "id")};
    net_tap tap = {see, &file};
    stage_unet_input in = {
        .x = x->data,
        .h = (int)x->dim[1],
        .w = (int)x->dim[2],
        .timestep = (float)json_number_value(json_object_get(cmd, "timestep")),
        .has_guidance = json_is_number(guidance),
        .guidance = (float)json_number_value(guidance),
        .states = tensor_of(p, cmd, "states")->data,
        .tap = json_is_true(json_object_get(cmd, "taps")) ? &tap : NULL,
    };
    int c = p->model->config.unet.out_channels;
    float *y = floats((size_t)in.h * (size_t)in.w * (size_t)c);
    if (stage_unet(p->model, &in, y, why))
        die("unet", why);
    write_floats(p, file.id, y, 1, in.h, in.w, c);
    free(y);
}

static void do_code(const probe *p, const json_t *cmd)
{
    char why[K_WHY];
    int tiny = json_is_true(json_object_get(cmd, "tiny"));
    int encode = json_is_true(json_object_get(cmd, "encode"));
    const st_tensor *x = tensor_of(p, cmd, "x");
    int h = (int)x->dim[1] / (encode ? 8 : 1), w = (int)x->dim[2] / (encode ? 8 : 1);
    int c = tiny ? p->model->config.taesd.latent_channels : p->model->config.vae.latent_channels;
    if (tiny ? !p->model->taesd : !p->model->vae)
        die("code", "the model has no such autoencoder");
    int oh = encode ? h : 8 * h, ow = encode ? w : 8 * w, oc = encode ? c : 3;
    float *y = floats((size_t)oh * (size_t)ow * (size_t)oc);
    enum stage_coder way = (tiny ? STAGE_TAESD_ENCODE : STAGE_VAE_ENCODE) + !encode;
    if (stage_code(p->model, way, x->data, h, w, y, why))
        die("code", why);
    write_floats(p, text_of(cmd, "id"), y, 1, oh, ow, oc);
    free(y);
}

static void do_noise(const probe *p, const json_t *cmd)
{
    char why[K_WHY];
    int h = int_of(cmd, "h"), w = int_of(cmd, "w"), n = int_of(cmd, "count");
    int c = p->model->config.unet.in_channels;
    size_t size = (size_t)h * (size_t)w * (size_t)c;
    float *y = floats(size * (size_t)n);
    uint64_t seed = (uint64_t)json_integer_value(json_object_get(cmd, "seed"));
    for (int i = 0; i < n; i++)
        if (stage_noise(p->model, seed, (uint32_t)i, h, w, y + size * (size_t)i, why))
            die("noise", why);
    write_floats(p, text_of(cmd, "id"), y, n, h, w, c);
    free(y);
}

/* ---- schedule and frame
 * --------------------------------------------------------------------------- */

static int indices_of(const json_t *cmd, int *index)
{
    const json_t *list = json_object_get(cmd, "indices");
    int n = (int)json_array_size(list);
    for (int i = 0; i < n && i < SCHEDULER_MAX_STEPS; i++)
        index[i] = (int)json_integer_value(json_array_get(list, (size_t)i));
    return n;
}

/* One row a step: timestep, alpha, sigma, noise[0..1], denoise[0..1]. */
static void do_plan(const probe *p, const json_t *cmd)
{
    scheduler s;
    scope_error err = {0};
    int index[SCHEDULER_MAX_STEPS], n = indices_of(cmd, index);
    if (scheduler_plan(&s, &p->model->config.scheduler, int_of(cmd, "steps"),
                       json_number_value(json_object_get(cmd, "strength")), index, n, &err))
        die("plan", err.text);
    float row[SCHEDULER_MAX_STEPS][7];
    for (int i = 0; i < s.count; i++) {
        const scheduler_step *t = &s.step[i];
        float r[7] = {(float)t->timestep, t->alpha,      t->sigma,     t->noise[0],
                      t->noise[1],        t->denoise[0], t->denoise[1]};
        memcpy(row[i], r, sizeof r);
    }
    write_npy(p, text_of(cmd, "id"), "<f4", sizeof(float), row, (int[]){s.count, 7}, 2);
}

static pipeline_settings settings_of(const json_t *cmd)
{
    pipeline_settings s = {
        .width = int_of(cmd, "width"),
        .height = int_of(cmd, "height"),
        .fit = FIT_STRETCH,
        .from_text = !json_object_get(cmd, "image"),
        .use_taesd = json_is_true(json_object_get(cmd, "tiny")),
        .negative_prompt = text_of(cmd, "negative"),
        .seed = (uint64_t)json_integer_value(json_object_get(cmd, "seed")),
        .guidance_scale = json_number_value(json_object_get(cmd, "guidance")),
        .steps = int_of(cmd, "steps"),
        .strength = json_number_value(json_object_get(cmd, "strength")),
        .do_add_noise = json_is_true(json_object_get(cmd, "add_noise")),
    };
    s.index_count = indices_of(cmd, s.index);
    s.prompt.slerp = !strcmp(text_of(cmd, "method"), "slerp");
    const json_t *prompts = json_object_get(cmd, "prompts"), *one;
    size_t i;
    json_array_foreach(prompts, i, one)
    {
        s.prompt.text[i] = json_string_value(json_array_get(one, 0));
        s.prompt.weight[i] = json_number_value(json_array_get(one, 1));
        s.prompt.count = (int)i + 1;
    }
    return s;
}

/* The frame is computed twice: the second must be the first, or state leaks between frames. */
static void do_frame(const probe *p, const json_t *cmd)
{
    scope_error err = {0};
    pipeline_settings s = settings_of(cmd);
    size_t size = 3 * (size_t)s.width * (size_t)s.height;
    float *y[2] = {floats(size), floats(size)};
    k_image in = {0};
    if (!s.from_text) {
        const st_tensor *x = tensor_of(p, cmd, "image");
        in = (k_image){
            (void *)(uintptr_t)x->data, K_U8,         1, (int)x->dim[0], (int)x->dim[1], 3,
            3 * x->dim[0] * x->dim[1],  3 * x->dim[1]};
    }
    pipeline *line = pipeline_open(p->model, &err);
    if (!line || pipeline_set(line, &s, &err))
        die("frame", err.text);
    for (int i = 0; i < 2; i++) {
        k_image out = {y[i],
                       K_F32,
                       1,
                       s.height,
                       s.width,
                       3,
                       12 * (int64_t)s.height * s.width,
                       12 * (int64_t)s.width};
        if (pipeline_frame(line, in.data ? &in : NULL, &out, &err))
            die("frame", err.text);
    }
    pipeline_close(line);
    if (memcmp(y[0], y[1], sizeof(float) * size))
        die("frame", "the same frame twice gave two results");
    write_floats(p, text_of(cmd, "id"), y[0], 1, s.height, s.width, 3);
    free(y[0]);
    free(y[1]);
}

static const struct {
    const char *name;
    void (*run)(const probe *p, const json_t *cmd);
} stages[] = {
    {"tokens", do_tokens}, {"text", do_text}, {"unet", do_unet},   {"code", do_code},
    {"noise", do_noise},   {"plan", do_plan}, {"frame", do_frame},
};

static void run(const probe *p, const char *line)
{
    json_error_t why;
    json_t *cmd = json_loads(line, 0, &why);
    if (!cmd)
        die(line, why.text);
    const char *name = text_of(cmd, "do");
    size_t i = 0, n = sizeof stages / sizeof *stages;
    while (i < n && strcmp(stages[i].name, name))
        i++;
    if (i == n)
        die(name, "there is no such stage");
    stages[i].run(p, cmd);
    json_decref(cmd);
}

int main(int argc, char **argv)
{
    if (argc < 4)
        die("usage", "probe MODEL INPUT.safetensors OUTPUT_FOLDER [normal|low] <commands");
    char why[256];
    scope_error err = {0};
    int low = argc > 4 && !strcmp(argv[4], "low");
    model_options o = {argv[1], "", "cpu", low ? K_MEMORY_LOW : K_MEMORY_NORMAL};
    probe p = {model_acquire(NULL, &o, &err), st_open(argv[2], why), argv[3]};
    if (!p.model)
        die(argv[1], err.text);
    if (!p.input)
        die(argv[2], why);
    char *line = NULL;
    size_t room = 0;
    while (getline(&line, &room, stdin) > 0)
        run(&p, line);
    free(line);
    st_close(p.input);
    model_release(p.model);
    return 0;
}
