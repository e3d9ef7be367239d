/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_BASE_BASE_H
#define CM_BASE_BASE_H

/* The door of lib/base: what all other rooms build on and callers never see. */

#include <certmesh/cm_base.h>

#include <pthread.h>
#include <stdlib.h>

#define CM_CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
#define CM_ARRAY_LEN(a)                    (sizeof(a) / sizeof((a)[0]))

/* Broken invariant: abort with place, in release builds too. Never for outside input. */
#define CM_ASSERT(cond) ((cond) ? (void)0 : cm__assert_failed(#cond, __FILE__, __LINE__))
_Noreturn void cm__assert_failed(const char *cond, const char *file, int line);

/* Scope-owned things; hand over by assigning, then clearing the variable. */
void cm__auto_free(void *p);
void cm__auto_close(int *fd);
#define CM_AUTO_FREE  __attribute__((cleanup(cm__auto_free)))
#define CM_AUTO_CLOSE __attribute__((cleanup(cm__auto_close)))
#define CM_AUTO_BUF   __attribute__((cleanup(cm_buf_free)))

/* Does @rc mean that the bytes which were read are of no use? Then it is the object that is
 * damaged; the storage has done its part. */
bool cm_status_is_damage(cm_status rc);

/* Allocation goes through these (calloc semantics, overflow checked), so that tests can fail the
 * n-th one. Freed with free(). */
void *cm_calloc(size_t n, size_t size);
void *cm_calloc_aligned(size_t align, size_t size); /* @align: a power of two, at least a pointer */
void *cm_realloc_array(void *p, size_t n, size_t size);
char *cm_strdup(const char *s); /* NULL in, NULL out */
char *cm_strndup(const char *s, size_t len);
char *cm_asprintf(const char *fmt, ...) CM_PRINTF(1, 2); /* NULL when out of memory */
cm_status cm_fail_nomem(struct cm_err *err);

/* Test seam: fail the n-th allocation from now (1 = the next); 0 = off. Returns how many
 * allocations happened since the last call. */
uint64_t cm_alloc_fail_at(uint64_t n);

/* Empty a buffer that takes one value after the other: wipes what was in it, not all that it ever
 * grew to, and gives back more than @keep bytes of memory. */
void cm_buf_recycle(struct cm_buf *b, size_t keep);

/* ---- time ---- */
int64_t cm_env_wall_s(const struct cm_env *env);
/* RFC 3339: 1..9 or no fraction digits, 'Z' or offset, years 1..9999. @ret is ns since 1970,
 * clamped to int64 for years it cannot hold (year 1 becomes INT64_MIN: "unset"). Second 60 only
 * as 23:59:60 UTC; it counts as the next second. */
CM_MUST_CHECK cm_status cm_time_parse_rfc3339(const char *s, size_t len, int64_t *ret,
                                              struct cm_err *err);
/* "2026-08-29T18:20:01.123456789Z": always 9 digits and Z when @fixed, else as Go prints it
 * (trailing zeros dropped). INT64_MIN ("unset") is year 1, Go's zero time. @out has at least
 * CM_TIME_TEXT bytes. */
#define CM_TIME_TEXT 40
void cm_time_format_rfc3339(int64_t ns, bool fixed, char *out);
/* RFC 9110 Retry-After: seconds or HTTP-date. @ret in seconds from now, clamped to [0, 24 h]:
 * a CA that asks for a year by mistake must not outlast the certificate that it is asked for. */
CM_MUST_CHECK cm_status cm_time_parse_retry_after(const char *s, int64_t now_wall_s, int64_t *ret,
                                                  struct cm_err *err);
/* RFC 9110 5.6.7, all three forms; seconds since 1970. @now_wall_s tells the century of a year with
 * two digits. */
CM_MUST_CHECK cm_status cm_time_parse_http_date(struct cm_span text, int64_t now_wall_s,
                                                int64_t *ret, struct cm_err *err);

/* ---- base64url without padding (RFC 7515 2); base64 with padding and without line breaks (RFC
 * 4648 4). Appended to @out, which is unchanged on failure; decoding is strict: CM_E_PARSE ---- */
CM_MUST_CHECK cm_status cm_b64url_encode(struct cm_span in, struct cm_buf *out, struct cm_err *err);
CM_MUST_CHECK cm_status cm_b64url_decode(struct cm_span in, struct cm_buf *out, struct cm_err *err);
CM_MUST_CHECK cm_status cm_b64_encode(struct cm_span in, struct cm_buf *out, struct cm_err *err);
CM_MUST_CHECK cm_status cm_b64_decode(struct cm_span in, struct cm_buf *out, struct cm_err *err);
/* One or more characters of base64url; not whether they decode. */
bool cm_is_b64url(const char *s, size_t len);

/* ---- randomness, ids ---- */
CM_MUST_CHECK cm_status cm_env_random(const struct cm_env *env, void *out, size_t len,
                                      struct cm_err *err);
/* Lower-case hex of @bytes random bytes into @out (2*bytes+1). */
CM_MUST_CHECK cm_status cm_random_hex(const struct cm_env *env, size_t bytes, char *out,
                                      struct cm_err *err);
/* Uniform in [0, n); n > 0. Not for secrets. */
uint64_t cm_random_below(const struct cm_env *env, uint64_t n);

/* ---- files ---- */
/* A regular file of at most what @out may hold, appended; @out keeps what came before a failure. */
CM_MUST_CHECK cm_status cm_read_file(const char *path, struct cm_buf *out, struct cm_err *err);
/* The same of a file that nobody but its owner may change, and besides the owner its group may
 * read; else CM_E_PERM. */
