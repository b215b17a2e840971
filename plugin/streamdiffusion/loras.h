/* loras.h - the LoRAs in force on a model: added, taken away and weighed anew between frames.
 *
 * Files that were read stay known (the newest LORAS_KNOWN of those not in force), so a new weight
 * touches numbers in memory alone, and only of the modules whose sum changes; a file that is new is
 * read in whole when it is first asked for, which takes as long as the disk does. One that is asked
 * for with scale 0 is read and does nothing yet.
 *
 * Must stay true: the model is claimed (model_claim) while any LoRA is in force.
 */
#ifndef SD_LORAS_H
#define SD_LORAS_H

#include "lora.h"

enum { LORAS_MAX = 32, LORAS_KNOWN = 8 };

typedef struct lora_want {
    const char *path; /* of the file */
    double scale;
} lora_want;

typedef struct loras loras;

/* m outlives the result. [load] */
loras *loras_open(const model *m, scope_error *err);
/* Takes all LoRAs away first. [load] NULL is fine */
void loras_close(loras *l);

enum {
    LORAS_UNET = 1 << MODEL_UNET,
    LORAS_TEXT = 1 << MODEL_TEXT,
    LORAS_TEXT_2 = 1 << MODEL_TEXT_2, /* SDXL's second text encoder */
};

/* Put exactly these in force; a file that stands twice has the sum of its scales. Returns which
 * networks changed, 0 for none. -1 with *err when a file cannot be used: then all is as before; or
 * when memory is short: then none may be in force (loras_active tells). [load] or [frame], between
 * frames; on all threads of the device. */
int loras_set(loras *l, const lora_want *list, int count, scope_error *err);
/* How many are in force with a scale other than 0. */
int loras_active(const loras *l);
/* What the person should know of the files in the last list, or "". */
const char *loras_notice(const loras *l);
/* Files read so far, weights changed so far: for tests. */
long loras_read(const loras *l);
long loras_changed(const loras *l);

#endif
