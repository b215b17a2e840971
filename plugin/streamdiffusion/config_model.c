/* config_model.c - the folder as a whole: model_index.json, which networks there are, and whether
 * they fit each other and this plugin. See config.h. */
#include "config.h"
#include "config_json.h"

#include <unistd.h>

static const char supported[] = "this plugin loads SD 1.x, 2.x, Turbo and LCM";

enum family { FAMILY_SD = 1, FAMILY_SDXL };

static const struct {
    const char *name;
    int family;
} pipelines[] = {
    {"StableDiffusionPipeline", FAMILY_SD},
    {"StableDiffusionImg2ImgPipeline", FAMILY_SD},
    {"StableDiffusionControlNetPipeline", FAMILY_SD},
    {"LatentConsistencyModelPipeline", FAMILY_SD},
    {"LatentConsistencyModelImg2ImgPipeline", FAMILY_SD},
    {"StableDiffusionXLPipeline", FAMILY_SDXL},
    {"StableDiffusionXLImg2ImgPipeline", FAMILY_SDXL},
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
        (c->has_vae && config_read_vae(&c->vae, join(path, dir, "vae"), err)) ||
        (c->has_taesd && config_read_taesd(&c->taesd, join(path, dir, c->taesd_dir), err)) ||
        config_read_scheduler(&c->scheduler, join(path, dir, "scheduler"), err))
        return err->status;
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

int config_supported(const model_config *c, scope_error *err)
{
    const unet_config *u = &c->unet;
    memset(err, 0, sizeof *err);
    if (family_of(c->pipeline) == FAMILY_SDXL || u->text_time)
        return scope_fail(err, SCOPE_EIO, "unsupported architecture: SDXL (%s); %s", c->pipeline,
                          supported);
    if (u->in_channels != u->out_channels)
        return scope_fail(err, SCOPE_EIO, "unet: %d input channels for %d output channels%s; %s",
                          u->in_channels, u->out_channels,
                          u->in_channels == 9 ? ": an inpainting checkpoint" : "", supported);
    if (c->text.width != u->cross_attention_dim)
        return scope_fail(err, SCOPE_EIO,
                          "the text encoder is %d wide and the unet's "
                          "cross_attention_dim %d; they are not of one checkpoint",
                          c->text.width, u->cross_attention_dim);
    if (c->has_vae && check_autoencoder("vae", c->vae.in_channels, c->vae.out_channels,
                                        c->vae.latent_channels, c->vae.blocks, u, err))
        return err->status;
    if (c->has_taesd && check_autoencoder("taesd", c->taesd.in_channels, c->taesd.out_channels,
                                          c->taesd.latent_channels, c->taesd.stages, u, err))
        return err->status;
    return 0;
}
