/* library.c - what lies on the server for a person to pick: plugins, presets, assets, recordings,
 * log lines.
 *
 * Under serve. Files are named by one path part, so that no name leaves its folder: of harmless
 * characters, or, of recordings, of those that the server itself gives them (live/outlet_record.c).
 */
#include "app.h"

#include "../error.h"
#include "../log.h"
#include "../presets.h"

#include <errno.h>
#include <gio/gio.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PRESET_MAX = 1 << 20, ASSET_MAX = 256 << 20 };

/* ---- folders --------------------------------------------------------------------------------- */

static bool is_name(const char *name)
{
    size_t n = strlen(name);
    return n > 0 && n <= 120 && g_ascii_isalnum(name[0]) &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 ._()+-") ==
               n;
}

/* A finished recording; one under way has another ending, and is not to be reached. */
static bool is_recording(const char *name)
{
    bool good = g_str_has_suffix(name, ".mp4") && *name != '.' && strlen(name) <= 120 &&
                g_utf8_validate(name, -1, NULL) && !strpbrk(name, "/\\");
    for (const char *p = name; good && *p; p++)
        good = !g_ascii_iscntrl(*p);
    return good;
}

static response *bad_name(request *r, const char *name)
{
    return response_error(
        r, 400, "LIBRARY/INVALID_NAME", "name",
        "\"%.60s\" cannot be a name: use letters, digits, spaces and . _ - ( ) +, "
        "beginning with a letter or digit",
        name);
}

static char *path_in(request *r, const char *folder, const char *more, const char *name)
{
    const char *data = live_data_dir(app_of(r)->live);
    return more ? g_build_filename(data, folder, more, name, NULL)
                : g_build_filename(data, folder, name, NULL);
}

