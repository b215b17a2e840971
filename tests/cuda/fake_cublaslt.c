/* fake_cublaslt.c - a libcublasLt.so.13, as fake_cudnn.c. */
#include "fake.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEEN __attribute__((visibility("default")))

SEEN fake fake_state = {.version = 130100, .found = 6, .workspace = 1 << 20};

typedef struct result {
    uint64_t algo[8];
    size_t workspace;
    int state;
    float waves;
    int reserved[4];
} result;

typedef struct layout {
    uint64_t rows, columns;
    int64_t ld;
    int type;
} layout;

static int failing(void)
{
    return ++fake_state.calls == fake_state.fail_at;
}

static void note(const char *format, long a, long b, long c)
{
    size_t used = strlen(fake_state.log);
    snprintf(fake_state.log + used, sizeof fake_state.log - used, format, a, b, c);
}

/* Anything with an address. */
static int make(void **made, size_t bytes)
{
    if (failing())
        return 3;
    *made = calloc(1, bytes);
    fake_state.live++;
    return 0;
}

static int drop(void *o)
{
    fake_state.live--;
    free(o);
    return 0;
}

SEEN size_t cublasLtGetVersion(void)
{
    return fake_state.version;
}

SEEN const char *cublasLtGetStatusString(int status)
{
    return status ? "it failed" : "it went well";
}

SEEN int cublasLtCreate(void **handle)
{
    return make(handle, 1);
}

SEEN int cublasLtDestroy(void *handle)
{
    return drop(handle);
}

SEEN int cublasLtMatmulDescCreate(void **desc, int compute, int scale)
{
    return compute != 68 || scale != 0 ? 7 : make(desc, 1);
}

SEEN int cublasLtMatmulDescDestroy(void *desc)
{
    return drop(desc);
}

SEEN int cublasLtMatmulDescSetAttribute(void *desc, int name, const void *value, size_t bytes)
{
    if (failing() || !desc)
        return 7;
    if (name == 7)
        note("epilogue=%ld ", *(const int32_t *)value, 0, 0);
    if (name == 8 && bytes == sizeof(void *))
        note("bias=%lx ", (long)(uintptr_t) * (void *const *)value, 0, 0);
    return 0;
}

SEEN int cublasLtMatrixLayoutCreate(void **made, int type, uint64_t rows, uint64_t columns,
                                    int64_t ld)
{
    int status = make(made, sizeof(layout));
    if (!status)
        *(layout *)*made = (layout){rows, columns, ld, type};
    note("[%ld,%ld;%ld] ", (long)rows, (long)columns, (long)ld);
    return status;
}

SEEN int cublasLtMatrixLayoutDestroy(void *made)
{
    return drop(made);
}

SEEN int cublasLtMatmulPreferenceCreate(void **made)
{
    return make(made, 1);
}

SEEN int cublasLtMatmulPreferenceDestroy(void *made)
{
    return drop(made);
}

SEEN int cublasLtMatmulPreferenceSetAttribute(void *made, int name, const void *value, size_t bytes)
{
    (void)name, (void)value, (void)bytes;
    return failing() || !made ? 7 : 0;
}

SEEN int cublasLtMatmulAlgoGetHeuristic(void *handle, void *desc, void *a, void *b, void *c,
                                        void *d, void *preference, int room, result *list,
                                        int *count)
{
    if (failing() || !handle || !desc || !a || !b || !c || !d || !preference)
        return 15;
    *count = fake_state.found < room ? fake_state.found : room;
    for (int i = 0; i < *count; i++) {
        list[i].algo[0] = (uint64_t)i;
        list[i].workspace = fake_state.workspace;
        list[i].state = 0;
    }
    return 0;
}

#ifndef LACKING
SEEN int cublasLtMatmul(void *handle, void *desc, const void *alpha, const void *a, void *al,
                        const void *b, void *bl, const void *beta, const void *c, void *cl, void *d,
                        void *dl, const void *algo, void *workspace, size_t bytes, void *stream)
{
    (void)al, (void)bl, (void)cl, (void)dl;
    note("w=%lx x=%lx c=%lx ", (long)(uintptr_t)a, (long)(uintptr_t)b, (long)(uintptr_t)c);
    note("y=%lx alpha=%ld beta=%ld ", (long)(uintptr_t)d, (long)*(const float *)alpha,
         (long)*(const float *)beta);
    note("algo=%ld workspace=%lx+%ld ", (long)*(const uint64_t *)algo, (long)(uintptr_t)workspace,
         (long)bytes);
    note("stream=%lx ", (long)(uintptr_t)stream, 0, 0);
    return failing() || !handle || !desc || fake_state.runs_fail ? 13 : 0;
}
#endif
