/* pending.c - stands in for parts that are not there yet; goes away with them. */
#include "error.h"
#include "http/app.h"
#include "live/cast.h"
#include "live/outlet.h"

#define WEAK __attribute__((weak))
WEAK cast_viewer *cast_join(stream *s, enum cast_of of, enum codec codec, const char *kind,
                            const char *about, const cast_calls *calls, scope_error *err)
{
    (void)s, (void)of, (void)codec, (void)kind, (void)about, (void)calls;
    error_set(err, SCOPE_EIO, "", "not yet");
    return NULL;
}
WEAK void cast_leave(cast_viewer *v)
{
    (void)v;
}
WEAK void cast_keyframe(cast_viewer *v)
{
    (void)v;
}
WEAK int cast_can(enum codec codec, scope_error *err)
{
    (void)codec;
    return error_set(err, SCOPE_EIO, "", "not yet");
}
WEAK json_t *outlet_list(stream *s)
{
    (void)s;
    return json_array();
}
WEAK json_t *outlet_open(stream *s, const json_t *what, scope_error *err)
{
    (void)s, (void)what;
    error_set(err, SCOPE_EIO, "", "not yet");
    return NULL;
}
WEAK int outlet_close(stream *s, const char *id, void (*done)(void *ctx, const json_t *last),
                      void *ctx, scope_error *err)
{
    (void)s, (void)id, (void)done, (void)ctx;
    return error_set(err, SCOPE_EIO, "", "not yet");
}
WEAK void outlet_close_all(live *l, void (*done)(void *ctx), void *ctx)
{
    (void)l;
    done(ctx);
}
char *tls_self_signed(const char *folder, const char *hosts, char **key, scope_error *err);
WEAK char *tls_self_signed(const char *folder, const char *hosts, char **key, scope_error *err)
{
    (void)folder, (void)hosts, (void)key;
    error_set(err, SCOPE_EIO, "", "not yet");
    return NULL;
}
WEAK const route whip_routes[1] = {{0}};
WEAK const route scope_routes[1] = {{0}};
WEAK const route daydream_routes[1] = {{0}};
WEAK const route hls_routes[1] = {{0}};
