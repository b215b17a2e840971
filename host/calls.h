/* calls.h - counting the memory that a plugin's own code asks for.
 *
 * Under judge. Only the library's own calls are redirected (through its relocation table), so that
 * neither the host nor the libraries it uses are counted.
 */
#ifndef HOST_CALLS_H
#define HOST_CALLS_H

#include <stdint.h>

/* Redirect the allocating calls of the library behind a dlopen handle. For one library in the life
 * of the process. -1 when its tables cannot be read. */
int calls_watch(void *handle);
/* How often the library has asked for memory so far. [any] */
uint64_t calls_count(void);

#endif
