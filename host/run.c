/* run.c - `scope run`: an input, a chain of plugins, an output.
 *
 * Must stay true: everything that can be checked is checked before the plugins load, and whatever
 * goes wrong, what has the final name is whole. The times of frames are those of the input from
 * --start on, so that --start continues where an interrupted run stopped.
 */
#include "command.h"
#include "error.h"
#include "extras.h"
#include "interrupt.h"
#include "media/sink.h"
#include "media/source.h"
#include "run_loop.h"
#include "run_options.h"
#include "sheet.h"

#include <glib.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

enum { GENERATOR_FPS = 24, SOUND_WAIT_US = 500 * 1000, SOUND_POLL_US = 2000, SOURCES_MAX = 512 };

typedef struct run {
    run_options opt;
    frame_pool *pool; /* owned, as the rest */
    source *source;   /* NULL for a generator */
    extras *extras;   /* NULL without --input */
    sink *sink;
    chain *chain;
    keyframes *keys;
    sheet *sheet;
    GQueue
        sources; /* of frames, owned: inputs that may be the source of an output, for the sheet */
    converter *resize;
    progress progress;
    run_job job;
    int fps_n, fps_d; /* 0 when there is no fixed rate */
    int w, h;         /* that frames of the input are brought to */
    int64_t ticks;    /* of a generator */
    int64_t end_us;   /* of the last frame written, input time */
    bool sound;       /* there is sound, and it has not ended */
    bool noted;
} run;

static int cancelled(void *ctx)
{
    (void)ctx;
    return interrupt_seen();
}

/* ---- what plugins say ------------------------------------------------------------------------ */

static void on_log(void *ctx, int level, const char *id, const char *line)
{
    run *r = ctx;
    if (level < SCOPE_INFO || (r->opt.quiet && level < SCOPE_ERROR))
        return;
    progress_clear(&r->progress);
    fprintf(stderr, "%s: %s\n", id, line);
}

static void on_load(void *ctx, double done, const char *phase)
{
    run *r = ctx;
    progress_load(&r->progress, done, phase, g_get_monotonic_time());
}

static void on_failed(void *ctx, const run_tick *tick, const char *plugin, const scope_error *err)
{
    run *r = ctx;
    if (r->opt.quiet)
        return;
    progress_clear(&r->progress);
    complain(0, "%s failed at %.3f s, the frame is dropped: %s", plugin,
             1e-6 * (double)tick->pts_us, err->text);
}

static void note(run *r, const char *text)
{
    if (!text || r->noted || r->opt.quiet)
        return;
    r->noted = true;
    progress_clear(&r->progress);
    complain(0, "%s", text);
}

/* ---- in and out ------------------------------------------------------------------------------ */

/* The time of a generator's next frame: it goes on by what was made, or, while nothing comes out,
 * by what was asked for. */
static int read_tick(void *ctx, run_tick *tick, scope_error *err)
{
    run *r = ctx;
    int64_t n = MAX(r->ticks, r->job.counts.written);
    r->ticks++;
    if (r->opt.frames >= 0 && n >= r->opt.frames)
        return 0;
    double frame_us = 1e6 * r->fps_d / r->fps_n, start_us = r->opt.start * 1e6;
    *tick = (run_tick){.pts_us = llround(start_us + (double)n * frame_us),
                       .duration_us = llround(frame_us)};
    int status = extras_show(r->extras, r->chain, tick->pts_us, err);
    return status ? status : 1;
}

