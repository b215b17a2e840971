/* reader.c - the thread of a worker: hears what its process says, and watches over it.
 *
 * Must stay true: nothing that comes from the process is believed before it is checked; what makes
 * no sense ends the process. Owners are called back with remote.calling held and worker.lock not.
 */
#include "crew.h"

#include "../error.h"
#include "../log.h"

#include <errno.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TICK_MS = 500, TICK_MIN_MS = 10 };

__attribute__((format(printf, 2, 3))) static void doom(worker *w, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    g_mutex_lock(&w->lock);
    if (!w->doomed[0])
        g_vsnprintf(w->doomed, sizeof w->doomed, fmt, ap);
    g_mutex_unlock(&w->lock);
    va_end(ap);
}

/* Text that is what it should be: it ends, and it is UTF-8. */
static void mend(char *text, size_t size)
{
    const char *end;
    text[size - 1] = '\0';
    char *valid = g_utf8_make_valid(text, -1);
    g_strlcpy(text, valid, size);
    g_utf8_validate(text, -1, &end);
    text[end - text] = '\0'; /* where the room was not enough for a whole character */
    g_free(valid);
}

static void mend_error(scope_error *err)
{
    mend(err->field, sizeof err->field);
    mend(err->text, sizeof err->text);
}

/* ---- what one message means; false: nonsense ------------------------------------------------- */

static json_t *checked_values(const remote *r, const json_t *message)
{
    schema_error cause;
    const json_t *values = json_object_get(message, "values");
    return json_is_object(values) ? schema_complete(r->schema, values, &cause) : NULL;
}

static bool read_want(const json_t *j, scope_video *want)
{
    int *to[] = {&want->t, &want->h, &want->w, &want->c, &want->dtype};
    *want = (scope_video){.device = SCOPE_CPU};
    for (size_t i = 0; i < G_N_ELEMENTS(to); i++) {
        const json_t *n = json_array_get(j, i);
        if (!json_is_integer(n) || json_integer_value(n) < 0 || json_integer_value(n) > 32768)
            return false;
        *to[i] = (int)json_integer_value(n);
    }
    return frame_dtype_size(want->dtype) > 0;
}

/* With worker.lock held: these values are in force. */
static void put_in_force(worker *w, remote *r, json_t *values, uint64_t generation)
{
    enum { ONE_MORE = 1 };
    json_decref(r->force);
    r->force = json_incref(values);
    r->force_generation = generation;
    r->unanswered = generation == r->sent_generation ? 0 : ONE_MORE;
    if (r->asked_generation > r->sent_generation)
        worker_tell_values(w, r);
}

static bool on_ready(worker *w, remote *r, const json_t *j)
{
    scope_video want;
    uint64_t generation = (uint64_t)json_integer_value(json_object_get(j, "generation"));
    json_t *values = checked_values(r, j);
    g_mutex_lock(&w->lock);
    bool good = values && read_want(json_object_get(j, "want"), &want) &&
                r->state == REMOTE_LOADING && r->opened && generation == r->force_generation;
    if (good) {
        r->state = REMOTE_READY;
        r->young = REMOTE_YOUNG;
        int unanswered = r->unanswered; /* of messages that came after the one to open */
        put_in_force(w, r, values, generation);
        r->unanswered = MAX(r->unanswered, unanswered);
        if (!w->ready_us)
            w->ready_us = g_get_monotonic_time();
    }
    g_mutex_unlock(&w->lock);
    if (good && r->calls.ready)
        r->calls.ready(r->calls.ctx, &want, values, generation);
    json_decref(values);
    return good;
}

static bool on_values(worker *w, remote *r, const json_t *j)
{
    uint64_t generation = (uint64_t)json_integer_value(json_object_get(j, "generation"));
    const json_t *error = json_object_get(j, "error");
    json_t *values = checked_values(r, j);
    scope_error err = {0};
    if (json_is_object(error)) {
        const char *field = json_string_value(json_object_get(error, "field"));
        const char *text = json_string_value(json_object_get(error, "text"));
        error_set(&err, SCOPE_EINVAL, field ? field : "", "%s", text ? text : "");
        mend_error(&err);
    }
    g_mutex_lock(&w->lock);
    bool good = values && r->state == REMOTE_READY && generation >= r->force_generation &&
                generation <= r->sent_generation;
    if (good)
        put_in_force(w, r, values, generation);
    g_mutex_unlock(&w->lock);
    if (good && r->calls.values)
        r->calls.values(r->calls.ctx, values, generation, err.status ? &err : NULL);
    json_decref(values);
    return good;
}

