/* library.h - a plugin's shared library: opening it and finding what it offers.
 *
 * Under instance (which runs a plugin), registry (which lists it) and judge (which tests it).
 * Error texts go after the library's path: "cannot be loaded: file too short".
 */
#ifndef HOST_LIBRARY_H
#define HOST_LIBRARY_H

#include "../plugin/scope_abi.h"

/* dlopen `path` and check its abi before anything else is read. *handle is to be dlclosed, also
 * when NULL is returned (it may then be NULL itself). Runs the library's constructors. [load] */
const scope_library *library_open(const char *path, void **handle, scope_error *err);

/* The plugin `id` of a library (NULL: the only one), complete in its members, or NULL. [scan] */
const scope_plugin *library_find(const scope_library *library, const char *id, scope_error *err);

/* 0 when a plugin has every member it must have and a well-formed id. [scan] */
int library_check(const scope_plugin *plugin, scope_error *err);

#endif
