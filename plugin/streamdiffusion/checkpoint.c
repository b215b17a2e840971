/* checkpoint.c - see checkpoint.h. */
#include "checkpoint.h"

#include "config_shapes.h"
#include "ldm.h"

/* What is recognised by a piece, or two pieces, of some tensor's name. The first match counts, so
 * the special stand before the general. */
static const struct {
    const char *name, *piece, *also;
} others[] = {
    {"a LoRA", "lora_unet_", 0},
    {"a LoRA", ".lora_down.", 0},
    {"a LoRA", ".lora_A.", 0},
    {"a LoRA", ".lora.down.", 0},
    {"an IP-Adapter", "ip_adapter.", 0},
    {"a ControlNet", "control_model.", 0},
    {"a ControlNet", "controlnet_cond_embedding.", 0},
    {"a T2I-Adapter", "adapter.body.", 0},
    {"a textual inversion", "emb_params", 0},
    {"a motion module of AnimateDiff", "motion_modules.", 0},
    {"Stable Video Diffusion", "time_mixer.", 0},
    {"Stable Video Diffusion", ".time_stack.", 0},
    {"Stable Diffusion 3", "joint_blocks.", 0},
    {"Stable Diffusion 3", ".attn.add_q_proj.", "pos_embed.proj."},
    {"FLUX.2", "double_stream_modulation_img.", 0},
    {"HunyuanVideo", "individual_token_refiner.", 0},
    {"FLUX", "double_blocks.", ".img_attn."},
    {"FLUX", "single_transformer_blocks.", 0},
    {"AuraFlow", "double_layers.0.attn.w", 0},
    {"Sana", ".cross_attn.kv_linear.", "blocks.0.cross_attn.q_linear."},
    {"HunyuanDiT", "mlp_t5.", 0},
    {"LTX-Video", "patchify_proj.", 0},
    {"LTX-Video", "last_scale_shift_table", 0},
    {"PixArt", ".cross_attn.kv_linear.", 0},
    {"PixArt", "caption_projection.", "adaln_single."},
    {"Stable Cascade", "clip_txt_mapper.", 0},
    {"Stable Cascade", ".channelwise.0.", 0},
    {"Mochi", ".attn.qkv_x.", 0},
    {"Wan video", "head.modulation", 0},
    {"Wan video", "time_projection.1.", "blocks.0.self_attn.norm_q."},
    {"CogVideoX", "patch_embed.text_proj.", 0},
    {"Cosmos", "net.blocks.", 0},
    {"Lumina", "cap_embedder.", 0},
    {"Kandinsky", "encoder_hid_proj.", 0},
    {"Stable Audio", "pretransform.model.", 0},
    {"Playground 2.5", "edm_mean", 0},
    {"the upscaler of Stable Diffusion 2", "low_scale_model.", 0},
    {"Stable Diffusion 2 unCLIP", "embedder.model.visual.", 0},
    {"the refiner of SDXL", "conditioner.embedders.0.model.", 0},
    {"scaled fp8, whose scales are not read", ".scale_weight", 0},
};

static int has_piece(const st_file *f, const char *piece)
{
    for (int i = 0; i < st_count(f); i++) {
        if (strstr(st_at(f, i)->name, piece))
            return 1;
    }
    return 0;
}

/* The convolution that takes the latent, whatever the spelling; NULL when there is no UNet. */
static const st_tensor *first_convolution(const st_file *f)
{
    static const char *const names[] = {"model.diffusion_model.input_blocks.0.0.weight",
                                        "input_blocks.0.0.weight"};
    for (int i = 0; i < 2; i++) {
        if (st_find(f, names[i]))
            return st_find(f, names[i]);
    }
    return st_find(f, "down_blocks.0.resnets.0.conv1.weight") ? st_find(f, "conv_in.weight") : NULL;
}

/* One network by itself. */
static void recognise_part(checkpoint *c, const st_file *f)
{
    c->family = CHECKPOINT_PART;
    c->taesd = st_find(f, "encoder.layers.0.weight") || st_find(f, "1.conv.0.weight") ||
               st_find(f, "3.conv.0.weight") || st_find(f, "decoder.1.weight");
    c->vae =
        !c->taesd && (has_piece(f, "decoder.mid.block_1.") || has_piece(f, "post_quant_conv."));
    c->text = has_piece(f, "token_embedding.weight");
    c->unet = first_convolution(f) != NULL;
    c->name = c->taesd  ? "a TAESD alone"
              : c->vae  ? "an autoencoder alone"
              : c->text ? "a text encoder alone"
              : c->unet ? "a UNet alone"
                        : "of no architecture that is known here";
    if (!c->taesd && !c->vae && !c->text && !c->unet)
        c->family = CHECKPOINT_OTHER;
}

