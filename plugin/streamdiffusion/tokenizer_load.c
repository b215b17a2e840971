/* tokenizer_load.c - reads a checkpoint's tokenizer folder. See tokenizer.h for which files.
 *
 * Either vocab.json and merges.txt, or, as transformers 5 writes, tokenizer.json with both inside.
 */
#include "tokenizer_load.h"
#include "alloc.h"

#include <jansson.h>
#include <stdlib.h>
#include <unistd.h>

enum { PATH = 4096, MAX_ID = 1 << 20, MAX_TOKEN = 256, MAX_FILE = 64 << 20 };

typedef struct loader {
    const char *dir;
    tokenizer *t;
    json_t *vocab;  /* borrowed from one of the owned three: token -> id */
    json_t *whole;  /* owned: tokenizer.json, or NULL */
    json_t *plain;  /* owned: vocab.json, or NULL */
    json_t *config; /* owned: tokenizer_config.json, or NULL */
    json_t *map;    /* owned: special_tokens_map.json, or NULL */
    scope_error *err;
} loader;

static int has(const loader *l, const char *name, char path[PATH])
{
    snprintf(path, PATH, "%.4000s/%s", l->dir, name);
    return !access(path, F_OK);
}

/* A JSON object from a file that may be absent; NULL then, or after an error. */
static json_t *optional(loader *l, const char *name)
{
    char path[PATH];
    json_error_t e;
    if (l->err->status || !has(l, name, path))
        return NULL;
    json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &e);
    if (root && json_is_object(root))
        return root;
    scope_fail(l->err, SCOPE_EIO, "tokenizer/%s: %.120s", name,
               root ? "is not a JSON object" : e.text);
    json_decref(root);
    return NULL;
}

/* ---- vocabulary ---------------------------------------------------------------------------- */

static int32_t id_of(const loader *l, const char *token)
{
    const json_t *v = json_object_get(l->vocab, token);
    return json_is_integer(v) ? (int32_t)json_integer_value(v) : -1;
}

static int check_vocab(loader *l)
{
    const char *token;
    json_t *id;
    if (!json_is_object(l->vocab))
        return scope_fail(l->err, SCOPE_EIO,
                          "tokenizer: no vocab.json and merges.txt, and no "
                          "tokenizer.json; download the checkpoint's tokenizer folder");
    json_object_foreach(l->vocab, token, id)
    {
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= MAX_ID)
            return scope_fail(l->err, SCOPE_EIO,
                              "tokenizer: the vocabulary gives \"%.60s\" no id of 0 "
                              "to %d",
                              token, MAX_ID - 1);
    }
    return 0;
}

/* GPT-2's spelling of bytes: printable Latin-1 as itself, the others in order from U+0100. */
static void byte_ids(loader *l)
{
    int others = 0;
    for (int b = 0; b < 256; b++) {
        int printable = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
        int c = printable ? b : 256 + others++;
        char token[8];
        int n = c < 0x80 ? snprintf(token, sizeof token, "%c", c)
                         : snprintf(token, sizeof token, "%c%c", 0xc0 | c >> 6, 0x80 | (c & 63));
        int32_t inner = id_of(l, token);
        snprintf(token + n, sizeof token - (size_t)n, "</w>");
        int32_t last = id_of(l, token);
        l->t->merges.inner[b] = inner < 0 ? l->t->unknown : inner;
        l->t->merges.last[b] = last < 0 ? l->t->unknown : last;
    }
}

/* ---- merges -------------------------------------------------------------------------------- */

