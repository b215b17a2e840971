/* error.c - filling a scope_error, and saying it to a person. */
#include "error.h"

#include <stdarg.h>

int error_set(scope_error *err, int status, const char *field, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    err->status = status;
    snprintf(err->field, sizeof err->field, "%s", field);
    vsnprintf(err->text, sizeof err->text, fmt, ap);
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
