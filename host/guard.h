/* guard.h - frame memory between forbidden pages, so that a plugin that leaves its frame is caught.
 *
 * Under judge. Blocks that came back stay forbidden for a while, so that using a frame after the
 * call is caught too.
 */
#ifndef HOST_GUARD_H
#define HOST_GUARD_H

#include "frame.h"

typedef struct guard guard;

/* Which end of a frame touches its forbidden page. */
enum guard_side { GUARD_AFTER = 1, GUARD_BEFORE };

guard *guard_new(void); /* NULL when out of memory */
void guard_free(guard *g);
frame_memory guard_memory(guard *g); /* borrows g */

/* For the blocks taken from now on: their side, and the byte they are filled with. */
void guard_set(guard *g, enum guard_side side, unsigned char fill);
/* Make a block that holds an input read-only, for as long as it is out. */
void guard_read_only(guard *g, const void *data);
/* What an access to this address did wrong, or NULL when it has nothing to do with frames. Safe in
 * a signal handler; the text is static. */
const char *guard_explain(const guard *g, const void *address);

#endif
