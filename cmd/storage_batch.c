/* SPDX-License-Identifier: Apache-2.0 */
#include "storage.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Values on their way into a storage, a few at a time: for import and copy. */

#define SITE_PARTS_MAX 8u

cm_status cli_batch_start(struct cli_batch *b, struct cli *c, struct cm_storage *to,
                          const struct cm_op *op, struct cm_err *err)
{
    memset(b, 0, sizeof *b);
    b->c = c;
    b->to = to;
    b->op = op;
    b->values = calloc(CLI_BATCH_KEYS, sizeof *b->values);
    return b->values != NULL ? CM_OK : cm_fail(err, CM_E_NOMEM, "out of memory");
}

static void clear(struct cli_batch *b)
{
    for (size_t i = 0; i < b->n; i++)
        cm_buf_free(&b->values[i].value);
    b->n = 0;
    b->bytes = 0;
}

void cli_batch_end(struct cli_batch *b)
{
    clear(b);
    free(b->values);
    b->values = NULL;
    cm_cache_free(b->cache);
    b->cache = NULL;
}

size_t cli_site_len(const char *key)
{
    static const char root[] = "certificates/";
    size_t len = sizeof root - 1;

    if (strncmp(key, root, len) != 0)
        return 0;
    for (int i = 0; i < 2; i++) {
        const char *slash = strchr(key + len, '/');

        if (slash == NULL)
            return 0;
        len = (size_t)(slash + 1 - key);
    }
    return strchr(key + len, '/') == NULL ? len - 1 : 0;
}

static bool same_site(const char *a, const char *b)
{
    size_t len = cli_site_len(a);

    return len > 0 && len == cli_site_len(b) && memcmp(a, b, len) == 0;
}

bool cli_batch_is_full(const struct cli_batch *b, const char *key, uint64_t len)
{
    if (b->n == 0)
        return false;
    if (same_site(b->values[b->n - 1].key, key))
        return b->n == CLI_BATCH_KEYS;
    return b->n + SITE_PARTS_MAX > CLI_BATCH_KEYS || b->bytes + len > CLI_BATCH_BYTES;
}

struct cli_batch_value *cli_batch_add(struct cli_batch *b, const char *key, uint64_t len)
{
    struct cli_batch_value *v = &b->values[b->n++];

    memset(v, 0, sizeof *v);
    (void)snprintf(v->key, sizeof v->key, "%s", key);
    v->value = (struct cm_buf)CM_BUF_SECRET(CM_STORAGE_VALUE_MAX);
    b->bytes += (size_t)len;
    b->seen++;
    return v;
}

/* ------------------------------------------------------------------ loading */

static cm_status take(void *user, size_t i, cm_status status, struct cm_span value,
                      const struct cm_err *why, struct cm_err *err)
{
    struct cli_batch_value *v = &((struct cli_batch *)user)->values[i];

    v->is_gone = status == CM_E_NOTFOUND;
    if (status == CM_OK)
        return cm_buf_append(&v->value, value.data, value.len, err);
    return v->is_gone ? CM_OK : cm_fail(err, status, "load '%.300s': %s", v->key, why->msg);
}

cm_status cli_batch_load(struct cli_batch *b, struct cm_storage *from, struct cm_err *err)
{
    const char *keys[CLI_BATCH_KEYS];

    for (size_t i = 0; i < b->n; i++)
        keys[i] = b->values[i].key;
    return cm_storage_load_many(from, b->op, keys, b->n, take, b, err);
}

static cm_status compare(void *user, size_t i, cm_status status, struct cm_span value,
                         const struct cm_err *why, struct cm_err *err)
{
    struct cli_batch_value *v = &((struct cli_batch *)user)->values[i];

    if (status != CM_OK && status != CM_E_NOTFOUND)
        return cm_fail(err, status, "load '%.300s': %s", v->key, why->msg);
    v->is_equal = status == CM_OK && value.len == v->value.len &&
                  (value.len == 0 || memcmp(value.data, v->value.data, value.len) == 0);
    return CM_OK;
}

static cm_status compare_all(struct cli_batch *b, struct cm_err *err)
{
    const char *keys[CLI_BATCH_KEYS];

    for (size_t i = 0; i < b->n; i++)
        keys[i] = b->values[i].key;
    return cm_storage_load_many(b->to, b->op, keys, b->n, compare, b, err);
}

/* -------------------------------------------------------------- which is newer */

static bool ends_with(const char *s, const char *tail)
{
    size_t len = strlen(s), n = strlen(tail);

    return len >= n && strcmp(s + len - n, tail) == 0;
}

/* When the certificate begins to be valid; false if these are no certificate and its key. */
static bool not_before(struct cli_batch *b, struct cm_span chain, struct cm_span key, int64_t *ret)
{
    const struct cm_cache_options o = { .size = (uint32_t)sizeof o, .no_thread = true };
    struct cm_cert *cert = NULL;

    if (b->cache == NULL && cm_cache_new(&o, &b->cache, NULL) != CM_OK)
        return false;
    if (cm_cache_add_pem(b->cache, chain, key, NULL, &cert, NULL) != CM_OK)
        return false;
    *ret = cm_cert_not_before_s(cert);
    (void)cm_cache_remove(b->cache, cert);
    cm_cert_unref(cert);
    return true;
}

