/* judge_looks.c - says of each frame of a Y4M film which look it shows, and how far they are apart.
 *
 *     judge_looks CLASSIFIER_DIR FILE.y4m
 *
 * CLASSIFIER_DIR is tests/golden/looks/classifier: a small network that examples/models/train/
 * classifier.py trained on rendered looks, never on what a model made. Prints a line of JSON a
 * frame:
 *
 *     {"look": "ink", "p": {"photo": 0.01, ...}, "from": [d, ...]}
 *
 * p are probabilities; from[i] is the root mean square difference from the earlier frame i, in
 * levels of 0..255. Reads what `scope run` writes: 8 bits, 4:4:4, ITU-R BT.601, limited range.
 */
#include "plugin/streamdiffusion/weights.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>

enum { LAYERS = 4, FEATURES = 128, MOST_CLASSES = 64 };
static const int widths[LAYERS + 1] = {3, 16, 32, 48, FEATURES / 2};

typedef struct judge {
    k_device *device;
    k_ctx *k;
    weights *w;
    const k_weight *conv[LAYERS], *linear;
    k_tensor features, logits; /* of k_keep */
    json_t *classes;           /* owned: their names */
    int count;
} judge;

typedef struct film {
    FILE *f;
    int w, h, count;
    uint8_t **frames; /* owned, each too: RGB */
} film;

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("judge_looks: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    exit(1);
}

/* ---- the film ------------------------------------------------------------------------------- */

static uint8_t level(double x)
{
    return (uint8_t)(x < 0 ? 0 : x > 255 ? 255 : x + 0.5);
}

/* ITU-R BT.601-7 section 2.5, limited range. */
static void to_rgb(uint8_t *rgb, const uint8_t *planes, size_t pixels)
{
    for (size_t i = 0; i < pixels; i++, rgb += 3) {
        double y = (planes[i] - 16) * (255.0 / 219);
        double u = (planes[pixels + i] - 128) * (255.0 / 224);
        double v = (planes[2 * pixels + i] - 128) * (255.0 / 224);
        rgb[0] = level(y + 1.402 * v);
        rgb[1] = level(y - 0.344136 * u - 0.714136 * v);
        rgb[2] = level(y + 1.772 * u);
    }
}

static void open_film(film *f, const char *path)
{
    char line[256];
    f->f = fopen(path, "rb");
    if (!f->f)
        die("%s: %s", path, strerror(errno));
    if (!fgets(line, sizeof line, f->f) || sscanf(line, "YUV4MPEG2 W%d H%d", &f->w, &f->h) != 2 ||
        !strstr(line, " C444\n") || f->w < 16 || f->h < 16 || f->w > 4096 || f->h > 4096)
        die("%s: not a film as `scope run -o FILE.y4m` writes it", path);
}

/* The next frame is kept as the last of f->frames; 0 at the end of the film. */
static int next_frame(film *f)
{
    char line[64];
    size_t pixels = (size_t)f->w * (size_t)f->h;
    if (!fgets(line, sizeof line, f->f))
        return 0;
    uint8_t *planes = malloc(3 * pixels), *rgb = malloc(3 * pixels);
    f->frames = realloc(f->frames, sizeof *f->frames * (size_t)(f->count + 1));
    if (!planes || !rgb || !f->frames)
        die("out of memory");
    if (strcmp(line, "FRAME\n") || fread(planes, 3, pixels, f->f) != pixels)
        die("frame %d is cut off", f->count);
    to_rgb(rgb, planes, pixels);
    f->frames[f->count++] = rgb;
    free(planes);
    return 1;
}

static double rms(const film *f, const uint8_t *a, const uint8_t *b)
{
    size_t n = 3 * (size_t)f->w * (size_t)f->h;
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (a[i] - b[i]) * (a[i] - b[i]);
    return sqrt(sum / (double)n);
}

static void close_film(film *f)
{
    for (int i = 0; i < f->count; i++)
        free(f->frames[i]);
    free(f->frames);
    fclose(f->f);
}

/* ---- the classifier ------------------------------------------------------------------------- */

/* Mean and standard deviation of each channel of the feature map, as the linear map takes them. */
static void moments(judge *j, k_tensor x)
{
    float f[FEATURES];
    int64_t rows = k_rows(x);
    if (j->k->planning || j->k->status)
        return;
    for (int c = 0; c < x.c; c++) {
        const float *v = (const float *)x.data + c;
        double mean = 0, variance = 0;
        for (int64_t r = 0; r < rows; r++)
            mean += v[r * x.ld] / (double)rows;
        for (int64_t r = 0; r < rows; r++)
            variance += (v[r * x.ld] - mean) * (v[r * x.ld] - mean) / (double)rows;
        f[c] = (float)mean;
        f[x.c + c] = (float)sqrt(variance + 1e-5);
    }
    k_put(j->k, j->features, f);
}

