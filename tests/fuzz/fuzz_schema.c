/* fuzz_schema.c - any bytes as a schema: an error with a text, or a schema whose readers agree. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "schema/schema.h"

#define REQUIRE(x)                                                                                 \
    do {                                                                                           \
        if (!(x))                                                                                  \
            abort();                                                                               \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What the schema says, it says again after a round through JSON; and its defaults are valid. */
static void check(const schema *s)
{
    schema_error err;
    json_t *doc = schema_json(s);
    char *text = json_dumps(doc, 0);
    REQUIRE(doc && text);
    schema *again = schema_parse(text, &err);
    /* What is emitted is a little longer than what was read, and may pass the bound on size. */
    if (again) {
        json_t *same = schema_json(again);
        REQUIRE(json_equal(doc, same));
        json_decref(same);
    } else {
        REQUIRE(strlen(text) > 1 << 20);
    }
    json_t *full = schema_complete(s, NULL, &err);
    scope_kwargs *kw = schema_bind(s, full, 1, &err);
    REQUIRE(full && kw);
    int n;
    schema_ordered(s, &n);
    REQUIRE(kw->count == n && json_object_size(full) == (size_t)n);
    FILE *out = fopen("/dev/null", "w");
    if (out) {
        schema_help(s, out);
        schema_markdown(s, "id", "1", out);
        fclose(out);
    }
    free(kw);
    json_decref(full);
    schema_free(again);
    free(text);
    json_decref(doc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    schema_error err = {"", ""};
    char *text = malloc(size + 1);
    REQUIRE(text);
    memcpy(text, data, size);
    text[size] = '\0';
    schema *s = schema_parse(text, &err);
    if (s) {
        check(s);
    } else {
        json_t *told = json_string(err.text), *path = json_string(err.path);
        REQUIRE(told && path && err.text[0] && strcmp(err.text, "out of memory") != 0);
        json_decref(told);
        json_decref(path);
    }
    schema_free(s);
    free(text);
    return 0;
}
