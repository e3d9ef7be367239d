/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CERTMESH_CM_BASE_H
#define CERTMESH_CM_BASE_H

/* What every part of certmesh, and every backend written outside it, shares: status codes and
 * errors, byte spans and capped buffers, the environment (clocks, randomness, waiting), the
 * operation (deadline and cancel token) and the log sink. No TLS, no storage, no ACME here. */

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define CM_API               __attribute__((visibility("default")))
#define CM_MUST_CHECK        __attribute__((warn_unused_result))
#define CM_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define CM_API
#define CM_MUST_CHECK
#define CM_PRINTF(fmt, args)
#endif

#define CM_NS_PER_S  INT64_C(1000000000)
#define CM_NS_PER_MS INT64_C(1000000)

/* ------------------------------------------------------------------ status */

/* name, value, text. Values are ABI: append only. */
#define CM_STATUS_MAP(X)                                                                           \
    X(OK, 0, "ok")                                                                                 \
    X(E_INVAL, 1, "invalid argument")                                                              \
    X(E_NOMEM, 2, "out of memory")                                                                 \
    X(E_IO, 3, "input/output error")                                                               \
    X(E_NOTFOUND, 4, "not found")                                                                  \
    X(E_EXISTS, 5, "already exists")                                                               \
    X(E_PERM, 6, "permission denied")                                                              \
    X(E_PARSE, 7, "malformed data")                                                                \
    X(E_LIMIT, 8, "limit exceeded")                                                                \
    X(E_TIMEOUT, 9, "deadline passed")                                                             \
    X(E_CANCELED, 10, "canceled")                                                                  \
    X(E_AGAIN, 11, "not ready yet")                                                                \
    X(E_BUSY, 12, "busy")                                                                          \
    X(E_LOCK_LOST, 13, "lock lost")                                                                \
    X(E_UNSUPPORTED, 14, "not supported")                                                          \
    X(E_POLICY, 15, "refused by policy")                                                           \
    X(E_NET, 16, "network failure")                                                                \
    X(E_TLS, 17, "TLS failure")                                                                    \
    X(E_ACME, 18, "refused by the CA")                                                             \
    X(E_RATELIMITED, 19, "rate limited")                                                           \
    X(E_CERT, 20, "certificate not acceptable")                                                    \
    X(E_KEY, 21, "key not usable")                                                                 \
    X(E_STATE, 22, "wrong state")                                                                  \
    X(E_INTERNAL, 23, "internal error")

#define CM_STATUS_ENUM(name, value, text) CM_##name = value,
typedef enum cm_status { CM_STATUS_MAP(CM_STATUS_ENUM) } cm_status;
#undef CM_STATUS_ENUM

/** Static text of @rc; never NULL. Threads: any. */
CM_API const char *cm_status_text(cm_status rc);

/** Static symbolic name of @rc ("CM_E_IO"); never NULL. Threads: any. */
CM_API const char *cm_status_name(cm_status rc);

/* ------------------------------------------------------------------ errors */

/**
 * Why a call failed. Lives on the caller's stack, never allocates; every function takes it last
 * and accepts NULL. Valid only after a call returned something else than CM_OK.
 * @msg names the object, the cause and, where there is one, what to do. It never holds key
 * bytes, tokens or passwords; text that came from a peer is escaped.
 */
struct cm_err {
    cm_status status;
    int sys_errno;         /* errno behind CM_E_IO and CM_E_PERM, else 0 */
    int http_status;       /* status of the CA's answer, else 0 */
    int tls_alert;         /* TLS alert number to send, 0 = the caller's choice */
    int64_t retry_after_s; /* what the CA asked for, 0 = nothing */
    bool no_retry;         /* trying again without a change cannot succeed */
    bool whole_ca;         /* about the CA or our account there, not about these names */
    char problem[128];     /* RFC 8555 6.7 problem type, "" if none */
    char msg[512];
};
#define CM_ERR_INIT                                                                                \
    {                                                                                              \
        CM_OK, 0, 0, 0, 0, false, false, "", ""                                                    \
    }

