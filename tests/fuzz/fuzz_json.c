/* fuzz_json.c - any bytes as a body, and as the texts of a request's head. */
#include "host/http/internal.h"

#include <stdlib.h>

#define REQUIRE(x)                                                                                 \
    do {                                                                                           \
        if (!(x))                                                                                  \
            abort();                                                                               \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_body(const char *text, size_t n)
{
    char why[320] = "";
    json_t *body = json_body(text, n, false, why, sizeof why);
    REQUIRE(!body == !!why[0]);
    if (!body) {
        char *valid = g_utf8_make_valid(why, -1); /* as it is told */
        REQUIRE(strstr(valid, "line") || strstr(valid, "object"));
        g_free(valid);
        return;
    }
    char *again = json_dumps(body, JSON_COMPACT);
    json_t *same = again ? json_body(again, strlen(again), false, why, sizeof why) : NULL;
    REQUIRE(same && json_equal(same, body));
    json_decref(same);
    json_decref(body);
    free(again);
}

/* Whatever a path decodes to, it is text, and leads nowhere else. */
static void check_path(const char *path)
{
    static const route table[] = {
        {.method = "GET", .path = "/{a}/{b}"},
        {.method = "GET", .path = "/x/{rest*}"},
        {.method = "PUT", .path = "/x/y/{z}"},
        {0},
    };
    static const route *const tables[] = {table, NULL};
    request r = {.method = "GET"};
    char *allow;
    const char *fault;
    bool found = route_find(tables, &r, path, &allow, &fault);
    REQUIRE(found == (r.route != NULL) && (!found || allow));
    for (int i = 0; i < r.part_count; i++) {
        const char *value = r.parts[i].value;
        REQUIRE(g_utf8_validate(value, -1, NULL));
        REQUIRE(fault || (value[0] != '/' && !strstr(value, "../") && strcmp(value, "..") != 0));
        g_free(r.parts[i].value);
    }
    g_free(allow);
}

static void check_head(const char *text)
{
    uint64_t first, last;
    int part = range_parse(text, 1000, &first, &last);
    REQUIRE(part < 0 || (first <= last && last < 1000));
    REQUIRE(!host_known(text, "studio.example") || host_valid(text));
    static const route takes = {.consumes = "image/*, application/sdp"};
    if (route_takes(&takes, text))
        REQUIRE(g_ascii_strncasecmp(text, "image/", 6) == 0 ||
                g_ascii_strncasecmp(text, "application/sdp", 15) == 0);
    char *decoded = percent_decode(text, strlen(text));
    REQUIRE(!decoded || (g_utf8_validate(decoded, -1, NULL) && strlen(decoded) <= strlen(text)));
    g_free(decoded);
    g_free(ws_accept(text));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = g_strndup((const char *)data, size);
    check_body((const char *)data, size);
    check_path(text);
    check_head(text);
    g_free(text);
    return 0;
}
