/* live_help.h - a server's live part in a fresh folder, and waiting for what happens in it. */
#ifndef TESTS_LIVE_HELP_H
#define TESTS_LIVE_HELP_H

#include "host/live/live.h"
#include "host/media/elements.h"

#include <check.h>
#include <glib/gstdio.h>
#include <string.h>

static live *server;
static stream *one;
static char *data; /* the folder */
static scope_error err;

static void live_setup(bool local_files)
{
    ck_assert_int_eq(media_init(&err), 0);
    data = g_dir_make_tmp("scope-live-XXXXXX", NULL);
    char *assets = g_build_filename(data, "assets", NULL);
    g_mkdir_with_parents(assets, 0755);
    g_free(assets);
    live_options o = {.data_dir = data, .local_files = local_files};
    server = live_new(&o, &err);
    ck_assert_msg(server != NULL, "%s", err.text);
    one = live_create(server, "A test", &err);
    ck_assert(one != NULL);
}

static void live_teardown(void)
{
    live_free(server);
    char *argv[] = {"rm", "-rf", data, NULL};
    g_spawn_sync(NULL, argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, NULL);
    g_free(data);
}

static gboolean on_tick(gpointer ctx)
{
    (void)ctx;
    return G_SOURCE_CONTINUE;
}

/* Run the main loop until `condition`; false after `limit_ms`. */
static bool wait_for(bool (*condition)(void *ctx), void *ctx, int limit_ms)
{
    gint64 limit = g_get_monotonic_time() + limit_ms * 1000;
    guint tick = g_timeout_add(10, on_tick, NULL);
    bool holds;
    while (!(holds = condition(ctx)) && g_get_monotonic_time() < limit)
        g_main_context_iteration(NULL, TRUE);
    g_source_remove(tick);
    return holds;
}

#endif
