/* SPDX-License-Identifier: Apache-2.0 */
#include "core_private.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Where things lie in storage, byte for byte as certmagic builds it (docs/storage-format.md). Only
 * certificates for several names go a little beyond it: certmagic joins their names without a
 * limit that a file system would accept. */

#define JOINED_MAX    1024u /* certmagic cuts here ... */
#define JOINED_CUT    1018u
#define JOINED_SUFFIX "_trunc"
#define DIR_MAX       230u /* ... and this leaves room for ".json" and ".lock" in 255 bytes */
#define SHORT_KEEP    160u
#define SHORT_HEX     16u

static int by_bytes(const void *a, const void *b)
{
    const char *const *x = a;
    const char *const *y = b;

    return strcmp(*x, *y);
}

/* Normalized, sorted, each once. */
static cm_status collect(const char *const *names, size_t n, char (*store)[CM_NAME_BUF],
                         const char **sorted, size_t *ret_n, struct cm_err *err)
{
    size_t kept = 0;

    for (size_t i = 0; i < n; i++) {
        if (names[i] == NULL)
            return cm_fail(err, CM_E_INVAL, "name %zu of %zu is missing", i + 1, n);
        cm_status rc = cm_name_normalize(names[i], CM_NAME_FLAGS, store[i], err);
        if (rc != CM_OK)
            return rc;
        sorted[i] = store[i];
    }
    qsort(sorted, n, sizeof sorted[0], by_bytes);
    for (size_t i = 0; i < n; i++)
        if (kept == 0 || strcmp(sorted[kept - 1], sorted[i]) != 0)
            sorted[kept++] = sorted[i];
    *ret_n = kept;
    return CM_OK;
}

/* "a,b,c"; past 1024 bytes cut as certmagic cuts it. */
static cm_status join(const char *const *names, size_t n, struct cm_buf *out, struct cm_err *err)
{
    cm_status rc = CM_OK;

    for (size_t i = 0; rc == CM_OK && i < n; i++) {
        if (i > 0)
            rc = cm_buf_puts(out, ",", err);
        if (rc == CM_OK)
            rc = cm_buf_puts(out, names[i], err);
    }
    if (rc == CM_OK && out->len > JOINED_MAX) {
        out->len = JOINED_CUT;
        rc = cm_buf_puts(out, JOINED_SUFFIX, err);
    }
    return rc;
}

/* A joined list whose directory name no file system would take: its beginning and a digest of all
 * the names. A '*' grows to nine characters in the directory, so how much of the beginning fits
 * has to be tried. */
static cm_status shorten(const char *const *names, size_t n, struct cm_buf *ident,
                         struct cm_buf *dir, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf all = CM_BUF_INIT(CM_SUBJECT_MAX * (CM_NAME_BUF + 1));
    uint8_t digest[CM_SHA256_LEN];
    cm_status rc = CM_OK;

    for (size_t i = 0; rc == CM_OK && i < n; i++)
        rc = cm_buf_printf(&all, err, "%s,", names[i]);
    if (rc != CM_OK)
        return rc;
    cm_sha256(cm_buf_span(&all), digest);
    for (size_t keep = SHORT_KEEP; rc == CM_OK && dir->len > DIR_MAX; keep /= 2) {
        if (ident->len > keep)
            ident->len = keep;
        rc = cm_buf_puts(ident, "_", err);
        for (size_t i = 0; rc == CM_OK && i < SHORT_HEX / 2; i++)
            rc = cm_buf_printf(ident, err, "%02x", digest[i]);
        cm_buf_reset(dir);
        if (rc == CM_OK)
            rc = cm_safe_name(cm_buf_str(ident), dir, err);
    }
    return rc;
}

/* One allocation: struct, pointers, names, ident, dir. */
static struct cm_subject *pack(const char *const *names, size_t n, const char *ident,
                               const char *dir)
{
    size_t text = strlen(ident) + strlen(dir) + 2;

    for (size_t i = 0; i < n; i++)
        text += strlen(names[i]) + 1;
    struct cm_subject *s = cm_calloc(1, sizeof *s + n * sizeof(char *) + text);
    if (s == NULL)
        return NULL;

    const char **list = (const char **)(void *)(s + 1);
    char *at = (char *)(list + n);
    const char *end = at + text;

    for (size_t i = 0; i < n + 2; i++) {
        const char *from = i < n ? names[i] : i == n ? ident : dir;
        size_t len = strlen(from) + 1;

        CM_ASSERT((size_t)(end - at) >= len);
        memcpy(at, from, len);
        if (i < n)
            list[i] = at;
        else if (i == n)
            s->ident = at;
        else
            s->dir = at;
        at += len;
    }
    s->names = list;
    s->n = n;
    return s;
}

cm_status cm_subject_new(const char *const *names, size_t n, struct cm_subject **ret,
                         struct cm_err *err)
{
    CM_AUTO_FREE char(*store)[CM_NAME_BUF] = NULL;
    CM_AUTO_FREE const char **sorted = NULL;
    CM_AUTO_BUF struct cm_buf ident = CM_BUF_INIT(CM_SUBJECT_MAX * (CM_NAME_BUF + 1));
    CM_AUTO_BUF struct cm_buf dir = CM_BUF_INIT(2 * JOINED_MAX * sizeof "wildcard_");

    if (names == NULL || n == 0)
        return cm_fail(err, CM_E_INVAL, "no name given");
    if (n > CM_SUBJECT_MAX)
        return cm_fail(err, CM_E_INVAL, "%zu names for one certificate; at most %u are possible", n,
                       CM_SUBJECT_MAX);
    store = cm_calloc(n, sizeof *store);
    sorted = cm_calloc(n, sizeof *sorted);
    if (store == NULL || sorted == NULL)
        return cm_fail_nomem(err);

