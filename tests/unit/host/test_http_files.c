/* test_http_files.c - files and their ranges, and the OpenAPI document. */
#include "http_fixture.h"

#include <fcntl.h>
#include <sys/stat.h>

static char file_path[] = "/tmp/test_http.XXXXXX";
static fixture f;

static response *on_file(request *r)
{
    return response_file(r, file_path, "text/plain", request_query(r, "as"));
}

static response *on_folder(request *r)
{
    return response_file(r, request_query(r, "at"), "text/plain", NULL);
}

static response *on_none(request *r)
{
    return response_error(r, 404, "STREAMS/NOT_FOUND", "id", "there is no such stream");
}

static const route routes[] = {
    {.method = "GET",
     .path = "/file",
     .handler = on_file,
     .access = ROUTE_OPEN,
     .summary = "The file",
     .produces = "text/plain",
     .query = "{\"as\": {\"type\": \"string\"}}"},
    {.method = "GET",
     .path = "/at",
     .handler = on_folder,
     .access = ROUTE_OPEN,
     .summary = "Any file",
     .produces = "text/plain, application/json"},
    {.method = "GET",
     .path = "/v1/streams/{id}",
     .handler = on_none,
     .access = ROUTE_TOKEN,
     .summary = "A stream",
     .answer = "#Stream"},
    {.method = "PATCH",
     .path = "/v1/streams/{id}",
     .handler = on_none,
     .access = ROUTE_TOKEN,
     .summary = "Change a stream",
     .body_max = 100,
     .body = "{\"type\": \"object\", \"properties\": {\"of\": \"#Stream\"}}",
     .answer = "{\"type\": \"array\", \"items\": \"#Stream\"}"},
    {.method = "PUT",
     .path = "/assets/{name*}",
     .handler = on_none,
     .access = ROUTE_TOKEN,
     .summary = "Keep a file",
     .body_max = 100,
     .consumes = "image/*, video/mp4",
     .status = 204},
    {.method = "GET",
     .path = "/live/{key}/view",
     .handler = on_none,
     .access = ROUTE_SECRET,
     .summary = "Watch",
     .status = 101},
    {0},
};
static const route *const tables[] = {routes, NULL};

static void start(void)
{
    f = (fixture){.routes = tables, .options = f.options};
    fixture_start(&f);
}

static void make_file(size_t n)
{
    int fd = mkstemp(file_path);
    char *data = g_malloc(n + 1);
    for (size_t i = 0; i < n; i++)
        data[i] = (char)('a' + i % 26);
    ck_assert_int_eq(write(fd, data, n), (ssize_t)n);
    g_free(data);
    close(fd);
}

START_TEST(ranges)
{
    static const struct {
        const char *text;
        uint64_t size;
        int part;
        uint64_t first, last;
    } cases[] = {
        {NULL, 100, 0, 0, 99},
        {"bytes=0-0", 100, 1, 0, 0},
        {"bytes=10-19", 100, 1, 10, 19},
        {"bytes=90-", 100, 1, 90, 99},
        {"bytes=90-200", 100, 1, 90, 99},
        {"bytes=-5", 100, 1, 95, 99},
        {"bytes=-500", 100, 1, 0, 99},
        {"bytes=100-", 100, -1, 0, 0},
        {"bytes=-0", 100, -1, 0, 0},
        {"bytes=0-", 0, -1, 0, 0},
        {"bytes=18446744073709551615-", 100, -1, 0, 0},
        {"bytes=0-18446744073709551616", 100, 1, 0, 99},
        {"bytes=5-4", 100, 0, 0, 99}, /* what cannot be read is left out of account */
        {"bytes=1-2,4-5", 100, 0, 0, 99},
        {"bytes=a-b", 100, 0, 0, 99},
        {"bytes=--1", 100, 0, 0, 99},
        {"bytes=1-2x", 100, 0, 0, 99},
        {"lines=1-2", 100, 0, 0, 99},
        {"bytes=", 100, 0, 0, 99},
        {"bytes=-", 100, 0, 0, 99},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        uint64_t first, last;
        int part = range_parse(cases[i].text, cases[i].size, &first, &last);
        ck_assert_msg(part == cases[i].part, "%s: %d", cases[i].text, part);
        if (part >= 0)
            ck_assert_msg(first == cases[i].first && last == cases[i].last, "%s", cases[i].text);
    }
}
END_TEST

