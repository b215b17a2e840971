/* interrupt.h - Ctrl-C: the first asks the work to end well, the second ends it at once.
 *
 * The only state in the host that is not passed around, because a signal handler can be passed
 * nothing.
 */
#ifndef HOST_INTERRUPT_H
#define HOST_INTERRUPT_H

/* Catch SIGINT and SIGTERM, ignore SIGPIPE (writing to a closed pipe fails instead). */
void interrupt_install(void);
/* Was there a first one? */
int interrupt_seen(void);
/* A half-written file that the second one removes; NULL for none. */
void interrupt_removes(const char *path);

#endif
