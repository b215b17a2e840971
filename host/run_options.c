/* run_options.c - the command line of `scope run`: general options here, the plugins' own through
 * run_params.
 */
#include "run_options.h"
#include "command.h"
#include "error.h"
#include "media/pictures.h"
#include "presets.h"

#include <glib.h>
#include <gst/gst.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SIDE_MAX = 16384, FPS_MAX = 1000 };

static const char summary[] =
    "Puts a video through plugins, or lets a generator make one.\n\n"
    "INPUT is a file, a URL (http, rtsp, rtmp), a camera (/dev/video0), pictures (shot%04d.png, a\n"
    "folder, one picture), or '-' for Y4M on stdin. A generator takes none and needs --frames.\n"
    "OUTPUT goes by its ending: .mp4 .mkv .webm .y4m, pictures (out%04d.png, out/, one.png), or "
    "'-'\n"
    "for Y4M on stdout; without -o it is INPUT-PLUGIN.mp4 in the current folder. Sound is kept in\n"
    ".mp4, .mkv and .webm. Every parameter of a plugin is a flag: --strength 0.6. With several\n"
    "plugins it goes to the first that has it; --param 2.strength=0.6 and\n"
    "--param invert:intensity=1 choose. `--plugin ID --help` lists them.";

static const char epilogue[] =
    "Ctrl-C finishes the output, prints the --start that continues, and exits with 130; a second\n"
    "one stops at once. Exit codes: `scope help exit-codes`. Keyframes: `scope help keyframes`.";

/* What GLib's parser fills in. */
typedef struct raw {
    char **plugins, **params, **extras;
    char *output, *fps, *size, *fit, *frames, *seed, *params_file, *keyframes, *dir, *sheet,
        *preset, *save;
    gdouble start;
    gboolean json, quiet, overwrite, live, help;
} raw;

static void raw_free(raw *r)
{
    g_strfreev(r->plugins);
    g_strfreev(r->params);
    g_strfreev(r->extras);
    char *const texts[] = {r->output,      r->fps,       r->size, r->fit,   r->frames, r->seed,
                           r->params_file, r->keyframes, r->dir,  r->sheet, r->preset, r->save};
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++)
        g_free(texts[i]);
}

bool run_parse_size(const char *text, int *w, int *h)
{
    char *end;
    long a = strtol(text, &end, 10);
    if (end == text || *end != 'x')
        return false;
    const char *second = end + 1;
    long b = strtol(second, &end, 10);
    if (end == second || *end || a < 1 || b < 1 || a > SIDE_MAX || b > SIDE_MAX)
        return false;
    *w = (int)a;
    *h = (int)b;
    return true;
}

bool run_parse_fps(const char *text, int *n, int *d)
{
    char *end;
    double rate = g_ascii_strtod(text, &end), below = 1;
    if (end != text && *end == '/') {
        const char *second = end + 1;
        below = g_ascii_strtod(second, &end);
        if (end == second)
            return false;
    }
    if (end == text || *end || !(below > 0) || !(rate / below > 0) || rate / below > FPS_MAX)
        return false;
    rate /= below;
    /* 23.976, 29.97 and 59.94 mean the television rates, n * 1000 / 1001. */
    double whole = rate * 1001 / 1000;
    if (fabs(rate - round(rate)) > 1e-6 && fabs(whole - round(whole)) < 1e-3) {
        *n = (int)lround(whole) * 1000;
        *d = 1001;
    } else {
        gst_util_double_to_fraction(rate, n, d);
    }
    return *n > 0;
}

static const char *last_part(const char *id)
{
    const char *dot = strrchr(id, '.');
    return dot ? dot + 1 : id;
}

char *run_output_name(const char *input, const run_plugins *plugins)
{
    if (input && !strcmp(input, "-"))
        return g_strdup("-");
    GString *name = g_string_new(NULL);
    const char *ending = "mp4";
    if (input) {
        picture_pattern pattern;
        bool numbered = !strstr(input, "://") && picture_pattern_init(&pattern, input);
        char *base = g_path_get_basename(numbered ? pattern.before : input);
        if (picture_type(input) && !numbered)
            ending = "png";
        if (numbered)
            picture_pattern_fini(&pattern);
        base[strcspn(base, "?#")] = '\0';
        char *dot = strrchr(base, '.');
        if (dot && dot != base)
            *dot = '\0';
        g_string_append(name, base[0] && strcmp(base, ".") && strcmp(base, "/") ? base : "output");
        g_free(base);
    }
    for (int i = 0; i < plugins->count; i++)
        g_string_append_printf(name, "%s%s", name->len ? "-" : "",
                               last_part(plugins->link[i].entry->id));
    if (input && !plugins->count)
        g_string_append(name, "-copy");
    g_string_append_printf(name, ".%s", ending);
    return g_string_free(name, FALSE);
}

