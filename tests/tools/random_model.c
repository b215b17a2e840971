/* random_model.c - writes a checkpoint of random weights for any configuration.
 *
 *     random_model CONFIG_DIR OUT_DIR [--dtype f16|f32|bf16] [--seed N] [--tokenizer DIR]
 *
 * CONFIG_DIR is a diffusers folder without weights (tests/golden/configs). The networks themselves
 * say which tensors they need: each is built on a recorder. Weights are fan-in scaled, so that
 * activations stay finite and pictures have contrast. Element i of a tensor depends on seed, name
 * and i alone: the bytes are the same on any machine with any number of threads.
 */
#include "plugin/streamdiffusion/clip.h"
#include "plugin/streamdiffusion/taesd.h"
#include "plugin/streamdiffusion/tokenizer.h"
#include "plugin/streamdiffusion/unet.h"
#include "plugin/streamdiffusion/vae.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>

enum { PATH = 4096, CHUNK = 1 << 20 };

typedef struct job {
    const char *configs, *out, *tokens;
    int dtype; /* k_dtype */
    uint64_t seed;
    k_device *device;
} job;

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("random_model: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    exit(1);
}

/* ---- numbers ------------------------------------------------------------------------------- */

static uint64_t mixed(uint64_t x) /* splitmix64, Steele et al. 2014 */
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static uint64_t hashed(uint64_t seed, const char *name)
{
    uint64_t h = mixed(seed);
    while (*name)
        h = mixed(h ^ (unsigned char)*name++);
    return h;
}

/* About N(0, 1): four 16-bit uniforms summed, which is quick and has no tails. */
static float normal(uint64_t stream, uint64_t i)
{
    uint64_t r = mixed(stream + i * 0x2545f4914f6cdd1du);
    int sum =
        (int)(r & 0xffff) + (int)(r >> 16 & 0xffff) + (int)(r >> 32 & 0xffff) + (int)(r >> 48);
    return (float)(sum - 131070) * (1.7320508f / 65536);
}

static uint16_t half(float f)
{
    uint32_t u, sign;
    memcpy(&u, &f, 4);
    sign = u >> 16 & 0x8000;
    u &= 0x7fffffff;
    if (u < 0x38800000) { /* below 2^-14: adding 1/2 leaves the half's subnormal bits at the end */
        float small;
        memcpy(&small, &u, 4);
        small += 0.5f;
        memcpy(&u, &small, 4);
        return (uint16_t)(sign | (u - 0x3f000000));
    }
    return (uint16_t)(sign | (u + 0xfff + (u >> 13 & 1) - 0x38000000) >> 13);
}

