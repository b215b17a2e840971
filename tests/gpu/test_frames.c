/* test_frames.c - whole frames on a GPU: like the CPU's, nothing allocated and nothing captured
 * anew while parameters change, and a GPU that is full.
 *
 * On the model that ships, at FRAMES_SIZE a side (256), FRAMES_COUNT frames (1000). BED_DEVICE
 * names the device, "cuda" where it is not set. In the simulator pictures are of 64, and kernels do
 * not run while calls are counted (CK_RUN_CASE: pictures, counts).
 */
#include "kernels/cuda/cuda.h"
#include "plugin/streamdiffusion/pipeline_state.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>

/* Halves in the networks: the error of a frame of one step stays below a hundredth of the range on
 * average, which is 40 dB; by 8 bits alone it would be 59. Four steps feed it back. */
static const double bar_db = 36;

enum { BIGGEST = 512, FEW = 4 };

static scope_error err;
static uint8_t input[3 * BIGGEST * BIGGEST];

static int number(const char *name, int usual)
{
    const char *text = getenv(name);
    return text ? atoi(text) : usual;
}

static int side(void)
{
    return number("FRAMES_SIZE", 256);
}

static const char *gpu(void)
{
    const char *name = getenv("BED_DEVICE");
    return name ? name : "cuda";
}

static pipeline_settings usual(void)
{
    return (pipeline_settings){.width = side(),
                               .height = side(),
                               .fit = FIT_CROP,
                               .use_taesd = 1,
                               .prompt = {.count = 2, .text = {"oil", "ink"}, .weight = {1, 1}},
                               .negative_prompt = "",
                               .seed = 42,
                               .guidance_scale = 1,
                               .cfg_type = GUIDE_NONE,
                               .delta = 1,
                               .steps = 1,
                               .strength = 0.6,
                               .do_add_noise = 1,
                               .frame_buffer_size = 1,
                               .effects = {.loopback_mix = 1,
                                           .loopback_zoom = 1,
                                           .mask_source = MASK_ALPHA,
                                           .mask_strength = 1,
                                           .similar_threshold = 0.98,
                                           .similar_max_skip = 10}};
}

static k_image picture(uint8_t *data)
{
    int n = side();
    return (k_image){data, K_U8, 1, n, n, 3, 3 * (int64_t)n * n, 3 * (int64_t)n};
}

static void draw(int t)
{
    int n = side();
    for (int i = 0; i < n * n * 3; i++)
        input[i] = (uint8_t)(128 + 60 * sin(0.05 * (i / 3 % n) + 0.1 * t) +
                             60 * cos(0.03 * (i / 3 / n) + i % 3));
}

static const model *opened(const char *device)
{
    const model_options o = {
        .path = SOURCE_DIR "/examples/models/tiny", .taesd = "", .device = device};
    const model *m = model_acquire(NULL, &o, &err);
    ck_assert_msg(m != NULL, "%s", err.text);
    return m;
}

static pipeline *ready(const model *m, const pipeline_settings *s)
{
    pipeline *p = pipeline_open(m, &err);
    ck_assert_msg(p != NULL, "%s", err.text);
    ck_assert_msg(!pipeline_set(p, s, &err), "%s", err.text);
    return p;
}

static void frame(pipeline *p, uint8_t *out)
{
    k_image in = picture(input), to = picture(out);
    ck_assert_msg(!pipeline_frame(p, &in, &to, &err), "%s", err.text);
}

static double psnr(const uint8_t *a, const uint8_t *b, int count)
{
    double sum = 0;
    for (int i = 0; i < count; i++)
        sum += (a[i] - b[i]) * (a[i] - b[i]);
    return 10 * log10(255.0 * 255 * count / fmax(sum, 1e-3));
}

/* ---- as the CPU has it ---- */

START_TEST(test_like_the_cpu)
{
    static uint8_t ours[sizeof input], cpu[sizeof input];
    const model *m[2] = {opened("cpu"), opened(gpu())};
    for (int steps = 1; steps <= (side() < 128 ? 1 : 4); steps += 3) {
        pipeline_settings s = usual();
        s.steps = steps;
        pipeline *p[2] = {ready(m[0], &s), ready(m[1], &s)};
        for (int t = 0; t < FEW; t++) { /* the third comes from a graph */
            draw(t);
            s.seed = (uint64_t)t;
            s.strength = 0.6 - 0.1 * t;
            s.prompt.weight[0] = 0.3 * t;
            for (int i = 0; i < 2; i++) {
                ck_assert_msg(!pipeline_set(p[i], &s, &err), "%s", err.text);
                frame(p[i], i ? ours : cpu);
            }
            double db = psnr(ours, cpu, 3 * side() * side());
            printf("%d steps, frame %d: %.1f dB\n", steps, t, db);
            ck_assert_msg(db >= bar_db, "%d steps, frame %d: %.1f dB, bar %.0f", steps, t, db,
                          bar_db);
        }
        ck_assert_int_gt(cuda_counted(p[1]->k).graphs, 0);
        pipeline_close(p[0]);
        pipeline_close(p[1]);
    }
    model_release(m[0]);
    model_release(m[1]);
}
END_TEST

