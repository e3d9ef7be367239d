/* SPDX-License-Identifier: Apache-2.0 */
#include "redis_fixture.h"

#include "base.h"
#include "redis_vectors.h"

#include <regex.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* What lies in Redis after each operation, name by name and byte by byte, as docs/storage-redis.md
 * has it and peers expect it; and what peers write, with every flag. */

#define TTL   (15 * CM_NS_PER_S)
#define STAMP "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{0,8}[1-9])?Z"
#define VALUE                                                                                      \
    "^\\{\"value\":\"([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?\",\"modified\":\"" \
    "" STAMP "\",\"size\":[0-9]+,\"compression\":[012],\"encryption\":[01]\\}$"
#define LOCK "^[A-Za-z0-9_-]{22,}:[0-9]{16}:[0-9]{16}:[0-9]+:.+$"

static int64_t began_s;

static void matches(const char *text, const char *pattern, const char *name)
{
    regex_t r;

    ck_assert_int_eq(regcomp(&r, pattern, REG_EXTENDED | REG_NOSUB), 0);
    ck_assert_msg(regexec(&r, text, 0, NULL, 0) == 0, "%s is %s", name, text);
    regfree(&r);
}

static bool is_type(const char *name, const char *type)
{
    return strcmp(ask("TYPE %s", name)->str, type) == 0;
}

/* Each directory above @name has it, up to the first component of the prefix. */
static void is_indexed(const char *name)
{
    char at[512];
    const char *slash_behind = "";

    (void)snprintf(at, sizeof at, "%s", name);
    for (char *slash = strrchr(at, '/'); slash != NULL; slash = strrchr(at, '/')) {
        *slash = '\0';
        ck_assert_msg(ask("ZSCORE %s %s%s", at, slash + 1, slash_behind)->type ==
                          REDIS_REPLY_STRING,
                      "'%s' lacks '%s%s'", at, slash + 1, slash_behind);
        slash_behind = "/";
    }
}

static void directory_looks_right(const char *name)
{
    redisReply *r = redisCommand(raw, "ZRANGE %s 0 -1 WITHSCORES", name);
    int64_t now_s = cm_env_wall_s(cm_env_system());

    ck_assert_int_eq(ask("PTTL %s", name)->integer, -1);
    for (size_t i = 0; i + 1 < r->elements; i += 2) {
        const char *member = r->element[i]->str;
        size_t len = strlen(member);
        bool directory = member[len - 1] == '/';
        char child[512];

        matches(r->element[i + 1]->str, "^[0-9]{10}$", member);
        int64_t score = strtoll(r->element[i + 1]->str, NULL, 10);
        ck_assert(score >= began_s - 1 && score <= now_s + 1);
        (void)snprintf(child, sizeof child, "%s/%.*s", name, (int)(len - directory), member);
        ck_assert_msg(is_type(child, directory ? "zset" : "string"), "nothing behind '%s' of '%s'",
                      member, name);
    }
    freeReplyObject(r);
}

/* All there is: so many values, directories and locks, and nothing else. */
static void looks_right(size_t values, size_t directories, size_t locks)
{
    char top[32];
    size_t found[3] = { 0, 0, 0 };
    size_t n = strlen(prefix);

    (void)snprintf(top, sizeof top, "%.*s", (int)strcspn(prefix, "/"), prefix);
    redisReply *names = redisCommand(raw, "KEYS %s*", top);
    for (size_t i = 0; i < names->elements; i++) {
        const char *name = names->element[i]->str;
        const char *rest = strlen(name) > n ? name + n : "";

        if (strncmp(rest, "/certmesh/locks/", 16) == 0) {
            matches(ask("GET %s", name)->str, "^[0-9]{16}$", name);
            ck_assert_int_gt(ask("PTTL %s", name)->integer, 24 * 3600 * 1000);
        } else if (strncmp(rest, "/locks/", 7) == 0) {
            found[2]++;
            matches(ask("GET %s", name)->str, LOCK, name);
            ck_assert_int_gt(ask("PTTL %s", name)->integer, 10000);
            ck_assert_int_le(ask("PTTL %s", name)->integer, 15000);
        } else if (is_type(name, "zset")) {
            found[1]++;
            directory_looks_right(name);
        } else {
            found[0]++;
            matches(ask("GET %s", name)->str, VALUE, name);
            ck_assert_int_eq(ask("PTTL %s", name)->integer, -1);
            is_indexed(name);
        }
    }
    freeReplyObject(names);
    ck_assert_uint_eq(found[0], values);
    ck_assert_uint_eq(found[1], directories);
    ck_assert_uint_eq(found[2], locks);
}

