/* process.c - one worker process, from its start to the words for its end; see process.h.
 *
 * Must stay true: a process that was started is waited for exactly once, and nothing of its group
 * is left then.
 */
#include "process.h"
#include "wire.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WORKER_FD = 3, LINES_A_SECOND = 50 };

/* ---- start ----------------------------------------------------------------------------------- */

/* A name like SCOPE_TOKEN or AWS_SECRET_ACCESS_KEY: nothing for a plugin. */
static bool is_secret(const char *name)
{
    static const char *const words[] = {"TOKEN", "SECRET", "PASSWORD", "PASSWD", "KEY"};
    for (size_t i = 0; i < G_N_ELEMENTS(words); i++) {
        if (strstr(name, words[i]))
            return true;
    }
    return false;
}

static char **make_environment(bool whole)
{
    char **all = g_get_environ(), **kept = g_new0(char *, g_strv_length(all) + 1);
    int count = 0;
    for (char **v = all; *v; v++) {
        char *name = g_strndup(*v, strcspn(*v, "="));
        char *upper = g_ascii_strup(name, -1);
        if (whole || !is_secret(upper))
            kept[count++] = g_strdup(*v);
        g_free(upper);
        g_free(name);
    }
    g_strfreev(all);
    return kept;
}

/* Between fork and exec: only calls that are safe there. */
static void become(const char *program, char **environment, int socket, int output, pid_t parent)
{
    char *argv[] = {"scope", "--worker", "3", NULL};
    setpgid(0, 0); /* Ctrl-C in the server's terminal is not for it */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) /* it was gone before we asked */
        _exit(127);
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    int high = fcntl(socket, F_DUPFD_CLOEXEC, WORKER_FD + 1);
    int out = fcntl(output, F_DUPFD_CLOEXEC, WORKER_FD + 1);
    int null = open("/dev/null", O_RDONLY);
    dup2(null, 0);
    dup2(out, 1);
    dup2(out, 2);
    dup2(high, WORKER_FD);
    close_range(WORKER_FD + 1, ~0U, 0);
    execve(program, argv, environment);
    _exit(127);
}

int process_start(process *p, const char *program, bool whole_environment)
{
    int pair[2], output[2];
    *p = (process){.socket = -1, .output = -1};
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    if (pipe2(output, O_CLOEXEC) < 0) {
        int why = errno;
        close(pair[0]), close(pair[1]);
        return -why;
    }
    char **environment = make_environment(whole_environment);
    pid_t parent = getpid(), pid = fork();
    int why = errno;
    if (pid == 0)
        become(program, environment, pair[1], output[1], parent);
    g_strfreev(environment);
    close(pair[1]), close(output[1]);
    if (pid < 0) {
        close(pair[0]), close(output[0]);
        return -why;
    }
    setpgid(pid, pid); /* both sides do it, so that it holds whoever comes first */
    fcntl(output[0], F_SETFL, O_NONBLOCK);
    p->pid = pid;
    p->socket = pair[0];
    p->output = output[0];
    p->line = g_string_new(NULL);
    return 0;
}

/* ---- what it prints -------------------------------------------------------------------------- */

static void take_line(process *p, void (*say)(void *ctx, const char *line), void *ctx)
{
    char *line = g_utf8_make_valid(p->line->str, (gssize)p->line->len);
    g_string_truncate(p->line, 0);
    g_strchomp(line);
    int64_t now = g_get_monotonic_time();
    if (now - p->second_us > G_USEC_PER_SEC) {
        p->second_us = now;
        p->lines = 0;
    }
    if (g_str_has_prefix(line, WIRE_LAST_WORDS)) {
        g_strlcpy(p->last_words, line + strlen(WIRE_LAST_WORDS), sizeof p->last_words);
    } else if (line[0]) {
        g_strlcpy(p->last_line, line, sizeof p->last_line);
        if (p->lines++ < LINES_A_SECOND)
            say(ctx, line);
        else if (p->lines == LINES_A_SECOND + 1)
            say(ctx,
                "(it prints more than anybody could read; the rest of this second is left out)");
    }
    g_free(line);
}

void process_listen(process *p, void (*say)(void *ctx, const char *line), void *ctx)
{
    enum { LONGEST = 2000, ROUNDS = 16 }; /* who floods does not keep us from the rest */
    char text[4096];
    for (int round = 0; p->output >= 0 && round < ROUNDS; round++) {
        ssize_t n = read(p->output, text, sizeof text);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0) {
            if (p->line->len)
                take_line(p, say, ctx);
            close(p->output);
            p->output = -1;
            return;
        }
        for (ssize_t i = 0; i < n; i++) {
            if (text[i] == '\n' || p->line->len == LONGEST)
                take_line(p, say, ctx);
            if (text[i] != '\n')
                g_string_append_c(p->line, text[i]);
        }
    }
}

/* ---- end ------------------------------------------------------------------------------------- */

bool process_is_over(const process *p)
{
    siginfo_t info = {0};
    return waitid(P_PID, (id_t)p->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid;
}

void process_end(process *p, int *status)
{
    kill(-p->pid, SIGKILL); /* before it is reaped, while the group's number is surely its own */
    kill(p->pid, SIGKILL);
    while (waitpid(p->pid, status, 0) < 0 && errno == EINTR)
        ;
}

void process_fini(process *p)
{
    if (p->output >= 0)
        close(p->output);
    if (p->line)
        g_string_free(p->line, TRUE);
    *p = (process){.socket = -1, .output = -1};
}

void process_verdict(const process *p, int status, const char *name, char *why, size_t size)
{
    const char *dash = p->last_line[0] ? "; it last said: " : "";
    if (p->last_words[0])
        g_snprintf(why, size, "%s %s", name, p->last_words);
    else if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
        g_snprintf(why, size, "%s was killed from outside; did memory run out?", name);
    else if (WIFSIGNALED(status))
        g_snprintf(why, size, "%s crashed (%s)%s%s", name, strsignal(WTERMSIG(status)), dash,
                   p->last_line);
    else if (WEXITSTATUS(status) == 127)
        g_snprintf(why, size, "the worker of %s could not be started", name);
    else
        g_snprintf(why, size, "%s exited by itself (code %d)%s%s", name, WEXITSTATUS(status), dash,
                   p->last_line);
}

int64_t process_rss(pid_t pid)
{
    char path[64], text[128] = "";
    long long all, resident = 0;
    g_snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    (void)!read(fd, text, sizeof text - 1);
    close(fd);
    if (sscanf(text, "%lld %lld", &all, &resident) != 2)
        return 0;
    return resident * sysconf(_SC_PAGESIZE);
}
