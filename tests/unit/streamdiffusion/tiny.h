/* tiny.h - tiny random checkpoints in a temporary folder, for tests of the plugin.
 *
 * The weights' names and shapes are recorded from the networks themselves; the values are a pure
 * function of the tensor's name, scaled so that activations stay of order 1. The folder goes away
 * with tiny_remove.
 */
#ifndef TESTS_TINY_H
#define TESTS_TINY_H

#include "plugin/streamdiffusion/pipeline.h"

#include <check.h>
#include <ftw.h>
#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct tiny_options {
    int lcm;      /* a guidance embedding */
    int linear;   /* linear projections, else 1x1 convolutions */
    int no_vae;   /* TAESD in its place */
    int no_taesd; /* none beside the vae */
    int xl;       /* two text encoders, pooled text, sizes */
} tiny_options;

static inline const char *tiny_folder(void)
{
    static char name[64];
    snprintf(name, sizeof name, "/tmp/scope-tiny-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(name));
    return name;
}

static inline int tiny_unlink(const char *path, const struct stat *s, int flag, struct FTW *at)
{
    (void)s, (void)flag, (void)at;
    return remove(path);
}

static inline void tiny_remove(const char *dir)
{
    nftw(dir, tiny_unlink, 16, FTW_DEPTH | FTW_PHYS);
}

static inline FILE *tiny_file(const char *dir, const char *sub, const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, sub);
    mkdir(path, 0700);
    snprintf(path, sizeof path, "%s/%s/%s", dir, sub, name);
    FILE *f = fopen(path, "wb");
    ck_assert_ptr_nonnull(f);
    return f;
}

static inline void tiny_text(const char *dir, const char *sub, const char *name, const char *text)
{
    FILE *f = tiny_file(dir, sub, name);
    fputs(text, f);
    fclose(f);
}

/* Printable ASCII, each letter alone and at a word's end: 190 tokens. */
static inline void tiny_tokenizer(const char *dir, const char *sub)
{
    FILE *f = tiny_file(dir, sub, "vocab.json");
    fputc('{', f);
    for (int c = '!'; c <= '~'; c++) {
        const char *escape = c == '"' || c == '\\' ? "\\" : "";
        fprintf(f, "\"%s%c\": %d, \"%s%c</w>\": %d, ", escape, c, 2 * (c - '!'), escape, c,
                2 * (c - '!') + 1);
    }
    fputs("\"<|startoftext|>\": 188, \"<|endoftext|>\": 189}", f);
    fclose(f);
    tiny_text(dir, sub, "merges.txt", "#version: 0.2\n");
}

/* ---- weights --------------------------------------------------------------------------------- */

/* A uniform number of variance 1, from a counter. */
static inline float tiny_random(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    x ^= x >> 31;
    return ((float)(x >> 40) / 8388608.0f - 1) * 1.7320508f;
}

static inline size_t tiny_count(int ndim, const int64_t *dim)
{
    size_t n = 1;
    for (int i = 0; i < ndim; i++)
        n *= (size_t)dim[i];
    return n;
}

static inline void tiny_tensor(FILE *f, const char *name, int ndim, const int64_t *dim)
{
    uint64_t seed = 1469598103934665603u;
    for (const char *s = name; *s; s++)
        seed = (seed ^ (unsigned char)*s) * 1099511628211u;
    size_t n = tiny_count(ndim, dim), length = strlen(name);
    int scale = ndim == 1 && length > 7 && !strcmp(name + length - 7, ".weight");
    float spread = ndim == 1 ? 0.1f : 1 / sqrtf((float)(n / (size_t)dim[0]));
    for (size_t i = 0; i < n; i++) {
        float v = spread * tiny_random(seed + i * 0x9e3779b97f4a7c15u) + (float)scale;
        fwrite(&v, sizeof v, 1, f);
    }
}

