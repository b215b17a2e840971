/* names.c - every tensor of one part of a checkpoint as the loader sees it: name, shape, and two
 * sums of its values, a line each. single.py compares them with diffusers'.
 *
 *     names FILE PART
 */
#include "plugin/streamdiffusion/fp8.h"
#include "plugin/streamdiffusion/weights_index.h"

#include <math.h>
#include <stdlib.h>

static double half(uint16_t bits)
{
    int e = bits >> 10 & 31, m = bits & 1023;
    double v = e ? ldexp(1 + m / 1024.0, e - 15) : ldexp(m / 1024.0, -14);
    return bits & 0x8000 ? -v : v;
}

static double value(const st_tensor *t, size_t i)
{
    float f;
    uint16_t bits;
    if (t->dtype == ST_F32) {
        memcpy(&f, (const char *)t->data + 4 * i, 4);
        return (double)f;
    }
    if (t->dtype == ST_F16)
        memcpy(&bits, (const char *)t->data + 2 * i, 2);
    else
        fp8_widen(&bits, (const uint8_t *)t->data + i, 1, t->dtype);
    return half(bits);
}

static void print(const named *e)
{
    const st_tensor *t = &e->tensor;
    double sum = 0, weighted = 0;
    int64_t n = 1;
    for (int i = 0; i < t->ndim; i++)
        n *= t->dim[i];
    int known = t->dtype == ST_F32 || t->dtype == ST_F16 || t->dtype >= ST_F8_E4M3;
    for (int64_t i = 0; i < n && known; i++) {
        int64_t from = e->transposed ? i % t->dim[0] * t->dim[1] + i / t->dim[0] : i;
        double v = value(t, (size_t)from);
        sum += v;
        weighted += v * (double)(i % 1009 + 1);
    }
    printf("%s\t", e->name);
    for (int i = 0; i < t->ndim; i++)
        printf("%s%lld", i ? " " : "", (long long)t->dim[e->transposed ? 1 - i : i]);
    printf("\t%.17g\t%.17g\n", sum, weighted);
}

int main(int argc, char **argv)
{
    weights_index x;
    scope_error err;
    if (argc != 3) {
        fprintf(stderr, "usage: names FILE PART\n");
        return 2;
    }
    if (weights_index_open(&x, argv[1], argv[2], &err)) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    for (int i = 0; i < x.count; i++)
        print(&x.entry[i]);
    weights_index_close(&x);
    return 0;
}
