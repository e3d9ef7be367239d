/* SPDX-License-Identifier: Apache-2.0 */
#include "crl_private.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* A value of storage has at most a mebibyte, a list has up to 32: so it lies there in pieces. */

#define PIECES_MAX 34u
#define MAGIC      "certmesh-crl 1 "

/* The line before the first piece's share: MAGIC FETCHED SIZE SHA256 "\n". */
struct head {
    int64_t fetched_s;
    size_t size;
    char sum[2 * CM_SHA256_LEN + 1];
};

static void sum_text(struct cm_span in, char ret[2 * CM_SHA256_LEN + 1])
{
    uint8_t sum[CM_SHA256_LEN];

    cm_sha256(in, sum);
    cm_crl_id_text(sum, ret);
}

static cm_status path_of(const char *id, size_t n, char ret[CM_KEY_BUF], struct cm_err *err)
{
    int len = snprintf(ret, CM_KEY_BUF, CM_CRL_DIR "/%s/%zu", id, n);

    return len > 0 && len < (int)CM_KEY_BUF ? CM_OK : cm_fail(err, CM_E_INTERNAL, "id of a list");
}

static size_t pieces_of(size_t size)
{
    return size == 0 ? 1 : (size + CM_CRL_PIECE - 1) / CM_CRL_PIECE;
}

void cm_crl_id_text(const uint8_t id[CM_CRL_ID_LEN], char ret[CM_CRL_ID_TEXT])
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < CM_CRL_ID_LEN; i++) {
        *ret++ = digits[id[i] >> 4];
        *ret++ = digits[id[i] & 15];
    }
    *ret = '\0';
}

/* ---- reading ---- */

/* A decimal number and the space after it. */
static bool take_number(struct cm_span *in, int64_t *ret)
{
    int64_t n = 0;
    size_t i = 0;

    while (i < in->len && i < 18 && in->data[i] >= '0' && in->data[i] <= '9')
        n = n * 10 + (in->data[i++] - '0');
    if (i == 0 || i == in->len || in->data[i] != ' ')
        return false;
    *ret = n;
    *in = (struct cm_span){ in->data + i + 1, in->len - i - 1 };
    return true;
}

/* @in moves past the line. */
static bool take_head(struct cm_span *in, struct head *ret)
{
    size_t magic = strlen(MAGIC);
    size_t len = sizeof ret->sum - 1;
    int64_t size = 0;

    if (in->len < magic || memcmp(in->data, MAGIC, magic) != 0)
        return false;
    *in = (struct cm_span){ in->data + magic, in->len - magic };
    if (!take_number(in, &ret->fetched_s) || !take_number(in, &size) || size > CM_CRL_MAX ||
        in->len <= len || in->data[len] != '\n')
        return false;
    memcpy(ret->sum, in->data, len);
    ret->sum[len] = '\0';
    ret->size = (size_t)size;
    *in = (struct cm_span){ in->data + len + 1, in->len - len - 1 };
    return true;
}

static cm_status load_piece(struct cm_config *cfg, const struct cm_op *op, const char *id, size_t n,
                            struct cm_buf *ret, struct cm_err *err)
{
    char path[CM_KEY_BUF];

    cm_buf_reset(ret);
    cm_status rc = path_of(id, n, path, err);
    return rc == CM_OK ? cm_storage_load(cfg->storage, op, path, ret, err) : rc;
}

static cm_status load_head(struct cm_config *cfg, const struct cm_op *op, const char *id,
                           struct cm_buf *piece, struct head *ret, struct cm_span *ret_rest,
                           struct cm_err *err)
{
    cm_status rc = load_piece(cfg, op, id, 0, piece, err);

    if (rc != CM_OK)
        return rc;
    *ret_rest = cm_buf_span(piece);
    if (!take_head(ret_rest, ret))
        return cm_fail(err, CM_E_PARSE, "'" CM_CRL_DIR "/%s/0' does not begin as it should", id);
    return CM_OK;
}

