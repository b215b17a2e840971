/* live.h - the streams of a server, and what they share: plugins, workers, frames.
 *
 * Under http/ and osc/. All functions are [main], the thread of the GLib main loop.
 */
#ifndef LIVE_LIVE_H
#define LIVE_LIVE_H

#include "../registry.h"
#include "../worker/remote.h"
#include "stream.h"

typedef struct live_options {
    const char *plugin_dir; /* searched first; or NULL */
    const char *data_dir;   /* recordings/, assets/, presets/; made when they are needed */
    remotes_options remotes;
    int streams_max;  /* 0: 64 */
    int bitrate;      /* of encoders; 0: by size */
    const char *h264; /* encoder element to prefer, or NULL */
    bool local_files; /* sources may be files outside data_dir/assets, by absolute path */
} live_options;

live *live_new(const live_options *o, scope_error *err);
void live_free(live *l); /* ends every stream, finishes recordings */

frame_pool *live_frames(live *l);
remotes *live_remotes(live *l);
registry *live_registry(live *l);
/* Look for plugins again; streams keep what they run. */
void live_rescan(live *l);
/* Like registry_find, with the parsed schema, which stays the live's. NULL with *err. */
const registry_entry *live_plugin(live *l, const char *id, const schema **s, scope_error *err);
const char *live_data_dir(live *l);
const live_options *live_settings(live *l);

/* A new stream without plugins. `name` may be NULL: one is made up. NULL with *err when there are
 * too many. */
stream *live_create(live *l, const char *name, scope_error *err);
void live_remove(live *l, stream *s);

/* Which name of a stream is meant; all but the id are secrets. */
enum stream_key { STREAM_ID = 1, STREAM_PUBLISH, STREAM_PLAYBACK };
stream *live_find(live *l, enum stream_key which, const char *key); /* or NULL */
int live_count(const live *l);
stream *live_at(live *l, int i); /* in order of creation */

/* Called for everything that happens to any stream, its creation and end among it. */
guint live_listen(live *l, stream_listener fn, void *ctx);
void live_unlisten(live *l, guint id);

/* 24 random URL-safe characters after `prefix`, from the system's generator; for g_free. */
char *live_secret(const char *prefix);

#endif
