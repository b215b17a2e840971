/* fuzz_prompt.c - any bytes as a prompt with emphasis: weights in range, no byte invented, and what
 * is escaped, or holds no syntax, comes out as it was. */
#include "plugin/streamdiffusion/prompt_syntax.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Returns the bytes of all pieces. */
static size_t check(const char *text)
{
    prompt_pieces p;
    size_t n = 0;
    if (prompt_syntax_parse(&p, text))
        return 0;
    for (int i = 0; i < p.count; i++) {
        const prompt_piece *one = &p.piece[i];
        if (!one->text[0] || !(one->weight >= 0 && one->weight <= 10))
            abort();
        if (i && one->weight == one[-1].weight)
            abort();
        n += strlen(one->text);
    }
    if (n > strlen(text))
        abort();
    prompt_syntax_free(&p);
    return n;
}

/* `text` parses to one piece of weight 1 that is `want`. */
static void check_plain(const char *text, const char *want)
{
    prompt_pieces p;
    if (prompt_syntax_parse(&p, text))
        return;
    if (p.count != (want[0] != 0) ||
        (p.count && (p.piece[0].weight != 1 || strcmp(p.piece[0].text, want))))
        abort();
    prompt_syntax_free(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1), *escaped = malloc(2 * size + 1), *to = escaped;
    if (text && escaped) {
        memcpy(text, data, size);
        text[size] = 0;
        check(text);
        if (!strpbrk(text, "()[]\\"))
            check_plain(text, text);
        for (const char *s = text; *s; s++) {
            if (strchr("()[]\\", *s))
                *to++ = '\\';
            *to++ = *s;
        }
        *to = 0;
        if (!strchr(text, '<')) /* tags keep their backslashes */
            check_plain(escaped, text);
        check(escaped);
    }
    free(text);
    free(escaped);
    return 0;
}
