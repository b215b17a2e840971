/* hub.h - a repository of models on a Hugging Face-style server: what it holds, and what of that a
 * diffusers folder needs.
 */
#ifndef HOST_HUB_H
#define HOST_HUB_H

#include "../plugin/scope_abi.h"

#include <glib.h>

typedef struct hub {
    const char *base;  /* "https://huggingface.co" */
    const char *token; /* NULL for none */
} hub;

typedef struct hub_file {
    char *path;   /* owned; relative, without ".." */
    gint64 size;  /* -1: not told */
    char *sha256; /* owned; NULL: not told */
    char *blob;   /* owned; git's hash of a small file; NULL: not told */
} hub_file;

/* OWNER/NAME, in characters that a server and a file system take alike? */
gboolean hub_is_name(const char *name);
/* The files of a repository (hub_file), to be unref'd; NULL on failure. */
GPtrArray *hub_list(const hub *h, const char *name, scope_error *err);
/* Those that the plugin reads of a diffusers folder, or of a folder with one network: configs,
 * tokenizers, and per network one set of .safetensors, `variant` before the plain one. Borrowed
 * from `all`; NULL when it is no such folder. */
GPtrArray *hub_choose(const GPtrArray *all, const char *variant);
/* Where a file is downloaded from, for g_free. */
char *hub_url(const hub *h, const char *name, const char *path);

#endif