START_TEST(files)
{
    make_file(100);
    start();
    char *answer = fetch(&f, "GET /file?as=a%20%22%C3%A9.txt", NULL);
    ck_assert_int_eq(status_of(answer), 200);
    ck_assert_uint_eq(strlen(body_of(answer)), 100);
    expect_header(answer, "Content-Disposition", "attachment; filename*=UTF-8''a%20%22%C3%A9.txt");
    expect_header(answer, "Accept-Ranges", "bytes");
    expect_header(answer, "Cache-Control", "no-cache");
    char *etag = header_of(answer, "ETag"), *date = header_of(answer, "Last-Modified");
    ck_assert(etag && date && g_str_has_suffix(date, " GMT"));
    g_free(answer);
    answer = fetch(&f, "GET /file", "Range: bytes=10-12\r\n");
    ck_assert_int_eq(status_of(answer), 206);
    expect_header(answer, "Content-Range", "bytes 10-12/100");
    expect_header(answer, "Content-Length", "3");
    ck_assert_str_eq(body_of(answer), "klm");
    g_free(answer);
    answer = fetch(&f, "HEAD /file", NULL);
    expect_header(answer, "Content-Length", "100");
    ck_assert_str_eq(body_of(answer), "");
    g_free(answer);
    answer = fetch(&f, "GET /file", "Range: bytes=100-\r\n");
    expect_error(answer, 416, "REQUEST/RANGE");
    expect_header(answer, "Content-Range", "bytes */100");
    g_free(answer);
    const struct {
        const char *name, *value;
        int status;
    } known[] = {
        {"If-None-Match", etag, 304},    {"If-None-Match", "*", 304},
        {"If-None-Match", "\"x\"", 200}, {"If-Modified-Since", date, 304},
        {"If-Range", "\"x\"", 200},      {"If-Range", etag, 206},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(known); i++) {
        char *more = g_strdup_printf("%s: %s\r\n%s", known[i].name, known[i].value,
                                     known[i].status > 300 ? "" : "Range: bytes=0-0\r\n");
        answer = fetch(&f, "GET /file", more);
        int want =
            known[i].status == 200 && strcmp(known[i].name, "If-Range") ? 206 : known[i].status;
        ck_assert_msg(status_of(answer) == want, "%s: %s", more, answer);
        if (want == 304)
            ck_assert_str_eq(body_of(answer), "");
        g_free(answer);
        g_free(more);
    }
    g_free(etag);
    g_free(date);
    static const char *const none[] = {"GET /at?at=/tmp", "GET /at?at=/nowhere",
                                       "GET /at?at=/dev/zero"};
    for (size_t i = 0; i < G_N_ELEMENTS(none); i++) {
        answer = fetch(&f, none[i], NULL);
        expect_error(answer, 404, "REQUEST/NOT_FOUND");
        g_free(answer);
    }
    ck_assert_int_eq(truncate(file_path, 0), 0);
    answer = fetch(&f, "GET /file", NULL);
    ck_assert_int_eq(status_of(answer), 200);
    expect_header(answer, "Content-Length", "0");
    g_free(answer);
    int fds = count_fds();
    for (int i = 0; i < 100; i++)
        g_free(fetch(&f, "GET /file", i % 2 ? "If-None-Match: *\r\n" : "Range: bytes=3-4\r\n"));
    ck_assert_int_le(count_fds(), fds + 1);
    unlink(file_path);
    fixture_stop(&f);
}
END_TEST

