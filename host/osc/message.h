/* message.h - OSC packets as bytes: taking them apart, making them. Over liblo.
 *
 * Under osc. OSC 1.0.
 */
#ifndef OSC_MESSAGE_H
#define OSC_MESSAGE_H

#include <glib.h>
#include <lo/lo.h>
#include <stdbool.h>

/* Call fn for each message of a packet, those inside bundles too (whose time tags are not waited
 * for). `args` is borrowed until it returns. False for a packet that is none, or nests too deep.
 * [any] */
typedef void (*osc_message_fn)(void *ctx, const char *address, lo_message args);
bool osc_message_each(const void *bytes, size_t n, osc_message_fn fn, void *ctx);

/* Its arguments as text that schema_flag takes: one as it is, several as a JSON array; with
 * `whole`, numbers lose a fraction of zero; with `truth`, 0 and 1 become false and true. NULL when
 * there are none, or of a type that no parameter has. For g_free. [any] */
char *osc_message_text(lo_message args, bool whole, bool truth);

/* A message as bytes; consumes `args`. [any] */
GBytes *osc_message_bytes(const char *address, lo_message args);

#endif
