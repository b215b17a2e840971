/* weights.c - see weights.h. Requests against an index of names (weights_index.h).
 *
 * Requests that fail are kept as sentences until weights_finish.
 */
#include "weights.h"
#include "alloc.h"
#include "fp8.h"
#include "weights_index.h"

#include <stdlib.h>
#include <sys/mman.h>

enum { NAME = 200, LINE = 256, MAX_DIMS = 4, LOG_LINES = 20 };
/* More than the largest tensor of any network here: what a recorder's weights point at. */
static const size_t ZEROS = (size_t)1 << 30;

typedef struct record {
    char *name; /* owned */
    int ndim;
    int64_t dim[MAX_DIMS];
} record;

struct weights {
    k_device *device; /* borrowed */
    char label[48];
    weights_index index; /* owned; empty for a recorder */
    k_weight **given;    /* owned */
    int givens;
    weights_module *module; /* owned, and so are the names */
    int modules;
    void **copy; /* owned: tensors that could not be used as they lie in their file */
    int copies;
    char **problem; /* owned sentences */
    int problems;
    int rare;      /* for what is given out from now on */
    int checking;  /* nothing is copied, nothing will be run */
    int no_memory; /* an allocation failed after opening */
    int recording;
    record *record; /* owned */
    int records;
    void *zeros; /* owned mapping of ZEROS bytes */
};

/* Room for one more in the list that `list` points at, which grows by doubling; NULL when memory is
 * short. */
static void *room(weights *w, void *list, int count, size_t size)
{
    char *at;
    memcpy(&at, list, sizeof at);
    if (!(count & (count - 1))) { /* capacities are powers of two */
        at = sd_grow(at, count ? 2 * (size_t)count : 1, size);
        if (!at) {
            w->no_memory = 1;
            return NULL;
        }
        memcpy(list, &at, sizeof at);
    }
    return at + (size_t)count * size;
}

__attribute__((format(printf, 2, 3))) static void note(weights *w, const char *fmt, ...)
{
    char line[LINE];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    char **slot = room(w, &w->problem, w->problems, sizeof *slot);
    char *copy = slot ? sd_strdup(line) : NULL;
    if (copy) {
        *slot = copy;
        w->problems++;
    } else {
        w->no_memory = 1;
    }
}

/* ---- one tensor ---------------------------------------------------------------------------- */

static const char *shape_text(char out[64], int ndim, const int64_t *dim)
{
    int n = snprintf(out, 64, "[");
    for (int i = 0; i < ndim && n < 60; i++)
        n += snprintf(out + n, (size_t)(64 - n), i ? ", %lld" : "%lld", (long long)dim[i]);
    if (n < 63)
        snprintf(out + n, (size_t)(64 - n), "]");
    return out;
}

/* Equal, where a matrix may be written as a 1x1 convolution and the other way round. */
static int same_shape(const st_tensor *t, int ndim, const int64_t *dim, int transposed)
{
    if ((t->ndim < 2 || ndim < 2) && t->ndim != ndim)
        return 0;
    if (transposed)
        return t->ndim == 2 && ndim == 2 && t->dim[0] == dim[1] && t->dim[1] == dim[0];
    for (int i = 0; i < t->ndim || i < ndim; i++) {
        if ((i < t->ndim ? t->dim[i] : 1) != (i < ndim ? dim[i] : 1))
            return 0;
    }
    return 1;
}

static k_array recorded(weights *w, const char *name, int ndim, const int64_t *dim)
{
    record *r = room(w, &w->record, w->records, sizeof *r);
    size_t bytes = sizeof(float);
    for (int i = 0; i < ndim; i++)
        bytes *= (size_t)dim[i];
    if (bytes > ZEROS)
        note(w, "%s is larger than any network here should ask for", name);
    if (!r || bytes > ZEROS || !(r->name = sd_strdup(name))) {
        w->no_memory |= bytes <= ZEROS;
        return (k_array){0};
    }
    r->ndim = ndim;
    memcpy(r->dim, dim, (size_t)ndim * sizeof *dim);
    w->records++;
    return (k_array){w->zeros, K_F32};
}

