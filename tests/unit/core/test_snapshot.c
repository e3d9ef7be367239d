/* SPDX-License-Identifier: Apache-2.0 */
#include "kit.h"

#include "snapshot.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAMES 40u
#define S     CM_NS_PER_S

static struct kit k;
static struct cm_err err;
static char dir[64];
static char path[96];
static char key_path[96];
static char texts[NAMES][32];
static const char *names[NAMES];
static const uint8_t key[CM_SEAL_KEY_LEN] = "a key of thirty-two bytes, no le";
static const uint8_t other_key[CM_SEAL_KEY_LEN] = "a key of thirty-two bytes, no mo";

static void write_file(const char *name, const void *data, size_t len, mode_t mode)
{
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, data, len), (ssize_t)len);
    ck_assert_int_eq(fchmod(fd, mode), 0);
    (void)close(fd);
}

static size_t read_file(const char *name, uint8_t *out, size_t max)
{
    int fd = open(name, O_RDONLY | O_CLOEXEC);

    ck_assert_int_ge(fd, 0);
    ssize_t n = read(fd, out, max);
    ck_assert_int_ge(n, 0);
    (void)close(fd);
    return (size_t)n;
}

static void make_dir(void)
{
    (void)snprintf(dir, sizeof dir, "/tmp/cm-snapshot-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    (void)snprintf(path, sizeof path, "%s/snapshot", dir);
    (void)snprintf(key_path, sizeof key_path, "%s/key", dir);
    write_file(key_path, key, sizeof key, 0600);
}

static void remove_dir(void)
{
    (void)unlink(path);
    (void)unlink(key_path);
    ck_assert_int_eq(rmdir(dir), 0); /* and nothing else was left there */
}

/* ------------------------------------------------------------------ the file */

static struct cm_snapshot_entry entry_of(const char *name, const char *chain)
{
    return (struct cm_snapshot_entry){ cm_span_str(name), cm_span_str("ca.test-dir"),
                                       cm_span_str(chain), cm_span_str("the key of it") };
}

static void write_some(size_t n, const char *chain)
{
    struct cm_snapshot_writer *w = NULL;
    char name[32];

    ck_ok(cm_snapshot_create(cm_env_system(), path, key, &w, &err));
    for (size_t i = 0; i < n; i++) {
        (void)snprintf(name, sizeof name, "n%zu.example", i);
        const struct cm_snapshot_entry e = entry_of(name, chain);
        ck_ok(cm_snapshot_add(w, &e, &err));
    }
    ck_ok(cm_snapshot_commit(w, &err));
}

static cm_status try_read(void)
{
    struct cm_snapshot_reader *r = NULL;

    cm_status rc = cm_snapshot_read(path, key, &r, &err);
    cm_snapshot_reader_free(r);
    return rc;
}

START_TEST(what_was_written_is_read)
{
    CM_AUTO_BUF struct cm_buf buf = CM_BUF_SECRET(65536);
    struct cm_snapshot_reader *r = NULL;
    struct cm_snapshot_entry e;
    struct stat st;
    char name[32];

    make_dir();
    ck_refused(cm_snapshot_read(path, key, &r, &err), CM_E_NOTFOUND);
    write_some(0, "");
    ck_ok(try_read());
    write_some(3000, "the chain");
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_uint_eq(st.st_mode & 07777, 0600);
    ck_ok(cm_snapshot_read(path, key, &r, &err));
    ck_assert_uint_eq(cm_snapshot_count(r), 3000);
    ck_assert_int_le(cm_env_wall_s(cm_env_system()) - cm_snapshot_written_ns(r) / S, 60);
    ck_assert_int_eq(unlink(path), 0); /* what is open stays */
    for (size_t i = 0; i < 3000; i += 7) {
        (void)snprintf(name, sizeof name, "n%zu.example", i);
        ck_ok(cm_snapshot_find(r, name, &buf, &e, &err));
        ck_assert(e.name.len == strlen(name) && memcmp(e.name.data, name, e.name.len) == 0);
        ck_assert(e.key_pem.len == 13 && memcmp(e.key_pem.data, "the key of it", 13) == 0);
        ck_assert(e.chain_pem.len == 9 && e.issuer_key.len == 11);
    }
    ck_refused(cm_snapshot_find(r, "n3000.example", &buf, &e, &err), CM_E_NOTFOUND);
    cm_snapshot_reader_free(r);
    remove_dir();
}
END_TEST

START_TEST(no_byte_can_be_changed_or_left_out)
{
    static uint8_t whole[4096];
    static uint8_t bad[4096 + 1];
    struct cm_snapshot_reader *r = NULL;

    make_dir();
    write_some(3, "the chain");
    size_t len = read_file(path, whole, sizeof whole);
    ck_assert_uint_lt(len, sizeof whole);
    ck_assert_ptr_null(memmem(whole, len, "the key", 7));
    ck_assert_ptr_null(memmem(whole, len, "example", 7));
    for (size_t i = 0; i < len; i++) {
        memcpy(bad, whole, len);
        bad[i] ^= (uint8_t)(1u << (i % 8));
        write_file(path, bad, len, 0600);
        cm_status rc = try_read();
        ck_assert_msg(rc == CM_E_KEY || rc == CM_E_PARSE, "byte %zu: %s", i, cm_status_name(rc));
        write_file(path, whole, i, 0600);
        rc = try_read();
        ck_assert_msg(rc == CM_E_PARSE, "%zu bytes: %s", i, cm_status_name(rc));
    }
    memcpy(bad, whole, len);
    bad[len] = 0;
    write_file(path, bad, len + 1, 0600);
    ck_refused(try_read(), CM_E_PARSE);
    write_file(path, whole, len, 0600);
    ck_ok(try_read());
    ck_refused(cm_snapshot_read(path, other_key, &r, &err), CM_E_KEY);
    whole[7] = 9;
    write_file(path, whole, len, 0600);
    ck_refused(try_read(), CM_E_PARSE);
    ck_assert_msg(strstr(err.msg, "version 9") != NULL, "%s", err.msg);
    remove_dir();
}
END_TEST

/* All records have one length here: 4 bytes before it, as the format says. */
START_TEST(no_record_can_be_moved_or_come_from_another_file)
{
    static uint8_t a[4096];
    static uint8_t b[4096];
    static uint8_t mixed[4096];

    make_dir();
    write_some(3, "the chain");
    size_t len = read_file(path, a, sizeof a);
    write_some(3, "other one");
    ck_assert_uint_eq(read_file(path, b, sizeof b), len);
    size_t record = 4 + ((size_t)a[24] << 24 | (size_t)a[25] << 16 | (size_t)a[26] << 8 | a[27]);
    ck_assert_uint_lt(24 + 3 * record, len);
    memcpy(mixed, a, len);
    memcpy(mixed + 24, a + 24 + record, record);
    memcpy(mixed + 24 + record, a + 24, record);
    write_file(path, mixed, len, 0600);
    ck_refused(try_read(), CM_E_KEY); /* two that changed places */
    memcpy(mixed, a, len);
    memcpy(mixed + 24 + record, b + 24 + record, record);
    write_file(path, mixed, len, 0600);
    ck_refused(try_read(), CM_E_KEY); /* one of another file */
    memmove(mixed, a, 24 + record);
    memmove(mixed + 24 + record, a + 24 + 2 * record, len - 24 - 2 * record);
    write_file(path, mixed, len - record, 0600);
    ck_refused(try_read(), CM_E_KEY); /* one left out */
    remove_dir();
}
END_TEST

START_TEST(what_others_could_have_written_is_not_read)
{
    char link_path[128];

    make_dir();
    write_some(1, "the chain");
    ck_assert_int_eq(chmod(path, 0622), 0);
    ck_refused(try_read(), CM_E_PERM);
    ck_assert_int_eq(chmod(path, 0600), 0);
    (void)snprintf(link_path, sizeof link_path, "%s/moved", dir);
    ck_assert_int_eq(rename(path, link_path), 0);
    ck_assert_int_eq(symlink(link_path, path), 0);
    ck_assert_int_ne(try_read(), CM_OK);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    ck_refused(try_read(), CM_E_PERM); /* and at once */
    (void)unlink(link_path);
    remove_dir();
}
END_TEST

/* ------------------------------------------------------------------- its use */

static void prepare(void)
{
    make_dir();
    kit_init(&k);
    kit_storage_loads_many(&k.storage);
    k.opts.snapshot = path;
    k.opts.snapshot_key_file = key_path;
    for (size_t i = 0; i < NAMES; i++) {
        (void)snprintf(texts[i], sizeof texts[i], "n%02zu.example", i);
        names[i] = texts[i];
        kit_store_pair(k.storage.inner, "ca.test-dir", names[i], START_S - 86400, 90 * 86400);
    }
}

static bool is_there(void)
{
    return access(path, F_OK) == 0;
}

/* It is put off as long as names are being loaded or tended: so time has to go on. */
static bool is_written(unsigned times)
{
    if (kit_logged("snapshot_written") >= times)
        return true;
    kit_pass(&k.env, S / 100);
    return false;
}

static void start_and_write(void)
{
    kit_start(&k);
    ck_ok(cm_manage(k.cfg, NULL, names, NAMES, &err));
    kit_pass(&k.env, 3 * S);
    kit_until(is_written(1));
    ck_assert(is_there());
}

/* The program ends, and begins again. */
static void restart(void)
{
    cm_config_free(k.cfg);
    kit_start(&k);
}

static void storage_is_away(bool away)
{
    atomic_store(&k.storage.fail_status, CM_E_NET);
    atomic_store(&k.storage.fail_loads, away ? -1 : 0);
    atomic_store(&k.storage.fail_many, away ? -1 : 0);
    atomic_store(&k.storage.fail_locks, away ? -1 : 0);
}

static int64_t served_from(const char *name)
{
    struct cm_pending *p = NULL;
    struct cm_cert *c = NULL;
    struct cm_hello h;

    kit_hello(&h, name);
    ck_ok(cm_get_certificate(k.cfg, &h, &c, &p, &err));
    ck_assert(cm_cert_covers(c, name));
    ck_assert_str_eq(cm_cert_issuer_key(c), "ca.test-dir");
    int64_t from_s = cm_cert_not_before_s(c) + 60; /* as CAs do, the kit's begins a minute early */
    cm_cert_unref(c);
    return from_s;
}

static void end(void)
{
    kit_stop(&k);
    remove_dir();
}

START_TEST(a_node_starts_while_storage_is_away)
{
    static uint8_t all[1024 * 1024];

    prepare();
    start_and_write();
    size_t len = read_file(path, all, sizeof all);
    ck_assert_uint_gt(len, NAMES * 500);
    ck_assert_ptr_null(memmem(all, len, "PRIVATE", 7));
    ck_assert_ptr_null(memmem(all, len, "BEGIN", 5));
    ck_assert_ptr_null(memmem(all, len, ".example", 8));
    storage_is_away(true);
    restart();
    ck_ok(cm_manage(k.cfg, NULL, names, NAMES, &err));
    for (size_t i = 0; i < NAMES; i++)
        ck_assert_int_eq(served_from(names[i]), START_S - 86400);
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 0);
    ck_assert_uint_eq(kit_logged("snapshot_used"), 1);
    ck_assert_uint_eq(kit_logged("load_failed"), 0);

    /* It is back, and a peer has renewed one meanwhile. */
    kit_store_pair(k.storage.inner, "ca.test-dir", names[3], START_S - 60, 90 * 86400);
    storage_is_away(false);
    kit_pass(&k.env, 60 * S);
    kit_until(served_from(names[3]) == START_S - 60);
    ck_assert_int_eq(served_from(names[4]), START_S - 86400);
    end();
}
END_TEST