cm_status cm_crl_store_load(struct cm_config *cfg, const struct cm_op *op, const char *id,
                            struct cm_buf *ret_der, int64_t *ret_fetched_s, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf piece = CM_BUF_INIT(CM_STORAGE_VALUE_MAX);
    char sum[2 * CM_SHA256_LEN + 1];
    struct head head;
    struct cm_span rest;

    cm_buf_reset(ret_der);
    cm_status rc = load_head(cfg, op, id, &piece, &head, &rest, err);
    if (rc == CM_OK)
        rc = cm_buf_append(ret_der, rest.data, rest.len, err);
    for (size_t i = 1; rc == CM_OK && i < pieces_of(head.size); i++) {
        rc = load_piece(cfg, op, id, i, &piece, err);
        if (rc == CM_OK)
            rc = cm_buf_append(ret_der, piece.data, piece.len, err);
    }
    if (rc != CM_OK)
        return rc;
    sum_text(cm_buf_span(ret_der), sum);
    if (ret_der->len != head.size || strcmp(sum, head.sum) != 0)
        return cm_fail(err, CM_E_PARSE, "the pieces of '" CM_CRL_DIR "/%s' do not fit together",
                       id);
    *ret_fetched_s = head.fetched_s;
    return CM_OK;
}

/* ---- writing ---- */

/* How many pieces of the predecessor may be there. */
static size_t pieces_there(struct cm_config *cfg, const struct cm_op *op, const char *id)
{
    CM_AUTO_BUF struct cm_buf piece = CM_BUF_INIT(CM_STORAGE_VALUE_MAX);
    struct cm_span rest;
    struct head head;

    cm_status rc = load_head(cfg, op, id, &piece, &head, &rest, NULL);
    if (rc == CM_E_NOTFOUND)
        return 0;
    return rc == CM_OK ? pieces_of(head.size) : PIECES_MAX;
}

cm_status cm_crl_store_save(struct cm_config *cfg, const struct cm_op *op, struct cm_lease *lease,
                            const char *id, struct cm_span der, int64_t fetched_s,
                            struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf first = CM_BUF_INIT(CM_STORAGE_VALUE_MAX);
    CM_AUTO_FREE char(*paths)[CM_KEY_BUF] = cm_calloc(PIECES_MAX, sizeof *paths);
    struct cm_commit_item items[PIECES_MAX] = { { NULL, { NULL, 0 }, false } };
    size_t n = pieces_of(der.len);
    size_t there = pieces_there(cfg, op, id);
    char sum[2 * CM_SHA256_LEN + 1];

    CM_ASSERT(der.len <= CM_CRL_MAX && n <= PIECES_MAX);
    if (paths == NULL)
        return cm_fail_nomem(err);
    sum_text(der, sum);
    cm_status rc =
        cm_buf_printf(&first, err, MAGIC "%" PRId64 " %zu %s\n", fetched_s, der.len, sum);
    if (rc == CM_OK)
        rc = cm_buf_append(&first, der.data, n == 1 ? der.len : CM_CRL_PIECE, err);
    for (size_t i = 0; rc == CM_OK && i < (there > n ? there : n); i++) {
        size_t from = i * CM_CRL_PIECE;

        rc = path_of(id, i, paths[i], err);
        items[i].key = paths[i];
        items[i].remove = i >= n;
        if (i == 0)
            items[i].value = cm_buf_span(&first);
        else if (i < n)
            items[i].value =
                (struct cm_span){ der.data + from, i + 1 < n ? CM_CRL_PIECE : der.len - from };
    }
    if (rc != CM_OK)
        return rc;
    cm_peers_writing(cfg, paths[0]);
    rc = cm_lease_commit(lease, op, items, there > n ? there : n, err);
    cm_peers_written(cfg, paths[0]);
    return rc;
}
