/* registry.c - which plugins there are; see registry.h.
 *
 * Must stay true: no plugin code runs in this process; the order of entries depends on the search
 * path and on file names alone.
 */
#include "registry.h"
#include "child.h"
#include "error.h"
#include "library.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SCAN_LIMIT_MS = 5000 };

struct registry {
    GPtrArray *entries; /* of registry_entry, owned */
};

/* ---- the child: one library ------------------------------------------------------------------ */

/* Text for a person, made valid UTF-8 where a plugin's bytes or a cut have spoilt it. */
static json_t *sentence(const char *text)
{
    char *valid = g_utf8_make_valid(text, -1);
    json_t *j = json_string(valid);
    g_free(valid);
    return j;
}

static json_t *describe(const scope_plugin *plugin)
{
    scope_error err = {0};
    schema_error cause;
    json_t *j = json_object();
    if (library_check(plugin, &err) < 0) {
        json_object_set_new(j, "fault", sentence(err.text));
        if (!plugin->id)
            return j;
    }
    json_object_set_new(j, "id", json_string(plugin->id));
    if (err.status < 0)
        return j;
    json_object_set_new(j, "version", json_string(plugin->version));
    json_object_set_new(j, "schema", json_string(plugin->schema));
    schema *s = schema_parse(plugin->schema, &cause);
    if (!s) {
        char *text =
            g_strdup_printf("schema%s%s: %s", cause.path[0] ? " " : "", cause.path, cause.text);
        json_object_set_new(j, "fault", sentence(text));
        g_free(text);
    }
    schema_free(s);
    return j;
}

int registry_scan_child(const char *path)
{
    int report = child_begin();
    void *handle;
    scope_error err;
    json_t *plugins = json_array(), *answer = json_object();
    json_object_set_new(answer, "plugins", plugins);
    const scope_library *library = library_open(path, &handle, &err);
    if (!library)
        json_object_set_new(answer, "fault", sentence(err.text));
    for (int i = 0; library && library->plugins[i]; i++)
        json_array_append_new(plugins, describe(library->plugins[i]));
    int status = json_dumpfd(answer, report, JSON_COMPACT);
    _exit(status < 0); /* the library's destructors are not asked */
}

/* ---- the parent ------------------------------------------------------------------------------ */

static void entry_free(gpointer p)
{
    registry_entry *e = p;
    g_free(e->path);
    g_free(e->id);
    g_free(e->version);
    g_free(e->schema);
    g_free(e->fault);
    g_free(e);
}

static registry_entry *add(registry *r, const char *path, const char *fault)
{
    registry_entry *e = g_new0(registry_entry, 1);
    e->path = g_strdup(path);
    e->fault = g_strdup(fault);
    g_ptr_array_add(r->entries, e);
    return e;
}

static void refuse_duplicates(registry *r)
{
    GHashTable *first = g_hash_table_new(g_str_hash, g_str_equal);
    for (guint i = 0; i < r->entries->len; i++) {
        registry_entry *e = g_ptr_array_index(r->entries, i);
        if (!e->id || e->fault)
            continue;
        const registry_entry *other = g_hash_table_lookup(first, e->id);
        if (other)
            e->fault = g_strdup_printf("has the same id as %s, which is found first", other->path);
        else
            g_hash_table_insert(first, e->id, e);
    }
    g_hash_table_destroy(first);
}

/* A child's answer as entries. */
static void take_in(registry *r, const char *path, const child_report *report)
{
    char why[256];
    child_verdict(report, SCAN_LIMIT_MS, why);
    if (why[0]) {
        add(r, path, why);
        return;
    }
    json_t *answer = json_loadb(report->out->str, report->out->len, 0, NULL);
    const json_t *plugins = json_object_get(answer, "plugins"), *plugin;
    const char *fault = json_string_value(json_object_get(answer, "fault"));
    if (!answer)
        add(r, path, "exits the process by itself (code 0)");
    else if (fault)
        add(r, path, fault);
    size_t i;
    json_array_foreach(plugins, i, plugin)
    {
        registry_entry *e = add(r, path, json_string_value(json_object_get(plugin, "fault")));
        e->id = g_strdup(json_string_value(json_object_get(plugin, "id")));
        e->version = g_strdup(json_string_value(json_object_get(plugin, "version")));
        e->schema = g_strdup(json_string_value(json_object_get(plugin, "schema")));
        if (!e->fault && (!e->id || !e->version || !e->schema))
            e->fault = g_strdup("describes itself in text that is not UTF-8");
    }
    json_decref(answer);
}

static void scan(registry *r, const GPtrArray *paths)
{
    guint count = paths->len;
    const char *(*args)[3] = g_malloc0_n(count + 1, sizeof *args);
    const char *const **list = g_new0(const char *const *, count + 1);
    child_report *reports = g_new0(child_report, count + 1);
    for (guint i = 0; i < count; i++) {
        args[i][0] = "--scan";
        args[i][1] = g_ptr_array_index(paths, i);
        list[i] = args[i];
    }
    child_run_all(list, (int)count, SCAN_LIMIT_MS, reports);
    for (guint i = 0; i < count; i++) {
        take_in(r, g_ptr_array_index(paths, i), &reports[i]);
        child_report_clear(&reports[i]);
    }
    g_free(reports);
    g_free(list);
    g_free(args);
}

