/* conditioning.c - see conditioning.h.
 *
 * The text encoder has a context of its own, so that it may run beside the frames. The settings
 * that wait for it are copied: `asked` and its strings are this file's until they are in force.
 */
#include "conditioning.h"

#include "alloc.h"
#include "background.h"

#include <stdlib.h>

enum { QUIET_MS = 100, MOST_MS = 400, TEXTS_MAX = PROMPT_MAX + 2, STORE_AT_FIRST = 16 << 10 };

/* One text on its way. All arrays are owned, on the host, of prompts_size floats. */
typedef struct text_state {
    unet_text kv; /* kept: of `shown` */
    float *from, *target, *shown;
    int step, steps;   /* equal: there */
    int slerp, easing; /* of the way there */
    int known;         /* target and shown hold a text */
    int stale;         /* kv is not that of shown */
} text_state;

struct conditioning {
    k_ctx *k;       /* borrowed: the frames' */
    k_ctx *encoder; /* owned: the text encoder's */
    const model *m; /* borrowed */
    prompts *prompts;
    background *thread; /* NULL until it is needed */
    int planned;
    float *blend, *negative, *empty; /* owned: a target under way, and what it is made of */
    text_state wanted, unwanted;
    int seen;                    /* a frame was made: before, its texts are waited for */
    int begun;                   /* one since a reset: before, there is nothing to come from */
    int guided;                  /* in force */
    uint64_t identity;           /* of the last transition that was asked for; 0: none */
    conditioning_settings asked; /* what waits, with its strings in `store` */
    char *store;                 /* owned: its texts, one behind the other */
    size_t stored, room;
    long ticket; /* of the thread; 0: nothing waits */
    char notice[192];
};

/* ---- life ------------------------------------------------------------------------------------ */

static int state_init(conditioning *c, text_state *t)
{
    size_t size = prompts_size(c->prompts);
    t->from = sd_malloc(size * sizeof *t->from);
    t->target = sd_malloc(size * sizeof *t->target);
    t->shown = sd_malloc(size * sizeof *t->shown);
    unet_text_keep(c->k, c->m->unet, &t->kv, 1, TOKENIZER_LENGTH);
    return t->from && t->target && t->shown ? 0 : -1;
}

static void state_fini(conditioning *c, text_state *t)
{
    unet_text_drop(c->k, &t->kv);
    free(t->from);
    free(t->target);
    free(t->shown);
}

static int open_all(conditioning *c, scope_error *err)
{
    char why[K_WHY] = "";
    c->encoder = k_open(c->m->device, why);
    if (!c->encoder)
        return scope_fail(err, SCOPE_ENOMEM, "%.180s", why);
    c->prompts = prompts_open(c->encoder, c->m, err);
    if (!c->prompts)
        return -1;
    size_t bytes = prompts_size(c->prompts) * sizeof(float);
    c->blend = sd_malloc(bytes);
    c->negative = sd_malloc(bytes);
    c->empty = sd_malloc(bytes);
    c->store = sd_malloc(STORE_AT_FIRST);
    c->room = STORE_AT_FIRST;
    if (!state_init(c, &c->wanted) && !state_init(c, &c->unwanted) && c->blend && c->negative &&
        c->empty && c->store && !c->k->status && !c->encoder->status)
        return 0;
    const k_ctx *failed = c->k->status ? c->k : c->encoder->status ? c->encoder : NULL;
    if (failed)
        return scope_fail(err, SCOPE_ENOMEM, "The pipeline cannot be opened: %s", failed->where);
    return scope_fail(err, SCOPE_ENOMEM, "Out of memory while opening the pipeline.");
}

conditioning *conditioning_open(k_ctx *k, const model *m, scope_error *err)
{
    conditioning *c = sd_calloc(1, sizeof *c);
    if (!c) {
        scope_fail(err, SCOPE_ENOMEM, "Out of memory while opening the pipeline.");
        return NULL;
    }
    c->k = k;
    c->m = m;
    if (!open_all(c, err))
        return c;
    conditioning_close(c);
    return NULL;
}

