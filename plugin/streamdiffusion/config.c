/* config.c - see config.h: one function a network. Defaults: diffusers 0.3x, transformers 4 and 5.
 */
#include "config.h"
#include "config_json.h"

#include <unistd.h>

enum { MAX_CHANNELS = 8192, MAX_LAYERS = 16, MAX_DEPTH = 64 };

static void fill(int *out, int n, int value)
{
    for (int i = 0; i < n; i++)
        out[i] = value;
}

static void divides(config_file *f, const char *what, const int *channels, int n, int by)
{
    for (int i = 0; i < n; i++) {
        if (channels[i] % by)
            config_note(f, "%d channels cannot be split into %d %s", channels[i], by, what);
    }
}

/* A list of exactly n entries, or one number for all. */
static void per_block(config_file *f, const char *key, int *out, int n, int absent, int hi)
{
    int given = config_ints(f, key, out, CONFIG_MAX_BLOCKS, n, 1, hi);
    if (!given)
        fill(out, n, absent);
    else if (given != n)
        config_note(f, "%s has %d entries for %d blocks", key, given, n);
}

/* ---- UNet2DConditionModel ------------------------------------------------------------------ */

/* What diffusers can vary and this plugin does not: each must have its default. */
static void unet_features(config_file *f)
{
    static const char *const only[][2] = {
        {"center_input_sample", "false"},
        {"downsample_padding", "1"},
        {"mid_block_scale_factor", "1"},
        {"mid_block_type", "\"UNetMidBlock2DCrossAttn\""},
        {"mid_block_only_cross_attention", "null"},
        {"encoder_hid_dim", "null"},
        {"encoder_hid_dim_type", "null"},
        {"dual_cross_attention", "false"},
        {"class_embed_type", "null"},
        {"num_class_embeds", "null"},
        {"class_embeddings_concat", "false"},
        {"reverse_transformer_layers_per_block", "null"},
        {"resnet_time_scale_shift", "\"default\""},
        {"resnet_skip_time_act", "false"},
        {"resnet_out_scale_factor", "1"},
        {"time_embedding_type", "\"positional\""},
        {"time_embedding_act_fn", "null"},
        {"timestep_post_act", "null"},
        {"conv_in_kernel", "3"},
        {"conv_out_kernel", "3"},
        {"cross_attention_norm", "null"},
        {"attention_type", "\"default\""},
    };
    for (size_t i = 0; i < sizeof only / sizeof *only; i++)
        config_only(f, only[i][0], only[i][1]);
    const json_t *cross = json_object_get(f->root, "only_cross_attention");
    for (size_t i = 0; i < json_array_size(cross); i++) {
        if (!json_is_false(json_array_get(cross, i)))
            config_note(f, "only_cross_attention is not supported");
    }
    if (!json_is_array(cross))
        config_only(f, "only_cross_attention", "false");
}

static void unet_blocks(config_file *f, const char *key, const char *plain, const char *attending,
                        int *attention, int n)
{
    const char *type[CONFIG_MAX_BLOCKS];
    int given = config_texts(f, key, type, CONFIG_MAX_BLOCKS);
    if (given && given != n)
        config_note(f, "%s has %d entries for %d blocks", key, given, n);
    if (!given && n != 4)
        config_note(f, "%s is missing", key);
    if (f->err->status)
        return;
    int plain_at = !strcmp(plain, "DownBlock2D") ? n - 1 : 0; /* diffusers' default */
    for (int i = 0; i < n; i++) {
        const char *is = given ? type[i] : i == plain_at ? plain : attending;
        attention[i] = !strcmp(is, attending);
        if (!attention[i] && strcmp(is, plain))
            config_note(f, "unsupported block type: %.40s; %s and %s are supported", is, plain,
                        attending);
    }
}

static void unet_time(config_file *f, unet_config *c)
{
    c->sin_first = !config_bool(f, "flip_sin_to_cos", 1);
    c->freq_shift = (float)config_real(f, "freq_shift", 0, -1, 1);
    c->time_embed_dim =
        config_int(f, "time_embedding_dim", 4 * c->block_channels[0], 1, 4 * MAX_CHANNELS);
    c->time_cond_proj_dim = config_int(f, "time_cond_proj_dim", 0, 2, MAX_CHANNELS);
    if (c->block_channels[0] % 2 || c->time_cond_proj_dim % 2)
        config_note(f, "a sinusoid of an odd width is not supported");

    const char *addition = config_text(f, "addition_embed_type");
    c->text_time = addition && !strcmp(addition, "text_time");
    if (addition && !c->text_time)
        config_note(f, "addition_embed_type \"%.40s\" is not supported", addition);
    if (c->text_time) {
        c->addition_time_embed_dim = config_int(f, "addition_time_embed_dim", 256, 2, MAX_CHANNELS);
        c->addition_input_dim =
            config_int(f, "projection_class_embeddings_input_dim", 2816, 1, 4 * MAX_CHANNELS);
    }
}

