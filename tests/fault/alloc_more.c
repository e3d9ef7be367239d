/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc.h"

#include "dns.h"
#include "pki.h"

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* Scenarios of requests that others made, of ZeroSSL's interface, of dynamic updates, and of DNS
 * providers. */

#define NAME  "alloc.test"
#define TOKEN "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"

static struct cm_op soon(void)
{
    return cm_op_within(NULL, 40 * CM_NS_PER_S);
}

/* ---- csr ---- */

static cm_status make_request(struct cm_buf *pem, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf der = CM_BUF_INIT(CM_CERT_DER_MAX);
    const char *const names[] = { NAME, "*." NAME };
    struct cm_key *key = NULL;

    cm_status rc = cm_key_generate(CM_PK_P256, &key, err);
    if (rc == CM_OK)
        rc = cm_csr_make(key, names, CM_ARRAY_LEN(names), false, &der, err);
    if (rc == CM_OK)
        rc = cm_csr_to_pem(cm_buf_span(&der), pem, err);
    cm_key_unref(key);
    return rc;
}

static struct cm_buf request =
    CM_BUF_INIT(64 * 1024); /* one for all points; reachable at the end */

cm_status alloc_csr_prepare(const struct alloc_lab *lab, struct cm_err *err)
{
    (void)lab;
    return request.len > 0 ? CM_OK : make_request(&request, err);
}

static cm_status obtain_for(const struct alloc_lab *lab, struct cm_csr_result *ret,
                            struct cm_err *err)
{
    struct cm_config_options o = CM_CONFIG_OPTIONS_INIT;
    struct cm_buf chain = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    struct cm_op op = soon();
    struct cm_config *cfg = NULL;

    o.storage = lab->store;
    o.internal = true;
    cm_status rc = cm_config_new(&o, &cfg, err);
    if (rc == CM_OK)
        rc = cm_obtain_csr(cfg, &op, cm_buf_span(&request), false, ret, &chain, err);
    cm_config_free(cfg);
    cm_buf_free(&chain);
    return rc;
}

cm_status alloc_csr(const struct alloc_lab *lab, struct cm_err *err)
{
    struct cm_csr_result got = { .size = sizeof got };

    return obtain_for(lab, &got, err);
}

/* Whatever was stored, the next one has it, and the one after that orders nothing. */
cm_status alloc_csr_check(const struct alloc_lab *lab, struct cm_err *err)
{
    struct cm_csr_result got = { .size = sizeof got };
    cm_status rc = alloc_csr(lab, err);

    if (rc == CM_OK)
        rc = obtain_for(lab, &got, err);
    return rc == CM_OK && !got.already_there ? cm_fail(err, CM_E_STATE, "ordered twice") : rc;
}

/* ---- zerossl: who plays it is at the directory URL, with its key beside its root ---- */

cm_status alloc_zerossl(const struct alloc_lab *lab, struct cm_err *err)
{
    struct cm_zerossl_options z = { .size = sizeof z };
    struct cm_config_options o = CM_CONFIG_OPTIONS_INIT;
    struct cm_op op = soon();
    struct cm_issuer *issuer = NULL;
    struct cm_config *cfg = NULL;
    const char *const name = NAME;
    char key_file[600];

    (void)snprintf(key_file, sizeof key_file, "%.*s/key",
                   (int)(strrchr(lab->ca_root, '/') - lab->ca_root), lab->ca_root);
    z.access_key_file = key_file;
    z.api_url = lab->directory_url;
    z.ca_root_file = lab->ca_root;
    cm_status rc = cm_zerossl_issuer_new(&z, &issuer, err);
    if (rc != CM_OK)
        return rc;
    o.storage = lab->store;
    o.listen_host = "127.0.0.1";
    o.http_port = lab->http_port;
    o.issuers = &issuer;
    o.n_issuers = 1;
    rc = cm_config_new(&o, &cfg, err);
    if (rc != CM_OK) {
        cm_issuer_destroy(issuer);
        return rc;
    }
    rc = cm_obtain(cfg, &op, &name, 1, NULL, err);
    cm_config_free(cfg);
    return rc;
}

/* ---- rfc2136: a server that says yes to all ---- */

struct yes {
    int fd, stop[2];
    pthread_t thread;
};

/* Nothing of it goes through our allocation, and it needs no parser: a header turned around is an
 * answer to an update, unsigned; so the key is left out, and TSIG is its own scenario. */
static void *yes_main(void *arg)
{
    struct yes *y = arg;
    struct pollfd p[2] = { { y->fd, POLLIN, 0 }, { y->stop[0], POLLIN, 0 } };
    uint8_t data[2048];

    while (poll(p, 2, -1) > 0 && p[1].revents == 0) {
        struct sockaddr_in peer;
        socklen_t len = sizeof peer;
        ssize_t n = recvfrom(y->fd, data, sizeof data, 0, (struct sockaddr *)&peer, &len);

        if (n < 12)
            continue;
        data[2] |= 0x80;
        memset(data + 4, 0, 8);
        (void)!sendto(y->fd, data, 12, 0, (struct sockaddr *)&peer, len);
    }
    return NULL;
}

