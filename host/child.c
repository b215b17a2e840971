/* child.c - child processes with limits; see child.h.
 *
 * Must stay true: whatever a child does (crash, hang, flood, fork), child_run_all returns within
 * the limit and leaves no process of the child's group behind.
 */
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    OUT, /* index of stdout in running.fds and of its text */
    ERR,
    OUT_MAX = 8 << 20, /* a schema is far smaller */
    ERR_MAX = 1 << 20, /* of which the tail is kept */
    TAIL = 4096,
    TICK_MS = 20, /* how often the end of a child is looked for */
};

typedef struct running {
    pid_t pid; /* 0 when this slot is free */
    int fds[2];
    size_t told; /* bytes on stderr so far */
    gint64 deadline_us;
    GString *err;
    child_report *report;
} running;

/* Between fork and exec: only calls that are safe there. */
static void become(char *const *argv, const int out[2], const int err[2])
{
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a host that is killed leaves no hung scan behind */
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    int null = open("/dev/null", O_RDONLY);
    dup2(null, 0);
    dup2(out[1], 1);
    dup2(err[1], 2);
    execv("/proc/self/exe", argv);
    _exit(127);
}

static bool start(running *r, const char *const *args, int limit_ms, child_report *report)
{
    int out[2], err[2];
    *report = (child_report){.out = g_string_new(NULL), .last_words = g_strdup(""), .code = -1};
    if (pipe2(out, O_CLOEXEC) < 0)
        return false;
    if (pipe2(err, O_CLOEXEC) < 0) {
        close(out[0]), close(out[1]);
        return false;
    }
    GPtrArray *argv = g_ptr_array_new();
    g_ptr_array_add(argv, (char *)"scope");
    for (int i = 0; args[i]; i++)
        g_ptr_array_add(argv, (char *)args[i]);
    g_ptr_array_add(argv, NULL);
    pid_t pid = fork();
    if (pid == 0)
        become((char *const *)argv->pdata, out, err);
    g_ptr_array_unref(argv);
    close(out[1]), close(err[1]);
    if (pid < 0) {
        close(out[0]), close(err[0]);
        return false;
    }
    setpgid(pid, pid); /* both sides do it, so that it holds whoever comes first */
    fcntl(out[0], F_SETFL, O_NONBLOCK);
    fcntl(err[0], F_SETFL, O_NONBLOCK);
    *r = (running){pid,
                   {out[0], err[0]},
                   0,
                   g_get_monotonic_time() + limit_ms * G_GINT64_CONSTANT(1000),
                   g_string_new(NULL),
                   report};
    return true;
}

/* Take in what is there; true while there is more to come soon. */
static bool drain(running *r, int which)
{
    char text[16384];
    if (r->fds[which] < 0)
        return false;
    ssize_t n = read(r->fds[which], text, sizeof text);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
        close(r->fds[which]);
        r->fds[which] = -1;
    }
    if (n <= 0)
        return false;
    if (which == OUT) {
        g_string_append_len(r->report->out, text, n);
        r->report->flooded |= r->report->out->len > OUT_MAX;
    } else {
        g_string_append_len(r->err, text, n);
        r->told += (size_t)n;
        r->report->flooded |= r->told > ERR_MAX;
        if (r->err->len > TAIL)
            g_string_erase(r->err, 0, (gssize)(r->err->len - TAIL));
    }
    return !r->report->flooded;
}

static char *last_line(const char *text)
{
    char *copy = g_strchomp(g_strdup(text));
    char *line = strrchr(copy, '\n');
    char *last = g_strndup(line ? line + 1 : copy, 160);
    g_free(copy);
    char *valid = g_utf8_make_valid(last, -1);
    g_free(last);
    return valid;
}

/* The child is over, or is made to be. */
static void finish(running *r)
{
    int status = 0;
    kill(-r->pid, SIGKILL); /* before it is reaped, while the group's number is surely its own */
    while (waitpid(r->pid, &status, 0) < 0 && errno == EINTR)
        ;
    for (int which = OUT; which <= ERR; which++) {
        while (drain(r, which))
            ;
        if (r->fds[which] >= 0)
            close(r->fds[which]);
    }
    if (WIFEXITED(status))
        r->report->code = WEXITSTATUS(status);
    else if (WIFSIGNALED(status) && !r->report->timed_out && !r->report->flooded)
        r->report->signal = WTERMSIG(status);
    g_free(r->report->last_words);
    r->report->last_words = last_line(r->err->str);
    g_string_free(r->err, TRUE);
    r->pid = 0;
}

static void tend(running *r)
{
    for (int which = OUT; which <= ERR; which++) {
        while (drain(r, which))
            ;
    }
    siginfo_t info = {0};
    bool over = waitid(P_PID, (id_t)r->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid;
    if (!over && g_get_monotonic_time() > r->deadline_us)
        over = r->report->timed_out = true;
    if (over || r->report->flooded)
        finish(r);
}

static void wait_for_any(const running *slots, int count)
{
    int tick = TICK_MS;
    struct pollfd *fds = g_new(struct pollfd, 2 * (gsize)count);
    for (int i = 0; i < count; i++) {
        const running *r = &slots[i];
        for (int which = OUT; which <= ERR; which++)
            fds[2 * i + which] = (struct pollfd){r->pid ? r->fds[which] : -1, POLLIN, 0};
        if (r->pid && r->fds[OUT] < 0 && r->fds[ERR] < 0)
            tick = 1; /* it has closed both: it is about to end */
    }
    poll(fds, (nfds_t)(2 * count), tick);
    g_free(fds);
}

void child_run_all(const char *const *const *args, int count, int limit_ms, child_report *reports)
{
    int width = MIN(count, (int)g_get_num_processors());
    running *slots = g_new0(running, (gsize)MAX(width, 1));
    for (int next = 0, left = count; left > 0;) {
        for (int i = 0; i < width; i++) {
            if (slots[i].pid) {
                tend(&slots[i]);
                left -= slots[i].pid == 0;
            }
            for (; !slots[i].pid && next < count; next++)
                left -= !start(&slots[i], args[next], limit_ms, &reports[next]);
        }
        if (left > 0)
            wait_for_any(slots, width);
    }
    g_free(slots);
}

void child_report_clear(child_report *report)
{
    if (report->out)
        g_string_free(report->out, TRUE);
    g_free(report->last_words);
    *report = (child_report){0};
}

void child_verdict(const child_report *report, int limit_ms, char why[256])
{
    const char *words = report->last_words;
    const char *dash = words[0] ? "; it last said: " : "";
    why[0] = '\0';
    if (report->timed_out)
        g_snprintf(why, 256, "hangs: not done after %.3g s%s%s", limit_ms * 1e-3, dash, words);
    else if (report->flooded) /* its last words are cut anywhere */
        g_snprintf(why, 256, "floods its output");
    else if (report->signal)
        g_snprintf(why, 256, "crashes (%s)%s%s", strsignal(report->signal), dash, words);
    else if (report->code < 0)
        g_snprintf(why, 256, "could not be looked at: no process for it");
    else if (report->code > 0)
        g_snprintf(why, 256, "exits the process by itself (code %d)%s%s", report->code, dash,
                   words);
}

int child_begin(void)
{
    static const int crashes[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    for (gsize i = 0; i < G_N_ELEMENTS(crashes); i++)
        signal(crashes[i], SIG_DFL);
    int report = fcntl(1, F_DUPFD_CLOEXEC, 3);
    dup2(2, 1);
    return report;
}
