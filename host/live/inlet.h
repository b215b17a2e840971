/* inlet.h - a source that the server itself opens: a file, a URL, a camera, a screen.
 *
 * Under live; over media/source, on a thread of its own. What breaks is opened again, with
 * back-off, until it is stopped.
 */
#ifndef LIVE_INLET_H
#define LIVE_INLET_H

#include "stream.h"

/* Replace the stream's source: {"url": ..., "loop": true, "fps": 30}; fps is the most that it may
 * bring. NULL closes it. The URL is one of
 *   clip.mp4, shots/a.png   a file in the assets folder; without `loop` it ends
 *   /path, file:///path     any file, where live_options.local_files allows; else in that folder
 *   https://...             a file or HLS; http:// too
 *   rtsp://, rtmp://, srt://, udp:// ...
 *   /dev/video0             a camera
 *   screen:                 the server's display
 *   test:, test:tone        a moving picture with its frames numbered; with sound
 * Returns at once; what happens is told by inlet_json and the stream's notice. What breaks, or
 * sends no picture for 10 s, is opened again after 0.5 to 10 s. Negative with *err for a request
 * that makes no sense, and nothing is changed. [main] */
int inlet_set(stream *s, const json_t *source, scope_error *err);
/* Would inlet_set take it? Negative with *err when not. [main] */
int inlet_check(stream *s, const json_t *source, scope_error *err);
/* What is open: {"kind", "about", "url" (without secrets), "loop", "fps", "state": "connecting" |
 * "live" | "retrying" | "ended", "reason", "frames", "opened" (how often), "w", "h"}; null when
 * nothing is, or somebody else publishes now. New reference [main] */
json_t *inlet_json(stream *s);

#endif
