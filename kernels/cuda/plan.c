/* plan.c - which candidate runs which shape: measured once per shape, GPU and version, and kept.
 *
 * A candidate is timed as it will run: captured into a graph of several runs, which is replayed on
 * the context's stream. What the processor needs for a launch is not in it.
 */
#include "plan.h"
#include "plan_table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PLAIN_RUNS = 3, FINALISTS = 10, REPLAYS = 4, RUNS_MAX = 16 };

/* Who goes on to the final: times at first sight have launches in them. */
static const double CLEARLY_SLOWER = 2.0, LAUNCH_US = 12;
static const double REPLAY_US = 250; /* enough for the clock of events */

enum tune { MEASURE, REFRESH, GUESS, FORCE };

typedef struct cuda_plans {
    const cuda_device *device; /* borrowed */
    pthread_mutex_t lock;      /* guards table */
    pthread_mutex_t measure;   /* one shape at a time: two would disturb each other */
    plan_table table;
    int opened; /* table, at the first choice: its name asks for the libraries */
    enum tune tune;
    int forced; /* candidate, with FORCE */
} cuda_plans;

/* ---- timing --------------------------------------------------------------------------------- */

/* Run candidate i `times` times; nonzero where it does not fit. A failure of the candidate's is not
 * one of the network's; a device that is lost fails again at once. */
static int run(k_ctx *k, const cuda_choice *c, int i, int times)
{
    int unfit = 0;
    cuda_measure_begin(k);
    for (int n = 0; n < times && !unfit; n++)
        unfit = c->run(k, i, c->ctx) || k->status;
    cuda_measure_end(k);
    k->status = 0;
    k->where[0] = 0;
    return unfit;
}

typedef struct stopwatch {
    cudaEvent_t start, stop;
} stopwatch;

static void stopwatch_close(stopwatch *w)
{
    if (w->start)
        cudaEventDestroy(w->start);
    if (w->stop)
        cudaEventDestroy(w->stop);
}

static int stopwatch_open(stopwatch *w)
{
    *w = (stopwatch){0};
    if (!cudaEventCreate(&w->start) && !cudaEventCreate(&w->stop))
        return 0;
    stopwatch_close(w);
    return -1;
}

/* Microseconds since start was recorded; negative after a failure. */
static double elapsed_us(const stopwatch *w, cudaStream_t stream)
{
    float ms;
    if (cudaEventRecord(w->stop, stream) || cudaEventSynchronize(w->stop) ||
        cudaEventElapsedTime(&ms, w->start, w->stop))
        return -1;
    return 1000.0 * (double)ms;
}

/* At first sight: a run that loads the kernels and takes memory, and a few that count. */
static double time_plain(k_ctx *k, const cuda_choice *c, int i, const stopwatch *w)
{
    cudaStream_t stream = cuda_stream(k);
    if (run(k, c, i, 1) || cudaEventRecord(w->start, stream) || run(k, c, i, PLAIN_RUNS))
        return -1;
    double us = elapsed_us(w, stream);
    return us < 0 ? us : us / PLAIN_RUNS;
}

/* A graph of `times` runs; NULL where they cannot be captured. */
static cudaGraphExec_t capture(k_ctx *k, const cuda_choice *c, int i, int times)
{
    cudaStream_t stream = cuda_stream(k);
    cudaGraph_t graph = NULL;
    cudaGraphExec_t exec = NULL;
    if (cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal))
        return NULL;
    int unfit = run(k, c, i, times);
    if (cudaStreamEndCapture(stream, &graph) || unfit || cudaGraphInstantiate(&exec, graph, 0))
        exec = NULL;
    if (graph)
        cudaGraphDestroy(graph);
    return exec;
}

/* To the end: the fastest of some replays, per run. */
static double time_graph(k_ctx *k, const cuda_choice *c, int i, double plain_us, const stopwatch *w)
{
    cudaStream_t stream = cuda_stream(k);
    int times = plain_us * RUNS_MAX <= REPLAY_US ? RUNS_MAX : 1 + (int)(REPLAY_US / plain_us);
    cudaGraphExec_t exec = capture(k, c, i, times);
    double best = -1;
    for (int n = 0; exec && n < REPLAYS; n++) {
        if (cudaEventRecord(w->start, stream) || cudaGraphLaunch(exec, stream))
            break;
        double us = elapsed_us(w, stream) / times;
        if (n > 0 && us >= 0 && (best < 0 || us < best)) /* the first one uploads the graph */
            best = us;
    }
    if (exec)
        cudaGraphExecDestroy(exec);
    return best;
}

