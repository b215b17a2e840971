/* weights_files.c - see weights_files.h. */
#include "weights_files.h"

#include <dirent.h>
#include <jansson.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH = 4096 };

static int exists(const char *path)
{
    return access(path, F_OK) == 0;
}

static int add_file(weights_files *f, const char *path, int role, const char *label,
                    scope_error *err)
{
    char why[256];
    if (f->count == WEIGHTS_MAX_FILES)
        return scope_fail(err, SCOPE_EIO, "%s: more than %d shards; merge them", label,
                          WEIGHTS_MAX_FILES);
    st_file *file = st_open(path, why);
    if (!file)
        return scope_fail(err, SCOPE_EIO, "%.190s", why);
    if (role == WEIGHTS_PLAIN && st_find(file, "embeddings.token_embedding.weight"))
        role = WEIGHTS_BARE_CLIP;
    f->file[f->count] = file;
    f->role[f->count++] = role;
    return 0;
}

/* ---- shards -------------------------------------------------------------------------------- */

/* Open the shard unless an earlier name did; -1 on failure, else its place. */
static int shard(weights_files *f, const char **opened, const char *dir, const char *name,
                 const char *label, scope_error *err)
{
    char path[PATH];
    for (int i = 0; i < f->count; i++) {
        if (!strcmp(opened[i], name))
            return i;
    }
    if (!*name || strchr(name, '/')) {
        scope_fail(err, SCOPE_EIO,
                   "%s: the index names the shard \"%.60s\", which is no file of the "
                   "folder",
                   label, name);
        return -1;
    }
    if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path ||
        add_file(f, path, WEIGHTS_PLAIN, label, err)) {
        if (!err->status)
            scope_fail(err, SCOPE_EIO, "%s: the path of shard %.60s is too long", label, name);
        return -1;
    }
    opened[f->count - 1] = name;
    return f->count - 1;
}

static int read_map(weights_files *f, const json_t *map, const char *dir, const char *label,
                    scope_error *err)
{
    const char *opened[WEIGHTS_MAX_FILES], *tensor;
    json_t *value;
    if (!json_is_object(map) || !json_object_size(map))
        return scope_fail(err, SCOPE_EIO, "%s: the index has no weight_map; download it again",
                          label);
    json_object_foreach((json_t *)map, tensor, value)
    {
        if (!json_is_string(value))
            return scope_fail(err, SCOPE_EIO, "%s: the index names no shard for %.80s", label,
                              tensor);
        int at = shard(f, opened, dir, json_string_value(value), label, err);
        if (at < 0)
            return err->status;
        if (!st_find(f->file[at], tensor))
            return scope_fail(err, SCOPE_EIO,
                              "%s: shard %.50s lacks %.60s, which the index places "
                              "there",
                              label, json_string_value(value), tensor);
    }
    /* a bare text encoder shows in the shard with its tokens only, and concerns them all */
    int bare = 0;
    for (int i = 0; i < f->count; i++)
        bare |= f->role[i] == WEIGHTS_BARE_CLIP;
    for (int i = 0; i < f->count && bare; i++)
        f->role[i] = WEIGHTS_BARE_CLIP;
    return 0;
}

static int open_index(weights_files *f, const char *path, const char *dir, const char *label,
                      scope_error *err)
{
    json_error_t e;
    json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &e);
    if (!root)
        return scope_fail(err, SCOPE_EIO, "%s: the shard index cannot be read: %.100s", label,
                          e.text);
    int rc = read_map(f, json_object_get(root, "weight_map"), dir, label, err);
    json_decref(root);
    return rc;
}

/* ---- the folder ---------------------------------------------------------------------------- */

/* Nothing fits: say what is there instead. */
static int nothing(const char *dir, const char *label, scope_error *err)
{
    static const char *const pickles[] = {".bin", ".ckpt", ".pt", ".pth"};
    char found[80] = "";
    DIR *d = opendir(dir);
    if (!d)
        return scope_fail(err, SCOPE_EIO,
                          "%s: there is no folder %s%.110s; give a folder in diffusers "
                          "layout",
                          label, strlen(dir) > 110 ? "..." : "",
                          strlen(dir) > 110 ? dir + strlen(dir) - 110 : dir);
    for (struct dirent *e; (e = readdir(d));) {
        const char *dot = strrchr(e->d_name, '.');
        for (int i = 0; dot && i < 4; i++) {
            if (!strcmp(dot, pickles[i]))
                snprintf(found, sizeof found, "%.70s", e->d_name);
        }
    }
    closedir(d);
    if (*found)
        return scope_fail(err, SCOPE_EIO,
                          "%s: %.60s is a pickle, which is not read; convert it: "
                          "diffusers' save_pretrained(safe_serialization=True)",
                          label, found);
    return scope_fail(err, SCOPE_EIO,
                      "%s: the folder holds no .safetensors of diffusers' or "
                      "transformers' name; download it again",
                      label);
}

/* One stem and variant, alone or in shards; 1 when neither exists. */
static int open_stem(weights_files *f, const char *dir, const char *stem, const char *variant,
                     const char *label, scope_error *err)
{
    char path[PATH];
    snprintf(path, sizeof path, "%s/%s%s.safetensors", dir, stem, variant);
    if (exists(path))
        return add_file(f, path, WEIGHTS_PLAIN, label, err);
    snprintf(path, sizeof path, "%s/%s.safetensors.index%s.json", dir, stem, variant);
    if (exists(path))
        return open_index(f, path, dir, label, err);
    snprintf(path, sizeof path, "%s/%s%s.safetensors.index.json", dir, stem, variant);
    return exists(path) ? open_index(f, path, dir, label, err) : 1;
}

static int open_any(weights_files *f, const char *dir, const char *label, scope_error *err)
{
    static const char *const variants[] = {"", ".fp16", ".bf16"};
    static const char *const stems[] = {"diffusion_pytorch_model", "model"};
    char encoder[PATH], decoder[PATH];
    for (int v = 0; v < 3; v++) {
        for (int s = 0; s < 2; s++) {
            int rc = open_stem(f, dir, stems[s], variants[v], label, err);
            if (rc <= 0)
                return rc;
        }
    }
    snprintf(encoder, sizeof encoder, "%s/taesd_encoder.safetensors", dir);
    snprintf(decoder, sizeof decoder, "%s/taesd_decoder.safetensors", dir);
    if (!exists(encoder) && !exists(decoder))
        return nothing(dir, label, err);
    if (add_file(f, encoder, WEIGHTS_TAESD_ENCODER, label, err))
        return err->status;
    return add_file(f, decoder, WEIGHTS_TAESD_DECODER, label, err);
}

int weights_files_open(weights_files *f, const char *dir, const char *label, scope_error *err)
{
    memset(f, 0, sizeof *f);
    memset(err, 0, sizeof *err);
    if (strlen(dir) > PATH - 100)
        return scope_fail(err, SCOPE_EIO, "%s: the path of the folder is too long", label);
    if (!open_any(f, dir, label, err))
        return 0;
    weights_files_close(f);
    return err->status;
}

void weights_files_close(weights_files *f)
{
    while (f->count)
        st_close(f->file[--f->count]);
}
