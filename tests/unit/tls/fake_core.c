/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_core.h"

#include <stdio.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

struct cm_cert {
    atomic_int refs;
    struct cm_span der[2];
    struct cm_buf bytes[2];
    size_t n;
    struct cm_key *key;
    bool challenge;
    struct cm_attachment *_Atomic attached;
    struct cm_staple *_Atomic staple;
};

struct cm_staple {
    atomic_int refs;
    int64_t end_s;
    size_t len;
    uint8_t der[];
};

struct cm_pending {
    struct cm_config *cfg;
    const struct fake_name *entry;
    int fd;
};

static atomic_uint certs_alive;

static void must(cm_status rc, const char *what)
{
    if (rc == CM_OK)
        return;
    (void)fprintf(stderr, "fake core: %s: %s\n", what, cm_status_name(rc));
    abort();
}

/* ----------------------------------------------------------------- certificates */

struct cm_cert *cm_cert_ref(struct cm_cert *c)
{
    atomic_fetch_add(&c->refs, 1);
    return c;
}

void cm_cert_unref(struct cm_cert *c)
{
    struct cm_attachment *a, *next;

    if (c == NULL || atomic_fetch_sub(&c->refs, 1) != 1)
        return;
    for (a = atomic_load(&c->attached); a != NULL; a = next) {
        next = a->next;
        a->destroy(a);
    }
    cm_staple_unref(atomic_load(&c->staple));
    cm_key_unref(c->key);
    cm_buf_free(&c->bytes[0]);
    cm_buf_free(&c->bytes[1]);
    free(c);
    atomic_fetch_sub(&certs_alive, 1);
}

unsigned fake_certs_alive(void)
{
    return atomic_load(&certs_alive);
}

struct cm_span cm_cert_der(const struct cm_cert *c, size_t i)
{
    return i < c->n ? c->der[i] : (struct cm_span){ NULL, 0 };
}

size_t cm_cert_chain_len(const struct cm_cert *c)
{
    return c->n;
}

cm_status cm_cert_key(const struct cm_cert *c, struct cm_key **ret, struct cm_err *err)
{
    (void)err;
    *ret = cm_key_ref(c->key);
    return CM_OK;
}

bool cm_cert_key_is_away(const struct cm_cert *c, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf der = CM_BUF_SECRET(CM_KEY_PEM_MAX);

    return cm_key_to_der(c->key, &der, NULL) == CM_OK && cm_key_is_away(cm_buf_span(&der), err);
}

bool cm_cert_is_challenge(const struct cm_cert *c)
{
    return c->challenge;
}

struct cm_attachment *cm_cert_attached(const struct cm_cert *c, const void *owner)
{
    struct cm_attachment *a = atomic_load(&c->attached);

    while (a != NULL && a->owner != owner)
        a = a->next;
    return a;
}

struct cm_attachment *cm_cert_attach(struct cm_cert *c, struct cm_attachment *a)
{
    struct cm_attachment *head = atomic_load(&c->attached);

    do {
        struct cm_attachment *kept = cm_cert_attached(c, a->owner);

        if (kept != NULL)
            return kept;
        a->next = head;
    } while (!atomic_compare_exchange_strong(&c->attached, &head, a));
    return a;
}

cm_status cm_cert_key_der(const struct cm_cert *c, struct cm_buf *ret, struct cm_err *err)
{
    return cm_key_to_der(c->key, ret, err);
}

/* -------------------------------------------------------------------- staples */

void fake_staple(struct fake_name *e, struct cm_span der, int64_t end_s)
{
    struct cm_staple *s = cm_calloc(1, sizeof *s + der.len);

    if (s == NULL)
        abort();
    atomic_init(&s->refs, 1);
    s->end_s = end_s;
    s->len = der.len;
    memcpy(s->der, der.data, der.len);
    cm_staple_unref(atomic_exchange(&e->cert->staple, s));
}

int fake_staple_refs(const struct fake_name *e)
{
    return atomic_load(&atomic_load(&e->cert->staple)->refs);
}

struct cm_staple *cm_cert_staple(const struct cm_cert *c)
{
    struct cm_staple *s = atomic_load(&c->staple);

    if (s != NULL)
        atomic_fetch_add(&s->refs, 1);
    return s;
}

