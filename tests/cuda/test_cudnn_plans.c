/* test_cudnn_plans.c - has cuDNN compiled, deterministic kernels for every convolution of the
 * networks, on every kind of GPU? Asked without a GPU: it plans for recorded properties (gpus/).
 * Needs cuDNN 9.8 or newer and cuBLASLt, by SCOPE_CUDA_LIBS or the loader; without, it is skipped.
 */
#include "standin.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SKIP = 77, SINCE = 90800 };

/* What is on beside a bias. Slices (rows further apart than their channels) are asked about too,
 * but cuDNN copies them into its workspace first, so some shapes are left to our own kernels. */
enum { RESIDUAL = 1, RELU = 2, IMAGES = 4, BFLOAT = 8, SLICE_X = 16, SLICE_Y = 32, VARIANTS = 64 };

/* Height and width, channels in and out, side, stride; channels of 3 and 4 are not cuDNN's. */
static const int shapes[][5] = {
    /* SD-Turbo, 512x512 */
    {64, 320, 320, 3, 1},
    {64, 320, 320, 3, 2},
    {32, 320, 640, 3, 1},
    {32, 640, 640, 3, 1},
    {32, 640, 640, 3, 2},
    {16, 640, 1280, 3, 1},
    {16, 1280, 1280, 3, 1},
    {16, 1280, 1280, 3, 2},
    {8, 1280, 1280, 3, 1},
    {8, 2560, 1280, 3, 1},
    {16, 2560, 1280, 3, 1},
    {16, 1920, 1280, 3, 1},
    {32, 1920, 640, 3, 1},
    {32, 1280, 640, 3, 1},
    {32, 960, 640, 3, 1},
    {64, 960, 320, 3, 1},
    {64, 640, 320, 3, 1},
    /* SDXL, 1024x1024 */
    {128, 320, 320, 3, 1},
    {128, 320, 320, 3, 2},
    {64, 320, 640, 3, 1},
    {64, 640, 640, 3, 1},
    {64, 640, 640, 3, 2},
    {32, 640, 1280, 3, 1},
    {32, 1280, 1280, 3, 1},
    {32, 2560, 1280, 3, 1},
    {32, 1920, 1280, 3, 1},
    {64, 1920, 640, 3, 1},
    {64, 1280, 640, 3, 1},
    {64, 960, 640, 3, 1},
    {128, 960, 320, 3, 1},
    {128, 640, 320, 3, 1},
    /* TAESD */
    {512, 64, 64, 3, 1},
    {512, 64, 64, 3, 2},
    {256, 64, 64, 3, 1},
    {256, 64, 64, 3, 2},
    {128, 64, 64, 3, 1},
    {128, 64, 64, 3, 2},
    {64, 64, 64, 3, 1},
    /* AutoencoderKL */
    {512, 128, 128, 3, 1},
    {256, 128, 256, 3, 1},
    {256, 256, 256, 3, 1},
    {128, 256, 512, 3, 1},
    {128, 512, 512, 3, 1},
    {64, 512, 512, 3, 1},
    {512, 256, 128, 3, 1},
    {256, 512, 256, 3, 1},
};

enum { SHAPES = sizeof shapes / sizeof *shapes };

static library_shape shape_of(const int s[5], int variant)
{
    return (library_shape){.library = LIBRARY_DNN,
                           .dtype = variant & BFLOAT ? K_BF16 : K_F16,
                           .n = variant & IMAGES ? 3 : 1,
                           .h = s[0],
                           .w = s[0],
                           .c = s[1],
                           .x_ld = variant & SLICE_X ? s[1] + 320 : s[1],
                           .oh = s[0] / s[4],
                           .ow = s[0] / s[4],
                           .out = s[2],
                           .y_ld = variant & SLICE_Y ? s[2] + 320 : s[2],
                           .residual_ld = variant & RESIDUAL ? s[2] : 0,
                           .depth = s[1] * s[3] * s[3],
                           .side = s[3],
                           .stride = s[4],
                           .pad = s[3] / 2,
                           .end = s[3] / 2,
                           .relu = (variant & RELU) != 0,
                           .bias = 1};
}

