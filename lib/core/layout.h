/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_CORE_LAYOUT_H
#define CM_CORE_LAYOUT_H

/* What core keeps in storage: names of keys, formats, and the reading and writing of them. A part
 * of core_private.h, which includes it. */

#include "core.h"

/* ------------------------------------------------------------------ keys.c */

/* What one certificate is for: its names in the form used for everything, sorted and without
 * doubles. Plain data, immutable. */
struct cm_subject {
    size_t n;
    const char *const *names;
    const char *ident; /* the one name; of several: joined by ',' (shortened when too long) */
    const char *dir;   /* <N> of the storage layout: Safe(ident) */
};
CM_MUST_CHECK cm_status cm_subject_new(const char *const *names, size_t n, struct cm_subject **ret,
                                       struct cm_err *err);
/* From names joined by ','. */
CM_MUST_CHECK cm_status cm_subject_parse(const char *text, struct cm_subject **ret,
                                         struct cm_err *err);
void cm_subject_free(struct cm_subject *s); /* NULL ok */

#define CM_KEY_BUF (CM_STORAGE_KEY_MAX + 1)
/* certificates/<I>/<dir>/<dir><suffix>; suffix NULL: the directory itself. */
CM_MUST_CHECK cm_status cm_path_cert(const char *issuer_key, const char *dir, const char *suffix,
                                     char ret[CM_KEY_BUF], struct cm_err *err);
/* <prefix>/challenge_tokens/<Safe(ident)>.json */
CM_MUST_CHECK cm_status cm_path_token(const char *prefix, const char *ident, char ret[CM_KEY_BUF],
                                      struct cm_err *err);
/* certmesh/csr/<I>/<dir>/<id><suffix>: of a request that somebody else made (csr.c). */
#define CM_CSR_DIR "certmesh/csr"
CM_MUST_CHECK cm_status cm_path_csr(const char *issuer_key, const char *dir, const char *id,
                                    const char *suffix, char ret[CM_KEY_BUF], struct cm_err *err);
/* ocsp/<Safe(name)>-<hash of the bundle>: where a peer keeps the staple of a certificate. */
CM_MUST_CHECK cm_status cm_path_staple(const char *name, struct cm_span bundle_pem,
                                       char ret[CM_KEY_BUF], struct cm_err *err);
CM_MUST_CHECK cm_status cm_path_journal(const char *dir, char ret[CM_KEY_BUF], struct cm_err *err);
/* issue_cert_<ident> */
CM_MUST_CHECK cm_status cm_lock_issue(const char *ident, char ret[CM_LOCK_NAME_MAX + 1],
                                      struct cm_err *err);
#define CM_JOURNAL_DIR "certmesh/journal"
/* The flags of cm_name_normalize() that core uses for every name. */
#define CM_NAME_FLAGS (CM_NAME_ALLOW_WILDCARD | CM_NAME_ALLOW_IP | CM_NAME_ALLOW_UNDERSCORE)

/* ------------------------------------------------------------------ meta.c */

/* The metadata file <N>.json. Times are ns since 1970, CM_TIME_UNSET for year 1 or absent. */
#define CM_TIME_UNSET INT64_MIN
struct cm_meta_ari {
    bool present;
    int64_t window_start_ns;
    int64_t window_end_ns;
    int64_t retry_after_ns;
    int64_t selected_ns;
    char unique_id[128];
    char explanation_url[256];
};
struct cm_meta {
    char **sans;
    size_t n_sans;
    struct cm_buf issuer_data; /* JSON text, "null" included; empty when the member is absent */
    char cert_url[512];        /* from issuer_data, "" if none */
    char ca[512];
    char account[512];
    struct cm_meta_ari ari;
};
/* Unknown members are ignored, names compare without case, depth at most 16. */
CM_MUST_CHECK cm_status cm_meta_parse(struct cm_span json, struct cm_meta *ret, struct cm_err *err);
void cm_meta_free(struct cm_meta *m);
/* As certmagic writes it: tabs, no final newline, HTML-escaped. @issuer_data is a JSON value,
 * empty = null. */
