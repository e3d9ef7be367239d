/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_DNS_WIRE_H
#define CM_DNS_WIRE_H

/* What the files of lib/dns share: messages (RFC 1035 4), and one exchange with one server. */

#include "dns.h"

#define DNS_MESSAGE_MAX 65535u
#define DNS_QUERY_MAX   2048u
#define DNS_UDP_MAX     1232u /* what we say that we take, RFC 9715 3.1 */

enum dns_type {
    DNS_A = 1,
    DNS_NS = 2,
    DNS_CNAME = 5,
    DNS_SOA = 6,
    DNS_TXT = 16,
    DNS_AAAA = 28,
    DNS_OPT = 41,
    DNS_TSIG = 250
};
enum dns_class { DNS_IN = 1, DNS_CLASS_NONE = 254, DNS_CLASS_ANY = 255 };
enum dns_rcode {
    DNS_NOERROR = 0,
    DNS_SERVFAIL = 2,
    DNS_NXDOMAIN = 3,
    DNS_REFUSED = 5,
    DNS_NOTAUTH = 9,
    DNS_NOTZONE = 10
};
enum dns_flag { DNS_QR = 0x8000, DNS_AA = 0x0400, DNS_TC = 0x0200, DNS_RD = 0x0100 };
#define DNS_OPCODE(flags) (((flags) >> 11) & 15u)
#define DNS_RCODE(flags)  ((flags)&15u)
#define DNS_OPCODE_UPDATE 5u
#define DNS_HEADER_LEN    12u

/* "TXT", "NXDOMAIN", "type 99", ...; static or in @out. */
const char *dns_type_text(unsigned type, char out[16]);
const char *dns_rcode_text(unsigned rcode, char out[16]);

/* ---- writing; what does not fit, or is no name, sets @bad, and the rest is of no use ---- */

struct dns_writer {
    uint8_t data[DNS_QUERY_MAX];
    size_t len;
    bool bad;
};
void dns_put_u8(struct dns_writer *w, unsigned v);
void dns_put_u16(struct dns_writer *w, unsigned v);
void dns_put_u32(struct dns_writer *w, uint32_t v);
void dns_put_bytes(struct dns_writer *w, const void *data, size_t len);
void dns_put_name(struct dns_writer *w, const char *name); /* never compressed */
void dns_set_u16(struct dns_writer *w, size_t at, unsigned v);
uint16_t dns_get_u16(const uint8_t *p);
uint32_t dns_get_u32(const uint8_t *p);

/* ---- reading ---- */

enum dns_section { DNS_ANSWER = 1, DNS_AUTHORITY = 2, DNS_ADDITIONAL = 3 };

struct dns_rr {
    enum dns_section section;
    char name[DNS_NAME_BUF];
    uint16_t type, class;
    uint32_t ttl;
    size_t at;    /* where it begins in the message */
    size_t rdata; /* where its data begins */
    uint16_t rdlen;
};

/* A message whose every name and length was checked; @msg is borrowed. */
struct dns_message {
    struct cm_span msg;
    uint16_t id, flags, qtype;
    uint16_t counts[4];
    char qname[DNS_NAME_BUF]; /* of the one question; "" when there is none */
    size_t records;           /* where the first record begins */
};
/* CM_E_PARSE for what is no message, has more than one question, or a name that leads nowhere. */
CM_MUST_CHECK cm_status dns_parse(struct cm_span msg, struct dns_message *ret, struct cm_err *err);

struct dns_walk {
    const struct dns_message *m;
    size_t at;
    size_t n; /* records seen */
};
/* The next record, false after the last. */
bool dns_next(struct dns_walk *w, struct dns_rr *ret);

/* The name at @at of the message; *at moves behind it. */
bool dns_read_name(struct cm_span msg, size_t *at, char ret[DNS_NAME_BUF]);
/* Is the TXT record's text, its strings put together, @value? */
bool dns_txt_is(const struct dns_message *m, const struct dns_rr *rr, const char *value);
/* That text, its bytes that are not printable ASCII as '?'. False when @size is too small. */
bool dns_txt_text(const struct dns_message *m, const struct dns_rr *rr, char *ret, size_t size);
/* Equal, or @name is below @zone? Both in lower case. */
bool dns_is_in(const char *name, const char *zone);
/* Could it be a name of ours to ask for: letters, digits, '-' and '_', labels of 1..63? */
bool dns_is_name(const char *name);

/* ---- one exchange, exchange.c ---- */

/* Send @query and take the answer to it into @ret: by UDP, where that is cut
 * off or @tcp by TCP. Answers that are somebody else's are passed over. One try, at most
 * @timeout_ns. @ret_msg points into @ret. */
CM_MUST_CHECK cm_status dns_exchange(const struct dns_server *s, const struct cm_op *op,
                                     struct cm_span query, bool tcp, int64_t timeout_ns,
                                     struct cm_buf *ret, struct dns_message *ret_msg,
                                     struct cm_err *err);

/* ---- one question, ask.c ---- */

/* To the first of @servers that gives an answer: any but SERVFAIL, REFUSED and the like. Up to
 * @rounds times around, more patient each time. @recurse sets RD. */
CM_MUST_CHECK cm_status dns_ask(const struct dns_server *servers, size_t n, unsigned rounds,
                                const struct cm_op *op, const char *name, enum dns_type type,
                                bool recurse, struct cm_buf *ret, struct dns_message *ret_msg,
                                struct cm_err *err);
/* The same of the resolver's servers, with recursion. */
CM_MUST_CHECK cm_status dns_look_up(const struct dns_resolver *r, const struct cm_op *op,
                                    const char *name, enum dns_type type, struct cm_buf *ret,
                                    struct dns_message *ret_msg, struct cm_err *err);
uint16_t dns_zone_port(const struct dns_resolver *r);

/* ---- TSIG, tsig.c ---- */

#define DNS_MAC_MAX 64u

/* Append the TSIG record to the message in @w; @mac (of *mac_len bytes) is what answers refer to.
 * @now_s: seconds since 1970. */
CM_MUST_CHECK cm_status dns_sign(const struct dns_key *k, struct dns_writer *w, int64_t now_s,
                                 uint8_t mac[DNS_MAC_MAX], size_t *mac_len, struct cm_err *err);
/* Is the answer signed by @k, to the request with that MAC? CM_E_PERM saying what is wrong with the
 * key, or that the answer is not signed. */
CM_MUST_CHECK cm_status dns_verify(const struct dns_key *k, const struct dns_message *m,
                                   struct cm_span request_mac, int64_t now_s, struct cm_err *err);

#endif
