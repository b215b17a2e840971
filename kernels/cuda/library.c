/* library.c - cuDNN and cuBLASLt as candidates beside our own kernels, where they are installed.
 *
 * They are looked for when first asked about, never linked: each in the folders of $SCOPE_CUDA_LIBS
 * (as in PATH; pip's site-packages/nvidia/cu13/lib and nvidia/cudnn/lib are such), then by the
 * loader's rules, then in $CUDA_PATH/lib64 and /usr/local/cuda/lib64. SCOPE_CUDA_LIBRARIES=off
 * leaves them alone. cuDNN asks for cuBLASLt of its own CUDA version by name and ends the process
 * where there is none, so it is used beside that alone.
 *
 * Handles and plans are the device's, contexts share them: whoever runs one holds the lock. That is
 * while frames are captured or run call by call; graphs need no lock.
 */
#include "library.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    DNN_OLDEST = 90000,
    LT_OLDEST = 120000,
    PATH_ROOM = 1024,
    FLAGS = RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE, /* they do not bear to be unloaded */
};

/* ---- finding -------------------------------------------------------------------------------- */

static void *open_in(const char *folder, size_t length, const char *below, const char *name)
{
    char path[PATH_ROOM];
    int n = snprintf(path, sizeof path, "%.*s%s/%s", (int)length, folder, below, name);
    return length && n < PATH_ROOM ? dlopen(path, FLAGS) : NULL;
}

static void *find_file(const char *name)
{
    void *file = NULL;
    const char *folders = getenv("SCOPE_CUDA_LIBS"), *cuda = getenv("CUDA_PATH");
    while (folders && *folders && !file) {
        size_t length = strcspn(folders, ":");
        file = open_in(folders, length, "", name);
        folders += length + (folders[length] == ':');
    }
    if (!file)
        file = dlopen(name, FLAGS);
    if (!file && cuda)
        file = open_in(cuda, strlen(cuda), "/lib64", name);
    if (!file)
        file = open_in("/usr/local/cuda", strlen("/usr/local/cuda"), "/lib64", name);
    return file;
}

typedef struct symbol {
    const char *name;
    void *to; /* of a pointer to a function */
} symbol;

/* NULL: all are there; else the first that is not. */
static const char *find_symbols(void *file, const symbol *list, int count)
{
    for (int i = 0; i < count; i++) {
        void *at = dlsym(file, list[i].name);
        if (!at)
            return list[i].name;
        memcpy(list[i].to, &at, sizeof at);
    }
    return NULL;
}

/* More of the sentence about what was found. */
__attribute__((format(printf, 2, 3))) static void say(cuda_library *l, const char *format, ...)
{
    size_t used = strlen(l->text);
    if (used && used < sizeof l->text - 2) {
        strcpy(l->text + used, ", ");
        used += 2;
    }
    va_list args;
    va_start(args, format);
    vsnprintf(l->text + used, sizeof l->text - used, format, args);
    va_end(args);
}

/* Take the file, or say why not and close it. */
static void *judge(cuda_library *l, void *file, const char *name, const char *missing,
                   size_t version, size_t oldest)
{
    unsigned major = (unsigned)(version / 10000), minor = (unsigned)(version / 100 % 100),
             patch = (unsigned)(version % 100);
    if (missing)
        say(l, "%s without %s is not used", name, missing);
    else if (version < oldest)
        say(l, "%s %zu is too old (%zu)", name, version, oldest);
    else
        say(l, "%s %u.%u.%u", name, major, minor, patch);
    if (!missing && version >= oldest)
        return file;
    dlclose(file);
    return NULL;
}

static void find_lt(cuda_library *l)
{
    const symbol list[] = {
        {"cublasLtGetVersion", &l->lt.version},
        {"cublasLtGetStatusString", &l->lt.error},
        {"cublasLtCreate", &l->lt.create},
        {"cublasLtDestroy", &l->lt.destroy},
        {"cublasLtMatmulDescCreate", &l->lt.desc_new},
        {"cublasLtMatmulDescDestroy", &l->lt.desc_free},
        {"cublasLtMatmulDescSetAttribute", &l->lt.desc_set},
        {"cublasLtMatrixLayoutCreate", &l->lt.layout_new},
        {"cublasLtMatrixLayoutDestroy", &l->lt.layout_free},
        {"cublasLtMatmulPreferenceCreate", &l->lt.preference_new},
        {"cublasLtMatmulPreferenceDestroy", &l->lt.preference_free},
        {"cublasLtMatmulPreferenceSetAttribute", &l->lt.preference_set},
        {"cublasLtMatmulAlgoGetHeuristic", &l->lt.heuristics},
        {"cublasLtMatmul", &l->lt.multiply},
    };
    static const char *const names[] = {"libcublasLt.so.13", "libcublasLt.so.12"};
    void *file = find_file(names[0]);
    if (!file)
        file = find_file(names[1]);
    if (!file)
        return;
    const char *missing = find_symbols(file, list, sizeof list / sizeof *list);
    l->lt_file = judge(l, file, "cublasLt", missing, missing ? 0 : l->lt.version(), LT_OLDEST);
}

