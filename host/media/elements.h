/* elements.h - the GStreamer underneath: start it, ask for elements, put its errors in words. */
#ifndef MEDIA_ELEMENTS_H
#define MEDIA_ELEMENTS_H

#include "../error.h"

#include <gst/gst.h>
#include <stdbool.h>

/* Start GStreamer; the second and later calls do nothing. [any] */
int media_init(scope_error *err);

/* Is the element there? If not, *err names it and the package that brings it. [any] */
int media_need(const char *element, scope_error *err);
bool media_has(const char *element);

/* If an ERROR waits on the bus, put it in words ("cannot read clip.mp4: ...") and return true. */
bool media_bus_failed(GstBus *bus, const char *doing, const char *name, scope_error *err);

#endif
