/* endure.c - the judgements on a plugin that need more than one go: repeatability, memory, threads,
 * speed; see trial.h.
 *
 * Must stay true: what is measured is the plugin's doing; the host's own share is warmed up before.
 */
#include "calls.h"
#include "feed.h"
#include "trial.h"

#include <dirent.h>
#include <dlfcn.h>
#include <glib.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { W = 64, H = 48, SLOW_MS = 2000, SMALL_BYTES = 1 << 18 };

static job plain(instance *in, frame_pool *pool, int w, int h, int frames)
{
    return (job){.in = in, .pool = pool, .w = w, .h = h, .frames = frames};
}

static size_t frame_bytes(const frame *f)
{
    return f ? (size_t)f->v.t * (size_t)f->v.stride_t : 0;
}

/* ---- the same again -------------------------------------------------------------------------- */

/* Every byte that differs is just what the memory held before. */
static bool only_unwritten(const frame *a, unsigned char was_a, const frame *b, unsigned char was_b)
{
    const unsigned char *p = a->v.data, *q = b->v.data;
    for (size_t i = 0; i < frame_bytes(a); i++) {
        if (p[i] != q[i] && (p[i] != was_a || q[i] != was_b))
            return false;
    }
    return true;
}

static void endure_repeat(judge *j)
{
    enum { FIRST = 0x55, SECOND = 0xaa };
    job a = {.in = j->in, .pool = j->pool, .guard = j->guard, .w = W, .h = H, .frames = 3}, b = a;
    judge_doing(j, "in process() after reset()");
    instance_reset(j->in);
    guard_set(j->guard, GUARD_AFTER, FIRST);
    int status = feed(&a);
    instance_reset(j->in);
    guard_set(j->guard, GUARD_AFTER, SECOND);
    if (status == SCOPE_OK)
        status = feed(&b);
    if (status < 0)
        judge_say(j, "fail", "repeat", "process() fails after reset(): %s",
                  a.err.status < 0 ? a.err.text : b.err.text);
    else if (frame_bytes(a.last) != frame_bytes(b.last))
        judge_say(j, "warn", "repeat", "the same input gives another shape after reset()");
    else if (!a.last || !memcmp(a.last->v.data, b.last->v.data, frame_bytes(a.last)))
        judge_say(j, "pass", "repeat", "the same input gives the same output after reset()");
    else if (only_unwritten(a.last, FIRST, b.last, SECOND))
        judge_say(j, "fail", "repeat", "process() leaves part of its output unwritten");
    else
        judge_say(j, "warn", "repeat", "the same input gives another output after reset()");
    frame_unref(a.last);
    frame_unref(b.last);
}

/* ---- memory ---------------------------------------------------------------------------------- */

typedef struct holdings {
    size_t bytes;
    size_t files, threads, mappings;
} holdings;

static size_t count_entries(const char *folder)
{
    size_t n = 0;
    DIR *dir = opendir(folder);
    while (dir && readdir(dir))
        n++;
    if (dir)
        closedir(dir);
    return n;
}

static size_t count_lines(const char *path)
{
    size_t n = 0;
    FILE *f = fopen(path, "r");
    for (int c; f && (c = fgetc(f)) != EOF;)
        n += c == '\n';
    if (f)
        fclose(f);
    return n;
}

static holdings take_stock(void)
{
    struct mallinfo2 heap = mallinfo2();
    return (holdings){heap.uordblks + heap.hblkhd, count_entries("/proc/self/fd"),
                      count_entries("/proc/self/task"), count_lines("/proc/self/maps")};
}

/* What grew in every one of the rounds: growth that stops is a cache, not a leak. */
static bool grew(const holdings *h, int rounds, size_t offset)
{
    for (int i = 0; i < rounds; i++) {
        if (*(const size_t *)((const char *)&h[i + 1] + offset) <=
            *(const size_t *)((const char *)&h[i] + offset))
            return false;
    }
    return true;
}

static bool say_growth(const judge *j, const holdings *h, int rounds, const char *where, int calls)
{
    size_t bytes = h[rounds].bytes - h[0].bytes;
    if (grew(h, rounds, offsetof(holdings, bytes)))
        judge_say(j, "fail", "leaks", "%s leaks: %zu bytes each time", where,
                  bytes / (size_t)(rounds * calls));
    else if (grew(h, rounds, offsetof(holdings, files)))
        judge_say(j, "fail", "leaks", "%s leaves files open", where);
    else if (grew(h, rounds, offsetof(holdings, threads)))
        judge_say(j, "fail", "leaks", "%s leaves threads behind", where);
    else if (grew(h, rounds, offsetof(holdings, mappings)))
        judge_say(j, "fail", "leaks", "%s leaves memory mapped", where);
    else
        return false;
    return true;
}

static bool leaks_by_instance(judge *j)
{
    enum { WARM = 4, ROUNDS = 6 };
    bool slow = j->init_ms > SLOW_MS / 10;
    int rounds = slow ? 2 : ROUNDS;
    holdings h[ROUNDS + 1];
    for (int i = slow ? -1 : -WARM; i <= rounds; i++) {
        scope_error err;
        judge_doing(j, "in init() and fini() over and over");
        instance *in = instance_open(j->path, j->id, j->values, j->plain, NULL, &err);
        if (!in) {
            judge_say(j, "fail", "leaks", "init() works once and then fails: %s", err.text);
            return true;
        }
        job k = plain(in, j->plain, W, H, 1);
        feed_and_drop(&k);
        instance_close(in);
        if (i >= 0)
            h[i] = take_stock();
    }
    /* Two rounds cannot tell a small cache that settles from a leak. */
    if (slow && h[rounds].bytes - h[0].bytes < SMALL_BYTES)
        h[rounds].bytes = h[0].bytes;
    return say_growth(j, h, rounds, "an instance", 1);
}

