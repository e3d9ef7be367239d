/* SPDX-License-Identifier: Apache-2.0 */
#include "staple.h"

#include <stdio.h>
#include <string.h>

/* Staples in storage, where CertMagic looks for them: under the name of the certificate and a hash
 * of its chain. By which bytes of the chain it makes the hash depends on how it came to the
 * certificate: as they lie in storage at its start, newly encoded from then on. They differ where
 * a CA's PEM is not the usual form; then there are two keys, and both count. */

static bool is_first_of(struct cm_span pem, const struct cm_cert *cert)
{
    struct cm_chain chain = { .n = 0 };
    bool same = false;

    if (cm_chain_from_pem(pem, &chain, NULL) == CM_OK) {
        struct cm_span leaf = cm_cert_der(cert, 0);

        same = chain.der[0].len == leaf.len && memcmp(chain.der[0].data, leaf.data, leaf.len) == 0;
    }
    cm_chain_free(&chain);
    return same;
}

/* The chain of a managed certificate as it lies in storage. CM_E_NOTFOUND also when that is of
 * another certificate by now. */
static cm_status stored_chain(struct cm_config *cfg, const struct cm_op *op,
                              const struct cm_cert *cert, struct cm_buf *ret, struct cm_err *err)
{
    CM_AUTO_FREE const char **names = cm_calloc(cm_cert_name_count(cert), sizeof(char *));
    struct cm_subject *subject = NULL;
    char path[CM_KEY_BUF];

    if (names == NULL)
        return cm_fail_nomem(err);
    for (size_t i = 0; i < cm_cert_name_count(cert); i++)
        names[i] = cm_cert_name(cert, i);
    cm_status rc = cm_subject_new(names, cm_cert_name_count(cert), &subject, err);
    if (rc == CM_OK)
        rc = cm_path_cert(cm_cert_issuer_key(cert), subject->dir, ".crt", path, err);
    if (rc == CM_OK)
        rc = cm_storage_load(cfg->storage, op, path, ret, err);
    if (rc == CM_OK && !is_first_of(cm_buf_span(ret), cert))
        rc = cm_fail(err, CM_E_NOTFOUND, "'%s' is another certificate by now", path);
    cm_subject_free(subject);
    return rc;
}

/* The name that peers put first: the common name in lower case, else the first DNS name, else the
 * first address. */
static cm_status first_name(const struct cm_leaf *leaf, char ret[CM_NAME_BUF], struct cm_err *err)
{
    const char *name = leaf->subject_cn;

    for (size_t i = 0; name[0] == '\0' && i < leaf->n_names; i++)
        if (!cm_name_is_ip(leaf->names[i]))
            name = leaf->names[i];
    if (name[0] == '\0' && leaf->n_names > 0)
        name = leaf->names[0];
    size_t len = strlen(name);
    if (len == 0 || len >= CM_NAME_BUF)
        return cm_fail(err, CM_E_NOTFOUND, "the certificate has no name to keep a staple under");
    for (size_t i = 0; i <= len; i++)
        ret[i] = (char)(name[i] >= 'A' && name[i] <= 'Z' ? name[i] + ('a' - 'A') : name[i]);
    return CM_OK;
}

cm_status cm_staple_keys(struct cm_config *cfg, const struct cm_op *op, const struct cm_cert *cert,
                         const struct cm_leaf *leaf, struct cm_stapling *s, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf canonical = CM_BUF_INIT(CM_CHAIN_PEM_MAX);
    CM_AUTO_BUF struct cm_buf stored = CM_BUF_INIT(CM_PEM_FILE_MAX);
    char paths[2][CM_KEY_BUF];
    char name[CM_NAME_BUF];
    bool two = false;

    if (s->keys[0] != NULL)
        return CM_OK;
    cm_status rc = first_name(leaf, name, err);
    if (rc == CM_OK)
        rc = cm_cert_chain_pem(cert, &canonical, err);
    if (rc == CM_OK)
        rc = cm_path_staple(name, cm_buf_span(&canonical), paths[0], err);
    if (rc == CM_OK && cm_cert_is_managed(cert)) {
        rc = stored_chain(cfg, op, cert, &stored, err);
        if (rc == CM_OK)
            rc = cm_path_staple(name, cm_buf_span(&stored), paths[1], err);
        two = rc == CM_OK && strcmp(paths[0], paths[1]) != 0;
        if (rc == CM_E_NOTFOUND)
            rc = CM_OK;
    }
    if (rc != CM_OK)
        return rc;
    char *first = cm_strdup(paths[0]);
    char *second = two ? cm_strdup(paths[1]) : NULL;
    if (first == NULL || (two && second == NULL)) {
        free(first);
        free(second);
        return cm_fail_nomem(err);
    }
    cm_mutex_lock(&s->lock);
    s->keys[0] = first;
    s->keys[1] = second;
    cm_mutex_unlock(&s->lock);
    return CM_OK;
}

