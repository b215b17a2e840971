/* serve_options.c - the settings of `scope serve`; see serve_options.h.
 *
 * Must stay true: a setting is named in the one table below; flags, environment, file, help and
 * serve_options_json are readers of it.
 */
#include "serve_options.h"
#include "command.h"
#include "error.h"
#include "options.h"
#include "run_params.h"

#include <errno.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>

enum kind { TEXT = 1, WHOLE, YES };

typedef struct setting {
    const char
        *name; /* of the flag; "worker-memory-mb" is SCOPE_WORKER_MEMORY_MB and worker_memory_mb */
    enum kind kind;
    size_t at; /* in serve_options */
    const char *def;
    int64_t min, max;
    const char *choices; /* of a text, with '|' between; or NULL */
    const char *arg, *help;
} setting;

#define AT(member) offsetof(serve_options, member)

static const setting settings[] = {
    {"listen", TEXT, AT(listen), "127.0.0.1", 0, 0, NULL, "ADDRESS",
     "address to listen on; 0.0.0.0 for all (then a token is needed)"},
    {"port", WHOLE, AT(port), "8080", 0, 65535, NULL, "N", "TCP port; 0: any free one"},
    {"token", TEXT, AT(token), NULL, 0, 0, NULL, "TEXT", "what clients must bring as bearer token"},
    {"no-token", YES, AT(no_token), "false", 0, 0, NULL, NULL,
     "listen beyond this machine without a token, all the same"},
    {"tls", TEXT, AT(tls), "off", 0, 0, NULL, "off|self|FILE",
     "HTTPS: with a certificate made on demand, or with the one in FILE (PEM)"},
    {"tls-key", TEXT, AT(tls_key), NULL, 0, 0, NULL, "FILE",
     "its key, where that is not in the same file"},
    {"behind-proxy", YES, AT(behind_proxy), "false", 0, 0, NULL, NULL,
     "believe X-Forwarded-For, -Proto and -Host"},
    {"public-host", TEXT, AT(public_host), NULL, 0, 0, NULL, "HOST[:PORT]",
     "the name in URLs that are given out, in place of the request's"},
    {"plugins", TEXT, AT(plugins), NULL, 0, 0, NULL, "DIR", "folder of plugins, searched first"},
    {"data", TEXT, AT(data), NULL, 0, 0, NULL, "DIR",
     "recordings, assets and presets; ~/.local/share/scope"},
    {"plugin", TEXT, AT(plugin), NULL, 0, 0, NULL, "ID", "start a stream with this plugin"},
    {"preset", TEXT, AT(preset), NULL, 0, 0, NULL, "NAME", "and this preset of it"},
    {"source", TEXT, AT(source), NULL, 0, 0, NULL, "URL",
     "and with this source: a file, a URL, a camera, or test:"},
    {"streams-max", WHOLE, AT(streams_max), "64", 1, 1024, NULL, "N", "most streams at once"},
    {"frame-limit-s", WHOLE, AT(frame_limit_s), "10", 1, 3600, NULL, "N",
     "a plugin that takes longer for a frame hangs, and is started again"},
    {"worker-memory-mb", WHOLE, AT(worker_memory_mb), "0", 0, 1 << 24, NULL, "N",
     "a plugin's process that grows beyond is started again; 0: no limit"},
    {"bitrate-kbps", WHOLE, AT(bitrate_kbps), "0", 0, 1000000, NULL, "N",
     "of pictures that are sent; 0: by their size"},
    {"h264", TEXT, AT(h264), NULL, 0, 0, "x264enc|openh264enc", "x264enc|openh264enc",
     "GStreamer's encoder to prefer"},
    {"osc-port", WHOLE, AT(osc_port), "9000", 0, 65535, NULL, "N", "UDP port for OSC; 0: none"},
    {"osc-listen", TEXT, AT(osc_listen), "127.0.0.1", 0, 0, NULL, "ADDRESS",
     "address for OSC, which knows no token"},
    {"rtc-ports", TEXT, AT(rtc_ports), NULL, 0, 0, NULL, "FROM-TO", "UDP ports for WebRTC; any"},
    {"ice-servers", TEXT, AT(ice_servers), NULL, 0, 0, NULL, "URL,...",
     "stun:HOST:PORT and turn:USER:PASSWORD@HOST:PORT"},
    {"log", TEXT, AT(log), "text", 0, 0, "text|json", "text|json", "how lines are written"},
    {"log-level", TEXT, AT(log_level), "info", 0, 0, "debug|info|warn|error",
     "debug|info|warn|error", "the least that is written"},
    {"local-files", YES, AT(local_files), NULL, 0, 0, NULL, NULL,
     "sources may be any file of this machine, not the assets alone; on where only this machine "
     "is listened to"},
    {"strict-sizes", YES, AT(strict_sizes), "false", 0, 0, NULL, NULL,
     "take only Daydream's own ranges for width and height"},
    {"check", YES, AT(check), "false", 0, 0, NULL, NULL,
     "say what would be done and what is missing, and end"},
};
enum { SETTINGS = G_N_ELEMENTS(settings) };

