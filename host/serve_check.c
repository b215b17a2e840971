/* serve_check.c - see serve_check.h. */
#include "serve_check.h"
#include "certificate.h"
#include "command.h"
#include "error.h"
#include "presets.h"
#include "registry.h"

#include "http/server.h"
#include "media/elements.h"
#include "osc/osc.h"

#include <glib/gstdio.h>
#include <string.h>

/* What the server can do, and the elements that it takes; any one of those with '|' between. */
static const struct {
    const char *what, *elements;
} abilities[] = {
    {"VP8 both ways", "vp8enc vp8dec"},
    {"H.264 in", "h264parse avdec_h264"},
    {"H.264 out", "h264parse x264enc|openh264enc"},
    {"MJPEG", "jpegenc jpegdec"},
    {"sound", "opusenc opusdec audioresample"},
    {"WebRTC (WHIP, WHEP)", "webrtcbin nicesrc dtlsdec srtpdec rtpvp8pay rtph264pay"},
    {"files and URLs", "uridecodebin souphttpsrc"},
    {"recording", "x264enc|openh264enc avenc_aac mp4mux"},
    {"RTMP out", "flvmux rtmp2sink"},
    {"HLS out", "hlssink2"},
    {"SRT out", "mpegtsmux srtsink"},
    {"cameras", "v4l2src"},
    {"v4l2 out", "v4l2sink"},
};

/* True when there; else *err names one package that brings what is missing. */
static bool can(const char *elements, scope_error *err)
{
    char **all = g_strsplit(elements, " ", -1);
    bool good = true;
    for (char **each = all; *each && good; each++) {
        char **any = g_strsplit(*each, "|", -1);
        good = false;
        for (char **e = any; *e && !good; e++)
            good = !media_need(*e, err);
        g_strfreev(any);
    }
    g_strfreev(all);
    return good;
}

static void settings(const serve_options *o)
{
    json_t *all = serve_options_json(o), *value;
    const char *name;
    printf("Settings\n");
    json_object_foreach(all, name, value)
    {
        char *text = json_dumps(json_object_get(value, "value"), JSON_ENCODE_ANY | JSON_COMPACT);
        printf("  %-18s %-28s %s\n", name, text, json_string_value(json_object_get(value, "from")));
        free(text);
    }
    json_decref(all);
}

static void plugins(const serve_options *o)
{
    registry *reg = registry_scan(o->plugins);
    printf("Plugins\n");
    for (int i = 0; i < registry_count(reg); i++) {
        const registry_entry *e = registry_at(reg, i);
        printf("  %-34s %s\n", e->id ? e->id : e->path, e->fault ? e->fault : "good");
    }
    if (!registry_count(reg))
        printf("  none; `scope help plugins` says where they are looked for\n");
    registry_free(reg);
}

static bool data_folder(const serve_options *o, scope_error *err)
{
    if (g_mkdir_with_parents(o->data, 0755) || g_access(o->data, W_OK)) {
        error_set(err, SCOPE_EIO, "data", "--data %s: cannot be written to", o->data);
        return false;
    }
    return true;
}

static bool certificate(const serve_options *o, scope_error *err)
{
    char *cert = NULL, *key = NULL;
    bool good = !certificate_get(o, &cert, &key, err);
    g_free(cert);
    g_free(key);
    return good;
}

static bool port_is_free(const serve_options *o, scope_error *err)
{
    static const route none[] = {{0}};
    static const route *const tables[] = {none, NULL};
    const server_options probe = {.listen = o->listen, .port = (int)o->port};
    server *s = server_new(&probe, tables, NULL, err);
    if (s)
        server_free(s);
    return s != NULL;
}

static bool osc_is_free(const serve_options *o, scope_error *err)
{
    return !o->osc_port || !osc_check(o->osc_listen, (int)o->osc_port, err);
}

/* Are the plugin and the preset there that the server is to begin with? */
static bool first_plugin(const serve_options *o, scope_error *err)
{
    char why[256];
    registry *reg = registry_scan(o->plugins);
    const registry_entry *e = o->plugin ? registry_find(reg, o->plugin, why) : NULL;
    json_t *values = e && o->preset ? presets_read(e, o->preset, err) : NULL;
    bool good = !o->plugin || (e && (!o->preset || values));
    if (o->plugin && !e)
        error_set(err, SCOPE_EINVAL, "plugin", "%s", why);
    json_decref(values);
    registry_free(reg);
    return good;
}

int serve_check(const serve_options *o)
{
    scope_error err;
    bool good = true;
    settings(o);
    plugins(o);
    printf("Media\n");
    if (media_init(&err))
        return complain(EXIT_FAILED, "%s", err.text);
    for (size_t i = 0; i < G_N_ELEMENTS(abilities); i++) {
        bool there = can(abilities[i].elements, &err);
        printf("  %-22s %s\n", abilities[i].what, there ? "good" : err.text);
    }
    bool (*const must[])(const serve_options *, scope_error *) = {
        data_folder, certificate, port_is_free, osc_is_free, first_plugin};
    for (size_t i = 0; i < G_N_ELEMENTS(must); i++) {
        if (!must[i](o, &err)) {
            complain(0, "%s", err.text);
            good = false;
        }
    }
    printf(good ? "The server can start.\n" : "The server cannot start.\n");
    return good ? EXIT_GOOD : EXIT_FAILED;
}
