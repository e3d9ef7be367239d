/* SPDX-License-Identifier: Apache-2.0 */
#include "dns_provider.h"

#include <string.h>

/* From a text to a DNS provider, and the gates in front of providers. */

static const struct {
    const char *name;
    dns_opener open;
} providers[] = {
    { "rfc2136", dns_rfc2136_open },
    { "exec", dns_exec_open },
    { "acme-dns", dns_acmedns_open },
    { "cloudflare", dns_cloudflare_open },
};

static cm_status unknown(const char *spec, struct cm_err *err)
{
    char shown[100];
    CM_AUTO_BUF struct cm_buf known = CM_BUF_INIT(512);

    for (size_t i = 0; i < CM_ARRAY_LEN(providers); i++) {
        cm_status rc = cm_buf_printf(&known, err, "%s%s:", i == 0 ? "" : ", ", providers[i].name);
        if (rc != CM_OK)
            return rc;
    }
    /* No more than its beginning: a secret may stand behind it by mistake. */
    return cm_fail(err, CM_E_INVAL, "DNS provider '%s' is none that this build knows: %s",
                   cm_escape(spec, strcspn(spec, ":"), shown, sizeof shown), cm_buf_str(&known));
}

cm_status cm_dns_provider_open(const char *spec, const struct cm_dns_provider_options *opts,
                               struct cm_dns_provider **ret, struct cm_err *err)
{
    struct cm_dns_provider_options o = { .size = (uint32_t)sizeof o };

    if (spec == NULL || ret == NULL)
        return cm_fail(err, CM_E_INVAL, "cm_dns_provider_open: nothing to open");
    if (opts != NULL) {
        o.env = opts->env;
        o.log = opts->log;
    }
    if (o.env == NULL)
        o.env = cm_env_system();
    for (size_t i = 0; i < CM_ARRAY_LEN(providers); i++) {
        size_t len = strlen(providers[i].name);
        if (strncmp(spec, providers[i].name, len) != 0 || spec[len] != ':')
            continue;
        cm_status rc = providers[i].open(spec + len + 1, &o, ret, err);
        return rc == CM_OK ? rc : cm_wrap(err, rc, "DNS provider %s", providers[i].name);
    }
    return unknown(spec, err);
}

void cm_dns_provider_close(struct cm_dns_provider *p)
{
    if (p != NULL)
        p->ops->destroy(p);
}

/* -------------------------------------------------------------------- gates */

static bool is_text(const char *s, size_t max)
{
    size_t len = s == NULL ? 0 : strnlen(s, max + 1);

    for (size_t i = 0; i < len; i++)
        if ((unsigned char)s[i] < 0x21 || (unsigned char)s[i] > 0x7e)
            return false;
    return len > 0 && len <= max;
}

/* Names reach command lines and requests of others: nothing but letters, digits, '-', '_', '.'. */
static bool is_name(const char *s)
{
    static const char ok[] = "abcdefghijklmnopqrstuvwxyz0123456789-_.";

    return is_text(s, 253) && strspn(s, ok) == strlen(s) && s[0] != '.' && s[0] != '-' &&
           strstr(s, "..") == NULL && s[strlen(s) - 1] != '.';
}

static cm_status check(struct cm_dns_provider *p, const struct cm_op *op,
                       const struct cm_dns_record *rec, struct cm_err *err)
{
    if (p == NULL || p->ops == NULL || p->ops->abi != CM_SPI_ABI || p->ops->append == NULL ||
        p->ops->remove == NULL || p->ops->describe == NULL || p->ops->destroy == NULL)
        return cm_fail(err, CM_E_INVAL,
                       "DNS provider: its table is of another kind, or incomplete");
    if (rec == NULL || !is_name(rec->fqdn) || !is_text(rec->value, 255) ||
        (rec->zone != NULL && !is_name(rec->zone)) || rec->type == NULL ||
        strcmp(rec->type, "TXT") != 0 || !is_name(rec->ident) || !is_name(rec->challenge_name) ||
        !is_text(rec->token, 128) || !is_text(rec->key_authorization, 512))
        return cm_fail(err, CM_E_INVAL, "DNS provider %s: the record is incomplete or not a TXT",
                       p->ops->name);
    return cm_op_check(op, err);
}

