/* SPDX-License-Identifier: Apache-2.0 */
#include "key.h"
#include "pem.h"
#include "pki_gnutls.h"

#include <gnutls/crypto.h>
#include <gnutls/pkcs11.h>
#include <string.h>
#include <sys/stat.h>

/* Keys that stay in a PKCS#11 token: their URLs, and how they are made and opened; how they are
 * signed with: key_session.c; with a signer: key_signer.c. What is kept of one is its URL (RFC
 * 7512) and its public half, so that certificates are matched, loaded and listed without the
 * token; only who signs needs it.
 *
 * The PIN is in a file that the URL names as pin-source. GnuTLS gets it in place of that name, in a
 * copy of the URL that lives for one call: its own way to read the file takes a newline at the end
 * for a part of the PIN, and its callbacks are the process's. */

#define URL_MAX   (CM_KEY_URL_MAX - 1)
#define PIN_MAX   255u
#define LABEL_MAX 64u
#define ID_LEN    16u
#define SPKI_MAX  2048u /* RSA of 8192 bits has 1062 */
#define PEM_LABEL "PUBLIC KEY"

static const char scheme[] = "pkcs11:";

bool cm__key_is_url(struct cm_span bytes)
{
    return cm__key_is_signers(bytes) ||
           (bytes.len >= sizeof scheme - 1 && memcmp(bytes.data, scheme, sizeof scheme - 1) == 0);
}

struct cm_span cm__key_url(const struct cm_key *key)
{
    return (struct cm_span){ key->der, key->url_len };
}

bool cm_key_is_elsewhere(const struct cm_key *key)
{
    return key->url_len != 0;
}

/* --------------------------------------------------------------- the URL's text */

/* The next attribute of a path (@sep ';') or query ('&'); false at the end. */
static bool next_attr(struct cm_span *in, char sep, struct cm_span *ret)
{
    if (in->len == 0)
        return false;
    const uint8_t *end = memchr(in->data, sep, in->len);
    size_t len = end != NULL ? (size_t)(end - in->data) : in->len;
    size_t past = end != NULL ? len + 1 : len;

    *ret = (struct cm_span){ in->data, len };
    in->data += past;
    in->len -= past;
    return true;
}

static bool is_attr(struct cm_span attr, const char *name, struct cm_span *ret_value)
{
    size_t len = strlen(name);

    if (attr.len <= len || memcmp(attr.data, name, len) != 0 || attr.data[len] != '=')
        return false;
    *ret_value = (struct cm_span){ attr.data + len + 1, attr.len - len - 1 };
    return true;
}

struct url {
    struct cm_span path; /* without the scheme */
    struct cm_span query;
    struct cm_span pin_source;
    bool names_object;
};

/* Neither is for a URL that lies in storage: a PIN is no secret there, and a module is code. */
static cm_status check_attr(struct cm_span attr, struct url *u, struct cm_err *err)
{
    struct cm_span value;

    if (is_attr(attr, "pin-value", &value))
        return cm_fail(err, CM_E_INVAL,
                       "URL of a key: it holds a PIN; put that into a file, and say "
                       "pin-source=file:/path/of/it");
    if (is_attr(attr, "module-path", &value) || is_attr(attr, "module-name", &value))
        return cm_fail(err, CM_E_INVAL,
                       "URL of a key: it names a module; tell p11-kit of modules, in "
                       "/etc/pkcs11/modules");
    if (is_attr(attr, "pin-source", &value))
        u->pin_source = value;
    if (is_attr(attr, "object", &value) || is_attr(attr, "id", &value))
        u->names_object = true;
    return CM_OK;
}

static cm_status url_split(struct cm_span url, struct url *ret, struct cm_err *err)
{
    struct cm_span attr, rest;
    cm_status rc = CM_OK;

    memset(ret, 0, sizeof *ret);
    if (!cm__key_is_url(url) || url.len > URL_MAX)
        return cm_fail(err, CM_E_INVAL,
                       "URL of a key: it has to begin with pkcs11: and to be no "
                       "longer than 1024 bytes");
    for (size_t i = 0; i < url.len; i++)
        if (url.data[i] <= ' ' || url.data[i] > '~')
            return cm_fail(err, CM_E_INVAL,
                           "URL of a key: byte %zu is a space or no ASCII; write it as %%XX", i);
    if (cm__key_is_signers(url))
        return cm__signer_url_check(url, err);
    size_t skip = sizeof scheme - 1;
    ret->path = (struct cm_span){ url.data + skip, url.len - skip };
    const uint8_t *mark = memchr(url.data, '?', url.len);
    if (mark != NULL) {
        ret->path.len = (size_t)(mark - ret->path.data);
        ret->query = (struct cm_span){ mark + 1, url.len - (size_t)(mark + 1 - url.data) };
    }
    rest = ret->path;
    while (rc == CM_OK && next_attr(&rest, ';', &attr))
        rc = check_attr(attr, ret, err);
    rest = ret->query;
    while (rc == CM_OK && next_attr(&rest, '&', &attr))
        rc = check_attr(attr, ret, err);
    return rc;
}

