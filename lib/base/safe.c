/* SPDX-License-Identifier: Apache-2.0 */
#include "base.h"

#include <string.h>

/* The mapping from a name (of a certificate, an issuer, a lock) to one component of a storage
 * path, byte for byte as certmagic's StorageKeys.Safe makes it: lower-case, trim white space,
 * replace in one pass, drop what is left. It is neither injective nor idempotent nor safe against
 * traversal ("./." gives ".."), and must stay so or nodes of a mixed fleet miss each other's
 * files. What would be dangerous as a component is refused, not rewritten. */

#define NOT_A_RUNE 0xFFFFFFFFu /* anything non-ASCII that is only dropped later */

/* One code point at @s (@len > 0 bytes); *size is how many bytes it took, at least 1. Only the
 * few code points that matter need to come out right; malformed bytes count as dropped ones. */
static uint32_t next_rune(const uint8_t *s, size_t len, size_t *size)
{
    static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
    size_t n = s[0] < 0x80 ? 1 : s[0] >= 0xF0 ? 4 : s[0] >= 0xE0 ? 3 : s[0] >= 0xC2 ? 2 : 0;
    uint32_t rune;

    *size = 1;
    if (n == 1)
        return s[0];
    if (n == 0 || s[0] > 0xF4 || len < n)
        return NOT_A_RUNE;
    rune = s[0] & (0x7Fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xC0) != 0x80)
            return NOT_A_RUNE;
        rune = rune << 6 | (s[i] & 0x3Fu);
    }
    if (rune < least[n])
        return NOT_A_RUNE;
    *size = n;
    return rune;
}

/* White_Space of Unicode, which is what Go trims. */
static bool is_space(uint32_t r)
{
    return (r >= 0x09 && r <= 0x0D) || r == 0x20 || r == 0x85 || r == 0xA0 || r == 0x1680 ||
           (r >= 0x2000 && r <= 0x200A) || r == 0x2028 || r == 0x2029 || r == 0x202F ||
           r == 0x205F || r == 0x3000;
}

/* The bytes of @in without white space around, as offsets [*from, *to). */
static void trim(const uint8_t *s, size_t len, size_t *from, size_t *to)
{
    bool started = false;
    size_t size = 1;

    *from = *to = 0;
    for (size_t i = 0; i < len; i += size) {
        if (is_space(next_rune(s + i, len - i, &size)))
            continue;
        if (!started)
            *from = i;
        started = true;
        *to = i + size;
    }
}

static bool is_kept(uint8_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c != '\0' && strchr("_@.-", c) != NULL);
}

/* What stands for the code point @r (already lower-case); NULL when it is copied or dropped. */
static const char *replacement(uint32_t r)
{
    switch (r) {
    case ' ':
        return "_";
    case '+':
        return "_plus_";
    case '*':
        return "wildcard_";
    case ':':
        return "-";
    case 0x212A: /* the Kelvin sign and the dotted capital I are the only others whose */
        return "k";
    case 0x0130: /* lower case is ASCII */
        return "i";
    default:
        return NULL;
    }
}

static cm_status put_safe(const uint8_t *s, size_t len, struct cm_buf *out, struct cm_err *err)
{
    cm_status rc = CM_OK;
    size_t size = 1;

    for (size_t i = 0; i < len && rc == CM_OK; i += size) {
        uint32_t r = next_rune(s + i, len - i, &size);
        const char *instead = replacement(r);
        uint8_t c;

        if (r == '.' && i + 1 < len && s[i + 1] == '.') {
            size = 2;
            continue;
        }
        if (instead != NULL) {
            rc = cm_buf_puts(out, instead, err);
            continue;
        }
        if (r >= 0x80 || !is_kept((uint8_t)r))
            continue;
        c = (uint8_t)r;
        if (c >= 'A' && c <= 'Z')
            c = (uint8_t)(c + ('a' - 'A'));
        rc = cm_buf_append(out, &c, 1, err);
    }
    return rc;
}

cm_status cm_safe_name(const char *in, struct cm_buf *out, struct cm_err *err)
{
    const uint8_t *s = (const uint8_t *)in;
    size_t before;
    size_t from;
    size_t to;
    char shown[80];
    const char *made;
    cm_status rc;

    if (in == NULL || out == NULL)
        return cm_fail(err, CM_E_INVAL, "no name to make a path component of");
    before = out->len;
    trim(s, strlen(in), &from, &to);
    rc = put_safe(s + from, to - from, out, err);
    if (rc == CM_OK) {
        made = out->len > before ? (const char *)out->data + before : "";
        if (made[0] == '\0' || strcmp(made, ".") == 0 || strcmp(made, "..") == 0)
            rc = cm_fail(err, CM_E_INVAL,
                         "the name '%s' cannot be used in storage: it maps to the path component "
                         "'%s'",
                         cm_escape(in, strlen(in), shown, sizeof shown), made);
    }
    if (rc != CM_OK && out->len > before) {
        out->len = before;
        out->data[before] = '\0';
    }
    return rc;
}
