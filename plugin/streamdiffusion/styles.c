/* styles.c - see styles.h. */
#include "styles.h"

#include "alloc.h"

#include <jansson.h>
#include <stdlib.h>

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Woverlength-strings"
#include "styles.json.h"
#pragma GCC diagnostic pop

enum { NEAR_MAX = 3, NAME_MAX_BYTES = 64 };

typedef struct style {
    const char *name, *prompt, *negative; /* borrowed from the document */
} style;

struct styles {
    json_t *document; /* owned */
    style *style;     /* owned */
    int count;
    char *text; /* owned: what the last call put together */
    size_t used, room;
};

/* ---- reading --------------------------------------------------------------------------------- */

static const char *text_of(const json_t *j, const char *key)
{
    return json_string_value(json_object_get(j, key));
}

static int read_style(styles *s, const json_t *j, const char *file, scope_error *err)
{
    style *to = &s->style[s->count];
    *to = (style){text_of(j, "name"), text_of(j, "prompt"), text_of(j, "negative")};
    if (!to->negative)
        to->negative = text_of(j, "negative_prompt");
    if (!to->negative)
        to->negative = "";
    int place = s->count++;
    if (!to->name || !to->name[0] || strlen(to->name) > NAME_MAX_BYTES || !to->prompt)
        return scope_fail_field(err, SCOPE_EINVAL, "styles_path",
                                "%.80s: style %d of the list needs a name of 1 to %d bytes and a "
                                "prompt.",
                                file, place + 1, NAME_MAX_BYTES);
    for (int i = 0; i < place; i++) {
        if (!strcmp(s->style[i].name, to->name))
            return scope_fail_field(err, SCOPE_EINVAL, "styles_path",
                                    "%.80s: there are two styles called '%.40s'.", file, to->name);
    }
    return 0;
}

static int read_all(styles *s, const char *path, scope_error *err)
{
    json_error_t why;
    const char *file = path[0] ? path : "styles.json";
    s->document = path[0] ? json_load_file(path, 0, &why) : json_loads(styles_json, 0, &why);
    if (!s->document)
        return scope_fail_field(err, SCOPE_EIO, "styles_path", "%.80s, line %d: %.80s", file,
                                why.line > 0 ? why.line : 0, why.text);
    size_t n = json_array_size(s->document);
    if (!n)
        return scope_fail_field(err, SCOPE_EINVAL, "styles_path",
                                "%.80s: expected a list of {\"name\": ..., \"prompt\": ...}.",
                                file);
    s->style = sd_calloc(n, sizeof *s->style);
    if (!s->style)
        return scope_fail(err, SCOPE_ENOMEM, "Out of memory while reading the styles.");
    for (size_t i = 0; i < n; i++) {
        if (read_style(s, json_array_get(s->document, i), file, err))
            return -1;
    }
    return 0;
}

styles *styles_open(const char *path, scope_error *err)
{
    styles *s = sd_calloc(1, sizeof *s);
    if (!s) {
        scope_fail(err, SCOPE_ENOMEM, "Out of memory while reading the styles.");
        return NULL;
    }
    if (!read_all(s, path, err))
        return s;
    styles_close(s);
    return NULL;
}

void styles_close(styles *s)
{
    if (!s)
        return;
    json_decref(s->document);
    free(s->style);
    free(s->text);
    free(s);
}

/* ---- names ----------------------------------------------------------------------------------- */

/* Letters to change, leave out or put in to make b of a. */
static int distance(const char *a, const char *b)
{
    int row[NAME_MAX_BYTES + 1], n = (int)strlen(b);
    for (int j = 0; j <= n; j++)
        row[j] = j;
    for (int i = 0; a[i]; i++) {
        int corner = row[0];
        row[0] = i + 1;
        for (int j = 0; j < n; j++) {
            int change = corner + (a[i] != b[j]);
            corner = row[j + 1];
            int best = corner < row[j] ? corner + 1 : row[j] + 1;
            row[j + 1] = change < best ? change : best;
        }
    }
    return row[n];
}

/* Smaller is nearer: a name that holds the other comes first. */
static int farness(const char *asked, const char *name)
{
    return strstr(name, asked) || strstr(asked, name) ? 0 : distance(asked, name);
}

static int unknown(const styles *s, const char *asked, scope_error *err)
{
    char list[120] = "", name[NAME_MAX_BYTES + 1];
    size_t n = 0;
    int least = -1, said = 0;
    snprintf(name, sizeof name, "%s", asked);
    for (int far = 0; far <= NAME_MAX_BYTES && said < NEAR_MAX; far++) {
        for (int i = 0; i < s->count && said < NEAR_MAX; i++) {
            if (farness(name, s->style[i].name) != far || (least >= 0 && far > least + 1))
                continue;
            least = least < 0 ? far : least;
            n += (size_t)snprintf(list + n, sizeof list - n, "%s%.30s", said ? ", " : "",
                                  s->style[i].name);
            said++;
        }
    }
    return scope_fail_field(err, SCOPE_EINVAL, "style",
                            "There is no style '%.40s'; the nearest: %s.", asked, list);
}

static const style *find(const styles *s, const char *name)
{
    for (int i = 0; i < s->count; i++) {
        if (!strcmp(s->style[i].name, name))
            return &s->style[i];
    }
    return NULL;
}

/* ---- texts ----------------------------------------------------------------------------------- */

static void put(styles *s, const char *text, size_t n)
{
    memcpy(s->text + s->used, text, n);
    s->used += n;
}

/* The template with the prompt in it; returns where it begins. */
static size_t fill_in(styles *s, const char *template, const char *prompt)
{
    static const char mark[] = "{prompt}";
    size_t at = s->used, n = strlen(prompt);
    const char *next = strstr(template, mark);
    if (!next) {
        put(s, prompt, n);
        put(s, ", ", n ? 2 : 0);
    }
    for (; next; next = strstr(template, mark)) {
        put(s, template, (size_t)(next - template));
        put(s, prompt, n);
        template = next + sizeof mark - 1;
    }
    put(s, template, strlen(template) + 1);
    return at;
}

/* Enough for a template that is nothing but marks. */
static size_t room_for(const style *one, const char *prompt)
{
    size_t template = strlen(one->prompt) + 4;
    return template + (template / 8 + 1) * strlen(prompt);
}

int styles_apply(styles *s, const char *name, prompt_blend *prompts, const char **negative,
                 scope_error *err)
{
    const style *one = find(s, name);
    size_t need = 0, count = prompts->count > 0 ? (size_t)prompts->count : 0;
    if (!name[0])
        return 0;
    if (!one)
        return unknown(s, name, err);
    for (size_t i = 0; i < count; i++)
        need += room_for(one, prompts->text[i]);
    need += strlen(*negative) + strlen(one->negative) + 4;
    if (need > s->room) {
        char *larger = sd_grow(s->text, need, 1);
        if (!larger)
            return scope_fail(err, SCOPE_ENOMEM, "Out of memory while applying a style.");
        s->text = larger;
        s->room = need;
    }
    s->used = 0;
    for (size_t i = 0; i < count; i++)
        prompts->text[i] = s->text + fill_in(s, one->prompt, prompts->text[i]);
    size_t from = s->used;
    put(s, *negative, strlen(*negative));
    put(s, ", ", (*negative)[0] && one->negative[0] ? 2 : 0);
    put(s, one->negative, strlen(one->negative) + 1);
    *negative = s->text + from;
    return 0;
}
