/* inspect.h - what a file or folder is, as JSON: the plugin's side of `scope model inspect`. */
#ifndef SD_INSPECT_H
#define SD_INSPECT_H

#include "scope_plugin.h"

/* SCOPE_MODEL's inspect. The text is the caller's, to be freed with free(). NULL and *err when
 * there is nothing at `path`, or memory is short. [any] */
char *inspect_model(const char *path, scope_error *err);

#endif
