/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"

/* Where the keys of certificates come from. */

#define SITE "certificates/ca.test-dir/example.com/example.com"

static struct kit k;
static struct cm_err err;
static const char *const example[] = { "example.com" };

/* A source that gives what the test says. */
struct source {
    struct cm_key_source base;
    _Atomic unsigned asked;
    enum cm_pk gives; /* 0 = what is asked for */
    const char *text; /* this instead */
    bool damaged;     /* one bit of the key is wrong */
    cm_status fails;
    char names[128];
    char last_pem[CM_KEY_PEM_MAX];
};

static cm_status new_key(struct cm_key_source *ks, const struct cm_op *op, int type,
                         const char *const *names, size_t n, struct cm_buf *ret_pem,
                         struct cm_err *e)
{
    struct source *s = CM_CONTAINER_OF(ks, struct source, base);
    struct cm_key *key = NULL;

    (void)op;
    (void)atomic_fetch_add(&s->asked, 1);
    ck_assert(ret_pem->secret);
    s->names[0] = '\0';
    for (size_t i = 0; i < n; i++)
        (void)snprintf(s->names + strlen(s->names), sizeof s->names - strlen(s->names), "%s ",
                       names[i]);
    if (s->fails != CM_OK)
        return cm_fail(e, s->fails, "the vault is locked");
    if (s->text != NULL)
        return cm_buf_puts(ret_pem, s->text, e);
    ck_ok(cm_key_generate(s->gives != 0 ? s->gives : (enum cm_pk)type, &key, &err));
    ck_ok(cm_key_to_pem(key, ret_pem, &err));
    cm_key_unref(key);
    if (s->damaged) { /* a digit of the public half, so that it is well-formed all the same */
        char *end = strstr((char *)ret_pem->data, "-----END");

        ck_assert_ptr_nonnull(end);
        end -= 24;
        *end = *end == 'A' ? 'B' : 'A';
    }
    (void)snprintf(s->last_pem, sizeof s->last_pem, "%s", cm_buf_str(ret_pem));
    return CM_OK;
}

static struct cm_key_source_ops ops = {
    .abi = CM_SPI_ABI, .size = (uint32_t)sizeof ops, .name = "vault", .new_key = new_key
};
static struct source source;

static void begin(void)
{
    kit_init(&k);
    source = (struct source){ .base = { &ops } };
    ops.abi = CM_SPI_ABI;
    ops.size = (uint32_t)sizeof ops;
    k.opts.key_source = &source.base;
}

static char *stored_key(void)
{
    return kit_get(&k.storage.base, SITE ".key");
}

static void renew(void)
{
    kit_pass(&k.env, 24 * 3600 * CM_NS_PER_S);
    ck_ok(cm_renew(k.cfg, NULL, "example.com", true, NULL, &err));
}

START_TEST(every_renewal_has_a_fresh_key)
{
    kit_init(&k);
    kit_start(&k);
    ck_ok(cm_obtain(k.cfg, NULL, example, 1, NULL, &err));
    CM_AUTO_FREE char *first = stored_key();
    renew();
    CM_AUTO_FREE char *second = stored_key();
    renew();
    CM_AUTO_FREE char *third = stored_key();
    ck_assert_str_ne(first, second);
    ck_assert_str_ne(second, third);
    ck_assert_str_ne(first, third);
    kit_stop(&k);
}
END_TEST

START_TEST(kept_key_stays_the_same_file_while_the_chain_changes)
{
    kit_init(&k);
    k.opts.reuse_key = true;
    kit_start(&k);
    ck_ok(cm_obtain(k.cfg, NULL, example, 1, NULL, &err));
    CM_AUTO_FREE char *key = stored_key();
    CM_AUTO_FREE char *chain = kit_get(&k.storage.base, SITE ".crt");
    renew();
    CM_AUTO_FREE char *key2 = stored_key();
    CM_AUTO_FREE char *chain2 = kit_get(&k.storage.base, SITE ".crt");
    ck_assert_str_eq(key, key2);
    ck_assert_str_ne(chain, chain2);
    kit_stop(&k);
}
END_TEST

START_TEST(source_is_asked_at_each_issuance)
{
    begin();
    kit_start(&k);
    ck_ok(cm_obtain(k.cfg, NULL, example, 1, NULL, &err));
    ck_assert_uint_eq(atomic_load(&source.asked), 1);
    ck_assert_str_eq(source.names, "example.com ");
    CM_AUTO_FREE char *first = stored_key();
    ck_assert_str_eq(first, source.last_pem);
    renew();
    ck_assert_uint_eq(atomic_load(&source.asked), 2);
    CM_AUTO_FREE char *second = stored_key();
    ck_assert_str_eq(second, source.last_pem);
    ck_assert_str_ne(first, second);
    kit_stop(&k);
}
END_TEST