static const char *type_of(const char *name)
{
    static const struct {
        const char *ending, *type;
    } known[] = {{".mp4", "video/mp4"},
                 {".webm", "video/webm"},
                 {".mkv", "video/x-matroska"},
                 {".mov", "video/quicktime"},
                 {".png", "image/png"},
                 {".jpg", "image/jpeg"},
                 {".jpeg", "image/jpeg"},
                 {".json", "application/json"},
                 {".safetensors", "application/octet-stream"}};
    for (size_t i = 0; i < G_N_ELEMENTS(known); i++) {
        if (g_str_has_suffix(name, known[i].ending))
            return known[i].type;
    }
    return "application/octet-stream";
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The files of a folder with names that are fit, as [{name, bytes, modified, type, path}], by
 * name. */
static json_t *files(request *r, const char *folder, bool (*fit)(const char *name))
{
    char *dir = path_in(r, folder, NULL, NULL);
    GDir *open = g_dir_open(dir, 0, NULL);
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
    for (const char *name; open && (name = g_dir_read_name(open));) {
        if (fit(name))
            g_ptr_array_add(names, g_strdup(name));
    }
    g_ptr_array_sort(names, by_name);
    json_t *all = json_array();
    for (guint i = 0; i < names->len; i++) {
        char *path = g_build_filename(dir, names->pdata[i], NULL);
        GStatBuf st;
        if (!g_stat(path, &st) && S_ISREG(st.st_mode))
            json_array_append_new(all, json_pack("{s:s, s:I, s:I, s:s, s:s}", "name",
                                                 names->pdata[i], "bytes", (json_int_t)st.st_size,
                                                 "modified", (json_int_t)st.st_mtime, "type",
                                                 type_of(names->pdata[i]), "path", path));
        g_free(path);
    }
    g_ptr_array_unref(names);
    if (open)
        g_dir_close(open);
    g_free(dir);
    return all;
}

static response *remove_file(request *r, char *path, const char *what)
{
    int failed = g_unlink(path) ? errno : 0;
    g_free(path);
    if (failed == ENOENT)
        return response_error(r, 404, "LIBRARY/NOT_FOUND", NULL, "there is no %s of this name",
                              what);
    if (failed)
        return response_error(r, 500, "INTERNAL", NULL, "the %s cannot be removed: %s", what,
                              g_strerror(failed));
    return response_json(200, json_pack("{s:b, s:{}}", "success", 1, "data"));
}

static int write_file(const char *path, const void *bytes, gsize n, scope_error *err)
{
    char *dir = g_path_get_dirname(path);
    GError *why = NULL;
    bool good = !g_mkdir_with_parents(dir, 0755) &&
                g_file_set_contents_full(path, bytes, (gssize)n, G_FILE_SET_CONTENTS_CONSISTENT,
                                         0644, &why);
    if (!good)
        error_set(err, SCOPE_EIO, "", "cannot write %s: %s", path,
                  why ? why->message : g_strerror(errno));
    g_clear_error(&why);
    g_free(dir);
    return good ? 0 : SCOPE_EIO;
}

/* ---- plugins --------------------------------------------------------------------------------- */

static json_t *plugin_json(live *l, const registry_entry *e)
{
    const schema *s = NULL;
    scope_error err = {0};
    if (e->id && !e->fault)
        live_plugin(l, e->id, &s, &err);
    char *base = g_path_get_basename(e->path);
    json_t *one =
        json_pack("{s:s?, s:s, s:s?, s:s, s:s?, s:s, s:o}", "id", e->id, "name",
                  s && *schema_title(s) ? schema_title(s)
                  : e->id               ? e->id
                                        : base,
                  "version", e->version, "file", base, "fault", e->fault, "description",
                  s ? schema_description(s) : "", "schema", s ? schema_json(s) : json_null());
    g_free(base);
    return one;
}

static response *plugins(request *r)
{
    live *l = app_of(r)->live;
    json_t *all = json_array();
    for (int i = 0; i < registry_count(live_registry(l)); i++)
        json_array_append_new(all, plugin_json(l, registry_at(live_registry(l), i)));
    return response_json(200, json_pack("{s:o}", "plugins", all));
}

static response *rescan(request *r)
{
    live_rescan(app_of(r)->live);
    return plugins(r);
}

/* ---- presets --------------------------------------------------------------------------------- */

static char *own(request *r, const registry_entry *e, const char *name)
{
    char *file = name ? g_strconcat(name, ".json", NULL) : NULL;
    char *path = path_in(r, "presets", e->id, file);
    g_free(file);
    return path;
}

static const registry_entry *plugin_of(request *r, const schema **s, response **bad)
{
    scope_error err;
    const registry_entry *e = live_plugin(app_of(r)->live, request_part(r, "plugin"), s, &err);
    if (!e)
        *bad = response_error(r, 404, "LIBRARY/NO_PLUGIN", NULL, "%s", err.text);
    return e;
}

static void add_presets(json_t *all, const char *dir, const char *from)
{
    GDir *open = g_dir_open(dir, 0, NULL);
    for (const char *file; open && (file = g_dir_read_name(open));) {
        if (!g_str_has_suffix(file, ".json"))
            continue;
        char *name = g_strndup(file, strlen(file) - strlen(".json"));
        if (is_name(name) && !json_object_get(all, name))
            json_object_set_new(all, name, json_string(from));
        g_free(name);
    }
    if (open)
        g_dir_close(open);
}

static response *presets(request *r)
{
    response *bad;
    const schema *s;
    const registry_entry *e = plugin_of(r, &s, &bad);
    if (!e)
        return bad;
    json_t *all = json_object();
    char *mine = own(r, e, NULL), *theirs = presets_folder(e);
    add_presets(all, mine, "own");
    add_presets(all, theirs, "plugin");
    g_free(mine);
    g_free(theirs);
    return response_json(200, json_pack("{s:o}", "presets", all));
}

static response *preset(request *r)
{
    response *bad;
    const schema *s;
    const char *name = request_part(r, "name");
    const registry_entry *e = plugin_of(r, &s, &bad);
    if (!e)
        return bad;
    if (!is_name(name))
        return bad_name(r, name);
    scope_error err;
    char *mine = own(r, e, name);
    json_t *values = json_load_file(mine, 0, NULL);
    g_free(mine);
    if (!values && !(values = presets_read(e, name, &err)))
        return response_error(r, 404, "LIBRARY/NOT_FOUND", NULL, "%s", err.text);
    return response_json(200, json_pack("{s:o}", "values", values));
}

static response *put_preset(request *r)
{
    response *bad;
    const schema *s;
    const char *name = request_part(r, "name");
    const registry_entry *e = plugin_of(r, &s, &bad);
    json_t *body = e ? request_json(r, false, &bad) : NULL;
    if (!body)
        return bad;
    if (!is_name(name))
        return bad_name(r, name);
    json_t *values = json_object_get(body, "values");
    schema_error why;
    scope_error err;
    json_t *complete = json_is_object(values) ? schema_complete(s, values, &why) : NULL;
    if (!json_is_object(values))
        return response_error(r, 400, "LIBRARY/INVALID_PRESET", "values",
                              "values: give an object of parameters");
    if (!complete)
        return response_error(r, 400, "LIBRARY/INVALID_PRESET", why.path, "%s", why.text);
    json_decref(complete);
    char *text = json_dumps(values, JSON_INDENT(2)), *path = own(r, e, name);
    int status = write_file(path, text, strlen(text), &err);
    free(text);
    g_free(path);
    return status ? response_fault(r, "INTERNAL", &err)
                  : response_json(200, json_pack("{s:s}", "name", name));
}

static response *end_preset(request *r)
{
    response *bad;
    const schema *s;
    const char *name = request_part(r, "name");
    const registry_entry *e = plugin_of(r, &s, &bad);
    if (!e)
        return bad;
    return is_name(name) ? remove_file(r, own(r, e, name), "preset") : bad_name(r, name);
}

/* ---- assets and recordings ------------------------------------------------------------------- */

static response *assets(request *r)
{
    return response_json(200, json_pack("{s:o}", "assets", files(r, "assets", is_name)));
}

static response *recordings(request *r)
{
    return response_json(200,
                         json_pack("{s:o}", "recordings", files(r, "recordings", is_recording)));
}

static response *no_recording(request *r)
{
    return response_error(r, 404, "LIBRARY/NOT_FOUND", NULL, "there is no recording of this name");
}

static response *send_file(request *r, const char *folder, bool download)
{
    const char *name = request_part(r, "name");
    char *path = path_in(r, folder, NULL, name);
    response *a = response_file(r, path, type_of(name), download ? name : NULL);
    g_free(path);
    return a;
}

static response *asset(request *r)
{
    const char *name = request_part(r, "name");
    return is_name(name) ? send_file(r, "assets", false) : bad_name(r, name);
}

static response *recording(request *r)
{
    return is_recording(request_part(r, "name")) ? send_file(r, "recordings", true)
                                                 : no_recording(r);
}

/* A file on its way to the disk; a large one is written beside the main loop. */
typedef struct keeping {
    request *r; /* until it is answered */
    char *path; /* owned */
    int status;
    scope_error err;
} keeping;

static void keep(GTask *task, gpointer source, gpointer data, GCancellable *cancel)
{
    (void)source, (void)cancel;
    keeping *k = data;
    gsize n;
    const void *bytes = g_bytes_get_data(request_body(k->r), &n);
    k->status = write_file(k->path, bytes, n, &k->err);
    g_task_return_boolean(task, TRUE);
}

static void kept(GObject *source, GAsyncResult *result, gpointer data)
{
    (void)source, (void)result;
    keeping *k = data;
    const char *name = request_part(k->r, "name");
    response *a =
        k->status ? response_fault(k->r, "INTERNAL", &k->err)
                  : response_json(201, json_pack("{s:s, s:I, s:s, s:s}", "name", name, "bytes",
                                                 (json_int_t)g_bytes_get_size(request_body(k->r)),
                                                 "type", type_of(name), "path", k->path));
    request_answer(k->r, a);
    g_free(k->path);
    g_free(k);
}

static response *put_asset(request *r)
{
    const char *name = request_part(r, "name");
    if (!is_name(name))
        return bad_name(r, name);
    if (!g_bytes_get_size(request_body(r)))
        return response_error(r, 400, "LIBRARY/EMPTY", NULL, "the file is empty");
    keeping *k = g_new0(keeping, 1);
    *k = (keeping){.r = r, .path = path_in(r, "assets", NULL, name)};
    request_later(r, NULL, NULL);
    GTask *task = g_task_new(NULL, NULL, kept, k);
    g_task_set_task_data(task, k, NULL);
    g_task_run_in_thread(task, keep);
    g_object_unref(task);
    return NULL;
}

static response *end_asset(request *r)
{
    const char *name = request_part(r, "name");
    return is_name(name) ? remove_file(r, path_in(r, "assets", NULL, name), "file")
                         : bad_name(r, name);
}

static response *end_recording(request *r)
{
    const char *name = request_part(r, "name");
    return is_recording(name) ? remove_file(r, path_in(r, "recordings", NULL, name), "recording")
                              : no_recording(r);
}

static response *logs(request *r)
{
    enum { LINES_MAX = 1000 };
    const char *after = request_query(r, "after");
    guint64 n = 0;
    if (after && !g_ascii_string_to_unsigned(after, 10, 0, G_MAXUINT64, &n, NULL))
        return response_error(r, 400, "REQUEST/INVALID", "after",
                              "after: \"%.40s\" is no number of a line", after);
    return response_json(200, json_pack("{s:o}", "lines", log_tail(n, LINES_MAX)));
}

#define ROUTE(verb, at, fn, what)                                                                  \
    .method = verb, .path = at, .handler = fn, .access = ROUTE_TOKEN, .summary = what

const route library_routes[] = {
    {ROUTE("GET", "/api/v1/plugins", plugins, "What can run, and why the rest cannot")},
    {ROUTE("POST", "/api/v1/plugins/rescan", rescan, "Look for plugins again")},
    {ROUTE("GET", "/api/v1/presets/{plugin}", presets, "Names of kept values: {name: own|plugin}")},
    {ROUTE("GET", "/api/v1/presets/{plugin}/{name}", preset, "Kept values")},
    {ROUTE("PUT", "/api/v1/presets/{plugin}/{name}", put_preset, "Keep values by a name"),
     .body_max = PRESET_MAX,
     .body = "{\"type\":\"object\",\"required\":[\"values\"],\"properties\":{\"values\":{\"type\":"
             "\"object\"}}}"},
    {ROUTE("DELETE", "/api/v1/presets/{plugin}/{name}", end_preset, "Forget kept values")},
    {ROUTE("GET", "/api/v1/assets", assets, "Files to pick: pictures, videos, LoRAs")},
    {ROUTE("GET", "/api/v1/assets/{name}", asset, "A file"),
     .produces = "application/octet-stream"},
    {ROUTE("PUT", "/api/v1/assets/{name}", put_asset, "Bring a file"), .body_max = ASSET_MAX,
     .consumes = "application/octet-stream", .status = 201},
    {ROUTE("DELETE", "/api/v1/assets/{name}", end_asset, "Remove a file")},
    {ROUTE("GET", "/api/v1/recordings", recordings, "Finished recordings")},
    {ROUTE("GET", "/api/v1/recordings/{name}", recording, "A recording, to be saved"),
     .produces = "video/mp4"},
    {ROUTE("DELETE", "/api/v1/recordings/{name}", end_recording, "Remove a recording")},
    {ROUTE("GET", "/api/v1/logs", logs, "The last lines of the log"),
     .query = "{\"after\":{\"type\":\"integer\",\"minimum\":0}}"},
    {0},
};
