/* gpu_bench.c - what a frame costs on a GPU, op by op and whole.
 *
 *     gpu_bench ceilings                           the device's rates, as a copy and a product show
 *     gpu_bench ops MODEL SIZE [STEPS [SECONDS]]   each distinct op of a frame
 *     gpu_bench frames MODEL SIZE STEPS FRAMES     whole frames, steps as a stream batch
 *     gpu_bench dump MODEL SIZE FOLDER             one frame and what it was made of, for peer.py
 *
 * BENCH_DEVICE is "cuda" where it is not set. MODEL has a TAESD.
 *
 * The list of ops is not written down anywhere: the table of ops of a pipeline's context is
 * replaced by one that notes each call and then makes it. Times are taken in place, between all
 * other ops of the frame, so caches hold what they hold in a frame: behind each op the device's
 * clock is written, the frame is replayed as a graph, and the cost of a clock itself is taken off.
 */
#include "gpu_bench.h"

#include <stdlib.h>
#include <time.h>

const char *bench_device;

__attribute__((noreturn)) void die(const char *why)
{
    fprintf(stderr, "gpu_bench: %s\n", why);
    exit(1);
}

double now_ms(void)
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

double quantile(double *v, int count, double share)
{
    qsort(v, (size_t)count, sizeof *v, by_size);
    int i = (int)(share * count);
    return v[i < count ? i : count - 1];
}

/* ---- a model and a pipeline ---- */

bench bench_open(const char *path, int size, int steps)
{
    static const char *const texts[] = {"a photo of a cat"};
    scope_error err;
    bench b = {.size = size};
    double t0 = now_ms();
    const model_options o = {.path = path, .taesd = "", .device = bench_device};
    if (!(b.m = model_acquire(NULL, &o, &err)) || !(b.p = pipeline_open(b.m, &err)))
        die(err.text);
    b.settings = (pipeline_settings){.width = size,
                                     .height = size,
                                     .fit = FIT_CROP,
                                     .use_taesd = 1,
                                     .prompt = {.count = 1, .text = {texts[0]}, .weight = {1}},
                                     .negative_prompt = "",
                                     .seed = 1,
                                     .guidance_scale = 1,
                                     .cfg_type = GUIDE_NONE,
                                     .delta = 1,
                                     .steps = steps,
                                     .strength = 0.6,
                                     .do_add_noise = 1,
                                     .use_denoising_batch = 1,
                                     .frame_buffer_size = 1,
                                     .effects = {.loopback_mix = 1,
                                                 .loopback_zoom = 1,
                                                 .mask_source = MASK_ALPHA,
                                                 .mask_strength = 1,
                                                 .similar_threshold = 0.98,
                                                 .similar_max_skip = 10}};
    size_t count = 3 * (size_t)size * (size_t)size;
    b.in = malloc(count);
    b.out = malloc(count);
    if (!b.in || !b.out)
        die("there is no memory for the pictures.");
    for (size_t i = 0; i < count; i++) {
        int x = (int)(i / 3) % size, y = (int)(i / 3) / size;
        b.in[i] = (unsigned char)((x * 3 + y * 2 + (int)(i % 3) * 50) % 256);
    }
    b.load_ms = now_ms() - t0;
    return b;
}

void bench_set(bench *b)
{
    scope_error err;
    double t0 = now_ms();
    if (pipeline_load(b->p, NULL, &b->settings, &err))
        die(err.text);
    b->plan_ms = now_ms() - t0;
}

void bench_frame(bench *b)
{
    scope_error err;
    int64_t row = 3 * (int64_t)b->size;
    k_image in = {b->in, K_U8, 1, b->size, b->size, 3, row * b->size, row}, out = in;
    out.data = b->out;
    if (pipeline_frame(b->p, &in, &out, &err))
        die(err.text);
}

void bench_close(bench *b)
{
    pipeline_close(b->p);
    model_release(b->m);
    free(b->in);
    free(b->out);
}

/* ---- whole frames ---- */

enum { FRAMES_MAX = 4096, STAGES_MAX = 8 };

/* The linker puts this before the backend's own: when the host has handed a frame over. */
void __real_cuda_submit(k_ctx *k);
void __wrap_cuda_submit(k_ctx *k);
static double submitted_ms;

void __wrap_cuda_submit(k_ctx *k)
{
    __real_cuda_submit(k);
    submitted_ms = now_ms();
}