void checkpoint_recognise(checkpoint *c, const st_file *f)
{
    ldm l;
    memset(c, 0, sizeof *c);
    const st_tensor *in = first_convolution(f);
    c->inpainting = in && in->ndim == 4 && in->dim[1] == 9;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        if (has_piece(f, others[i].piece) && (!others[i].also || has_piece(f, others[i].also))) {
            c->name = others[i].name;
            return;
        }
    }
    if (!ldm_whole(f)) {
        recognise_part(c, f);
        return;
    }
    c->unet = ldm_init(&l, f, LDM_UNET);
    c->vae = ldm_init(&l, f, LDM_VAE);
    c->text_2 = ldm_init(&l, f, LDM_TEXT2);
    c->text = ldm_init(&l, f, LDM_TEXT);
    int open = c->text && ldm_open_clip(&l);
    const st_tensor *projection = st_find(f, "model.diffusion_model.middle_block.1.proj_in.weight");
    if (c->text_2 || st_find(f, "model.diffusion_model.label_emb.0.0.weight")) {
        c->family = CHECKPOINT_SDXL;
        c->name = "SDXL";
    } else if (open || (projection && projection->ndim == 2)) {
        c->family = CHECKPOINT_SD2;
        c->name = "Stable Diffusion 2.x";
    } else {
        c->family = CHECKPOINT_SD1;
        c->name = "Stable Diffusion 1.x";
    }
}

/* ---- configs --------------------------------------------------------------------------------- */

/* What the file says of the schedule, and what its weights give away. */
static void schedule(scheduler_config *s, const checkpoint *is, const st_file *f,
                     const weights_index *unet)
{
    const char *said = st_metadata(f, "modelspec.prediction_type");
    scheduler_defaults(s);
    if (said && (!strcmp(said, "v") || !strcmp(said, "v_prediction")))
        s->prediction = PREDICT_V;
    else if (!said && is->family == CHECKPOINT_SD2 && config_shape_predicts_v(unet))
        s->prediction = PREDICT_V;
    if (is->family == CHECKPOINT_SDXL && st_find(f, "v_pred"))
        s->prediction = PREDICT_V;
    if (is->family == CHECKPOINT_SDXL && st_find(f, "ztsnr"))
        s->zero_terminal_snr = 1;
}

static int shape_unet(model_config *c, const checkpoint *is, const char *path, scope_error *err)
{
    weights_index x;
    if (weights_index_open(&x, path, "unet", err))
        return err->status;
    if (!config_shape_unet(&c->unet, &x, err))
        schedule(&c->scheduler, is, x.files.file[0], &x);
    if (!err->status && is->family == CHECKPOINT_SD2 && c->scheduler.prediction == PREDICT_V)
        c->unet.sample_size = 96;
    weights_index_close(&x);
    return err->status;
}

static int shape_text(clip_config *c, const char *path, const char *label, scope_error *err)
{
    weights_index x;
    if (weights_index_open(&x, path, label, err))
        return err->status;
    config_shape_clip(c, &x, err);
    weights_index_close(&x);
    return err->status;
}

static int shape_vae(vae_config *c, int family, const char *path, scope_error *err)
{
    weights_index x;
    if (weights_index_open(&x, path, "vae", err))
        return err->status;
    config_shape_vae(c, &x, err);
    if (family == CHECKPOINT_SDXL) {
        c->scaling_factor = 0.13025f;
        c->wide = 1;
    }
    weights_index_close(&x);
    return err->status;
}

/* Networks that must be in the file; which, in a sentence, when they are not. */
static int complete(const checkpoint *is, const char *base, scope_error *err)
{
    if (is->family == CHECKPOINT_OTHER)
        return scope_fail(err, SCOPE_EIO,
                          "%.60s is %s, which is not supported; SD 1.x, 2.x and SDXL checkpoints "
                          "are",
                          base, is->name);
    if (is->family == CHECKPOINT_PART)
        return scope_fail(err, SCOPE_EIO,
                          "%.60s is %s, not a model; give a checkpoint, and this file as %s", base,
                          is->name,
                          is->unet   ? "unet_path"
                          : is->text ? "text_encoder_path"
                          : is->vae  ? "vae_path"
                                     : "taesd_path");
    if (!is->unet)
        return scope_fail(err, SCOPE_EIO, "%.60s holds no UNet; it is no whole checkpoint", base);
    if (is->inpainting)
        return scope_fail(err, SCOPE_EIO,
                          "%.60s is an inpainting checkpoint (its UNet takes 9 channels), which is "
                          "not supported; give the model it was made from",
                          base);
    return 0;
}

int checkpoint_config(model_config *c, const char *path, scope_error *err)
{
    char why[256];
    checkpoint is;
    const char *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    memset(c, 0, sizeof *c);
    memset(err, 0, sizeof *err);
    st_file *f = st_open(path, why);
    if (!f)
        return scope_fail(err, SCOPE_EIO, "%.190s", why);
    checkpoint_recognise(&is, f);
    st_close(f);
    if (complete(&is, base, err))
        return err->status;
    int xl = is.family == CHECKPOINT_SDXL;
    snprintf(c->pipeline, sizeof c->pipeline, "%s",
             xl ? "StableDiffusionXLPipeline" : "StableDiffusionPipeline");
    c->has_text_2 = xl && is.text_2;
    c->zero_empty = xl;
    c->has_vae = is.vae;
    if (shape_unet(c, &is, path, err) ||
        (is.text && shape_text(&c->text, path, "text_encoder", err)) ||
        (c->has_text_2 && shape_text(&c->text_2, path, "text_encoder_2", err)) ||
        (c->has_vae && shape_vae(&c->vae, is.family, path, err)))
        return err->status;
    c->text.projection = 0; /* nothing reads the first encoder's pooled text */
    return 0;
}
