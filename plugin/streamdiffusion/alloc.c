/* alloc.c - see alloc.h. The counters are per thread, so a test disturbs nobody. */
#include "alloc.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local long made, fail_at;

static int refused(void)
{
    made++;
    return fail_at && made >= fail_at;
}

void *sd_malloc(size_t bytes)
{
    return refused() ? NULL : malloc(bytes);
}

void *sd_calloc(size_t count, size_t size)
{
    return refused() ? NULL : calloc(count, size);
}

void *sd_grow(void *block, size_t count, size_t size)
{
    return refused() || (size && count > SIZE_MAX / size) ? NULL : realloc(block, count * size);
}

char *sd_strdup(const char *text)
{
    size_t n = strlen(text) + 1;
    char *copy = sd_malloc(n);
    return copy ? memcpy(copy, text, n) : NULL;
}

long sd_alloc_fail_at(long n)
{
    long before = made;
    made = 0;
    fail_at = n;
    return before;
}
