/* SPDX-License-Identifier: Apache-2.0 */
#include "kit_life.h"

/* For stapled.example, of an OCSP responder, 2025-12-01 to 2026-03-01. */
static const char stapled_key[] =
    "-----BEGIN EC PRIVATE KEY-----\n"
    "MHcCAQEEIHXb4UiK7PQNTmqyLE+CJmypQ7Ok9mZrV34sbXAxbvReoAoGCCqGSM49\n"
    "AwEHoUQDQgAEhxbFoDVvJ6XvTg/+gfQPqYa1DrIevwranHaqjvr7nS/VXR2mp+W2\n"
    "dW5heqzlZDs0PQJhHdtsXX4OM5IlcYFmlg==\n"
    "-----END EC PRIVATE KEY-----\n";
static const char stapled_crt[] =
    "-----BEGIN CERTIFICATE-----\n"
    "MIIBkzCCATqgAwIBAgICEzcwCgYIKoZIzj0EAwIwADAeFw0yNTEyMDEwMDAwMDBa\n"
    "Fw0yNjAzMDEwMDAwMDBaMAAwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAASHFsWg\n"
    "NW8npe9OD/6B9A+phrUOsh6/CtqcdqqO+vudL9VdHaan5bZ1bmF6rOVkOzQ9AmEd\n"
    "22xdfg4zkiVxgWaWo4GjMIGgMAwGA1UdEwEB/wQCMAAwGgYDVR0RBBMwEYIPc3Rh\n"
    "cGxlZC5leGFtcGxlMBMGA1UdJQQMMAoGCCsGAQUFBwMBMDAGCCsGAQUFBwEBBCQw\n"
    "IjAgBggrBgEFBQcwAYYUaHR0cDovL29jc3AuZXhhbXBsZS8wDgYDVR0PAQH/BAQD\n"
    "AgeAMB0GA1UdDgQWBBRPWgwCTdJa0RV3st1U/dtL8pxfsDAKBggqhkjOPQQDAgNH\n"
    "ADBEAiA99NP3O8wzY6f4l1kLHrqWLnCGz5lh7pJZYENfoeG5oAIgY2Pn/k9RTPR0\n"
    "RnI8eJhF3j0dW1JXGPKgPE14wanwrHY=\n"
    "-----END CERTIFICATE-----\n";

void kit_note_failure(struct cm_config *cfg, const char *name, const struct cm_err *why,
                      unsigned times)
{
    struct cm_retry r = { .attempts = 0 };
    struct cm_subject *s = NULL;
    struct cm_err err;

    ck_ok(cm_subject_new(&name, 1, &s, &err));
    for (unsigned i = 0; i < times; i++)
        cm_retry_note(cfg, NULL, s, NULL, "ca.test-dir", why, &r);
    cm_subject_free(s);
}

void kit_put_suggestion(struct cm_storage *st, const char *name, const char *id,
                        const char *selected)
{
    CM_AUTO_FREE char *base = cm_asprintf("certificates/ca.test-dir/%s/%s", name, name);
    CM_AUTO_FREE char *crt_key = cm_asprintf("%s.crt", base);
    CM_AUTO_FREE char *meta_key = cm_asprintf("%s.json", base);
    CM_AUTO_BUF struct cm_buf meta = CM_BUF_INIT(CM_META_MAX);
    struct cm_err err;
    char *crt = kit_get(st, crt_key);
    struct cm_chain chain = { .n = 0 };
    struct cm_leaf *leaf = NULL;

    ck_ok(cm_chain_from_pem(cm_span_str(crt), &chain, &err));
    ck_ok(cm_leaf_parse(chain.der[0], &leaf, &err));
    CM_AUTO_FREE char *data =
        cm_asprintf("{\"renewal_info\":{\"suggestedWindow\":{\"start\":\"2026-01-20T00:00:00Z\","
                    "\"end\":\"2026-01-22T00:00:00Z\"},\"_uniqueIdentifier\":\"%s\","
                    "\"_retryAfter\":\"2026-01-01T06:00:00Z\",\"_selectedTime\":\"%s\"}}",
                    id != NULL ? id : leaf->ari_id, selected);
    ck_ok(cm_meta_format(&name, 1, cm_span_str(data), &meta, &err));
    kit_put(st, meta_key, cm_buf_str(&meta));
    cm_leaf_free(leaf);
    cm_chain_free(&chain);
    free(crt);
}

void kit_put_stapled(struct cm_storage *st)
{
    static const char base[] = "certificates/elsewhere/stapled.example/stapled.example";
    char key[128];

    (void)snprintf(key, sizeof key, "%s.key", base);
    kit_put(st, key, stapled_key);
    (void)snprintf(key, sizeof key, "%s.crt", base);
    kit_put(st, key, stapled_crt);
}

void kit_put_response(struct cm_storage *st, int64_t this_s, int64_t next_s, bool revoked)
{
    char key[CM_KEY_BUF];
    struct cm_err err;

    ck_ok(cm_path_staple("stapled.example", cm_span_str(stapled_crt), key, &err));
    kit_put_staple(st, key, this_s, next_s, revoked);
}
