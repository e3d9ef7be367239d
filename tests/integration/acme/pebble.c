/* SPDX-License-Identifier: Apache-2.0 */
#include "pebble.h"

#include <stdio.h>
#include <string.h>

struct cm_err err;
struct cm_acme *acme;

/* A Pebble that refuses every other nonce has the client give up now and then: eleven refusals in
 * a row, one request in 2048. What a caller would do then is what these do. */
bool gave_up(cm_status rc)
{
    return rc == CM_E_ACME && cm_acme_problem_is(err.problem, "badNonce");
}

const char *env_of(const char *name)
{
    const char *v = getenv(name);

    ck_assert_msg(v != NULL && *v != '\0', "%s is not set: run this by run-pebble", name);
    return v;
}

void setup(void)
{
    struct cm_acme_client_options o = { .directory_url = env_of("ACME_DIR"),
                                        .http = { .ca_file = env_of("LAB_CA") } };

    memset(&err, 0, sizeof err);
    ck_ok(cm_acme_new(&o, &acme, &err));
}

void teardown(void)
{
    cm_acme_free(acme);
    acme = NULL;
}

struct cm_op seconds(int s)
{
    return cm_op_within(NULL, s * CM_NS_PER_S);
}

void new_account(enum cm_pk type, struct who *w)
{
    static const char *const contact[] = { "mailto:ops@a.test" };
    const struct cm_acme_new_account req = { .contact = contact,
                                             .n_contact = 1,
                                             .tos_agreed = true };
    struct cm_op op = seconds(30);
    bool created = false;

    memset(w, 0, sizeof *w);
    ck_ok(cm_key_generate(type, &w->key, &err));
    ck_ok(cm_acme_account_new(acme, &op, w->key, &req, &w->acc, &created, &err));
    ck_assert(created);
    ck_assert_int_eq(w->acc.status, CM_ACME_VALID);
    w->signer.key = w->key;
    w->signer.kid = w->acc.url;
}

void drop(struct who *w)
{
    cm_acme_account_free(&w->acc);
    cm_key_unref(w->key);
}

void order_of(const struct who *w, const char *const *names, size_t n, struct cm_acme_order *o)
{
    const struct cm_acme_new_order req = { .names = names, .n = n };
    struct cm_op op = seconds(30);

    memset(o, 0, sizeof *o);
    ck_ok(cm_acme_order_new(acme, &op, &w->signer, &req, o, &err));
    ck_assert_ptr_nonnull(o->url);
    ck_assert_ptr_nonnull(o->finalize);
    ck_assert_uint_eq(o->n_authz, n);
}

void accept_all(const struct who *w, const struct cm_acme_order *o, struct scripted_http *serve)
{
    struct cm_op op = seconds(30);

    for (size_t i = 0; i < o->n_authz; i++) {
        struct cm_acme_authz z = { 0 };
        const struct cm_acme_challenge *c = NULL;

        ck_ok(cm_acme_authz_get(acme, &op, &w->signer, o->authz[i], &z, &err));
        if (z.status == CM_ACME_PENDING) {
            for (size_t k = 0; k < z.n_challenges; k++)
                if (strcmp(z.challenges[k].type, "http-01") == 0 ||
                    (c == NULL && strcmp(z.challenges[k].type, "dns-01") == 0))
                    c = &z.challenges[k];
            ck_assert_ptr_nonnull(c);
            if (serve != NULL) {
                struct cm_buf ka = CM_BUF_INIT(512);
                char path[200];

                ck_ok(cm_acme_key_authorization(c->token, w->key, &ka, &err));
                (void)snprintf(path, sizeof path, "/.well-known/acme-challenge/%s", c->token);
                sh_on(serve, "GET", path, &(struct sh_reply){ .body = cm_buf_str(&ka) });
                (void)sh_keep(serve, (char *)ka.data);
            }
            ck_ok(cm_acme_challenge_accept(acme, &op, &w->signer, c->url, &err));
        }
        cm_acme_authz_free(&z);
    }
}

void issue(const struct who *w, const char *const *names, size_t n, struct scripted_http *serve,
           struct cm_chain *chain, struct cm_key **ret_key, char ***alternates)
{
    struct cm_buf csr = CM_BUF_INIT(64 * 1024);
    struct cm_buf pem = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    struct cm_acme_order o;
    struct cm_op op = seconds(60);

    order_of(w, names, n, &o);
    accept_all(w, &o, serve);
    ck_ok(cm_acme_order_wait(acme, &op, &w->signer, &o, true, &err));
    ck_assert_int_eq(o.status, CM_ACME_READY);
    ck_ok(cm_key_generate(CM_PK_P256, ret_key, &err));
    ck_ok(cm_csr_make(*ret_key, names, n, false, &csr, &err));
    ck_ok(cm_acme_order_finalize(acme, &op, &w->signer, &o, cm_buf_span(&csr), &err));
    ck_ok(cm_acme_order_wait(acme, &op, &w->signer, &o, false, &err));
    ck_assert_int_eq(o.status, CM_ACME_VALID);
    ck_assert_ptr_nonnull(o.certificate);
    ck_ok(cm_acme_certificate_get(acme, &op, &w->signer, o.certificate, &pem, alternates, &err));
    ck_ok(cm_chain_from_pem(cm_buf_span(&pem), chain, &err));
    ck_ok(cm_chain_accept(chain, *ret_key, names, n, true, cm_env_wall_s(cm_env_system()), 300,
                          &err));
    cm_acme_order_free(&o);
    cm_buf_free(&csr);
    cm_buf_free(&pem);
}
