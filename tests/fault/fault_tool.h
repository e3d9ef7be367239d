/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_FAULT_TOOL_H
#define CM_FAULT_TOOL_H

/* What the programs of the fault sweeps share: a storage by its URL, an exit with a reason, time.
 */

#include <certmesh/cm_spi.h>

/* Print what went wrong and exit 1. */
_Noreturn void tool_die(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Exit 1 with @what and the message of @err unless @rc is CM_OK. */
void tool_must(cm_status rc, const char *what, const struct cm_err *err);
struct cm_storage *tool_open(const char *url);
unsigned tool_number(const char *text, const char *what);
/* Memory that all children of this process share, zeroed. */
void *tool_shared(size_t size);
/* Sleep, whatever signals come. */
void tool_pause_ms(unsigned ms);
int64_t tool_now_ms(void);

#endif
