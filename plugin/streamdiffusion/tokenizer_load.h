/* tokenizer_load.h - what tokenizer.c works with, as tokenizer_load.c reads it from a folder. */
#ifndef SD_TOKENIZER_LOAD_H
#define SD_TOKENIZER_LOAD_H

#include "bpe.h"
#include "tokenizer.h"

enum { TOKENIZER_MAX_SPECIALS = 16 };

typedef struct tokenizer_special {
    char text[32];
    size_t length;
    int32_t id;
    int normalised; /* looked for in the normalised text, not in the text as typed */
} tokenizer_special;

struct tokenizer {
    bpe merges; /* owned */
    int32_t bos, eos, pad, unknown;
    int specials;
    tokenizer_special special[TOKENIZER_MAX_SPECIALS];
};

#endif
