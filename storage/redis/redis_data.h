/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_STORAGE_REDIS_DATA_H
#define CM_STORAGE_REDIS_DATA_H

/* What the files of the data half share. Names: a *key* is certmesh's ("certificates/…"), a *name*
 * is the Redis key that stands for it ("caddy/certificates/…"). */

#include "redis.h"

#include <stdatomic.h>

/* ------------------------------------------------------------------ values */

#define RDS_AES_KEY     32u
#define RDS_PLAIN_MAX   (4u * 1024 * 1024) /* of what a peer's value expands to */
#define RDS_STORED_MAX  (8u * 1024 * 1024) /* of the JSON as it lies in Redis */
#define RDS_FACTS_TAIL  200u               /* bytes at the end of the JSON that hold the facts */
#define RDS_FLATE       1
#define RDS_ZLIB        2
#define RDS_AES_GCM     1
#define RDS_NAME_MAX    2048u
#define RDS_ERROR_SHOWN 160u

/* How values are written, and what is known for reading them. */
struct rds_codec {
    const struct cm_env *env;
    int compression; /* of what is written: 0, RDS_FLATE, RDS_ZLIB */
    bool encrypts;
    uint8_t key[RDS_AES_KEY];
};

/* What a stored value tells of itself. */
struct rds_facts {
    int64_t modified_ns; /* 0 = not told */
    uint64_t size;
};

/* Append the JSON that stands for @value. Errors: CM_E_NOMEM, CM_E_LIMIT, CM_E_INTERNAL. */
CM_MUST_CHECK cm_status rds_value_encode(const struct rds_codec *c, struct cm_span value,
                                         int64_t modified_ns, struct cm_buf *out,
                                         struct cm_err *err);
/* Append what @stored stands for, whatever flags it has. @key is for messages. Errors: CM_E_PARSE
 * (damaged), CM_E_PERM (encrypted, and we have no key or another: nothing says that it is damaged),
 * CM_E_LIMIT of @out. */
CM_MUST_CHECK cm_status rds_value_decode(const struct rds_codec *c, const char *key,
                                         struct cm_span stored, struct cm_buf *out,
                                         struct cm_err *err);
/* The facts of a whole stored value. */
CM_MUST_CHECK cm_status rds_value_facts(const char *key, struct cm_span stored,
                                        struct rds_facts *ret, struct cm_err *err);
/* The same from its last bytes; false: they do not show, look at the whole. */
bool rds_value_tail_facts(struct cm_span tail, struct rds_facts *ret);

/* Compression: raw DEFLATE or zlib. */
CM_MUST_CHECK cm_status rds_deflate(int how, struct cm_span in, struct cm_buf *out,
                                    struct cm_err *err);
CM_MUST_CHECK cm_status rds_inflate(int how, struct cm_span in, struct cm_buf *out,
                                    struct cm_err *err);
/* nonce || ciphertext || tag. Opening fails with CM_E_PERM. */
CM_MUST_CHECK cm_status rds_seal(const struct rds_codec *c, struct cm_span in, struct cm_buf *out,
                                 struct cm_err *err);
CM_MUST_CHECK cm_status rds_unseal(const struct rds_codec *c, struct cm_span in, struct cm_buf *out,
                                   struct cm_err *err);

/* ---------------------------------------------------------------- instance */

struct redis_storage {
    struct cm_storage base;
    struct redis_options o;
    const struct cm_env *env;
    struct cm_log log;
    struct redis_link *link;
    struct rds_codec codec;
    char *channel;        /* of the change feed */
    bool scripted;        /* all names lie on one server: a change is one script */
    _Atomic bool checked; /* the server's settings were looked at */
    atomic_uint batch;    /* of load_many: how many values went well last; 0 = not known */
};

static inline struct redis_storage *rds_of(struct cm_storage *st)
{
    return CM_CONTAINER_OF(st, struct redis_storage, base);
}

/* ------------------------------------------------------------------- names */

/* The name of @key; @key "" is the prefix itself. */
CM_MUST_CHECK cm_status rds_name(const struct redis_storage *rs, const char *key,
                                 char ret[RDS_NAME_MAX], struct cm_err *err);
CM_MUST_CHECK cm_status rds_lock_name(const struct redis_storage *rs, const char *lock,
                                      char ret[RDS_NAME_MAX], struct cm_err *err);
/* A name of ours on the server where @name lies, for what peers do not know; no index has it.
 * @kind tells what: 'n' fences of locks, 'v' fences of values. False: there can be none. */
bool rds_side_name(const struct redis_storage *rs, char kind, const char *name,
                   char ret[RDS_NAME_MAX]);
