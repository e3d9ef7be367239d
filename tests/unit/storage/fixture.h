/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_TESTS_UNIT_STORAGE_FIXTURE_H
#define CM_TESTS_UNIT_STORAGE_FIXTURE_H

/* A directory of our own under the file backend, and ways to look and meddle behind its back. */

#include "storage.h"

#include <check.h>
#include <sys/stat.h>

#include "fake_env.h"
#include "must.h"

extern char root[64]; /* made by root_make(), path of the storage */
extern struct cm_err err;

void root_make(void);
void root_remove(void);

/* Absolute path of @rel below the root; one of a few static buffers. */
const char *at(const char *rel);
void write_file(const char *rel, const char *text, mode_t mode);
/* Whole text, "" if absent; static. */
const char *read_file(const char *rel);
bool exists(const char *rel);
mode_t mode_of(const char *rel);
/* Number of entries, 0 if absent. */
unsigned entries_in(const char *rel);
unsigned open_fds(void);

struct cm_storage *file_open(const struct cm_env *env);

/* @f for the file backend, which compares with the times of files: it begins now. */
void fake_env_now(struct fake_env *f);
void real_pause(int64_t ns);

/* Load as text; NULL when absent, anything else than that fails the test. Static. */
const char *value_at(struct cm_storage *st, const char *key);

/* Run @tests, each in a process of its own with a fresh root; the status for main(). */
int run_with_root(const char *unit, const TTest *const *tests, size_t n, double timeout_s);

#endif
