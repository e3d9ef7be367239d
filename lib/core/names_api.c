/* SPDX-License-Identifier: Apache-2.0 */
#include "core_private.h"

#include <certmesh/cm_names.h>

#include <stdio.h>
#include <string.h>

/* What programs may ask about names. The answers are those that core itself goes by (keys.c). */

static bool ends_with(const char *name, const char *suffix)
{
    size_t n = strlen(name);
    size_t m = strlen(suffix);

    return n >= m && strcmp(name + n - m, suffix) == 0;
}

/* RFC 6761: nobody can own these, so no public CA can find out who does. */
static bool is_reserved(const char *name)
{
    return ends_with(name, ".test") || ends_with(name, ".example") || ends_with(name, ".invalid");
}

cm_status cm_host_qualifies(const char *name, unsigned flags, struct cm_err *err)
{
    char normal[CM_NAME_BUF];

    if ((flags & ~(unsigned)CM_HOST_ADDRESS) != 0)
        return cm_fail(err, CM_E_INVAL, "cm_host_qualifies: unknown flags 0x%x", flags);
    cm_status rc = cm_name_normalize(name, CM_NAME_ALLOW_WILDCARD | CM_NAME_ALLOW_IP, normal, err);
    if (rc != CM_OK)
        return rc;
    bool ip = cm_name_is_ip(normal);
    if (ip && (flags & CM_HOST_ADDRESS) == 0)
        return cm_fail(err, CM_E_POLICY, "%s is an address, not a name", normal);
    if (cm_name_is_internal(normal))
        return cm_fail(err, CM_E_POLICY, "%s is for internal use; no public CA certifies it",
                       normal);
    if (!ip && strchr(normal, '.') == NULL)
        return cm_fail(err, CM_E_POLICY, "%s has one label alone; no public CA certifies it",
                       normal);
    if (!cm_name_is_public(normal))
        return cm_fail(err, CM_E_POLICY, "%s would be all of a top-level domain", normal);
    if (is_reserved(normal))
        return cm_fail(err, CM_E_POLICY, "%s is reserved for tests and texts (RFC 6761)", normal);
    return CM_OK;
}

cm_status cm_names_key(const char *const *names, size_t n, struct cm_buf *ret, struct cm_err *err)
{
    struct cm_subject *s = NULL;

    if (ret == NULL)
        return cm_fail(err, CM_E_INVAL, "cm_names_key: nowhere to put it");
    cm_status rc = cm_subject_new(names, n, &s, err);
    if (rc == CM_OK)
        rc = cm_buf_puts(ret, s->ident, err);
    cm_subject_free(s);
    return rc;
}

/* "certificates", or that of one issuer. */
static cm_status key_of_issuer(const char *issuer_key, char ret[CM_KEY_BUF], struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf safe = CM_BUF_INIT(CM_KEY_BUF);
    char out[CM_KEY_BUF] = "certificates";

    if (issuer_key != NULL) {
        cm_status rc = cm_safe_name(issuer_key, &safe, err);

        if (rc != CM_OK)
            return cm_wrap(err, rc, "issuer key '%s'", issuer_key);
        int len = snprintf(out, sizeof out, "certificates/%s", cm_buf_str(&safe));
        if (len < 0 || (size_t)len >= sizeof out)
            return cm_fail(err, CM_E_INVAL, "the issuer key is too long");
    }
    memcpy(ret, out, sizeof out);
    return CM_OK;
}

cm_status cm_storage_key_site(const char *issuer_key, const char *const *names, size_t n,
                              enum cm_site_file what, char ret[CM_STORAGE_KEY_BUF],
                              struct cm_err *err)
{
    static const char *const suffixes[] = { NULL, ".crt", ".key", ".json" };
    struct cm_subject *s = NULL;

    if (ret == NULL || (unsigned)what >= CM_ARRAY_LEN(suffixes))
        return cm_fail(err, CM_E_INVAL, "cm_storage_key_site: no such file, or nowhere to put it");
    if (n == 0 && what == CM_SITE_FOLDER)
        return key_of_issuer(issuer_key, ret, err);
    if (issuer_key == NULL)
        return cm_fail(err, CM_E_INVAL, "cm_storage_key_site: names without an issuer");
    cm_status rc = cm_subject_new(names, n, &s, err);
    if (rc == CM_OK)
        rc = cm_path_cert(issuer_key, s->dir, suffixes[what], ret, err);
    cm_subject_free(s);
    return rc;
}

cm_status cm_storage_key_staple(const char *name, struct cm_span chain_pem,
                                char ret[CM_STORAGE_KEY_BUF], struct cm_err *err)
{
    char out[CM_KEY_BUF];

    if (name == NULL || ret == NULL)
        return cm_fail(err, CM_E_INVAL, "cm_storage_key_staple: no name, or nowhere to put it");
    cm_status rc = cm_path_staple(name, chain_pem, out, err);
    if (rc == CM_OK)
        memcpy(ret, out, sizeof out);
    return rc;
}

cm_status cm_storage_key_safe(const char *text, char ret[CM_STORAGE_COMPONENT_MAX + 1],
                              struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf safe = CM_BUF_INIT(CM_STORAGE_COMPONENT_MAX);

    if (text == NULL || ret == NULL)
        return cm_fail(err, CM_E_INVAL, "cm_storage_key_safe: no text, or nowhere to put it");
    cm_status rc = cm_safe_name(text, &safe, err);
    if (rc == CM_E_LIMIT)
        return cm_fail(err, CM_E_INVAL, "a component of a key has %u bytes at most",
                       CM_STORAGE_COMPONENT_MAX);
    if (rc == CM_OK)
        memcpy(ret, cm_buf_str(&safe), safe.len + 1);
    return rc;
}
