/* prompt.c - see prompt.h.
 *
 * Two locks: `lock` guards the slots and is held for copies and blends only; `encoder` is held
 * while a text goes through the network. Slot 0 is the empty text's, which emphasis and negatives
 * are measured from: it is never given away.
 */
#include "prompt.h"

#include "alloc.h"
#include "prompt_syntax.h"

#include <pthread.h>
#include <stdlib.h>

enum { ROOM = TOKENIZER_LENGTH - 2 };

/* What an embedding is a function of. */
typedef struct prompt_key {
    int32_t ids[TOKENIZER_LENGTH];
    float weight[TOKENIZER_LENGTH];
    int32_t skip; /* layers of the text encoders that are left out */
} prompt_key;

typedef struct prompt_slot {
    char *text; /* owned: as it was typed last; NULL: free */
    prompt_key key;
    float *states;    /* owned; stays with the slot */
    char notice[160]; /* or "" */
    long used;        /* clock of the last use */
} prompt_slot;

struct prompts {
    k_ctx *k;       /* borrowed; under encoder */
    const model *m; /* borrowed */
    k_tensor ids;   /* kept, K_I32 [1, 1, 77, 1]; under encoder */
    float *states;  /* owned: the text under way; under encoder */
    pthread_mutex_t lock, encoder;
    prompt_slot slot[PROMPT_SLOTS]; /* under lock, as the rest */
    long clock, encoded;
    int skip; /* of what is asked for */
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
    pthread_mutex_init(&p->lock, NULL);
    pthread_mutex_init(&p->encoder, NULL);
    p->ids = k_keep(k, K_I32, 1, 1, TOKENIZER_LENGTH, 1);
    p->states = sd_malloc(prompts_size(p) * sizeof *p->states);
    if (p->states)
        return p;
    scope_fail(err, SCOPE_ENOMEM, "Out of memory while preparing the prompts.");
    prompts_close(p);
    return NULL;
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
    free(p->states);
    pthread_mutex_destroy(&p->lock);
    pthread_mutex_destroy(&p->encoder);
    free(p);
}

blend_shape prompts_shape(const prompts *p)
{
    return (blend_shape){
        .tokens = TOKENIZER_LENGTH, .width = text_width(p->m), .tail = text_pooled(p->m)};
}

size_t prompts_size(const prompts *p)
{
    return blend_size(prompts_shape(p));
}

long prompts_encoded(prompts *p)
{
    pthread_mutex_lock(&p->lock);
    long n = p->encoded;
    pthread_mutex_unlock(&p->lock);
    return n;
}

void prompts_hold(prompts *p)
{
    pthread_mutex_lock(&p->encoder);
}

void prompts_release(prompts *p, int changed)
{
    pthread_mutex_lock(&p->lock);
    for (int i = 0; i < PROMPT_SLOTS && changed; i++) {
        free(p->slot[i].text);
        p->slot[i].text = NULL;
    }
    pthread_mutex_unlock(&p->lock);
    pthread_mutex_unlock(&p->encoder);
}

/* ---- the text encoder ------------------------------------------------------------------------ */

void prompts_plan(prompts *p)
{
    text_encode(p->k, p->m, p->ids, 0, NULL);
}

/* p->states = the networks' embedding. Under encoder. */
static int run_encoder(prompts *p, const prompt_key *key, scope_error *err)
{
    k_ctx *k = p->k;
    k_release(k, 0);
    k_put(k, p->ids, key->ids);
    text_encode(k, p->m, p->ids, key->skip, p->states);
    if (!k->status)
        return 0;
    scope_fail(err, SCOPE_ENOMEM, "The text encoder failed: %.120s", k->where);
    k->status = 0; /* the next text is a new attempt */
    return -1;
}

/* ---- a text as tokens ------------------------------------------------------------------------ */

/* At most `most` bytes of s, whole characters. */
static int whole(const char *s, int most)
{
    int n = 0;
    while (n < most && s[n])
        n++;
    while (n > 0 && ((unsigned char)s[n] & 0xc0) == 0x80)
        n--;
    return n;
}

/* Where in `piece` the token `room` begins: what is in front of it has no more than `room`. */
static size_t cut_at(const tokenizer *t, const char *piece, int room)
{
    int32_t ids[TOKENIZER_LENGTH];
    size_t good = 0, bad = strlen(piece);
    char *copy = sd_strdup(piece);
    while (copy && bad - good > 1) {
        size_t middle = good + (bad - good) / 2;
        copy[middle] = 0;
        int count = tokenizer_encode(t, copy, ids);
        copy[middle] = piece[middle];
        *(count >= 0 && count <= room ? &good : &bad) = middle;
    }
    free(copy);
    /* Words are told whole, and characters are. */
    while (good > 0 && piece[good] && piece[good] != ' ' && piece[good - 1] != ' ' &&
           (strchr(piece, ' ') || ((unsigned char)piece[good] & 0xc0) == 0x80))
        good--;
    return good;
}

