/* model.c - `scope model inspect` and `scope model get`: what a model file is, and getting one. */
#include "command.h"
#include "error.h"
#include "fetch.h"
#include "hub.h"
#include "library.h"
#include "options.h"
#include "registry.h"

#include <dlfcn.h>
#include <string.h>
#include <unistd.h>

/* ---- inspect --------------------------------------------------------------------------------- */

/* What the plugin at e says of `path`; NULL when it does not know models, or *err. */
static json_t *ask(const registry_entry *e, const char *path, scope_error *err)
{
    void *handle = NULL;
    json_t *j = NULL;
    const scope_library *library = library_open(e->path, &handle, err);
    const scope_plugin *p = library ? library_find(library, e->id, err) : NULL;
    const scope_model *models = p && p->extension ? p->extension(SCOPE_MODEL) : NULL;
    char *text = models ? models->inspect(path, err) : NULL;
    if (text) {
        j = json_loads(text, 0, NULL);
        models->release(text);
        json_object_set_new(j, "plugin", json_string(e->id));
    }
    if (handle)
        dlclose(handle);
    return j;
}

/* Of all plugins, or the one called `plugin`: the first that can use it, else the first that
 * knows models. NULL after complaining. */
static json_t *inspect(const char *dir, const char *plugin, const char *path)
{
    char why[256];
    registry *r = registry_scan(dir);
    scope_error err = {0};
    json_t *best = NULL;
    const registry_entry *only = plugin ? registry_find(r, plugin, why) : NULL;
    for (int i = 0; i < registry_count(r) && (!plugin || only); i++) {
        const registry_entry *e = registry_at(r, i);
        if (e->fault || (only && e != only) || json_is_true(json_object_get(best, "usable")))
            continue;
        json_t *j = ask(e, path, &err);
        if (j && (!best || json_is_true(json_object_get(j, "usable")))) {
            json_decref(best);
            best = j;
        } else {
            json_decref(j);
        }
    }
    if (!best && plugin && !only)
        complain(0, "%s", why);
    else if (!best)
        complain(0, "%s", err.status ? err.text : "no plugin that knows models was found");
    registry_free(r);
    return best;
}

static const char *text_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

/* "859.5 M" */
static char *millions(json_int_t n)
{
    return n >= 1000000000 ? g_strdup_printf("%.2f G", (double)n / 1e9)
           : n >= 1000000  ? g_strdup_printf("%.1f M", (double)n / 1e6)
                           : g_strdup_printf("%.1f k", (double)n / 1e3);
}

static void print_part(const json_t *o)
{
    const json_t *types = json_object_get(o, "types"), *n;
    const char *type;
    GString *list = g_string_new(NULL);
    json_object_foreach((json_t *)types, type, n)
        g_string_append_printf(list, "%s%s", list->len ? ", " : "", type);
    if (types) {
        char *p = millions(json_integer_value(json_object_get(o, "parameters")));
        char *b = g_format_size((guint64)json_integer_value(json_object_get(o, "bytes")));
        printf("  %-15s %5lld tensors  %9s parameters  %9s  %s\n", text_of(o, "part"),
               (long long)json_integer_value(json_object_get(o, "tensors")), p, b, list->str);
        g_free(p);
        g_free(b);
    } else {
        printf("  %-15s %s\n", text_of(o, "part"), text_of(o, "path"));
    }
    if (json_object_get(o, "problem"))
        printf("  %-15s %s\n", "", text_of(o, "problem"));
    g_string_free(list, TRUE);
}

static void print_inspection(const json_t *j)
{
    size_t i;
    json_t *o;
    printf("%s\n", text_of(j, "path"));
    if (json_object_get(j, "family"))
        printf("  %-15s %s\n", "family", text_of(j, "family"));
    if (json_object_get(j, "prediction"))
        printf("  %-15s %s\n", "prediction", text_of(j, "prediction"));
    json_array_foreach(json_object_get(j, "parts"), i, o) print_part(o);
    json_array_foreach(json_object_get(j, "missing"), i, o)
        printf("  %-15s missing; %s\n", text_of(o, "part"), text_of(o, "remedy"));
    if (json_is_true(json_object_get(j, "usable")))
        printf("  can be used by %s\n", text_of(j, "plugin"));
    else
        printf("  cannot be used as it is: %s\n", text_of(j, "reason"));
}

