/* SPDX-License-Identifier: Apache-2.0 */
#include "file.h"
#include "fuzz.h"

#include <string.h>

/* The two records of a lock in files: the one that peers write and read, and that of the guard.
 * They come from a disk that others write to. What was read can be written and reads the same
 * again. */

static void check_lock(const char *text, size_t len)
{
    struct cm_buf out = CM_BUF_INIT(256);
    struct fst_seen a = FST_SEEN_INIT;
    struct fst_seen b = FST_SEEN_INIT;
    struct fst_seen again = FST_SEEN_INIT;

    fst_record_parse(text, len, &a);
    fst_record_parse(text, len, &b);
    CM_ASSERT(a.readable == b.readable && a.updated_ns == b.updated_ns);
    CM_ASSERT(memchr(a.created, '\0', sizeof a.created) != NULL);
    CM_ASSERT(strcmp(a.created, b.created) == 0);
    CM_ASSERT(memchr(a.host, '\0', sizeof a.host) != NULL && a.pid >= 0);
    if (!a.readable || a.created[0] == '\0' || strchr(a.created, '"') != NULL)
        return;
    fuzz_reached();
    CM_ASSERT(fst_record_text(a.created, a.updated_ns, "web-3", 4711, &out, NULL) == CM_OK);
    fst_record_parse(cm_buf_str(&out), out.len, &again);
    CM_ASSERT(again.readable && strcmp(again.created, a.created) == 0);
    CM_ASSERT(strcmp(again.host, "web-3") == 0 && again.pid == 4711);
    CM_ASSERT(again.updated_ns == a.updated_ns || a.updated_ns == INT64_MIN);
    cm_buf_free(&out);
}

static void check_guard(const char *text, size_t len)
{
    struct fst_guard_record rec;
    struct fst_guard_record again;
    char out[FST_GUARD_BYTES + 1];

    memset(&rec, 0, sizeof rec);
    if (!fst_guard_parse(text, len, &rec)) {
        CM_ASSERT(rec.fence == 0);
        return;
    }
    fuzz_reached();
    CM_ASSERT(rec.fence > 0);
    CM_ASSERT(memchr(rec.boot_id, '\0', sizeof rec.boot_id) != NULL);
    CM_ASSERT(memchr(rec.created, '\0', sizeof rec.created) != NULL);
    CM_ASSERT(rec.ttl_ns >= 0 && rec.ttl_ns <= FST_STALE_NS);
    /* With it a lock is taken from the dead: only a whole record may say whose it was. */
    if (rec.created[0] == '\0')
        return;
    if (strlen(rec.boot_id) != strcspn(rec.boot_id, "") || memchr(text, '\0', len) != NULL)
        return; /* a NUL ends what we keep of it */
    fst_guard_text(&rec, out);
    CM_ASSERT(fst_guard_parse(out, FST_GUARD_BYTES, &again));
    CM_ASSERT(again.fence == rec.fence && again.ttl_ns == rec.ttl_ns);
    CM_ASSERT(strcmp(again.boot_id, rec.boot_id) == 0);
    CM_ASSERT(strcmp(again.created, rec.created) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* As many as are read of the files. */
    check_lock((const char *)data, size < 1024 ? size : 1024);
    check_guard((const char *)data, size < FST_GUARD_BYTES ? size : FST_GUARD_BYTES);
    return 0;
}
