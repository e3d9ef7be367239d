/* SPDX-License-Identifier: Apache-2.0 */
#include "wire.h"

#include <stdio.h>
#include <string.h>

/* Messages, to and from bytes. What comes from a server is checked whole before any of it is used:
 * each name, each length, each count. */

#define LABEL_MAX     63u
#define WIRE_NAME_MAX 255u
#define POINTER       0xc0u

const char *dns_type_text(unsigned type, char out[16])
{
    switch (type) {
    case DNS_A:
        return "A";
    case DNS_NS:
        return "NS";
    case DNS_CNAME:
        return "CNAME";
    case DNS_SOA:
        return "SOA";
    case DNS_TXT:
        return "TXT";
    case DNS_AAAA:
        return "AAAA";
    default:
        (void)snprintf(out, 16, "type %u", type & 0xffffu);
        return out;
    }
}

const char *dns_rcode_text(unsigned rcode, char out[16])
{
    static const char *const texts[] = { "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN",
                                         "NOTIMP",  "REFUSED", "YXDOMAIN", "YXRRSET",
                                         "NXRRSET", "NOTAUTH", "NOTZONE" };

    if (rcode < CM_ARRAY_LEN(texts))
        return texts[rcode];
    (void)snprintf(out, 16, "rcode %u", rcode & 0xffffu);
    return out;
}

/* ------------------------------------------------------------------ writing */

void dns_put_bytes(struct dns_writer *w, const void *data, size_t len)
{
    if (w->bad || len > sizeof w->data - w->len) {
        w->bad = true;
        return;
    }
    if (len > 0)
        memcpy(w->data + w->len, data, len);
    w->len += len;
}

void dns_put_u8(struct dns_writer *w, unsigned v)
{
    const uint8_t b = (uint8_t)v;
    dns_put_bytes(w, &b, 1);
}

void dns_put_u16(struct dns_writer *w, unsigned v)
{
    dns_put_u8(w, v >> 8);
    dns_put_u8(w, v);
}

void dns_put_u32(struct dns_writer *w, uint32_t v)
{
    dns_put_u16(w, v >> 16);
    dns_put_u16(w, v);
}

void dns_set_u16(struct dns_writer *w, size_t at, unsigned v)
{
    if (w->bad || at + 2 > w->len)
        return;
    w->data[at] = (uint8_t)(v >> 8);
    w->data[at + 1] = (uint8_t)v;
}

void dns_put_name(struct dns_writer *w, const char *name)
{
    if (*name != '\0' && !dns_is_name(name))
        w->bad = true;
    while (*name != '\0') {
        size_t len = strcspn(name, ".");
        dns_put_u8(w, (unsigned)len);
        dns_put_bytes(w, name, len);
        name += len + (name[len] == '.' ? 1 : 0);
    }
    dns_put_u8(w, 0);
}

uint16_t dns_get_u16(const uint8_t *p)
{
    return (uint16_t)((unsigned)p[0] << 8 | p[1]);
}

uint32_t dns_get_u32(const uint8_t *p)
{
    return (uint32_t)dns_get_u16(p) << 16 | dns_get_u16(p + 2);
}

/* -------------------------------------------------------------------- names */

static bool is_name_byte(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

bool dns_is_name(const char *name)
{
    size_t label = 0, len = strnlen(name, DNS_NAME_BUF);

    if (len == 0 || len > DNS_NAME_MAX)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (name[i] == '.') {
            if (label == 0)
                return false;
            label = 0;
        } else if (!is_name_byte((uint8_t)name[i]) || ++label > LABEL_MAX) {
            return false;
        }
    }
    return label > 0;
}

bool dns_is_in(const char *name, const char *zone)
{
    size_t n = strlen(name), z = strlen(zone);

    if (z == 0)
        return true;
    return n >= z && strcmp(name + n - z, zone) == 0 && (n == z || name[n - z - 1] == '.');
}

static char name_byte(uint8_t c)
{
    if (c >= 'A' && c <= 'Z')
        return (char)(c - 'A' + 'a');
    return is_name_byte(c) || c == '*' ? (char)c : '?';
}

/* Each pointer leads to before where the labels that end in it began, so that no chain of them can
 * come back; and the whole is as long as a name may be. */
bool dns_read_name(struct cm_span msg, size_t *at, char ret[DNS_NAME_BUF])
{
    size_t pos = *at, began = *at, used = 0, wire = 1;
    bool jumped = false;

    for (;;) {
        if (pos >= msg.len)
            return false;
        uint8_t len = msg.data[pos];
        if ((len & POINTER) == POINTER) {
            if (msg.len - pos < 2)
                return false;
            size_t target = dns_get_u16(msg.data + pos) & 0x3fffu;
            if (!jumped)
                *at = pos + 2;
            jumped = true;
            if (target >= began || target < DNS_HEADER_LEN)
                return false;
            pos = began = target;
            continue;
        }
        if (len > LABEL_MAX || msg.len - pos < 1u + len)
            return false;
        pos++;
        if (len == 0)
            break;
        wire += 1u + len;
        if (wire > WIRE_NAME_MAX)
            return false;
        if (used > 0)
            ret[used++] = '.';
        for (size_t i = 0; i < len; i++)
            ret[used++] = name_byte(msg.data[pos + i]);
        pos += len;
    }
    ret[used] = '\0';
    if (!jumped)
        *at = pos;
    return true;
}

