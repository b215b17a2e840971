/* op_bench.c - times this repository's ops on the list of unet_ops.h, weights cold.
 *
 *   op_bench [SIZE] [FLOOR]   SIZE: of the latent (64); FLOOR: a table of dnnl_floor -v
 *
 * Prints a table, beside the floor's where one is given, and "ops SIZE seconds".
 */
#include "kernels/kernels.h"
#include "unet_ops.h"

#include <stdlib.h>

typedef struct job {
    k_ctx *k;
    const op *o;
    k_weight *weights[64];
    int copies;
    k_tensor x, y, keys;
} job;

static void call(const job *j, const k_weight *w)
{
    const op *o = j->o;
    if (o->kind == OP_CONV) {
        k_conv conv = {.stride = o->stride, .up = o->up};
        K_CALL(j->k, conv, j->y, j->x, w, &conv);
    } else if (o->kind == OP_LINEAR) {
        k_linear linear = {0};
        K_CALL(j->k, linear, j->y, j->x, w, &linear);
    } else {
        k_attention attention = {.heads = o->heads};
        K_CALL(j->k, attention, j->y, j->x, j->keys, j->keys, &attention);
    }
}

static int run(void *data, int repeat)
{
    job *j = data;
    call(j, j->copies ? j->weights[repeat % j->copies] : NULL);
    return j->k->status;
}

static k_tensor input(k_ctx *k, int h, int w, int c)
{
    k_tensor t = k_keep(k, K_F32, 1, h, w, c);
    for (int64_t i = 0; t.data && i < k_rows(t) * t.ld; i++)
        ((float *)t.data)[i] = (float)(i * 2654435761u % 1000) / 1000.0f - 0.5f;
    return t;
}

static double time_op(k_device *device, k_ctx *k, const op *o, const void *source)
{
    char why[K_WHY] = "";
    job j = {.k = k, .o = o};
    int size = op_out_size(o->kind == OP_CONV ? o : &(op){.stride = 1});
    k_weight_desc d = {.out = o->out,
                       .in = o->in,
                       .kh = o->side,
                       .kw = o->side,
                       .parts = 1,
                       .weight = {{source, K_F16}}};
    if (o->kind == OP_CONV) {
        j.x = input(k, o->size, o->size, o->in);
        j.y = input(k, size, size, o->out);
    } else if (o->kind == OP_LINEAR) {
        d.kh = d.kw = 1;
        j.x = input(k, 1, o->rows, o->in);
        j.y = input(k, 1, o->rows, o->out);
    } else {
        j.x = input(k, 1, o->tq, o->heads * o->d);
        j.y = input(k, 1, o->tq, o->heads * o->d);
        j.keys = input(k, 1, o->tk, o->heads * o->d);
    }
    if (o->bias)
        d.bias[0] = (k_array){source, K_F16};
    if (o->kind != OP_ATTENTION)
        j.copies = op_copies((size_t)d.out * (size_t)d.in * (size_t)(d.kh * d.kw) * 2);
    k_plan_begin(k);
    for (int i = 0; i < (j.copies ? j.copies : 1); i++) {
        j.weights[i] = j.copies ? k_weight_new(device, &d, why) : NULL;
        call(&j, j.weights[i]);
    }
    double seconds = k_plan_end(k) ? -1 : op_fastest(run, &j, 0.15);
    for (int i = 0; i < j.copies; i++)
        k_weight_free(device, j.weights[i]);
    k_drop(k, &j.x);
    k_drop(k, &j.y);
    k_drop(k, &j.keys);
    return seconds;
}

/* Milliseconds of the op in a table of dnnl_floor; 0: not there. */
static double floor_of(const char *path, const char *name)
{
    char line[256], other[64];
    double ms = 0, found = 0;
    int count;
    FILE *f = path ? fopen(path, "r") : NULL;
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "%63s %d %lf", other, &count, &ms) == 3 && !strcmp(other, name))
            found = ms;
    if (f)
        fclose(f);
    return found;
}

int main(int argc, char **argv)
{
    int size = argc > 1 ? atoi(argv[1]) : 64;
    const char *path = argc > 2 ? argv[2] : NULL;
    char why[K_WHY] = "", name[64];
    op_list list = unet_ops(size);
    double total = 0, floor_total = 0;
    uint16_t *source = malloc((size_t)64 << 20);
    k_device_options options = {.threads = omp_get_max_threads()};
    k_device *device = k_device_open("cpu", &options, why);
    k_ctx *k = device ? k_open(device, why) : NULL;
    for (size_t i = 0; source && i < (size_t)32 << 20; i++)
        source[i] = (uint16_t)(0x2800 + i * 2654435761u % 0x400); /* 0.03 to 0.06 */
    for (int i = 0; k && source && i < list.count; i++) {
        const op *o = &list.ops[i];
        double seconds = time_op(device, k, o, source);
        double floor_ms = floor_of(path, op_name(o, name));
        if (seconds < 0) {
            snprintf(why, sizeof why, "%s", k->where);
            break;
        }
        total += seconds * o->count;
        floor_total += floor_ms * 1e-3 * o->count;
        printf("%-36s %3d %9.3f ms %7.1f GFLOP/s", name, o->count, seconds * 1e3,
               op_flops(o) / seconds * 1e-9);
        printf(floor_ms > 0 ? "  x %.2f\n" : "\n", seconds * 1e3 / floor_ms);
        fflush(stdout);
    }
    if (*why)
        fprintf(stderr, "op_bench: %s\n", why);
    printf("ops %d %.4f\n", size, total);
    if (floor_total > 0)
        printf("of the floor %.3f\n", total / floor_total);
    k_close(k);
    k_device_close(device);
    free(source);
    return *why != 0;
}
