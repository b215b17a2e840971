/* bench.c - `scope bench`: what a plugin costs per frame, and what the host adds.
 *
 * Frames come from a made-up moving picture and go nowhere; in between is the loop of `scope run`
 * itself, so that what the host adds is what it adds there.
 */
#include "command.h"
#include "error.h"
#include "interrupt.h"
#include "media/elements.h"
#include "run_loop.h"
#include "run_options.h"

#include <glib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { STAGES_MAX = 16, FPS = 30 };

typedef struct bench {
    run_plugins plugins;
    int w, h, frames, warmup;
    bool json, plan;
    frame_pool *pool; /* owned */
    chain *chain;     /* owned */
    uint8_t *picture; /* owned; twice as wide as a frame, which slides over it */
    run_job job;
    double *frame_ms, *host_ms; /* owned; of each frame: the whole loop, and what is not plugins */
    double *stage_ms[RUN_LINKS_MAX][STAGES_MAX]; /* owned */
    const char *stage_name[RUN_LINKS_MAX][STAGES_MAX];
    double init_ms, first_ms;
    int64_t began_us;
    int n;         /* frames done, warm-up included */
    uint8_t *copy; /* owned; the last frame that came out, as an encoder would take it */
    size_t copy_bytes;
} bench;

/* Smooth shapes with some texture: neither flat nor noise, the same on every machine. */
static void paint(bench *b)
{
    int wide = 2 * b->w;
    b->picture = g_malloc((gsize)wide * (gsize)b->h * 3);
    uint8_t *to = b->picture;
    for (int y = 0; y < b->h; y++) {
        for (int x = 0; x < wide; x++) {
            unsigned u = (unsigned)x * 512u / (unsigned)b->w,
                     v = (unsigned)y * 512u / (unsigned)b->h;
            *to++ = (uint8_t)((u * u + v * v) >> 10);
            *to++ = (uint8_t)((u ^ v) & 0xff);
            *to++ = (uint8_t)((u * v) >> 9);
        }
    }
}

static int read_made_up(void *ctx, run_tick *tick, scope_error *err)
{
    bench *b = ctx;
    if (b->n >= b->frames + b->warmup)
        return 0;
    b->began_us = g_get_monotonic_time();
    int64_t length = 1000000 / FPS;
    *tick = (run_tick){.pts_us = b->n * length, .duration_us = length};
    if (chain_generates(b->chain))
        return 1;
    const scope_video shape = {.t = 1, .h = b->h, .w = b->w, .c = 3, .dtype = SCOPE_U8};
    tick->in = frame_new(b->pool, &shape, err);
    if (!tick->in)
        return SCOPE_ENOMEM;
    size_t row = (size_t)tick->in->v.stride_h, slide = (size_t)(4 * b->n % b->w) * 3;
    for (int y = 0; y < b->h; y++)
        memcpy((char *)tick->in->v.data + (size_t)y * row, b->picture + (size_t)y * 2 * row + slide,
               row);
    tick->in->v.pts_us = tick->pts_us;
    tick->in->duration_us = length;
    return 1;
}

static int write_nowhere(void *ctx, const run_tick *tick, frame *out, scope_error *err)
{
    (void)tick, (void)err;
    bench *b = ctx;
    size_t bytes = (size_t)out->v.stride_t;
    if (bytes > b->copy_bytes) {
        b->copy = g_realloc(b->copy, bytes);
        b->copy_bytes = bytes;
    }
    memcpy(b->copy, out->v.data, bytes);
    return 0;
}

static void take_stages(bench *b, int at)
{
    for (int i = 0; i < b->plugins.count; i++) {
        scope_stage stages[STAGES_MAX];
        int count = MIN(instance_stages(chain_at(b->chain, i), stages, STAGES_MAX), STAGES_MAX);
        for (int s = 0; s < count; s++) {
            if (!b->stage_ms[i][s])
                b->stage_ms[i][s] = g_new0(double, b->frames);
            b->stage_name[i][s] = stages[s].name;
            b->stage_ms[i][s][at] = stages[s].ms;
        }
    }
}

static void on_done(void *ctx, double plugin_ms)
{
    bench *b = ctx;
    double ms = 1e-3 * (double)(g_get_monotonic_time() - b->began_us);
    if (b->n == 0)
        b->first_ms = ms;
    int at = b->n++ - b->warmup;
    if (at < 0)
        return;
    b->frame_ms[at] = ms;
    b->host_ms[at] = MAX(ms - plugin_ms, 0);
    take_stages(b, at);
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The q-quantile of n values; sorts them. */
static double quantile(double *v, int n, double q)
{
    qsort(v, (size_t)n, sizeof *v, by_size);
    return v[MIN((int)(q * n), n - 1)];
}

static double peak_mib(void)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)used.ru_maxrss / 1024;
}