static uint16_t brain(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

/* ---- one tensor ---------------------------------------------------------------------------- */

static int ends(const char *name, const char *with)
{
    size_t n = strlen(name), m = strlen(with);
    return n >= m && !strcmp(name + n - m, with);
}

/* Spread and centre of a tensor: unit gain everywhere but where the next layer wants otherwise. */
static void shape_of_values(const char *network, const char *name, int ndim, const int64_t *dim,
                            float *spread, float *centre)
{
    static const struct {
        const char *network, *part;
        double gain;
    } gains[] = {
        {"text_encoder", "q_proj.weight", 1.5}, /* softmax neither flat nor one-hot */
        {"text_encoder", "k_proj.weight", 1.5},
        {"unet", "to_q.weight", 1.5},
        {"unet", "to_k.weight", 1.5},
        {"unet", "conv_out.weight", 1.7},      /* predictions of variance 1 behind a SiLU */
        {"vae", "encoder.conv_out.weight", 9}, /* latents of variance 1 after scaling_factor */
        {"taesd", ".conv.4.weight", 0.5},      /* a residual branch: the sum must not grow */
    };
    int64_t fan_in = 1;
    for (int i = 1; i < ndim; i++)
        fan_in *= dim[i];
    int tiny = !strcmp(network, "taesd");
    double gain = tiny ? sqrt(2) : 1;
    *centre = 0;
    *spread = 0;
    if (ndim ==
        1) { /* a norm's weight is 1; what is biased is not, but TAESD's picture is mid-grey */
        *centre = ends(name, ".weight") ? 1 : tiny && dim[0] == 3 ? 0.5f : 0;
        return;
    }
    for (size_t i = 0; i < sizeof gains / sizeof *gains; i++) {
        if (!strcmp(gains[i].network, network) && ends(name, gains[i].part))
            gain = gains[i].gain;
    }
    if (tiny && dim[0] == 3)
        gain = 0.1;
    *spread = ends(name, "_embedding.weight") ? 0.5f : (float)(gain / sqrt((double)fan_in));
}

static size_t size_of(int dtype)
{
    return dtype == K_F32 ? 4 : 2;
}

static void write_tensor(FILE *f, const job *j, const char *network, const char *name, int ndim,
                         const int64_t *dim)
{
    static float values[CHUNK];
    static uint16_t narrow[CHUNK];
    float spread, centre;
    int64_t count = 1;
    uint64_t stream = hashed(hashed(j->seed, network), name);
    for (int i = 0; i < ndim; i++)
        count *= dim[i];
    shape_of_values(network, name, ndim, dim, &spread, &centre);
    for (int64_t from = 0; from < count; from += CHUNK) {
        int64_t n = count - from < CHUNK ? count - from : CHUNK;
#pragma omp parallel for
        for (int64_t i = 0; i < n; i++) {
            values[i] = centre + spread * normal(stream, (uint64_t)(from + i));
            if (j->dtype != K_F32)
                narrow[i] = j->dtype == K_F16 ? half(values[i]) : brain(values[i]);
        }
        const void *data = j->dtype == K_F32 ? (const void *)values : narrow;
        if (fwrite(data, size_of(j->dtype), (size_t)n, f) != (size_t)n)
            die("%s: %s", j->out, strerror(errno));
    }
}

/* ---- one network --------------------------------------------------------------------------- */

static void write_header(FILE *f, const job *j, const weights *w)
{
    static const char *const dtypes[] = {[K_F32] = "F32", [K_F16] = "F16", [K_BF16] = "BF16"};
    char *text;
    size_t length, at = 0;
    const char *name;
    const int64_t *dim;
    int ndim;
    FILE *header = open_memstream(&text, &length);
    if (!header)
        die("out of memory");
    fputc('{', header);
    for (int i = 0; weights_recorded(w, i, &name, &ndim, &dim); i++) {
        size_t bytes = size_of(j->dtype);
        fprintf(header, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", i ? "," : "", name,
                dtypes[j->dtype]);
        for (int d = 0; d < ndim; d++) {
            fprintf(header, d ? ",%lld" : "%lld", (long long)dim[d]);
            bytes *= (size_t)dim[d];
        }
        fprintf(header, "],\"data_offsets\":[%zu,%zu]}", at, at + bytes);
        at += bytes;
    }
    fputc('}', header);
    while (ftell(header) % 8)
        fputc(' ', header);
    if (fclose(header))
        die("out of memory");
    for (int i = 0; i < 8; i++)
        fputc((int)(length >> (8 * i) & 0xff), f);
    fwrite(text, 1, length, f);
    free(text);
}

static void make_folder(const char *path)
{
    if (mkdir(path, 0777) && errno != EEXIST)
        die("%s: %s", path, strerror(errno));
}

/* Write what w recorded as OUT_DIR/folder/file. */
static void write_network(const job *j, const char *folder, const char *file, const char *network,
                          weights *w)
{
    char path[PATH];
    const char *name;
    const int64_t *dim;
    int ndim;
    scope_error err;
    if (weights_finish(w, NULL, &err))
        die("%s", err.text);
    snprintf(path, sizeof path, "%s/%s/%s.safetensors", j->out, folder, file);
    FILE *f = fopen(path, "wb");
    if (!f)
        die("%s: %s", path, strerror(errno));
    write_header(f, j, w);
    for (int i = 0; weights_recorded(w, i, &name, &ndim, &dim); i++)
        write_tensor(f, j, network, name, ndim, dim);
    if (fclose(f))
        die("%s: %s", path, strerror(errno));
    weights_close(w);
}

static weights *recorder(const job *j, const char *label)
{
    scope_error err;
    weights *w = weights_open_recorder(j->device, label, &err);
    if (!w)
        die("%s", err.text);
    return w;
}

static void write_networks(const job *j, const model_config *c)
{
    scope_error err;
    weights *w = recorder(j, "text_encoder");
    clip *text = clip_open(w, &c->text, &err);
    if (!text)
        die("%s", err.text);
    clip_close(text);
    write_network(j, "text_encoder", "model", "text_encoder", w);

    if (c->has_text_2) {
        w = recorder(j, "text_encoder_2");
        if (!(text = clip_open(w, &c->text_2, &err)))
            die("%s", err.text);
        clip_close(text);
        write_network(j, "text_encoder_2", "model", "text_encoder_2", w);
    }

    w = recorder(j, "unet");
    unet *u = unet_open(w, &c->unet, &err);
    if (!u)
        die("%s", err.text);
    unet_close(u);
    write_network(j, "unet", "diffusion_pytorch_model", "unet", w);

    if (c->has_vae) {
        w = recorder(j, "vae");
        vae *v = vae_open(w, &c->vae, &err);
        if (!v)
            die("%s", err.text);
        vae_close(v);
        write_network(j, "vae", "diffusion_pytorch_model", "vae", w);
    }
    if (c->has_taesd) {
        w = recorder(j, "taesd");
        taesd *t = taesd_open(w, &c->taesd, &err);
        if (!t)
            die("%s", err.text);
        taesd_close(t);
        write_network(j, c->taesd_dir, "diffusion_pytorch_model", "taesd", w);
    }
}

/* ---- the folder ---------------------------------------------------------------------------- */

static void copy_file(const char *from, const char *to)
{
    static char buffer[1 << 16];
    FILE *in = fopen(from, "rb"), *out = in ? fopen(to, "wb") : NULL;
    size_t n;
    if (!out)
        die("%s: %s", in ? to : from, strerror(errno));
    while ((n = fread(buffer, 1, sizeof buffer, in)))
        fwrite(buffer, 1, n, out);
    int bad = ferror(in);
    fclose(in);
    if (fclose(out) || bad)
        die("%s cannot be copied to %s", from, to);
}

/* The plain files of a folder, and of its folders. */
static void copy_folder(const char *from, const char *to)
{
    DIR *d = opendir(from);
    if (!d)
        die("%s: %s", from, strerror(errno));
    make_folder(to);
    for (struct dirent *e; (e = readdir(d));) {
        char in[PATH], out[PATH];
        struct stat s;
        snprintf(in, sizeof in, "%s/%s", from, e->d_name);
        snprintf(out, sizeof out, "%s/%s", to, e->d_name);
        if (e->d_name[0] == '.' || stat(in, &s))
            continue;
        if (S_ISDIR(s.st_mode))
            copy_folder(in, out);
        else
            copy_file(in, out);
    }
    closedir(d);
}

static job parse(int argc, char **argv)
{
    job j = {.dtype = K_F16, .seed = 1};
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (!strncmp(argv[i], "--", 2) && !value)
            die("%s needs a value", argv[i]);
        if (!strcmp(argv[i], "--dtype")) {
            j.dtype = !strcmp(value, "f16")    ? K_F16
                      : !strcmp(value, "f32")  ? K_F32
                      : !strcmp(value, "bf16") ? K_BF16
                                               : 0;
            i++;
        } else if (!strcmp(argv[i], "--seed")) {
            j.seed = strtoull(argv[++i], NULL, 10);
        } else if (!strcmp(argv[i], "--tokenizer")) {
            j.tokens = argv[++i];
        } else if (!j.configs) {
            j.configs = argv[i];
        } else if (!j.out) {
            j.out = argv[i];
        } else {
            die("unknown argument %s", argv[i]);
        }
    }
    if (!j.out || !j.dtype)
        die("usage: random_model CONFIG_DIR OUT_DIR [--dtype f16|f32|bf16] [--seed N] "
            "[--tokenizer DIR]");
    return j;
}

int main(int argc, char **argv)
{
    char path[PATH], why[K_WHY];
    job j = parse(argc, argv);
    model_config c;
    scope_error err;
    if (config_read(&c, j.configs, &err))
        die("%s", err.text);
    copy_folder(j.configs, j.out);
    snprintf(path, sizeof path, "%s/tokenizer", j.out);
    if (j.tokens)
        copy_folder(j.tokens, path);
    tokenizer *t = tokenizer_open(path, &err);
    if (!t)
        die("%s (--tokenizer DIR copies one)", err.text);
    tokenizer_close(t);
    j.device = k_device_open("cpu", &(k_device_options){0}, why);
    if (!j.device)
        die("%s", why);
    write_networks(&j, &c);
    k_device_close(j.device);
    return 0;
}
