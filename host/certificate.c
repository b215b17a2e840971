/* certificate.c - see certificate.h. */
#include "certificate.h"
#include "error.h"

#include "http/tls.h"

#include <glib.h>
#include <string.h>

static char *read_pem(const char *path, const char *what, const char *mark, scope_error *err)
{
    char *text = NULL;
    GError *why = NULL;
    if (!g_file_get_contents(path, &text, NULL, &why))
        error_set(err, SCOPE_EIO, "tls", "%s: %s", what, why->message);
    else if (!strstr(text, mark))
        error_set(err, SCOPE_EINVAL, "tls", "%s: %s has no \"%s\"; give PEM", what, path, mark);
    if (!why && strstr(text, mark))
        return text;
    g_clear_error(&why);
    g_free(text);
    return NULL;
}

int certificate_get(const serve_options *o, char **cert, char **key, scope_error *err)
{
    *cert = *key = NULL;
    if (!strcmp(o->tls, "off"))
        return 0;
    if (!strcmp(o->tls, "self")) {
        *cert = tls_self_signed(o->data, o->public_host, key, err);
        return *cert ? 0 : err->status;
    }
    *cert = read_pem(o->tls, "--tls", "BEGIN CERTIFICATE", err);
    *key = *cert ? read_pem(o->tls_key ? o->tls_key : o->tls, o->tls_key ? "--tls-key" : "--tls",
                            "PRIVATE KEY", err)
                 : NULL;
    if (*key)
        return 0;
    g_clear_pointer(cert, g_free);
    return err->status;
}
