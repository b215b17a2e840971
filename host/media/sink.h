/* sink.h - frames into a file, a sequence of pictures, or a pipe.
 *
 * By the ending of the name: .mp4 .mkv .webm, .y4m and "-" (Y4M on stdout), .png .jpg (one picture,
 * a pattern such as out%04d.png, or a folder ending in '/'). A file is written beside its name, in
 * "NAME.PID.part", and takes the name only when it is whole and on the disk.
 */
#ifndef MEDIA_SINK_H
#define MEDIA_SINK_H

#include "convert.h"

#include <gst/gst.h>
#include <stdbool.h>

typedef struct sink_options {
    int fps_n, fps_d;     /* nominal rate; 0 when unknown. Frames keep their own times */
    int64_t origin_us;    /* the pts that becomes 0 */
    const GstCaps *audio; /* borrowed; of the sound that sink_audio will bring, or NULL */
    bool overwrite;       /* replace what has the name already */
} sink_options;

typedef struct sink sink;

/* Check the name, its folder and the encoder, and create the part file, so that what cannot work
 * fails before any work is done. NULL with *err on failure. [load] */
sink *sink_open(const char *path, const sink_options *o, frame_pool *pool, scope_error *err);

/* Append a frame of any shape with t = 1. The first frame's size is the output's; later ones are
 * fitted into it. `f` stays the caller's. [frame] */
int sink_write(sink *s, frame *f, scope_error *err);
/* Append sound (consumed), pts as the frames'. sink_audio_end when there is no more. [frame] */
int sink_audio(sink *s, GstBuffer *sound, scope_error *err);
void sink_audio_end(sink *s);

/* Finish the file and give it its name. Fails when nothing was written. The sink must still be
 * closed. [frame] */
int sink_finish(sink *s, scope_error *err);
/* Without sink_finish, or after it failed, nothing is left under the final name, but whole pictures
 * of a sequence. NULL is fine. */
void sink_close(sink *s);

bool sink_is_stdout(const char *path);
bool sink_takes_audio(const char *path);
/* Can it hold more than one frame? */
bool sink_is_single(const char *path);
const char *sink_part(const sink *s); /* the file being written, or NULL */
const char *sink_note(const sink *s); /* something a person should know once, or NULL */
int64_t sink_frames(const sink *s);   /* written so far */

#endif
