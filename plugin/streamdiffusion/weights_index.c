/* weights_index.c - see weights_index.h. */
#include "weights_index.h"

#include "alloc.h"

#include <stdlib.h>

/* An attention's tensor as diffusers spelt it before 0.18, in today's words; 0 when it is none. */
static int old_attention(char out[LDM_NAME], const char *name)
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
            snprintf(out, LDM_NAME, "%.*s%s%s", (int)(at - name), name, pairs[i][1], dot + 1);
            return 1;
        }
    }
    return 0;
}

/* The one spelling of a name of a file that plays `role`. */
static void canonical(char out[LDM_NAME], const char *name, int role)
{
    char *rest;
    long layer = strtol(name, &rest, 10);
    int numbered = rest != name && *rest == '.' && layer >= 0;
    int side = role == WEIGHTS_TAESD_PAIR && !strncmp(name, "encoder.", 8)   ? WEIGHTS_TAESD_ENCODER
               : role == WEIGHTS_TAESD_PAIR && !strncmp(name, "decoder.", 8) ? WEIGHTS_TAESD_DECODER
                                                                             : 0;
    if (side) {
        canonical(out, name + 8, side);
        return;
    }

    if (role == WEIGHTS_TAESD_ENCODER && numbered)
        snprintf(out, LDM_NAME, "encoder.layers.%s", name);
    else if (role == WEIGHTS_TAESD_DECODER && numbered && layer > 0) /* its layer 0 is the clamp */
        snprintf(out, LDM_NAME, "decoder.layers.%ld%s", layer - 1, rest);
    else if (role == WEIGHTS_BARE_CLIP && strncmp(name, "text_projection", 15))
        snprintf(out, LDM_NAME, "text_model.%s", name);
    else if (!old_attention(out, name))
        snprintf(out, LDM_NAME, "%s", name);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const named *)a)->name, ((const named *)b)->name);
}

named *weights_index_find(const weights_index *x, const char *name)
{
    named key = {.name = (char *)name};
    return bsearch(&key, x->entry, (size_t)x->count, sizeof *x->entry, by_name);
}

static int no_memory(const char *label, scope_error *err)
{
    return scope_fail(err, SCOPE_ENOMEM, "%s: out of memory", label);
}

/* The tensor, or these of its rows, as an entry. */
static int add(weights_index *x, const st_tensor *t, const ldm_view *v, const char *label,
               scope_error *err)
{
    named *e = &x->entry[x->count];
    if (v->parts > 1 && (!t->ndim || t->dim[0] % v->parts))
        return scope_fail(err, SCOPE_EIO, "%s: the rows of %.80s cannot be split into %d", label,
                          t->name, v->parts);
    if (!(e->name = sd_strdup(v->name)))
        return no_memory(label, err);
    e->tensor = *t;
    e->tensor.name = e->name;
    e->tensor.bytes /= (size_t)v->parts;
    e->tensor.data = (const char *)t->data + (size_t)v->part * e->tensor.bytes;
    if (v->parts > 1)
        e->tensor.dim[0] /= v->parts;
    e->transposed = v->transposed;
    x->count++;
    return 0;
}

static int add_file(weights_index *x, int f, const char *label, scope_error *err)
{
    for (int i = 0; i < st_count(x->files.file[f]); i++) {
        const st_tensor *t = st_at(x->files.file[f], i);
        ldm_view view[LDM_VIEWS] = {{.parts = 1}};
        int role = x->files.role[f], views = 1;
        if (role == WEIGHTS_SINGLE) {
            char name[LDM_NAME];
            views = ldm_views(&x->files.single, t->name, view);
            for (int v = 0; v < views; v++) {
                memcpy(name, view[v].name, sizeof name);
                canonical(view[v].name, name, WEIGHTS_PLAIN);
            }
        } else {
            canonical(view->name, t->name, role);
        }
        for (int v = 0; v < views; v++) {
            if (add(x, t, &view[v], label, err))
                return err->status;
        }
    }
    return 0;
}

static int index_names(weights_index *x, const char *label, scope_error *err)
{
    size_t total = 0;
    for (int f = 0; f < x->files.count; f++)
        total += (size_t)st_count(x->files.file[f]);
    x->entry = sd_calloc(LDM_VIEWS * total + 1, sizeof *x->entry);
    if (!x->entry)
        return no_memory(label, err);
    for (int f = 0; f < x->files.count; f++) {
        if (add_file(x, f, label, err))
            return err->status;
    }
    qsort(x->entry, (size_t)x->count, sizeof *x->entry, by_name);
    for (int i = 1; i < x->count; i++) {
        if (!strcmp(x->entry[i - 1].name, x->entry[i].name))
            return scope_fail(err, SCOPE_EIO,
                              "%s: two %s the tensor %.80s; keep one set of weights in the %s",
                              label, x->files.count > 1 ? "files hold" : "names stand for",
                              x->entry[i].name, x->files.count > 1 ? "folder" : "file");
    }
    return 0;
}

int weights_index_open(weights_index *x, const char *path, const char *label, scope_error *err)
{
    memset(x, 0, sizeof *x);
    if (!weights_files_open(&x->files, path, label, err) && !index_names(x, label, err))
        return 0;
    weights_index_close(x);
    return err->status;
}

void weights_index_close(weights_index *x)
{
    for (int i = 0; i < x->count; i++)
        free(x->entry[i].name);
    free(x->entry);
    weights_files_close(&x->files);
    memset(x, 0, sizeof *x);
}
