/* model.c - see model.h.
 *
 * The registry is this library's one piece of global state: a list of the models in memory and a
 * lock, which is held while a model loads, so that a second instance waits for it and shares.
 */
#include "model.h"

#include "alloc.h"
#include "parts.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { SET_TEXT, SET_UNET, SET_VAE, SET_TAESD, SETS };
enum { CLAIMED = -1 };

typedef struct entry entry;
struct entry {
    model model; /* first: a model is its entry */
    weights *set[SETS];
    parts parts;
    char device[16];
    int memory;
    /* Users, or CLAIMED for one who shares with nobody. Rises and ends under lock; a claim, which
     * must not wait for a model that loads, is one exchange. */
    _Atomic int users;
    entry *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static entry *models; /* under lock */

/* ---- loading ----------------------------------------------------------------------------------
 */

typedef struct loader {
    const scope_host *host; /* may be NULL */
    entry *e;
    scope_error *err;
} loader;

/* Tell the host; nonzero when the user gave up. */
static int reached(const loader *l, double done, const char *phase)
{
    if (!l->host)
        return 0;
    l->host->progress(l->host, done, phase);
    if (!l->host->cancelled(l->host))
        return 0;
    return scope_fail(l->err, SCOPE_ECANCEL, "Loading was cancelled.");
}

/* Open the weights of a part, from where it lies. */
static weights *open_set(const loader *l, int which, int part)
{
    l->e->set[which] =
        weights_open(l->e->model.device, l->e->parts.at[part], parts_label(part), l->err);
    return l->e->set[which];
}

/* A failure of a part that has a path of its own is that field's. */
static int blame(const loader *l, int asked)
{
    if (l->e->parts.asked[asked][0] && !l->err->field[0])
        snprintf(l->err->field, sizeof l->err->field, "%s", parts_field(asked));
    return -1;
}

static int load_text(const loader *l)
{
    model *m = &l->e->model;
    const parts *p = &l->e->parts;
    if (!(m->tokens = tokenizer_open(p->at[PART_TOKENIZER], l->err)))
        return blame(l, ASKED_TOKENIZER);
    if (p->pad >= 0)
        tokenizer_pad(m->tokens, p->pad);
    weights *w = open_set(l, SET_TEXT, PART_TEXT);
    if (!w)
        return -1;
    weights_rare(w); /* a prompt changes now and then, not with the frame */
    if (!(m->text = clip_open(w, &m->config.text, l->err)) || weights_finish(w, l->host, l->err))
        return blame(l, ASKED_TEXT);
    return 0;
}

static int load_unet(const loader *l)
{
    model *m = &l->e->model;
    weights *w = open_set(l, SET_UNET, PART_UNET);
    if (!w || !(m->unet = unet_open(w, &m->config.unet, l->err)) ||
        weights_finish(w, l->host, l->err))
        return blame(l, ASKED_UNET);
    return 0;
}

static int load_vae(const loader *l)
{
    model *m = &l->e->model;
    if (!m->config.has_vae)
        return 0;
    weights *w = open_set(l, SET_VAE, PART_VAE);
    if (!w || !(m->vae = vae_open(w, &m->config.vae, l->err)) || weights_finish(w, l->host, l->err))
        return blame(l, ASKED_VAE);
    return 0;
}

static int load_taesd(const loader *l)
{
    model *m = &l->e->model;
    if (!m->config.has_taesd)
        return 0;
    weights *w = open_set(l, SET_TAESD, PART_TAESD);
    if (!w || !(m->taesd = taesd_open(w, &m->config.taesd, l->err)) ||
        weights_finish(w, l->host, l->err))
        return blame(l, ASKED_TAESD);
    return 0;
}

static int open_device(const loader *l)
{
    char why[K_WHY];
    k_device_options options = {.memory = l->e->memory};
    l->e->model.device = k_device_open(l->e->device, &options, why);
    if (l->e->model.device)
        return 0;
    return scope_fail_field(l->err, SCOPE_EDEVICE, "device", "%s", why);
}

static int load(const loader *l)
{
    return reached(l, 0.0, "config") ||
           parts_find(&l->e->parts, &l->e->model.config, NULL, l->err) || open_device(l) ||
           reached(l, 0.02, "text encoder") || load_text(l) || reached(l, 0.05, "unet") ||
           load_unet(l) || reached(l, 0.10, "autoencoder") || load_vae(l) || load_taesd(l);
}

static void free_entry(entry *e)
{
    model *m = &e->model;
    clip_close(m->text);
    unet_close(m->unet);
    vae_close(m->vae);
    taesd_close(m->taesd);
    tokenizer_close(m->tokens);
    for (int i = 0; i < SETS; i++) {
        if (e->set[i])
            weights_close(e->set[i]);
    }
    if (m->device)
        k_device_close(m->device);
    parts_fini(&e->parts);
    free(e);
}

/* ---- the registry -----------------------------------------------------------------------------
 */

static int same(const entry *a, const entry *b)
{
    return parts_same(&a->parts, &b->parts) && !strcmp(a->device, b->device) &&
           a->memory == b->memory;
}

/* An entry that says what is asked for and holds nothing yet. */
static entry *request(const model_options *o, scope_error *err)
{
    entry *e = sd_calloc(1, sizeof *e);
    if (!e) {
        scope_fail(err, SCOPE_ENOMEM, "Out of memory while loading a model.");
        return NULL;
    }
    e->memory = o->memory;
    snprintf(e->device, sizeof e->device, "%s", strcmp(o->device, "auto") ? o->device : "cpu");
    const char *const asked[ASKED] = {
        [ASKED_MODEL] = o->path,        [ASKED_TAESD] = o->taesd, [ASKED_VAE] = o->vae,
        [ASKED_TEXT] = o->text_encoder, [ASKED_UNET] = o->unet,   [ASKED_TOKENIZER] = o->tokenizer,
    };
    if (!parts_ask(&e->parts, asked, err)) {
        e->parts.prediction = o->prediction;
        return e;
    }
    free_entry(e);
    return NULL;
}

/* Under lock: an equal entry that is loaded and may be shared, else `e` itself, loaded and listed.
 * Takes e. */
static entry *find_or_load(const scope_host *host, entry *e, int own, scope_error *err)
{
    for (entry *known = models; known; known = known->next) {
        int users = known->users;
        if (!own && same(known, e) && users > 0 &&
            atomic_compare_exchange_strong(&known->users, &users, users + 1)) {
            free_entry(e);
            return known;
        }
    }
    err->field[0] = 0;
    if (load(&(loader){.host = host, .e = e, .err = err})) {
        if (!err->field[0] && err->status != SCOPE_ECANCEL)
            snprintf(err->field, sizeof err->field, "model_id_or_path");
        free_entry(e);
        return NULL;
    }
    e->users = own ? CLAIMED : 1;
    e->next = models;
    models = e;
    return e;
}

const model *model_acquire(const scope_host *host, const model_options *o, scope_error *err)
{
    entry *e = request(o, err);
    if (!e)
        return NULL;
    pthread_mutex_lock(&lock);
    e = find_or_load(host, e, o->own, err);
    pthread_mutex_unlock(&lock);
    return e ? &e->model : NULL;
}

void model_release(const model *m)
{
    if (!m)
        return;
    pthread_mutex_lock(&lock);
    entry **at = &models;
    while (&(*at)->model != m)
        at = &(*at)->next;
    entry *e = *at;
    if (e->users == CLAIMED || --e->users == 0)
        *at = e->next;
    else
        e = NULL;
    pthread_mutex_unlock(&lock);
    if (e)
        free_entry(e);
}

int model_claim(const model *m)
{
    int users = 1;
    entry *e = (entry *)m;
    return !atomic_compare_exchange_strong(&e->users, &users, CLAIMED) && users != CLAIMED;
}

void model_share(const model *m)
{
    int users = CLAIMED;
    atomic_compare_exchange_strong(&((entry *)m)->users, &users, 1);
}

weights *model_weights(const model *m, int part)
{
    return ((const entry *)m)->set[part == MODEL_TEXT ? SET_TEXT : SET_UNET];
}

void model_release_pages(const model *m)
{
    const entry *e = (const entry *)m;
    for (int i = 0; i < SETS; i++) {
        if (e->set[i])
            weights_release_pages(e->set[i]);
    }
}
