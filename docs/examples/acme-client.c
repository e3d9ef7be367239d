/* SPDX-License-Identifier: Apache-2.0 */

/* One certificate, call by call, as the CA knows it: account, order, http-01, certificate.
 *
 *   acme-client --key ACCOUNT.pem --csr REQUEST.der [--ca URL] [--ca-root FILE] [--http PORT]
 *               [--agree] [--new-key ACCOUNT2.pem] [--revoke] [--deactivate] NAME...
 *
 * --new-key: the account is to be known by that key from then on. The chain goes to standard
 * output, what happens to standard error. --revoke gives the certificate up at once, --deactivate
 * the account: for trying things out. */

#include <certmesh/cm.h>

#include <getopt.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static struct cm_acme_client *client;
static struct cm_op op;
static struct cm_err err;

static int fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, err.msg);
    return 1;
}

/* ---------------------------------------------- answering the CA's HTTP requests */

struct answers {
    int fd;
    struct cm_cancel *stop;
};

/* Anything below the challenge's path is answered with the key authorization of its token: the CA
 * asks for none but its own. */
static void answer_one(int fd)
{
    static const char dir[] = "GET /.well-known/acme-challenge/";
    struct cm_buf body = CM_BUF_INIT(512);
    char text[4096], token[200];
    ssize_t n = recv(fd, text, sizeof text - 1, 0);

    text[n > 0 ? n : 0] = '\0';
    if (strncmp(text, dir, sizeof dir - 1) == 0 &&
        sscanf(text + sizeof dir - 1, "%199[A-Za-z0-9_-]", token) == 1 &&
        cm_acme_client_http01_response(client, token, &body, NULL) == CM_OK)
        (void)dprintf(fd, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s",
                      body.len, cm_buf_str(&body));
    cm_buf_free(&body);
}

static void *answer_all(void *arg)
{
    const struct answers *a = arg;
    struct pollfd p[2] = { { .fd = a->fd, .events = POLLIN },
                           { .fd = cm_cancel_fd(a->stop), .events = POLLIN } };

    while (poll(p, 2, -1) >= 0 && p[1].revents == 0) {
        const struct timeval patience = { .tv_sec = 10 };
        int fd = accept(a->fd, NULL, NULL);

        if (fd < 0)
            continue;
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        answer_one(fd);
        (void)close(fd);
    }
    return NULL;
}

static int listen_on(uint16_t port)
{
    struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons(port) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(fd, (struct sockaddr *)&any, sizeof any) != 0 || listen(fd, 16) != 0) {
        perror("http");
        return -1;
    }
    return fd;
}

/* ------------------------------------------------------------------- one order */

static int account(bool agree)
{
    struct cm_acme_registration reg = { .size = sizeof reg, .tos_agreed = agree };
    struct cm_acme_info info = { .size = sizeof info };
    struct cm_acme_doc *doc = NULL;
    bool created = false;
    cm_status rc = cm_acme_client_account(client, &op, &doc, &err);

    if (rc == CM_E_NOTFOUND && agree) {
        if (cm_acme_client_discover(client, &op, &info, &err) != CM_OK)
            return fail("directory");
        if (info.terms_of_service != NULL)
            fprintf(stderr, "agreed to %s\n", info.terms_of_service);
        rc = cm_acme_client_register(client, &op, &reg, &doc, &created, &err);
    }
    if (rc != CM_OK)
        return fail("account");
    fprintf(stderr, "account %s: %s\n", created ? "created" : "found",
            cm_acme_doc_text(doc, "status"));
    cm_acme_doc_free(doc);
    return 0;
}

