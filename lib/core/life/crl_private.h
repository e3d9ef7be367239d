/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_CORE_LIFE_CRL_PRIVATE_H
#define CM_CORE_LIFE_CRL_PRIVATE_H

/* What crl.c and crl_store.c share, and the tests. */

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

/* ------------------------------------------------------------------- crl.c */

/* What the table of the process holds. */
size_t cm_crl_table_lists(void);
size_t cm_crl_table_bytes(void);
/* For tests: as in a process that has just started. Nothing may be tended meanwhile. */
void cm_crl_table_clear(void);

#endif
