/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CM_TESTS_INTEGRATION_PROCESS_KIT_H
#define CM_TESTS_INTEGRATION_PROCESS_KIT_H

/* A storage of files that comes and goes, and configs with the local CA on it. */

#include "run.h"

#include <certmesh/cm.h>

extern char kit_dir[64];
void kit_dir_make(void);
void kit_dir_drop(void);

/* As @o says, on that storage and with the local CA. */
struct cm_config *kit_config(struct cm_config_options o);
/* Names in the directory @path, "." and ".." among them; with @text NULL all, else those that
 * contain it. 0 if there is no such directory. */
int kit_entries(const char *path, const char *text);

#endif
