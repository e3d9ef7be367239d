/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc.h"

#include <stdio.h>
#include <string.h>

#define NAME    "alloc.test"
#define TOKEN   "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"
#define KEYAUTH TOKEN ".9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"
#define CA      "https://ca.test/dir"

static const char *const name_list[] = { NAME };

/* Some seconds for what takes milliseconds: who waits for ever is found out. */
static struct cm_op soon(void)
{
    return cm_op_within(NULL, 40 * CM_NS_PER_S);
}

static cm_status config(const struct alloc_lab *lab, struct cm_config **ret, struct cm_err *err)
{
    struct cm_config_options o = CM_CONFIG_OPTIONS_INIT;

    o.storage = lab->store;
    o.listen_host = "127.0.0.1";
    o.handshake_wait_ms = 5000;
    o.internal = lab->directory_url == NULL;
    o.acme.directory_url = lab->directory_url;
    o.acme.ca_root_file = lab->ca_root;
    o.acme.agreed = true;
    o.acme.email = "ops@a.test";
    o.http_port = lab->http_port;
    o.tls_port = lab->tls_port;
    return cm_config_new(&o, ret, err);
}

/* A config for as long as @fn takes. */
static cm_status with_config(const struct alloc_lab *lab,
                             cm_status (*fn)(struct cm_config *cfg, struct cm_err *err),
                             struct cm_err *err)
{
    struct cm_config *cfg = NULL;
    cm_status rc = config(lab, &cfg, err);

    if (rc == CM_OK)
        rc = fn(cfg, err);
    cm_config_free(cfg);
    return rc;
}

/* ---- obtain, renew, load ---- */

static cm_status do_obtain(struct cm_config *cfg, struct cm_err *err)
{
    struct cm_op op = soon();

    return cm_obtain(cfg, &op, name_list, 1, NULL, err);
}

static cm_status do_renew(struct cm_config *cfg, struct cm_err *err)
{
    struct cm_op op = soon();

    return cm_renew(cfg, &op, NAME, true, NULL, err);
}

/* A pair that fits and is valid, or not at all. */
static cm_status do_look(struct cm_config *cfg, struct cm_err *err)
{
    struct cm_op op = soon();
    struct cm_cert *cert = NULL;
    cm_status rc = cm_load_stored(cfg, &op, NAME, &cert, err);

    cm_cert_unref(cert);
    return rc;
}

static cm_status do_manage(struct cm_config *cfg, struct cm_err *err)
{
    struct cm_op op = soon();
    cm_status rc = cm_manage(cfg, &op, name_list, 1, err);

    if (rc == CM_OK && cm_cache_count(cm_config_cache(cfg)) != 1)
        rc = cm_fail(err, CM_E_STATE, "managed, and not in the cache");
    return rc;
}

static cm_status obtain(const struct alloc_lab *lab, struct cm_err *err)
{
    return with_config(lab, do_obtain, err);
}

static cm_status obtain_then_look(const struct alloc_lab *lab, struct cm_err *err)
{
    cm_status rc = obtain(lab, err);

    return rc == CM_OK ? with_config(lab, do_look, err) : rc;
}

static cm_status renew(const struct alloc_lab *lab, struct cm_err *err)
{
    return with_config(lab, do_renew, err);
}

/* What was there must not have been lost; then a renewal that is let alone succeeds. */
static cm_status look_then_renew(const struct alloc_lab *lab, struct cm_err *err)
{
    cm_status rc = with_config(lab, do_look, err);

    if (rc == CM_OK)
        rc = renew(lab, err);
    return rc == CM_OK ? with_config(lab, do_look, err) : rc;
}

static cm_status load(const struct alloc_lab *lab, struct cm_err *err)
{
    return with_config(lab, do_manage, err);
}

/* ---- on demand ---- */

static void say_yes(void *user, const struct cm_ondemand_ask *ask, struct cm_decision *d)
{
    (void)user;
    (void)ask;
    cm_decision_answer(d, true, NULL);
}

static cm_status ask_for_it(struct cm_config *cfg, struct cm_err *err)
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

static cm_status ondemand(const struct alloc_lab *lab, struct cm_err *err)
{
    struct cm_ondemand_options od = CM_ONDEMAND_OPTIONS_INIT;
    struct cm_config_options o = CM_CONFIG_OPTIONS_INIT;
    struct cm_config *cfg = NULL;

    od.decide = say_yes;
    od.recheck_s = 60;
    o.storage = lab->store;
    o.internal = true;
    o.on_demand = &od;
    cm_status rc = cm_config_new(&o, &cfg, err);
    if (rc == CM_OK)
        rc = ask_for_it(cfg, err);
    cm_config_free(cfg);
    return rc;
}

