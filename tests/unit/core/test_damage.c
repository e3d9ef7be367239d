/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"

#define SITE "certificates/ca.test-dir/example.com/example.com"

static struct kit k;
static struct cm_err err;

/* Is the key in storage one to go on with? */
static bool is_kept(void)
{
    static const char *const names[] = { "example.com" };
    struct cm_subject *s = NULL;
    struct cm_key *key = NULL;

    ck_ok(cm_subject_new(names, 1, &s, &err));
    bool kept = cm_store_orphan_key(k.cfg, NULL, s, &key);
    ck_assert(kept == (key != NULL));
    cm_key_unref(key);
    cm_subject_free(s);
    return kept;
}

static void store_pair_for(const char *name)
{
    CM_AUTO_BUF struct cm_buf chain = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    CM_AUTO_BUF struct cm_buf key = CM_BUF_SECRET(CM_KEY_PEM_MAX);

    kit_make_pair(CM_PK_P256, &name, 1, START_S, 86400, &chain, &key);
    kit_put(&k.storage.base, SITE ".key", cm_buf_str(&key));
    kit_put(&k.storage.base, SITE ".crt", cm_buf_str(&chain));
}

START_TEST(key_beside_a_chain_that_says_nothing_is_kept)
{
    static const char empty[] = "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n";
    CM_AUTO_BUF struct cm_buf many = CM_BUF_INIT(CM_CHAIN_PEM_MAX);

    kit_init(&k);
    kit_start(&k);
    ck_assert(!is_kept()); /* there is none */
    store_pair_for("example.com");
    CM_AUTO_FREE char *crt = kit_get(&k.storage.base, SITE ".crt");
    ck_assert(is_kept());
    ck_ok(cm_storage_remove(&k.storage.base, NULL, SITE ".crt", &err));
    ck_assert(is_kept());
    kit_put(&k.storage.base, SITE ".crt", "");
    ck_assert(is_kept());
    kit_put(&k.storage.base, SITE ".crt", empty);
    ck_assert(is_kept());
    crt[strlen(crt) / 4] = '!';
    kit_put(&k.storage.base, SITE ".crt", crt);
    ck_assert(is_kept());
    store_pair_for("example.com");
    CM_AUTO_FREE char *good = kit_get(&k.storage.base, SITE ".crt");
    for (int i = 0; i < CM_CHAIN_CERTS_MAX; i++) /* more than are read */
        ck_ok(cm_buf_puts(&many, good, &err));
    kit_put(&k.storage.base, SITE ".crt", cm_buf_str(&many));
    ck_assert(is_kept());
    kit_stop(&k);
}
END_TEST

START_TEST(key_beside_a_chain_that_speaks_against_it_is_not)
{
    kit_init(&k);
    kit_start(&k);
    store_pair_for("other.example"); /* the key fits, and is another name's */
    ck_assert(!is_kept());
    CM_AUTO_FREE char *other = kit_get(&k.storage.base, SITE ".crt");
    store_pair_for("*.com");
    ck_assert(is_kept());
    store_pair_for("example.com");
    kit_put(&k.storage.base, SITE ".crt", other); /* for another key */
    ck_assert(!is_kept());
    store_pair_for("example.com");
    kit_put(&k.storage.base, SITE ".key", "garbage");
    ck_assert(!is_kept());
    kit_stop(&k);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        key_beside_a_chain_that_says_nothing_is_kept,
        key_beside_a_chain_that_speaks_against_it_is_not,
    };

    return kit_run("damage", tests, CM_ARRAY_LEN(tests));
}