static int parse_numbers(run_options *o, const raw *r, scope_error *err)
{
    char *end = NULL;
    o->frames = -1;
    o->start = r->start;
    if (r->fps && !run_parse_fps(r->fps, &o->fps_n, &o->fps_d))
        return error_set(err, SCOPE_EINVAL, "", "--fps %s: give a rate above 0 and up to %d",
                         r->fps, FPS_MAX);
    if (r->size && !run_parse_size(r->size, &o->width, &o->height))
        return error_set(err, SCOPE_EINVAL, "",
                         "--size %s: give WIDTHxHEIGHT such as 640x360, each up to %d", r->size,
                         SIDE_MAX);
    if (r->frames)
        o->frames = strtoll(r->frames, &end, 10);
    if (r->frames && (end == r->frames || *end || o->frames < 1))
        return error_set(err, SCOPE_EINVAL, "", "--frames %s: give a count of 1 or more",
                         r->frames);
    if (!(o->start >= 0 && o->start < 1e9))
        return error_set(err, SCOPE_EINVAL, "", "--start %g: give seconds from 0", o->start);
    static const char *const fits[] = {"crop", "pad", "stretch"};
    o->fit = r->fit ? 0 : MEDIA_CROP;
    for (int i = 0; r->fit && i < 3; i++) {
        if (!strcmp(r->fit, fits[i]))
            o->fit = (enum media_fit)(MEDIA_CROP + i);
    }
    if (!o->fit)
        return error_set(err, SCOPE_EINVAL, "", "--fit %s: use crop, pad or stretch", r->fit);
    return 0;
}

/* From the general to the particular: preset, file, --seed, --param, flags; --size fills what is
 * left. */
static int parse_params(run_options *o, const raw *r, int argc, char **argv,
                        const char *const *known, scope_error *err)
{
    int status = 0;
    if (r->preset)
        status = presets_apply(&o->plugins, r->preset, err);
    if (!status && r->params_file)
        status = run_params_file(&o->plugins, r->params_file, err);
    if (!status && r->seed) {
        char *end;
        int64_t seed = strtoll(r->seed, &end, 10);
        if (end == r->seed || *end)
            return error_set(err, SCOPE_EINVAL, "", "--seed %s: give a whole number", r->seed);
        status = run_everywhere(&o->plugins, "seed", seed, false, err);
        if (status == 0)
            return error_set(err, SCOPE_EINVAL, "", "--seed: none of the plugins has a seed");
        status = MIN(status, 0);
    }
    if (!status && r->fit)
        run_fit(&o->plugins, r->fit);
    for (int i = 0; r->params && r->params[i] && !status; i++)
        status = run_param_pair(&o->plugins, r->params[i], err);
    if (!status)
        status = run_flags(&o->plugins, argc - 1, argv + 1, known, &o->input, err);
    if (!status && r->size)
        status = MIN(run_everywhere(&o->plugins, "width", o->width, true, err), 0);
    if (!status && r->size)
        status = MIN(run_everywhere(&o->plugins, "height", o->height, true, err), 0);
    return status;
}

static int parse_rest(run_options *o, raw *r, int argc, char **argv, const char *const *known,
                      scope_error *err)
{
    int status = parse_numbers(o, r, err);
    if (!status)
        status = parse_params(o, r, argc, argv, known, err);
    if (!status && r->save)
        status = presets_save(&o->plugins, r->save, r->overwrite, err);
    if (status)
        return status;
    if (!o->input && !o->plugins.count)
        return error_set(err, SCOPE_EINVAL, "",
                         "nothing to do: give an INPUT, or a generator with --plugin and --frames");
    o->json = r->json;
    o->quiet = r->quiet;
    o->overwrite = r->overwrite;
    o->live = r->live;
    o->output = r->output ? g_strdup(r->output) : run_output_name(o->input, &o->plugins);
    o->extras = g_strdupv(r->extras);
    o->sheet = g_strdup(r->sheet);
    o->keyframes = g_strdup(r->keyframes);
    return 0;
}

enum { OPTIONS_MAX = 32 };

