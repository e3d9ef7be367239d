/* SPDX-License-Identifier: Apache-2.0 */
#include "wire.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

/* Questions: whom to ask, how often, how long to wait. */

#define RESOLV_CONF     "/etc/resolv.conf"
#define RESOLV_CONF_MAX (64u * 1024)
#define ROUNDS          3u
#define TRY_NS          (2 * CM_NS_PER_S) /* the first time around; twice as long each time after */

struct dns_resolver {
    struct dns_server servers[DNS_SERVERS_MAX];
    size_t n;
    uint16_t zone_port;
};

/* ------------------------------------------------------------------ servers */

static cm_status no_server(const char *text, struct cm_err *err)
{
    char shown[80];

    return cm_fail(err, CM_E_INVAL,
                   "DNS server '%s': give its address, ADDRESS, ADDRESS:PORT or [IPV6]:PORT",
                   cm_escape(text, strlen(text), shown, sizeof shown));
}

static bool read_port(const char *s, uint16_t *ret)
{
    unsigned v = 0;

    if (*s == '\0' || strlen(s) > 5)
        return false;
    for (; *s != '\0'; s++) {
        if (*s < '0' || *s > '9')
            return false;
        v = v * 10 + (unsigned)(*s - '0');
    }
    *ret = (uint16_t)v;
    return v >= 1 && v <= 65535;
}

static void name_server(struct dns_server *s)
{
    char text[INET6_ADDRSTRLEN] = "";

    if (s->addr.any.sa_family == AF_INET6) {
        (void)inet_ntop(AF_INET6, &s->addr.v6.sin6_addr, text, sizeof text);
        (void)snprintf(s->text, sizeof s->text, "[%s]:%u", text, ntohs(s->addr.v6.sin6_port));
    } else {
        (void)inet_ntop(AF_INET, &s->addr.v4.sin_addr, text, sizeof text);
        (void)snprintf(s->text, sizeof s->text, "%s:%u", text, ntohs(s->addr.v4.sin_port));
    }
}

static bool set_address(struct dns_server *s, char *host, uint16_t port)
{
    memset(s, 0, sizeof *s);
    if (inet_pton(AF_INET, host, &s->addr.v4.sin_addr) == 1) {
        s->addr.v4.sin_family = AF_INET;
        s->addr.v4.sin_port = htons(port);
        s->len = sizeof s->addr.v4;
        name_server(s);
        return true;
    }
    char *scope = strchr(host, '%'); /* fe80::1%eth0, as resolv.conf has it */
    if (scope != NULL) {
        *scope++ = '\0';
        s->addr.v6.sin6_scope_id = if_nametoindex(scope);
    }
    if (inet_pton(AF_INET6, host, &s->addr.v6.sin6_addr) != 1)
        return false;
    s->addr.v6.sin6_family = AF_INET6;
    s->addr.v6.sin6_port = htons(port);
    s->len = sizeof s->addr.v6;
    name_server(s);
    return true;
}

cm_status dns_server_parse(const char *text, uint16_t default_port, struct dns_server *ret,
                           struct cm_err *err)
{
    char host[80];
    uint16_t port = default_port;
    size_t len = strlen(text);
    const char *colon = NULL;
    struct dns_server s;

    if (len == 0 || len >= sizeof host)
        return no_server(text, err);
    if (text[0] == '[') {
        const char *end = strchr(text, ']');
        if (end == NULL || (end[1] != '\0' && end[1] != ':'))
            return no_server(text, err);
        colon = end[1] == ':' ? end + 1 : NULL;
        (void)snprintf(host, sizeof host, "%.*s", (int)(end - text - 1), text + 1);
    } else {
        colon = strchr(text, ':');
        if (colon != NULL && strchr(colon + 1, ':') != NULL)
            colon = NULL; /* a bare IPv6 address */
        (void)snprintf(host, sizeof host, "%.*s",
                       (int)(colon != NULL ? (size_t)(colon - text) : len), text);
    }
    if ((colon != NULL && !read_port(colon + 1, &port)) || !set_address(&s, host, port))
        return no_server(text, err);
    *ret = s;
    return CM_OK;
}