static int authorize(const char *url)
{
    struct cm_acme_doc *authz = NULL, *valid = NULL;
    char path[64];
    int rc = 1, i;

    if (cm_acme_client_get(client, &op, url, &authz, &err) != CM_OK)
        return fail("authorization");
    i = cm_acme_doc_challenge(authz, "http-01");
    (void)snprintf(path, sizeof path, "challenges.%d.url", i);
    if (strcmp(cm_acme_doc_text(authz, "status"), CM_ACME_STATUS_VALID) == 0)
        rc = 0; /* from an order before */
    else if (i < 0)
        fprintf(stderr, "%s: the CA has no http-01\n", cm_acme_doc_text(authz, "identifier.value"));
    else if (cm_acme_client_accept(client, &op, cm_acme_doc_text(authz, path), NULL, &err) != CM_OK)
        rc = fail("challenge");
    else if (cm_acme_client_wait_authz(client, &op, url, &valid, &err) != CM_OK)
        rc = fail("validation");
    else
        rc = 0;
    if (rc == 0)
        fprintf(stderr, "authorized %s\n", cm_acme_doc_text(authz, "identifier.value"));
    cm_acme_doc_free(authz);
    cm_acme_doc_free(valid);
    return rc;
}

static int order(char **names, size_t n, struct cm_span csr, struct cm_buf *chain)
{
    struct cm_acme_id *ids = calloc(n, sizeof *ids);
    struct cm_acme_order_request req = { .size = sizeof req, .ids = ids, .n_ids = n };
    struct cm_acme_doc *doc = NULL, *ready = NULL, *valid = NULL;
    char **alternates = NULL, path[64];
    int rc = 0;

    for (size_t i = 0; ids != NULL && i < n; i++)
        ids[i] = (struct cm_acme_id){ CM_ACME_ID_DNS, names[i] };
    if (ids == NULL || cm_acme_client_order(client, &op, &req, &doc, &err) != CM_OK) {
        free(ids);
        return fail("order");
    }
    for (size_t i = 0; rc == 0 && i < cm_acme_doc_count(doc, "authorizations"); i++) {
        (void)snprintf(path, sizeof path, "authorizations.%zu", i);
        rc = authorize(cm_acme_doc_text(doc, path));
    }
    if (rc == 0 &&
        (cm_acme_client_wait_order(client, &op, cm_acme_doc_url(doc), &ready, &err) != CM_OK ||
         cm_acme_client_create_order_cert(client, &op, ready, csr, chain, &valid, &err) != CM_OK))
        rc = fail("certificate");
    if (rc == 0) {
        struct cm_buf again = CM_BUF_INIT(256 * 1024);
        size_t others = 0;

        if (cm_acme_client_fetch_cert(client, &op, cm_acme_doc_text(valid, "certificate"), &again,
                                      &alternates, &err) != CM_OK)
            rc = fail("chains");
        while (alternates != NULL && alternates[others] != NULL)
            others++;
        fprintf(stderr, "chain of %zu bytes, %zu others\n", again.len, others);
        cm_buf_free(&again);
    }
    cm_acme_urls_free(alternates);
    cm_acme_doc_free(doc);
    cm_acme_doc_free(ready);
    cm_acme_doc_free(valid);
    free(ids);
    return rc;
}

/* ------------------------------------------------------------------ the program */

static bool read_file(const char *path, struct cm_buf *out)
{
    char text[4096];
    FILE *f = path != NULL ? fopen(path, "rb") : NULL;
    bool ok = f != NULL;
    size_t n;

    while (ok && (n = fread(text, 1, sizeof text, f)) > 0)
        ok = cm_buf_append(out, text, n, &err) == CM_OK;
    if (f != NULL)
        (void)fclose(f);
    if (!ok)
        fprintf(stderr, "cannot read %s\n", path != NULL ? path : "what is not named");
    return ok;
}

static int give_back(struct cm_span pem)
{
    const gnutls_datum_t in = { (unsigned char *)(uintptr_t)pem.data, (unsigned)pem.len };
    gnutls_datum_t der;
    int rc = 0;

    if (gnutls_pem_base64_decode2("CERTIFICATE", &in, &der) < 0)
        return 1;
    if (cm_acme_client_revoke(client, &op, (struct cm_span){ NULL, 0 },
                              (struct cm_span){ der.data, der.size }, 4, &err) != CM_OK)
        rc = fail("revoke");
    else
        fprintf(stderr, "revoked\n");
    gnutls_free(der.data);
    return rc;
}