static int model_inspect(int argc, char **argv)
{
    gboolean json = FALSE;
    char *dir = NULL, *plugin = NULL;
    const GOptionEntry entries[] = {
        {"json", 0, 0, G_OPTION_ARG_NONE, &json, "Print JSON instead of lines", NULL},
        {"plugin", 'p', 0, G_OPTION_ARG_STRING, &plugin, "Ask this plugin alone", "ID"},
        {"plugin-dir", 0, 0, G_OPTION_ARG_FILENAME, &dir, "Look here first", "DIR"},
        {0}};
    const options o = {"FILE|FOLDER|NAME",
                       "What a model is, what it holds and lacks, and whether a plugin can use it. "
                       "Exits with 1\nwhen none can, as it is.",
                       1, 1, entries};
    if (!options_parse(&o, &argc, argv))
        return EXIT_USAGE;
    json_t *j = inspect(dir, plugin, argv[1]);
    if (j && json) {
        json_dumpf(j, stdout, JSON_INDENT(2));
        putchar('\n');
    } else if (j) {
        print_inspection(j);
    }
    int code = !j                                           ? EXIT_USAGE
               : json_is_true(json_object_get(j, "usable")) ? EXIT_GOOD
                                                            : EXIT_FAILED;
    json_decref(j);
    g_free(dir);
    g_free(plugin);
    return code;
}

/* ---- get ------------------------------------------------------------------------------------- */

typedef struct download {
    hub hub;
    const char *name;    /* of the repository */
    const char *shown;   /* of the file that comes now */
    char *to;            /* owned */
    gint64 start, again; /* monotonic: when it began, when to say more */
} download;

/* On a terminal, one line that is written over. */
static void say_progress(void *ctx, gint64 done, gint64 total)
{
    download *d = ctx;
    gint64 now = g_get_monotonic_time();
    if (!isatty(STDERR_FILENO) || now < d->again)
        return;
    d->again = now + 200000;
    char *is = g_format_size((guint64)done), *of = g_format_size((guint64)MAX(total, 0));
    fprintf(stderr, "\r\033[K%s  %s", d->shown, is);
    if (total > 0)
        fprintf(stderr, " of %s, %d %%", of, (int)(100 * done / total));
    fflush(stderr);
    g_free(is);
    g_free(of);
}

static int get_file(download *d, const hub_file *f, scope_error *err)
{
    char *url = hub_url(&d->hub, d->name, f->path);
    char *path = g_build_filename(d->to, f->path, NULL);
    const fetch_job job = {.url = url,
                           .token = d->hub.token,
                           .path = path,
                           .size = f->size,
                           .sha256 = f->sha256,
                           .blob = f->blob,
                           .progress = say_progress,
                           .ctx = d};
    d->shown = f->path;
    d->again = 0;
    int rc = fetch_file(&job, err);
    if (isatty(STDERR_FILENO))
        fputs("\r\033[K", stderr);
    if (rc >= 0)
        fprintf(stderr, "%s  %s\n", f->path,
                rc == FETCH_THERE        ? "is there already"
                : rc == FETCH_UNVERIFIED ? "done; the server told no hash to verify it by"
                                         : "done, verified");
    g_free(path);
    g_free(url);
    return rc < 0 ? rc : 0;
}

static int get_all(download *d, const GPtrArray *files, scope_error *err)
{
    for (guint i = 0; i < files->len; i++) {
        if (get_file(d, g_ptr_array_index(files, i), err))
            return err->status;
    }
    return 0;
}

/* One file of the repository, by its path; its hash is looked up. */
static int get_one(download *d, const char *path, scope_error *err)
{
    GPtrArray *all = hub_list(&d->hub, d->name, err);
    const hub_file *found = NULL;
    for (guint i = 0; all && i < all->len && !found; i++) {
        const hub_file *f = g_ptr_array_index(all, i);
        if (!strcmp(f->path, path))
            found = f;
    }
    if (all && !found)
        error_set(err, SCOPE_EIO, "", "%s holds no file %.100s", d->name, path);
    else if (found)
        get_file(d, found, err);
    if (all)
        g_ptr_array_unref(all);
    return err->status;
}

/* The single files that a repository offers, as the end of a sentence. */
static char *offered(const GPtrArray *all)
{
    GString *s = g_string_new(NULL);
    for (guint i = 0; i < all->len; i++) {
        const hub_file *f = g_ptr_array_index(all, i);
        if (g_str_has_suffix(f->path, ".safetensors") && s->len + strlen(f->path) < 90)
            g_string_append_printf(s, "%s%s", s->len ? ", " : "", f->path);
    }
    return g_string_free(s, FALSE);
}

