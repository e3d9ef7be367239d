/* SPDX-License-Identifier: Apache-2.0 */
#include "life.h"

#include <string.h>

#define TAGS_BYTES_MAX 4096u

/* ---- making one ---- */

static size_t texts_len(const char *const *texts, size_t n)
{
    size_t len = 0;

    for (size_t i = 0; i < n; i++)
        len += strlen(texts[i]) + 1;
    return len;
}

static char *put_texts(char *at, const char *const *texts, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t len = strlen(texts[i]) + 1;

        memcpy(at, texts[i], len);
        at += len;
    }
    return at;
}

static uint8_t *key_bytes(const struct cm_cert *c)
{
    return (uint8_t *)c->bytes + c->leaf_off + c->leaf_len;
}

cm_status cm_cert_new(const struct cm_cert_parts *parts, struct cm_cert **ret, struct cm_err *err)
{
    const struct cm_leaf *leaf = parts->leaf;
    const struct cm_span der = parts->chain->der[0];
    const char *const *names = (const char *const *)leaf->names;
    CM_AUTO_BUF struct cm_buf key = CM_BUF_SECRET(CM_KEY_PEM_MAX);
    size_t n_tags = 0;

    while (parts->tags != NULL && parts->tags[n_tags] != NULL)
        n_tags++;
    size_t tags_len = texts_len(parts->tags, n_tags);
    size_t names_len = texts_len(names, leaf->n_names);
    size_t serial_len = strlen(leaf->serial_hex) + 1;
    if (tags_len > TAGS_BYTES_MAX)
        return cm_fail(err, CM_E_LIMIT, "tags of a certificate: %zu bytes, at most %u", tags_len,
                       TAGS_BYTES_MAX);
    if (leaf->n_names > CM_CERT_SANS_MAX || der.len > CM_CERT_DER_MAX)
        return cm_fail(err, CM_E_LIMIT, "certificate with %zu names and %zu bytes is too large",
                       leaf->n_names, der.len);
    cm_status rc = cm_key_to_der(parts->key, &key, err);
    if (rc != CM_OK)
        return rc;

    struct cm_cert *c =
        cm_calloc(1, sizeof *c + der.len + key.len + serial_len + tags_len + names_len);
    if (c == NULL)
        return cm_fail_nomem(err);
    rc = cm_uplink_get(parts->chain, parts->issuer_key != NULL ? parts->issuer_key : "",
                       leaf->issuer_cn, &c->uplink, err);
    if (rc != CM_OK) {
        free(c);
        return rc;
    }
    atomic_init(&c->refs, 1);
    c->slot = CM_NO_SLOT;
    c->not_before_s = leaf->not_before_s;
    c->not_after_s = leaf->not_after_s;
    c->tags_off = (uint32_t)names_len;
    c->serial_off = (uint32_t)(names_len + tags_len);
    c->leaf_off = (uint32_t)(names_len + tags_len + serial_len);
    c->leaf_len = (uint32_t)der.len;
    c->key_len = (uint16_t)key.len;
    c->n_names = (uint16_t)leaf->n_names;
    c->n_tags = (uint16_t)n_tags;
    c->key_type = (uint8_t)leaf->key_type;
    c->flags = (uint8_t)parts->flags;
    char *at = put_texts((char *)c->bytes, names, leaf->n_names);
    memcpy(put_texts(at, parts->tags, n_tags), leaf->serial_hex, serial_len);
    memcpy(c->bytes + c->leaf_off, der.data, der.len);
    memcpy(key_bytes(c), key.data, key.len);
    *ret = c;
    return CM_OK;
}

cm_status cm_cert_from_pem(struct cm_span chain_pem, struct cm_span key_pem, const char *issuer_key,
                           const char *const *tags, unsigned flags, struct cm_cert **ret,
                           struct cm_err *err)
{
    struct cm_chain chain = { .n = 0 };
    struct cm_leaf *leaf = NULL;
    struct cm_key *key = NULL;
    bool fits = false;