/* ---- list, clean, revoke, account ---- */

static cm_status count_one(void *user, const struct cm_stored_cert *sc, struct cm_err *err)
{
    unsigned *n = user;

    (void)err;
    *n += sc->cert != NULL;
    return CM_OK;
}

static cm_status do_list(struct cm_config *cfg, struct cm_err *err)
{
    struct cm_op op = soon();
    unsigned n = 0;

    return cm_storage_certs(cfg, &op, count_one, &n, err);
}

static cm_status do_list_all(struct cm_config *cfg, struct cm_err *err)
{
    struct cm_op op = soon();
    unsigned n = 0;
    cm_status rc = cm_storage_certs(cfg, &op, count_one, &n, err);

    return rc == CM_OK && n == 0 ? cm_fail(err, CM_E_STATE, "nothing listed") : rc;
}

static cm_status list(const struct alloc_lab *lab, struct cm_err *err)
{
    return with_config(lab, do_list, err);
}

static cm_status list_all(const struct alloc_lab *lab, struct cm_err *err)
{
    return with_config(lab, do_list_all, err);
}

static cm_status count_good(void *user, const struct cm_life_status *st, struct cm_err *err)
{
    unsigned *n = user;

    (void)err;
    *n += st->state == CM_LIFE_GOOD;
    return CM_OK;
}

static void count_line(void *user, const char *text)
{
    unsigned *n = user;

    *n += text[0] != '\0';
}

static cm_status do_status(struct cm_config *cfg, struct cm_err *err)
{
    struct cm_op op = soon();
    unsigned n = 0;
    cm_status rc = cm_status_each(cfg, &op, count_good, &n, err);

    return rc == CM_OK ? cm_status_why(cfg, &op, NAME, count_line, &n, err) : rc;
}

/* Whatever failed before, what there is looks good. */
static cm_status do_status_all(struct cm_config *cfg, struct cm_err *err)
{
    struct cm_op op = soon();
    unsigned n = 0;
    cm_status rc = cm_status_each(cfg, &op, count_good, &n, err);

    return rc == CM_OK && n == 0 ? cm_fail(err, CM_E_STATE, "nothing is good") : rc;
}

static cm_status status(const struct alloc_lab *lab, struct cm_err *err)
{
    return with_config(lab, do_status, err);
}

static cm_status status_all(const struct alloc_lab *lab, struct cm_err *err)
{
    return with_config(lab, do_status_all, err);
}

/* A wall clock far ahead, for who is to find everything expired. */
static int64_t later_wall_ns(const struct cm_env *env)
{
    (void)env;
    return cm_env_system()->wall_ns(cm_env_system()) + 60 * 86400 * CM_NS_PER_S;
}

static cm_status do_clean(const struct alloc_lab *lab, uint64_t *ret_removed, struct cm_err *err)
{
    struct cm_env later = *cm_env_system();
    struct cm_config_options o = CM_CONFIG_OPTIONS_INIT;
    struct cm_clean_report report = { .size = sizeof report };
    struct cm_op op = soon();
    struct cm_config *cfg = NULL;
    cm_status rc;

    later.wall_ns = later_wall_ns;
    o.storage = lab->store;
    o.internal = true;
    o.env = &later;
    rc = cm_config_new(&o, &cfg, err);
    if (rc == CM_OK)
        rc = cm_storage_clean(cfg, &op, NULL, &report, err);
    cm_config_free(cfg);
    *ret_removed = report.removed;
    return rc;
}

static cm_status clean(const struct alloc_lab *lab, struct cm_err *err)
{
    uint64_t removed = 0;

    return do_clean(lab, &removed, err);
}

/* Afterwards it is either still whole or wholly gone, and a second cleaning leaves nothing. */
static cm_status clean_again(const struct alloc_lab *lab, struct cm_err *err)
{
    uint64_t removed = 0;
    cm_status rc = with_config(lab, do_look, err);

    if (rc != CM_OK && rc != CM_E_NOTFOUND)
        return rc;
    rc = do_clean(lab, &removed, err);
    if (rc != CM_OK)
        return rc;
    rc = with_config(lab, do_look, err);
    return rc == CM_E_NOTFOUND ? CM_OK : cm_fail(err, CM_E_STATE, "not cleaned up");
}

static cm_status do_revoke(struct cm_config *cfg, struct cm_err *err)
{
    struct cm_op op = soon();

    return cm_revoke(cfg, &op, NAME, -1, false, err);
}

static cm_status revoke(const struct alloc_lab *lab, struct cm_err *err)
{
    return with_config(lab, do_revoke, err);
}

