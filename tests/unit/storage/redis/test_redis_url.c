/* SPDX-License-Identifier: Apache-2.0 */
#include "run.h"

#include "redis/redis.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void parse(const char *url, struct redis_options *o)
{
    struct cm_err err = CM_ERR_INIT;

    ck_assert_msg(redis_options_parse(url, o, &err) == CM_OK, "%s: %s", url, err.msg);
}

/* Refused, with a message that has @text and, above all, not @secret. */
static void refuse(const char *url, const char *text, const char *secret)
{
    struct cm_err err = CM_ERR_INIT;
    struct redis_options o;

    ck_assert_msg(redis_options_parse(url, &o, &err) == CM_E_INVAL, "%s is taken", url);
    ck_assert_msg(strstr(err.msg, text) != NULL, "%s: '%s' without '%s'", url, err.msg, text);
    if (secret != NULL)
        ck_assert_msg(strstr(err.msg, secret) == NULL, "%s: '%s' tells it", url, err.msg);
}

static const char *temp_file(const char *text)
{
    static char path[64];
    int fd;

    (void)snprintf(path, sizeof path, "/tmp/cm-redis-url-XXXXXX");
    fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    (void)close(fd);
    return path;
}

START_TEST(test_plain)
{
    struct redis_options o;

    parse("redis://h", &o);
    ck_assert_int_eq(o.topology, REDIS_SINGLE);
    ck_assert_uint_eq(o.n_addresses, 1);
    ck_assert_str_eq(o.addresses[0].host, "h");
    ck_assert_uint_eq(o.addresses[0].port, 6379);
    ck_assert_uint_eq(o.db, 0);
    ck_assert_str_eq(o.prefix, "caddy");
    ck_assert_ptr_null(o.username);
    ck_assert_ptr_null(o.password);
    ck_assert(!o.tls);
    ck_assert_uint_eq(o.pool_max, 8);
    ck_assert_int_eq(o.timeout_ns, 5 * CM_NS_PER_S);
    ck_assert_str_eq(o.shown, "redis://h:6379/0?prefix=caddy");
    redis_options_clear(&o);
    ck_assert_ptr_null(o.prefix);
    redis_options_clear(&o);
}
END_TEST

START_TEST(test_all_parts)
{
    struct redis_options o;

    parse("REDISS://al%40ice:p%2fw%25:x@a.example:1,[::1]:2,[fe80::1%25eth0],b/7"
          "?prefix=%20/x/y/%20&server_name=r&insecure=true&compression=zlib&pool=3&timeout=250ms",
          &o);
    ck_assert(o.tls && o.tls_insecure);
    ck_assert_str_eq(o.username, "al@ice");
    ck_assert_str_eq(o.password, "p/w%:x");
    ck_assert_uint_eq(o.n_addresses, 4);
    ck_assert_str_eq(o.addresses[1].host, "::1");
    ck_assert_uint_eq(o.addresses[1].port, 2);
    ck_assert_str_eq(o.addresses[2].host, "fe80::1%eth0");
    ck_assert_uint_eq(o.addresses[3].port, 6379);
    ck_assert_uint_eq(o.db, 7);
    ck_assert_str_eq(o.prefix, "x/y");
    ck_assert_str_eq(o.tls_server_name, "r");
    ck_assert_int_eq(o.compression, 2);
    ck_assert_uint_eq(o.pool_max, 3);
    ck_assert_int_eq(o.timeout_ns, 250 * CM_NS_PER_MS);
    ck_assert_str_eq(o.shown,
                     "rediss://a.example:1,[::1]:2,[fe80::1%25eth0]:6379,b:6379/7?prefix=x/y");
    redis_options_clear(&o);
}
END_TEST

