/* effects_bench.c - what surrounds the networks, per frame, alone and by effect.
 *
 *   effects_bench [SIDE]      SIDE: of the picture (512)
 *
 * Prints the least milliseconds of many frames: of all that is always done (pixels in, clamp,
 * pixels out), then what each effect adds to it.
 */
#include "plugin/streamdiffusion/effects.h"

#include <stdlib.h>
#include <time.h>

enum { REPEATS = 60 };

typedef struct bench {
    k_ctx *k;
    effects *e;
    k_image in, out, mask;
    k_tensor picture, latent; /* what the networks would have made */
    int side;
} bench;

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static k_image pixels(int side, int c)
{
    unsigned char *data = malloc((size_t)side * (size_t)side * (size_t)c);
    for (int i = 0; data && i < side * side * c; i++)
        data[i] = (unsigned char)(i * 2654435761u >> 24);
    return (k_image){.data = data,
                     .dtype = K_U8,
                     .t = 1,
                     .h = side,
                     .w = side,
                     .c = c,
                     .stride_t = (int64_t)side * side * c,
                     .stride_h = (int64_t)side * c};
}

static void frame(bench *b, double shown)
{
    k_release(b->k, 0);
    if (!effects_begin(b->e, &b->in, &b->mask, shown)) {
        effects_latent_in(b->e, b->latent);
        effects_latent_out(b->e, b->latent);
        effects_decoded(b->e, 0, b->picture, 1, 0);
    }
    effects_finish(b->e, &b->out);
}

static double least(bench *b, const effects_settings *s, double shown)
{
    const effects_frame f = {.width = b->side,
                             .height = b->side,
                             .frames = 1,
                             .channels = 4,
                             .latent_scale = 1,
                             .seed = 1};
    double best = 1e9;
    effects_set(b->e, s, &f);
    int failed = b->k->status;
    k_plan_begin(b->k);
    effects_plan(b->e, &b->in);
    failed |= k_plan_end(b->k);
    for (int i = 0; i < REPEATS && !failed; i++) {
        double t0 = now_ms();
        frame(b, shown);
        double ms = now_ms() - t0;
        best = ms < best ? ms : best;
    }
    if (failed || b->k->status) {
        fprintf(stderr, "effects_bench: %s\n", b->k->where);
        exit(1);
    }
    return best;
}

static void run(bench *b)
{
    const effects_settings off = {.loopback_mix = 0.8,
                                  .loopback_zoom = 1.02,
                                  .loopback_rotate = 1,
                                  .mask_source = MASK_INPUT,
                                  .mask_strength = 1,
                                  .similar_threshold = 1, /* looks, and never skips */
                                  .similar_max_skip = 10};
    effects_settings s = off;
    double always = least(b, &s, 1);
    printf("%-36s %7.2f ms\n", "always", always);
#define ADDS(what, shown, ...)                                                                     \
    s = off;                                                                                       \
    __VA_ARGS__;                                                                                   \
    printf("%-36s %+7.2f ms\n", what, least(b, &s, shown) - always)
    ADDS("similar_image_filter", 1, s.similar = 1);
    ADDS("image_loopback", 1, s.loopback = 1);
    ADDS("latent_feedback", 1, s.latent_feedback = 0.2);
    ADDS("mask_compositing", 1, s.masked = 1);
    ADDS("mask_compositing, mask_feather 8", 1, s.masked = 1, s.mask_feather = 8);
    ADDS("mask_compositing, mask_feather 32", 1, s.masked = 1, s.mask_feather = 32);
    ADDS("bypass_fade, while it fades", 0.5, (void)s);
    s = off;
    s.similar = 1;
    s.similar_threshold = 0.5;
    printf("%-36s %7.2f ms\n", "a skipped frame, in all", least(b, &s, 1));
    printf("%-36s %7.2f ms\n", "a bypassed frame, in all", least(b, &off, 0));
#undef ADDS
}

int main(int argc, char **argv)
{
    char why[K_WHY] = "";
    scope_error err = {0};
    bench b = {.side = argc > 1 ? atoi(argv[1]) : 512};
    if (b.side < 8 || b.side > 4096 || b.side % 8) {
        fprintf(stderr, "effects_bench: give a multiple of 8 up to 4096, not %s\n", argv[1]);
        return 2;
    }
    k_device *device = k_device_open("cpu", NULL, why);
    b.k = device ? k_open(device, why) : NULL;
    b.e = b.k ? effects_open(b.k, &err) : NULL;
    if (!b.e) {
        fprintf(stderr, "effects_bench: %s%s\n", why, err.text);
        return 1;
    }
    b.in = pixels(b.side, 3);
    b.out = pixels(b.side, 3);
    b.mask = pixels(b.side, 1);
    b.picture = k_keep(b.k, K_F32, 1, b.side, b.side, 3);
    b.latent = k_keep(b.k, K_F32, 1, b.side / 8, b.side / 8, 4);
    if (!b.in.data || !b.out.data || !b.mask.data || b.k->status) {
        fprintf(stderr, "effects_bench: there is no memory for pictures of %d a side\n", b.side);
        return 1;
    }
    run(&b);
    k_drop(b.k, &b.picture);
    k_drop(b.k, &b.latent);
    effects_close(b.e);
    k_close(b.k);
    k_device_close(device);
    free(b.in.data);
    free(b.out.data);
    free(b.mask.data);
    return 0;
}
