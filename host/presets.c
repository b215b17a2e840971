/* presets.c - see presets.h. */
#include "presets.h"
#include "error.h"

#include <glib.h>
#include <string.h>

char *presets_folder(const registry_entry *e)
{
    const char *dot = strrchr(e->id, '.');
    char *beside = g_path_get_dirname(e->path);
    char *folder = g_build_filename(beside, "presets", dot ? dot + 1 : e->id, NULL);
    g_free(beside);
    return folder;
}

json_t *presets_read(const registry_entry *e, const char *name, scope_error *err)
{
    char *folder = presets_folder(e), *file = g_strconcat(name, ".json", NULL);
    char *path = g_build_filename(folder, file, NULL);
    json_t *values = NULL;
    if (!strchr(name, '/') && g_file_test(path, G_FILE_TEST_IS_REGULAR))
        values = run_read_json(path, err);
    else
        error_set(err, SCOPE_EINVAL, "", "%s has no preset \"%s\"; those it has are in %s", e->id,
                  name, folder);
    g_free(path);
    g_free(file);
    g_free(folder);
    return values;
}

static gint by_name(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Names of the presets of all plugins, in order, each once. */
static GPtrArray *names_of(const run_plugins *p)
{
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
    for (int i = 0; i < p->count; i++) {
        char *folder = presets_folder(p->link[i].entry);
        GDir *dir = g_dir_open(folder, 0, NULL);
        const char *file;
        while (dir && (file = g_dir_read_name(dir))) {
            char *name = g_str_has_suffix(file, ".json") ? g_strndup(file, strlen(file) - 5) : NULL;
            if (!name || g_ptr_array_find_with_equal_func(names, name, g_str_equal, NULL))
                g_free(name);
            else
                g_ptr_array_add(names, name);
        }
        if (dir)
            g_dir_close(dir);
        g_free(folder);
    }
    g_ptr_array_sort(names, by_name);
    return names;
}

static int unknown(const run_plugins *p, const char *name, scope_error *err)
{
    GPtrArray *names = names_of(p);
    g_ptr_array_add(names, NULL);
    char *list = g_strjoinv(", ", (char **)names->pdata);
    int status = names->len > 1 ? error_set(err, SCOPE_EINVAL, "",
                                            "--preset %s: there is none of this name; there are %s",
                                            name, list)
                                : error_set(err, SCOPE_EINVAL, "",
                                            "--preset %s: none of the plugins has presets", name);
    g_free(list);
    g_ptr_array_free(names, TRUE);
    return status;
}

int presets_apply(run_plugins *p, const char *name, scope_error *err)
{
    int found = 0, status = 0;
    char *file = g_strconcat(name, ".json", NULL);
    for (int i = 0; i < p->count && !status && !strchr(name, '/'); i++) {
        char *folder = presets_folder(p->link[i].entry);
        char *path = g_build_filename(folder, file, NULL);
        if (g_file_test(path, G_FILE_TEST_IS_REGULAR)) {
            json_t *values = run_read_json(path, err);
            status = values ? run_merge(&p->link[i], values, err) : SCOPE_EINVAL;
            json_decref(values);
            found++;
        }
        g_free(path);
        g_free(folder);
    }
    g_free(file);
    return status || found ? status : unknown(p, name, err);
}

/* The values of a plugin under its id; those of one that comes again as "2.field". */
static int add_values(const run_plugins *p, int link, json_t *root, scope_error *err)
{
    schema_error cause;
    const run_link *l = &p->link[link];
    json_t *all = schema_complete(l->schema, l->values, &cause);
    if (!all)
        return error_from_schema(err, &cause);
    if (!json_object_get(root, l->entry->id)) {
        json_object_set_new(root, l->entry->id, all);
        return 0;
    }
    const char *field;
    json_t *value;
    json_object_foreach(all, field, value)
    {
        char *address = g_strdup_printf("%d.%s", link + 1, field);
        json_object_set(root, address, value);
        g_free(address);
    }
    json_decref(all);
    return 0;
}

int presets_save(const run_plugins *p, const char *path, bool overwrite, scope_error *err)
{
    json_t *root = json_object();
    int status = 0;
    for (int i = 0; i < p->count && !status; i++)
        status = add_values(p, i, root, err);
    if (!status && !overwrite && g_file_test(path, G_FILE_TEST_EXISTS))
        status = error_set(err, SCOPE_EINVAL, "", "'%s' exists; --overwrite replaces it", path);
    if (!status && json_dump_file(root, path, JSON_INDENT(2)))
        status = error_set(err, SCOPE_EIO, "", "'%s' cannot be written", path);
    json_decref(root);
    return status;
}