    cm_status rc = cm_chain_from_pem(chain_pem, &chain, err);
    if (rc != CM_OK)
        return rc;
    rc = cm_leaf_parse(chain.der[0], &leaf, err);
    if (rc == CM_OK)
        rc = cm_key_from_pem(key_pem, &key, err);
    if (rc == CM_OK)
        rc = cm_key_matches_cert(key, chain.der[0], &fits, err);
    if (rc == CM_OK && !fits)
        rc =
            cm_fail(err, CM_E_KEY, "the private key does not belong to the certificate (serial %s)",
                    leaf->serial_hex);
    if (rc == CM_OK) {
        const struct cm_cert_parts parts = { &chain, leaf, key, issuer_key, tags, flags };

        rc = cm_cert_new(&parts, ret, err);
    }
    cm_key_unref(key);
    cm_leaf_free(leaf);
    cm_chain_free(&chain);
    return rc;
}

void cm_cert_destroy(struct cm_cert *c)
{
    cm_cert_detach_all(c);
    cm_wipe(key_bytes(c), c->key_len);
    cm_uplink_put(c->uplink);
    cm_stapling_free(atomic_load(&c->stapling));
    free(atomic_load(&c->tallies));
    free(c);
}

/* ---- what it says ---- */

size_t cm_cert_chain_len(const struct cm_cert *c)
{
    return c != NULL ? 1 + c->uplink->n : 0;
}

struct cm_span cm_cert_der(const struct cm_cert *c, size_t i)
{
    struct cm_span none = { NULL, 0 };

    if (c == NULL || i > c->uplink->n)
        return none;
    if (i > 0)
        return c->uplink->der[i - 1];
    return (struct cm_span){ c->bytes + c->leaf_off, c->leaf_len };
}

struct cm_span cm_cert_key_form(const struct cm_cert *c)
{
    return (struct cm_span){ key_bytes(c), c->key_len };
}

cm_status cm_cert_key(const struct cm_cert *c, struct cm_key **ret, struct cm_err *err)
{
    return cm_key_from_der(cm_cert_key_form(c), ret, err);
}

bool cm_cert_key_is_away(const struct cm_cert *c, struct cm_err *err)
{
    return cm_key_is_away(cm_cert_key_form(c), err);
}

bool cm_cert_is_challenge(const struct cm_cert *c)
{
    return (c->flags & CM_CERT_CHALLENGE) != 0;
}

bool cm_cert_is_managed(const struct cm_cert *c)
{
    return c != NULL && (c->flags & CM_CERT_MANAGED) != 0;
}

size_t cm_cert_name_count(const struct cm_cert *c)
{
    return c != NULL ? c->n_names : 0;
}

static const char *nth(const char *s, size_t i)
{
    while (i-- > 0)
        s += strlen(s) + 1;
    return s;
}

const char *cm_cert_name(const struct cm_cert *c, size_t i)
{
    return c != NULL && i < c->n_names ? nth((const char *)c->bytes, i) : NULL;
}

int64_t cm_cert_not_before_s(const struct cm_cert *c)
{
    return c->not_before_s;
}

int64_t cm_cert_not_after_s(const struct cm_cert *c)
{
    return c->not_after_s;
}

const char *cm_cert_serial(const struct cm_cert *c)
{
    return (const char *)c->bytes + c->serial_off;
}

const char *cm_cert_issuer_cn(const struct cm_cert *c)
{
    return c->uplink->issuer_cn;
}

const char *cm_cert_issuer_key(const struct cm_cert *c)
{
    return c->uplink->issuer_key;
}

enum cm_key_type cm_cert_key_type(const struct cm_cert *c)
{
    return (enum cm_key_type)c->key_type;
}

bool cm_cert_has_tag(const struct cm_cert *c, const char *tag)
{
    const char *at;

    if (c == NULL || tag == NULL)
        return false;
    at = (const char *)c->bytes + c->tags_off;
    for (size_t i = 0; i < c->n_tags; i++, at += strlen(at) + 1)
        if (strcmp(at, tag) == 0)
            return true;
    return false;
}

bool cm_cert_has_tags_of(const struct cm_cert *c, const struct cm_cert *other)
{
    const char *at = (const char *)other->bytes + other->tags_off;
    bool all = true;

    for (size_t i = 0; i < other->n_tags; i++, at += strlen(at) + 1)
        all = all && cm_cert_has_tag(c, at);
    return all;
}

static char *put_more_tags(const struct cm_cert *c, const struct cm_cert *other, char *to,
                           uint16_t *io_n)
{
    const char *at = (const char *)other->bytes + other->tags_off;

    for (size_t i = 0; i < other->n_tags; i++, at += strlen(at) + 1) {
        if (cm_cert_has_tag(c, at))
            continue;
        to = put_texts(to, &at, 1);
        (*io_n)++;
    }
    return to;
}

