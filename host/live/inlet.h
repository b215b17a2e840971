/* inlet.h - a source that the server itself opens: a file, a URL, a camera, a screen.
 *
 * Under live; over media/source, on a thread of its own. What breaks is opened again, with
 * back-off, until it is stopped.
 */
#ifndef LIVE_INLET_H
#define LIVE_INLET_H

#include "stream.h"

/* Replace the stream's source: {"url": "rtsp://... | rtmp://... | https://... | file:///... | a
 * path in the assets folder | /dev/video0 | screen: | test:", "loop": true, "fps": 30}. NULL closes
 * it. Returns at once; what happens is told by the stream's notice. Negative with *err for a
 * request that makes no sense. [main] */
int inlet_set(stream *s, const json_t *source, scope_error *err);
json_t *
inlet_json(stream *s); /* what is open, with its state; null when nothing is. New reference */

#endif
