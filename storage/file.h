/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_STORAGE_FILE_H
#define CM_STORAGE_FILE_H

/* What the files of the file backend share. Below the root lie:
 *
 *   <key>                        one value per regular file, 0600, in directories of 0700
 *   locks/<Safe(name)>.lock      lock record, as certmagic has it (file_lock.c)
 *   certmesh/locks/<...>.guard   who may change that lock, and its fence (file_guard.c)
 *   certmesh/tmp/                values on their way in and out; old ones are swept
 *   certmesh/redo/               commits that are past their point of no return (file_redo.c)
 *
 * Temporaries live apart from the values so that no peer's cleaner takes them for values. All of
 * the root must be one file system, as rename() does not cross a border.
 *
 * Functions named fst_sys_* are system calls with the test hook in front: 0 or -1 and errno. */

#include "storage.h"

#include <dirent.h>
#include <sys/stat.h>
#include <sys/types.h>

#define FST_TMP_DIR   "certmesh/tmp"
#define FST_REDO_DIR  "certmesh/redo"
#define FST_GUARD_DIR "certmesh/locks"
#define FST_LOCK_DIR  "locks"

#define FST_SAFE_MAX   256 /* of Safe(name) of a lock, with NUL */
#define FST_NAME_MAX   256 /* of names this backend makes up, with NUL */
#define FST_DEPTH_MAX  32  /* directories below each other that a walk follows */
#define FST_BOOT_ID    40
#define FST_STAMP_TEXT 32 /* "2026-08-29T18:20:01.123456789Z" and room */

/* Peers (certmagic) steal a lock that was not refreshed for this long; so no lease is longer. */
#define FST_STALE_NS (10 * CM_NS_PER_S)

#define FST_WATCH_SLOTS 256u

/* When a lock file was first seen as it is now, on our own monotonic clock: the one way to judge
 * a lock that does not depend on how the clocks of different hosts agree. */
struct fst_watch {
    uint64_t name_hash; /* 0 = free */
    uint64_t look_hash; /* inode, stamps, size */
    int64_t since_ns;
};

/* What tells one generation of a value from another. */
struct fst_ident {
    bool exists;
    uint64_t inode;
    uint64_t size;
    int64_t modified_ns;
};

struct file_storage {
    struct cm_storage base;
    const struct cm_env *env;
    struct cm_log log;
    char *path; /* of the root, absolute */
    char *url;
    int root; /* O_PATH; the number never changes, what it refers to may (fst_revive) */
    bool use_openat2;
    bool is_local;             /* no other host sees these files */
    size_t name_max;           /* bytes of a name here */
    char boot_id[FST_BOOT_ID]; /* "-" if unknown */

    pthread_mutex_t mutex; /* for what follows; never held over input or output */
    struct fst_watch watch[FST_WATCH_SLOTS];
    int64_t next_sweep_ns;
    int64_t recover_after_ns;
    struct fst_ident empty_redo; /* FST_REDO_DIR as it was when nothing was in it */
    bool warned_no_ofd;
};

struct file_storage *fst_of(struct cm_storage *st);

/* ---- file_sys.c ---- */
int fst_sys_create(int dir, const char *name, int *ret_fd); /* 0600 whatever the umask */
int fst_sys_write(int fd, struct cm_span value, const char *name);
int fst_sys_pwrite(int fd, struct cm_span value, const char *name); /* at 0, then cut there */
int fst_sys_fsync(int fd, const char *name);
int fst_sys_fsync_dir(int fd, const char *name);
int fst_sys_close(int *fd, const char *name);
int fst_sys_rename(int old_dir, const char *old_name, int new_dir, const char *new_name);
int fst_sys_link(int old_dir, const char *old_name, int new_dir, const char *new_name);
int fst_sys_unlink(int dir, const char *name, int flags);
int fst_sys_mkdir(int dir, const char *name); /* 0700 whatever the umask */
/* From where the descriptor stands to the end, but at most @max bytes; content with @enough (up to
 * @max) ends it too. */
int fst_sys_read(int fd, uint8_t *out, size_t max, size_t enough, size_t *ret_len);

/* ---- file_path.c ---- */
/* Open the directory @len bytes of @key name ("" = the root) for reading and fsync. CM_E_NOTFOUND
 * when absent and not @create. No component is followed if it is a symbolic link. */
cm_status fst_open_dir(struct file_storage *fs, const char *key, size_t len, bool create, int *ret,
                       struct cm_err *err);
