/* SPDX-License-Identifier: Apache-2.0 */
#include "file.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Who holds a lock, for people. Looks only: no guard is entered, nothing abandoned is cleared
 * away. */

static void tell(const struct fst_seen *seen, struct cm_lock_info *ret)
{
    ret->since_ns = seen->created_ns;
    ret->refreshed_ns = seen->readable ? seen->updated_ns : fst_ns(seen->st.st_mtim);
    if (seen->host[0] != '\0' && seen->pid > 0)
        (void)snprintf(ret->holder, sizeof ret->holder, "host %s, process %lld", seen->host,
                       (long long)seen->pid);
    else
        (void)snprintf(ret->holder, sizeof ret->holder, "another node");
}

static cm_status look(struct file_storage *fs, int lock_dir, const char *safe,
                      struct cm_lock_info *ret, struct cm_err *err)
{
    struct fst_seen seen = FST_SEEN_INIT;
    struct fst_guard_record rec;
    char file[CM_STORAGE_COMPONENT_MAX + 1];
    int64_t wait_ns = 0;
    bool held = false;

    fst_lock_file(safe, file);
    cm_status rc = fst_look(lock_dir, file, &seen, err);
    if (rc != CM_OK)
        return rc;
    if (seen.exists) {
        fst_guard_peek(fs, safe, &rec);
        held = fst_judge(fs, safe, &seen, &rec, NULL, &wait_ns) == FST_FRESH;
    }
    if (held)
        tell(&seen, ret);
    fst_seen_done(&seen);
    return held ? CM_OK : CM_E_NOTFOUND;
}

cm_status file_lock_info(struct cm_storage *st, const struct cm_op *op, const char *name,
                         struct cm_lock_info *ret, struct cm_err *err)
{
    struct file_storage *fs = fst_of(st);
    CM_AUTO_CLOSE int lock_dir = -1;
    char safe[FST_SAFE_MAX];
    cm_status rc = fst_lock_safe(name, safe, err);

    (void)op;
    if (rc == CM_OK)
        rc = fst_open_dir(fs, FST_LOCK_DIR, strlen(FST_LOCK_DIR), false, &lock_dir, err);
    if (rc == CM_OK)
        rc = look(fs, lock_dir, safe, ret, err);
    if (rc == CM_E_NOTFOUND)
        return cm_fail(err, CM_E_NOTFOUND, "nobody holds the lock '%s'", name);
    return rc;
}
