/* SPDX-License-Identifier: Apache-2.0 */
#include "key.h"
#include "pki_gnutls.h"

#include <certmesh/cm_keys.h>

#include <gnutls/crypto.h>
#include <string.h>

/* Keys that a signer of the program's has: "signer:NAME/KEY" and the public half. Signers are the
 * process's, by name: keys are read in places that know of no configuration. */

#define SIGNERS_MAX     8u
#define SIGNER_NAME_MAX 32u
#define TIMEOUT_NS      (5 * CM_NS_PER_S)
#define SIG_MAX         1024u /* RSA of 8192 bits */

static const char scheme[] = "signer:";

struct slot {
    char name[SIGNER_NAME_MAX + 1]; /* "" = free */
    struct cm_signer *signer;       /* NULL: on its way out */
    int64_t timeout_ns;
    unsigned calls; /* under way */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* a leaf; not held while one signs */
static pthread_cond_t idle;                              /* some signer's last call has ended */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct slot slots[SIGNERS_MAX];

static struct slot *find(const char *name)
{
    for (size_t i = 0; i < SIGNERS_MAX; i++)
        if (strcmp(slots[i].name, name) == 0)
            return &slots[i];
    return NULL;
}

static void init(void)
{
    cm_cond_init(&idle); /* by the monotonic clock: not to be had statically */
}

/* ---------------------------------------------------------------- registering */

static bool is_name(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!((s[i] >= 'a' && s[i] <= 'z') || (s[i] >= '0' && s[i] <= '9') || s[i] == '-'))
            return false;
    return len > 0 && len <= SIGNER_NAME_MAX;
}

static cm_status check(const char *name, const struct cm_signer *s, int64_t timeout_ms,
                       struct cm_err *err)
{
    if (name == NULL || !is_name(name, strnlen(name, SIGNER_NAME_MAX + 1)))
        return cm_fail(err, CM_E_INVAL, "a signer's name has 1 to 32 of a-z, 0-9 and the hyphen");
    if (s == NULL || s->ops == NULL || timeout_ms < 0 || timeout_ms > INT64_C(3600000))
        return cm_fail(err, CM_E_INVAL, "signer '%s': no table, or a time limit out of range",
                       name);
    if (s->ops->abi != CM_SPI_ABI)
        return cm_fail(err, CM_E_UNSUPPORTED,
                       "signer '%s' was made for plugin interface %u, not %u: rebuild it", name,
                       (unsigned)s->ops->abi, (unsigned)CM_SPI_ABI);
    if (s->ops->size < offsetof(struct cm_signer_ops, sign) + sizeof s->ops->sign ||
        s->ops->sign == NULL)
        return cm_fail(err, CM_E_UNSUPPORTED, "signer '%s' does not sign", name);
    return CM_OK;
}

cm_status cm_signer_register(const char *name, struct cm_signer *s, int64_t timeout_ms,
                             struct cm_err *err)
{
    struct slot *slot;
    cm_status rc = check(name, s, timeout_ms, err);

    if (rc != CM_OK)
        return rc;
    (void)pthread_once(&once, init);
    cm_mutex_lock(&lock);
    bool taken = find(name) != NULL;
    slot = taken ? NULL : find("");
    if (slot != NULL) {
        memcpy(slot->name, name, strlen(name) + 1);
        slot->signer = s;
        slot->timeout_ns = timeout_ms == 0 ? TIMEOUT_NS : timeout_ms * CM_NS_PER_MS;
    }
    cm_mutex_unlock(&lock);
    if (taken)
        return cm_fail(err, CM_E_EXISTS, "there is a signer '%s' already", name);
    return slot != NULL ? CM_OK
                        : cm_fail(err, CM_E_LIMIT, "there are %u signers already", SIGNERS_MAX);
}

void cm_signer_unregister(const char *name)
{
    (void)pthread_once(&once, init);
    cm_mutex_lock(&lock);
    struct slot *slot = name != NULL && name[0] != '\0' ? find(name) : NULL;
    if (slot != NULL) {
        slot->signer = NULL;
        /* As long as a call may take; who has a deadline and keeps to it is waited for. */
        while (slot->calls > 0)
            (void)cm_cond_wait_ns(&idle, &lock, CM_NS_PER_S);
        slot->name[0] = '\0';
    }
    cm_mutex_unlock(&lock);
}

/* -------------------------------------------------------------------- signing */

