/* SPDX-License-Identifier: Apache-2.0 */
#define RUN_TIMEOUT_S 60
#include "run.h"

#include "autocert.h"
#include "must.h"
#include "temp_dir.h"

#include <gnutls/x509.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* A listener for names in one call; over the local CA, so that nothing leaves the process. */

static struct cm_err err;

static void setup(void)
{
    (void)signal(SIGPIPE, SIG_DFL); /* a client that goes away must not end the program */
}

START_TEST(listeners_of_names)
{
    struct cm_autocert_listener *l = NULL;

    must_fail(cm_autocert_listen_names(NULL, 0, &l, &err), CM_E_INVAL);
    ck_assert_int_eq(unsetenv("XDG_CACHE_HOME"), 0);
    ck_assert_int_eq(unsetenv("HOME"), 0);
    const char *name = "a.example.com";
    must_fail(cm_autocert_listen_names(&name, 1, &l, &err), CM_E_INVAL);
    ck_assert(strstr(err.msg, "HOME") != NULL);
}
END_TEST

struct visitor {
    uint16_t port;
    const char *name;
    int rc;
    char seen[256]; /* the name in the certificate */
};

static uint16_t free_port(void)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t len = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    ck_assert_int_eq(bind(fd, (struct sockaddr *)(void *)&a, sizeof a), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)(void *)&a, &len), 0);
    (void)close(fd);
    return ntohs(a.sin_port);
}

static void read_name(gnutls_session_t session, struct visitor *v)
{
    unsigned n = 0;
    const gnutls_datum_t *chain = gnutls_certificate_get_peers(session, &n);
    gnutls_x509_crt_t crt;
    size_t size = sizeof v->seen;

    CM_ASSERT(chain != NULL && gnutls_x509_crt_init(&crt) == 0);
    CM_ASSERT(gnutls_x509_crt_import(crt, &chain[0], GNUTLS_X509_FMT_DER) == 0);
    (void)gnutls_x509_crt_get_subject_alt_name(crt, 0, v->seen, &size, NULL);
    gnutls_x509_crt_deinit(crt);
}

static void *visit(void *arg)
{
    struct visitor *v = arg;
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(v->port) };
    gnutls_certificate_credentials_t cred;
    gnutls_session_t session;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ssize_t rc;

    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CM_ASSERT(connect(fd, (const struct sockaddr *)(const void *)&to, sizeof to) == 0);
    CM_ASSERT(gnutls_certificate_allocate_credentials(&cred) == 0);
    CM_ASSERT(gnutls_init(&session, GNUTLS_CLIENT) == 0);
    (void)gnutls_set_default_priority(session);
    (void)gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, cred);
    (void)gnutls_server_name_set(session, GNUTLS_NAME_DNS, v->name, strlen(v->name));
    gnutls_transport_set_int(session, fd);
    gnutls_handshake_set_timeout(session, 30000);
    do
        v->rc = gnutls_handshake(session);
    while (v->rc < 0 && gnutls_error_is_fatal(v->rc) == 0);
    if (v->rc == 0) {
        char byte;

        read_name(session, v);
        do /* until the server closes: it may have tickets to send */
            rc = gnutls_record_recv(session, &byte, 1);
        while (rc == GNUTLS_E_AGAIN || rc == GNUTLS_E_INTERRUPTED || rc > 0);
    }
    gnutls_deinit(session);
    gnutls_certificate_free_credentials(cred);
    (void)close(fd);
    return NULL;
}

/* One client, from its connection to the end of its handshake. */
static int serve_one(struct cm_autocert_listener *l, struct visitor *v)
{
    struct cm_op op = cm_op_within(NULL, 30 * CM_NS_PER_S);
    struct cm_conn conn;
    socklen_t len = sizeof(int);
    pthread_t thread;
    int on = 0, rc;

    v->port = cm_autocert_listener_port(l);
    ck_assert_int_eq(pthread_create(&thread, NULL, visit, v), 0);
    must(cm_autocert_accept(l, &op, &conn, &err));
    ck_assert_int_eq(getsockopt(conn.fd, SOL_SOCKET, SO_KEEPALIVE, &on, &len), 0);
    ck_assert_int_ne(on, 0);
    do /* not done at accept */
        rc = gnutls_handshake(conn.session);
    while (rc < 0 && gnutls_error_is_fatal(rc) == 0);
    if (rc < 0)
        (void)gnutls_alert_send_appropriate(conn.session, rc);
    gnutls_deinit(conn.session);
    (void)close(conn.fd);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    return rc;
}

START_TEST(listener_of_names_serves_them)
{
    static const char *const names[] = { "a.example.com", "b.example.com" };
    struct cm_config_options c = CM_CONFIG_OPTIONS_INIT;
    struct cm_autocert_listener *l = NULL;
    struct visitor b = { .name = "b.example.com" }, other = { .name = "c.example.com" };
    char dir[64], file[160];
    struct stat st;

    ck_assert(temp_dir_make("autocert", false, dir, sizeof dir));
    ck_assert_int_eq(setenv("XDG_CACHE_HOME", dir, 1), 0);
    c.internal = true;
    must(autocert_listen_names(names, 2, &c, "127.0.0.1", free_port(), &l, &err));
    ck_assert_int_eq(serve_one(l, &b), 0);
    ck_assert_int_eq(b.rc, 0);
    ck_assert_str_eq(b.seen, "b.example.com");
    ck_assert_int_lt(serve_one(l, &other), 0);
    ck_assert_int_lt(other.rc, 0);
    cm_autocert_listener_free(l);
    /* where Go's listener looks */
    (void)snprintf(file, sizeof file, "%s/golang-autocert/b.example.com", dir);
    ck_assert_int_eq(stat(file, &st), 0);
    ck_assert_uint_eq(st.st_mode & 0777, 0600);
    (void)snprintf(file, sizeof file, "%s/golang-autocert/c.example.com", dir);
    ck_assert_int_ne(stat(file, &st), 0);
    temp_dir_remove(dir);
}
END_TEST

/* In a network of its own, where port 443 is free and there is nobody. */
START_TEST(listener_of_names_is_for_lets_encrypt)
{
    const char *name = "a.example.com";
    struct cm_autocert_listener *l = NULL;
    char dir[64];

    if (unshare(CLONE_NEWNET) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) {
        ck_assert_msg(getenv("CI") == NULL && getenv("CM_REQUIRE") == NULL, "unshare");
        return;
    }
    ck_assert(temp_dir_make("autocert", false, dir, sizeof dir));
    ck_assert_int_eq(setenv("XDG_CACHE_HOME", dir, 1), 0);
    must(cm_autocert_listen_names(&name, 1, &l, &err));
    ck_assert_uint_eq(cm_autocert_listener_port(l), 443);
    ck_assert_str_eq(l->own->directory_url, CM_CA_LETSENCRYPT);
    cm_autocert_listener_free(l);
    temp_dir_remove(dir);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        listeners_of_names,
        listener_of_names_serves_them,
        listener_of_names_is_for_lets_encrypt,
    };

    return run_tests_how("autocert_listen", tests, CM_ARRAY_LEN(tests),
                         (struct run_how){ .setup = setup });
}
