/* plugin_bed.h - one instance of the plugin in a test: a checkpoint, a host, parameters that are
 * the schema's defaults, and calls through scope_entry alone.
 */
#ifndef TESTS_PLUGIN_BED_H
#define TESTS_PLUGIN_BED_H

#include "plugin_host.h"
#include "tiny.h"

static const char *dir;

static plugin_host host;

/* ---- parameters ------------------------------------------------------------------------------ */

static scope_value prompt_fields[] = {{"text", SCOPE_STR, 0, {.s = "a cat"}},
                                      {"weight", SCOPE_NUM, 0, {.f = 1}}};
static scope_value prompt_list[] = {{NULL, SCOPE_OBJ, 2, {.at = prompt_fields}}};
static scope_value target_fields[] = {{"text", SCOPE_STR, 0, {.s = "a dog"}},
                                      {"weight", SCOPE_NUM, 0, {.f = 1}}};
static scope_value target_list[] = {{NULL, SCOPE_OBJ, 2, {.at = target_fields}}};
static scope_value transition_fields[] = {{"num_steps", SCOPE_INT, 0, {.i = 0}},
                                          {"method", SCOPE_STR, 0, {.s = "linear"}},
                                          {"target_prompts", SCOPE_LIST, 0, {.at = target_list}}};
static scope_value fields[64];
static scope_kwargs kw;

static inline scope_value *field(const char *name)
{
    for (int i = 0; i < kw.count; i++) {
        if (!strcmp(fields[i].name, name))
            return &fields[i];
    }
    ck_abort_msg("no field %s", name);
}

