/* pipeline.h - one instance's frames: image in, denoise, image out.
 *
 *   z   = encode(frame)                         (image mode)
 *   x_0 = a_0 z + s_0 E_0                       or x_0 = E_0 (text mode)
 *   d_i = the clean estimate of x_i             for each step i (guidance.h)
 *   x_i+1 = a_i+1 d_i + s_i+1 E_i+1
 *   frame = decode(d_last)
 *
 * The numbers are scheduler.h's; the noise E_i is a function of the seeds and i (noise.h); the
 * steps of one frame run in one call, or one in each of several calls (stream.h). Everything that a
 * frame reads (noise, coefficients, keys and values of the text, time rows) lies in kept tensors
 * that pipeline_set brings up to date, so a frame whose settings are those of the frame before
 * does nothing but the mathematics and allocates nothing.
 */
#ifndef SD_PIPELINE_H
#define SD_PIPELINE_H

#include "conditioning.h"
#include "effects.h"
#include "guidance.h"
#include "model.h"
#include "noise.h"

typedef struct pipeline pipeline;

enum pipeline_fit { FIT_CROP = 1, FIT_STRETCH };

typedef struct pipeline_settings {
    int width, height; /* multiples of 8 */
    int fit;           /* enum pipeline_fit */
    int from_text;     /* no input frame: start from noise alone, or with loopback from the result
                          before */
    int use_taesd;
    prompt_blend prompt;
    const char *negative_prompt;
    double negative_scale; /* of the negative prompt where guidance does not use it; 0: off */
    conditioning_transition transition;
    int clip_skip;     /* last layers of the text encoders that are left out */
    int original_size; /* SDXL: shorter side of the picture as the model is told; 0: the frame's */
    int live;          /* texts may take effect late rather than hold up a frame */
    uint64_t seed;
    noise_seeds seeds;     /* count 0: `seed` alone */
    int noise_refresh;     /* frames after which the noise is drawn anew; 0: never */
    double guidance_scale; /* > 1: classifier-free guidance; or the model's embedding */
    int cfg_type;          /* enum guidance_kind */
    double delta;
    int steps;
    double strength;
    int index_count; /* of t_index_list; 0: the grid of `steps` and `strength` */
    int index[SCHEDULER_MAX_STEPS];
    int timestep_count; /* of timesteps, which comes before t_index_list; 0: not given */
    int timestep[SCHEDULER_MAX_STEPS];
    int do_add_noise;        /* noise before steps 2, 3, ... */
    int use_denoising_batch; /* up to STREAM_MAX_BATCH steps: one step of several frames a call */
    int frame_buffer_size;   /* frames a call; 0 is 1 */
    effects_settings effects;
} pipeline_settings;

enum { PIPELINE_MAX_FRAMES = 8 }; /* a call */

/* m outlives the result. [load] */
pipeline *pipeline_open(const model *m, scope_error *err);
void pipeline_close(pipeline *p); /* [load] NULL is fine */

/* Put settings in force: replans for a new size, encodes a new text, redraws noise for a new seed.
 * Strings are borrowed for the call. On failure *err names the schema field, and the settings
 * before stay in force wherever there were any (pipeline_ready). [load] or [frame] */
int pipeline_set(pipeline *p, const pipeline_settings *s, scope_error *err);
/* The first pipeline_set, which prepares all weights: tells the host how far it is, and gives up
 * when the host says so. host may be NULL. [load] */
int pipeline_load(pipeline *p, const scope_host *host, const pipeline_settings *s,
                  scope_error *err);
/* Around a change of the model's weights, after which pipeline_set has to follow: between the two
 * no text is encoded. any: something has changed; text: the text encoder's weights, too. [frame] */
void pipeline_reweigh(pipeline *p);
void pipeline_reweighted(pipeline *p, int any, int text);
/* What the person should know of frames that were left out, or of the settings in force, or "". */
const char *pipeline_notice(const pipeline *p);

/* Can a frame be made? Not before pipeline_set has succeeded, nor after a frame that failed. */
int pipeline_ready(const pipeline *p);
/* Of the frames in force. */
void pipeline_size(const pipeline *p, int *width, int *height);
/* Frames by which the output lags behind the input: (steps - 1) times the frames a call in a stream
 * batch, else 0. */
int pipeline_latency(const pipeline *p);
/* Forget all frames: the next call begins a stream. [frame] */
void pipeline_reset(pipeline *p);

/* One call: frame_buffer_size frames, which in->t and out->t are. out has the settings' height and
 * width; in has any size, or is NULL when the pipeline starts from text. On failure the frame is
 * void; when the pipeline is not ready after it, it must be set again. [frame] */
int pipeline_frame(pipeline *p, const k_image *in, const k_image *out, scope_error *err);

/* What the next call is made of beside its input, and that call alone: the picture of a mask, of
 * any size (NULL: none; borrowed until pipeline_frame returns), and the share of the result that
 * shows over the input, 0 to run no network. Not called: no mask, 1. [frame] */
void pipeline_with(pipeline *p, const k_image *mask, double shown);
/* Frames that were repeated instead of made, so far. [frame] */
int64_t pipeline_repeats(const pipeline *p);

/* SCOPE_STAGES of the last pipeline_set and pipeline_frame: text, encode, unet, decode, frame. */
int pipeline_stages(const pipeline *p, scope_stage *stages, int max);

/* Counts for tests: plans made, texts encoded, noise drawn. */
typedef struct pipeline_counts {
    long plans, texts, noises;
} pipeline_counts;
pipeline_counts pipeline_count(const pipeline *p);

/* The latents that the last call's frames were decoded from, [frames, height / 8, width / 8,
 * channels], for tests: valid until the pipeline is set again. */
void pipeline_latent(pipeline *p, float *latent);

#endif