static const char summary[] = "Serves live streams: the page, the API and the media, on one port. "
                              "Each setting may be a flag, "
                              "a\nvariable (SCOPE_PORT for --port) or an entry of the JSON file "
                              "that --config or SCOPE_CONFIG "
                              "names\n({\"port\": 8080}); the first of these counts. The file "
                              "alone may also hold \"models\": "
                              "the checkpoints\nbehind the model names of Daydream's API.";

/* ---- one value ------------------------------------------------------------------------------- */

static char **text_of(serve_options *o, const setting *s)
{
    return (char **)((char *)o + s->at);
}

static bool is_choice(const char *choices, const char *text)
{
    char **all = g_strsplit(choices, "|", -1);
    bool good = g_strv_contains((const char *const *)all, text);
    g_strfreev(all);
    return good;
}

static int set_whole(serve_options *o, const setting *s, const char *text, const char *from,
                     scope_error *err)
{
    char *end;
    errno = 0;
    int64_t n = g_ascii_strtoll(text, &end, 10);
    if (end == text || *end || errno || n < s->min || n > s->max)
        return error_set(err, SCOPE_EINVAL, s->name,
                         "%s: \"%s\" is not a whole number from %" G_GINT64_FORMAT
                         " to %" G_GINT64_FORMAT,
                         from, text, s->min, s->max);
    *(int64_t *)((char *)o + s->at) = n;
    return 0;
}

/* Store `text`; `from` names where it was said, for the error. */
static int set_value(serve_options *o, const setting *s, const char *text, const char *from,
                     scope_error *err)
{
    if (s->kind == WHOLE)
        return set_whole(o, s, text, from, err);
    if (s->kind == YES) {
        bool yes = !g_ascii_strcasecmp(text, "true") || !strcmp(text, "1") ||
                   !g_ascii_strcasecmp(text, "yes");
        bool no = !g_ascii_strcasecmp(text, "false") || !strcmp(text, "0") ||
                  !g_ascii_strcasecmp(text, "no");
        if (!yes && !no)
            return error_set(err, SCOPE_EINVAL, s->name, "%s: \"%s\" is neither true nor false",
                             from, text);
        *(bool *)((char *)o + s->at) = yes;
        return 0;
    }
    if (s->choices && *text && !is_choice(s->choices, text))
        return error_set(err, SCOPE_EINVAL, s->name, "%s: \"%s\" is none of %s", from, text,
                         s->choices);
    g_free(*text_of(o, s));
    *text_of(o, s) = g_strdup(*text ? text : s->def); /* nothing said: as if never named */
    return 0;
}

/* ---- where values come from ------------------------------------------------------------------ */

static char *variable_name(const char *name)
{
    char *upper = g_ascii_strup(name, -1), *whole = g_strconcat("SCOPE_", upper, NULL);
    g_strdelimit(whole, "-", '_');
    g_free(upper);
    return whole;
}

static char *member_name(const char *name)
{
    return g_strdelimit(g_strdup(name), "-", '_');
}

static int from_json(serve_options *o, const setting *s, const json_t *value, const char *file,
                     scope_error *err)
{
    char *from = g_strdup_printf("%s, %s", file, s->name);
    char *text = json_is_string(value) ? g_strdup(json_string_value(value))
                 : json_is_integer(value)
                     ? g_strdup_printf("%" JSON_INTEGER_FORMAT, json_integer_value(value))
                 : json_is_boolean(value) ? g_strdup(json_is_true(value) ? "true" : "false")
                 : json_is_null(value)    ? g_strdup("")
                                          : NULL;
    int status = text ? set_value(o, s, text, from, err)
                      : error_set(err, SCOPE_EINVAL, s->name,
                                  "%s: give a text, a whole number, true or false", from);
    g_free(text);
    g_free(from);
    return status;
}

static const setting *find_member(const char *member)
{
    for (int i = 0; i < SETTINGS; i++) {
        char *name = member_name(settings[i].name);
        bool same = !strcmp(name, member);
        g_free(name);
        if (same)
            return &settings[i];
    }
    return NULL;
}

