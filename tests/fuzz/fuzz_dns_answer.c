/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"
#include "wire.h"

#include <string.h>

/* Answers of name servers: of one that is taken each record can be read, lies in the message, has a
 * name that is text of lawful length, and is as many as the header says; and the signature of none
 * is right by chance. */

static void check_name(const char *name)
{
    size_t len = strnlen(name, DNS_NAME_BUF);

    CM_ASSERT(len <= DNS_NAME_MAX + 1);
    for (size_t i = 0; i < len; i++)
        CM_ASSERT((unsigned char)name[i] > 0x20 && (unsigned char)name[i] < 0x7f);
    CM_ASSERT(!dns_is_name(name) || dns_is_in(name, name));
}

static void check_signature(const struct dns_message *m)
{
    static const char file[] = "key \"k.test\" { algorithm hmac-sha256; secret \"c2VjcmV0\"; };";
    static struct dns_key *key;

    if (key == NULL)
        CM_ASSERT(dns_key_parse(cm_span_str(file), &key, NULL) == CM_OK);
    CM_ASSERT(dns_verify(key, m, cm_span_str("mac"), 1700000000, NULL) != CM_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cm_err err = CM_ERR_INIT;
    struct dns_message m;
    struct dns_rr rr;
    size_t n = 0;
    cm_status rc = dns_parse((struct cm_span){ data, size }, &m, &err);

    if (rc != CM_OK) {
        CM_ASSERT(rc == CM_E_PARSE);
        return 0;
    }
    fuzz_reached();
    check_name(m.qname);
    struct dns_walk w = { .m = &m };
    while (dns_next(&w, &rr)) {
        n++;
        check_name(rr.name);
        CM_ASSERT(rr.rdata + rr.rdlen <= size && rr.at < rr.rdata);
        if (rr.type == DNS_TXT && rr.class == DNS_IN)
            (void)dns_txt_is(&m, &rr, "abc");
    }
    CM_ASSERT(n == (size_t)m.counts[1] + m.counts[2] + m.counts[3]);
    check_signature(&m);
    return 0;
}