/* "NAME/KEY" of a URL. */
static bool split(struct cm_span url, char name[SIGNER_NAME_MAX + 1], const char **ret_key,
                  char key[CM_KEY_URL_MAX])
{
    size_t skip = sizeof scheme - 1;
    const uint8_t *slash = url.len > skip ? memchr(url.data + skip, '/', url.len - skip) : NULL;

    if (slash == NULL || url.len >= CM_KEY_URL_MAX)
        return false;
    size_t len = (size_t)(slash - url.data) - skip;
    size_t rest = url.len - skip - len - 1;
    if (!is_name((const char *)url.data + skip, len) || rest == 0)
        return false;
    memcpy(name, url.data + skip, len);
    name[len] = '\0';
    memcpy(key, slash + 1, rest);
    key[rest] = '\0';
    *ret_key = key;
    return true;
}

bool cm__key_is_signers(struct cm_span bytes)
{
    return bytes.len >= sizeof scheme - 1 && memcmp(bytes.data, scheme, sizeof scheme - 1) == 0;
}

cm_status cm__signer_url_check(struct cm_span url, struct cm_err *err)
{
    char name[SIGNER_NAME_MAX + 1], key[CM_KEY_URL_MAX];
    const char *k;

    if (!split(url, name, &k, key))
        return cm_fail(err, CM_E_INVAL,
                       "a key of a signer is signer:NAME/KEY, with a name of a-z, "
                       "0-9 and hyphens");
    return CM_OK;
}

static struct cm_signer *enter(const char *name, int64_t *ret_timeout_ns)
{
    struct cm_signer *s = NULL;

    cm_mutex_lock(&lock);
    struct slot *slot = find(name);
    if (slot != NULL && slot->signer != NULL) {
        s = slot->signer;
        slot->calls++;
        *ret_timeout_ns = slot->timeout_ns;
    }
    cm_mutex_unlock(&lock);
    return s;
}

static void leave(const char *name)
{
    cm_mutex_lock(&lock);
    struct slot *slot = find(name); /* there until the last call has ended */
    if (--slot->calls == 0)
        (void)pthread_cond_broadcast(&idle);
    cm_mutex_unlock(&lock);
}

static cm_status sign(struct cm_span url, enum cm_sign_alg alg, struct cm_span input,
                      struct cm_buf *out, struct cm_err *err)
{
    char name[SIGNER_NAME_MAX + 1], text[CM_KEY_URL_MAX];
    struct cm_buf sig = CM_BUF_INIT(SIG_MAX);
    const char *key = NULL;
    int64_t timeout_ns = 0;

    CM_ASSERT(split(url, name, &key, text)); /* looked at when it was read */
    struct cm_signer *s = enter(name, &timeout_ns);
    if (s == NULL)
        return cm_fail(err, CM_E_IO,
                       "the key is with the signer '%s', and this process has none "
                       "of that name",
                       name);
    struct cm_op op = cm_op_within(NULL, timeout_ns);
    cm_status rc = s->ops->sign(s, &op, key, alg, input, &sig, err);
    leave(name);
    if (rc == CM_OK && sig.len == 0)
        rc = cm_fail(err, CM_E_IO, "it gave no signature");
    if (rc == CM_OK)
        rc = cm_buf_append(out, sig.data, sig.len, err);
    else if (cm_status_is_damage(rc)) {
        rc = CM_E_IO; /* not the key's fault: nothing is to be made anew for it */
        if (err != NULL)
            err->status = rc;
    }
    cm_buf_free(&sig);
    return rc == CM_OK ? rc : cm_wrap(err, rc, "signer '%s'", name);
}

/* ------------------------------------------------------------- as GnuTLS has it */

