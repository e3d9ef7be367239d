/* SPDX-License-Identifier: Apache-2.0 */
#include "dns_exec.h"

#include <stdio.h>
#include <string.h>

/* The conventions, and what keeps a name from being more than a name. */

#define CHALLENGE_LABEL "_acme-challenge."

static const struct {
    const char *name;
    const char *add;
    const char *remove;
} styles[] = {
    [DNS_EXEC_LEGO] = { "lego", "present", "cleanup" },
    [DNS_EXEC_LEGO_RAW] = { "lego-raw", "present", "cleanup" },
    [DNS_EXEC_DEHYDRATED] = { "dehydrated", "deploy_challenge", "clean_challenge" },
    [DNS_EXEC_UACME] = { "uacme", "begin", "done" },
};

cm_status dns_exec_style_parse(const char *text, enum dns_exec_style *ret, struct cm_err *err)
{
    char shown[64];

    for (size_t i = 0; i < CM_ARRAY_LEN(styles); i++) {
        if (strcmp(text != NULL ? text : "lego", styles[i].name) == 0) {
            *ret = (enum dns_exec_style)i;
            return CM_OK;
        }
    }
    return cm_fail(err, CM_E_INVAL, "style '%s' is none of lego, lego-raw, dehydrated, uacme",
                   cm_escape(text, strlen(text), shown, sizeof shown));
}

/* Names come from the CA's answer, from users and from CNAMEs of others' zones. */
static bool is_name(const char *s)
{
    static const char ok[] = "abcdefghijklmnopqrstuvwxyz0123456789-_.";
    size_t len = s != NULL ? strnlen(s, 254) : 0;

    return len > 0 && len <= 253 && strspn(s, ok) == len && s[0] != '-' && s[0] != '.' &&
           s[len - 1] != '.' && strstr(s, "..") == NULL && strstr(s, ".-") == NULL;
}

/* base64url and the dot between token and thumbprint. A '-' may come first: that is how the other
 * clients hand it over, too. */
