/* shared.c - memory that one process writes and another reads; see shared.h. */
#include "shared.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

enum { ALIGN = 64 };
static const size_t BYTES_MAX = (size_t)4 << 30; /* as frames */

static size_t page(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

int shared_make(shared *s, size_t bytes)
{
    size_t whole = (bytes + page() - 1) / page() * page();
    *s = (shared){.fd = memfd_create("scope frames", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
    if (s->fd < 0)
        return -1;
    if (ftruncate(s->fd, (off_t)whole) == 0) {
        void *data = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_SHARED, s->fd, 0);
        if (data != MAP_FAILED) {
            s->data = data;
            s->bytes = whole;
        }
    }
    int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
    if (s->data && (fcntl(s->fd, F_ADD_SEALS, seals | F_SEAL_FUTURE_WRITE) == 0 ||
                    fcntl(s->fd, F_ADD_SEALS, seals) == 0)) /* before Linux 5.1 */
        return 0;
    if (s->data)
        munmap(s->data, s->bytes);
    close(s->fd);
    *s = (shared){.fd = -1};
    return -1;
}

/* Also reserves a page behind, which stays forbidden. */
static char *map_read_only(int fd, size_t bytes)
{
    char *room = mmap(NULL, bytes + page(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED)
        return NULL;
    if (mmap(room, bytes, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) != MAP_FAILED)
        return room;
    munmap(room, bytes + page());
    return NULL;
}

int shared_map(shared *s, int fd)
{
    struct stat st;
    int seals = fcntl(fd, F_GET_SEALS), must = F_SEAL_SHRINK | F_SEAL_GROW;
    bool good = seals >= 0 && (seals & must) == must && fstat(fd, &st) == 0 && st.st_size > 0 &&
                (uint64_t)st.st_size <= BYTES_MAX && (size_t)st.st_size % page() == 0;
    *s = (shared){.fd = -1};
    if (good) {
        s->data = map_read_only(fd, (size_t)st.st_size);
        s->bytes = s->data ? (size_t)st.st_size : 0;
    }
    close(fd);
    return s->data ? 0 : -1;
}

void shared_drop(shared *s)
{
    if (s->data) {
        munmap(s->data, s->bytes + (s->fd < 0 ? page() : 0));
        if (s->fd >= 0)
            close(s->fd);
    }
    *s = (shared){.fd = -1};
}

bool shared_suits(const shared *s, size_t bytes)
{
    enum { SMALL = 1 << 20 }; /* not worth another */
    return s->bytes >= bytes && (s->bytes <= SMALL || s->bytes / 4 <= bytes);
}

uint64_t shared_place(const shared *s, size_t bytes)
{
    return s->bytes - (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

bool shared_holds(const shared *s, uint64_t offset, size_t bytes)
{
    return bytes > 0 && bytes <= s->bytes && offset <= s->bytes - bytes && offset % ALIGN == 0;
}