/* The same input twice is the same frame, bit by bit, from a graph or not. */
START_TEST(test_repeatable)
{
    static uint8_t first[sizeof input], again[sizeof input];
    const model *m = opened(gpu());
    pipeline_settings s = usual();
    draw(1);
    for (int run = 0; run < 2; run++) {
        pipeline *p = ready(m, &s);
        for (int t = 0; t < 4; t++) {
            frame(p, run || t ? again : first);
            ck_assert_msg(!run && !t ? 1 : !memcmp(first, again, (size_t)(3 * side() * side())),
                          "pipeline %d, frame %d", run, t);
        }
        pipeline_close(p);
    }
    model_release(m);
}
END_TEST

/* ---- while parameters change ---- */

static void change(pipeline_settings *s, int t)
{
    s->seed = (uint64_t)(t / 2);
    s->strength = 0.4 + 0.004 * (t % 100);
    s->prompt.weight[0] = 0.1 + 0.1 * (t % 11);
    s->guidance_scale = 1.2 + 0.05 * (t % 20);
    s->delta = 0.5 + 0.02 * (t % 25);
    s->effects.loopback_mix = 0.05 + 0.01 * (t % 90); /* 0 would be another list of ops */
    s->effects.loopback_zoom = 1 + 0.0005 * (t % 50);
    s->effects.loopback_rotate = 0.1 * (t % 30);
}

START_TEST(test_changes_cost_nothing)
{
    static uint8_t out[sizeof input];
    enum { WARM = 64 }; /* every list of ops that there will be has come twice */
    const model *m = opened(gpu());
    pipeline_settings s = usual();
    s.steps = 2;
    s.cfg_type = GUIDE_SELF;
    s.use_denoising_batch = 1;
    s.effects.loopback = 1;
    change(&s, 0);
    pipeline *p = ready(m, &s);
    size_t bytes = 0;
    cuda_counts before = {0};
    int frames = number("FRAMES_COUNT", 1000);
    for (int t = 0; t < WARM + frames; t++) {
        if (t == WARM) {
            bytes = k_device_bytes(m->device);
            before = cuda_counted(p->k);
        }
        draw(t);
        change(&s, t);
        ck_assert_msg(!pipeline_set(p, &s, &err), "%s", err.text);
        frame(p, out);
    }
    cuda_counts after = cuda_counted(p->k);
    printf("%d frames: %ld submits, %ld of them graphs, %ld launches apart\n", frames,
           after.submits - before.submits, after.graphs - before.graphs,
           after.launches - before.launches);
    ck_assert_uint_eq(k_device_bytes(m->device), bytes);
    ck_assert_int_eq(after.captures - before.captures, 0);
    ck_assert_int_ge(after.graphs - before.graphs, frames);
    pipeline_close(p);
    model_release(m);
}
END_TEST

/* ---- a GPU that is full ---- */

/* All of the device's memory but `spare` bytes; how many blocks. */
static int fill(void **block, int most, size_t spare)
{
    int count = 0;
    size_t room, total, each = (size_t)4 << 30;
    while (count < most && each >= 1 << 20) {
        cudaMemGetInfo(&room, &total);
        if (room < spare + each || cudaMalloc(&block[count], each))
            each /= 2;
        else
            count++;
    }
    cudaGetLastError();
    return count;
}

START_TEST(test_full)
{
    static uint8_t out[sizeof input];
    void *block[256];
    const model *m = opened(gpu());
    pipeline_settings s = usual(), large = usual();
    pipeline *p = ready(m, &s);
    frame(p, out);
    int count = fill(block, 256, 0);
    large.width = large.height = 1024; /* its activations have no room */
    int failed = pipeline_set(p, &large, &err);
    ck_assert_msg(failed, "there was room for a frame of 1024 on a full GPU");
    ck_assert_msg(strstr(err.text, "memory") != NULL, "%s", err.text);
    printf("%s\n", err.text);
    for (int i = 0; i < count; i++)
        cudaFree(block[i]);
    ck_assert_msg(!pipeline_set(p, &s, &err), "%s", err.text);
    frame(p, out);
    pipeline_close(p);
    model_release(m);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("frames");
    TCase *pictures = tcase_create("pictures"), *counts = tcase_create("counts");
    tcase_set_timeout(pictures, 240);
    tcase_set_timeout(counts, 240);
    tcase_add_test(pictures, test_like_the_cpu);
    tcase_add_test(pictures, test_repeatable);
    tcase_add_test(counts, test_changes_cost_nothing);
    tcase_add_test(counts, test_full);
    suite_add_tcase(suite, pictures);
    suite_add_tcase(suite, counts);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
