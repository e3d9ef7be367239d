/* SPDX-License-Identifier: Apache-2.0 */
#include "tls.h"

#include <string.h>

/* The ClientHello as RFC 8446 4.1.2 and RFC 5246 7.4.1.2 lay it out. Strict about structure, since
 * every length here is chosen by a stranger; silent about values it does not know. */

enum {
    EXT_SERVER_NAME = 0,
    EXT_STATUS_REQUEST = 5,
    EXT_SUPPORTED_GROUPS = 10,
    EXT_SIGNATURE_ALGORITHMS = 13,
    EXT_ALPN = 16,
    EXT_SESSION_TICKET = 35,
    EXT_PRE_SHARED_KEY = 41,
    EXT_SUPPORTED_VERSIONS = 43
};

static const char acme_tls[] = "acme-tls/1";

/* ------------------------------------------------------------------- reading */

static bool take(struct cm_span *in, size_t n, struct cm_span *ret)
{
    if (in->len < n)
        return false;
    *ret = (struct cm_span){ in->data, n };
    in->data += n;
    in->len -= n;
    return true;
}

static bool take_u8(struct cm_span *in, size_t *ret)
{
    struct cm_span b;

    if (!take(in, 1, &b))
        return false;
    *ret = b.data[0];
    return true;
}

static bool take_u16(struct cm_span *in, size_t *ret)
{
    struct cm_span b;

    if (!take(in, 2, &b))
        return false;
    *ret = ((size_t)b.data[0] << 8) | b.data[1];
    return true;
}

static bool take_vec8(struct cm_span *in, struct cm_span *ret)
{
    size_t n;

    return take_u8(in, &n) && take(in, n, ret);
}

static bool take_vec16(struct cm_span *in, struct cm_span *ret)
{
    size_t n;

    return take_u16(in, &n) && take(in, n, ret);
}

static cm_status bad(struct cm_err *err, int alert, const char *what)
{
    (void)cm_fail(err, CM_E_PARSE, "ClientHello: %s", what);
    if (err != NULL)
        err->tls_alert = alert;
    return CM_E_PARSE;
}

static cm_status malformed(struct cm_err *err, const char *what)
{
    return bad(err, CM_ALERT_DECODE_ERROR, what);
}

/* RFC 8701: 0x0A0A, 0x1A1A, ... 0xFAFA, sent to keep servers tolerant. */
static bool is_grease(size_t v)
{
    return (v & 0x0F0F) == 0x0A0A && (v >> 8) == (v & 0xFF);
}

/* A non-empty list of 16-bit values; what does not fit into @out is dropped. */
static bool read_u16_list(struct cm_span list, uint16_t *out, size_t max, size_t *ret_n)
{
    size_t v;

    if (list.len == 0 || list.len % 2 != 0)
        return false;
    *ret_n = 0;
    while (take_u16(&list, &v)) {
        if (!is_grease(v) && *ret_n < max)
            out[(*ret_n)++] = (uint16_t)v;
    }
    return true;
}

/* ----------------------------------------------------------------- extensions */

/* Letters, digits, hyphens and underscores in labels of 1..63 that have no hyphen at an end, 253 in
 * all. A last label of digits alone is an IPv4 address in some spelling, never a domain. */
static bool is_host_name(const uint8_t *s, size_t len)
{
    size_t label = 0;
    bool digits = true;

    if (len == 0 || len > CM_NAME_MAX)
        return false;
    for (size_t i = 0; i < len; i++) {
        uint8_t c = s[i];
        bool digit = c >= '0' && c <= '9';

        if (c == '.') {
            if (label == 0 || s[i - 1] == '-')
                return false;
            label = 0;
            digits = true;
            continue;
        }
        if (!digit && !(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && c != '-' && c != '_')
            return false;
        if (label == 0 && c == '-')
            return false;
        digits = digits && digit;
        if (++label > 63)
            return false;
    }
    return label > 0 && s[len - 1] != '-' && !digits;
}

static void set_name(struct cm_span name, struct cm_hello *ret)
{
    /* RFC 6066 3 sends it without the final dot; some clients pass on what the user typed. */
    if (name.len > 1 && name.data[name.len - 1] == '.')
        name.len--;
    if (!is_host_name(name.data, name.len)) {
        ret->sni_invalid = true;
        return;
    }
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.data[i];

        ret->server_name[i] = (char)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
    }
    ret->server_name[name.len] = '\0';
}

static cm_status read_server_name(struct cm_span ext, struct cm_hello *ret, struct cm_err *err)
{
    struct cm_span list, name;
    bool seen = false;
    size_t type;

    if (!take_vec16(&ext, &list) || ext.len != 0 || list.len == 0)
        return malformed(err, "server_name has a wrong length");
    while (list.len > 0) {
        if (!take_u8(&list, &type) || !take_vec16(&list, &name))
            return malformed(err, "server_name is cut short");
        if (type != 0)
            continue;
        if (seen)
            return bad(err, CM_ALERT_ILLEGAL_PARAMETER, "two host names in server_name");
        seen = true;
        if (name.len == 0)
            return malformed(err, "empty host name in server_name");
        set_name(name, ret);
    }
    return CM_OK;
}

