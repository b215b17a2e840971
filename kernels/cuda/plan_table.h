/* plan_table.h - what was measured: which candidate runs which shape, in memory and in a text file.
 *
 * The file has one line a shape, columns parted by tabs: key, candidate, microseconds, and for
 * people the runner-up and its microseconds. It names candidates by name, so that a changed list
 * of candidates is measured anew. Lines that cannot be read are ignored. No CUDA in here.
 *
 * Threads: one at a time per table.
 */
#ifndef KERNELS_CUDA_PLAN_TABLE_H
#define KERNELS_CUDA_PLAN_TABLE_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { PLAN_KEY = 192, PLAN_NAME = 48 };

typedef struct plan_row {
    char key[PLAN_KEY];
    char name[PLAN_NAME], second[PLAN_NAME]; /* second: "" where one candidate alone fits */
    double us, second_us;
    int candidate; /* its number, once this process uses the row; -1: the file's alone */
} plan_row;

typedef struct plan_table {
    plan_row *rows; /* owned */
    int count, room;
    int *slots; /* owned; row + 1 by hash of the key, 0: free */
    int slot_count;
    char *path; /* owned; NULL: memory alone */
    int dirty;  /* something was measured since the last save */
} plan_table;

/* Begin with what the file `name` says, unless `empty`. It lies in $SCOPE_CACHE,
 * $XDG_CACHE_HOME/scope or ~/.cache/scope; characters of name that do not belong in a file's name
 * become '_'. NULL: in memory alone, as where there is no folder. */
void plan_table_open(plan_table *t, const char *name, int empty);
/* Save, and free. */
void plan_table_close(plan_table *t);

plan_row *plan_table_find(const plan_table *t, const char *key);
/* The row of that key, new if need be; NULL without memory, or where the key is too long or has
 * control characters. Rows move when the table grows. */
plan_row *plan_table_row(plan_table *t, const char *key);
/* Write the rows that this process uses, and what the file says of other keys by now, to a file
 * beside it that takes its place. A folder that cannot be written is no error: the next process
 * measures again. */
void plan_table_save(plan_table *t);

#ifdef __cplusplus
}
#endif
#endif