static void tell_cut(char notice[160], const char *text, const char *rest, int count)
{
    rest += strspn(rest, " ");
    int shown = whole(rest, 48);
    snprintf(notice, 160,
             "The prompt \"%.*s...\" has %d tokens; the model reads %d, not \"%.*s%s\".",
             whole(text, 24), text, count, ROOM, shown, rest, rest[shown] ? "..." : "");
}

/* The key of a text, and what was cut of it. */
static int key_of(prompts *p, const char *text, prompt_key *key, char notice[160], scope_error *err)
{
    prompt_pieces pieces;
    int32_t ids[TOKENIZER_LENGTH];
    const char *rest = NULL;
    int count = 0, failed = prompt_syntax_parse(&pieces, text) != 0;
    if (!failed) /* the empty text: the tokens around every other */
        failed = tokenizer_encode(p->m->tokens, "", key->ids) < 0;
    int32_t eos = key->ids[1], pad = key->ids[2];
    for (int i = 0; i < TOKENIZER_LENGTH; i++)
        key->weight[i] = 1;
    for (int i = 0; i < pieces.count && !failed; i++) {
        const prompt_piece *one = &pieces.piece[i];
        int had = count < ROOM ? count : ROOM, n = tokenizer_encode(p->m->tokens, one->text, ids);
        failed = n < 0;
        for (int j = 0; j < n && had + j < ROOM; j++) {
            key->ids[1 + had + j] = ids[1 + j];
            key->weight[1 + had + j] = one->weight;
        }
        count += n;
        if (count > ROOM && !rest)
            rest = one->text + cut_at(p->m->tokens, one->text, ROOM - had);
    }
    int used = count < ROOM ? count : ROOM;
    key->ids[1 + used] = eos;
    for (int i = used + 2; i < TOKENIZER_LENGTH; i++)
        key->ids[i] = pad;
    notice[0] = 0;
    if (rest)
        tell_cut(notice, text, rest, count);
    prompt_syntax_free(&pieces);
    if (failed)
        return scope_fail(err, SCOPE_ENOMEM, "Out of memory while encoding a prompt.");
    return 0;
}

/* All ids within the text encoder's table? */
static int check_ids(const prompts *p, const prompt_key *key, scope_error *err)
{
    int size = p->m->config.text.vocab_size;
    for (int i = 0; i < TOKENIZER_LENGTH; i++) {
        if (key->ids[i] >= size)
            return scope_fail_field(err, SCOPE_EIO, "model_id_or_path",
                                    "The tokenizer has token %d, the text encoder only %d tokens; "
                                    "they are not of one checkpoint.",
                                    (int)key->ids[i], size);
    }
    return 0;
}

static int is_plain(const prompt_key *key)
{
    for (int i = 0; i < TOKENIZER_LENGTH; i++) {
        if (key->weight[i] != 1)
            return 0;
    }
    return 1;
}

/* ---- the cache ------------------------------------------------------------------------------- */

/* Under lock, as the next three. */
static prompt_slot *by_text(prompts *p, const char *text, int skip)
{
    for (int i = 0; i < PROMPT_SLOTS; i++) {
        prompt_slot *s = &p->slot[i];
        if (s->text && s->key.skip == skip && !strcmp(s->text, text)) {
            s->used = ++p->clock;
            return s;
        }
    }
    return NULL;
}

static prompt_slot *by_key(prompts *p, const prompt_key *key)
{
    for (int i = 0; i < PROMPT_SLOTS; i++) {
        if (p->slot[i].text && !memcmp(&p->slot[i].key, key, sizeof *key))
            return &p->slot[i];
    }
    return NULL;
}

static prompt_slot *oldest(prompts *p)
{
    prompt_slot *s = &p->slot[1];
    for (int i = 2; i < PROMPT_SLOTS; i++) {
        if (p->slot[i].used < s->used)
            s = &p->slot[i];
    }
    return s;
}

