/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* damage list                            names of all kinds of damage
 * damage KIND FILE OTHER OLD             do it to FILE; OTHER is the same object of another name,
 * OLD an earlier generation of it ("-": there is none)
 *
 * Exit: 0 done, and FILE is not what it was; 3 there is no such damage to it (OTHER or OLD is
 * missing or just the same, it has no line feed); 1 it had no effect. */

const char *__asan_default_options(void);

#define FILE_MAX (4u * 1024 * 1024)

struct text {
    unsigned char *at;
    size_t len;
};

/* It ends where it stands. */
const char *__asan_default_options(void)
{
    return "detect_leaks=0";
}

static void die(const char *what, const char *path)
{
    fprintf(stderr, "damage: %s '%s': %s\n", what, path, strerror(errno));
    exit(2);
}

static struct text slurp(const char *path)
{
    struct text t = { malloc(FILE_MAX), 0 };
    FILE *f = fopen(path, "rb");

    if (f == NULL || t.at == NULL)
        die("read", path);
    t.len = fread(t.at, 1, FILE_MAX, f);
    (void)fclose(f);
    return t;
}

static void spit(const char *path, const void *at, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    if (fd < 0 || write(fd, at, len) != (ssize_t)len || close(fd) != 0)
        die("write", path);
}

static void put(struct text *t, const char *s)
{
    t->len = strlen(s);
    memcpy(t->at, s, t->len);
}

/* The n-th of @of equal parts; never at a line feed, where a change may mean nothing. */
static size_t spot(const struct text *t, unsigned n, unsigned of)
{
    size_t at = t->len * n / of;

    while (at + 1 < t->len && (t->at[at] == '\n' || t->at[at] == '=' || t->at[at] == '-'))
        at++;
    return at;
}

static void tear(struct text *t, unsigned n)
{
    t->len = t->len * n / 4;
}

static void flip(struct text *t, unsigned n)
{
    if (t->len > 0)
        t->at[spot(t, n, 8)] ^= (unsigned char)(1u << (n % 3));
}

static void garbage(struct text *t)
{
    unsigned x = 2463534242u;

    for (size_t i = 0; i < t->len; i++) {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        t->at[i] = (unsigned char)x;
    }
}

static void crlf(struct text *t)
{
    struct text to = { malloc(2 * t->len + 1), 0 };

    if (memchr(t->at, '\n', t->len) == NULL)
        exit(3); /* one line without an end */
    if (to.at == NULL)
        die("no memory for", "CRLF");
    for (size_t i = 0; i < t->len; i++) {
        if (t->at[i] == '\n')
            to.at[to.len++] = '\r';
        to.at[to.len++] = t->at[i];
    }
    memcpy(t->at, to.at, to.len);
    t->len = to.len;
    free(to.at);
}

static void append(struct text *t, const void *s, size_t len)
{
    memcpy(t->at + t->len, s, len);
    t->len += len;
}

static void prepend(struct text *t, const char *s)
{
    size_t len = strlen(s);

    memmove(t->at + len, t->at, t->len);
    memcpy(t->at, s, len);
    t->len += len;
}

static void all_of(struct text *t, unsigned char c, size_t len)
{
    memset(t->at, c, len);
    t->len = len;
}

static void bad_utf8(struct text *t)
{
    put(t, "{\"sans\":[\"\xff\xfe\xc0\xaf.test\"],\"status\":\"valid\",\"location\":"
           "\"\xed\xa0\x80\"}");
}

#define PEM(label, body) "-----BEGIN " label "-----\n" body "\n-----END " label "-----\n"

static const char *const texts[][2] = {
    { "json_object", "{}" },
    { "json_array", "[]" },
    { "json_null", "null" },
    { "json_number", "1e999" },
    { "json_types", "{\"sans\":7,\"issuer_data\":[],\"status\":{},\"location\":9,\"contact\":\"x\","
                    "\"created\":1,\"updated\":true,\"identifier\":[1],\"token\":null}" },
    { "pem_public", PEM("PUBLIC KEY", "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE") },
    { "pem_empty_cert", PEM("CERTIFICATE", "") },
    { "pem_empty_key", PEM("EC PRIVATE KEY", "") },
    { "pem_encrypted", PEM("ENCRYPTED PRIVATE KEY", "MIGbMFcGCSqGSIb3DQEFDTBK") },
    { "pem_endless", "-----BEGIN CERTIFICATE-----\nMIIB" },
};

static const char *const others[] = {
    "empty",     "torn_byte",  "torn_quarter", "torn_half",      "torn_last", "first_byte",
    "flip_1",    "flip_2",     "flip_3",       "flip_4",         "flip_5",    "flip_6",
    "flip_7",    "nul_all",    "nul_middle",   "nul_end",        "garbage",   "spaces",
    "json_deep", "bad_utf8",   "crlf",         "garbage_before", "bom",       "garbage_behind",
    "doubled",   "huge_zero",  "huge_tail",    "missing",        "directory", "directory_full",
    "other",     "other_both", "old"
};