static bool on_failed(worker *w, remote *r, const wire_message *m)
{
    remote_fault fault = {.retry_ms = -1};
    if (m->bytes != sizeof fault.err)
        return false;
    memcpy(&fault.err, m->payload, sizeof fault.err);
    mend_error(&fault.err);
    g_mutex_lock(&w->lock);
    bool good = r->state == REMOTE_LOADING && r->opened && fault.err.status < 0;
    bool lost = fault.err.status == SCOPE_EDEVICE;
    if (good && !lost) {
        r->state = REMOTE_FAILED;
        if (!worker_has(w, REMOTE_LOADING) && !worker_has(w, REMOTE_READY))
            worker_stop(w);
        g_snprintf(w->last_fault, sizeof w->last_fault, "%s", fault.err.text);
    }
    g_mutex_unlock(&w->lock);
    if (good && lost)
        doom(w, "%s: %s", w->name, fault.err.text);
    else if (good && r->calls.down)
        r->calls.down(r->calls.ctx, &fault);
    return good;
}

/* The picture in the region, as a frame of ours, or what was sent; false: nonsense. */
static bool fetch_result(worker *w, const remote *r, wire_result *result, frame *sent, frame **out)
{
    const wire_picture *p = &result->out;
    if (result->same) {
        bool good = sent && sent->v.c == 3 && sent->v.dtype == SCOPE_U8;
        *out = good ? frame_ref(sent) : NULL;
        return good;
    }
    if (!p->h)
        return true;
    size_t bytes = wire_picture_bytes(p);
    if (p->c != 3 || p->dtype != SCOPE_U8 || !shared_holds(&r->out, p->offset, bytes))
        return false;
    scope_video shape = {.t = 1, .h = p->h, .w = p->w, .c = p->c, .dtype = p->dtype};
    frame *f = frame_new(w->all->pool, &shape, &result->err);
    if (f) {
        memcpy(f->v.data, r->out.data + p->offset, bytes);
        f->v.pts_us = p->pts_us;
        f->duration_us = p->duration_us;
    }
    *out = f;
    return true;
}

static bool on_result(worker *w, remote *r, const wire_message *m)
{
    wire_result result;
    frame *out = NULL;
    if (m->bytes != sizeof result)
        return false;
    memcpy(&result, m->payload, sizeof result);
    g_mutex_lock(&w->lock);
    bool good = r->flight == FLIGHT_SENT && r->serial == result.serial && result.err.status <= 0;
    frame *sent = good ? g_steal_pointer(&r->sent) : NULL;
    int64_t sent_us = r->sent_us;
    g_mutex_unlock(&w->lock);
    if (result.err.status)
        mend_error(&result.err);
    else if (good)
        good = fetch_result(w, r, &result, sent, &out);
    frame_unref(sent);
    if (!good)
        return false;
    if (result.err.status == SCOPE_EDEVICE)
        doom(w, "%s: %s", w->name, result.err.text);
    g_mutex_lock(&w->lock);
    r->flight = FLIGHT_NONE;
    r->young -= r->young > 0;
    w->worked = true;
    g_mutex_unlock(&w->lock);
    remote_cost cost = {.process_ms = result.process_ms,
                        .trip_ms = (double)(g_get_monotonic_time() - sent_us) * 1e-3,
                        .repeated = result.repeated,
                        .latency = CLAMP(result.latency, -1, 255)};
    if (r->calls.result)
        r->calls.result(r->calls.ctx, out, &cost, result.err.status ? &result.err : NULL);
    frame_unref(out);
    return true;
}

static bool on_progress(const remote *r, const json_t *j)
{
    const char *phase = json_string_value(json_object_get(j, "phase"));
    double done = json_number_value(json_object_get(j, "done"));
    if (phase && r->calls.progress)
        r->calls.progress(r->calls.ctx, CLAMP(done, 0, 1), phase);
    return phase != NULL;
}

static bool on_log(const remote *r, const json_t *j)
{
    const char *line = json_string_value(json_object_get(j, "line"));
    int level = (int)json_integer_value(json_object_get(j, "level"));
    if (line && r->calls.log)
        r->calls.log(r->calls.ctx, CLAMP(level, SCOPE_DEBUG, SCOPE_ERROR), line);
    return line != NULL;
}

static bool on_region(remote *r, wire_message *m)
{
    int fd = m->fd;
    m->fd = -1;
    shared_drop(&r->out);
    return fd >= 0 && shared_map(&r->out, fd) == 0;
}

