/* SPDX-License-Identifier: Apache-2.0 */
#include "contract.h"

#include <stdlib.h>

struct cm_storage *st;
struct cm_storage *fake_st;
struct fake_env fake;
struct cm_op fake_op;
struct cm_err err;

int64_t contract_ttl_ns(void)
{
    return contract_backend.server_clock ? 600 * CM_NS_PER_MS : 8 * CM_NS_PER_S;
}

int64_t contract_margin_ns(void)
{
    return contract_backend.server_clock ? 200 * CM_NS_PER_MS : 1000;
}

void contract_pass(int64_t ns)
{
    const struct cm_env *real = cm_env_system();

    if (contract_backend.server_clock)
        (void)!real->wait(real, NULL, ns);
    fake_env_advance(&fake, ns);
}

struct cm_storage *contract_open(const struct cm_env *env)
{
    struct cm_storage_open_options opts = CM_STORAGE_OPEN_OPTIONS_INIT;
    struct cm_storage *opened = NULL;

    opts.env = env;
    must(contract_backend.open(&opts, &opened, &err));
    return opened;
}

/* The fake handle is opened first: where handles share a clock, it is the first one's. */
static void setup(void)
{
    contract_backend.setup();
    fake_env_init(&fake);
    fake_op = (struct cm_op){ .env = &fake.env };
    fake_st = contract_open(&fake.env);
    st = contract_open(NULL);
}

static void teardown(void)
{
    cm_storage_close(st);
    cm_storage_close(fake_st);
    contract_backend.teardown();
}

void put(const char *key, const char *text)
{
    must(cm_storage_store(st, NULL, key, cm_span_str(text), &err));
}

void expect(const char *key, const char *text)
{
    struct cm_buf got = CM_BUF_INIT(CM_STORAGE_VALUE_MAX);
    cm_status rc = cm_storage_load(st, NULL, key, &got, &err);

    if (text == NULL) {
        ck_assert_msg(rc == CM_E_NOTFOUND, "'%s' should not be there: %s", key, cm_buf_str(&got));
    } else {
        ck_assert_msg(rc == CM_OK, "load '%s': %s", key, err.msg);
        ck_assert_str_eq(cm_buf_str(&got), text);
    }
    cm_buf_free(&got);
}

static void add(Suite *suite, TCase *cases)
{
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_set_timeout(cases, 60);
    suite_add_tcase(suite, cases);
}

int main(void)
{
    Suite *suite = suite_create(contract_backend.name);
    SRunner *runner;
    int failed = contract_backend.begin != NULL ? contract_backend.begin() : 0;

    if (failed != 0)
        return failed;
    add(suite, contract_storage_cases());
    add(suite, contract_list_cases());
    add(suite, contract_many_cases());
    add(suite, contract_commit_cases());
    add(suite, contract_lock_cases());
    add(suite, contract_lease_cases());
    add(suite, contract_watch_cases());
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    if (contract_backend.end != NULL)
        contract_backend.end();
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
