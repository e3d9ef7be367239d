/* SPDX-License-Identifier: Apache-2.0 */
#include "seal.h"

#include "cipher.h"

#include <string.h>

/* AES-256-GCM. The nonce is random: 96 bits do for the 2^32 values that one key may seal. The key's
 * id and the value's place are authenticated with it, so that nobody who can write to the storage
 * can put one value into another's place. */

#define HEAD_SIZE (8u + SEAL_ID_MAX + CM_SEAL_NONCE_LEN)
#define AAD_MAX   (8u + SEAL_ID_MAX + CM_STORAGE_KEY_MAX)

_Static_assert(HEAD_SIZE + CM_SEAL_TAG_LEN == SEAL_OVERHEAD, "the overhead is head and tag");
_Static_assert(SEAL_KEY_SIZE == CM_SEAL_KEY_LEN, "a line has the key of the cipher");

/* -------------------------------------------------------------------- keys */

static bool is_id_char(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
}

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

/* What is wrong with the line, or NULL. */
static const char *parse_line(const uint8_t *s, size_t len, struct seal_key *ret)
{
    size_t id = 0;
    size_t at;

    while (id < len && is_id_char(s[id]))
        id++;
    if (id == 0 || id > SEAL_ID_MAX)
        return "begins with no key id of 1 to 8 letters, digits, '-' and '_'";
    for (at = id; at < len && is_blank(s[at]); at++)
        ;
    if (at == id || len - at != 2 * (size_t)SEAL_KEY_SIZE)
        return "has no key of 64 hex digits after the id";
    memset(ret, 0, sizeof *ret);
    memcpy(ret->id, s, id);
    if (!cm_hex_decode((const char *)s + at, SEAL_KEY_SIZE, ret->bytes))
        return "has a key that is not made of hex digits";
    return NULL;
}

static const struct seal_key *find(const struct seal_keys *k, const uint8_t *id)
{
    for (size_t i = 0; i < k->n; i++)
        if (memcmp(k->key[i].id, id, SEAL_ID_MAX) == 0)
            return &k->key[i];
    return NULL;
}

static const char *add(struct seal_keys *k, const uint8_t *s, size_t len)
{
    struct seal_key one;
    const char *bad = parse_line(s, len, &one);

    if (bad == NULL && k->n == SEAL_KEYS_MAX)
        bad = "is one key too many (16 at most)";
    if (bad == NULL && find(k, (const uint8_t *)one.id) != NULL)
        bad = "has an id that another line has";
    if (bad == NULL)
        k->key[k->n++] = one;
    cm_wipe(&one, sizeof one);
    return bad;
}

cm_status seal_keys_parse(struct cm_span text, const char *from, struct seal_keys *ret,
                          struct cm_err *err)
{
    struct seal_keys k = { .n = 0 };
    const char *bad = NULL;
    unsigned line = 0;
    size_t at = 0;

    while (at < text.len && bad == NULL) {
        const uint8_t *s = text.data + at;
        const uint8_t *nl = memchr(s, '\n', text.len - at);
        size_t len = nl != NULL ? (size_t)(nl - s) : text.len - at;

        at += len + 1;
        line++;
        while (len > 0 && is_blank(s[len - 1]))
            len--;
        if (len > 0 && s[0] != '#')
            bad = add(&k, s, len);
    }
    if (bad == NULL && k.n > 0) {
        *ret = k;
        cm_wipe(&k, sizeof k);
        return CM_OK;
    }
    cm_wipe(&k, sizeof k);
    if (bad == NULL)
        return cm_fail(err, CM_E_KEY, "there is no storage key in %s; a line is 'ID 64-HEX-DIGITS'",
                       from);
    return cm_fail(err, CM_E_KEY, "line %u of the storage keys in %s %s", line, from, bad);
}

void seal_keys_clear(struct seal_keys *k)
{
    cm_wipe(k, sizeof *k);
}

/* --------------------------------------------------------------- one value */

bool seal_is_sealed(struct cm_span stored)
{
    return stored.len >= SEAL_OVERHEAD && memcmp(stored.data, SEAL_MAGIC, 8) == 0;
}

bool seal_is_current(const struct seal_keys *k, struct cm_span stored)
{
    return seal_is_sealed(stored) && memcmp(stored.data + 8, k->key[0].id, SEAL_ID_MAX) == 0;
}

static size_t make_aad(const uint8_t *id, const char *path, uint8_t out[AAD_MAX])
{
    size_t len = strlen(path);

    CM_ASSERT(len <= CM_STORAGE_KEY_MAX);
    memcpy(out, SEAL_MAGIC, 8);
    memcpy(out + 8, id, SEAL_ID_MAX);
    memcpy(out + 8 + SEAL_ID_MAX, path, len);
    return 8 + SEAL_ID_MAX + len;
}

cm_status seal_close(const struct seal_keys *k, const struct cm_env *env, const char *path,
                     struct cm_span plain, struct cm_buf *out, struct cm_err *err)
{
    const struct seal_key *key = &k->key[0];
    uint8_t aad[AAD_MAX];
    uint8_t head[HEAD_SIZE];
    uint8_t *nonce = head + 8 + SEAL_ID_MAX;
    size_t aad_len = make_aad((const uint8_t *)key->id, path, aad);
    size_t before = out->len;

    memcpy(head, aad, 8 + SEAL_ID_MAX);
    cm_status rc = cm_env_random(env, nonce, CM_SEAL_NONCE_LEN, err);
    if (rc == CM_OK)
        rc = cm_buf_reserve(out, plain.len + SEAL_OVERHEAD, err);
    if (rc == CM_OK)
        rc = cm_buf_append(out, head, sizeof head, err);
    if (rc == CM_OK)
        rc = cm_seal((struct cm_span){ key->bytes, SEAL_KEY_SIZE }, nonce,
                     (struct cm_span){ aad, aad_len }, plain, out, err);
    if (rc == CM_OK)
        return CM_OK;
    out->len = before;
    return cm_wrap(err, rc, "sealing '%s'", path);
}

cm_status seal_open(const struct seal_keys *k, const char *path, struct cm_span stored,
                    struct cm_buf *out, struct cm_err *err)
{
    const struct seal_key *key = find(k, stored.data + 8);
    const struct cm_span box = { stored.data + HEAD_SIZE, stored.len - HEAD_SIZE };
    uint8_t aad[AAD_MAX];
    char id[4 * SEAL_ID_MAX + 1];

    CM_ASSERT(seal_is_sealed(stored));
    if (key == NULL)
        return cm_fail(err, CM_E_PERM,
                       "the value at '%s' is sealed with the key '%s', which is not among the "
                       "storage keys here",
                       path,
                       cm_escape((const char *)stored.data + 8,
                                 strnlen((const char *)stored.data + 8, SEAL_ID_MAX), id,
                                 sizeof id));
    size_t aad_len = make_aad(stored.data + 8, path, aad);
    cm_status rc =
        cm_unseal((struct cm_span){ key->bytes, SEAL_KEY_SIZE }, stored.data + 8 + SEAL_ID_MAX,
                  (struct cm_span){ aad, aad_len }, box, out, err);
    if (rc == CM_E_KEY)
        return cm_fail(err, CM_E_PERM,
                       "the value at '%s' does not open with its key '%.8s': it is damaged, was "
                       "moved here, or the key is another one of the same id",
                       path, key->id);
    return rc == CM_OK ? rc : cm_wrap(err, rc, "opening '%s'", path);
}
