/* tls.h - a certificate of our own, for cameras on other machines: a browser gives no camera to a
 * page that came without TLS. */
#ifndef HTTP_TLS_H
#define HTTP_TLS_H

#include "../../plugin/scope_abi.h"

/* The PEM of a self-signed certificate for localhost, this host's name and addresses, and `hosts`
 * (names or addresses, separated by commas; or NULL); *key is that of its key. It is kept in
 * `folder` and taken from there as long as it is valid and names all of them, so that a browser has
 * to be told only once. For g_free; NULL with *err. [main] */
char *tls_self_signed(const char *folder, const char *hosts, char **key, scope_error *err);

#endif