/* ------------------------------------------------------------------ reading */

static bool read_rr(struct cm_span msg, size_t *at, struct dns_rr *rr)
{
    rr->at = *at;
    if (!dns_read_name(msg, at, rr->name) || msg.len - *at < 10)
        return false;
    const uint8_t *p = msg.data + *at;
    rr->type = dns_get_u16(p);
    rr->class = dns_get_u16(p + 2);
    rr->ttl = dns_get_u32(p + 4);
    rr->rdlen = dns_get_u16(p + 8);
    rr->rdata = *at + 10;
    if (msg.len - rr->rdata < rr->rdlen)
        return false;
    *at = rr->rdata + rr->rdlen;
    return true;
}

/* What is looked at later: names in the data end where it ends, addresses have their length,
 * strings fit. */
static bool is_sound(struct cm_span msg, const struct dns_rr *rr)
{
    char name[DNS_NAME_BUF];
    size_t at = rr->rdata, end = rr->rdata + rr->rdlen;

    if (rr->class != DNS_IN)
        return true;
    switch (rr->type) {
    case DNS_A:
        return rr->rdlen == 4;
    case DNS_AAAA:
        return rr->rdlen == 16;
    case DNS_NS:
    case DNS_CNAME:
        return dns_read_name(msg, &at, name) && at == end;
    case DNS_TXT:
        while (at < end)
            at += 1u + msg.data[at];
        return at == end && rr->rdlen > 0;
    default:
        return true;
    }
}

static size_t count(const struct dns_message *m)
{
    return (size_t)m->counts[1] + m->counts[2] + m->counts[3];
}

static bool parse(struct cm_span msg, struct dns_message *m)
{
    struct dns_rr rr;
    size_t at = DNS_HEADER_LEN;

    if (msg.len < DNS_HEADER_LEN || msg.len > DNS_MESSAGE_MAX)
        return false;
    m->msg = msg;
    m->id = dns_get_u16(msg.data);
    m->flags = dns_get_u16(msg.data + 2);
    for (size_t i = 0; i < 4; i++)
        m->counts[i] = dns_get_u16(msg.data + 4 + 2 * i);
    m->qname[0] = '\0';
    m->qtype = 0;
    if (m->counts[0] > 1)
        return false;
    if (m->counts[0] == 1) {
        if (!dns_read_name(msg, &at, m->qname) || msg.len - at < 4)
            return false;
        m->qtype = dns_get_u16(msg.data + at);
        at += 4;
    }
    m->records = at;
    for (size_t i = 0; i < count(m); i++)
        if (!read_rr(msg, &at, &rr) || !is_sound(msg, &rr))
            return false;
    return true;
}

cm_status dns_parse(struct cm_span msg, struct dns_message *ret, struct cm_err *err)
{
    struct dns_message m;

    if (!parse(msg, &m))
        return cm_fail(err, CM_E_PARSE, "not a DNS message, or a damaged one");
    *ret = m;
    return CM_OK;
}

bool dns_next(struct dns_walk *w, struct dns_rr *ret)
{
    const struct dns_message *m = w->m;

    if (w->n >= count(m))
        return false;
    if (w->n == 0)
        w->at = m->records;
    if (!read_rr(m->msg, &w->at, ret))
        return false;
    ret->section = w->n < m->counts[1]                          ? DNS_ANSWER
                   : w->n < (size_t)m->counts[1] + m->counts[2] ? DNS_AUTHORITY
                                                                : DNS_ADDITIONAL;
    w->n++;
    return true;
}

bool dns_txt_is(const struct dns_message *m, const struct dns_rr *rr, const char *value)
{
    size_t at = rr->rdata, end = rr->rdata + rr->rdlen, left = strlen(value);

    while (at < end) {
        size_t len = m->msg.data[at++];
        if (len > end - at || len > left || memcmp(m->msg.data + at, value, len) != 0)
            return false;
        at += len;
        value += len;
        left -= len;
    }
    return left == 0;
}

bool dns_txt_text(const struct dns_message *m, const struct dns_rr *rr, char *ret, size_t size)
{
    size_t at = rr->rdata, end = rr->rdata + rr->rdlen, used = 0;

    while (at < end) {
        size_t len = m->msg.data[at++];
        if (len > end - at || len >= size - used)
            return false;
        for (; len > 0; len--) {
            uint8_t byte = m->msg.data[at++];
            ret[used++] = byte >= 0x20 && byte < 0x7f ? (char)byte : '?';
        }
    }
    ret[used] = '\0';
    return true;
}
