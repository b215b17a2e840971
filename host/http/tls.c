/* tls.c - the self-signed certificate: made with GnuTLS, kept in one PEM file with its key. */
#include "tls.h"

#include "../error.h"

#include <gio/gio.h>
#include <gnutls/crypto.h>
#include <gnutls/x509.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    DAY_S = 24 * 60 * 60,
    DAYS = 800,     /* more are refused by some systems even where they were told to trust it */
    DAYS_LEFT = 14, /* a new one is made in time */
};

static void add_name(GPtrArray *names, const char *name)
{
    if (*name && !g_ptr_array_find_with_equal_func(names, name, g_str_equal, NULL))
        g_ptr_array_add(names, g_strdup(name));
}

static void add_addresses(GPtrArray *names)
{
    struct ifaddrs *all;
    if (getifaddrs(&all) != 0)
        return;
    for (struct ifaddrs *a = all; a; a = a->ifa_next) {
        char text[NI_MAXHOST];
        int family = a->ifa_addr ? a->ifa_addr->sa_family : AF_UNSPEC;
        socklen_t n = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
        if ((family != AF_INET && family != AF_INET6) ||
            getnameinfo(a->ifa_addr, n, text, sizeof text, NULL, 0, NI_NUMERICHOST) != 0)
            continue;
        if (!strchr(text, '%')) /* an address of one link is in no URL */
            add_name(names, text);
    }
    freeifaddrs(all);
}

/* Every name and address by which this machine may be asked for. */
static GPtrArray *names_of(const char *hosts)
{
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
    char host[256] = "";
    add_name(names, "localhost");
    gethostname(host, sizeof host - 1);
    add_name(names, host);
    if (*host && !strchr(host, '.')) {
        char *local = g_strconcat(host, ".local", NULL);
        add_name(names, local);
        g_free(local);
    }
    char **each = g_strsplit(hosts ? hosts : "", ",", -1);
    for (char **h = each; *h; h++)
        add_name(names, g_strstrip(*h));
    g_strfreev(each);
    add_addresses(names);
    return names;
}

/* Is what is kept good for all the names, and for some time? */
static bool is_good(const char *pem, GPtrArray *names)
{
    gnutls_datum_t text = {(unsigned char *)(uintptr_t)pem, (unsigned)strlen(pem)};
    gnutls_x509_crt_t crt;
    gnutls_x509_privkey_t key;
    unsigned char id[2][64];
    size_t n[2] = {sizeof id[0], sizeof id[1]};
    gnutls_x509_crt_init(&crt);
    gnutls_x509_privkey_init(&key);
    bool good = gnutls_x509_crt_import(crt, &text, GNUTLS_X509_FMT_PEM) == 0 &&
                gnutls_x509_privkey_import(key, &text, GNUTLS_X509_FMT_PEM) == 0 &&
                gnutls_x509_crt_get_expiration_time(crt) > time(NULL) + DAYS_LEFT * DAY_S &&
                gnutls_x509_crt_get_key_id(crt, 0, id[0], &n[0]) == 0 &&
                gnutls_x509_privkey_get_key_id(key, 0, id[1], &n[1]) == 0 && n[0] == n[1] &&
                memcmp(id[0], id[1], n[0]) == 0;
    for (guint i = 0; good && i < names->len; i++)
        good = gnutls_x509_crt_check_hostname(crt, names->pdata[i]) != 0;
    gnutls_x509_crt_deinit(crt);
    gnutls_x509_privkey_deinit(key);
    return good;
}

static int set_name(gnutls_x509_crt_t crt, const char *name)
{
    GInetAddress *address = g_inet_address_new_from_string(name);
    int fault;
    if (address)
        fault = gnutls_x509_crt_set_subject_alt_name(
            crt, GNUTLS_SAN_IPADDRESS, g_inet_address_to_bytes(address),
            (unsigned)g_inet_address_get_native_size(address), GNUTLS_FSAN_APPEND);
    else
        fault = gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, name,
                                                     (unsigned)strlen(name), GNUTLS_FSAN_APPEND);
    g_clear_object(&address);
    return fault;
}

