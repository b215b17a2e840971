/* tokenizer_text.h - Unicode under the tokenizer: repair, normal form, and CLIP's split into words.
 *
 * The rules are those of transformers' CLIPTokenizer (NFC, white space runs to one space, lower
 * case letter by letter, its regular expression), on utf8proc's tables.
 */
#ifndef SD_TOKENIZER_TEXT_H
#define SD_TOKENIZER_TEXT_H

#include <stddef.h>

/* Valid UTF-8 of any bytes: each maximal ill-formed part becomes U+FFFD, as the Unicode Standard
 * (3.9, table 3-8) recommends. Owned by the caller; NULL when out of memory. */
char *text_repair(const char *bytes, size_t n);
/* Normalised UTF-8 is at most this many times as long: NFC makes it three times (Unicode
 * TR15, 9.6), lower case one and a half. */
enum { TEXT_GROWTH = 5 };

/* NFC, then white space runs to one space, then lower case. n bytes of valid UTF-8; owned by the
 * caller; NULL when out of memory. */
char *text_normalise(const char *text, size_t n);
/* The next word at or after *at of n bytes: returns its length and moves *at to its start; 0 at the
 * end. The special tokens' names are words when they were not taken out before. */
size_t text_word(const char *text, size_t n, size_t *at);

#endif