/* Everything that was asked of w, as dir/sub/file. Closes w. */
static inline void tiny_write(weights *w, const char *dir, const char *sub, const char *file)
{
    const char *name;
    const int64_t *dim;
    int ndim;
    size_t at = 0, used = 1;
    char *header = calloc(1, 1 << 20);
    header[0] = '{';
    for (int i = 0; weights_recorded(w, i, &name, &ndim, &dim); i++) {
        used += (size_t)sprintf(header + used, "%s\"%s\": {\"dtype\": \"F32\", \"shape\": [",
                                i ? ", " : "", name);
        for (int d = 0; d < ndim; d++)
            used += (size_t)sprintf(header + used, "%s%d", d ? ", " : "", (int)dim[d]);
        size_t bytes = 4 * tiny_count(ndim, dim);
        used += (size_t)sprintf(header + used, "], \"data_offsets\": [%zu, %zu]}", at, at + bytes);
        at += bytes;
    }
    header[used++] = '}';
    while (used % 8)
        header[used++] = ' ';
    FILE *f = tiny_file(dir, sub, file);
    uint64_t length = used;
    fwrite(&length, sizeof length, 1, f);
    fwrite(header, 1, used, f);
    for (int i = 0; weights_recorded(w, i, &name, &ndim, &dim); i++)
        tiny_tensor(f, name, ndim, dim);
    ck_assert_int_eq(fclose(f), 0);
    free(header);
    weights_close(w);
}

/* ---- the folder ------------------------------------------------------------------------------ */

/* What SDXL has besides, and its own UNet: pooled text of 20, six sizes of 8. */
static inline void tiny_configs_xl(const char *dir)
{
    tiny_text(dir, ".", "model_index.json",
              "{\"_class_name\": \"StableDiffusionXLPipeline\","
              " \"unet\": [\"diffusers\", \"UNet2DConditionModel\"],"
              " \"text_encoder\": [\"transformers\", \"CLIPTextModel\"],"
              " \"text_encoder_2\": [\"transformers\", \"CLIPTextModelWithProjection\"],"
              " \"vae\": [\"diffusers\", \"AutoencoderKL\"]}");
    tiny_text(dir, "unet", "config.json",
              "{\"_class_name\": \"UNet2DConditionModel\", \"sample_size\": 8,"
              " \"block_out_channels\": [16, 24], \"layers_per_block\": 1, \"norm_num_groups\": 8,"
              " \"down_block_types\": [\"DownBlock2D\", \"CrossAttnDownBlock2D\"],"
              " \"up_block_types\": [\"CrossAttnUpBlock2D\", \"UpBlock2D\"],"
              " \"transformer_layers_per_block\": [1, 3], \"attention_head_dim\": [2, 3],"
              " \"cross_attention_dim\": 56, \"use_linear_projection\": true,"
              " \"addition_embed_type\": \"text_time\", \"addition_time_embed_dim\": 8,"
              " \"projection_class_embeddings_input_dim\": 68}");
    tiny_text(dir, "text_encoder_2", "config.json",
              "{\"architectures\": [\"CLIPTextModelWithProjection\"], \"vocab_size\": 190,"
              " \"hidden_size\": 24, \"intermediate_size\": 32, \"num_hidden_layers\": 3,"
              " \"num_attention_heads\": 3, \"hidden_act\": \"gelu\", \"projection_dim\": 20,"
              " \"eos_token_id\": 2}");
    tiny_tokenizer(dir, "tokenizer_2");
    tiny_text(dir, "tokenizer_2", "tokenizer_config.json", "{\"pad_token\": \"!\"}");
}

