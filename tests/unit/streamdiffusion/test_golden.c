/* test_golden.c - our networks and frames against PyTorch's numbers, without Python.
 *
 * A golden.safetensors holds commands of tests/oracle/stages.h and what diffusers made of them
 * (tests/oracle/golden.py wrote both). Every command is run here and compared: on the tiny random
 * checkpoints of tests/golden/networks, frame by frame and as a stream, and on the model that
 * ships. BED_DEVICE=cuda runs them on that device, whose networks compute in halves;
 * BED_SHARE=I/N every Nth set alone, from set I.
 */
#include "tests/oracle/stages.h"

#include <check.h>
#include <math.h>

/* Both sides compute in fp32 and differ in the order of summation alone, which depends on the
 * vector width and the convolution algorithm: 1e-6 is usual here, and the bar is the oracle's. */
static const double network_bar = 1e-4;
/* Halves round each op's result by 2^-12 on average, and these networks of random weights make much
 * of it: PyTorch's own fp16 is off by 0.020, 0.018 and 0.008 on the three UNets of "sdxl" (its bf16
 * by 0.2 to 0.6), and another order of the same sums moves such an error two- or threefold. Of a
 * picture, whose errors are as large everywhere, single values are far off. */
static const double half_network_bar = 6e-2, half_frame_bar = 0.5 + 255 * 0.12, half_psnr_bar = 33;
/* A coefficient: diffusers accumulates products of betas in fp32, we in double. */
static const double plan_bar = 2e-5;
/* Noise is part of the contract and comes from integers; only log and cos may round otherwise. */
static const double noise_bar = 1e-6;
/* A frame of several steps divides errors by alpha at each; PyTorch's picture is rounded to u8. */
static const double frame_bar = 0.5 + 255 * 2e-3;
/* Of the whole picture, in dB: the oracle's. Rounding to u8 alone leaves 59. */
static const double psnr_bar = 50;

#define NETWORKS SOURCE_DIR "/tests/golden/networks/"
#define STREAM   SOURCE_DIR "/tests/golden/stream/"
static const struct {
    const char *name, *model, *golden;
    int least;       /* commands */
    const char *vae; /* for a file that has none */
} sets[] = {{"sd1", NETWORKS "sd1", NETWORKS "sd1", 20, 0},
            {"sd2", NETWORKS "sd2", NETWORKS "sd2", 20, 0},
            {"lcm", NETWORKS "lcm", NETWORKS "lcm", 20, 0},
            {"sdxl", NETWORKS "sdxl", NETWORKS "sdxl", 30, 0},
            {"sd1 stream", NETWORKS "sd1", STREAM "sd1", 18, 0},
            {"sd2 stream", NETWORKS "sd2", STREAM "sd2", 18, 0},
            {"ldm1", NETWORKS "ldm1/model.safetensors", NETWORKS "ldm1", 7, 0},
            {"ldm2", NETWORKS "ldm2/model.safetensors", NETWORKS "ldm2", 5,
             NETWORKS "ldm1/model.safetensors"},
            {"tiny", SOURCE_DIR "/examples/models/tiny", SOURCE_DIR "/tests/golden/tiny", 11, 0}};

static double relative_error(const float *ours, const float *theirs, size_t n)
{
    double difference = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        difference += ((double)ours[i] - theirs[i]) * ((double)ours[i] - theirs[i]);
        size += (double)theirs[i] * theirs[i];
    }
    return sqrt(difference / (size > 0 ? size : 1));
}

/* The worst number by itself: timesteps must not outweigh coefficients. */
static double worst_error(const float *ours, const float *theirs, size_t n)
{
    double worst = 0;
    for (size_t i = 0; i < n; i++)
        worst = fmax(worst, fabs((double)ours[i] - theirs[i]) / fmax(1, fabs((double)theirs[i])));
    return worst;
}

static double picture_error(const float *ours, const uint8_t *theirs, size_t n)
{
    double worst = 0;
    for (size_t i = 0; i < n; i++)
        worst = fmax(worst, fabs(255.0 * (double)ours[i] - theirs[i]));
    return worst;
}

static double psnr(const float *ours, const uint8_t *theirs, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += pow((double)ours[i] - theirs[i] / 255.0, 2);
    return -10 * log10(sum / (double)n);
}