static void unet_attention(config_file *f, unet_config *c)
{
    int cross[CONFIG_MAX_BLOCKS], n = c->blocks;
    const json_t *depths = json_object_get(f->root, "transformer_layers_per_block");
    for (size_t i = 0; i < json_array_size(depths); i++) {
        if (json_is_array(json_array_get(depths, i)))
            config_note(f, "a depth for each layer of a block (SSD-1B, Vega) is not supported");
    }
    per_block(f, "transformer_layers_per_block", c->transformer_layers, n, 1, MAX_LAYERS);
    /* diffusers' attention_head_dim is, by an old mistake of naming, the number of heads */
    per_block(f, "attention_head_dim", c->heads, n, 8, 1024);
    if (json_is_integer(json_object_get(f->root, "num_attention_heads")) ||
        json_is_array(json_object_get(f->root, "num_attention_heads")))
        per_block(f, "num_attention_heads", c->heads, n, 8, 1024);
    per_block(f, "cross_attention_dim", cross, n, 1280, MAX_CHANNELS);
    if (f->err->status)
        return;
    for (int i = 0; i < n; i++) {
        if (cross[i] != cross[0])
            config_note(f, "cross_attention_dim differs between blocks, which is not supported");
        if (c->down_attention[i] || c->up_attention[n - 1 - i] || i == n - 1)
            divides(f, "attention heads", &c->block_channels[i], 1, c->heads[i]);
    }
    c->cross_attention_dim = cross[0];
    c->linear_projection = config_bool(f, "use_linear_projection", 0);
    c->upcast_attention = config_bool(f, "upcast_attention", 0);
}

/* One number, or [height, width]. */
static int sample_size(config_file *f)
{
    int size[2];
    return config_ints(f, "sample_size", size, 2, 1, 1, 4096) ? size[0] : 64;
}

int config_read_unet(unet_config *c, const char *dir, scope_error *err)
{
    static const int usual[] = {320, 640, 1280, 1280};
    config_file f;
    memset(c, 0, sizeof *c);
    if (config_open(&f, dir, "config.json", err))
        return config_close(&f);
    config_class(&f, "UNet2DConditionModel");
    unet_features(&f);
    c->in_channels = config_int(&f, "in_channels", 4, 1, 64);
    c->out_channels = config_int(&f, "out_channels", 4, 1, 64);
    c->sample_size = sample_size(&f);
    c->blocks = config_ints(&f, "block_out_channels", c->block_channels, CONFIG_MAX_BLOCKS, 0, 1,
                            MAX_CHANNELS);
    if (!c->blocks)
        memcpy(c->block_channels, usual, sizeof usual);
    c->blocks = c->blocks ? c->blocks : 4;
    unet_blocks(&f, "down_block_types", "DownBlock2D", "CrossAttnDownBlock2D", c->down_attention,
                c->blocks);
    unet_blocks(&f, "up_block_types", "UpBlock2D", "CrossAttnUpBlock2D", c->up_attention,
                c->blocks);
    per_block(&f, "layers_per_block", c->layers, c->blocks, 2, MAX_LAYERS);
    unet_attention(&f, c);
    c->norm_groups = config_int(&f, "norm_num_groups", 32, 1, 1024);
    c->norm_eps = (float)config_real(&f, "norm_eps", 1e-5, 1e-12, 1e-2);
    c->act = config_act(&f, "act_fn", "silu");
    divides(&f, "norm groups", c->block_channels, c->blocks, c->norm_groups);
    unet_time(&f, c);
    return config_close(&f);
}

/* ---- CLIPTextModel ------------------------------------------------------------------------- */

