/* SPDX-License-Identifier: Apache-2.0 */
#include "issuers.h"

#include <stdio.h>
#include <string.h>

/* What an order asks for beyond its names, and which of the chains that the CA offers is taken. */

#define LIFETIME_MAX_S (3660 * INT64_C(86400))
#define BACKDATE_MAX_S (30 * INT64_C(86400))
#define REQUEST_MAX_S  3600
#define AGENT_MAX      256u

/* ------------------------------------------------------------------- options */

static cm_status copy(char **to, const char *from, struct cm_err *err)
{
    *to = from == NULL || from[0] == '\0' ? NULL : cm_strdup(from);
    return *to == NULL && from != NULL && from[0] != '\0' ? cm_fail_nomem(err) : CM_OK;
}

/* It becomes a part of a directory's name, as it stands. */
static bool is_variant(const char *s)
{
    size_t len = strlen(s);

    return len > 0 && len <= 32 && strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == len;
}

/* It becomes a part of a header line. */
static bool is_agent(const char *s)
{
    size_t len = strnlen(s, AGENT_MAX + 1);

    for (size_t i = 0; i < len; i++)
        if (s[i] < 0x20 || s[i] > 0x7e)
            return false;
    return len > 0 && len <= AGENT_MAX;
}

/* Only what certificates lie under: accounts and tokens are found by the prefix. */
static cm_status add_variant(struct acme_issuer *ai, const char *variant, struct cm_err *err)
{
    char *key = cm_asprintf("%s+%s", ai->key, variant);

    if (key == NULL)
        return cm_fail_nomem(err);
    free(ai->key);
    ai->key = key;
    return CM_OK;
}

cm_status acme_extra_take(struct acme_issuer *ai, const struct cm_acme_extra *given,
                          struct cm_err *err)
{
    struct cm_acme_extra x = { .size = 0 };

    if (given == NULL)
        return CM_OK;
    if (given->size == 0 || given->size > 64u * 1024)
        return cm_fail(err, CM_E_INVAL, "cm_acme_extra: size is not set");
    memcpy(&x, given, given->size < sizeof x ? given->size : sizeof x);
    if ((unsigned)x.chain > CM_CHAIN_SMALLEST)
        return cm_fail(err, CM_E_INVAL, "cm_acme_extra: unknown choice of chain %d", (int)x.chain);
    if (x.lifetime_s < 0 || x.lifetime_s > LIFETIME_MAX_S)
        return cm_fail(err, CM_E_INVAL, "lifetime_s must be between 0 and ten years");
    if (x.backdate_s < 0 || x.backdate_s > BACKDATE_MAX_S)
        return cm_fail(err, CM_E_INVAL, "backdate_s must be between 0 and 30 days");
    ai->chain = x.chain;
    ai->lifetime_s = x.lifetime_s;
    ai->backdate_s = x.backdate_s;
    ai->stateless = x.stateless_http01;
    if (x.variant != NULL && !is_variant(x.variant))
        return cm_fail(err, CM_E_INVAL, "the variant is not 1 to 32 of a-z, 0-9 and '-'");
    if (x.user_agent != NULL && !is_agent(x.user_agent))
        return cm_fail(err, CM_E_INVAL, "user_agent is not 1 to %u printable ASCII characters",
                       AGENT_MAX);
    if (x.request_timeout_s < 0 || x.request_timeout_s > REQUEST_MAX_S)
        return cm_fail(err, CM_E_INVAL, "request_timeout_s must be between 0 and %d",
                       REQUEST_MAX_S);
    ai->challenges &= ~x.never_challenges;
    ai->challenges_ip &= ~x.never_challenges;
    if (ai->challenges == 0)
        return cm_fail(err, CM_E_INVAL, "never_challenges leaves no challenge to use");
    ai->request_timeout_ns = x.request_timeout_s * CM_NS_PER_S;
    cm_status rc = copy(&ai->proxy, x.proxy, err);
    if (rc == CM_OK)
        rc = copy(&ai->user_agent, x.user_agent, err);
    if (rc == CM_OK)
        rc = copy(&ai->no_proxy, x.no_proxy, err);
    if (rc == CM_OK && x.variant != NULL)
        rc = add_variant(ai, x.variant, err);
    return rc;
}

void acme_extra_free(struct acme_issuer *ai)
{
    if (ai->proxy != NULL) /* there may be a password in it */
        cm_wipe(ai->proxy, strlen(ai->proxy));
    free(ai->proxy);
    free(ai->no_proxy);
    free(ai->user_agent);
}

static cm_status thumbprint(void *user, const struct cm_op *op, char ret[44], struct cm_err *err)
{
    struct acme_issuer *ai = user;
    struct acme_identity *id = NULL;

    cm_status rc = acme_identity_get(ai, op, false, &id, err);
    if (rc != CM_OK)
        return rc;
    rc = cm_key_thumbprint(id->key, ret, err);
    acme_identity_unref(id);
    return rc;
}