/* Room for `bytes` that lives as long as the set; NULL when memory is short. */
static void *keep(weights *w, size_t bytes)
{
    void **slot = room(w, &w->copy, w->copies, sizeof *slot);
    void *copy = slot ? sd_malloc(bytes + 1) : NULL; /* a tensor may be empty */
    if (!copy) {
        w->no_memory = 1;
        return NULL;
    }
    w->copies++;
    return *slot = copy;
}

/* y [columns, rows] = x [rows, columns], elements of `size` bytes. */
static void transpose(char *y, const char *x, size_t rows, size_t columns, size_t size)
{
    for (size_t r = 0; r < rows; r++) {
        for (size_t c = 0; c < columns; c++)
            memcpy(y + (c * rows + r) * size, x + (r * columns + c) * size, size);
    }
}

static int one_byte(const st_tensor *t)
{
    return t->dtype == ST_F8_E4M3 || t->dtype == ST_F8_E5M2;
}

/* The tensor's data: as it lies in the file, or copied where the file does not align it to its
 * type, stores it transposed, or in a type that no kernel reads. */
static k_array readable(weights *w, const named *e)
{
    const st_tensor *t = &e->tensor;
    int dtype = t->dtype == ST_F32 ? K_F32 : t->dtype == ST_BF16 ? K_BF16 : K_F16;
    size_t size = dtype == K_F32 ? 4 : 2, count = one_byte(t) ? t->bytes : t->bytes / size;
    const void *data = t->data;
    if (w->checking)
        return (k_array){data, dtype};
    if (one_byte(t)) {
        void *wide = keep(w, count * size);
        if (wide)
            fp8_widen(wide, data, count, t->dtype);
        data = wide;
    } else if ((uintptr_t)data % size) {
        void *copy = keep(w, t->bytes);
        data = copy ? memcpy(copy, data, t->bytes) : NULL;
    }
    if (data && e->transposed) {
        void *turned = keep(w, count * size);
        if (turned)
            transpose(turned, data, (size_t)t->dim[0], (size_t)t->dim[1], size);
        data = turned;
    }
    return (k_array){data, dtype};
}

/* Tensor `name` of this shape; data NULL after noting why not. */
static k_array ask(weights *w, const char *name, int ndim, const int64_t *dim)
{
    char has[64], wants[64];
    if (w->recording)
        return recorded(w, name, ndim, dim);
    named *e = weights_index_find(&w->index, name);
    if (!e) {
        note(w, "%s is missing", name);
        return (k_array){0};
    }
    const st_tensor *t = &e->tensor;
    e->used = 1;
    if (!same_shape(t, ndim, dim, e->transposed)) {
        note(w, "%s is %s, the config asks %s", name, shape_text(has, t->ndim, t->dim),
             shape_text(wants, ndim, dim));
        return (k_array){0};
    }
    if (t->dtype != ST_F32 && t->dtype != ST_F16 && t->dtype != ST_BF16 && !one_byte(t)) {
        note(w, "%s is %s; convert the weights to F16, BF16 or F32", name, st_dtype_name(t->dtype));
        return (k_array){0};
    }
    return readable(w, e);
}

void weights_rare(weights *w)
{
    w->rare = 1;
}

void weights_check_only(weights *w)
{
    w->checking = 1;
}

int weights_has(const weights *w, const char *name)
{
    return weights_index_find(&w->index, name) != NULL;
}

/* ---- one weight ---------------------------------------------------------------------------- */

static const k_weight *give(weights *w, const char *name, k_weight_desc *d)
{
    char why[K_WHY] = "";
    for (int i = 0; i < d->parts; i++) {
        if (!d->weight[i].data || (d->bias[0].data && !d->bias[i].data))
            return NULL;
    }
    k_weight **slot = room(w, &w->given, w->givens, sizeof *slot);
    if (!slot)
        return NULL;
    d->rare = w->rare;
    *slot = k_weight_new(w->device, d, why);
    if (!*slot) {
        note(w, "%s: %s", name, why);
        return NULL;
    }
    return w->given[w->givens++];
}

