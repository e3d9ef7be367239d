/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CERTMESH_CM_CERT_SOURCE_H
#define CERTMESH_CM_CERT_SOURCE_H

/* Certificates that somebody else gets: a program that has them in a database, a vault, another
 * certificate manager. cm_ondemand.h includes this; see docs/on-demand.md.
 *
 * A source is asked for a name that is neither served nor managed, before anybody decides whether
 * the name may have a certificate of ours. What it gives is served like a certificate of the
 * program's own (cm_cache_add_pem(): stapled, not renewed, not stored, not evicted) for as long as
 * the source says, then it goes, and the next hello for the name brings the next question. However
 * many hellos for one name come meanwhile, there is one question. Whatever else the source does
 * (nothing in time, a failure, a certificate that is not for the name, is not valid now or does not
 * fit its key), the name goes on to the policy as if there were no source, and the source is not
 * asked about it for a while. */

#include <certmesh/cm_spi.h>

#ifdef __cplusplus
extern "C" {
#endif

/** What is asked for. Borrowed for the call. */
struct cm_source_ask {
    uint32_t size;
    const char *name;      /* as in the hello, in lower case; a host name, never an address */
    const char *client_ip; /* of the first that asked; "" when not known */
};

/** What the source has. Borrowed for the call of cm_source_answer(). */
struct cm_source_found {
    uint32_t size;
    struct cm_span chain_pem; /* leaf first */
    struct cm_span key_pem;
    int64_t keep_s; /* serve it for so long, and never past its end; 0 = an hour */
};
#define CM_SOURCE_FOUND_INIT                                                                       \
    {                                                                                              \
        .size = (uint32_t)sizeof(struct cm_source_found)                                           \
    }

/** A question that waits for its answer. */
struct cm_source_question;

struct cm_cert_source;
struct cm_cert_source_ops {
    CM_OPS_HEAD;
    /**
     * Have a certificate for ask->name? Called on one of a few threads of the config, for different
     * names at the same time, without locks. It owes an answer by cm_source_answer(), now or later.
     * One that blocks holds up the questions behind it.
     */
    void (*get)(struct cm_cert_source *src, const struct cm_source_ask *ask,
                struct cm_source_question *q);
};
struct cm_cert_source {
    const struct cm_cert_source_ops *ops;
};

/**
 * Answer @q, which is the program's no more after that: exactly once for each, from any thread,
 * also from within get(), also when the time for it is over or the config is gone (then it means
 * nothing). @rc: CM_OK with @found, which is read before this returns; CM_E_NOTFOUND, the name is
 * none of its own; anything else is a failure. @reason, for the log, is copied; NULL = none.
 */
CM_API void cm_source_answer(struct cm_source_question *q, cm_status rc,
                             const struct cm_source_found *found, const char *reason);

#ifdef __cplusplus
}
#endif
#endif
