/* weights.c - see weights.h. One sorted table of names over all files of the set.
 *
 * Names are brought to one spelling when a file is indexed, so that a network asks in the words of
 * today's diffusers whatever wrote the file. Requests that fail are kept as sentences until
 * weights_finish.
 */
#include "weights.h"
#include "alloc.h"
#include "safetensors.h"
#include "weights_files.h"

#include <stdlib.h>
#include <sys/mman.h>

enum { NAME = 200, LINE = 256, MAX_DIMS = 4, LOG_LINES = 20 };
/* More than the largest tensor of any network here: what a recorder's weights point at. */
static const size_t ZEROS = (size_t)1 << 30;

typedef struct entry {
    char *name;              /* owned */
    const st_tensor *tensor; /* borrowed from its file */
    int used;
} entry;

typedef struct record {
    char *name; /* owned */
    int ndim;
    int64_t dim[MAX_DIMS];
} record;

struct weights {
    k_device *device; /* borrowed */
    char label[48];
    weights_files files; /* owned; empty for a recorder */
    entry *entry;        /* owned, sorted by name */
    int entries;
    k_weight **given; /* owned */
    int givens;
    weights_module *module; /* owned, and so are the names */
    int modules;
    void **copy; /* owned: tensors that did not lie aligned in their file */
    int copies;
    char **problem; /* owned sentences */
    int problems;
    int rare;      /* for what is given out from now on */
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

/* ---- names ------------------------------------------------------------------------------- */

/* An attention's tensor as diffusers spelt it before 0.18, in today's words; 0 when it is none. */
static int old_attention(char out[NAME], const char *name)
{
    static const char *const pairs[][2] = {
        {".query.", ".to_q."},
        {".key.", ".to_k."},
        {".value.", ".to_v."},
        {".proj_attn.", ".to_out.0."},
    };
    const char *dot = strrchr(name, '.');
    if (!strstr(name, ".attentions.") || !dot)
        return 0;
    for (int i = 0; i < 4; i++) {
        const char *at = strstr(name, pairs[i][0]);
        if (at && at + strlen(pairs[i][0]) - 1 == dot) {
            snprintf(out, NAME, "%.*s%s%s", (int)(at - name), name, pairs[i][1], dot + 1);
            return 1;
        }
    }
    return 0;
}

/* The one spelling of a name of a file that plays `role`. */
static void canonical(char out[NAME], const char *name, int role)
{
    char *rest;
    long layer = strtol(name, &rest, 10);
    int numbered = rest != name && *rest == '.' && layer >= 0;

    if (role == WEIGHTS_TAESD_ENCODER && numbered)
        snprintf(out, NAME, "encoder.layers.%s", name);
    else if (role == WEIGHTS_TAESD_DECODER && numbered && layer > 0) /* its layer 0 is the clamp */
        snprintf(out, NAME, "decoder.layers.%ld%s", layer - 1, rest);
    else if (role == WEIGHTS_BARE_CLIP && strncmp(name, "text_projection", 15))
        snprintf(out, NAME, "text_model.%s", name);
    else if (!old_attention(out, name))
        snprintf(out, NAME, "%s", name);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const entry *)a)->name, ((const entry *)b)->name);
}

static int index_names(weights *w, scope_error *err)
{
    size_t total = 0;
    for (int f = 0; f < w->files.count; f++)
        total += (size_t)st_count(w->files.file[f]);
    w->entry = sd_calloc(total + 1, sizeof *w->entry);
    if (!w->entry)
        return scope_fail(err, SCOPE_ENOMEM, "%s: out of memory", w->label);
    for (int f = 0; f < w->files.count; f++) {
        for (int i = 0; i < st_count(w->files.file[f]); i++) {
            char name[NAME];
            const st_tensor *t = st_at(w->files.file[f], i);
            canonical(name, t->name, w->files.role[f]);
            entry *e = &w->entry[w->entries];
            if (!(e->name = sd_strdup(name)))
                return scope_fail(err, SCOPE_ENOMEM, "%s: out of memory", w->label);
            e->tensor = t;
            w->entries++;
        }
    }
    qsort(w->entry, (size_t)w->entries, sizeof *w->entry, by_name);
    for (int i = 1; i < w->entries; i++) {
        if (!strcmp(w->entry[i - 1].name, w->entry[i].name))
            return scope_fail(err, SCOPE_EIO,
                              "%s: two files hold the tensor %.80s; keep one set of "
                              "weights in the folder",
                              w->label, w->entry[i].name);
    }
    return 0;
}