void conditioning_close(conditioning *c)
{
    if (!c)
        return;
    background_close(c->thread);
    if (c->prompts) {
        state_fini(c, &c->wanted);
        state_fini(c, &c->unwanted);
    }
    prompts_close(c->prompts);
    k_close(c->encoder);
    free(c->blend);
    free(c->negative);
    free(c->empty);
    free(c->store);
    free(c);
}

static k_tensor states_temp(conditioning *c)
{
    blend_shape s = prompts_shape(c->prompts);
    return k_temp(c->k, K_F32, 1, 1, s.tokens, s.width);
}

/* The encoder sees one shape for ever, so it is planned once, whatever size the frames have. */
void conditioning_plan(conditioning *c)
{
    size_t mark = k_mark(c->k);
    if (!c->planned) {
        k_plan_begin(c->encoder);
        prompts_plan(c->prompts);
        c->planned = !k_plan_end(c->encoder);
        if (!c->planned)
            k_fail(c->k, "%.150s", c->encoder->where);
    }
    unet_text_set(c->k, c->m->unet, &c->wanted.kv, states_temp(c));
    k_release(c->k, mark);
}

/* ---- the texts of settings ------------------------------------------------------------------- */

static int turns_away(const conditioning_settings *s)
{
    return !s->guided && s->negative[0] && s->negative_scale > 0;
}

/* All texts that the settings need; live ones, also those that the next change may. */
static int texts_of(const conditioning_settings *s, const char *texts[TEXTS_MAX])
{
    int n = 0;
    for (; n < s->prompt.count; n++)
        texts[n] = s->prompt.text[n];
    if (s->guided || turns_away(s) || s->live)
        texts[n++] = s->negative;
    if (!s->prompt.count || turns_away(s) || s->live)
        texts[n++] = "";
    return n;
}

static int all_known(conditioning *c, const conditioning_settings *s)
{
    const char *texts[TEXTS_MAX];
    int known = 1;
    for (int i = texts_of(s, texts) - 1; i >= 0 && known; i--)
        known = prompts_known(c->prompts, texts[i]);
    return known;
}

static int learn_all(conditioning *c, const conditioning_settings *s, scope_error *err)
{
    const char *texts[TEXTS_MAX];
    for (int i = texts_of(s, texts) - 1; i >= 0; i--) {
        if (prompts_learn(c->prompts, texts[i], err))
            return -1;
    }
    return 0;
}

static int learn_one(void *ctx, const char *text, scope_error *err)
{
    return prompts_learn(ctx, text, err);
}

/* ---- targets --------------------------------------------------------------------------------- */

static uint64_t mix_in(uint64_t hash, const void *data, size_t bytes)
{
    const unsigned char *at = data;
    for (size_t i = 0; i < bytes; i++)
        hash = (hash ^ at[i]) * 1099511628211u; /* FNV-1a */
    return hash;
}

/* What tells one transition that is asked for from another: its frames, its way, its texts. */
static uint64_t identity_of(const conditioning_settings *s)
{
    const conditioning_transition *t = &s->transition;
    uint64_t hash = 14695981039346656037u;
    if (!t->asked)
        return 0;
    hash = mix_in(mix_in(hash, &t->steps, sizeof t->steps), &t->slerp, sizeof t->slerp);
    for (int i = 0; i < s->prompt.count; i++) {
        hash = mix_in(hash, s->prompt.text[i], strlen(s->prompt.text[i]) + 1);
        hash = mix_in(hash, &s->prompt.weight[i], sizeof s->prompt.weight[i]);
    }
    return hash | 1;
}

/* The text is to become c->blend; `begin` says that a transition may be begun for an old target. */
static void aim(conditioning *c, text_state *t, const conditioning_transition *way, int begin)
{
    size_t bytes = prompts_size(c->prompts) * sizeof(float);
    if (t->known && !begin && !memcmp(t->target, c->blend, bytes))
        return;
    memcpy(t->target, c->blend, bytes);
    t->slerp = way->slerp;
    t->easing = way->easing;
    t->step = t->steps = t->known && c->begun ? way->steps : 0;
    if (t->steps) {
        t->step = 0;
        memcpy(t->from, t->shown, bytes);
    } else {
        memcpy(t->shown, t->target, bytes);
        t->stale = 1;
    }
    t->known = 1;
}

