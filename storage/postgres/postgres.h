/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_STORAGE_POSTGRES_H
#define CM_STORAGE_POSTGRES_H

/* What the files of the PostgreSQL backend share. From below: pg_url.c reads the URL, pg_connect.c
 * opens one connection, pg_pool.c keeps a few of them, pg_exec.c asks one question on any of them
 * and judges the answer, pg_schema.c makes the tables; the rest says what to ask.
 *
 * Every question is one statement, so it needs nothing of its session and is a transaction of its
 * own: it works the same behind a pooler that hands out a server per transaction. */

#include "feed.h"
#include "storage.h"

#include <libpq-fe.h>
#include <stdatomic.h>
#include <sys/types.h>

/* ------------------------------------------------------------------- URL */

struct pg_host {
    char *host;     /* name, address, or the directory of a unix socket; NULL: libpq's own choice */
    char *hostaddr; /* NULL: found by name */
    char *port;     /* NULL: libpq's default */
};

#define PG_HOSTS_MAX 16u

/* Strings are owned; secrets are wiped by pg_options_clear(). */
struct pg_options {
    /* For libpq, by its own names, NULL at the end; room for PG_HOST_WORDS more. */
    const char **keywords;
    const char **values;
    size_t n;
    struct pg_host hosts[PG_HOSTS_MAX];
    size_t n_hosts;
    char *schema; /* NULL: whatever the search path finds */
    unsigned pool_max;
    int64_t timeout_ns; /* of one question, waiting for a connection and repeating included */
    int64_t connect_ns; /* of connecting to one host */
    bool ddl;           /* may make missing tables */
    bool feed;          /* tells of changes, and listens when asked to */
    bool tls_by_default;
    char *shown; /* without secrets */
};
#define PG_HOST_WORDS 3u

/* Errors: CM_E_INVAL (names the parameter, never the URL), CM_E_PERM, CM_E_IO, CM_E_NOTFOUND never.
 */
CM_MUST_CHECK cm_status pg_options_parse(const char *url, struct pg_options *ret,
                                         struct cm_err *err);
void pg_options_clear(struct pg_options *o);

/* ------------------------------------------------------------ connections */

/* How long a question may take: the caller's operation, and a limit in real time beside it, since
 * a simulated clock may stand still. */
struct pg_wait {
    const struct cm_op *op;
    int64_t until_ns; /* monotonic, of the real environment */
    int64_t limit_ns; /* how long that was, for messages */
};

struct pg_wait pg_wait_begin(const struct cm_op *op, int64_t limit_ns);
/* Wait until @fd is ready. CM_E_TIMEOUT, CM_E_CANCELED. @fd -1: until then. */
CM_MUST_CHECK cm_status pg_wait_fd(const struct pg_wait *w, int fd, short events,
                                   struct cm_err *err);

/* No answer, whole or in parts, has so much; a server that goes on is cut off. */
#define PG_ANSWER_MAX (64u * 1024 * 1024)
/* Bytes that the kernel has taken from the peer of a TCP connection so far; 0: not known. */
uint64_t pg_received(int fd);
/* CM_E_LIMIT when it sent more than @max since @before. */
CM_MUST_CHECK cm_status pg_check_received(int fd, uint64_t before, uint64_t max,
                                          struct cm_err *err);

struct pg_storage;

/* A connection to the first host that lets us in, non-blocking. Errors: CM_E_NET, CM_E_TLS,
 * CM_E_PERM, CM_E_INVAL, CM_E_TIMEOUT, CM_E_CANCELED. */
CM_MUST_CHECK cm_status pg_connect(struct pg_storage *s, const struct pg_wait *w, PGconn **ret,
                                   struct cm_err *err);
/* How many bytes the kernel has been given to send on this socket; -1: it does not tell (not TCP).
 */
int64_t pg_given(int fd);
/* The next connection begins with another host: this one does not take writes. */
void pg_connect_elsewhere(struct pg_storage *s);
/* What libpq says, on one line, bounded, escaped. Returns @out. */
const char *pg_said(const char *said, char *out, size_t out_size);
#define PG_SAID 280

struct pg_pool;

/* One of the pool's connections, a new one if none is idle. */
CM_MUST_CHECK cm_status pg_pool_get(struct pg_storage *s, const struct pg_wait *w, PGconn **ret,
                                    struct cm_err *err);