static json_t *result(bench *b)
{
    double median = quantile(b->frame_ms, b->frames, 0.5);
    json_t *ids = json_array(), *stages = json_array();
    for (int i = 0; i < b->plugins.count; i++) {
        json_array_append_new(ids, json_string(b->plugins.link[i].entry->id));
        for (int s = 0; s < STAGES_MAX && b->stage_ms[i][s]; s++)
            json_array_append_new(stages, json_pack("{s:s, s:s, s:f}", "plugin",
                                                    b->plugins.link[i].entry->id, "stage",
                                                    b->stage_name[i][s], "ms",
                                                    quantile(b->stage_ms[i][s], b->frames, 0.5)));
    }
    return json_pack(
        "{s:o, s:i, s:i, s:i, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:o}", "plugins", ids,
        "width", b->w, "height", b->h, "frames", b->frames, "init_ms", b->init_ms, "first_ms",
        b->first_ms, "median_ms", median, "min_ms", b->frame_ms[0], "p95_ms",
        quantile(b->frame_ms, b->frames, 0.95), "fps", median > 0 ? 1000 / median : 0.0, "host_ms",
        quantile(b->host_ms, b->frames, 0.5), "peak_mib", peak_mib(), "stages", stages);
}

static void add_line(void *ctx, const char *text)
{
    json_array_append_new(ctx, json_string(text));
}

/* What the plugins measured and chose, line by line. */
static json_t *plan_lines(const bench *b)
{
    json_t *lines = json_array();
    for (int i = 0; i < b->plugins.count; i++)
        instance_plan(chain_at(b->chain, i), add_line, lines);
    return lines;
}

static void print_plan(const json_t *lines)
{
    size_t i;
    json_t *line;
    if (!json_array_size(lines))
        puts("  plan         none: there was nothing to choose");
    json_array_foreach(lines, i, line)
    {
        printf("  %-12s %s\n", i ? "" : "plan", json_string_value(line));
    }
}