/* Length of the directory part of @name: up to the last '/', without it; 0 = none. */
size_t rds_dir_len(const char *name, size_t len);

/* ---------------------------------------------------------------- commands */

#define RDS_ARGS_MAX 8u

/* A short command of text arguments. */
struct rds_args {
    const char *argv[RDS_ARGS_MAX];
    size_t len[RDS_ARGS_MAX];
    size_t n;
};

void rds_arg(struct rds_args *a, const char *text);
struct redis_command rds_command(const struct rds_args *a);

/* One command, sent again if its reply is lost. An error reply is an error: see rds_refused(). */
CM_MUST_CHECK cm_status rds_ask(struct redis_storage *rs, const struct cm_op *op, const char *route,
                                const struct rds_args *a, redisReply **ret, struct cm_err *err);
/* What an error reply means for what was tried. @what: "store 'a/b'". */
cm_status rds_refused(const redisReply *reply, const char *what, struct cm_err *err);
/* The reply is none that this command can have. */
cm_status rds_odd(const char *what, struct cm_err *err);
bool rds_is_error(const redisReply *r, const char *code);
/* Wipes what may be a key, then frees. NULL is fine. */
void rds_reply_free(redisReply *r);

enum rds_script {
    RDS_COMMIT, /* several values, under a lock or not */
    RDS_REMOVE, /* a value or a part of what is below */
    RDS_TRY_LOCK,
    RDS_REFRESH,
    RDS_UNLOCK,
    RDS_LOCK_INFO,
    RDS_PUT_FENCED, /* one value in a cluster */
    RDS_DEL_FENCED,
    RDS_ENTER,  /* a name into its directory */
    RDS_FORGET, /* a member that nothing lies behind */
    RDS_EXPIRE,
    RDS_SCRIPTS
};

/* Names first, then what else. All borrowed. */
struct rds_call {
    enum rds_script script;
    size_t n_keys;
    size_t n;
    const char *const *argv;
    const size_t *len;
};

/* Run a script by its digest, by its text where the server does not know it. The first name is the
 * route. Error replies are handed out, except NOSCRIPT. */
CM_MUST_CHECK cm_status rds_eval(struct redis_storage *rs, const struct cm_op *op, bool again,
                                 const struct rds_call *call, redisReply **ret, struct cm_err *err);
/* For calls of a few texts. */
CM_MUST_CHECK cm_status rds_eval_texts(struct redis_storage *rs, const struct cm_op *op, bool again,
                                       enum rds_script script, size_t n_keys,
                                       const struct rds_args *args, redisReply **ret,
                                       struct cm_err *err);

/* Tell peers of ours, where the script did not. Failing to is none. */
void rds_publish(struct redis_storage *rs, const struct cm_op *op, const char *kind,
                 const char *what);
/* Look at the settings of a server that has just answered, once, and warn of those that lose keys.
 */
void rds_check_server(struct redis_storage *rs, const struct cm_op *op);

/* ----------------------------------------------- index by single commands */

/* For clusters, where no script sees the whole index; in the order of the peers. */
CM_MUST_CHECK cm_status rds_index_add(struct redis_storage *rs, const struct cm_op *op,
                                      const char *name, struct cm_err *err);
/* The same for a directory. */
CM_MUST_CHECK cm_status rds_index_add_directory(struct redis_storage *rs, const struct cm_op *op,
                                                const char *name, struct cm_err *err);
/* Take @member ("x", or "x/") of the directory @name is in away, and directories that end. */
CM_MUST_CHECK cm_status rds_index_drop(struct redis_storage *rs, const struct cm_op *op,
                                       const char *name, bool directory, struct cm_err *err);
/* CM_E_EXISTS when a value cannot be at @name. */
CM_MUST_CHECK cm_status rds_index_place(struct redis_storage *rs, const struct cm_op *op,
                                        const char *name, const char *key, struct cm_err *err);
/* "string", "zset", "none", or something foreign. */
CM_MUST_CHECK cm_status rds_type(struct redis_storage *rs, const struct cm_op *op, const char *name,
                                 char ret[16], struct cm_err *err);
/* "cannot store 'key': … is in the way" */
cm_status rds_in_the_way(const struct redis_storage *rs, const char *key, const char *name,
                         struct cm_err *err);
/* Wall clock in seconds, as the index keeps it. */
void rds_score(const struct redis_storage *rs, char ret[24]);

/* Members of one directory, sorted; owned. */
struct rds_member {
    char *name; /* one component */
    bool directory;
};
struct rds_members {
    struct rds_member *at;
    size_t n, cap;
    size_t bytes;
};
CM_MUST_CHECK cm_status rds_members(struct redis_storage *rs, const struct cm_op *op,
                                    const char *dir, struct rds_members *ret, struct cm_err *err);
