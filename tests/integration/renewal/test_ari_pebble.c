/* SPDX-License-Identifier: Apache-2.0 */
#include "core_private.h"
#include "issuers.h"
#include "life.h"
#include "run.h"

#include <stdio.h>
#include <string.h>

/* One CA, one storage; each test has names of its own. What Pebble 2.4 cannot do is asked all the
 * same, and has to be told properly. */

static struct cm_err err;
static struct cm_config *cfg;
static struct cm_storage *storage;

#define ck_status(call, want)                                                                      \
    do {                                                                                           \
        cm_status ck_rc = (call);                                                                  \
        ck_assert_msg(ck_rc == (want), "%s: %s: %s", #call, cm_status_name(ck_rc), err.msg);       \
    } while (0)
#define ck_ok(call) ck_status(call, CM_OK)

static const char *env_of(const char *name)
{
    const char *value = getenv(name);

    ck_assert_msg(value != NULL, "%s is not set", name);
    return value;
}

static bool has(const char *feature)
{
    const char *all = env_of("PEBBLE_FEATURES");
    const char *at = strstr(all, feature);
    size_t len = strlen(feature);

    return at != NULL && (at == all || at[-1] == ' ') && (at[len] == '\0' || at[len] == ' ');
}

/* How often the CA's log has said @text. */
static unsigned logged(const char *text)
{
    FILE *f = fopen(env_of("PEBBLE_LOG"), "r");
    char line[4096];
    unsigned n = 0;

    ck_assert_ptr_nonnull(f);
    while (fgets(line, sizeof line, f) != NULL)
        n += strstr(line, text) != NULL;
    (void)fclose(f);
    return n;
}

static unsigned orders(void)
{
    return logged("Added order");
}

static _Atomic unsigned told_replaced;

static void note_log(void *user, enum cm_log_level level, const char *event, const char *msg,
                     const struct cm_log_field *fields, size_t n)
{
    (void)user;
    (void)level;
    (void)msg;
    (void)fields;
    (void)n;
    told_replaced += strcmp(event, "already_replaced") == 0;
}

static void set_up(void)
{
    static char test_url[256];
    struct cm_config_options o = CM_CONFIG_OPTIONS_INIT;
    const char *dir = env_of("ACME_DIR");
    const char *port = strrchr(dir, ':');

    ck_ok(cm_storage_open("memory:", NULL, &storage, &err));
    /* The same Pebble by another name: as a test CA that validates just like the CA. */
    (void)snprintf(test_url, sizeof test_url, "https://localhost%s", port);
    o.storage_object = storage;
    o.acme.directory_url = dir;
    o.acme.test_directory_url = test_url;
    o.acme.ca_root_file = env_of("LAB_CA");
    o.acme.agreed = true;
    o.log = (struct cm_log){ note_log, NULL, CM_LOG_INFO };
    o.listen_host = "127.0.0.1";
    o.http_port = (uint16_t)strtoul(env_of("HTTP01_PORT"), NULL, 10);
    o.tls_port = (uint16_t)strtoul(env_of("TLSALPN_PORT"), NULL, 10);
    ck_ok(cm_config_new(&o, &cfg, &err));
}

static void tear_down(void)
{
    cm_config_free(cfg);
    cm_storage_close(storage);
}

static struct cm_cert *stored(const char *name)
{
    struct cm_cert *c = NULL;

    ck_ok(cm_load_stored(cfg, NULL, name, &c, &err));
    return c;
}

static struct cm_cert *obtain(const char *name)
{
    ck_ok(cm_obtain(cfg, NULL, &name, 1, NULL, &err));
    return stored(name);
}

static struct cm_cert *renew(const char *name)
{
    struct cm_obtain_result r = { .size = sizeof r };

    ck_ok(cm_renew(cfg, NULL, name, true, &r, &err));
    ck_assert(!r.already_there);
    return stored(name);
}

static cm_status tend(const char *name, const struct cm_cert *cert, struct cm_ari *ari)
{
    struct cm_subject *s = NULL;
    int64_t again = 0;

    ck_ok(cm_subject_new(&name, 1, &s, &err));
    cm_status rc = cm_ari_tend(cfg, NULL, s, cert, true, ari, &again, &err);
    ck_assert_int_gt(again, cm_env_wall_s(cm_env_system()));
    cm_subject_free(s);
    return rc;
}

/* The three files of @name, to be put back later. */
struct copy {
    char key[3][CM_KEY_BUF];
    struct cm_buf value[3];
};

static void copy_site(const char *name, const struct cm_cert *c, struct copy *to)
{
    static const char *const suffixes[] = { ".key", ".crt", ".json" };

    for (size_t i = 0; i < 3; i++) {
        to->value[i] = (struct cm_buf)CM_BUF_INIT(CM_META_MAX);
        ck_ok(cm_path_cert(cm_cert_issuer_key(c), name, suffixes[i], to->key[i], &err));
        ck_ok(cm_storage_load(storage, NULL, to->key[i], &to->value[i], &err));
    }
}

static void put_back(struct copy *from)
{
    for (size_t i = 0; i < 3; i++) {
        ck_ok(cm_storage_store(storage, NULL, from->key[i], cm_buf_span(&from->value[i]), &err));
        cm_buf_free(&from->value[i]);
    }
}

START_TEST(window_of_the_ca_is_read_and_kept)
{
    struct cm_cert *c = obtain("window.a.test");
    struct cm_ari ari = { 0 };
    struct cm_ari again = { 0 };
    struct cm_meta m;

    if (!has("ari")) {
        ck_status(tend("window.a.test", c, &ari), CM_E_UNSUPPORTED);
        ck_assert_int_eq(ari.selected_s, 0);
    } else {
        ck_ok(tend("window.a.test", c, &ari));
        ck_assert_int_lt(ari.start_s, ari.selected_s);
        ck_assert_int_lt(ari.selected_s, ari.end_s);
        ck_assert_int_gt(ari.start_s, cm_cert_not_before_s(c));
        ck_assert_int_lt(ari.end_s, cm_cert_not_after_s(c));
        ck_ok(cm_meta_load(cfg, NULL, cm_cert_issuer_key(c), "window.a.test", &m, &err));
        ck_assert(cm_ari_from_meta(&m, c, &again));
        ck_assert_int_eq(again.selected_s, ari.selected_s);
        cm_meta_free(&m);
        /* the successor starts without */
        struct cm_cert *next = renew("window.a.test");
        ck_ok(cm_meta_load(cfg, NULL, cm_cert_issuer_key(next), "window.a.test", &m, &err));
        ck_assert(!cm_ari_from_meta(&m, next, &again));
        cm_meta_free(&m);
        cm_cert_unref(next);
    }
    cm_cert_unref(c);
}
END_TEST

START_TEST(ca_knows_what_is_replaced_and_a_second_successor_is_had_without)
{
    struct cm_cert *first = obtain("replaced.a.test");
    struct copy was;

    copy_site("replaced.a.test", first, &was);
    struct cm_cert *second = renew("replaced.a.test");
    ck_assert(!cm_cert_same_leaf(first, second));
    /* Storage is set back: its certificate has a successor that nobody has any more. */
    put_back(&was);
    unsigned before = orders();
    unsigned refused = told_replaced;
    struct cm_cert *third = renew("replaced.a.test");
    ck_assert(!cm_cert_same_leaf(first, third));
    ck_assert_uint_eq(orders() - before, 1);
    ck_assert_uint_eq(told_replaced - refused, has("ari") ? 1 : 0);
    cm_cert_unref(first);
    cm_cert_unref(second);
    cm_cert_unref(third);
}
END_TEST

/* Tell Pebble what to answer for @c. */
static void set_window(const struct cm_cert *c, const char *body)
{
    const struct cm_http_options ho = { .ca_file = env_of("LAB_CA") };
    struct cm_http_response resp = CM_HTTP_RESPONSE_INIT;
    struct cm_buf json = CM_BUF_INIT(64 * 1024);
    struct cm_buf pem = CM_BUF_INIT(64 * 1024);
    struct cm_http *http = NULL;
    CM_AUTO_FREE char *url = cm_asprintf("%s/set-renewal-info/", env_of("PEBBLE_MGMT"));
    struct cm_http_request req = {
        .method = "POST", .url = url, .content_type = "application/json", .max_body = 4096
    };

    ck_ok(cm_cert_der_to_pem(cm_cert_der(c, 0), &pem, &err));
    ck_ok(cm_buf_puts(&json, "{\"Certificate\":", &err));
    ck_ok(cm_json_quote(cm_buf_str(&pem), &json, &err));
    ck_ok(cm_buf_puts(&json, ",\"ARIResponse\":", &err));
    ck_ok(cm_json_quote(body, &json, &err));
    ck_ok(cm_buf_puts(&json, "}", &err));
    req.body = cm_buf_span(&json);
    ck_ok(cm_http_new(&ho, &http, &err));
    ck_ok(cm_http_do(http, NULL, &req, &resp, &err));
    ck_assert_int_eq(resp.status, 200);
    cm_http_response_free(&resp);
    cm_http_free(http);
    cm_buf_free(&json);
    cm_buf_free(&pem);
}

START_TEST(window_that_the_ca_moved_into_the_past_is_followed)
{
    struct cm_cert *c = obtain("moved.a.test");
    struct cm_ari ari = { 0 };
    char json[CM_KEY_BUF];
    struct cm_when w;

    if (has("set-ari")) {
        ck_ok(tend("moved.a.test", c, &ari));
        cm_when_for(cfg, c, &ari, &w);
        ck_assert_int_gt(w.renew_at_s, cm_env_wall_s(cm_env_system()));
        set_window(c, "{\"suggestedWindow\":{\"start\":\"2021-01-03T00:00:00Z\","
                      "\"end\":\"2021-01-07T00:00:00Z\"},"
                      "\"explanationURL\":\"https://ca.example/incident\"}");
        ari.again_s = 0; /* six hours later, as far as memory goes ... */
        ck_ok(cm_path_cert(cm_cert_issuer_key(c), "moved.a.test", ".json", json, &err));
        ck_ok(cm_storage_store(storage, NULL, json, /* ... and storage */
                               cm_span_str("{\"issuer_data\":{\"url\":\"u\"}}"), &err));
        ck_ok(tend("moved.a.test", c, &ari));
        ck_assert_int_eq(ari.start_s, 1609632000);
        cm_when_for(cfg, c, &ari, &w);
        ck_assert_int_lt(w.renew_at_s, cm_env_wall_s(cm_env_system()));
        ck_assert_int_eq(w.rule, CM_RULE_ARI);
    } else {
        ck_assert(tend("moved.a.test", c, &ari) == (has("ari") ? CM_OK : CM_E_UNSUPPORTED));
    }
    cm_cert_unref(c);
}
END_TEST

START_TEST(nonsense_from_the_ca_is_a_failure_and_no_more)
{
    struct cm_cert *c = obtain("nonsense.a.test");
    struct cm_ari ari = { 0 };

    if (has("set-ari")) {
        set_window(c, "{\"suggestedWindow\":{\"start\":\"2030-01-03T00:00:00Z\","
                      "\"end\":\"2021-01-07T00:00:00Z\"}}");
        ck_status(tend("nonsense.a.test", c, &ari), CM_E_PARSE);
        ck_assert_int_eq(ari.selected_s, 0);
        ck_assert_uint_eq(ari.failures, 1);
    } else {
        ck_assert(tend("nonsense.a.test", c, &ari) == (has("ari") ? CM_OK : CM_E_UNSUPPORTED));
    }
    cm_cert_unref(c);
}
END_TEST

static cm_status count_one(void *user, const struct cm_key_info *info, struct cm_err *e)
{
    (void)e;
    if (strstr(info->key, "challenge_tokens") != NULL)
        ++*(unsigned *)user;
    return CM_OK;
}

START_TEST(retry_is_validated_by_the_test_ca_first)
{
    const char *name = "retry.a.test";
    struct cm_job job = { .cfg = cfg, .mode = CM_JOB_OBTAIN, .attempt = 1 };
    struct cm_subject *s = NULL;
    unsigned before = orders();
    unsigned tokens = 0;

    ck_ok(cm_subject_new(&name, 1, &s, &err));
    job.subject = s;
    ck_ok(cm_job_run(&job, &err));
    ck_assert_uint_eq(orders() - before, 2);
    ck_assert_str_eq(cm_cert_issuer_key(job.cert), cm_issuer_key(cm_config_issuer(cfg, 0)));
    ck_ok(cm_storage_list(storage, NULL, "acme", true, count_one, &tokens, &err));
    ck_assert_uint_eq(tokens, 0);
    cm_cert_unref(job.cert);
    cm_subject_free(s);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        window_of_the_ca_is_read_and_kept,
        ca_knows_what_is_replaced_and_a_second_successor_is_had_without,
        window_that_the_ca_moved_into_the_past_is_followed,
        nonsense_from_the_ca_is_a_failure_and_no_more,
        retry_is_validated_by_the_test_ca_first,
    };

    return run_tests_how(
        "ari_pebble", tests, CM_ARRAY_LEN(tests),
        (struct run_how){ .timeout_s = 60, .setup = set_up, .teardown = tear_down });
}
