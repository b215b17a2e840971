/* error.h - filling a scope_error, and saying it to a person.
 *
 * The host's own failures use the struct that plugins fill, so that one kind of error goes all the
 * way up.
 */
#ifndef HOST_ERROR_H
#define HOST_ERROR_H

#include "../schema/schema.h"

/* Fill *err with one sentence, which is UTF-8 whatever it quotes, and return `status`. `field` is
 * the schema field at fault, or "". */
__attribute__((format(printf, 4, 5))) int error_set(scope_error *err, int status, const char *field,
                                                    const char *fmt, ...);
/* The same from a schema's complaint: SCOPE_EINVAL. */
int error_from_schema(scope_error *err, const schema_error *cause);

/* As much of `from` as fits into `size` bytes, and UTF-8 whatever it was. */
void error_copy(char *to, size_t size, const char *from);

/* `scope: <sentence>` on stderr; returns `code`, so that failing is one line. */
__attribute__((format(printf, 2, 3))) int complain(int code, const char *fmt, ...);

#endif
