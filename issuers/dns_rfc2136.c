/* SPDX-License-Identifier: Apache-2.0 */
#include "dns_provider.h"

#include "dns.h"

#include <stdio.h>
#include <string.h>

/* rfc2136://SERVER[:PORT]/?key-file=FILE&zone=ZONE: dynamic updates to the primary server of the
 * zone, signed with a TSIG key. */

#define SERVER_MAX 300u

struct rfc2136 {
    struct cm_dns_provider base;
    char *host; /* address, or a name that is looked up each time */
    uint16_t port;
    char *zone; /* NULL: as the record says, or as the server does */
    struct dns_key *key;
    char *text;
};

static struct rfc2136 *self(struct cm_dns_provider *p)
{
    return CM_CONTAINER_OF(p, struct rfc2136, base);
}

static cm_status addresses(const struct rfc2136 *p, const struct cm_op *op,
                           struct dns_server servers[DNS_SERVERS_MAX], size_t *n,
                           struct cm_err *err)
{
    const struct dns_resolver_options o = { .n_servers = 0 };
    struct dns_resolver *r = NULL;

    if (dns_server_parse(p->host, p->port, &servers[0], NULL) == CM_OK) {
        *n = 1;
        return CM_OK;
    }
    cm_status rc = dns_resolver_new(&o, &r, err);
    if (rc == CM_OK)
        rc = dns_addresses(r, op, p->host, p->port, servers, n, err);
    dns_resolver_free(r);
    return rc;
}

/* The server that keeps the zone knows best where it begins. */
static cm_status find_zone(const struct rfc2136 *p, const struct cm_op *op,
                           const struct dns_server *server, const struct cm_dns_record *rec,
                           char ret[DNS_NAME_BUF], struct cm_err *err)
{
    const char *const text = server->text;
    const struct dns_resolver_options o = { .servers = &text, .n_servers = 1 };
    const char *known = p->zone != NULL ? p->zone : rec->zone;
    struct dns_resolver *r = NULL;
    size_t len = known == NULL ? 0 : strlen(known);

    if (len >= DNS_NAME_BUF)
        return cm_fail(err, CM_E_INVAL, "zone '%.80s...' is too long", known);
    if (known != NULL) {
        memcpy(ret, known, len + 1);
        return CM_OK;
    }
    cm_status rc = dns_resolver_new(&o, &r, err);
    if (rc == CM_OK)
        rc = dns_zone_of(r, op, rec->fqdn, ret, err);
    dns_resolver_free(r);
    return rc;
}

static cm_status change(struct cm_dns_provider *provider, const struct cm_op *op,
                        const struct cm_dns_record *rec, bool remove, struct cm_err *err)
{
    const struct rfc2136 *p = self(provider);
    struct dns_server servers[DNS_SERVERS_MAX];
    char zone[DNS_NAME_BUF];
    size_t n = 0;
    struct dns_update u = {
        .zone = zone, .name = rec->fqdn, .value = rec->value, .ttl = rec->ttl, .remove = remove
    };

    cm_status rc = addresses(p, op, servers, &n, err);
    for (size_t i = 0; i < n; i++) {
        rc = find_zone(p, op, &servers[i], rec, zone, err);
        if (rc == CM_OK)
            rc = dns_update(&servers[i], op, p->key, &u, err);
        if ((rc != CM_E_NET && rc != CM_E_TIMEOUT) || cm_op_check(op, NULL) != CM_OK)
            break;
    }
    return rc;
}

static cm_status append(struct cm_dns_provider *p, const struct cm_op *op,
                        const struct cm_dns_record *rec, struct cm_err *err)
{
    return change(p, op, rec, false, err);
}

static cm_status take_down(struct cm_dns_provider *p, const struct cm_op *op,
                           const struct cm_dns_record *rec, struct cm_err *err)
{
    return change(p, op, rec, true, err);
}

static const char *describe(struct cm_dns_provider *p)
{
    return self(p)->text;
}

static void destroy(struct cm_dns_provider *provider)
{
    struct rfc2136 *p = self(provider);

    free(p->host);
    free(p->zone);
    free(p->text);
    dns_key_free(p->key);
    free(p);
}

static const struct cm_dns_provider_ops ops = {
    .abi = CM_SPI_ABI,
    .size = sizeof(struct cm_dns_provider_ops),
    .name = "rfc2136",
    .append = append,
    .remove = take_down,
    .describe = describe,
    .destroy = destroy,
};

