#ifndef LASTCALL_LIBRARY_H
#define LASTCALL_LIBRARY_H

/* libh2o's own functions under the names that replaced.c replaces: other files of server/ call
 * these if they need the library's version. All functions that are replaced by name stand in this
 * table, and nowhere else. */

#include <stdbool.h>
#include <stddef.h>

#include "h2o_api.h"
#include "picohttpparser.h"

#define LIBRARY_NAME "libh2o-evloop" /* part of its file's name */

/* A row for each function; replaced.c defines it. */
#define REPLACED_FUNCTIONS(X)                                                                      \
    X(h2o__proxy_process_request)                                                                  \
    X(h2o_access_log_open_log)                                                                     \
    X(h2o_build_destination)                                                                       \
    X(h2o_compress_gunzip_open)                                                                    \
    X(h2o_compress_register)                                                                       \
    X(h2o_configurator_errprintf)                                                                  \
    X(h2o_configurator_get_cmd_path)                                                               \
    X(h2o_context_dispose_pathconf_context)                                                        \
    X(h2o_context_init_pathconf_context)                                                           \
    X(h2o_fastcgi_register_by_address)                                                             \
    X(h2o_fastcgi_register_by_hostport)                                                            \
    X(h2o_filecache_open_file)                                                                     \
    X(h2o_find_header)                                                                             \
    X(h2o_headers_register)                                                                        \
    X(h2o_hpack_parse_headers)                                                                     \
    X(h2o_http2_accept)                                                                            \
    X(h2o_http2_handle_upgrade)                                                                    \
    X(h2o_http2_stream_reset)                                                                      \
    X(h2o_http2_stream_send_pending_data)                                                          \
    X(h2o_http2_update_peer_settings)                                                              \
    X(h2o_proxy_register_reverse_proxy)                                                            \
    X(h2o_req_log_error)                                                                           \
    X(h2o_send)                                                                                    \
    X(h2o_send_error_generic)                                                                      \
    X(h2o_send_redirect)                                                                           \
    X(h2o_send_redirect_internal)                                                                  \
    X(h2o_socket_close)                                                                            \
    X(h2o_socket_read_start)                                                                       \
    X(h2o_throttle_resp_register)                                                                  \
    X(h2o_timeout_get_wake_at)                                                                     \
    X(h2o_timeout_link)                                                                            \
    X(h2o_timeout_run)                                                                             \
    X(phr_decode_chunked)                                                                          \
    X(phr_parse_request)

/* The library's own functions; filled by replaced_init(), constant after that.
 * Thread: any, after replaced_init(). */
#define X(name) __typeof__(&(name)) name;
extern struct replaced_library {
    REPLACED_FUNCTIONS(X)
} library;
#undef X

#define REPLACED_ERROR_SIZE 256

/* Find the library's own functions. Idempotent.
 * Thread: main only, before any function of libh2o is called.     Blocks: never.
 * Errors: true; false, and `error` names the function that libh2o does not have. */
bool replaced_init(char *error, size_t error_size);

/* False: LASTCALL_UNMENDED=1 is set. Then libh2o runs unmended, with all its faults, and the
 * process starts even if replaced_check() fails.
 * Thread: any, after replaced_init(). */
bool mends_are_on(void);

/* The function that the library whose file name contains `object` calls under `name`; NULL: it
 * calls none through a relocation.     Thread: any.     Blocks: never. */
void *replaced_find_target(const char *object, const char *name);

/* The word of its global offset table for a function or a variable; *ret_is_protected: the dynamic
 * linker has made it read-only.     Thread: any.     Blocks: never. */
void **replaced_find_word(const char *object, const char *name, bool *ret_is_protected);

#endif
