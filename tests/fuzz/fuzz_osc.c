/* fuzz_osc.c - any bytes as an OSC packet: taken apart without harm; what is a message has an
 * address and arguments that are told as JSON or text, and goes back into bytes that say the same.
 */
#include "host/osc/message.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_message(void *ctx, const char *address, lo_message args)
{
    int *count = ctx;
    ++*count;
    if (address[0] != '/' || !g_utf8_validate(address, -1, NULL))
        abort();
    for (int way = 0; way < 4; way++) {
        char *text = osc_message_text(args, way & 1, way & 2);
        if (text && lo_message_get_argc(args) > 1) {
            json_t *all = json_loads(text, 0, NULL);
            if (json_array_size(all) != (size_t)lo_message_get_argc(args))
                abort();
            json_decref(all);
        }
        g_free(text);
    }
}

static void on_echo(void *ctx, const char *address, lo_message args)
{
    char *text = osc_message_text(args, false, false);
    char **seen = ctx;
    seen[0] = g_strdup(address);
    seen[1] = text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int count = 0;
    bool good = osc_message_each(data, size, on_message, &count);
    if (good && size && data[0] == '/' && count != 1)
        abort();
    /* The bytes as the text of an argument survive the way there and back. */
    char *text = g_utf8_make_valid((const char *)data, (gssize)MIN(size, 500));
    lo_message args = lo_message_new();
    lo_message_add_string(args, text);
    GBytes *bytes = osc_message_bytes("/scope/text", args);
    gsize n;
    const void *packet = g_bytes_get_data(bytes, &n);
    char *seen[2] = {NULL, NULL};
    if (!osc_message_each(packet, n, on_echo, seen) || strcmp(seen[0], "/scope/text") != 0 ||
        !seen[1] || strcmp(seen[1], text) != 0)
        abort();
    g_free(seen[0]);
    g_free(seen[1]);
    g_free(text);
    g_bytes_unref(bytes);
    return 0;
}