static bool is_word(const char *s, size_t max)
{
    static const char ok[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.";
    size_t len = s != NULL ? strnlen(s, max + 1) : 0;

    return len > 0 && len <= max && strspn(s, ok) == len;
}

static cm_status refuse(const char *bad, struct cm_err *err)
{
    char shown[80];

    return cm_fail(err, CM_E_INVAL, "'%s' is not handed to a program",
                   cm_escape(bad, bad != NULL ? strnlen(bad, 100) : 0, shown, sizeof shown));
}

static cm_status check(const struct cm_dns_record *rec, struct cm_err *err)
{
    if (!is_name(rec->fqdn))
        return refuse(rec->fqdn, err);
    if (!is_name(rec->ident))
        return refuse(rec->ident, err);
    if (rec->zone != NULL && !is_name(rec->zone))
        return refuse(rec->zone, err);
    if (!is_word(rec->token, 128))
        return refuse(rec->token, err);
    if (!is_word(rec->key_authorization, 512))
        return refuse(rec->key_authorization, err);
    return is_word(rec->value, 255) ? CM_OK : refuse(rec->value, err);
}

/* These styles put "_acme-challenge." before the name themselves, and so never heard of CNAMEs; a
 * record that was led elsewhere can be told if it has that label there, too. */
static cm_status domain_of(const struct cm_dns_record *rec, enum dns_exec_style style,
                           const char **ret, struct cm_err *err)
{
    size_t label = strlen(CHALLENGE_LABEL);

    if (strncmp(rec->fqdn, CHALLENGE_LABEL, label) != 0 || !is_name(rec->fqdn + label))
        return cm_fail(
            err, CM_E_UNSUPPORTED,
            "a CNAME leads to %s, which a program of style %s cannot be told: use one of "
            "style lego",
            rec->fqdn, styles[style].name);
    *ret = rec->fqdn + label;
    return CM_OK;
}

cm_status dns_exec_build(enum dns_exec_style style, const char *path, bool adding,
                         const struct cm_dns_record *rec, struct dns_exec_call *ret,
                         struct cm_err *err)
{
    const char *domain = NULL;
    size_t n = 0;
    cm_status rc = check(rec, err);

    if (rc == CM_OK && style != DNS_EXEC_LEGO)
        rc = domain_of(rec, style, &domain, err);
    if (rc != CM_OK)
        return rc;
    ret->argv[n++] = path;
    ret->argv[n++] = adding ? styles[style].add : styles[style].remove;
    switch (style) {
    case DNS_EXEC_LEGO:
        (void)snprintf(ret->fqdn, sizeof ret->fqdn, "%s.", rec->fqdn);
        ret->argv[n++] = ret->fqdn;
        ret->argv[n++] = rec->value;
        break;
    case DNS_EXEC_LEGO_RAW:
        ret->argv[n++] = "--";
        ret->argv[n++] = domain;
        ret->argv[n++] = rec->token;
        ret->argv[n++] = rec->key_authorization;
        break;
    case DNS_EXEC_UACME:
        ret->argv[n++] = "dns-01";
        ret->argv[n++] = domain;
        ret->argv[n++] = rec->token;
        ret->argv[n++] = rec->value;
        break;
    case DNS_EXEC_DEHYDRATED:
        ret->argv[n++] = domain;
        ret->argv[n++] = rec->token;
        ret->argv[n++] = rec->value;
        break;
    }
    ret->argv[n] = NULL;
    return CM_OK;
}

/* ------------------------------------------------------------- environment */

static bool is_variable(const char *s, size_t len)
{
    static const char ok[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_";

    return len > 0 && len < 128 && strspn(s, ok) >= len && (s[0] < '0' || s[0] > '9');
}

/* Takes @text. */
static cm_status add(struct dns_exec_env *env, char *text, struct cm_err *err)
{
    if (text == NULL)
        return cm_fail_nomem(err);
    env->list[env->n++] = text;
    return CM_OK;
}

static cm_status add_named(struct dns_exec_env *env, const char *s, size_t len, size_t *secrets,
                           struct cm_err *err)
{
    char name[128];
    char shown[64];
    const char *value;
    cm_status rc;

    if (!is_variable(s, len))
        return cm_fail(err, CM_E_INVAL, "env: '%s' is not the name of a variable",
                       cm_escape(s, len, shown, sizeof shown));
    (void)memcpy(name, s, len);
    name[len] = '\0';
    if (strncmp(name, "LD_", 3) == 0)
        return cm_fail(err, CM_E_INVAL, "env: %s changes how programs are loaded", name);
    value = getenv(name);
    if (value == NULL)
        return cm_fail(err, CM_E_INVAL, "env: variable %s is not set", name);
    if (strlen(value) > DNS_EXEC_VALUE_MAX)
        return cm_fail(err, CM_E_LIMIT, "env: variable %s is too long", name);
    rc = add(env, cm_asprintf("%s=%s", name, value), err);
    if (rc == CM_OK)
        env->secrets[(*secrets)++] = env->list[env->n - 1] + len + 1;
    return rc;
}

cm_status dns_exec_env_new(const char *names, struct dns_exec_env *ret, struct cm_err *err)
{
    static const char *const kept[] = { "PATH", "HOME", "LANG", "LC_ALL" };
    struct dns_exec_env env = { .list = cm_calloc(DNS_EXEC_ENV_MAX + 16, sizeof(char *)),
                                .secrets = cm_calloc(DNS_EXEC_ENV_MAX + 1, sizeof(char *)) };
    size_t secrets = 0;
    cm_status rc = env.list == NULL || env.secrets == NULL ? cm_fail_nomem(err) : CM_OK;

    for (size_t i = 0; rc == CM_OK && i < CM_ARRAY_LEN(kept); i++) {
        const char *value = getenv(kept[i]);

        if (value == NULL && i == 0)
            value = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        if (value != NULL)
            rc = add(&env, cm_asprintf("%s=%s", kept[i], value), err);
    }
    while (rc == CM_OK && names != NULL && *names != '\0') {
        size_t len = strcspn(names, ",");

        rc = secrets == DNS_EXEC_ENV_MAX ? cm_fail(err, CM_E_LIMIT, "env: too many variables")
                                         : add_named(&env, names, len, &secrets, err);
        names += len + (names[len] == ',' ? 1 : 0);
    }
    if (rc != CM_OK) {
        dns_exec_env_free(&env);
        return rc;
    }
    *ret = env;
    return CM_OK;
}

void dns_exec_env_free(struct dns_exec_env *env)
{
    for (size_t i = 0; env->list != NULL && i < env->n; i++) {
        cm_wipe(env->list[i], strlen(env->list[i]));
        free(env->list[i]);
    }
    free(env->list);
    free(env->secrets);
    *env = (struct dns_exec_env){ .list = NULL };
}
