/* prompt.c - see prompt.h. */
#include "prompt.h"

#include "alloc.h"
#include "blend.h"
#include "text.h"

#include <stdlib.h>

enum { PROMPT_SLOTS = 2 * PROMPT_MAX }; /* more than one blend, so that none evicts its own */

typedef struct prompt_slot {
    char *text;    /* owned; NULL: free */
    float *states; /* owned, prompts_size; stays with the slot */
    long used;     /* clock of the last blend that took it */
} prompt_slot;

struct prompts {
    k_ctx *k;       /* borrowed */
    const model *m; /* borrowed */
    k_tensor ids;   /* kept, K_I32 [1, 1, 77, 1] */
    prompt_slot slot[PROMPT_SLOTS];
    long clock, encoded;
    int skip; /* layers of the text encoders that are left out; of all slots */
    char notice[160];
};

prompts *prompts_open(k_ctx *k, const model *m, scope_error *err)
{
    prompts *p = sd_calloc(1, sizeof *p);
    if (!p) {
        scope_fail(err, SCOPE_ENOMEM, "Out of memory while preparing the prompts.");
        return NULL;
    }
    p->k = k;
    p->m = m;
    p->ids = k_keep(k, K_I32, 1, 1, TOKENIZER_LENGTH, 1);
    return p;
}

void prompts_close(prompts *p)
{
    if (!p)
        return;
    k_drop(p->k, &p->ids);
    for (int i = 0; i < PROMPT_SLOTS; i++) {
        free(p->slot[i].text);
        free(p->slot[i].states);
    }
    free(p);
}

size_t prompts_size(const prompts *p)
{
    return text_size(p->m);
}

long prompts_encoded(const prompts *p)
{
    return p->encoded;
}

const char *prompts_notice(const prompts *p)
{
    return p->notice;
}

/* states = what the text encoders make of p->ids; NULL while planning. */
static void encode(prompts *p, float *states)
{
    text_encode(p->k, p->m, p->ids, p->skip, states);
}

void prompts_plan(prompts *p)
{
    encode(p, NULL);
}

/* Ids of `text`, all within the text encoder's table. */
static int ids_of(prompts *p, const char *text, int32_t ids[TOKENIZER_LENGTH], scope_error *err)
{
    int count = tokenizer_encode(p->m->tokens, text, ids), size = p->m->config.text.vocab_size;
    if (count < 0)
        return scope_fail(err, SCOPE_ENOMEM, "Out of memory while encoding a prompt.");
    for (int i = 0; i < TOKENIZER_LENGTH; i++) {
        if (ids[i] >= size)
            return scope_fail_field(err, SCOPE_EIO, "model_id_or_path",
                                    "The tokenizer has token %d, the text encoder only %d tokens; "
                                    "they are not of one checkpoint.",
                                    (int)ids[i], size);
    }
    if (count > TOKENIZER_LENGTH - 2)
        snprintf(p->notice, sizeof p->notice,
                 "The prompt \"%.40s...\" has %d tokens; the model reads the first %d.", text,
                 count, TOKENIZER_LENGTH - 2);
    return 0;
}

/* Put `text` into the slot that was not used for longest. */
static prompt_slot *fill(prompts *p, const char *text, scope_error *err)
{
    prompt_slot *s = &p->slot[0];
    for (int i = 1; i < PROMPT_SLOTS; i++) {
        if (p->slot[i].used < s->used)
            s = &p->slot[i];
    }
    free(s->text);
    s->text = NULL;
    int32_t ids[TOKENIZER_LENGTH];
    if (ids_of(p, text, ids, err))
        return NULL;
    if (!s->states)
        s->states = sd_malloc(prompts_size(p) * sizeof *s->states);
    char *copy = sd_strdup(text);
    if (!s->states || !copy) {
        free(copy);
        scope_fail(err, SCOPE_ENOMEM, "Out of memory while encoding a prompt.");
        return NULL;
    }
    k_put(p->k, p->ids, ids);
    encode(p, s->states);
    s->text = copy;
    p->encoded++;
    return s;
}

void prompts_skip(prompts *p, int layers)
{
    for (int i = 0; i < PROMPT_SLOTS && layers != p->skip; i++) {
        free(p->slot[i].text);
        p->slot[i].text = NULL;
    }
    p->skip = layers;
}

/* The states of `text`, encoded now if they are not known. */
static const float *look_up(prompts *p, const char *text, scope_error *err)
{
    prompt_slot *s = NULL;
    for (int i = 0; i < PROMPT_SLOTS && !s; i++) {
        if (p->slot[i].text && !strcmp(p->slot[i].text, text))
            s = &p->slot[i];
    }
    if (!s)
        s = fill(p, text, err);
    if (!s)
        return NULL;
    s->used = p->clock;
    return s->states;
}

int prompts_encode(prompts *p, const prompt_blend *b, float *states, scope_error *err)
{
    static const prompt_blend empty = {.count = 1, .text = {""}, .weight = {1}};
    const float *part[PROMPT_MAX];
    if (!b->count)
        b = &empty;
    p->clock++;
    p->notice[0] = 0;
    for (int i = 0; i < b->count; i++) {
        part[i] = look_up(p, b->text[i], err);
        if (!part[i])
            return -1;
    }
    if (p->k->status) { /* what was just remembered is void */
        for (int i = 0; i < PROMPT_SLOTS; i++) {
            free(p->slot[i].text);
            p->slot[i].text = NULL;
        }
        return scope_fail(err, SCOPE_ENOMEM, "The text encoder failed: %.120s", p->k->where);
    }
    text_blend(p->m, states, part, b->weight, b->count, b->slerp ? BLEND_SLERP : BLEND_LINEAR);
    return 0;
}
