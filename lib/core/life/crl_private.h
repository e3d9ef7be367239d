/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_CORE_LIFE_CRL_PRIVATE_H
#define CM_CORE_LIFE_CRL_PRIVATE_H

/* What crl.c, crl_table.c, crl_store.c and crl_news.c share, and the tests. */

#include "crl.h"
#include "life.h"

#define CM_CRL_DIR           "certmesh/crl"
#define CM_CRL_ID_TEXT       (2 * CM_CRL_ID_LEN + 1)
#define CM_CRL_TABLE_LISTS   1024u               /* in the process */
#define CM_CRL_TABLE_BYTES   (64u * 1024 * 1024) /* that all of them may take */
#define CM_CRL_PIECE         (CM_STORAGE_VALUE_MAX - 256u)
#define CM_CRL_REFRESH_MIN_S 600
#define CM_CRL_REFRESH_MAX_S (24 * 3600)

/* ------------------------------------------------------------- crl_store.c */

/* A list in storage, for the fleet: in pieces "certmesh/crl/<id>/<n>" of at most CM_CRL_PIECE
 * bytes, the first of which begins with a line that tells when it was fetched, its size and
 * SHA-256. It is not believed because it lies there: whoever loads it verifies it as if it came
 * from the net. */

/* Lower-case hex: what a list is called in storage. */
void cm_crl_id_text(const uint8_t id[CM_CRL_ID_LEN], char ret[CM_CRL_ID_TEXT]);
/* CM_E_NOTFOUND; CM_E_PARSE for pieces that do not belong together, as they may while a peer
 * replaces them. */
CM_MUST_CHECK cm_status cm_crl_store_load(struct cm_config *cfg, const struct cm_op *op,
                                          const char *id, struct cm_buf *ret_der,
                                          int64_t *ret_fetched_s, struct cm_err *err);
/* All pieces in one commit under @lease; what a longer list left behind goes with it. */
CM_MUST_CHECK cm_status cm_crl_store_save(struct cm_config *cfg, const struct cm_op *op,
                                          struct cm_lease *lease, const char *id,
                                          struct cm_span der, int64_t fetched_s,
                                          struct cm_err *err);

/* ------------------------------------------------------------- crl_table.c */

/* Which list a certificate is in, and as what. */
struct cm_crl_watch {
    uint8_t id[CM_CRL_ID_LEN];
    char id_text[CM_CRL_ID_TEXT];
    char url[CM_CRL_URL_BUF];
    struct cm_span issuer_der;
    uint8_t serial[24];
    size_t serial_len;
};

/* One that was verified. */
struct cm_crl_found {
    struct cm_crl_set *set;
    int64_t this_s;
    int64_t next_s;
    int64_t fetched_s;
};

struct cm_crl_list {
    struct cm_crl_list *next;
    uint8_t id[CM_CRL_ID_LEN];
    char *url;
    struct cm_buf issuer_der;
    bool busy; /* somebody is at it: it stays */
    unsigned failures;
    int64_t used_s;
    int64_t refresh_s;       /* when a newer one is wanted */
    int64_t retry_s;         /* the CA is not asked before */
    int64_t storage_s;       /* nor storage */
    struct cm_crl_found got; /* set NULL = nothing */
    struct cm_err last;
};

/* Guards all of it; nothing is taken or called while it is held. What a busy list has got is
 * changed by whom it is busy for alone, who may therefore read it without the lock. */
extern pthread_mutex_t cm_crl_table_lock;
/* NULL if there is none. */
struct cm_crl_list *cm_crl_find_locked(const uint8_t id[CM_CRL_ID_LEN]);
/* Made if there is none; NULL when there is no memory, or no place. */
struct cm_crl_list *cm_crl_list_of_locked(const struct cm_crl_watch *w);
void cm_crl_drop_set_locked(struct cm_crl_list *l);
/* @l has none, and there is room. The set is the table's from now on. */
void cm_crl_put_set_locked(struct cm_crl_list *l, const struct cm_crl_found *f);
/* Make room by forgetting what other lists than @l have: it is loaded again when it is asked for.
 */
bool cm_crl_make_room_locked(const struct cm_crl_list *l, size_t bytes);

/* ------------------------------------------------------------------- crl.c */

/* Take the list @id, if this process watches it, from storage when a newer one is there.
 * CM_E_NOTFOUND: it does not, or storage has none; CM_E_BUSY: somebody is at it. */
CM_MUST_CHECK cm_status cm_crl_reload(struct cm_config *cfg, const struct cm_op *op,
                                      const uint8_t id[CM_CRL_ID_LEN]);
/* Is @serial revoked by it, as far as this process knows? */
bool cm_crl_has(const uint8_t id[CM_CRL_ID_LEN], struct cm_span serial);
/* The lists that this process watches. */
struct cm_crl_known {
    uint8_t id[CM_CRL_ID_LEN];
    int64_t fetched_s; /* what it has of it; 0 = nothing */
};
size_t cm_crl_ids(struct cm_crl_known *ret, size_t max);
/* What the table of the process holds. */
size_t cm_crl_table_lists(void);
size_t cm_crl_table_bytes(void);
/* For tests: as in a process that has just started. Nothing may be tended meanwhile. */
void cm_crl_table_clear(void);

#endif