/* The directory that @key lies in, and the rest of @key. */
cm_status fst_open_parent(struct file_storage *fs, const char *key, bool create, int *ret_dir,
                          const char **ret_leaf, struct cm_err *err);
/* Open the value @leaf of @key and check that it is one: a regular file, ours alone. */
cm_status fst_open_value(struct file_storage *fs, int dir, const char *leaf, const char *key,
                         int *ret, struct stat *ret_st, struct cm_err *err);
/* The error of an open that failed (errno is set): what lies at @leaf instead of a value, if that
 * is the reason. */
cm_status fst_explain_value(struct file_storage *fs, int dir, const char *leaf, const char *key,
                            struct cm_err *err);
/* Refuse what is neither a value nor a directory that we may trust. */
cm_status fst_check_value(struct file_storage *fs, const char *key, const struct stat *st,
                          struct cm_err *err);
const char *fst_type_name(mode_t mode);
bool fst_is_reserved(const char *key);
int64_t fst_ns(struct timespec ts);
cm_status fst_open_root(const char *path, int *ret, struct cm_err *err);

/* ---- file_store.c ---- */
/* A new name in certmesh/tmp. @about: the key or lock that it is for, so that those who watch learn
 * it from the name (file_bell.c); NULL: none of their business. */
cm_status fst_temp_name(struct file_storage *fs, const char *what, const char *about, char *out,
                        struct cm_err *err);
/* Write @value to a new file @name in @tmp_dir, flushed; removed again on failure. */
cm_status fst_write_temp(int tmp_dir, const char *name, struct cm_span value, const char *key,
                         const struct cm_op *op, struct stat *ret_st, struct cm_err *err);
/* Rename a temporary over @key, making directories as needed; @ret_dir (to flush) is the caller's.
 */
cm_status fst_place(struct file_storage *fs, int tmp_dir, const char *tmp, const char *key,
                    int *ret_dir, struct cm_err *err);
/* Read the open value @fd of @st.st_size bytes. */
cm_status fst_read_value(int fd, const struct stat *st, const char *key, struct cm_buf *ret,
                         struct cm_err *err);
cm_status file_store(struct cm_storage *st, const struct cm_op *op, const char *key,
                     struct cm_span value, struct cm_err *err);
cm_status file_load(struct cm_storage *st, const struct cm_op *op, const char *key,
                    struct cm_buf *ret, struct cm_err *err);
cm_status file_stat(struct cm_storage *st, const struct cm_op *op, const char *key,
                    struct cm_key_info *ret, struct cm_err *err);
void fst_sweep_if_due(struct file_storage *fs);

/* ---- file_bell.c ---- */
/* What a name in certmesh/tmp begins with. */
#define FST_BELL_NEW  "new"  /* a value; moved from there it is in its place */
#define FST_BELL_OLD  "old"  /* the one before, likewise */
#define FST_BELL_GONE "gone" /* of a value that was removed; written to and closed */
#define FST_BELL_LOCK "lock" /* of a lock; moved to there, or closed: it is nobody's any more */
/* Write @about behind the @len bytes of a name, of @name_max at most. What does not fit is told
 * less exactly: a key by a directory above it, a lock not at all. */
void fst_bell_name(char *name, size_t len, size_t name_max, const char *what, const char *about);
/* What a name is about; false if it does not say. @what is one of those above. */
bool fst_bell_parse(const char *name, const char **ret_what, char ret[CM_STORAGE_KEY_MAX + 1]);
/* The value at @key was removed. */
void fst_bell_gone(struct file_storage *fs, const char *key);

/* ---- file_watch.c ---- */
cm_status file_watch(struct cm_storage *st, cm_change_fn fn, void *user, struct cm_watch **ret,
                     struct cm_err *err);
void file_unwatch(struct cm_storage *st, struct cm_watch *watch);
/* ---- file_many.c ---- */
cm_status file_load_many(struct cm_storage *st, const struct cm_op *op, const char *const *keys,
                         size_t n, cm_load_fn each, void *user, struct cm_err *err);

/* ---- file_list.c ---- */
cm_status file_list(struct cm_storage *st, const struct cm_op *op, const char *prefix,
                    bool recursive, cm_list_fn each, void *user, struct cm_err *err);
cm_status file_list_after(struct cm_storage *st, const struct cm_op *op, const char *prefix,
                          const char *after, bool recursive, cm_list_fn each, void *user,
                          struct cm_err *err);