static void find_dnn(cuda_library *l)
{
    const symbol list[] = {
        {"cudnnGetVersion", &l->dnn.version},
        {"cudnnGetCudartVersion", &l->dnn.cuda_version},
        {"cudnnGetErrorString", &l->dnn.error},
        {"cudnnCreate", &l->dnn.create},
        {"cudnnDestroy", &l->dnn.destroy},
        {"cudnnSetStream", &l->dnn.set_stream},
        {"cudnnBackendCreateDescriptor", &l->dnn.make},
        {"cudnnBackendDestroyDescriptor", &l->dnn.drop},
        {"cudnnBackendSetAttribute", &l->dnn.set},
        {"cudnnBackendGetAttribute", &l->dnn.get},
        {"cudnnBackendFinalize", &l->dnn.done},
        {"cudnnBackendExecute", &l->dnn.execute},
    };
    void *file = l->lt_file ? find_file("libcudnn.so.9") : NULL;
    if (!file)
        return;
    const char *missing = find_symbols(file, list, sizeof list / sizeof *list);
    l->dnn_file = judge(l, file, "cudnn", missing, missing ? 0 : l->dnn.version(), DNN_OLDEST);
    size_t beside = l->dnn_file ? l->lt.version() / 10000 : 0;
    if (l->dnn_file && l->dnn.cuda_version() / 1000 != beside) {
        say(l, "which is for CUDA %zu and not used", l->dnn.cuda_version() / 1000);
        dlclose(l->dnn_file);
        l->dnn_file = NULL;
    }
}

void cuda_library_search(cuda_library *l)
{
    const char *wanted = getenv("SCOPE_CUDA_LIBRARIES");
    if (l->opened)
        return;
    l->opened = 1;
    if (!wanted || strcmp(wanted, "off")) {
        find_lt(l);
        find_dnn(l);
    }
    if (!*l->text)
        say(l, "none");
}

cuda_library *cuda_library_open(const cuda_device *d)
{
    cuda_library *l = calloc(1, sizeof *l);
    if (!l)
        return NULL;
    l->device = (k_device *)(uintptr_t)&d->base;
    pthread_mutex_init(&l->lock, NULL);
    return l;
}

static int found(cuda_library *l)
{
    pthread_mutex_lock(&l->lock);
    cuda_library_search(l);
    int any = l->dnn_file || l->lt_file;
    pthread_mutex_unlock(&l->lock);
    return any;
}

const char *cuda_library_versions(cuda_library *l)
{
    if (!l)
        return "none";
    found(l);
    return l->text;
}

int cuda_library_candidates(const cuda_device *d)
{
    return d->library && found(d->library) ? DNN_CANDIDATES + LT_CANDIDATES : 0;
}

const char *cuda_library_name(int candidate)
{
    static const char *const names[DNN_CANDIDATES + LT_CANDIDATES] = {
        "cudnn 0",    "cudnn 1",    "cudnn 2",    "cudnn 3",    "cublasLt 0",
        "cublasLt 1", "cublasLt 2", "cublasLt 3", "cublasLt 4", "cublasLt 5"};
    return candidate >= 0 && candidate < DNN_CANDIDATES + LT_CANDIDATES ? names[candidate] : NULL;
}

/* ---- shapes --------------------------------------------------------------------------------- */

/* Rows begin on 16 bytes; where they lie is not known while planning. */
static int aligned(k_tensor t)
{
    return !t.dtype || (t.c % 8 == 0 && t.ld % 8 == 0 && (uintptr_t)t.data % 16 == 0);
}

/* How far the filter reaches over the end of an axis; negative: it does not come out. */
static int reach(int in, int out, const cuda_product *p)
{
    int end = (out - 1) * p->stride + p->side - in - p->pad;
    return end >= p->pad - p->stride && end < p->pad ? p->pad : end;
}

static int takes(const cuda_device *d, const cuda_product *p, const cuda_form *f)
{
    k_tensor x = p->x, y = p->y;
    return (x.dtype == K_F16 || (x.dtype == K_BF16 && d->sm >= 80)) && y.dtype == x.dtype &&
           (!p->residual.dtype || p->residual.dtype == x.dtype) && !p->up &&
           (p->act == K_IDENTITY || p->act == K_RELU) && (!p->row.dtype || x.n == 1) &&
           aligned(x) && aligned(y) && aligned(p->residual) &&
           f->depth == x.c * p->side * p->side && y.c == p->w->desc.out;
}

