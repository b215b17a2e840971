/* fuzz_kwargs.c - any bytes as values of a fixed schema, as JSON and as a flag.
 *
 * Input that begins with a name and '=' is a flag, anything else a JSON object. Whatever is taken
 * must bind, and completing it twice must change nothing. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "plugin/scope_plugin.h"
#include "schema/schema.h"

#define REQUIRE(x)                                                                                 \
    do {                                                                                           \
        if (!(x))                                                                                  \
            abort();                                                                               \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char schema_text[] = SCOPE_JSON({
    "properties" : {
        "on" : {"type" : "boolean", "default" : true},
        "any" : {"type" : "integer", "default" : 0},
        "even" : {"type" : "integer", "default" : 0, "step" : 2},
        "width" : {"$ref" : "base.json#/width"},
        "strength" : {"$ref" : "base.json#/strength"},
        "free" : {"type" : "number", "default" : 0},
        "mode" : {"type" : "string", "default" : "a", "enum" : [ "a", "b" ]},
        "text" : {"type" : "string", "default" : ""},
        "ns" : {
            "type" : "array",
            "default" : [0],
            "minItems" : 1,
            "maxItems" : 4,
            "items" : {"type" : "integer", "minimum" : 0}
        },
        "flags" : {"type" : "array", "default" : [], "items" : {"type" : "boolean"}},
        "prompts" : {"$ref" : "base.json#/prompts"},
        "grid" : {
            "type" : "array",
            "default" : [],
            "items" : {"type" : "array", "items" : {"type" : "number"}}
        }
    }
});

/* An error is a sentence in UTF-8. */
static void told(const schema_error *err)
{
    json_t *text = json_string(err->text), *path = json_string(err->path);
    REQUIRE(text && path && err->text[0] && strcmp(err->text, "out of memory") != 0);
    json_decref(text);
    json_decref(path);
}

static void check(const schema *s, const json_t *values)
{
    schema_error err = {"", ""};
    json_t *full = schema_complete(s, values, &err);
    scope_kwargs *kw = schema_bind(s, values, 1, &err);
    REQUIRE(!full == !kw);
    if (full) {
        json_t *twice = schema_complete(s, full, &err);
        REQUIRE(json_equal(full, twice));
        REQUIRE(scope_int(kw, "width") % 8 == 0 && scope_num(kw, "strength") <= 1);
        REQUIRE(scope_get(kw, "ns")->count >= 1 && scope_get(kw, "ns")->count <= 4);
        json_decref(twice);
    } else {
        told(&err);
    }
    free(kw);
    json_decref(full);
}

static void flag(const schema *s, char *text)
{
    schema_error err = {"", ""};
    json_t *values = json_object();
    char *equals = strchr(text, '=');
    *equals = '\0';
    if (schema_flag(s, values, text, equals + 1, &err) != 0) {
        told(&err);
        REQUIRE(json_object_size(values) == 0);
    }
    check(s, values);
    json_decref(values);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    schema_error err;
    schema *s = schema_parse(schema_text, &err);
    char *text = malloc(size + 1);
    REQUIRE(s && text);
    memcpy(text, data, size);
    text[size] = '\0';
    if (text[0] != '{' && strchr(text, '=')) {
        flag(s, text);
    } else {
        json_t *values = json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        if (values)
            check(s, values);
        json_decref(values);
    }
    free(text);
    schema_free(s);
    return 0;
}