static entry *find(const weights *w, const char *name)
{
    entry key = {.name = (char *)name};
    return bsearch(&key, w->entry, (size_t)w->entries, sizeof *w->entry, by_name);
}

int weights_has(const weights *w, const char *name)
{
    return find(w, name) != NULL;
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
static int same_shape(const st_tensor *t, int ndim, const int64_t *dim)
{
    if ((t->ndim < 2 || ndim < 2) && t->ndim != ndim)
        return 0;
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

/* The tensor's data, copied when the file does not align it to its type. */
static const void *aligned(weights *w, const st_tensor *t)
{
    if ((uintptr_t)t->data % (t->dtype == ST_F32 ? 4 : 2) == 0)
        return t->data;
    void **slot = room(w, &w->copy, w->copies, sizeof *slot);
    void *copy = slot ? sd_malloc(t->bytes) : NULL;
    if (!copy) {
        w->no_memory = 1;
        return NULL;
    }
    *slot = memcpy(copy, t->data, t->bytes);
    w->copies++;
    return copy;
}

/* Tensor `name` of this shape; data NULL after noting why not. */
static k_array ask(weights *w, const char *name, int ndim, const int64_t *dim)
{
    char has[64], wants[64];
    if (w->recording)
        return recorded(w, name, ndim, dim);
    entry *e = find(w, name);
    if (!e) {
        note(w, "%s is missing", name);
        return (k_array){0};
    }
    const st_tensor *t = e->tensor;
    e->used = 1;
    if (!same_shape(t, ndim, dim)) {
        note(w, "%s is %s, the config asks %s", name, shape_text(has, t->ndim, t->dim),
             shape_text(wants, ndim, dim));
        return (k_array){0};
    }
    if (t->dtype != ST_F32 && t->dtype != ST_F16 && t->dtype != ST_BF16) {
        note(w, "%s is %s; convert the weights to F16, BF16 or F32", name, st_dtype_name(t->dtype));
        return (k_array){0};
    }
    return (k_array){aligned(w, t), t->dtype == ST_F32   ? K_F32
                                    : t->dtype == ST_F16 ? K_F16
                                                         : K_BF16};
}

void weights_rare(weights *w)
{
    w->rare = 1;
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
    if (i < 0 || i >= w->modules)
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

weights *weights_open(k_device *device, const char *dir, const char *label, scope_error *err)
{
    weights *w = sd_calloc(1, sizeof *w);
    if (!w) {
        scope_fail(err, SCOPE_ENOMEM, "%s: out of memory", label);
        return NULL;
    }
    w->device = device;
    snprintf(w->label, sizeof w->label, "%s", label);
    if (weights_files_open(&w->files, dir, w->label, err) || index_names(w, err)) {
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
    for (int i = 0; i < w->entries; i++)
        free(w->entry[i].name);
    weights_files_close(&w->files);
    if (w->zeros)
        munmap(w->zeros, ZEROS);
    for (int i = 0; i < w->modules; i++)
        free((char *)w->module[i].name);
    free(w->module);
    free(w->given);
    free(w->copy);
    free(w->problem);
    free(w->record);
    free(w->entry);
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
    for (int i = 0; i < w->entries; i++) {
        if (w->entry[i].used || ignorable(w->entry[i].name))
            continue;
        if (count++ < 4)
            n += snprintf(line + n, sizeof line - (size_t)n, ", %.40s", w->entry[i].name);
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
    for (int f = 0; f < w->files.count; f++)
        st_release_pages(w->files.file[f]);
}
