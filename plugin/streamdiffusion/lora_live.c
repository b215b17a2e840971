/* lora_live.c - see lora_live.h. */
#include "lora_live.h"

#include "alloc.h"
#include "lora_tags.h"

#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>

enum { TEXTS = 64 }; /* prompts of one set of parameters */

/* One LoRA by the name that it was asked for. */
typedef struct asked {
    char name[PATH_MAX];
    double scale;
    const char *field; /* static: which parameter asked */
} asked;

/* All that one set of parameters asks for. */
typedef struct request {
    char dir[PATH_MAX];
    int count;
    asked list[LORAS_MAX];
} request;

struct lora_live {
    const model *m; /* borrowed; NULL until bound */
    loras *loras;
    request now, before; /* noted; and what was put in force last */
    int in_force;        /* before is */
    char *text[TEXTS];   /* owned */
    int texts, too_many;
    char path[LORAS_MAX][PATH_MAX]; /* the files of `now` */
    char notice[256];
};

lora_live *lora_live_new(scope_error *err)
{
    lora_live *l = sd_calloc(1, sizeof *l);
    if (!l)
        scope_fail(err, SCOPE_ENOMEM, "Out of memory while preparing for LoRAs.");
    return l;
}

void lora_live_free(lora_live *l)
{
    if (!l)
        return;
    loras_close(l->loras);
    for (int i = 0; i < TEXTS; i++)
        free(l->text[i]);
    free(l);
}

int lora_live_bind(lora_live *l, const model *m, scope_error *err)
{
    l->m = m;
    l->loras = loras_open(m, err);
    return l->loras ? 0 : -1;
}

/* ---- what is asked for ----------------------------------------------------------------------- */

void lora_live_begin(lora_live *l)
{
    memset(&l->now, 0, sizeof l->now); /* requests are compared as bytes */
    l->texts = l->too_many = 0;
}

static void ask(lora_live *l, const char *name, double scale, const char *field)
{
    request *r = &l->now;
    if (r->count == LORAS_MAX || strlen(name) >= PATH_MAX) {
        l->too_many = 1;
        return;
    }
    asked *a = &r->list[r->count++];
    snprintf(a->name, sizeof a->name, "%s", name);
    a->scale = scale;
    a->field = field;
}

static int in_a_prompt(const lora_live *l, const char *name)
{
    for (int i = 0; i < l->now.count; i++) {
        if (!strcmp(l->now.list[i].field, "prompts") && !strcmp(l->now.list[i].name, name))
            return 1;
    }
    return 0;
}

const char *lora_live_text(lora_live *l, const char *text)
{
    lora_tag tags[LORAS_MAX];
    if (!strstr(text, "<lora:") || l->texts == TEXTS)
        return text;
    char *out = sd_grow(l->text[l->texts], strlen(text) + 1, 1);
    if (!out)
        return text; /* read as words, and the next allocation tells */
    l->text[l->texts++] = out;
    int count = lora_tags_take(text, out, tags, LORAS_MAX);
    l->too_many |= count > LORAS_MAX;
    for (int i = 0; i < count && i < LORAS_MAX; i++) {
        if (!in_a_prompt(l, tags[i].name))
            ask(l, tags[i].name, tags[i].scale, "prompts");
    }
    return out;
}

void lora_live_fields(lora_live *l, const scope_kwargs *kw)
{
    const scope_value *list = scope_get(kw, "loras");
    const char *lcm = scope_str(kw, "lcm_lora_path");
    snprintf(l->now.dir, sizeof l->now.dir, "%s", scope_str(kw, "lora_dir"));
    if (lcm[0] && scope_int(kw, "use_lcm_lora"))
        ask(l, lcm, 1, "lcm_lora_path");
    for (int i = 0; i < list->count; i++) {
        const scope_value *one = &list->u.at[i];
        const scope_kwargs fields = {.count = one->count, .at = one->u.at};
        if (scope_str(&fields, "path")[0])
            ask(l, scope_str(&fields, "path"), scope_num(&fields, "scale"), "loras");
    }
}

