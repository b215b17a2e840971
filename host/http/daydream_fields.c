/* daydream_fields.c - the table of Daydream's parameters: see daydream_params.h.
 *
 * Types, ranges and names are the API's. Defaults are those of its workers, but for what this
 * server has not got: no safety checker is on, no style picture is fetched. Sizes are the plugin's
 * (the API's own are a rule: daydream_rules.strict_sizes), and scales of ControlNets go to 2, as
 * self-hosted servers take them.
 */
#include "daydream_params.h"

#include <string.h>

#define LIST(...) ((const char *const[]){__VA_ARGS__, NULL})
#define SAFE_INT  9007199254740991.0

/* A row: name, families, flags, default, then what its kind needs, and what it is. */
#define ONE(kind, name, families, flags, def, help)                                                \
    {                                                                                              \
        name, DAYDREAM_##kind, families, flags, def, 0, 0, NULL, NULL, help                        \
    }
#define RANGE(kind, name, families, flags, def, min, max, help)                                    \
    {                                                                                              \
        name, DAYDREAM_##kind, families, flags, def, min, max, NULL, NULL, help                    \
    }
#define CHOICE(name, families, flags, def, choices, help)                                          \
    {                                                                                              \
        name, DAYDREAM_CHOICE, families, flags, def, 0, 0, choices, NULL, help                     \
    }
#define OF(name, families, flags, def, fields, help)                                               \
    {                                                                                              \
        name, DAYDREAM_OBJECT, families, flags, def, 0, 0, NULL, fields, help                      \
    }
#define LIST_OF(name, families, flags, def, max, fields, help)                                     \
    {                                                                                              \
        name, DAYDREAM_OBJECTS, families, flags, def, 0, max, NULL, fields, help                   \
    }

enum {
    ANY = DAYDREAM_ANY,
    STYLED = DAYDREAM_SD15 | DAYDREAM_SDXL,
    HOT = DAYDREAM_HOT,
    MUST = DAYDREAM_REQUIRED,
    FRESH = DAYDREAM_FRESH,
    EXTRA = DAYDREAM_EXTRA | DAYDREAM_HOT,
};

static const char *const blends[] = {"linear", "slerp", NULL};
static const char *const latent_processors[] = {"latent_feedback", NULL};
/* clang-format off */
static const char *const processors[] = {
    "blur", "canny", "depth", "depth_tensorrt", "external", "feedback", "hed", "lineart",
    "mediapipe_pose", "mediapipe_segmentation", "openpose", "passthrough", "pose_tensorrt",
    "realesrgan_trt", "sharpen", "soft_edge", "standard_lineart", "temporal_net_tensorrt",
    "upscale", NULL};
static const char *const weight_types[] = {
    "linear", "ease in", "ease out", "ease in-out", "reverse in-out", "weak input", "weak output",
    "weak middle", "strong middle", "style transfer", "composition", "strong style transfer",
    "style and composition", "style transfer precise", "composition precise", NULL};
/* clang-format on */

#define PROCESSOR(types)                                                                           \
    {                                                                                              \
        CHOICE("type", ANY, MUST, NULL, types, "Which one."),                                      \
            ONE(BOOL, "enabled", ANY, 0, "true", "Off: left out."),                                \
            ONE(FREE, "params", ANY, 0, "{}", "Its own settings."),                                \
        {                                                                                          \
            0                                                                                      \
        }                                                                                          \
    }
#define BLOCK(processor)                                                                           \
    {                                                                                              \
        ONE(BOOL, "enabled", ANY, FRESH, "true", "Off: none of them."),                            \
            LIST_OF("processors", ANY, 0, "[]", 16, processor, "One after the other."),            \
        {                                                                                          \
            0                                                                                      \
        }                                                                                          \
    }

