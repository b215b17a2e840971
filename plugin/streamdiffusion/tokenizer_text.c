/* tokenizer_text.c - see tokenizer_text.h. */
#include "tokenizer_text.h"
#include "alloc.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* ---- repair -------------------------------------------------------------------------------- */

/* Length of the well-formed character at s, or minus the length of the ill-formed part. */
static int character(const unsigned char *s, size_t n)
{
    unsigned char lo = 0x80, hi = 0xbf;
    int more = s[0] < 0x80   ? 0
               : s[0] < 0xc2 ? -1
               : s[0] < 0xe0 ? 1
               : s[0] < 0xf0 ? 2
               : s[0] < 0xf5 ? 3
                             : -1;
    if (more < 0)
        return -1;
    if (s[0] == 0xe0) /* overlong, surrogate and beyond U+10FFFF show in the second byte */
        lo = 0xa0;
    else if (s[0] == 0xed)
        hi = 0x9f;
    else if (s[0] == 0xf0)
        lo = 0x90;
    else if (s[0] == 0xf4)
        hi = 0x8f;
    for (int i = 1; i <= more; i++) {
        if ((size_t)i >= n || s[i] < lo || s[i] > hi)
            return -i;
        lo = 0x80;
        hi = 0xbf;
    }
    return more + 1;
}

char *text_repair(const char *bytes, size_t n)
{
    char *out = n < (size_t)-1 / 3 ? sd_malloc(3 * n + 1) : NULL;
    size_t at = 0, to = 0;
    while (out && at < n) {
        int length = character((const unsigned char *)bytes + at, n - at);
        memcpy(out + to, length > 0 ? bytes + at : "\xef\xbf\xbd", length > 0 ? (size_t)length : 3);
        to += length > 0 ? (size_t)length : 3;
        at += (size_t)abs(length);
    }
    if (out)
        out[to] = '\0';
    return out;
}

/* ---- classes ------------------------------------------------------------------------------- */

static int is_space(utf8proc_int32_t c)
{
    return (c >= 9 && c <= 13) || c == 32 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
           c == 0x205f || c == 0x3000;
}

enum { SPACE = 1, LETTER, NUMBER, OTHER };

/* Class of the character at s, and its length. */
static int class_at(const char *s, size_t n, size_t *length)
{
    utf8proc_int32_t c;
    *length = (size_t)utf8proc_iterate((const utf8proc_uint8_t *)s, (utf8proc_ssize_t)n, &c);
    if (is_space(c))
        return SPACE;
    utf8proc_category_t k = utf8proc_category(c);
    if (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO)
        return LETTER;
    return k >= UTF8PROC_CATEGORY_ND && k <= UTF8PROC_CATEGORY_NO ? NUMBER : OTHER;
}

/* ---- normal form --------------------------------------------------------------------------- */

static size_t put_lower(char *out, utf8proc_int32_t c)
{
    if (c == 0x130) { /* the one letter whose lower case is two characters: i and a dot above */
        memcpy(out, "i\xcc\x87", 3);
        return 3;
    }
    return (size_t)utf8proc_encode_char(utf8proc_tolower(c), (utf8proc_uint8_t *)out);
}

typedef struct normal {
    char *out; /* room enough */
    size_t n;
    int space; /* the last character was one */
} normal;

static int append(normal *t, const char *part, size_t n)
{
    utf8proc_uint8_t *nfc = NULL;
    utf8proc_ssize_t length = utf8proc_map((const utf8proc_uint8_t *)part, (utf8proc_ssize_t)n,
                                           &nfc, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    for (utf8proc_ssize_t at = 0; at < length;) {
        utf8proc_int32_t c;
        at += utf8proc_iterate(nfc + at, length - at, &c);
        if (!is_space(c))
            t->n += put_lower(t->out + t->n, c);
        else if (!t->space)
            t->out[t->n++] = ' ';
        t->space = is_space(c);
    }
    free(nfc);
    return length < 0 ? -1 : 0;
}

char *text_normalise(const char *text, size_t n)
{
    /* utf8proc 2.8 swallows U+11A7 behind a Hangul syllable, as if it were a final consonant. It
     * composes with nothing, so parts that begin with it have the same normal form. */
    static const char odd[] = "\xe1\x86\xa7";
    normal t = {n < (size_t)-1 / 8 ? sd_malloc(TEXT_GROWTH * n + 1) : NULL, 0, 0};
    int rc = t.out ? 0 : -1;
    for (size_t from = 0; from < n && !rc;) {
        const char *next = memmem(text + from + 1, n - from - 1, odd, sizeof odd - 1);
        size_t end = next ? (size_t)(next - text) : n;
        rc = append(&t, text + from, end - from);
        from = end;
    }
    if (rc) {
        free(t.out);
        return NULL;
    }
    t.out[t.n] = '\0';
    return t.out;
}

/* ---- words --------------------------------------------------------------------------------- */

/* Length of the literal alternative at s, or 0. */
static size_t literal(const char *s, size_t n)
{
    static const char *const words[] = {
        "<|startoftext|>", "<|endoftext|>", "'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        size_t length = strlen(words[i]);
        if (n >= length && !memcmp(s, words[i], length))
            return length;
    }
    return 0;
}

size_t text_word(const char *text, size_t n, size_t *at)
{
    size_t length = 0, more;
    while (*at < n && class_at(text + *at, n - *at, &length) == SPACE)
        *at += length;
    if (*at >= n)
        return 0;
    size_t fixed = literal(text + *at, n - *at);
    if (fixed)
        return fixed;
    int class = class_at(text + *at, n - *at, &length);
    while (class != NUMBER && *at + length < n &&
           class_at(text + *at + length, n - *at - length, &more) == class)
        length += more;
    return length;
}
