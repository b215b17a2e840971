/* version.h - the version of the host, as `scope --version`, plugins and reports tell it. */
#ifndef HOST_VERSION_H
#define HOST_VERSION_H

#define HOST_VERSION "0.1.0"

#endif
