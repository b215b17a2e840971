/* certificate.h - the certificate that the settings of `scope serve` ask for. */
#ifndef HOST_CERTIFICATE_H
#define HOST_CERTIFICATE_H

#include "serve_options.h"

/* *cert and *key as PEM text, for g_free; both NULL where plain HTTP is asked for. One made on
 * demand is kept in the data folder. Negative with *err. [main] */
int certificate_get(const serve_options *o, char **cert, char **key, scope_error *err);

#endif
