/* crew.c - the workers of a server: which there are, their start, their next start.
 *
 * Must stay true: processes are started by [main] alone, because they die with the thread that
 * started them; a worker without remotes is on its way out.
 */
#include "crew.h"

#include <sys/eventfd.h>
#include <unistd.h>

/* ---- which there are ------------------------------------------------------------------------- */

static worker *worker_new(remotes *all, const remote_plugin *plugin, json_t *load)
{
    worker *w = g_new0(worker, 1);
    const char *dot = strrchr(plugin->id, '.');
    w->all = all;
    w->path = g_strdup(plugin->path);
    w->id = g_strdup(plugin->id);
    w->name = w->id + (dot ? dot + 1 - plugin->id : 0);
    w->load = load;
    w->alone = plugin->alone;
    w->members = g_ptr_array_new();
    w->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    g_mutex_init(&w->lock);
    g_ptr_array_add(all->workers, w);
    return w;
}

worker *worker_for(remotes *all, const remote_plugin *plugin, const json_t *values)
{
    json_t *load = schema_load_values(plugin->schema, values);
    for (guint i = 0; i < all->workers->len && !plugin->alone; i++) {
        worker *w = g_ptr_array_index(all->workers, i);
        if (!w->alone && !strcmp(w->path, plugin->path) && !strcmp(w->id, plugin->id) &&
            json_equal(w->load, load)) {
            json_decref(load);
            return w;
        }
    }
    return worker_new(all, plugin, load);
}

static void drop_source(worker *w)
{
    g_mutex_lock(&w->lock);
    GSource *source = g_steal_pointer(&w->source);
    g_mutex_unlock(&w->lock);
    if (source) {
        g_source_destroy(source);
        g_source_unref(source);
    }
}

void worker_free(worker *w)
{
    if (w->thread)
        g_thread_join(w->thread);
    drop_source(w);
    g_ptr_array_remove(w->all->workers, w);
    g_ptr_array_unref(w->members);
    json_decref(w->load);
    close(w->wake);
    g_mutex_clear(&w->lock);
    g_free(w->path);
    g_free(w->id);
    g_free(w);
}

bool worker_has(const worker *w, enum remote_state state)
{
    for (guint i = 0; i < w->members->len; i++) {
        const remote *r = g_ptr_array_index(w->members, i);
        if (r->state == state)
            return true;
    }
    return false;
}

/* ---- telling the process --------------------------------------------------------------------- */

void worker_wake(worker *w)
{
    (void)!write(w->wake, &(uint64_t){1}, sizeof(uint64_t));
}

/* What found no room is sent by the reading thread, once it knows. */
static void nudge(worker *w)
{
    if (wire_is_behind(w->wire))
        worker_wake(w);
}

void worker_tell_values(worker *w, remote *r)
{
    json_t *set =
        json_pack("{sO sI}", "values", r->asked, "generation", (json_int_t)r->asked_generation);
    wire_send_json(w->wire, WIRE_SET, r->id, set);
    r->sent_generation = r->asked_generation;
    r->unanswered++;
    nudge(w);
}

void worker_tell_input(worker *w, remote *r, const char *name, frame *f)
{
    wire_input in = {.in.h = 0};
    shared region = {.fd = -1};
    g_strlcpy(in.name, name, sizeof in.name);
    if (f) {
        in.in = (wire_picture){.h = f->v.h, .w = f->v.w, .c = f->v.c, .dtype = f->v.dtype};
        size_t bytes = wire_picture_bytes(&in.in);
        if (shared_make(&region, bytes) < 0)
            return;
        in.in.offset = shared_place(&region, bytes);
        memcpy(region.data + in.in.offset, f->v.data, bytes);
    }
    wire_send(w->wire, WIRE_INPUT, r->id, &in, sizeof in, region.fd);
    shared_drop(&region);
    nudge(w);
}

/* The values in force; those asked for since then follow. */
void worker_tell_open(worker *w, remote *r)
{
    if (!w->wire || w->stopping || w->doomed[0])
        return;
    json_t *open = json_pack("{ss ss sO sI si}", "path", w->path, "id", w->id, "values", r->force,
                             "generation", (json_int_t)r->force_generation, "fit", (int)r->fit);
    wire_send_json(w->wire, WIRE_OPEN, r->id, open);
    r->opened = true;
    r->sent_generation = r->force_generation;
    r->unanswered = 0;
    if (r->asked_generation > r->sent_generation)
        worker_tell_values(w, r);
    GHashTableIter i;
    gpointer name, f;
    g_hash_table_iter_init(&i, r->inputs);
    while (g_hash_table_iter_next(&i, &name, &f))
        worker_tell_input(w, r, name, f);
    nudge(w);
}

void worker_stop(worker *w)
{
    enum { GRACE_US = 2 * G_USEC_PER_SEC };
    if (!w->wire || w->stopping)
        return;
    w->stopping = true;
    w->stop_us = g_get_monotonic_time() + GRACE_US;
    worker_wake(w); /* the reading thread sends what is kept, then the end */
}

/* ---- processes, one after another ------------------------------------------------------------ */

void worker_start(worker *w)
{
    process p;
    int status = process_start(&p, w->all->program, w->all->options.pass_environment);
    g_mutex_lock(&w->lock);
    w->process = p;
    w->life++;
    w->stopping = w->over = w->worked = false;
    w->doomed[0] = '\0';
    w->started_us = g_get_monotonic_time();
    w->ready_us = 0;
    if (status < 0)
        g_snprintf(w->doomed, sizeof w->doomed, "a worker for %s could not be started: %s", w->name,
                   g_strerror(-status));
    else
        w->wire = wire_new(p.socket, false);
    for (guint i = 0; i < w->members->len; i++) {
        remote *r = g_ptr_array_index(w->members, i);
        if (r->state == REMOTE_LOADING)
            worker_tell_open(w, r);
    }
    g_mutex_unlock(&w->lock);
    w->thread = g_thread_new("worker", reader_thread, w);
}

/* The process is over, and it is time for another, if anybody wants one. */
static gboolean on_turn(gpointer p)
{
    worker *w = p;
    drop_source(w);
    g_thread_join(g_steal_pointer(&w->thread));
    g_mutex_lock(&w->lock);
    bool wanted = worker_has(w, REMOTE_LOADING), needed = w->members->len > 0;
    g_mutex_unlock(&w->lock);
    if (wanted)
        worker_start(w);
    else if (!needed)
        worker_free(w);
    return G_SOURCE_REMOVE;
}

static void set_turn(worker *w, int delay_ms)
{
    w->source = delay_ms > 0 ? g_timeout_source_new((guint)delay_ms) : g_idle_source_new();
    g_source_set_priority(w->source, G_PRIORITY_DEFAULT);
    g_source_set_callback(w->source, on_turn, w, NULL);
    g_source_attach(w->source, w->all->context);
}

void worker_over(worker *w, int delay_ms)
{
    g_mutex_lock(&w->lock);
    w->over = true;
    if (!worker_has(w, REMOTE_LOADING))
        delay_ms = 0; /* nobody waits for it but us */
    set_turn(w, delay_ms);
    g_mutex_unlock(&w->lock);
}

void worker_hurry(worker *w)
{
    g_mutex_lock(&w->lock);
    GSource *source = w->over ? g_steal_pointer(&w->source) : NULL;
    if (source)
        set_turn(w, 0);
    g_mutex_unlock(&w->lock);
    if (source) {
        g_source_destroy(source);
        g_source_unref(source);
    } else if (!w->thread) {
        worker_start(w);
    }
}
