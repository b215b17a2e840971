/* tape.h - a context of the CUDA backend from inside: tape.c writes and runs ops, transfer.c moves
 * data to and from the host. Nobody else includes this.
 */
#ifndef KERNELS_CUDA_TAPE_H
#define KERNELS_CUDA_TAPE_H

#include "cuda.h"

/* One call; `bytes` bytes of arguments follow, padded to 16. */
typedef struct tape_call {
    const void *kernel;                                            /* or NULL, and */
    cudaError_t (*library)(cudaStream_t stream, const void *args); /* this one */
    uint32_t grid[3], threads, shared, bytes;
} tape_call;

/* Calls, one after the other, as bytes: two tapes that are equal do the same. */
typedef struct tape {
    char *data; /* owned, grows */
    size_t used, room;
    int calls;
} tape;

/* A tape that came before; exec: NULL until it came again. */
typedef struct tape_graph {
    tape was;
    cudaGraphExec_t exec;
    long used_at;
} tape_graph;

/* Memory that is handed out from its front until the next wait. */
typedef struct stage {
    char *base; /* owned */
    size_t size, used;
} stage;

/* Rows of a tensor on their way to the host. */
typedef struct fetch {
    void *to;
    const void *from;
    char *here; /* staging memory, dense */
    size_t to_pitch, from_pitch, bytes;
    int64_t rows;
} fetch;

enum { STAGE_HOST, STAGE_INBOX, STAGE_OUTBOX, STAGES };
enum { TAPE_SEEN = 8, TAPE_GRAPHS = 8, TAPE_ALLOWED = 128, TAPE_RETIRED = 16 };
enum { FETCHES = 4 /* that wait for the next get */, PIECES = 4 /* of a large one */ };

struct cuda_ctx {
    uint64_t bit;
    cudaStream_t stream;
    int overlap;      /* launches may begin before the one before them ends (sm_90 and newer) */
    int graphs;       /* tapes become graphs */
    int measuring;    /* launches run at once, nothing goes on the tape */
    int shared_bytes; /* of shared memory that a block may have */
    tape tape;
    tape_graph seen[TAPE_SEEN], graph[TAPE_GRAPHS]; /* came once; came twice or more */
    long clock;
    cuda_counts counts;

    char *scratch; /* owned: device memory of the op that runs */
    size_t scratch_size, scratch_need;
    stage stage[STAGES];
    struct {
        int kind;
        stage memory;
    } retired[TAPE_RETIRED]; /* grown out of, in use until the next wait */
    int retirees;
    fetch fetch[FETCHES];
    int fetches;
    cudaEvent_t arrived[PIECES];      /* owned */
    uint64_t *stamps, *stamps_device; /* owned, pinned; the device's address of them */
    const void
        *allowed[TAPE_ALLOWED]; /* kernels that were given more than 48 KiB of shared memory */
    int allowances;
};

static inline cuda_ctx *cuda_ctx_of(const k_ctx *k)
{
    return (cuda_ctx *)k->impl;
}

/* transfer.c: after a wait, all staging memory is free; at the end, it is given back. */
void stage_reset(k_ctx *k);
void stage_fini(k_ctx *k);

#endif
