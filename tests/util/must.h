/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_TESTS_UTIL_MUST_H
#define CM_TESTS_UTIL_MUST_H

/* For calls that give back a cm_status and tell why in "err", which the file has. Include after
 * check, or what stands for it. */

#define must(call)                                                                                 \
    do {                                                                                           \
        cm_status must_rc = (call);                                                                \
        ck_assert_msg(must_rc == CM_OK, "%s: %s: %s", #call, cm_status_name(must_rc), err.msg);    \
    } while (0)

#define must_fail(call, with)                                                                      \
    do {                                                                                           \
        cm_status must_rc = (call);                                                                \
        ck_assert_msg(must_rc == (with), "%s: %s, not %s: %s", #call, cm_status_name(must_rc),     \
                      cm_status_name(with), must_rc == CM_OK ? "" : err.msg);                      \
    } while (0)

#endif
