/* SPDX-License-Identifier: Apache-2.0 */
#include <certmesh/cm.h>
#include <gnutls/x509.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* secret_holder STORAGE CA CA-ROOT HTTP-PORT TLS-PORT KEY-TYPE OWN-CRT OWN-KEY: serves a.test, as a
 * program of somebody's would, and a pair of its own (DER) that it has as GnuTLS objects, until a
 * line comes in; then gives everything back, says "closed", and stays until its input ends.
 * $EAB_MAC is the key of kid-1; "planted" in $PLANT leaves a copy of its argument in freed memory,
 * which has to be found. */

static struct cm_cancel *stop;

static void hello(void *user, struct cm_http_exchange *x)
{
    (void)user;
    if (cm_http_reply(x, 200, NULL, cm_span_str("hello\n"), NULL) != CM_OK)
        puts("the client is gone");
}

static void *await_line(void *arg)
{
    (void)arg;
    if (getchar() == '\n')
        cm_cancel_fire(stop);
    return NULL;
}

static void say(void *user, enum cm_log_level level, const char *event, const char *msg,
                const struct cm_log_field *fields, size_t n)
{
    (void)user;
    fprintf(stderr, "%d %s %s", (int)level, event, msg);
    for (size_t i = 0; i < n; i++)
        fprintf(stderr, " %s=%s", fields[i].key, fields[i].value);
    fputc('\n', stderr);
}

static struct cm_config *new_config(char **argv)
{
    struct cm_config_options o = CM_CONFIG_OPTIONS_INIT;
    struct cm_err err = CM_ERR_INIT;
    struct cm_config *cfg = NULL;
    char *mac = getenv("EAB_MAC");

    o.storage = argv[1];
    o.acme.directory_url = argv[2];
    o.acme.ca_root_file = argv[3];
    o.acme.agreed = true;
    o.acme.eab_kid = "kid-1";
    o.acme.eab_mac_key = mac;
    o.listen_host = "127.0.0.1";
    o.http_port = (uint16_t)strtoul(argv[4], NULL, 10);
    o.tls_port = (uint16_t)strtoul(argv[5], NULL, 10);
    o.log = (struct cm_log){ say, NULL, CM_LOG_DEBUG };
    if (cm_key_type_parse(argv[6], &o.key_type, &err) != CM_OK ||
        cm_config_new(&o, &cfg, &err) != CM_OK) {
        fprintf(stderr, "secret_holder: %s\n", err.msg);
        exit(1);
    }
    cm_wipe(mac, strlen(mac));
    return cfg;
}

static gnutls_datum_t read_all(const char *path, unsigned char *into, size_t size)
{
    FILE *f = fopen(path, "rb");
    gnutls_datum_t d = { into, 0 };

    if (f == NULL)
        return d;
    setvbuf(f, NULL, _IONBF, 0); /* no copy in a buffer */
    d.size = (unsigned)fread(into, 1, size, f);
    fclose(f);
    return d;
}

static cm_status add_own(struct cm_cache *cache, char **files, struct cm_err *err)
{
    static unsigned char crt_der[4096];
    static unsigned char key_der[4096];
    gnutls_datum_t c = read_all(files[0], crt_der, sizeof crt_der);
    gnutls_datum_t k = read_all(files[1], key_der, sizeof key_der);
    gnutls_x509_crt_t crt = NULL;
    gnutls_x509_privkey_t key = NULL;
    cm_status rc = CM_E_KEY;

    if (gnutls_x509_crt_init(&crt) == 0 && gnutls_x509_privkey_init(&key) == 0 &&
        gnutls_x509_crt_import(crt, &c, GNUTLS_X509_FMT_DER) == 0 &&
        gnutls_x509_privkey_import(key, &k, GNUTLS_X509_FMT_DER) == 0)
        rc = cm_cache_add_gnutls(cache, &crt, 1, key, NULL, NULL, err);
    cm_wipe(key_der, sizeof key_der);
    gnutls_x509_crt_deinit(crt);
    gnutls_x509_privkey_deinit(key);
    return rc;
}

/* A key that somebody forgot to wipe. */
static void plant(const char *hex)
{
    size_t n = strlen(hex) / 2;
    unsigned char *copy = malloc(n + 64);
    unsigned value;

    for (size_t i = 0; copy != NULL && i < n; i++)
        copy[i + 32] = sscanf(hex + 2 * i, "%2x", &value) == 1 ? (unsigned char)value : 0;
    printf("planted at %p\n", (void *)copy);
    free(copy);
}

int main(int argc, char **argv)
{
    static const char *const names[] = { "a.test" };
    struct cm_https_options o = CM_HTTPS_OPTIONS_INIT;
    struct cm_err err = CM_ERR_INIT;
    char line[256];
    pthread_t reader;

    if (argc != 9 || cm_cancel_new(NULL, &stop, &err) != CM_OK)
        return 2;
    o.cfg = new_config(argv);
    if (add_own(cm_config_cache(o.cfg), argv + 7, &err) != CM_OK) {
        fprintf(stderr, "secret_holder: %s, %s: %s\n", argv[7], argv[8], err.msg);
        return 1;
    }
    o.stop = stop;
    o.host = "127.0.0.1";
    if (pthread_create(&reader, NULL, await_line, NULL) != 0)
        return 1;
    if (cm_https(names, 1, hello, NULL, &o, &err) != CM_OK) {
        fprintf(stderr, "secret_holder: %s\n", err.msg);
        return 1;
    }
    (void)pthread_join(reader, NULL);
    cm_config_free(o.cfg);
    cm_cancel_free(stop);
    puts("closed");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        plant(line);
        cm_wipe(line, sizeof line);
        fflush(stdout);
    }
    return 0;
}
