/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc.h"

#include "pki.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

/* Scenarios of an order by dns-01 with a provider in this process, and of a source of certificates.
 * Provider and source allocate nothing by our seam, so that what fails is never theirs. */

#define NAME "alloc.test"

static struct cm_op soon(void)
{
    return cm_op_within(NULL, 40 * CM_NS_PER_S);
}

/* ---- dns-01 ----
 *
 * The records are put up at the DNS server of the lab, whose management is at port CM_ALLOC_CT of
 * this host; it answers at CM_ALLOC_DNS. */

#define UP_MAX 64

struct provider {
    struct cm_dns_provider base;
    pthread_mutex_t lock;
    char up[UP_MAX][80]; /* values; "" is a free place */
};

/* By hand, as what fetches for us is ours. True for status 200. */
static bool post(const char *path, const char *host, const char *value)
{
    const struct timeval limit = { .tv_sec = 20 };
    struct sockaddr_in a = { .sin_family = AF_INET };
    const char *port = getenv("CM_ALLOC_CT");
    char body[400], text[700], answer[64] = "";
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    CM_ASSERT(fd >= 0 && port != NULL);
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    a.sin_port = htons((uint16_t)strtoul(port, NULL, 10));
    (void)snprintf(body, sizeof body, "{\"host\":\"%s.\",\"value\":\"%s\"}", host, value);
    (void)snprintf(text, sizeof text,
                   "POST %s HTTP/1.0\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n%s", path,
                   strlen(body), body);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    bool ok = connect(fd, (struct sockaddr *)&a, sizeof a) == 0 &&
              write(fd, text, strlen(text)) == (ssize_t)strlen(text) &&
              read(fd, answer, sizeof answer - 1) > 12 && strncmp(answer + 9, "200", 3) == 0;
    (void)close(fd);
    return ok;
}

/* The place of @value, NULL if there is none. */
static char *place(struct provider *p, const char *value)
{
    for (size_t i = 0; i < UP_MAX; i++)
        if (strcmp(p->up[i], value) == 0)
            return p->up[i];
    return NULL;
}

static cm_status append(struct cm_dns_provider *base, const struct cm_op *op,
                        const struct cm_dns_record *rec, struct cm_err *err)
{
    struct provider *p = CM_CONTAINER_OF(base, struct provider, base);

    (void)op;
    cm_mutex_lock(&p->lock);
    char *at = place(p, rec->value);
    if (at == NULL)
        at = place(p, "");
    CM_ASSERT(at != NULL);
    (void)snprintf(at, sizeof p->up[0], "%s", rec->value);
    cm_mutex_unlock(&p->lock);
    return post("/set-txt", rec->fqdn, rec->value)
               ? CM_OK
               : cm_fail(err, CM_E_NET, "not put up: %s", rec->fqdn);
}

static cm_status take_down(struct cm_dns_provider *base, const struct cm_op *op,
                           const struct cm_dns_record *rec, struct cm_err *err)
{
    struct provider *p = CM_CONTAINER_OF(base, struct provider, base);

    (void)op;
    if (!post("/clear-txt", rec->fqdn, rec->value))
        return cm_fail(err, CM_E_NET, "not taken down: %s", rec->fqdn);
    cm_mutex_lock(&p->lock);
    char *at = place(p, rec->value);
    if (at != NULL)
        at[0] = '\0';
    cm_mutex_unlock(&p->lock);
    return CM_OK;
}

static const char *describe(struct cm_dns_provider *p)
{
    (void)p;
    return "lab:";
}

static void destroy(struct cm_dns_provider *p)
{
    (void)p;
}

static const struct cm_dns_provider_ops provider_ops = { .abi = CM_SPI_ABI,
                                                         .size = sizeof provider_ops,
                                                         .name = "lab",
                                                         .append = append,
                                                         .remove = take_down,
                                                         .describe = describe,
                                                         .destroy = destroy };
static struct provider provider = { .base = { &provider_ops }, .lock = PTHREAD_MUTEX_INITIALIZER };

static cm_status dns_config(const struct alloc_lab *lab, struct cm_config **ret, struct cm_err *err)
{
    struct cm_config_options o = CM_CONFIG_OPTIONS_INIT;
    struct cm_dns_options dns = CM_DNS_OPTIONS_INIT;
    const char *resolver = getenv("CM_ALLOC_DNS");

    dns.provider_object = &provider.base;
    dns.resolvers = &resolver;
    dns.n_resolvers = 1;
    dns.no_check = true; /* that server knows of no zones */
    o.storage = lab->store;
    o.acme.directory_url = lab->directory_url;
    o.acme.ca_root_file = lab->ca_root;
    o.acme.agreed = true;
    o.acme.email = "ops@a.test";
    o.acme.dns = &dns;
    return cm_config_new(&o, ret, err);
}

