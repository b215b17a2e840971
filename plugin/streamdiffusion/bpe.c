/* bpe.c - see bpe.h. Symbols form a linked list over the bytes and candidate merges a binary heap,
 * so a word of n bytes takes O(n log n) however it is made. */
#include "bpe.h"
#include "alloc.h"

#include <stdlib.h>

typedef struct candidate {
    int32_t rank, into;
    int32_t at; /* left symbol */
} candidate;

typedef struct symbol {
    int32_t id;         /* -1: merged into its left neighbour */
    int32_t prev, next; /* -1: none */
} symbol;

struct bpe_work {
    symbol *symbol;  /* owned */
    candidate *heap; /* owned; each merge adds at most two to the n - 1 of the start */
    size_t count;
};

bpe_work *bpe_work_new(size_t most)
{
    bpe_work *w = sd_calloc(1, sizeof *w);
    if (!w)
        return NULL;
    w->symbol = sd_calloc(most + 1, sizeof *w->symbol);
    w->heap = sd_calloc(3 * most + 1, sizeof *w->heap);
    if (w->symbol && w->heap)
        return w;
    bpe_work_free(w);
    return NULL;
}

void bpe_work_free(bpe_work *w)
{
    if (w) {
        free(w->symbol);
        free(w->heap);
        free(w);
    }
}

/* ---- the table of merges ------------------------------------------------------------------- */

static bpe_pair *slot_of(const bpe *b, int32_t left, int32_t right)
{
    uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9e3779b97f4a7c15u;
    size_t at = (size_t)(h >> 32) & (b->slots - 1);
    while (b->pair[at].left >= 0 && (b->pair[at].left != left || b->pair[at].right != right))
        at = (at + 1) & (b->slots - 1);
    return &b->pair[at];
}

int bpe_init(bpe *b, size_t merges)
{
    b->slots = 16;
    while (b->slots < 2 * merges + 1)
        b->slots *= 2;
    b->pair = sd_calloc(b->slots, sizeof *b->pair);
    for (size_t i = 0; b->pair && i < b->slots; i++)
        b->pair[i].left = -1;
    return b->pair ? 0 : -1;
}

void bpe_fini(bpe *b)
{
    free(b->pair);
    b->pair = NULL;
}

void bpe_add(bpe *b, int32_t left, int32_t right, int32_t rank, int32_t into)
{
    *slot_of(b, left, right) = (bpe_pair){left, right, rank, into};
}

/* ---- one word ------------------------------------------------------------------------------ */

static int before(candidate a, candidate b)
{
    return a.rank != b.rank ? a.rank < b.rank : a.at < b.at;
}

static void push(bpe_work *w, candidate c)
{
    size_t i = w->count++;
    for (; i && before(c, w->heap[(i - 1) / 2]); i = (i - 1) / 2)
        w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = c;
}

static candidate pop(bpe_work *w)
{
    candidate top = w->heap[0], c = w->heap[--w->count];
    size_t i = 0, child;
    while ((child = 2 * i + 1) < w->count) {
        if (child + 1 < w->count && before(w->heap[child + 1], w->heap[child]))
            child++;
        if (!before(w->heap[child], c))
            break;
        w->heap[i] = w->heap[child];
        i = child;
    }
    w->heap[i] = c;
    return top;
}

/* Consider merging symbol `at` with its right neighbour. */
static void consider(const bpe *b, bpe_work *w, int32_t at)
{
    if (at < 0 || w->symbol[at].next < 0)
        return;
    const bpe_pair *p = slot_of(b, w->symbol[at].id, w->symbol[w->symbol[at].next].id);
    if (p->left >= 0)
        push(w, (candidate){p->rank, p->into, at});
}

/* A candidate is stale when either of its symbols has changed since. */
static int stale(const bpe *b, const bpe_work *w, candidate c)
{
    const symbol *s = &w->symbol[c.at];
    if (s->id < 0 || s->next < 0)
        return 1;
    const bpe_pair *p = slot_of(b, s->id, w->symbol[s->next].id);
    return p->left < 0 || p->rank != c.rank;
}

int bpe_word(const bpe *b, bpe_work *w, const unsigned char *word, size_t n, int32_t *out, int most)
{
    int32_t end = (int32_t)n;
    int count = 0;
    w->count = 0;
    for (int32_t i = 0; i < end; i++) {
        w->symbol[i].id = i + 1 < end ? b->inner[word[i]] : b->last[word[i]];
        w->symbol[i].prev = i - 1;
        w->symbol[i].next = i + 1 < end ? i + 1 : -1;
    }
    for (int32_t i = 0; i < end; i++)
        consider(b, w, i);
    while (w->count) {
        candidate c = pop(w);
        if (stale(b, w, c))
            continue;
        symbol *left = &w->symbol[c.at], *right = &w->symbol[left->next];
        left->id = c.into;
        left->next = right->next;
        if (right->next >= 0)
            w->symbol[right->next].prev = c.at;
        right->id = -1;
        consider(b, w, left->prev);
        consider(b, w, c.at);
    }
    for (int32_t i = 0; i >= 0; i = w->symbol[i].next) {
        if (count < most)
            out[count] = w->symbol[i].id;
        count++;
    }
    return count;
}
