/* SPDX-License-Identifier: Apache-2.0 */
#include "hot.h"

#include <string.h>
#include <sys/stat.h>

/* A chain and its key in two files that somebody else replaces, one after the other and in any
 * order. Between the two they do not fit together, which is no reason to serve nothing: what is
 * served stays until what is there is good. */

static void free_tags(char **tags)
{
    for (size_t i = 0; tags != NULL && tags[i] != NULL; i++)
        free(tags[i]);
    free(tags);
}

static char **copy_tags(const char *const *tags)
{
    size_t n = 0;

    while (tags[n] != NULL)
        n++;
    char **copy = cm_calloc(n + 1, sizeof(char *));
    for (size_t i = 0; copy != NULL && i < n; i++) {
        copy[i] = cm_strdup(tags[i]);
        if (copy[i] == NULL) {
            free_tags(copy);
            return NULL;
        }
    }
    return copy;
}

cm_status cm_hot_pair_new(const char *chain_file, const char *key_file, const char *const *tags,
                          struct cm_hot_pair **ret, struct cm_err *err)
{
    struct cm_hot_pair *p = cm_calloc(1, sizeof *p);

    if (p == NULL)
        return cm_fail_nomem(err);
    for (size_t i = 0; i < CM_HOT_DIRS; i++)
        p->watch[i] = -1;
    p->file[0] = cm_strdup(chain_file);
    p->file[1] = cm_strdup(key_file);
    if (tags != NULL)
        p->tags = copy_tags(tags);
    if (p->file[0] == NULL || p->file[1] == NULL || (tags != NULL && p->tags == NULL)) {
        cm_hot_pair_free(p);
        return cm_fail_nomem(err);
    }
    *ret = p;
    return CM_OK;
}

void cm_hot_pair_free(struct cm_hot_pair *p)
{
    if (p == NULL)
        return;
    cm_cert_unref(p->cert);
    free_tags(p->tags);
    free(p->file[0]);
    free(p->file[1]);
    free(p);
}

static cm_status stamp_of(const char *file, struct cm_hot_stamp *ret, struct cm_err *err)
{
    struct stat sb;

    if (stat(file, &sb) != 0)
        return cm_fail_errno(err, "look at '%s'", file);
    *ret = (struct cm_hot_stamp){
        .device = (uint64_t)sb.st_dev,
        .inode = (uint64_t)sb.st_ino,
        .size = (uint64_t)sb.st_size,
        .modified_ns = (int64_t)sb.st_mtim.tv_sec * CM_NS_PER_S + sb.st_mtim.tv_nsec,
        .changed_ns = (int64_t)sb.st_ctim.tv_sec * CM_NS_PER_S + sb.st_ctim.tv_nsec
    };
    return CM_OK;
}

static cm_status stamps(const struct cm_hot_pair *p, struct cm_hot_stamp ret[2], struct cm_err *err)
{
    cm_status rc = CM_OK;

    memset(ret, 0, 2 * sizeof *ret); /* the gaps too: they are compared as bytes */
    for (size_t i = 0; i < 2 && rc == CM_OK; i++)
        rc = stamp_of(p->file[i], &ret[i], err);
    return rc;
}

static cm_status parse(const struct cm_hot_pair *p, struct cm_span chain, struct cm_span key,
                       int64_t now_s, struct cm_cert **ret, struct cm_err *err)
{
    struct cm_cert *cert = NULL;

    cm_status rc = cm_cert_from_pem(chain, key, NULL, (const char *const *)p->tags, 0, &cert, err);
    if (rc == CM_OK && cm_cert_name_count(cert) == 0)
        rc = cm_fail(err, CM_E_CERT, "the certificate (serial %s) names no host",
                     cm_cert_serial(cert));
    if (rc == CM_OK && now_s > cert->not_after_s)
        rc = cm_fail(err, CM_E_CERT, "the certificate (serial %s) expired %lld s ago",
                     cm_cert_serial(cert), (long long)(now_s - cert->not_after_s));
    if (rc != CM_OK) {
        cm_cert_unref(cert);
        return rc;
    }
    *ret = cert;
    return CM_OK;
}

/* Each for itself first, or a byte that moves from one file to the other would change nothing. */
static void digest_of(struct cm_span chain, struct cm_span key, uint8_t ret[CM_SHA256_LEN])
{
    uint8_t both[2 * CM_SHA256_LEN];
    struct cm_span all = { both, sizeof both };

    cm_sha256(chain, both);
    cm_sha256(key, both + CM_SHA256_LEN);
    cm_sha256(all, ret);
}

/* A file that cannot be read is said once, not each time that one looks. */
static cm_status absent(struct cm_hot_pair *p, cm_status rc)
{
    if (p->absent)
        return CM_OK;
    p->absent = true;
    return rc;
}

cm_status cm_hot_pair_look(struct cm_hot_pair *p, int64_t now_s, struct cm_cert **ret,
                           struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf chain = CM_BUF_INIT(CM_PEM_FILE_MAX);
    CM_AUTO_BUF struct cm_buf key = CM_BUF_SECRET(CM_PEM_FILE_MAX);
    struct cm_hot_stamp before[2], after[2];
    uint8_t digest[CM_SHA256_LEN];

    cm_status rc = stamps(p, before, err);
    if (rc != CM_OK)
        return absent(p, rc);
    if (p->seen && !p->absent && memcmp(before, p->stamp, sizeof before) == 0)
        return CM_OK;
    rc = cm_read_file(p->file[0], &chain, err);
    if (rc == CM_OK)
        rc = cm_read_file(p->file[1], &key, err);
    if (rc != CM_OK)
        return absent(p, rc);
    if (stamps(p, after, NULL) != CM_OK || memcmp(before, after, sizeof before) != 0)
        return cm_fail(err, CM_E_AGAIN, "'%s' and '%s' are being changed", p->file[0], p->file[1]);
    digest_of(cm_buf_span(&chain), cm_buf_span(&key), digest);
    bool same = p->seen && memcmp(digest, p->digest, sizeof digest) == 0;
    p->seen = true;
    p->absent = false;
    memcpy(p->stamp, before, sizeof before);
    memcpy(p->digest, digest, sizeof digest);
    if (same)
        return CM_OK;
    rc = parse(p, cm_buf_span(&chain), cm_buf_span(&key), now_s, ret, err);
    if (rc == CM_E_NOMEM)
        p->seen = false; /* it may be good: look again */
    return rc;
}