static int read_frame(void *ctx, run_tick *tick, scope_error *err)
{
    run *r = ctx;
    frame *f;
    if (r->opt.frames >= 0 && r->job.counts.read >= r->opt.frames)
        return 0;
    int got = source_read(r->source, &f, err);
    if (got <= 0)
        return got;
    r->job.counts.dropped = source_missed(r->source);
    /* Also when the input changes its size on the way. */
    const scope_video want = {.h = r->h, .w = r->w, .c = f->v.c, .dtype = f->v.dtype};
    frame *fitting = converter_run(r->resize, f, &want, r->opt.fit, err);
    frame_unref(f);
    if (!fitting)
        return SCOPE_ENOMEM;
    *tick = (run_tick){fitting, fitting->v.pts_us, fitting->duration_us};
    int status = extras_show(r->extras, r->chain, tick->pts_us, err);
    if (status) {
        frame_unref(fitting);
        return status;
    }
    if (r->sheet)
        g_queue_push_tail(&r->sources, frame_ref(fitting));
    if (r->sources.length > SOURCES_MAX)
        frame_unref(g_queue_pop_head(&r->sources));
    return 1;
}

/* The input at the time of an output, which may have come out later; else the latest. */
static frame *source_of(run *r, const run_tick *tick, const frame *out)
{
    frame *f;
    while ((f = g_queue_peek_head(&r->sources)) && f->v.pts_us < out->v.pts_us)
        frame_unref(g_queue_pop_head(&r->sources));
    return f && f->v.pts_us == out->v.pts_us ? f : tick->in;
}

/* Sound up to the end of the picture; *why says what stopped it. */
static int pass_sound(run *r, enum source_silence *why, scope_error *err)
{
    *why = SOURCE_NO_MORE;
    GstBuffer *sound;
    while (r->sound && (sound = source_audio(r->source, r->end_us, why))) {
        int status = sink_audio(r->sink, sound, err);
        if (status)
            return status;
    }
    if (r->sound && *why == SOURCE_NO_MORE) {
        r->sound = false;
        sink_audio_end(r->sink);
    }
    return 0;
}

/* The demuxer may hold the sound of the last frames still. */
static int pass_last_sound(run *r, scope_error *err)
{
    gint64 limit = g_get_monotonic_time() + SOUND_WAIT_US;
    enum source_silence why;
    int status = pass_sound(r, &why, err);
    while (!status && why == SOURCE_NOT_YET && g_get_monotonic_time() < limit) {
        g_usleep(SOUND_POLL_US);
        status = pass_sound(r, &why, err);
    }
    return status;
}

static int write_frame(void *ctx, const run_tick *tick, frame *out, scope_error *err)
{
    run *r = ctx;
    if (!r->source && r->opt.frames >= 0 && r->job.counts.written >= r->opt.frames)
        return 0;
    int status = sink_write(r->sink, out, err);
    if (status)
        return status;
    note(r, sink_note(r->sink));
    r->end_us = MAX(r->end_us, out->v.pts_us + out->duration_us);
    if (r->sheet)
        status = sheet_offer(r->sheet, source_of(r, tick, out), out, err);
    enum source_silence why;
    return status ? status : pass_sound(r, &why, err);
}

/* ---- before ---------------------------------------------------------------------------------- */

static int open_source(run *r, scope_error *err)
{
    const run_options *o = &r->opt;
    if (!o->input) {
        r->fps_n = o->fps_n ? o->fps_n : GENERATOR_FPS;
        r->fps_d = o->fps_n ? o->fps_d : 1;
        return 0;
    }
    const source_options so = {.fps_n = o->fps_n,
                               .fps_d = o->fps_d,
                               .start = o->start,
                               .frames = o->frames > 0 ? o->frames : 0,
                               .audio = sink_takes_audio(o->output),
                               .cancelled = cancelled};
    r->source = source_open(o->input, &so, r->pool, err);
    if (!r->source)
        return err->status;
    const source_info *info = source_about(r->source);
    r->fps_n = info->fps_n;
    r->fps_d = info->fps_d;
    r->w = o->width ? o->width : info->w;
    r->h = o->height ? o->height : info->h;
    r->sound = info->audio != NULL;
    return 0;
}

static int open_extras(run *r, scope_error *err)
{
    if (!r->opt.extras)
        return 0;
    r->extras = extras_open(r->opt.extras, r->opt.start, cancelled, r->pool, err);
    return r->extras ? 0 : err->status;
}

