/* worker.c - a worker process: one plugin, any number of instances of it, each on a thread.
 *
 * The child's side of remote.h. The first thread reads what the server says and puts it into the
 * mailboxes of the instances; everything that is done with an instance is done by its own thread,
 * so that [load] and [frame] calls never overlap. Must stay true: the first thread never waits for
 * plugin code; what waits in a mailbox is the latest of its kind.
 */
#include "../chain.h"
#include "../error.h"
#include "../media/elements.h"
#include "fence.h"
#include "remote.h"
#include "shared.h"
#include "wire.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { MADE_MAX = 16 }; /* frames of one call that wait to be sent, one an answer */

static struct {
    wire *wire;
    frame_pool *frames; /* behind fences */
    GMutex lock;        /* of `living` */
    GCond ended;
    int living; /* instance threads */
} all;

/* What the server said and the instance's thread has not yet seen. */
typedef struct mail {
    json_t *set; /* owned; {values, generation} */
    bool reset;
    GPtrArray *inputs; /* of `input`, owned */
    int region;        /* -1, or the descriptor of a new one */
    bool asked;        /* there is a frame in `frame` */
    wire_frame frame;
} mail;

typedef struct input {
    wire_input about;
    int region;
} input;

typedef struct seat {
    uint32_t id;
    json_t *open; /* owned */
    GMutex lock;  /* of `mail` */
    GCond some;
    mail mail;
    bool closing; /* atomic */
    /* of its own thread */
    chain *chain;
    converter *finish; /* to U8 and three channels */
    frame_pool *lent;  /* of frames that lie in `in` */
    void *at;          /* where the next of them lies */
    shared in, out;
    frame *made[MADE_MAX]; /* owned; the first goes first */
    int made_count;
    bool fresh; /* made[0] is of the call under way */
    /* of lines that it logs, in this second; atomic */
    int64_t second_us;
    int lines;
} seat;

static void seat_say(const seat *s, enum wire_kind kind, json_t *payload)
{
    wire_send_json(all.wire, kind, s->id, payload);
}

static json_t *sentence(const char *text)
{
    char *valid = g_utf8_make_valid(text, -1);
    json_t *j = json_string(valid);
    g_free(valid);
    return j;
}

/* ---- what the plugin says -------------------------------------------------------------------- */

static void on_log(void *ctx, int level, const char *id, const char *line)
{
    enum { LINES_A_SECOND = 50 };
    seat *s = ctx;
    (void)id;
    int64_t now = g_get_monotonic_time();
    if (now - __atomic_load_n(&s->second_us, __ATOMIC_RELAXED) > G_USEC_PER_SEC) {
        __atomic_store_n(&s->second_us, now, __ATOMIC_RELAXED);
        __atomic_store_n(&s->lines, 0, __ATOMIC_RELAXED);
    }
    int lines = __atomic_add_fetch(&s->lines, 1, __ATOMIC_RELAXED);
    if (lines > LINES_A_SECOND + 1)
        return;
    if (lines > LINES_A_SECOND)
        line = "(it logs more than anybody could read; the rest of this second is left out)";
    seat_say(s, WIRE_LOG, json_pack("{si so}", "level", level, "line", sentence(line)));
}

static void on_progress(void *ctx, double done, const char *phase)
{
    seat_say(ctx, WIRE_PROGRESS, json_pack("{sf so}", "done", done, "phase", sentence(phase)));
}

static int on_cancelled(void *ctx)
{
    const seat *s = ctx;
    return __atomic_load_n(&s->closing, __ATOMIC_RELAXED);
}

/* ---- loading --------------------------------------------------------------------------------- */

