/* fp8.c - see fp8.h. Formats: Micikevicius et al., "FP8 formats for deep learning", 2022. */
#include "fp8.h"

#include "safetensors.h"

/* e4m3: sign, four bits of exponent with bias 7, three of mantissa; all ones is the one NaN. */
static uint16_t from_e4m3(unsigned b)
{
    unsigned sign = (b & 0x80) << 8, m = b & 7;
    int e = (int)(b >> 3 & 15);
    if ((b & 0x7f) == 0x7f)
        return (uint16_t)(sign | 0x7e00);
    if (!e && !m)
        return (uint16_t)sign;
    if (!e) { /* m / 8 * 2^-6, which binary16 has as a normal number */
        for (e = 1; !(m & 8); e--)
            m <<= 1;
        m &= 7;
    }
    return (uint16_t)(sign | (unsigned)(e + 8) << 10 | m << 7);
}

void fp8_widen(uint16_t *y, const uint8_t *x, size_t n, int dtype)
{
    uint16_t wide[256];
    for (unsigned b = 0; b < 256; b++) /* e5m2 is the upper half of a binary16 */
        wide[b] = dtype == ST_F8_E4M3 ? from_e4m3(b) : (uint16_t)(b << 8);
#pragma omp parallel for schedule(static) if (n > 1 << 20)
    for (size_t i = 0; i < n; i++)
        y[i] = wide[x[i]];
}