/* If it is still there it can still be revoked. The CA may have done it already. */
static cm_status revoke_again(const struct alloc_lab *lab, struct cm_err *err)
{
    cm_status rc = with_config(lab, do_look, err);

    if (rc == CM_E_NOTFOUND)
        return CM_OK;
    if (rc == CM_OK)
        rc = revoke(lab, err);
    if (rc != CM_OK)
        return rc;
    rc = with_config(lab, do_look, err);
    return rc == CM_E_NOTFOUND ? CM_OK : cm_fail(err, CM_E_STATE, "still there");
}

static cm_status do_account(struct cm_config *cfg, struct cm_err *err)
{
    struct cm_op op = soon();
    struct cm_account_info info = { .size = sizeof info };
    cm_status rc = cm_account(cfg, &op, CM_ACCOUNT_REGISTER, &info, err);

    if (rc == CM_OK)
        rc = cm_account(cfg, &op, CM_ACCOUNT_SHOW, &info, err);
    if (rc == CM_OK)
        rc = cm_account(cfg, &op, CM_ACCOUNT_UPDATE, &info, err);
    return rc;
}

static cm_status account(const struct alloc_lab *lab, struct cm_err *err)
{
    return with_config(lab, do_account, err);
}

/* ---- handshakes, challenges ---- */

static struct cm_config *server; /* of the point, made before the failure is armed */

static cm_status serve_prepare(const struct alloc_lab *lab, struct cm_err *err)
{
    cm_status rc = obtain(lab, err);

    if (rc == CM_OK)
        rc = config(lab, &server, err);
    return rc == CM_OK ? do_manage(server, err) : rc;
}

static cm_status serve_check(const struct alloc_lab *lab, bool gate, struct cm_err *err)
{
    cm_status rc = alloc_handshake(server, gate, NAME, false, err);

    (void)lab;
    cm_config_free(server);
    server = NULL;
    return rc;
}

static cm_status gate(const struct alloc_lab *lab, struct cm_err *err)
{
    (void)lab;
    return alloc_handshake(server, true, NAME, false, err);
}

static cm_status gate_check(const struct alloc_lab *lab, struct cm_err *err)
{
    return serve_check(lab, true, err);
}

static cm_status hook(const struct alloc_lab *lab, struct cm_err *err)
{
    (void)lab;
    return alloc_handshake(server, false, NAME, false, err);
}

static cm_status hook_check(const struct alloc_lab *lab, struct cm_err *err)
{
    return serve_check(lab, false, err);
}

/* A challenge that another process has put into storage. */
static cm_status challenge_prepare(const struct alloc_lab *lab, struct cm_err *err)
{
    static const char token[] =
        "{\"type\":\"http-01\",\"url\":\"https://ca.test/chal/1\",\"status\":\"pending\","
        "\"token\":\"" TOKEN "\",\"keyAuthorization\":\"" KEYAUTH "\","
        "\"identifier\":{\"type\":\"dns\",\"value\":\"" NAME "\"}}";
    struct cm_config_options o = CM_CONFIG_OPTIONS_INIT;
    cm_status rc;

    o.storage = lab->store;
    o.acme.directory_url = CA;
    o.acme.agreed = true;
    o.handshake_wait_ms = 5000;
    rc = cm_config_new(&o, &server, err);
    if (rc == CM_OK)
        rc = cm_storage_store(cm_config_storage(server), NULL,
                              "acme/ca.test-dir/challenge_tokens/" NAME ".json", cm_span_str(token),
                              err);
    return rc;
}

static cm_status http01(const struct alloc_lab *lab, struct cm_err *err)
{
    struct cm_buf body = CM_BUF_INIT(1024);
    struct cm_op op = soon();
    cm_status rc = cm_http01_handle(server, &op, "GET", NAME, "/.well-known/acme-challenge/" TOKEN,
                                    &body, err);

    (void)lab;
    if (rc == CM_OK && strcmp(cm_buf_str(&body), KEYAUTH) != 0)
        rc = cm_fail(err, CM_E_STATE, "answered '%s'", cm_buf_str(&body));
    cm_buf_free(&body);
    return rc;
}

/* What could not be read is remembered for a moment as not there, so another process tries. */
static cm_status challenge_check(const struct alloc_lab *lab,
                                 cm_status (*run)(const struct alloc_lab *, struct cm_err *),
                                 struct cm_err *err)
{
    cm_status rc;

    cm_config_free(server);
    server = NULL;
    rc = challenge_prepare(lab, err);
    if (rc == CM_OK)
        rc = run(lab, err);
    cm_config_free(server);
    server = NULL;
    return rc;
}

