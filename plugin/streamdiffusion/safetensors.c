/* safetensors.c - see safetensors.h. Format: huggingface/safetensors, README "Format".
 *
 * The header is parsed by Jansson and kept, because the names are borrowed from it. The checks make
 * every st_tensor true by construction: nothing past st_open looks at an offset again.
 */
#include "safetensors.h"
#include "alloc.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_HEADER = 100 * 1000 * 1000, WHY = 256, MAX_NDIM = 8 };

struct st_file {
    char *label;      /* owned; names the file in messages */
    const char *base; /* the whole file */
    size_t size;
    int mapped;        /* base is ours to unmap */
    json_t *header;    /* owned; holds the names */
    st_tensor *tensor; /* owned; sorted by name */
    int count;
};

static const struct {
    const char *name;
    int dtype, bytes;
} dtypes[] = {
    {"F32", ST_F32, 4},   {"F16", ST_F16, 2},         {"BF16", ST_BF16, 2},
    {"F64", ST_F64, 8},   {"I64", ST_I64, 8},         {"I32", ST_I32, 4},
    {"I16", ST_I16, 2},   {"I8", ST_I8, 1},           {"U8", ST_U8, 1},
    {"BOOL", ST_BOOL, 1}, {"F8_E4M3", ST_F8_E4M3, 1}, {"F8_E5M2", ST_F8_E5M2, 1},
};

/* The end of a long path tells more than its start, and the sentence must fit. */
static const char *tail(const char *text, size_t most)
{
    size_t n = strlen(text);
    return n > most ? text + n - most : text;
}

__attribute__((format(printf, 3, 4))) static int bad(const st_file *f, char why[WHY],
                                                     const char *fmt, ...)
{
    char cause[WHY];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(cause, sizeof cause, fmt, ap);
    va_end(ap);
    snprintf(why, WHY, "%s: %.170s", tail(f->label, 80), cause);
    return -1;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const st_tensor *)a)->name, ((const st_tensor *)b)->name);
}

static int by_place(const void *a, const void *b)
{
    const st_tensor *s = *(st_tensor *const *)a, *t = *(st_tensor *const *)b;
    if (s->data != t->data)
        return (const char *)s->data < (const char *)t->data ? -1 : 1;
    return (s->bytes > t->bytes) - (s->bytes < t->bytes);
}

/* ---- one entry of the header ------------------------------------------------------------- */

static int read_shape(const st_file *f, st_tensor *t, const json_t *shape, int item, char why[WHY])
{
    size_t n = json_array_size(shape), bytes = (size_t)item;
    if (!json_is_array(shape) || n > MAX_NDIM)
        return bad(f, why, "tensor \"%.60s\" has no shape of at most %d dimensions", t->name,
                   MAX_NDIM);
    t->ndim = (int32_t)n;
    for (size_t i = 0; i < n; i++) {
        const json_t *d = json_array_get(shape, i);
        if (!json_is_integer(d) || json_integer_value(d) < 0)
            return bad(f, why, "tensor \"%.60s\": dimension %zu is not a size", t->name, i);
        t->dim[i] = json_integer_value(d);
        if (__builtin_mul_overflow(bytes, (size_t)t->dim[i], &bytes))
            return bad(f, why, "tensor \"%.60s\" is larger than memory can be", t->name);
    }
    t->bytes = bytes;
    return 0;
}

static int read_offsets(const st_file *f, st_tensor *t, const json_t *offsets, const char *data,
                        char why[WHY])
{
    const json_t *b = json_array_get(offsets, 0), *e = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(b) || !json_is_integer(e))
        return bad(f, why, "tensor \"%.60s\" has no data_offsets [begin, end]", t->name);
    json_int_t begin = json_integer_value(b), end = json_integer_value(e);
    json_int_t room = (json_int_t)(f->base + f->size - data);
    if (begin < 0 || begin > end)
        return bad(f, why, "tensor \"%.60s\" has data_offsets [%lld, %lld]", t->name,
                   (long long)begin, (long long)end);
    if (end > room)
        return bad(f, why,
                   "it is truncated, download it again: tensor \"%.60s\" ends at byte %lld of %lld",
                   t->name, (long long)end, (long long)room);
    if ((size_t)(end - begin) != t->bytes)
        return bad(f, why, "tensor \"%.60s\" has %lld bytes where its shape and dtype need %zu",
                   t->name, (long long)(end - begin), t->bytes);
    t->data = data + begin;
    return 0;
}

