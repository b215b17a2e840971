/* stream.h - the denoiser of a pipeline: noisy latents in, clean ones out, several frames deep.
 *
 * There are n steps and F frames a call, so n F rows; row i F + f stands before step i. Kept are
 *
 *   X  the latents before each step        E  the noise of each step (noise.h)
 *   S  the noise known to be in X          for residual guidance (guidance.h)
 *
 * A call puts its F frames into the rows of step 0 and moves rows ahead by one step:
 *
 *   d = clean estimate of the rows;  X_i+1 = a_i+1 d_i + s_i+1 E_i+1;  the frames are d_n-1
 *
 * As a stream batch all rows move at once, in one pass of the network: each step holds another
 * frame, and what comes out entered n - 1 calls ago. In sequence the F frames of the call go
 * through all steps, and the rows are left as if these frames had been fed n times. The two differ
 * in nothing else; so a batch is filled by one call in sequence, and no frame ever shows an empty
 * buffer.
 *
 * Every frame has the same noise at the same step, whatever F is: how many frames share a call does
 * not show.
 */
#ifndef SD_STREAM_H
#define SD_STREAM_H

#include "guidance.h"
#include "noise.h"

enum { STREAM_MAX_BATCH = 8 }; /* steps in a batch; more are run in sequence */

typedef struct stream_plan {
    int steps, frames; /* n, F */
    int batch;         /* all steps in one pass */
    int h, w, channels;
    int from_text, add_noise;
    guidance guide;
    double scale; /* of latents: the autoencoder's scaling factor */
    scheduler schedule;
} stream_plan;

typedef struct stream {
    stream_plan plan; /* in force */
    noise noise;
    k_tensor x, s; /* kept [n F, h, w, channels] */
    k_tensor coef; /* kept: rows for mix, see stream.c */
    int filled;    /* x, and s when guided by residual, hold frames of this plan */
} stream;

struct pipeline;

/* Rows of one pass of the network. */
int stream_rows(const stream_plan *s);
/* Tensors for a plan; what was in one that changes its shape is void. Failures: k->status. */
void stream_resize(k_ctx *k, stream *s, const stream_plan *to);
/* Put a plan into force: coefficients, and what is on its way is brought to the new noise levels.
 * Needs noise.e to be that of the last frame. [frame] */
void stream_set(k_ctx *k, stream *s, const stream_plan *to);
void stream_fini(k_ctx *k, stream *s);

/* The rows of step 0, for the latents of new frames; then the noise is put to them. */
k_tensor stream_entry(const stream *s);
void stream_noise(k_ctx *k, const stream *s);
/* One call. The result [F, h, w, channels], divided by the plan's scale, lies in d, which is a
 * tensor of the arena with stream_rows rows. [frame] */
k_tensor stream_denoise(struct pipeline *p, k_tensor d);
/* Frames between input and output. */
int stream_latency(const stream_plan *s);
/* For planning: every pass that stream_denoise may run. */
void stream_plan_passes(struct pipeline *p, k_tensor d);

#endif