static void print(const json_t *r, bool as_json)
{
    if (as_json) {
        json_dumpf(r, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
        putchar('\n');
        return;
    }
#define NUMBER(name) json_number_value(json_object_get(r, name))
    printf("%.0f frames of %.0fx%.0f\n", NUMBER("frames"), NUMBER("width"), NUMBER("height"));
    printf("  init         %9.2f ms\n", NUMBER("init_ms"));
    printf("  first frame  %9.2f ms\n", NUMBER("first_ms"));
    printf("  frame        %9.3f ms median, %.3f min, %.3f p95 (%.1f fps)\n", NUMBER("median_ms"),
           NUMBER("min_ms"), NUMBER("p95_ms"), NUMBER("fps"));
    size_t i;
    json_t *stage;
    json_array_foreach(json_object_get(r, "stages"), i, stage)
    {
        printf("    %-10s %9.3f ms\n", json_string_value(json_object_get(stage, "stage")),
               json_number_value(json_object_get(stage, "ms")));
    }
    printf("  host         %9.3f ms of it, median\n", NUMBER("host_ms"));
    printf("  peak memory  %9.1f MiB\n", NUMBER("peak_mib"));
    if (json_object_get(r, "plan"))
        print_plan(json_object_get(r, "plan"));
#undef NUMBER
}

static int measure(bench *b)
{
    scope_error err = {0};
    progress silent = {.mode = PROGRESS_QUIET, .out = stderr};
    if (media_init(&err))
        return run_complain(EXIT_FAILED, &err);
    paint(b);
    b->pool = frame_pool_new();
    b->frame_ms = g_new0(double, b->frames);
    b->host_ms = g_new0(double, b->frames);
    gint64 start = g_get_monotonic_time();
    b->chain = chain_open(&b->plugins, MEDIA_CROP, b->pool, NULL, &err);
    b->init_ms = 1e-3 * (double)(g_get_monotonic_time() - start);
    if (!b->chain)
        return run_complain(EXIT_FAILED, &err);
    b->job = (run_job){.chain = b->chain,
                       .progress = &silent,
                       .ctx = b,
                       .read = read_made_up,
                       .write = write_nowhere,
                       .done = on_done,
                       .cancelled = interrupt_seen};
    enum run_end end = run_loop(&b->job, &err);
    if (end == RUN_CANCELLED)
        return complain(EXIT_INTERRUPTED, "interrupted after %d frames", b->n);
    if (end != RUN_DONE || b->n < b->frames + b->warmup)
        return run_complain(EXIT_FAILED, &err);
    json_t *r = result(b);
    if (b->plan)
        json_object_set_new(r, "plan", plan_lines(b));
    print(r, b->json);
    json_decref(r);
    return EXIT_GOOD;
}

static void bench_fini(bench *b)
{
    chain_close(b->chain);
    if (b->pool)
        frame_pool_free(b->pool);
    for (int i = 0; i < RUN_LINKS_MAX; i++) {
        for (int s = 0; s < STAGES_MAX; s++)
            g_free(b->stage_ms[i][s]);
    }
    g_free(b->frame_ms);
    g_free(b->host_ms);
    g_free(b->picture);
    g_free(b->copy);
    run_plugins_fini(&b->plugins);
}

static int set_up(bench *b, char **ids, const char *dir, const char *size, int argc, char **argv,
                  const char *const *known, scope_error *err)
{
    const char *input = NULL;
    b->w = b->h = 512;
    if (size && !run_parse_size(size, &b->w, &b->h))
        return error_set(err, SCOPE_EINVAL, "", "--size %s: give WIDTHxHEIGHT such as 640x360",
                         size);
    if (b->frames < 1 || b->frames > 1000000 || b->warmup < 0 || b->warmup > 1000000)
        return error_set(err, SCOPE_EINVAL, "", "--frames is 1 or more, --warmup 0 or more");
    if (!ids)
        return error_set(err, SCOPE_EINVAL, "", "which plugin? give --plugin ID");
    int status = run_plugins_init(&b->plugins, dir, ids, err);
    if (!status)
        status = run_flags(&b->plugins, argc - 1, argv + 1, known, &input, err);
    if (!status && input)
        status = error_set(err, SCOPE_EINVAL, "", "'%s': bench makes its own frames", input);
    if (!status && size)
        status = MIN(run_everywhere(&b->plugins, "width", b->w, true, err), 0);
    if (!status && size)
        status = MIN(run_everywhere(&b->plugins, "height", b->h, true, err), 0);
    return status;
}

int command_bench(int argc, char **argv)
{
    bench b = {.frames = 50, .warmup = 5};
    char **ids = NULL, *dir = NULL, *size = NULL;
    gboolean json = FALSE, plan = FALSE, help = FALSE;
    const GOptionEntry entries[] = {
        {"plugin", 'p', 0, G_OPTION_ARG_STRING_ARRAY, &ids, "A plugin; repeat for a chain", "ID"},
        {"size", 0, 0, G_OPTION_ARG_STRING, &size, "Size of the frames (512x512)", "WxH"},
        {"frames", 0, 0, G_OPTION_ARG_INT, &b.frames, "Frames to measure (50)", "N"},
        {"warmup", 0, 0, G_OPTION_ARG_INT, &b.warmup, "Frames before (5)", "N"},
        {"plugin-dir", 0, 0, G_OPTION_ARG_FILENAME, &dir, "Look for plugins here first", "DIR"},
        {"json", 0, 0, G_OPTION_ARG_NONE, &json, "One JSON object", NULL},
        {"plan", 0, 0, G_OPTION_ARG_NONE, &plan,
         "And what was measured and chosen for this machine", NULL},
        {"help", 'h', 0, G_OPTION_ARG_NONE, &help, "This", NULL},
        {0}};
    const char *known[G_N_ELEMENTS(entries)];
    for (size_t i = 0; i < G_N_ELEMENTS(entries); i++)
        known[i] = entries[i].long_name;
    GOptionContext *context = g_option_context_new(NULL);
    g_option_context_set_summary(context,
                                 "The time a plugin takes per frame, on made-up moving frames, and "
                                 "what the host adds.\nParameters of the plugin are flags, as for "
                                 "`scope run`.");
    g_option_context_set_help_enabled(context, FALSE);
    g_option_context_set_ignore_unknown_options(context, TRUE);
    g_option_context_add_main_entries(context, entries, NULL);
    g_set_prgname("scope bench");
    GError *why = NULL;
    scope_error err = {0};
    int code = EXIT_USAGE;
    if (!g_option_context_parse(context, &argc, &argv, &why)) {
        complain(0, "%s; `scope bench --help` lists what there is", why->message);
        g_error_free(why);
    } else if (help) {
        char *text = g_option_context_get_help(context, TRUE, NULL);
        fputs(text, stdout);
        g_free(text);
        code = EXIT_GOOD;
    } else if (set_up(&b, ids, dir, size, argc, argv, known, &err)) {
        run_complain(0, &err);
    } else {
        b.json = json;
        b.plan = plan;
        interrupt_install();
        code = measure(&b);
    }
    g_option_context_free(context);
    g_strfreev(ids);
    g_free(dir);
    g_free(size);
    bench_fini(&b);
    return code;
}