/* The bytes lie as they do in @c, with a gap for the tags that come. */
cm_status cm_cert_with_tags_of(const struct cm_cert *c, const struct cm_cert *other,
                               struct cm_cert **ret, struct cm_err *err)
{
    struct cm_chain chain = { .n = cm_cert_chain_len(c) };
    const size_t all = c->leaf_off + c->leaf_len + c->key_len;
    const size_t most = other->serial_off - other->tags_off; /* what all of them need */

    struct cm_cert *new = cm_calloc(1, sizeof *new + all + most);
    if (new == NULL)
        return cm_fail_nomem(err);
    for (size_t i = 0; i < chain.n; i++)
        chain.der[i] = cm_cert_der(c, i);
    cm_status rc =
        cm_uplink_get(&chain, c->uplink->issuer_key, c->uplink->issuer_cn, &new->uplink, err);
    if (rc != CM_OK) {
        free(new);
        return rc;
    }
    atomic_init(&new->refs, 1);
    new->slot = CM_NO_SLOT;
    new->not_before_s = c->not_before_s;
    new->not_after_s = c->not_after_s;
    new->tags_off = c->tags_off;
    new->leaf_len = c->leaf_len;
    new->key_len = c->key_len;
    new->n_names = c->n_names;
    new->n_tags = c->n_tags;
    new->key_type = c->key_type;
    new->flags = c->flags;
    memcpy(new->bytes, c->bytes, c->serial_off);
    char *end = put_more_tags(c, other, (char *)new->bytes + c->serial_off, &new->n_tags);
    new->serial_off = (uint32_t)(end - (char *)new->bytes);
    if (new->serial_off - new->tags_off > TAGS_BYTES_MAX) {
        cm_uplink_put(new->uplink);
        free(new);
        return cm_fail(err, CM_E_LIMIT, "tags of a certificate: more than %u bytes in all",
                       TAGS_BYTES_MAX);
    }
    new->leaf_off = new->serial_off + (c->leaf_off - c->serial_off);
    memcpy(new->bytes + new->serial_off, c->bytes + c->serial_off, all - c->serial_off);
    *ret = new;
    return CM_OK;
}

bool cm_cert_covers(const struct cm_cert *c, const char *name)
{
    const char *at = (const char *)c->bytes;

    for (size_t i = 0; i < c->n_names; i++, at += strlen(at) + 1)
        if (cm_name_covers(at, name))
            return true;
    return false;
}

bool cm_cert_covers_all(const struct cm_cert *c, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!cm_cert_covers(c, names[i]))
            return false;
    return true;
}

bool cm_cert_is_valid_at(const struct cm_cert *c, int64_t now_s, int64_t skew_s)
{
    return c->not_before_s - skew_s <= now_s && now_s <= c->not_after_s;
}

bool cm_cert_same_leaf(const struct cm_cert *a, const struct cm_cert *b)
{
    return a->leaf_len == b->leaf_len &&
           memcmp(a->bytes + a->leaf_off, b->bytes + b->leaf_off, a->leaf_len) == 0;
}

bool cm_cert_same_all(const struct cm_cert *a, const struct cm_cert *b)
{
    /* The leaf and behind it the key. */
    return cm_cert_same_leaf(a, b) && a->uplink == b->uplink && a->key_len == b->key_len &&
           memcmp(key_bytes(a), key_bytes(b), a->key_len) == 0;
}

int64_t cm_cert_renew_at_s(const struct cm_cert *c, const struct cm_config *cfg)
{
    struct cm_when w;

    cm_when_for(cfg, c, NULL, &w);
    return w.renew_at_s;
}

cm_status cm_cert_chain_pem(const struct cm_cert *c, struct cm_buf *ret, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf pem = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    cm_status rc = CM_OK;

    if (c == NULL || ret == NULL)
        return cm_fail(err, CM_E_INVAL, "no certificate, or no buffer for its chain");
    for (size_t i = 0; rc == CM_OK && i < cm_cert_chain_len(c); i++)
        rc = cm_cert_der_to_pem(cm_cert_der(c, i), &pem, err);
    return rc == CM_OK ? cm_buf_append(ret, pem.data, pem.len, err) : rc;
}
