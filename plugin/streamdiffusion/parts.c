/* parts.c - see parts.h. */
#include "parts.h"

#include "alloc.h"
#include "checkpoint.h"
#include "config_shapes.h"
#include "kernels/kernels.h"
#include "places.h"

#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct {
    const char *field, *remedy;
} fields[ASKED] = {
    [ASKED_MODEL] = {"model_id_or_path",
                     "Get a model: scope model get stabilityai/sd-turbo, or give a .safetensors "
                     "file."},
    [ASKED_TAESD] = {"taesd_path",
                     "Get one: scope model get madebyollin/taesd, or leave this field empty."},
    [ASKED_VAE] = {"vae_path", "Leave this field empty for the model's own autoencoder."},
    [ASKED_TEXT] = {"text_encoder_path", "Leave this field empty for the model's own."},
    [ASKED_UNET] = {"unet_path", "Leave this field empty for the model's own UNet."},
    [ASKED_TOKENIZER] = {"tokenizer_path", "Get one: scope model get clip-tokenizer."},
};

const char *parts_field(int asked)
{
    return fields[asked].field;
}

const char *parts_label(int part)
{
    static const char *const labels[PARTS] = {[PART_UNET] = "unet",
                                              [PART_TEXT] = "text_encoder",
                                              [PART_TEXT_2] = "text_encoder_2",
                                              [PART_VAE] = "vae",
                                              [PART_TAESD] = "taesd",
                                              [PART_TOKENIZER] = "tokenizer",
                                              [PART_TOKENIZER_2] = "tokenizer_2"};
    return labels[part];
}

int parts_ask(parts *p, const char *const path[ASKED], scope_error *err)
{
    memset(p, 0, sizeof *p);
    memset(err, 0, sizeof *err);
    p->pad = -1;
    for (int i = 0; i < ASKED; i++) {
        const char *given = path[i] ? path[i] : "";
        if (!given[0] && i != ASKED_MODEL) {
            if (!(p->asked[i] = sd_strdup("")))
                return scope_fail(err, SCOPE_ENOMEM, "Out of memory while loading a model.");
            continue;
        }
        p->asked[i] = i == ASKED_MODEL ? places_model(given) : places_find(given);
        if (!p->asked[i])
            return scope_fail_field(err, SCOPE_EIO, fields[i].field,
                                    "There is no file or folder \"%.60s\". %s", given,
                                    fields[i].remedy);
    }
    return 0;
}

int parts_same(const parts *a, const parts *b)
{
    for (int i = 0; i < ASKED; i++) {
        if (strcmp(a->asked[i], b->asked[i]))
            return 0;
    }
    return a->prediction == b->prediction;
}

void parts_fini(parts *p)
{
    for (int i = 0; i < ASKED; i++)
        free(p->asked[i]);
    for (int i = 0; i < PARTS; i++)
        free(p->at[i]);
    memset(p, 0, sizeof *p);
}

static int is_file(const char *path)
{
    struct stat s;
    return !stat(path, &s) && S_ISREG(s.st_mode);
}

/* The part lies at `path`, or in its folder `sub`. */
static int place(parts *p, int part, const char *path, const char *sub, scope_error *err)
{
    char full[PATH_MAX];
    if (snprintf(full, sizeof full, "%s%s%s", path, sub ? "/" : "", sub ? sub : "") >= PATH_MAX)
        return scope_fail(err, SCOPE_EIO, "%s: its path is too long", parts_label(part));
    free(p->at[part]);
    if ((p->at[part] = sd_strdup(full)))
        return 0;
    return scope_fail(err, SCOPE_ENOMEM, "Out of memory while loading a model.");
}

/* The second tokenizer, which is there to say how it pads: in the folder `dir`, if there is one. */
static int second_tokenizer(parts *p, const char *dir, scope_error *err)
{
    if (place(p, PART_TOKENIZER_2, dir, "tokenizer_2", err))
        return err->status;
    if (access(p->at[PART_TOKENIZER_2], F_OK)) {
        free(p->at[PART_TOKENIZER_2]);
        p->at[PART_TOKENIZER_2] = NULL;
    }
    return 0;
}

static int from_folder(parts *p, model_config *c, scope_error *err)
{
    const char *dir = p->asked[ASKED_MODEL];
    if (config_read(c, dir, err) || place(p, PART_UNET, dir, "unet", err) ||
        place(p, PART_TEXT, dir, "text_encoder", err) ||
        place(p, PART_TOKENIZER, dir, "tokenizer", err))
        return err->status;
    if (c->has_text_2 &&
        (place(p, PART_TEXT_2, dir, "text_encoder_2", err) || second_tokenizer(p, dir, err)))
        return err->status;
    if (c->has_vae && place(p, PART_VAE, dir, "vae", err))
        return err->status;
    return c->has_taesd ? place(p, PART_TAESD, dir, c->taesd_dir, err) : 0;
}

