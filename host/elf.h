/* elf.h - what a shared library exports, read from its file without running it. */
#ifndef HOST_ELF_H
#define HOST_ELF_H

#include <glib.h>

/* Names of the symbols a library defines for others, except those that a toolchain adds on its own
 * (_init, _fini, __bss_start, _edata, _end). NULL with a sentence in why when it is no readable
 * 64-bit ELF library. Free with g_ptr_array_unref. */
GPtrArray *elf_exports(const char *path, char why[256]);

#endif
