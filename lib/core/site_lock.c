/* SPDX-License-Identifier: Apache-2.0 */
#include "core_private.h"

#include <string.h>

/* Which lock guards the directory of a certificate. Who obtains knows the names and goes from them
 * to the lock and to the directory; who finds a directory has to go back, and the directory alone
 * does not tell: "a.testb.test" may be one name or two. */

/* Of all @names together, or of one of them: peers may certify more than the name that they store
 * it under. CM_E_CERT when their directory is another one. */
static cm_status subject_at(const char *const *names, size_t n, const char *dir,
                            struct cm_subject **ret, struct cm_err *err)
{
    for (size_t i = 0; i <= n; i++) {
        struct cm_subject *s = NULL;
        cm_status rc = i == 0 ? cm_subject_new(names, n, &s, NULL)
                              : cm_subject_new(&names[i - 1], 1, &s, NULL);

        if (rc == CM_E_NOMEM)
            return cm_fail_nomem(err);
        if (rc == CM_OK && strcmp(s->dir, dir) == 0) {
            *ret = s;
            return CM_OK;
        }
        cm_subject_free(s);
    }
    return cm_fail(err, CM_E_CERT, "what lies in '%s' is for '%s'", dir,
                   n > 0 && names[0] != NULL ? names[0] : "no name");
}

static cm_status told_by_meta(struct cm_span json, const char *dir, struct cm_subject **ret,
                              struct cm_err *err)
{
    struct cm_meta m;
    cm_status rc = cm_meta_parse(json, &m, err);

    if (rc != CM_OK)
        return rc;
    rc = subject_at((const char *const *)m.sans, m.n_sans, dir, ret, err);
    cm_meta_free(&m);
    return rc;
}

static cm_status told_by_chain(struct cm_span pem, const char *dir, struct cm_subject **ret,
                               struct cm_err *err)
{
    struct cm_chain chain = { .n = 0 };
    struct cm_leaf *leaf = NULL;
    cm_status rc = cm_chain_from_pem(pem, &chain, err);

    if (rc == CM_OK)
        rc = cm_leaf_parse(chain.der[0], &leaf, err);
    if (rc == CM_OK)
        rc = subject_at((const char *const *)leaf->names, leaf->n_names, dir, ret, err);
    cm_leaf_free(leaf);
    cm_chain_free(&chain);
    return rc;
}

/* The one name that would be stored there, going back what Safe() does: of wildcards and of IPv6
 * addresses it makes something else. */
static cm_status told_by_itself(const char *dir, struct cm_subject **ret, struct cm_err *err)
{
    static const char wildcard[] = "wildcard_";
    CM_AUTO_FREE char *address = cm_strdup(dir);
    CM_AUTO_FREE char *star = NULL;
    const char *names[3];
    size_t n = 0;

    if (strncmp(dir, wildcard, sizeof wildcard - 1) == 0)
        star = cm_asprintf("*%s", dir + sizeof wildcard - 1);
    else
        star = cm_strdup(dir);
    if (address == NULL || star == NULL)
        return cm_fail_nomem(err);
    for (char *c = strchr(address, '-'); c != NULL; c = strchr(c, '-'))
        *c = ':';
    names[n++] = star;
    if (strchr(address, ':') != NULL)
        names[n++] = address;
    if (n == 2) { /* "2001-db8--1" could be the name of a host; nobody calls one so */
        names[0] = address;
        names[1] = star;
    }
    for (size_t i = 0; i < n; i++) {
        cm_status rc = subject_at(&names[i], 1, dir, ret, err);

        if (rc != CM_E_CERT)
            return rc;
    }
    return cm_fail(err, CM_E_INVAL, "'%s' is no directory of a certificate", dir);
}

cm_status cm_site_lock_name(const char *dir, struct cm_span meta_json, struct cm_span chain_pem,
                            char ret[CM_LOCK_NAME_MAX + 1], struct cm_err *err)
{
    struct cm_subject *s = NULL;
    char lock[CM_LOCK_NAME_MAX + 1];
    cm_status rc = CM_E_CERT;

    if (dir == NULL || ret == NULL || dir[0] == '\0' || strchr(dir, '/') != NULL)
        return cm_fail(err, CM_E_INVAL, "no directory of a certificate given");
    if (meta_json.len == 0 && chain_pem.len == 0)
        rc = told_by_itself(dir, &s, err);
    if (meta_json.len > 0)
        rc = told_by_meta(meta_json, dir, &s, err);
    if (rc != CM_OK && rc != CM_E_NOMEM && chain_pem.len > 0)
        rc = told_by_chain(chain_pem, dir, &s, err);
    if (rc == CM_OK)
        rc = cm_lock_issue(s->ident, lock, err);
    else if (rc != CM_E_NOMEM && rc != CM_E_INVAL)
        rc = cm_wrap(err, CM_E_CERT, "nothing tells for what names '%s' is", dir);
    if (rc == CM_OK)
        memcpy(ret, lock, sizeof lock);
    cm_subject_free(s);
    return rc;
}
