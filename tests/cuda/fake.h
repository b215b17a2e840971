/* fake.h - what the fake libraries do, and what they saw: each exports one `fake`. */
#ifndef TESTS_CUDA_FAKE_H
#define TESTS_CUDA_FAKE_H

#include <stddef.h>
#include <stdint.h>

typedef struct fake {
    size_t version, cuda_version;
    int fail_at;    /* this call fails, counted from 1; 0: none */
    int calls;      /* of all functions that may fail */
    int live;       /* objects and handles that were made and not dropped */
    int found;      /* candidates of the heuristics */
    int behavior;   /* note of each engine, cuDNN; -1: none */
    int numerics;   /* the same of numerics */
    int unmade;     /* execution plans that cannot be made: the first so many */
    int unfinished; /* execution plans that cannot be finalized: the first so many */
    size_t workspace;
    int runs_fail;
    char log[8192]; /* what was set and run, a word each */
} fake;

#endif
