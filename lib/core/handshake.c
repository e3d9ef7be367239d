/* SPDX-License-Identifier: Apache-2.0 */
#include "life.h"
#include "ondemand.h"

#include <stdio.h>
#include <string.h>

/* What a ClientHello gets. A hit reads the index and nothing else; whatever takes longer becomes a
 * pending answer that a worker gives. A name that is not ours never gets another's certificate,
 * unless the program named one for that case (default_name, fallback_name). */

cm_status cm_refuse(struct cm_err *err, cm_status rc, int alert, const char *fmt, ...)
{
    char msg[sizeof err->msg];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    (void)cm_fail(err, rc, "%s", msg);
    if (err != NULL)
        err->tls_alert = alert;
    return rc;
}

/* Copies one label in lower case from @n on and returns where it ends. */
static size_t take_label(const char *sni, size_t n, char out[CM_NAME_BUF], bool *ret_digits)
{
    bool digits = true;

    for (; n < CM_NAME_MAX; n++) {
        char c = sni[n];
        char low = (char)(c | 0x20);

        if (low >= 'a' && low <= 'z') {
            out[n] = low;
            digits = false;
        } else if (c >= '0' && c <= '9') {
            out[n] = c;
        } else if (c == '-' || c == '_') {
            out[n] = c;
            digits = false;
        } else {
            break;
        }
    }
    *ret_digits = digits;
    return n;
}

/* SNI to the form of the index: letters, digits, hyphen and underscore in labels of 1 to 63, lower
 * case, without final dot; no address, no wildcard. It must be A-labels already (RFC 6066 3).
 * Every handshake comes by here, so each character is looked at once. */
static bool sni_normalize(const char *sni, char out[CM_NAME_BUF])
{
    size_t n = 0;
    bool digits; /* all of the last label: then it would be an IPv4 address */

    for (;;) {
        size_t end = take_label(sni, n, out, &digits);

        if (end == n || end - n > 63)
            return false;
        n = end;
        if (sni[n] == '\0' || (sni[n] == '.' && sni[n + 1] == '\0'))
            break;
        if (sni[n] != '.')
            return false;
        out[n++] = '.';
    }
    out[n] = '\0';
    return !digits;
}

static struct cm_cert *choose(struct cm_config *cfg, const struct cm_hello *hello,
                              struct cm_cert *const *certs, size_t n)
{
    struct cm_cert *best = NULL;

    if (cfg->select != NULL) {
        best = cfg->select(cfg->select_user, hello, certs, n);
        size_t i = 0;
        while (i < n && certs[i] != best)
            i++;
        if (i == n)
            best = NULL; /* not one of those on offer */
    }
    if (best == NULL)
        best = cm_select_best(hello, certs, n, n > 1 ? cm_env_wall_s(cfg->env) : 0);
    return best;
}

cm_status cm_choose_by_name(void *user, const struct cm_hello *hello, const char *name,
                            struct cm_cert **ret, struct cm_err *err)
{
    struct cm_config *cfg = user;
    struct cm_cert *certs[CM_CANDIDATES_MAX];
    size_t len = strlen(name);
    size_t n = cm_cache_find(cfg->cache, name, len, certs);

    /* One label deep, as RFC 6125 has it: no certificate covers a name by "*.*.example.com", so
     * there is nothing to look for under the further patterns that certmagic tries. */
    if (n == 0) {
        const char *dot = memchr(name, '.', len);
        char wild[CM_NAME_BUF + 1];

        if (dot != NULL && dot > name && !(name[0] == '*' && dot == name + 1)) {
            size_t rest = len - (size_t)(dot - name);

            wild[0] = '*';
            memcpy(wild + 1, dot, rest);
            n = cm_cache_find(cfg->cache, wild, rest + 1, certs);
        }
    }
    if (n == 0)
        return cm_refuse(err, CM_E_NOTFOUND, CM_ALERT_UNRECOGNIZED_NAME, "no certificate for '%s'",
                         name);
    struct cm_cert *best = n == 1 && cfg->select == NULL ? certs[0] : choose(cfg, hello, certs, n);
    for (size_t i = 0; i < n; i++)
        if (certs[i] != best)
            cm_cert_unref(certs[i]);
    *ret = best;
    return CM_OK;
}