static void endure_memory(judge *j, instance *in)
{
    enum { ROUNDS = 4, CALLS = 8 };
    holdings h[ROUNDS + 1];
    job k = plain(in, j->plain, W, H, CALLS);
    uint64_t before = 0;
    for (int i = 0; i <= ROUNDS; i++) {
        judge_doing(j, "in process() over and over");
        feed_and_drop(&k);
        h[i] = take_stock();
        before = i ? before : calls_count(); /* the first round warms it up */
    }
    double per_frame = (double)(calls_count() - before) / (ROUNDS * CALLS);
    bool leaks = say_growth(j, h, ROUNDS, "process()", CALLS);
    if (!leaks && !leaks_by_instance(j))
        judge_say(j, "pass", "leaks", "nothing grows over instances and frames");
    if (per_frame > 0)
        judge_say(j, "warn", "allocation",
                  "process() asks for memory %.3g times a frame; take it once and keep it",
                  per_frame);
    else
        judge_say(j, "pass", "allocation", "process() takes no memory once warm");
}

/* ---- threads --------------------------------------------------------------------------------- */

static void *feed_thread(void *k)
{
    feed(k);
    return NULL;
}

/* Two instances in two threads, at once. */
static void feed_both(job k[2])
{
    pthread_t threads[2];
    bool running[2];
    for (int i = 0; i < 2; i++)
        running[i] = pthread_create(&threads[i], NULL, feed_thread, &k[i]) == 0;
    for (int i = 0; i < 2; i++) {
        if (running[i])
            pthread_join(threads[i], NULL);
    }
}

static void endure_threads(judge *j)
{
    scope_error err = {0};
    instance *in[2];
    judge_doing(j, "in init() beside a living instance");
    for (int i = 0; i < 2; i++)
        in[i] = instance_open(j->path, j->id, j->values, j->plain, NULL, &err);
    judge_doing(j, "in process() of two instances in two threads, neither the one of init()");
    job k[2] = {plain(in[0], j->plain, W, H, 8), plain(in[1], j->plain, W, H, 8)};
    if (in[0] && in[1])
        feed_both(k);
    const frame *a = k[0].last, *b = k[1].last;
    if (!in[0] || !in[1])
        judge_say(j, "fail", "threads", "a second instance fails: %s", err.text);
    else if (k[0].err.status < 0 || k[1].err.status < 0)
        judge_say(j, "fail", "threads", "two instances in two threads fail: %s",
                  k[0].err.status < 0 ? k[0].err.text : k[1].err.text);
    else if (frame_bytes(a) != frame_bytes(b) ||
             (a && memcmp(a->v.data, b->v.data, frame_bytes(a))))
        judge_say(j, "warn", "threads", "two instances disturb each other: their outputs differ");
    else if (!instance_misuse(j->in)) /* or trial_run() says so */
        judge_say(j, "pass", "threads",
                  "two instances in two threads, other than the one of init()");
    for (int i = 0; i < 2; i++) {
        frame_unref(k[i].last);
        judge_doing(j, "in fini() beside a living instance");
        instance_close(in[i]);
    }
}

/* ---- speed ----------------------------------------------------------------------------------- */

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void endure_time(judge *j, instance *in)
{
    enum { MOST = 15, SIDE = 512 };
    double ms[MOST];
    job k = plain(in, j->plain, SIDE, SIDE, 1);
    k.ms = ms;
    judge_doing(j, "in process() on %dx%d pixels", SIDE, SIDE);
    if (feed(&k) < 0) {
        judge_say(j, "fail", "time", "process() fails on %dx%d pixels: %s", SIDE, SIDE, k.err.text);
        return;
    }
    frame_unref(k.last);
    k.frames = ms[0] * MOST > SLOW_MS ? 3 : MOST;
    feed(&k);
    qsort(ms, (size_t)k.frames, sizeof *ms, by_size);
    const scope_video *v = k.last ? &k.last->v : NULL;
    judge_say(j, "pass", "time", "%.3g ms a frame of %dx%d pixels (median of %d)", ms[k.frames / 2],
              v ? v->w : SIDE, v ? v->h : SIDE, k.frames);
    frame_unref(k.last);
}

void endure(judge *j)
{
    scope_error err;
    endure_repeat(j);
    judge_doing(j, "in init() of a second instance");
    /* Over heap frames: forbidden pages would be counted, and cost time. */
    instance *in = instance_open(j->path, j->id, j->values, j->plain, NULL, &err);
    if (!in) {
        judge_say(j, "fail", "init", "init() works once and then fails: %s", err.text);
        return;
    }
    /* The library is loaded already: this only borrows its handle. */
    void *handle = dlopen(j->path, RTLD_NOW | RTLD_NOLOAD);
    if (handle)
        calls_watch(handle);
    endure_memory(j, in);
    endure_threads(j);
    endure_time(j, in);
    judge_doing(j, "in fini()");
    instance_close(in);
    if (handle)
        dlclose(handle);
}