static gint by_name(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool is_file(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

/* The .so files of one folder, by name, that `seen` (by real path) does not have yet. */
static void collect(registry *r, const char *folder, bool must_exist, GPtrArray *paths,
                    GHashTable *seen)
{
    GError *why = NULL;
    GDir *dir = g_dir_open(folder, 0, &why);
    if (!dir) {
        if (must_exist)
            add(r, folder, why->message);
        g_error_free(why);
        return;
    }
    GPtrArray *found = g_ptr_array_new();
    for (const char *name; (name = g_dir_read_name(dir));) {
        char *path = g_build_filename(folder, name, NULL);
        char *real = is_file(path) ? realpath(path, NULL) : NULL;
        if (g_str_has_suffix(name, ".so") && real && g_hash_table_add(seen, g_strdup(real)))
            g_ptr_array_add(found, path);
        else
            g_free(path);
        free(real);
    }
    g_dir_close(dir);
    g_ptr_array_sort(found, by_name);
    g_ptr_array_extend_and_steal(paths, found);
}

static char *beside_program(const char *folder)
{
    char *program = g_file_read_link("/proc/self/exe", NULL);
    char *home = program ? g_path_get_dirname(program) : g_strdup(".");
    char *path = g_build_filename(home, folder, NULL);
    g_free(home);
    g_free(program);
    return path;
}

static registry *new_registry(void)
{
    registry *r = g_new0(registry, 1);
    r->entries = g_ptr_array_new_with_free_func(entry_free);
    return r;
}

registry *registry_scan(const char *extra_dir)
{
    registry *r = new_registry();
    GPtrArray *paths = g_ptr_array_new_with_free_func(g_free);
    GHashTable *seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    const char *list = g_getenv("SCOPE_PATH");
    char **folders = g_strsplit(list ? list : "", ":", -1);
    if (extra_dir)
        collect(r, extra_dir, true, paths, seen);
    for (char **f = folders; *f; f++) {
        if (**f)
            collect(r, *f, true, paths, seen);
    }
    char *standard[] = {
        beside_program("plugins"),
        beside_program("../lib/scope"), /* an installation under any prefix */
        g_build_filename(g_get_home_dir(), ".local/lib/scope", NULL),
        g_strdup("/usr/local/lib/scope"),
    };
    for (size_t i = 0; i < G_N_ELEMENTS(standard); i++) {
        collect(r, standard[i], false, paths, seen);
        g_free(standard[i]);
    }
    scan(r, paths);
    refuse_duplicates(r);
    g_strfreev(folders);
    g_hash_table_destroy(seen);
    g_ptr_array_unref(paths);
    return r;
}

registry *registry_scan_file(const char *path)
{
    registry *r = new_registry();
    GPtrArray *one = g_ptr_array_new_with_free_func(g_free);
    g_ptr_array_add(one,
                    g_canonicalize_filename(path, NULL)); /* a bare name would be searched for */
    scan(r, one);
    refuse_duplicates(r);
    g_ptr_array_unref(one);
    return r;
}

void registry_free(registry *r)
{
    if (!r)
        return;
    g_ptr_array_unref(r->entries);
    g_free(r);
}

int registry_count(const registry *r)
{
    return (int)r->entries->len;
}

const registry_entry *registry_at(const registry *r, int i)
{
    return g_ptr_array_index(r->entries, i);
}

/* ---- finding --------------------------------------------------------------------------------- */

static const char *last_part(const char *id)
{
    const char *dot = strrchr(id, '.');
    return dot ? dot + 1 : id;
}

/* The plugin in a file, whatever else has its id: a path is as plain as a person can be. */
static const registry_entry *find_file(registry *r, const char *path, char why[256])
{
    int before = registry_count(r);
    char *real = realpath(path, NULL);
    if (!real) {
        snprintf(why, 256, "cannot open %s: %s", path, strerror(errno));
        return NULL;
    }
    GPtrArray *one = g_ptr_array_new_with_free_func(free);
    g_ptr_array_add(one, real);
    scan(r, one);
    g_ptr_array_unref(one);
    const registry_entry *e = registry_at(r, before);
    if (registry_count(r) > before + 1)
        snprintf(why, 256, "%s contains several plugins; name one by id, with --plugin-dir", path);
    else if (e->fault)
        snprintf(why, 256, "%s %s", path, e->fault);
    else
        return e;
    return NULL;
}

static const char *nearest(const registry *r, const char *id)
{
    int count = 0;
    const char **names = g_new(const char *, 2 * registry_count(r) + 1);
    for (int i = 0; i < registry_count(r); i++) {
        const registry_entry *e = registry_at(r, i);
        if (e->id && !e->fault) {
            names[count++] = e->id;
            names[count++] = last_part(e->id);
        }
    }
    const char *name = schema_nearest(id, names, count);
    g_free(names);
    return name;
}

const registry_entry *registry_find(registry *r, const char *id, char why[256])
{
    const registry_entry *by_part = NULL, *second = NULL, *faulty = NULL;
    if (strchr(id, '/') || g_str_has_suffix(id, ".so"))
        return find_file(r, id, why);
    for (int i = 0; i < registry_count(r); i++) {
        const registry_entry *e = registry_at(r, i);
        bool whole = e->id && !strcmp(e->id, id);
        if (!whole && (!e->id || strcmp(last_part(e->id), id)))
            continue;
        if (whole && !e->fault)
            return e;
        if (e->fault)
            faulty = e;
        else if (by_part)
            second = e;
        else
            by_part = e;
    }
    if (by_part && !second)
        return by_part;
    const char *near = nearest(r, id);
    if (second)
        snprintf(why, 256, "%s may be %s or %s; give the whole id", id, by_part->id, second->id);
    else if (faulty)
        snprintf(why, 256, "plugin %s cannot be used: %s", faulty->id, faulty->fault);
    else if (near)
        snprintf(why, 256, "there is no plugin %s; did you mean %s?", id, near);
    else
        snprintf(why, 256, "there is no plugin %s; `scope list` shows those that are found", id);
    return NULL;
}