void pg_pool_put(struct pg_storage *s, PGconn *conn);
/* It is of no more use. @busy: the server may still be at work for it, and is asked to stop.
 * @all: so are those that are idle. */
void pg_pool_drop(struct pg_storage *s, PGconn *conn, bool busy, bool all);
CM_MUST_CHECK cm_status pg_pool_new(unsigned max, struct pg_pool **ret, struct cm_err *err);
void pg_pool_free(struct pg_pool *p);

/* --------------------------------------------------------------- questions */

#define PG_ARGS_MAX (4 * CM_COMMIT_MAX + 8)

/* Parameters of a statement; what they point at is borrowed. Zero is empty. */
struct pg_args {
    int n;
    int n_numbers;
    const char *values[PG_ARGS_MAX];
    int lengths[PG_ARGS_MAX];
    int formats[PG_ARGS_MAX];
    char numbers[4][24];
};

/* Each returns the number of the parameter, from 1. */
int pg_arg_text(struct pg_args *a, const char *text);
int pg_arg_bytes(struct pg_args *a, struct cm_span bytes);
int pg_arg_number(struct pg_args *a, int64_t number);

struct pg_question {
    const char *what; /* for messages: "load" ... */
    const char *name; /* ... and of which key or lock */
    const char *sql;  /* @d @l @o stand for the tables: data, CertMagic's locks, ours; @n for the
                         beginning of the call that tells others, closed by a parenthesis; @t for
                         what keys are sorted by */
    const struct pg_args *args; /* NULL: none */
    bool again; /* may be carried out twice, when nobody knows whether it was once */
};

/* Ask, on a new connection when the old one proves dead; repeat what was undone for the sake of
 * another transaction; make the tables when there are none. @ret has binary rows and is the
 * caller's: pg_result_free(). *ret_unknown, if not NULL, tells also on failure whether an attempt
 * was made of which nobody knows what became of it.
 * Errors: CM_E_NET (also: it cannot write now), CM_E_PERM, CM_E_IO (disk full), CM_E_TLS,
 * CM_E_TIMEOUT, CM_E_CANCELED, CM_E_INVAL, CM_E_LIMIT; never CM_E_NOTFOUND. */
CM_MUST_CHECK cm_status pg_ask(struct pg_storage *s, const struct cm_op *op,
                               const struct pg_question *q, PGresult **ret, bool *ret_unknown,
                               struct cm_err *err);
/* Wipes the values; NULL is fine. */
void pg_result_free(PGresult *res);
#define PG_AUTO_RESULT __attribute__((cleanup(pg_auto_result)))
void pg_auto_result(PGresult **res);

/* Send one statement on @conn and wait for its answer, whatever it is. CM_OK: *ret is there. Else
 * the connection is of no more use; *ret_sent tells whether the server may have got it. */
CM_MUST_CHECK cm_status pg_conn_ask(PGconn *conn, const struct pg_wait *w, const char *sql,
                                    const struct pg_args *args, PGresult **ret, bool *ret_sent,
                                    struct cm_err *err);
/* The SQL text of a template with @d and so on. */
CM_MUST_CHECK cm_status pg_sql(const struct pg_storage *s, const char *text, struct cm_buf *out,
                               struct cm_err *err);

/* Fields of a binary row. */
int64_t pg_int(const PGresult *res, int row, int column);   /* of a bigint; 0 for NULL */
uint64_t pg_size(const PGresult *res, int row, int column); /* the same; 0 for what is below */
bool pg_bool(const PGresult *res, int row, int column);
int64_t pg_time_ns(const PGresult *res, int row, int column); /* ns since 1970; 0 for NULL */
struct cm_span pg_bytes(const PGresult *res, int row, int column);

/* A text[] of @n texts, as its literal. */
CM_MUST_CHECK cm_status pg_array(const char *const *texts, size_t n, struct cm_buf *out,
                                 struct cm_err *err);

/* Tell who watches of what has been done: @kind "v" of values, "u" of a lock; @n up to
 * CM_COMMIT_MAX. That it cannot be told is no failure of what was done. */
void pg_tell(struct pg_storage *s, const struct cm_op *op, const char *kind,
             const char *const *names, size_t n);

/* ------------------------------------------------------------------ schema */

/* Make what is missing. @missing is what the server said is not there. */
CM_MUST_CHECK cm_status pg_schema_make(struct pg_storage *s, const struct pg_wait *w, PGconn *conn,
                                       const char *missing, struct cm_err *err);

