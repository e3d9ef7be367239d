/* SPDX-License-Identifier: Apache-2.0 */
#include "adapter.h"

#include <openssl/core_names.h>
#include <openssl/rand.h>
#include <string.h>

/* Tickets as RFC 5077 4 recommends them: AES-256-CBC, HMAC-SHA-256. The keys come from those that
 * the nodes share. A ticket holds OpenSSL's whole session, and in it the context that tells for
 * which name it is: OpenSSL does not resume one whose context is another. */

#define NAME_LEN 16u

/* What the 64 bytes of a secret are used for. */
struct keys {
    uint8_t name[NAME_LEN];
    uint8_t mac[16];
    uint8_t cipher[32];
};
_Static_assert(sizeof(struct keys) == CM_TICKET_KEY_LEN, "a secret is cut into these");

static int init_mac(EVP_MAC_CTX *mac, struct keys *k)
{
    char digest[] = "SHA256";
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, k->mac, sizeof k->mac),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };

    return EVP_MAC_CTX_set_params(mac, params);
}

static int seal(struct keys *k, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                EVP_MAC_CTX *mac)
{
    if (RAND_bytes(iv, EVP_MAX_IV_LENGTH) != 1)
        return -1;
    memcpy(name, k->name, NAME_LEN);
    if (EVP_EncryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, k->cipher, iv) != 1 ||
        init_mac(mac, k) != 1)
        return -1;
    return 1;
}

/* 0: not one of ours, a full handshake follows. 2: the client gets a new ticket. */
static int unseal(struct keys *k, size_t n, const unsigned char *name, const unsigned char *iv,
                  EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac)
{
    size_t i = 0;

    while (i < n && memcmp(k[i].name, name, NAME_LEN) != 0)
        i++;
    if (i == n)
        return 0;
    if (init_mac(mac, &k[i]) != 1 ||
        EVP_DecryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, k[i].cipher, iv) != 1)
        return -1;
    return i == 0 ? 1 : 2;
}

int cm_ossl_ticket_key(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                       EVP_MAC_CTX *mac, int enc)
{
    const struct cm_ossl_session *st = cm_ossl_session_of(ssl);
    uint8_t secrets[CM_TICKET_KEYS][CM_TICKET_KEY_LEN];
    struct keys k[CM_TICKET_KEYS];
    size_t n = 0;
    int rc = 0;

    if (st == NULL || cm_config_ticket_keys(st->of->cfg, "OpenSSL 3", secrets, &n, NULL) != CM_OK ||
        n == 0)
        return enc != 0 ? -1 : 0;
    memcpy(k, secrets, n * sizeof k[0]);
    rc = enc != 0 ? seal(&k[0], name, iv, cipher, mac) : unseal(k, n, name, iv, cipher, mac);
    cm_wipe(k, sizeof k);
    cm_wipe(secrets, sizeof secrets);
    return rc;
}

cm_status cm_ossl_set_context(SSL *ssl, const struct cm_ossl_session *st, struct cm_err *err)
{
    const char *text = st->of->session_context != NULL ? st->of->session_context : "";
    /* With their NUL: no two can be mistaken for each other. */
    const char *parts[] = { text, st->server_name, st->local_ip };
    uint8_t mode = (uint8_t)(SSL_get_verify_mode(ssl) | (st->challenge ? 0x80 : 0));
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    bool ok = md != NULL && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1 &&
              EVP_DigestUpdate(md, &mode, 1) == 1;

    for (size_t i = 0; i < sizeof parts / sizeof parts[0] && ok; i++)
        ok = EVP_DigestUpdate(md, parts[i], strlen(parts[i]) + 1) == 1;
    ok = ok && EVP_DigestFinal_ex(md, digest, &len) == 1 && len == CM_OSSL_CONTEXT_LEN &&
         SSL_set_session_id_context(ssl, digest, len) == 1;
    EVP_MD_CTX_free(md);
    return ok ? CM_OK : cm_ossl_fail(err, CM_E_TLS, "set the session ID context");
}