/* Remember what was given out last as modules of these names, one a part. */
static const k_weight *as_modules(weights *w, const char *const *names, const k_weight_desc *d,
                                  const k_weight *given)
{
    for (int i = 0; given && i < d->parts; i++) {
        weights_module *m = room(w, &w->module, w->modules, sizeof *m);
        char *name = m ? sd_strdup(names[i]) : NULL;
        if (!name) {
            w->no_memory = 1;
            return given;
        }
        *m = (weights_module){name, w->given[w->givens - 1], i, d->out / d->parts, d->in, d->kh};
        w->modules++;
    }
    return given;
}

int weights_module_at(const weights *w, int i, weights_module *m)
{
    if (!w || i < 0 || i >= w->modules)
        return 0;
    *m = w->module[i];
    return 1;
}

const k_weight *weights_conv(weights *w, const char *name, int out, int in, int k, int bias)
{
    char full[NAME];
    int64_t dim[4] = {out, in, k, k};
    k_weight_desc d = {.out = out, .in = in, .kh = k, .kw = k, .parts = 1};
    snprintf(full, sizeof full, "%s.weight", name);
    d.weight[0] = ask(w, full, 4, dim);
    if (bias) {
        snprintf(full, sizeof full, "%s.bias", name);
        d.bias[0] = ask(w, full, 1, dim);
        if (!d.bias[0].data)
            return NULL;
    }
    return as_modules(w, &name, &d, give(w, name, &d));
}

const k_weight *weights_linear(weights *w, const char *name, int out, int in, int bias)
{
    return weights_joined(w, &name, 1, out, in, bias);
}

const k_weight *weights_joined(weights *w, const char *const *names, int parts, int out, int in,
                               int bias)
{
    char full[NAME];
    int64_t dim[2] = {out, in};
    int missing = 0;
    k_weight_desc d = {.out = parts * out, .in = in, .kh = 1, .kw = 1, .parts = parts};
    for (int i = 0; i < parts; i++) {
        snprintf(full, sizeof full, "%s.weight", names[i]);
        d.weight[i] = ask(w, full, 2, dim);
        if (bias) {
            snprintf(full, sizeof full, "%s.bias", names[i]);
            d.bias[i] = ask(w, full, 1, dim);
            missing |= !d.bias[i].data;
        }
    }
    return missing ? NULL : as_modules(w, names, &d, give(w, names[0], &d));
}

const k_weight *weights_norm(weights *w, const char *name, int c)
{
    char full[NAME];
    int64_t dim[1] = {c};
    k_weight_desc d = {.out = c, .in = 1, .kh = 1, .kw = 1, .parts = 1};
    snprintf(full, sizeof full, "%s.weight", name);
    d.weight[0] = ask(w, full, 1, dim);
    snprintf(full, sizeof full, "%s.bias", name);
    d.bias[0] = ask(w, full, 1, dim);
    return d.bias[0].data ? give(w, name, &d) : NULL;
}

const k_weight *weights_table(weights *w, const char *name, int rows, int c)
{
    int64_t dim[2] = {rows, c};
    k_weight_desc d = {.out = rows, .in = c, .kh = 1, .kw = 1, .parts = 1};
    d.weight[0] = ask(w, name, 2, dim);
    return give(w, name, &d);
}

int weights_recorded(const weights *w, int i, const char **name, int *ndim, const int64_t **dim)
{
    if (i < 0 || i >= w->records)
        return 0;
    *name = w->record[i].name;
    *ndim = w->record[i].ndim;
    *dim = w->record[i].dim;
    return 1;
}

/* ---- the set ------------------------------------------------------------------------------- */

weights *weights_open(k_device *device, const char *path, const char *label, scope_error *err)
{
    weights *w = sd_calloc(1, sizeof *w);
    if (!w) {
        scope_fail(err, SCOPE_ENOMEM, "%s: out of memory", label);
        return NULL;
    }
    w->device = device;
    snprintf(w->label, sizeof w->label, "%s", label);
    if (weights_index_open(&w->index, path, w->label, err)) {
        weights_close(w);
        return NULL;
    }
    return w;
}

