/* SPDX-License-Identifier: Apache-2.0 */
#include "file.h"

#include <string.h>
#include <unistd.h>

/* Many values, one after the other: what a batch saves here is the way to the directory, which keys
 * that stand side by side share. No threads of its own: a read that the page cache answers takes
 * microseconds, and who has many batches calls from several threads. */

#define VALUE_KEEP (64u * 1024) /* bytes kept from one value to the next */

/* The directory of the last key. An open one that was removed meanwhile is empty: then what is
 * asked for was gone for a moment of this call, whoever has put it back since. */
struct place {
    int dir; /* -1 = none */
    size_t len;
    char path[CM_STORAGE_KEY_MAX + 1];
};

static void leave(struct place *p)
{
    if (p->dir >= 0)
        (void)close(p->dir);
    p->dir = -1;
}

static cm_status go_to(struct file_storage *fs, struct place *p, const char *key,
                       const char **ret_leaf, struct cm_err *err)
{
    const char *slash = strrchr(key, '/');
    size_t len = slash != NULL ? (size_t)(slash - key) : 0;

    *ret_leaf = slash != NULL ? slash + 1 : key;
    if (p->dir >= 0 && len == p->len && memcmp(p->path, key, len) == 0)
        return CM_OK;
    leave(p);
    memcpy(p->path, key, len);
    p->len = len;
    cm_status rc = fst_open_dir(fs, key, len, false, &p->dir, err);
    /* Absent, or a value where the directory would be: either way there is nothing at @key. */
    if (rc == CM_E_NOTFOUND || rc == CM_E_EXISTS)
        rc = cm_fail(err, CM_E_NOTFOUND, "there is no value at '%s'", key);
    return rc;
}

static cm_status load_at(struct file_storage *fs, struct place *p, const char *key,
                         struct cm_buf *ret, struct cm_err *err)
{
    CM_AUTO_CLOSE int fd = -1;
    const char *leaf = NULL;
    struct stat fst;

    cm_status rc = go_to(fs, p, key, &leaf, err);
    if (rc == CM_OK)
        rc = fst_open_value(fs, p->dir, leaf, key, &fd, &fst, err);
    if (rc == CM_OK)
        rc = fst_read_value(fd, &fst, key, ret, err);
    return rc;
}

cm_status file_load_many(struct cm_storage *st, const struct cm_op *op, const char *const *keys,
                         size_t n, cm_load_fn each, void *user, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf value = CM_BUF_SECRET(CM_STORAGE_VALUE_MAX);
    struct file_storage *fs = fst_of(st);
    struct place at = { .dir = -1 };
    cm_status rc = CM_OK;

    fst_recover(fs, NULL);
    for (size_t i = 0; i < n && rc == CM_OK; i++) {
        struct cm_err why = CM_ERR_INIT;
        cm_status got;

        rc = cm_op_check(op, err);
        if (rc != CM_OK)
            break;
        got = load_at(fs, &at, keys[i], &value, &why);
        rc = each(user, i, got, cm_buf_span(&value), &why, err);
        cm_buf_recycle(&value, VALUE_KEEP);
    }
    leave(&at);
    return rc;
}
