/* pipeline_state.h - a pipeline from inside: pipeline.c plans and runs frames on what
 * pipeline_set.c puts into force. Nobody else includes this.
 */
#ifndef SD_PIPELINE_STATE_H
#define SD_PIPELINE_STATE_H

#include "added.h"
#include "pipeline.h"
#include "stream.h"

enum stage { STAGE_TEXT, STAGE_ENCODE, STAGE_UNET, STAGE_DECODE, STAGE_FRAME, STAGES };

enum { INPUT_MAX = 8192 }; /* pixels of an input's longer side */

struct pipeline {
    const model *m;              /* borrowed */
    k_ctx *k;                    /* owned */
    conditioning *text;          /* owned: what the UNet attends to */
    k_tensor timestep, guidance; /* kept [1, 1, 1, 1]: what unet_time reads */
    added wanted, unwanted;      /* SDXL: what joins the time rows of either text */

    /* In force. */
    int ready;                /* 0 until pipeline_set succeeds, and after a failed frame */
    int width, height;        /* planned for; 0: for none */
    int rows;                 /* of one pass of the UNet, planned for */
    unsigned coders;          /* autoencoders planned for, 1 << tiny; one that was used stays */
    int from_text, tiny, fit; /* from_text: from noise alone */
    int no_input;             /* frames have no input */
    int guided;               /* unwanted is read */
    double embedded_scale;    /* guidance that the time rows hold; 0: none */
    int original_size;
    scheduler schedule;     /* whose timesteps the time rows hold */
    int timed;              /* the time rows are those of schedule, embedded_scale and added row */
    k_tensor time;          /* kept [steps * frames, 1, 1, unet_time_channels] */
    int unwanted_timed;     /* the same of the unwanted text's own rows */
    k_tensor unwanted_time; /* kept, as time (SDXL); dtype 0: both texts have the same rows */
    stream stream;
    noise_seeds seeds;
    int noise_refresh;
    int64_t frames;      /* made since the stream began */
    effects *effects;    /* owned */
    const k_image *mask; /* borrowed, of the next call; or NULL */
    double shown;        /* of the next call */
    /* The last settings that were put into force, but for their texts, whose keys and values are
     * kept; width 0: none. What a failed pipeline_set goes back to. */
    pipeline_settings good;

    k_tensor latent; /* of the last frames: lies first in the arena, where nothing else is put */
    double ms[STAGES];
    pipeline_counts counts;
    char notice[192];
};

/* Make ready for frames of a size; host is told how far it is, and is NULL on the frame thread. */
int pipeline_plan(pipeline *p, const scope_host *host, int width, int height, scope_error *err);
/* Bring the time rows up to date with the schedule, and with the texts that are shown. [frame] */
void pipeline_renew_time(pipeline *p);
/* The noise of the next call: drawn when it is due, by the settings and p->frames alone. */
void pipeline_refresh_noise(pipeline *p);
/* A clock. */
double pipeline_now_ms(void);

#endif