static int nearest(const double *us, int count)
{
    int best = -1;
    for (int i = 0; i < count; i++) {
        if (us[i] >= 0 && (best < 0 || us[i] < us[best]))
            best = i;
    }
    return best;
}

/* Those that were fastest at first sight, measured to the end; plain is used up. A call of a
 * library costs the host more than a launch of ours, which hides how fast short ones are: all of
 * them are. */
static void final(k_ctx *k, const cuda_choice *c, const stopwatch *w, double *us, double *plain)
{
    for (int i = c->libraries; c->libraries && i < c->candidates; i++) {
        if (plain[i] >= 0)
            us[i] = time_graph(k, c, i, plain[i], w);
        plain[i] = -1;
    }
    int best = nearest(plain, c->candidates);
    double limit = best < 0 ? 0 : CLEARLY_SLOWER * plain[best] + LAUNCH_US;
    for (int n = 0; n < FINALISTS && best >= 0 && plain[best] <= limit; n++) {
        us[best] = time_graph(k, c, best, plain[best], w);
        plain[best] = -1;
        best = nearest(plain, c->candidates);
    }
}

void cuda_plan_times(k_ctx *k, const cuda_choice *c, double *us)
{
    stopwatch w;
    double *plain = malloc((size_t)c->candidates * sizeof *plain);
    int ready = plain && !stopwatch_open(&w);
    for (int i = 0; i < c->candidates; i++) {
        us[i] = -1;
        if (ready)
            plain[i] = time_plain(k, c, i, &w);
    }
    if (ready) {
        final(k, c, &w, us, plain);
        stopwatch_close(&w);
    }
    free(plain);
    cudaGetLastError(); /* of a candidate that does not fit */
    cuda_failed(k, cudaStreamSynchronize(cuda_stream(k)), "cuda: measuring");
}

int cuda_plan_winner(const double *us, int count, int *second)
{
    int fastest = -1, winner = -1;
    *second = -1;
    for (int i = 0; i < count; i++) {
        if (us[i] >= 0 && (fastest < 0 || us[i] < us[fastest]))
            fastest = i;
    }
    for (int i = 0; i < count && winner < 0; i++) {
        if (us[i] >= 0 && us[i] <= 1.02 * us[fastest])
            winner = i;
    }
    for (int i = 0; i < count; i++) {
        if (i != winner && us[i] >= 0 && (*second < 0 || us[i] < us[*second]))
            *second = i;
    }
    return winner;
}

/* ---- choosing ------------------------------------------------------------------------------- */

/* The file's name says all that the times depend on. */
static void file_name(const cuda_device *d, char *name, size_t room)
{
    int driver = 0;
    cudaDriverGetVersion(&driver);
    const char *gpu = strchr(d->name, '(');
    snprintf(name, room, "plans 1 " KERNELS_ID " %s sm%d driver %d %s.txt", gpu ? gpu + 1 : d->name,
             d->sm, driver, cuda_library_versions(d->library));
}

static void open_table(cuda_plans *p)
{
    char name[256];
    if (p->opened)
        return;
    p->opened = 1;
    file_name(p->device, name, sizeof name);
    plan_table_open(&p->table, p->tune == FORCE ? NULL : name, p->tune == REFRESH);
}

/* The number of the candidate that the row names; -1: it is unknown here. */
static int number_of(const cuda_choice *c, const plan_row *row)
{
    for (int i = 0; i < c->candidates; i++) {
        const char *name = c->name(i);
        if (name && !strcmp(name, row->name))
            return i;
    }
    return -1;
}

/* What is known of this shape; -1: nothing. */
static int recall(cuda_plans *p, const cuda_choice *c)
{
    int found = -1;
    pthread_mutex_lock(&p->lock);
    open_table(p);
    plan_row *row = plan_table_find(&p->table, c->key);
    if (row && row->candidate < 0 && p->tune != REFRESH)
        row->candidate = number_of(c, row);
    if (row)
        found = row->candidate;
    pthread_mutex_unlock(&p->lock);
    return found;
}

