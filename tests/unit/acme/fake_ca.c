/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_ca.h"

#include <string.h>

struct cm_err err;

const char fake_directory[] = "{\"newNonce\":\"{BASE}/nonce\",\"newAccount\":\"{BASE}/new-acct\","
                              "\"newOrder\":\"{BASE}/new-order\",\"revokeCert\":\"{BASE}/revoke\","
                              "\"keyChange\":\"{BASE}/key-change\",\"x\":{\"y\":[1,null]}}";

const char fake_order_pending[] =
    "{\"status\":\"pending\",\"identifiers\":[{\"type\":\"dns\",\"value\":\"a.test\"}],"
    "\"authorizations\":[\"{BASE}/authz/1\"],\"finalize\":\"{BASE}/finalize/1\"}";

static int64_t jump_wall(const struct cm_env *env)
{
    const struct jump_env *j = env->user;
    const struct cm_env *real = cm_env_system();

    return real->wall_ns(real) + j->jumped_ns;
}

static int64_t jump_mono(const struct cm_env *env)
{
    const struct jump_env *j = env->user;
    const struct cm_env *real = cm_env_system();

    return real->mono_ns(real) + j->jumped_ns;
}

static cm_status jump_random(const struct cm_env *env, void *out, size_t len)
{
    (void)env;
    return cm_env_system()->random(cm_env_system(), out, len);
}

static cm_status jump_wait(const struct cm_env *env, struct cm_cancel *cancel, int64_t ns)
{
    struct jump_env *j = env->user;
    unsigned n = j->waits++;

    if (n < CM_ARRAY_LEN(j->log_ns))
        j->log_ns[n] = ns;
    if (cm_cancel_is_fired(cancel))
        return CM_E_CANCELED;
    j->jumped_ns += ns;
    return CM_OK;
}

void jump_env_init(struct jump_env *j)
{
    memset(j, 0, sizeof *j);
    j->env = (struct cm_env){ CM_ENV_ABI,  sizeof j->env, jump_wall, jump_mono,
                              jump_random, jump_wait,     j };
}

void jump_by(struct jump_env *j, int64_t ns)
{
    j->jumped_ns += ns;
}

struct cm_acme *fake_ca_client(struct fake_ca *ca, const struct cm_acme_client_options *o)
{
    struct cm_acme_client_options opts = *o;
    struct cm_acme *a = NULL;

    opts.directory_url = sh_url(ca->sh, "/dir");
    opts.http.allow_plain_http = true;
    ck_ok(cm_acme_new(&opts, &a, &err));
    return a;
}

void fake_ca_start(struct fake_ca *ca)
{
    const struct cm_acme_client_options o = { 0 };

    memset(ca, 0, sizeof *ca);
    memset(&err, 0, sizeof err);
    ca->sh = sh_start(0);
    jump_env_init(&ca->clock);
    ca->op.env = &ca->clock.env;
    sh_on(ca->sh, "GET", "/dir", &(struct sh_reply){ .body = fake_directory, .no_nonce = true });
    sh_on(ca->sh, "HEAD", "/nonce", &(struct sh_reply){ 0 });
    ca->acme = fake_ca_client(ca, &o);
    ck_ok(cm_key_generate(CM_PK_P256, &ca->key, &err));
    ca->who.key = ca->key;
    ca->who.kid = sh_url(ca->sh, "/acct/1");
}

void fake_ca_stop(struct fake_ca *ca)
{
    cm_acme_free(ca->acme);
    cm_key_unref(ca->key);
    sh_stop(ca->sh);
    memset(ca, 0, sizeof *ca);
}

int64_t real_ms(void)
{
    const struct cm_env *env = cm_env_system();

    return env->mono_ns(env) / CM_NS_PER_MS;
}

void add_tests(Suite *s, const char *name, void (*setup)(void), void (*teardown)(void),
               const TTest *const *tests, size_t n)
{
    TCase *tc = tcase_create(name);

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60);
    for (size_t i = 0; i < n; i++)
        tcase_add_test(tc, tests[i]);
    suite_add_tcase(s, tc);
}
