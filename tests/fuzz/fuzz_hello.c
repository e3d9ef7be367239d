/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"
#include "tls.h"

#include <string.h>

/* The ClientHello parser, which sees the first bytes of every stranger, and the record layer below
 * it. What comes in byte by byte must come to the same as what comes at once. */

#define MSG_MAX 16384u

static void check_text(const char *s, size_t size)
{
    CM_ASSERT(memchr(s, 0, size) != NULL);
}

static void check_hello(const struct cm_hello *h)
{
    check_text(h->server_name, sizeof h->server_name);
    CM_ASSERT(strspn(h->server_name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") ==
              strlen(h->server_name));
    CM_ASSERT(strlen(h->server_name) <= CM_NAME_MAX);
    CM_ASSERT(!h->sni_invalid || h->server_name[0] == '\0');
    for (size_t i = 0; i < CM_ARRAY_LEN(h->alpn); i++)
        check_text(h->alpn[i], sizeof h->alpn[i]);
    CM_ASSERT(!h->acme_tls || (h->n_alpn == 1 && strcmp(h->alpn[0], "acme-tls/1") == 0));
    CM_ASSERT(h->n_suites <= CM_HELLO_MAX_LIST && h->n_sigalgs <= CM_HELLO_MAX_LIST);
    CM_ASSERT(h->n_groups <= CM_HELLO_MAX_LIST && h->n_versions <= CM_ARRAY_LEN(h->versions));
}

/* Also of what is no hello: it has to stay within the bytes. */
static void look_for_tickets(struct cm_span body)
{
    uint8_t names[2][CM_TLS_TICKET_NAME];
    size_t n = cm_tls_hello_tickets(body, names, CM_ARRAY_LEN(names));

    CM_ASSERT(n <= CM_ARRAY_LEN(names));
    for (size_t i = 0; i < n; i++) /* taken from there, not made up */
        CM_ASSERT(memmem(body.data, body.len, names[i], sizeof names[i]) != NULL);
}

static void parse(struct cm_span msg)
{
    struct cm_err err = CM_ERR_INIT;
    struct cm_hello hello;
    cm_status rc = cm_hello_parse(msg, &hello, &err);

    if (rc == CM_OK) {
        fuzz_reached();
        check_hello(&hello);
        return;
    }
    CM_ASSERT(rc == CM_E_AGAIN || rc == CM_E_PARSE || rc == CM_E_LIMIT);
    CM_ASSERT(rc == CM_E_AGAIN || err.tls_alert != 0);
}

/* In prefixes of growing length; each prefix in a block of its own. */
static enum cm_record_result scan_slowly(const uint8_t *data, size_t size, size_t step,
                                         struct cm_record_scan *s)
{
    enum cm_record_result r = CM_RECORD_MORE;

    for (size_t n = 0; n < size && r == CM_RECORD_MORE;) {
        uint8_t *exact;

        n = size - n < step ? size : n + step;
        exact = cm_calloc(1, n);
        CM_ASSERT(exact != NULL);
        memcpy(exact, data, n);
        r = cm_record_scan(s, (struct cm_span){ exact, n }, MSG_MAX);
        free(exact);
    }
    return r;
}

static void scan(const uint8_t *data, size_t size)
{
    struct cm_record_scan fast = { 0 };
    struct cm_record_scan slow = { 0 };
    struct cm_span raw = { data, size };
    CM_AUTO_BUF struct cm_buf out = CM_BUF_INIT(8 * 1024 * 1024);
    enum cm_record_result r = cm_record_scan(&fast, raw, MSG_MAX);

    CM_ASSERT(scan_slowly(data, size, size / 64 + 1, &slow) == r);
    if (r == CM_RECORD_HELLO) {
        struct cm_span a = cm_record_hello(&fast, raw);
        struct cm_span b = cm_record_hello(&slow, raw);

        CM_ASSERT(a.len == b.len && a.len <= MSG_MAX);
        CM_ASSERT(a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
        CM_ASSERT(cm_record_reframe(&fast, raw, &out, NULL) == CM_OK);
        CM_ASSERT(out.len >= a.len + 9);
        CM_ASSERT(a.len > 16000 || memcmp(out.data + 9, a.data, a.len) == 0);
    }
    cm_record_scan_free(&fast);
    cm_record_scan_free(&slow);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    parse((struct cm_span){ data, size });
    if (size > 4)
        look_for_tickets((struct cm_span){ data + 4, size - 4 });
    if (size > 0)
        scan(data, size);
    return 0;
}
