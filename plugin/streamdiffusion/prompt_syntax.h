/* prompt_syntax.h - emphasis in a prompt: its text in pieces, each with a weight.
 *
 *   (text)          1.1 times        (text)+  (text)++   1.1 times for each +
 *   (text:1.3)      1.3 times        (text)-  (text)--   0.9 times for each -
 *   [text]          divided by 1.1   \( \) \[ \] \\      the character itself
 *
 * Weights of nested brackets multiply; a piece's weight is held within 0..10. Text that only looks
 * like this is text: a bracket without its partner, a + or - with a letter or a digit right behind
 * it, what stands behind a colon and is no number. <name:...>, which others read, is passed on
 * untouched, brackets and all.
 */
#ifndef SD_PROMPT_SYNTAX_H
#define SD_PROMPT_SYNTAX_H

#include <stddef.h>

typedef struct prompt_piece {
    const char *text; /* borrowed from the prompt_pieces; never "" */
    float weight;     /* neighbours differ */
} prompt_piece;

typedef struct prompt_pieces {
    prompt_piece *piece; /* owned */
    int count;           /* 0: the empty text */
    char *text;          /* owned */
} prompt_pieces;

/* Any bytes. 0, or -1 when out of memory. [any] */
int prompt_syntax_parse(prompt_pieces *p, const char *text);
void prompt_syntax_free(prompt_pieces *p);

#endif
