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

/* ---- one file ------------------------------------------------------------------------------ */

/* The other of taesd_encoder.safetensors and taesd_decoder.safetensors, by the path of one. */
static int open_partner(weights_files *f, const char *path, const char *label, scope_error *err)
{
    static const char *const sides[] = {"encoder", "decoder"};
    int is = f->role[0] == WEIGHTS_TAESD_DECODER;
    char other[PATH];
    const char *base = strrchr(path, '/'), *at = NULL;
    for (const char *s = base ? base : path; (s = strstr(s, sides[is])); s++)
        at = s;
    if (!at)
        return scope_fail(err, SCOPE_EIO,
                          "%s: the file is the %s alone; name it taesd_%s.safetensors and put "
                          "taesd_%s.safetensors beside it",
                          label, sides[is], sides[is], sides[!is]);
    snprintf(other, sizeof other, "%.*s%s%s", (int)(at - path), path, sides[!is],
             at + strlen(sides[is]));
    return add_file(f, other, is ? WEIGHTS_TAESD_ENCODER : WEIGHTS_TAESD_DECODER, label, err);
}

static int open_taesd_file(weights_files *f, const char *path, const char *label, scope_error *err)
{
    const st_file *file = f->file[0];
    if (st_find(file, "encoder.0.weight") || st_find(file, "decoder.1.weight"))
        f->role[0] = WEIGHTS_TAESD_PAIR;
    else if (st_find(file, "1.conv.0.weight"))
        f->role[0] = WEIGHTS_TAESD_ENCODER;
    else if (st_find(file, "3.conv.0.weight"))
        f->role[0] = WEIGHTS_TAESD_DECODER;
    else
        return 0;
    return f->role[0] == WEIGHTS_TAESD_PAIR ? 0 : open_partner(f, path, label, err);
}

static int open_file(weights_files *f, const char *path, const char *label, scope_error *err)
{
    int part = ldm_part_of(label);
    if (add_file(f, path, WEIGHTS_PLAIN, label, err))
        return err->status;
    if (!part)
        return open_taesd_file(f, path, label, err);
    f->role[0] = WEIGHTS_SINGLE;
    if (ldm_init(&f->single, f->file[0], part))
        return 0;
    return scope_fail(err, SCOPE_EIO, "%s: the file %.80s holds none", label,
                      strrchr(path, '/') ? strrchr(path, '/') + 1 : path);
}

int weights_files_open(weights_files *f, const char *path, const char *label, scope_error *err)
{
    struct stat s;
    memset(f, 0, sizeof *f);
    memset(err, 0, sizeof *err);
    if (strlen(path) > PATH - 100)
        return scope_fail(err, SCOPE_EIO, "%s: the path of the folder is too long", label);
    int file = !stat(path, &s) && S_ISREG(s.st_mode);
    if (!(file ? open_file(f, path, label, err) : open_any(f, path, label, err)))
        return 0;
    weights_files_close(f);
    return err->status;
}

void weights_files_close(weights_files *f)
{
    while (f->count)
        st_close(f->file[--f->count]);
}
