/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CERTMESH_CMD_TAR_H
#define CERTMESH_CMD_TAR_H

/* Tar archives of plain files (POSIX.1-2001 ustar with pax headers for long names), one entry in
 * memory at a time. Reads what GNU tar, bsdtar, Go and Python write for plain files, too. */

#include <certmesh/cm.h>

#include <stdio.h>

#define TAR_BLOCK    512u
#define TAR_NAME_MAX 4096u        /* of any entry that is read */
#define TAR_META_MAX (64u * 1024) /* of one pax or long-name header */

/* One file. Errors: CM_E_IO, CM_E_LIMIT. */
CM_MUST_CHECK cm_status tar_write(FILE *f, const char *name, struct cm_span value, int64_t mtime_s,
                                  struct cm_err *err);
CM_MUST_CHECK cm_status tar_write_end(FILE *f, struct cm_err *err);

enum tar_kind { TAR_FILE, TAR_DIRECTORY, TAR_END };

struct tar_entry {
    enum tar_kind kind;
    char name[TAR_NAME_MAX + 1]; /* as it stands there, less a leading "./" and trailing "/" */
    uint64_t size;
    int64_t mtime_s;
};

struct tar_reader {
    FILE *f;
    uint64_t left; /* of the entry's bytes, with padding: passed over by tar_next() */
    uint64_t at;   /* bytes read so far, for messages */
};

void tar_reader_start(struct tar_reader *r, FILE *f);
/* The next entry. CM_E_PARSE: no tar archive, or a damaged or cut one, with the offset;
 * CM_E_UNSUPPORTED: an entry that is no plain file or directory (links, devices, sparse files);
 * CM_E_LIMIT; CM_E_IO. After TAR_END nothing is read any more. */
CM_MUST_CHECK cm_status tar_next(struct tar_reader *r, struct tar_entry *ret, struct cm_err *err);
/* Append the bytes of the entry that tar_next() gave to @ret. */
CM_MUST_CHECK cm_status tar_read(struct tar_reader *r, const struct tar_entry *e,
                                 struct cm_buf *ret, struct cm_err *err);

#endif