static cm_status put_span(struct cm_buf *out, struct cm_span s, struct cm_err *err)
{
    return s.len > 0 ? cm_buf_append(out, s.data, s.len, err) : CM_OK;
}

static cm_status put_percent(struct cm_buf *out, struct cm_span s, struct cm_err *err)
{
    cm_status rc = CM_OK;

    for (size_t i = 0; i < s.len && rc == CM_OK; i++)
        rc = cm_buf_printf(out, err, "%%%02x", s.data[i]);
    return rc;
}

static int hex_of(uint8_t c)
{
    return c >= '0' && c <= '9'                     ? c - '0'
           : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10
                                                    : -1;
}

static cm_status put_decoded(struct cm_buf *out, struct cm_span s, struct cm_err *err)
{
    cm_status rc = CM_OK;

    for (size_t i = 0; i < s.len && rc == CM_OK; i++) {
        uint8_t c = s.data[i];

        if (c == '%' && i + 2 < s.len && hex_of(s.data[i + 1]) >= 0 && hex_of(s.data[i + 2]) >= 0) {
            c = (uint8_t)(hex_of(s.data[i + 1]) * 16 + hex_of(s.data[i + 2]));
            i += 2;
        }
        rc = c != 0 ? cm_buf_append(out, &c, 1, err)
                    : cm_fail(err, CM_E_INVAL, "URL of a key: pin-source has a NUL");
    }
    return rc;
}

/* ------------------------------------------------------------------- the PIN */

/* The file with the PIN; CM_E_INVAL if it cannot be one. */
static cm_status pin_file(const struct url *u, struct cm_buf *source, const char **ret,
                          struct cm_err *err)
{
    static const char file[] = "file:";
    cm_status rc = put_decoded(source, u->pin_source, err);
    const char *path = cm_buf_str(source);

    if (rc != CM_OK)
        return rc;
    if (strncmp(path, file, sizeof file - 1) == 0)
        path += sizeof file - 1;
    if (strncmp(path, "///", 3) == 0)
        path += 2;
    if (path[0] != '/')
        return cm_fail(err, CM_E_INVAL, "URL of a key: pin-source has to be file:/path/of/a/file");
    *ret = path;
    return CM_OK;
}

void cm__token_pin_mark(struct cm_span url, struct cm_pin_mark *ret)
{
    CM_AUTO_BUF struct cm_buf source = CM_BUF_INIT(URL_MAX + 1);
    const char *path = NULL;
    struct stat st;
    struct url u;

    *ret = (struct cm_pin_mark){ .ino = 0 };
    if (url_split(url, &u, NULL) != CM_OK || u.pin_source.len == 0 ||
        pin_file(&u, &source, &path, NULL) != CM_OK || stat(path, &st) != 0)
        return;
    *ret = (struct cm_pin_mark){ .ino = (uint64_t)st.st_ino,
                                 .s = (int64_t)st.st_ctim.tv_sec,
                                 .ns = (int64_t)st.st_ctim.tv_nsec };
}

static cm_status read_pin(const struct url *u, struct cm_buf *pin, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf source = CM_BUF_INIT(URL_MAX + 1);
    const char *path = NULL;
    cm_status rc = pin_file(u, &source, &path, err);

    if (rc != CM_OK)
        return rc;
    rc = cm_read_private_file(path, pin, err);
    if (rc == CM_E_NOTFOUND) {
        rc = CM_E_IO; /* "not found" would mean that there is no key */
        if (err != NULL)
            err->status = rc;
    }
    if (rc != CM_OK)
        return cm_wrap(err, rc, "PIN of a token");
    while (pin->len > 0 && (pin->data[pin->len - 1] == '\n' || pin->data[pin->len - 1] == '\r'))
        pin->len--;
    return CM_OK;
}

