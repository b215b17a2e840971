/* model.c - see model.h.
 *
 * The registry is this library's one piece of global state: a list of the models in memory and a
 * lock, which is held while a model loads, so that a second instance waits for it and shares.
 */
#include "model.h"

#include "alloc.h"

#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

enum { SET_TEXT, SET_TEXT_2, SET_UNET, SET_VAE, SET_TAESD, SETS };

typedef struct entry entry;
struct entry {
    model model; /* first: a model is its entry */
    weights *set[SETS];
    char *path, *taesd; /* real paths; "" for no taesd of its own */
    char device[16];
    int memory, users;
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

/* Open the weights of a part; `dir` is its folder, `label` its name in messages. */
static weights *open_set(const loader *l, int which, const char *dir, const char *label)
{
    l->e->set[which] = weights_open(l->e->model.device, dir, label, l->err);
    return l->e->set[which];
}

static int load_text(const loader *l)
{
    char dir[PATH_MAX];
    model *m = &l->e->model;
    snprintf(dir, sizeof dir, "%s/tokenizer", l->e->path);
    if (!(m->tokens = tokenizer_open(dir, l->err)))
        return -1;
    snprintf(dir, sizeof dir, "%s/text_encoder", l->e->path);
    weights *w = open_set(l, SET_TEXT, dir, "text_encoder");
    if (!w)
        return -1;
    weights_rare(w); /* a prompt changes now and then, not with the frame */
    if (!(m->text = clip_open(w, &m->config.text, l->err)))
        return -1;
    return weights_finish(w, l->host, l->err);
}

/* Of SDXL's two tokenizers the second differs in its padding alone, which is all that is kept. */
static int load_tokenizer_2(const loader *l)
{
    char dir[PATH_MAX];
    model *m = &l->e->model;
    static const char text[] = "An oil painting, 1890s"; /* a few dozen tokens at the most */
    int32_t one[TOKENIZER_LENGTH], two[TOKENIZER_LENGTH];
    snprintf(dir, sizeof dir, "%s/tokenizer_2", l->e->path);
    if (access(dir, F_OK)) {
        m->pad_2 = 0; /* that of every published SDXL */
        return 0;
    }
    tokenizer *second = tokenizer_open(dir, l->err);
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
    char dir[PATH_MAX];
    model *m = &l->e->model;
    if (!m->config.has_text_2)
        return 0;
    if (load_tokenizer_2(l))
        return -1;
    snprintf(dir, sizeof dir, "%s/text_encoder_2", l->e->path);
    weights *w = open_set(l, SET_TEXT_2, dir, "text_encoder_2");
    if (!w)
        return -1;
    weights_rare(w);
    if (!(m->text_2 = clip_open(w, &m->config.text_2, l->err)))
        return -1;
    return weights_finish(w, l->host, l->err);
}

static int load_unet(const loader *l)
{
    char dir[PATH_MAX];
    model *m = &l->e->model;
    snprintf(dir, sizeof dir, "%s/unet", l->e->path);
    weights *w = open_set(l, SET_UNET, dir, "unet");
    if (!w || !(m->unet = unet_open(w, &m->config.unet, l->err)))
        return -1;
    return weights_finish(w, l->host, l->err);
}

static int load_vae(const loader *l)
{
    char dir[PATH_MAX];
    model *m = &l->e->model;
    if (!m->config.has_vae)
        return 0;
    snprintf(dir, sizeof dir, "%s/vae", l->e->path);
    weights *w = open_set(l, SET_VAE, dir, "vae");
    if (!w || !(m->vae = vae_open(w, &m->config.vae, l->err)))
        return -1;
    return weights_finish(w, l->host, l->err);
}

/* The TAESDs of SD and of SDXL fit each other's models, and make pictures of wrong colours. */
static void warn_of_taesd(const loader *l, const char *dir)
{
    char line[256];
    const model_config *c = &l->e->model.config;
    /* A folder of the model's own is called taesd whatever it holds: its config may tell. */
    if (!l->host || !config_taesd_is_foreign(c, l->e->taesd[0] ? dir : ""))
        return;
    snprintf(
        line, sizeof line,
        "The TAESD of %.80s seems to be made for %s; this model needs madebyollin/%s, and looks "
        "wrong with another.",
        dir, c->unet.text_time ? "SD 1.x and 2.x" : "SDXL",
        c->unet.text_time ? "taesdxl" : "taesd");
    l->host->log(l->host, SCOPE_WARN, line);
}

/* The one that was asked for, else the one that lies in the folder. */
static int load_taesd(const loader *l)
{
    char dir[PATH_MAX];
    model *m = &l->e->model;
    int own = l->e->taesd[0] != 0;
    if (!own && !m->config.has_taesd)
        return 0;
    if (own)
        snprintf(dir, sizeof dir, "%s", l->e->taesd);
    else
        snprintf(dir, sizeof dir, "%s/%s", l->e->path, m->config.taesd_dir);
    if (own && config_read_taesd(&m->config.taesd, dir, l->err))
        return -1;
    warn_of_taesd(l, dir);
    weights *w = open_set(l, SET_TAESD, dir, "taesd");
    if (!w || !(m->taesd = taesd_open(w, &m->config.taesd, l->err)))
        return -1;
    if (m->config.taesd.latent_channels != m->config.unet.in_channels)
        return scope_fail(l->err, SCOPE_EINVAL,
                          "The TAESD makes %d latent channels, the UNet takes %d; use the TAESD "
                          "that belongs to this model.",
                          m->config.taesd.latent_channels, m->config.unet.in_channels);
    return weights_finish(w, l->host, l->err);
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
    if (reached(l, 0.0, "config") || config_read(&l->e->model.config, l->e->path, l->err) ||
        open_device(l) || reached(l, 0.02, "text encoder") || load_text(l) || load_text_2(l) ||
        reached(l, 0.05, "unet") || load_unet(l) || reached(l, 0.10, "autoencoder") || load_vae(l))
        return -1;
    if (!load_taesd(l))
        return 0;
    if (l->e->taesd[0] && !l->err->field[0])
        snprintf(l->err->field, sizeof l->err->field, "taesd_path");
    return -1;
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
    free(e->path);
    free(e->taesd);
    free(e);
}

/* ---- the registry -----------------------------------------------------------------------------
 */

static int same(const entry *a, const entry *b)
{
    return !strcmp(a->path, b->path) && !strcmp(a->taesd, b->taesd) &&
           !strcmp(a->device, b->device) && a->memory == b->memory;
}

/* The real path of a folder; on failure NULL and *err names `field`. */
static char *folder(const char *path, const char *field, const char *remedy, scope_error *err)
{
    char *real = path[0] ? realpath(path, NULL) : NULL;
    if (!real)
        scope_fail_field(err, SCOPE_EIO, field, "There is no folder \"%.60s\". %s", path, remedy);
    return real;
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
    e->path = folder(o->path, "model_id_or_path",
                     "Get a model: huggingface-cli download stabilityai/sd-turbo --local-dir "
                     "sd-turbo, then give that folder.",
                     err);
    if (e->path && o->taesd[0])
        e->taesd = folder(o->taesd, "taesd_path",
                          "Get one: huggingface-cli download madebyollin/taesd --local-dir taesd, "
                          "or leave this field empty.",
                          err);
    else if (e->path && !(e->taesd = sd_strdup("")))
        scope_fail(err, SCOPE_ENOMEM, "Out of memory while loading a model.");
    if (e->path && e->taesd)
        return e;
    free_entry(e);
    return NULL;
}

/* Under lock: an equal entry that is loaded, else `e` itself, loaded and listed. Takes e. */
static entry *find_or_load(const scope_host *host, entry *e, scope_error *err)
{
    for (entry *known = models; known; known = known->next) {
        if (same(known, e)) {
            free_entry(e);
            known->users++;
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
    e->users = 1;
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
    e = find_or_load(host, e, err);
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
    if (--e->users == 0)
        *at = e->next;
    else
        e = NULL;
    pthread_mutex_unlock(&lock);
    if (e)
        free_entry(e);
}

void model_release_pages(const model *m)
{
    const entry *e = (const entry *)m;
    for (int i = 0; i < SETS; i++) {
        if (e->set[i])
            weights_release_pages(e->set[i]);
    }
}
