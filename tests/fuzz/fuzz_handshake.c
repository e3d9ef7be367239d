/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"
#include "tls.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* The first flight of a stranger through the gate into a real session of GnuTLS, of a server that
 * has one certificate. Nobody gets through by one flight alone; a certificate goes only to who
 * asked for its name; and GnuTLS reads the same name as we do, or another would be served than was
 * chosen.
 */

#define NAME    "fuzz.test"
#define MSG_MAX 16384u
#define IN_MAX  65536u /* what a pair of sockets holds */

static struct cm_config *server(void)
{
    static struct cm_config *cfg;
    struct cm_config_options o = CM_CONFIG_OPTIONS_INIT;
    struct cm_op op = cm_op_within(NULL, 60 * CM_NS_PER_S);
    const char *const name = NAME;

    if (cfg != NULL)
        return cfg;
    o.storage = "memory:";
    o.internal = true;
    o.handshake_wait_ms = 1000;
    CM_ASSERT(cm_config_new(&o, &cfg, NULL) == CM_OK);
    CM_ASSERT(cm_manage(cfg, &op, &name, 1, NULL) == CM_OK);
    return cfg;
}

/* What we make of it. False: no whole hello in there that we take. */
static bool read_hello(const uint8_t *data, size_t size, struct cm_hello *ret)
{
    struct cm_record_scan scan = { 0 };
    struct cm_span raw = { data, size };
    bool ok = cm_record_scan(&scan, raw, MSG_MAX) == CM_RECORD_HELLO &&
              cm_tls_hello_parse_body(cm_record_hello(&scan, raw), ret, NULL) == CM_OK;

    cm_record_scan_free(&scan);
    return ok;
}

static void check(gnutls_session_t s, const struct cm_hello *ours, bool taken, int peer)
{
    char theirs[CM_NAME_BUF];
    size_t len = sizeof theirs;
    unsigned type = 0;
    uint8_t first = 0;
    ssize_t n = recv(peer, &first, 1, MSG_DONTWAIT);

    if (n != 1)
        return;                                /* there was nothing to answer */
    CM_ASSERT(first == 0x15 || first == 0x16); /* an alert, or a handshake's next message */
    if (first != 0x16)
        return;
    CM_ASSERT(taken && strcmp(ours->server_name, NAME) == 0);
    if (gnutls_server_name_get(s, theirs, &len, &type, 0) != 0)
        return; /* it was a request for another hello */
    fuzz_reached();
    CM_ASSERT(type == GNUTLS_NAME_DNS && strcasecmp(theirs, NAME) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cm_hello ours = { 0 };
    gnutls_session_t s = NULL;
    int fds[2];
    int rc;

    if (size == 0 || size > IN_MAX)
        return 0;
    bool taken = read_hello(data, size, &ours);
    CM_ASSERT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    CM_ASSERT(send(fds[1], data, size, MSG_NOSIGNAL) == (ssize_t)size);
    CM_ASSERT(shutdown(fds[1], SHUT_WR) == 0);
    CM_ASSERT(gnutls_init(&s, GNUTLS_SERVER) == 0);
    CM_ASSERT(cm_config_tls_setup(server(), s, fds[0], NULL) == CM_OK);
    do {
        rc = gnutls_handshake(s);
    } while (rc < 0 && gnutls_error_is_fatal(rc) == 0);
    CM_ASSERT(rc < 0);
    check(s, &ours, taken, fds[1]);
    gnutls_deinit(s);
    (void)close(fds[0]);
    (void)close(fds[1]);
    return 0;
}
