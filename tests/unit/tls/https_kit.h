/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_TESTS_HTTPS_KIT_H
#define CM_TESTS_HTTPS_KIT_H

/* A running cm_https() with a handler that does what the path says, and ways to ask it. */

#include "client.h"
#include "fake_core.h"
#include "run.h"

extern struct cm_config *cfg;
extern struct cm_https_options opts;
extern atomic_int peak; /* handlers at once */
extern int root_fd;

/* Fixture: a config with a certificate for a.test, options, an empty directory at root_fd. */
void https_setup(void);
void https_teardown(void);
/* The server, in a thread, until its ports are bound; finish() expects CM_OK within 5 s. */
void https_start(void);
void https_finish(void);
/* /none, /big, /slow (half a second), /204, /twice, /f/FILE; else says what was asked. */
void https_handle(void *user, struct cm_http_exchange *x);

/* The whole answer until the connection closes; freed by the caller. */
char *plain(const char *request);
char *secure(const char *request);
bool begins(const char *text, const char *what);
/* It begins with @status and contains @part (NULL = anything). */
void check_plain(const char *request, const char *status, const char *part);
void check_secure(const char *request, const char *status, const char *part);
/* One response on a connection that stays open; @request NULL: sent already. */
void check_one(struct client *c, const char *request, bool head, const char *part);

void wait_ms(int ms);
int64_t now_ms(void);

#endif
