/* pipeline_state.h - a pipeline from inside: pipeline.c plans and runs frames on what
 * pipeline_set.c puts into force. Nobody else includes this.
 */
#ifndef SD_PIPELINE_STATE_H
#define SD_PIPELINE_STATE_H

#include "added.h"
#include "pipeline.h"

enum stage { STAGE_TEXT, STAGE_ENCODE, STAGE_UNET, STAGE_DECODE, STAGE_FRAME, STAGES };

enum { INPUT_MAX = 8192 }; /* pixels of an input's longer side */

/* Rows of the coefficient table: the first noising, then two a step but one for the last. */
enum { ROW_START = 0, ROWS_MAX = 2 * SCHEDULER_MAX_STEPS };
#define ROW_DENOISE(i) (1 + 2 * (i))
#define ROW_RENOISE(i) (2 + 2 * (i)) /* towards step i + 1 */

/* One text, ready for the UNet. */
typedef struct text_state {
    unet_text kv;  /* kept */
    added added;   /* SDXL's pooled text and sizes; nothing else has it */
    float *states; /* owned, host: what kv was made of */
    int known;     /* states and kv hold a text */
} text_state;

struct pipeline {
    const model *m; /* borrowed */
    k_ctx *k;       /* owned */
    prompts *prompts;
    float *states; /* owned, host: the blend under way */
    text_state wanted, unwanted;
    k_tensor timestep, guidance; /* kept [1, 1, 1, 1]: what unet_time reads */

    /* In force. */
    int ready;         /* 0 until pipeline_set succeeds, and after any failure */
    int width, height; /* planned for; 0: for none */
    unsigned coders;   /* autoencoders planned for, 1 << tiny; one that was used stays */
    int from_text, tiny, fit, add_noise, guided;
    double embedded_scale;  /* guidance that the time rows hold; 0: none */
    scheduler schedule;     /* whose timesteps the time rows hold */
    uint64_t seed;          /* of the noise */
    int drawn;              /* the noise is that of seed */
    int timed;              /* the time rows are those of schedule and embedded_scale */
    k_tensor time;          /* kept [steps, 1, 1, unet_time_channels] */
    int unwanted_timed;     /* the same of the unwanted text's own rows */
    k_tensor unwanted_time; /* kept, as time (SDXL); dtype 0: both texts have the same rows */
    k_tensor noise;         /* kept [steps, h, w, channels]: E_i */
    k_tensor coef;          /* kept [rows, 1, 1, 3] */

    k_tensor latent; /* of the last frame: lies first in the arena, where nothing else is put */
    double ms[STAGES];
    pipeline_counts counts;
    char notice[192];
};

/* Make ready for frames of a size; host is told how far it is, and is NULL on the frame thread. */
int pipeline_plan(pipeline *p, const scope_host *host, int width, int height, scope_error *err);
/* The time row of step i for the unwanted text: SDXL's has its own pooled text. */
k_tensor pipeline_unwanted_time(const pipeline *p, int i);
/* A clock. */
double pipeline_now_ms(void);

#endif
