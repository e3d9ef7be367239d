/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_TESTS_PG_KIT_H
#define CM_TESTS_PG_KIT_H

/* What the tests of the PostgreSQL backend share: a schema for each test, a way to be somebody else
 * on the same server, and hands on the server and the proxy. */

#include <certmesh/cm_spi.h>

#include <check.h>
#include <libpq-fe.h>
#include <stdio.h>

#include "must.h"

extern struct cm_err err;

/* For checked fixtures: a schema that nobody else has, and away with it. */
void kit_setup(void);
void kit_teardown(void);

/* A storage at the URL in the variable @env_name, in the schema of this test, with more parameters
 * (NULL or "x=y&..."). */
struct cm_storage *kit_open(const char *env_name, const char *more);

/* As another client of the same schema, user cm: what the first field of the first row is, or "".
 * The text lives until the next call. */
const char *kit_sql(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* The same as superuser, on the server. */
const char *kit_super(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
const char *kit_schema(void);

/* "stop server", "signal server STOP", ... */
void kit_lab(const char *command);
/* "lose", "refuse 57P03 2", ...: see proxy.py. */
void kit_proxy(const char *mode);
/* How often what was last asked of it has happened. */
unsigned kit_proxy_fired(void);

void kit_put(struct cm_storage *st, const char *key, const char *text);
/* The value at @key is @text; NULL: there is none. */
void kit_expect(struct cm_storage *st, const char *key, const char *text);
struct cm_op kit_within(int ms);
int64_t kit_now_ms(void);
void kit_sleep_ms(int ms);

/* Run the suite with the fixtures above. */
int kit_main(const char *name, TCase *const *cases, size_t n);

#endif