/* A device that is not here; NULL: this cuDNN cannot. */
static dnn_object properties_of(const dnn_api *api, const char *path)
{
    char text[4096];
    FILE *f = fopen(path, "r");
    size_t n = f ? fread(text, 1, sizeof text, f) : 0;
    dnn_object p = NULL;
    if (f)
        fclose(f);
    while (n && text[n - 1] == '\n')
        n--;
    if (!api->make(DNN_DEVICE_PROPERTIES, &p) &&
        !api->set(p, DNN_DEVICE_JSON, DNN_T_CHAR, (int64_t)n, text) && !api->done(p))
        return p;
    if (p)
        api->drop(p);
    return NULL;
}

typedef struct tally {
    int graphs, planned, candidates;
    size_t workspace; /* the largest */
} tally;

static void plan_one(const dnn_api *api, dnn_object device, const library_shape *s, tally *t)
{
    dnn_plan plan;
    int count = cuda_dnn_plan(api, NULL, device, s, &plan);
    for (int c = 0; c < count; c++)
        t->workspace = plan.workspace[c] > t->workspace ? plan.workspace[c] : t->workspace;
    cuda_dnn_plan_free(api, &plan);
    t->graphs++;
    t->planned += count > 0;
    t->candidates += count;
}

static void say(const char *gpu, const char *what, const tally *t)
{
    printf("%-15s %-10s %4d of %4d graphs, %4d candidates, workspace up to %zu KiB\n", gpu, what,
           t->planned, t->graphs, t->candidates, t->workspace >> 10);
}

/* How many graphs of whole tensors have no candidate. */
static int plan_all(const dnn_api *api, dnn_object device, const char *name, int bfloat)
{
    tally whole = {0}, read = {0}, written = {0};
    for (int i = 0; i < SHAPES * VARIANTS; i++) {
        int variant = i % VARIANTS, sliced = variant & (SLICE_X | SLICE_Y);
        library_shape s = shape_of(shapes[i / VARIANTS], variant);
        if ((!bfloat && variant & BFLOAT) || (sliced && variant & ~(SLICE_X | SLICE_Y)))
            continue; /* slices: alone is enough */
        if (sliced != (SLICE_X | SLICE_Y))
            plan_one(api, device, &s, sliced ? sliced & SLICE_X ? &read : &written : &whole);
    }
    say(name, "", &whole);
    say(name, "x a slice", &read);
    say(name, "y a slice", &written);
    return whole.graphs - whole.planned;
}

static int every_gpu(const dnn_api *api, int *gpus)
{
    int missing = 0;
    DIR *dir = opendir(SOURCE_DIR "/tests/cuda/gpus");
    for (struct dirent *e; dir && (e = readdir(dir));) {
        char path[512];
        if (!strstr(e->d_name, ".json"))
            continue;
        snprintf(path, sizeof path, "%s/tests/cuda/gpus/%.100s", SOURCE_DIR, e->d_name);
        dnn_object device = properties_of(api, path);
        if (!device)
            continue;
        (*gpus)++;
        missing += plan_all(api, device, e->d_name, !strstr(e->d_name, "2080"));
        api->drop(device);
    }
    if (dir)
        closedir(dir);
    return missing;
}

int main(void)
{
    desk d;
    int gpus = 0, missing = 0;
    desk_open(&d);
    const char *versions = cuda_library_versions(d.device.library);
    const dnn_api *api = &d.device.library->dnn;
    int able = d.device.library->dnn_file && api->version() >= SINCE;
    printf("%s\n", versions);
    if (able)
        missing = every_gpu(api, &gpus);
    if (able && !gpus)
        printf("skipped: this cuDNN plans for no GPU that is not here\n");
    else if (!able)
        printf("skipped: no cuDNN 9.8 or newer with its cuBLASLt; SCOPE_CUDA_LIBS may name their "
               "folders\n");
    desk_close(&d);
    return missing ? 1 : gpus ? 0 : SKIP;
}