/* Nonzero: the library does not take this product. */
static int shape_of(const cuda_device *d, int library, const cuda_product *p, const cuda_form *f,
                    library_shape *s)
{
    int stride = p->stride ? p->stride : 1, plain = p->side == 1 && stride == 1 && !p->pad;
    if (!takes(d, p, f) || plain != (library == LIBRARY_LT))
        return -1;
    memset(s, 0, sizeof *s);
    s->library = library;
    s->dtype = p->x.dtype;
    s->c = p->x.c;
    s->x_ld = p->x.ld;
    s->out = p->y.c;
    s->y_ld = p->y.ld;
    s->residual_ld = p->residual.dtype ? p->residual.ld : 0;
    s->depth = f->depth;
    s->relu = p->act == K_RELU;
    s->bias = p->row.dtype || p->w->desc.bias[0].data;
    if (plain) {
        s->w = (int32_t)k_rows(p->x);
        return k_rows(p->y) != s->w;
    }
    s->n = p->x.n;
    s->h = p->x.h;
    s->w = p->x.w;
    s->oh = p->y.h;
    s->ow = p->y.w;
    s->side = p->side;
    s->stride = stride;
    s->pad = p->pad;
    s->end = reach(s->h, s->oh, p);
    return s->end < 0 || s->end != reach(s->w, s->ow, p);
}

static uint32_t hash(const void *data, size_t bytes)
{
    uint32_t h = 2166136261u; /* FNV-1a */
    for (const unsigned char *at = data, *end = at + bytes; at < end; at++)
        h = (h ^ *at) * 16777619u;
    return h % LIBRARY_BUCKETS;
}

/* ---- plans, under the lock ------------------------------------------------------------------ */

static int have_handle(cuda_library *l, int library)
{
    if (library == LIBRARY_DNN)
        return l->dnn_session || (l->dnn_file && !l->dnn.create(&l->dnn_session));
    return l->lt_session || (l->lt_file && !l->lt.create(&l->lt_session));
}

/* A shape that the library refuses has a plan without candidates. */
static library_plan *plan_of(cuda_library *l, const library_shape *s, int make)
{
    library_plan **bucket = &l->plans[hash(s, sizeof *s)], *p = *bucket;
    while (p && memcmp(&p->shape, s, sizeof *s))
        p = p->next;
    if (p || !make || !(p = calloc(1, sizeof *p)))
        return p;
    p->shape = *s;
    p->next = *bucket;
    *bucket = p;
    if (!have_handle(l, s->library))
        return p;
    if (s->library == LIBRARY_DNN)
        cuda_dnn_plan(&l->dnn, l->dnn_session, NULL, s, &p->dnn);
    else
        cuda_lt_plan(&l->lt, l->lt_session, s, &p->lt);
    return p;
}

static int count_of(const library_plan *p)
{
    return p->shape.library == LIBRARY_DNN ? p->dnn.count : p->lt.count;
}

static size_t workspace_of(const library_plan *p, int candidate)
{
    return p->shape.library == LIBRARY_DNN ? p->dnn.workspace[candidate]
                                           : p->lt.result[candidate].workspace;
}

/* ---- biases, under the lock ----------------------------------------------------------------- */

/* The copy of a form's bias. While planning it is written anew: the form that lay here before may
 * have been another one, and whoever uses this one plans first. */
static void *bias_of(k_ctx *k, cuda_library *l, const library_shape *s, const float *from)
{
    library_bias **bucket = &l->biases[hash(&from, sizeof from)], *b = *bucket;
    while (b && (b->from != from || b->dtype != s->dtype || b->count != s->out))
        b = b->next;
    if (!k->planning || (b && cuda_measuring(k)))
        return b ? b->data : NULL;
    if (!b && (b = calloc(1, sizeof *b))) {
        *b = (library_bias){from, s->dtype, s->out, NULL, *bucket};
        *bucket = b;
    }
    if (b && !b->data)
        b->data = cuda_alloc(l->device, 2 * (size_t)s->out, 0);
    if (!b || !b->data || cuda_bias_now(cuda_stream(k), b->data, s->dtype, from, s->out))
        return NULL;
    return b->data;
}

/* ---- running -------------------------------------------------------------------------------- */

typedef struct call {
    cuda_library *library;
    const library_plan *plan;
    library_data at;
    int64_t candidate;
} call;

