/* help.c - `scope help`: the usage, what a command takes, and topics of their own. */
#include "command.h"
#include "error.h"
#include "keyframes.h"

#include <string.h>

static const char exit_codes[] =
    "0    done\n"
    "1    the work failed: the input, a plugin or the output; stderr says which\n"
    "2    the command line makes no sense, or names a plugin that is not there; nothing was "
    "started\n"
    "3    `scope check` or `scope list --strict` found faults\n"
    "130  interrupted with Ctrl-C; the output so far is whole and playable\n";

static const char plugins[] =
    "Plugins are files *.so in these folders, searched in this order; the first of two equal ids\n"
    "counts:\n\n"
    "  the folder given with --plugin-dir\n"
    "  each folder in $SCOPE_PATH, separated by colons\n"
    "  plugins/ beside the program, and ../lib/scope\n"
    "  ~/.local/lib/scope\n"
    "  /usr/local/lib/scope\n\n"
    "A plugin is called by its id (org.example.invert), by the last part of it (invert) when\n"
    "that is unique, or by the path of its file (./invert.so).\n";

const help_topic help_topics[] = {
    {"exit-codes", exit_codes}, {"plugins", plugins}, {"keyframes", keyframes_help}, {0, 0}};

void help_usage(FILE *out)
{
    fprintf(out, "usage: scope COMMAND [OPTION...] [ARGUMENT...]\n\n");
    for (const command *c = commands; c->name; c++)
        fprintf(out, "  %-10s %s\n", c->name, c->summary);
    fprintf(out, "\nTopics: ");
    for (const help_topic *t = help_topics; t->name; t++)
        fprintf(out, "%s%s", t->name, t[1].name ? ", " : "\n");
}

int help_unknown(const char *what, const char *name, bool with_topics)
{
    const char *names[32];
    int count = 0;
    for (const command *c = commands; c->name; c++)
        names[count++] = c->name;
    for (const help_topic *t = help_topics; t->name && with_topics; t++)
        names[count++] = t->name;
    const char *near = schema_nearest(name, names, count);
    if (near)
        return complain(EXIT_USAGE, "there is no %s %s; did you mean %s?", what, name, near);
    return complain(EXIT_USAGE, "there is no %s %s; `scope help` lists what there is", what, name);
}

int command_help(int argc, char **argv)
{
    if (argc < 2 || argv[1][0] == '-') {
        help_usage(stdout);
        return EXIT_GOOD;
    }
    for (const help_topic *t = help_topics; t->name; t++) {
        if (!strcmp(t->name, argv[1])) {
            fputs(t->text, stdout);
            return EXIT_GOOD;
        }
    }
    const command *c = command_find(argv[1]);
    char flag[] = "--help", *words[] = {argv[1], flag, NULL};
    return c ? c->run(2, words) : help_unknown("help on", argv[1], true);
}