static const struct {
    gnutls_sign_algorithm_t sign;
    gnutls_pk_algorithm_t pk;
    gnutls_digest_algorithm_t hash;
    enum cm_sign_alg alg;
} schemes[] = {
    { GNUTLS_SIGN_RSA_SHA256, GNUTLS_PK_RSA, GNUTLS_DIG_SHA256, CM_SIGN_RSA_PKCS1_SHA256 },
    { GNUTLS_SIGN_RSA_SHA384, GNUTLS_PK_RSA, GNUTLS_DIG_SHA384, CM_SIGN_RSA_PKCS1_SHA384 },
    { GNUTLS_SIGN_RSA_SHA512, GNUTLS_PK_RSA, GNUTLS_DIG_SHA512, CM_SIGN_RSA_PKCS1_SHA512 },
    { GNUTLS_SIGN_RSA_PSS_RSAE_SHA256, GNUTLS_PK_RSA, GNUTLS_DIG_SHA256, CM_SIGN_RSA_PSS_SHA256 },
    { GNUTLS_SIGN_RSA_PSS_RSAE_SHA384, GNUTLS_PK_RSA, GNUTLS_DIG_SHA384, CM_SIGN_RSA_PSS_SHA384 },
    { GNUTLS_SIGN_RSA_PSS_RSAE_SHA512, GNUTLS_PK_RSA, GNUTLS_DIG_SHA512, CM_SIGN_RSA_PSS_SHA512 },
    { GNUTLS_SIGN_ECDSA_SHA256, GNUTLS_PK_ECDSA, GNUTLS_DIG_SHA256, CM_SIGN_ECDSA_SHA256 },
    { GNUTLS_SIGN_ECDSA_SHA384, GNUTLS_PK_ECDSA, GNUTLS_DIG_SHA384, CM_SIGN_ECDSA_SHA384 },
    { GNUTLS_SIGN_ECDSA_SHA512, GNUTLS_PK_ECDSA, GNUTLS_DIG_SHA512, CM_SIGN_ECDSA_SHA512 },
    { GNUTLS_SIGN_ECDSA_SECP256R1_SHA256, GNUTLS_PK_ECDSA, GNUTLS_DIG_SHA256,
      CM_SIGN_ECDSA_SHA256 },
    { GNUTLS_SIGN_ECDSA_SECP384R1_SHA384, GNUTLS_PK_ECDSA, GNUTLS_DIG_SHA384,
      CM_SIGN_ECDSA_SHA384 },
    { GNUTLS_SIGN_EDDSA_ED25519, GNUTLS_PK_EDDSA_ED25519, GNUTLS_DIG_UNKNOWN, CM_SIGN_ED25519 },
};

/* -1: not one that can be asked for. */
static int scheme_of(gnutls_sign_algorithm_t sign, gnutls_pk_algorithm_t pk)
{
    for (size_t i = 0; i < CM_ARRAY_LEN(schemes); i++)
        if (schemes[i].sign == sign && schemes[i].pk == pk)
            return (int)i;
    return -1;
}

struct handle {
    gnutls_pk_algorithm_t pk;
    unsigned bits;
    size_t url_len;
    char url[];
};

static int give(const struct handle *h, enum cm_sign_alg alg, struct cm_span input,
                gnutls_datum_t *ret)
{
    CM_AUTO_BUF struct cm_buf sig = CM_BUF_INIT(SIG_MAX);

    if (sign((struct cm_span){ (const uint8_t *)h->url, h->url_len }, alg, input, &sig, NULL) !=
        CM_OK)
        return GNUTLS_E_PK_SIGN_FAILED;
    ret->data = gnutls_malloc(sig.len);
    if (ret->data == NULL)
        return GNUTLS_E_MEMORY_ERROR;
    memcpy(ret->data, sig.data, sig.len);
    ret->size = (unsigned)sig.len;
    return 0;
}

/* For PKCS#1 signatures of TLS 1.2 GnuTLS has packed the hash into a DigestInfo (RFC 8017 9.2): 19
 * bytes before it, whichever of SHA-2 it is. */
static int sign_info(const struct handle *h, const gnutls_datum_t *packed, gnutls_datum_t *ret)
{
    enum { BEFORE = 19 };
    enum cm_sign_alg alg;

    switch (packed->size) {
    case BEFORE + 32:
        alg = CM_SIGN_RSA_PKCS1_SHA256;
        break;
    case BEFORE + 48:
        alg = CM_SIGN_RSA_PKCS1_SHA384;
        break;
    case BEFORE + 64:
        alg = CM_SIGN_RSA_PKCS1_SHA512;
        break;
    default:
        return GNUTLS_E_UNSUPPORTED_SIGNATURE_ALGORITHM;
    }
    return give(h, alg, (struct cm_span){ packed->data + BEFORE, packed->size - BEFORE }, ret);
}