struct cm_span cm_staple_der(const struct cm_staple *s)
{
    return (struct cm_span){ s->der, s->len };
}

int64_t cm_staple_end_s(const struct cm_staple *s)
{
    return s->end_s;
}

void cm_staple_unref(struct cm_staple *s)
{
    if (s != NULL && atomic_fetch_sub(&s->refs, 1) == 1)
        free(s);
}

static struct cm_cert *cert_new(void)
{
    struct cm_cert *c = cm_calloc(1, sizeof *c);

    if (c == NULL)
        abort();
    atomic_init(&c->refs, 1);
    c->bytes[0].max = c->bytes[1].max = CM_CERT_DER_MAX;
    atomic_fetch_add(&certs_alive, 1);
    return c;
}

static struct cm_cert *cert_make(struct cm_config *cfg, const char *name, struct cm_key *key)
{
    struct cm_buf csr = CM_BUF_INIT(CM_CERT_DER_MAX);
    struct cm_cert *c = cert_new();
    int64_t now = cm_env_wall_s(cm_env_system());

    c->key = key;
    must(cm_csr_make(c->key, &name, 1, false, &csr, NULL), "CSR");
    must(cm_ca_sign_csr(cfg->ca_key, cm_buf_span(&cfg->ca_der), cm_buf_span(&csr), &name, 1, now,
                        3600, &c->bytes[0], NULL),
         "leaf");
    must(cm_buf_append(&c->bytes[1], cfg->ca_der.data, cfg->ca_der.len, NULL), "chain");
    c->der[0] = cm_buf_span(&c->bytes[0]);
    c->der[1] = cm_buf_span(&c->bytes[1]);
    c->n = 2;
    cm_buf_free(&csr);
    return c;
}

/* ----------------------------------------------------------------------- config */

void fake_ticket_keys(struct cm_config *cfg, uint8_t (*keys)[CM_TICKET_KEY_LEN], size_t n)
{
    struct cm_ticket_set *s = cm_calloc(1, sizeof *s);

    if (s == NULL)
        abort();
    atomic_init(&s->refs, 1);
    s->n = n;
    memcpy(s->key, keys, n * sizeof keys[0]);
    cm_ticket_set_unref(cfg->tickets);
    cfg->tickets = s;
}

struct cm_config *fake_config(void)
{
    struct cm_config *cfg = cm_calloc(1, sizeof *cfg);

    if (cfg == NULL)
        abort();
    cfg->ca_der.max = CM_CERT_DER_MAX;
    cfg->wait_ns = 8 * CM_NS_PER_S;
    uint8_t key[1][CM_TICKET_KEY_LEN];
    must(cm_env_random(NULL, key[0], sizeof key[0], NULL), "ticket key");
    fake_ticket_keys(cfg, key, 1);
    must(cm_ca_make_root("fake root", cm_env_wall_s(cm_env_system()), 2, &cfg->ca_key, &cfg->ca_der,
                         NULL),
         "root");
    return cfg;
}

void fake_config_drop(struct cm_config *cfg)
{
    if (cfg == NULL)
        return;
    for (size_t i = 0; i < cfg->n_names; i++)
        cm_cert_unref(cfg->names[i].cert);
    cm_key_unref(cfg->ca_key);
    cm_buf_free(&cfg->ca_der);
    cm_ticket_set_unref(cfg->tickets);
    free(cfg);
}

struct fake_name *fake_add_refusal(struct cm_config *cfg, const char *name, cm_status rc, int alert)
{
    struct fake_name *e = &cfg->names[cfg->n_names];

    CM_ASSERT(cfg->n_names < CM_ARRAY_LEN(cfg->names));
    cfg->n_names++;
    *e = (struct fake_name){ .name = name, .rc = rc, .alert = alert };
    return e;
}

struct fake_name *fake_add_key(struct cm_config *cfg, const char *name, struct cm_key *key)
{
    struct fake_name *e = fake_add_refusal(cfg, name, CM_OK, 0);

    e->cert = cert_make(cfg, name[0] == '\0' ? "no-name.test" : name, cm_key_ref(key));
    return e;
}

struct fake_name *fake_add(struct cm_config *cfg, const char *name, enum cm_pk type)
{
    struct cm_key *key = NULL;