size_t cm_staple_places(const struct cm_cert *cert, char ret[2][CM_KEY_BUF])
{
    struct cm_stapling *s = cm_stapling_look(cert);
    size_t n = 0;

    if (s == NULL)
        return 0;
    cm_mutex_lock(&s->lock);
    for (; n < CM_ARRAY_LEN(s->keys) && s->keys[n] != NULL; n++)
        (void)snprintf(ret[n], CM_KEY_BUF, "%s", s->keys[n]);
    cm_mutex_unlock(&s->lock);
    return n;
}

/* Does this say that the response itself is at fault, now and for ever? */
static bool is_worthless(cm_status rc)
{
    return rc == CM_E_PARSE || rc == CM_E_LIMIT || rc == CM_E_CERT || rc == CM_E_AGAIN ||
           rc == CM_E_POLICY;
}

static cm_status load_one(struct cm_config *cfg, const struct cm_op *op, const char *key,
                          struct cm_span leaf_der, struct cm_span issuer_der, struct cm_buf *ret,
                          struct cm_ocsp *o, struct cm_err *err)
{
    struct cm_err why = CM_ERR_INIT;

    cm_buf_reset(ret);
    cm_status rc = cm_storage_load(cfg->storage, op, key, ret, &why);
    cm_health_note(cfg, rc, &why);
    if (rc == CM_OK)
        rc = cm_ocsp_verify(cm_buf_span(ret), leaf_der, issuer_der, cm_env_wall_s(cfg->env), o,
                            &why);
    if (rc == CM_OK && o->status == CM_OCSP_UNKNOWN)
        rc = cm_fail(&why, CM_E_CERT, "it says that the certificate is unknown");
    if (is_worthless(rc)) {
        cm_logf(&cfg->log, CM_LOG_INFO, "stored_staple_removed", NULL, 0, "'%s': %s", key, why.msg);
        if (cm_storage_remove(cfg->storage, op, key, NULL) != CM_OK)
            cm_logf(&cfg->log, CM_LOG_DEBUG, "staple_not_removed", NULL, 0, "'%s' stays", key);
        rc = cm_fail(err, CM_E_NOTFOUND, "'%s': %s", key, why.msg);
    } else if (rc != CM_OK && err != NULL) {
        *err = why;
    }
    return rc;
}

cm_status cm_staple_load(struct cm_config *cfg, const struct cm_op *op, const struct cm_stapling *s,
                         struct cm_span leaf_der, struct cm_span issuer_der, struct cm_buf *ret_der,
                         struct cm_ocsp *ret, struct cm_err *err)
{
    CM_AUTO_BUF struct cm_buf der = CM_BUF_INIT(CM_OCSP_MAX);
    cm_status rc = cm_fail(err, CM_E_NOTFOUND, "there is no staple in storage");
    bool found = false;

    for (size_t i = 0; i < CM_ARRAY_LEN(s->keys) && s->keys[i] != NULL; i++) {
        struct cm_ocsp o;
        cm_status one = load_one(cfg, op, s->keys[i], leaf_der, issuer_der, &der, &o, err);

        if (one != CM_OK) {
            if (one != CM_E_NOTFOUND)
                rc = one;
            continue;
        }
        if (found && o.this_update_s <= ret->this_update_s)
            continue;
        cm_buf_reset(ret_der);
        one = cm_buf_append(ret_der, der.data, der.len, err);
        if (one != CM_OK)
            return one;
        *ret = o;
        found = true;
    }
    return found ? CM_OK : rc;
}

cm_status cm_staple_store(struct cm_config *cfg, const struct cm_op *op, struct cm_lease *lease,
                          const struct cm_stapling *s, struct cm_span der, struct cm_err *err)
{
    struct cm_commit_item items[CM_ARRAY_LEN(s->keys)];
    size_t n = 0;

    for (; n < CM_ARRAY_LEN(s->keys) && s->keys[n] != NULL; n++)
        items[n] = (struct cm_commit_item){ s->keys[n], der, der.len == 0 };
    if (n == 0)
        return CM_OK;
    return lease != NULL ? cm_lease_commit(lease, op, items, n, err)
                         : cm_storage_commit(cfg->storage, op, NULL, items, n, err);
}