/* Keys are sorted by their bytes with '/' before all others, so that what lies below "a" comes
 * directly after "a", as in a tree. No key has control bytes. There is an index of just that.
 *
 * The range of what lies below @key in that order: from inclusive, to exclusive. */
struct pg_range {
    char from[CM_STORAGE_KEY_MAX + 2];
    char to[CM_STORAGE_KEY_MAX + 2];
};
void pg_range_below(const char *key, struct pg_range *ret);
/* The directories that @key lies in, as a text[]. */
CM_MUST_CHECK cm_status pg_parents(const char *key, struct cm_buf *out, struct cm_err *err);
/* "cannot store, it is a directory", or "x is a value": @bad is the key that is in the way. */
cm_status pg_in_the_way(const char *key, struct cm_span bad, struct cm_err *err);

/* ---------------------------------------------------------------- instance */

struct pg_listener;

struct pg_storage {
    struct cm_storage base;
    struct pg_options options;
    const struct cm_env *env;
    struct cm_log log;
    char *data;                     /* the tables, quoted, ... */
    char *locks;                    /* ... CertMagic's ... */
    char *own;                      /* ... and ours */
    char *index;                    /* its name, quoted */
    char *channel;                  /* quoted as a literal; also good as an identifier */
    _Atomic(struct pg_pool *) pool; /* of this process; another's after a fork is not touched */
    atomic_uint host;               /* where to begin */
    atomic_bool ddl_warned;
    pid_t pid; /* who watches; a child has no threads */
    struct feed feed;
    pthread_mutex_t watch_mutex; /* for what follows; not held while a thread ends */
    unsigned watchers;
    struct pg_listener *listener;
};

static inline struct pg_storage *pg_of(struct cm_storage *st)
{
    return CM_CONTAINER_OF(st, struct pg_storage, base);
}

/* ------------------------------------------------------------ of the table */

cm_status pg_store(struct cm_storage *st, const struct cm_op *op, const char *key,
                   struct cm_span value, struct cm_err *err);
cm_status pg_load(struct cm_storage *st, const struct cm_op *op, const char *key,
                  struct cm_buf *ret, struct cm_err *err);
cm_status pg_remove(struct cm_storage *st, const struct cm_op *op, const char *key,
                    struct cm_err *err);
cm_status pg_stat(struct cm_storage *st, const struct cm_op *op, const char *key,
                  struct cm_key_info *ret, struct cm_err *err);
cm_status pg_list(struct cm_storage *st, const struct cm_op *op, const char *prefix, bool recursive,
                  cm_list_fn each, void *user, struct cm_err *err);
cm_status pg_list_after(struct cm_storage *st, const struct cm_op *op, const char *prefix,
                        const char *after, bool recursive, cm_list_fn each, void *user,
                        struct cm_err *err);
cm_status pg_load_many(struct cm_storage *st, const struct cm_op *op, const char *const *keys,
                       size_t n, cm_load_fn each, void *user, struct cm_err *err);
cm_status pg_try_lock(struct cm_storage *st, const struct cm_op *op, const char *name,
                      int64_t ttl_ns, struct cm_grant *ret, int64_t *ret_wait_ns,
                      struct cm_err *err);
cm_status pg_refresh(struct cm_storage *st, const struct cm_op *op, struct cm_grant *grant,
                     struct cm_err *err);
cm_status pg_unlock(struct cm_storage *st, const struct cm_op *op, struct cm_grant *grant,
                    struct cm_err *err);
cm_status pg_lock_info(struct cm_storage *st, const struct cm_op *op, const char *name,
                       struct cm_lock_info *ret, struct cm_err *err);
cm_status pg_lost(const struct cm_grant *grant, struct cm_err *err);
cm_status pg_commit(struct cm_storage *st, const struct cm_op *op, const struct cm_grant *grant,
                    const struct cm_commit_item *items, size_t n, struct cm_err *err);
cm_status pg_watch(struct cm_storage *st, cm_change_fn fn, void *user, struct cm_watch **ret,
                   struct cm_err *err);
void pg_unwatch(struct cm_storage *st, struct cm_watch *watch);
cm_status pg_check(struct cm_storage *st, const struct cm_op *op, bool repair, cm_check_fn each,
                   void *user, struct cm_err *err);

#endif
