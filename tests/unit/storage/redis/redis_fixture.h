/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_TESTS_UNIT_REDIS_FIXTURE_H
#define CM_TESTS_UNIT_REDIS_FIXTURE_H

/* A real server for the program, a prefix of its own for each test, and a connection to look and
 * meddle behind the backend's back: as an administrator, or as a peer that does what
 * caddy-storage-redis does. */

#include "storage.h"

#include <check.h>
#include <hiredis/hiredis.h>

#include "must.h"

extern struct cm_storage *st;
extern struct cm_err err;
extern redisContext *raw; /* as administrator */
extern char prefix[32];   /* "p<pid>/x" */

/* One more handle; @parameters are added to the URL ("&compression=zlib"). NULL env: the real one.
 */
struct cm_storage *open_with(const char *url_name, const char *parameters);
struct cm_storage *open_at(const char *url, const char *parameters, const struct cm_log *log);

/* A command that must not fail; the reply is static and is gone with the next call. */
redisReply *ask(const char *format, ...) CM_PRINTF(1, 2);

/* What the peers do: index first, then the value; and for one value to go. @below: the prefix. */
void peer_index_add(const char *below, const char *key, long score);
void peer_store(const char *below, const char *key, const char *json);
void peer_delete(const char *below, const char *key);

/* All names below @below, sorted, one a line: "= name" a value, "# name: member member ..." an
 * index, without locks and what is certmesh's own. Caller frees. */
char *dump(const char *below);
/* The same of everything, with the prefix. */
char *dump_all(const char *below);

void put(const char *key, const char *text);
/* NULL: absent. Static. */
const char *get(const char *key);
/* Keys of a list, each followed by a space, directories with '/'. Static. */
const char *listed(struct cm_storage *s, const char *below, bool recursive);

/* Run @tests, each in a process of its own; the status for main(). */
int run_with_redis(const char *unit, const TTest *const *tests, size_t n, double timeout_s);
/* The same on servers of another kind, and with a fixture that knows them. */
int run_with_redis_kind(const char *kind, void (*before)(void), void (*after)(void),
                        const char *unit, const TTest *const *tests, size_t n, double timeout_s);

#endif
