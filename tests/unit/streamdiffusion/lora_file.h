/* lora_file.h - small LoRA files of fp32 tensors, for tests. */
#ifndef TESTS_LORA_FILE_H
#define TESTS_LORA_FILE_H

#include <stdint.h>
#include <stdio.h>

typedef struct lora_tensor {
    const char *key;
    int dim[4];  /* 0: no more */
    float value; /* of every number, but the sign alternates */
} lora_tensor;

/* dir/name.safetensors. The path is good for the next few calls. */
static inline const char *lora_file(const char *dir, const char *name, const lora_tensor *list,
                                    int count)
{
    static char path[8][512];
    static int next;
    char header[4096] = "{";
    size_t at = 0, used = 1;
    char *file = path[next++ % 8];
    snprintf(file, 512, "%s/%s.safetensors", dir, name);
    for (int i = 0; i < count; i++) {
        const int *d = list[i].dim;
        int ndim = 0;
        size_t bytes = 4;
        used += (size_t)sprintf(header + used, "%s\"%s\": {\"dtype\": \"F32\", \"shape\": [",
                                i ? ", " : "", list[i].key);
        for (; ndim < 4 && d[ndim]; ndim++) {
            used += (size_t)sprintf(header + used, "%s%d", ndim ? ", " : "", d[ndim]);
            bytes *= (size_t)d[ndim];
        }
        used += (size_t)sprintf(header + used, "], \"data_offsets\": [%zu, %zu]}", at, at + bytes);
        at += bytes;
    }
    header[used++] = '}';
    FILE *f = fopen(file, "wb");
    uint64_t length = used;
    fwrite(&length, sizeof length, 1, f);
    fwrite(header, 1, used, f);
    for (int i = 0; i < count; i++) {
        size_t n = 1;
        for (int j = 0; j < 4 && list[i].dim[j]; j++)
            n *= (size_t)list[i].dim[j];
        for (size_t j = 0; j < n; j++) {
            float v = j % 3 ? list[i].value : -list[i].value;
            fwrite(&v, sizeof v, 1, f);
        }
    }
    fclose(f);
    return file;
}

#endif
