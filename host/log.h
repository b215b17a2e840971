/* log.h - what the server has to say: lines on stderr, as text or JSON, and the last ones kept for
 * the page.
 *
 * One log per process, because GLib's is (g_log): what libraries say goes the same way.
 */
#ifndef HOST_LOG_H
#define HOST_LOG_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* Levels are scope_level. Before anything is said; `json`: one object a line. [main] */
void log_open(bool json, int level);
void log_close(void);

/* One line; `about` names what it is about, "" for the server: "stream str_...", "worker invert".
 * The same line again within a second is counted and not repeated. [any] */
__attribute__((format(printf, 3, 4))) void log_line(int level, const char *about, const char *fmt,
                                                    ...);

/* The lines after number `after` (0: all that are kept, the last 1000), at most `max`, as
 * [{"n", "time", "level", "about", "text"}]; new reference. [any] */
json_t *log_tail(uint64_t after, int max);
/* Called on [main] for each new line; one listener at a time may be enough for all pages. */
unsigned log_listen(void (*fn)(void *ctx, const json_t *line), void *ctx);
void log_unlisten(unsigned id);

#endif