cm_status acme_extra_attach(struct acme_issuer *ai, struct cm_err *err)
{
    if (!ai->stateless)
        return CM_OK;
    cm_solver_shared_stateless(ai->solver);
    return cm_board_set_thumbprint(ai->host.board, thumbprint, ai, err);
}

/* --------------------------------------------------------------------- order */

/* CAs overlook what they do not know, or give the reason without the names that there are. */
static cm_status check_profile(struct acme_issuer *ai, const struct cm_op *op, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf list = CM_BUF_INIT(256);
    const struct cm_acme_directory *dir = NULL;
    cm_status rc = CM_OK;

    if (ai->profile == NULL)
        return CM_OK;
    rc = cm_acme_directory(ai->client, op, &dir, err);
    if (rc != CM_OK)
        return rc;
    for (char *const *p = dir->profiles; p != NULL && *p != NULL; p++) {
        if (strcmp(*p, ai->profile) == 0)
            return CM_OK;
        /* as many as fit */
        if (cm_buf_printf(&list, NULL, "%s%s", list.len > 0 ? ", " : "", *p) != CM_OK)
            break;
    }
    rc = list.len == 0
             ? cm_fail(err, CM_E_POLICY, "%s has no certificate profiles, so none called '%s'",
                       ai->directory_url, ai->profile)
             : cm_fail(err, CM_E_POLICY, "%s has no certificate profile '%s'; there are: %s",
                       ai->directory_url, ai->profile, cm_buf_str(&list));
    if (err != NULL)
        err->no_retry = true; /* asking again without a change is of no use */
    return rc;
}

cm_status acme_extra_order(struct acme_issuer *ai, const struct cm_op *op,
                           struct acme_order_times *times, struct cm_acme_new_order *what,
                           struct cm_err *err)
{
    int64_t now_s = cm_env_wall_s(cm_op_env(op));

    cm_status rc = check_profile(ai, op, err);
    if (rc != CM_OK)
        return rc;
    what->profile = ai->profile;
    if (ai->backdate_s > 0) {
        cm_time_format_rfc3339((now_s - ai->backdate_s) * CM_NS_PER_S, false, times->not_before);
        what->not_before = times->not_before;
    }
    if (ai->lifetime_s > 0) {
        cm_time_format_rfc3339((now_s + ai->lifetime_s) * CM_NS_PER_S, false, times->not_after);
        what->not_after = times->not_after;
    }
    return CM_OK;
}

/* --------------------------------------------------------------------- chain */

/* Is it what is wanted, whatever the others are? */
static bool is_wanted(const struct acme_issuer *ai, struct cm_span pem)
{
    struct cm_chain chain = { 0 };
    char cn[256];
    bool wanted = false;

    if (cm_chain_from_pem(pem, &chain, NULL) != CM_OK)
        return false;
    for (size_t i = ai->chain == CM_CHAIN_ANY ? 0 : chain.n - 1; !wanted && i < chain.n; i++)
        wanted = cm_chain_issuer_cn(&chain, i, cn, sizeof cn, NULL) == CM_OK &&
                 strcmp(cn, ai->preferred_chain) == 0;
    cm_chain_free(&chain);
    return wanted;
}

/* Of its certificates, not of the text around them; SIZE_MAX for what is no chain. */
static size_t bytes_of(struct cm_span pem)
{
    struct cm_chain chain = { 0 };
    size_t sum = 0;

    if (cm_chain_from_pem(pem, &chain, NULL) != CM_OK)
        return SIZE_MAX;
    for (size_t i = 0; i < chain.n; i++)
        sum += chain.der[i].len;
    cm_chain_free(&chain);
    return sum;
}

void acme_extra_chain(struct acme_issuer *ai, const struct cm_op *op,
                      const struct cm_acme_signer *who, char **alternates, struct cm_buf *pem)
{
    bool smallest = ai->chain == CM_CHAIN_SMALLEST;
    size_t best = smallest ? bytes_of(cm_buf_span(pem)) : 0;

    if (!smallest && (ai->preferred_chain == NULL || is_wanted(ai, cm_buf_span(pem))))
        return;
    for (size_t i = 0; alternates != NULL && alternates[i] != NULL; i++) {
        struct cm_buf other = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
        bool better =
            cm_acme_certificate_get(ai->client, op, who, alternates[i], &other, NULL, NULL) ==
                CM_OK &&
            (smallest ? bytes_of(cm_buf_span(&other)) < best : is_wanted(ai, cm_buf_span(&other)));

        if (!better) {
            cm_buf_free(&other);
            continue;
        }
        cm_buf_free(pem);
        *pem = other;
        if (!smallest)
            return;
        best = bytes_of(cm_buf_span(pem));
    }
    if (!smallest)
        cm_logf(&ai->host.log, CM_LOG_WARN, "preferred_chain_missing", NULL, 0,
                "%s offers no chain %s '%s'; its default is used", ai->directory_url,
                ai->chain == CM_CHAIN_ANY ? "with" : "to", ai->preferred_chain);
}
