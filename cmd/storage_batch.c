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

/* Bytes of the directory whose values go together: of a certificate or, acme/CA/users/EMAIL, of an
 * account; 0 = this value is for itself. */
static size_t group_len(const char *key)
{
    const char *users = strncmp(key, "acme/", 5) == 0 ? strchr(key + 5, '/') : NULL;
    const char *end;

    if (users == NULL || strncmp(users, "/users/", 7) != 0)
        return cli_site_len(key);
    end = strchr(users + 7, '/');
    return end != NULL && strchr(end + 1, '/') == NULL ? (size_t)(end - key) : 0;
}

static bool same_group(const char *a, const char *b)
{
    size_t len = group_len(a);

    return len > 0 && len == group_len(b) && memcmp(a, b, len) == 0;
}

bool cli_batch_is_full(const struct cli_batch *b, const char *key, uint64_t len)
{
    if (b->n == 0)
        return false;
    if (same_group(b->values[b->n - 1].key, key))
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

/* The values [first, end) of a batch. */
struct part {
    struct cli_batch *b;
    size_t first, end;
};

static cm_status load_part(const struct part *p, struct cm_storage *st, cm_load_fn each,
                           struct cm_err *err)
{
    const char *keys[CLI_BATCH_KEYS];

    for (size_t i = p->first; i < p->end; i++)
        keys[i - p->first] = p->b->values[i].key;
    return cm_storage_load_many(st, p->b->op, keys, p->end - p->first, each, (void *)(uintptr_t)p,
                                err);
}

static cm_status take(void *user, size_t i, cm_status status, struct cm_span value,
                      const struct cm_err *why, struct cm_err *err)
{
    const struct part *p = user;
    struct cli_batch_value *v = &p->b->values[p->first + i];

    cm_buf_reset(&v->value);
    v->is_gone = status == CM_E_NOTFOUND;
    if (status == CM_OK)
        return cm_buf_append(&v->value, value.data, value.len, err);
    return v->is_gone ? CM_OK : cm_fail(err, status, "load '%.300s': %s", v->key, why->msg);
}

cm_status cli_batch_load(struct cli_batch *b, struct cm_err *err)
{
    const struct part all = { b, 0, b->n };

    return load_part(&all, b->from, take, err);
}

static cm_status compare(void *user, size_t i, cm_status status, struct cm_span value,
                         const struct cm_err *why, struct cm_err *err)
{
    const struct part *p = user;
    struct cli_batch_value *v = &p->b->values[p->first + i];

    if (status != CM_OK && status != CM_E_NOTFOUND)
        return cm_fail(err, status, "load '%.300s': %s", v->key, why->msg);
    v->is_equal = status == CM_OK && value.len == v->value.len &&
                  (value.len == 0 || memcmp(value.data, v->value.data, value.len) == 0);
    return CM_OK;
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

static struct cli_batch_value *find(const struct part *p, const char *ending)
{
    for (size_t i = p->first; i < p->end; i++)
        if (!p->b->values[i].is_gone && ends_with(p->b->values[i].key, ending))
            return &p->b->values[i];
    return NULL;
}

/* These are the parts of one certificate. Does the target have a newer one? */
static cm_status is_target_newer(const struct part *p, bool *ret, struct cm_err *err)
{
    struct cli_batch *b = p->b;
    struct cm_buf chain = CM_BUF_INIT(CM_STORAGE_VALUE_MAX);
    struct cm_buf key = CM_BUF_SECRET(CM_STORAGE_VALUE_MAX);
    const struct cli_batch_value *our_chain = find(p, ".crt");
    const struct cli_batch_value *our_key = find(p, ".key");
    int64_t ours = 0;
    int64_t theirs = 0;
    cm_status rc = CM_OK;

    *ret = false;
    if (b->c->o.force || b->any_age)
        return CM_OK;
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

static bool is_to_store(const struct cli_batch_value *v)
{
    return !v->is_gone && !v->is_equal && !v->is_older && !v->is_left;
}

static cm_status store_part(const struct part *p, struct cm_lease *lease, struct cm_err *err)
{
    struct cm_commit_item items[CLI_BATCH_KEYS];
    struct cli_batch *b = p->b;
    uint64_t bytes = 0;
    size_t n = 0;
    char text[CM_STORAGE_KEY_MAX + 1];
    cm_status rc = CM_OK;

    for (size_t i = p->first; i < p->end; i++) {
        const struct cli_batch_value *v = &b->values[i];

        if (!is_to_store(v))
            continue;
        if (b->c->o.dry_run && !b->c->o.json)
            printf("would store %s\n", cli_printable(v->key, text, sizeof text));
        items[n++] = (struct cm_commit_item){ v->key, cm_buf_span(&v->value), false };
        bytes += v->value.len;
    }
    if (!b->c->o.dry_run && lease != NULL && n > 0)
        rc = cm_lease_commit(lease, b->op, items, n, err);
    else if (!b->c->o.dry_run && n == 1)
        rc = cm_storage_store(b->to, b->op, items[0].key, items[0].value, err);
    else if (!b->c->o.dry_run && n > 0)
        rc = cm_storage_commit(b->to, b->op, NULL, items, n, err);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "store '%.200s'", items[0].key);
    b->stored += n;
    b->stored_bytes += bytes;
    return CM_OK;
}

static cm_status verify(const struct part *p, struct cm_err *err)
{
    cm_status rc = load_part(p, p->b->to, compare, err);

    for (size_t i = p->first; i < p->end && rc == CM_OK; i++)
        if (is_to_store(&p->b->values[i]))
            rc = cm_fail(err, CM_E_IO,
                         "'%.200s' was stored, and is something else when it is read again: either "
                         "somebody writes there now, or the storage loses data; once more tells "
                         "which",
                         p->b->values[i].key);
    return rc;
}

static cm_status decide(const struct part *p, struct cm_err *err)
{
    bool newer = false;
    cm_status rc = CM_OK;

    if (cli_site_len(p->b->values[p->first].key) > 0)
        rc = is_target_newer(p, &newer, err);
    for (size_t i = p->first; i < p->end; i++)
        p->b->values[i].is_older = newer && !p->b->values[i].is_equal;
    return rc;
}

static struct cm_span span_of(const struct part *p, const char *ending)
{
    const struct cli_batch_value *v = find(p, ending);

    return v != NULL ? cm_buf_span(&v->value) : (struct cm_span){ NULL, 0 };
}

/* Under the lock nobody else replaces it, here or there, if the one that holds it there uses both.
 */
static cm_status store_leased(const struct part *p, struct cm_lease *lease, struct cm_err *err)
{
    cm_status rc = p->b->from != NULL ? load_part(p, p->b->from, take, err) : CM_OK;

    if (rc == CM_OK)
        rc = load_part(p, p->b->to, compare, err);
    if (rc == CM_OK)
        rc = decide(p, err);
    if (rc == CM_OK)
        rc = store_part(p, lease, err);
    return rc == CM_OK ? verify(p, err) : rc;
}

/* The parts of one certificate, some of which differ. Where a node of the target's fleet is at work
 * it stays as it is: all the rest can be copied. */
static cm_status store_site(const struct part *p, struct cm_err *err)
{
    struct cli_batch *b = p->b;
    struct cm_err why = CM_ERR_INIT;
    struct cm_lease *lease = NULL;
    char site[CM_STORAGE_KEY_MAX + 1];
    char text[CM_STORAGE_KEY_MAX + 1], words[640];
    cm_status rc;

    (void)snprintf(site, sizeof site, "%.*s", (int)cli_site_len(b->values[p->first].key),
                   b->values[p->first].key);
    rc = cli_site_lock(b->to, b->op, site, span_of(p, ".json"), span_of(p, ".crt"), &lease, &why);
    if (rc == CM_OK)
        rc = store_leased(p, lease, &why);
    cm_lease_release(lease);
    if (rc == CM_OK)
        return CM_OK;
    if (rc == CM_E_BUSY || rc == CM_E_EXISTS || rc == CM_E_LOCK_LOST) {
        for (size_t i = p->first; i < p->end; i++)
            b->values[i].is_left = !b->values[i].is_equal;
        cli_complain("certmesh: storage %s: '%s' is left as it is: %s", b->c->names[0],
                     cli_printable(site, text, sizeof text),
                     cli_printable(why.msg, words, sizeof words));
        return CM_OK;
    }
    if (err != NULL)
        *err = why;
    return rc;
}

static bool differs(const struct part *p)
{
    for (size_t i = p->first; i < p->end; i++)
        if (is_to_store(&p->b->values[i]))
            return true;
    return false;
}

static cm_status flush_part(const struct part *p, struct cm_err *err)
{
    struct cli_batch *b = p->b;
    cm_status rc = CM_OK;

    if (differs(p) && cli_site_len(b->values[p->first].key) > 0 && !b->c->o.dry_run) {
        rc = store_site(p, err);
    } else if (differs(p)) {
        rc = decide(p, err);
        if (rc == CM_OK)
            rc = store_part(p, NULL, err);
    }
    return rc;
}

/* Sites were read again under their locks. */
static cm_status verify_others(struct cli_batch *b, struct cm_err *err)
{
    cm_status rc = CM_OK;
    size_t end = 0;

    for (size_t i = 0; i < b->n && rc == CM_OK; i = end) {
        const bool is_site = cli_site_len(b->values[i].key) > 0;

        for (end = i + 1; end < b->n && (cli_site_len(b->values[end].key) > 0) == is_site;)
            end++;
        if (!is_site) {
            const struct part p = { b, i, end };

            rc = verify(&p, err);
        }
    }
    return rc;
}

cm_status cli_batch_flush(struct cli_batch *b, struct cm_err *err)
{
    const struct part all = { b, 0, b->n };
    uint64_t stored = b->stored;
    cm_status rc = b->n > 0 ? load_part(&all, b->to, compare, err) : CM_OK;
    size_t end = 0;

    for (size_t i = 0; i < b->n && rc == CM_OK; i = end) {
        struct part p = { b, i, i + 1 };

        while (p.end < b->n && same_group(b->values[i].key, b->values[p.end].key))
            p.end++;
        end = p.end;
        for (size_t k = i; k < end; k++)
            b->equal += b->values[k].is_equal && !b->values[k].is_gone;
        rc = flush_part(&p, err);
        for (size_t k = i; k < end; k++) {
            b->older += b->values[k].is_older;
            b->left += b->values[k].is_left;
        }
    }
    if (rc == CM_OK && b->stored > stored && !b->c->o.dry_run)
        rc = verify_others(b, err);
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
    cli_json_int(j, "n_left", (int64_t)b->left);
    cli_json_int(j, "stored_bytes", (int64_t)b->stored_bytes);
}

void cli_batch_print(const struct cli_batch *b)
{
    printf("%" PRIu64 " values: %" PRIu64 " %s (%" PRIu64 " bytes), %" PRIu64 " equal", b->seen,
           b->stored, b->c->o.dry_run ? "to store" : "stored", b->stored_bytes, b->equal);
    if (b->older > 0)
        printf(", %" PRIu64 " left out: of certificates older than those there (--force)",
               b->older);
    if (b->left > 0)
        printf(", %" PRIu64 " left, since somebody works on them: once more later", b->left);
    printf("\n");
}
