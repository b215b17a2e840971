/* cast.h - a stream's picture or sound in one codec, for any number of viewers.
 *
 * Under live; over media/encoder. The encoder runs while somebody watches. A viewer gets packets
 * from a key frame on, and whole groups only: who cannot follow loses up to the next key frame.
 */
#ifndef LIVE_CAST_H
#define LIVE_CAST_H

#include "../media/codec.h"
#include "stream.h"

typedef struct cast_viewer cast_viewer;

enum cast_of { CAST_RESULT = 1, CAST_SOURCE }; /* what is shown: after or before the plugins */

typedef struct cast_calls {
    void *ctx;
    /* A packet to keep a reference of; must not block. False: the viewer could not take it; it gets
     * no more until the next key frame, which is asked for. [any], one at a time */
    bool (*packet)(void *ctx, packet *p);
    /* The stream ends, or cannot be encoded (err). [main] */
    void (*ended)(void *ctx, const scope_error *err);
} cast_calls;

/* Can this machine encode it? If not, *err names the package. [any] */
int cast_can(enum codec codec, scope_error *err);
/* NULL with *err on failure. `kind` (static) and `about` for people, as in stream_tap_open. [main]
 */
cast_viewer *cast_join(stream *s, enum cast_of of, enum codec codec, const char *kind,
                       const char *about, const cast_calls *calls, scope_error *err);
void cast_leave(cast_viewer *v); /* no call comes after this; NULL is fine [main] */
/* The viewer lost something: a key frame soon, at most one in 200 ms for all. [any] */
void cast_keyframe(cast_viewer *v);
/* What this viewer's way can carry, bits a second; the encoder goes by the slowest. 0: not known.
 * [any] */
void cast_bitrate(cast_viewer *v, int bitrate);
/* Packets that the viewer missed since it joined. [any] */
int64_t cast_missed(const cast_viewer *v);

#endif
