/* config_model.c - the folder as a whole: model_index.json, which networks there are, and whether
 * they fit each other and this plugin. See config.h. */
#include "config.h"
#include "config_json.h"

#include <strings.h>
#include <unistd.h>

static const char supported[] = "this plugin loads SD 1.x, 2.x, SDXL, Turbo and LCM";

enum family { FAMILY_SD = 1, FAMILY_SDXL };

static const struct {
    const char *name;
    int family;
} pipelines[] = {
    {"StableDiffusionPipeline", FAMILY_SD},
    {"StableDiffusionImg2ImgPipeline", FAMILY_SD},
    {"StableDiffusionControlNetPipeline", FAMILY_SD},
    {"StableDiffusionControlNetImg2ImgPipeline", FAMILY_SD},
    {"LatentConsistencyModelPipeline", FAMILY_SD},
    {"LatentConsistencyModelImg2ImgPipeline", FAMILY_SD},
    {"StableDiffusionXLPipeline", FAMILY_SDXL},
    {"StableDiffusionXLImg2ImgPipeline", FAMILY_SDXL},
    {"StableDiffusionXLControlNetPipeline", FAMILY_SDXL},
    {"StableDiffusionXLControlNetImg2ImgPipeline", FAMILY_SDXL},
};

static int family_of(const char *pipeline)
{
    for (size_t i = 0; i < sizeof pipelines / sizeof *pipelines; i++) {
        if (!strcmp(pipelines[i].name, pipeline))
            return pipelines[i].family;
    }
    return 0;
}

/* "unet": ["diffusers", "UNet2DConditionModel"] -> the class; NULL when absent or [null, null]. */
static const char *component(config_file *f, const char *name)
{
    const json_t *v = json_object_get(f->root, name);
    const json_t *class = json_array_get(v, 1);
    if (v && !json_is_null(v) &&
        (json_array_size(v) != 2 || !(json_is_string(class) || json_is_null(class))))
        config_note(f, "%s must be [library, class]", name);
    return json_string_value(class);
}

static void need(config_file *f, const char *name, const char *class, const char *also)
{
    const char *is = component(f, name);
    if (!is)
        config_note(f, "the pipeline has no %s; %s", name, supported);
    else if (strcmp(is, class) && !(also && !strcmp(is, also)))
        config_note(f, "unsupported architecture: %s %.50s; %s", name, is, supported);
}

/* What SDXL's index says besides. The refiner is a network of its own: one encoder, a score. */
static void read_index_xl(model_config *c, config_file *f)
{
    if (config_bool(f, "requires_aesthetics_score", 0))
        config_note(f, "an SDXL refiner is not supported; give the base model's folder");
    need(f, "text_encoder_2", "CLIPTextModelWithProjection", NULL);
    c->has_text_2 = 1;
    c->zero_empty = config_bool(f, "force_zeros_for_empty_prompt", 1);
}

/* Which networks the folder has, by model_index.json. */
static int read_index(model_config *c, const char *dir, scope_error *err)
{
    config_file f;
    if (config_open(&f, dir, "model_index.json", err))
        return config_close(&f);
    const char *pipeline = config_text(&f, "_class_name");
    if (!pipeline || !family_of(pipeline))
        config_note(&f, "unsupported architecture: %.50s; %s",
                    pipeline ? pipeline : "no _class_name", supported);
    snprintf(c->pipeline, sizeof c->pipeline, "%s", pipeline ? pipeline : "");
    if (pipeline && family_of(pipeline) == FAMILY_SDXL)
        read_index_xl(c, &f);
    need(&f, "unet", "UNet2DConditionModel", NULL);
    need(&f, "text_encoder", "CLIPTextModel", "CLIPTextModelWithProjection");
    need(&f, "vae", "AutoencoderKL", "AutoencoderTiny");
    const char *vae = component(&f, "vae");
    c->has_vae = vae && !strcmp(vae, "AutoencoderKL");
    c->has_taesd = vae && !strcmp(vae, "AutoencoderTiny");
    if (c->has_taesd)
        snprintf(c->taesd_dir, sizeof c->taesd_dir, "vae");
    return config_close(&f);
}

static const char *join(char out[4096], const char *dir, const char *name)
{
    snprintf(out, 4096, "%.4000s/%s", dir, name);
    return out;
}

/* An AutoencoderTiny that lies beside the checkpoint's own autoencoder. */
static void look_for_taesd(model_config *c, const char *dir)
{
    static const char *const names[] = {"taesd", "vae_tiny"};
    char path[4096];
    for (int i = 0; i < 2 && !c->has_taesd; i++) {
        if (!access(join(path, dir, names[i]), F_OK)) {
            c->has_taesd = 1;
            snprintf(c->taesd_dir, sizeof c->taesd_dir, "%s", names[i]);
        }
    }
}

