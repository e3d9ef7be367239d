/* SPDX-License-Identifier: Apache-2.0 */
/* The solver for dns-01 with a provider that is told how to fail: nothing stays up for ever. */

#include "dns01.h"
#include "dns_record.h"
#include "kit.h"

#include "issuers.h"

#include "fake_env.h"
#include "must.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define VALUE "61rBZ_4knHblO0MNoxFsXZ_eTFUHum0B6IVRbhvUn5I"

static struct cm_err err;
static struct fake_env fake;
static struct cm_op op;
static struct cm_issuer_host host;

/* ---- a provider */

struct provider {
    struct cm_dns_provider base;
    const char *name;
    cm_status append_fails, remove_fails;
    bool noted; /* a note was there at every append and every remove */
    int up, appends, removes;
    char fqdn[300], value[300];
};
static struct provider first, second;

static size_t notes(void);

static cm_status append(struct cm_dns_provider *base, const struct cm_op *o,
                        const struct cm_dns_record *rec, struct cm_err *e)
{
    struct provider *p = CM_CONTAINER_OF(base, struct provider, base);

    (void)o;
    p->appends++;
    p->noted &= notes() > 0;
    (void)snprintf(p->fqdn, sizeof p->fqdn, "%s", rec->fqdn);
    (void)snprintf(p->value, sizeof p->value, "%s", rec->value);
    if (p->append_fails != CM_OK)
        return cm_fail(e, p->append_fails, "cannot append");
    p->up++;
    return CM_OK;
}

static cm_status take_down(struct cm_dns_provider *base, const struct cm_op *o,
                           const struct cm_dns_record *rec, struct cm_err *e)
{
    struct provider *p = CM_CONTAINER_OF(base, struct provider, base);

    (void)o;
    p->removes++;
    p->noted &= notes() > 0;
    ck_assert_str_eq(rec->type, "TXT");
    ck_assert_uint_eq(rec->ttl, 60);
    if (p->remove_fails != CM_OK)
        return cm_fail(e, p->remove_fails, "cannot remove");
    if (p->up > 0)
        p->up--;
    return CM_OK;
}

static const char *describe(struct cm_dns_provider *base)
{
    return CM_CONTAINER_OF(base, struct provider, base)->name;
}

static void destroy(struct cm_dns_provider *base)
{
    (void)base;
}

static const struct cm_dns_provider_ops ops = { .abi = CM_SPI_ABI,
                                                .size = sizeof ops,
                                                .name = "fake",
                                                .append = append,
                                                .remove = take_down,
                                                .describe = describe,
                                                .destroy = destroy };

/* ---- storage */

static cm_status count_one(void *user, const struct cm_key_info *info, struct cm_err *e)
{
    (void)info;
    (void)e;
    ++*(size_t *)user;
    return CM_OK;
}

static size_t notes(void)
{
    size_t n = 0;

    must(cm_storage_list(host.storage, NULL, "certmesh/dns", true, count_one, &n, &err));
    return n;
}

/* ---- a process */

static struct cm_solver *process_new(struct provider *p)
{
    /* Nobody listens there; and nobody is asked, as the check is off. */
    static const char *const nobody[] = { "127.0.0.1:1" };
    struct cm_dns_options o = CM_DNS_OPTIONS_INIT;
    struct cm_solver *sv = NULL;

    o.provider_object = &p->base;
    o.resolvers = nobody;
    o.n_resolvers = 1;
    o.no_check = true;
    must(cm_solver_dns01_new(&o, &sv, &err));
    cm_solver_dns01_attach(sv, &host);
    return sv;
}

static struct cm_challenge challenge(const char *token)
{
    return (struct cm_challenge){ .type = "dns-01",
                                  .url = "https://ca.test/c",
                                  .token = token,
                                  .key_authorization = "token.thumbprint",
                                  .ident_type = CM_IDENT_DNS,
                                  .ident = "a.test",
                                  .prefix = "acme/ca.test-dir" };
}

static void *present(struct cm_solver *sv)
{
    const struct cm_challenge ch = challenge("token");
    void *state = NULL;

    must(cm_solver_present(sv, &op, &ch, &state, &err));
    return state;
}

