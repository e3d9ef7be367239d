/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_ISSUERS_DNS_EXEC_H
#define CM_ISSUERS_DNS_EXEC_H

/* Private to the exec provider: how programs written for other ACME clients want to be called.
 * Pure; running them is dns_exec.c. */

#include "dns_provider.h"

enum dns_exec_style {
    DNS_EXEC_LEGO = 0,   /* PROGRAM present|cleanup FQDN. VALUE */
    DNS_EXEC_LEGO_RAW,   /* PROGRAM present|cleanup -- DOMAIN TOKEN KEYAUTH */
    DNS_EXEC_DEHYDRATED, /* PROGRAM deploy_challenge|clean_challenge DOMAIN TOKEN VALUE */
    DNS_EXEC_UACME,      /* PROGRAM begin|done dns-01 DOMAIN TOKEN VALUE */
};

#define DNS_EXEC_NAME_BUF 256
#define DNS_EXEC_ARGS_MAX 8

/* Points into itself, the record and @path: not to be copied. */
struct dns_exec_call {
    const char *argv[DNS_EXEC_ARGS_MAX]; /* NULL ends */
    char fqdn[DNS_EXEC_NAME_BUF];        /* with final dot */
};

/* "lego", "lego-raw", "dehydrated", "uacme"; NULL is lego. CM_E_INVAL names those that are known.
 */
CM_MUST_CHECK cm_status dns_exec_style_parse(const char *text, enum dns_exec_style *ret,
                                             struct cm_err *err);
/* What PROGRAM is called with. Nothing of it can be taken for an option, or for more than one word,
 * by a program that quotes badly: names, tokens and values are of safe characters alone.
 * Errors: CM_E_INVAL for such a record; CM_E_UNSUPPORTED where a CNAME led the record to a name
 * that this style has no way to tell. */
CM_MUST_CHECK cm_status dns_exec_build(enum dns_exec_style style, const char *path, bool adding,
                                       const struct cm_dns_record *rec, struct dns_exec_call *ret,
                                       struct cm_err *err);

/* ---- the environment: a list of "NAME=value", wiped when freed ---- */

#define DNS_EXEC_ENV_MAX   64u          /* variables that may be named */
#define DNS_EXEC_VALUE_MAX (32u * 1024) /* bytes of one */

struct dns_exec_env {
    char **list; /* NULL ends; last are free places for what a record adds */
    size_t n;
    const char **secrets; /* NULL ends: the values of the named ones; they point into list */
};

/* PATH, HOME, LANG and LC_ALL as they are now, and the variables that @names tells ("A,B", NULL =
 * none). CM_E_INVAL for no name, one that changes how programs are loaded, or one that is not set.
 */
CM_MUST_CHECK cm_status dns_exec_env_new(const char *names, struct dns_exec_env *ret,
                                         struct cm_err *err);
void dns_exec_env_free(struct dns_exec_env *env);

#endif