START_TEST(source_is_not_asked_when_the_key_is_kept_or_the_order_resumed)
{
    begin();
    k.opts.reuse_key = true;
    kit_start(&k);
    atomic_store(&k.issuer->step, KIT_CRASH_AFTER_CHECKPOINT);
    ck_refused(cm_obtain(k.cfg, NULL, example, 1, NULL, &err), CM_E_NET);
    ck_assert_uint_eq(atomic_load(&source.asked), 1);
    atomic_store(&k.issuer->step, KIT_GO);
    ck_ok(cm_obtain(k.cfg, NULL, example, 1, NULL, &err));
    renew();
    ck_assert_uint_eq(atomic_load(&source.asked), 1);
    CM_AUTO_FREE char *stored = stored_key();
    ck_assert_str_eq(stored, source.last_pem);
    kit_stop(&k);
}
END_TEST

static void expect_refusal(cm_status rc, const char *why)
{
    ck_refused(cm_obtain(k.cfg, NULL, example, 1, NULL, &err), rc);
    ck_assert_int_eq(err.status, rc);
    ck_assert_msg(strstr(err.msg, why) != NULL, "'%s' is not in: %s", why, err.msg);
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 0);
    ck_assert_uint_eq(kit_count(&k.storage.base, ""), 0);
}

START_TEST(key_that_is_not_what_was_asked_for_is_not_certified)
{
    begin();
    kit_start(&k);
    source.gives = CM_PK_P384;
    expect_refusal(CM_E_KEY, "key source 'vault': a key of type p256 was asked for");
    source.gives = 0;
    source.damaged = true;
    expect_refusal(CM_E_KEY, "key source 'vault'");
    source.damaged = false;
    source.text = "no key at all";
    expect_refusal(CM_E_KEY, "key source 'vault'");
    source.text = "";
    expect_refusal(CM_E_KEY, "key source 'vault'");
    source.text = NULL;
    source.fails = CM_E_PERM;
    expect_refusal(CM_E_PERM, "key source 'vault': the vault is locked");
    source.fails = CM_OK;
    ck_ok(cm_obtain(k.cfg, NULL, example, 1, NULL, &err));
    kit_stop(&k);
}
END_TEST

START_TEST(gate_refuses_foreign_tables_and_bad_arguments)
{
    CM_AUTO_BUF struct cm_buf pem = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    CM_AUTO_BUF struct cm_buf open = CM_BUF_INIT(CM_KEY_PEM_MAX);
    struct cm_cancel *cancel = NULL;
    const char *const empty[] = { "" };

    begin();
    ck_refused(cm_key_source_new_key(NULL, NULL, CM_KEY_P256, example, 1, &pem, &err), CM_E_INVAL);
    ck_refused(cm_key_source_new_key(&source.base, NULL, CM_KEY_P256, example, 1, &open, &err),
               CM_E_INVAL);
    ck_refused(cm_key_source_new_key(&source.base, NULL, CM_KEY_P256, example, 0, &pem, &err),
               CM_E_INVAL);
    ck_refused(cm_key_source_new_key(&source.base, NULL, CM_KEY_P256, empty, 1, &pem, &err),
               CM_E_INVAL);
    ck_refused(cm_key_source_new_key(&source.base, NULL, CM_KEY_DEFAULT, example, 1, &pem, &err),
               CM_E_INVAL);
    ck_refused(cm_key_source_new_key(&source.base, NULL, 99, example, 1, &pem, &err), CM_E_INVAL);
    ops.abi = CM_SPI_ABI + 1;
    ck_refused(cm_key_source_new_key(&source.base, NULL, CM_KEY_P256, example, 1, &pem, &err),
               CM_E_UNSUPPORTED);
    ops.abi = CM_SPI_ABI;
    ops.size = (uint32_t)offsetof(struct cm_key_source_ops, new_key);
    ck_refused(cm_key_source_new_key(&source.base, NULL, CM_KEY_P256, example, 1, &pem, &err),
               CM_E_UNSUPPORTED);
    ops.size = (uint32_t)sizeof ops;
    ck_ok(cm_cancel_new(NULL, &cancel, &err));
    cm_cancel_fire(cancel);
    const struct cm_op op = { NULL, 0, cancel };
    ck_refused(cm_key_source_new_key(&source.base, &op, CM_KEY_P256, example, 1, &pem, &err),
               CM_E_CANCELED);
    cm_cancel_free(cancel);
    ck_assert_uint_eq(atomic_load(&source.asked), 0);
    ck_assert_uint_eq(pem.len, 0);
    ck_ok(cm_key_source_new_key(&source.base, NULL, CM_KEY_ED25519, example, 1, &pem, &err));
    ck_assert_str_eq(cm_buf_str(&pem), source.last_pem);
    kit_storage_free(&k.storage);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        every_renewal_has_a_fresh_key,
        kept_key_stays_the_same_file_while_the_chain_changes,
        source_is_asked_at_each_issuance,
        source_is_not_asked_when_the_key_is_kept_or_the_order_resumed,
        key_that_is_not_what_was_asked_for_is_not_certified,
        gate_refuses_foreign_tables_and_bad_arguments,
    };

    return kit_run("keysource", tests, CM_ARRAY_LEN(tests));
}
