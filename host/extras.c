/* extras.c - see extras.h. */
#include "extras.h"
#include "error.h"
#include "media/pictures.h"
#include "media/source.h"

#include <glib.h>
#include <string.h>

enum { EARLY_US = 1000 }; /* clocks of two files round differently */

typedef struct extra {
    char *name; /* owned */
    source *source;
    frame *now, *next; /* referenced; next NULL: now is the last */
} extra;

struct extras {
    extra *at;
    int count;
};

static bool single_picture(const char *file)
{
    picture_pattern pattern;
    bool numbered = picture_pattern_init(&pattern, file);
    if (numbered)
        picture_pattern_fini(&pattern);
    return picture_type(file) && !numbered;
}

static int open_one(extra *x, const char *given, source_options o, frame_pool *pool,
                    scope_error *err)
{
    const char *equals = strchr(given, '=');
    if (!equals || equals == given || !equals[1])
        return error_set(err, SCOPE_EINVAL, "", "--input %s: give NAME=FILE, such as mask=mask.png",
                         given);
    x->name = g_strndup(given, (gsize)(equals - given));
    if (single_picture(equals + 1))
        o.start = 0;
    x->source = source_open(equals + 1, &o, pool, err);
    return x->source ? MIN(source_read(x->source, &x->next, err), 0) : err->status;
}

extras *extras_open(char *const *given, double start, int (*cancelled)(void *ctx), frame_pool *pool,
                    scope_error *err)
{
    extras *x = g_new0(extras, 1);
    const source_options o = {.start = start, .cancelled = cancelled};
    x->at = g_new0(extra, g_strv_length((char **)given) + 1);
    for (; given[x->count]; x->count++) {
        if (open_one(&x->at[x->count], given[x->count], o, pool, err)) {
            x->count++;
            extras_close(x);
            return NULL;
        }
    }
    return x;
}

void extras_close(extras *x)
{
    for (int i = 0; x && i < x->count; i++) {
        frame_unref(x->at[i].now);
        frame_unref(x->at[i].next);
        source_close(x->at[i].source);
        g_free(x->at[i].name);
    }
    if (x)
        g_free(x->at);
    g_free(x);
}

static int advance(extra *x, int64_t pts_us, scope_error *err)
{
    while (x->next && (!x->now || x->next->v.pts_us <= pts_us + EARLY_US)) {
        frame_unref(x->now);
        x->now = x->next;
        x->next = NULL;
        int got = source_read(x->source, &x->next, err);
        if (got < 0)
            return got;
    }
    return 0;
}

int extras_show(extras *x, chain *c, int64_t pts_us, scope_error *err)
{
    int status = 0;
    for (int i = 0; x && i < x->count && !status; i++) {
        status = advance(&x->at[i], pts_us, err);
        if (!status)
            status = chain_set_input(c, x->at[i].name, x->at[i].now, err);
    }
    return status;
}