/* From the cache, or wait if it is a managed name on its way. CM_E_NOTFOUND: not one of ours. */
static cm_status get_by_name(struct cm_config *cfg, const struct cm_hello *hello, const char *name,
                             struct cm_cert **ret_cert, struct cm_pending **ret_pending,
                             struct cm_err *err)
{
    cm_status rc = cm_choose_by_name(cfg, hello, name, ret_cert, err);

    if (rc != CM_E_NOTFOUND)
        return rc;
    rc = cm_names_wait(cfg, hello, name, false, ret_pending, err);
    if (rc != CM_OK)
        return rc;
    rc = cm_choose_by_name(cfg, hello, name, ret_cert, err); /* it arrived in between */
    if (rc != CM_E_NOTFOUND)
        return rc;
    return cm_names_wait(cfg, hello, name, true, ret_pending, err);
}

static cm_status get_without_sni(struct cm_config *cfg, const struct cm_hello *hello,
                                 struct cm_cert **ret_cert, struct cm_pending **ret_pending,
                                 struct cm_err *err)
{
    char ip[CM_NAME_BUF];
    size_t len = strcspn(hello->local_ip, "%"); /* without zone id */
    cm_status rc = CM_E_NOTFOUND;

    if (len > 0 && len < sizeof hello->local_ip) {
        memcpy(ip, hello->local_ip, len);
        ip[len] = '\0';
        rc = get_by_name(cfg, hello, ip, ret_cert, ret_pending, err);
    }
    if (rc == CM_E_NOTFOUND && cfg->default_name_set)
        rc = get_by_name(cfg, hello, cfg->default_name, ret_cert, ret_pending, err);
    if (rc == CM_E_NOTFOUND)
        rc = cm_refuse(err, rc, CM_ALERT_UNRECOGNIZED_NAME,
                       "the client asked for no name, and there is no certificate for that case");
    return rc;
}

/* It may come while we look, but not again and again. */
static cm_status get_on_demand(struct cm_config *cfg, const struct cm_hello *hello,
                               const char *name, struct cm_cert **ret_cert,
                               struct cm_pending **ret_pending, struct cm_err *err)
{
    cm_status rc = cm_ondemand_wait(cfg, hello, name, false, ret_pending, err);

    if (rc != CM_OK)
        return rc;
    rc = get_by_name(cfg, hello, name, ret_cert, ret_pending, err);
    if (rc != CM_E_NOTFOUND)
        return rc;
    return cm_refuse(err, CM_E_STATE, CM_ALERT_INTERNAL, "no certificate for '%s' yet", name);
}

cm_status cm_get_certificate(struct cm_config *cfg, const struct cm_hello *hello,
                             struct cm_cert **ret_cert, struct cm_pending **ret_pending,
                             struct cm_err *err)
{
    char name[CM_NAME_BUF];

    if (cfg == NULL || hello == NULL || ret_cert == NULL || ret_pending == NULL)
        return cm_refuse(err, CM_E_INVAL, CM_ALERT_INTERNAL,
                         "no configuration, hello or place for the answer");
    if (cfg->on_event != NULL) {
        cm_status rc = cm_emit_hello(cfg, hello, err);

        if (rc != CM_OK)
            return rc;
    }
    if (hello->server_name[0] == '\0' && !hello->sni_invalid && !hello->acme_tls)
        return get_without_sni(cfg, hello, ret_cert, ret_pending, err);
    /* Before anything is looked up anywhere: is it a name at all? */
    if (hello->sni_invalid || !sni_normalize(hello->server_name, name))
        return cm_refuse(err, CM_E_INVAL, CM_ALERT_UNRECOGNIZED_NAME,
                         "the client asked for something that is no host name");
    if (hello->acme_tls)
        return cm_challenge_get(cfg, hello, name, ret_cert, ret_pending, err);

    cm_status rc =
        cfg->recheck != NULL ? cm_recheck_hello(cfg, hello, name, ret_pending, err) : CM_OK;
    if (rc == CM_OK)
        rc = get_by_name(cfg, hello, name, ret_cert, ret_pending, err);
    if (rc == CM_E_NOTFOUND && cfg->ondemand != NULL)
        rc = get_on_demand(cfg, hello, name, ret_cert, ret_pending, err);
    if ((rc == CM_E_NOTFOUND || rc == CM_E_POLICY) && cfg->fallback_name_set)
        rc = get_by_name(cfg, hello, cfg->fallback_name, ret_cert, ret_pending, err);
    return rc;
}