static int open_keys(run *r, scope_error *err)
{
    if (!r->opt.keyframes)
        return 0;
    json_t *root = run_read_json(r->opt.keyframes, err);
    if (!root)
        return SCOPE_EINVAL;
    double fps = r->fps_n ? (double)r->fps_n / r->fps_d : 0;
    r->keys = keyframes_parse(root, fps, run_resolve, &r->opt.plugins, err);
    json_decref(root);
    return r->keys ? 0 : SCOPE_EINVAL;
}

static int64_t expected(const run *r)
{
    int64_t total = r->source ? source_about(r->source)->total : -1;
    if (r->opt.frames >= 0 && (total < 0 || r->opt.frames < total))
        total = r->opt.frames;
    return total;
}

static int open_sink(run *r, scope_error *err)
{
    const sink_options so = {.fps_n = r->fps_n,
                             .fps_d = r->fps_d,
                             .origin_us = llround(r->opt.start * 1e6),
                             .audio = r->source ? source_about(r->source)->audio : NULL,
                             .overwrite = r->opt.overwrite};
    if (expected(r) > 1 && sink_is_single(r->opt.output))
        return error_set(err, SCOPE_EINVAL, "",
                         "'%s' holds one picture; name a sequence such as out%%04d.png, a folder "
                         "'out/', or use --frames 1",
                         r->opt.output);
    r->sink = sink_open(r->opt.output, &so, r->pool, err);
    if (!r->sink)
        return err->status;
    interrupt_removes(sink_part(r->sink));
    return 0;
}

static void start_progress(run *r)
{
    FILE *out = r->opt.json && !sink_is_stdout(r->opt.output) ? stdout : stderr;
    json_t *about =
        json_pack("{s:s?, s:s, s:[]}", "input", r->opt.input, "output", r->opt.output, "plugins");
    for (int i = 0; i < r->opt.plugins.count; i++)
        json_array_append_new(json_object_get(about, "plugins"),
                              json_string(r->opt.plugins.link[i].entry->id));
    if (expected(r) >= 0)
        json_object_set_new(about, "total", json_integer(expected(r)));
    if (r->fps_n)
        json_object_set_new(about, "fps", json_real((double)r->fps_n / r->fps_d));
    progress_start(&r->progress,
                   r->opt.json    ? PROGRESS_JSON
                   : r->opt.quiet ? PROGRESS_QUIET
                                  : PROGRESS_TEXT,
                   out, isatty(fileno(out)), about, g_get_monotonic_time());
    json_decref(about);
}

static int open_chain(run *r, scope_error *err)
{
    bool live = r->opt.live || (r->source && source_about(r->source)->live);
    const instance_sink said = {r, on_log, on_load, cancelled, live};
    r->chain = chain_open(&r->opt.plugins, r->opt.fit, r->pool, &said, err);
    if (!r->chain)
        return SCOPE_EIO;
    bool makes = chain_generates(r->chain);
    if (makes && r->source)
        return error_set(err, SCOPE_EINVAL, "", "%s makes frames by itself: leave '%s' out",
                         instance_id(chain_at(r->chain, 0)), r->opt.input);
    if (!makes && !r->source)
        return error_set(err, SCOPE_EINVAL, "", "%s needs an INPUT",
                         instance_id(chain_at(r->chain, 0)));
    chain_align(r->chain);
    return extras_show(r->extras, r->chain, llround(r->opt.start * 1e6), err); /* the names */
}

/* A generator without an end would fill the disk. */
static int check_end(const run *r, scope_error *err)
{
    if (!r->opt.input && r->opt.frames < 0 && !sink_is_stdout(r->opt.output))
        return error_set(err, SCOPE_EINVAL, "", "without an INPUT say how many: --frames N");
    return 0;
}

static int open_all(run *r, scope_error *err)
{
    r->pool = frame_pool_new();
    r->resize = converter_new(r->pool);
    r->sheet = r->opt.sheet ? sheet_new(r->pool) : NULL;
    int status = check_end(r, err);
    if (!status)
        status = open_source(r, err);
    if (!status)
        status = open_extras(r, err);
    if (!status)
        status = open_keys(r, err);
    if (!status)
        status = open_sink(r, err);
    if (status)
        return status;
    start_progress(r);
    return open_chain(r, err);
}