/* As GnuTLS wants it, with the PIN. @out: a secret buffer. */
static cm_status url_with_pin(const struct url *u, struct cm_buf *out, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf pin = CM_BUF_SECRET(PIN_MAX);
    struct cm_span rest = u->query, attr, value;
    char sep = '?';
    cm_status rc = cm_buf_puts(out, scheme, err);

    if (rc == CM_OK)
        rc = put_span(out, u->path, err);
    while (rc == CM_OK && next_attr(&rest, '&', &attr)) {
        if (is_attr(attr, "pin-source", &value))
            continue;
        rc = cm_buf_printf(out, err, "%c", sep);
        if (rc == CM_OK)
            rc = put_span(out, attr, err);
        sep = '&';
    }
    if (rc != CM_OK || u->pin_source.len == 0)
        return rc;
    rc = read_pin(u, &pin, err);
    if (rc == CM_OK)
        rc = cm_buf_printf(out, err, "%cpin-value=", sep);
    return rc == CM_OK ? put_percent(out, cm_buf_span(&pin), err) : rc;
}

/* ------------------------------------------------------------------ the token */

cm_status cm__key_url_fail(struct cm_span url, int gnutls_rc, const char *what, struct cm_err *err)
{
    char shown[200];
    cm_status rc = CM_E_IO; /* not the key's fault: nothing is to be made anew for it */

    (void)cm_escape((const char *)url.data, url.len, shown, sizeof shown);
    switch (gnutls_rc) {
    case GNUTLS_E_PKCS11_PIN_ERROR:
    case GNUTLS_E_PKCS11_PIN_EXPIRED:
    case GNUTLS_E_PKCS11_PIN_LOCKED:
    case GNUTLS_E_PKCS11_USER_ERROR:
        rc = CM_E_PERM;
        break;
    case GNUTLS_E_PKCS11_UNSUPPORTED_FEATURE_ERROR:
    case GNUTLS_E_UNIMPLEMENTED_FEATURE:
        rc = CM_E_UNSUPPORTED;
        break;
    default:
        break;
    }
    return cm_fail(err, rc, "%s (%s): %s%s", what, shown, gnutls_strerror(gnutls_rc),
                   rc == CM_E_IO     ? "; is the token there, and the key in it?"
                   : rc == CM_E_PERM ? "; look at the file that pin-source names"
                                     : "");
}

cm_status cm__token_open(struct cm_span url, gnutls_privkey_t *ret, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf full = CM_BUF_SECRET(2 * URL_MAX);
    gnutls_privkey_t handle = NULL;
    struct url u;
    cm_status st = url_split(url, &u, err);

    if (st == CM_OK)
        st = url_with_pin(&u, &full, err);
    if (st != CM_OK)
        return st;
    int rc = gnutls_privkey_init(&handle);
    if (rc >= 0)
        rc = gnutls_privkey_import_url(handle, cm_buf_str(&full), 0);
    if (rc < 0) {
        if (handle != NULL)
            gnutls_privkey_deinit(handle);
        return cm__key_url_fail(url, rc, "use the key in a token", err);
    }
    *ret = handle;
    return CM_OK;
}

static cm_status ask_public_within(struct cm_span url, struct cm_buf *out, struct cm_err *err)
{
    gnutls_privkey_t handle = NULL;
    gnutls_pubkey_t pub = NULL;
    gnutls_datum_t der = { NULL, 0 };
    cm_status st = cm__token_open(url, &handle, err);

    if (st != CM_OK)
        return st;
    int rc = gnutls_pubkey_init(&pub);
    if (rc >= 0)
        rc = gnutls_pubkey_import_privkey(pub, handle, 0, 0);
    if (rc >= 0)
        rc = gnutls_pubkey_export2(pub, GNUTLS_X509_FMT_DER, &der);
    st = rc < 0 ? cm__key_url_fail(url, rc, "read the public half of a key in a token", err)
                : cm_buf_append(out, der.data, der.size, err);
    gnutls_free(der.data);
    if (pub != NULL)
        gnutls_pubkey_deinit(pub);
    gnutls_privkey_deinit(handle);
    return st;
}

/* The public half, as the token has it. */
static cm_status ask_public(struct cm_span url, struct cm_buf *out, struct cm_err *err)
{
    cm_status rc = cm__token_enter(err);

    if (rc != CM_OK)
        return rc;
    rc = ask_public_within(url, out, err);
    cm__token_leave();
    if (rc == CM_E_IO)
        cm__token_missed();
    return rc;
}