static void describe(fixture *at, void *ctx)
{
    server_component(at->server, "Stream",
                     "{\"type\": \"object\", \"properties\": "
                     "{\"next\": \"#Stream\", \"id\": {\"type\": \"string\"}}}");
    *(json_t **)ctx = server_openapi(at->server, "http://localhost:8080");
}

/* The value at a path of keys and indices, "a/0/b" with "~" for a slash in a key; or NULL. */
static json_t *find(json_t *at, const char *path)
{
    char **keys = g_strsplit(path, "/", -1);
    for (char **k = keys; *k && at; k++) {
        g_strdelimit(*k, "~", '/');
        at = json_is_array(at) ? json_array_get(at, (size_t)atoi(*k)) : json_object_get(at, *k);
    }
    g_strfreev(keys);
    return at;
}

static void expect_at(json_t *doc, const char *path, const char *json)
{
    json_t *got = find(doc, path), *want = json_loads(json, JSON_DECODE_ANY, NULL);
    char *text = got ? json_dumps(got, JSON_ENCODE_ANY) : NULL;
    ck_assert(want != NULL);
    ck_assert_msg(got && json_equal(got, want), "%s: %s", path, text);
    free(text);
    json_decref(want);
}

START_TEST(openapi)
{
    json_t *doc;
    f.options.token = "x";
    start();
    fixture_do(&f, describe, &doc);
    expect_at(doc, "openapi", "\"3.1.0\"");
    expect_at(doc, "servers", "[{\"url\": \"http://localhost:8080\"}]");
    expect_at(doc, "paths/~file/get/parameters",
              "[{\"name\": \"as\", \"in\": \"query\", \"required\": false,"
              " \"schema\": {\"type\": \"string\"}}]");
    expect_at(doc, "paths/~file/get/operationId", "\"get_file\"");
    expect_at(doc, "paths/~file/get/responses/200/content", "{\"text/plain\": {}}");
    expect_at(doc, "paths/~v1~streams~{id}/get/responses/200/content/application~json",
              "{\"schema\": {\"$ref\": \"#/components/schemas/Stream\"}}");
    expect_at(doc, "paths/~v1~streams~{id}/get/security", "[{\"bearer\": []}]");
    expect_at(doc, "paths/~v1~streams~{id}/get/parameters/0/name", "\"id\"");
    expect_at(doc, "paths/~v1~streams~{id}/get/parameters/0/required", "true");
    expect_at(doc, "paths/~v1~streams~{id}/get/responses/404",
              "{\"$ref\": \"#/components/responses/404\"}");
    expect_at(doc,
              "paths/~v1~streams~{id}/patch/requestBody/content/application~json/schema/"
              "properties/of/$ref",
              "\"#/components/schemas/Stream\"");
    expect_at(doc, "paths/~v1~streams~{id}/patch/requestBody/required", "true");
    expect_at(doc, "paths/~v1~streams~{id}/patch/responses/200/content/application~json/schema",
              "{\"type\": \"array\", \"items\": {\"$ref\": \"#/components/schemas/Stream\"}}");
    expect_at(doc, "paths/~assets~{name}/put/responses/204", "{\"description\": \"Success\"}");
    ck_assert(find(doc, "paths/~assets~{name}/put/requestBody/content/video~mp4"));
    ck_assert(!find(doc, "paths/~live~{key}~view/get/security"));
    expect_at(doc, "components/responses/400/content/application~json/schema/$ref",
              "\"#/components/schemas/Error\"");
    expect_at(doc, "components/schemas/Stream/properties/next/$ref",
              "\"#/components/schemas/Stream\"");
    expect_at(doc, "components/securitySchemes/bearer/scheme", "\"bearer\"");
    json_decref(doc);
    fixture_stop(&f);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("http_files");
    TCase *tc = tcase_create("http_files");
    tcase_set_timeout(tc, 120);
    suite_add_tcase(suite, tc);
    tcase_add_test(tc, ranges);
    tcase_add_test(tc, files);
    tcase_add_test(tc, openapi);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