/** Fill @err (NULL allowed) from scratch and return @rc. Keeps errno. */
CM_API cm_status cm_fail(struct cm_err *err, cm_status rc, const char *fmt, ...) CM_PRINTF(3, 4);

/** Like cm_fail() with the current errno: its text is appended and the status derived from it
 *  (ENOENT is CM_E_NOTFOUND, EACCES/EPERM/EROFS CM_E_PERM, ENOMEM CM_E_NOMEM, else CM_E_IO). */
CM_API cm_status cm_fail_errno(struct cm_err *err, const char *fmt, ...) CM_PRINTF(2, 3);

/** Put "context: " before the message that @err already has; returns @rc unchanged. */
CM_API cm_status cm_wrap(struct cm_err *err, cm_status rc, const char *fmt, ...) CM_PRINTF(3, 4);

/** Could the same call succeed later without anyone changing anything? */
CM_API bool cm_status_is_retryable(cm_status rc, const struct cm_err *err);

/* ----------------------------------------------------------- spans, buffers */

struct cm_span {
    const uint8_t *data;
    size_t len;
};

/** Span over a C string without its NUL; NULL gives an empty span. */
CM_API struct cm_span cm_span_str(const char *s);

/**
 * Growable bytes with a mandatory maximum. Always NUL-terminated beyond @len once it holds
 * anything, so text may be read as a C string; @len alone tells the length.
 * A secret buffer wipes what it leaves behind when it grows, is reset or freed.
 */
struct cm_buf {
    uint8_t *data;
    size_t len;
    size_t cap;
    size_t max;
    bool secret;
};
#define CM_BUF_INIT(maximum)                                                                       \
    {                                                                                              \
        NULL, 0, 0, (maximum), false                                                               \
    }
#define CM_BUF_SECRET(maximum)                                                                     \
    {                                                                                              \
        NULL, 0, 0, (maximum), true                                                                \
    }

/** Append. Errors: CM_E_LIMIT past the maximum, CM_E_NOMEM; the buffer is unchanged then. */
CM_API CM_MUST_CHECK cm_status cm_buf_append(struct cm_buf *b, const void *data, size_t len,
                                             struct cm_err *err);
CM_API CM_MUST_CHECK cm_status cm_buf_puts(struct cm_buf *b, const char *s, struct cm_err *err);
CM_API CM_MUST_CHECK cm_status cm_buf_printf(struct cm_buf *b, struct cm_err *err, const char *fmt,
                                             ...) CM_PRINTF(3, 4);
/** Make room for @extra more bytes without changing @len. */
CM_API CM_MUST_CHECK cm_status cm_buf_reserve(struct cm_buf *b, size_t extra, struct cm_err *err);
/** Length 0, memory kept (wiped if secret). */
CM_API void cm_buf_reset(struct cm_buf *b);
/** Release; the buffer may be used again. NULL and never-used are fine. */
CM_API void cm_buf_free(struct cm_buf *b);
CM_API struct cm_span cm_buf_span(const struct cm_buf *b);
/** Contents as text, "" when empty; borrowed until the next change. */
CM_API const char *cm_buf_str(const struct cm_buf *b);

/** Overwrite so that the compiler cannot leave it out. */
CM_API void cm_wipe(void *p, size_t len);

/* ------------------------------------------------------------- environment */

struct cm_cancel;

#define CM_ENV_ABI 1u

/**
 * Everything that comes from outside the program without being a peer: both clocks, randomness
 * and the passing of time. The default is the real one; tests put a simulated one in its place.
 * Threads: all members may be entered by several threads at once.
 */
