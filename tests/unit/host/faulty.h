/* faulty.h - building the faulty plugins of tests/abi from a test. */
#ifndef TESTS_HOST_FAULTY_H
#define TESTS_HOST_FAULTY_H

#include <stdio.h>
#include <stdlib.h>

/* A folder of this test's own for what it builds. */
static inline const char *faulty_folder(void)
{
    const char *tmp = getenv("TMP");
    return tmp ? tmp : ".";
}

/* Build the named faults ("good fails_in_init") in a folder within it ("." is itself). Before the
 * tests run, hence without check. */
static inline void faulty_build(const char *within, const char *faults)
{
    char command[4096];
    snprintf(command, sizeof command, "'%s/tests/abi/build.sh' '%s/%s' %s", SOURCE_DIR,
             faulty_folder(), within, faults);
    if (system(command) != 0) {
        fprintf(stderr, "cannot build: %s\n", faults);
        exit(EXIT_FAILURE);
    }
}

static inline const char *faulty_path(const char *fault)
{
    static char path[4096];
    snprintf(path, sizeof path, "%s/%s.so", faulty_folder(), fault);
    return path;
}

#endif