/* The slot is that of `text` from now on; with states, of another embedding than before. */
static int fill(prompts *p, prompt_slot *s, const char *text, const char *notice,
                const prompt_key *key, const float *states)
{
    char *copy = sd_strdup(text);
    if (copy && !s->states)
        s->states = sd_malloc(prompts_size(p) * sizeof *s->states);
    if (!copy || !s->states) {
        free(copy);
        return -1;
    }
    if (states)
        memcpy(s->states, states, prompts_size(p) * sizeof *states);
    free(s->text);
    s->text = copy;
    s->key = *key;
    snprintf(s->notice, sizeof s->notice, "%s", notice);
    s->used = ++p->clock;
    return 0;
}

/* Encode what no slot has. Under encoder. */
static int encode_new(prompts *p, const char *text, const prompt_key *key, const char *notice,
                      scope_error *err)
{
    if (run_encoder(p, key, err))
        return -1;
    pthread_mutex_lock(&p->lock);
    if (!is_plain(key))
        blend_emphasise(p->states, p->slot[0].states, key->weight, prompts_shape(p));
    prompt_slot *s = text[0] ? oldest(p) : &p->slot[0];
    int failed = fill(p, s, text, notice, key, p->states);
    p->encoded += !failed;
    pthread_mutex_unlock(&p->lock);
    return failed;
}

/* 1 when a slot has the embedding already: it is of `text` as well from now on. Slot 0 is the empty
 * text's and nobody else's, so there a copy is made. */
static int adopt(prompts *p, const char *text, const prompt_key *key, const char *notice)
{
    pthread_mutex_lock(&p->lock);
    prompt_slot *s = by_key(p, key);
    prompt_slot *to = !text[0] ? &p->slot[0] : s == &p->slot[0] ? oldest(p) : s;
    int failed = s && fill(p, to, text, notice, key, to == s ? NULL : s->states);
    pthread_mutex_unlock(&p->lock);
    return failed ? -1 : s != NULL;
}

static int is_known(prompts *p, const char *text, int skip)
{
    pthread_mutex_lock(&p->lock);
    prompt_slot *s = by_text(p, text, skip);
    pthread_mutex_unlock(&p->lock);
    return s != NULL;
}

/* Under encoder, so that nobody else is at the same text. */
static int learn(prompts *p, const char *text, int skip, scope_error *err)
{
    prompt_key key = {.skip = skip};
    char notice[160];
    if (is_known(p, text, skip))
        return 0;
    if (key_of(p, text, &key, notice, err) || check_ids(p, &key, err))
        return -1;
    if (!is_plain(&key) && learn(p, "", skip, err))
        return -1;
    int known = adopt(p, text, &key, notice);
    *err = (scope_error){0};
    if (known > 0 || (!known && !encode_new(p, text, &key, notice, err)))
        return 0;
    if (!err->status)
        scope_fail(err, SCOPE_ENOMEM, "Out of memory while encoding a prompt.");
    return -1;
}

/* The layers that are left out of what is asked for now. */
static int skip_of(prompts *p)
{
    pthread_mutex_lock(&p->lock);
    int skip = p->skip;
    pthread_mutex_unlock(&p->lock);
    return skip;
}

void prompts_skip(prompts *p, int layers)
{
    pthread_mutex_lock(&p->lock);
    p->skip = layers;
    pthread_mutex_unlock(&p->lock);
}

int prompts_learn(prompts *p, const char *text, scope_error *err)
{
    int skip = skip_of(p);
    if (is_known(p, text, skip))
        return 0;
    pthread_mutex_lock(&p->encoder);
    int failed = learn(p, text, skip, err);
    pthread_mutex_unlock(&p->encoder);
    return failed;
}

int prompts_known(prompts *p, const char *text)
{
    return is_known(p, text, skip_of(p));
}

int prompts_blend(prompts *p, const prompt_blend *b, float *out, char *notice, size_t room)
{
    static const prompt_blend empty = {.count = 1, .text = {""}, .weight = {1}};
    const float *part[PROMPT_MAX];
    const blend_shape shape = prompts_shape(p);
    int known = 1;
    if (!b->count)
        b = &empty;
    pthread_mutex_lock(&p->lock);
    for (int i = 0; i < b->count && known; i++) {
        prompt_slot *s = by_text(p, b->text[i], p->skip);
        known = s != NULL;
        part[i] = known ? s->states : NULL;
        if (known && s->notice[0] && !notice[0])
            snprintf(notice, room, "%s", s->notice);
    }
    if (known)
        blend_embeddings(out, part, b->weight, b->count, shape,
                         b->slerp ? BLEND_SLERP : BLEND_LINEAR);
    pthread_mutex_unlock(&p->lock);
    if (known && b->raw && blend_weight(b->weight, b->count) != 1)
        blend_scale(out, blend_weight(b->weight, b->count), shape);
    return known ? 0 : -1;
}