START_TEST(names_with_one_certificate_are_served_together)
{
    static const char *const two[] = { "one.example", "two.example" };
    static const char *const three[] = { "one.example", "three.example", "two.example" };

    prepare();
    kit_start(&k);
    ck_ok(cm_manage_together(k.cfg, NULL, two, 2, &err));
    kit_pass(&k.env, 3 * S);
    kit_until(is_written(1));
    restart();
    storage_is_away(true);
    ck_ok(cm_manage_together(k.cfg, NULL, two, 2, &err));
    ck_assert_int_eq(served_from("one.example"), served_from("two.example"));
    restart(); /* nor is it taken for what it is not */
    ck_refused(cm_manage_together(k.cfg, NULL, three, 3, &err), CM_E_NET);
    storage_is_away(false);
    end();
}
END_TEST

START_TEST(what_storage_says_comes_first)
{
    prepare();
    start_and_write();
    kit_store_pair(k.storage.inner, "ca.test-dir", names[0], START_S - 60, 90 * 86400);
    kit_store_pair(k.storage.inner, "ca.test-dir", names[1], START_S - 2 * 86400, 90 * 86400);
    restart();
    ck_ok(cm_manage(k.cfg, NULL, names, NAMES, &err));
    ck_assert_int_eq(served_from(names[0]), START_S - 60);
    ck_assert_int_eq(served_from(names[1]), START_S - 2 * 86400);
    ck_assert_uint_eq(kit_logged("snapshot_used"), 0);
    end();
}
END_TEST

