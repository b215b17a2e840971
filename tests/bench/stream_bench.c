/* stream_bench.c - what steps, guidance and changes of parameters cost a frame.
 *
 *     stream_bench MODEL [SIZE] [FRAMES]
 *
 * MODEL has a TAESD; pictures are SIZE a side (256). Each case is a pipeline of its own on the same
 * weights, and they take turns frame by frame (60), so that whatever else the machine does falls on
 * all alike. Prints "CASE unet|frame MS", medians. Then a running pipeline is changed before each
 * frame, and "change PARAMETER MS" says what that adds to the frame: the median, on the frame's
 * thread.
 */
#include "plugin/streamdiffusion/pipeline.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { FRAMES_MAX = 1000, STAGES_MAX = 8, STEPS = 4 };

static const struct {
    const char *name;
    int steps, batch, kind;
    double scale;
} cases[] = {
    {"one", 1, 1, GUIDE_NONE, 1},        {"batch2", 2, 1, GUIDE_NONE, 1},
    {"batch4", STEPS, 1, GUIDE_NONE, 1}, {"apart2", 2, 0, GUIDE_NONE, 1},
    {"apart4", STEPS, 0, GUIDE_NONE, 1}, {"none", 2, 1, GUIDE_NONE, 2},
    {"self", 2, 1, GUIDE_SELF, 2},       {"initialize", 2, 1, GUIDE_INITIALIZE, 2},
    {"full", 2, 1, GUIDE_FULL, 2},
};
enum { CASES = sizeof cases / sizeof *cases };

static const char *const changes[] = {"nothing",        "strength",       "seed",
                                      "guidance_scale", "prompt_weights", "t_index_list"};
enum { CHANGES = sizeof changes / sizeof *changes };

static const model *m;
static int size = 256, frames = 60;
static k_image picture, result;
static double passes[CASES][FRAMES_MAX], whole[CASES][FRAMES_MAX], cost[CHANGES][FRAMES_MAX];

__attribute__((noreturn)) static void die(const char *why)
{
    fprintf(stderr, "stream_bench: %s\n", why);
    exit(1);
}

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *ms)
{
    qsort(ms, (size_t)frames, sizeof *ms, by_size);
    return ms[frames / 2];
}

static k_image pixels(void)
{
    size_t count = (size_t)size * (size_t)size * 3;
    unsigned char *data = malloc(count);
    if (!data)
        die("there is no memory for the pictures.");
    for (size_t i = 0; i < count; i++)
        data[i] = (unsigned char)(i * 2654435761u >> 24);
    return (k_image){.data = data,
                     .dtype = K_U8,
                     .t = 1,
                     .h = size,
                     .w = size,
                     .c = 3,
                     .stride_t = (int64_t)count,
                     .stride_h = 3 * (int64_t)size};
}

static pipeline_settings settings(int steps, int batch, int kind, double scale)
{
    return (pipeline_settings){.width = size,
                               .height = size,
                               .fit = FIT_CROP,
                               .use_taesd = 1,
                               .prompt = {.count = 2, .text = {"oil", "ink"}, .weight = {1, 1}},
                               .negative_prompt = "",
                               .seed = 1,
                               .guidance_scale = scale,
                               .cfg_type = kind,
                               .delta = 1,
                               .steps = steps,
                               .strength = 0.7,
                               .do_add_noise = 1,
                               .use_denoising_batch = batch,
                               .frame_buffer_size = 1};
}

static pipeline *opened(const pipeline_settings *s)
{
    scope_error err;
    pipeline *p = pipeline_open(m, &err);
    if (!p || pipeline_load(p, NULL, s, &err))
        die(err.text);
    return p;
}

/* One frame; what the pipeline says it took, whole, and its UNet. */
static double frame(pipeline *p, double *of_pass)
{
    scope_stage stage[STAGES_MAX];
    scope_error err;
    double all = 0;
    if (pipeline_frame(p, &picture, &result, &err))
        die(err.text);
    for (int i = 0, n = pipeline_stages(p, stage, STAGES_MAX); i < n; i++) {
        if (!strcmp(stage[i].name, "unet"))
            *of_pass = stage[i].ms;
        else if (!strcmp(stage[i].name, "frame"))
            all = stage[i].ms;
    }
    return all;
}

static void run_cases(void)
{
    pipeline *p[CASES];
    for (int c = 0; c < CASES; c++) {
        const pipeline_settings s =
            settings(cases[c].steps, cases[c].batch, cases[c].kind, cases[c].scale);
        p[c] = opened(&s);
        frame(p[c], &passes[c][0]); /* fills the batch */
    }
    for (int i = 0; i < frames; i++)
        for (int c = 0; c < CASES; c++)
            whole[c][i] = frame(p[c], &passes[c][i]);
    for (int c = 0; c < CASES; c++) {
        printf("%s unet %.4f\n%s frame %.4f\n", cases[c].name, median(passes[c]), cases[c].name,
               median(whole[c]));
        pipeline_close(p[c]);
    }
}

/* Change number c of the settings, another one each time. */
static void change(pipeline_settings *s, int c, int i)
{
    switch (c) {
    case 1:
        s->strength = i % 2 ? 0.5 : 0.7;
        break;
    case 2:
        s->seed++;
        break;
    case 3:
        s->guidance_scale = i % 2 ? 1.5 : 2;
        break;
    case 4:
        s->prompt.weight[0] = 1 + i % 10;
        break;
    case 5:
        s->index_count = STEPS;
        for (int j = 0; j < STEPS; j++)
            s->index[j] = 10 * (j + 1) + i % 2;
        break;
    default:
        break;
    }
}

static void run_changes(void)
{
    pipeline_settings s = settings(STEPS, 1, GUIDE_SELF, 2);
    pipeline *p = opened(&s);
    scope_error err;
    double ignored;
    frame(p, &ignored);
    for (int c = 0; c < CHANGES; c++) {
        s = settings(c == 5 ? 50 : STEPS, 1, GUIDE_SELF, 2);
        for (int i = -2; i < frames; i++) { /* the first two only bring these settings about */
            change(&s, c, i + 2);
            double t0 = now_ms();
            if (pipeline_set(p, &s, &err))
                die(err.text);
            double all = frame(p, &ignored);
            if (i >= 0)
                cost[c][i] = now_ms() - t0 - all;
        }
        printf("change %s %.4f\n", changes[c], median(cost[c]));
    }
    pipeline_close(p);
}

int main(int argc, char **argv)
{
    scope_error err;
    if (argc > 2)
        size = atoi(argv[2]);
    if (argc > 3)
        frames = atoi(argv[3]);
    if (argc < 2 || size < 8 || size % 8 || frames < 1 || frames > FRAMES_MAX)
        die("usage: stream_bench MODEL [SIZE, a multiple of 8] [FRAMES, up to 1000]");
    m = model_acquire(NULL, &(model_options){.path = argv[1], .taesd = "", .device = "cpu"}, &err);
    if (!m)
        die(err.text);
    picture = pixels();
    result = pixels();
    run_cases();
    run_changes();
    free(picture.data);
    free(result.data);
    model_release(m);
    return 0;
}
