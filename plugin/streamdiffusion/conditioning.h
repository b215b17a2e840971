/* conditioning.h - the texts that a frame is made under, wanted and unwanted, and how they change.
 *
 * conditioning_set says what is asked for; conditioning_advance, once a frame, moves what the UNet
 * reads towards it: at once, or over so many frames. Where the frames are watched live, texts that
 * are not known yet are encoded on a thread of their own while the frames go on with the last good
 * ones; else they are encoded in conditioning_set, so that a frame shows exactly its parameters.
 *
 *   target  = the blend of the prompts; without guidance, turned away from the negative prompt
 *             (a negative that guidance uses is zeros where text_is_zero says so)
 *   frame j of K after a change:  blend(from, target; 1 - t, t),  t = ease(j / K),  j = 1..K
 *   from    = what the last frame was made under, also in the middle of another transition
 *
 * so nothing jumps, no frame repeats the old text, and frame K has the target to the bit. Each
 * frame of a transition costs the blend, and the keys and values of the cross-attentions.
 */
#ifndef SD_CONDITIONING_H
#define SD_CONDITIONING_H

#include "prompt.h"

enum conditioning_easing { EASE_LINEAR = 0, EASE_IN, EASE_OUT, EASE_IN_OUT };

typedef struct conditioning_transition {
    int steps;  /* frames; 0 cuts */
    int slerp;  /* between the two embeddings; else linear, keeping the norm */
    int easing; /* enum conditioning_easing */
    int asked;  /* a transition of its own: begins when it differs from the last, whatever the
                   prompts were, and is not begun again by the same */
} conditioning_transition;

typedef struct conditioning_settings {
    prompt_blend prompt;
    const char *negative;
    double negative_scale; /* without guidance: blend_away's; 0: off */
    int guided;            /* the UNet runs on the negative prompt, too */
    int live;              /* somebody watches: never wait for the text encoder */
    int clip_skip;         /* last layers of the text encoders that are left out */
    conditioning_transition transition;
} conditioning_settings;

typedef struct conditioning conditioning;

/* k and m outlive the result; k is the frames'. [load] */
conditioning *conditioning_open(k_ctx *k, const model *m, scope_error *err);
void conditioning_close(conditioning *c); /* [load] NULL is fine */
/* What the frames' k has to be planned for. [load] or [frame] */
void conditioning_plan(conditioning *c);

/* Strings are borrowed for the call. Until a frame was made, the text encoder is waited for in any
 * case. [load] or [frame] */
int conditioning_set(conditioning *c, const conditioning_settings *s, scope_error *err);
/* Before each frame. 1 when the keys and values have changed, 0 when not; a text that could not be
 * encoded is told by the notice, and the frames go on as before. [frame] */
int conditioning_advance(conditioning *c);
/* Another stream begins: transitions are at their ends, and none leads to its first frame. [frame]
 */
void conditioning_reset(conditioning *c);
/* Are there texts to go on with; unwanted: also a negative one? */
int conditioning_known(const conditioning *c, int unwanted);
/* Around a change of the model's weights: no text is encoded between the two, and afterwards what
 * is shown is made anew with the next settings. text: the encoder's weights, too. [frame] */
void conditioning_hold(conditioning *c);
void conditioning_release(conditioning *c, int any, int text);
/* The kept tensors are void (after a failure of k): fill them anew at the next advance. */
void conditioning_forget(conditioning *c);

/* What the UNet reads. The second is of use where the settings say guided. */
const unet_text *conditioning_wanted(const conditioning *c);
const unet_text *conditioning_unwanted(const conditioning *c);
/* What the person should know of the texts in force, or "". */
const char *conditioning_notice(const conditioning *c);
/* How many texts went through the encoder so far. */
long conditioning_encoded(const conditioning *c);
/* What `wanted` was made of, a flat vector of text.h; valid until the next advance. */
const float *conditioning_shown(const conditioning *c);
/* The same of `unwanted`. */
const float *conditioning_shown_unwanted(const conditioning *c);
/* Is a text that was asked for still being encoded? */
int conditioning_waits(const conditioning *c);

#endif
