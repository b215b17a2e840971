/* places.c - see places.h. */
#include "places.h"

#include "alloc.h"

#include <dirent.h>
#include <dlfcn.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* "…/scope/" + kind + "/" + name; 0 when it does not fit, or there is no home. */
static int data_path(char out[PATH_MAX], const char *kind, const char *name)
{
    const char *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    int own = data && data[0] == '/';
    if (!own && !home)
        return 0;
    int n = snprintf(out, PATH_MAX, "%s%s/scope/%s/%s", own ? data : home,
                     own ? "" : "/.local/share", kind, name);
    return n > 0 && n < PATH_MAX;
}

static int has(const char *folder, const char *name)
{
    char path[PATH_MAX];
    return snprintf(path, sizeof path, "%s/%s", folder, name) < PATH_MAX && !access(path, R_OK);
}

/* The one .safetensors of a folder that is no diffusers folder; NULL: there is none, or several. */
static char *only_file(const char *folder)
{
    char path[PATH_MAX] = "";
    int count = 0;
    DIR *d = opendir(folder);
    if (!d)
        return NULL;
    for (struct dirent *e; (e = readdir(d));) {
        size_t n = strlen(e->d_name);
        if (n > 12 && !strcmp(e->d_name + n - 12, ".safetensors")) {
            count++;
            if (snprintf(path, sizeof path, "%s/%s", folder, e->d_name) >= PATH_MAX)
                count = 2;
        }
    }
    closedir(d);
    return count == 1 && !has(folder, "model_index.json") ? realpath(path, NULL) : NULL;
}

/* "models/" + name beside this library; NULL when nothing is there. */
static char *beside(const char *name)
{
    char path[PATH_MAX];
    Dl_info self;
    const char *file = dladdr((const void *)(uintptr_t)only_file, &self) ? self.dli_fname : NULL;
    const char *slash = file ? strrchr(file, '/') : NULL;
    if (!slash || strstr(name, ".."))
        return NULL;
    int n = snprintf(path, sizeof path, "%.*s/models/%s", (int)(slash - file), file, name);
    return n < PATH_MAX ? realpath(path, NULL) : NULL;
}

char *places_find(const char *path)
{
    char other[PATH_MAX];
    if (!path[0])
        return NULL;
    char *real = realpath(path, NULL);
    if (real || path[0] == '/' || path[0] == '.')
        return real;
    if (data_path(other, "models", path)) {
        char *colon = strchr(other + strlen(other) - strlen(path), ':');
        if (colon)
            *colon = '/';
        real = realpath(other, NULL);
    }
    return real ? real : beside(path);
}

char *places_model(const char *path)
{
    char *real = places_find(path), *file = real ? only_file(real) : NULL;
    if (file)
        free(real);
    return file ? file : real;
}

static int is_tokenizer(const char *folder)
{
    return (has(folder, "vocab.json") && has(folder, "merges.txt")) ||
           has(folder, "tokenizer.json");
}

char *places_tokenizer(const char *model)
{
    char path[PATH_MAX];
    const char *slash = strrchr(model, '/');
    int n = slash ? (int)(slash - model) : 1;
    for (int i = 0; i < 2; i++) {
        if (snprintf(path, sizeof path, "%.*s%s", n, slash ? model : ".", i ? "" : "/tokenizer") <
                PATH_MAX &&
            is_tokenizer(path))
            return sd_strdup(path);
    }
    return data_path(path, "tokenizers", "clip") && is_tokenizer(path) ? sd_strdup(path) : NULL;
}
