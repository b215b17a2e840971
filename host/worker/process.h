/* process.h - one worker process, from its start to the words for its end. */
#ifndef WORKER_PROCESS_H
#define WORKER_PROCESS_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct process {
    pid_t pid;
    int socket;           /* ours, for the caller to take */
    int output;           /* owned; what it prints, non-blocking */
    GString *line;        /* owned; a line that has not ended */
    char last_line[160];  /* that it printed */
    char last_words[160]; /* why it said it would crash, "" when it did not */
    int64_t second_us;    /* the lines of this second */
    int lines, unsaid;
} process;

/* Start `program --worker FD` in a group of its own; it dies with the thread that calls this.
 * Negative errno on failure. [main] */
int process_start(process *p, const char *program, bool whole_environment);
/* Take in what it prints and give each line to say(), but no flood. [worker] */
void process_listen(process *p, void (*say)(void *ctx, const char *line), void *ctx);
/* Is it over? [worker] */
bool process_is_over(const process *p);
/* End its whole group and wait for it; *status as from waitpid. [worker] */
void process_end(process *p, int *status);
void process_fini(process *p);
/* "crashed (Segmentation fault)"; with the name of the plugin in front. [worker] */
void process_verdict(const process *p, int status, const char *name, char *why, size_t size);

int64_t process_rss(pid_t pid); /* bytes, 0 when unknown [any] */

#endif
