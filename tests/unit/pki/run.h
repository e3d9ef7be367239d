/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_TESTS_UNIT_PKI_RUN_H
#define CM_TESTS_UNIT_PKI_RUN_H

#include "pki.h"

#define RUN_TIMEOUT_S 120 /* RSA keys are made here, under sanitizers */
#include "../../util/run.h"

#include <string.h>

#define ck_ok(call)                                                                                \
    do {                                                                                           \
        cm_status ck_rc = (call);                                                                  \
        ck_assert_msg(ck_rc == CM_OK, "%s: %s: %s", #call, cm_status_name(ck_rc), err.msg);        \
    } while (0)

#define ck_refused(call, status, part)                                                             \
    do {                                                                                           \
        err.msg[0] = '\0';                                                                         \
        cm_status ck_rc = (call);                                                                  \
        ck_assert_msg(ck_rc == (status), "%s: %s: %s", #call, cm_status_name(ck_rc), err.msg);     \
        ck_assert_msg(strstr(err.msg, (part)) != NULL, "%s: message '%s'", #call, err.msg);        \
    } while (0)

#endif
