/* effects.h - what happens to pictures and latents around the networks.
 *
 *   input   = the frame, 0..1
 *   skip?     similar.h, on the cosine of the frame before this one and the last processed input
 *   fed     = (1 - m) input + m (1 - decay) warp(result of the frame before)         loopback
 *   z       = (1 - s) z + s (latent of the frame before, within +-10 of the scaled)  latent
 * feedback result  = input + mask (decoded - input),  mask = strength * blur(source)        mask
 * compositing out     = shown * result + (1 - shown) * input bypass fade
 *
 * The likeness of a frame is known one frame later: it is a sum on the device, and reading it at
 * once would stop the processor that feeds the device. So a change of the picture is seen with the
 * second frame that shows it, on every backend alike.
 *
 * History is the result, the latent and the last processed input of earlier frames. It is kept
 * whether or not an effect is on, so that each takes hold at once; a new size forgets it, but for
 * the result, which is resampled; effects_reset forgets all of it. What a failed frame leaves is
 * forgotten.
 *
 * A frame whose latent or picture has values that are not finite is lost: the result stays as it
 * was, bit by bit, so the last good frame is shown again and feeds back, and whatever else the lost
 * one has touched is forgotten. Where there was no good frame before it, the input is shown, or
 * black. The device decides by itself; the host learns of it when the call is done.
 *
 * A call may carry several frames, all of which are made, skipped and shown together; what feeds
 * back is the last of the call before. Where the result of a call shows the input of some calls
 * ago, it is composited with that input and its mask.
 *
 * All calls but open and close: [frame], nothing is allocated unless settings change.
 */
#ifndef SD_EFFECTS_H
#define SD_EFFECTS_H

#include "kernels/kernels.h"
#include "scope_plugin.h"
#include "similar.h"

typedef struct effects effects;

enum { EFFECTS_FRAMES_MAX = 8, EFFECTS_DELAY_MAX = 8 };

enum effects_mask { MASK_ALPHA = 1, MASK_INPUT };

typedef struct effects_settings {
    int loopback, loopback_mirror; /* mirror: what lies outside is mirrored, else the edge */
    double loopback_mix;           /* 0..1: share of the result before */
    double loopback_zoom;          /* per frame; above 1 comes closer */
    double loopback_rotate;        /* degrees per frame, clockwise */
    double loopback_decay;         /* 0..1: of the brightness, lost per frame */
    double latent_feedback;        /* 0..1 */
    int masked, mask_source;       /* enum effects_mask */
    double mask_feather;           /* pixels on either side of an edge, up to 2 * K_BLUR_MAX */
    double mask_strength;          /* 0..1 */
    int similar;
    double similar_threshold;
    int similar_max_skip;
} effects_settings;

/* What was not finite. */
enum { EFFECTS_LOST_LATENT = 1, EFFECTS_LOST_PICTURE = 2 };

/* What the settings of the pipeline add. */
typedef struct effects_frame {
    int width, height;
    int frames;          /* a call, 1..EFFECTS_FRAMES_MAX */
    int delay;           /* calls that a result lags behind its input, 0..EFFECTS_DELAY_MAX */
    int channels;        /* of a latent, which is [1, height / 8, width / 8, channels] */
    double latent_scale; /* of the autoencoder in use; another one forgets the latent */
    uint64_t seed;
} effects_frame;

/* k outlives the result. [load] */
effects *effects_open(k_ctx *k, scope_error *err);
void effects_close(effects *e); /* [load] NULL is fine */

/* Put settings in force; failures show in k->status. The next frame is not skipped. [load] or
 * [frame] */
void effects_set(effects *e, const effects_settings *s, const effects_frame *f);
/* Between k_plan_begin and k_plan_end, for inputs of up to the largest's size. */
void effects_plan(effects *e, const k_image *largest);
void effects_reset(effects *e);
/* The next frame is made whatever the filter says: something else than the input has changed. */
void effects_refresh(effects *e);

/* ---- one call, in this order ---- */

/* `in` has `frames` frames, or is NULL in text mode; mask has `frames` or one for all, or is NULL
 * where no mask is given. 1: the networks need not run, because the last results are repeated or
 * shown is 0; then go on with effects_finish. */
int effects_begin(effects *e, const k_image *in, const k_image *mask, double shown);
/* What to encode: [frames, h, w, 3] of 0..1. */
k_tensor effects_input(const effects *e);
/* z: [frames, ..], unscaled, as encoded; in place. */
void effects_latent_in(effects *e, k_tensor z);
/* z: [frames, ..], unscaled, as they will be decoded. */
void effects_latent_out(effects *e, k_tensor z);
/* picture: frame i, [1, h, w, 3], decoded; scale and bias bring it to 0..1. It is used up. */
void effects_decoded(effects *e, int i, k_tensor picture, float scale, float bias);
/* The pictures that were made, or repeated, to the host's. 1: a frame of this call was lost, so
 * what is under way with it has to be forgotten. */
int effects_finish(effects *e, const k_image *out);

/* What was lost lately: in the last calls, until good ones have come for a while (so that frames
 * that are lost now and then are told once). */
unsigned effects_lost(const effects *e);
/* Frames that were repeated since effects_open, those in place of lost ones among them. */
int64_t effects_repeats(const effects *e);

/* The affine map of kernels.h' warp for one frame of loopback, about the middle. */
void effects_map(float map[6], int width, int height, double zoom, double degrees);

#endif