/* The values [from, to) are parts of one certificate. Does the target have a newer one? */
static cm_status is_target_newer(struct cli_batch *b, size_t from, size_t to, bool *ret,
                                 struct cm_err *err)
{
    struct cm_buf chain = CM_BUF_INIT(CM_STORAGE_VALUE_MAX);
    struct cm_buf key = CM_BUF_SECRET(CM_STORAGE_VALUE_MAX);
    const struct cli_batch_value *our_chain = NULL;
    const struct cli_batch_value *our_key = NULL;
    int64_t ours = 0;
    int64_t theirs = 0;
    cm_status rc = CM_OK;

    *ret = false;
    for (size_t i = from; i < to; i++) {
        if (ends_with(b->values[i].key, ".crt"))
            our_chain = &b->values[i];
        else if (ends_with(b->values[i].key, ".key"))
            our_key = &b->values[i];
    }
    if (our_chain == NULL || our_key == NULL || (our_chain->is_equal && our_key->is_equal) ||
        !not_before(b, cm_buf_span(&our_chain->value), cm_buf_span(&our_key->value), &ours))
        return CM_OK;
    rc = cm_storage_load(b->to, b->op, our_chain->key, &chain, err);
    if (rc == CM_OK)
        rc = cm_storage_load(b->to, b->op, our_key->key, &key, err);
    if (rc == CM_OK)
        *ret = not_before(b, cm_buf_span(&chain), cm_buf_span(&key), &theirs) && theirs > ours;
    else if (rc == CM_E_NOTFOUND)
        rc = CM_OK;
    cm_buf_free(&chain);
    cm_buf_free(&key);
    return rc;
}

/* ------------------------------------------------------------------- storing */

static cm_status store_some(struct cli_batch *b, size_t from, size_t to, struct cm_err *err)
{
    struct cm_commit_item items[CLI_BATCH_KEYS];
    size_t n = 0;
    char text[CM_STORAGE_KEY_MAX + 1];
    cm_status rc = CM_OK;

    for (size_t i = from; i < to; i++) {
        const struct cli_batch_value *v = &b->values[i];

        if (v->is_gone || v->is_equal || v->is_older)
            continue;
        if (b->c->o.dry_run && !b->c->o.json)
            printf("would store %s\n", cli_printable(v->key, text, sizeof text));
        items[n++] = (struct cm_commit_item){ v->key, cm_buf_span(&v->value), false };
        b->stored_bytes += v->value.len;
    }
    b->stored += n;
    if (b->c->o.dry_run || n == 0)
        return CM_OK;
    if (n == 1)
        rc = cm_storage_store(b->to, b->op, items[0].key, items[0].value, err);
    else
        rc = cm_storage_commit(b->to, b->op, NULL, items, n, err);
    return rc == CM_OK ? rc : cm_wrap(err, rc, "store '%.200s'", items[0].key);
}

static cm_status verify(struct cli_batch *b, struct cm_err *err)
{
    cm_status rc = compare_all(b, err);

    for (size_t i = 0; i < b->n && rc == CM_OK; i++) {
        const struct cli_batch_value *v = &b->values[i];

        if (!v->is_equal && !v->is_gone && !v->is_older)
            rc = cm_fail(err, CM_E_IO,
                         "'%.200s' was stored, and is something else when it is read again: either "
                         "somebody writes there now, or the storage loses data; once more tells "
                         "which",
                         v->key);
    }
    return rc;
}

cm_status cli_batch_flush(struct cli_batch *b, struct cm_err *err)
{
    uint64_t stored = b->stored;
    cm_status rc = b->n > 0 ? compare_all(b, err) : CM_OK;
    size_t end = 0;

    for (size_t i = 0; i < b->n && rc == CM_OK; i = end) {
        bool newer = false;

        for (end = i + 1; end < b->n && same_site(b->values[i].key, b->values[end].key);)
            end++;
        if (!b->c->o.force && !b->any_age && cli_site_len(b->values[i].key) > 0)
            rc = is_target_newer(b, i, end, &newer, err);
        for (size_t k = i; k < end; k++) {
            struct cli_batch_value *v = &b->values[k];

            v->is_older = newer && !v->is_equal;
            b->older += v->is_older;
            b->equal += v->is_equal && !v->is_gone;
        }
        if (rc == CM_OK)
            rc = store_some(b, i, end, err);
    }
    if (rc == CM_OK && b->stored > stored && !b->c->o.dry_run)
        rc = verify(b, err);
    clear(b);
    cli_ui_count("%" PRIu64 " values, %" PRIu64 " stored, %" PRIu64 " equal", b->seen, b->stored,
                 b->equal);
    return rc;
}

/* ----------------------------------------------------------------- reporting */

void cli_batch_json(const struct cli_batch *b, struct cli_json *j)
{
    cli_json_bool(j, "dry_run", b->c->o.dry_run);
    cli_json_int(j, "n_values", (int64_t)b->seen);
    cli_json_int(j, "n_stored", (int64_t)b->stored);
    cli_json_int(j, "n_equal", (int64_t)b->equal);
    cli_json_int(j, "n_older", (int64_t)b->older);
    cli_json_int(j, "stored_bytes", (int64_t)b->stored_bytes);
}

void cli_batch_print(const struct cli_batch *b)
{
    printf("%" PRIu64 " values: %" PRIu64 " %s (%" PRIu64 " bytes), %" PRIu64 " equal", b->seen,
           b->stored, b->c->o.dry_run ? "to store" : "stored", b->stored_bytes, b->equal);
    if (b->older > 0)
        printf(", %" PRIu64 " left out: of certificates older than those there (--force)",
               b->older);
    printf("\n");
}
