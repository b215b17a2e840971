/* guard.c - frame memory between forbidden pages; see guard.h.
 *
 * Must stay true: a block's bytes touch the forbidden page on the chosen side, to the byte.
 */
#include "guard.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { BLOCKS = 256 }; /* live and forbidden ones together; the oldest forbidden one goes first */

enum state { FREE, LIVE, READ_ONLY, RETIRED };

typedef struct block {
    enum state state;
    char *map; /* owned; forbidden page, payload pages, forbidden page */
    size_t map_size;
    char *data; /* within the payload */
    size_t bytes;
    unsigned age; /* when it was retired */
} block;

struct guard {
    size_t page;
    enum guard_side side;
    unsigned char fill;
    unsigned clock;
    block blocks[BLOCKS];
};

guard *guard_new(void)
{
    guard *g = calloc(1, sizeof *g);
    if (!g)
        return NULL;
    g->page = (size_t)sysconf(_SC_PAGESIZE);
    g->side = GUARD_AFTER;
    return g;
}

static void drop(block *b)
{
    munmap(b->map, b->map_size);
    *b = (block){0};
}

void guard_free(guard *g)
{
    for (int i = 0; g && i < BLOCKS; i++) {
        if (g->blocks[i].state != FREE)
            drop(&g->blocks[i]);
    }
    free(g);
}

/* A slot for a new block: a free one, else the one that was retired longest ago. */
static block *make_room(guard *g)
{
    block *oldest = NULL;
    for (int i = 0; i < BLOCKS; i++) {
        block *b = &g->blocks[i];
        if (b->state == FREE)
            return b;
        if (b->state == RETIRED && (!oldest || g->clock - b->age > g->clock - oldest->age))
            oldest = b;
    }
    if (oldest)
        drop(oldest);
    return oldest;
}

static void *take(void *ctx, size_t bytes)
{
    guard *g = ctx;
    block *b = make_room(g);
    if (!b)
        return NULL;
    size_t payload = (bytes + g->page - 1) / g->page * g->page;
    b->map_size = payload + 2 * g->page;
    b->map = mmap(NULL, b->map_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (b->map == MAP_FAILED)
        return NULL;
    char *inside = b->map + g->page;
    mprotect(inside, payload, PROT_READ | PROT_WRITE);
    memset(inside, g->fill, payload);
    b->data = g->side == GUARD_BEFORE ? inside : inside + payload - bytes;
    b->bytes = bytes;
    b->state = LIVE;
    return b->data;
}

static block *find(guard *g, const void *data)
{
    for (int i = 0; i < BLOCKS; i++) {
        block *b = &g->blocks[i];
        if (b->data == data && (b->state == LIVE || b->state == READ_ONLY))
            return b;
    }
    return NULL;
}

static void give(void *ctx, void *data, size_t bytes)
{
    guard *g = ctx;
    block *b = find(g, data);
    (void)bytes;
    mprotect(b->map, b->map_size, PROT_NONE);
    b->state = RETIRED;
    b->age = g->clock++;
}

frame_memory guard_memory(guard *g)
{
    return (frame_memory){g, take, give, true};
}

void guard_set(guard *g, enum guard_side side, unsigned char fill)
{
    g->side = side;
    g->fill = fill;
}

void guard_read_only(guard *g, const void *data)
{
    block *b = find(g, data);
    mprotect(b->map, b->map_size, PROT_NONE);
    mprotect(b->map + g->page, b->map_size - 2 * g->page, PROT_READ);
    b->state = READ_ONLY;
}

const char *guard_explain(const guard *g, const void *address)
{
    const char *at = address;
    for (int i = 0; i < BLOCKS; i++) {
        const block *b = &g->blocks[i];
        if (b->state == FREE || at < b->map || at >= b->map + b->map_size)
            continue;
        if (b->state == RETIRED)
            return "used a frame after it had gone back to the host";
        if (at >= b->data + b->bytes)
            return "reached past the end of its frame";
        if (at < b->data)
            return "reached before the start of its frame";
        return "wrote to its input, which is the host's";
    }
    return NULL;
}