cm_status file_remove(struct cm_storage *st, const struct cm_op *op, const char *key,
                      struct cm_err *err);
/* Is there a value below the directory @dir, which is @key? */
cm_status fst_has_value(int dir, const char *key, bool *ret, struct cm_err *err);
/* A stream over @dir that does not take the descriptor over. */
DIR *fst_open_stream(int dir);
/* Remove directories below and including @leaf as long as they hold nothing. */
void fst_prune(int dir, const char *leaf);

/* ---- file_guard.c ---- */
/* Who last took a lock here, as kept in the guard file. */
struct fst_guard_record {
    uint64_t fence;               /* 0 = none yet */
    char boot_id[FST_BOOT_ID];    /* of the holder's kernel, "-" if none */
    char created[FST_STAMP_TEXT]; /* of the lock record it made */
    int64_t ttl_ns;
};

/* The section that everyone who changes a lock enters: an OFD lock that ends with the process. */
struct fst_guard {
    int fd; /* -1 = not entered */
    struct fst_guard_record rec;
};

/* What the guard file holds: always as many bytes, and a NUL in @out after them. False for what is
 * no record; one with a fence alone is one. */
#define FST_GUARD_BYTES 200u
bool fst_guard_parse(const char *text, size_t len, struct fst_guard_record *ret);
void fst_guard_text(const struct fst_guard_record *rec, char *out);
/* Wait a moment for the guard of @safe; CM_E_BUSY when another stays in it. */
cm_status fst_guard_enter(struct file_storage *fs, const struct cm_op *op, const char *safe,
                          int64_t patience_ns, struct fst_guard *ret, struct cm_err *err);
void fst_guard_leave(struct fst_guard *g);
/* Durable before anything relies on it. */
cm_status fst_guard_write(struct fst_guard *g, const char *safe, struct cm_err *err);
/* What the guard file says, without entering; all zero when it says nothing. */
void fst_guard_peek(struct file_storage *fs, const char *safe, struct fst_guard_record *ret);
/* "Now" on the clock that stamps files here, be it ours or a server's. */
int64_t fst_guard_file_now_ns(const struct fst_guard *g);
/* Remove guards that were not entered for a month. */
void fst_guard_sweep(struct file_storage *fs);
/* Try an OFD write lock on @fd: 0 = got it, EAGAIN = another has it, else errno. */
int fst_ofd_try(int fd);
void fst_ofd_release(int fd);
/* Does anybody hold an OFD lock on the file behind @fd? */
bool fst_ofd_is_held(int fd);

/* ---- file_record.c ---- */
/* A lock file as found; start with FST_SEEN_INIT. */
#define FST_SEEN_INIT                                                                              \
    {                                                                                              \
        .fd = -1                                                                                   \
    }
struct fst_seen {
    bool exists;
    int fd;
    struct stat st;
    bool readable; /* the record could be parsed */
    int64_t created_ns;
    int64_t updated_ns;
    char created[FST_STAMP_TEXT]; /* verbatim, "" if too long */
    char host[CM_HOST_NAME_BUF];  /* of the holder, "" if it does not say */
    int64_t pid;
};

cm_status fst_look(int lock_dir, const char *file, struct fst_seen *ret, struct cm_err *err);
void fst_seen_done(struct fst_seen *seen);
/* Fill readable and what follows it from the first @len bytes of a lock file. */
void fst_record_parse(const char *text, size_t len, struct fst_seen *seen);
/* Text of a lock record: for one holder always the same number of bytes. */
cm_status fst_record_text(const char *created, int64_t updated_ns, const char *host, long pid,
                          struct cm_buf *out, struct cm_err *err);

enum fst_verdict { FST_FRESH, FST_PERHAPS, FST_STALE };

/* Is the lock @safe as seen abandoned? Without @guard, FST_PERHAPS is the most it says.
 * *ret_wait_ns is when to look again. */
enum fst_verdict fst_judge(struct file_storage *fs, const char *safe, const struct fst_seen *seen,
                           const struct fst_guard_record *rec, const struct fst_guard *guard,
                           int64_t *ret_wait_ns);

/* ---- file_lock.c ---- */
/* Behind cm_grant.state. Never changes after the grant. */
struct fst_hold {
    int fd; /* the lock file, OFD-locked: the kernel tells others when we die */
    pid_t pid;
    char created[FST_STAMP_TEXT];
    char host[CM_HOST_NAME_BUF];
    char safe[FST_SAFE_MAX];
};

