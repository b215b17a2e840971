/* tensor_list.h - the tensors of published checkpoints, names and shapes, from
 * tests/golden/tensors.
 *
 * A list begins with the number of tensors and of parameters. A line is one tensor: how many
 * characters its name shares with the one before, the rest of the name, the dimensions.
 */
#ifndef TESTS_TENSOR_LIST_H
#define TESTS_TENSOR_LIST_H

#include <check.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct tensor {
    char name[160];
    int ndim;
    int64_t dim[4];
} tensor;

/* The caller frees the result. */
static inline tensor *read_list(const char *name, int *count, long long *parameters)
{
    char path[256], line[256], rest[160], last[160] = "";
    int shared, at, more;
    long long d;
    snprintf(path, sizeof path, SOURCE_DIR "/tests/golden/tensors/%s.txt", name);
    FILE *f = fopen(path, "r");
    ck_assert_msg(f && fscanf(f, "%d %lld\n", count, parameters) == 2, "%s", path);
    tensor *t = calloc((size_t)*count, sizeof *t);
    for (int i = 0; i < *count; i++) {
        ck_assert_ptr_nonnull(fgets(line, sizeof line, f));
        ck_assert_int_eq(sscanf(line, "%d %159s%n", &shared, rest, &at), 2);
        snprintf(t[i].name, sizeof t[i].name, "%.*s%.100s", shared, last, rest);
        memcpy(last, t[i].name, sizeof last);
        for (; sscanf(line + at, "%lld%n", &d, &more) == 1; at += more)
            t[i].dim[t[i].ndim++] = d;
    }
    fclose(f);
    return t;
}

#endif
