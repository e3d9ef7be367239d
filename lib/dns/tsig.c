/* SPDX-License-Identifier: Apache-2.0 */
#include "tsig.h"

#include <stdio.h>
#include <string.h>

/* Transaction signatures, RFC 8945: the last record of a message is a MAC over all before it, over
 * itself without the MAC, and in answers over the MAC of the request. */

#define FUDGE_S   300u
#define TEXT_MAX  (DNS_MESSAGE_MAX + 1024u)
#define BADSIG    16u
#define BADKEY    17u
#define BADTIME   18u
#define BADTRUNC  22u
#define MAC_SHORT 10u /* RFC 8945 5.2.2.1: no less of a MAC may be given */

/* What the record says besides the MAC. */
struct tsig {
    char alg[DNS_NAME_BUF];
    uint64_t time_s;
    uint16_t fudge, id, error;
    struct cm_span mac, other;
};

static void put_u48(struct dns_writer *w, uint64_t v)
{
    dns_put_u16(w, (unsigned)(v >> 32) & 0xffffu);
    dns_put_u32(w, (uint32_t)v);
}

/* RFC 8945 4.3.3 */
static void put_variables(struct dns_writer *w, const struct dns_key *k, const struct tsig *t)
{
    dns_put_name(w, k->name);
    dns_put_u16(w, DNS_CLASS_ANY);
    dns_put_u32(w, 0);
    dns_put_name(w, k->alg_name);
    put_u48(w, t->time_s);
    dns_put_u16(w, t->fudge);
    dns_put_u16(w, t->error);
    dns_put_u16(w, (unsigned)t->other.len);
    dns_put_bytes(w, t->other.data, t->other.len);
}

/* @count and @id are what the header had when it was signed. */
static cm_status mac_of(const struct dns_key *k, struct cm_span request_mac, struct cm_span msg,
                        unsigned additional, unsigned id, const struct tsig *t, struct cm_buf *out,
                        struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf text = CM_BUF_INIT(TEXT_MAX);
    struct dns_writer head = { .len = 0 }, tail = { .len = 0 };
    cm_status rc = CM_OK;

    if (request_mac.len > 0) {
        dns_put_u16(&head, (unsigned)request_mac.len);
        dns_put_bytes(&head, request_mac.data, request_mac.len);
    }
    dns_put_u16(&head, id);
    dns_put_bytes(&head, msg.data + 2, 8);
    dns_put_u16(&head, additional);
    put_variables(&tail, k, t);
    if (head.bad || tail.bad)
        return cm_fail(err, CM_E_PARSE, "a TSIG record that is too long");
    rc = cm_buf_append(&text, head.data, head.len, err);
    if (rc == CM_OK)
        rc = cm_buf_append(&text, msg.data + DNS_HEADER_LEN, msg.len - DNS_HEADER_LEN, err);
    if (rc == CM_OK)
        rc = cm_buf_append(&text, tail.data, tail.len, err);
    if (rc == CM_OK)
        rc = cm_hmac(k->alg, cm_buf_span(&k->secret), cm_buf_span(&text), out, err);
    return rc;
}

cm_status dns_sign(const struct dns_key *k, struct dns_writer *w, int64_t now_s,
                   uint8_t mac[DNS_MAC_MAX], size_t *mac_len, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf out = CM_BUF_INIT(DNS_MAC_MAX);
    struct tsig t = { .time_s = (uint64_t)now_s, .fudge = FUDGE_S };

    if (w->bad || w->len < DNS_HEADER_LEN)
        return cm_fail(err, CM_E_INTERNAL, "a DNS message that cannot be signed");
    unsigned id = dns_get_u16(w->data), additional = dns_get_u16(w->data + 10);
    cm_status rc = mac_of(k, (struct cm_span){ NULL, 0 }, (struct cm_span){ w->data, w->len },
                          additional, id, &t, &out, err);
    if (rc != CM_OK)
        return rc;
    dns_set_u16(w, 10, additional + 1);
    dns_put_name(w, k->name);
    dns_put_u16(w, DNS_TSIG);
    dns_put_u16(w, DNS_CLASS_ANY);
    dns_put_u32(w, 0);
    size_t rdlen_at = w->len;
    dns_put_u16(w, 0);
    dns_put_name(w, k->alg_name);
    put_u48(w, t.time_s);
    dns_put_u16(w, t.fudge);
    dns_put_u16(w, (unsigned)out.len);
    dns_put_bytes(w, out.data, out.len);
    dns_put_u16(w, id);
    dns_put_u16(w, 0);
    dns_put_u16(w, 0);
    if (w->bad)
        return cm_fail(err, CM_E_LIMIT, "a DNS message that is too long to sign");
    dns_set_u16(w, rdlen_at, (unsigned)(w->len - rdlen_at - 2));
    memcpy(mac, out.data, out.len);
    *mac_len = out.len;
    return CM_OK;
}

