/* SPDX-License-Identifier: Apache-2.0 */
#include "dns_persist.h"

#include <stdio.h>
#include <string.h>

cm_status dns_persist_name(const char *ident, char ret[DNS_NAME_BUF], struct cm_err *err)
{
    char name[DNS_NAME_BUF + sizeof DNS_PERSIST_LABEL];
    int len = snprintf(name, sizeof name, DNS_PERSIST_LABEL "%s", ident);

    if (len < 0 || len > DNS_NAME_MAX)
        return cm_fail(err, CM_E_INVAL,
                       "%s: with " DNS_PERSIST_LABEL " before it it is too long a name", ident);
    memcpy(ret, name, (size_t)len + 1);
    return CM_OK;
}

/* ---- reading one */

struct piece {
    const char *at;
    size_t len;
};

static void trim(struct piece *p)
{
    while (p->len > 0 && (*p->at == ' ' || *p->at == '\t')) {
        p->at++;
        p->len--;
    }
    while (p->len > 0 && (p->at[p->len - 1] == ' ' || p->at[p->len - 1] == '\t'))
        p->len--;
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool is_same(struct piece p, const char *word)
{
    size_t i = 0;

    while (i < p.len && word[i] != '\0' && lower(p.at[i]) == lower(word[i]))
        i++;
    return i == p.len && word[i] == '\0';
}

/* Up to the next ';' of *@text, which moves behind it; NULL after the last. */
static struct piece next(const char **text)
{
    size_t len = strcspn(*text, ";");
    struct piece p = { *text, len };

    *text = (*text)[len] == ';' ? *text + len + 1 : NULL;
    trim(&p);
    return p;
}

static bool is_equal(struct piece a, struct piece b)
{
    if (a.len != b.len)
        return false;
    for (size_t i = 0; i < a.len; i++)
        if (lower(a.at[i]) != lower(b.at[i]))
            return false;
    return true;
}

static const char *domain_fault(struct piece domain, const char *list)
{
    struct piece bare = domain;
    const char *fault = ""; /* another CA's: says nothing of ours */

    if (bare.len > 0 && bare.at[bare.len - 1] == '.')
        bare.len--;
    while (bare.len > 0 && *list != '\0') {
        struct piece name = { list, strcspn(list, " ") };

        if (domain.len == name.len && memcmp(domain.at, name.at, name.len) == 0)
            return NULL;
        if (is_equal(bare, name)) /* CAs compare every letter */
            fault = "has the CA's domain in capitals, or with a dot";
        list += name.len + (list[name.len] == ' ' ? 1 : 0);
    }
    return fault;
}

enum tag { ACCOUNT, POLICY, UNTIL, TAGS };
#define PARAMETERS_MAX 32u

/* The values of the tags that count; false when no CA may take the record at all. */
static bool split(const char *text, struct piece *domain, struct piece values[TAGS])
{
    static const char *const names[TAGS] = { "accounturi", "policy", "persistUntil" };
    struct piece seen[PARAMETERS_MAX];
    size_t n = 0;

    *domain = next(&text);
    while (text != NULL) {
        struct piece one = next(&text), value;
        const char *eq = memchr(one.at, '=', one.len);

        if (eq == NULL || n == PARAMETERS_MAX)
            return false;
        value = (struct piece){ eq + 1, one.len - (size_t)(eq + 1 - one.at) };
        one.len = (size_t)(eq - one.at);
        trim(&one);
        trim(&value);
        for (size_t i = 0; i < TAGS; i++)
            if (is_same(one, names[i]))
                values[i] = value;
        for (size_t i = 0; i < n; i++)
            if (is_equal(seen[i], one))
                return false;
        seen[n++] = one;
    }
    return true;
}

/* -1: not a number. */
static int64_t seconds(struct piece p)
{
    int64_t n = 0;

    if (p.len == 0 || p.len > 15)
        return -1;
    for (size_t i = 0; i < p.len; i++) {
        if (p.at[i] < '0' || p.at[i] > '9')
            return -1;
        n = n * 10 + (p.at[i] - '0');
    }
    return n;
}

const char *dns_persist_why_not(void *user, const char *text)
{
    const struct dns_persist *want = user;
    struct piece domain, values[TAGS] = { { NULL, 0 } };
    const char *fault = NULL;

    if (!split(text, &domain, values))
        return "is not well-formed";
    fault = domain_fault(domain, want->issuers);
    if (fault != NULL)
        return fault;
    if (values[ACCOUNT].len != strlen(want->account) ||
        memcmp(values[ACCOUNT].at, want->account, values[ACCOUNT].len) != 0)
        return "is for another account";
    if (values[UNTIL].at != NULL && seconds(values[UNTIL]) < 0)
        return "has a persistUntil that is no time";
    if (values[UNTIL].at != NULL && seconds(values[UNTIL]) <= want->now_s)
        return "has ended (persistUntil)";
    if (want->wildcard && !is_same(values[POLICY], "wildcard"))
        return "has no policy=wildcard";
    return NULL;
}