static void set_up(void)
{
    struct cm_storage_open_options so = CM_STORAGE_OPEN_OPTIONS_INIT;

    fake_env_init(&fake);
    op = (struct cm_op){ &fake.env, 0, NULL };
    host = (struct cm_issuer_host){ .size = sizeof host, .env = &fake.env };
    so.env = &fake.env;
    must(cm_storage_open("memory:", &so, &host.storage, &err));
    first = (struct provider){ { &ops }, "fake:first", CM_OK, CM_OK, true, 0, 0, 0, "", "" };
    second = first;
    second.name = "fake:second";
}

static void tear_down(void)
{
    cm_storage_close(host.storage);
}

/* ---- tests */

START_TEST(a_record_is_noted_put_up_and_taken_down)
{
    struct cm_solver *sv = process_new(&first);
    const struct cm_challenge ip = { .type = "dns-01", .ident_type = CM_IDENT_IP };

    ck_assert(cm_solver_can(sv, "dns-01", CM_IDENT_DNS, true));
    ck_assert(cm_solver_can(sv, "dns-01", CM_IDENT_DNS, false));
    ck_assert(!cm_solver_can(sv, "dns-01", ip.ident_type, false));
    ck_assert(!cm_solver_can(sv, "http-01", CM_IDENT_DNS, false));
    void *state = present(sv);
    ck_assert_str_eq(first.fqdn, "_acme-challenge.a.test");
    ck_assert_str_eq(first.value, VALUE);
    ck_assert_int_eq(first.up, 1);
    ck_assert_uint_eq(notes(), 1);
    must(cm_solver_wait(sv, &op, state, &err));
    cm_solver_cleanup(sv, &op, state);
    ck_assert_int_eq(first.up, 0);
    ck_assert_uint_eq(notes(), 0);
    ck_assert(first.noted);
    cm_solver_destroy(sv);
}
END_TEST

/* The example of the draft. */
START_TEST(each_account_has_a_name)
{
    struct cm_solver *sv = process_new(&first);
    const struct dns01_challenge own = {
        .pub = { .type = "dns-account-01",
                 .url = "",
                 .token = "token",
                 .key_authorization = "token.thumbprint",
                 .ident_type = CM_IDENT_DNS,
                 .ident = "example.org",
                 .prefix = "acme/ca.test-dir" },
        .account = "https://example.com/acme/acct/ExampleAccount",
    };
    void *state = NULL;

    ck_assert(cm_solver_can(sv, "dns-account-01", CM_IDENT_DNS, true));
    must(cm_solver_present(sv, &op, &own.pub, &state, &err));
    ck_assert_str_eq(first.fqdn, "_ujmmovf2vn55tgye._acme-challenge.example.org");
    ck_assert_str_eq(first.value, VALUE);
    cm_solver_cleanup(sv, &op, state);
    cm_solver_destroy(sv);
}
END_TEST

START_TEST(what_was_refused_is_not_taken_down)
{
    struct cm_solver *sv = process_new(&first);
    const struct cm_challenge ch = challenge("token");
    void *state = NULL;

    first.append_fails = CM_E_PERM; /* to be tried again later: CM_E_NET */
    must_fail(cm_solver_present(sv, &op, &ch, &state, &err), CM_E_NET);
    ck_assert_msg(strstr(err.msg, "fake:first") != NULL, "%s", err.msg);
    ck_assert_int_eq(err.status, CM_E_NET);
    ck_assert_int_eq(first.removes, 0);
    ck_assert_uint_eq(notes(), 0);
    first.append_fails = CM_E_TIMEOUT; /* it may be there */
    must_fail(cm_solver_present(sv, &op, &ch, &state, &err), CM_E_TIMEOUT);
    ck_assert_int_eq(first.removes, 1);
    ck_assert_uint_eq(notes(), 0);
    cm_solver_destroy(sv);
}
END_TEST

