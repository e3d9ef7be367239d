/* SPDX-License-Identifier: Apache-2.0 */
#include "names.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

static const uint8_t v4_mapped[12] = { [10] = 0xff, [11] = 0xff };

/* RFC 5952. inet_ntop() does it but for ::/96, where it prints an IPv4 tail that Go, and so the
 * storage paths of a CertMagic fleet, do not have. */
static void ip6_text(const uint8_t a[16], char ret[CM_NAME_BUF])
{
    static const uint8_t zero[12] = { 0 };

    if (memcmp(a, zero, sizeof zero) == 0 && (a[12] | a[13]) != 0)
        (void)snprintf(ret, CM_NAME_BUF, "::%x:%x", (unsigned)a[12] << 8 | a[13],
                       (unsigned)a[14] << 8 | a[15]);
    else
        (void)inet_ntop(AF_INET6, a, ret, CM_NAME_BUF);
}

enum cm_ip_text cm_ip_text_parse(const char *s, size_t len, char ret[CM_NAME_BUF])
{
    char text[INET6_ADDRSTRLEN];
    uint8_t a[16];
    bool brackets = len >= 1 && s[0] == '[';
    bool colon = memchr(s, ':', len) != NULL;

    if (brackets) {
        if (len < 2 || s[len - 1] != ']')
            return CM_IP_TEXT_BAD;
        s++;
        len -= 2;
    }
    enum cm_ip_text no = brackets || colon ? CM_IP_TEXT_BAD : CM_IP_TEXT_NO;
    if (len == 0 || len >= sizeof text || memchr(s, '\0', len) != NULL)
        return no;
    memcpy(text, s, len);
    text[len] = '\0';

    if (!brackets && inet_pton(AF_INET, text, a) == 1) {
        (void)inet_ntop(AF_INET, a, ret, CM_NAME_BUF);
        return CM_IP_TEXT_YES;
    }
    if (inet_pton(AF_INET6, text, a) != 1)
        return no;
    if (memcmp(a, v4_mapped, sizeof v4_mapped) == 0)
        (void)inet_ntop(AF_INET, a + 12, ret, CM_NAME_BUF);
    else
        ip6_text(a, ret);
    return CM_IP_TEXT_YES;
}

bool cm_name_is_ip(const char *name)
{
    uint8_t a[16];

    /* A normalized host name neither has a colon nor ends in a digit label; this spares the
     * common case both parsers. */
    size_t n = strlen(name);
    if (n == 0)
        return false;
    if (strchr(name, ':') != NULL)
        return inet_pton(AF_INET6, name, a) == 1;
    return name[n - 1] >= '0' && name[n - 1] <= '9' && inet_pton(AF_INET, name, a) == 1;
}

struct prefix {
    uint8_t bytes[2];
    uint8_t bits;
};

static bool in_any(const uint8_t *a, const struct prefix *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned have = (unsigned)a[0] << 8 | a[1];
        unsigned want = (unsigned)list[i].bytes[0] << 8 | list[i].bytes[1];
        if ((have ^ want) >> (16 - list[i].bits) == 0)
            return true;
    }
    return false;
}

bool cm_ip_is_internal(const char *ip)
{
    static const struct prefix v4[] = { { { 127, 0 }, 8 },    { { 0, 0 }, 16 },
                                        { { 10, 0 }, 8 },     { { 172, 16 }, 12 },
                                        { { 192, 168 }, 16 }, { { 169, 254 }, 16 } };
    static const struct prefix v6[] = { { { 0, 0 }, 7 },
                                        { { 0xfe, 0x80 }, 10 },
                                        { { 0xfc, 0 }, 7 } };
    uint8_t a[16];

    if (inet_pton(AF_INET, ip, a) == 1)
        return in_any(a, v4, CM_ARRAY_LEN(v4));
    return inet_pton(AF_INET6, ip, a) == 1 && in_any(a, v6, CM_ARRAY_LEN(v6));
}

cm_status cm_name_reverse_arpa(const char *ip, char *ret, struct cm_err *err)
{
    static const char hex[] = "0123456789abcdef";
    uint8_t a[16];

    if (inet_pton(AF_INET, ip, a) == 1) {
        (void)snprintf(ret, CM_NAME_BUF, "%u.%u.%u.%u.in-addr.arpa", a[3], a[2], a[1], a[0]);
        return CM_OK;
    }
    if (inet_pton(AF_INET6, ip, a) == 1) {
        char *p = ret;
        for (size_t i = 16; i-- > 0;) {
            *p++ = hex[a[i] & 15];
            *p++ = '.';
            *p++ = hex[a[i] >> 4];
            *p++ = '.';
        }
        memcpy(p, "ip6.arpa", sizeof "ip6.arpa");
        return CM_OK;
    }
    char shown[100];
    return cm_fail(err, CM_E_INVAL, "'%s' is not an IP address",
                   cm_escape(ip, strnlen(ip, CM_NAME_BUF), shown, sizeof shown));
}

static int nibble(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return -1;
}

static bool arpa4(const char *name, size_t len, char ret[CM_NAME_BUF])
{
    uint8_t a[4];
    char text[16];

    if (len == 0 || len >= sizeof text)
        return false;
    memcpy(text, name, len);
    text[len] = '\0';
    if (inet_pton(AF_INET, text, a) != 1) /* reversed, but of the same syntax */
        return false;
    (void)snprintf(ret, CM_NAME_BUF, "%u.%u.%u.%u", a[3], a[2], a[1], a[0]);
    return true;
}

static bool arpa6(const char *name, size_t len, char ret[CM_NAME_BUF])
{
    uint8_t a[16];

    if (len != 63)
        return false;
    for (size_t i = 0; i < 16; i++) {
        const char *p = name + 4 * (15 - i);
        int lo = nibble(p[0]);
        int hi = nibble(p[2]);
        if (lo < 0 || hi < 0 || p[1] != '.' || (i > 0 && p[3] != '.'))
            return false;
        a[i] = (uint8_t)(hi << 4 | lo);
    }
    /* Its canonical form would be an IPv4 address, whose reverse name is another one. */
    if (memcmp(a, v4_mapped, sizeof v4_mapped) == 0)
        return false;
    ip6_text(a, ret);
    return true;
}

bool cm_name_from_arpa(const char *name, char *ret)
{
    static const char tail4[] = ".in-addr.arpa";
    static const char tail6[] = ".ip6.arpa";
    size_t n = strnlen(name, CM_NAME_BUF);

    if (n >= sizeof tail4 && strcmp(name + n - (sizeof tail4 - 1), tail4) == 0)
        return arpa4(name, n - (sizeof tail4 - 1), ret);
    if (n >= sizeof tail6 && n < CM_NAME_BUF && strcmp(name + n - (sizeof tail6 - 1), tail6) == 0)
        return arpa6(name, n - (sizeof tail6 - 1), ret);
    return false;
}
