/* loras.c - see loras.h. */
#include "loras.h"

#include "alloc.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>

/* A file that was read, as long as it is the same file on disk. */
typedef struct known {
    char *path; /* owned, real */
    struct timespec written;
    int64_t size;
    lora *lora;  /* owned */
    float scale; /* in force; 0: not */
    float next;  /* of the list under way */
    int wanted;  /* it stands in the list under way, or in the last */
    long used;   /* clock of the last list that it stood in */
    struct known *after;
} known;

struct loras {
    const model *m; /* borrowed */
    lora_names *names;
    known *known;           /* owned list */
    k_delta *delta;         /* owned: of one weight, for every file and part */
    int room;               /* of it */
    unsigned char *touched; /* owned, one for each module: its sum changes */
    long clock, read, changed;
    char notice[256];
};

/* ---- files ----------------------------------------------------------------------------------- */

static void forget(known **at)
{
    known *k = *at;
    *at = k->after;
    lora_close(k->lora);
    free(k->path);
    free(k);
}

static int unchanged(const known *k, const char *path, const struct stat *s)
{
    return !strcmp(k->path, path) && k->size == (int64_t)s->st_size &&
           k->written.tv_sec == s->st_mtim.tv_sec && k->written.tv_nsec == s->st_mtim.tv_nsec;
}

/* Read it. Takes real. */
static known *learn(loras *l, char *real, const struct stat *s, scope_error *err)
{
    known *k = sd_calloc(1, sizeof *k);
    if (!k)
        scope_fail(err, SCOPE_ENOMEM, "Out of memory while opening a LoRA.");
    else
        k->lora = lora_open(l->names, real, err);
    if (!k || !k->lora) {
        free(real);
        free(k);
        return NULL;
    }
    l->read++;
    k->path = real;
    k->written = s->st_mtim;
    k->size = (int64_t)s->st_size;
    known **at = &l->known; /* in the order of their paths: sums depend on no history */
    while (*at && strcmp((*at)->path, real) < 0)
        at = &(*at)->after;
    k->after = *at;
    *at = k;
    return k;
}

static known *look_up(loras *l, const char *path, scope_error *err)
{
    struct stat s;
    char *real = realpath(path, NULL);
    if (!real || stat(real, &s)) {
        free(real);
        scope_fail(err, SCOPE_EIO, "The LoRA \"%.120s\" cannot be read: %s.", path,
                   strerror(errno));
        return NULL;
    }
    for (known *k = l->known; k; k = k->after) {
        if (unchanged(k, real, &s)) {
            free(real);
            return k;
        }
    }
    return learn(l, real, &s, err);
}

/* The oldest of those that are in no use go. */
static void tidy(loras *l)
{
    for (;;) {
        known **oldest = NULL;
        int idle = 0;
        for (known **at = &l->known; *at; at = &(*at)->after) {
            if ((*at)->wanted || (*at)->scale != 0)
                continue;
            idle++;
            if (!oldest || (*at)->used < (*oldest)->used)
                oldest = at;
        }
        if (idle <= LORAS_KNOWN)
            return;
        forget(oldest);
    }
}

/* ---- weights --------------------------------------------------------------------------------- */

/* The piece of a module, or NULL. */
static const lora_piece *piece_of(const lora *l, int module)
{
    int low = 0, high = lora_pieces(l);
    while (low < high) {
        int mid = (low + high) / 2;
        if (lora_piece_at(l, mid)->module < module)
            low = mid + 1;
        else
            high = mid;
    }
    const lora_piece *p = low < lora_pieces(l) ? lora_piece_at(l, low) : NULL;
    return p && p->module == module ? p : NULL;
}

/* Modules [first, end) are parts of one weight; change it to what is in force. */
static int change(loras *l, int first, int end, scope_error *err)
{
    char why[K_WHY] = "";
    int count = 0;
    k_weight *w = lora_names_at(l->names, first)->m.weight;
    for (const known *k = l->known; k; k = k->after) {
        for (int i = first; i < end && k->scale != 0; i++) {
            const lora_piece *p = piece_of(k->lora, i);
            if (!p)
                continue;
            l->delta[count] = p->delta;
            l->delta[count++].scale *= k->scale;
        }
    }
    l->changed++;
    if (!k_weight_delta(l->m->device, w, l->delta, count, why))
        return 0;
    return scope_fail(err, SCOPE_ENOMEM, "%.180s", why);
}