/* The component that stands for the lock @name; @out has FST_SAFE_MAX bytes. */
cm_status fst_lock_safe(const char *name, char *out, struct cm_err *err);
/* The file in FST_LOCK_DIR for it; @out has CM_STORAGE_COMPONENT_MAX + 1 bytes. */
void fst_lock_file(const char *safe, char *out);
cm_status file_try_lock(struct cm_storage *st, const struct cm_op *op, const char *name,
                        int64_t ttl_ns, struct cm_grant *ret, int64_t *ret_wait_ns,
                        struct cm_err *err);
cm_status file_refresh(struct cm_storage *st, const struct cm_op *op, struct cm_grant *grant,
                       struct cm_err *err);
cm_status file_unlock(struct cm_storage *st, const struct cm_op *op, struct cm_grant *grant,
                      struct cm_err *err);
void file_drop(struct cm_storage *st, struct cm_grant *grant);
/* Remove the locks that anybody might take over. */
void fst_lock_sweep(struct file_storage *fs);
/* CM_OK while the lock file is still the one of @grant. */
cm_status fst_hold_check(struct file_storage *fs, const struct cm_grant *grant, struct cm_err *err);
/* Write a new heartbeat and check before and after. */
cm_status fst_hold_beat(struct file_storage *fs, const struct cm_grant *grant, struct cm_err *err);

/* ---- file_check.c ---- */
cm_status file_check(struct cm_storage *st, const struct cm_op *op, bool repair, cm_check_fn each,
                     void *user, struct cm_err *err);

/* ---- file_holder.c ---- */
cm_status file_lock_info(struct cm_storage *st, const struct cm_op *op, const char *name,
                         struct cm_lock_info *ret, struct cm_err *err);

/* ---- file_commit.c, file_redo.c, file_redo_text.c ---- */
#define FST_REDO_MAX (CM_COMMIT_MAX * 1024u)

cm_status file_commit(struct cm_storage *st, const struct cm_op *op, const struct cm_grant *grant,
                      const struct cm_commit_item *items, size_t n, struct cm_err *err);

struct fst_redo_item {
    bool remove;
    char tmp[FST_NAME_MAX]; /* the new value in certmesh/tmp; "-" for a removal */
    uint64_t tmp_inode;
    char old[FST_NAME_MAX];  /* copy of the old value in certmesh/tmp; "-" if there was none */
    struct fst_ident before; /* what @key was */
    char key[CM_STORAGE_KEY_MAX + 1];
};

struct fst_redo {
    char name[FST_NAME_MAX]; /* in certmesh/redo */
    int fd;                  /* the record, OFD-locked */
    char boot_id[FST_BOOT_ID];
    char lock[FST_SAFE_MAX]; /* Safe(name) of the lock it was made under; "" if under none */
    bool undo;
    size_t n;
    struct fst_redo_item *items;
};

struct fst_ident fst_ident_of(const struct stat *st);
/* CM_OK with exists=false when absent. */
cm_status fst_ident_at(struct file_storage *fs, const char *key, struct fst_ident *ret,
                       struct cm_err *err);
cm_status fst_redo_text(const struct fst_redo *r, struct cm_buf *out, struct cm_err *err);
/* Write into the record, durably, that it is to be undone. */
cm_status fst_redo_mark_undo(const struct fst_redo *r, struct cm_err *err);
cm_status fst_redo_parse(struct cm_span text, struct fst_redo *ret, struct cm_err *err);
/* Carry out what a record says; then the record and all temporaries are gone. */
cm_status fst_redo_forward(struct file_storage *fs, struct fst_redo *r, struct cm_err *err);
/* Put everything back as it was before; likewise. */
cm_status fst_redo_back(struct file_storage *fs, struct fst_redo *r, struct cm_err *err);
/* Forget it: remove temporaries and record. */
void fst_redo_discard(struct file_storage *fs, struct fst_redo *r);
void fst_redo_done(struct fst_redo *r);
/* Finish the commits of processes that died in the middle. Cheap when there are none. @entered is
 * the lock whose guard the caller is in, or NULL. */
void fst_recover(struct file_storage *fs, const char *entered);
/* Are there any records at all? */
bool fst_redo_pending(struct file_storage *fs);

#endif