/* Merge number `rank`: two tokens that, joined, are a third. */
static int add_merge(loader *l, int32_t rank, const char *left, size_t a, const char *right,
                     size_t b)
{
    char token[2 * MAX_TOKEN + 1];
    if (a && b && a < MAX_TOKEN && b < MAX_TOKEN) {
        memcpy(token, left, a);
        token[a] = '\0';
        int32_t left_id = id_of(l, token);
        memcpy(token, right, b);
        token[b] = '\0';
        int32_t right_id = id_of(l, token);
        memcpy(token, left, a);
        memcpy(token + a, right, b);
        token[a + b] = '\0';
        int32_t into = id_of(l, token);
        if (left_id >= 0 && right_id >= 0 && into >= 0) {
            bpe_add(&l->t->merges, left_id, right_id, rank, into);
            return 0;
        }
    }
    return scope_fail(l->err, SCOPE_EIO,
                      "tokenizer: merge %d, \"%.*s %.*s\", is not of tokens of the "
                      "vocabulary; vocab.json and merges.txt do not belong together",
                      rank + 1, (int)(a < 30 ? a : 30), left, (int)(b < 30 ? b : 30), right);
}

static int merges_text(loader *l, char *text)
{
    size_t lines = 1;
    int32_t rank = 0;
    for (const char *c = text; *c; c++)
        lines += *c == '\n';
    if (bpe_init(&l->t->merges, lines))
        return scope_fail(l->err, SCOPE_ENOMEM, "tokenizer: out of memory");
    for (char *line = text, *next; line && !l->err->status; line = next) {
        next = strchr(line, '\n');
        size_t n = next ? (size_t)(next++ - line) : strlen(line);
        n -= n && line[n - 1] == '\r';
        if (!n || !strncmp(line, "#version", 8))
            continue;
        const char *gap = memchr(line, ' ', n);
        size_t a = gap ? (size_t)(gap - line) : n;
        add_merge(l, rank++, line, a, gap ? gap + 1 : line, gap ? n - a - 1 : 0);
    }
    return l->err->status;
}

static int merges_file(loader *l)
{
    char path[PATH], *text = NULL;
    has(l, "merges.txt", path);
    FILE *f = fopen(path, "rb");
    long size = f && !fseek(f, 0, SEEK_END) ? ftell(f) : -1;
    if (size < 0 || size > MAX_FILE)
        scope_fail(l->err, SCOPE_EIO, "tokenizer/merges.txt cannot be read; download it again");
    else if (!(text = sd_malloc((size_t)size + 1)))
        scope_fail(l->err, SCOPE_ENOMEM, "tokenizer: out of memory");
    if (text) {
        rewind(f);
        text[fread(text, 1, (size_t)size, f)] = '\0';
        merges_text(l, text);
    }
    free(text);
    if (f)
        fclose(f);
    return l->err->status;
}

/* tokenizer.json's: ["a b", ...] of old, [["a", "b"], ...] of today. */
static int merges_json(loader *l, const json_t *list)
{
    if (bpe_init(&l->t->merges, json_array_size(list)))
        return scope_fail(l->err, SCOPE_ENOMEM, "tokenizer: out of memory");
    for (size_t i = 0; i < json_array_size(list) && !l->err->status; i++) {
        const json_t *m = json_array_get(list, i);
        const char *left = json_string_value(json_is_array(m) ? json_array_get(m, 0) : m);
        const char *right = json_string_value(json_array_get(m, 1));
        const char *gap = left && json_is_string(m) ? strchr(left, ' ') : NULL;
        size_t a = gap ? (size_t)(gap - left) : left ? strlen(left) : 0;
        right = gap ? gap + 1 : right;
        add_merge(l, (int32_t)i, left ? left : "", a, right ? right : "",
                  right ? strlen(right) : 0);
    }
    return l->err->status;
}

/* ---- special tokens ------------------------------------------------------------------------ */

/* "name" or {"content": "name", "normalized": bool}; NULL when neither. */
static const char *content(const json_t *v)
{
    return json_string_value(json_is_object(v) ? json_object_get(v, "content") : v);
}