START_TEST(each_operation_leaves_what_peers_expect)
{
    static const char key[] = "certificates/ca/example.com/example.com.crt";
    struct cm_commit_item items[3] = {
        { .key = "certificates/ca/example.com/example.com.key", .value = cm_span_str("k") },
        { .key = key, .value = cm_span_str("c") },
        { .key = "acme/ca/users/default/default.key", .remove = true },
    };
    struct cm_grant g;

    began_s = cm_env_wall_s(cm_env_system());
    put(key, "chain");
    looks_right(1, 5, 0); /* top, prefix, certificates, ca, example.com */
    put(key, "another");
    looks_right(1, 5, 0);
    put("acme/ca/users/default/default.key", "x");
    put("acme/ca/users/default/default.json", "");
    looks_right(3, 9, 0);
    must(cm_storage_try_lock(st, NULL, "issue_cert_*.example.com", TTL, &g, NULL, &err));
    looks_right(3, 9, 1);
    ck_assert_int_eq(ask("EXISTS %s/locks/issue_cert_*.example.com", prefix)->integer, 1);
    must(cm_storage_refresh(st, NULL, &g, &err));
    must(cm_storage_commit(st, NULL, &g, items, 3, &err));
    looks_right(3, 9, 1);
    must(cm_storage_unlock(st, NULL, &g, &err));
    looks_right(3, 9, 0);
    must(cm_storage_remove(st, NULL, "acme/ca/users/default/default.json", &err));
    looks_right(2, 5, 0);
    put("certificates/ca/b.example/b.example.crt", "x");
    put("certificates/other/b.example/b.example.crt", "x");
    looks_right(4, 8, 0);
    must(cm_storage_remove(st, NULL, "certificates/ca", &err));
    looks_right(1, 5, 0);
    must(cm_storage_remove(st, NULL, "certificates", &err));
    looks_right(0, 0, 0);
}
END_TEST

/* The name of a file with the key, as the URL wants it. Static. */
static const char *key_file(void)
{
    static char path[64];
    int fd;

    (void)snprintf(path, sizeof path, "/tmp/cm-redis-key-XXXXXX");
    fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, KEY " and more\n", 42), 42); /* the first 32 bytes count */
    (void)close(fd);
    return path;
}

static cm_status takes_text(void *user, size_t index, cm_status status, struct cm_span value,
                            const struct cm_err *why, struct cm_err *e)
{
    (void)index;
    if (status != CM_OK)
        return cm_fail(e, status, "%s", why->msg);
    if (value.len != strlen(TEXT) || memcmp(value.data, TEXT, value.len) != 0)
        return cm_fail(e, CM_E_INTERNAL, "another value");
    ++*(unsigned *)user;
    return CM_OK;
}

static cm_status has_size(void *user, const struct cm_key_info *info, struct cm_err *e)
{
    ++*(unsigned *)user;
    return info->size == strlen(TEXT) && info->terminal
               ? CM_OK
               : cm_fail(e, CM_E_INTERNAL, "'%s' has another size", info->key);
}

