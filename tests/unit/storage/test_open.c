/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

#include <certmesh/cm_names.h>

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void opens(const char *url, const char *describes)
{
    struct cm_storage *st = NULL;

    must(cm_storage_open(url, NULL, &st, &err));
    ck_assert_str_eq(cm_storage_describe(st), describes);
    cm_storage_close(st);
}

static void refuses(const char *url, cm_status with, const char *saying)
{
    struct cm_storage *st = NULL;

    must_fail(cm_storage_open(url, NULL, &st, &err), with);
    ck_assert_ptr_null(st);
    ck_assert_msg(strstr(err.msg, saying) != NULL, "'%s' lacks '%s'", err.msg, saying);
}

START_TEST(urls_and_paths_open_the_file_backend)
{
    char url[256];
    char want[256];

    (void)snprintf(want, sizeof want, "file://%s/new/dir", root);
    (void)snprintf(url, sizeof url, "file://%s/new/dir", root);
    opens(url, want);
    (void)snprintf(url, sizeof url, "FILE://localhost%s/new/dir/", root);
    opens(url, want);
    (void)snprintf(url, sizeof url, "file:%s/new/d%%69r", root);
    opens(url, want);
    (void)snprintf(url, sizeof url, "%s/new/dir///", root);
    opens(url, want);
    ck_assert_int_eq(chdir(root), 0);
    opens("file:new/dir", want);
    opens("new/dir", want);
    (void)snprintf(want, sizeof want, "file://%s/./new/dir", root);
    opens("./new/dir", want);
}
END_TEST

START_TEST(memory_is_private_or_shared_by_name)
{
    struct cm_storage *a = NULL;
    struct cm_storage *b = NULL;
    struct cm_storage *c = NULL;

    must(cm_storage_open("memory:", NULL, &a, &err));
    must(cm_storage_open("memory:", NULL, &b, &err));
    must(cm_storage_store(a, NULL, "k", cm_span_str("x"), &err));
    ck_assert_ptr_null(value_at(b, "k"));
    cm_storage_close(a);
    cm_storage_close(b);
    must(cm_storage_open("memory:one", NULL, &a, &err));
    must(cm_storage_open("memory:one", NULL, &b, &err));
    must(cm_storage_open("memory:two", NULL, &c, &err));
    must(cm_storage_store(a, NULL, "k", cm_span_str("x"), &err));
    cm_storage_close(a);
    ck_assert_str_eq(value_at(b, "k"), "x");
    ck_assert_ptr_null(value_at(c, "k"));
    cm_storage_close(b);
    must(cm_storage_open("memory:one", NULL, &a, &err));
    ck_assert_ptr_null(value_at(a, "k"));
    cm_storage_close(a);
    cm_storage_close(c);
    cm_storage_close(NULL);
}
END_TEST

START_TEST(what_is_unknown_is_named)
{
    refuses("redsi://user:secret@host/0", CM_E_INVAL, "'redsi:'");
    ck_assert_ptr_null(strstr(err.msg, "secret"));
    ck_assert_ptr_nonnull(strstr(err.msg, "file:, memory:"));
    refuses("file:///tmp/x?mode=0700", CM_E_INVAL, "'mode'");
    refuses("memory:x?shared", CM_E_INVAL, "'shared'");
    refuses("file://host/path", CM_E_INVAL, "file:///");
    refuses("file:", CM_E_INVAL, "path");
    refuses("file:///tmp/%zz", CM_E_INVAL, "escape");
    refuses("file:///tmp/%0", CM_E_INVAL, "escape");
    refuses("file:///tmp/a%00b", CM_E_INVAL, "escape");
    must_fail(cm_storage_open("memory:", NULL, NULL, &err), CM_E_INVAL);
}
END_TEST

START_TEST(the_default_place_is_that_of_certmagic)
{
    char want[256];

    ck_assert_int_eq(setenv("HOME", root, 1), 0);
    ck_assert_int_eq(unsetenv("XDG_DATA_HOME"), 0);
    (void)snprintf(want, sizeof want, "file://%s/.local/share/certmagic", root);
    opens(NULL, want);
    opens("", want);
    ck_assert_int_eq(setenv("XDG_DATA_HOME", at("xdg"), 1), 0);
    (void)snprintf(want, sizeof want, "file://%s/xdg/certmagic", root);
    opens(NULL, want);
    ck_assert_int_eq(unsetenv("XDG_DATA_HOME"), 0);
    ck_assert_int_eq(unsetenv("HOME"), 0);
    ck_assert_int_eq(chdir(root), 0);
    (void)snprintf(want, sizeof want, "file://%s/./.local/share/certmagic", root);
    opens(NULL, want);
}
END_TEST

