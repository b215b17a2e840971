/* mjpeg.h - a stream as JPEG pictures over plain HTTP, for what can do nothing else. */
#ifndef HTTP_MJPEG_H
#define HTTP_MJPEG_H

#include "../live/cast.h"
#include "server.h"

/* What the query asks for: ?of=source or ?of=result, the default; 0 with *answer for another. */
enum cast_of mjpeg_of(request *r, response **answer);

response *mjpeg_watch(request *r); /* /live/{key}/mjpeg */
response *mjpeg_still(request *r); /* /live/{key}/frame.jpg */

#endif