/* All weights with a touched module. Returns the networks, or -1. */
static int change_touched(loras *l, scope_error *err)
{
    int networks = 0, modules = lora_names_count(l->names);
    for (int i = 0, end; i < modules; i = end) {
        const lora_module *m = lora_names_at(l->names, i);
        int touched = 0;
        for (end = i; end < modules && lora_names_at(l->names, end)->m.weight == m->m.weight; end++)
            touched |= l->touched[end];
        if (!touched)
            continue;
        networks |= 1 << m->network;
        if (change(l, i, end, err))
            return -1;
    }
    return networks;
}

static void touch(loras *l, const known *k)
{
    for (int i = 0; i < lora_pieces(k->lora); i++)
        l->touched[lora_piece_at(k->lora, i)->module] = 1;
}

/* Bring what is in force to every file's next scale. */
static int commit(loras *l, scope_error *err)
{
    int networks, any = 0;
    memset(l->touched, 0, (size_t)lora_names_count(l->names));
    for (known *k = l->known; k; k = k->after) {
        if (k->scale == k->next)
            continue;
        k->scale = k->next;
        touch(l, k);
        any = 1;
    }
    if (!any)
        return 0;
    networks = change_touched(l, err);
    model_release_pages(l->m);
    for (known *k = l->known; k; k = k->after)
        lora_release_pages(k->lora);
    return networks;
}

/* After a failure: the file's own weights, which needs no memory but the library's scratch. */
static void take_all_away(loras *l)
{
    scope_error ignored;
    for (known *k = l->known; k; k = k->after) {
        k->scale = k->next = 0;
        touch(l, k);
    }
    change_touched(l, &ignored);
}

/* Memory for every change that one weight can have. */
static int make_room(loras *l, scope_error *err)
{
    int files = 0;
    for (const known *k = l->known; k; k = k->after)
        files++;
    if (files * K_MAX_PARTS <= l->room)
        return 0;
    k_delta *grown = sd_grow(l->delta, (size_t)files * K_MAX_PARTS, sizeof *grown);
    if (!grown)
        return scope_fail(err, SCOPE_ENOMEM, "Out of memory while changing LoRAs.");
    l->delta = grown;
    l->room = files * K_MAX_PARTS;
    return 0;
}

int loras_set(loras *l, const lora_want *list, int count, scope_error *err)
{
    l->clock++;
    l->notice[0] = 0;
    for (known *k = l->known; k; k = k->after)
        k->next = 0;
    for (int i = 0; i < count; i++) {
        known *k = look_up(l, list[i].path, err);
        if (!k)
            return -1;
        k->next += (float)list[i].scale;
        k->used = l->clock;
        if (!l->notice[0])
            snprintf(l->notice, sizeof l->notice, "%s", lora_notice(k->lora));
    }
    if (make_room(l, err))
        return -1;
    int networks = commit(l, err);
    if (networks < 0)
        take_all_away(l);
    for (known *k = l->known; k; k = k->after)
        k->wanted = k->used == l->clock;
    tidy(l);
    return networks;
}

int loras_active(const loras *l)
{
    int count = 0;
    for (const known *k = l->known; k; k = k->after)
        count += k->scale != 0;
    return count;
}

const char *loras_notice(const loras *l)
{
    return l->notice;
}

long loras_read(const loras *l)
{
    return l->read;
}

long loras_changed(const loras *l)
{
    return l->changed;
}

/* ---- life ------------------------------------------------------------------------------------ */

loras *loras_open(const model *m, scope_error *err)
{
    loras *l = sd_calloc(1, sizeof *l);
    if (!l) {
        scope_fail(err, SCOPE_ENOMEM, "Out of memory while preparing for LoRAs.");
        return NULL;
    }
    l->m = m;
    l->names = lora_names_open(m, err);
    if (l->names && !(l->touched = sd_calloc((size_t)lora_names_count(l->names) + 1, 1)))
        scope_fail(err, SCOPE_ENOMEM, "Out of memory while preparing for LoRAs.");
    if (l->touched)
        return l;
    lora_names_close(l->names);
    free(l);
    return NULL;
}

void loras_close(loras *l)
{
    scope_error ignored;
    if (!l)
        return;
    if (loras_active(l))
        loras_set(l, NULL, 0, &ignored);
    while (l->known)
        forget(&l->known);
    lora_names_close(l->names);
    free(l->touched);
    free(l->delta);
    free(l);
}