START_TEST(a_snapshot_that_is_of_no_use_is_said_so)
{
    static uint8_t all[1024 * 1024];

    prepare();
    start_and_write();
    size_t len = read_file(path, all, sizeof all);
    storage_is_away(true);
    all[len / 2] ^= 1;
    write_file(path, all, len, 0600);
    restart();
    ck_refused(cm_manage(k.cfg, NULL, names, NAMES, &err), CM_E_NET);
    ck_assert_uint_eq(kit_logged("snapshot_unusable"), 1); /* once, not for each name */
    ck_assert_uint_eq(atomic_load(&k.issuer->orders), 0);
    storage_is_away(false);
    ck_ok(cm_manage(k.cfg, NULL, names, NAMES, &err));
    kit_pass(&k.env, 61 * S);
    kit_until(is_written(2));
    ck_ok(try_read()); /* a good one has taken its place */

    write_file(key_path, other_key, sizeof other_key, 0600);
    storage_is_away(true);
    restart();
    ck_refused(cm_manage(k.cfg, NULL, names, 1, &err), CM_E_NET);
    ck_assert_uint_eq(kit_logged("snapshot_unusable"), 2);
    end();
}
END_TEST

START_TEST(what_has_ended_is_not_taken_from_a_snapshot)
{
    prepare();
    start_and_write();
    storage_is_away(true);
    kit_pass(&k.env, 91 * 86400 * S);
    restart();
    ck_refused(cm_manage(k.cfg, NULL, names, 1, &err), CM_E_NET);
    end();
}
END_TEST