static int read_entry(const st_file *f, st_tensor *t, const char *name, const json_t *entry,
                      const char *data, char why[WHY])
{
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    size_t i = 0;
    t->name = name;
    if (!dtype || json_object_size(entry) != 3)
        return bad(f, why, "tensor \"%.60s\" is not {dtype, shape, data_offsets}", name);
    while (i < sizeof dtypes / sizeof *dtypes && strcmp(dtypes[i].name, dtype))
        i++;
    if (i == sizeof dtypes / sizeof *dtypes)
        return bad(f, why, "tensor \"%.60s\" has the unknown dtype \"%.20s\"", name, dtype);
    t->dtype = dtypes[i].dtype;
    if (read_shape(f, t, json_object_get(entry, "shape"), dtypes[i].bytes, why))
        return -1;
    return read_offsets(f, t, json_object_get(entry, "data_offsets"), data, why);
}

static int check_metadata(const st_file *f, const json_t *meta, char why[WHY])
{
    const char *key;
    json_t *value;
    if (!json_is_object(meta))
        return bad(f, why, "__metadata__ is not a map of strings");
    json_object_foreach((json_t *)meta, key, value)
    {
        if (!json_is_string(value))
            return bad(f, why, "__metadata__ entry \"%.60s\" is not a string", key);
    }
    return 0;
}

/* ---- the whole --------------------------------------------------------------------------- */

/* The tensors must tile the data: no overlap, no hole, nothing after the last. */
static int check_places(const st_file *f, const char *data, char why[WHY])
{
    st_tensor **place = sd_calloc((size_t)f->count + 1, sizeof *place);
    const char *at = data;
    int rc = 0;
    if (!place)
        return bad(f, why, "out of memory");
    for (int i = 0; i < f->count; i++)
        place[i] = &f->tensor[i];
    qsort(place, (size_t)f->count, sizeof *place, by_place);
    for (int i = 0; i < f->count && !rc; i++) {
        const char *begin = place[i]->data;
        if (begin != at)
            rc = bad(f, why, "tensor \"%.60s\" begins at data byte %td, %s byte %td",
                     place[i]->name, begin - data,
                     begin < at ? "inside another tensor that ends at" : "leaving a hole after",
                     at - data);
        at = begin + place[i]->bytes;
    }
    if (!rc && at != f->base + f->size)
        rc = bad(f, why, "%td bytes follow the last tensor; the file is damaged",
                 f->base + f->size - at);
    free(place);
    return rc;
}

static int read_tensors(st_file *f, const char *data, char why[WHY])
{
    const char *name;
    json_t *entry;
    f->tensor = sd_calloc(json_object_size(f->header) + 1, sizeof *f->tensor);
    if (!f->tensor)
        return bad(f, why, "out of memory");
    json_object_foreach(f->header, name, entry)
    {
        int rc = strcmp(name, "__metadata__")
                     ? read_entry(f, &f->tensor[f->count++], name, entry, data, why)
                     : check_metadata(f, entry, why);
        if (rc)
            return rc;
    }
    qsort(f->tensor, (size_t)f->count, sizeof *f->tensor, by_name);
    return check_places(f, data, why);
}