START_TEST(what_cannot_be_taken_down_is_taken_down_later)
{
    struct cm_solver *sv = process_new(&first);
    void *state = present(sv);

    first.remove_fails = CM_E_TIMEOUT;
    cm_solver_cleanup(sv, &op, state);
    ck_assert_int_eq(first.up, 1);
    ck_assert_uint_eq(notes(), 1);
    /* another record while the provider is given a rest: it is not even asked */
    first.remove_fails = CM_OK;
    int removes = first.removes;
    state = present(sv);
    cm_solver_cleanup(sv, &op, state);
    ck_assert_int_eq(first.removes, removes);
    fake_env_advance(&fake, 61 * CM_NS_PER_S);
    state = present(sv);
    cm_solver_cleanup(sv, &op, state);
    ck_assert_uint_eq(notes(), 0);
    cm_solver_destroy(sv);
}
END_TEST

/* Storage as a process leaves it that is killed: its note, and a lock that is nobody's any more. */
static void leave_a_note(const char *provider, unsigned slot, uint64_t fence)
{
    const struct cm_challenge ch = challenge("left");
    struct dns_record *r = NULL;
    char json[600];

    must(dns_record_new(&ch, provider, "_acme-challenge.left.test", "_acme-challenge.left.test",
                        NULL, 60, &r, &err));
    (void)snprintf(
        json, sizeof json,
        "{\"provider\":\"%s\",\"fqdn\":\"%s\",\"value\":\"%s\",\"identifier\":\"left.test\","
        "\"challenge_name\":\"%s\",\"token\":\"left\",\"key_authorization\":\"left.x\","
        "\"ttl\":60,\"slot\":%u,\"fence\":%llu}",
        provider, r->fqdn, r->value, r->fqdn, slot, (unsigned long long)fence);
    must(cm_storage_store(host.storage, NULL, r->key, cm_span_str(json), &err));
    dns_record_free(r);
}

START_TEST(records_of_the_dead_are_taken_down)
{
    static const unsigned slots[] = { 0, 7 }; /* our own lock, with another fence; nobody's lock */

    for (size_t i = 0; i < CM_ARRAY_LEN(slots); i++) {
        struct cm_solver *sv = process_new(&first);
        first.up = 1;
        leave_a_note("fake:first", slots[i], 4711);
        void *state = present(sv);
        ck_assert_int_eq(first.up, 1); /* that one went, ours came */
        ck_assert_uint_eq(notes(), 1);
        cm_solver_cleanup(sv, &op, state);
        ck_assert_uint_eq(notes(), 0);
        cm_solver_destroy(sv);
    }
    ck_assert(first.noted);
}
END_TEST

START_TEST(records_of_the_living_stay)
{
    struct cm_solver *one = process_new(&first), *two = process_new(&first);
    struct cm_solver *other = process_new(&second);
    void *state = present(one);

    leave_a_note("fake:third", 9, 1); /* a provider that nobody here has */
    const struct cm_challenge ch = { .type = "dns-01",
                                     .url = "",
                                     .token = "t2",
                                     .key_authorization = "t2.thumbprint",
                                     .ident_type = CM_IDENT_DNS,
                                     .ident = "b.test",
                                     .prefix = "acme/ca.test-dir" };
    void *state2 = NULL, *state3 = NULL;
    must(cm_solver_present(two, &op, &ch, &state2, &err));
    must(cm_solver_present(other, &op, &ch, &state3, &err));
    ck_assert_int_eq(first.removes, 0);
    ck_assert_int_eq(second.removes, 0);
    cm_solver_cleanup(one, &op, state);
    cm_solver_cleanup(two, &op, state2);
    cm_solver_cleanup(other, &op, state3);
    ck_assert_int_eq(first.up + second.up, 0);
    ck_assert_uint_eq(notes(), 1);
    cm_solver_destroy(one);
    cm_solver_destroy(two);
    cm_solver_destroy(other);
}
END_TEST

