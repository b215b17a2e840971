/* calls.c - counting the memory that a plugin's own code asks for; see calls.h.
 *
 * The redirected functions have no argument to carry state in, hence the file's few globals.
 */
#include "calls.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined __x86_64__
enum { JUMP_SLOT = R_X86_64_JUMP_SLOT, GLOBAL_DATA = R_X86_64_GLOB_DAT };
#elif defined __aarch64__
enum { JUMP_SLOT = R_AARCH64_JUMP_SLOT, GLOBAL_DATA = R_AARCH64_GLOB_DAT };
#else
#error "calls.c: which relocations are function addresses on this machine?"
#endif

static uint64_t calls; /* atomic */

static void count(void)
{
    __atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED);
}

static void *counted_malloc(size_t bytes)
{
    count();
    return malloc(bytes);
}

static void *counted_calloc(size_t n, size_t bytes)
{
    count();
    return calloc(n, bytes);
}

static void *counted_realloc(void *p, size_t bytes)
{
    count();
    return realloc(p, bytes);
}

static void *counted_aligned_alloc(size_t align, size_t bytes)
{
    count();
    return aligned_alloc(align, bytes);
}

static int counted_posix_memalign(void **p, size_t align, size_t bytes)
{
    count();
    return posix_memalign(p, align, bytes);
}

static void *counted_mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    count();
    return mmap(at, bytes, protection, flags, fd, offset);
}

typedef struct redirect {
    const char *name;
    uintptr_t to;
} redirect;

/* Where calls to `name` are to go, or 0 for where they go now. */
static uintptr_t redirected(const char *name)
{
    const redirect table[] = {
        {"malloc", (uintptr_t)counted_malloc},
        {"calloc", (uintptr_t)counted_calloc},
        {"realloc", (uintptr_t)counted_realloc},
        {"aligned_alloc", (uintptr_t)counted_aligned_alloc},
        {"posix_memalign", (uintptr_t)counted_posix_memalign},
        {"mmap", (uintptr_t)counted_mmap},
        {"mmap64", (uintptr_t)counted_mmap},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (!strcmp(table[i].name, name))
            return table[i].to;
    }
    return 0;
}

static void redirect_slots(const struct link_map *map, const ElfW(Rela) * table, size_t bytes,
                           const ElfW(Sym) * symbols, const char *strings)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (size_t i = 0; table && i < bytes / sizeof *table; i++) {
        int type = (int)ELF64_R_TYPE(table[i].r_info);
        if (type != JUMP_SLOT && type != GLOBAL_DATA)
            continue;
        uintptr_t to = redirected(strings + symbols[ELF64_R_SYM(table[i].r_info)].st_name);
        uintptr_t *slot = (uintptr_t *)(map->l_addr + table[i].r_offset);
        void *start = (void *)((uintptr_t)slot / page * page);
        /* Full RELRO made the slots read-only once they were bound. */
        if (to && mprotect(start, page, PROT_READ | PROT_WRITE) == 0)
            *slot = to;
    }
}

int calls_watch(void *handle)
{
    const struct link_map *map;
    const ElfW(Rela) *plt = NULL, *data = NULL;
    const ElfW(Sym) *symbols = NULL;
    const char *strings = NULL;
    size_t plt_bytes = 0, data_bytes = 0;
    if (dlinfo(handle, RTLD_DI_LINKMAP, &map) < 0)
        return -1;
    for (const ElfW(Dyn) *d = map->l_ld; d->d_tag != DT_NULL; d++) {
        const void *at = (const void *)d->d_un.d_ptr; /* the loader has made it an address */
        if (d->d_tag == DT_JMPREL)
            plt = at;
        else if (d->d_tag == DT_RELA)
            data = at;
        else if (d->d_tag == DT_SYMTAB)
            symbols = at;
        else if (d->d_tag == DT_STRTAB)
            strings = at;
        else if (d->d_tag == DT_PLTRELSZ)
            plt_bytes = d->d_un.d_val;
        else if (d->d_tag == DT_RELASZ)
            data_bytes = d->d_un.d_val;
    }
    if (!symbols || !strings)
        return -1;
    redirect_slots(map, plt, plt_bytes, symbols, strings);
    redirect_slots(map, data, data_bytes, symbols, strings);
    return 0;
}

uint64_t calls_count(void)
{
    return __atomic_load_n(&calls, __ATOMIC_RELAXED);
}
