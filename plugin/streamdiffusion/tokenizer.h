/* tokenizer.h - CLIP's byte-pair encoding: a prompt to 77 token ids.
 *
 * Reads vocab.json and merges.txt of a checkpoint's tokenizer folder. Text is normalised (NFC,
 * white space, lower case), split by CLIP's pattern, spelt as UTF-8 bytes and merged by rank.
 */
#ifndef SD_TOKENIZER_H
#define SD_TOKENIZER_H

#include "scope_plugin.h"

enum { TOKENIZER_LENGTH = 77 };

typedef struct tokenizer tokenizer;

/* `dir` holds vocab.json and merges.txt, or tokenizer.json as transformers 5 writes it, and may
 * hold tokenizer_config.json and special_tokens_map.json, which name the pad token. [load] */
tokenizer *tokenizer_open(const char *dir, scope_error *err);
void tokenizer_close(tokenizer *t);

/* ids = BOS, at most 75 ids, EOS, then pad. Returns how many ids the text has by itself (more than
 * 75: the rest was cut). Any bytes are accepted; invalid UTF-8 becomes U+FFFD. Allocates nothing
 * that outlives the call; -1 when out of memory. [any] */
int tokenizer_encode(const tokenizer *t, const char *text, int32_t ids[TOKENIZER_LENGTH]);
int tokenizer_eos(const tokenizer *t);
/* Pad with this id from now on: a model's own, where the tokenizer is one that models share.
 * [load] */
void tokenizer_pad(tokenizer *t, int32_t id);

#endif
