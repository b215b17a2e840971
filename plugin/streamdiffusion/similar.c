/* similar.c - see similar.h. */
#include "similar.h"

/* Uniform in [0, 1), of (seed, counter) alone. Source: Steele, Lea and Flood, "Fast Splittable
 * Pseudorandom Number Generators" (2014): the mix of SplitMix64. */
static double uniform(uint64_t seed, uint64_t counter)
{
    uint64_t x = seed * 0xd1342543de82ef95u + (counter + 1) * 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    x ^= x >> 31;
    return (double)(x >> 11) * 0x1p-53;
}

int similar_skip(similar *s, const similar_settings *o, double likeness)
{
    double u = uniform(o->seed, s->frame++);
    double p = o->threshold < 1 ? 1 - (1 - likeness) / (1 - o->threshold) : 0;
    int skip = u < p && s->skipped < o->max_skip; /* u < NaN does not hold */
    s->skipped = skip ? s->skipped + 1 : 0;
    return skip;
}
