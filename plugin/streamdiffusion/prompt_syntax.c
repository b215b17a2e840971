/* prompt_syntax.c - see prompt_syntax.h. Two passes: which bracket belongs to which, then text and
 * weights. Both are linear in the length of the text, whatever it holds.
 */
#include "prompt_syntax.h"

#include "alloc.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double weight_max = 10;

/* A bracket that is open. */
typedef struct level {
    size_t at;
    size_t number; /* where its ":1.3" begins, or its partner */
    double outer;  /* the weight outside */
} level;

typedef struct parser {
    const char *s;
    size_t n;
    size_t *partner; /* of a bracket, its partner + 1; 0: it is text */
    level *open;     /* innermost last */
    size_t depth;
    char *to; /* end of the text written */
    prompt_pieces *out;
} parser;

static int is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static int is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Bytes of "<name:...>" at i, or 0. */
static size_t tag(const parser *p, size_t i)
{
    size_t at = i + 1;
    if (p->s[i] != '<')
        return 0;
    while (at < p->n && (is_letter(p->s[at]) || p->s[at] == '_'))
        at++;
    if (at == i + 1 || at == p->n || p->s[at] != ':')
        return 0;
    at += strcspn(p->s + at, "<>\n");
    return p->s[at] == '>' ? at + 1 - i : 0;
}

static int is_escape(const parser *p, size_t i)
{
    return p->s[i] == '\\' && i + 1 < p->n && strchr("()[]\\", p->s[i + 1]);
}

static void pair_brackets(parser *p)
{
    for (size_t i = 0; i < p->n; i++) {
        size_t skip = is_escape(p, i) ? 2 : tag(p, i);
        char c = p->s[i];
        if (skip) {
            i += skip - 1;
        } else if (c == '(' || c == '[') {
            p->open[p->depth++].at = i;
        } else if ((c == ')' || c == ']') && p->depth &&
                   p->s[p->open[p->depth - 1].at] == (c == ')' ? '(' : '[')) {
            size_t first = p->open[--p->depth].at;
            p->partner[first] = i + 1;
            p->partner[i] = first + 1;
        }
    }
}

/* The number of n bytes, whatever the locale's decimal sign is; -1 when it is none. A negative one
 * counts as 0. */
static double number_of(const char *s, size_t n)
{
    double value = 0, place = 1;
    size_t digits = 0, i = 0, negative = n && s[0] == '-';
    i += n && (s[0] == '-' || s[0] == '+');
    for (; i < n && is_digit(s[i]); i++, digits++)
        value = 10 * value + (s[i] - '0');
    for (i += i < n && s[i] == '.'; i < n && is_digit(s[i]); i++, digits++)
        value += (place /= 10) * (s[i] - '0');
    return i < n || !digits ? -1 : negative ? 0 : fmin(value, weight_max);
}

/* The place of the ":number" that ends right before `close`, with the number; or close itself. */
static size_t number_at(const parser *p, size_t open, size_t close, double *number)
{
    size_t end = close, first = open + 1, at;
    while (end > first && p->s[end - 1] == ' ')
        end--;
    for (at = end; at > first && p->s[at - 1] && strchr("+-.0123456789", p->s[at - 1]); at--)
        continue;
    double value = number_of(p->s + at, end - at);
    while (at > first && p->s[at - 1] == ' ')
        at--;
    if (value < 0 || at == first || p->s[at - 1] != ':')
        return close;
    *number = value;
    return at - 1;
}

/* How many + or - follow the bracket at `close` and belong to it. */
static size_t signs_at(const parser *p, size_t close)
{
    char c = p->s[close + 1];
    size_t n = 0;
    if (c != '+' && c != '-')
        return 0;
    while (p->s[close + 1 + n] == c)
        n++;
    char next = p->s[close + 1 + n];
    return is_letter(next) || is_digit(next) || (unsigned char)next >= 0x80 || next == '+' ||
                   next == '-'
               ? 0
               : n;
}

/* Enter the bracket at i; returns the weight inside. */
static double enter(parser *p, size_t i, double weight)
{
    size_t close = p->partner[i] - 1;
    level *l = &p->open[p->depth++];
    *l = (level){i, close, weight};
    if (p->s[i] == '[')
        return weight / 1.1;
    double number = 1;
    l->number = number_at(p, i, close, &number);
    size_t signs = signs_at(p, close);
    if (signs)
        return weight * number * pow(p->s[close + 1] == '+' ? 1.1 : 0.9, (double)signs);
    return weight * (l->number == close ? 1.1 : number);
}

static void put(parser *p, char c, double weight)
{
    prompt_pieces *out = p->out;
    float w = (float)fmin(weight_max, fmax(0, weight)); /* 0 where inf met 0 */
    prompt_piece *last = out->count ? &out->piece[out->count - 1] : NULL;
    if (!last || last->weight != w) {
        if (last)
            *p->to++ = 0;
        out->piece[out->count++] = (prompt_piece){p->to, w};
    }
    *p->to++ = c;
}

static void write_pieces(parser *p)
{
    double weight = 1;
    for (size_t i = 0; i < p->n; i++) {
        if (p->depth && i == p->open[p->depth - 1].number)
            i = p->partner[p->open[p->depth - 1].at] - 1;
        size_t copied = tag(p, i);
        char c = p->s[i];
        if (is_escape(p, i)) {
            put(p, p->s[++i], weight);
        } else if (copied) {
            for (; copied > 1; copied--)
                put(p, p->s[i++], weight);
            put(p, p->s[i], weight);
        } else if (p->partner[i] && (c == '(' || c == '[')) {
            weight = enter(p, i, weight);
        } else if (p->partner[i]) {
            weight = p->open[--p->depth].outer;
            i += p->s[i] == ')' ? signs_at(p, i) : 0;
        } else {
            put(p, c, weight);
        }
    }
    *p->to = 0;
}

int prompt_syntax_parse(prompt_pieces *out, const char *text)
{
    parser p = {.s = text, .n = strlen(text), .out = out};
    p.partner = sd_calloc(p.n + 1, sizeof *p.partner);
    p.open = sd_calloc(p.n + 1, sizeof *p.open);
    *out = (prompt_pieces){.piece = sd_calloc(p.n + 1, sizeof *out->piece),
                           .text = sd_calloc(2, p.n + 1)};
    int good = p.partner && p.open && out->piece && out->text;
    if (good) {
        p.to = out->text;
        pair_brackets(&p);
        p.depth = 0;
        write_pieces(&p);
    } else {
        prompt_syntax_free(out);
    }
    free(p.partner);
    free(p.open);
    return good ? 0 : -1;
}

void prompt_syntax_free(prompt_pieces *p)
{
    free(p->piece);
    free(p->text);
    *p = (prompt_pieces){0};
}