static inline void tiny_configs(const char *dir, const tiny_options *o)
{
    char text[1024];
    const char *taesd = "{\"_class_name\": \"AutoencoderTiny\","
                        " \"encoder_block_out_channels\": [8, 8, 8, 8],"
                        " \"decoder_block_out_channels\": [8, 8, 8, 8],"
                        " \"num_encoder_blocks\": [1, 1, 1, 1],"
                        " \"num_decoder_blocks\": [1, 1, 1, 1]}";
    snprintf(text, sizeof text,
             "{\"_class_name\": \"StableDiffusionPipeline\","
             " \"unet\": [\"diffusers\", \"UNet2DConditionModel\"],"
             " \"text_encoder\": [\"transformers\", \"CLIPTextModel\"],"
             " \"tokenizer\": [\"transformers\", \"CLIPTokenizer\"],"
             " \"scheduler\": [\"diffusers\", \"LCMScheduler\"],"
             " \"vae\": [\"diffusers\", \"%s\"]}",
             o->no_vae ? "AutoencoderTiny" : "AutoencoderKL");
    tiny_text(dir, ".", "model_index.json", text);
    snprintf(text, sizeof text,
             "{\"_class_name\": \"UNet2DConditionModel\", \"sample_size\": 8,"
             " \"block_out_channels\": [16, 24], \"layers_per_block\": 1, \"norm_num_groups\": 8,"
             " \"down_block_types\": [\"CrossAttnDownBlock2D\", \"DownBlock2D\"],"
             " \"up_block_types\": [\"UpBlock2D\", \"CrossAttnUpBlock2D\"],"
             " \"cross_attention_dim\": 32, \"attention_head_dim\": 2,"
             " \"use_linear_projection\": %s, \"time_cond_proj_dim\": %s}",
             o->linear ? "true" : "false", o->lcm ? "32" : "null");
    tiny_text(dir, "unet", "config.json", text);
    tiny_text(dir, "text_encoder", "config.json",
              "{\"architectures\": [\"CLIPTextModel\"], \"vocab_size\": 190, \"hidden_size\": 32,"
              " \"intermediate_size\": 64, \"num_hidden_layers\": 2, \"num_attention_heads\": 2,"
              " \"hidden_act\": \"quick_gelu\"}");
    tiny_text(dir, "scheduler", "scheduler_config.json",
              "{\"_class_name\": \"LCMScheduler\", \"beta_start\": 0.00085, \"beta_end\": 0.012,"
              " \"beta_schedule\": \"scaled_linear\", \"num_train_timesteps\": 1000}");
    tiny_text(dir, "vae", "config.json",
              o->no_vae ? taesd
                        : "{\"_class_name\": \"AutoencoderKL\", \"layers_per_block\": 1,"
                          " \"block_out_channels\": [8, 8, 8, 16], \"norm_num_groups\": 4,"
                          " \"down_block_types\": [\"DownEncoderBlock2D\", \"DownEncoderBlock2D\","
                          " \"DownEncoderBlock2D\", \"DownEncoderBlock2D\"],"
                          " \"up_block_types\": [\"UpDecoderBlock2D\", \"UpDecoderBlock2D\","
                          " \"UpDecoderBlock2D\", \"UpDecoderBlock2D\"]}");
    if (!o->no_vae && !o->no_taesd)
        tiny_text(dir, "taesd", "config.json", taesd);
    if (o->xl)
        tiny_configs_xl(dir);
}

/* The networks that the configs in the folder dir ask for. */
static inline void tiny_networks(const char *dir)
{
    char why[K_WHY];
    scope_error err = {0};
    model_config c;
    k_device *device = k_device_open("cpu", NULL, why);
    ck_assert_msg(!config_read(&c, dir, &err), "%s", err.text);

    weights *w = weights_open_recorder(device, "unet", &err);
    unet_close(unet_open(w, &c.unet, &err));
    tiny_write(w, dir, "unet", "diffusion_pytorch_model.safetensors");
    w = weights_open_recorder(device, "text_encoder", &err);
    clip_close(clip_open(w, &c.text, &err));
    tiny_write(w, dir, "text_encoder", "model.safetensors");
    if (c.has_text_2) {
        w = weights_open_recorder(device, "text_encoder_2", &err);
        clip_close(clip_open(w, &c.text_2, &err));
        tiny_write(w, dir, "text_encoder_2", "model.safetensors");
    }
    if (c.has_vae) {
        w = weights_open_recorder(device, "vae", &err);
        vae_close(vae_open(w, &c.vae, &err));
        tiny_write(w, dir, "vae", "diffusion_pytorch_model.safetensors");
    }
    if (c.has_taesd) {
        w = weights_open_recorder(device, "taesd", &err);
        taesd_close(taesd_open(w, &c.taesd, &err));
        tiny_write(w, dir, c.taesd_dir, "diffusion_pytorch_model.safetensors");
    }
    k_device_close(device);
}

/* A whole checkpoint in the folder dir. */
static inline void tiny_make(const char *dir, tiny_options o)
{
    tiny_tokenizer(dir, "tokenizer");
    tiny_configs(dir, &o);
    tiny_networks(dir);
}

#endif
