/* lora_tags.c - see lora_tags.h. */
#include "lora_tags.h"

#include <string.h>

static const double most = 4;

/* Digits with a point, a sign before them; no exponents, no locale. Returns its end, or NULL. */
static const char *read_scale(const char *at, double *scale)
{
    double sign = 1, value = 0, place = 1;
    int digits = 0;
    if (*at == '-' || *at == '+')
        sign = *at++ == '-' ? -1 : 1;
    for (; *at >= '0' && *at <= '9' && digits < 12; at++, digits++)
        value = 10 * value + (*at - '0');
    if (*at == '.')
        for (at++; *at >= '0' && *at <= '9' && digits < 12; at++, digits++)
            value += (*at - '0') * (place /= 10);
    *scale = sign * value;
    return digits && value <= most ? at : NULL;
}

/* No absolute path, no "..": a prompt may come from anyone. */
static int stays_inside(const char *name)
{
    if (name[0] == '/' || !name[0])
        return 0;
    for (const char *at = name; at; at = strchr(at, '/')) {
        at += *at == '/';
        if (!strncmp(at, "..", 2) && (!at[2] || at[2] == '/'))
            return 0;
    }
    return 1;
}

/* The tag at `at`; returns its end, or NULL when there is none. */
static const char *read_tag(const char *at, lora_tag *t)
{
    static const char begin[] = "<lora:";
    if (strncmp(at, begin, sizeof begin - 1))
        return NULL;
    at += sizeof begin - 1;
    size_t n = strcspn(at, ":<>\n");
    if (n >= sizeof t->name)
        return NULL;
    memcpy(t->name, at, n);
    t->name[n] = 0;
    at += n;
    t->scale = 1;
    if (*at == ':')
        at = read_scale(at + 1, &t->scale);
    return at && *at == '>' && stays_inside(t->name) ? at + 1 : NULL;
}

int lora_tags_take(const char *text, char *out, lora_tag *tags, int max)
{
    char *begin = out;
    int count = 0;
    while (*text) {
        lora_tag tag;
        const char *end = *text == '<' ? read_tag(text, &tag) : NULL;
        if (!end) {
            *out++ = *text++;
            continue;
        }
        if (count < max)
            tags[count] = tag;
        count++;
        text = end;
        if (*text == ' ' && (out == begin || out[-1] == ' '))
            text++;
    }
    *out = 0;
    return count;
}