/* The schema's defaults, small. */
static inline void defaults(void)
{
    const scope_value all[] = {
        {"enabled", SCOPE_BOOL, 0, {.i = 1}},
        {"bypass_fade", SCOPE_INT, 0, {.i = 0}},
        {"input_mode", SCOPE_STR, 0, {.s = "video"}},
        {"model_id_or_path", SCOPE_STR, 0, {.s = dir}},
        {"taesd_path", SCOPE_STR, 0, {.s = ""}},
        {"vae_path", SCOPE_STR, 0, {.s = ""}},
        {"text_encoder_path", SCOPE_STR, 0, {.s = ""}},
        {"unet_path", SCOPE_STR, 0, {.s = ""}},
        {"tokenizer_path", SCOPE_STR, 0, {.s = ""}},
        {"prediction", SCOPE_STR, 0, {.s = "auto"}},
        {"device", SCOPE_STR, 0, {.s = "auto"}},
        {"memory", SCOPE_STR, 0, {.s = "normal"}},
        {"use_taesd", SCOPE_BOOL, 0, {.i = 1}},
        {"prompts", SCOPE_LIST, 1, {.at = prompt_list}},
        {"prompt_interpolation_method", SCOPE_STR, 0, {.s = "linear"}},
        {"normalize_prompt_weights", SCOPE_BOOL, 0, {.i = 1}},
        {"transition_steps", SCOPE_INT, 0, {.i = 0}},
        {"transition_method", SCOPE_STR, 0, {.s = "linear"}},
        {"transition_easing", SCOPE_STR, 0, {.s = "linear"}},
        {"transition", SCOPE_OBJ, 3, {.at = transition_fields}},
        {"negative_prompt", SCOPE_STR, 0, {.s = ""}},
        {"negative_prompt_scale", SCOPE_NUM, 0, {.f = 1}},
        {"style", SCOPE_STR, 0, {.s = ""}},
        {"styles_path", SCOPE_STR, 0, {.s = ""}},
        {"seed", SCOPE_INT, 0, {.i = 42}},
        {"seeds", SCOPE_LIST, 0, {.at = NULL}},
        {"seed_interpolation_method", SCOPE_STR, 0, {.s = "linear"}},
        {"noise_refresh", SCOPE_INT, 0, {.i = 0}},
        {"guidance_scale", SCOPE_NUM, 0, {.f = 0}},
        {"cfg_type", SCOPE_STR, 0, {.s = "full"}},
        {"delta", SCOPE_NUM, 0, {.f = 1}},
        {"num_inference_steps", SCOPE_INT, 0, {.i = 1}},
        {"t_index_list", SCOPE_LIST, 0, {.at = NULL}},
        {"timesteps", SCOPE_LIST, 0, {.at = NULL}},
        {"strength", SCOPE_NUM, 0, {.f = 0.99}},
        {"do_add_noise", SCOPE_BOOL, 0, {.i = 1}},
        {"use_denoising_batch", SCOPE_BOOL, 0, {.i = 1}},
        {"frame_buffer_size", SCOPE_INT, 0, {.i = 1}},
        {"similar_image_filter_enabled", SCOPE_BOOL, 0, {.i = 0}},
        {"similar_image_filter_threshold", SCOPE_NUM, 0, {.f = 0.98}},
        {"similar_image_filter_max_skip", SCOPE_INT, 0, {.i = 10}},
        {"latent_feedback", SCOPE_NUM, 0, {.f = 0}},
        {"image_loopback", SCOPE_BOOL, 0, {.i = 0}},
        {"loopback_mix", SCOPE_NUM, 0, {.f = 1}},
        {"loopback_zoom", SCOPE_NUM, 0, {.f = 1}},
        {"loopback_rotate", SCOPE_NUM, 0, {.f = 0}},
        {"loopback_decay", SCOPE_NUM, 0, {.f = 0}},
        {"loopback_edges", SCOPE_STR, 0, {.s = "mirror"}},
        {"mask_compositing", SCOPE_BOOL, 0, {.i = 0}},
        {"mask_source", SCOPE_STR, 0, {.s = "alpha"}},
        {"mask_feather", SCOPE_NUM, 0, {.f = 0}},
        {"mask_strength", SCOPE_NUM, 0, {.f = 1}},
        {"clip_skip", SCOPE_INT, 0, {.i = 0}},
        {"original_size", SCOPE_INT, 0, {.i = 0}},
        {"width", SCOPE_INT, 0, {.i = 64}},
        {"height", SCOPE_INT, 0, {.i = 64}},
        {"fit", SCOPE_STR, 0, {.s = "crop"}},
        {"loras", SCOPE_LIST, 0, {.at = NULL}},
        {"lora_dir", SCOPE_STR, 0, {.s = ""}},
        {"use_lcm_lora", SCOPE_BOOL, 0, {.i = 1}},
        {"lcm_lora_path", SCOPE_STR, 0, {.s = ""}},
    };
    memcpy(fields, all, sizeof all);
    kw = (scope_kwargs){.generation = 1, .count = sizeof all / sizeof *all, .at = fields};
}

/* ---- the plugin ------------------------------------------------------------------------------ */

static const scope_plugin *plugin;
static void *self;
static scope_video want, out;
static scope_error err;
static unsigned char pixels[64 * 96 * 4];

static inline int init(void)
{
    want = (scope_video){.t = 1, .c = 3, .dtype = SCOPE_U8, .device = SCOPE_CPU};
    memset(&err, 0, sizeof err);
    host.done = 0;
    host.phases = 0;
    return plugin->init(&host.host, &kw, &want, &self, &err);
}

static inline scope_video input(int h, int w, int c)
{
    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (unsigned char)(i * 7 + i / 96);
    return (scope_video){.t = 1,
                         .h = h,
                         .w = w,
                         .c = c,
                         .dtype = SCOPE_U8,
                         .device = SCOPE_CPU,
                         .stride_t = h * w * c,
                         .stride_h = w * c,
                         .data = pixels};
}

static inline int process(const scope_video *in)
{
    out = (scope_video){0};
    return plugin->process(self, &kw, in, &out, &err);
}

static inline void setup(void)
{
    dir = tiny_folder();
    tiny_make(dir, (tiny_options){0});
    plugin = scope_entry.plugins[0];
    plugin_host_open(&host);
    defaults();
}

static inline void teardown(void)
{
    plugin_host_close(&host);
    tiny_remove(dir);
}

#endif
