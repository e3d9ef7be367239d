/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

#include "run.h"
#include "temp_dir.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

char root[64];
struct cm_err err;

/* In memory where possible: the sweeps flush thousands of times. The contract tests run on the
 * disk. */
void root_make(void)
{
    ck_assert(temp_dir_make("storage", false, root, sizeof root));
}

void root_remove(void)
{
    cm_file_set_hook(NULL);
    temp_dir_remove(root);
}

const char *at(const char *rel)
{
    static char paths[4][1024];
    static unsigned next;
    char *path = paths[next++ % 4];

    (void)snprintf(path, sizeof paths[0], "%s/%s", root, rel);
    return path;
}

void write_file(const char *rel, const char *text, mode_t mode)
{
    int fd = open(at(rel), O_WRONLY | O_CREAT | O_TRUNC, 0600);

    ck_assert_msg(fd >= 0, "open %s", rel);
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    ck_assert_int_eq(fchmod(fd, mode), 0);
    (void)close(fd);
}

const char *read_file(const char *rel)
{
    static char text[4096];
    int fd = open(at(rel), O_RDONLY);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : 0;

    if (fd >= 0)
        (void)close(fd);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

bool exists(const char *rel)
{
    struct stat st;

    return lstat(at(rel), &st) == 0;
}

mode_t mode_of(const char *rel)
{
    struct stat st = { .st_mode = 0 };

    ck_assert_msg(lstat(at(rel), &st) == 0, "%s is missing", rel);
    return st.st_mode & 07777;
}

static unsigned count_entries(const char *path)
{
    DIR *d = opendir(path);
    unsigned n = 0;

    if (d == NULL)
        return 0;
    for (const struct dirent *e = readdir(d); e != NULL; e = readdir(d))
        n += e->d_name[0] != '.';
    (void)closedir(d);
    return n;
}

unsigned entries_in(const char *rel)
{
    return count_entries(at(rel));
}

unsigned open_fds(void)
{
    return count_entries("/proc/self/fd");
}

struct cm_storage *file_open(const struct cm_env *env)
{
    struct cm_storage_open_options opts = CM_STORAGE_OPEN_OPTIONS_INIT;
    struct cm_storage *st = NULL;

    opts.env = env;
    must(cm_storage_file_open(root, &opts, &st, &err));
    return st;
}

void fake_env_now(struct fake_env *f)
{
    fake_env_init(f);
    f->wall_ns = cm_env_system()->wall_ns(NULL);
}

void real_pause(int64_t ns)
{
    const struct cm_env *env = cm_env_system();

    (void)env->wait(env, NULL, ns);
}

const char *value_at(struct cm_storage *st, const char *key)
{
    static char texts[4][256];
    static unsigned next;
    char *text = texts[next++ % 4];
    struct cm_buf got = CM_BUF_INIT(sizeof texts[0] - 1);
    cm_status rc = cm_storage_load(st, NULL, key, &got, &err);

    ck_assert_msg(rc == CM_OK || rc == CM_E_NOTFOUND, "load '%s': %s", key, err.msg);
    (void)snprintf(text, sizeof texts[0], "%s", cm_buf_str(&got));
    cm_buf_free(&got);
    return rc == CM_OK ? text : NULL;
}

int run_with_root(const char *unit, const TTest *const *tests, size_t n, double timeout_s)
{
    return run_tests_how(
        unit, tests, n,
        (struct run_how){ .timeout_s = timeout_s, .setup = root_make, .teardown = root_remove });
}