/* -------------------------------------------------------------- form and text */

cm_status cm__key_url_shape(struct cm_span form, struct cm_key_shape *ret, struct cm_err *err)
{
    const uint8_t *end = memchr(form.data, '\n', form.len);
    struct cm_spki spki;
    struct url u;

    if (end == NULL)
        return cm_fail(err, CM_E_PARSE, "URL of a key: its public half is missing");
    size_t len = (size_t)(end - form.data);
    cm_status rc = url_split((struct cm_span){ form.data, len }, &u, err);
    if (rc != CM_OK)
        return rc;
    if (cm_spki_parse((struct cm_span){ end + 1, form.len - len - 1 }, &spki) != CM_OK ||
        (spki.type == CM_PK_OTHER && spki.rsa_bits < CM_RSA_BITS_MIN))
        return cm_fail(err, CM_E_PARSE,
                       "URL of a key: its public half is malformed, or of a type "
                       "that is not known here");
    memset(ret, 0, sizeof *ret);
    ret->type = spki.type;
    ret->rsa_bits = spki.rsa_bits;
    ret->url_len = len;
    if (spki.type == CM_PK_P256)
        ret->curve = CM_SPAN_OF(cm_oid_p256);
    else if (spki.type == CM_PK_P384)
        ret->curve = CM_SPAN_OF(cm_oid_p384);
    return CM_OK;
}

/* The first "PUBLIC KEY" of @pem; CM_E_NOTFOUND if there is none. */
static cm_status take_public(struct cm_span pem, struct cm_buf *out, struct cm_err *err)
{
    uint8_t der[SPKI_MAX];
    struct cm_pem_block block;
    size_t len = 0;

    for (;;) {
        cm_status rc = cm_pem_next(&pem, &block, err);
        if (rc != CM_OK)
            return rc;
        if (block.label.len == sizeof PEM_LABEL - 1 &&
            memcmp(block.label.data, PEM_LABEL, block.label.len) == 0)
            break;
    }
    if (cm_pem_bound(block.body) > sizeof der || !cm_pem_decode(block.body, der, &len))
        return cm_fail(err, CM_E_PARSE, "URL of a key: its public half is no PEM, or too large");
    return cm_buf_append(out, der, len, err);
}

cm_status cm__key_url_parse(struct cm_span text, struct cm_buf *out, struct cm_err *err)
{
    const uint8_t *end = memchr(text.data, '\n', text.len);
    size_t len = end != NULL ? (size_t)(end - text.data) : text.len;
    struct cm_span url = { text.data, len };
    struct url u;

    while (url.len > 0 && (url.data[url.len - 1] == '\r' || url.data[url.len - 1] == ' '))
        url.len--;
    cm_status rc = url_split(url, &u, err);
    if (rc == CM_OK)
        rc = cm_buf_append(out, url.data, url.len, err);
    if (rc == CM_OK)
        rc = cm_buf_puts(out, "\n", err);
    if (rc != CM_OK)
        return rc;
    rc = take_public((struct cm_span){ text.data + len, text.len - len }, out, err);
    if (rc == CM_E_NOTFOUND && cm__key_is_signers(url))
        return cm_fail(err, CM_E_PARSE,
                       "key of a signer: behind its name the public half is "
                       "needed, as PEM");
    return rc == CM_E_NOTFOUND ? ask_public(url, out, err) : rc;
}

cm_status cm__key_url_text(const struct cm_key *key, struct cm_buf *out, struct cm_err *err)
{
    size_t skip = key->url_len + 1;
    cm_status rc = cm_buf_append(out, key->der, skip, err);

    return rc == CM_OK
               ? cm_pem_encode(PEM_LABEL, (struct cm_span){ key->der + skip, key->der_len - skip },
                               out, err)
               : rc;
}

/* ------------------------------------------------------------------ new ones */

cm_status cm_key_url_check(const char *url, struct cm_err *err)
{
    struct url u;
    cm_status rc = url_split(cm_span_str(url), &u, err);

    if (rc == CM_OK && cm__key_is_signers(cm_span_str(url)))
        rc = cm_fail(err, CM_E_INVAL, "URL of a token: it has to begin with pkcs11:");
    if (rc == CM_OK && u.names_object)
        rc = cm_fail(err, CM_E_INVAL,
                     "URL of a token: it names an object; keys get names of their own there");
    return rc;
}

