/* background.c - see background.h. */
#include "background.h"

#include "alloc.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

enum { ROOM_AT_FIRST = 16 << 10 };

typedef struct list {
    char *texts; /* owned */
    size_t bytes, room;
    long ticket; /* 0: nothing waits */
} list;

struct background {
    background_options o;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    list waiting;                /* under lock, as the rest but `taken` */
    list taken;                  /* of the thread; its room is that of `waiting` when they swap */
    int64_t first_ms, newest_ms; /* when the lists came that wait */
    long tickets, done;
    scope_error failed; /* of the list `done`; status 0: it went well */
    int closing;
};

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Under lock: sleep until a list is due, or the end. */
static void await(background *b)
{
    while (!b->closing) {
        if (!b->waiting.ticket) {
            pthread_cond_wait(&b->changed, &b->lock);
            continue;
        }
        int64_t due = b->newest_ms + b->o.quiet_ms, last = b->first_ms + b->o.most_ms;
        due = due < last ? due : last;
        if (now_ms() >= due)
            return;
        struct timespec at = {.tv_sec = due / 1000, .tv_nsec = due % 1000 * 1000000};
        pthread_cond_timedwait(&b->changed, &b->lock, &at);
    }
}

static int is_closing(background *b)
{
    pthread_mutex_lock(&b->lock);
    int closing = b->closing;
    pthread_mutex_unlock(&b->lock);
    return closing;
}

static void work(background *b, scope_error *err)
{
    const list *l = &b->taken;
    *err = (scope_error){0};
    for (size_t at = 0; at < l->bytes && !err->status && !is_closing(b);
         at += strlen(l->texts + at) + 1) {
        if (b->o.work(b->o.ctx, l->texts + at, err) >= 0)
            err->status = 0;
    }
}

static void *run(void *ctx)
{
    background *b = ctx;
    pthread_mutex_lock(&b->lock);
    for (await(b); !b->closing; await(b)) {
        scope_error err;
        list l = b->taken;
        b->taken = b->waiting;
        b->waiting = l;
        b->waiting.ticket = 0;
        pthread_mutex_unlock(&b->lock);
        work(b, &err);
        pthread_mutex_lock(&b->lock);
        b->done = b->taken.ticket;
        b->failed = err;
    }
    pthread_mutex_unlock(&b->lock);
    return NULL;
}

static void release(background *b)
{
    pthread_cond_destroy(&b->changed);
    pthread_mutex_destroy(&b->lock);
    free(b->waiting.texts);
    free(b->taken.texts);
    free(b);
}

background *background_open(const background_options *o, scope_error *err)
{
    background *b = sd_calloc(1, sizeof *b);
    if (!b) {
        scope_fail(err, SCOPE_ENOMEM, "Out of memory while starting a thread for prompts.");
        return NULL;
    }
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&b->changed, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&b->lock, NULL);
    b->o = *o;
    b->waiting.room = b->taken.room = ROOM_AT_FIRST;
    b->waiting.texts = sd_malloc(ROOM_AT_FIRST);
    b->taken.texts = sd_malloc(ROOM_AT_FIRST);
    if (b->waiting.texts && b->taken.texts && !pthread_create(&b->thread, NULL, run, b))
        return b;
    scope_fail(err, SCOPE_ENOMEM, "A thread for prompts cannot be started.");
    release(b);
    return NULL;
}

void background_close(background *b)
{
    if (!b)
        return;
    pthread_mutex_lock(&b->lock);
    b->closing = 1;
    pthread_cond_signal(&b->changed);
    pthread_mutex_unlock(&b->lock);
    pthread_join(b->thread, NULL);
    release(b);
}

/* Under lock. */
static int make_room(list *l, size_t bytes)
{
    if (bytes <= l->room)
        return 0;
    char *larger = sd_grow(l->texts, bytes, 1);
    if (!larger)
        return -1;
    l->texts = larger;
    l->room = bytes;
    return 0;
}

long background_post(background *b, const char *texts, size_t bytes)
{
    long ticket = -1;
    pthread_mutex_lock(&b->lock);
    list *l = &b->waiting;
    if (!make_room(l, bytes)) {
        b->newest_ms = now_ms();
        if (!l->ticket)
            b->first_ms = b->newest_ms;
        memcpy(l->texts, texts, bytes);
        l->bytes = bytes;
        ticket = l->ticket = ++b->tickets;
        pthread_cond_signal(&b->changed);
    }
    pthread_mutex_unlock(&b->lock);
    return ticket;
}

long background_done(background *b, scope_error *err)
{
    pthread_mutex_lock(&b->lock);
    long done = b->done;
    *err = b->failed;
    pthread_mutex_unlock(&b->lock);
    return done;
}