static int unknown_member(const char *file, const char *member, scope_error *err)
{
    char *names[SETTINGS + 1];
    for (int i = 0; i < SETTINGS; i++)
        names[i] = member_name(settings[i].name);
    names[SETTINGS] = g_strdup("models");
    const char *near = schema_nearest(member, (const char *const *)names, SETTINGS + 1);
    error_set(err, SCOPE_EINVAL, "", "%s: there is no setting \"%s\"%s%s%s", file, member,
              near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
    for (int i = 0; i <= SETTINGS; i++)
        g_free(names[i]);
    return SCOPE_EINVAL;
}

static int read_file(serve_options *o, const char *file, scope_error *err)
{
    json_t *root = run_read_json(file, err), *value;
    if (!root)
        return err->status;
    const char *member;
    int status = 0;
    json_object_foreach(root, member, value)
    {
        const setting *s = find_member(member);
        if (!strcmp(member, "models") && json_is_object(value))
            o->models = json_incref(value);
        else if (!strcmp(member, "models"))
            status = error_set(err, SCOPE_EINVAL, "models", "%s, models: give an object", file);
        else if (s)
            status = from_json(o, s, value, file, err);
        else
            status = unknown_member(file, member, err);
        if (s && !status)
            o->from[s - settings] = "file";
        if (status)
            break;
    }
    json_decref(root);
    return status;
}

static int read_environment(serve_options *o, scope_error *err)
{
    for (int i = 0; i < SETTINGS; i++) {
        char *name = variable_name(settings[i].name);
        const char *text = g_getenv(name);
        int status = text ? set_value(o, &settings[i], text, name, err) : 0;
        if (text)
            o->from[i] = "environment";
        g_free(name);
        if (status)
            return status;
    }
    return 0;
}

/* ---- all of them ----------------------------------------------------------------------------- */

static void defaults(serve_options *o)
{
    memset(o, 0, sizeof *o);
    for (int i = 0; i < SETTINGS; i++) {
        scope_error never;
        o->from[i] = "default";
        if (settings[i].def)
            set_value(o, &settings[i], settings[i].def, "", &never);
    }
}

bool serve_options_loopback(const serve_options *o)
{
    return !strcmp(o->listen, "localhost") || !strcmp(o->listen, "::1") ||
           g_str_has_prefix(o->listen, "127.");
}

static bool was_set(const serve_options *o, const char *name)
{
    for (int i = 0; i < SETTINGS; i++) {
        if (!strcmp(settings[i].name, name))
            return strcmp(o->from[i], "default") != 0;
    }
    return false;
}

/* The password is not repeated: this is said on a screen. */
static int check_servers(const char *list, scope_error *err)
{
    char **all = g_strsplit(list, ",", -1);
    bool good = true;
    for (char **one = all; *one && good; one++) {
        const char *text = g_strstrip(*one), *at = strrchr(text, '@');
        bool turn = g_str_has_prefix(text, "turn:") || g_str_has_prefix(text, "turns:");
        const char *user = turn ? strchr(text, ':') + 1 : NULL;
        if (turn)
            good = at && memchr(user, ':', (size_t)(at - user)) && at[1];
        else
            good = g_str_has_prefix(text, "stun:") && text[strlen("stun:")] && !at;
    }
    g_strfreev(all);
    return good ? 0
                : error_set(err, SCOPE_EINVAL, "ice-servers",
                            "--ice-servers: give stun:HOST:PORT or turn:USER:PASSWORD@HOST:PORT, "
                            "with commas between");
}

/* What no single setting can know. */
static int agree(serve_options *o, scope_error *err)
{
    int from, to;
    char more;
    if (strcmp(o->listen, "localhost") && !g_hostname_is_ip_address(o->listen))
        return error_set(err, SCOPE_EINVAL, "listen",
                         "--listen %s: give an address such as 127.0.0.1 or 0.0.0.0", o->listen);
    if (!serve_options_loopback(o) && !o->token && !o->no_token)
        return error_set(err, SCOPE_EINVAL, "token",
                         "--listen %s is open to others: give a --token, or --no-token to let "
                         "everybody in",
                         o->listen);
    if (o->rtc_ports && (sscanf(o->rtc_ports, "%d-%d%c", &from, &to, &more) != 2 || from < 1024 ||
                         to < from || to > 65535))
        return error_set(err, SCOPE_EINVAL, "rtc-ports",
                         "--rtc-ports %s: give two ports from 1024 to 65535, such as 50000-50100",
                         o->rtc_ports);
    if (o->ice_servers && check_servers(o->ice_servers, err))
        return err->status;
    if (o->source && !o->plugin)
        return error_set(err, SCOPE_EINVAL, "source",
                         "--source %s: say with --plugin what it is for", o->source);
    if (o->preset && !o->plugin)
        return error_set(err, SCOPE_EINVAL, "preset",
                         "--preset %s: say with --plugin what it is for", o->preset);
    if (o->tls_key && (!strcmp(o->tls, "off") || !strcmp(o->tls, "self")))
        return error_set(err, SCOPE_EINVAL, "tls-key",
                         "--tls-key %s: give the certificate that it belongs to with --tls FILE",
                         o->tls_key);
    if (!o->data)
        o->data = g_build_filename(g_get_user_data_dir(), "scope", NULL);
    if (!was_set(o, "local-files"))
        o->local_files = serve_options_loopback(o);
    return 0;
}

static const char *argument(const setting *s)
{
    return s->kind == YES ? NULL : s->arg;
}

static int read_flags(serve_options *o, char **values, const gboolean *yes, scope_error *err)
{
    for (int i = 0; i < SETTINGS; i++) {
        char *flag = g_strdup_printf("--%s", settings[i].name);
        const char *text = settings[i].kind == YES ? yes[i] ? "true" : NULL : values[i];
        int status = text ? set_value(o, &settings[i], text, flag, err) : 0;
        if (text)
            o->from[i] = "flag";
        g_free(flag);
        if (status)
            return status;
    }
    return 0;
}

bool serve_options_parse(serve_options *o, int argc, char **argv, int *code)
{
    G_STATIC_ASSERT((int)SETTINGS <= (int)SERVE_SETTINGS_MAX);
    char *values[SETTINGS] = {0}, *config = NULL;
    gboolean yes[SETTINGS] = {0};
    GOptionEntry entries[SETTINGS + 2] = {
        {"config", 0, 0, G_OPTION_ARG_FILENAME, &config, "JSON file of settings", "FILE"}};
    for (int i = 0; i < SETTINGS; i++) {
        const setting *s = &settings[i];
        entries[i + 1] = (GOptionEntry){s->name,
                                        0,
                                        0,
                                        s->kind == YES ? G_OPTION_ARG_NONE : G_OPTION_ARG_STRING,
                                        s->kind == YES ? (gpointer)&yes[i] : (gpointer)&values[i],
                                        s->help,
                                        argument(s)};
    }
    const options flags = {NULL, summary, 0, 0, entries};
    scope_error err;
    defaults(o);
    *code = EXIT_USAGE;
    bool good = options_parse(&flags, &argc, argv);
    if (good) {
        const char *file = config ? config : g_getenv("SCOPE_CONFIG");
        good = !(file && read_file(o, file, &err)) && !read_environment(o, &err) &&
               !read_flags(o, values, yes, &err) && !agree(o, &err);
        if (!good)
            complain(0, "%s", err.text);
    }
    for (int i = 0; i < SETTINGS; i++)
        g_free(values[i]);
    g_free(config);
    if (!good)
        serve_options_fini(o);
    return good;
}

void serve_options_fini(serve_options *o)
{
    for (int i = 0; i < SETTINGS; i++) {
        if (settings[i].kind == TEXT)
            g_free(*text_of(o, &settings[i]));
    }
    json_decref(o->models);
    memset(o, 0, sizeof *o);
}

/* The token; and a URL with a name and a password in it. */
static bool is_secret(const setting *s, const char *text)
{
    bool urls = s->at == AT(ice_servers) || s->at == AT(source);
    return s->at == AT(token) || (urls && strchr(text, '@'));
}

json_t *serve_options_json(const serve_options *o)
{
    json_t *all = json_object();
    for (int i = 0; i < SETTINGS; i++) {
        const setting *s = &settings[i];
        const char *at = (const char *)o + s->at;
        const char *text = s->kind == TEXT ? *(char *const *)at : NULL;
        json_t *value = s->kind == WHOLE     ? json_integer(*(const int64_t *)at)
                        : s->kind == YES     ? json_boolean(*(const bool *)at)
                        : !text              ? json_null()
                        : is_secret(s, text) ? json_string("(not told)")
                                             : json_string(text);
        char *member = member_name(s->name);
        json_object_set_new(all, member,
                            json_pack("{s:o, s:s}", "value", value, "from", o->from[i]));
        g_free(member);
    }
    return all;
}