static void forward(judge *j, const film *f, uint8_t *rgb)
{
    k_ctx *k = j->k;
    k_image image = {.data = rgb, .dtype = K_U8, .t = 1, .h = f->h, .w = f->w, .c = 3};
    image.stride_h = 3 * (int64_t)f->w;
    image.stride_t = image.stride_h * f->h;
    k_release(k, 0);
    k_tensor x = k_temp(k, K_F32, 1, f->h, f->w, 3);
    K_CALL(k, image_in, x, &image, 2, -1);
    for (int i = 0; i < LAYERS; i++) {
        k_tensor y = k_temp(k, K_F32, 1, (x.h + 1) / 2, (x.w + 1) / 2, widths[i + 1]);
        K_CALL(k, conv, y, x, j->conv[i], &(k_conv){.stride = 2, .act = K_RELU});
        x = y;
    }
    moments(j, x);
    K_CALL(k, linear, j->logits, j->features, j->linear, &(k_linear){0});
}

static void open_judge(judge *j, const char *dir, const film *f)
{
    char path[4096], why[K_WHY], name[32];
    scope_error err;
    snprintf(path, sizeof path, "%s/classes.json", dir);
    j->classes = json_load_file(path, 0, NULL);
    j->count = (int)json_array_size(j->classes);
    if (j->count < 2 || j->count > MOST_CLASSES)
        die("%s: no list of class names", path);
    if (!(j->device = k_device_open("cpu", &(k_device_options){0}, why)) ||
        !(j->k = k_open(j->device, why)))
        die("%s", why);
    if (!(j->w = weights_open(j->device, dir, "classifier", &err)))
        die("%s", err.text);
    for (int i = 0; i < LAYERS; i++) {
        snprintf(name, sizeof name, "conv.%d", i);
        j->conv[i] = weights_conv(j->w, name, widths[i + 1], widths[i], 3, 1);
    }
    j->linear = weights_linear(j->w, "linear", j->count, FEATURES, 1);
    if (weights_finish(j->w, NULL, &err))
        die("%s", err.text);
    j->features = k_keep(j->k, K_F32, 1, 1, 1, FEATURES);
    j->logits = k_keep(j->k, K_F32, 1, 1, 1, j->count);
    k_plan_begin(j->k);
    forward(j, f, NULL);
    if (k_plan_end(j->k))
        die("%s", j->k->where);
}

/* Probabilities of the classes; the place of the largest. */
static int look_at(judge *j, const film *f, uint8_t *rgb, float p[MOST_CLASSES])
{
    float sum = 0;
    int best = 0;
    forward(j, f, rgb);
    k_get(j->k, j->logits, p);
    if (j->k->status)
        die("%s", j->k->where);
    for (int i = 1; i < j->count; i++)
        best = p[i] > p[best] ? i : best;
    float most = p[best];
    for (int i = 0; i < j->count; i++)
        sum += p[i] = expf(p[i] - most);
    for (int i = 0; i < j->count; i++)
        p[i] /= sum;
    return best;
}

static void close_judge(judge *j)
{
    k_drop(j->k, &j->features);
    k_drop(j->k, &j->logits);
    k_close(j->k);
    weights_close(j->w);
    k_device_close(j->device);
    json_decref(j->classes);
}

/* ---- what is said --------------------------------------------------------------------------- */

static const char *class_name(const judge *j, int i)
{
    return json_string_value(json_array_get(j->classes, (size_t)i));
}

static void print_frame(judge *j, const film *f)
{
    float p[MOST_CLASSES];
    uint8_t *last = f->frames[f->count - 1];
    int best = look_at(j, f, last, p);
    printf("{\"look\": \"%s\", \"p\": {", class_name(j, best));
    for (int i = 0; i < j->count; i++)
        printf("%s\"%s\": %.9g", i ? ", " : "", class_name(j, i), p[i]);
    printf("}, \"from\": [");
    for (int i = 0; i < f->count - 1; i++)
        printf("%s%.4f", i ? ", " : "", rms(f, last, f->frames[i]));
    printf("]}\n");
}

int main(int argc, char **argv)
{
    judge j = {0};
    film f = {0};
    if (argc != 3)
        die("usage: judge_looks CLASSIFIER_DIR FILE.y4m");
    open_film(&f, argv[2]);
    open_judge(&j, argv[1], &f);
    while (next_frame(&f))
        print_frame(&j, &f);
    if (!f.count)
        die("%s: no frame in it", argv[2]);
    close_judge(&j);
    close_film(&f);
    return 0;
}
