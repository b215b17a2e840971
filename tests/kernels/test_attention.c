/* test_attention.c - attention against the softmax formula: head sizes, masks, slices, one set of
 * keys for all images, and more keys than one block holds. */
#include "bed.h"

typedef struct attention_case {
    int n, heads, d, tq, tk, kv_images, causal, extra;
    float gain; /* of the queries: large ones make a sharp softmax */
} attention_case;

static void reference_row(const attention_case *t, const float *q, k_tensor key, k_tensor value,
                          int64_t first, int head, int seen, double *to)
{
    double *score = calloc((size_t)t->tk, sizeof *score), most = -1e300, total = 0;
    for (int j = 0; j < seen; j++) {
        for (int c = 0; c < t->d; c++)
            score[j] +=
                (double)q[head * t->d + c] * (double)bed_at(key, first + j)[head * t->d + c];
        score[j] /= sqrt((double)t->d);
        most = fmax(most, score[j]);
    }
    for (int j = 0; j < seen; j++)
        total += score[j] = exp(score[j] - most);
    for (int c = 0; c < t->d; c++) {
        to[head * t->d + c] = 0;
        for (int j = 0; j < seen; j++)
            to[head * t->d + c] +=
                score[j] / total * (double)bed_at(value, first + j)[head * t->d + c];
    }
    free(score);
}

static void run_case(bed *b, const attention_case *t)
{
    int c = t->heads * t->d;
    k_tensor q = bed_tensor(b, t->n, 1, t->tq, c, t->extra);
    k_tensor key = bed_tensor(b, t->kv_images, 1, t->tk, c, t->extra);
    k_tensor value = bed_tensor(b, t->kv_images, 1, t->tk, c, t->extra);
    k_tensor y = bed_tensor(b, t->n, 1, t->tq, c, t->extra);
    double *reference = calloc((size_t)k_rows(y) * (size_t)c, sizeof *reference);
    for (int64_t r = 0; r < k_rows(q); r++)
        for (int i = 0; i < c; i++)
            bed_at(q, r)[i] *= t->gain;
    bed_push(b);
    for (int64_t r = 0; r < k_rows(q); r++)
        for (int head = 0; head < t->heads; head++) {
            int64_t image = t->kv_images == 1 ? 0 : r / t->tq;
            int seen = t->causal && r % t->tq + 1 < t->tk ? (int)(r % t->tq) + 1 : t->tk;
            reference_row(t, bed_at(q, r), key, value, image * t->tk, head, seen,
                          reference + r * c);
        }
    k_attention o = {.heads = t->heads, .causal = t->causal};
    BED_RUN(b, attention, y, q, key, value, &o);
    char what[128];
    snprintf(what, sizeof what, "attention %d x %d heads of %d, %d queries, %d keys, causal %d",
             t->n, t->heads, t->d, t->tq, t->tk, t->causal);
    /* exp is exact to 2e-7; its argument, a score of up to ~40 in fp32, adds 4e-6. A GPU rounds
     * each probability to the type before the second product. */
    bed_compare(b, y, reference, bed_bar(1e-5, 2e-5 + bed_unit(b->real)), what);
    free(reference);
    bed_drop(b, &q);
    bed_drop(b, &key);
    bed_drop(b, &value);
    bed_drop(b, &y);
}

static void all_cases(bed *b)
{
    static const attention_case cases[] = {
        {1, 1, 1, 1, 1, 1, 0, 0, 1},      {1, 2, 40, 9, 9, 1, 0, 0, 1},
        {2, 3, 64, 13, 77, 2, 0, 0, 1},   {3, 2, 64, 25, 77, 1, 0, 8, 4},
        {1, 1, 80, 7, 300, 1, 0, 3, 8},   {1, 2, 160, 5, 33, 1, 0, 0, 1},
        {1, 1, 512, 3, 17, 1, 0, 0, 1},   {1, 2, 64, 77, 77, 1, 1, 0, 2},
        {2, 1, 16, 300, 300, 2, 1, 1, 8}, {1, 1, 10, 20, 600, 1, 0, 0, 30},
        {1, 5, 8, 1, 1000, 1, 0, 0, 1},   {1, 2, 24, 40, 12, 1, 1, 0, 1},
        {2, 2, 8, 65, 63, 2, 0, 0, 2},    {1, 3, 32, 67, 129, 1, 0, 8, 4},
        {3, 2, 40, 70, 77, 1, 0, 16, 2},  {2, 1, 64, 130, 140, 2, 0, 0, 4},
        {2, 2, 80, 65, 77, 1, 0, 0, 2},   {1, 2, 64, 66, 66, 1, 1, 8, 2},
        {1, 1, 128, 33, 70, 1, 0, 0, 2},  {2, 1, 160, 17, 77, 1, 0, 32, 2},
        {1, 1, 160, 66, 66, 1, 1, 0, 2},  {1, 1, 512, 35, 66, 1, 0, 0, 4},
        {2, 4, 64, 66, 70, 1, 0, 0, 2},   {1, 1, 64, 3, 1100, 1, 0, 0, 2},
        {1, 8, 64, 65, 130, 1, 1, 0, 2},  {1, 8, 40, 65, 9, 1, 1, 16, 1},
        {1, 1, 256, 20, 700, 1, 0, 0, 1}, {1, 1, 96, 5, 9, 1, 0, 0, 1},
        {2, 4, 32, 66, 64, 2, 0, 0, 1},   {1, 3, 56, 70, 20, 1, 0, 0, 1},
        {1, 1, 168, 20, 70, 1, 1, 0, 1},  {1, 1, 128, 9, 70, 1, 0, 16, 1},
        {1, 2, 72, 17, 33, 1, 0, 0, 1},   {1, 1, 120, 66, 20, 1, 1, 0, 1},
        {1, 1, 200, 20, 70, 1, 0, 0, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (!bed_skips(i))
            run_case(b, &cases[i]);
}

START_TEST(test_attention)
{
    bed_each(all_cases, BED_NETWORK);
}
END_TEST

BED_MAIN("attention", test_attention)