static cm_status read_alpn(struct cm_span ext, struct cm_hello *ret, struct cm_err *err)
{
    struct cm_span list, name;
    bool first_is_acme = false;

    if (!take_vec16(&ext, &list) || ext.len != 0 || list.len == 0)
        return malformed(err, "application_layer_protocol_negotiation has a wrong length");
    while (list.len > 0) {
        if (!take_vec8(&list, &name) || name.len == 0)
            return malformed(err, "application_layer_protocol_negotiation is cut short");
        if (ret->n_alpn == 0)
            first_is_acme =
                name.len == sizeof acme_tls - 1 && memcmp(name.data, acme_tls, name.len) == 0;
        /* Kept as text. One with a NUL in it is no protocol that anybody registered, and cut off
         * there it could pass for one that is: it stays empty. */
        if (ret->n_alpn < CM_ARRAY_LEN(ret->alpn) && memchr(name.data, 0, name.len) == NULL)
            memcpy(ret->alpn[ret->n_alpn], name.data, name.len);
        ret->n_alpn++;
    }
    ret->acme_tls = first_is_acme && ret->n_alpn == 1;
    return CM_OK;
}

static cm_status read_extension(size_t type, struct cm_span ext, struct cm_hello *ret,
                                struct cm_err *err)
{
    struct cm_span list;

    switch (type) {
    case EXT_SERVER_NAME:
        return read_server_name(ext, ret, err);
    case EXT_ALPN:
        return read_alpn(ext, ret, err);
    case EXT_STATUS_REQUEST:
        ret->has_status_request = ext.len > 0 && ext.data[0] == 1;
        return CM_OK;
    case EXT_SUPPORTED_GROUPS:
        if (!take_vec16(&ext, &list) || ext.len != 0 ||
            !read_u16_list(list, ret->groups, CM_HELLO_MAX_LIST, &ret->n_groups))
            return malformed(err, "supported_groups is no list");
        return CM_OK;
    case EXT_SIGNATURE_ALGORITHMS:
        if (!take_vec16(&ext, &list) || ext.len != 0 ||
            !read_u16_list(list, ret->sigalgs, CM_HELLO_MAX_LIST, &ret->n_sigalgs))
            return malformed(err, "signature_algorithms is no list");
        return CM_OK;
    case EXT_SUPPORTED_VERSIONS:
        if (!take_vec8(&ext, &list) || ext.len != 0 ||
            !read_u16_list(list, ret->versions, CM_ARRAY_LEN(ret->versions), &ret->n_versions))
            return malformed(err, "supported_versions is no list");
        ret->has_versions_ext = true;
        return CM_OK;
    default:
        return CM_OK;
    }
}

/* Which types of extensions have come. The registered ones are below 64 but for a few, and clients
 * send two or three of those and of GREASE. A bitmap for all would be 8 KiB to clear for each
 * hello; so it is for those only that send more. */
#define OTHERS_MAX 16u
struct seen {
    uint64_t low; /* a bit per type below 64 */
    uint16_t others[OTHERS_MAX];
    size_t n_others;
};

/* Is any type twice in the whole list? Linear, however many there are. */
static bool has_twins(struct cm_span list)
{
    uint8_t map[65536 / 8] = { 0 };
    struct cm_span ext;
    size_t type;

    while (take_u16(&list, &type) && take_vec16(&list, &ext)) {
        if ((map[type / 8] & (1u << (type % 8))) != 0)
            return true;
        map[type / 8] |= (uint8_t)(1u << (type % 8));
    }
    return false;
}

/* Note @type; is it there for the second time? @list: all of them. */
static bool see(struct seen *s, size_t type, struct cm_span list)
{
    if (type < 64) {
        uint64_t bit = UINT64_C(1) << type;
        bool twice = (s->low & bit) != 0;

        s->low |= bit;
        return twice;
    }
    if (s->n_others > OTHERS_MAX)
        return false; /* all have been compared */
    if (s->n_others == OTHERS_MAX) {
        s->n_others++;
        return has_twins(list);
    }
    for (size_t i = 0; i < s->n_others; i++)
        if (s->others[i] == type)
            return true;
    s->others[s->n_others++] = (uint16_t)type;
    return false;
}