    must(cm_key_generate(type, &key, NULL), "key");
    struct fake_name *e = fake_add_key(cfg, name, key);
    cm_key_unref(key);
    return e;
}

struct fake_name *fake_add_challenge(struct cm_config *cfg, const char *name)
{
    struct fake_name *e = fake_add_refusal(cfg, name, CM_OK, 0);
    struct cm_cert *c = cert_new();

    must(cm_tlsalpn_make(name, "token.thumbprint", cm_env_wall_s(cm_env_system()), &c->bytes[0],
                         &c->key, NULL),
         "challenge certificate");
    c->der[0] = cm_buf_span(&c->bytes[0]);
    c->n = 1;
    c->challenge = true;
    e->cert = c;
    e->challenge = true;
    return e;
}

void fake_write_root(struct cm_config *cfg, const char *path)
{
    struct cm_buf pem = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    FILE *f = fopen(path, "w");

    must(cm_cert_der_to_pem(cm_buf_span(&cfg->ca_der), &pem, NULL), "root PEM");
    if (f == NULL || fwrite(pem.data, 1, pem.len, f) != pem.len || fclose(f) != 0)
        abort();
    cm_buf_free(&pem);
}

const char *cm_config_priority(const struct cm_config *cfg)
{
    return cfg->priority;
}

bool cm_config_tickets(const struct cm_config *cfg)
{
    return !cfg->no_tickets;
}

struct cm_ticket_set *cm_config_ticket_set(struct cm_config *cfg)
{
    atomic_fetch_add(&cfg->tickets->refs, 1);
    return cfg->tickets;
}

void cm_ticket_set_unref(struct cm_ticket_set *s)
{
    struct cm_ticket_derived *derived;

    if (s == NULL || atomic_fetch_sub(&s->refs, 1) != 1)
        return;
    derived = atomic_load(&s->derived);
    if (derived != NULL)
        derived->destroy(derived);
    free(s);
}

cm_status cm_config_ticket_keys(struct cm_config *cfg, const char *purpose,
                                uint8_t ret[CM_TICKET_KEYS][CM_TICKET_KEY_LEN], size_t *ret_n,
                                struct cm_err *err)
{
    (void)purpose;
    (void)err;
    memcpy(ret, cfg->tickets->key, sizeof cfg->tickets->key);
    *ret_n = cfg->tickets->n;
    return CM_OK;
}

void cm_config_tickets_begin(struct cm_config *cfg)
{
    (void)cfg;
}

int64_t cm_config_handshake_wait_ns(const struct cm_config *cfg)
{
    return cfg->wait_ns;
}

uint16_t cm_config_http_port(const struct cm_config *cfg)
{
    return cfg->http_port;
}

uint16_t cm_config_tls_port(const struct cm_config *cfg)
{
    return cfg->tls_port;
}

const char *cm_config_listen_host(const struct cm_config *cfg)
{
    (void)cfg;
    return NULL;
}

bool cm_config_on_demand(const struct cm_config *cfg)
{
    (void)cfg;
    return false;
}

const struct cm_env *cm_config_env(const struct cm_config *cfg)
{
    (void)cfg;
    return cm_env_system();
}

const struct cm_log *cm_config_log(const struct cm_config *cfg)
{
    return &cfg->log;
}

/* --------------------------------------------------------------------- handshake */

static cm_status answer(const struct fake_name *e, struct cm_cert **ret_cert, struct cm_err *err)
{
    if (e->cert == NULL) {
        (void)cm_fail(err, e->rc, "fake: refused '%s'", e->name);
        if (err != NULL)
            err->tls_alert = e->alert;
        return e->rc;
    }
    *ret_cert = cm_cert_ref(e->cert);
    return CM_OK;
}

cm_status cm_get_certificate(struct cm_config *cfg, const struct cm_hello *hello,
                             struct cm_cert **ret_cert, struct cm_pending **ret_pending,
                             struct cm_err *err)
{
    const struct fake_name *e = NULL;
    struct itimerspec its = { 0 };
    struct cm_pending *p;