START_TEST(it_is_written_at_most_once_a_minute)
{
    const char *const more[] = { "one.example", "two.example" };

    prepare();
    start_and_write();
    ck_assert_int_eq(unlink(path), 0);
    ck_ok(cm_manage(k.cfg, NULL, more, 1, &err));
    kit_pass(&k.env, 10 * S);
    kit_until(cm_runq_length(k.cfg->io) == 0);
    for (unsigned i = 0; i < 300; i++)
        kit_nap();
    ck_assert(!is_there());
    kit_pass(&k.env, 55 * S);
    kit_until(is_written(2));
    ck_assert(is_there());
    kit_pass(&k.env, 600 * S); /* nothing has changed */
    for (unsigned i = 0; i < 300; i++)
        kit_nap();
    ck_assert_uint_eq(kit_logged("snapshot_written"), 2);
    end();
}
END_TEST

START_TEST(one_that_cannot_be_written_is_tried_again)
{
    char aside[128];

    prepare();
    (void)snprintf(aside, sizeof aside, "%s.new", path);
    ck_assert_int_eq(mkdir(aside, 0700), 0);
    kit_start(&k);
    ck_ok(cm_manage(k.cfg, NULL, names, NAMES, &err));
    kit_pass(&k.env, 3 * S);
    kit_until(kit_logged("snapshot_not_written") == 1 || is_written(1));
    ck_assert_uint_eq(kit_logged("snapshot_not_written"), 1);
    ck_assert_int_eq(rmdir(aside), 0);
    kit_pass(&k.env, 61 * S);
    kit_until(is_written(1));
    ck_assert(is_there());
    end();
}
END_TEST

static void refused(const char *snapshot_path, const char *file, cm_status status)
{
    struct cm_issuer *is = kit_issuer_new(&k.env, "ca.test-dir");
    struct cm_config *cfg = NULL;

    k.opts.snapshot = snapshot_path;
    k.opts.snapshot_key_file = file;
    k.opts.issuers = &is;
    k.opts.n_issuers = 1;
    ck_refused(cm_config_new(&k.opts, &cfg, &err), status);
    ck_assert_msg(strstr(err.msg, "snapshot") != NULL, "%s", err.msg);
    cm_issuer_destroy(is);
}

START_TEST(a_key_that_is_none_is_refused)
{
    static const char hex[] = "00112233445566778899AABBCCDDEEFF00112233445566778899aabbccddeeff\n";

    make_dir();
    kit_init(&k);
    refused(path, NULL, CM_E_INVAL);
    refused(path, "/nonexistent/key", CM_E_NOTFOUND);
    refused(path, dir, CM_E_INVAL);
    write_file(key_path, "short", 5, 0600);
    refused(path, key_path, CM_E_INVAL);
    write_file(key_path, hex, 63, 0600);
    refused(path, key_path, CM_E_INVAL);
    write_file(key_path, key, sizeof key, 0644);
    refused(path, key_path, CM_E_PERM);
    write_file(key_path, hex, sizeof hex - 1, 0400);
    k.opts.issuers = NULL;
    k.opts.n_issuers = 0;
    kit_start(&k);
    end();
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        what_was_written_is_read,
        no_byte_can_be_changed_or_left_out,
        no_record_can_be_moved_or_come_from_another_file,
        what_others_could_have_written_is_not_read,
        a_node_starts_while_storage_is_away,
        names_with_one_certificate_are_served_together,
        what_storage_says_comes_first,
        a_snapshot_that_is_of_no_use_is_said_so,
        what_has_ended_is_not_taken_from_a_snapshot,
        it_is_written_at_most_once_a_minute,
        one_that_cannot_be_written_is_tried_again,
        a_key_that_is_none_is_refused,
    };

    return kit_run("snapshot", tests, CM_ARRAY_LEN(tests));
}
