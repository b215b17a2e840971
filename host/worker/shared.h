/* shared.h - memory that one process writes and another reads.
 *
 * A memfd, sealed before it is sent: it never shrinks, so that reading it cannot fault, and never
 * grows. The reader believes no size and no offset before it has checked them.
 */
#ifndef WORKER_SHARED_H
#define WORKER_SHARED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct shared {
    int fd; /* owned; -1 with the reader */
    char *data;
    size_t bytes; /* whole pages; 0: there is none */
} shared;

/* The writer's: room for `bytes`. Nobody can map it to write after that. -1 without memory. */
int shared_make(shared *s, size_t bytes);
/* The reader's; takes the descriptor. A forbidden page follows the last byte. -1 when it is not
 * such memory. */
int shared_map(shared *s, int fd);
void shared_drop(shared *s); /* leaves an empty one; an empty one is fine */

/* Is it large enough for `bytes`, and not far larger? */
bool shared_suits(const shared *s, size_t bytes);
/* Where a picture of so many bytes goes: its end is the region's, as far as 64-byte alignment
 * allows. */
uint64_t shared_place(const shared *s, size_t bytes);
/* Is all of it inside? */
bool shared_holds(const shared *s, uint64_t offset, size_t bytes);

#endif
