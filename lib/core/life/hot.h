/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_CORE_LIFE_HOT_H
#define CM_CORE_LIFE_HOT_H

/* Private to the watching of files: one pair of them (hotpair.c), where they may change
 * (hotwatch.c), and the thread (hotfiles.c). */

#include "life.h"

#define CM_HOT_DIRS 6u /* of chain and key: as named, where links lead, what is above a link */

/* One of two files as it is now, without reading it. */
struct cm_hot_stamp {
    uint64_t device, inode, size;
    int64_t modified_ns, changed_ns;
};

struct cm_hot_pair {
    struct cm_hot_pair *next;
    char *file[2]; /* chain, key */
    char **tags;   /* NULL-terminated, or NULL */
    struct cm_cert *cert;
    int watch[CM_HOT_DIRS]; /* -1 = none */
    struct cm_hot_stamp stamp[2];
    uint8_t digest[CM_SHA256_LEN]; /* of what was looked at last, good or bad */
    bool seen;                     /* the two above are set */
    bool absent;                   /* a file was missing or unreadable, and that has been said */
};
CM_MUST_CHECK cm_status cm_hot_pair_new(const char *chain_file, const char *key_file,
                                        const char *const *tags, struct cm_hot_pair **ret,
                                        struct cm_err *err);
void cm_hot_pair_free(struct cm_hot_pair *p);
/* CM_OK with *@ret set: the files hold another pair than when last looked at, and a good one. CM_OK
 * with *@ret as it was: nothing new. CM_E_AGAIN: they are being changed just now. Anything else:
 * what is there now is of no use; said once for each content. */
CM_MUST_CHECK cm_status cm_hot_pair_look(struct cm_hot_pair *p, int64_t now_s, struct cm_cert **ret,
                                         struct cm_err *err);

/* ---- hotwatch.c: inotify on directories ---- */

/* -1 if there is none to be had; then one has to look from time to time. */
int cm_hot_watch_open(void);
/* Watch the directories of @p, as they are now. *@ret_dropped: watches that it needs no more. False
 * if some directory cannot be watched. */
bool cm_hot_watch_pair(int fd, struct cm_hot_pair *p, int ret_dropped[CM_HOT_DIRS]);
void cm_hot_watch_drop(int fd, int watch);
/* Take what has happened; false if it was nothing. */
bool cm_hot_watch_drain(int fd);

#endif
