/* serve_check.h - `scope serve --check`: what would be served, and what is missing for it. */
#ifndef HOST_SERVE_CHECK_H
#define HOST_SERVE_CHECK_H

#include "serve_options.h"

/* Prints the settings, the plugins and the media that this machine can do; returns the exit code:
 * EXIT_FAILED when the server would not start. */
int serve_check(const serve_options *o);

#endif