static cm_status named(struct cm_dns_provider *p, const struct cm_dns_record *rec, const char *what,
                       cm_status rc, struct cm_err *err)
{
    return rc == CM_OK
               ? rc
               : cm_wrap(err, rc, "%s: %s TXT record %s", p->ops->describe(p), what, rec->fqdn);
}

cm_status cm_dns_provider_append(struct cm_dns_provider *p, const struct cm_op *op,
                                 const struct cm_dns_record *rec, struct cm_err *err)
{
    cm_status rc = check(p, op, rec, err);

    return rc != CM_OK ? rc : named(p, rec, "put up", p->ops->append(p, op, rec, err), err);
}

cm_status cm_dns_provider_remove(struct cm_dns_provider *p, const struct cm_op *op,
                                 const struct cm_dns_record *rec, struct cm_err *err)
{
    cm_status rc = check(p, op, rec, err);

    return rc != CM_OK ? rc : named(p, rec, "take down", p->ops->remove(p, op, rec, err), err);
}

cm_status cm_dns_provider_wait(struct cm_dns_provider *p, const struct cm_op *op,
                               const struct cm_dns_record *rec, struct cm_err *err)
{
    cm_status rc = check(p, op, rec, err);

    if (rc != CM_OK || p->ops->wait == NULL)
        return rc;
    return named(p, rec, "wait for", p->ops->wait(p, op, rec, err), err);
}

/* ------------------------------------------------------------ name=value&... */

static cm_status decode(const char *s, size_t len, char **ret)
{
    char *out = cm_calloc(len + 1, 1);
    size_t used = 0;

    if (out == NULL)
        return CM_E_NOMEM;
    for (size_t i = 0; i < len; i++) {
        uint8_t byte = (uint8_t)s[i];
        if (byte == '%') {
            if (len - i < 3 || !cm_hex_decode(s + i + 1, 1, &byte)) {
                free(out);
                return CM_E_INVAL;
            }
            i += 2;
        }
        if (byte < 0x20 || byte == 0x7f) {
            free(out);
            return CM_E_INVAL;
        }
        out[used++] = (char)byte;
    }
    *ret = out;
    return CM_OK;
}

static cm_status read_one(const char *s, size_t len, const struct dns_param *known, size_t n,
                          struct cm_err *err)
{
    size_t name = strcspn(s, "=&");
    char shown[64];

    for (size_t i = 0; i < n; i++) {
        if (strlen(known[i].name) != name || strncmp(known[i].name, s, name) != 0)
            continue;
        if (*known[i].value != NULL)
            return cm_fail(err, CM_E_INVAL, "parameter '%s' is given twice", known[i].name);
        cm_status rc =
            name + 1 >= len ? CM_E_INVAL : decode(s + name + 1, len - name - 1, known[i].value);
        if (rc == CM_E_NOMEM)
            return cm_fail_nomem(err);
        return rc == CM_OK ? rc
                           : cm_fail(err, CM_E_INVAL,
                                     "parameter '%s' has no value, or one that is "
                                     "no text",
                                     known[i].name);
    }
    return cm_fail(err, CM_E_INVAL, "parameter '%s' is not known",
                   cm_escape(s, name, shown, sizeof shown));
}

cm_status dns_read_params(const char *query, const struct dns_param *known, size_t n,
                          struct cm_err *err)
{
    while (query != NULL && *query != '\0') {
        size_t len = strcspn(query, "&");
        cm_status rc = len == 0 ? CM_OK : read_one(query, len, known, n, err);
        if (rc != CM_OK)
            return rc;
        query += len + (query[len] == '&' ? 1 : 0);
    }
    return CM_OK;
}