cm_status alloc_dns01(const struct alloc_lab *lab, struct cm_err *err)
{
    const char *const name = NAME;
    struct cm_config *cfg = NULL;
    struct cm_op op = soon();

    cm_status rc = dns_config(lab, &cfg, err);
    if (rc == CM_OK)
        rc = cm_obtain(cfg, &op, &name, 1, NULL, err);
    cm_config_free(cfg);
    return rc;
}

/* The next one has the certificate, and whatever stayed up can be taken down: it was noted. */
cm_status alloc_dns01_check(const struct alloc_lab *lab, struct cm_err *err)
{
    struct cm_config *cfg = NULL;
    struct cm_cert *cert = NULL;
    struct cm_op op = soon();
    size_t left = 0;

    cm_status rc = alloc_dns01(lab, err);
    if (rc == CM_OK)
        rc = dns_config(lab, &cfg, err);
    if (rc == CM_OK)
        rc = cm_load_stored(cfg, &op, NAME, &cert, err);
    if (rc == CM_OK)
        rc = cm_dns_sweep(cfg, &op, false, &left, err);
    cm_cert_unref(cert);
    cm_config_free(cfg);
    for (size_t i = 0; rc == CM_OK && i < UP_MAX; i++)
        if (provider.up[i][0] != '\0')
            rc = cm_fail(err, CM_E_STATE, "the record '%s' is still up", provider.up[i]);
    return rc == CM_OK && left > 0 ? cm_fail(err, CM_E_STATE, "%zu notes are left", left) : rc;
}

/* ---- a source of certificates ---- */

static struct cm_buf chain = CM_BUF_INIT(CM_CHAIN_PEM_MAX); /* what it has; for all points */
static struct cm_buf key = CM_BUF_SECRET(CM_KEY_PEM_MAX);

static void give(struct cm_cert_source *src, const struct cm_source_ask *ask,
                 struct cm_source_question *q)
{
    struct cm_source_found found = CM_SOURCE_FOUND_INIT;

    (void)src;
    (void)ask;
    found.chain_pem = cm_buf_span(&chain);
    found.key_pem = cm_buf_span(&key);
    cm_source_answer(q, CM_OK, &found, NULL);
}

static const struct cm_cert_source_ops source_ops = {
    .abi = CM_SPI_ABI, .size = sizeof source_ops, .name = "shelf", .get = give
};
static struct cm_cert_source shelf = { &source_ops };

/* Somebody else's certificate. */
cm_status alloc_source_prepare(const struct alloc_lab *lab, struct cm_err *err)
{
    struct cm_config_options o = CM_CONFIG_OPTIONS_INIT;
    const char *const name = NAME;
    struct cm_config *cfg = NULL;
    struct cm_op op = soon();

    if (chain.len > 0)
        return CM_OK;
    o.storage = lab->store;
    o.internal = true;
    cm_status rc = cm_config_new(&o, &cfg, err);
    if (rc == CM_OK)
        rc = cm_obtain(cfg, &op, &name, 1, NULL, err);
    if (rc == CM_OK)
        rc = cm_storage_load(cm_config_storage(cfg), &op,
                             "certificates/certmesh-local/" NAME "/" NAME ".key", &key, err);
    if (rc == CM_OK)
        rc = cm_storage_load(cm_config_storage(cfg), &op,
                             "certificates/certmesh-local/" NAME "/" NAME ".crt", &chain, err);
    cm_config_free(cfg);
    return rc;
}

static cm_status ask(struct cm_config *cfg, struct cm_err *err)
{
    const struct cm_hello hello = { .server_name = NAME, .peer_ip = "192.0.2.1" };
    struct cm_op op = soon();
    struct cm_pending *p = NULL;
    struct cm_cert *cert = NULL;

    cm_status rc = cm_get_certificate(cfg, &hello, &cert, &p, err);
    if (rc == CM_E_AGAIN)
        rc = cm_pending_wait(p, &op, &cert, err);
    cm_pending_free(p);
    cm_cert_unref(cert);
    return rc;
}

/* Nobody else would give one: without the source it is a no. */
cm_status alloc_source(const struct alloc_lab *lab, struct cm_err *err)
{
    struct cm_ondemand_options od = CM_ONDEMAND_OPTIONS_INIT;
    struct cm_config_options o = CM_CONFIG_OPTIONS_INIT;
    struct cm_config *cfg = NULL;

    od.source = &shelf;
    o.storage = lab->store;
    o.internal = true;
    o.on_demand = &od;
    cm_status rc = cm_config_new(&o, &cfg, err);
    if (rc == CM_OK)
        rc = ask(cfg, err);
    if (rc == CM_OK)
        rc = ask(cfg, err); /* a hit */
    cm_config_free(cfg);
    return rc;
}