/* All texts are known, but for what the cache has forgotten meanwhile: then -1. */
static int put_in_force(conditioning *c, const conditioning_settings *s)
{
    const prompt_blend one = {.count = 1, .text = {s->negative}, .weight = {1}};
    const prompt_blend none = {.count = 0};
    char notice[sizeof c->notice] = "";
    uint64_t identity = identity_of(s);
    int begin = identity && identity != c->identity;
    conditioning_transition way = s->transition;
    if (prompts_blend(c->prompts, &s->prompt, c->blend, notice, sizeof notice))
        return -1;
    if (s->guided && text_is_zero(c->m, s->negative)) {
        memset(c->negative, 0, prompts_size(c->prompts) * sizeof(float));
    } else if (s->guided || turns_away(s)) {
        if (prompts_blend(c->prompts, &one, c->negative, notice, sizeof notice))
            return -1;
    }
    if (turns_away(s)) {
        if (prompts_blend(c->prompts, &none, c->empty, notice, sizeof notice))
            return -1;
        blend_away(c->blend, c->negative, c->empty, s->negative_scale, prompts_shape(c->prompts));
    }
    aim(c, &c->wanted, &way, begin);
    if (s->guided) { /* what was not in use does not show: it cuts */
        memcpy(c->blend, c->negative, prompts_size(c->prompts) * sizeof(float));
        way.steps = c->guided ? way.steps : 0;
        aim(c, &c->unwanted, &way, begin);
    }
    c->guided = s->guided;
    c->identity = identity;
    memcpy(c->notice, notice, sizeof notice);
    return 0;
}

/* ---- waiting --------------------------------------------------------------------------------- */

/* c->asked = s, with its own strings; 1 when its texts are those that wait already. */
static int keep(conditioning *c, const conditioning_settings *s)
{
    const char *texts[TEXTS_MAX];
    int n = texts_of(s, texts), same = c->ticket > 0 && c->asked.clip_skip == s->clip_skip;
    size_t bytes = 0, at = 0;
    for (int i = 0; i < n; i++)
        bytes += strlen(texts[i]) + 1;
    char *larger = bytes > c->room ? sd_grow(c->store, bytes, 1) : c->store;
    if (!larger)
        return -1;
    c->store = larger;
    c->room = bytes > c->room ? bytes : c->room;
    same = same && bytes == c->stored;
    c->asked = *s;
    for (int i = 0; i < n; i++) {
        size_t length = strlen(texts[i]) + 1;
        same = same && !memcmp(c->store + at, texts[i], length);
        memcpy(c->store + at, texts[i], length);
        if (i < s->prompt.count)
            c->asked.prompt.text[i] = c->store + at;
        else if (i == s->prompt.count) /* live settings always hold it */
            c->asked.negative = c->store + at;
        at += length;
    }
    c->stored = bytes;
    return same;
}

/* Leave the texts to the thread. */
static int wait_for(conditioning *c, const conditioning_settings *s, scope_error *err)
{
    int same = keep(c, s);
    long ticket = same > 0 ? c->ticket : -1;
    if (!same)
        ticket = background_post(c->thread, c->store, c->stored);
    if (ticket < 0)
        return scope_fail(err, SCOPE_ENOMEM, "Out of memory while taking a prompt.");
    c->ticket = ticket;
    return 0;
}

/* Have the texts that wait arrived? */
static void look(conditioning *c)
{
    scope_error why;
    if (background_done(c->thread, &why) < c->ticket)
        return;
    c->ticket = 0;
    if (why.status)
        snprintf(c->notice, sizeof c->notice, "The prompt stays as it was: %.150s", why.text);
    else if (put_in_force(c, &c->asked)) /* so many others came that they are forgotten again */
        c->ticket = background_post(c->thread, c->store, c->stored);
}

