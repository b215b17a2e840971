/* similar.h - may this frame be skipped, because its input is like the last one that was processed?
 *
 * With s the cosine of the two pictures, u a uniform number of (seed, frame) and m the frames that
 * were skipped in a row:
 *
 *   p = max(0, 1 - (1 - s) / (1 - threshold)), 0 where threshold is 1
 *   skip when u < p and m < max_skip
 *
 * Source: StreamDiffusion's SimilarImageFilter, with its counter put right: any processed frame
 * sets m to 0, and the frame after max_skip skipped ones is always processed.
 */
#ifndef SD_SIMILAR_H
#define SD_SIMILAR_H

#include <stdint.h>

typedef struct similar_settings {
    double threshold; /* 0..1 */
    int max_skip;     /* frames in a row; 0: none */
    uint64_t seed;
} similar_settings;

/* Zeroed at first, and to forget. */
typedef struct similar {
    uint64_t frame; /* frames decided so far */
    int skipped;    /* of them in a row, up to now */
} similar;

/* The decision on the next frame: 1 to skip. likeness: the cosine, NaN where there is none, which
 * is never skipped. The same calls give the same answers. [frame] */
int similar_skip(similar *s, const similar_settings *o, double likeness);

#endif