/* "nameserver ADDRESS" lines; what else is in there is for those who look up host names. */
static void read_resolv_conf(struct dns_resolver *r, char *text)
{
    char *next = text;

    while (next != NULL && r->n < DNS_SERVERS_MAX) {
        char *line = next;
        next = strchr(line, '\n');
        if (next != NULL)
            *next++ = '\0';
        line += strspn(line, " \t");
        if (strncmp(line, "nameserver", 10) != 0 || strspn(line + 10, " \t") == 0)
            continue;
        line += 10 + strspn(line + 10, " \t");
        line[strcspn(line, " \t\r#;")] = '\0';
        if (set_address(&r->servers[r->n], line, DNS_PORT))
            r->n++;
    }
}

static cm_status take_system(struct dns_resolver *r, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf text = CM_BUF_INIT(RESOLV_CONF_MAX);
    char local[] = "127.0.0.1";
    cm_status rc = cm_read_file(RESOLV_CONF, &text, err);

    if (rc != CM_OK && rc != CM_E_NOTFOUND)
        return cm_wrap(err, rc, "which DNS servers to ask");
    if (rc == CM_OK && text.len > 0)
        read_resolv_conf(r, (char *)text.data);
    if (r->n == 0 && set_address(&r->servers[0], local, DNS_PORT)) /* resolv.conf(5) */
        r->n = 1;
    return CM_OK;
}

cm_status dns_resolver_new(const struct dns_resolver_options *opts, struct dns_resolver **ret,
                           struct cm_err *err)
{
    struct dns_resolver *r = cm_calloc(1, sizeof *r);
    cm_status rc = CM_OK;

    if (r == NULL)
        return cm_fail_nomem(err);
    r->zone_port = opts->zone_port == 0 ? DNS_PORT : opts->zone_port;
    if (opts->n_servers > DNS_SERVERS_MAX)
        rc = cm_fail(err, CM_E_INVAL, "%zu DNS servers to ask; %u are the most", opts->n_servers,
                     DNS_SERVERS_MAX);
    for (size_t i = 0; rc == CM_OK && i < opts->n_servers; i++)
        rc = dns_server_parse(opts->servers[i], DNS_PORT, &r->servers[r->n++], err);
    if (rc == CM_OK && opts->n_servers == 0)
        rc = take_system(r, err);
    if (rc != CM_OK) {
        free(r);
        return rc;
    }
    *ret = r;
    return CM_OK;
}

void dns_resolver_free(struct dns_resolver *r)
{
    free(r);
}

uint16_t dns_zone_port(const struct dns_resolver *r)
{
    return r->zone_port;
}

/* ---------------------------------------------------------------- questions */

static void write_question(struct dns_writer *w, unsigned id, const char *name, enum dns_type type,
                           bool recurse)
{
    w->len = 0;
    w->bad = false;
    dns_put_u16(w, id);
    dns_put_u16(w, recurse ? DNS_RD : 0);
    dns_put_u16(w, 1);
    dns_put_u16(w, 0);
    dns_put_u16(w, 0);
    dns_put_u16(w, 1);
    dns_put_name(w, name);
    dns_put_u16(w, type);
    dns_put_u16(w, DNS_IN);
    /* EDNS, RFC 6891: how much we take by UDP */
    dns_put_name(w, "");
    dns_put_u16(w, DNS_OPT);
    dns_put_u16(w, DNS_UDP_MAX);
    dns_put_u32(w, 0);
    dns_put_u16(w, 0);
}

static cm_status ask_one(const struct dns_server *s, const struct cm_op *op, const char *name,
                         enum dns_type type, bool recurse, int64_t timeout_ns, struct cm_buf *ret,
                         struct dns_message *m, struct cm_err *err)
{
    struct dns_writer w;
    uint8_t id[2];
    char kind[16], code[16];