static cm_status read_extensions(struct cm_span in, struct cm_hello *ret, struct cm_err *err)
{
    struct seen seen = { .low = 0 };
    struct cm_span all, list, ext;
    size_t type;

    if (!take_vec16(&in, &list) || in.len != 0)
        return malformed(err, "extensions do not fill the message");
    all = list;
    while (list.len > 0) {
        cm_status rc;

        if (!take_u16(&list, &type) || !take_vec16(&list, &ext))
            return malformed(err, "an extension is cut short");
        /* "There MUST NOT be more than one extension of the same type" (RFC 8446 4.2). Two that
         * disagree would let two parsers see two names. */
        if (see(&seen, type, all))
            return bad(err, CM_ALERT_ILLEGAL_PARAMETER, "an extension is sent twice");
        rc = read_extension(type, ext, ret, err);
        if (rc != CM_OK)
            return rc;
    }
    return CM_OK;
}

/* ------------------------------------------------------------------ the hello */

cm_status cm_tls_hello_parse_body(struct cm_span in, struct cm_hello *ret, struct cm_err *err)
{
    struct cm_span skip, suites, methods;
    size_t version;
    cm_status rc;

    memset(ret, 0, sizeof *ret);
    if (!take_u16(&in, &version) || !take(&in, 32, &skip))
        return malformed(err, "cut short");
    if (!take_vec8(&in, &skip) || skip.len > 32)
        return malformed(err, "wrong length of session_id");
    if (!take_vec16(&in, &suites) ||
        !read_u16_list(suites, ret->suites, CM_HELLO_MAX_LIST, &ret->n_suites))
        return malformed(err, "cipher_suites is no list");
    if (!take_vec8(&in, &methods) || methods.len == 0)
        return malformed(err, "no compression_methods");
    if (memchr(methods.data, 0, methods.len) == NULL)
        return bad(err, CM_ALERT_ILLEGAL_PARAMETER, "null compression is not offered");
    if (in.len > 0) {
        rc = read_extensions(in, ret, err);
        if (rc != CM_OK)
            return rc;
    }
    if (!ret->has_versions_ext) {
        ret->versions[0] = (uint16_t)version;
        ret->n_versions = 1;
    }
    return CM_OK;
}

/* Only what stands before the extensions is gone over again: the hello has been parsed. */
static bool find_extensions(struct cm_span in, struct cm_span *ret)
{
    struct cm_span skip;

    return take(&in, 2 + 32, &skip) && take_vec8(&in, &skip) && take_vec16(&in, &skip) &&
           take_vec8(&in, &skip) && take_vec16(&in, ret);
}

static void add_ticket(struct cm_span ticket, uint8_t ret[][CM_TLS_TICKET_NAME], size_t max,
                       size_t *n)
{
    if (ticket.len < CM_TLS_TICKET_NAME || *n == max)
        return;
    memcpy(ret[*n], ticket.data, CM_TLS_TICKET_NAME);
    (*n)++;
}

size_t cm_tls_hello_tickets(struct cm_span body, uint8_t ret[][CM_TLS_TICKET_NAME], size_t max)
{
    struct cm_span list, ext, identities, identity, age;
    size_t n = 0;
    size_t type;

    if (!find_extensions(body, &list))
        return 0;
    while (n < max && take_u16(&list, &type) && take_vec16(&list, &ext)) {
        if (type == EXT_SESSION_TICKET)
            add_ticket(ext, ret, max, &n);
        if (type != EXT_PRE_SHARED_KEY || !take_vec16(&ext, &identities))
            continue;
        while (n < max && take_vec16(&identities, &identity) && take(&identities, 4, &age))
            add_ticket(identity, ret, max, &n);
    }
    return n;
}

cm_status cm_hello_parse(struct cm_span msg, struct cm_hello *ret, struct cm_err *err)
{
    struct cm_hello h;
    cm_status rc;
    size_t len;

    if (ret == NULL || (msg.data == NULL && msg.len > 0))
        return cm_fail(err, CM_E_INVAL, "cm_hello_parse: no message or nowhere to put it");
    if (msg.len > 0 && msg.data[0] != 1)
        return bad(err, CM_ALERT_UNEXPECTED_MESSAGE, "another handshake message came first");
    if (msg.len < 4)
        return cm_fail(err, CM_E_AGAIN, "ClientHello: header not whole yet");
    len = ((size_t)msg.data[1] << 16) | ((size_t)msg.data[2] << 8) | msg.data[3];
    if (len > CM_TLS_HELLO_MAX) {
        (void)cm_fail(err, CM_E_LIMIT, "ClientHello: %zu bytes, more than %u", len,
                      CM_TLS_HELLO_MAX);
        if (err != NULL)
            err->tls_alert = CM_ALERT_DECODE_ERROR;
        return CM_E_LIMIT;
    }
    if (msg.len - 4 < len)
        return cm_fail(err, CM_E_AGAIN, "ClientHello: %zu of %zu bytes", msg.len - 4, len);
    if (msg.len - 4 > len)
        return malformed(err, "bytes behind the message");
    rc = cm_tls_hello_parse_body((struct cm_span){ msg.data + 4, len }, &h, err);
    if (rc == CM_OK)
        *ret = h;
    return rc;
}