static void yes_begin(struct yes *y, char *text, size_t size)
{
    struct sockaddr_in a = { .sin_family = AF_INET };
    socklen_t len = sizeof a;

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    y->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    CM_ASSERT(y->fd >= 0 && bind(y->fd, (struct sockaddr *)&a, sizeof a) == 0);
    CM_ASSERT(getsockname(y->fd, (struct sockaddr *)&a, &len) == 0);
    CM_ASSERT(pipe(y->stop) == 0);
    CM_ASSERT(pthread_create(&y->thread, NULL, yes_main, y) == 0);
    (void)snprintf(text, size, "127.0.0.1:%u", ntohs(a.sin_port));
}

static void yes_end(struct yes *y)
{
    CM_ASSERT(write(y->stop[1], "x", 1) == 1);
    CM_ASSERT(pthread_join(y->thread, NULL) == 0);
    (void)close(y->stop[0]);
    (void)close(y->stop[1]);
    (void)close(y->fd);
}

static cm_status update_twice(const char *server, struct cm_err *err)
{
    struct dns_update u = {
        .zone = "alloc.test", .name = "_acme-challenge." NAME, .value = "v", .ttl = 60
    };
    struct cm_op op = soon();
    struct dns_server s;

    cm_status rc = dns_server_parse(server, DNS_PORT, &s, err);
    if (rc == CM_OK)
        rc = dns_update(&s, &op, NULL, &u, err);
    u.remove = true;
    return rc == CM_OK ? dns_update(&s, &op, NULL, &u, err) : rc;
}

/* A provider is opened, with its key; what it signs is answered unsigned, which must be refused. */
static cm_status signed_update(const char *server, const char *root, struct cm_err *err)
{
    const struct cm_dns_record rec = { .size = sizeof rec,
                                       .zone = "alloc.test",
                                       .fqdn = "_acme-challenge." NAME,
                                       .type = "TXT",
                                       .value = "v",
                                       .ttl = 60,
                                       .ident = NAME,
                                       .challenge_name = "_acme-challenge." NAME,
                                       .token = "t",
                                       .key_authorization = "t.k" };
    struct cm_dns_provider *p = NULL;
    struct cm_err why = CM_ERR_INIT;
    struct cm_op op = soon();
    char spec[700];

    (void)snprintf(spec, sizeof spec, "rfc2136://%s/?key-file=%s/tsig.key", server, root);
    cm_status rc = cm_dns_provider_open(spec, NULL, &p, err);
    if (rc != CM_OK)
        return rc;
    rc = cm_dns_provider_append(p, &op, &rec, &why);
    cm_dns_provider_close(p);
    if (rc == CM_OK)
        return cm_fail(err, CM_E_STATE, "an unsigned answer was believed");
    if (rc == CM_E_NOMEM && err != NULL)
        *err = why;
    return rc == CM_E_NOMEM ? rc : CM_OK;
}

cm_status alloc_rfc2136_prepare(const struct alloc_lab *lab, struct cm_err *err)
{
    static const char key[] = "key \"k\" { algorithm hmac-sha256; secret "
                              "\"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\"; };\n";
    char path[600];
    FILE *f;

    (void)snprintf(path, sizeof path, "%s/tsig.key", lab->root);
    if (access(path, F_OK) == 0)
        return CM_OK;
    f = fopen(path, "w");
    if (f == NULL || fputs(key, f) < 0 || fclose(f) != 0 || chmod(path, 0600) != 0)
        return cm_fail_errno(err, "%s", path);
    return CM_OK;
}

cm_status alloc_rfc2136(const struct alloc_lab *lab, struct cm_err *err)
{
    struct yes y;
    char server[32];

    yes_begin(&y, server, sizeof server);
    cm_status rc = update_twice(server, err);
    if (rc == CM_OK)
        rc = signed_update(server, lab->root, err);
    yes_end(&y);
    return rc;
}

/* ---- DNS providers: a program is run, the others are opened ---- */

cm_status alloc_dns_providers(const struct alloc_lab *lab, struct cm_err *err)
{
    const struct cm_dns_record rec = { .size = sizeof rec,
                                       .zone = "alloc.test",
                                       .fqdn = "_acme-challenge." NAME,
                                       .type = "TXT",
                                       .value = TOKEN,
                                       .ttl = 60,
                                       .ident = NAME,
                                       .challenge_name = "_acme-challenge." NAME,
                                       .token = TOKEN,
                                       .key_authorization = TOKEN "." TOKEN };
    struct cm_dns_provider *p = NULL;
    struct cm_op op = soon();
    char accounts[560];
    cm_status rc = cm_dns_provider_open("exec:/bin/echo?style=dehydrated&env=PATH", NULL, &p, err);

    if (rc == CM_OK)
        rc = cm_dns_provider_append(p, &op, &rec, err);
    if (rc == CM_OK)
        rc = cm_dns_provider_remove(p, &op, &rec, err);
    cm_dns_provider_close(p);
    p = NULL;
    (void)setenv("CF_DNS_API_TOKEN", "token", 1);
    if (rc == CM_OK)
        rc = cm_dns_provider_open("cloudflare:?zone-id=1", NULL, &p, err);
    cm_dns_provider_close(p);
    p = NULL;
    (void)snprintf(accounts, sizeof accounts,
                   "acme-dns:https://auth.test?accounts=%s/none&register=yes", lab->root);
    if (rc == CM_OK)
        rc = cm_dns_provider_open(accounts, NULL, &p, err);
    cm_dns_provider_close(p);
    return rc;
}
