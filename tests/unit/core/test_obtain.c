/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"

#define SITE "certificates/ca.test-dir/example.com/example.com"

static struct kit k;
static struct cm_err err;
static const char *const example[] = { "example.com" };

static void obtain_ok(struct cm_config *cfg, struct cm_obtain_result *ret)
{
    memset(ret, 0, sizeof *ret);
    ck_ok(cm_obtain(cfg, NULL, example, 1, ret, &err));
}

START_TEST(obtain_stores_key_chain_and_metadata)
{
    struct cm_obtain_result r;
    struct cm_cert *cert = NULL;

    kit_init(&k);
    kit_start(&k);
    k.issuer->issuer_data = "{\"url\":\"https://ca/x\"}";
    obtain_ok(k.cfg, &r);
    ck_assert(!r.already_there);
    ck_assert_str_eq(r.issuer_key, "ca.test-dir");
    ck_assert(kit_has(&k.storage.base, SITE ".key"));
    ck_assert(kit_has(&k.storage.base, SITE ".crt"));
    CM_AUTO_FREE char *json = kit_get(&k.storage.base, SITE ".json");
    ck_assert_str_eq(json, "{\n\t\"sans\": [\n\t\t\"example.com\"\n\t],\n\t\"issuer_data\": {\n"
                           "\t\t\"url\": \"https://ca/x\"\n\t}\n}");
    ck_assert_uint_eq(kit_count(&k.storage.base, "certmesh"), 0);
    ck_ok(cm_load_stored(k.cfg, NULL, "EXAMPLE.com", &cert, &err));
    ck_assert_str_eq(cm_cert_name(cert, 0), "example.com");
    ck_assert(r.not_after_s == cm_cert_not_after_s(cert));
    cm_cert_unref(cert);
    kit_stop(&k);
}
END_TEST

START_TEST(obtain_again_orders_nothing)
{
    struct cm_obtain_result r;

    kit_init(&k);
    kit_start(&k);
    obtain_ok(k.cfg, &r);
    unsigned locks = atomic_load(&k.storage.locks);
    obtain_ok(k.cfg, &r);
    ck_assert(r.already_there);
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 1);
    ck_assert_uint_eq(atomic_load(&k.storage.locks), locks);
    kit_stop(&k);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = { obtain_stores_key_chain_and_metadata,
                                          obtain_again_orders_nothing };

    return kit_run("obtain", tests, CM_ARRAY_LEN(tests));
}
