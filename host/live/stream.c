/* stream.c - a stream's identity, its source, and its beginning and end; see stream.h, inside.h.
 *
 * Must stay true: a stream lives until its last input, tap and event have let go of it, but works
 * until stream_end alone.
 */
#include "inside.h"
#include "../error.h"

#include <string.h>

enum { NAME_MAX_BYTES = 200 };

stream *stream_ref(stream *s)
{
    s->refs++;
    return s;
}

void stream_unref(stream *s)
{
    if (--s->refs > 0)
        return;
    g_free(s->id);
    g_free(s->name);
    g_free(s->publish_key);
    g_free(s->playback_id);
    g_free(s->notice);
    g_free(s->remark);
    json_decref(s->before);
    g_free(s->log_name);
    g_hash_table_unref(s->notes);
    g_hash_table_unref(s->second);
    g_array_unref(s->attached);
    g_ptr_array_unref(s->retired);
    converter_free(s->to_three);
    g_mutex_clear(&s->source_lock);
    g_mutex_clear(&s->lock);
    g_cond_clear(&s->idle);
    g_free(s);
}

stream *stream_new(live *l, const char *name)
{
    stream *s = g_new0(stream, 1);
    s->refs = 1;
    s->live = l;
    s->id = live_secret("str_");
    s->publish_key = live_secret("stk_");
    s->playback_id = live_secret("pbk_");
    s->name = g_strdup(name);
    s->created_ms = g_get_real_time() / 1000;
    s->state = STREAM_EMPTY;
    s->notice = g_strdup("");
    s->log_name = g_strdup_printf("stream %s", s->id);
    s->notes = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    s->second = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)frame_unref);
    s->attached = g_array_new(FALSE, FALSE, sizeof(attached));
    s->retired = g_ptr_array_new();
    s->to_three = converter_new(live_frames(l));
    s->fit = MEDIA_CROP;
    g_mutex_init(&s->lock);
    g_mutex_init(&s->source_lock);
    g_cond_init(&s->idle);
    return s;
}

/* Take the input from whoever has it, and tell him. */
static void let_go(stream *s, stream_input *next)
{
    g_mutex_lock(&s->lock);
    stream_input *before = s->input;
    s->input = next;
    g_mutex_unlock(&s->lock);
    if (before && before->calls.replaced)
        before->calls.replaced(before->calls.ctx); /* which may close it */
}

void stream_end(stream *s)
{
    frames_stop(s);
    let_go(s, NULL);
    plan_close(s);
    g_hash_table_remove_all(s->second);
}

void stream_detach_all(stream *s)
{
    while (s->attached->len) { /* the last first: it may use those before */
        attached a = g_array_index(s->attached, attached, s->attached->len - 1);
        g_array_remove_index(s->attached, s->attached->len - 1);
        if (a.destroy)
            a.destroy(a.data);
        g_free(a.what);
    }
}

/* ---- who it is ------------------------------------------------------------------------------- */

const char *stream_id(const stream *s)
{
    return s->id;
}

const char *stream_name(const stream *s)
{
    return s->name;
}

int stream_check_name(const char *name, scope_error *err)
{
    if (!*name || strlen(name) > NAME_MAX_BYTES || !g_utf8_validate(name, -1, NULL))
        return error_set(err, SCOPE_EINVAL, "name", "a stream's name has 1 to %d bytes of UTF-8",
                         NAME_MAX_BYTES);
    for (const char *c = name; *c; c++) {
        if (g_ascii_iscntrl(*c))
            return error_set(err, SCOPE_EINVAL, "name",
                             "a stream's name is one line without control characters");
    }
    return 0;
}

int stream_rename(stream *s, const char *name, scope_error *err)
{
    int status = stream_check_name(name, err);
    if (status)
        return status;
    char *before = s->name;
    s->name = g_strdup(name);
    g_free(before);
    stream_changed(s);
    return 0;
}

const char *stream_publish_key(const stream *s)
{
    return s->publish_key;
}

const char *stream_playback_id(const stream *s)
{
    return s->playback_id;
}

int64_t stream_created_ms(const stream *s)
{
    return s->created_ms;
}

live *stream_live(const stream *s)
{
    return s->live;
}

/* ---- what others keep with it ---------------------------------------------------------------- */

static guint find_attached(const stream *s, const char *what)
{
    guint i = 0;
    while (i < s->attached->len && strcmp(g_array_index(s->attached, attached, i).what, what))
        i++;
    return i;
}

void stream_attach(stream *s, const char *what, void *data, GDestroyNotify destroy)
{
    guint i = find_attached(s, what);
    if (i < s->attached->len) {
        attached a = g_array_index(s->attached, attached, i);
        g_array_remove_index(s->attached, i);
        if (a.destroy)
            a.destroy(a.data);
        g_free(a.what);
    }
    if (!data)
        return;
    attached a = {g_strdup(what), data, destroy};
    g_array_append_val(s->attached, a);
}

void *stream_attached(const stream *s, const char *what)
{
    guint i = find_attached(s, what);
    return i < s->attached->len ? g_array_index(s->attached, attached, i).data : NULL;
}

/* ---- its source ------------------------------------------------------------------------------ */

stream_input *stream_input_open(stream *s, const char *kind, const char *about,
                                const stream_input_calls *calls)
{
    stream_input *in = g_new0(stream_input, 1);
    in->stream = stream_ref(s);
    in->kind = kind;
    in->about = g_utf8_make_valid(about ? about : "", -1);
    in->calls = *calls;
    if (!s->ended)
        let_go(s, in);
    stream_changed(s);
    return in;
}

void stream_input_close(stream_input *in)
{
    if (!in)
        return;
    stream *s = in->stream;
    g_mutex_lock(&s->lock);
    bool ours = s->input == in;
    if (ours)
        s->input = NULL;
    g_mutex_unlock(&s->lock);
    if (ours) {
        stream_settle(s);
        stream_changed(s);
    }
    stream_unref(s);
    g_free(in->about);
    g_free(in);
}
