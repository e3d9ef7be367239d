/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_PKI_NAMES_H
#define CM_PKI_NAMES_H

/* Between names.c (host names) and names_ip.c (addresses). */

#include "pki.h"

enum cm_ip_text {
    CM_IP_TEXT_NO,  /* nothing like an address */
    CM_IP_TEXT_YES, /* canonical form written */
    CM_IP_TEXT_BAD  /* has brackets or colons, but is no address */
};
enum cm_ip_text cm_ip_text_parse(const char *s, size_t len, char ret[CM_NAME_BUF]);
bool cm_ip_is_internal(const char *ip);

#endif
