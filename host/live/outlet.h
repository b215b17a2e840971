/* outlet.h - where a stream goes besides its viewers: recordings, RTMP, HLS, SRT, v4l2.
 *
 * Under live; one tap and one GStreamer pipeline each. What breaks is opened again, with back-off
 * (not recordings: they are finished, and what they hold is whole).
 */
#ifndef LIVE_OUTLET_H
#define LIVE_OUTLET_H

#include "stream.h"

/* {"kind": "record" | "rtmp" | "hls" | "srt" | "v4l2", "url": ..., "bitrate_kbps": ..., "audio":
 * true}; record takes "name" in place of a URL, or makes one up. The outlet as JSON, new reference:
 * {"id", "kind", "url" or "name", "state": "starting" | "live" | "retrying" | "finishing" | "done"
 * | "failed", "reason", "started_at", "seconds", "frames", "dropped", "bytes"}. One that has failed
 * stays in the list until it is closed. NULL with *err. [main] */
json_t *outlet_open(stream *s, const json_t *what, scope_error *err);
/* Ends it; a recording is finished first, which may take a moment: done(ctx) is called on [main]
 * then, with the outlet's last JSON (borrowed). Negative with *err when there is none of this id.
 */
int outlet_close(stream *s, const char *id, void (*done)(void *ctx, const json_t *last), void *ctx,
                 scope_error *err);
json_t *outlet_list(stream *s); /* array; new reference [main] */
/* Finish every outlet of every stream, or of one, then done(ctx). [main] */
void outlet_close_all(live *l, void (*done)(void *ctx), void *ctx);
void outlet_close_stream(stream *s, void (*done)(void *ctx), void *ctx);
/* Give recordings that a killed server has left behind their names, cut down to what can be played.
 * At the start. [main] */
void outlet_recover(live *l);
/* The folder with the stream's HLS files, or NULL. [main] */
const char *outlet_hls_folder(stream *s);

#endif