int lora_live_any(const lora_live *l)
{
    return l->now.count > 0;
}

/* ---- names to files -------------------------------------------------------------------------- */

/* dir/name<end> when it is a file. */
static int is_file(char out[PATH_MAX], const char *dir, const char *name, const char *end)
{
    struct stat s;
    int n = snprintf(out, PATH_MAX, "%s%s%s%s", dir, dir[0] ? "/" : "", name, end);
    return n > 0 && n < PATH_MAX && !stat(out, &s) && !S_ISDIR(s.st_mode);
}

/* With or without its ending; or a folder as it is downloaded. */
static int found(char out[PATH_MAX], const char *dir, const char *name)
{
    static const char *const ends[] = {"", ".safetensors", "/pytorch_lora_weights.safetensors",
                                       "/adapter_model.safetensors"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        if (is_file(out, dir, name, ends[i]))
            return 1;
    }
    return 0;
}

/* Tags reach files of the folder alone; fields reach any. */
static int find_file(const lora_live *l, const asked *a, char out[PATH_MAX], scope_error *err)
{
    const char *dir = l->now.dir;
    int tag = !strcmp(a->field, "prompts");
    if (tag && !dir[0])
        return scope_fail_field(err, SCOPE_EINVAL, "lora_dir",
                                "A prompt names the LoRA \"%.60s\"; set lora_dir to the folder "
                                "that holds it.",
                                a->name);
    if ((dir[0] && a->name[0] != '/' && found(out, dir, a->name)) ||
        (!tag && found(out, "", a->name)))
        return 0;
    if (dir[0] && a->name[0] != '/')
        return scope_fail_field(err, SCOPE_EIO, a->field,
                                "There is no LoRA \"%.60s\" in \"%.80s\"; give the name of a "
                                ".safetensors file there.",
                                a->name, dir);
    return scope_fail_field(err, SCOPE_EIO, a->field,
                            "There is no LoRA file \"%.100s\"; give its path, or set lora_dir to "
                            "its folder.",
                            a->name);
}

/* ---- in force -------------------------------------------------------------------------------- */

static int apply(lora_live *l, scope_error *err)
{
    lora_want want[LORAS_MAX];
    for (int i = 0; i < l->now.count; i++) {
        if (find_file(l, &l->now.list[i], l->path[i], err))
            return -1;
        want[i] = (lora_want){l->path[i], l->now.list[i].scale};
    }
    if (l->now.count && model_claim(l->m))
        return scope_fail_field(err, SCOPE_EINVAL, "loras",
                                "The model is shared with another instance, which a LoRA would "
                                "change too. Load this one with the LoRA in loras (scale 0 will "
                                "do) to give it a copy of its own, or stop the other.");
    int changed = loras_set(l->loras, want, l->now.count, err);
    if (changed < 0 && !err->field[0])
        snprintf(err->field, sizeof err->field, "loras");
    if (!l->now.count && !loras_active(l->loras))
        model_share(l->m);
    return changed;
}

int lora_live_differs(const lora_live *l)
{
    return !l->in_force || memcmp(&l->now, &l->before, sizeof l->now) != 0;
}

int lora_live_set(lora_live *l, scope_error *err)
{
    if (!lora_live_differs(l))
        return 0;
    err->field[0] = 0;
    int changed = apply(l, err);
    if (changed < 0)
        return -1;
    l->before = l->now;
    l->in_force = 1;
    snprintf(l->notice, sizeof l->notice, "%s", loras_notice(l->loras));
    if (l->too_many)
        snprintf(l->notice, sizeof l->notice,
                 "More than %d LoRAs are asked for; the first %d are "
                 "used.",
                 LORAS_MAX, LORAS_MAX);
    return changed;
}

const char *lora_live_notice(const lora_live *l)
{
    return l->notice;
}