static int seat_open(seat *s, scope_error *err)
{
    json_int_t fit = json_integer_value(json_object_get(s->open, "fit"));
    registry_entry entry = {
        .path = (char *)json_string_value(json_object_get(s->open, "path")),
        .id = (char *)json_string_value(json_object_get(s->open, "id")),
    };
    run_plugins one = {.count = 1, .link = {{.entry = &entry}}};
    one.link[0].values = json_object_get(s->open, "values");
    instance_sink sink = {s, on_log, on_progress, on_cancelled, true};
    s->chain = chain_open(&one, (enum media_fit)fit, all.frames, &sink, err);
    if (!s->chain)
        return err->status < 0 ? err->status : SCOPE_EIO;
    const scope_video *want = instance_want(chain_at(s->chain, 0));
    return want->h || want->w ? media_init(err) : 0; /* it will scale */
}

static void tell_ready(const seat *s)
{
    const scope_video *w = instance_want(chain_at(s->chain, 0));
    seat_say(s, WIRE_READY,
             json_pack("{s[iiiii] so sO}", "want", w->t, w->h, w->w, w->c, w->dtype, "values",
                       instance_values(chain_at(s->chain, 0)), "generation",
                       json_object_get(s->open, "generation")));
}

/* ---- values and inputs ----------------------------------------------------------------------- */

static void put_values(seat *s, json_t *set)
{
    scope_error err = {0};
    instance *in = chain_at(s->chain, 0);
    instance_set(in, json_object_get(set, "values"), &err);
    json_t *why = err.status < 0 ? json_pack("{si so so}", "status", err.status, "field",
                                             sentence(err.field), "text", sentence(err.text))
                                 : json_null();
    seat_say(s, WIRE_VALUES,
             json_pack("{so sO so}", "values", instance_values(in), "generation",
                       json_object_get(set, "generation"), "error", why));
    json_decref(set);
}

static frame *copy_picture(const wire_picture *p, const shared *from, scope_error *err)
{
    size_t bytes = wire_picture_bytes(p);
    if (!shared_holds(from, p->offset, bytes))
        return NULL;
    scope_video shape = {.t = 1, .h = p->h, .w = p->w, .c = p->c, .dtype = p->dtype};
    frame *f = frame_new(all.frames, &shape, err);
    if (f)
        memcpy(f->v.data, from->data + p->offset, bytes);
    return f;
}

static void put_input(seat *s, const input *in)
{
    scope_error err = {0};
    frame *f = NULL;
    shared from;
    if (in->region >= 0 && shared_map(&from, in->region) == 0) {
        f = copy_picture(&in->about.in, &from, &err);
        shared_drop(&from);
    }
    if (chain_set_input(s->chain, g_intern_string(in->about.name), f, &err) < 0)
        on_log(s, SCOPE_WARN, NULL, err.text);
    frame_unref(f);
}

/* ---- frames ---------------------------------------------------------------------------------- */

static void *take_input(void *ctx, size_t bytes)
{
    const seat *s = ctx;
    (void)bytes;
    return s->at;
}

static void give_input(void *ctx, void *data, size_t bytes)
{
    (void)ctx, (void)data, (void)bytes; /* the region stays */
}

static void forget_made(seat *s)
{
    for (int i = 0; i < s->made_count; i++)
        frame_unref(s->made[i]);
    s->made_count = 0;
}

/* A plugin may answer with several frames, or with some for several calls. They go one an answer;
 * what an earlier call left over goes when a later one makes new ones. */
static int on_emit(void *ctx, frame *f, scope_error *err)
{
    seat *s = ctx;
    const scope_video want = {.c = 3, .dtype = SCOPE_U8};
    if (!s->fresh)
        forget_made(s);
    s->fresh = true;
    if (s->made_count == MADE_MAX)
        return 0;
    frame *done = converter_run(s->finish, f, &want, MEDIA_STRETCH, err);
    if (!done)
        return SCOPE_ENOMEM;
    s->made[s->made_count++] = done;
    return 0;
}

