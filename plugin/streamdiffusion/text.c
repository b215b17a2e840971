/* text.c - see text.h. */
#include "text.h"

int text_width(const model *m)
{
    return clip_width(m->text) + (m->text_2 ? clip_width(m->text_2) : 0);
}

int text_pooled(const model *m)
{
    return m->text_2 ? clip_projection(m->text_2) : 0;
}

size_t text_size(const model *m)
{
    return (size_t)TOKENIZER_LENGTH * (size_t)text_width(m) + (size_t)text_pooled(m);
}

/* A pass that stops `skip` layers early, but at the first layer at the earliest. */
static clip_take take_of(const model *m, const clip *c, int skip, k_tensor states)
{
    int most = clip_layers(c) - 1, bare = m->text_2 != NULL;
    skip += bare;
    return (clip_take){.states = states, .skip = skip < most ? skip : most, .bare = bare};
}

/* The ids up to the end token, then the second tokenizer's padding. */
static void repad(const model *m, int32_t ids[TOKENIZER_LENGTH])
{
    int i = 0;
    while (i < TOKENIZER_LENGTH && ids[i] != tokenizer_eos(m->tokens))
        i++;
    for (i++; i < TOKENIZER_LENGTH; i++)
        ids[i] = m->pad_2;
}

static void encode_second(k_ctx *k, const model *m, k_tensor ids, clip_take take)
{
    int32_t id[TOKENIZER_LENGTH] = {0};
    k_get(k, ids, id);
    repad(m, id);
    k_tensor again = k_temp(k, K_I32, 1, 1, TOKENIZER_LENGTH, 1);
    k_put(k, again, id);
    take.row = clip_pooled_row(m->text_2, id, TOKENIZER_LENGTH);
    clip_run(k, m->text_2, &take, again, NULL);
}

void text_encode(k_ctx *k, const model *m, k_tensor ids, int skip, float *flat)
{
    int width = text_width(m), first = clip_width(m->text);
    size_t mark = k_mark(k);
    k_tensor states = k_temp(k, K_F32, 1, 1, TOKENIZER_LENGTH, width);
    clip_take take = take_of(m, m->text, skip, k_slice(states, 0, first));
    clip_run(k, m->text, &take, ids, NULL);
    if (m->text_2) {
        take = take_of(m, m->text_2, skip, k_slice(states, first, width - first));
        take.pooled = k_temp(k, K_F32, 1, 1, 1, text_pooled(m));
        encode_second(k, m, ids, take);
    }
    if (!k->planning) {
        k_get(k, states, flat);
        if (m->text_2)
            k_get(k, take.pooled, flat + (size_t)TOKENIZER_LENGTH * (size_t)width);
    }
    k_release(k, mark);
}

int text_is_zero(const model *m, const char *unwanted)
{
    return m->config.zero_empty && !unwanted[0];
}