    cm_status rc = collect(names, n, store, sorted, &n, err);
    if (rc == CM_OK)
        rc = join(sorted, n, &ident, err);
    if (rc == CM_OK)
        rc = cm_safe_name(cm_buf_str(&ident), &dir, err);
    if (rc == CM_OK && n > 1 && dir.len > DIR_MAX)
        rc = shorten(sorted, n, &ident, &dir, err);
    if (rc != CM_OK)
        return rc;
    struct cm_subject *s = pack(sorted, n, cm_buf_str(&ident), cm_buf_str(&dir));
    if (s == NULL)
        return cm_fail_nomem(err);
    *ret = s;
    return CM_OK;
}

cm_status cm_subject_parse(const char *text, struct cm_subject **ret, struct cm_err *err)
{
    const char *names[CM_SUBJECT_MAX];
    CM_AUTO_FREE char *copy = cm_strdup(text);
    size_t n = 0;
    char *at = copy;

    if (copy == NULL)
        return cm_fail_nomem(err);
    while (at != NULL) {
        if (n == CM_SUBJECT_MAX)
            return cm_fail(err, CM_E_INVAL, "more than %u names", CM_SUBJECT_MAX);
        names[n++] = at;
        at = strchr(at, ',');
        if (at != NULL)
            *at++ = '\0';
    }
    return cm_subject_new(names, n, ret, err);
}

void cm_subject_free(struct cm_subject *s)
{
    free(s);
}

static cm_status fits(int n, size_t size, const char *what, struct cm_err *err)
{
    if (n < 0 || (size_t)n >= size)
        return cm_fail(err, CM_E_INVAL, "the storage key for '%s' would be longer than %zu bytes",
                       what, size - 1);
    return CM_OK;
}

cm_status cm_path_cert(const char *issuer_key, const char *dir, const char *suffix,
                       char ret[CM_KEY_BUF], struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf safe = CM_BUF_INIT(CM_KEY_BUF);
    char out[CM_KEY_BUF];
    int n;

    cm_status rc = cm_safe_name(issuer_key, &safe, err);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "issuer key '%s'", issuer_key);
    if (suffix != NULL)
        n = snprintf(out, sizeof out, "certificates/%s/%s/%s%s", cm_buf_str(&safe), dir, dir,
                     suffix);
    else
        n = snprintf(out, sizeof out, "certificates/%s/%s", cm_buf_str(&safe), dir);
    rc = fits(n, sizeof out, dir, err);
    if (rc == CM_OK)
        memcpy(ret, out, sizeof out);
    return rc;
}

cm_status cm_path_token(const char *prefix, const char *ident, char ret[CM_KEY_BUF],
                        struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf safe = CM_BUF_INIT(CM_KEY_BUF);

    cm_status rc = cm_safe_name(ident, &safe, err);
    if (rc != CM_OK)
        return rc;
    int n = snprintf(ret, CM_KEY_BUF, "%s/challenge_tokens/%s.json", prefix, cm_buf_str(&safe));
    return fits(n, CM_KEY_BUF, ident, err);
}

/* FNV-1a, 32 bit: how peers tell the staples of one name's certificates apart. */
static uint32_t fnv1a32(struct cm_span in)
{
    uint32_t h = 2166136261u;

    for (size_t i = 0; i < in.len; i++)
        h = (h ^ in.data[i]) * 16777619u;
    return h;
}

cm_status cm_path_staple(const char *name, struct cm_span bundle_pem, char ret[CM_KEY_BUF],
                         struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf safe = CM_BUF_INIT(CM_KEY_BUF);

    cm_status rc = cm_safe_name(name, &safe, err);
    if (rc != CM_OK)
        return rc;
    /* Lower-case hex without leading zeros, as they write it. */
    int n = snprintf(ret, CM_KEY_BUF, "ocsp/%s-%" PRIx32, cm_buf_str(&safe), fnv1a32(bundle_pem));
    return fits(n, CM_KEY_BUF, name, err);
}

cm_status cm_path_csr(const char *issuer_key, const char *dir, const char *id, const char *suffix,
                      char ret[CM_KEY_BUF], struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf safe = CM_BUF_INIT(CM_KEY_BUF);
    int n;

    cm_status rc = cm_safe_name(issuer_key, &safe, err);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "issuer key '%s'", issuer_key);
    n = snprintf(ret, CM_KEY_BUF, CM_CSR_DIR "/%s/%s/%s%s", cm_buf_str(&safe), dir, id, suffix);
    return fits(n, CM_KEY_BUF, dir, err);
}

cm_status cm_path_journal(const char *dir, char ret[CM_KEY_BUF], struct cm_err *err)
{
    int n = snprintf(ret, CM_KEY_BUF, CM_JOURNAL_DIR "/%s", dir);

    return fits(n, CM_KEY_BUF, dir, err);
}

cm_status cm_lock_issue(const char *ident, char ret[CM_LOCK_NAME_MAX + 1], struct cm_err *err)
{
    int n = snprintf(ret, CM_LOCK_NAME_MAX + 1, "issue_cert_%s", ident);

    return fits(n, CM_LOCK_NAME_MAX + 1, ident, err);
}

cm_status cm_normalize_name(const char *name, char *ret, struct cm_err *err)
{
    if (name == NULL || ret == NULL)
        return cm_fail(err, CM_E_INVAL, "no name given");
    return cm_name_normalize(name, CM_NAME_FLAGS, ret, err);
}
