/* rtc_network.c - see rtc_network.h. */
#include "rtc_network.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>

/* libnice leaves loopback out, and gathers nothing on a machine that has nothing else. Any address
 * that is added turns its own list off, so all are. */
static void add_addresses(GObject *ice)
{
    struct ifaddrs *all = NULL;
    if (getifaddrs(&all))
        return;
    for (const struct ifaddrs *a = all; a; a = a->ifa_next) {
        char text[INET6_ADDRSTRLEN];
        const void *from = NULL;
        gboolean added;
        if (!a->ifa_addr || !(a->ifa_flags & IFF_UP))
            continue;
        if (a->ifa_addr->sa_family == AF_INET)
            from = &((const struct sockaddr_in *)(const void *)a->ifa_addr)->sin_addr;
        if (a->ifa_addr->sa_family == AF_INET6)
            from = &((const struct sockaddr_in6 *)(const void *)a->ifa_addr)->sin6_addr;
        if (!from || (a->ifa_addr->sa_family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(from)))
            continue;
        if (inet_ntop(a->ifa_addr->sa_family, from, text, sizeof text))
            g_signal_emit_by_name(ice, "add-local-ip-address", text, &added);
    }
    freeifaddrs(all);
}

/* "stun:host:port,turn:user:pass@host:port" */
static void add_servers(GstElement *bin, const char *list)
{
    char **all = g_strsplit(list ? list : "", ",", 16);
    for (int i = 0; all[i]; i++) {
        const char *one = g_strstrip(all[i]), *rest = strchr(one, ':');
        gboolean added;
        if (!rest)
            continue;
        char *url = g_strdup_printf("%.*s://%s", (int)(rest - one), one, rest + 1);
        if (g_str_has_prefix(one, "turn"))
            g_signal_emit_by_name(bin, "add-turn-server", url, &added);
        else
            g_object_set(bin, "stun-server", url, NULL);
        g_free(url);
    }
    g_strfreev(all);
}

void rtc_network_set_up(GstElement *webrtcbin, const rtc_options *o)
{
    GObject *ice = NULL, *agent = NULL;
    g_object_get(webrtcbin, "ice-agent", &ice, NULL);
    g_object_get(ice, "agent", &agent, NULL);
    g_object_set(agent, "upnp", FALSE, NULL); /* it multicasts, and takes 200 ms */
    if (o->port_min)
        g_object_set(ice, "min-rtp-port", o->port_min, "max-rtp-port", o->port_max, NULL);
    add_addresses(ice);
    add_servers(webrtcbin, o->ice_servers);
    g_object_unref(agent);
    g_object_unref(ice);
}
