/* run_loop.c - the loop of a run; see run_loop.h. */
#include "run_loop.h"
#include "error.h"

#include <glib.h>

static int emit(void *ctx, frame *out, scope_error *err)
{
    run_job *job = ctx;
    int status = job->write(job->ctx, job->tick, out, err);
    if (!status)
        job->counts.written++;
    return status;
}

static int set_values(run_job *job, int64_t time_us, const char **at, scope_error *err)
{
    int status = 0;
    for (int i = 0; job->keys && i < chain_count(job->chain) && !status; i++) {
        json_t *changes = keyframes_changes(job->keys, i, time_us);
        if (!changes)
            continue;
        *at = instance_id(chain_at(job->chain, i));
        status = instance_set(chain_at(job->chain, i), changes, err);
        json_decref(changes);
    }
    return status;
}

/* One tick through the chain. */
static int one(run_job *job, const run_tick *tick, const char **at, scope_error *err)
{
    job->tick = tick;
    int status = set_values(job, tick->pts_us, at, err);
    if (!status)
        status =
            chain_push(job->chain, tick->in, tick->pts_us, tick->duration_us, emit, job, at, err);
    job->counts.skipped = chain_skipped(job->chain);
    job->counts.repeated = chain_repeated(job->chain);
    if (!status && job->done)
        job->done(job->ctx, chain_last_ms(job->chain));
    return status;
}

/* What a failure means: 0 to carry on. */
static enum run_end judge(run_job *job, int status, const char *at, const run_tick *tick,
                          int in_a_row, scope_error *err)
{
    if (!at)
        return RUN_OUTPUT_BROKE;
    if (status == SCOPE_ECANCEL && job->cancelled && job->cancelled())
        return RUN_CANCELLED;
    job->counts.failed++;
    if (job->failed)
        job->failed(job->ctx, tick, at, err);
    if (status != SCOPE_EDEVICE && in_a_row < RUN_FAILURES_MAX)
        return 0;
    scope_error why = *err;
    if (status == SCOPE_EDEVICE)
        error_set(err, status, why.field, "%s lost its device: %s", at, why.text);
    else
        error_set(err, status, why.field, "%s failed %d times in a row: %s", at, in_a_row,
                  why.text);
    return RUN_PLUGIN_BROKE;
}

static enum run_end finish(run_job *job, scope_error *err)
{
    const char *at = NULL;
    const run_tick none = {0};
    job->tick = &none;
    int status = chain_flush(job->chain, emit, job, &at, err);
    if (!status)
        return RUN_DONE;
    return at ? RUN_PLUGIN_BROKE : RUN_OUTPUT_BROKE;
}

/* What is on its way through plugins that lag is lost: it counts as not read. */
static enum run_end cancel(run_job *job)
{
    job->counts.read -= chain_waiting(job->chain, &job->next_us);
    return RUN_CANCELLED;
}

enum run_end run_loop(run_job *job, scope_error *err)
{
    run_tick tick = {0};
    int in_a_row = 0;
    while (!(job->cancelled && job->cancelled())) {
        int got = job->read(job->ctx, &tick, err);
        if (job->cancelled && job->cancelled()) {
            frame_unref(got > 0 ? tick.in : NULL);
            return cancel(job);
        }
        if (got < 0)
            return RUN_INPUT_BROKE;
        if (got == 0)
            return finish(job, err);
        job->counts.read++;
        const char *at = NULL;
        int status = one(job, &tick, &at, err);
        in_a_row = status ? in_a_row + 1 : 0;
        enum run_end end = status ? judge(job, status, at, &tick, in_a_row, err) : 0;
        frame_unref(tick.in);
        if (end == RUN_CANCELLED) /* this frame is still to be done */
            return cancel(job);
        job->next_us = tick.pts_us + tick.duration_us;
        if (end)
            return end;
        progress_tick(job->progress, &job->counts, g_get_monotonic_time());
    }
    return cancel(job);
}
