/* child.h - running this same program in child processes that must not do harm.
 *
 * Under registry (scan) and check (judge): plugin code that nobody vouches for yet runs there, in a
 * process group of its own, with a time limit, an output limit and no core dumps.
 */
#ifndef HOST_CHILD_H
#define HOST_CHILD_H

#include <glib.h>
#include <stdbool.h>

typedef struct child_report {
    GString *out;     /* owned; what it wrote to stdout */
    char *last_words; /* owned; its last line on stderr, "" when silent */
    int code;         /* exit code, -1 when it did not exit by itself */
    int signal;       /* that ended it, or 0 */
    bool timed_out;
    bool flooded; /* wrote more than anything sensible would */
} child_report;

/* Run this program once for each of `count` argument lists (argv[1..], NULL-terminated), as many at
 * once as there are processors, each for at most limit_ms. `reports` has `count` entries. [load] */
void child_run_all(const char *const *const *args, int count, int limit_ms, child_report *reports);
void child_report_clear(child_report *report);

/* Why a child that did not exit with 0 failed: "crashed (Segmentation fault)", or "" when it did
 * not.
 */
void child_verdict(const child_report *report, int limit_ms, char why[256]);

/* In the child, first of all. Keeps stdout for the report alone: returns the descriptor for it and
 * points 1 to stderr, so that what a plugin prints cannot garble the report. And lets a crash end
 * the process by its signal, whatever a sanitizer would rather do. */
int child_begin(void);

#endif
