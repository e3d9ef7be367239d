/* SPDX-License-Identifier: Apache-2.0 */
#include "acme_internal.h"

#include <string.h>

/* Whom a refusal concerns. A whole fleet leaves a CA alone when the CA or the account is the
 * matter, and goes on with other names when it is these names; so mistaking one for the other costs
 * either certificates or the CA's patience.
 *
 * RFC 8555 6.6 has one problem type for both, rateLimited, and only the text tells. These texts are
 * Boulder's (ratelimits/limiter.go and wfe2, in the wordings of several years), as in "too many
 * certificates (5) already issued for this exact set of domains in the last 168h0m0s". What it says
 * of an account or an address ("too many new orders (300) from this account", "Service busy; retry
 * later.") has none of them. */
static const char *const about_names[] = {
    "too many certificates",
    "failed authorizations",
    "invalid authorizations",
    "temporarily prevented from requesting certificates", /* paused: this account, this name */
    "is paused",
};

/* Nobody has named a name yet when these are asked for. */
static bool is_about_nobody(const char *what)
{
    static const char *const all[] = { "the directory", "newNonce", "newAccount", "renewalInfo" };

    for (size_t i = 0; i < CM_ARRAY_LEN(all); i++)
        if (strcmp(what, all[i]) == 0)
            return true;
    return false;
}

bool cm__acme_is_whole_ca(const char *what, int http_status, const struct cm_acme_problem *p)
{
    if (http_status >= 500)
        return true;
    if (http_status != 429 && !cm_acme_problem_is(p->type, "rateLimited"))
        return false;
    if (is_about_nobody(what))
        return true;
    if (p->names_identifiers)
        return false;
    for (size_t i = 0; i < CM_ARRAY_LEN(about_names); i++)
        if (strcasestr(p->detail, about_names[i]) != NULL)
            return false;
    /* Boulder quotes names, and so do others: who quotes something means that. */
    return strchr(p->detail, '"') == NULL;
}
