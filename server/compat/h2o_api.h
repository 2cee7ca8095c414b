#ifndef LASTCALL_H2O_API_H
#define LASTCALL_H2O_API_H

/* libh2o's headers in one place. They are not written for -Wconversion and -Wshadow, and their
 * inline functions are compiled as ours. */

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wsign-compare"
#pragma GCC diagnostic ignored "-Wundef"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wstrict-prototypes"
#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#pragma GCC diagnostic ignored "-Wcast-qual"
#pragma GCC diagnostic ignored "-Wunused-function"
#include <h2o.h>
#include <h2o/configurator.h>
#include <h2o/http1.h>
#include <h2o/http2.h>
#include <h2o/http2_internal.h>
#include <h2o/serverutil.h>
#pragma GCC diagnostic pop

/* LSAN_DISABLED(statement): the leak sanitizer ignores what the statement allocates. For calls at
 * the start only: libh2o does not free all that its configurators and contexts have made. */
#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1 /* gcc's name for it */
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#define LSAN_DISABLED(...) (__lsan_disable(), __VA_ARGS__, __lsan_enable())
#else
#define LSAN_DISABLED(...) __VA_ARGS__
#endif

#endif
