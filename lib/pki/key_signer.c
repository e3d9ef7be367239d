/* SPDX-License-Identifier: Apache-2.0 */
#include "key_ext.h"
#include "pki_gnutls.h"

#include <gnutls/crypto.h>
#include <string.h>

/* Keys that a signer of the program's has: "signer:NAME/KEY" and the public half. Signers are the
 * process's, by name: keys are read in places that know of no configuration. */

#define SIGNERS_MAX     8u
#define SIGNER_NAME_MAX 32u
#define TIMEOUT_NS      (5 * CM_NS_PER_S)

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
    struct cm_buf sig = CM_BUF_INIT(CM_SIG_MAX);
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

struct handle {
    struct cm_ext ext;
    size_t url_len;
    char url[];
};

static cm_status give(const struct cm_ext *ext, enum cm_sign_alg alg, struct cm_span input,
                      struct cm_buf *ret)
{
    const struct handle *h = CM_CONTAINER_OF(ext, struct handle, ext);

    return sign((struct cm_span){ (const uint8_t *)h->url, h->url_len }, alg, input, ret, NULL);
}

static void drop(struct cm_ext *ext)
{
    free(CM_CONTAINER_OF(ext, struct handle, ext));
}

cm_status cm__signer_handle(const struct cm_key *key, gnutls_privkey_t *ret, struct cm_err *err)
{
    struct cm_span url = cm__key_url(key);
    struct handle *h = cm_calloc(1, sizeof *h + url.len);

    if (h == NULL)
        return cm_fail_nomem(err);
    memcpy(h->url, url.data, url.len);
    h->url_len = url.len;
    h->ext.give = give;
    h->ext.drop = drop;
    return cm__ext_handle(key, &h->ext, ret, err);
}

cm_status cm__signer_sign(const struct cm_key *key, gnutls_sign_algorithm_t algo,
                          struct cm_span input, struct cm_buf *out, struct cm_err *err)
{
    gnutls_pk_algorithm_t pk = gnutls_sign_get_pk_algorithm(algo);
    gnutls_digest_algorithm_t hash;
    enum cm_sign_alg alg;
    uint8_t digest[64];

    CM_ASSERT(cm__ext_scheme(algo, pk, &alg, &hash));
    if (hash != GNUTLS_DIG_UNKNOWN) {
        int rc = gnutls_hash_fast(hash, input.data, input.len, digest);

        if (rc < 0)
            return cm_fail_gnutls(err, CM_E_INTERNAL, rc, "hash");
        input = (struct cm_span){ digest, gnutls_hash_get_len(hash) };
    }
    return sign(cm__key_url(key), alg, input, out, err);
}
