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

enum { SET_TEXT, SET_TEXT_2, SET_UNET, SET_VAE, SET_TAESD, SETS };
enum { CLAIMED = -1 };

typedef struct entry entry;
struct entry {
    model model; /* first: a model is its entry */
    weights *set[SETS];
    parts parts;
    char device[16];
    char no_gpu[K_WHY]; /* why "auto" is the CPU, or "" */
    int memory;
    /* Users, or CLAIMED for one who shares with nobody. Rises and ends under lock; a claim, which
     * must not wait for a model that loads, is one exchange. */
    _Atomic int users;
    entry *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static entry *models; /* under lock */

/* ---- loading --------------------------------------------------------------------------------- */

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

/* Of SDXL's two tokenizers the second differs in its padding alone, which is all that is kept. */
static int load_tokenizer_2(const loader *l)
{
    model *m = &l->e->model;
    static const char text[] = "An oil painting, 1890s"; /* a few dozen tokens at the most */
    int32_t one[TOKENIZER_LENGTH], two[TOKENIZER_LENGTH];
    if (!l->e->parts.at[PART_TOKENIZER_2]) {
        m->pad_2 = 0; /* that of every published SDXL */
        return 0;
    }
    tokenizer *second = tokenizer_open(l->e->parts.at[PART_TOKENIZER_2], l->err);
    if (!second)
        return -1;
    int n = tokenizer_encode(second, text, two), same = tokenizer_encode(m->tokens, text, one) == n;
    tokenizer_close(second);
    if (n < 0)
        return scope_fail(l->err, SCOPE_ENOMEM, "Out of memory while reading tokenizer_2.");
    same = same && !memcmp(one, two, (size_t)(n + 2) * sizeof *one);
    m->pad_2 = two[TOKENIZER_LENGTH - 1];
    if (same && m->pad_2 < m->config.text_2.vocab_size)
        return 0;
    return scope_fail(l->err, SCOPE_EIO,
                      "tokenizer and tokenizer_2 spell a text differently; SDXL's share one "
                      "vocabulary, so they are not of one checkpoint.");
}

static int load_text_2(const loader *l)
{
    model *m = &l->e->model;
    if (!m->config.has_text_2)
        return 0;
    if (load_tokenizer_2(l))
        return -1;
    weights *w = open_set(l, SET_TEXT_2, PART_TEXT_2);
    if (!w)
        return -1;
    weights_rare(w);
    if (!(m->text_2 = clip_open(w, &m->config.text_2, l->err)))
        return -1;
    return weights_finish(w, l->host, l->err);
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

/* The TAESDs of SD and of SDXL fit each other's models, and make pictures of wrong colours. */
static void warn_of_taesd(const loader *l)
{
    char line[256];
    const model_config *c = &l->e->model.config;
    const char *at = l->e->parts.at[PART_TAESD];
    /* A folder of the model's own is called taesd whatever it holds: its config may tell. */
    if (!l->host || !config_taesd_is_foreign(c, l->e->parts.asked[ASKED_TAESD][0] ? at : ""))
        return;
    snprintf(
        line, sizeof line,
        "The TAESD of %.80s seems to be made for %s; this model needs madebyollin/%s, and looks "
        "wrong with another.",
        at, c->unet.text_time ? "SD 1.x and 2.x" : "SDXL", c->unet.text_time ? "taesdxl" : "taesd");
    l->host->log(l->host, SCOPE_WARN, line);
}

static int load_taesd(const loader *l)
{
    model *m = &l->e->model;
    if (!m->config.has_taesd)
        return 0;
    warn_of_taesd(l);
    weights *w = open_set(l, SET_TAESD, PART_TAESD);
    if (!w || !(m->taesd = taesd_open(w, &m->config.taesd, l->err)) ||
        weights_finish(w, l->host, l->err))
        return blame(l, ASKED_TAESD);
    return 0;
}

/* That there is no GPU is nothing to tell who did not ask for one. */
static void tell_device(const loader *l)
{
    char line[K_WHY + 64];
    int usual = !strcmp(l->e->device, "cpu");
    snprintf(line, sizeof line, "device: %s%s%s", k_device_name(l->e->model.device),
             l->e->no_gpu[0] ? ". " : "", l->e->no_gpu);
    if (l->host)
        l->host->log(l->host, usual ? SCOPE_DEBUG : SCOPE_INFO, line);
}

static int open_device(const loader *l)
{
    char why[K_WHY];
    k_device_options options = {.memory = l->e->memory};
    l->e->model.device = k_device_open(l->e->device, &options, why);
    if (l->e->model.device) {
        tell_device(l);
        return 0;
    }
    return scope_fail_field(l->err, SCOPE_EDEVICE, "device", "%s", why);
}

static int load(const loader *l)
{
    return reached(l, 0.0, "config") ||
           parts_find(&l->e->parts, &l->e->model.config, NULL, l->err) || open_device(l) ||
           reached(l, 0.02, "text encoder") || load_text(l) || load_text_2(l) ||
           reached(l, 0.05, "unet") || load_unet(l) || reached(l, 0.10, "autoencoder") ||
           load_vae(l) || load_taesd(l);
}

static void free_entry(entry *e)
{
    model *m = &e->model;
    clip_close(m->text);
    clip_close(m->text_2);
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

/* ---- the registry ---------------------------------------------------------------------------- */

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
    snprintf(e->device, sizeof e->device, "%s",
             strcmp(o->device, "auto") ? o->device : k_device_best(e->no_gpu));
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
    static const int sets[MODEL_PARTS] = {
        [MODEL_TEXT] = SET_TEXT, [MODEL_TEXT_2] = SET_TEXT_2, [MODEL_UNET] = SET_UNET};
    return ((const entry *)m)->set[sets[part]];
}

void model_release_pages(const model *m)
{
    const entry *e = (const entry *)m;
    for (int i = 0; i < SETS; i++) {
        if (e->set[i])
            weights_release_pages(e->set[i]);
    }
}
