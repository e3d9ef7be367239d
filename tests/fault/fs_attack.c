/* SPDX-License-Identifier: Apache-2.0 */
#include "fs_attack.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* fs_attack matrix|modes|umask|race|deleted DIR [N]: attacks of a local user on file storage, in
 * DIR (made and removed). With --naive in front the operations are such as follow every link: then
 * it must find something, else its detectors are blind. Exit 0: nothing found; the last line tells
 * how many cases ran. */

#define RACE_ROUNDS_MIN 15
#define RACE_ROUNDS_MAX 4000

/* -------------------------------------------------------------------- matrix */

static const char *const dirs[] = { "certificates",  "certificates/i", "certificates/i/a",
                                    "locks",         "certmesh",       "certmesh/locks",
                                    "certmesh/redo", "certmesh/tmp" };
static const char *const files[] = { VALUE, "locks/" LOCK ".lock", "certmesh/locks/" LOCK ".guard",
                                     "certmesh/redo/redo-1-1-00" };

static void one_case(const char *where, const struct thing *t, bool is_dir)
{
    build_store();
    build_outside();
    if (!t->put(where, is_dir))
        return; /* cannot be made by this user */
    fingerprint(&was);
    snprintf(now_at, sizeof now_at, "%s in place of %s", t->name, where);
    for (enum op_kind op = 0; op < OP_COUNT; op++)
        try_op(op, where);
    check_outside();
    check_modes();
    cases++;
}

static void matrix(void)
{
    for (size_t w = 0; w < sizeof dirs / sizeof dirs[0]; w++)
        for (const struct thing *t = things; t->name != NULL; t++)
            one_case(dirs[w], t, true);
    for (size_t w = 0; w < sizeof files / sizeof files[0]; w++)
        for (const struct thing *t = things; t->name != NULL; t++)
            one_case(files[w], t, false);
}

/* --------------------------------------------------------------- modes, umask */

static mode_t mode_of(const char *rel)
{
    struct stat st;

    return lstat(in_store(rel), &st) == 0 ? st.st_mode & 07777 : 07777;
}

/* Nobody widens what an operator has set, and what others may write to is not trusted. */
static void modes(unsigned step)
{
    static const char *const where[] = { "", "certificates/i/a", VALUE, "locks", "certmesh/tmp" };

    for (unsigned mode = 0; mode < 01000; mode += step)
        for (size_t w = 0; w < sizeof where / sizeof where[0]; w++) {
            build_store();
            build_outside();
            fingerprint(&was);
            snprintf(now_at, sizeof now_at, "mode %04o of '%s'", mode, where[w]);
            if (chmod(in_store(where[w]), mode) != 0)
                broken("cannot be set");
            cm_status rc = try_op(OP_LOAD, where[w]);
            bool is_file = strcmp(where[w], VALUE) == 0;
            if (rc == CM_OK && is_file && (mode & 022) != 0)
                broken("was read although others may write to it");
            if (rc == CM_OK && strcmp(where[w], "certificates/i/a") == 0 && (mode & 02) != 0)
                broken("was read from a directory that everyone may write to");
            (void)try_op(OP_LIST, where[w]);
            (void)try_op(OP_LOCK, where[w]);
            if (mode_of(where[w]) != mode)
                broken("was changed");
            (void)try_op(OP_STORE, where[w]);
            if (!is_file && mode_of(where[w]) != mode)
                broken("was changed by storing");
            if (is_file && mode_of(VALUE) != mode && mode_of(VALUE) != 0600)
                broken("was replaced by something wider");
            (void)chmod(in_store(where[w]), 0700);
            check_outside();
            cases++;
        }
}

static void umasks(void)
{
    static const mode_t masks[] = { 0, 022, 077, 0277, 0777 };

    for (size_t i = 0; i < sizeof masks / sizeof masks[0]; i++) {
        for (int existing = 0; existing < 2; existing++) {
            wipe_store();
            if (existing != 0)
                build_store();
            build_outside();
            fingerprint(&was);
            snprintf(now_at, sizeof now_at, "umask %04o%s", (unsigned)masks[i],
                     existing != 0 ? "" : ", no root yet");
            mode_t before = umask(masks[i]);
            for (enum op_kind op = 0; op < OP_COUNT; op++)
                if (op != OP_REMOVE && try_op(op, "") != CM_OK && existing != 0)
                    broken("does not work");
            (void)umask(before);
            check_modes();
            if (mode_of("") != 0700 || mode_of(VALUE) != 0600 || mode_of("locks") != 0700)
                broken("made something of another mode than 0600 and 0700");
            cases++;
        }
    }
}