static bool read_tsig(const struct dns_message *m, const struct dns_rr *rr, struct tsig *t)
{
    const uint8_t *p = m->msg.data;
    size_t at = rr->rdata, end = rr->rdata + rr->rdlen;

    if (!dns_read_name(m->msg, &at, t->alg) || at > end || end - at < 10)
        return false;
    t->time_s = (uint64_t)dns_get_u16(p + at) << 32 | dns_get_u32(p + at + 2);
    t->fudge = dns_get_u16(p + at + 6);
    t->mac = (struct cm_span){ p + at + 10, dns_get_u16(p + at + 8) };
    at += 10;
    if (end - at < t->mac.len || end - at - t->mac.len < 6)
        return false;
    at += t->mac.len;
    t->id = dns_get_u16(p + at);
    t->error = dns_get_u16(p + at + 2);
    t->other = (struct cm_span){ p + at + 6, dns_get_u16(p + at + 4) };
    at += 6;
    return end - at == t->other.len && t->other.len <= 64;
}

/* What the server has against the key; such answers are signed only if it is about the time. */
static cm_status refused(const struct dns_key *k, unsigned error, struct cm_err *err)
{
    switch (error) {
    case BADSIG:
        return cm_fail(err, CM_E_PERM,
                       "BADSIG: the secret or the algorithm of TSIG key '%s' is not the server's",
                       k->name);
    case BADKEY:
        return cm_fail(err, CM_E_PERM, "BADKEY: the server does not know the TSIG key '%s'",
                       k->name);
    case BADTIME:
        return cm_fail(err, CM_E_PERM,
                       "BADTIME: the clocks of this machine and the server differ by more than "
                       "five minutes");
    case BADTRUNC:
        return cm_fail(err, CM_E_PERM, "BADTRUNC: the server wants longer signatures");
    default:
        return cm_fail(err, CM_E_PERM, "TSIG error %u", error);
    }
}

static bool find_tsig(const struct dns_message *m, struct dns_rr *ret)
{
    struct dns_walk w = { .m = m };
    struct dns_rr rr;
    bool found = false;

    while (dns_next(&w, &rr)) {
        if (found)
            return false; /* it must be the last */
        if (rr.type == DNS_TSIG && rr.section == DNS_ADDITIONAL && rr.class == DNS_CLASS_ANY &&
            rr.ttl == 0) {
            found = true;
            *ret = rr;
        }
    }
    return found;
}

cm_status dns_verify(const struct dns_key *k, const struct dns_message *m,
                     struct cm_span request_mac, int64_t now_s, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf want = CM_BUF_INIT(DNS_MAC_MAX);
    struct dns_rr rr;
    struct tsig t;
    char code[16];

    if (!find_tsig(m, &rr) || !read_tsig(m, &rr, &t))
        return cm_fail(err, CM_E_PERM, "the answer (%s) is not signed",
                       dns_rcode_text(DNS_RCODE(m->flags), code));
    if (t.error != 0 && t.mac.len == 0)
        return refused(k, t.error, err);
    if (strcmp(rr.name, k->name) != 0 || strcmp(t.alg, k->alg_name) != 0)
        return cm_fail(err, CM_E_PERM, "the answer is signed with another key or algorithm");
    cm_status rc = mac_of(k, request_mac, (struct cm_span){ m->msg.data, rr.at },
                          (unsigned)m->counts[3] - 1u, t.id, &t, &want, err);
    if (rc != CM_OK)
        return rc;
    if (t.mac.len > want.len || t.mac.len < MAC_SHORT || t.mac.len < want.len / 2)
        return cm_fail(err, CM_E_PERM, "the signature of the answer has no such length");
    want.len = t.mac.len;
    if (!cm_equal_ct(cm_buf_span(&want), t.mac))
        return cm_fail(err, CM_E_PERM, "the signature of the answer is wrong");
    if (t.error != 0)
        return refused(k, t.error, err);
    int64_t apart = (int64_t)t.time_s - now_s;
    if (apart > (int64_t)t.fudge || apart < -(int64_t)t.fudge)
        return cm_fail(err, CM_E_PERM, "the answer was signed at another time: look at the clocks");
    return CM_OK;
}
