/* probe.c - runs named stages of a model on given tensors, for the oracle to compare.
 *
 *   probe MODEL INPUT.safetensors OUTPUT_FOLDER [normal|low] <commands
 *
 * Each line of standard input is one JSON command of stages.h; it reads tensors of INPUT by name
 * and writes OUTPUT_FOLDER/ID.npy, and ID.BLOCK.npy for each block of a UNet when it says "taps":
 * true. Any failure ends the program with a sentence and status 1.
 */
#include "tests/oracle/stages.h"

static void die(const char *what, const char *why)
{
    fprintf(stderr, "probe: %s: %s\n", what, why);
    exit(1);
}

typedef struct output {
    const char *folder, *id;
} output;

/* numpy's .npy, version 1.0, of floats. */
static void write_npy(const output *o, const char *tap, const float *data, const int *dim)
{
    char path[4096], header[192];
    size_t count = (size_t)dim[0] * (size_t)dim[1] * (size_t)dim[2] * (size_t)dim[3];
    int n = snprintf(header, sizeof header,
                     "{'descr': '<f4', 'fortran_order': False, 'shape': (%d, %d, %d, %d), }",
                     dim[0], dim[1], dim[2], dim[3]);
    int padded = (10 + n + 1 + 63) / 64 * 64 - 10;
    const unsigned char magic[10] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, (unsigned char)padded, 0};
    snprintf(path, sizeof path, "%s/%s%s%s.npy", o->folder, o->id, *tap ? "." : "", tap);
    FILE *f = fopen(path, "wb");
    if (!f)
        die(path, "it cannot be written");
    fwrite(magic, 1, sizeof magic, f);
    fprintf(f, "%s%*s", header, padded - n, "\n");
    if (fwrite(data, sizeof *data, count, f) != count || fclose(f))
        die(path, "it could not be written in full");
}

static void see(void *ctx, const char *name, k_tensor x)
{
    float *dense = malloc(sizeof *dense * (size_t)k_rows(x) * (size_t)x.c);
    if (!dense)
        die(name, "out of memory");
    for (int64_t r = 0; r < k_rows(x); r++)
        memcpy(dense + r * x.c, (const float *)x.data + r * x.ld, sizeof *dense * (size_t)x.c);
    write_npy(ctx, name, dense, (int[]){x.n, x.h, x.w, x.c});
    free(dense);
}

static void run(const model *m, const st_file *input, const char *folder, const char *line)
{
    json_error_t why;
    json_t *command = json_loads(line, 0, &why);
    if (!command)
        die(line, why.text);
    stage_call call = {.model = m, .input = input, .command = command};
    output out = {folder, stage_text_of(&call, "id")};
    net_tap tap = {see, &out};
    call.tap = stage_true(&call, "taps") ? &tap : NULL;
    if (stage_run(&call))
        die(line, call.why);
    write_npy(&out, "", call.y, call.dim);
    free(call.y);
    json_decref(command);
}

int main(int argc, char **argv)
{
    if (argc < 4)
        die("usage", "probe MODEL INPUT.safetensors OUTPUT_FOLDER [normal|low] <commands");
    char why[256];
    scope_error err = {0};
    int low = argc > 4 && !strcmp(argv[4], "low");
    model_options o = {
        .path = argv[1], .device = "cpu", .memory = low ? K_MEMORY_LOW : K_MEMORY_NORMAL};
    const model *m = model_acquire(NULL, &o, &err);
    if (!m)
        die(argv[1], err.text);
    st_file *input = st_open(argv[2], why);
    if (!input)
        die(argv[2], why);
    char *line = NULL;
    size_t room = 0;
    while (getline(&line, &room, stdin) > 0)
        run(m, input, argv[3], line);
    free(line);
    st_close(input);
    model_release(m);
    return 0;
}
