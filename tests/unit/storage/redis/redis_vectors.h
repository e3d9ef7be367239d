/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_TESTS_UNIT_REDIS_VECTORS_H
#define CM_TESTS_UNIT_REDIS_VECTORS_H

/* One value as caddy-storage-redis writes it, with every flag that it may set. Made with Python's
 * zlib and cryptography by the rules in docs/storage-redis.md, not with this code. */

#include <stdio.h>
#include <string.h>

#define KEY "0123456789abcdef0123456789abcdef"
#define TEXT                                                                                       \
    "first line\n"                                                                                 \
    "the same again\n"                                                                             \
    "the same again\n"                                                                             \
    "the same again\n"                                                                             \
    "the same again\n"                                                                             \
    "the same again\n"                                                                             \
    "the same again\n"                                                                             \
    "the same again\n"                                                                             \
    "the same again\n"                                                                             \
    "the same again\n"                                                                             \
    "the same again\n"                                                                             \
    "the same again\n"                                                                             \
    "the same again\n"                                                                             \
    "last line\n"

static const struct {
    int compression;
    int encryption;
    const char *base64;
} vectors[] = {
    { 0, 0,
      "Zmlyc3QgbGluZQp0aGUgc2FtZSBhZ2Fpbgp0aGUgc2FtZSBhZ2Fpbgp0aGUgc2FtZSBhZ2Fpbgp0aGUgc2Ft"
      "ZSBhZ2Fpbgp0aGUgc2FtZSBhZ2Fpbgp0aGUgc2FtZSBhZ2Fpbgp0aGUgc2FtZSBhZ2Fpbgp0aGUgc2FtZSBh"
      "Z2Fpbgp0aGUgc2FtZSBhZ2Fpbgp0aGUgc2FtZSBhZ2Fpbgp0aGUgc2FtZSBhZ2Fpbgp0aGUgc2FtZSBhZ2Fp"
      "bgpsYXN0IGxpbmUK" },
    { 0, 1,
      "AAECAwQFBgcICQoLS4zJD604vsXGuXvKGarxd4dlZqdd2xXiTtbP3N0F3+XQzhZ/LtR+fptR0zn636JXScv8"
      "lmnZ+8hcK1Fub3pyG41jA1BfTVHfNQxobpgcaRhlsKMZKmeRjOWQNL7PKrM0i/Fy5ofb9nMmm1Z+oAC09VPA"
      "4X3L1JUNlpv6UkoUVFB4TNVBRN+Quam2n3t6sr1oQIvTNTKZhCZniyqYtx7Ory3qX3CMpL2iDJdnleS92wWK"
      "toi/Z8pXVRxCwQjb+IabDf1qz8UvB2wXuMnZb+7igCfpq9A4BzME9g==" },
    { 1, 0, "S8ssKi5RyMnMS+UqyUhVKE7MTVVITE/MzBsa3JxEmOsB" },
    { 1, 1,
      "AAECAwQFBgcICQoLZi6XVvdJGmVkl5SUuIeELKjETtJ08DtH7MehaCRhNG+8m4eb5CrylaD0J0xx9YLAUw==" },
    { 2, 0, "eJxLyywqLlHIycxL5SrJSFUoTsxNVUhMT8zMGxrcnESY6wGy50XN" },
    { 2, 1,
      "AAECAwQFBgcICQoLVXnwt/Uy/P1gFb31lOUYTLMgTUtx6TzHbxB3r6L5MMAlQDesrvDal+pDSCbSP/N7eq0J"
      "oeK2/w==" },
};

static inline const char *json_of(const char *base64, int compression, int encryption)
{
    static char text[2048];

    (void)snprintf(text, sizeof text,
                   "{\"value\":\"%s\",\"modified\":\"2026-08-29T18:20:01.123456789+02:00\","
                   "\"size\":%zu,\"compression\":%d,\"encryption\":%d}",
                   base64, strlen(TEXT), compression, encryption);
    return text;
}

#endif