/* The input as a frame that lies where the server put it. */
static frame *seat_input(seat *s, const wire_picture *p, scope_error *err)
{
    if (!shared_holds(&s->in, p->offset, wire_picture_bytes(p))) {
        error_set(err, SCOPE_EINVAL, "", "a frame came that is not in its region");
        return NULL;
    }
    scope_video shape = {.t = 1, .h = p->h, .w = p->w, .c = p->c, .dtype = p->dtype};
    s->at = s->in.data + p->offset;
    frame *f = frame_new(s->lent, &shape, err);
    if (f) {
        f->v.pts_us = p->pts_us;
        f->duration_us = p->duration_us;
    }
    return f;
}

static int make(seat *s, const wire_frame *w, scope_error *err)
{
    const char *at;
    frame *in = NULL;
    if (!w->in.h && s->made_count)
        return 0; /* a generator that makes several at once */
    if (w->in.h && !(in = seat_input(s, &w->in, err)))
        return err->status;
    s->fresh = false;
    int status = SCOPE_EINVAL;
    if (!in != chain_generates(s->chain))
        error_set(err, status, "", in ? "a generator takes no input" : "a filter needs an input");
    else
        status = chain_push(s->chain, in, w->in.pts_us, w->in.duration_us, on_emit, s, &at, err);
    frame_unref(in);
    return status;
}

/* Put a finished frame where the server reads it. */
static int hand_over(seat *s, const frame *f, wire_picture *p, scope_error *err)
{
    *p = (wire_picture){.h = f->v.h,
                        .w = f->v.w,
                        .c = f->v.c,
                        .dtype = f->v.dtype,
                        .pts_us = f->v.pts_us,
                        .duration_us = f->duration_us};
    size_t bytes = wire_picture_bytes(p);
    if (!shared_suits(&s->out, bytes)) {
        shared_drop(&s->out);
        if (shared_make(&s->out, bytes) < 0) {
            p->h = 0;
            return error_set(err, SCOPE_ENOMEM, "", "no memory to send a frame of %d x %d in",
                             f->v.w, f->v.h);
        }
        wire_send(all.wire, WIRE_REGION, s->id, NULL, 0, s->out.fd);
    }
    p->offset = shared_place(&s->out, bytes);
    memcpy(s->out.data + p->offset, f->v.data, bytes);
    return 0;
}

static void answer(seat *s, const wire_frame *w)
{
    wire_result r = {.serial = w->serial};
    int status = make(s, w, &r.err);
    if (status == 0 && s->made_count > 0) {
        r.same = w->in.h && s->made[0]->v.data == s->at;
        if (!r.same)
            status = hand_over(s, s->made[0], &r.out, &r.err);
        frame_unref(s->made[0]);
        memmove(s->made, s->made + 1, (size_t)--s->made_count * sizeof *s->made);
    }
    if (status == 0)
        r.err = (scope_error){0};
    else
        r.err.status = status;
    r.process_ms = chain_last_ms(s->chain);
    r.repeated = chain_repeated(s->chain);
    r.latency = status == SCOPE_EDEVICE ? -1 : instance_latency(chain_at(s->chain, 0));
    wire_send(all.wire, WIRE_RESULT, s->id, &r, sizeof r, -1);
}

/* ---- the instance's thread ------------------------------------------------------------------- */

static void input_free(gpointer p)
{
    input *in = p;
    if (in->region >= 0)
        close(in->region);
    g_free(in);
}

static void mail_fini(mail *m)
{
    json_decref(m->set);
    if (m->inputs)
        g_ptr_array_unref(m->inputs);
    if (m->region >= 0)
        close(m->region);
}

/* Wait for mail and take it; false when the instance is to close. */
static bool fetch(seat *s, mail *m)
{
    g_mutex_lock(&s->lock);
    while (!s->closing && !s->mail.set && !s->mail.reset && !s->mail.inputs && !s->mail.asked)
        g_cond_wait(&s->some, &s->lock);
    *m = s->mail;
    s->mail = (mail){.region = -1};
    bool open = !s->closing;
    g_mutex_unlock(&s->lock);
    if (!open)
        mail_fini(m);
    return open;
}

