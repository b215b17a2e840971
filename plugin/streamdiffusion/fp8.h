/* fp8.h - weights of one byte, widened exactly to half precision, which holds all their values. */
#ifndef SD_FP8_H
#define SD_FP8_H

#include <stddef.h>
#include <stdint.h>

/* y[i] = x[i] as IEEE binary16. dtype: ST_F8_E4M3 (no infinities, bias 7) or ST_F8_E5M2. */
void fp8_widen(uint16_t *y, const uint8_t *x, size_t n, int dtype);

#endif