int config_read_clip(clip_config *c, const char *dir, scope_error *err)
{
    const char *kind[8];
    config_file f;
    memset(c, 0, sizeof *c);
    if (config_open(&f, dir, "config.json", err))
        return config_close(&f);
    int kinds = config_texts(&f, "architectures", kind, 8);
    for (int i = 0; i < kinds; i++) {
        if (!strcmp(kind[i], "CLIPTextModelWithProjection"))
            c->projection = config_int(&f, "projection_dim", 512, 1, MAX_CHANNELS);
        else if (strcmp(kind[i], "CLIPTextModel"))
            config_note(&f,
                        "unsupported architecture: %.50s; only CLIP text encoders are supported",
                        kind[i]);
    }
    c->vocab_size = config_int(&f, "vocab_size", 49408, 1, 1 << 20);
    c->width = config_int(&f, "hidden_size", 512, 1, MAX_CHANNELS);
    c->intermediate = config_int(&f, "intermediate_size", 2048, 1, 4 * MAX_CHANNELS);
    c->layers = config_int(&f, "num_hidden_layers", 12, 1, MAX_DEPTH);
    c->heads = config_int(&f, "num_attention_heads", 8, 1, 256);
    c->positions = config_int(&f, "max_position_embeddings", 77, 77, 4096);
    c->act = config_act(&f, "hidden_act", "quick_gelu");
    c->norm_eps = (float)config_real(&f, "layer_norm_eps", 1e-5, 1e-12, 1e-2);
    c->eos_token_id = config_int(&f, "eos_token_id", 49407, 0, 1 << 20);
    divides(&f, "attention heads", &c->width, 1, c->heads);
    return config_close(&f);
}

/* ---- autoencoders -------------------------------------------------------------------------- */

static void vae_blocks(config_file *f, const char *key, const char *type, int n)
{
    const char *is[CONFIG_MAX_BLOCKS];
    int given = config_texts(f, key, is, CONFIG_MAX_BLOCKS);
    if ((given ? given : 1) != n)
        config_note(f, "%s has %d entries for %d blocks", key, given ? given : 1, n);
    for (int i = 0; i < given; i++) {
        if (strcmp(is[i], type))
            config_note(f, "unsupported block type: %.40s; %s is supported", is[i], type);
    }
}

int config_read_vae(vae_config *c, const char *dir, scope_error *err)
{
    config_file f;
    memset(c, 0, sizeof *c);
    if (config_open(&f, dir, "config.json", err))
        return config_close(&f);
    config_class(&f, "AutoencoderKL");
    config_only(&f, "latents_mean", "null");
    config_only(&f, "latents_std", "null");
    c->in_channels = config_int(&f, "in_channels", 3, 1, 16);
    c->out_channels = config_int(&f, "out_channels", 3, 1, 16);
    c->latent_channels = config_int(&f, "latent_channels", 4, 1, 64);
    c->blocks = config_ints(&f, "block_out_channels", c->block_channels, CONFIG_MAX_BLOCKS, 0, 1,
                            MAX_CHANNELS);
    if (!c->blocks) {
        c->blocks = 1;
        c->block_channels[0] = 64;
    }
    vae_blocks(&f, "down_block_types", "DownEncoderBlock2D", c->blocks);
    vae_blocks(&f, "up_block_types", "UpDecoderBlock2D", c->blocks);
    c->layers = config_int(&f, "layers_per_block", 1, 1, MAX_LAYERS);
    c->act = config_act(&f, "act_fn", "silu");
    c->norm_groups = config_int(&f, "norm_num_groups", 32, 1, 1024);
    divides(&f, "norm groups", c->block_channels, c->blocks, c->norm_groups);
    c->mid_attention = config_bool(&f, "mid_block_add_attention", 1);
    c->quant_conv = config_bool(&f, "use_quant_conv", 1);
    c->post_quant_conv = config_bool(&f, "use_post_quant_conv", 1);
    c->scaling_factor = (float)config_real(&f, "scaling_factor", 0.18215, 1e-4, 1e4);
    c->shift_factor = (float)config_real(&f, "shift_factor", 0, -1e4, 1e4);
    /* SDXL's, unless it is one that was trained to stay in range and says so. */
    c->wide = c->scaling_factor < 0.15f && config_bool(&f, "force_upcast", 1);
    return config_close(&f);
}

