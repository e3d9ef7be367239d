/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"
#include "zerossl.h"

#include <json-c/json.h>
#include <string.h>

/* A certificate object of ZeroSSL's interface: the texts that are taken from it, and the validation
 * files that are made of it. What comes into storage lies where it belongs, reads as a token, and
 * goes away again. The port for the answers stays closed: in place of the responder's functions
 * (the linker sees to that) stand two that do nothing. */

cm_status __wrap_cm_responder_acquire(struct cm_responder *r, const char *prefix,
                                      struct cm_err *err);
void __wrap_cm_responder_release(struct cm_responder *r);

static const char *const names[] = { "a.test", "*.b.test", "127.0.0.1" };

cm_status __wrap_cm_responder_acquire(struct cm_responder *r, const char *prefix,
                                      struct cm_err *err)
{
    (void)r;
    (void)prefix;
    (void)err;
    return CM_OK;
}

void __wrap_cm_responder_release(struct cm_responder *r)
{
    (void)r;
}

static struct cm_storage *storage(void)
{
    static struct cm_storage *st;

    if (st == NULL)
        CM_ASSERT(cm_storage_open("memory:", NULL, &st, NULL) == CM_OK);
    return st;
}

static void check_text(struct json_object *o, const char *name, size_t max)
{
    const char *s = zerossl_text(o, name, max);

    if (s == NULL)
        return;
    CM_ASSERT(strlen(s) <= max);
    for (; *s != '\0'; s++)
        CM_ASSERT(*s >= 0x20 && *s <= 0x7e);
}

static cm_status check_stored(void *user, const struct cm_key_info *info, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf value = CM_BUF_INIT(64 * 1024);
    struct json_object *o = NULL;
    unsigned *n = user;

    (void)err;
    ++*n;
    CM_ASSERT(strncmp(info->key, ZEROSSL_PREFIX "/challenge_tokens/",
                      sizeof ZEROSSL_PREFIX "/challenge_tokens/" - 1) == 0);
    CM_ASSERT(cm_storage_load(storage(), NULL, info->key, &value, NULL) == CM_OK);
    CM_ASSERT(cm_json_read(cm_buf_span(&value), 8, &o, NULL) == CM_OK);
    CM_ASSERT(zerossl_text(o, "url", 1024) != NULL);
    CM_ASSERT(json_object_is_type(json_object_object_get(o, "token"), json_type_string));
    json_object_put(o);
    return CM_OK;
}

static unsigned stored(void)
{
    unsigned n = 0;
    cm_status rc = cm_storage_list(storage(), NULL, ZEROSSL_PREFIX "/challenge_tokens", false,
                                   check_stored, &n, NULL);

    CM_ASSERT(rc == CM_OK || rc == CM_E_NOTFOUND);
    return n;
}

static void put_files(struct json_object *cert, size_t n)
{
    struct cm_issuer_host host = { .size = sizeof host, .storage = storage() };
    struct zerossl_files f = { .host = &host };
    struct cm_err err = CM_ERR_INIT;
    cm_status rc = zerossl_files_put(&f, NULL, names, n, cert, &err);

    CM_ASSERT(rc == CM_OK || rc == CM_E_PARSE || rc == CM_E_LIMIT);
    CM_ASSERT(rc == CM_OK || err.msg[0] != '\0');
    CM_ASSERT(f.n <= n && (rc != CM_OK || f.n == n));
    if (rc == CM_OK) {
        CM_ASSERT(stored() == n);
        fuzz_reached();
    }
    zerossl_files_remove(&f, NULL);
    CM_ASSERT(stored() == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct json_object *o = NULL;

    if (cm_json_read((struct cm_span){ data, size }, 16, &o, NULL) != CM_OK ||
        !json_object_is_type(o, json_type_object)) { /* as the caller does */
        json_object_put(o);
        return 0;
    }
    check_text(o, "id", ZEROSSL_ID_MAX);
    check_text(o, "status", 40);
    check_text(o, "certificate.crt", CM_JSON_MAX);
    for (size_t n = 1; n <= CM_ARRAY_LEN(names); n++)
        put_files(o, n);
    json_object_put(o);
    return 0;
}
