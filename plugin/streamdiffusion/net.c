/* net.c - see net.h. */
#include "net.h"

#include <stdarg.h>
#include <stdio.h>

void net_see(const k_ctx *k, const net_tap *tap, k_tensor x, const char *format, ...)
{
    if (!tap || k->planning || k->status)
        return;
    char name[sizeof(net_name)];
    va_list ap;
    va_start(ap, format);
    vsnprintf(name, sizeof name, format, ap);
    va_end(ap);
    tap->see(tap->ctx, name, x);
}

net_name net_name_of(const char *format, ...)
{
    net_name name;
    va_list ap;
    va_start(ap, format);
    vsnprintf(name.text, sizeof name.text, format, ap);
    va_end(ap);
    return name;
}

k_tensor net_like(k_ctx *k, k_tensor x, int c)
{
    return k_temp(k, k->real, x.n, x.h, x.w, c);
}

k_tensor net_image(k_tensor x, int i)
{
    if (x.data)
        x.data = (char *)x.data + k_offset(x, (int64_t)i * x.h * x.w, 0);
    x.n = 1;
    return x;
}