static int fill(gnutls_x509_crt_t crt, gnutls_x509_privkey_t key, GPtrArray *names)
{
    unsigned char serial[16];
    time_t now = time(NULL);
    int fault = gnutls_rnd(GNUTLS_RND_NONCE, serial, sizeof serial);
    serial[0] &= 0x7f; /* a positive number */
    if (!fault)
        fault = gnutls_x509_crt_set_version(crt, 3);
    if (!fault)
        fault = gnutls_x509_crt_set_serial(crt, serial, sizeof serial);
    if (!fault)
        fault = gnutls_x509_crt_set_activation_time(crt, now - DAY_S); /* clocks differ */
    if (!fault)
        fault = gnutls_x509_crt_set_expiration_time(crt, now + (time_t)DAYS * DAY_S);
    if (!fault)
        fault = gnutls_x509_crt_set_dn(crt, "CN=scope (self-signed)", NULL);
    if (!fault)
        fault = gnutls_x509_crt_set_key(crt, key);
    if (!fault)
        fault = gnutls_x509_crt_set_basic_constraints(crt, 0, -1);
    if (!fault)
        fault = gnutls_x509_crt_set_key_usage(crt, GNUTLS_KEY_DIGITAL_SIGNATURE);
    if (!fault)
        fault = gnutls_x509_crt_set_key_purpose_oid(crt, GNUTLS_KP_TLS_WWW_SERVER, 0);
    for (guint i = 0; !fault && i < names->len; i++)
        fault = set_name(crt, names->pdata[i]);
    return fault ? fault : gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0);
}

/* A new certificate and its key in one PEM text; for g_free, or NULL with *fault. */
static char *make(GPtrArray *names, int *fault)
{
    gnutls_x509_crt_t crt;
    gnutls_x509_privkey_t key;
    gnutls_datum_t cert_pem = {NULL, 0}, key_pem = {NULL, 0};
    char *pem = NULL;
    gnutls_x509_crt_init(&crt);
    gnutls_x509_privkey_init(&key);
    *fault = gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA,
                                          GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0);
    if (!*fault)
        *fault = fill(crt, key, names);
    if (!*fault)
        *fault = gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &cert_pem);
    if (!*fault)
        *fault = gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &key_pem);
    if (!*fault)
        pem = g_strdup_printf("%.*s%.*s", (int)cert_pem.size, (char *)cert_pem.data,
                              (int)key_pem.size, (char *)key_pem.data);
    gnutls_free(cert_pem.data);
    gnutls_free(key_pem.data);
    gnutls_x509_crt_deinit(crt);
    gnutls_x509_privkey_deinit(key);
    return pem;
}

char *tls_self_signed(const char *folder, const char *hosts, char **key, scope_error *err)
{
    char *path = g_build_filename(folder, "self-signed.pem", NULL), *pem = NULL;
    GPtrArray *names = names_of(hosts);
    GError *cause = NULL;
    int fault = 0;
    if (!g_file_get_contents(path, &pem, NULL, NULL) || !is_good(pem, names)) {
        g_free(pem);
        pem = make(names, &fault);
        if (!pem) {
            error_set(err, SCOPE_EIO, "tls", "no certificate could be made: %s",
                      gnutls_strerror(fault));
        } else if (g_mkdir_with_parents(folder, 0700) != 0 ||
                   !g_file_set_contents_full(path, pem, -1, G_FILE_SET_CONTENTS_CONSISTENT, 0600,
                                             &cause)) {
            error_set(err, SCOPE_EIO, "tls", "the certificate cannot be kept: %s",
                      cause ? cause->message : g_strerror(errno));
            g_clear_pointer(&pem, g_free);
        }
    }
    *key = g_strdup(pem); /* each is found in the text by its own marks */
    g_clear_error(&cause);
    g_ptr_array_unref(names);
    g_free(path);
    return pem;
}