static void take_region(seat *s, int fd)
{
    forget_made(s); /* a frame that was returned unchanged may lie in the old one */
    if (s->in.data)
        fence_remove(s->in.data);
    shared_drop(&s->in);
    if (shared_map(&s->in, fd) == 0)
        fence_add(s->in.data, s->in.bytes);
}

static void serve(seat *s)
{
    mail m;
    while (fetch(s, &m)) {
        if (m.region >= 0)
            take_region(s, m.region);
        m.region = -1;
        if (m.set)
            put_values(s, m.set);
        m.set = NULL;
        for (guint i = 0; m.inputs && i < m.inputs->len; i++) {
            input *in = g_ptr_array_index(m.inputs, i);
            put_input(s, in);
            in->region = -1; /* it was taken */
        }
        if (m.reset) {
            forget_made(s);
            instance_reset(chain_at(s->chain, 0));
        }
        if (m.asked)
            answer(s, &m.frame);
        mail_fini(&m);
    }
}

static void seat_free(seat *s)
{
    forget_made(s);
    chain_close(s->chain);
    converter_free(s->finish);
    frame_pool_free(s->lent);
    if (s->in.data)
        fence_remove(s->in.data);
    shared_drop(&s->in);
    shared_drop(&s->out);
    mail_fini(&s->mail);
    json_decref(s->open);
    g_mutex_clear(&s->lock);
    g_cond_clear(&s->some);
    g_free(s);
}

/* Room for the handler of a crash, where it is the stack that overflowed. */
static void use_other_stack(void *room, size_t bytes)
{
    sigaltstack(&(stack_t){.ss_sp = room, .ss_size = bytes, .ss_flags = room ? 0 : SS_DISABLE},
                NULL);
}

static gpointer seat_thread(gpointer p)
{
    enum { ROOM = 64 << 10 };
    seat *s = p;
    void *room = g_malloc(ROOM);
    use_other_stack(room, ROOM);
    scope_error err = {0};
    if (seat_open(s, &err) == 0) {
        tell_ready(s);
        serve(s);
    } else {
        wire_send(all.wire, WIRE_FAILED, s->id, &err, sizeof err, -1);
        mail m;
        while (fetch(s, &m)) /* until it is closed */
            mail_fini(&m);
    }
    seat_free(s);
    use_other_stack(NULL, 0);
    g_free(room);
    g_mutex_lock(&all.lock);
    all.living--;
    g_cond_signal(&all.ended);
    g_mutex_unlock(&all.lock);
    return NULL;
}

/* ---- the first thread ------------------------------------------------------------------------ */

static void close_seat(gpointer p)
{
    seat *s = p;
    g_mutex_lock(&s->lock);
    __atomic_store_n(&s->closing, true, __ATOMIC_RELAXED);
    g_cond_signal(&s->some);
    g_mutex_unlock(&s->lock);
}

static seat *new_seat(const wire_message *m)
{
    json_t *open = wire_json(m);
    if (!open)
        return NULL;
    seat *s = g_new0(seat, 1);
    s->id = m->instance;
    s->open = open;
    s->mail.region = s->in.fd = s->out.fd = -1;
    s->finish = converter_new(all.frames);
    s->lent = frame_pool_new_in(&(frame_memory){s, take_input, give_input, true});
    g_mutex_init(&s->lock);
    g_cond_init(&s->some);
    g_mutex_lock(&all.lock);
    all.living++;
    g_mutex_unlock(&all.lock);
    g_thread_unref(g_thread_new("instance", seat_thread, s));
    return s;
}