START_TEST(values_of_peers_are_read_with_every_flag)
{
    const char *path = key_file();
    char parameters[160];
    const char *keys[CM_ARRAY_LEN(vectors)];
    char names[CM_ARRAY_LEN(vectors)][32];
    unsigned n = 0;

    (void)snprintf(parameters, sizeof parameters, "prefix=%s&encryption_key_file=%s", prefix, path);
    struct cm_storage *keyed = open_with("REDIS_UNIX_URL", parameters);
    for (size_t i = 0; i < CM_ARRAY_LEN(vectors); i++) {
        struct cm_buf got = CM_BUF_INIT(4096);
        struct cm_key_info info;
        cm_status rc;

        (void)snprintf(names[i], sizeof names[i], "v/c%d-e%d", vectors[i].compression,
                       vectors[i].encryption);
        keys[i] = names[i];
        peer_store(prefix, keys[i],
                   json_of(vectors[i].base64, vectors[i].compression, vectors[i].encryption));
        must(cm_storage_load(keyed, NULL, keys[i], &got, &err));
        ck_assert_str_eq(cm_buf_str(&got), TEXT);
        must(cm_storage_stat(keyed, NULL, keys[i], &info, &err));
        ck_assert_uint_eq(info.size, strlen(TEXT));
        ck_assert_int_eq(info.modified_ns, INT64_C(1788020401123456789));
        cm_buf_reset(&got);
        rc = cm_storage_load(st, NULL, keys[i], &got, &err);
        ck_assert_int_eq(rc, vectors[i].encryption ? CM_E_PERM : CM_OK);
        cm_buf_free(&got);
    }
    must(cm_storage_load_many(keyed, NULL, keys, CM_ARRAY_LEN(vectors), takes_text, &n, &err));
    ck_assert_uint_eq(n, CM_ARRAY_LEN(vectors));
    n = 0;
    must(cm_storage_list(keyed, NULL, "v", true, has_size, &n, &err));
    ck_assert_uint_eq(n, CM_ARRAY_LEN(vectors));
    cm_storage_close(keyed);
    (void)unlink(path);
}
END_TEST

/* By the rules, and by other libraries than ours. */
static const char reader[] =
    "import base64, json, sys, zlib\n"
    "from cryptography.hazmat.primitives.ciphers.aead import AESGCM\n"
    "v = json.load(sys.stdin)\n"
    "b = base64.b64decode(v['value'], validate=True)\n"
    "if v['encryption']: b = AESGCM(b'" KEY "').decrypt(b[:12], b[12:], None)\n"
    "if v['compression']: b = zlib.decompress(b, -15 if v['compression'] == 1 else 15)\n"
    "assert len(b) == v['size']\n"
    "sys.stdout.write('%d%d ' % (v['compression'], v['encryption']) + b.decode())\n";

static void reads_as(const char *json, const char *want)
{
    char script[] = "/tmp/cm-redis-py-XXXXXX";
    char data[] = "/tmp/cm-redis-js-XXXXXX";
    int fds[2] = { mkstemp(script), mkstemp(data) };
    char command[160];
    char got[2048];

    ck_assert(write(fds[0], reader, strlen(reader)) == (ssize_t)strlen(reader) &&
              write(fds[1], json, strlen(json)) == (ssize_t)strlen(json));
    (void)close(fds[0]);
    (void)close(fds[1]);
    (void)snprintf(command, sizeof command, "python3 %s <%s", script, data);
    FILE *f = popen(command, "r"); /* NOLINT: names of our own */
    ck_assert_ptr_nonnull(f);
    got[fread(got, 1, sizeof got - 1, f)] = '\0';
    ck_assert_int_eq(pclose(f), 0);
    ck_assert_str_eq(got, want);
    (void)unlink(script);
    (void)unlink(data);
}

START_TEST(peers_read_what_is_written_with_every_flag)
{
    static const char *const how[] = { "none", "flate", "zlib" };
    const char *path = key_file();

    for (int compression = 0; compression < 3; compression++)
        for (int encryption = 0; encryption < 2; encryption++) {
            char parameters[200];
            char want[1024];

            (void)snprintf(parameters, sizeof parameters, "prefix=%s&compression=%s%s%s", prefix,
                           how[compression], encryption ? "&encryption_key_file=" : "",
                           encryption ? path : "");
            struct cm_storage *s = open_with("REDIS_UNIX_URL", parameters);
            must(cm_storage_store(s, NULL, "w/long", cm_span_str(TEXT), &err));
            must(cm_storage_store(s, NULL, "w/short", cm_span_str("x"), &err));
            (void)snprintf(want, sizeof want, "%d%d %s", compression, encryption, TEXT);
            reads_as(ask("GET %s/w/long", prefix)->str, want);
            (void)snprintf(want, sizeof want, "0%d x", encryption); /* would only get longer */
            reads_as(ask("GET %s/w/short", prefix)->str, want);
            cm_storage_close(s);
        }
    (void)unlink(path);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        each_operation_leaves_what_peers_expect,
        values_of_peers_are_read_with_every_flag,
        peers_read_what_is_written_with_every_flag,
    };

    return run_with_redis("redis bytes", tests, CM_ARRAY_LEN(tests), 60);
}
