/* options.h - the flags of a subcommand, through GLib's option parser, in our tone. */
#ifndef HOST_OPTIONS_H
#define HOST_OPTIONS_H

#include <glib.h>
#include <stdbool.h>

typedef struct options {
    const char *arguments;       /* "[ID]", as the usage line shows them */
    const char *summary;         /* a paragraph for --help */
    int least, most;             /* how many arguments there may be */
    const GOptionEntry *entries; /* ends with {0} */
} options;

/* Parse argv in place: flags are stored and removed. False, with the reason on stderr, when the
 * line makes no sense (the exit code is EXIT_USAGE then). --help prints and exits. */
bool options_parse(const options *o, int *argc, char **argv);

#endif