/* Keep it, for as long as the process lives at least: a choice never changes under a context that
 * has planned with it. */
static void keep(cuda_plans *p, const cuda_choice *c, int winner, int second, const double *us)
{
    pthread_mutex_lock(&p->lock);
    plan_row *row = plan_table_row(&p->table, c->key);
    if (row) {
        row->candidate = winner;
        row->us = us ? us[winner] : 0;
        snprintf(row->name, sizeof row->name, "%s", c->name(winner));
        row->second_us = second >= 0 ? us[second] : 0;
        snprintf(row->second, sizeof row->second, "%s", second >= 0 ? c->name(second) : "");
        p->table.dirty = 1;
    }
    pthread_mutex_unlock(&p->lock);
}

static int force(k_ctx *k, cuda_plans *p, const cuda_choice *c)
{
    int fits = p->forced < c->candidates && !run(k, c, p->forced, 1);
    int choice = fits ? p->forced : c->guess;
    cuda_failed(k, cudaStreamSynchronize(cuda_stream(k)), "cuda: measuring");
    keep(p, c, choice, -1, NULL);
    return choice;
}

static int measure(k_ctx *k, cuda_plans *p, const cuda_choice *c)
{
    int second = -1, winner = -1;
    double *us = malloc((size_t)c->candidates * sizeof *us);
    if (us) {
        cuda_plan_times(k, c, us);
        winner = cuda_plan_winner(us, c->candidates, &second);
    }
    if (winner >= 0 && !k->status)
        keep(p, c, winner, second, us);
    free(us);
    return winner >= 0 ? winner : c->guess;
}

int cuda_choose(k_ctx *k, const cuda_choice *c)
{
    cuda_plans *p = cuda_of(k)->plans;
    if (!p || p->tune == GUESS || k->status)
        return c->guess;
    int found = recall(p, c);
    if (found >= 0 || !k->planning)
        return found >= 0 ? found : c->guess;
    pthread_mutex_lock(&p->measure);
    found = recall(p, c); /* another context may have measured it meanwhile */
    if (found < 0)
        found = p->tune == FORCE ? force(k, p, c) : measure(k, p, c);
    cuda_library_rest(cuda_of(k)->library);
    pthread_mutex_unlock(&p->measure);
    return found;
}

/* ---- of a device ---------------------------------------------------------------------------- */

cuda_plans *cuda_plans_open(const cuda_device *d)
{
    cuda_plans *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->device = d;
    pthread_mutex_init(&p->lock, NULL);
    pthread_mutex_init(&p->measure, NULL);
    const char *tune = getenv("SCOPE_CUDA_TUNE");
    char *end = NULL;
    long forced = tune ? strtol(tune, &end, 10) : 0;
    if (tune && !strcmp(tune, "off")) {
        p->tune = GUESS;
    } else if (tune && !strcmp(tune, "refresh")) {
        p->tune = REFRESH;
    } else if (tune && end != tune && !*end && forced >= 0 && forced < 1000) {
        p->tune = FORCE;
        p->forced = (int)forced;
    }
    return p;
}

void cuda_plans_save(cuda_plans *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    plan_table_save(&p->table);
    pthread_mutex_unlock(&p->lock);
}

void cuda_plans_close(cuda_plans *p)
{
    if (!p)
        return;
    plan_table_close(&p->table);
    pthread_mutex_destroy(&p->lock);
    pthread_mutex_destroy(&p->measure);
    free(p);
}

void cuda_device_plan(const k_device *device, void (*line)(void *ctx, const char *text), void *ctx)
{
    cuda_plans *p = ((const cuda_device *)device)->plans;
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    for (int i = 0; i < p->table.count; i++) {
        const plan_row *r = &p->table.rows[i];
        char text[2 * PLAN_KEY + 2 * PLAN_NAME], second[PLAN_NAME + 32] = "";
        if (r->candidate < 0)
            continue;
        if (*r->second)
            snprintf(second, sizeof second, " (%s %.1f)", r->second, r->second_us);
        if (p->tune == FORCE)
            snprintf(text, sizeof text, "%-48s %s", r->key, r->name);
        else
            snprintf(text, sizeof text, "%-48s %8.1f us  %s%s", r->key, r->us, r->name, second);
        line(ctx, text);
    }
    pthread_mutex_unlock(&p->lock);
}
