/* command.h - the subcommands of `scope`; each gets its own argv (argv[0] is its name) and returns
 * an exit code.
 */
#ifndef HOST_COMMAND_H
#define HOST_COMMAND_H

#include <stdbool.h>
#include <stdio.h>

/* Exit codes, the same for every subcommand and documented in `scope help exit-codes`. */
enum {
    EXIT_GOOD = 0,
    EXIT_FAILED = 1,        /* the work failed: input, plugin or output; stderr says which */
    EXIT_USAGE = 2,         /* bad flag, bad value, unknown plugin: nothing was started */
    EXIT_NOT_CLEAN = 3,     /* `check` or `list --strict` found faults */
    EXIT_INTERRUPTED = 130, /* Ctrl-C; the output so far is whole and playable */
};

typedef struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary; /* one line */
} command;

/* All of them, in the order of the usage; ends with a NULL name. command.c */
extern const command commands[];
/* By name, or NULL. */
const command *command_find(const char *name);

int command_run(int argc, char **argv);      /* run.c */
int command_serve(int argc, char **argv);    /* serve.c */
int command_bench(int argc, char **argv);    /* bench.c */
int command_list(int argc, char **argv);     /* list.c */
int command_schema(int argc, char **argv);   /* list.c */
int command_doc(int argc, char **argv);      /* list.c */
int command_check(int argc, char **argv);    /* check.c */
int command_model(int argc, char **argv);    /* model.c */
int command_complete(int argc, char **argv); /* complete.c: shell completion */
int command_help(int argc, char **argv);     /* help.c */

typedef struct help_topic {
    const char *name, *text;
} help_topic;

/* What `scope help` knows besides the commands; ends with a NULL name. help.c */
extern const help_topic help_topics[];
void help_usage(FILE *out);
/* Complain about a name that is no command (or topic), with the nearest one; EXIT_USAGE. */
int help_unknown(const char *what, const char *name, bool with_topics);

#endif