/* What it does to the bytes; false if it is of another kind. */
static bool change(const char *kind, struct text *t)
{
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (strcmp(kind, texts[i][0]) == 0) {
            put(t, texts[i][1]);
            return true;
        }
    }
    if (strcmp(kind, "empty") == 0)
        t->len = 0;
    else if (strcmp(kind, "torn_byte") == 0)
        t->len = 1;
    else if (strcmp(kind, "torn_quarter") == 0)
        tear(t, 1);
    else if (strcmp(kind, "torn_half") == 0)
        tear(t, 2);
    else if (strcmp(kind, "torn_last") == 0)
        t->len -= t->len > 10 ? 10 : t->len;
    else if (strcmp(kind, "first_byte") == 0 && t->len > 0)
        t->at[0] ^= 0x20;
    else if (strncmp(kind, "flip_", 5) == 0)
        flip(t, (unsigned)(kind[5] - '0'));
    else if (strcmp(kind, "nul_all") == 0)
        all_of(t, 0, t->len);
    else if (strcmp(kind, "nul_middle") == 0)
        memset(t->at + t->len / 2, 0, t->len / 8);
    else if (strcmp(kind, "nul_end") == 0)
        memset(t->at + t->len - t->len / 4, 0, t->len / 4);
    else if (strcmp(kind, "garbage") == 0)
        garbage(t);
    else if (strcmp(kind, "spaces") == 0)
        all_of(t, ' ', t->len);
    else if (strcmp(kind, "json_deep") == 0)
        all_of(t, '[', 60000);
    else if (strcmp(kind, "bad_utf8") == 0)
        bad_utf8(t);
    else if (strcmp(kind, "crlf") == 0)
        crlf(t);
    else if (strcmp(kind, "garbage_before") == 0)
        prepend(t, "\x01\x7f%s%n ../../");
    else if (strcmp(kind, "bom") == 0)
        prepend(t, "\xef\xbb\xbf");
    else if (strcmp(kind, "garbage_behind") == 0)
        append(t, "\x01\x7f%s%n ../../", 14);
    else if (strcmp(kind, "doubled") == 0)
        append(t, t->at, t->len);
    else if (strcmp(kind, "huge_zero") == 0)
        all_of(t, '0', 3u * 1024 * 1024);
    else if (strcmp(kind, "huge_tail") == 0)
        memset(t->at + t->len, '\n', 2u * 1024 * 1024), t->len += 2u * 1024 * 1024;
    else
        return false;
    return true;
}

/* Several damages replace the file by something else. */
static bool replace(const char *kind, const char *path, const char *other, const char *old)
{
    const char *from = strcmp(kind, "old") == 0 ? old : other;
    char inside[4096];

    if (strncmp(kind, "other", 5) == 0 || strcmp(kind, "old") == 0) {
        if (strcmp(from, "-") == 0)
            exit(3);
        struct text t = slurp(from);
        struct text now = slurp(path);
        if (t.len == now.len && memcmp(t.at, now.at, t.len) == 0)
            exit(3);
        free(now.at);
        spit(path, t.at, t.len);
        free(t.at);
        return true;
    }
    if (unlink(path) != 0)
        die("remove", path);
    if (strcmp(kind, "missing") == 0)
        return true;
    if (mkdir(path, 0700) != 0)
        die("mkdir", path);
    if (strcmp(kind, "directory_full") == 0) {
        (void)snprintf(inside, sizeof inside, "%s/precious", path);
        spit(inside, "precious", 8);
    }
    return strncmp(kind, "directory", 9) == 0;
}

int main(int argc, char **argv)
{
    struct stat st;

    if (argc == 2 && strcmp(argv[1], "list") == 0) {
        for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
            puts(texts[i][0]);
        for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
            puts(others[i]);
        return 0;
    }
    if (argc != 5) {
        fprintf(stderr, "usage: damage list | damage KIND FILE OTHER OLD\n");
        return 2;
    }
    struct text before = slurp(argv[2]);
    struct text t = slurp(argv[2]);
    if (change(argv[1], &t))
        spit(argv[2], t.at, t.len);
    else if (!replace(argv[1], argv[2], argv[3], argv[4])) {
        fprintf(stderr, "damage: what is '%s'?\n", argv[1]);
        return 2;
    }
    if (lstat(argv[2], &st) == 0 && S_ISREG(st.st_mode)) {
        struct text now = slurp(argv[2]);

        if (now.len == before.len && memcmp(now.at, before.at, now.len) == 0) {
            fprintf(stderr, "damage: %s had no effect on '%s'\n", argv[1], argv[2]);
            return 1;
        }
        free(now.at);
    }
    free(t.at);
    free(before.at);
    return 0;
}