START_TEST(what_nobody_can_take_down_is_forgotten_after_a_week)
{
    struct cm_solver *sv = process_new(&first);

    first.remove_fails = CM_E_PERM;
    leave_a_note("fake:first", 9, 1);
    void *state = present(sv);
    ck_assert_uint_eq(notes(), 2);
    fake_env_advance(&fake, 8 * 86400 * CM_NS_PER_S);
    void *again = present(sv);
    ck_assert_uint_eq(notes(), 1);
    first.remove_fails = CM_OK;
    cm_solver_cleanup(sv, &op, state);
    cm_solver_cleanup(sv, &op, again);
    ck_assert_uint_eq(notes(), 0);
    cm_solver_destroy(sv);
}
END_TEST

START_TEST(damaged_notes_do_no_harm)
{
    static const char *const bad[] = {
        "",
        "x",
        "[]",
        "{}",
        "{\"provider\":\"fake:first\"}",
        "{\"provider\":\"fake:first\",\"fqdn\":1,\"value\":\"v\"}",
        /* in parentheses: one text, not two that lack a comma */
        ("{\"provider\":\"fake:first\",\"fqdn\":\"a b\",\"value\":\"v\",\"identifier\":\"; rm "
         "-rf\","
         "\"challenge_name\":\"x\",\"token\":\"t\",\"key_authorization\":\"k\",\"slot\":-1}"),
    };
    struct cm_solver *sv = process_new(&first);
    char key[64];

    for (size_t i = 0; i < CM_ARRAY_LEN(bad); i++) {
        (void)snprintf(key, sizeof key, "certmesh/dns/bad%zu", i);
        must(cm_storage_store(host.storage, NULL, key, cm_span_str(bad[i]), &err));
    }
    void *state = present(sv);
    ck_assert_int_eq(first.removes, 0);
    cm_solver_cleanup(sv, &op, state);
    ck_assert_int_eq(first.removes, 1);
    cm_solver_destroy(sv);
}
END_TEST

/* ---- cleaning */

#define HOUR_NS (3600 * CM_NS_PER_S)

static int warnings;

static void hear(void *user, enum cm_log_level level, const char *event, const char *msg,
                 const struct cm_log_field *fields, size_t n)
{
    (void)user;
    (void)level;
    (void)msg;
    (void)fields;
    (void)n;
    warnings += strcmp(event, "dns_record_left") == 0;
}

/* A node whose maintenance cleans once a day; step by step. */
struct node {
    struct cm_cache *cache;
    struct cm_config *cfg;
};

static void node_start(struct node *n, struct provider *p)
{
    struct cm_cache_options co = { .size = sizeof co, .no_thread = true };
    struct cm_config_options o = CM_CONFIG_OPTIONS_INIT;
    struct cm_dns_options dns = CM_DNS_OPTIONS_INIT;

    must(cm_cache_new(&co, &n->cache, &err));
    dns.provider_object = p != NULL ? &p->base : NULL;
    o.storage_object = host.storage;
    o.cache = n->cache;
    o.env = &fake.env;
    o.acme.directory_url = "https://ca.test/dir";
    o.acme.dns = p != NULL ? &dns : NULL;
    o.clean_storage = true;
    o.log.write = hear;
    o.log.min_level = CM_LOG_WARN;
    must(cm_config_new(&o, &n->cfg, &err));
}

static void node_stop(struct node *n)
{
    cm_config_free(n->cfg);
    cm_cache_free(n->cache);
}

static void maintain(struct node *n)
{
    must(cm_cache_maintain_now(n->cache, false, &err));
}

