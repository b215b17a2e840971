/* pipeline.h - one instance's frames: image in, denoise, image out.
 *
 *   z   = encode(frame)                         (image mode)
 *   x_0 = a_0 z + s_0 E_0                       or x_0 = E_0 (text mode)
 *   d_i = c_i x_i + o_i UNet(x_i, t_i, text)    for each step i
 *   x_i+1 = a_i+1 d_i + s_i+1 E_i+1
 *   frame = decode(d_last)
 *
 * The numbers are scheduler.h's; the noise E_i is a function of (seed, i) alone. Everything that a
 * frame reads (noise, coefficients, keys and values of the text, time rows) lies in kept tensors
 * that pipeline_set brings up to date, so a frame whose settings are those of the frame before
 * does nothing but the mathematics and allocates nothing.
 */
#ifndef SD_PIPELINE_H
#define SD_PIPELINE_H

#include "model.h"
#include "prompt.h"

typedef struct pipeline pipeline;

enum pipeline_fit { FIT_CROP = 1, FIT_STRETCH };

typedef struct pipeline_settings {
    int width, height; /* multiples of 8 */
    int fit;           /* enum pipeline_fit */
    int from_text;     /* start from noise alone, no input frame */
    int use_taesd;
    prompt_blend prompt;
    const char *negative_prompt;
    int clip_skip;     /* last layers of the text encoders that are left out */
    int original_size; /* SDXL: shorter side of the picture as the model is told; 0: the frame's */
    uint64_t seed;
    double guidance_scale; /* > 1: classifier-free guidance; or the model's embedding */
    int steps;
    double strength;
    int index_count; /* of t_index_list; 0: the grid of `steps` and `strength` */
    int index[SCHEDULER_MAX_STEPS];
    int do_add_noise; /* noise before steps 2, 3, ... */
} pipeline_settings;

/* m outlives the result. [load] */
pipeline *pipeline_open(const model *m, scope_error *err);
void pipeline_close(pipeline *p); /* [load] NULL is fine */

/* Put settings in force: replans for a new size, encodes a new text, redraws noise for a new seed.
 * Strings are borrowed for the call. On failure *err names the schema field, and the pipeline must
 * be set again before the next frame. [load] or [frame] */
int pipeline_set(pipeline *p, const pipeline_settings *s, scope_error *err);
/* The first pipeline_set, which prepares all weights: tells the host how far it is, and gives up
 * when the host says so. host may be NULL. [load] */
int pipeline_load(pipeline *p, const scope_host *host, const pipeline_settings *s,
                  scope_error *err);
/* What the person should know of the settings in force, or "". */
const char *pipeline_notice(const pipeline *p);

/* One frame. out has the settings' height and width; in has any size, or is NULL when the
 * pipeline starts from text. On failure the frame is void, and the pipeline must be set again
 * before the next. [frame] */
int pipeline_frame(pipeline *p, const k_image *in, const k_image *out, scope_error *err);

/* SCOPE_STAGES of the last pipeline_set and pipeline_frame: text, encode, unet, decode, frame. */
int pipeline_stages(const pipeline *p, scope_stage *stages, int max);

/* Counts for tests: plans made, texts encoded, noise drawn. */
typedef struct pipeline_counts {
    long plans, texts, noises;
} pipeline_counts;
pipeline_counts pipeline_count(const pipeline *p);

/* The latent that the last frame was decoded from, [height / 8, width / 8, channels], for tests:
 * valid until the pipeline is set again. */
void pipeline_latent(pipeline *p, float *latent);

#endif
