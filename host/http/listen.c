/* listen.c - the socket that the server listens on, and why there is none. */
#include "internal.h"

#include <errno.h>
#include <gio/gio.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

static int bind_fault(scope_error *err, const char *listen_at, int port)
{
    if (errno == EADDRINUSE)
        return error_set(err, SCOPE_EINVAL, "port",
                         "the port %d is in use: end the other program, or choose another port",
                         port);
    if (errno == EACCES)
        return error_set(err, SCOPE_EINVAL, "port",
                         "the port %d may not be opened: ports below 1024 are the administrator's; "
                         "choose another",
                         port);
    return error_set(err, SCOPE_EINVAL, "listen", "cannot listen on %s, port %d: %s", listen_at,
                     port, strerror(errno));
}

int listen_on(server *s, const char *at, int port, scope_error *err)
{
    char service[8];
    struct addrinfo *found, hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    snprintf(service, sizeof service, "%d", port);
    int fault = getaddrinfo(at, service, &hints, &found);
    if (fault)
        return error_set(err, SCOPE_EINVAL, "listen", "cannot listen on \"%s\": %s", at,
                         gai_strerror(fault));
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0) {
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
        if (found->ai_family == AF_INET6)
            setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &(int){0}, sizeof(int));
    }
    if (fd < 0 || bind(fd, found->ai_addr, found->ai_addrlen) != 0 || listen(fd, 128) != 0) {
        bind_fault(err, at, port);
        if (fd >= 0)
            close(fd);
        fd = -1;
    } else {
        struct sockaddr_storage bound;
        char name[64];
        getsockname(fd, (struct sockaddr *)&bound, &(socklen_t){sizeof bound});
        getnameinfo((struct sockaddr *)&bound, found->ai_addrlen, name, sizeof name, service,
                    sizeof service, NI_NUMERICHOST | NI_NUMERICSERV);
        s->port = atoi(service);
        s->address = g_strdup_printf(strchr(name, ':') ? "[%s]:%d" : "%s:%d", name, s->port);
        GInetAddress *address = g_inet_address_new_from_string(name);
        s->loopback = g_inet_address_get_is_loopback(address);
        g_object_unref(address);
    }
    freeaddrinfo(found);
    return fd;
}
