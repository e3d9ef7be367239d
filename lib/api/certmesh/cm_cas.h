/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CERTMESH_CM_CAS_H
#define CERTMESH_CM_CAS_H

/* What certmesh knows of public CAs: the table of docs/cas.md, which is what orders are refused or
 * held back by. Any other CA works, too; its directory says the rest. Included by cm.h. */

#include <certmesh/cm_base.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Static, as are all its strings. Fields may be added at its end. */
struct cm_ca_info {
    const char *name;
    const char *directory_url;
    const char *eab_where;       /* it wants an external account binding: who gives it out; NULL */
    const char *profiles;        /* separated by commas; NULL = it has none */
    bool addresses;              /* it certifies IP addresses, */
    const char *address_profile; /* with this profile; NULL = with any */
    bool wildcards;              /* of which all need a DNS challenge; false: not for everybody */
    bool suggests_renewal;       /* RFC 9773 */
    bool refuses_must_staple;
    size_t names_max;   /* in one certificate; 0 = not known */
    size_t orders;      /* new ones of an account, renewals that it knows as such not counted, */
    int64_t window_s;   /* in any such time; both 0 = not published */
    const char *gone;   /* it has ended, and is refused: since when; NULL */
    const char *remark; /* a sentence for people; NULL */
};
/** The CA at place @i; NULL past the end. */
CM_API const struct cm_ca_info *cm_ca_at(size_t i);
/** What is known of the CA with that directory, by its host; NULL = nothing. */
CM_API const struct cm_ca_info *cm_ca_find(const char *directory_url);

#ifdef __cplusplus
}
#endif
#endif