START_TEST(cleaning_takes_them_down_once_a_day)
{
    struct node one, two, without;

    node_start(&one, &first);
    node_start(&two, &first);
    node_start(&without, NULL);
    first.up = 1;
    leave_a_note("fake:first", 7, 4711);
    fake_env_advance(&fake, 3 * HOUR_NS);
    maintain(&one);
    ck_assert_int_eq(first.up, 0);
    ck_assert_uint_eq(notes(), 0);

    /* The fleet was cleaned today. */
    first.up = 1;
    leave_a_note("fake:first", 7, 4711);
    maintain(&two);
    ck_assert_int_eq(first.removes, 1);

    /* The provider does not answer: it is told, and all else is as ever. */
    first.remove_fails = CM_E_NET;
    fake_env_advance(&fake, 27 * HOUR_NS);
    maintain(&one);
    maintain(&one);
    ck_assert_int_eq(first.removes, 2);
    ck_assert_int_eq(warnings, 1);
    ck_assert_uint_eq(notes(), 1);

    /* Who has no provider can do nothing about it, and its turn is a turn. */
    first.remove_fails = CM_OK;
    fake_env_advance(&fake, 27 * HOUR_NS);
    maintain(&without);
    maintain(&one);
    ck_assert_uint_eq(notes(), 1);
    fake_env_advance(&fake, 27 * HOUR_NS);
    maintain(&two);
    ck_assert_int_eq(first.up, 0);
    ck_assert_uint_eq(notes(), 0);
    node_stop(&one);
    node_stop(&two);
    node_stop(&without);
}
END_TEST

START_TEST(a_clock_that_is_doubted_keeps_no_record_up)
{
    struct node one;

    node_start(&one, &first);
    must(cm_storage_store(host.storage, NULL, "last_clean.json",
                          cm_span_str("{\"tls\":{\"timestamp\":\"2040-01-01T00:00:00Z\"}}"), &err));
    first.up = 1;
    leave_a_note("fake:first", 7, 4711);
    fake_env_advance(&fake, 3 * HOUR_NS);
    maintain(&one);
    ck_assert_int_eq(first.up, 0);
    ck_assert_uint_eq(notes(), 0);
    node_stop(&one);
}
END_TEST

START_TEST(options_that_make_no_sense)
{
    static const char *const resolvers[] = { "ns.test" };
    struct cm_dns_options o = CM_DNS_OPTIONS_INIT;
    struct cm_solver *sv = NULL;
    struct cm_dns_provider *p = NULL;
    static const char *const specs[] = { "",
                                         "rfc2136",
                                         "nobody:",
                                         "rfc2136:",
                                         "rfc2136:///?key-file=x",
                                         "rfc2136://a:0/?key-file=x",
                                         "rfc2136://a/b?key-file=x",
                                         "rfc2136://a/?key-file=",
                                         "rfc2136://a/?key-file=%2",
                                         "rfc2136://a/?key-file=x&key-file=y",
                                         "rfc2136://a/" };

    must_fail(cm_solver_dns01_new(&o, &sv, &err), CM_E_INVAL);
    o.provider_object = &first.base;
    o.timeout_s = -1;
    must_fail(cm_solver_dns01_new(&o, &sv, &err), CM_E_INVAL);
    o.timeout_s = 0;
    o.ttl = 100000;
    must_fail(cm_solver_dns01_new(&o, &sv, &err), CM_E_INVAL);
    o.ttl = 0;
    o.resolvers = resolvers;
    o.n_resolvers = 1;
    must_fail(cm_solver_dns01_new(&o, &sv, &err), CM_E_INVAL);
    for (size_t i = 0; i < CM_ARRAY_LEN(specs); i++)
        ck_assert_msg(cm_dns_provider_open(specs[i], NULL, &p, &err) == CM_E_INVAL, "%s", specs[i]);
    must_fail(cm_dns_provider_open("rfc2136://a/?key-file=/nowhere/k", NULL, &p, &err),
              CM_E_NOTFOUND);
    cm_dns_provider_close(NULL);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = { a_record_is_noted_put_up_and_taken_down,
                                   each_account_has_a_name,
                                   what_was_refused_is_not_taken_down,
                                   what_cannot_be_taken_down_is_taken_down_later,
                                   records_of_the_dead_are_taken_down,
                                   records_of_the_living_stay,
                                   what_nobody_can_take_down_is_forgotten_after_a_week,
                                   damaged_notes_do_no_harm,
                                   cleaning_takes_them_down_once_a_day,
                                   a_clock_that_is_doubted_keeps_no_record_up,
                                   options_that_make_no_sense };

    return run_tests_how(
        "dns01", tests, CM_ARRAY_LEN(tests),
        (struct run_how){ .timeout_s = 60, .setup = set_up, .teardown = tear_down });
}