static int from_file(parts *p, model_config *c, scope_error *err)
{
    char dir[PATH_MAX];
    const char *file = p->asked[ASKED_MODEL];
    if (checkpoint_config(c, file, err) || place(p, PART_UNET, file, NULL, err))
        return err->status;
    if (c->text.width && place(p, PART_TEXT, file, NULL, err))
        return err->status;
    if (c->has_text_2) {
        const char *slash = strrchr(file, '/'); /* of a real path */
        snprintf(dir, sizeof dir, "%.*s", (int)(slash - file), file);
        if (place(p, PART_TEXT_2, file, NULL, err) || second_tokenizer(p, dir, err))
            return err->status;
    }
    if (c->has_vae && place(p, PART_VAE, file, NULL, err))
        return err->status;
    char *tokens = places_tokenizer(file);
    if (tokens)
        p->at[PART_TOKENIZER] = tokens;
    return 0;
}

/* ---- parts of their own ---------------------------------------------------------------------- */

/* The config of a part that was asked for: its folder's, or its tensors'. */
static int config_of(model_config *c, int part, const char *path, scope_error *err)
{
    char config[PATH_MAX];
    weights_index x;
    snprintf(config, sizeof config, "%.4000s/config.json", path);
    if (!access(config, F_OK)) {
        return part == PART_UNET   ? config_read_unet(&c->unet, path, err)
               : part == PART_TEXT ? config_read_clip(&c->text, path, err)
               : part == PART_VAE  ? config_read_vae(&c->vae, path, err)
                                   : config_read_taesd(&c->taesd, path, err);
    }
    if (weights_index_open(&x, path, parts_label(part), err))
        return err->status;
    if (part == PART_UNET)
        config_shape_unet(&c->unet, &x, err);
    else if (part == PART_TEXT)
        config_shape_clip(&c->text, &x, err);
    else if (part == PART_VAE)
        config_shape_vae(&c->vae, &x, err);
    else
        config_shape_taesd(&c->taesd, &x, err);
    if (part == PART_VAE && c->unet.text_time)
        c->vae.scaling_factor = 0.13025f;
    weights_index_close(&x);
    return err->status;
}

static int stand_in(parts *p, model_config *c, scope_error *err)
{
    static const int own[][2] = {{ASKED_UNET, PART_UNET},
                                 {ASKED_TEXT, PART_TEXT},
                                 {ASKED_VAE, PART_VAE},
                                 {ASKED_TAESD, PART_TAESD}};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
        const char *path = p->asked[own[i][0]];
        if (!path[0])
            continue;
        if (config_of(c, own[i][1], path, err) || place(p, own[i][1], path, NULL, err)) {
            snprintf(err->field, sizeof err->field, "%s", parts_field(own[i][0]));
            return err->status;
        }
        c->text.projection = 0; /* nothing reads the first encoder's pooled text */
        c->has_vae |= own[i][1] == PART_VAE;
        c->has_taesd |= own[i][1] == PART_TAESD;
    }
    return p->asked[ASKED_TOKENIZER][0]
               ? place(p, PART_TOKENIZER, p->asked[ASKED_TOKENIZER], NULL, err)
               : 0;
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* The parts that no model runs without. */
static int complete(const parts *p, const model_config *c, unsigned *lenient, scope_error *err)
{
    static const struct {
        int part;
        const char *field, *why;
    } needed[] = {
        {PART_TEXT, "text_encoder_path",
         "The model brings no text encoder; give the one it was trained with."},
        {PART_TEXT_2, "model_id_or_path",
         "SDXL has two text encoders, and the model brings one; give a checkpoint with both."},
        {PART_VAE, "vae_path",
         "The model brings no autoencoder; give one as vae_path or taesd_path (scope model get "
         "stabilityai/sd-vae-ft-mse)."},
        {PART_TOKENIZER, "tokenizer_path",
         "A single file brings no tokenizer; get it once: scope model get clip-tokenizer, or give "
         "its folder."},
    };
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
        int part = needed[i].part;
        if (p->at[part] || (part == PART_VAE && p->at[PART_TAESD]) ||
            (part == PART_TEXT_2 && !c->unet.text_time))
            continue;
        if (!lenient)
            return scope_fail_field(err, SCOPE_EIO, needed[i].field, "%s", needed[i].why);
        *lenient |= 1u << part;
    }
    return 0;
}

int parts_find(parts *p, model_config *c, unsigned *lenient, scope_error *err)
{
    int file = is_file(p->asked[ASKED_MODEL]);
    memset(err, 0, sizeof *err);
    if (file ? from_file(p, c, err) : from_folder(p, c, err))
        return err->status;
    if (stand_in(p, c, err) || complete(p, c, lenient, err))
        return err->status;
    if (file && !c->has_text_2 && c->text.act == K_GELU)
        p->pad = 0; /* SD 2 pads with "!", which the tokenizer that models share does not know */
    if (p->prediction)
        c->scheduler.prediction = p->prediction;
    int texts = p->at[PART_TEXT] && (p->at[PART_TEXT_2] || !c->unet.text_time);
    return texts ? config_supported(c, err) : 0;
}