struct cm_env {
    uint32_t abi;  /* CM_ENV_ABI */
    uint32_t size; /* sizeof(struct cm_env) */
    /** Wall clock, ns since 1970 UTC. Only for validity dates and stamps. */
    int64_t (*wall_ns)(const struct cm_env *env);
    /** Monotonic clock, ns. Everything that measures. */
    int64_t (*mono_ns)(const struct cm_env *env);
    /** Cryptographic randomness. */
    cm_status (*random)(const struct cm_env *env, void *out, size_t len);
    /** Let @ns pass or return early with CM_E_CANCELED when @cancel (NULL allowed) fires. */
    cm_status (*wait)(const struct cm_env *env, struct cm_cancel *cancel, int64_t ns);
    void *user;
};

/** The real environment; never NULL, lives for ever. */
CM_API const struct cm_env *cm_env_system(void);

/* --------------------------------------------------------------- operation */

/**
 * Make a cancel token, optionally the child of @parent (a parent's firing fires its children).
 * Ownership: caller; cm_cancel_free() when no call uses it any more. Parents are kept alive by
 * their children.  Threads: any.
 */
CM_API CM_MUST_CHECK cm_status cm_cancel_new(struct cm_cancel *parent, struct cm_cancel **ret,
                                             struct cm_err *err);
/** NULL is fine. */
CM_API void cm_cancel_free(struct cm_cancel *c);
/** Fire, for good, with all its children. Idempotent. Async-signal-safe. NULL is fine. */
CM_API void cm_cancel_fire(struct cm_cancel *c);
/** NULL never fires. */
CM_API bool cm_cancel_is_fired(const struct cm_cancel *c);
/** A descriptor that is readable once fired; borrowed; -1 for NULL. */
CM_API int cm_cancel_fd(const struct cm_cancel *c);

/**
 * Given to every call that may block: it returns soon after the deadline passes (CM_E_TIMEOUT)
 * or the token fires (CM_E_CANCELED). NULL where a `const struct cm_op *` is asked for means:
 * real environment, no deadline, not cancelable.
 */
struct cm_op {
    const struct cm_env *env; /* NULL = cm_env_system() */
    int64_t deadline_ns;      /* on env's monotonic clock; 0 = none */
    struct cm_cancel *cancel; /* NULL = not cancelable */
};

/** The environment of @op, never NULL. */
CM_API const struct cm_env *cm_op_env(const struct cm_op *op);
/** CM_OK while the operation may go on. */
CM_API CM_MUST_CHECK cm_status cm_op_check(const struct cm_op *op, struct cm_err *err);
/** ns until the deadline, at most @cap_ns; 0 when past or canceled. */
CM_API int64_t cm_op_remaining_ns(const struct cm_op *op, int64_t cap_ns);
/** An operation like @parent whose deadline is at most @timeout_ns from now. */
CM_API struct cm_op cm_op_within(const struct cm_op *parent, int64_t timeout_ns);
/** Wait @ns, or less if the deadline passes or the token fires (then that error). */
CM_API CM_MUST_CHECK cm_status cm_op_wait(const struct cm_op *op, int64_t ns, struct cm_err *err);

/* --------------------------------------------------------------------- log */

enum cm_log_level { CM_LOG_DEBUG = 0, CM_LOG_INFO = 1, CM_LOG_WARN = 2, CM_LOG_ERROR = 3 };

struct cm_log_field {
    const char *key;
    const char *value; /* control bytes escaped, at most 256 bytes */
};

/**
 * Receives one structured line. @event is a stable identifier ("order_created"), @msg a sentence
 * for people. All pointers are borrowed for the call.
 * Threads: called from any thread, never with a lock of certmesh held; must not call back.
 */
typedef void (*cm_log_fn)(void *user, enum cm_log_level level, const char *event, const char *msg,
                          const struct cm_log_field *fields, size_t n);

struct cm_log {
    cm_log_fn write; /* NULL = silent */
    void *user;
    enum cm_log_level min_level;
};

#ifdef __cplusplus
}
#endif
#endif
