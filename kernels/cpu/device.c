/* device.c - the processor: which inner loops it can run, its memory, its contexts and scratch. */
#include "cpu.h"
#include "onednn.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { HUGE_PAGE = 2 << 20, MAX_THREADS = 256 };

/* ---- memory --------------------------------------------------------------------------------- */

/* Large blocks begin on a huge page; the kernel backs them with huge pages where it can. */
void *cpu_alloc(size_t bytes)
{
    if (bytes < HUGE_PAGE) {
        void *data = aligned_alloc(64, (bytes + 63) / 64 * 64);
        return data ? memset(data, 0, bytes) : NULL;
    }
    size_t total = bytes + HUGE_PAGE;
    char *base = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED)
        return NULL;
    size_t page = (size_t)sysconf(_SC_PAGESIZE), kept = (bytes + page - 1) / page * page;
    char *data = (char *)(((uintptr_t)base + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE);
    if (data > base)
        munmap(base, (size_t)(data - base));
    if (base + total > data + kept)
        munmap(data + kept, (size_t)(base + total - data - kept));
    madvise(data, kept, MADV_HUGEPAGE);
    return data;
}

void cpu_free(void *data, size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (bytes < HUGE_PAGE)
        free(data);
    else
        munmap(data, (bytes + page - 1) / page * page);
}

/* Page faults belong to planning, not to the first frame. */
static void touch(char *data, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 4096)
        ((volatile char *)data)[i] = 0;
}

/* ---- the device -------------------------------------------------------------------------------
 */

/* SCOPE_ISA names a narrower table, for tests. */
static const simd *choose(void)
{
    const simd *tables[3] = {&simd_base};
    int count = 1;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        tables[count++] = &simd_avx2;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
        tables[count++] = &simd_avx512;
#endif
    const char *name = getenv("SCOPE_ISA");
    for (int i = 0; name && i < count; i++)
        if (!strcmp(tables[i]->name, name))
            return tables[i];
    return name && *name ? NULL : tables[count - 1];
}

enum { OWN, MIXED, ONEDNN };

/* What runs products: MIXED is oneDNN but for what our Winograd takes, the fastest where our own
 * loops have no wide table (SPEED.md). Who names a table by SCOPE_ISA means our own. */
static int choose_library(const simd *table)
{
    static const char *const names[] = {[OWN] = "own", [MIXED] = "mixed", [ONEDNN] = "onednn"};
    const char *name = getenv("SCOPE_CPU"), *isa = getenv("SCOPE_ISA");
    for (int i = OWN; name && i <= ONEDNN; i++)
        if (!strcmp(name, names[i]))
            return i;
    if (name && *name)
        return -1;
    return table == &simd_base && !(isa && *isa) ? MIXED : OWN;
}

k_device *cpu_device_open(int index, const k_device_options *options, char why[K_WHY])
{
    if (index) {
        snprintf(why, K_WHY, "There is no device \"cpu:%d\"; use \"cpu\".", index);
        return NULL;
    }
    const simd *table = choose();
    if (!table) {
        snprintf(why, K_WHY, "This processor does not run SCOPE_ISA=%s; unset it.",
                 getenv("SCOPE_ISA"));
        return NULL;
    }
    if (options->threads < 0 || options->threads > MAX_THREADS) {
        snprintf(why, K_WHY, "%d threads cannot be used; give 0 (all) to %d.", options->threads,
                 MAX_THREADS);
        return NULL;
    }
    int library = choose_library(table);
    if (library < 0) {
        snprintf(why, K_WHY, "SCOPE_CPU=%s is not known; use \"own\", \"mixed\" or \"onednn\".",
                 getenv("SCOPE_CPU"));
        return NULL;
    }
    cpu_device *d = calloc(1, sizeof *d);
    if (d && library && !(d->library = onednn_open())) {
        free(d);
        d = NULL;
    }
    if (!d) {
        snprintf(why, K_WHY, "There is not enough memory to open device \"cpu\".");
        return NULL;
    }
    d->base.backend = &cpu_backend;
    d->simd = table;
    d->direct = library == ONEDNN;
    d->memory = options->memory;
    /* OpenMP's own answer: the processors this process may use, or OMP_NUM_THREADS. */
    d->threads = options->threads ? options->threads : omp_get_max_threads();
    if (d->threads > MAX_THREADS)
        d->threads = MAX_THREADS;
    pthread_mutex_init(&d->lock, NULL);
    return &d->base;
}

void cpu_device_close(k_device *device)
{
    cpu_device *d = (cpu_device *)device;
    pthread_mutex_destroy(&d->lock);
    if (d->work)
        cpu_free(d->work, d->work_bytes);
    onednn_close(d->library);
    free(d);
}

size_t cpu_device_bytes(const k_device *device)
{
    return ((const cpu_device *)device)->bytes;
}

const char *cpu_device_name(const k_device *device)
{
    return device->backend->name;
}

/* ---- contexts
 * ------------------------------------------------------------------------------------ */

int cpu_open(k_ctx *k)
{
    cpu_device *d = cpu_of(k);
    cpu_ctx *c = calloc(1, sizeof *c);
    if (!c)
        return -1;
    pthread_mutex_lock(&d->lock);
    c->bit = ~d->contexts & (d->contexts + 1); /* the lowest free bit; 0 when all are taken */
    d->contexts |= c->bit;
    pthread_mutex_unlock(&d->lock);
    if (!c->bit) {
        free(c);
        return -1;
    }
    k->impl = c;
    k->real = k->wide = K_F32;
    return 0;
}

void cpu_close(k_ctx *k)
{
    cpu_device *d = cpu_of(k);
    cpu_ctx *c = k->impl;
    cpu_weights_release(k, 1);
    pthread_mutex_lock(&d->lock);
    d->contexts &= ~c->bit;
    pthread_mutex_unlock(&d->lock);
    if (c->scratch)
        cpu_free(c->scratch, c->size);
    free(c);
}

void cpu_plan_begin(k_ctx *k)
{
    ((cpu_ctx *)k->impl)->need = 0;
}

void cpu_plan_end(k_ctx *k)
{
    cpu_ctx *c = k->impl;
    cpu_weights_release(k, 0);
    if (k->status || c->need <= c->size)
        return;
    if (c->scratch)
        cpu_free(c->scratch, c->size);
    c->size = 0;
    c->scratch = cpu_alloc(c->need);
    if (!c->scratch) {
        k_fail(k, "plan: there is no memory for %zu MiB of scratch; use a smaller picture.",
               c->need >> 20);
        return;
    }
    c->size = c->need;
    touch(c->scratch, c->size);
}

void *cpu_scratch(k_ctx *k, const char *op, size_t bytes)
{
    cpu_ctx *c = k->impl;
    if (k->planning && bytes > c->need)
        c->need = bytes;
    if (k->planning || bytes <= c->size)
        return k->planning ? NULL : c->scratch;
    k_fail(k, "%s: this shape was not planned (it needs %zu bytes of scratch, there are %zu).", op,
           bytes, c->size);
    return NULL;
}
