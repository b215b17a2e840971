/* bpe.h - byte-pair merging: the bytes of one word to vocabulary ids.
 *
 * Sits under tokenizer.c. The merge of lowest rank is applied first, the leftmost of equals, until
 * none applies: Sennrich et al. 2016, in the order of OpenAI's CLIP.
 */
#ifndef SD_BPE_H
#define SD_BPE_H

#include <stddef.h>
#include <stdint.h>

typedef struct bpe_pair {
    int32_t left, right; /* ids; left < 0 marks a free slot */
    int32_t rank, into;
} bpe_pair;

typedef struct bpe {
    int32_t inner[256], last[256]; /* id of each byte, within a word and ending it */
    bpe_pair *pair;                /* owned; open addressing */
    size_t slots;                  /* a power of two, over half of them free */
} bpe;

/* Scratch for words of up to `most` bytes. */
typedef struct bpe_work bpe_work;
bpe_work *bpe_work_new(size_t most);
void bpe_work_free(bpe_work *w);

/* Room for `merges` pairs; -1 when out of memory. */
int bpe_init(bpe *b, size_t merges);
void bpe_fini(bpe *b);
/* At most as many as bpe_init was told; of equal pairs the last counts. */
void bpe_add(bpe *b, int32_t left, int32_t right, int32_t rank, int32_t into);

/* Ids of a word of n >= 1 bytes, into out[at..] as far as `most` allows; returns how many there
 * are. */
int bpe_word(const bpe *b, bpe_work *w, const unsigned char *word, size_t n, int32_t *out,
             int most);

#endif