CM_MUST_CHECK cm_status cm_meta_format(const char *const *sans, size_t n_sans,
                                       struct cm_span issuer_data, struct cm_buf *out,
                                       struct cm_err *err);

/* @issuer_data (a JSON object, else CM_E_PARSE) with its "renewal_info" set to @ari, all else as it
 * is. A peer reads the result: so @ari must have a window, and then a selected time in it. */
CM_MUST_CHECK cm_status cm_meta_set_ari(struct cm_span issuer_data, const struct cm_meta_ari *ari,
                                        struct cm_buf *out, struct cm_err *err);

/* ------------------------------------------------------------ meta_store.c */

/* What lies beside the certificate of @issuer_key in directory @dir. */
CM_MUST_CHECK cm_status cm_meta_load(struct cm_config *cfg, const struct cm_op *op,
                                     const char *issuer_key, const char *dir, struct cm_meta *ret,
                                     struct cm_err *err);

/* ------------------------------------------------------------------ json.c */

struct json_object;
/* Whole text, strict, depth at most 16, nothing behind it. */
CM_MUST_CHECK cm_status cm_json_parse(struct cm_span text, struct json_object **ret,
                                      struct cm_err *err);
/* Member whose name equals @name without regard to case (an exact match wins). *@ret is NULL for
 * a JSON null. */
bool cm_json_find(struct json_object *o, const char *name, struct json_object **ret);
/* Copies the text of a string member; false if absent, no string, holding NUL or too long. */
bool cm_json_text(struct json_object *o, const char *name, char *ret, size_t ret_size);
/* Valid JSON text laid out as Go's encoding/json indents it (tabs), HTML characters escaped. */
CM_MUST_CHECK cm_status cm_json_indent(struct cm_span compact, struct cm_buf *out,
                                       struct cm_err *err);
/* Appends @s quoted. */
CM_MUST_CHECK cm_status cm_json_quote(const char *s, struct cm_buf *out, struct cm_err *err);

/* ------------------------------------------------------------------ store.c */

enum cm_load_want {
    CM_LOAD_VALID,  /* only what may be served now: CM_E_NOTFOUND otherwise. Quick: that the
                     * signatures hold is for cm_store_check(), once it is served */
    CM_LOAD_NEWEST, /* valid before not valid, newest notBefore first; checked to the bottom */
    CM_LOAD_QUICK   /* the same, unchecked: to see whether it is what has been checked before */
};
/* The best certificate of @s among cfg's issuers. Pairs are verified (and read again a few times
 * when a writer is in the middle), the leaf must cover the names. What cannot be used is logged
 * and counts as absent; an error of the storage is one only if nothing else was found. */
CM_MUST_CHECK cm_status cm_store_load(struct cm_config *cfg, const struct cm_op *op,
                                      const struct cm_subject *s, enum cm_load_want want,
                                      struct cm_cert **ret, struct cm_err *err);
/* A value as it came from cm_storage_load_many(). */
struct cm_loaded {
    cm_status status; /* CM_E_AGAIN: did not come */
    struct cm_span value;
};
/* cm_store_load(CM_LOAD_VALID) from what has been loaded already: of cfg's issuer i key and chain,
 * @at[2 * i] and @at[2 * i + 1]. CM_E_NOTFOUND: there is nothing at all. CM_E_AGAIN: not so simple,
 * ask cm_store_load(). Logs nothing. */
CM_MUST_CHECK cm_status cm_store_pick(struct cm_config *cfg, const struct cm_subject *s,
                                      const struct cm_loaded *at, struct cm_cert **ret);
/* One directory: @base is "certificates/<I>/<dir>"; @issuer_key what the certificate shall say of
 * its origin. @names may be NULL (no check of names). @deep: signatures and both halves of the
 * key too, some 0.3 ms. */
CM_MUST_CHECK cm_status cm_store_load_dir(struct cm_config *cfg, const struct cm_op *op,
                                          const char *base, const char *dir, const char *issuer_key,
                                          const char *const *names, size_t n, bool deep,
                                          struct cm_cert **ret, struct cm_err *err);
