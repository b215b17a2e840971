/* config.h - what a diffusers folder says about its networks, as plain numbers.
 *
 * Reads model_index.json and each config.json. Every value is type-checked and bounded, absent keys
 * take diffusers' (for text encoders: transformers') defaults, and what this plugin does not
 * implement is refused by name. The networks are built from these structs alone; no model is known
 * by its name.
 */
#ifndef SD_CONFIG_H
#define SD_CONFIG_H

#include "scheduler.h"
#include "scope_plugin.h"

enum { CONFIG_MAX_BLOCKS = 6 };

/* UNet2DConditionModel. Arrays are indexed by down block; up block i mirrors down block
 * blocks - 1 - i, except up_attention, which is in up order. */
typedef struct unet_config {
    int in_channels, out_channels;
    int sample_size; /* latent height and width it was trained at */
    int blocks;
    int block_channels[CONFIG_MAX_BLOCKS];
    int down_attention[CONFIG_MAX_BLOCKS]; /* block i has transformers */
    int up_attention[CONFIG_MAX_BLOCKS];
    int layers[CONFIG_MAX_BLOCKS]; /* resnets of a down block; an up block has 1 more */
    int transformer_layers[CONFIG_MAX_BLOCKS];
    int heads[CONFIG_MAX_BLOCKS];
    int cross_attention_dim; /* width of the text embedding */
    int linear_projection;   /* proj_in/out are linear, not 1x1 convolutions */
    int norm_groups;
    float norm_eps;
    int act;       /* k_act */
    int sin_first; /* of the timestep sinusoid */
    float freq_shift;
    int time_embed_dim;          /* hidden and output width of time_embedding */
    int time_cond_proj_dim;      /* LCM: width of the guidance embedding; 0: none */
    int upcast_attention;        /* a hint for half precision arithmetic */
    int text_time;               /* SDXL's added embedding of pooled text and sizes */
    int addition_time_embed_dim; /* of each size's sinusoid */
    int addition_input_dim;      /* pooled text, then six sinusoids */
} unet_config;

/* CLIPTextModel, CLIPTextModelWithProjection. */
typedef struct clip_config {
    int vocab_size, width, intermediate, layers, heads;
    int positions; /* 77 */
    int act;       /* k_act */
    float norm_eps;
    int eos_token_id; /* 2: pooled at argmax(ids), as old configs mean */
    int projection;   /* width of text_projection; 0: the model has none */
} clip_config;

/* AutoencoderKL. */
typedef struct vae_config {
    int in_channels, out_channels, latent_channels;
    int blocks;
    int block_channels[CONFIG_MAX_BLOCKS];
    int layers; /* encoder resnets of a block; the decoder has 1 more */
    int act;    /* k_act */
    int norm_groups;
    int mid_attention;
    int quant_conv, post_quant_conv;
    int wide; /* activations leave the range of fp16 (SDXL's) */
    float scaling_factor, shift_factor;
} vae_config;

/* AutoencoderTiny. A stage is a convolution and its residual blocks. */
typedef struct taesd_config {
    int in_channels, out_channels, latent_channels;
    char origin[96]; /* the repository that the config was saved from, or "" */
    int stages;
    int encoder_channels[CONFIG_MAX_BLOCKS], encoder_blocks[CONFIG_MAX_BLOCKS];
    int decoder_channels[CONFIG_MAX_BLOCKS], decoder_blocks[CONFIG_MAX_BLOCKS];
    int act; /* k_act */
    float scaling_factor, shift_factor;
} taesd_config;

/* A whole folder. */
typedef struct model_config {
    char pipeline[64]; /* class of model_index.json */
    unet_config unet;
    clip_config text;
    int has_text_2; /* SDXL: text_encoder_2/, which also makes the pooled text */
    clip_config text_2;
    int zero_empty; /* SDXL: an empty negative prompt is zeros, not the encoding of "" */
    int has_vae;    /* vae/ is an AutoencoderKL */
    vae_config vae;
    int has_taesd;
    taesd_config taesd;
    char taesd_dir[16]; /* folder of it: "vae", "taesd" or "vae_tiny" */
    scheduler_config scheduler;
} model_config;

/* Read and check everything of `dir`, that the parts fit each other, and that this plugin can run
 * it. At least one of has_vae, has_taesd holds. [load] */
int config_read(model_config *c, const char *dir, scope_error *err);

/* One network each, from its folder ("…/unet"). */
int config_read_unet(unet_config *c, const char *dir, scope_error *err);
int config_read_clip(clip_config *c, const char *dir, scope_error *err);
int config_read_vae(vae_config *c, const char *dir, scope_error *err);
/* A folder without config.json is madebyollin's TAESD, which has the defaults. */
int config_read_taesd(taesd_config *c, const char *dir, scope_error *err);
int config_read_scheduler(scheduler_config *c, const char *dir, scope_error *err);

/* 0 when the networks of this plugin implement what the structs say, and fit each other; else the
 * sentence that says what they do not. */
int config_supported(const model_config *c, scope_error *err);
/* Is the TAESD of folder `dir` made for the other family (SD and SDXL have different latents of one
 * shape)? Told by the names of the repository and the folder alone: 1 when they say so. */
int config_taesd_is_foreign(const model_config *c, const char *dir);

#endif