/* ------------------------------------------------------------------ options */

static cm_status take_zone(struct rfc2136 *p, char *zone, struct cm_err *err)
{
    size_t len = strlen(zone);

    if (len > 0 && zone[len - 1] == '.')
        zone[len - 1] = '\0';
    for (char *c = zone; *c != '\0'; c++)
        if (*c >= 'A' && *c <= 'Z')
            *c = (char)(*c - 'A' + 'a');
    p->zone = cm_strdup(zone);
    return p->zone == NULL ? cm_fail_nomem(err) : CM_OK;
}

/* "HOST", "HOST:PORT", "V4", "[V6]:PORT" */
static cm_status take_server(struct rfc2136 *p, const char *s, size_t len, struct cm_err *err)
{
    char text[SERVER_MAX], probe[SERVER_MAX + 16];
    struct dns_server numbers;
    const char *colon = NULL;

    if (len == 0 || len >= sizeof text)
        return cm_fail(err, CM_E_INVAL, "no server: rfc2136://SERVER[:PORT]/?key-file=FILE");
    memcpy(text, s, len);
    text[len] = '\0';
    p->text = cm_asprintf("rfc2136://%s", text);
    if (p->text == NULL)
        return cm_fail_nomem(err);
    if (text[0] != '[')
        colon = strchr(text, ':');
    /* Whatever the host, its port is read with one that is an address. */
    (void)snprintf(probe, sizeof probe, "%s%s", text[0] == '[' ? text : "192.0.2.1",
                   text[0] != '[' && colon != NULL ? colon : "");
    cm_status rc = dns_server_parse(probe, DNS_PORT, &numbers, err);
    if (rc != CM_OK)
        return rc;
    p->port = ntohs(numbers.addr.any.sa_family == AF_INET6 ? numbers.addr.v6.sin6_port
                                                           : numbers.addr.v4.sin_port);
    if (text[0] == '[')
        p->host = cm_strndup(text + 1, strcspn(text + 1, "]"));
    else
        p->host = cm_strndup(text, colon == NULL ? len : (size_t)(colon - text));
    if (p->host == NULL)
        return cm_fail_nomem(err);
    for (char *c = p->host; *c != '\0'; c++)
        if (*c >= 'A' && *c <= 'Z')
            *c = (char)(*c - 'A' + 'a');
    return CM_OK;
}

static cm_status take(struct rfc2136 *p, const char *rest, struct cm_err *err)
{
    char *key_file = NULL, *zone = NULL;
    const struct dns_param known[] = { { "key-file", &key_file }, { "zone", &zone } };

    if (strncmp(rest, "//", 2) != 0)
        return cm_fail(err, CM_E_INVAL, "write rfc2136://SERVER[:PORT]/?key-file=FILE");
    rest += 2;
    size_t len = strcspn(rest, "/?");
    const char *query = rest + len + (rest[len] == '/' ? 1 : 0);
    cm_status rc = take_server(p, rest, len, err);
    if (rc == CM_OK && *query != '\0' && *query != '?')
        rc = cm_fail(err, CM_E_INVAL, "nothing may stand between the server and '?'");
    if (rc == CM_OK && *query == '?')
        rc = dns_read_params(query + 1, known, CM_ARRAY_LEN(known), err);
    if (rc == CM_OK && zone != NULL)
        rc = take_zone(p, zone, err);
    if (rc == CM_OK && key_file != NULL)
        rc = dns_key_load(key_file, &p->key, err);
    if (rc == CM_OK && key_file == NULL)
        rc =
            cm_fail(err, CM_E_INVAL, "key-file= is missing: the TSIG key, as tsig-keygen makes it");
    free(key_file);
    free(zone);
    return rc;
}

cm_status dns_rfc2136_open(const char *rest, const struct cm_dns_provider_options *opts,
                           struct cm_dns_provider **ret, struct cm_err *err)
{
    struct rfc2136 *p = cm_calloc(1, sizeof *p);

    (void)opts;
    if (p == NULL)
        return cm_fail_nomem(err);
    p->base.ops = &ops;
    cm_status rc = take(p, rest, err);
    if (rc != CM_OK) {
        destroy(&p->base);
        return rc;
    }
    *ret = &p->base;
    return CM_OK;
}