static const daydream_field image_processor[] = PROCESSOR(processors);
static const daydream_field latent_processor[] = PROCESSOR(latent_processors);
static const daydream_field image_block[] = BLOCK(image_processor);
static const daydream_field latent_block[] = BLOCK(latent_processor);

static const daydream_field controlnet[] = {
    ONE(TEXT, "model_id", ANY, MUST, NULL, "A ControlNet of the model's family."),
    RANGE(NUMBER, "conditioning_scale", ANY, 0, "1.0", 0, 2, "How strongly it steers."),
    CHOICE("preprocessor", ANY, MUST, NULL, processors, "What makes its control picture."),
    ONE(FREE, "preprocessor_params", ANY, 0, "{}", "Settings of the preprocessor."),
    ONE(BOOL, "enabled", ANY, 0, "true", "Off: not loaded."),
    RANGE(NUMBER, "control_guidance_start", ANY, 0, "0.0", 0, 1,
          "Share of the steps from which it acts."),
    RANGE(NUMBER, "control_guidance_end", ANY, 0, "1.0", 0, 1,
          "Share of the steps until which it acts."),
    {0},
};

static const daydream_field ip_adapter[] = {
    CHOICE("type", ANY, 0, "\"regular\"", LIST("regular", "faceid"), "faceid is for SDXL alone."),
    ONE(BOOL, "enabled", ANY, FRESH, "true", "Off: a scale of 0."),
    ONE(NUMBER, "scale", ANY, 0, "1.0", "0 does nothing, 1 is normal, 2 strong."),
    CHOICE("weight_type", ANY, 0, "\"linear\"", weight_types, "Which layers it reaches."),
    {0},
};

static const daydream_field cached_attention[] = {
    ONE(BOOL, "enabled", ANY, MUST, NULL, "On: layers attend to earlier frames, too."),
    RANGE(INT, "max_frames", ANY, MUST, NULL, 1, 4, "How many."),
    RANGE(INT, "interval", ANY, MUST, NULL, 1, 240, "Frames between them."),
    {0},
};