struct wishes {
    struct cm_span csr, new_key;
    bool agree, give_up, leave;
};

static int run(char **names, size_t n, const struct wishes *w)
{
    struct cm_buf chain = CM_BUF_INIT(256 * 1024);
    int rc = account(w->agree);

    if (rc == 0 && w->new_key.len > 0 &&
        cm_acme_client_key_change(client, &op, w->new_key, &err) != CM_OK)
        rc = fail("change of key");
    if (rc == 0)
        rc = order(names, n, w->csr, &chain);
    if (rc == 0)
        (void)fwrite(chain.data, 1, chain.len, stdout);
    if (rc == 0 && w->give_up)
        rc = give_back(cm_buf_span(&chain));
    if (rc == 0 && w->leave && cm_acme_client_deactivate(client, &op, &err) != CM_OK)
        rc = fail("deactivate");
    cm_buf_free(&chain);
    return rc;
}

int main(int argc, char **argv)
{
    static const struct option longs[] = {
        { "key", required_argument, NULL, 'k' },     { "csr", required_argument, NULL, 'r' },
        { "ca", required_argument, NULL, 'c' },      { "ca-root", required_argument, NULL, 't' },
        { "http", required_argument, NULL, 'h' },    { "agree", no_argument, NULL, 'a' },
        { "new-key", required_argument, NULL, 'n' }, { "revoke", no_argument, NULL, 'v' },
        { "deactivate", no_argument, NULL, 'd' },    { NULL, 0, NULL, 0 }
    };
    struct cm_acme_client_config cfg = CM_ACME_CLIENT_CONFIG_INIT;
    struct cm_buf key = CM_BUF_SECRET(64 * 1024), csr = CM_BUF_INIT(64 * 1024);
    struct cm_buf new_key = CM_BUF_SECRET(64 * 1024);
    const char *key_file = NULL, *csr_file = NULL, *new_key_file = NULL;
    struct wishes w = { .agree = false };
    struct answers answers = { -1, NULL };
    uint16_t port = 80;
    pthread_t thread;
    int rc = 1, o;

    while ((o = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        switch (o) {
        case 'k':
            key_file = optarg;
            break;
        case 'r':
            csr_file = optarg;
            break;
        case 'c':
            cfg.directory_url = optarg;
            break;
        case 't':
            cfg.ca_root_file = optarg;
            break;
        case 'h':
            port = (uint16_t)strtoul(optarg, NULL, 10);
            break;
        case 'a':
            w.agree = true;
            break;
        case 'n':
            new_key_file = optarg;
            break;
        case 'v':
            w.give_up = true;
            break;
        case 'd':
            w.leave = true;
            break;
        default:
            return 2;
        }
    }
    if (optind == argc || !read_file(key_file, &key) || !read_file(csr_file, &csr) ||
        (new_key_file != NULL && !read_file(new_key_file, &new_key)))
        return 2;
    w.csr = cm_buf_span(&csr);
    w.new_key = cm_buf_span(&new_key);
    cfg.account_key_pem = cm_buf_span(&key);
    op.deadline_ns = cm_env_system()->mono_ns(cm_env_system()) + INT64_C(120) * 1000000000;
    answers.fd = listen_on(port);
    if (cm_acme_client_new(&cfg, &client, &err) != CM_OK ||
        cm_cancel_new(NULL, &answers.stop, &err) != CM_OK) {
        rc = fail("start");
    } else if (answers.fd >= 0 && pthread_create(&thread, NULL, answer_all, &answers) == 0) {
        rc = run(argv + optind, (size_t)(argc - optind), &w);
        cm_cancel_fire(answers.stop);
        (void)pthread_join(thread, NULL);
    }
    cm_cancel_free(answers.stop);
    cm_acme_client_free(client);
    cm_buf_free(&key);
    cm_buf_free(&csr);
    cm_buf_free(&new_key);
    if (answers.fd >= 0)
        (void)close(answers.fd);
    return rc;
}