/* ---------------------------------------------------------------------- race */

/* Swaps the component for a link to the outside and back, as fast as it can, until told to end. */
static void swap_on(const char *a, const char *b, _Atomic unsigned *n, const _Atomic bool *end)
{
    while (!*end) {
        for (int i = 0; i < 2; i++)
            if (syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE) == 0)
                (*n)++;
    }
    _exit(0);
}

struct shared {
    _Atomic unsigned swaps;
    _Atomic bool end;
};

static void race_at(const char *rel, const char *target, unsigned swaps)
{
    struct shared *sh =
        mmap(NULL, sizeof *sh, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    char link[2 * PATH_BYTES];
    char real[2 * PATH_BYTES];
    /* A value may be stored over the link, and then there is none any more to be refused. */
    bool may_lose_link = strcmp(rel, VALUE) == 0;
    unsigned done = 0;
    unsigned refused = 0;
    int status;

    build_store();
    build_outside();
    snprintf(now_at, sizeof now_at, "a link swapped with %s", rel);
    snprintf(real, sizeof real, "%s", in_store(rel));
    snprintf(link, sizeof link, "%s/swap", base_dir);
    (void)unlink(link);
    if (sh == MAP_FAILED || symlink(target, link) != 0)
        broken("cannot be made");
    fingerprint(&was);
    pid_t racer = fork();
    if (racer == 0)
        swap_on(real, link, &sh->swaps, &sh->end);
    for (unsigned round = 0; round < RACE_ROUNDS_MAX; round++) {
        if (round >= RACE_ROUNDS_MIN && sh->swaps >= swaps && done > 0 &&
            (refused > 0 || may_lose_link))
            break;
        for (enum op_kind op = 0; op < OP_REMOVE; op++) {
            if (try_op(op, NULL) == CM_OK)
                done++;
            else
                refused++;
        }
    }
    sh->end = true;
    (void)waitpid(racer, &status, 0);
    check_outside();
    if (sh->swaps < swaps || done == 0 || (refused == 0 && !may_lose_link))
        broken("was no race: all went well, or nothing did");
    printf("race at %-22s %u swaps, %u operations done, %u refused\n", rel, sh->swaps, done,
           refused);
    (void)munmap(sh, sizeof *sh);
    cases++;
}

static void race(unsigned swaps)
{
    char out[2 * PATH_BYTES];

    snprintf(out, sizeof out, "%s/outside", base_dir);
    race_at("certificates/i/a", out, swaps);
    race_at("certificates/i", out, swaps);
    race_at("certmesh/tmp", out, swaps);
    race_at("locks", out, swaps);
    snprintf(out, sizeof out, "%s/outside/a.key", base_dir);
    race_at(VALUE, out, swaps);
}

/* ------------------------------------------------------------------- deleted */

static void deleted(void)
{
    cm_status rc;

    build_store();
    build_outside();
    fingerprint(&was);
    snprintf(now_at, sizeof now_at, "the root deleted while it is open");
    if (open_store() != CM_OK || keep_lock() != CM_OK)
        broken("cannot be prepared");
    wipe_store();
    rc = commit_kept();
    if (rc != CM_E_LOCK_LOST)
        broken("let a commit through although its lock was gone");
    drop_kept();
    for (enum op_kind op = 0; op < OP_COUNT; op++)
        if (do_op(op) != CM_OK && op != OP_LOAD && op != OP_STAT)
            broken("cannot be worked with again");
    if (do_op(OP_STORE) != CM_OK || do_op(OP_LOAD) != CM_OK)
        broken("was not made anew");
    if (mode_of("") != 0700)
        broken("was made anew with another mode");
    close_store();
    cases++;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--naive") == 0) {
        naive = true;
        argv++;
        argc--;
    }
    if (argc < 3) {
        fprintf(stderr, "usage: fs_attack [--naive] matrix|modes|umask|race|deleted DIR [N]\n");
        return 2;
    }
    unsigned n = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 10) : 1;
    set_base(argv[2]);
    alarm(1500); /* whatever hangs is a failure */
    if (strcmp(argv[1], "matrix") == 0)
        matrix();
    else if (strcmp(argv[1], "modes") == 0)
        modes(n);
    else if (strcmp(argv[1], "umask") == 0)
        umasks();
    else if (strcmp(argv[1], "race") == 0)
        race(n);
    else if (strcmp(argv[1], "deleted") == 0)
        deleted();
    else
        return 2;
    printf("%u cases, %u findings\n", cases, findings);
    return findings > 0 ? 1 : 0;
}
