/* shapes.c - the named schemas of /openapi.json for the server's own interface (README.md).
 *
 * Under serve. What streams_routes and library_routes call "#Stream" and so on.
 */
#include "app.h"

static const struct {
    const char *name, *json;
} shapes[] = {
    {"Stream",
     "{\"type\":\"object\",\"required\":[\"id\",\"name\",\"created_at\",\"state\",\"notice\","
     "\"publish_key\",\"playback_id\",\"fit\",\"chain\",\"source\",\"outputs\",\"stats\"],"
     "\"properties\":{\"id\":{\"type\":\"string\"},\"name\":{\"type\":\"string\"},"
     "\"created_at\":{\"type\":\"string\",\"format\":\"date-time\"},"
     "\"state\":{\"enum\":[\"empty\",\"loading\",\"offline\",\"online\",\"reloading\","
     "\"degraded\",\"failed\"]},\"notice\":{\"type\":\"string\"},"
     "\"publish_key\":{\"type\":\"string\"},\"playback_id\":{\"type\":\"string\"},"
     "\"fit\":{\"enum\":[\"crop\",\"pad\",\"stretch\"]},"
     "\"chain\":{\"type\":\"array\",\"items\":\"#Link\"},"
     "\"source\":{\"type\":[\"object\",\"null\"]},"
     "\"outputs\":{\"type\":\"array\",\"items\":\"#Output\"},\"stats\":\"#Stats\"}}"},
    {"Link", "{\"type\":\"object\",\"required\":[\"plugin\",\"values\",\"generation\"],"
             "\"properties\":{\"plugin\":{\"type\":\"string\"},\"values\":{\"type\":\"object\"},"
             "\"generation\":{\"type\":\"integer\"}}}"},
    {"Stats",
     "{\"type\":\"object\",\"required\":[\"fps_in\",\"fps_out\",\"model_ms\",\"age_ms\","
     "\"frames_in\",\"frames_out\",\"dropped\",\"skipped\",\"repeated\",\"failed\",\"restarts\","
     "\"viewers\",\"w\",\"h\"],\"properties\":{\"fps_in\":{\"type\":\"number\"},"
     "\"fps_out\":{\"type\":\"number\"},\"model_ms\":\"#Percentiles\",\"age_ms\":\"#Percentiles\","
     "\"frames_in\":{\"type\":\"integer\"},\"frames_out\":{\"type\":\"integer\"},"
     "\"dropped\":{\"type\":\"integer\"},\"skipped\":{\"type\":\"integer\"},"
     "\"repeated\":{\"type\":\"integer\"},\"failed\":{\"type\":\"integer\"},"
     "\"restarts\":{\"type\":\"integer\"},\"viewers\":{\"type\":\"integer\"},"
     "\"w\":{\"type\":\"integer\"},\"h\":{\"type\":\"integer\"}}}"},
    {"Percentiles", "{\"type\":\"object\",\"required\":[\"p50\",\"p95\",\"p99\"],\"properties\":{"
                    "\"p50\":{\"type\":\"number\"},\"p95\":{\"type\":\"number\"},"
                    "\"p99\":{\"type\":\"number\"}}}"},
    {"StreamBody",
     "{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{"
     "\"name\":{\"type\":[\"string\",\"null\"]},\"fit\":{\"enum\":[\"crop\",\"pad\",\"stretch\"]},"
     "\"chain\":{\"type\":\"array\",\"maxItems\":8,\"items\":{\"type\":\"object\","
     "\"required\":[\"plugin\"],\"additionalProperties\":false,\"properties\":{\"plugin\":{"
     "\"type\":\"string\"},\"values\":{\"type\":\"object\"}}}},"
     "\"source\":{\"type\":[\"object\",\"null\"],\"required\":[\"url\"],\"properties\":{\"url\":{"
     "\"type\":\"string\"},\"loop\":{\"type\":\"boolean\"},\"fps\":{\"type\":\"number\"}}}}}"},
    {"Output", "{\"type\":\"object\",\"required\":[\"id\",\"kind\",\"state\"],\"properties\":{"
               "\"id\":{\"type\":\"string\"},\"kind\":{\"type\":\"string\"},"
               "\"state\":{\"enum\":[\"starting\",\"live\",\"retrying\",\"finishing\",\"done\","
               "\"failed\"]},\"reason\":{\"type\":[\"string\",\"null\"]}}}"},
    {"OutputBody", "{\"type\":\"object\",\"required\":[\"kind\"],\"properties\":{"
                   "\"kind\":{\"enum\":[\"record\",\"rtmp\",\"hls\",\"srt\",\"v4l2\"]},"
                   "\"url\":{\"type\":\"string\"},\"name\":{\"type\":\"string\"},"
                   "\"bitrate_kbps\":{\"type\":\"integer\",\"minimum\":100,\"maximum\":80000},"
                   "\"audio\":{\"type\":\"boolean\"}}}"},
};

void shapes_tell(server *s)
{
    for (size_t i = 0; i < G_N_ELEMENTS(shapes); i++)
        server_component(s, shapes[i].name, shapes[i].json);
    daydream_shapes(s);
}