static bool on_json(worker *w, remote *r, const wire_message *m)
{
    json_t *j = wire_json(m);
    bool good = false;
    if (j && m->kind == WIRE_READY)
        good = on_ready(w, r, j);
    else if (j && m->kind == WIRE_VALUES)
        good = on_values(w, r, j);
    else if (j && m->kind == WIRE_PROGRESS)
        good = on_progress(r, j);
    else if (j && m->kind == WIRE_LOG)
        good = on_log(r, j);
    json_decref(j);
    return good;
}

/* ---- hearing --------------------------------------------------------------------------------- */

/* The remote of this number; NULL when it has been closed, false in *known when it never was. */
static remote *find(worker *w, uint32_t id, bool *known)
{
    remote *found = NULL;
    g_mutex_lock(&w->lock);
    *known = id > 0 && id <= w->last_id;
    for (guint i = 0; i < w->members->len && !found; i++) {
        remote *r = g_ptr_array_index(w->members, i);
        found = r->id == id ? remote_ref(r) : NULL;
    }
    g_mutex_unlock(&w->lock);
    return found;
}

static bool hear(worker *w, wire_message *m)
{
    bool good;
    remote *r = find(w, m->instance, &good);
    if (r) {
        g_mutex_lock(&r->calling);
        if (r->closed)
            good = true;
        else if (m->kind == WIRE_RESULT)
            good = on_result(w, r, m);
        else if (m->kind == WIRE_REGION)
            good = on_region(r, m);
        else if (m->kind == WIRE_FAILED)
            good = on_failed(w, r, m);
        else
            good = on_json(w, r, m);
        g_mutex_unlock(&r->calling);
        remote_unref(r);
    }
    if (m->fd >= 0)
        close(m->fd);
    return good;
}

/* False when nothing more will come. */
static bool hear_all(worker *w)
{
    wire_message m;
    int status = wire_fill(w->wire), more = 0;
    while (status > 0 && (more = wire_next(w->wire, &m)) > 0) {
        if (!hear(w, &m))
            more = -1;
        if (more < 0)
            break;
    }
    if (more < 0)
        doom(w, "the worker of %s sent something that makes no sense", w->name);
    return status >= 0 && more >= 0;
}

static void say(void *ctx, const char *line)
{
    const worker *w = ctx;
    char about[112];
    g_snprintf(about, sizeof about, "worker %s", w->name);
    log_line(SCOPE_INFO, about, "%s", line);
}

/* ---- watching -------------------------------------------------------------------------------- */

static void watch_frames(worker *w, int64_t now)
{
    double late_s = 0;
    g_mutex_lock(&w->lock);
    for (guint i = 0; i < w->members->len; i++) {
        const remote *r = g_ptr_array_index(w->members, i);
        if (r->flight == FLIGHT_SENT && now > r->deadline_us)
            late_s = (double)(r->deadline_us - r->sent_us) * 1e-6;
    }
    g_mutex_unlock(&w->lock);
    if (late_s > 0)
        doom(w, "%s did not answer for %.3g s", w->name, late_s);
}

static void watch_memory(worker *w)
{
    int64_t limit = w->all->options.memory_bytes;
    int64_t rss = limit > 0 ? process_rss(w->process.pid) : 0;
    if (rss > limit)
        doom(w, "%s took %" G_GINT64_FORMAT " MB of memory; its limit is %" G_GINT64_FORMAT " MB",
             w->name, rss >> 20, limit >> 20);
}

/* Every so often; true when it is time to end. */
static bool watch(worker *w, int64_t *next_us)
{
    int64_t now = g_get_monotonic_time();
    watch_frames(w, now);
    bool over = false;
    if (now >= *next_us) {
        *next_us = now + TICK_MS * G_GINT64_CONSTANT(1000);
        watch_memory(w);
        over = process_is_over(&w->process); /* others may hold its end of the socket */
    }
    g_mutex_lock(&w->lock);
    over |= w->doomed[0] || (w->stopping && now > w->stop_us);
    g_mutex_unlock(&w->lock);
    return over;
}

/* Send what could not be sent at once; when the process is to stop, the end after that. */
static void send_rest(worker *w, bool *ended)
{
    wire_flush(w->wire);
    g_mutex_lock(&w->lock);
    bool end = w->stopping && !*ended && !wire_is_behind(w->wire);
    g_mutex_unlock(&w->lock);
    if (end)
        wire_end(w->wire);
    *ended |= end;
}

static void listen_to_process(worker *w)
{
    const remotes_options *o = &w->all->options;
    int tick = CLAMP(MIN(o->frame_limit_ms, o->first_limit_ms) / 4, TICK_MIN_MS, TICK_MS);
    int64_t next_us = 0;
    bool ended = false;
    do {
        short events = POLLIN | (wire_is_behind(w->wire) ? POLLOUT : 0);
        struct pollfd fds[] = {
            {w->process.socket, events, 0}, {w->process.output, POLLIN, 0}, {w->wake, POLLIN, 0}};
        poll(fds, G_N_ELEMENTS(fds), tick);
        uint64_t woken;
        (void)!read(w->wake, &woken, sizeof woken);
        process_listen(&w->process, say, w);
        send_rest(w, &ended);
    } while (hear_all(w) && !watch(w, &next_us));
}

