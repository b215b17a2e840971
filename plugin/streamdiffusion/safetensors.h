/* safetensors.h - a checkpoint file, mapped and fully checked, and its tensors by name.
 *
 * Format: u64 little-endian header length, JSON header, data. Everything that the header says is
 * verified before the first tensor is handed out: bounds, overlaps and holes, dtypes, shapes
 * against sizes, duplicate names, truncation. A file is never written or copied, and must not
 * shrink while it is open.
 */
#ifndef SD_SAFETENSORS_H
#define SD_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

enum st_dtype {
    ST_F32 = 1,
    ST_F16,
    ST_BF16,
    ST_F64,
    ST_I64,
    ST_I32,
    ST_I16,
    ST_I8,
    ST_U8,
    ST_BOOL,
    ST_F8_E4M3,
    ST_F8_E5M2
};

typedef struct st_tensor {
    const char *name; /* borrowed from the file */
    int32_t dtype;    /* st_dtype */
    int32_t ndim;     /* 0..8 */
    int64_t dim[8];
    const void *data; /* borrowed: the mapping */
    size_t bytes;
} st_tensor;

typedef struct st_file st_file;

/* Map and check. NULL with one sentence in why (names the file and what is wrong). [load] */
st_file *st_open(const char *path, char why[256]);
/* The same over memory that outlives the file object. For tests and fuzzing. */
st_file *st_open_memory(const void *data, size_t size, const char *label, char why[256]);
void st_close(st_file *f); /* NULL is fine */

int st_count(const st_file *f);
const st_tensor *st_at(const st_file *f, int i);              /* sorted by name */
const st_tensor *st_find(const st_file *f, const char *name); /* or NULL */
/* An entry of __metadata__, borrowed; NULL when there is none. */
const char *st_metadata(const st_file *f, const char *key);
/* "F32"; "?" for no st_dtype. */
const char *st_dtype_name(int dtype);
/* Let the kernel drop the pages that were read; they come back on the next touch. */
void st_release_pages(const st_file *f);

#endif
