/* SPDX-License-Identifier: Apache-2.0 */
#include "names.h"

#include <idn2.h>
#include <string.h>

static const char too_long[] = "is longer than 253 characters";

/* What a person or a ClientHello may hand in; longer is refused before any work. */
enum { NAME_INPUT_MAX = 1024, LABEL_MAX = 63 };

/* Only the start of what was given is shown: it may be a whole file by mistake. */
static cm_status bad_name(struct cm_err *err, const char *in, const char *why)
{
    char shown[100];

    return cm_fail(err, CM_E_INVAL, "name '%s': %s",
                   cm_escape(in, strnlen(in, NAME_INPUT_MAX), shown, sizeof shown), why);
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* A locale must not have a say. */
static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

/* One LDH label of @len bytes at @s; NULL = fine, else what is wrong. */
static const char *check_label(const char *s, size_t len, bool underscore)
{
    if (len == 0)
        return "has an empty label";
    if (len > LABEL_MAX)
        return "has a label of more than 63 characters";
    if (s[0] == '-' || s[len - 1] == '-')
        return "has a label that begins or ends with '-'";
    for (size_t i = 0; i < len; i++) {
        if (s[i] == '_' && !underscore)
            return "has an underscore, which a host name cannot have";
        if (s[i] == '*')
            return "has a '*' that is not the whole first label";
        if (!(is_digit(s[i]) || (s[i] >= 'a' && s[i] <= 'z') || s[i] == '-' || s[i] == '_'))
            return "has a character that a host name cannot have";
    }
    return NULL;
}

/* Lower case LDH host of @len bytes, NUL-terminated, wildcard label already off. */
static const char *check_host(const char *host, size_t len, bool underscore)
{
    const char *label = host;
    bool digits = false;

    for (size_t i = 0; i <= len; i++) {
        if (i < len && host[i] != '.')
            continue;
        size_t n = (size_t)(host + i - label);
        const char *why = check_label(label, n, underscore);
        if (why != NULL)
            return why;
        digits = strspn(label, "0123456789") >= n;
        label = host + i + 1;
    }
    /* RFC 3696 2, and what browsers do: a last label of digits is an attempt at an IPv4 address
     * ("127.1", "010.0.0.1"), which different software reads differently. */
    return digits ? "ends in a number but is not an IP address" : NULL;
}

/* libidn2 itself, not gnutls_idna_map(): that one asks for STD3 rules, which means that ASCII
 * characters outside letters, digits and '-' silently vanish ("a*b.buecher.de" becomes another
 * host's name). Here they stay, and check_host() refuses them. No transitional mapping either. */
static cm_status map_idna(const char *in, const char *host, size_t len, char *out, size_t out_size,
                          size_t *n, struct cm_err *err)
{
    CM_AUTO_FREE char *text = cm_strndup(host, len);
    char *mapped = NULL;

    if (text == NULL)
        return cm_fail_nomem(err);
    int rc = idn2_to_ascii_8z(text, &mapped, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL);
    if (rc == IDN2_MALLOC)
        return cm_fail_nomem(err);
    if (rc == IDN2_ENCODING_ERROR)
        return bad_name(err, in, "is not valid UTF-8");
    if (rc == IDN2_TOO_BIG_LABEL)
        return bad_name(err, in, "has a label of more than 63 characters");
    if (rc == IDN2_TOO_BIG_DOMAIN)
        return bad_name(err, in, too_long);
    if (rc != IDN2_OK)
        return bad_name(err, in,
                        "is not a valid international name (IDNA2008); "
                        "give its xn-- form if it has one");
    *n = strlen(mapped);
    bool fits = *n < out_size;
    if (fits)
        memcpy(out, mapped, *n);
    idn2_free(mapped);
    return fits ? CM_OK : bad_name(err, in, too_long);
}

cm_status cm_name_normalize(const char *in, unsigned flags, char *ret, struct cm_err *err)
{
    char out[CM_NAME_BUF];
    size_t n = 0;
    size_t prefix = 0;
    bool ascii = true;
    bool had_dot = false;
    const char *why = NULL;

    if (in == NULL)
        return cm_fail(err, CM_E_INVAL, "name is missing");
    const char *s = in;
    size_t len = strnlen(in, NAME_INPUT_MAX + 1);
    if (len > NAME_INPUT_MAX)
        return bad_name(err, in, "is far too long");
    while (len > 0 && is_space(*s)) {
        s++;
        len--;
    }
    while (len > 0 && is_space(s[len - 1]))
        len--;
    if (len == 0)
        return cm_fail(err, CM_E_INVAL, "name is empty");

    enum cm_ip_text ip = cm_ip_text_parse(s, len, out);
    if (ip == CM_IP_TEXT_YES) {
        if ((flags & CM_NAME_ALLOW_IP) == 0)
            return bad_name(err, in, "is an IP address where a host name is needed");
        memcpy(ret, out, strlen(out) + 1);
        return CM_OK;
    }
    if (ip == CM_IP_TEXT_BAD)
        return bad_name(err, in, "is not a valid IP address (a zone or port cannot be part of it)");

    if (s[len - 1] == '.') {
        len--;
        had_dot = true;
    }
    if (len >= 2 && s[0] == '*' && s[1] == '.') {
        if ((flags & CM_NAME_ALLOW_WILDCARD) == 0)
            return bad_name(err, in, "is a wildcard where a single host name is needed");
        memcpy(out, "*.", 2);
        prefix = 2;
        s += 2;
        len -= 2;
    }

    for (size_t i = 0; i < len && ascii; i++)
        ascii = (unsigned char)s[i] < 0x80;
    if (!ascii) {
        cm_status rc = map_idna(in, s, len, out + prefix, sizeof out - prefix, &n, err);
        if (rc != CM_OK)
            return rc;
        /* U+3002 and its kin map to '.', also at the end. */
        if (n > 0 && out[prefix + n - 1] == '.' && !had_dot)
            n--;
    } else if (len + prefix > CM_NAME_MAX) {
        return bad_name(err, in, too_long);
    } else {
        memcpy(out + prefix, s, len);
        n = len;
    }
    if (prefix + n > CM_NAME_MAX)
        return bad_name(err, in, too_long);
    out[prefix + n] = '\0';
    for (size_t i = 0; i < n; i++)
        out[prefix + i] = lower(out[prefix + i]);
    why = check_host(out + prefix, n, (flags & CM_NAME_ALLOW_UNDERSCORE) != 0);
    if (why != NULL)
        return bad_name(err, in, why);
    memcpy(ret, out, prefix + n + 1);
    return CM_OK;
}

bool cm_name_is_wildcard(const char *name)
{
    return name[0] == '*' && name[1] == '.';
}

static bool ends_with(const char *name, const char *suffix)
{
    size_t n = strlen(name);
    size_t m = strlen(suffix);

    return n >= m && strcmp(name + n - m, suffix) == 0;
}

bool cm_name_is_internal(const char *name)
{
    static const char *const suffixes[] = { ".localhost", ".local", ".internal", ".home.arpa" };

    if (cm_name_is_ip(name))
        return cm_ip_is_internal(name);
    if (strcmp(name, "localhost") == 0)
        return true;
    for (size_t i = 0; i < CM_ARRAY_LEN(suffixes); i++) {
        if (ends_with(name, suffixes[i]))
            return true;
    }
    return false;
}

bool cm_name_is_public(const char *name)
{
    if (cm_name_is_internal(name))
        return false;
    if (!cm_name_is_wildcard(name))
        return true;
    return strchr(name + 2, '.') != NULL; /* "*.com" is no public CA's to sign */
}

bool cm_name_covers(const char *pattern, const char *name)
{
    if (strcmp(pattern, name) == 0)
        return true;
    if (!cm_name_is_wildcard(pattern) || cm_name_is_ip(name) || cm_name_is_wildcard(name))
        return false;
    const char *dot = strchr(name, '.');
    return dot != NULL && dot != name && strcmp(dot, pattern + 1) == 0;
}