START_TEST(test_unix)
{
    struct redis_options o;

    parse("unix:///run/a%20b.sock?db=4&prefix=", &o);
    ck_assert_ptr_null(o.addresses[0].host);
    ck_assert_str_eq(o.addresses[0].path, "/run/a b.sock");
    ck_assert_uint_eq(o.db, 4);
    ck_assert_str_eq(o.prefix, "");
    ck_assert_str_eq(o.shown, "unix:///run/a%20b.sock?db=4&prefix=");
    redis_options_clear(&o);
    parse("redis+unix://u:p@/s", &o);
    ck_assert_str_eq(o.username, "u");
    redis_options_clear(&o);
    refuse("unix://host/path", "cannot name a host", NULL);
    refuse("unix://", "no path", NULL);
    refuse("redis+unix:///"
           "0123456789012345678901234567890123456789012345678901234567890123456789"
           "0123456789012345678901234567890123456789",
           "107", NULL);
}
END_TEST

START_TEST(test_sentinel_and_cluster)
{
    struct redis_options o;

    parse("redis+sentinel://a,b:5/my%20master/3?sentinel_username=s&sentinel_password_env=HOME",
          &o);
    ck_assert_int_eq(o.topology, REDIS_SENTINEL);
    ck_assert_uint_eq(o.addresses[0].port, 26379);
    ck_assert_uint_eq(o.addresses[1].port, 5);
    ck_assert_str_eq(o.master, "my master");
    ck_assert_str_eq(o.sentinel_username, "s");
    ck_assert_str_eq(o.sentinel_password, getenv("HOME"));
    ck_assert_str_eq(o.shown, "redis+sentinel://a:26379,b:5/my%20master/3?prefix=caddy");
    redis_options_clear(&o);
    parse("rediss+cluster://a,b/0", &o);
    ck_assert_int_eq(o.topology, REDIS_CLUSTER);
    ck_assert(o.tls);
    ck_assert_str_eq(o.shown, "rediss+cluster://a:6379,b:6379?prefix=caddy");
    redis_options_clear(&o);
    refuse("redis+sentinel://a", "names no master", NULL);
    refuse("redis+sentinel://a/m?sentinel_username=s", "sentinel_password_file", NULL);
    refuse("redis+cluster://a/1", "database 0 only", NULL);
    refuse("redis://a?sentinel_username=s", "only with redis+sentinel", NULL);
}
END_TEST

START_TEST(test_secrets_from_elsewhere)
{
    static const char key[] = "0123456789abcdef0123456789ABCDEFmore";
    struct redis_options o;
    char url[256];

    ck_assert_int_eq(setenv("CM_TEST_KEY", key, 1), 0);
    (void)snprintf(url, sizeof url,
                   "redis://h?username=u&password_file=%s&encryption_key_env=CM_TEST_KEY",
                   temp_file("s3cret\r\n"));
    parse(url, &o);
    ck_assert_str_eq(o.username, "u");
    ck_assert_str_eq(o.password, "s3cret");
    ck_assert_str_eq(o.encryption_key, "0123456789abcdef0123456789ABCDEF");
    redis_options_clear(&o);
    (void)unlink(strstr(url, "/tmp"));

    (void)snprintf(url, sizeof url, "redis://h?encryption_key_file=%s", temp_file("short s3cret"));
    refuse(url, "32 bytes at least", "s3cret");
    (void)snprintf(url, sizeof url, "redis://h?password_file=%s", temp_file("\n"));
    refuse(url, "empty", NULL);
    refuse("redis://h?password_env=CM_NO_SUCH", "CM_NO_SUCH", NULL);
    refuse("redis://u:s3cret@h?password_env=CM_TEST_KEY", "a password already", "s3cret");
    refuse("redis://u@h", "without a password", NULL);
}
END_TEST

START_TEST(test_missing_file)
{
    struct cm_err err = CM_ERR_INIT;
    struct redis_options o;

    ck_assert_int_eq(redis_options_parse("redis://h?password_file=/no/such", &o, &err),
                     CM_E_NOTFOUND);
    ck_assert_ptr_nonnull(strstr(err.msg, "/no/such"));
}
END_TEST

