/* SPDX-License-Identifier: Apache-2.0 */
#include "wire.h"

#include <string.h>

/* Where a name leads, and which zone it is in. */

#define CNAMES_MAX 8

static bool find(const struct dns_message *m, const char *name, enum dns_type type,
                 struct dns_rr *ret)
{
    struct dns_walk w = { .m = m };

    while (dns_next(&w, ret))
        if (ret->section == DNS_ANSWER && ret->class == DNS_IN && ret->type == type &&
            strcmp(ret->name, name) == 0)
            return true;
    return false;
}

/* Is the CNAME from @at to @to one that any name beside it has, made of a "*" record? Then it makes
 * way for whatever is put at @at, and leads nowhere. */
static cm_status is_wildcard(const struct dns_resolver *r, const struct cm_op *op, const char *at,
                             const char *to, bool *ret, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf answer = CM_BUF_INIT(DNS_MESSAGE_MAX);
    const char *parent = strchr(at, '.');
    char beside[DNS_NAME_BUF + 32] = "_", name[DNS_NAME_BUF];
    struct dns_message m;
    struct dns_rr rr;

    *ret = false;
    if (parent == NULL)
        return CM_OK;
    cm_status rc = cm_random_hex(cm_op_env(op), 8, beside + 1, err);
    if (rc != CM_OK)
        return rc;
    memcpy(beside + strlen(beside), parent, strlen(parent) + 1);
    if (!dns_is_name(beside))
        return CM_OK;
    rc = dns_look_up(r, op, beside, DNS_CNAME, &answer, &m, err);
    if (rc != CM_OK || !find(&m, beside, DNS_CNAME, &rr))
        return rc;
    size_t pos = rr.rdata;
    *ret = dns_read_name(m.msg, &pos, name) && strcmp(name, to) == 0;
    return CM_OK;
}

cm_status dns_follow(const struct dns_resolver *r, const struct cm_op *op, const char *name,
                     char ret[DNS_NAME_BUF], struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf answer = CM_BUF_INIT(DNS_MESSAGE_MAX);
    char at[DNS_NAME_BUF], to[DNS_NAME_BUF];
    struct dns_message m;
    struct dns_rr rr;
    bool wildcard = false;

    if (!dns_is_name(name))
        return cm_fail(err, CM_E_INVAL, "'%s' is no name that DNS can be asked for", name);
    memcpy(at, name, strlen(name) + 1);
    for (int i = 0; i <= CNAMES_MAX; i++) {
        cm_status rc = dns_look_up(r, op, at, DNS_CNAME, &answer, &m, err);
        if (rc != CM_OK)
            return rc;
        if (!find(&m, at, DNS_CNAME, &rr)) {
            memcpy(ret, at, sizeof at);
            return CM_OK;
        }
        size_t pos = rr.rdata;
        if (!dns_read_name(m.msg, &pos, to) || !dns_is_name(to))
            return cm_fail(err, CM_E_PARSE, "the CNAME at %s leads to a name that none can have",
                           at);
        rc = is_wildcard(r, op, at, to, &wildcard, err);
        if (rc != CM_OK)
            return rc;
        if (wildcard) {
            memcpy(ret, at, sizeof at);
            return CM_OK;
        }
        memcpy(at, to, sizeof at);
    }
    return cm_fail(err, CM_E_LIMIT,
                   "from %s more than %d CNAMEs lead on, one after the other: is it a circle?",
                   name, CNAMES_MAX);
}

/* The SOA record tells the zone: in the answer at its top, else with the refusal. One that is not
 * above the name belongs to where a CNAME leads. */
static bool zone_in(const struct dns_message *m, const char *name, char ret[DNS_NAME_BUF])
{
    struct dns_walk w = { .m = m };
    struct dns_rr rr;

    if (find(m, name, DNS_CNAME, &rr))
        return false;
    while (dns_next(&w, &rr)) {
        if (rr.type != DNS_SOA || rr.class != DNS_IN || rr.section == DNS_ADDITIONAL ||
            rr.name[0] == '\0' || !dns_is_in(name, rr.name))
            continue;
        memcpy(ret, rr.name, sizeof rr.name);
        return true;
    }
    return false;
}

cm_status dns_zone_of(const struct dns_resolver *r, const struct cm_op *op, const char *name,
                      char ret[DNS_NAME_BUF], struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf answer = CM_BUF_INIT(DNS_MESSAGE_MAX);
    struct dns_message m;

    for (const char *at = name; at != NULL && *at != '\0';) {
        cm_status rc = dns_look_up(r, op, at, DNS_SOA, &answer, &m, err);
        if (rc != CM_OK)
            return cm_wrap(err, rc, "find the zone of %s", name);
        if (zone_in(&m, at, ret))
            return CM_OK;
        at = strchr(at, '.');
        if (at != NULL)
            at++;
    }
    return cm_fail(err, CM_E_NOTFOUND,
                   "no zone has the name %s: is the domain registered, and do "
                   "its name servers answer?",
                   name);
}