static void run_frames(const char *path, int size, int steps, int frames)
{
    static double wall[FRAMES_MAX], host[FRAMES_MAX], stage_ms[STAGES_MAX][FRAMES_MAX];
    static const char *names[STAGES_MAX];
    bench b = bench_open(path, size, steps);
    int stages = 0;
    bench_set(&b);
    for (int i = 0; i < 8; i++)
        bench_frame(&b);
    cuda_counts before = cuda_counted(b.p->k);
    double begin = now_ms();
    for (int i = 0; i < frames; i++) {
        scope_stage stage[STAGES_MAX];
        double t0 = now_ms();
        bench_frame(&b);
        wall[i] = now_ms() - t0;
        host[i] = submitted_ms - t0;
        stages = pipeline_stages(b.p, stage, STAGES_MAX);
        for (int s = 0; s < stages; s++) {
            names[s] = stage[s].name;
            stage_ms[s][i] = stage[s].ms;
        }
    }
    double all = now_ms() - begin;
    cuda_counts after = cuda_counted(b.p->k);
    printf("frames %dx%d, %d steps: p50 %.3f p95 %.3f p99 %.3f ms, %.1f fps", size, size, steps,
           quantile(wall, frames, 0.5), quantile(wall, frames, 0.95), quantile(wall, frames, 0.99),
           1e3 * frames / all);
    printf(", host %.3f ms;", quantile(host, frames, 0.5));
    for (int s = 0; s < stages; s++)
        printf(" %s %.3f", names[s], quantile(stage_ms[s], frames, 0.5));
    printf("\n  load %.0f ms, plan %.0f ms, %.0f MiB on the device; graphs %ld of %ld submits, "
           "%ld captures\n",
           b.load_ms, b.plan_ms, (double)k_device_bytes(b.m->device) / (1 << 20),
           after.graphs - before.graphs, after.submits - before.submits,
           after.captures - before.captures);
    bench_close(&b);
}

/* ---- for peer.py ---- */

static void write_file(const char *folder, const char *name, const void *data, size_t bytes)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, bytes, f) != bytes || fclose(f))
        die("the frame cannot be written.");
}

static void dump(const char *path, int size, const char *folder)
{
    char text[512];
    bench b = bench_open(path, size, 1);
    bench_set(&b);
    bench_frame(&b);
    const scheduler_step *s = &b.p->schedule.step[0];
    k_tensor e = b.p->stream.noise.e;
    size_t count = (size_t)(e.h * e.w * e.c), pixels = 3 * (size_t)size * (size_t)size;
    float *noise = malloc((size_t)e.n * count * sizeof *noise);
    k_get(b.p->k, e, noise);
    snprintf(text, sizeof text,
             "{\"timestep\": %d, \"noise\": [%.9g, %.9g], \"denoise\": [%.9g, %.9g], "
             "\"prompt\": \"%s\"}\n",
             s->timestep, (double)s->noise[0], (double)s->noise[1], (double)s->denoise[0],
             (double)s->denoise[1], b.settings.prompt.text[0]);
    write_file(folder, "frame.json", text, strlen(text));
    write_file(folder, "noise.f32", noise, count * sizeof *noise);
    write_file(folder, "in.u8", b.in, pixels);
    write_file(folder, "out.u8", b.out, pixels);
    free(noise);
    bench_close(&b);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    bench_device = getenv("BENCH_DEVICE") ? getenv("BENCH_DEVICE") : "cuda";
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!strcmp(what, "ceilings") && argc == 2) {
        ceilings c = ceilings_measure();
        printf("copy %.0f GB/s, product %.0f TFLOP/s, clock %.2f us\n", c.bytes * 1e-9,
               c.flops * 1e-12, c.clock_us);
    } else if (!strcmp(what, "ops") && argc >= 4) {
        ops_run(argv[2], atoi(argv[3]), argc > 4 ? atoi(argv[4]) : 1,
                argc > 5 ? atof(argv[5]) : 10);
    } else if (!strcmp(what, "frames") && argc == 6 && atoi(argv[5]) <= FRAMES_MAX) {
        run_frames(argv[2], atoi(argv[3]), atoi(argv[4]), atoi(argv[5]));
    } else if (!strcmp(what, "dump") && argc == 5) {
        dump(argv[2], atoi(argv[3]), argv[4]);
    } else {
        die("usage: gpu_bench ceilings | ops MODEL SIZE [STEPS [SECONDS]] | "
            "frames MODEL SIZE STEPS FRAMES | dump MODEL SIZE FOLDER");
    }
    return 0;
}
