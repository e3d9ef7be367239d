/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_TESTS_FAULT_FS_ATTACK_H
#define CM_TESTS_FAULT_FS_ATTACK_H

/* What fs_attack.c does its attacks with: a small storage, a place outside that must stay as it is,
 * the operations, and the detectors. */

#include <certmesh/cm_spi.h>

#include <stdbool.h>

#define VALUE      "certificates/i/a/a.key"
#define LOCK       "attacked"
#define PATH_BYTES 512

enum op_kind {
    OP_STAT,
    OP_LOAD,
    OP_LIST,
    OP_LOCK,
    OP_STORE,
    OP_COMMIT,
    OP_CLEAN,
    OP_REMOVE,
    OP_COUNT
};

struct print {
    unsigned long long sum;
};

extern bool naive; /* operations that follow links: the negative control */
extern unsigned cases, findings;
extern char now_at[PATH_BYTES + 64]; /* what is being tried, for findings */
extern char base_dir[PATH_BYTES];
extern struct print was;

void set_base(const char *dir);
const char *in_store(const char *rel);
void build_store(void);
void wipe_store(void);
void build_outside(void);

/* A finding. */
void broken(const char *what);

/* All there is to know of the outside: names, types, modes, owners, sizes, times, contents. */
void fingerprint(struct print *ret);
void check_outside(void);
/* Nothing that we made can be read or written by others. */
void check_modes(void);

cm_status open_store(void);
void close_store(void);
cm_status do_op(enum op_kind op);
/* With a storage of its own, timed; a failure has to name @where ("" or NULL: anything). */
cm_status try_op(enum op_kind op, const char *where);
cm_status keep_lock(void);
cm_status commit_kept(void);
void drop_kept(void);

/* Puts something in place of the component @rel (@is_dir: of a directory); false if it cannot. */
struct thing {
    const char *name;
    bool (*put)(const char *rel, bool is_dir);
};
extern const struct thing things[]; /* ends with NULL */

#endif