int config_read(model_config *c, const char *dir, scope_error *err)
{
    char path[4096];
    memset(c, 0, sizeof *c);
    if (read_index(c, dir, err))
        return err->status;
    look_for_taesd(c, dir);
    if (config_read_unet(&c->unet, join(path, dir, "unet"), err) ||
        config_read_clip(&c->text, join(path, dir, "text_encoder"), err) ||
        (c->has_text_2 && config_read_clip(&c->text_2, join(path, dir, "text_encoder_2"), err)) ||
        (c->has_vae && config_read_vae(&c->vae, join(path, dir, "vae"), err)) ||
        (c->has_taesd && config_read_taesd(&c->taesd, join(path, dir, c->taesd_dir), err)) ||
        config_read_scheduler(&c->scheduler, join(path, dir, "scheduler"), err))
        return err->status;
    c->text.projection = 0; /* nothing reads the first encoder's pooled text */
    return config_supported(c, err);
}

/* An autoencoder's side of the bargain: RGB, eight pixels to a latent, the UNet's channels. */
static int check_autoencoder(const char *name, int in, int out, int latent, int blocks,
                             const unet_config *u, scope_error *err)
{
    if (in != 3 || out != 3)
        return scope_fail(err, SCOPE_EIO,
                          "%s: %d input and %d output channels; only RGB (3) is "
                          "supported",
                          name, in, out);
    if (blocks != 4)
        return scope_fail(err, SCOPE_EIO,
                          "%s: %d blocks; only 4 (8 pixels to a latent) are supported", name,
                          blocks);
    if (latent != u->out_channels)
        return scope_fail(err, SCOPE_EIO,
                          "%s has %d latent channels and the unet %d; they are not of "
                          "one checkpoint",
                          name, latent, u->out_channels);
    return 0;
}

/* Do the text encoders make what the UNet attends to? */
static int check_text(const model_config *c, scope_error *err)
{
    int width = c->text.width + (c->has_text_2 ? c->text_2.width : 0);
    if (c->has_text_2 != c->unet.text_time)
        return scope_fail(err, SCOPE_EIO,
                          "%s with a unet whose addition_embed_type is %s: they are not of one "
                          "checkpoint",
                          c->pipeline, c->unet.text_time ? "text_time" : "null");
    if (width != c->unet.cross_attention_dim)
        return scope_fail(err, SCOPE_EIO,
                          "the text encoder%s %d wide and the unet's "
                          "cross_attention_dim %d; they are not of one checkpoint",
                          c->has_text_2 ? "s are together" : " is", width,
                          c->unet.cross_attention_dim);
    if (c->has_text_2 && c->text.vocab_size != c->text_2.vocab_size)
        return scope_fail(err, SCOPE_EIO,
                          "the text encoders have %d and %d tokens; they are not of one checkpoint",
                          c->text.vocab_size, c->text_2.vocab_size);
    if (c->has_text_2 && (c->text.layers < 2 || c->text_2.layers < 2))
        return scope_fail(err, SCOPE_EIO,
                          "SDXL reads the text encoders' last layer but one, and "
                          "one of them has a single layer");
    return 0;
}

/* SDXL's added embedding takes the second encoder's pooled text and six sizes. */
static int check_added(const model_config *c, scope_error *err)
{
    const unet_config *u = &c->unet;
    int sizes = 6 * u->addition_time_embed_dim;
    if (!c->text_2.projection)
        return scope_fail(err, SCOPE_EIO,
                          "text_encoder_2 has no projection; it must be a "
                          "CLIPTextModelWithProjection");
    if (u->addition_input_dim != c->text_2.projection + sizes)
        return scope_fail(err, SCOPE_EIO,
                          "projection_class_embeddings_input_dim is %d, and the pooled text has %d "
                          "numbers and the sizes %d; they are not of one checkpoint",
                          u->addition_input_dim, c->text_2.projection, sizes);
    if (u->addition_time_embed_dim % 2)
        return scope_fail(err, SCOPE_EIO, "addition_time_embed_dim is %d; it must be even",
                          u->addition_time_embed_dim);
    return 0;
}

/* The family that a TAESD's name speaks of, 0 for none. */
static int taesd_family(const char *name)
{
    int family = 0;
    for (; (name = strcasestr(name, "taesd")); name += 5) /* the last word counts */
        family = strncasecmp(name + 5, "xl", 2) ? FAMILY_SD : FAMILY_SDXL;
    return family;
}

int config_taesd_is_foreign(const model_config *c, const char *dir)
{
    int family = taesd_family(c->taesd.origin);
    if (!family)
        family = taesd_family(dir);
    return family && family != (c->unet.text_time ? FAMILY_SDXL : FAMILY_SD);
}

int config_supported(const model_config *c, scope_error *err)
{
    const unet_config *u = &c->unet;
    memset(err, 0, sizeof *err);
    if (u->in_channels != u->out_channels)
        return scope_fail(err, SCOPE_EIO, "unet: %d input channels for %d output channels%s; %s",
                          u->in_channels, u->out_channels,
                          u->in_channels == 9 ? ": an inpainting checkpoint" : "", supported);
    if (check_text(c, err) || (u->text_time && check_added(c, err)))
        return err->status;
    if (c->has_vae && check_autoencoder("vae", c->vae.in_channels, c->vae.out_channels,
                                        c->vae.latent_channels, c->vae.blocks, u, err))
        return err->status;
    if (c->has_taesd && check_autoencoder("taesd", c->taesd.in_channels, c->taesd.out_channels,
                                          c->taesd.latent_channels, c->taesd.stages, u, err))
        return err->status;
    return 0;
}
