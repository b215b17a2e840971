/* interrupt.c - Ctrl-C; see interrupt.h. Only async-signal-safe calls in the handler. */
#include "interrupt.h"
#include "command.h"

#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

static volatile sig_atomic_t seen;
static volatile sig_atomic_t has_part;
static char part[PATH_MAX];

static void on_signal(int number)
{
    (void)number;
    if (seen++ == 0)
        return;
    if (has_part)
        unlink(part);
    _exit(EXIT_INTERRUPTED);
}

void interrupt_install(void)
{
    struct sigaction act = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&act.sa_mask);
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGTERM, &act, NULL);
    act.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &act, NULL);
}

int interrupt_seen(void)
{
    return seen > 0;
}

void interrupt_removes(const char *path)
{
    has_part = 0;
    if (!path)
        return;
    snprintf(part, sizeof part, "%s", path);
    has_part = 1;
}
