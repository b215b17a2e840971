/* serve_options.h - the settings of `scope serve`: flags over environment over file over defaults.
 *
 * One table names each setting once; flags (--port), variables (SCOPE_PORT), the JSON file
 * ({"port": 8080}) and the help are read off it.
 */
#ifndef HOST_SERVE_OPTIONS_H
#define HOST_SERVE_OPTIONS_H

#include "../plugin/scope_abi.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum { SERVE_SETTINGS_MAX = 40 };

/* Texts are owned; NULL where nothing was said. */
typedef struct serve_options {
    const char *listen;       /* "127.0.0.1" */
    int64_t port;             /* 8080; 0: any free one */
    const char *token;        /* NULL: none; asked for when listening wider than loopback */
    bool no_token;            /* listen wider without one, all the same */
    const char *tls;          /* "off", "self" (made on demand) or the path of a certificate */
    const char *tls_key;      /* the path of its key, or NULL: in the same file */
    bool behind_proxy;        /* believe X-Forwarded-* */
    const char *public_host;  /* host[:port] in URLs, in place of the request's; or NULL */
    const char *plugins;      /* folder searched first; or NULL */
    const char *data;         /* folder of recordings, assets and presets */
    const char *plugin;       /* started in the first stream; or NULL: none */
    const char *preset;       /* of that plugin; or NULL */
    const char *source;       /* of the first stream; or NULL */
    int64_t streams_max;      /* 64 */
    int64_t frame_limit_s;    /* a plugin that takes longer for a frame hangs; 10 */
    int64_t worker_memory_mb; /* 0: no limit */
    int64_t bitrate_kbps;     /* 0: by size */
    const char *h264;         /* encoder element to prefer, or NULL */
    int64_t osc_port;         /* 0: none; 9000 */
    const char *osc_listen;   /* "127.0.0.1" */
    const char *rtc_ports;    /* "50000-50100", or NULL: any */
    const char *ice_servers;  /* "stun:host:port,turn:user:pass@host:port", or NULL */
    const char *log;          /* "text" or "json" */
    const char *log_level;    /* "debug", "info", "warn", "error" */
    json_t *models;    /* of the Daydream API: {"stabilityai/sd-turbo": {"plugin": id, "values":
                          {...}}}, from the file alone; owned, or NULL */
    bool check;        /* say what would be done, and what is missing, and end */
    bool local_files;  /* sources may be any file, not the assets alone */
    bool strict_sizes; /* Daydream's own ranges for width and height */
    const char *from[SERVE_SETTINGS_MAX]; /* static; "flag", in the order of the table */
} serve_options;

/* True to go on; else *code is what to exit with. */
bool serve_options_parse(serve_options *o, int argc, char **argv, int *code);
void serve_options_fini(serve_options *o);
/* Is only this machine listened to? */
bool serve_options_loopback(const serve_options *o);
/* The settings in force, each with where it is from ("flag", "environment", "file", "default"); the
 * token and URLs with passwords are not told. New reference. */
json_t *serve_options_json(const serve_options *o);

#endif
