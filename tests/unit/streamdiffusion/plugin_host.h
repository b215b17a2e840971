/* plugin_host.h - a host for tests of the plugin through scope_entry: it lends one frame at a time,
 * with gaps between the rows, and remembers what it was told. */
#ifndef TESTS_PLUGIN_HOST_H
#define TESTS_PLUGIN_HOST_H

#include "plugin/scope_plugin.h"

#include <check.h>
#include <stdlib.h>

typedef struct plugin_host {
    scope_host host;       /* first: the callbacks get it back */
    double done;           /* last progress */
    int phases, cancel_at; /* cancelled from this progress call on; 0: never */
    char log[512];
    unsigned char *frame;    /* owned: the last video() */
    const scope_video *mask; /* what it has of that name; or NULL */
    int live;                /* what it says of itself; -1: nothing */
} plugin_host;

static inline plugin_host *plugin_host_of(const scope_host *h)
{
    return h->ctx;
}

static inline void plugin_host_log(const scope_host *h, int level, const char *line)
{
    (void)level;
    snprintf(plugin_host_of(h)->log, sizeof plugin_host_of(h)->log, "%s", line);
}

static inline int plugin_host_video(const scope_host *h, scope_video *v, scope_error *err)
{
    plugin_host *me = plugin_host_of(h);
    (void)err;
    size_t element = v->dtype == SCOPE_U8 ? 1 : v->dtype == SCOPE_F16 ? 2 : 4;
    v->stride_h = (int64_t)(element * (size_t)v->w * (size_t)v->c) + 32; /* not dense */
    v->stride_t = v->stride_h * v->h;
    free(me->frame);
    v->data = me->frame = malloc((size_t)(v->stride_t * v->t));
    memset(v->data, 0xee, (size_t)(v->stride_t * v->t));
    return SCOPE_OK;
}

static inline void plugin_host_progress(const scope_host *h, double done, const char *phase)
{
    plugin_host *me = plugin_host_of(h);
    ck_assert_double_ge(done, me->done);
    ck_assert_double_le(done, 1);
    ck_assert_ptr_nonnull(phase);
    me->done = done;
    me->phases++;
}

static inline int plugin_host_cancelled(const scope_host *h)
{
    const plugin_host *me = plugin_host_of(h);
    return me->cancel_at && me->phases >= me->cancel_at;
}

static inline int32_t plugin_host_live(const scope_host *h)
{
    return plugin_host_of(h)->live;
}

static inline const scope_video *plugin_host_input(const scope_host *h, const char *name)
{
    return strcmp(name, "mask") ? NULL : plugin_host_of(h)->mask;
}

static inline const void *plugin_host_extension(const scope_host *h, const char *id)
{
    static const scope_live live = {plugin_host_live};
    static const scope_inputs inputs = {.get = plugin_host_input};
    if (!strcmp(id, SCOPE_INPUTS))
        return &inputs;
    return plugin_host_of(h)->live < 0 || strcmp(id, SCOPE_LIVE) ? NULL : &live;
}

/* h stays where it is: the callbacks find it by its address. */
static inline void plugin_host_open(plugin_host *h)
{
    *h = (plugin_host){.host = {.abi = SCOPE_ABI,
                                .version = "test",
                                .ctx = h,
                                .log = plugin_host_log,
                                .video = plugin_host_video,
                                .progress = plugin_host_progress,
                                .cancelled = plugin_host_cancelled,
                                .extension = plugin_host_extension},
                       .live = -1};
}

static inline void plugin_host_close(plugin_host *h)
{
    free(h->frame);
    h->frame = NULL;
}

#endif
