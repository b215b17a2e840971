/* fence.c - the memory of a plugin's frames in a worker; see fence.h.
 *
 * Must stay true: the table is read by a signal handler, so an entry's `map` is set last and taken
 * away first.
 */
#include "fence.h"

#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    BLOCKS = 256, /* of all kinds; whoever needs more gets no memory */
    IDLE_MAX = 24,
    ALIGN = 64,
    MARK = 0xA5,
};

enum state { FREE, LENT, IDLE, INPUT };

typedef struct block {
    char *map; /* atomic; forbidden page, payload pages, forbidden page; of an input its data */
    size_t map_size;
    char *data;
    size_t bytes;
    enum state state;
    unsigned age; /* when it came back */
} block;

static struct {
    pthread_mutex_t lock;
    block blocks[BLOCKS];
    int idle;
    unsigned clock;
} all = {.lock = PTHREAD_MUTEX_INITIALIZER};

static size_t page_size; /* set before the first block */

static block *find(enum state state, const void *data, size_t bytes)
{
    for (int i = 0; i < BLOCKS; i++) {
        block *b = &all.blocks[i];
        if (b->state == state && (!data || b->data == data) && (!bytes || b->bytes == bytes))
            return b;
    }
    return NULL;
}

static void enter(block *b, char *map)
{
    __atomic_store_n(&b->map, map, __ATOMIC_RELEASE);
}

static void drop(block *b)
{
    char *map = b->map;
    enter(b, NULL);
    munmap(map, b->map_size);
    b->state = FREE;
}

/* ---- blocks ---------------------------------------------------------------------------------- */

/* The bytes around a frame that no forbidden page covers: up to 64 before it, and what alignment
 * leaves behind it. */
static size_t room_before(const block *b)
{
    size_t room = (size_t)(b->data - (b->map + page_size));
    return room < ALIGN ? room : ALIGN;
}

static size_t room_after(const block *b)
{
    return (size_t)(b->map + b->map_size - page_size - (b->data + b->bytes));
}

static void mark(block *b)
{
    memset(b->data - room_before(b), MARK, room_before(b));
    memset(b->data + b->bytes, MARK, room_after(b));
}

/* Who wrote there meets the forbidden page after all, late. */
static void look(const block *b)
{
    for (size_t i = 1; i <= room_before(b); i++) {
        if ((unsigned char)b->data[-(ptrdiff_t)i] != MARK)
            *(volatile char *)b->map = 0;
    }
    for (size_t i = 0; i < room_after(b); i++) {
        if ((unsigned char)b->data[b->bytes + i] != MARK)
            *(volatile char *)(b->map + b->map_size - 1) = 0;
    }
}

static block *make(size_t bytes)
{
    block *b = find(FREE, NULL, 0);
    if (!b)
        return NULL;
    size_t payload = (bytes + page_size - 1) / page_size * page_size;
    size_t size = payload + 2 * page_size;
    char *map = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED)
        return NULL;
    if (mprotect(map + page_size, payload, PROT_READ | PROT_WRITE) < 0) {
        munmap(map, size);
        return NULL;
    }
    b->map_size = size;
    b->data = map + page_size + payload - (bytes + ALIGN - 1) / ALIGN * ALIGN;
    b->bytes = bytes;
    enter(b, map);
    mark(b);
    return b;
}

static void *take(void *ctx, size_t bytes)
{
    (void)ctx;
    pthread_mutex_lock(&all.lock);
    page_size = (size_t)sysconf(_SC_PAGESIZE);
    block *b = find(IDLE, NULL, bytes);
    if (b)
        all.idle--;
    else
        b = make(bytes);
    if (b)
        b->state = LENT;
    pthread_mutex_unlock(&all.lock);
    return b ? b->data : NULL;
}

/* The one that has been idle longest goes. */
static void make_room(void)
{
    block *oldest = NULL;
    for (int i = 0; i < BLOCKS; i++) {
        block *b = &all.blocks[i];
        if (b->state == IDLE && (!oldest || all.clock - b->age > all.clock - oldest->age))
            oldest = b;
    }
    drop(oldest);
    all.idle--;
}

static void give(void *ctx, void *data, size_t bytes)
{
    (void)ctx;
    pthread_mutex_lock(&all.lock);
    block *b = find(LENT, data, bytes);
    look(b);
    b->state = IDLE;
    b->age = all.clock++;
    if (++all.idle > IDLE_MAX)
        make_room();
    pthread_mutex_unlock(&all.lock);
}

frame_memory fence_memory(void)
{
    return (frame_memory){NULL, take, give, true};
}

/* ---- inputs, and what a crash was ------------------------------------------------------------ */

void fence_add(const void *data, size_t bytes)
{
    pthread_mutex_lock(&all.lock);
    page_size = (size_t)sysconf(_SC_PAGESIZE);
    block *b = find(FREE, NULL, 0);
    if (b) { /* else a crash there is told without its cause */
        b->data = (char *)data;
        b->bytes = bytes;
        b->map_size = bytes + page_size;
        b->state = INPUT;
        enter(b, b->data);
    }
    pthread_mutex_unlock(&all.lock);
}

void fence_remove(const void *data)
{
    pthread_mutex_lock(&all.lock);
    block *b = find(INPUT, data, 0);
    if (b) {
        enter(b, NULL);
        b->state = FREE;
    }
    pthread_mutex_unlock(&all.lock);
}

const char *fence_explain(const void *address)
{
    const char *at = address;
    for (int i = 0; i < BLOCKS; i++) {
        const block *b = &all.blocks[i];
        const char *map = __atomic_load_n(&b->map, __ATOMIC_ACQUIRE);
        if (!map || at < map || at >= map + b->map_size)
            continue;
        if (at >= b->data + b->bytes)
            return "past the end of its frame";
        if (at < b->data)
            return "before the start of its frame";
        return b->state == INPUT ? "to its input, which is the host's" : NULL;
    }
    return NULL;
}
