/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_STORAGE_REDIS_OPTIONS_H
#define CM_STORAGE_REDIS_OPTIONS_H

/* What redis_url.c and redis_param.c share. */

#include "redis.h"

#define REDIS_PORT          6379
#define REDIS_SENTINEL_PORT 26379
#define REDIS_ADDRESSES_MAX 64u
#define REDIS_DB_MAX        65535u

/* Percent-decoded copy of @len bytes at @s; false on a bad escape, a NUL or a control byte.
 * *ret NULL with true: out of memory. */
bool redis_url_decode(const char *s, size_t len, char **ret);

/* A decimal number of at most @max, all of the text. */
bool redis_number(const char *s, size_t len, unsigned max, unsigned *ret);

/* Free a text after wiping it. NULL is fine. */
void redis_free_secret(char *s);

/* What stands after '?' (NULL: nothing) into @o, whose URL part is filled in; defaults and the
 * rules between parameters. @has_db: the path named a database. */
CM_MUST_CHECK cm_status redis_params_parse(const char *query, bool has_db, struct redis_options *o,
                                           struct cm_err *err);

#endif
