/* elf.c - what a shared library exports; see elf.h.
 *
 * The file is not trusted: every offset is checked before it is used.
 */
#include "elf.h"

#include <elf.h>
#include <string.h>

static const char *const toolchain[] = {"_init", "_fini", "__bss_start", "_edata", "_end"};

/* Entry i of an aligned table that lies within the file, or NULL. */
static const void *entry(const char *file, gsize size, guint64 offset, guint64 i, gsize entry_size)
{
    if (offset > size || offset % 8 || i > size / entry_size ||
        size - offset < (i + 1) * entry_size)
        return NULL;
    return file + offset + i * entry_size;
}

static const Elf64_Shdr *section(const char *file, gsize size, guint64 i)
{
    const Elf64_Ehdr *head = (const Elf64_Ehdr *)file;
    return i < head->e_shnum ? entry(file, size, head->e_shoff, i, sizeof(Elf64_Shdr)) : NULL;
}

static gboolean is_export(const Elf64_Sym *s, const char *name)
{
    int bind = ELF64_ST_BIND(s->st_info), seen = ELF64_ST_VISIBILITY(s->st_other);
    if (s->st_shndx == SHN_UNDEF ||
        (bind != STB_GLOBAL && bind != STB_WEAK && bind != STB_GNU_UNIQUE))
        return FALSE;
    if (seen != STV_DEFAULT && seen != STV_PROTECTED)
        return FALSE;
    if (g_str_has_prefix(name, "__odr_asan."))
        return FALSE; /* one per global in a library built with AddressSanitizer */
    for (gsize i = 0; i < G_N_ELEMENTS(toolchain); i++) {
        if (!strcmp(name, toolchain[i]))
            return FALSE;
    }
    return TRUE;
}

static GPtrArray *read_table(const char *file, gsize size, const Elf64_Shdr *table)
{
    const Elf64_Shdr *strings = section(file, size, table->sh_link);
    if (!strings || strings->sh_offset >= size || strings->sh_size > size - strings->sh_offset)
        return NULL;
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
    for (guint64 i = 0; i < table->sh_size / sizeof(Elf64_Sym); i++) {
        const Elf64_Sym *s = entry(file, size, table->sh_offset, i, sizeof *s);
        if (!s || s->st_name >= strings->sh_size)
            break;
        char *name =
            g_strndup(file + strings->sh_offset + s->st_name, strings->sh_size - s->st_name);
        if (is_export(s, name))
            g_ptr_array_add(names, name);
        else
            g_free(name);
    }
    return names;
}

GPtrArray *elf_exports(const char *path, char why[256])
{
    GError *error = NULL;
    GMappedFile *map = g_mapped_file_new(path, FALSE, &error);
    if (!map) {
        g_snprintf(why, 256, "%s", error->message);
        g_error_free(error);
        return NULL;
    }
    const char *file = g_mapped_file_get_contents(map);
    gsize size = g_mapped_file_get_length(map);
    const Elf64_Ehdr *head = (const Elf64_Ehdr *)file;
    GPtrArray *names = NULL;
    if (size < sizeof *head || memcmp(file, ELFMAG, SELFMAG) || file[EI_CLASS] != ELFCLASS64 ||
        head->e_type != ET_DYN) {
        g_snprintf(why, 256, "it is no 64-bit ELF shared library");
    } else {
        const Elf64_Shdr *s = NULL;
        for (guint64 i = 0; (s = section(file, size, i)) && s->sh_type != SHT_DYNSYM; i++)
            ;
        names = s ? read_table(file, size, s) : NULL;
        if (!names)
            g_snprintf(why, 256, "it has no readable table of dynamic symbols");
    }
    g_mapped_file_unref(map);
    return names;
}
