/* error.c - filling a scope_error, and saying it to a person. */
#include "error.h"

#include <glib.h>
#include <stdarg.h>

/* What goes to people also goes out as JSON, which takes only UTF-8: a byte that is none, as where
 * a text was cut within a character, becomes '?'. */
static void mend(char *text)
{
    const char *bad;
    while (!g_utf8_validate(text, -1, &bad))
        text[bad - text] = '?';
}

void error_copy(char *to, size_t size, const char *from)
{
    g_strlcpy(to, from, size);
    mend(to);
}

int error_set(scope_error *err, int status, const char *field, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    err->status = status;
    error_copy(err->field, sizeof err->field, field);
    vsnprintf(err->text, sizeof err->text, fmt, ap);
    mend(err->text);
    va_end(ap);
    return status;
}

int error_from_schema(scope_error *err, const schema_error *cause)
{
    return error_set(err, SCOPE_EINVAL, cause->path, "%s", cause->text);
}

int complain(int code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("scope: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    return code;
}
