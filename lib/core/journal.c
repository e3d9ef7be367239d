/* SPDX-License-Identifier: Apache-2.0 */
#include "core_private.h"

#include <string.h>

/* What a job must not lose: the key of the CSR and the issuer's state of the order, stored before
 * the CA is asked to issue. Whoever comes next (this process after a crash, or a peer that took
 * the lock over) finishes the same order instead of paying for another.
 *
 * One text per name: lines "word value", the key as PEM at the end. It holds a private key, so it
 * is only ever in secret buffers; that is why it is no JSON. */

#define MAGIC "certmesh-journal 1"

void cm_journal_init(struct cm_journal *j)
{
    *j = (struct cm_journal){ .csr_der = CM_BUF_INIT(CM_JOURNAL_MAX),
                              .resume = CM_BUF_SECRET(CM_JOURNAL_MAX) };
}

void cm_journal_free(struct cm_journal *j)
{
    free(j->names);
    cm_key_unref(j->key);
    cm_buf_free(&j->csr_der);
    cm_buf_free(&j->resume);
    cm_journal_init(j);
}

/* ---- reading ---- */

struct line {
    struct cm_span word;
    struct cm_span value;
};

static bool next_line(struct cm_span *rest, struct line *ret)
{
    const uint8_t *end = rest->len > 0 ? memchr(rest->data, '\n', rest->len) : NULL;
    const uint8_t *space;

    if (end == NULL)
        return false;
    size_t len = (size_t)(end - rest->data);
    space = memchr(rest->data, ' ', len);
    ret->word = (struct cm_span){ rest->data, space != NULL ? (size_t)(space - rest->data) : len };
    ret->value = (struct cm_span){ end, 0 };
    if (space != NULL)
        ret->value = (struct cm_span){ space + 1, (size_t)(end - space) - 1 };
    rest->data = end + 1;
    rest->len -= len + 1;
    return true;
}

static bool is_word(const struct line *l, const char *word)
{
    return l->word.len == strlen(word) && memcmp(l->word.data, word, l->word.len) == 0;
}

static cm_status take(const struct line *l, struct cm_journal *j, struct cm_err *err)
{
    const char *text = (const char *)l->value.data;
    size_t len = l->value.len;

    if (is_word(l, "created"))
        return cm_time_parse_rfc3339(text, len, &j->created_ns, err);
    if (is_word(l, "issuer")) {
        if (len >= sizeof j->issuer_key || memchr(text, 0, len) != NULL)
            return cm_fail(err, CM_E_PARSE, "issuer key of %zu bytes", len);
        memcpy(j->issuer_key, text, len);
        j->issuer_key[len] = '\0';
        return CM_OK;
    }
    if (is_word(l, "names")) {
        free(j->names);
        j->names = cm_strndup(text, len);
        return j->names != NULL ? CM_OK : cm_fail_nomem(err);
    }
    if (is_word(l, "must-staple")) {
        j->must_staple = len == 1 && text[0] == '1';
        return CM_OK;
    }
    if (is_word(l, "csr")) {
        cm_buf_reset(&j->csr_der);
        return cm_b64url_decode(l->value, &j->csr_der, err);
    }
    if (is_word(l, "resume")) {
        cm_buf_reset(&j->resume);
        return cm_b64url_decode(l->value, &j->resume, err);
    }
    return CM_OK; /* a later version's */
}

static cm_status parse_lines(struct cm_span rest, struct cm_journal *j, struct cm_err *err)
{
    struct line l;

    if (rest.len < sizeof MAGIC || memcmp(rest.data, MAGIC "\n", sizeof MAGIC) != 0)
        return cm_fail(err, CM_E_PARSE, "it does not begin with '%s'", MAGIC);
    rest.data += sizeof MAGIC;
    rest.len -= sizeof MAGIC;
    while (next_line(&rest, &l)) {
        if (is_word(&l, "key"))
            return cm_key_from_pem(rest, &j->key, err);
        cm_status rc = take(&l, j, err);
        if (rc != CM_OK)
            return rc;
    }
    return cm_fail(err, CM_E_PARSE, "it has no key");
}

cm_status cm_journal_parse(struct cm_span text, struct cm_journal *ret, struct cm_err *err)
{
    struct cm_journal j;

    cm_journal_init(&j);
    if (text.len > CM_JOURNAL_MAX)
        return cm_fail(err, CM_E_LIMIT, "journal of %zu bytes, at most %u", text.len,
                       CM_JOURNAL_MAX);
    cm_status rc = parse_lines(text, &j, err);
    if (rc == CM_OK && (j.names == NULL || j.csr_der.len == 0 || j.created_ns == 0))
        rc = cm_fail(err, CM_E_PARSE, "names, CSR or date are missing");
    if (rc != CM_OK) {
        cm_journal_free(&j);
        return cm_wrap(err, rc, "journal");
    }
    *ret = j;
    return CM_OK;
}

/* ---- writing ---- */

static cm_status put_b64(struct cm_buf *out, const char *word, const struct cm_buf *value,
                         struct cm_err *err)
{
    cm_status rc = cm_buf_puts(out, word, err);

    if (rc == CM_OK)
        rc = cm_b64url_encode(cm_buf_span(value), out, err);
    return rc == CM_OK ? cm_buf_puts(out, "\n", err) : rc;
}

cm_status cm_journal_format(const struct cm_journal *j, struct cm_buf *out, struct cm_err *err)
{
    char created[CM_TIME_TEXT];

    cm_time_format_rfc3339(j->created_ns, true, created);
    cm_status rc = cm_buf_puts(out, MAGIC "\ncreated ", err);
    if (rc == CM_OK)
        rc = cm_buf_puts(out, created, err);
    if (rc == CM_OK)
        rc = cm_buf_puts(out, "\nissuer ", err);
    if (rc == CM_OK)
        rc = cm_buf_puts(out, j->issuer_key, err);
    if (rc == CM_OK)
        rc = cm_buf_puts(out, "\nnames ", err);
    if (rc == CM_OK)
        rc = cm_buf_puts(out, j->names, err);
    if (rc == CM_OK)
        rc = cm_buf_puts(out, j->must_staple ? "\nmust-staple 1\n" : "\nmust-staple 0\n", err);
    if (rc == CM_OK)
        rc = put_b64(out, "csr ", &j->csr_der, err);
    if (rc == CM_OK)
        rc = put_b64(out, "resume ", &j->resume, err);
    if (rc == CM_OK)
        rc = cm_buf_puts(out, "key\n", err);
    return rc == CM_OK ? cm_key_to_pem(j->key, out, err) : rc;
}