static void put_mail(seat *s, const wire_message *m)
{
    mail *to = &s->mail;
    int fd = m->fd;
    g_mutex_lock(&s->lock);
    if (m->kind == WIRE_SET) {
        json_decref(to->set);
        to->set = wire_json(m);
    } else if (m->kind == WIRE_RESET) {
        to->reset = true;
    } else if (m->kind == WIRE_REGION) {
        if (to->region >= 0)
            close(to->region);
        to->region = fd;
        fd = -1;
    } else if (m->kind == WIRE_FRAME && m->bytes == sizeof to->frame) {
        memcpy(&to->frame, m->payload, sizeof to->frame);
        to->asked = true;
    } else if (m->kind == WIRE_INPUT && m->bytes == sizeof(wire_input)) {
        input *in = g_new(input, 1);
        memcpy(&in->about, m->payload, sizeof in->about);
        in->region = fd;
        fd = -1;
        if (!to->inputs)
            to->inputs = g_ptr_array_new_with_free_func(input_free);
        g_ptr_array_add(to->inputs, in);
    }
    g_cond_signal(&s->some);
    g_mutex_unlock(&s->lock);
    if (fd >= 0)
        close(fd);
}

static void listen_to_server(void)
{
    GHashTable *seats = g_hash_table_new_full(NULL, NULL, NULL, close_seat);
    wire_message m;
    int more = 0;
    while (more >= 0 && wire_fill(all.wire) > 0) {
        while ((more = wire_next(all.wire, &m)) > 0) {
            gpointer key = GUINT_TO_POINTER(m.instance);
            seat *s = g_hash_table_lookup(seats, key);
            if (m.kind == WIRE_OPEN && (s = new_seat(&m)))
                g_hash_table_insert(seats, key, s);
            else if (m.kind == WIRE_CLOSE)
                g_hash_table_remove(seats, key);
            else if (s)
                put_mail(s, &m);
            else if (m.fd >= 0)
                close(m.fd);
        }
    }
    g_hash_table_destroy(seats);
    g_mutex_lock(&all.lock);
    while (all.living > 0) /* the server ends those that take too long */
        g_cond_wait(&all.ended, &all.lock);
    g_mutex_unlock(&all.lock);
}

/* ---- the process ----------------------------------------------------------------------------- */

static void utter(const char *text)
{
    (void)!write(2, text, strlen(text));
}

/* Does the access that faulted write? Where the machine does not tell, nobody knows. */
static const char *verb(const void *context)
{
#ifdef __x86_64__
    const ucontext_t *c = context;
    return c->uc_mcontext.gregs[REG_ERR] & 2 ? "wrote " : "read ";
#else
    (void)context;
    return "reached ";
#endif
}

static void on_crash(int signal_number, siginfo_t *info, void *context)
{
    const char *how = fence_explain(info->si_addr);
    if (how) {
        utter("\n" WIRE_LAST_WORDS);
        utter(verb(context));
        utter(how);
        utter("\n");
    }
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

static void set_signals(void)
{
    static const int plain[] = {SIGFPE, SIGILL, SIGABRT};
    /* Whoever stops the server means the server; it ends its workers itself. */
    static const int ignored[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE};
    struct sigaction crash = {.sa_sigaction = on_crash, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    for (size_t i = 0; i < G_N_ELEMENTS(plain); i++)
        signal(plain[i], SIG_DFL);
    for (size_t i = 0; i < G_N_ELEMENTS(ignored); i++)
        signal(ignored[i], SIG_IGN);
    sigaction(SIGSEGV, &crash, NULL);
    sigaction(SIGBUS, &crash, NULL);
}

/* When memory runs out, a worker goes before the server. */
static void volunteer(void)
{
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        (void)!write(fd, "500", 3);
        close(fd);
    }
}

int worker_child(const char *fd)
{
    int socket = atoi(fd);
    fcntl(socket, F_SETFD, FD_CLOEXEC);
    setvbuf(stdout, NULL, _IOLBF, 0); /* it is a pipe, and a crash loses what waits */
    set_signals();
    volunteer();
    frame_memory memory = fence_memory();
    all.frames = frame_pool_new_in(&memory);
    all.wire = wire_new(socket, true);
    listen_to_server();
    _exit(0); /* the system takes it all back; no destructor of a plugin is asked */
}