static int sign_hash(gnutls_privkey_t key, gnutls_sign_algorithm_t algo, void *user,
                     unsigned int flags, const gnutls_datum_t *hash, gnutls_datum_t *ret)
{
    const struct handle *h = user;
    int i = scheme_of(algo, h->pk);

    (void)key;
    if (algo == GNUTLS_SIGN_RSA_RAW)
        return sign_info(h, hash, ret);
    if (i < 0 || (flags & GNUTLS_PRIVKEY_SIGN_FLAG_TLS1_RSA) != 0)
        return GNUTLS_E_UNSUPPORTED_SIGNATURE_ALGORITHM;
    return give(h, schemes[i].alg, (struct cm_span){ hash->data, hash->size }, ret);
}

static int sign_data(gnutls_privkey_t key, gnutls_sign_algorithm_t algo, void *user,
                     unsigned int flags, const gnutls_datum_t *data, gnutls_datum_t *ret)
{
    const struct handle *h = user;
    int i = scheme_of(algo, h->pk);
    uint8_t digest[64];

    if (i < 0)
        return GNUTLS_E_UNSUPPORTED_SIGNATURE_ALGORITHM;
    if (schemes[i].hash == GNUTLS_DIG_UNKNOWN)
        return give(h, schemes[i].alg, (struct cm_span){ data->data, data->size }, ret);
    int rc = gnutls_hash_fast(schemes[i].hash, data->data, data->size, digest);
    gnutls_datum_t hash = { digest, gnutls_hash_get_len(schemes[i].hash) };
    return rc < 0 ? rc : sign_hash(key, algo, user, flags, &hash, ret);
}

static int info(gnutls_privkey_t key, unsigned int flags, void *user)
{
    const struct handle *h = user;

    (void)key;
    if ((flags & GNUTLS_PRIVKEY_INFO_PK_ALGO) != 0)
        return (int)h->pk;
    if ((flags & GNUTLS_PRIVKEY_INFO_PK_ALGO_BITS) != 0)
        return (int)h->bits;
    if ((flags & GNUTLS_PRIVKEY_INFO_HAVE_SIGN_ALGO) != 0)
        return scheme_of((gnutls_sign_algorithm_t)GNUTLS_FLAGS_TO_SIGN_ALGO(flags), h->pk) >= 0;
    return -1;
}

static void drop(gnutls_privkey_t key, void *user)
{
    (void)key;
    free(user);
}

cm_status cm__signer_handle(const struct cm_key *key, gnutls_privkey_t *ret, struct cm_err *err)
{
    struct cm_span url = cm__key_url(key);
    struct handle *h = cm_calloc(1, sizeof *h + url.len);
    gnutls_privkey_t made = NULL;

    if (h == NULL)
        return cm_fail_nomem(err);
    memcpy(h->url, url.data, url.len);
    h->url_len = url.len;
    h->pk = key->rsa_bits != 0    ? GNUTLS_PK_RSA
            : key->curve.len != 0 ? GNUTLS_PK_ECDSA
                                  : GNUTLS_PK_EDDSA_ED25519;
    h->bits = key->rsa_bits != 0 ? key->rsa_bits : key->type == CM_PK_P384 ? 384 : 256;
    int rc = gnutls_privkey_init(&made);
    if (rc >= 0)
        rc = gnutls_privkey_import_ext4(made, h, sign_data, sign_hash, NULL, drop, info,
                                        GNUTLS_PRIVKEY_IMPORT_AUTO_RELEASE);
    if (rc < 0) {
        if (made != NULL)
            gnutls_privkey_deinit(made);
        free(h);
        return cm_fail_gnutls(err, CM_E_INTERNAL, rc, "key of a signer");
    }
    *ret = made;
    return CM_OK;
}

cm_status cm__signer_sign(const struct cm_key *key, gnutls_sign_algorithm_t algo,
                          struct cm_span input, struct cm_buf *out, struct cm_err *err)
{
    gnutls_pk_algorithm_t pk = gnutls_sign_get_pk_algorithm(algo);
    int i = scheme_of(algo, pk);
    uint8_t digest[64];

    CM_ASSERT(i >= 0);
    if (schemes[i].hash != GNUTLS_DIG_UNKNOWN) {
        int rc = gnutls_hash_fast(schemes[i].hash, input.data, input.len, digest);

        if (rc < 0)
            return cm_fail_gnutls(err, CM_E_INTERNAL, rc, "hash");
        input = (struct cm_span){ digest, gnutls_hash_get_len(schemes[i].hash) };
    }
    return sign(cm__key_url(key), schemes[i].alg, input, out, err);
}