/* A parser that fills r; the options' names go to known, which ends with NULL. */
static GOptionContext *parser_of(raw *r, const char *known[OPTIONS_MAX])
{
    const GOptionEntry entries[] = {
        {"plugin", 'p', 0, G_OPTION_ARG_STRING_ARRAY, &r->plugins, "A plugin; repeat for a chain",
         "ID"},
        {"output", 'o', 0, G_OPTION_ARG_FILENAME, &r->output, "Where to", "OUTPUT"},
        {"input", 0, 0, G_OPTION_ARG_STRING_ARRAY, &r->extras,
         "Another input for a plugin that takes one, such as mask=mask.png; the main one's time "
         "holds",
         "NAME=INPUT"},
        {"fps", 0, 0, G_OPTION_ARG_STRING, &r->fps,
         "Frames per second: frames are dropped or repeated; the rate of pictures (24)", "N"},
        {"size", 0, 0, G_OPTION_ARG_STRING, &r->size,
         "Size of the input, and of plugins that have width and height", "WxH"},
        {"fit", 0, 0, G_OPTION_ARG_STRING, &r->fit, "How a size is reached: crop, pad, stretch",
         "HOW"},
        {"start", 0, 0, G_OPTION_ARG_DOUBLE, &r->start, "Skip the beginning", "SECONDS"},
        {"frames", 0, 0, G_OPTION_ARG_STRING, &r->frames, "Stop after N frames", "N"},
        {"seed", 0, 0, G_OPTION_ARG_STRING, &r->seed, "The seed of every plugin that has one", "N"},
        {"param", 'P', 0, G_OPTION_ARG_STRING_ARRAY, &r->params, "Set a parameter", "NAME=VALUE"},
        {"params", 0, 0, G_OPTION_ARG_FILENAME, &r->params_file,
         "Parameters, {\"name\": value} or {\"plugin\": {\"name\": value}}: a file, or its text",
         "FILE|JSON"},
        {"preset", 0, 0, G_OPTION_ARG_STRING, &r->preset,
         "Parameters that come with the plugin, by name; all others go before it", "NAME"},
        {"save-params", 0, 0, G_OPTION_ARG_FILENAME, &r->save,
         "Write all parameters, for --params, then run", "FILE"},
        {"keyframes", 0, 0, G_OPTION_ARG_FILENAME, &r->keyframes,
         "Parameters over time: a file, or its text", "FILE|JSON"},
        {"sheet", 0, 0, G_OPTION_ARG_FILENAME, &r->sheet,
         "Also draw a contact sheet, frames below their sources", "PNG"},
        {"plugin-dir", 0, 0, G_OPTION_ARG_FILENAME, &r->dir, "Look for plugins here first", "DIR"},
        {"overwrite", 'y', 0, G_OPTION_ARG_NONE, &r->overwrite, "Replace the output if it exists",
         NULL},
        {"live", 0, 0, G_OPTION_ARG_NONE, &r->live,
         "Somebody watches: a slow change may come late, but holds no frame up (always so for "
         "cameras and streams)",
         NULL},
        {"json", 0, 0, G_OPTION_ARG_NONE, &r->json,
         "Progress as JSON lines on stdout (stderr when the output is '-')", NULL},
        {"quiet", 'q', 0, G_OPTION_ARG_NONE, &r->quiet, "Tell errors only", NULL},
        {"help", 'h', 0, G_OPTION_ARG_NONE, &r->help, "This, and the flags of each --plugin", NULL},
        {0}};
    G_STATIC_ASSERT(G_N_ELEMENTS(entries) <= OPTIONS_MAX);
    for (size_t i = 0; i < G_N_ELEMENTS(entries); i++)
        known[i] = entries[i].long_name;
    GOptionContext *context = g_option_context_new("[INPUT]");
    g_option_context_set_summary(context, summary);
    g_option_context_set_description(context, epilogue);
    g_option_context_set_help_enabled(context, FALSE);
    g_option_context_set_ignore_unknown_options(context, TRUE);
    g_option_context_add_main_entries(context, entries, NULL);
    return context;
}

bool run_options_parse(run_options *o, int argc, char **argv, int *code)
{
    *o = (run_options){0};
    raw r = {0};
    const char *known[OPTIONS_MAX];
    GOptionContext *context = parser_of(&r, known);
    g_set_prgname("scope run");
    GError *why = NULL;
    scope_error err = {0};
    *code = EXIT_USAGE;
    bool good = false;
    if (!g_option_context_parse(context, &argc, &argv, &why)) {
        complain(0, "%s; `scope run --help` lists what there is", why->message);
        g_error_free(why);
    } else if (run_plugins_init(&o->plugins, r.dir, r.plugins, &err)) {
        complain(0, "%s", err.text);
    } else if (r.help) {
        char *text = g_option_context_get_help(context, TRUE, NULL);
        fputs(text, stdout);
        g_free(text);
        run_plugins_help(&o->plugins, stdout);
        *code = EXIT_GOOD;
    } else if (parse_rest(o, &r, argc, argv, known, &err)) {
        run_complain(0, &err);
    } else {
        good = true;
    }
    g_option_context_free(context);
    raw_free(&r);
    if (!good)
        run_options_fini(o);
    return good;
}

int run_complain(int code, const scope_error *err)
{
    bool named = !err->field[0] || strstr(err->text, err->field);
    return named ? complain(code, "%s", err->text)
                 : complain(code, "%s: %s", err->field, err->text);
}

void run_options_fini(run_options *o)
{
    run_plugins_fini(&o->plugins);
    g_strfreev(o->extras);
    g_free(o->output);
    g_free(o->sheet);
    g_free(o->keyframes);
    *o = (run_options){0};
}