static const daydream_field fields[] = {
    ONE(TEXT, "model_id", ANY, MUST, NULL,
        "One of the four models, or a name of the server's configuration."),
    RANGE(PROMPT, "prompt", ANY, HOT, "\"flowers\"", 1, 16,
          "What the picture should show: a text, or up to 16 of them with weights."),
    CHOICE("prompt_interpolation_method", ANY, HOT, "\"slerp\"", blends,
           "How several prompts are blended."),
    ONE(BOOL, "normalize_prompt_weights", ANY, HOT, "true",
        "Only the proportions of the weights count."),
    ONE(BOOL, "normalize_seed_weights", ANY, HOT, "true",
        "Only the proportions of the weights count; false is kept, and warned of."),
    ONE(TEXT, "negative_prompt", ANY, HOT, "\"blurry, low quality, flat, 2d\"",
        "What the picture should avoid."),
    ONE(NUMBER, "guidance_scale", ANY, HOT, "1.0",
        "How strongly the prompt pulls; up to 1 not at all, at no cost."),
    ONE(NUMBER, "delta", ANY, HOT, "0.7", "Factor on what the prompt pulls away from."),
    RANGE(INT, "num_inference_steps", ANY, HOT, "50", 1, 100,
          "Points that the step indices count through."),
    RANGE(INTEGERS, "t_index_list", ANY, HOT, "[12, 20, 32]", 1, 4,
          "The steps that are run, in rising order, each from 0 to num_inference_steps."),
    ONE(BOOL, "use_safety_checker", ANY, HOT, "false",
        "There is none: true is kept, and warned of."),
    RANGE(INT, "width", ANY, 0, "512", 64, 2048, "Pixels, a multiple of 8."),
    RANGE(INT, "height", ANY, 0, "512", 64, 2048, "Pixels, a multiple of 8."),
    RANGE(SCALES, "lora_dict", ANY, 0, "null", 0, 16, "LoRA files with their scales, up to 16."),
    ONE(BOOL, "use_lcm_lora", ANY, 0, "true", "Add the LCM LoRA; Turbo models never take it."),
    ONE(TEXT, "lcm_lora_id", ANY, 0, "\"latent-consistency/lcm-lora-sdv1-5\"",
        "Kept; the LCM LoRA of the model's family is taken."),
    CHOICE("acceleration", ANY, 0, "\"tensorrt\"", LIST("none", "xformers", "tensorrt"),
           "Kept; the plugin's own kernels run in any case."),
    ONE(BOOL, "use_denoising_batch", ANY, 0, "true", "Run the steps of several frames together."),
    ONE(BOOL, "do_add_noise", ANY, 0, "true", "Add noise between the steps."),
    RANGE(SEED, "seed", ANY, HOT, "789", 1, 8,
          "Start of the random numbers: one, or up to 8 of them with weights."),
    CHOICE("seed_interpolation_method", ANY, HOT, "\"linear\"", blends,
           "How several seeds are blended."),
    ONE(BOOL, "enable_similar_image_filter", ANY, 0, "false",
        "Repeat the last picture while the input hardly changes."),
    RANGE(NUMBER, "similar_image_filter_threshold", ANY, 0, "0.98", 0, 1,
          "Likeness from which frames may be skipped."),
    RANGE(INT, "similar_image_filter_max_skip_frame", ANY, 0, "10", 0, SAFE_INT,
          "After so many skipped frames one is made; 0: none is skipped."),
    ONE(BOOL, "skip_diffusion", ANY, 0, "false", "On: the input passes through."),
    OF("image_preprocessing", ANY, HOT, "null", image_block,
       "Kept, and warned of: the plugin has no such processors."),
    OF("image_postprocessing", ANY, HOT, "null", image_block,
       "Kept, and warned of: the plugin has no such processors."),
    OF("latent_preprocessing", ANY, HOT, "null", latent_block,
       "latent_feedback with feedback_strength: the last latent is mixed into the next."),
    OF("latent_postprocessing", ANY, HOT, "null", latent_block,
       "Kept, and warned of: the plugin has no such processors."),
    LIST_OF("controlnets", ANY, HOT, "[]", 16, controlnet,
            "Kept, and warned of: the plugin has no ControlNets yet."),
    OF("ip_adapter", STYLED, HOT,
       "{\"type\": \"regular\", \"enabled\": false, \"scale\": 1.0, \"weight_type\": \"linear\"}",
       ip_adapter, "Kept, and warned of: the plugin has no IP-Adapter yet."),
    ONE(PICTURE, "ip_adapter_style_image_url", STYLED, HOT, "null",
        "An http(s) address, or a data: URI of at most 5 MB."),
    OF("cached_attention", STYLED, HOT, "{\"enabled\": false, \"max_frames\": 1, \"interval\": 1}",
       cached_attention, "Kept, and warned of: the plugin has none yet."),
    CHOICE("video_codec", ANY, EXTRA, NULL, LIST("h264", "h265", "vp9"),
           "Kept; viewers and outputs agree on their own."),
    CHOICE("video_profile", ANY, EXTRA, NULL, LIST("baseline", "main", "high"), "Kept."),
    ONE(TEXT, "video_tune", ANY, EXTRA, NULL, "Kept."),
    ONE(TEXT, "video_preset", ANY, EXTRA, NULL, "Kept."),
    RANGE(INT, "video_bframes", ANY, EXTRA, NULL, 0, 16, "Kept."),
    RANGE(INT, "gop_size", ANY, EXTRA, NULL, 1, 300, "Kept."),
    {0},
};

const daydream_field *daydream_fields(void)
{
    return fields;
}

const daydream_field *daydream_field_find(const char *name)
{
    for (const daydream_field *f = fields; f->name; f++) {
        if (!strcmp(f->name, name))
            return f;
    }
    return NULL;
}