int conditioning_set(conditioning *c, const conditioning_settings *s, scope_error *err)
{
    int bare = !c->seen || (s->guided && !c->unwanted.known);
    prompts_skip(c->prompts, s->clip_skip);
    if (s->live && !c->thread) {
        const background_options o = {QUIET_MS, MOST_MS, learn_one, c->prompts};
        c->thread = background_open(&o, err);
        if (!c->thread)
            return -1;
    }
    if (s->live && !bare && !all_known(c, s))
        return wait_for(c, s, err);
    c->ticket = 0;
    if (learn_all(c, s, err))
        return -1;
    if (put_in_force(c, s))
        return scope_fail(err, SCOPE_ENOMEM, "A prompt was forgotten while others were encoded.");
    return 0;
}

/* ---- each frame ------------------------------------------------------------------------------ */

static double eased(double t, int easing)
{
    switch (easing) {
    case EASE_IN:
        return t * t;
    case EASE_OUT:
        return t * (2 - t);
    case EASE_IN_OUT:
        return t * t * (3 - 2 * t);
    default:
        return t;
    }
}

/* One frame further; 1 when kv has changed. */
static int advance(conditioning *c, text_state *t)
{
    if (t->step < t->steps) {
        double x = eased((double)++t->step / t->steps, t->easing), weight[] = {1 - x, x};
        const float *ends[] = {t->from, t->target};
        blend_shape shape = prompts_shape(c->prompts);
        if (t->step < t->steps)
            blend_embeddings(t->shown, ends, weight, 2, shape,
                             t->slerp ? BLEND_SLERP : BLEND_LINEAR);
        else
            memcpy(t->shown, t->target, blend_size(shape) * sizeof(float));
        t->stale = 1;
    }
    if (!t->stale)
        return 0;
    k_release(c->k, 0);
    k_tensor states = states_temp(c);
    k_put(c->k, states, t->shown);
    unet_text_set(c->k, c->m->unet, &t->kv, states);
    k_release(c->k, 0);
    t->stale = c->k->status != 0;
    return 1;
}

int conditioning_advance(conditioning *c)
{
    if (c->ticket > 0)
        look(c);
    c->seen = c->begun = 1;
    int changed = advance(c, &c->wanted);
    if (c->guided || c->unwanted.stale)
        changed |= advance(c, &c->unwanted);
    return changed;
}

static void arrive(conditioning *c, text_state *t)
{
    if (t->step == t->steps)
        return;
    memcpy(t->shown, t->target, prompts_size(c->prompts) * sizeof(float));
    t->step = t->steps;
    t->stale = 1;
}

void conditioning_reset(conditioning *c)
{
    arrive(c, &c->wanted);
    arrive(c, &c->unwanted);
    c->begun = 0;
}

int conditioning_known(const conditioning *c, int unwanted)
{
    return c->wanted.known && (!unwanted || c->unwanted.known);
}

void conditioning_forget(conditioning *c)
{
    c->wanted.stale = c->unwanted.stale = 1;
}

void conditioning_hold(conditioning *c)
{
    prompts_hold(c->prompts);
}

void conditioning_release(conditioning *c, int any, int text)
{
    prompts_release(c->prompts, text);
    if (any)
        conditioning_forget(c);
}

/* ---- what there is to know ------------------------------------------------------------------- */

const unet_text *conditioning_wanted(const conditioning *c)
{
    return &c->wanted.kv;
}

const unet_text *conditioning_unwanted(const conditioning *c)
{
    return &c->unwanted.kv;
}

const char *conditioning_notice(const conditioning *c)
{
    return c->notice;
}

long conditioning_encoded(const conditioning *c)
{
    return prompts_encoded(c->prompts);
}

const float *conditioning_shown(const conditioning *c)
{
    return c->wanted.shown;
}

const float *conditioning_shown_unwanted(const conditioning *c)
{
    return c->unwanted.shown;
}

int conditioning_waits(const conditioning *c)
{
    return c->ticket > 0;
}