weights *weights_open_recorder(k_device *device, const char *label, scope_error *err)
{
    weights *w = sd_calloc(1, sizeof *w);
    if (w) {
        void *zeros =
            mmap(NULL, ZEROS, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        w->zeros = zeros == MAP_FAILED ? NULL : zeros;
    }
    if (!w || !w->zeros) {
        free(w);
        scope_fail(err, SCOPE_ENOMEM, "%s: out of memory", label);
        return NULL;
    }
    w->device = device;
    w->recording = 1;
    snprintf(w->label, sizeof w->label, "%s", label);
    return w;
}

void weights_close(weights *w)
{
    if (!w)
        return;
    for (int i = 0; i < w->givens; i++)
        k_weight_free(w->device, w->given[i]);
    for (int i = 0; i < w->copies; i++)
        free(w->copy[i]);
    for (int i = 0; i < w->problems; i++)
        free(w->problem[i]);
    for (int i = 0; i < w->records; i++)
        free(w->record[i].name);
    weights_index_close(&w->index);
    if (w->zeros)
        munmap(w->zeros, ZEROS);
    for (int i = 0; i < w->modules; i++)
        free((char *)w->module[i].name);
    free(w->module);
    free(w->given);
    free(w->copy);
    free(w->problem);
    free(w->record);
    free(w);
}

/* Old text encoders keep their constant positions in the file. */
static int ignorable(const char *name)
{
    return strstr(name, "position_ids") != NULL;
}

static void log_unused(const weights *w, const scope_host *host)
{
    char line[LINE];
    int count = 0, n = 0;
    for (int i = 0; i < w->index.count; i++) {
        const named *e = &w->index.entry[i];
        if (e->used || ignorable(e->name))
            continue;
        if (count++ < 4)
            n += snprintf(line + n, sizeof line - (size_t)n, ", %.40s", e->name);
    }
    if (count) {
        char text[LINE + 128];
        snprintf(text, sizeof text, "%s: %d tensor%s of the file %s not used: %s%s", w->label,
                 count, count > 1 ? "s" : "", count > 1 ? "are" : "is", line + 2,
                 count > 4 ? ", ..." : "");
        host->log(host, SCOPE_INFO, text);
    }
}

static void log_problems(const weights *w, const scope_host *host)
{
    char line[LINE + 64];
    for (int i = 0; i < w->problems && i < LOG_LINES; i++) {
        snprintf(line, sizeof line, "%s: %s", w->label, w->problem[i]);
        host->log(host, SCOPE_ERROR, line);
    }
    if (w->problems > LOG_LINES) {
        snprintf(line, sizeof line, "%s: and %d more", w->label, w->problems - LOG_LINES);
        host->log(host, SCOPE_ERROR, line);
    }
}

int weights_finish(weights *w, const scope_host *host, scope_error *err)
{
    static const char remedy[] = "; are config.json and the weights of one checkpoint?";
    char list[sizeof err->text] = "";
    size_t n = 0, most = sizeof list - sizeof remedy - 60;

    if (host)
        log_problems(w, host);
    if (w->no_memory)
        return scope_fail(err, SCOPE_ENOMEM, "%s: out of memory", w->label);
    if (!w->problems) {
        if (host && !w->recording)
            log_unused(w, host);
        return 0;
    }
    for (int i = 0; i < w->problems; i++) { /* as many as the sentence holds, at least one */
        size_t more = strlen(w->problem[i]) + 2;
        if (i && n + more > most)
            break;
        n += (size_t)snprintf(list + n, sizeof list - n, "%s%.*s", i ? ", " : "", (int)most,
                              w->problem[i]);
    }
    return scope_fail(err, SCOPE_EIO, "%s: %d tensor%s not fit: %s%s", w->label, w->problems,
                      w->problems > 1 ? "s do" : " does", list, remedy);
}

void weights_release_pages(weights *w)
{
    for (int f = 0; f < w->index.files.count; f++)
        st_release_pages(w->index.files.file[f]);
}
