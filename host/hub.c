/* hub.c - see hub.h. Protocol: huggingface.co/docs/hub/api, "/api/models/{repo}?blobs=true". */
#include "hub.h"

#include "error.h"
#include "fetch.h"

#include <jansson.h>
#include <string.h>

static void file_free(void *p)
{
    hub_file *f = p;
    g_free(f->path);
    g_free(f->sha256);
    g_free(f->blob);
    g_free(f);
}

gboolean hub_is_name(const char *name)
{
    return g_regex_match_simple("^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$", name, 0,
                                0) &&
           !strstr(name, "..");
}

/* A path that stays inside its folder, whatever the server says. */
static gboolean is_inside(const char *path)
{
    if (!path || !*path || *path == '/' || strlen(path) > 512)
        return FALSE;
    for (const char *c = path; *c; c++) {
        if ((guchar)*c < 32 || *c == '\\')
            return FALSE;
    }
    char **part = g_strsplit(path, "/", -1);
    gboolean good = TRUE;
    for (char **p = part; *p; p++)
        good = good && **p && strcmp(*p, ".") && strcmp(*p, "..");
    g_strfreev(part);
    return good;
}

static void add_file(GPtrArray *files, const json_t *one)
{
    const char *path = json_string_value(json_object_get(one, "rfilename"));
    const json_t *lfs = json_object_get(one, "lfs"), *size = json_object_get(one, "size");
    const char *sha256 = json_string_value(json_object_get(lfs, "sha256"));
    if (!is_inside(path))
        return;
    hub_file *f = g_new0(hub_file, 1);
    f->path = g_strdup(path);
    f->size = json_is_integer(size) ? (gint64)json_integer_value(size) : -1;
    f->sha256 = g_strdup(sha256 ? sha256 : json_string_value(json_object_get(lfs, "oid")));
    if (!f->sha256)
        f->blob = g_strdup(json_string_value(json_object_get(one, "blobId")));
    g_ptr_array_add(files, f);
}

GPtrArray *hub_list(const hub *h, const char *name, scope_error *err)
{
    char *url = g_strdup_printf("%s/api/models/%s?blobs=true", h->base, name);
    char *text = fetch_text(url, h->token, err);
    GPtrArray *files = NULL;
    if (text) {
        json_t *root = json_loads(text, 0, NULL);
        const json_t *list = json_object_get(root, "siblings");
        if (json_is_array(list)) {
            files = g_ptr_array_new_with_free_func(file_free);
            for (size_t i = 0; i < json_array_size(list); i++)
                add_file(files, json_array_get(list, i));
        } else {
            error_set(err, SCOPE_EIO, "",
                      "%.120s is no list of files; is --hub a Hugging Face-style server?", url);
        }
        json_decref(root);
    }
    g_free(text);
    g_free(url);
    return files;
}

char *hub_url(const hub *h, const char *name, const char *path)
{
    char *escaped = g_uri_escape_string(path, "/", FALSE);
    char *url = g_strdup_printf("%s/%s/resolve/main/%s", h->base, name, escaped);
    g_free(escaped);
    return url;
}

/* ---- choosing -------------------------------------------------------------------------------- */

static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? g_strndup(path, (gsize)(slash - path)) : g_strdup("");
}

static gboolean has(const GPtrArray *all, const char *path)
{
    for (guint i = 0; i < all->len; i++) {
        if (!strcmp(((const hub_file *)g_ptr_array_index(all, i))->path, path))
            return TRUE;
    }
    return FALSE;
}

/* Is it weights under a name that the loader looks for? Then *stem and *variant ("" for plain). */
static gboolean is_weights(const char *path, char **stem, char **variant)
{
    static const char *const patterns[] = {
        "^(diffusion_pytorch_model|model)(?:\\.([A-Za-z0-9_]+))?(?:-\\d+-of-\\d+)?\\.safetensors$",
        "^(diffusion_pytorch_model|model)(?:\\.([A-Za-z0-9_]+))?\\.safetensors\\.index\\.json$",
        "^(diffusion_pytorch_model|model)\\.safetensors\\.index\\.([A-Za-z0-9_]+)\\.json$"};
    const char *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    gboolean found = FALSE;
    for (int i = 0; i < 3 && !found; i++) {
        GRegex *r = g_regex_new(patterns[i], 0, 0, NULL);
        GMatchInfo *m;
        if ((found = g_regex_match(r, base, 0, &m))) {
            *stem = g_match_info_fetch(m, 1);
            char *v = g_match_info_fetch(m, 2);
            *variant = v ? v : g_strdup("");
        }
        g_match_info_free(m);
        g_regex_unref(r);
    }
    return found;
}

/* Which is better of the sets that a folder has: lower is. */
static int rank(const char *stem, const char *variant, const char *wanted)
{
    int by_variant = wanted && !strcmp(variant, wanted) ? 0
                     : !*variant                        ? 1
                     : !strcmp(variant, "fp16")         ? 2
                     : !strcmp(variant, "bf16")         ? 3
                                                        : 100; /* non_ema: nobody looks for it */
    return 2 * by_variant + !strcmp(stem, "model");
}

/* The rank of a path among the weights of `folder`; -1 when it is none of them. */
static int rank_of(const hub_file *f, const char *folder, const char *wanted)
{
    char *stem = NULL, *variant = NULL, *in = folder_of(f->path);
    int r = -1;
    if (!strcmp(in, folder) && is_weights(f->path, &stem, &variant))
        r = rank(stem, variant, wanted);
    g_free(stem);
    g_free(variant);
    g_free(in);
    return r < 200 ? r : -1;
}

/* Configs and tokenizer of `folder`, and its best set of weights. */
static int choose_in(const GPtrArray *all, const char *folder, const char *variant, GPtrArray *out)
{
    int best = -1;
    for (guint i = 0; i < all->len; i++) {
        int r = rank_of(g_ptr_array_index(all, i), folder, variant);
        if (r >= 0 && (best < 0 || r < best))
            best = r;
    }
    for (guint i = 0; i < all->len; i++) {
        hub_file *f = g_ptr_array_index(all, i);
        char *in = folder_of(f->path), *base = g_path_get_basename(f->path);
        int r = rank_of(f, folder, variant);
        gboolean words = g_str_has_suffix(base, ".json") && !strstr(base, ".safetensors.index");
        if (!strcmp(in, folder) && (r >= 0 ? r == best : words || !strcmp(base, "merges.txt")))
            g_ptr_array_add(out, f);
        g_free(in);
        g_free(base);
    }
    return best;
}

GPtrArray *hub_choose(const GPtrArray *all, const char *variant)
{
    static const char *const folders[] = {"scheduler",      "tokenizer", "tokenizer_2",
                                          "text_encoder",   "unet",      "vae",
                                          "text_encoder_2", "taesd",     "vae_tiny"};
    GPtrArray *out = g_ptr_array_new();
    gboolean whole = has(all, "model_index.json");
    int weights = -1;
    if (!whole) {
        weights = choose_in(all, "", variant, out);
    } else {
        for (guint i = 0; i < all->len; i++) {
            hub_file *f = g_ptr_array_index(all, i);
            if (!strcmp(f->path, "model_index.json"))
                g_ptr_array_add(out, f);
        }
        for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
            weights = MAX(weights, choose_in(all, folders[i], variant, out));
    }
    if (weights >= 0)
        return out;
    g_ptr_array_unref(out);
    return NULL;
}
