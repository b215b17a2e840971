/* fake_cudnn.c - a libcudnn.so.9 that computes nothing, remembers what it was told and fails where
 * it is asked to. LACKING leaves one function out.
 */
#include "fake.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEEN __attribute__((visibility("default")))

SEEN fake fake_state = {.version = 91900,
                        .cuda_version = 13000,
                        .found = 3,
                        .behavior = -1,
                        .numerics = 0,
                        .workspace = 4096};

typedef struct object {
    int type;
} object;

static int handle;

static int failing(void)
{
    return ++fake_state.calls == fake_state.fail_at;
}

static void note(const char *format, long a, long b)
{
    size_t used = strlen(fake_state.log);
    snprintf(fake_state.log + used, sizeof fake_state.log - used, format, a, b);
}

SEEN size_t cudnnGetVersion(void)
{
    return fake_state.version;
}

SEEN size_t cudnnGetCudartVersion(void)
{
    return fake_state.cuda_version;
}

SEEN const char *cudnnGetErrorString(int status)
{
    return status ? "it failed" : "it went well";
}

SEEN int cudnnCreate(void **made)
{
    if (failing())
        return 1001;
    fake_state.live++;
    *made = &handle;
    return 0;
}

SEEN int cudnnDestroy(void *which)
{
    fake_state.live--;
    return which != &handle;
}

SEEN int cudnnSetStream(void *which, void *stream)
{
    note("stream=%lx ", (long)(uintptr_t)stream, 0);
    return failing() || which != &handle;
}

SEEN int cudnnBackendCreateDescriptor(int type, void **made)
{
    if (failing() || (type == 5 && fake_state.unmade-- > 0))
        return 2000;
    object *o = calloc(1, sizeof *o);
    o->type = type;
    *made = o;
    fake_state.live++;
    return 0;
}

SEEN int cudnnBackendDestroyDescriptor(void *o)
{
    fake_state.live--;
    free(o);
    return 0;
}

SEEN int cudnnBackendSetAttribute(void *o, int name, int type, int64_t count, const void *values)
{
    const object *of = o;
    if (failing() || !of)
        return 3000;
    if (name == 801)
        note("ops=%ld ", (long)count, 0);
    if (name == 0 && type == 14)
        note("pointwise=%ld ", *(const int32_t *)values, 0);
    if (name == 104)
        note("after=%ld,%ld ", (long)((const int64_t *)values)[0],
             (long)((const int64_t *)values)[1]);
    if (name == 903)
        note("pitch=%ld,%ld ", (long)((const int64_t *)values)[2],
             (long)((const int64_t *)values)[3]);
    if (name == 1001)
        for (int64_t i = 0; i < count; i++)
            note("at=%lx ", (long)(uintptr_t)((void *const *)values)[i], 0);
    if (name == 1003)
        note("workspace=%lx ", (long)(uintptr_t) * (void *const *)values, 0);
    return 0;
}

SEEN int cudnnBackendGetAttribute(void *o, int name, int type, int64_t room, int64_t *count,
                                  void *values)
{
    (void)type;
    if (failing() || !o)
        return 3000;
    *count = 1;
    if (name == 202)
        *count = fake_state.found < room ? fake_state.found : room;
    else if (name == 402)
        *(int64_t *)values = (int64_t)fake_state.workspace;
    else if (name == 1305)
        *(int32_t *)values = fake_state.behavior, *count = fake_state.behavior >= 0;
    else if (name == 1303)
        *(int32_t *)values = fake_state.numerics, *count = fake_state.numerics >= 0;
    return 0;
}

SEEN int cudnnBackendFinalize(void *o)
{
    const object *of = o;
    if (failing() || !of)
        return 3000;
    return of->type == 5 && fake_state.unfinished-- > 0 ? 3000 : 0;
}

#ifndef LACKING
SEEN int cudnnBackendExecute(void *which, void *plan, void *pack)
{
    note("execute ", 0, 0);
    return failing() || which != &handle || !plan || !pack || fake_state.runs_fail;
}
#endif