    atomic_fetch_add(&cfg->asked, 1);
    memcpy(cfg->last_ip, hello->local_ip, sizeof cfg->last_ip);
    memcpy(cfg->last_peer, hello->peer_ip, sizeof cfg->last_peer);
    for (size_t i = 0; i < cfg->n_names && e == NULL; i++) {
        if (strcmp(cfg->names[i].name, hello->server_name) == 0 &&
            cfg->names[i].challenge == hello->acme_tls)
            e = &cfg->names[i];
    }
    if (e == NULL)
        return cm_fail(err, CM_E_NOTFOUND, "fake: no certificate for '%s'", hello->server_name);
    if (e->delay_ms == 0)
        return answer(e, ret_cert, err);
    p = cm_calloc(1, sizeof *p);
    if (p == NULL)
        return cm_fail_nomem(err);
    p->cfg = cfg;
    p->entry = e;
    p->fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (p->fd < 0)
        abort();
    if (e->delay_ms > 0) {
        its.it_value.tv_sec = e->delay_ms / 1000;
        its.it_value.tv_nsec = (long)(e->delay_ms % 1000) * 1000000;
        (void)timerfd_settime(p->fd, 0, &its, NULL);
    }
    atomic_fetch_add(&cfg->waiting, 1);
    *ret_pending = p;
    return cm_fail(err, CM_E_AGAIN, "fake: later");
}

int cm_pending_fd(const struct cm_pending *p)
{
    return p->fd;
}

cm_status cm_pending_take(struct cm_pending *p, struct cm_cert **ret_cert, struct cm_err *err)
{
    uint64_t n;

    if (read(p->fd, &n, sizeof n) != (ssize_t)sizeof n)
        return cm_fail(err, CM_E_AGAIN, "fake: not yet");
    return answer(p->entry, ret_cert, err);
}

cm_status cm_pending_wait(struct cm_pending *p, const struct cm_op *op, struct cm_cert **ret_cert,
                          struct cm_err *err)
{
    for (;;) {
        cm_status rc = cm_pending_take(p, ret_cert, err);

        if (rc != CM_E_AGAIN)
            return rc;
        rc = cm_op_wait(op, 10 * CM_NS_PER_MS, err);
        if (rc != CM_OK)
            return rc;
    }
}

void cm_pending_free(struct cm_pending *p)
{
    if (p == NULL)
        return;
    atomic_fetch_sub(&p->cfg->waiting, 1);
    (void)close(p->fd);
    free(p);
}

/* -------------------------------------------------------------- for the server */

cm_status cm_config_new(const struct cm_config_options *opts, struct cm_config **ret,
                        struct cm_err *err)
{
    (void)opts;
    (void)ret;
    return cm_fail(err, CM_E_UNSUPPORTED, "fake: no default config");
}

void cm_config_free(struct cm_config *cfg)
{
    CM_ASSERT(cfg == NULL); /* a test's config is the test's */
}

cm_status cm_manage_async(struct cm_config *cfg, const char *const *names, size_t n,
                          struct cm_err *err)
{
    (void)names;
    cfg->n_managed += n;
    return cfg->manage_rc == CM_OK ? CM_OK : cm_fail(err, cfg->manage_rc, "fake: manage");
}

cm_status cm_manage_together_async(struct cm_config *cfg, const char *const *names, size_t n,
                                   struct cm_cancel *cancel, struct cm_err *err)
{
    (void)cancel;
    return cm_manage_async(cfg, names, n, err);
}

bool cm_http01_looks_like(const char *method, const char *path)
{
    static const char dir[] = "/.well-known/acme-challenge/";

    return (strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0) &&
           strncmp(path, dir, sizeof dir - 1) == 0;
}

bool cm_validation_is_ours(const struct cm_config *cfg, const char *method, const char *path)
{
    (void)cfg;
    return cm_http01_looks_like(method, path);
}

cm_status cm_http01_handle(struct cm_config *cfg, const struct cm_op *op, const char *method,
                           const char *host, const char *path, struct cm_buf *ret_body,
                           struct cm_err *err)
{
    (void)cfg;
    (void)op;
    (void)method;
    if (strcmp(path, FAKE_TOKEN_PATH) != 0 || strcmp(host, "a.test") != 0)
        return cm_fail(err, CM_E_POLICY, "fake: unknown token");
    return cm_buf_puts(ret_body, FAKE_TOKEN_TEXT, err);
}