static int add_special(loader *l, const char *text, int32_t id, int normalised)
{
    tokenizer *t = l->t;
    size_t n = strlen(text);
    int i = 0;
    while (i < t->specials && t->special[i].id != id)
        i++;
    if (i == TOKENIZER_MAX_SPECIALS || !n || n >= sizeof t->special[0].text)
        return scope_fail(l->err, SCOPE_EIO,
                          "tokenizer: \"%.40s\" is one special token too many or too "
                          "long",
                          text);
    t->special[i] = (tokenizer_special){.length = n, .id = id, .normalised = normalised};
    memcpy(t->special[i].text, text, n);
    t->specials += i == t->specials;
    return 0;
}

/* Explicit lists win: tokenizer.json's added_tokens, or the config's added_tokens_decoder. */
static int listed_specials(loader *l)
{
    const json_t *decoder = json_object_get(l->config, "added_tokens_decoder");
    const json_t *list = json_object_get(l->whole, "added_tokens");
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)decoder, key, v)
    {
        if (content(v) &&
            add_special(l, content(v), atoi(key), json_is_true(json_object_get(v, "normalized"))))
            return l->err->status;
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        v = json_array_get(list, i);
        const json_t *id = json_object_get(v, "id");
        if (content(v) && json_is_integer(id) &&
            add_special(l, content(v), (int32_t)json_integer_value(id),
                        json_is_true(json_object_get(v, "normalized"))))
            return l->err->status;
    }
    return 0;
}

/* The token that plays a role: the config's, else the map's, else CLIP's. Unless it was listed it
 * becomes special; named plainly, it is looked for in the text as typed. */
static int32_t role(loader *l, const char *name, const char *usual)
{
    const json_t *v = json_object_get(l->config, name);
    int listed = 0;
    if (!content(v))
        v = json_object_get(l->map, name);
    const char *text = content(v) ? content(v) : usual;
    int32_t id = id_of(l, text);
    if (id < 0 && !l->err->status)
        scope_fail(l->err, SCOPE_EIO, "tokenizer: the %s \"%.40s\" is not in the vocabulary", name,
                   text);
    for (int i = 0; i < l->t->specials; i++)
        listed |= l->t->special[i].id == id && json_object_get(l->config, "added_tokens_decoder");
    if (id >= 0 && !listed && !l->whole)
        add_special(l, text, id, json_is_true(json_object_get(v, "normalized")));
    return id;
}

static int specials(loader *l)
{
    static const char bos[] = "<|startoftext|>", eos[] = "<|endoftext|>";
    if (listed_specials(l))
        return l->err->status;
    l->t->bos = role(l, "bos_token", bos);
    l->t->eos = role(l, "eos_token", eos);
    l->t->unknown = role(l, "unk_token", eos);
    l->t->pad = role(l, "pad_token", eos);
    return l->err->status;
}

/* ---- the folder ---------------------------------------------------------------------------- */

static int load(loader *l)
{
    char path[PATH];
    int split = has(l, "vocab.json", path);
    l->plain = optional(l, "vocab.json");
    if (!split)
        l->whole = optional(l, "tokenizer.json");
    l->config = optional(l, "tokenizer_config.json");
    l->map = optional(l, "special_tokens_map.json");
    const json_t *model = json_object_get(l->whole, "model");
    l->vocab = split ? l->plain : json_object_get(model, "vocab");
    if (l->err->status || check_vocab(l) || specials(l))
        return l->err->status;
    byte_ids(l);
    return split ? merges_file(l) : merges_json(l, json_object_get(model, "merges"));
}

tokenizer *tokenizer_open(const char *dir, scope_error *err)
{
    loader l = {.dir = dir, .err = err};
    memset(err, 0, sizeof *err);
    l.t = sd_calloc(1, sizeof *l.t);
    if (!l.t)
        scope_fail(err, SCOPE_ENOMEM, "tokenizer: out of memory");
    int rc = l.t ? load(&l) : -1;
    json_decref(l.whole);
    json_decref(l.plain);
    json_decref(l.config);
    json_decref(l.map);
    if (!rc)
        return l.t;
    tokenizer_close(l.t);
    return NULL;
}

void tokenizer_close(tokenizer *t)
{
    if (t) {
        bpe_fini(&t->merges);
        free(t);
    }
}