/* "pkcs11:<token>;id=..;object=..;type=private?<query>": nothing else in the token has that id. */
static cm_status object_url(const struct url *u, const uint8_t id[ID_LEN], const char *label,
                            struct cm_buf *out, struct cm_err *err)
{
    cm_status rc = cm_buf_puts(out, scheme, err);

    if (rc == CM_OK)
        rc = put_span(out, u->path, err);
    if (rc == CM_OK)
        rc = cm_buf_puts(out, u->path.len > 0 ? ";id=" : "id=", err);
    if (rc == CM_OK)
        rc = put_percent(out, (struct cm_span){ id, ID_LEN }, err);
    if (rc == CM_OK)
        rc = cm_buf_puts(out, ";object=", err);
    for (; rc == CM_OK && *label != '\0'; label++) {
        bool plain = (*label >= 'a' && *label <= 'z') || (*label >= '0' && *label <= '9') ||
                     *label == '.' || *label == '-' || *label == '_';

        rc = plain ? cm_buf_append(out, label, 1, err)
                   : put_percent(out, (struct cm_span){ (const uint8_t *)label, 1 }, err);
    }
    if (rc == CM_OK)
        rc = cm_buf_puts(out, ";type=private", err);
    if (rc == CM_OK && u->query.len > 0)
        rc = cm_buf_puts(out, "?", err);
    return rc == CM_OK ? put_span(out, u->query, err) : rc;
}

static cm_status make(struct cm_span token, const struct url *u, enum cm_pk type,
                      const uint8_t id[ID_LEN], const char *label, struct cm_buf *ret_spki,
                      struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf full = CM_BUF_SECRET(2 * URL_MAX);
    gnutls_datum_t cid = { (unsigned char *)(uintptr_t)id, ID_LEN };
    gnutls_datum_t pub = { NULL, 0 };
    gnutls_pk_algorithm_t alg;
    unsigned bits;

    if (!cm__pk_params(type, &alg, &bits))
        return cm_fail(err, CM_E_INVAL, "keys of type %d cannot be generated", (int)type);
    cm_status st = url_with_pin(u, &full, err);
    if (st != CM_OK)
        return st;
    unsigned flags = GNUTLS_PKCS11_OBJ_FLAG_LOGIN | GNUTLS_PKCS11_OBJ_FLAG_MARK_PRIVATE |
                     GNUTLS_PKCS11_OBJ_FLAG_MARK_SENSITIVE;
    st = cm__token_enter(err);
    if (st != CM_OK)
        return st;
    int rc = gnutls_pkcs11_privkey_generate3(cm_buf_str(&full), alg, bits, label, &cid,
                                             GNUTLS_X509_FMT_DER, &pub, 0, flags);
    cm__token_leave();
    if (rc < 0) {
        st = cm__key_url_fail(token, rc, "make a key in a token", err);
        if (st == CM_E_IO)
            cm__token_missed();
        return st;
    }
    st = cm_buf_append(ret_spki, pub.data, pub.size, err);
    gnutls_free(pub.data);
    return st;
}

cm_status cm_key_generate_at(const char *url, enum cm_pk type, const char *label,
                             struct cm_key **ret, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf form = CM_BUF_SECRET(CM_KEY_DER_MAX);
    char name[LABEL_MAX + 1];
    uint8_t id[ID_LEN];
    struct url u, made;
    size_t len = strnlen(label, LABEL_MAX);

    memcpy(name, label, len);
    name[len] = '\0';
    cm_status rc = cm_key_url_check(url, err);
    if (rc == CM_OK)
        rc = url_split(cm_span_str(url), &u, err);
    if (rc == CM_OK && gnutls_rnd(GNUTLS_RND_NONCE, id, sizeof id) < 0)
        rc = cm_fail(err, CM_E_INTERNAL, "no randomness for the id of a key");
    if (rc == CM_OK)
        rc = object_url(&u, id, name, &form, err);
    if (rc == CM_OK) /* before there is a key that nobody could name */
        rc = url_split(cm_buf_span(&form), &made, err);
    if (rc == CM_OK)
        rc = cm_buf_puts(&form, "\n", err);
    if (rc == CM_OK)
        rc = make(cm_span_str(url), &u, type == CM_PK_DEFAULT ? CM_PK_P256 : type, id, name, &form,
                  err);
    return rc == CM_OK ? cm_key_from_der(cm_buf_span(&form), ret, err) : rc;
}
