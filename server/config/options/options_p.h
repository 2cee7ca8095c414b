#ifndef LASTCALL_OPTIONS_P_H
#define LASTCALL_OPTIONS_P_H

/* What the files of the options share: options_table.c has the rows, options.c the command line and
 * the defaults, options_settings.c what a file may set, options_help.c --help and --version. */

#include "flags.h"
#include "options.h"

/* The rows; constant. */
extern const struct flag options_rows[];
extern const size_t options_row_count;

/* ---- options_values.c: values that base/flags.h does not know ---- */

flag_set_cb options_add_listen, options_add_proxy, options_set_descriptor, options_set_address,
    options_set_name, options_set_mode, options_set_format, options_set_sync;

/* ---- options_help.c ---- */

void options_print_help(const struct flags *flags);
void options_print_version(const struct flags *flags);

#endif
