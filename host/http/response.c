/* response.c - the answers that are whole when they are made. */
#include "internal.h"

#include <stdarg.h>

response *response_of(int status, const char *type, struct MHD_Response *mhd, size_t size)
{
    response *a = g_new0(response, 1);
    g_assert(mhd);
    a->status = status;
    a->mhd = mhd;
    a->size = size;
    if (type)
        response_header(a, "Content-Type", type);
    return a;
}

void response_free(response *a)
{
    MHD_destroy_response(a->mhd);
    g_free(a);
}

/* `text` is from malloc, and belongs to the response now. */
static response *of_malloc(int status, const char *type, char *text)
{
    size_t n = strlen(text);
    return response_of(status, type,
                       MHD_create_response_from_buffer(n, text, MHD_RESPMEM_MUST_FREE), n);
}

response *response_json(int status, json_t *body)
{
    char *text = json_dumps(body, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
    json_decref(body);
    if (!text) /* a text somewhere in it was no UTF-8 */
        return response_text(500, "application/json",
                             "{\"success\":false,\"error\":\"the answer cannot be put into JSON\","
                             "\"code\":\"INTERNAL\",\"status\":500,\"details\":null,"
                             "\"requestId\":null,\"traceId\":null}");
    return of_malloc(status, "application/json", text);
}

response *response_text(int status, const char *type, const char *text)
{
    size_t n = strlen(text);
    return response_of(
        status, type,
        MHD_create_response_from_buffer(n, (void *)(uintptr_t)text, MHD_RESPMEM_MUST_COPY), n);
}

static void bytes_unref(void *bytes)
{
    g_bytes_unref(bytes);
}

response *response_bytes(int status, const char *type, GBytes *bytes)
{
    gsize n;
    void *data = (void *)(uintptr_t)g_bytes_get_data(bytes, &n);
    if (n == 0)
        return response_text(status, type, "");
    return response_of(status, type,
                       MHD_create_response_from_buffer_with_free_callback_cls(n, data, bytes_unref,
                                                                              g_bytes_ref(bytes)),
                       n);
}

void response_header(response *a, const char *name, const char *value)
{
    a->cache |= g_ascii_strcasecmp(name, "Cache-Control") == 0;
    /* A value with a line break would be a header of somebody else's: it is refused, and told. */
    if (MHD_add_response_header(a->mhd, name, value) != MHD_YES)
        g_warning("the header %s cannot be sent with its value", name);
}

response *response_error(request *r, int status, const char *code, const char *field,
                         const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    char *valid = g_utf8_make_valid(text, -1);
    json_t *details = field && *field ? json_pack("{s:s}", "field", field) : NULL;
    json_t *body = json_pack("{s:b, s:s, s:s, s:i, s:o, s:s, s:n}", "success", 0, "error", valid,
                             "code", code, "status", status, "details",
                             details ? details : json_null(), "requestId", r->id, "traceId");
    g_free(text);
    g_free(valid);
    return response_json(status, body);
}

response *response_fault(request *r, const char *code, const scope_error *err)
{
    return response_error(r, err->status == SCOPE_EINVAL ? 400 : 500, code, err->field, "%s",
                          err->text[0] ? err->text : "it failed without saying why");
}