/* ---- the end --------------------------------------------------------------------------------- */

/* Milliseconds until the next start. Who is killed from outside after good work is not made to wait
 * for long, however often it happens. */
static int back_off(worker *w, bool outside)
{
    static const int ladder[] = {100, 300, 1000, 3000, 10000};
    const int64_t healthy_us = G_USEC_PER_SEC;
    int last = outside && w->worked ? 1 : (int)G_N_ELEMENTS(ladder) - 1;
    if (w->ready_us && g_get_monotonic_time() - w->ready_us > healthy_us)
        w->failures = 0;
    int step = w->failures++;
    return ladder[MIN(step, last)];
}

/* The process is gone: everything that was under way in it is lost. */
static void forget_process(worker *w, GPtrArray *hit)
{
    g_mutex_lock(&w->lock);
    wire *gone = g_steal_pointer(&w->wire);
    for (guint i = 0; i < w->members->len; i++) {
        remote *r = g_ptr_array_index(w->members, i);
        if (r->state != REMOTE_FAILED && (r->opened || !gone))
            g_ptr_array_add(hit, remote_ref(r));
        if (r->state == REMOTE_READY)
            r->state = REMOTE_LOADING;
        if (r->flight == FLIGHT_SENT)
            r->flight = FLIGHT_NONE;
        g_clear_pointer(&r->sent, frame_unref);
        r->opened = false;
    }
    g_mutex_unlock(&w->lock);
    wire_free(gone);
}

static void tell_down(GPtrArray *hit, const remote_fault *fault)
{
    for (guint i = 0; i < hit->len; i++) {
        remote *r = g_ptr_array_index(hit, i);
        g_mutex_lock(&r->calling);
        shared_drop(&r->out);
        if (!r->closed && r->calls.down)
            r->calls.down(r->calls.ctx, fault);
        g_mutex_unlock(&r->calling);
    }
}

/* Let it end by itself, so that it can be told why; but not for ever. */
static void await_end(worker *w)
{
    enum { GRACE_MS = 2000, STEP_MS = 2 };
    int waited = 0;
    for (; waited < GRACE_MS && !process_is_over(&w->process); waited += STEP_MS)
        g_usleep(STEP_MS * 1000);
    if (waited >= GRACE_MS)
        doom(w, "%s closed its connection to the server", w->name);
}

static void end_process(worker *w, bool *outside)
{
    int status = 0;
    g_mutex_lock(&w->lock);
    bool doomed = w->doomed[0] || (w->stopping && g_get_monotonic_time() > w->stop_us);
    g_mutex_unlock(&w->lock);
    if (!doomed)
        await_end(w);
    process_end(&w->process, &status);
    process_listen(&w->process, say, w);
    g_mutex_lock(&w->lock);
    *outside = !w->doomed[0] && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    if (!w->doomed[0])
        process_verdict(&w->process, status, w->name, w->doomed, sizeof w->doomed);
    mend(w->doomed, sizeof w->doomed);
    g_mutex_unlock(&w->lock);
}

gpointer reader_thread(gpointer p)
{
    worker *w = p;
    GPtrArray *hit = g_ptr_array_new_with_free_func((GDestroyNotify)remote_unref);
    bool outside = false;
    if (w->wire) {
        listen_to_process(w);
        end_process(w, &outside);
    }
    forget_process(w, hit);
    process_fini(&w->process);
    remote_fault fault = {0};
    g_mutex_lock(&w->lock);
    bool quiet = w->stopping;
    if (!quiet) {
        fault.retry_ms = back_off(w, outside);
        error_set(&fault.err, SCOPE_EDEVICE, "", "%s", w->doomed);
        g_strlcpy(w->last_fault, w->doomed, sizeof w->last_fault);
        w->restarts++;
    }
    g_mutex_unlock(&w->lock);
    if (!quiet) {
        char about[112];
        g_snprintf(about, sizeof about, "worker %s", w->name);
        log_line(SCOPE_ERROR, about, "%s; starting it again in %.1f s", fault.err.text,
                 fault.retry_ms * 1e-3);
        tell_down(hit, &fault);
    }
    g_ptr_array_unref(hit);
    worker_over(w, quiet ? 0 : fault.retry_ms);
    return NULL;
}
