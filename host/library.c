/* library.c - opening a plugin's shared library; nothing of it is read before its abi is known. */
#include "library.h"
#include "error.h"

#include <dlfcn.h>
#include <string.h>

const scope_library *library_open(const char *path, void **handle, scope_error *err)
{
    /* NODELETE: a plugin may leave threads behind (an OpenMP pool does) whose code must stay. */
    *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!*handle) {
        /* dlerror() usually begins with the path, which we say ourselves. */
        const char *why = dlerror(), *rest = strstr(why, ": ");
        if (rest && !strncmp(why, path, strlen(path)))
            why = rest + 2;
        error_set(err, SCOPE_EIO, "", "cannot be loaded: %s", why);
        return NULL;
    }
    const scope_library *library = dlsym(*handle, "scope_entry");
    if (!library) {
        error_set(err, SCOPE_EINVAL, "", "is no scope plugin: it does not export scope_entry");
        return NULL;
    }
    if (library->abi != SCOPE_ABI) {
        error_set(err, SCOPE_EINVAL, "",
                  "speaks ABI %u and this host speaks %u; rebuild it with this host's headers",
                  library->abi, SCOPE_ABI);
        return NULL;
    }
    if (!library->plugins || !library->plugins[0]) {
        error_set(err, SCOPE_EINVAL, "", "contains no plugin");
        return NULL;
    }
    return library;
}

/* Lower-case words of letters, digits, '-' and '_', joined by dots: safe in paths and shells. */
static int check_id(const char *id, scope_error *err)
{
    size_t length = strlen(id);
    int good = length > 0 && length <= 64;
    for (size_t i = 0; i < length && good; i++) {
        int start = i == 0 || id[i - 1] == '.';
        int letter = id[i] >= 'a' && id[i] <= 'z';
        int digit = id[i] >= '0' && id[i] <= '9';
        good = letter || (!start && (digit || id[i] == '-' || id[i] == '_')) ||
               (!start && id[i] == '.' && id[i + 1]);
    }
    if (good)
        return SCOPE_OK;
    return error_set(err, SCOPE_EINVAL, "",
                     "\"%.40s\" is no plugin id; use up to 64 lower-case letters, digits, - and _ "
                     "in words joined by dots, such as org.example.invert",
                     id);
}

int library_check(const scope_plugin *plugin, scope_error *err)
{
    const struct {
        const char *name;
        int there;
    } members[] = {
        {"id", plugin->id != NULL},           {"version", plugin->version != NULL},
        {"schema", plugin->schema != NULL},   {"init", plugin->init != NULL},
        {"process", plugin->process != NULL}, {"fini", plugin->fini != NULL},
    };
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        if (!members[i].there)
            return error_set(err, SCOPE_EINVAL, "", "leaves the member %s of its scope_plugin NULL",
                             members[i].name);
    }
    return check_id(plugin->id, err);
}

const scope_plugin *library_find(const scope_library *library, const char *id, scope_error *err)
{
    const scope_plugin *const *p = library->plugins;
    if (!id && p[1]) {
        error_set(err, SCOPE_EINVAL, "", "contains several plugins; name one, such as %s",
                  p[0]->id ? p[0]->id : "?");
        return NULL;
    }
    while (*p && id && (!(*p)->id || strcmp((*p)->id, id)))
        p++;
    if (!*p) {
        error_set(err, SCOPE_EINVAL, "", "contains no plugin %s", id);
        return NULL;
    }
    return library_check(*p, err) < 0 ? NULL : *p;
}