static cudaError_t run_call(cudaStream_t stream, const void *args)
{
    const call *c = args;
    cuda_library *l = c->library;
    int status = 0;
    pthread_mutex_lock(&l->lock);
    if (c->plan->shape.library == LIBRARY_DNN) {
        status = l->dnn.set_stream(l->dnn_session, stream);
        if (!status)
            status = cuda_dnn_run(&l->dnn, l->dnn_session, c->plan->dnn.plan[c->candidate], &c->at);
    } else {
        status =
            cuda_lt_run(&l->lt, l->lt_session, &c->plan->lt, (int)c->candidate, &c->at, stream);
    }
    pthread_mutex_unlock(&l->lock);
    return status ? cudaErrorNotSupported : cudaSuccess;
}

/* Scratch, or while candidates are timed a workspace of the library's own. NULL: none yet. */
static char *room_of(k_ctx *k, cuda_library *l, const char *op, size_t bytes)
{
    if (!cuda_measuring(k))
        return cuda_scratch(k, op, bytes);
    if (bytes > l->trial_bytes) {
        cuda_library_rest(l);
        l->trial = cuda_alloc(l->device, bytes, 0);
        l->trial_bytes = l->trial ? bytes : 0;
    }
    return l->trial;
}

void cuda_library_rest(cuda_library *l)
{
    if (!l || !l->trial)
        return;
    cuda_free(l->device, l->trial, l->trial_bytes);
    l->trial = NULL;
    l->trial_bytes = 0;
}

static size_t padded(size_t bytes)
{
    return (bytes + 255) / 256 * 256;
}

/* The bias, its copy or, with a row, the sum at the end of scratch. */
static const void *ready_bias(k_ctx *k, const cuda_product *p, const library_shape *s,
                              const cuda_form *form, const void *copy, void *sum)
{
    if (!p->row.dtype)
        return copy;
    cuda_bias_row(k, sum, s->dtype, form->bias, p->row, s->out);
    return sum;
}

int cuda_library_run(k_ctx *k, int candidate, const cuda_product *p, const cuda_form *form)
{
    cuda_device *d = cuda_of(k);
    cuda_library *l = d->library;
    int library = candidate < DNN_CANDIDATES ? LIBRARY_DNN : LIBRARY_LT;
    library_shape s;
    if (!l || shape_of(d, library, p, form, &s))
        return -1;
    candidate -= library == LIBRARY_LT ? DNN_CANDIDATES : 0;
    int noting = k->planning && !cuda_measuring(k);
    pthread_mutex_lock(&l->lock);
    cuda_library_search(l);
    library_plan *plan = plan_of(l, &s, k->planning);
    int fits = plan && candidate < count_of(plan), own_bias = s.bias && !p->row.dtype;
    const void *copy = fits && own_bias ? bias_of(k, l, &s, form->bias) : NULL;
    pthread_mutex_unlock(&l->lock);
    if (!fits || (own_bias && !copy))
        return -1;
    size_t workspace = padded(workspace_of(plan, candidate));
    size_t bytes = workspace + (p->row.dtype ? 2 * (size_t)s.out : 0);
    char *room = bytes ? room_of(k, l, p->op, bytes) : NULL;
    if (noting)
        return 0;
    if (bytes && !room)
        return -1;
    call c;
    memset(&c, 0, sizeof c);
    c.library = l;
    c.plan = plan;
    c.candidate = candidate;
    c.at =
        (library_data){.x = p->x.data,
                       .w = form->data,
                       .bias = s.bias ? ready_bias(k, p, &s, form, copy, room + workspace) : NULL,
                       .residual = p->residual.dtype ? p->residual.data : NULL,
                       .y = p->y.data,
                       .workspace = workspace ? room : NULL};
    if (cuda_measuring(k))
        return run_call(cuda_stream(k), &c) != cudaSuccess;
    cuda_call(k, run_call, &c, sizeof c);
    return 0;
}

/* ---- the end -------------------------------------------------------------------------------- */

static void free_plans(cuda_library *l)
{
    for (int i = 0; i < LIBRARY_BUCKETS; i++) {
        for (library_plan *p = l->plans[i], *next; p; p = next) {
            next = p->next;
            if (p->shape.library == LIBRARY_DNN)
                cuda_dnn_plan_free(&l->dnn, &p->dnn);
            else
                cuda_lt_plan_free(&l->lt, &p->lt);
            free(p);
        }
        for (library_bias *b = l->biases[i], *next; b; b = next) {
            next = b->next;
            if (b->data)
                cuda_free(l->device, b->data, 2 * (size_t)b->count);
            free(b);
        }
    }
}

void cuda_library_close(cuda_library *l)
{
    if (!l)
        return;
    free_plans(l);
    cuda_library_rest(l);
    if (l->dnn_session)
        l->dnn.destroy(l->dnn_session);
    if (l->lt_session)
        l->lt.destroy(l->lt_session);
    if (l->dnn_file)
        dlclose(l->dnn_file);
    if (l->lt_file)
        dlclose(l->lt_file);
    pthread_mutex_destroy(&l->lock);
    free(l);
}