/* The GPU that BED_DEVICE names; NULL: the CPU. */
static const char *gpu(void)
{
    const char *name = getenv("BED_DEVICE");
    return name && strcmp(name, "cpu") ? name : NULL;
}

static double bar_of(const char *stage)
{
    static const struct {
        const char *stage;
        const double *bar;
    } bars[] = {
        {"plan", &plan_bar}, {"noise", &noise_bar}, {"frame", &frame_bar}, {"stream", &frame_bar}};
    for (size_t i = 0; i < sizeof bars / sizeof *bars; i++)
        if (!strcmp(bars[i].stage, stage))
            return gpu() && bars[i].bar == &frame_bar ? half_frame_bar : *bars[i].bar;
    return !strcmp(stage, "tokens") ? 0 : gpu() ? half_network_bar : network_bar;
}

static void compare(stage_call *call, const char *set)
{
    const char *id = stage_text_of(call, "id"), *stage = stage_text_of(call, "do");
    char name[128];
    snprintf(name, sizeof name, "%s.y", id);
    const st_tensor *y = st_find(call->input, name);
    ck_assert_msg(y != NULL, "%s: no %s", set, name);
    ck_assert_msg(!stage_run(call), "%s: %s: %s", set, id, call->why);
    size_t n =
        (size_t)call->dim[0] * (size_t)call->dim[1] * (size_t)call->dim[2] * (size_t)call->dim[3];
    size_t count = y->bytes / (y->dtype == ST_U8 ? 1 : sizeof(float));
    ck_assert_msg(n == count, "%s: %s: %zu numbers, PyTorch has %zu", set, id, n, count);
    for (size_t i = 0; i < n; i++)
        ck_assert_msg(isfinite(call->y[i]), "%s: %s: number %zu is not finite", set, id, i);
    double error = y->dtype == ST_U8        ? picture_error(call->y, y->data, n)
                   : !strcmp(stage, "plan") ? worst_error(call->y, y->data, n)
                                            : relative_error(call->y, y->data, n);
    ck_assert_msg(error <= bar_of(stage), "%s: %s: error %g, bar %g", set, id, error,
                  bar_of(stage));
    double least = gpu() ? half_psnr_bar : psnr_bar;
    ck_assert_msg(y->dtype != ST_U8 || psnr(call->y, y->data, n) >= least, "%s: %s: %g dB, bar %g",
                  set, id, psnr(call->y, y->data, n), least);
    free(call->y);
}

/* Whether BED_SHARE leaves a set out. */
static int skips(int which)
{
    const char *share = getenv("BED_SHARE");
    int first, every;
    return share && sscanf(share, "%d/%d", &first, &every) == 2 && which % every != first % every;
}

static void replay(int which, int memory)
{
    char file[600], why[256];
    scope_error err = {0};
    if (skips(which))
        return;
    snprintf(file, sizeof file, "%s/golden.safetensors", sets[which].golden);
    model_options options = {.path = sets[which].model,
                             .device = gpu() ? gpu() : "cpu",
                             .memory = memory,
                             .vae = sets[which].vae};
    const model *m = model_acquire(NULL, &options, &err);
    ck_assert_msg(m != NULL, "%s", err.text);
    st_file *input = st_open(file, why);
    ck_assert_msg(input != NULL, "%s", why);
    const st_tensor *text = st_find(input, "commands");
    ck_assert_ptr_nonnull(text);
    json_t *commands = json_loadb(text->data, text->bytes, 0, NULL), *command;
    size_t i;
    ck_assert_int_ge((int)json_array_size(commands), sets[which].least);
    json_array_foreach(commands, i, command)
    {
        stage_call call = {.model = m, .input = input, .command = command};
        compare(&call, sets[which].name);
    }
    json_decref(commands);
    st_close(input);
    model_release(m);
}

START_TEST(networks_and_frames)
{
    replay(_i, K_MEMORY_NORMAL);
}
END_TEST

START_TEST(with_little_memory)
{
    replay(_i, K_MEMORY_LOW);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("golden");
    TCase *t = tcase_create("networks");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, networks_and_frames, 0, sizeof sets / sizeof *sets);
    if (!gpu()) /* where a weight has one form, whatever the memory */
        tcase_add_loop_test(t, with_little_memory, 0, sizeof sets / sizeof *sets);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