/* The deep part alone, for what was loaded quickly. */
CM_MUST_CHECK cm_status cm_store_check(const struct cm_cert *cert, struct cm_err *err);
/* Key, chain and metadata in one commit under @lease, together with the end of the journal and with
 * @more (at most CM_STORE_MORE). */
#define CM_STORE_MORE 2u
CM_MUST_CHECK cm_status cm_store_commit(const struct cm_op *op, struct cm_lease *lease,
                                        const struct cm_subject *s, const char *issuer_key,
                                        const struct cm_key *key, const struct cm_issued *issued,
                                        const struct cm_commit_item *more, size_t n_more,
                                        struct cm_err *err);
/* Remove the three of one directory ("certificates/<I>/<dir>") under @lease. */
CM_MUST_CHECK cm_status cm_store_remove(const struct cm_op *op, struct cm_lease *lease,
                                        const char *base, const char *dir, struct cm_err *err);
/* What @name means: names, or a directory of the layout whose certificate tells the names. */
CM_MUST_CHECK cm_status cm_store_resolve(struct cm_config *cfg, const struct cm_op *op,
                                         const char *name, struct cm_subject **ret_subject,
                                         struct cm_cert **ret_cert, struct cm_err *err);

/* ----------------------------------------------------------------- damage.c */

/* Is @name one component as the layout writes it? */
bool cm_store_is_dir(const char *name);
/* Is there something in storage for @name that cannot be used? Then *ret is what it was for: by the
 * metadata, or by the name itself. */
bool cm_store_remains(struct cm_config *cfg, const struct cm_op *op, const char *name,
                      struct cm_subject **ret);
/* The private key of @s, if it is the only thing left of a pair: there is no chain with it that
 * could be read and tells otherwise. */
bool cm_store_orphan_key(struct cm_config *cfg, const struct cm_op *op, const struct cm_subject *s,
                         struct cm_key **ret);

/* ----------------------------------------------------------------- stored.c */

struct cm_child {
    char *name; /* last component */
    int64_t modified_ns;
    bool terminal;
};
struct cm_children {
    struct cm_child *at;
    size_t n;
    size_t cap;
};
/* What lies directly below @prefix; nothing is not an error. */
CM_MUST_CHECK cm_status cm_children_list(struct cm_config *cfg, const struct cm_op *op,
                                         const char *prefix, struct cm_children *ret,
                                         struct cm_err *err);
void cm_children_free(struct cm_children *c);
/* Every directory of a certificate: certificates/<issuer>/<dir> is @base. */
typedef cm_status (*cm_site_fn)(void *user, const char *issuer, const char *dir, const char *base,
                                struct cm_err *err);
CM_MUST_CHECK cm_status cm_sites_walk(struct cm_config *cfg, const struct cm_op *op,
                                      cm_site_fn each, void *user, struct cm_err *err);

/* ---------------------------------------------------------------- journal.c */

#define CM_JOURNAL_FRESH_S (24 * 3600)
#define CM_JOURNAL_STALE_S (7 * 24 * 3600)
#define CM_JOURNAL_MAX     (256u * 1024)

/* What must survive a crash between the order and the certificate. */
struct cm_journal {
    int64_t created_ns;
    char issuer_key[256];
    bool must_staple;
    char *names; /* joined by ',' */
    struct cm_key *key;
    struct cm_buf csr_der;
    struct cm_buf resume;
};
void cm_journal_init(struct cm_journal *j);
void cm_journal_free(struct cm_journal *j);
CM_MUST_CHECK cm_status cm_journal_parse(struct cm_span text, struct cm_journal *ret,
                                         struct cm_err *err);
/* @out must be a secret buffer. */
CM_MUST_CHECK cm_status cm_journal_format(const struct cm_journal *j, struct cm_buf *out,
                                          struct cm_err *err);
CM_MUST_CHECK cm_status cm_journal_load(struct cm_config *cfg, const struct cm_op *op,
                                        const struct cm_subject *s, struct cm_journal *ret,
                                        struct cm_err *err);
CM_MUST_CHECK cm_status cm_journal_store(struct cm_lease *lease, const struct cm_op *op,
                                         const struct cm_subject *s, const struct cm_journal *j,
                                         struct cm_err *err);

#endif
