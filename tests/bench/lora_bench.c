/* lora_bench.c - how long a LoRA takes to come into force, to be weighed anew and to go.
 *
 *     lora_bench [normal|low] [RANK]
 *
 * The weights are those of Stable Diffusion 1.5 that a usual LoRA changes, at full size and random,
 * in fp16, prepared as the networks prepare them: 192 modules of the UNet's transformers (all
 * projections of attention, both of the feed-forward, proj_in and proj_out) and 72 of the text
 * encoder. Nothing else is loaded: about 1.2 GB. Prints milliseconds.
 */
#include "kernels/kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST = 400, ROUNDS = 7, TEXT = 768 };

static k_device *device;
static k_ctx *k;
static k_weight *weight[MOST];
static k_weight_desc desc[MOST];
static int geglu[MOST], count, modules;
static uint16_t *factor; /* numbers for every factor */
static size_t bytes;

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

/* Halves of either sign around 1/64. */
static uint16_t *random_halves(size_t n)
{
    static uint64_t state = 88172645463325252u;
    uint64_t *data = malloc((n + 3) / 4 * 8);
    for (size_t i = 0; data && i < (n + 3) / 4; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        data[i] = (state & 0x83ff83ff83ff83ffu) | 0x2400240024002400u;
    }
    if (!data)
        exit(fprintf(stderr, "no memory\n"));
    return (uint16_t *)data;
}

static void add(int out, int in, int parts, int pair, int rare)
{
    char why[K_WHY];
    k_weight_desc d = {
        .out = out * parts, .in = in, .kh = 1, .kw = 1, .parts = parts, .rare = rare};
    for (int p = 0; p < parts; p++)
        d.weight[p] = (k_array){random_halves((size_t)out * (size_t)in), K_F16};
    bytes += 2 * (size_t)out * (size_t)in * (size_t)parts;
    modules += parts;
    geglu[count] = pair;
    desc[count] = d;
    if (!(weight[count++] = k_weight_new(device, &d, why)))
        exit(fprintf(stderr, "%s\n", why));
}

static void add_all(void)
{
    static const struct {
        int c, blocks;
    } levels[] = {{320, 5}, {640, 5}, {1280, 6}};
    for (int l = 0; l < 3; l++)
        for (int i = 0, c = levels[l].c; i < levels[l].blocks; i++) {
            add(c, c, 1, 0, 0); /* proj_in */
            add(c, c, 3, 0, 0); /* attn1 */
            add(c, c, 1, 0, 0);
            add(c, c, 1, 0, 0); /* attn2 */
            add(c, TEXT, 2, 0, 0);
            add(c, c, 1, 0, 0);
            add(8 * c, c, 1, 1, 0); /* ff */
            add(c, 4 * c, 1, 0, 0);
            add(c, c, 1, 0, 0); /* proj_out */
        }
    for (int i = 0; i < 12; i++) {
        add(TEXT, TEXT, 3, 0, 1);
        add(TEXT, TEXT, 1, 0, 1);
        add(4 * TEXT, TEXT, 1, 0, 1);
        add(TEXT, 4 * TEXT, 1, 0, 1);
    }
}

static void prepare(void)
{
    k_plan_begin(k);
    for (int i = 0; i < count; i++) {
        const k_weight_desc *d = &desc[i];
        int out = geglu[i] ? d->out / 2 : d->out;
        k_tensor x = k_temp(k, K_F32, 1, 1, 64, d->in), y = k_temp(k, K_F32, 1, 1, 64, out);
        K_CALL(k, linear, y, x, weight[i], &(k_linear){.act = geglu[i] ? K_GEGLU : K_IDENTITY});
        k_release(k, 0);
    }
    if (k_plan_end(k))
        exit(fprintf(stderr, "%s\n", k->where));
}

/* Everything to this scale; 0: taken away. Returns milliseconds. */
static double set(int rank, float scale)
{
    char why[K_WHY];
    double t0 = now_ms();
    for (int i = 0; i < count; i++) {
        k_delta list[K_MAX_PARTS];
        int n = scale != 0 ? desc[i].parts : 0;
        for (int p = 0; p < n; p++)
            list[p] = (k_delta){.part = p,
                                .rank = rank,
                                .scale = scale,
                                .up = {factor, K_F16},
                                .down = {factor + 4096 * p, K_F16}};
        if (k_weight_delta(device, weight[i], list, n, why))
            exit(fprintf(stderr, "%s\n", why));
    }
    return now_ms() - t0;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print(const char *what, double *ms)
{
    qsort(ms, ROUNDS, sizeof *ms, by_size);
    printf("%-12s %7.1f ms (least of %d), %7.1f (middle)\n", what, ms[0], ROUNDS, ms[ROUNDS / 2]);
}

int main(int argc, char **argv)
{
    char why[K_WHY];
    double come[ROUNDS], again[ROUNDS], go[ROUNDS];
    int rank = argc > 2 ? atoi(argv[2]) : 16;
    const k_device_options o = {.memory = argc > 1 && !strcmp(argv[1], "low") ? K_MEMORY_LOW
                                                                              : K_MEMORY_NORMAL};
    if (rank < 1 || rank > 256)
        exit(fprintf(stderr, "usage: lora_bench [normal|low] [RANK]\n"));
    device = k_device_open("cpu", &o, why);
    k = device ? k_open(device, why) : NULL;
    if (!k)
        exit(fprintf(stderr, "%s\n", why));
    factor = random_halves((size_t)256 * 11264 + 3 * 4096);
    add_all();
    prepare();
    printf("%d modules in %d weights, %zu MB in fp16, rank %d, memory %s\n", modules, count,
           bytes >> 20, rank, o.memory == K_MEMORY_LOW ? "low" : "normal");
    size_t before = k_device_bytes(device);
    for (int i = 0; i < ROUNDS; i++) {
        come[i] = set(rank, 1);
        again[i] = set(rank, 0.5f);
        if (!i)
            printf("in force: %zu MB more\n", (k_device_bytes(device) - before) >> 20);
        go[i] = set(rank, 0);
    }
    print("come", come);
    print("weigh anew", again);
    print("go", go);
    for (int i = 0; i < count; i++)
        k_weight_free(device, weight[i]);
    k_close(k);
    k_device_close(device);
    return 0;
}