static cm_status http01_check(const struct alloc_lab *lab, struct cm_err *err)
{
    return challenge_check(lab, http01, err);
}

static cm_status tlsalpn(const struct alloc_lab *lab, struct cm_err *err)
{
    (void)lab;
    return alloc_handshake(server, true, NAME, true, err);
}

static cm_status tlsalpn_check(const struct alloc_lab *lab, struct cm_err *err)
{
    return challenge_check(lab, tlsalpn, err);
}

const struct alloc_scenario alloc_scenarios[] = {
    { .name = "dns-providers",
      .least = 20,
      .run = alloc_dns_providers,
      .check = alloc_dns_providers },
    { .name = "obtain", .fresh = true, .least = 150, .run = obtain, .check = obtain_then_look },
    { .name = "renew", .prepare = obtain, .least = 100, .run = renew, .check = look_then_renew },
    { .name = "load", .prepare = obtain, .least = 40, .run = load, .check = load },
    { .name = "autocert",
      .fresh = true,
      .least = 150,
      .run = alloc_autocert,
      .check = alloc_autocert_check },
    { .name = "csr",
      .prepare = alloc_csr_prepare,
      .fresh = true,
      .least = 60,
      .run = alloc_csr,
      .check = alloc_csr_check },
    { .name = "signer",
      .fresh = true,
      .also = { CM_E_TLS },
      .least = 150,
      .run = alloc_signer,
      .check = alloc_signer_check },
    { .name = "token",
      .fresh = true,
      .also = { CM_E_TLS },
      .least = 150,
      .run = alloc_token,
      .check = alloc_token },
    { .name = "rfc2136",
      .prepare = alloc_rfc2136_prepare,
      .least = 10,
      .run = alloc_rfc2136,
      .check = alloc_rfc2136 },
    { .name = "zerossl",
      .needs_ca = true,
      .fresh = true,
      .also = { CM_E_ACME }, /* the CA's question was met by the failure */
      .least = 100,
      .run = alloc_zerossl,
      .check = alloc_zerossl },
#ifdef WITH_OPENSSL
    { .name = "openssl",
      .prepare = alloc_openssl_prepare,
      .also = { CM_E_TLS },
      .least = 3,
      .run = alloc_openssl,
      .check = alloc_openssl_check },
#endif
    { .name = "list", .prepare = obtain, .least = 20, .run = list, .check = list_all },
    { .name = "status", .prepare = obtain, .least = 40, .run = status, .check = status_all },
    { .name = "clean", .prepare = obtain, .least = 40, .run = clean, .check = clean_again },
    { .name = "gate",
      .prepare = serve_prepare,
      .also = { CM_E_TLS }, /* the TLS library has its own words */
      .least = 5,
      .run = gate,
      .check = gate_check },
    { .name = "hook",
      .prepare = serve_prepare,
      .also = { CM_E_TLS },
      .least = 3,
      .run = hook,
      .check = hook_check },
    { .name = "ondemand",
      .fresh = true,
      .also = { CM_E_STATE }, /* "there is no certificate yet" */
      .least = 150,
      .run = ondemand,
      .check = ondemand },
    { .name = "source",
      .prepare = alloc_source_prepare,
      .also = { CM_E_POLICY, CM_E_STATE }, /* what the source has could not be taken in */
      .least = 60,
      .run = alloc_source,
      .check = alloc_source },
    { .name = "http01",
      .prepare = challenge_prepare,
      .also = { CM_E_POLICY }, /* 404, as the contract has it */
      .least = 3,
      .run = http01,
      .check = http01_check },
    { .name = "tlsalpn",
      .prepare = challenge_prepare,
      .also = { CM_E_NOTFOUND, CM_E_TLS },
      .least = 10,
      .run = tlsalpn,
      .check = tlsalpn_check },
    { .name = "acme-obtain",
      .needs_ca = true,
      .fresh = true,
      .least = 200,
      .run = obtain,
      .check = obtain_then_look },
    { .name = "acme-renew",
      .needs_ca = true,
      .prepare = obtain,
      .least = 200,
      .run = renew,
      .check = look_then_renew },
    { .name = "acme-dns01",
      .needs_ca = true,
      .fresh = true,
      .least = 250,
      .run = alloc_dns01,
      .check = alloc_dns01_check },
    { .name = "acme-revoke",
      .needs_ca = true,
      .prepare = obtain,
      .least = 60,
      .run = revoke,
      .check = revoke_again },
    { .name = "acme-account",
      .needs_ca = true,
      .fresh = true,
      .least = 60,
      .run = account,
      .check = account },
};
const size_t alloc_n_scenarios = CM_ARRAY_LEN(alloc_scenarios);