static void taesd_stages(config_file *f, taesd_config *c)
{
    static const int encoder[] = {1, 3, 3, 3}, decoder[] = {3, 3, 3, 1};
    int n[4];
    n[0] = config_ints(f, "encoder_block_out_channels", c->encoder_channels, CONFIG_MAX_BLOCKS, 0,
                       1, MAX_CHANNELS);
    n[1] = config_ints(f, "decoder_block_out_channels", c->decoder_channels, CONFIG_MAX_BLOCKS, 0,
                       1, MAX_CHANNELS);
    n[2] = config_ints(f, "num_encoder_blocks", c->encoder_blocks, CONFIG_MAX_BLOCKS, 0, 0,
                       MAX_LAYERS);
    n[3] = config_ints(f, "num_decoder_blocks", c->decoder_blocks, CONFIG_MAX_BLOCKS, 0, 0,
                       MAX_LAYERS);
    if (!n[0])
        fill(c->encoder_channels, 4, 64);
    if (!n[1])
        fill(c->decoder_channels, 4, 64);
    if (!n[2])
        memcpy(c->encoder_blocks, encoder, sizeof encoder);
    if (!n[3])
        memcpy(c->decoder_blocks, decoder, sizeof decoder);
    c->stages = n[0] ? n[0] : 4;
    for (int i = 1; i < 4; i++) {
        if ((n[i] ? n[i] : 4) != c->stages)
            config_note(f, "the encoder's and decoder's lists of blocks differ in length");
    }
}

int config_read_taesd(taesd_config *c, const char *dir, scope_error *err)
{
    char path[4096];
    config_file f = {.label = "taesd", .err = err};
    memset(c, 0, sizeof *c);
    memset(err, 0, sizeof *err);
    snprintf(path, sizeof path, "%s/config.json", dir);
    if (!access(path, F_OK) && config_open(&f, dir, "config.json", err))
        return config_close(&f);
    config_class(&f, "AutoencoderTiny");
    config_only(&f, "upsample_fn", "\"nearest\"");
    config_only(&f, "upsampling_scaling_factor", "2");
    c->in_channels = config_int(&f, "in_channels", 3, 1, 16);
    c->out_channels = config_int(&f, "out_channels", 3, 1, 16);
    c->latent_channels = config_int(&f, "latent_channels", 4, 1, 64);
    c->act = config_act(&f, "act_fn", "relu");
    c->scaling_factor = (float)config_real(&f, "scaling_factor", 1, 1e-4, 1e4);
    c->shift_factor = (float)config_real(&f, "shift_factor", 0, -1e4, 1e4);
    const char *origin = config_text(&f, "_name_or_path");
    snprintf(c->origin, sizeof c->origin, "%.95s", origin ? origin : "");
    taesd_stages(&f, c);
    return config_close(&f);
}

/* ---- scheduler ----------------------------------------------------------------------------- */

static void scheduler_kind(config_file *f, scheduler_config *c)
{
    const char *is = config_text(f, "_class_name"), *betas = config_text(f, "beta_schedule");
    const char *prediction = config_text(f, "prediction_type");
    if (is && strstr(is, "Flow"))
        config_note(f, "unsupported scheduler: %.60s (flow matching)", is);
    if (betas && !strcmp(betas, "linear"))
        c->scaled_linear = 0;
    else if (betas && strcmp(betas, "scaled_linear"))
        config_note(f, "beta_schedule \"%.40s\" is not supported; linear and scaled_linear are",
                    betas);
    if (prediction && !strcmp(prediction, "v_prediction"))
        c->prediction = PREDICT_V;
    else if (prediction && !strcmp(prediction, "sample"))
        c->prediction = PREDICT_SAMPLE;
    else if (prediction && strcmp(prediction, "epsilon"))
        config_note(
            f, "prediction_type \"%.40s\" is not supported; epsilon, v_prediction and sample are",
            prediction);
}

/* Whatever scheduler a checkpoint ships, an LCM schedule is made from its config, whose absent keys
 * therefore are LCMScheduler's. */
int config_read_scheduler(scheduler_config *c, const char *dir, scope_error *err)
{
    config_file f;
    scheduler_defaults(c);
    if (config_open(&f, dir, "scheduler_config.json", err))
        return config_close(&f);
    config_only(&f, "trained_betas", "null");
    scheduler_kind(&f, c);
    c->beta_start = config_real(&f, "beta_start", c->beta_start, 1e-9, 0.5);
    c->beta_end = config_real(&f, "beta_end", c->beta_end, 1e-9, 0.999);
    c->train_timesteps = config_int(&f, "num_train_timesteps", c->train_timesteps, 2, 10000);
    int most = c->train_timesteps;
    c->original_steps = config_int(&f, "original_inference_steps", most < 50 ? most : 50, 1, most);
    c->timestep_scaling = config_real(&f, "timestep_scaling", c->timestep_scaling, 1e-6, 1e6);
    c->zero_terminal_snr = config_bool(&f, "rescale_betas_zero_snr", 0);
    return config_close(&f);
}
