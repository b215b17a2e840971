/* fuzz_tokenizer.c - any bytes as a prompt: 77 ids of the vocabulary, the same ones twice, with the
 * start and the end of text where they belong. */
#include "plugin/streamdiffusion/tokenizer.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#ifndef SOURCE_DIR
#define SOURCE_DIR "." /* the fuzzer itself runs in the repository's root */
#endif
#define FOLDER SOURCE_DIR "/tests/golden/tokenizer/"

enum { LAST = TOKENIZER_LENGTH - 1 };

static void check(const tokenizer *t, const char *text)
{
    int32_t ids[TOKENIZER_LENGTH], again[TOKENIZER_LENGTH];
    int eos = tokenizer_eos(t), count = tokenizer_encode(t, text, ids);
    int end = count < LAST ? count + 1 : LAST;
    if (count < 0 || tokenizer_encode(t, text, again) != count || memcmp(ids, again, sizeof ids))
        abort();
    if (ids[0] != eos - 1 || ids[end] != eos)
        abort();
    for (int i = 0; i <= LAST; i++) {
        if (ids[i] < 0 || ids[i] > eos)
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const folders[] = {FOLDER "plain", FOLDER "bang"};
    static tokenizer *t[2];
    char *text = malloc(size + 1);
    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    for (int i = 0; i < 2; i++) {
        scope_error err;
        if (!t[i] && !(t[i] = tokenizer_open(folders[i], &err))) {
            fprintf(stderr, "%s\n", err.text);
            abort();
        }
        check(t[i], text);
    }
    free(text);
    return 0;
}