/* ---- after ----------------------------------------------------------------------------------- */

static int draw_sheet(run *r, scope_error *err)
{
    if (!r->sheet)
        return 0;
    const sink_options so = {.overwrite = r->opt.overwrite};
    frame *f = sheet_draw(r->sheet, err);
    sink *out = f ? sink_open(r->opt.sheet, &so, r->pool, err) : NULL;
    int status = out ? sink_write(out, f, err) : SCOPE_EIO;
    if (!status)
        status = sink_finish(out, err);
    sink_close(out);
    frame_unref(f);
    return status;
}

/* What was made is whole and stays, whatever ended the run; only a broken output does not. */
static int close_output(run *r, enum run_end end, scope_error *err)
{
    if (end == RUN_OUTPUT_BROKE)
        return SCOPE_EIO;
    if (end != RUN_DONE && sink_frames(r->sink) == 0)
        return 0; /* nothing was made: the reason is told already */
    int status = pass_last_sound(r, err);
    if (!status)
        status = sink_finish(r->sink, err);
    return status ? status : draw_sheet(r, err);
}

static int report(run *r, enum run_end end, int status, const scope_error *err)
{
    bool kept = !status && sink_frames(r->sink) > 0;
    bool failed = status || end == RUN_INPUT_BROKE || end == RUN_PLUGIN_BROKE;
    progress_end(&r->progress, &r->job.counts, kept ? r->opt.output : NULL,
                 failed ? err->text : NULL, g_get_monotonic_time());
    if (failed)
        complain(0, "%s%s%s%s", err->text, kept ? "; what came before is in '" : "",
                 kept ? r->opt.output : "", kept ? "'" : "");
    if (end == RUN_CANCELLED) {
        char rest[64] = "";
        if (r->opt.frames >= 0)
            g_snprintf(rest, sizeof rest, " --frames %" G_GINT64_FORMAT,
                       r->opt.frames - r->job.counts.read);
        complain(0, "interrupted; the same with --start %.6f%s and another -o goes on from here",
                 1e-6 * (double)r->job.next_us, rest);
    }
    return failed ? EXIT_FAILED : end == RUN_CANCELLED ? EXIT_INTERRUPTED : EXIT_GOOD;
}

static int work(run *r)
{
    scope_error err = {0}, late = {0};
    int status = open_all(r, &err);
    if (status) {
        progress_clear(&r->progress);
        run_complain(0, &err);
        return interrupt_seen()         ? EXIT_INTERRUPTED
               : status == SCOPE_EINVAL ? EXIT_USAGE
                                        : EXIT_FAILED;
    }
    r->job.chain = r->chain;
    r->job.keys = r->keys;
    r->job.progress = &r->progress;
    r->job.ctx = r;
    r->job.read = r->source ? read_frame : read_tick;
    r->job.write = write_frame;
    r->job.failed = on_failed;
    r->job.cancelled = interrupt_seen;
    r->job.counts.total = expected(r);
    r->job.next_us = llround(r->opt.start * 1e6);
    progress_begin(&r->progress, g_get_monotonic_time());
    enum run_end end = run_loop(&r->job, &err);
    status = close_output(r, end, &late);
    return report(r, end, status, status && late.status ? &late : &err);
}

int command_run(int argc, char **argv)
{
    run r = {0};
    int code;
    if (!run_options_parse(&r.opt, argc, argv, &code))
        return code;
    interrupt_install();
    r.progress.out = stderr;
    code = work(&r);
    interrupt_removes(NULL);
    sink_close(r.sink);
    source_close(r.source);
    chain_close(r.chain);
    extras_close(r.extras);
    keyframes_free(r.keys);
    sheet_free(r.sheet);
    g_queue_clear_full(&r.sources, (GDestroyNotify)frame_unref);
    converter_free(r.resize);
    frame_pool_free(r.pool);
    run_options_fini(&r.opt);
    return code;
}
