/* tokenizer.c - see tokenizer.h. The reference is transformers' CLIPTokenizer as diffusers loads
 * it.
 *
 * Special tokens are cut out of the text first, as it was typed or (where the config says
 * "normalized") in lower case; what lies between them is split into words and merged. A checkpoint
 * that pads with "!" makes "!" such a token.
 */
#include "tokenizer.h"
#include "tokenizer_load.h"
#include "tokenizer_text.h"

#include <stdlib.h>

typedef struct writer {
    const tokenizer *t;
    bpe_work *work;
    int32_t *ids; /* room for TOKENIZER_LENGTH - 2 */
    int count;
} writer;

static void put(writer *w, int32_t id)
{
    if (w->count < TOKENIZER_LENGTH - 2)
        w->ids[w->count] = id;
    w->count++;
}

static void word(writer *w, const char *text, size_t n)
{
    int room = w->count < TOKENIZER_LENGTH - 2 ? TOKENIZER_LENGTH - 2 - w->count : 0;
    w->count += bpe_word(&w->t->merges, w->work, (const unsigned char *)text, n,
                         w->ids + (room ? w->count : 0), room);
}

static void words(writer *w, const char *text, size_t n)
{
    size_t at = 0, length;
    for (; (length = text_word(text, n, &at)); at += length) {
        const char *s = text + at;
        if (length > 4 && !memcmp(s, "<|", 2) && s[2] >= 'a' && s[2] <= 'z') {
            /* the name of a special token in capitals: GPT-2's byte-level split parts its bars */
            word(w, s, 2);
            word(w, s + 2, length - 4);
            word(w, s + length - 2, 2);
        } else {
            word(w, s, length);
        }
    }
}

/* The longest special token at s that is cut at this stage, or NULL. */
static const tokenizer_special *special_at(const tokenizer *t, const char *s, size_t n, int normal)
{
    const tokenizer_special *best = NULL;
    for (int i = 0; i < t->specials; i++) {
        const tokenizer_special *p = &t->special[i];
        if (p->normalised == normal && p->length <= n && !memcmp(s, p->text, p->length) &&
            (!best || p->length > best->length))
            best = p;
    }
    return best;
}

static int cut(writer *w, const char *text, size_t n, int normal);

static int between(writer *w, const char *text, size_t n, int normal)
{
    if (normal) {
        words(w, text, n);
        return 0;
    }
    char *plain = n ? text_normalise(text, n) : NULL;
    int rc = plain ? cut(w, plain, strlen(plain), 1) : n ? -1 : 0;
    free(plain);
    return rc;
}

/* Cut out special tokens; what lies between goes on. Returns 0, or -1 when out of memory. */
static int cut(writer *w, const char *text, size_t n, int normal)
{
    size_t from = 0, at = 0;
    while (at < n) {
        const tokenizer_special *p = special_at(w->t, text + at, n - at, normal);
        if (!p) {
            at++;
            continue;
        }
        if (between(w, text + from, at - from, normal))
            return -1;
        put(w, p->id);
        at += p->length;
        from = at;
    }
    return between(w, text + from, n - from, normal);
}

int tokenizer_encode(const tokenizer *t, const char *text, int32_t ids[TOKENIZER_LENGTH])
{
    char *clean = text_repair(text, strlen(text));
    size_t n = clean ? strlen(clean) : 0;
    writer w = {t, n < SIZE_MAX / 64 ? bpe_work_new(TEXT_GROWTH * n) : NULL, ids + 1, 0};
    int rc = clean && w.work ? cut(&w, clean, n, 0) : -1;
    free(clean);
    bpe_work_free(w.work);
    if (rc)
        return -1;
    int used = w.count < TOKENIZER_LENGTH - 2 ? w.count : TOKENIZER_LENGTH - 2;
    ids[0] = t->bos;
    ids[used + 1] = t->eos;
    for (int i = used + 2; i < TOKENIZER_LENGTH; i++)
        ids[i] = t->pad;
    return w.count;
}

int tokenizer_eos(const tokenizer *t)
{
    return t->eos;
}

void tokenizer_pad(tokenizer *t, int32_t id)
{
    t->pad = id;
}