CM_MUST_CHECK cm_status cm_read_private_file(const char *path, struct cm_buf *out,
                                             struct cm_err *err);

/* ---- this host ---- */
#define CM_HOST_NAME_BUF 65
/* What people call it: letters, digits, '.', '-' and '_' only; "unknown" if nobody can tell. */
void cm_host_name(char ret[CM_HOST_NAME_BUF]);

/* ---- JSON ---- */
#define CM_JSON_MAX (1024u * 1024)
struct json_object;
/* One JSON value and nothing after it, valid UTF-8, at most @depth deep: json-c's strict mode,
 * which in some versions takes single quotes, NaN, raw control bytes and comments (lib/acme refuses
 * those of a CA before). Caller puts it. Errors: CM_E_PARSE with json-c's reason, CM_E_LIMIT. */
CM_MUST_CHECK cm_status cm_json_read(struct cm_span text, int depth, struct json_object **ret,
                                     struct cm_err *err);
/* The same for at most @max bytes instead of CM_JSON_MAX: values that are carried in JSON. */
CM_MUST_CHECK cm_status cm_json_read_max(struct cm_span text, int depth, size_t max,
                                         struct json_object **ret, struct cm_err *err);

/* ---- storage names (docs/storage-format.md) ---- */
/* Raw issuer key of an ACME directory URL as given: "host[:port]-path-with-dashes" (certmagic
 * issuerKey). Appends to @out. The rule is total: odd URLs give odd keys, never an error but
 * CM_E_NOMEM/CM_E_LIMIT. */
CM_MUST_CHECK cm_status cm_issuer_key_from_url(const char *url, struct cm_buf *out,
                                               struct cm_err *err);
/* Append the path component that stands for @in (certmagic's Safe). CM_E_INVAL when that would be
 * "", "." or ".."; @out is unchanged on failure. */
CM_MUST_CHECK cm_status cm_safe_name(const char *in, struct cm_buf *out, struct cm_err *err);

/* ---- text from outside: control bytes and non-ASCII become \xNN, at most @out_size
 * with the NUL; "..." ends what did not fit. Returns @out ---- */
const char *cm_escape(const char *s, size_t len, char *out, size_t out_size);

/* ---- hex digits, of either case ---- */
int cm_hex_digit(char c); /* -1: it is none */
/* @n bytes from the 2 * @n characters at @s; false: not all are hex digits, and @out is half done.
 */
bool cm_hex_decode(const char *s, size_t n, uint8_t *out);

/* ---- the order of storage keys: by bytes per directory, '/' before all else, so that what is
 * below "a" comes directly after "a" and before "a.b", as in a tree. <0, 0, >0 ---- */
int cm_key_compare(const char *a, const char *b);

/* ---- FNV-1a, 64 bits: against accidents and for tables, not against anyone. What is hashed in
 * several pieces starts with CM_FNV1A64 and goes on with the last result ---- */
#define CM_FNV1A64 UINT64_C(0xCBF29CE484222325)
uint64_t cm_fnv1a64(uint64_t from, const void *data, size_t len);

/* ---- log ---- */
/* Fields are (key, value) pairs of const char *, NULL key ends. Escapes values. */
void cm_logf(const struct cm_log *log, enum cm_log_level level, const char *event,
             const struct cm_log_field *fields, size_t n, const char *fmt, ...) CM_PRINTF(6, 7);

/* ---- mutex and condition on CLOCK_MONOTONIC ---- */
void cm_mutex_init(pthread_mutex_t *m);
void cm_mutex_lock(pthread_mutex_t *m);
bool cm_mutex_try_lock(pthread_mutex_t *m); /* false: somebody holds it */
void cm_mutex_unlock(pthread_mutex_t *m);
void cm_cond_init(pthread_cond_t *c);
/* Wait at most @ns; false on time-out. Spurious wake-ups happen. */
bool cm_cond_wait_ns(pthread_cond_t *c, pthread_mutex_t *m, int64_t ns);

/* ---- threads ---- */
/* Start a thread of the library, with a name of at most 15 bytes. It takes no signals: they are the
 * program's, save those that name a fault in the thread itself. */
CM_MUST_CHECK cm_status cm_thread_start(pthread_t *ret, const char *name, void *(*run)(void *),
                                        void *arg, struct cm_err *err);

/* ---- cancel tokens ---- */
/* One that is fired as soon as @a or @b is, or itself. Both are kept alive by it. */
CM_MUST_CHECK cm_status cm_cancel_join(struct cm_cancel *a, struct cm_cancel *b,
                                       struct cm_cancel **ret, struct cm_err *err);
/* Another reference, for cm_cancel_free(). NULL is fine. */
struct cm_cancel *cm_cancel_ref(struct cm_cancel *c);

/* ---- bounded worker pool ---- */
struct cm_pool;
typedef void (*cm_task_fn)(void *arg);
/* @threads workers are started as tasks arrive; @queue_max more tasks may wait. */
CM_MUST_CHECK cm_status cm_pool_new(unsigned threads, size_t queue_max, struct cm_pool **ret,
                                    struct cm_err *err);
/* CM_E_BUSY when the queue is full, CM_E_STATE after stop. @arg stays the caller's on failure. */
CM_MUST_CHECK cm_status cm_pool_submit(struct cm_pool *p, cm_task_fn fn, void *arg,
                                       struct cm_err *err);
/* Refuse new tasks, run what is queued to its end (tasks are expected to see their cancel token),
 * join the threads, free. NULL is fine. Not from a worker. */
void cm_pool_stop(struct cm_pool *p);

#endif