static int parse(st_file *f, char why[WHY])
{
    static const char lfs[] = "version https://git-lfs";
    uint64_t length = 0;
    json_error_t e;

    if (f->size >= sizeof lfs - 1 && !memcmp(f->base, lfs, sizeof lfs - 1))
        return bad(f, why,
                   "this is a git-lfs pointer, not the weights; run `git lfs pull`, or "
                   "download the file itself");
    if (f->size < 8)
        return bad(f, why, "%zu bytes are too few for a safetensors file; download it again",
                   f->size);
    for (int i = 0; i < 8; i++)
        length |= (uint64_t)(unsigned char)f->base[i] << (8 * i);
    if (length > MAX_HEADER)
        return bad(f, why,
                   "a header of %llu bytes is not believable (at most %d); this is no "
                   "safetensors file",
                   (unsigned long long)length, MAX_HEADER);
    if (length > f->size - 8)
        return bad(f, why,
                   "the header needs %llu bytes and the file has %zu: it is truncated; "
                   "download it again",
                   (unsigned long long)length, f->size - 8);
    if (!length || f->base[8] != '{')
        return bad(f, why, "the header does not begin with {; this is no safetensors file");

    f->header = json_loadb(f->base + 8, (size_t)length, JSON_REJECT_DUPLICATES, &e);
    if (!f->header && (!*e.text || json_error_code(&e) == json_error_out_of_memory))
        return bad(f, why, "out of memory");
    if (!f->header)
        return bad(f, why, "the header is not valid: %.100s (at byte %d)", e.text, e.position);
    return read_tensors(f, f->base + 8 + length, why);
}

static st_file *file_new(const char *label, char why[WHY])
{
    st_file *f = sd_calloc(1, sizeof *f);
    if (f && (f->label = sd_strdup(label)))
        return f;
    free(f);
    snprintf(why, WHY, "%s: out of memory", tail(label, 80));
    return NULL;
}

static st_file *parsed(st_file *f, char why[WHY])
{
    if (!parse(f, why))
        return f;
    st_close(f);
    return NULL;
}

/* Map f->label. The descriptor need not outlive the mapping; O_NONBLOCK because a pipe must not
 * hang the load before fstat tells what it is. */
static int map(st_file *f, char why[WHY])
{
    struct stat s;
    int fd = open(f->label, O_RDONLY | O_CLOEXEC | O_NONBLOCK), rc = 0;
    if (fd < 0)
        return bad(f, why, "cannot be opened: %s", strerror(errno));
    if (fstat(fd, &s))
        rc = bad(f, why, "cannot be read: %s", strerror(errno));
    else if (!S_ISREG(s.st_mode))
        rc = bad(f, why, "is %s, not a file", S_ISDIR(s.st_mode) ? "a folder" : "a device");
    else if (!s.st_size)
        rc = bad(f, why, "is empty; download it again");
    if (!rc) {
        void *base = mmap(NULL, (size_t)s.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (base == MAP_FAILED) {
            rc = bad(f, why, "cannot be mapped: %s", strerror(errno));
        } else {
            f->base = base;
            f->size = (size_t)s.st_size;
            f->mapped = 1;
        }
    }
    close(fd);
    return rc;
}

st_file *st_open(const char *path, char why[WHY])
{
    st_file *f = file_new(path, why);
    if (!f)
        return NULL;
    if (map(f, why)) {
        st_close(f);
        return NULL;
    }
    return parsed(f, why);
}

st_file *st_open_memory(const void *data, size_t size, const char *label, char why[WHY])
{
    st_file *f = file_new(label, why);
    if (!f)
        return NULL;
    f->base = data;
    f->size = size;
    return parsed(f, why);
}

void st_close(st_file *f)
{
    if (!f)
        return;
    json_decref(f->header);
    if (f->mapped)
        munmap((void *)f->base, f->size);
    free(f->tensor);
    free(f->label);
    free(f);
}

int st_count(const st_file *f)
{
    return f->count;
}

const st_tensor *st_at(const st_file *f, int i)
{
    return &f->tensor[i];
}

const st_tensor *st_find(const st_file *f, const char *name)
{
    st_tensor key = {.name = name};
    return bsearch(&key, f->tensor, (size_t)f->count, sizeof *f->tensor, by_name);
}

const char *st_metadata(const st_file *f, const char *key)
{
    return json_string_value(json_object_get(json_object_get(f->header, "__metadata__"), key));
}

const char *st_dtype_name(int dtype)
{
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
        if (dtypes[i].dtype == dtype)
            return dtypes[i].name;
    }
    return "?";
}

void st_release_pages(const st_file *f)
{
    if (f->mapped)
        madvise((void *)f->base, f->size, MADV_DONTNEED);
}
