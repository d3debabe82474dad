/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the configuration says. The loader fills it before the kernel verifies the programs, and freezes
 * it: reading it costs no lookup. Unset, all lifetimes are zero and every packet opens a flow. */
#ifndef TIDEGATE_SETTINGS_H
#define TIDEGATE_SETTINGS_H

#include <bpf/bpf_helpers.h>

#include "abi.h"

const volatile struct tg_settings settings SEC(".rodata.settings") = {};

#endif
