/* main.c - `scope`: the way to a subcommand. */
#include "command.h"
#include "judge.h"
#include "registry.h"
#include "version.h"
#include "worker/remote.h"

#include "../plugin/scope_abi.h"

#include <locale.h>
#include <stdlib.h>
#include <string.h>

/* What the host asks of itself in child processes; no person types these. */
static bool serve_parent(int argc, char **argv, int *code)
{
    if (argc == 3 && !strcmp(argv[1], "--scan"))
        *code = registry_scan_child(argv[2]);
    else if (argc == 6 && !strcmp(argv[1], "--judge"))
        *code = judge_child(argv[2], argv[3], argv[4], argv[5]);
    else if (argc == 3 && !strcmp(argv[1], "--worker"))
        *code = worker_child(argv[2]);
    else
        return false;
    return true;
}

int main(int argc, char **argv)
{
    int code;
    setlocale(LC_CTYPE, ""); /* for text on the terminal; numbers stay as they are */
    /* Plugins with OpenMP: a thread that waits sleeps soon, so that media and other programs get
     * the processor; the default spins for milliseconds. Read when the runtime is loaded. */
    setenv("GOMP_SPINCOUNT", "20000", 0);
    if (serve_parent(argc, argv, &code))
        return code;
    if (argc < 2) {
        help_usage(stderr);
        return EXIT_USAGE;
    }
    if (!strcmp(argv[1], "--version")) {
        printf("scope %s (plugin ABI %u)\n", HOST_VERSION, SCOPE_ABI);
        return EXIT_GOOD;
    }
    bool help = !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h");
    const command *c = command_find(help ? "help" : argv[1]);
    return c ? c->run(argc - 1, argv + 1) : help_unknown("command", argv[1], false);
}