START_TEST(test_refused)
{
    refuse("redis:h", "'//'", NULL);
    refuse("http://h", "no Redis URL", NULL);
    refuse("redis://", "no valid host", NULL);
    refuse("redis://h,", "no valid host", NULL);
    refuse("redis://h:0", "port", NULL);
    refuse("redis://h:65536", "port", NULL);
    refuse("redis://[::1", "no valid host", NULL);
    refuse("redis://[::1]x", "port", NULL);
    refuse("redis://[h]", "no valid host", NULL);
    refuse("redis://h/x", "number of a database", NULL);
    refuse("redis://h?nonsense=1", "'nonsense'", NULL);
    refuse("redis://h?pool=1&pool=2", "'pool' of the Redis URL: it is named twice", NULL);
    refuse("redis://h/1?db=2", "'db' of the Redis URL: it is named twice", NULL);
    refuse("redis://h?pool=0", "1 to 256", NULL);
    refuse("redis://h?pool", "no value", NULL);
    refuse("redis://h?timeout=5h", "timeout", NULL);
    refuse("redis://h?timeout=9ms", "timeout", NULL);
    refuse("redis://h?compression=gzip", "flate", NULL);
    refuse("redis://h?insecure=true", "only with TLS", NULL);
    refuse("rediss://h?insecure=1", "true or false", NULL);
    refuse("rediss://h?insecure=true&ca=/x", "leave one", NULL);
    refuse("rediss://h?cert=/x", "go together", NULL);
    refuse("redis://h?prefix=a//b", "prefix", NULL);
    refuse("redis://h?prefix=a/../b", "prefix", NULL);
    refuse("redis://h?prefix=.", "prefix", NULL);
    refuse("redis://h?prefix=a%0ab", "%-escape", NULL);
    refuse("redis://h?prefix=a%2", "%-escape", NULL);
}
END_TEST

/* A password that nobody escaped ends up where other things are expected. */
START_TEST(test_a_password_is_never_told)
{
    refuse("redis://u:s3cret/more@h", "port", "s3cret");
    refuse("redis://u:12/s3cret@h", "", "s3cret");
    refuse("redis://u:12?s3cret@h", "unknown parameter", "s3cret");
    refuse("redis://u:a?s3cret=1@h/", "", "s3cret");
    refuse("redis://u:s3cret%zz@h", "%-escape", "s3cret");
    refuse("redis://u:a#s3cret@h", "%23", "s3cret");
    refuse("redis://u:s3cret@h@i:x", "port", "s3cret");
    refuse("redis://u:s3cret@:6379", "no valid host", "s3cret");
}
END_TEST

/* Each scheme by the door that everybody uses; nobody is connected to. */
START_TEST(test_the_door)
{
    static const char *const urls[] = {
        "redis://127.0.0.1:1/0?prefix=caddy",
        "rediss://127.0.0.1:1/0?prefix=caddy",
        "redis+unix:///no/such.sock?db=0&prefix=caddy",
        "unix:///no/such.sock?db=0&prefix=caddy",
        "redis+sentinel://127.0.0.1:1/m/0?prefix=caddy",
        "rediss+sentinel://127.0.0.1:1/m/0?prefix=caddy",
        "redis+cluster://127.0.0.1:1?prefix=caddy",
        "rediss+cluster://127.0.0.1:1?prefix=caddy",
    };
    struct cm_err err = CM_ERR_INIT;
    struct cm_storage *st = NULL;

    for (size_t i = 0; i < CM_ARRAY_LEN(urls); i++) {
        ck_assert_msg(cm_storage_open(urls[i], NULL, &st, &err) == CM_OK, "%s", err.msg);
        ck_assert_str_eq(cm_storage_describe(st), urls[i]);
        cm_storage_close(st);
    }
    ck_assert_int_eq(cm_storage_open("redis://u:s3cret@h?x=1", NULL, &st, &err), CM_E_INVAL);
    ck_assert_ptr_nonnull(strstr(err.msg, "'x'"));
    ck_assert_ptr_null(strstr(err.msg, "s3cret"));
    ck_assert_int_eq(cm_storage_open("rediss://h?ca=/no/such", NULL, &st, &err), CM_E_TLS);
    ck_assert_ptr_nonnull(strstr(err.msg, "/no/such"));
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        test_plain,
        test_all_parts,
        test_unix,
        test_sentinel_and_cluster,
        test_secrets_from_elsewhere,
        test_missing_file,
        test_refused,
        test_a_password_is_never_told,
        test_the_door,
    };

    return run_tests("redis url", tests, sizeof tests / sizeof tests[0]);
}