void rds_members_free(struct rds_members *m);
/* Members are from outside: can this one be a component? */
bool rds_is_component(const char *s, size_t len);

/* --------------------------------------------------------- check and repair */

/* Where index and values differ. */
struct rds_drift {
    char *name;     /* owned: what the member stands for */
    char *member;   /* owned, if it is not the last component of @name; NULL */
    bool directory; /* the name is, or the member says so, that of a directory */
    bool stale;     /* a member without anything behind it; else the reverse */
};

/* Is it still so? A peer changes the one and then the other, so what is seen at one moment says
 * little. */
CM_MUST_CHECK cm_status rds_drift_look(struct redis_storage *rs, const struct cm_op *op,
                                       const struct rds_drift *d, bool *ret, struct cm_err *err);
/* Put it right, unless it is right by now or somebody is just at it: then *ret_done is false and
 * *ret_why says why, if there is something to say. */
CM_MUST_CHECK cm_status rds_drift_mend(struct redis_storage *rs, const struct cm_op *op,
                                       const struct rds_drift *d, bool *ret_done,
                                       const char **ret_why, struct cm_err *err);
/* A time to live for what has none. */
CM_MUST_CHECK cm_status rds_expire(struct redis_storage *rs, const struct cm_op *op,
                                   const char *name, const char *ms, bool *ret_done,
                                   struct cm_err *err);
/* The operation: redis_survey.c. */
cm_status rds_check(struct cm_storage *st, const struct cm_op *op, bool repair, cm_check_fn each,
                    void *user, struct cm_err *err);

/* ----------------------------------------------------------- cluster's way */

CM_MUST_CHECK cm_status rds_cluster_commit(struct redis_storage *rs, const struct cm_op *op,
                                           const struct cm_grant *grant,
                                           const struct cm_commit_item *items,
                                           const struct cm_buf *encoded, size_t n,
                                           struct cm_err *err);
CM_MUST_CHECK cm_status rds_cluster_remove(struct redis_storage *rs, const struct cm_op *op,
                                           const char *key, struct cm_err *err);

/* ----------------------------------------------------------- the operations */

cm_status rds_store(struct cm_storage *st, const struct cm_op *op, const char *key,
                    struct cm_span value, struct cm_err *err);
cm_status rds_load(struct cm_storage *st, const struct cm_op *op, const char *key,
                   struct cm_buf *ret, struct cm_err *err);
cm_status rds_remove(struct cm_storage *st, const struct cm_op *op, const char *key,
                     struct cm_err *err);
cm_status rds_stat(struct cm_storage *st, const struct cm_op *op, const char *key,
                   struct cm_key_info *ret, struct cm_err *err);
cm_status rds_list(struct cm_storage *st, const struct cm_op *op, const char *prefix,
                   bool recursive, cm_list_fn each, void *user, struct cm_err *err);
cm_status rds_list_after(struct cm_storage *st, const struct cm_op *op, const char *prefix,
                         const char *after, bool recursive, cm_list_fn each, void *user,
                         struct cm_err *err);
cm_status rds_try_lock(struct cm_storage *st, const struct cm_op *op, const char *name,
                       int64_t ttl_ns, struct cm_grant *ret, int64_t *ret_wait_ns,
                       struct cm_err *err);
cm_status rds_refresh(struct cm_storage *st, const struct cm_op *op, struct cm_grant *grant,
                      struct cm_err *err);
cm_status rds_unlock(struct cm_storage *st, const struct cm_op *op, struct cm_grant *grant,
                     struct cm_err *err);
cm_status rds_lock_info(struct cm_storage *st, const struct cm_op *op, const char *name,
                        struct cm_lock_info *ret, struct cm_err *err);
cm_status rds_commit(struct cm_storage *st, const struct cm_op *op, const struct cm_grant *grant,
                     const struct cm_commit_item *items, size_t n, struct cm_err *err);
cm_status rds_load_many(struct cm_storage *st, const struct cm_op *op, const char *const *keys,
                        size_t n, cm_load_fn each, void *user, struct cm_err *err);
cm_status rds_watch(struct cm_storage *st, cm_change_fn fn, void *user, struct cm_watch **ret,
                    struct cm_err *err);
void rds_unwatch(struct cm_storage *st, struct cm_watch *watch);

/* What a grant's value in Redis begins with: "token:fence:". */
void rds_grant_head(const struct cm_grant *g, char ret[80]);
cm_status rds_lost(const struct cm_grant *g, struct cm_err *err);

#endif
