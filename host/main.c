/* main.c - `scope`: usage, help topics, and the way to a subcommand. */
#include "command.h"
#include "error.h"
#include "judge.h"
#include "registry.h"
#include "version.h"

#include <locale.h>
#include <stdio.h>
#include <string.h>

typedef struct topic {
    const char *name, *text;
} topic;

static const topic topics[] = {
    {"exit-codes",
     "0    done\n"
     "1    the work failed: the input, a plugin or the output; stderr says which\n"
     "2    the command line makes no sense, or names a plugin that is not there; nothing was "
     "started\n"
     "3    `scope check` or `scope list --strict` found faults\n"
     "130  interrupted with Ctrl-C; the output so far is whole and playable\n"},
    {"plugins",
     "Plugins are files *.so in these folders, searched in this order; the first of two equal ids\n"
     "counts:\n\n"
     "  the folder given with --plugin-dir\n"
     "  each folder in $SCOPE_PATH, separated by colons\n"
     "  plugins/ beside the program, and ../lib/scope\n"
     "  ~/.local/lib/scope\n"
     "  /usr/local/lib/scope\n\n"
     "A plugin is called by its id (org.example.invert), by the last part of it (invert) when "
     "that\n"
     "is unique, or by the path of its file (./invert.so).\n"},
    {0, 0},
};

static void usage(FILE *out)
{
    fprintf(out, "usage: scope COMMAND [OPTION...] [ARGUMENT...]\n\n");
    for (const command *c = commands; c->name; c++)
        fprintf(out, "  %-10s %s\n", c->name, c->summary);
    fprintf(out, "  %-10s %s\n\n", "help", "more about a command or a topic");
    fprintf(out, "Topics: ");
    for (const topic *t = topics; t->name; t++)
        fprintf(out, "%s%s", t->name, t[1].name ? ", " : "\n");
}

static int unknown(const char *what, const char *name, bool with_topics)
{
    const char *names[32];
    int count = 0;
    for (const command *c = commands; c->name; c++)
        names[count++] = c->name;
    names[count++] = "help";
    for (const topic *t = topics; t->name && with_topics; t++)
        names[count++] = t->name;
    const char *near = schema_nearest(name, names, count);
    if (near)
        return complain(EXIT_USAGE, "there is no %s %s; did you mean %s?", what, name, near);
    return complain(EXIT_USAGE, "there is no %s %s; `scope help` lists what there is", what, name);
}

static int help(int argc, char **argv)
{
    if (argc < 2) {
        usage(stdout);
        return EXIT_GOOD;
    }
    for (const topic *t = topics; t->name; t++) {
        if (!strcmp(t->name, argv[1])) {
            fputs(t->text, stdout);
            return EXIT_GOOD;
        }
    }
    const command *c = command_find(argv[1]);
    char flag[] = "--help", *words[] = {argv[1], flag, NULL};
    return c ? c->run(2, words) : unknown("help on", argv[1], true);
}

/* What the host calls in its own child processes; no person types these. */
static int serve_parent(int argc, char **argv, int *code)
{
    if (argc == 3 && !strcmp(argv[1], "--scan"))
        *code = registry_scan_child(argv[2]);
    else if (argc == 6 && !strcmp(argv[1], "--judge"))
        *code = judge_child(argv[2], argv[3], argv[4], argv[5]);
    else
        return 0;
    return 1;
}

int main(int argc, char **argv)
{
    int code;
    setlocale(LC_CTYPE, ""); /* for text on the terminal; numbers stay as they are */
    if (serve_parent(argc, argv, &code))
        return code;
    if (argc < 2) {
        usage(stderr);
        return EXIT_USAGE;
    }
    if (!strcmp(argv[1], "help") || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))
        return help(argc - 1, argv + 1);
    if (!strcmp(argv[1], "--version")) {
        printf("scope %s (plugin ABI %u)\n", HOST_VERSION, SCOPE_ABI);
        return EXIT_GOOD;
    }
    const command *c = command_find(argv[1]);
    return c ? c->run(argc - 1, argv + 1) : unknown("command", argv[1], false);
}