static int get_folder(download *d, const char *variant, scope_error *err)
{
    GPtrArray *all = hub_list(&d->hub, d->name, err);
    if (!all)
        return err->status;
    GPtrArray *some = hub_choose(all, variant);
    if (some) {
        get_all(d, some, err);
        g_ptr_array_unref(some);
    } else {
        char *list = offered(all);
        error_set(err, SCOPE_EIO, "", "%.50s is no diffusers folder; name one file, %.50s:FILE%s%s",
                  d->name, d->name, *list ? ": " : ", of which it has none", list);
        g_free(list);
    }
    g_ptr_array_unref(all);
    return err->status;
}

/* CLIP's tokenizer, which single files lack, from the repository that all models took it from. */
static int get_tokenizer(download *d, scope_error *err)
{
    static const char *const names[] = {"vocab.json", "merges.txt"};
    for (int i = 0; i < 2; i++) {
        if (get_one(d, names[i], err))
            return err->status;
    }
    return 0;
}

static char *target(const char *to, const char *kind, const char *name)
{
    return to ? g_strdup(to) : g_build_filename(g_get_user_data_dir(), "scope", kind, name, NULL);
}

static int get(const char *base, const char *to, const char *variant, const char *name)
{
    const char *token = g_getenv("HF_TOKEN");
    char **pair = g_strsplit(name, ":", 2);
    gboolean tokenizer = !strcmp(name, "clip-tokenizer");
    char *server = g_strdup(base);
    scope_error err = {0};
    while (g_str_has_suffix(server, "/"))
        server[strlen(server) - 1] = '\0';
    download d = {.hub = {server, token && *token ? token : NULL},
                  .name = tokenizer ? "openai/clip-vit-large-patch14" : pair[0]};
    int code = EXIT_GOOD;
    if (!tokenizer && !hub_is_name(pair[0])) {
        code = complain(EXIT_USAGE,
                        "%s is no name of a model; write OWNER/NAME, OWNER/NAME:FILE or "
                        "clip-tokenizer",
                        name);
    } else {
        d.to = tokenizer ? target(to, "tokenizers", "clip") : target(to, "models", pair[0]);
        if (tokenizer ? get_tokenizer(&d, &err)
            : pair[1] ? get_one(&d, pair[1], &err)
                      : get_folder(&d, variant, &err))
            code = complain(EXIT_FAILED, "%s", err.text);
    }
    if (code == EXIT_GOOD)
        printf("%s%s%s\n", d.to, pair[0] && pair[1] ? "/" : "", pair[1] ? pair[1] : "");
    g_free(d.to);
    g_free(server);
    g_strfreev(pair);
    return code;
}

static int model_get(int argc, char **argv)
{
    char *to = NULL, *server = NULL, *variant = NULL;
    const GOptionEntry entries[] = {{"to", 0, 0, G_OPTION_ARG_FILENAME, &to,
                                     "Put it here (~/.local/share/scope/models/OWNER/NAME)", "DIR"},
                                    {"variant", 0, 0, G_OPTION_ARG_STRING, &variant,
                                     "Take these weights where there are several, such as fp16",
                                     "NAME"},
                                    {"hub", 0, 0, G_OPTION_ARG_STRING, &server,
                                     "Server to ask ($SCOPE_HUB, https://huggingface.co)", "URL"},
                                    {0}};
    const options o = {
        "OWNER/NAME[:FILE]|clip-tokenizer",
        "Download a model: what a plugin reads of a diffusers folder, or one file. What was begun\n"
        "is resumed, and what arrived is verified. A token goes into $HF_TOKEN. Prints the path,\n"
        "which --model takes; OWNER/NAME does, too.",
        1, 1, entries};
    if (!options_parse(&o, &argc, argv))
        return EXIT_USAGE;
    const char *set = g_getenv("SCOPE_HUB");
    int code = get(server        ? server
                   : set && *set ? set
                                 : "https://huggingface.co",
                   to, variant, argv[1]);
    g_free(to);
    g_free(server);
    g_free(variant);
    return code;
}

int command_model(int argc, char **argv)
{
    static char inspect_name[] = "model inspect", get_name[] = "model get";
    const char *sub = argc > 1 ? argv[1] : "";
    gboolean known = !strcmp(sub, "inspect") || !strcmp(sub, "get");
    if (known) {
        argv[1] = !strcmp(sub, "get") ? get_name : inspect_name;
        return argv[1] == get_name ? model_get(argc - 1, argv + 1)
                                   : model_inspect(argc - 1, argv + 1);
    }
    if (!strcmp(sub, "--help") || !strcmp(sub, "-h")) {
        puts("Usage:\n  scope model inspect FILE|FOLDER|NAME   what a model is, and what it lacks\n"
             "  scope model get OWNER/NAME[:FILE]      download one\n\n"
             "Each takes --help.");
        return EXIT_GOOD;
    }
    return complain(EXIT_USAGE, "say what to do: scope model inspect or scope model get");
}