    cm_status rc = cm_env_random(cm_op_env(op), id, sizeof id, err);
    if (rc != CM_OK)
        return rc;
    write_question(&w, dns_get_u16(id), name, type, recurse);
    if (w.bad)
        return cm_fail(err, CM_E_INVAL, "'%s' is no name that DNS can be asked for", name);
    rc = dns_exchange(s, op, (struct cm_span){ w.data, w.len }, false, timeout_ns, ret, m, err);
    if (rc != CM_OK)
        return cm_wrap(err, rc, "%s of %s", dns_type_text(type, kind), name);
    if (DNS_RCODE(m->flags) == DNS_NOERROR || DNS_RCODE(m->flags) == DNS_NXDOMAIN)
        return CM_OK;
    return cm_fail(err, CM_E_NET, "%s of %s: DNS server %s answers %s", dns_type_text(type, kind),
                   name, s->text, dns_rcode_text(DNS_RCODE(m->flags), code));
}

cm_status dns_ask(const struct dns_server *servers, size_t n, unsigned rounds,
                  const struct cm_op *op, const char *name, enum dns_type type, bool recurse,
                  struct cm_buf *ret, struct dns_message *ret_msg, struct cm_err *err)
{
    cm_status rc = CM_E_NET;

    for (unsigned round = 0; round < rounds; round++)
        for (size_t i = 0; i < n; i++) {
            rc = ask_one(&servers[i], op, name, type, recurse, TRY_NS << round, ret, ret_msg, err);
            if (rc == CM_OK || rc == CM_E_NOMEM || rc == CM_E_INVAL ||
                cm_op_check(op, NULL) != CM_OK)
                return rc;
        }
    return rc;
}

cm_status dns_look_up(const struct dns_resolver *r, const struct cm_op *op, const char *name,
                      enum dns_type type, struct cm_buf *ret, struct dns_message *ret_msg,
                      struct cm_err *err)
{
    return dns_ask(r->servers, r->n, ROUNDS, op, name, type, true, ret, ret_msg, err);
}

/* ---------------------------------------------------------------- addresses */

static void take_addresses(const struct dns_message *m, enum dns_type type, uint16_t port,
                           struct dns_server *ret, size_t *n)
{
    struct dns_walk w = { .m = m };
    struct dns_rr rr;

    while (*n < DNS_SERVERS_MAX && dns_next(&w, &rr)) {
        if (rr.section != DNS_ANSWER || rr.type != type || rr.class != DNS_IN)
            continue;
        struct dns_server *s = &ret[(*n)++];
        memset(s, 0, sizeof *s);
        if (type == DNS_A) {
            s->addr.v4.sin_family = AF_INET;
            s->addr.v4.sin_port = htons(port);
            memcpy(&s->addr.v4.sin_addr, m->msg.data + rr.rdata, 4);
            s->len = sizeof s->addr.v4;
        } else {
            s->addr.v6.sin6_family = AF_INET6;
            s->addr.v6.sin6_port = htons(port);
            memcpy(&s->addr.v6.sin6_addr, m->msg.data + rr.rdata, 16);
            s->len = sizeof s->addr.v6;
        }
        name_server(s);
    }
}

cm_status dns_addresses(const struct dns_resolver *r, const struct cm_op *op, const char *host,
                        uint16_t port, struct dns_server ret[DNS_SERVERS_MAX], size_t *ret_n,
                        struct cm_err *err)
{
    static const enum dns_type types[] = { DNS_A, DNS_AAAA };
    CM_AUTO_BUF struct cm_buf answer = CM_BUF_INIT(DNS_MESSAGE_MAX);
    struct dns_message m;
    struct cm_err why = CM_ERR_INIT;
    cm_status rc = CM_OK, last = CM_OK;
    size_t n = 0;

    if (strchr(host, ':') != NULL || (!dns_is_name(host) && host[0] != '\0') ||
        strspn(host, "0123456789.") == strlen(host)) {
        rc = dns_server_parse(host, port, ret, err);
        if (rc == CM_OK)
            *ret_n = 1;
        return rc;
    }
    for (size_t i = 0; i < CM_ARRAY_LEN(types); i++) {
        rc = dns_look_up(r, op, host, types[i], &answer, &m, &why);
        if (rc == CM_OK)
            take_addresses(&m, types[i], port, ret, &n);
        else
            last = rc;
    }
    if (n == 0 && last != CM_OK) {
        if (err != NULL)
            *err = why;
        return last;
    }
    if (n == 0)
        return cm_fail(err, CM_E_NOTFOUND, "the host '%s' has no address", host);
    *ret_n = n;
    return CM_OK;
}