START_TEST(the_default_place_is_told)
{
    CM_AUTO_BUF struct cm_buf path = CM_BUF_INIT(512);
    CM_AUTO_BUF struct cm_buf small = CM_BUF_INIT(4);
    char want[256];

    ck_assert_int_eq(setenv("XDG_DATA_HOME", "/nowhere/xdg", 1), 0);
    ck_assert_int_eq(setenv("HOME", "/nowhere", 1), 0);
    ck_assert_int_eq(cm_storage_default_path(&path, &err), CM_OK);
    ck_assert_str_eq(cm_buf_str(&path), "/nowhere/xdg/certmagic");
    cm_buf_reset(&path);
    ck_assert_int_eq(setenv("XDG_DATA_HOME", "", 1), 0);
    ck_assert_int_eq(cm_storage_default_path(&path, NULL), CM_OK);
    ck_assert_str_eq(cm_buf_str(&path), "/nowhere/.local/share/certmagic");
    ck_assert_int_eq(cm_storage_default_path(&small, &err), CM_E_LIMIT);
    ck_assert_uint_eq(small.len, 0);
    ck_assert_int_eq(cm_storage_default_path(NULL, &err), CM_E_INVAL);
    /* it is the one that is opened */
    cm_buf_reset(&path);
    ck_assert_int_eq(setenv("XDG_DATA_HOME", at("told"), 1), 0);
    ck_assert_int_eq(cm_storage_default_path(&path, &err), CM_OK);
    (void)snprintf(want, sizeof want, "file://%s", cm_buf_str(&path));
    opens(NULL, want);
    opens(cm_buf_str(&path), want);
}
END_TEST

START_TEST(a_root_that_cannot_be_is_refused)
{
    char url[256];

    write_file("plain", "x", 0600);
    (void)snprintf(url, sizeof url, "%s/plain", root);
    refuses(url, CM_E_IO, "not a directory");
    (void)snprintf(url, sizeof url, "%s/plain/below", root);
    refuses(url, CM_E_IO, "plain");
    ck_assert_int_eq(mkdir(at("open"), 0700), 0);
    ck_assert_int_eq(chmod(at("open"), 0777), 0);
    (void)snprintf(url, sizeof url, "%s/open", root);
    refuses(url, CM_E_PERM, "chmod o-w");
    if (geteuid() != 0)
        return;
    ck_assert_int_eq(chmod(at("open"), 0700), 0);
    ck_assert_int_eq(chown(at("open"), 65534, 65534), 0);
    refuses(url, CM_E_PERM, "uid 65534");
}
END_TEST

START_TEST(the_root_may_be_reached_through_a_link)
{
    struct cm_storage *st = NULL;

    ck_assert_int_eq(mkdir(at("real"), 0700), 0);
    ck_assert_int_eq(symlink("real", at("link")), 0);
    must(cm_storage_open(at("link"), NULL, &st, &err));
    must(cm_storage_store(st, NULL, "k", cm_span_str("x"), &err));
    ck_assert_str_eq(read_file("real/k"), "x");
    ck_assert_int_eq(unlink(at("link")), 0); /* and is held from then on */
    ck_assert_str_eq(value_at(st, "k"), "x");
    cm_storage_close(st);
}
END_TEST

START_TEST(a_root_deleted_while_in_use_is_made_anew)
{
    struct cm_storage *st = file_open(NULL);

    must(cm_storage_store(st, NULL, "a/b", cm_span_str("x"), &err));
    root_remove();
    ck_assert_ptr_null(value_at(st, "a/b"));
    must(cm_storage_store(st, NULL, "a/b", cm_span_str("y"), &err));
    ck_assert_str_eq(read_file("a/b"), "y");
    ck_assert_str_eq(value_at(st, "a/b"), "y");
    cm_storage_close(st);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        urls_and_paths_open_the_file_backend,
        memory_is_private_or_shared_by_name,
        what_is_unknown_is_named,
        the_default_place_is_that_of_certmagic,
        the_default_place_is_told,
        a_root_that_cannot_be_is_refused,
        the_root_may_be_reached_through_a_link,
        a_root_deleted_while_in_use_is_made_anew,
    };

    return run_with_root("open", tests, CM_ARRAY_LEN(tests), 20);
}
