#include "replaced.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "between_calls.h"
#include "brotli.h"
#include "calm.h"
#include "config_p.h"
#include "deferred_read.h"
#include "fastcgi.h"
#include "header_commands.h"
#include "logfiles.h"
#include "mends.h"
#include "proxy.h"
#include "tls_close.h"

/* The versions whose source was read when the mends were written. */
static const char *const known_versions[] = {"h2o/2.2.5"};

/* ---- at start ---- */

static const struct {
    const char *name;
    void *ours;
    void **theirs;
} functions[] = {
#define X(name) {#name, (void *)(name), (void **)(void *)&library.name},
    REPLACED_FUNCTIONS(X)
#undef X
};
#define FUNCTIONS (sizeof(functions) / sizeof(functions[0]))

/* Debian links libh2o with -z now, so the linker has filled every slot before main(). In a lazily
 * linked library the slot holds an address of the library itself until the first call; then
 * dlsym(3) finds the function that the linker will find. */
static bool calls_ours(const char *name, const void *ours, const void *theirs)
{
    const void *target = replaced_find_target(LIBRARY_NAME, name);
    Dl_info of_target, of_library;

    if (target == NULL || target == theirs)
        return false;
    if (target == ours)
        return true;
    return dladdr(target, &of_target) != 0 && dladdr(theirs, &of_library) != 0 &&
           of_target.dli_fbase == of_library.dli_fbase && dlsym(RTLD_DEFAULT, name) == ours;
}

static bool is_known(h2o_iovec_t server_name)
{
    for (size_t i = 0; i < sizeof(known_versions) / sizeof(known_versions[0]); i++)
        if (h2o_memis(server_name.base, server_name.len, known_versions[i],
                      strlen(known_versions[i])))
            return true;
    return false;
}

bool replaced_check_calls(char *error, size_t error_size)
{
    for (size_t i = 0; i < FUNCTIONS; i++) {
        if (calls_ours(functions[i].name, functions[i].ours, *functions[i].theirs))
            continue;
        (void)snprintf(error, error_size,
                       "the loaded " LIBRARY_NAME " does not call lastcall's replacement of %s",
                       functions[i].name);
        return false;
    }
    return true;
}

bool replaced_check(h2o_iovec_t server_name, char *error, size_t error_size)
{
    if (!replaced_check_calls(error, error_size))
        return false;
    if (is_known(server_name))
        return true;
    (void)snprintf(error, error_size,
                   "the loaded " LIBRARY_NAME " is %.*s; the mends were written for %s",
                   (int)server_name.len, server_name.base, known_versions[0]);
    return false;
}

/* ---- the replacements, in alphabetical order ---- */

void h2o__proxy_process_request(h2o_req_t *req)
{
    if (mends_are_on())
        proxy_process(req);
    else
        library.h2o__proxy_process_request(req);
}

int h2o_access_log_open_log(const char *path)
{
    return logfiles_open_log(path);
}

h2o_iovec_t h2o_build_destination(h2o_req_t *req, const char *prefix, size_t prefix_len,
                                  int use_path_normalized)
{
    h2o_iovec_t destination =
        library.h2o_build_destination(req, prefix, prefix_len, use_path_normalized);
    return mends_are_on() && use_path_normalized != 0
               ? redirect_check(destination, prefix, prefix_len)
               : destination;
}

h2o_compress_context_t *h2o_compress_gunzip_open(h2o_mem_pool_t *pool)
{
    return mends_are_on() ? gunzip_open(pool) : library.h2o_compress_gunzip_open(pool);
}

void h2o_compress_register(h2o_pathconf_t *path, h2o_compress_args_t *args)
{
    library.h2o_compress_register(path, args);
    brotli_register(path, args);
    if (mends_are_on())
        compressed_register(path);
}

void h2o_configurator_errprintf(h2o_configurator_command_t *cmd, yoml_t *node, const char *reason,
                                ...)
{
    va_list args;

    va_start(args, reason);
    config_report(cmd, node, reason, args);
    va_end(args);
}

char *h2o_configurator_get_cmd_path(const char *cmd)
{
    return config_command_path(cmd);
}

void h2o_context_dispose_pathconf_context(h2o_context_t *ctx, h2o_pathconf_t *pathconf)
{
    if (mends_are_on())
        many_paths_dispose(ctx, pathconf);
    else
        library.h2o_context_dispose_pathconf_context(ctx, pathconf);
}

void h2o_context_init_pathconf_context(h2o_context_t *ctx, h2o_pathconf_t *pathconf)
{
    if (mends_are_on())
        many_paths_init(ctx, pathconf);
    else
        library.h2o_context_init_pathconf_context(ctx, pathconf);
}

h2o_fastcgi_handler_t *h2o_fastcgi_register_by_address(h2o_pathconf_t *path,
                                                       struct sockaddr *address,
                                                       socklen_t address_len,
                                                       h2o_fastcgi_config_vars_t *vars)
{
    if (!mends_are_on())
        return library.h2o_fastcgi_register_by_address(path, address, address_len, vars);
    return (h2o_fastcgi_handler_t *)fastcgi_register_unix(path, address, vars);
}

h2o_fastcgi_handler_t *h2o_fastcgi_register_by_hostport(h2o_pathconf_t *path, const char *host,
                                                        uint16_t port,
                                                        h2o_fastcgi_config_vars_t *vars)
{
    if (!mends_are_on())
        return library.h2o_fastcgi_register_by_hostport(path, host, port, vars);
    return (h2o_fastcgi_handler_t *)fastcgi_register_host(path, host, port, vars);
}

h2o_filecache_ref_t *h2o_filecache_open_file(h2o_filecache_t *cache, const char *path, int oflag)
{
    if (!mends_are_on())
        return library.h2o_filecache_open_file(cache, path, oflag);
    h2o_filecache_ref_t *file = special_files_open(cache, path, oflag);
    ranges_note_file(file, path);
    return file;
}

ssize_t h2o_find_header(const h2o_headers_t *headers, const h2o_token_t *token, ssize_t cursor)
{
    ssize_t at = library.h2o_find_header(headers, token, cursor);

    return mends_are_on() ? ranges_found(headers, token, at) : at;
}

void h2o_headers_register(h2o_pathconf_t *path, h2o_headers_command_t *cmds)
{
    if (mends_are_on())
        header_commands_register(path, cmds);
    else
        library.h2o_headers_register(path, cmds);
}

int h2o_hpack_parse_headers(h2o_req_t *req, h2o_hpack_header_table_t *header_table,
                            const uint8_t *src, size_t len, int *pseudo_header_exists_map,
                            size_t *content_length, h2o_cache_digests_t **digests,
                            const char **err_desc)
{
    if (!mends_are_on())
        return library.h2o_hpack_parse_headers(req, header_table, src, len,
                                               pseudo_header_exists_map, content_length, digests,
                                               err_desc);
    return h2_headers_parse(req, header_table, src, len, pseudo_header_exists_map, content_length,
                            digests, err_desc);
}

void h2o_http2_accept(h2o_accept_ctx_t *ctx, h2o_socket_t *sock, struct timeval connected_at)
{
    h2_frames_expect_connection(sock);
    library.h2o_http2_accept(ctx, sock, connected_at);
}

int h2o_http2_handle_upgrade(h2o_req_t *req, struct timeval connected_at)
{
    h2o_socket_t *sock = req->conn->callbacks->get_socket(req->conn);

    h2_frames_expect_connection(sock);
    int result = library.h2o_http2_handle_upgrade(req, connected_at);
    if (result != 0)
        h2_frames_expect_none(sock);
    return result;
}

void h2o_http2_stream_reset(h2o_http2_conn_t *conn, h2o_http2_stream_t *stream)
{
    calm_count_reset(conn, stream);
    h2_body_note_reset(conn, stream);
    library.h2o_http2_stream_reset(conn, stream);
}

void h2o_http2_stream_send_pending_data(h2o_http2_conn_t *conn, h2o_http2_stream_t *stream)
{
    library.h2o_http2_stream_send_pending_data(conn, stream);
    if (mends_are_on())
        h2_body_sent(conn, stream);
}

int h2o_http2_update_peer_settings(h2o_http2_settings_t *settings, const uint8_t *src, size_t len,
                                   const char **err_desc)
{
    uint32_t size_before = settings->initial_window_size;
    int result = library.h2o_http2_update_peer_settings(settings, src, len, err_desc);

    left_over_note_h2(settings);
    return result == 0 && mends_are_on() ? h2_window_settings(settings, size_before, err_desc)
                                         : result;
}

void h2o_proxy_register_reverse_proxy(h2o_pathconf_t *path, h2o_url_t *url,
                                      h2o_proxy_config_vars_t *vars)
{
    if (mends_are_on())
        proxy_register(path, url, vars);
    else
        library.h2o_proxy_register_reverse_proxy(path, url, vars);
}

void h2o_req_log_error(h2o_req_t *req, const char *module, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    library_log_request(req, module, fmt, args);
    va_end(args);
}

void h2o_send(h2o_req_t *req, h2o_iovec_t *bufs, size_t bufcnt, h2o_send_state_t state)
{
    if (between_calls()->unpacker != NULL)
        gunzip_before_send(req);
    if (mends_are_on() && shortened_file_is_sent(bufs, bufcnt, state))
        shortened_file_cut(req);
    else
        library.h2o_send(req, bufs, bufcnt, state);
}

void h2o_send_error_generic(h2o_req_t *req, int status, const char *reason, const char *body,
                            int flags)
{
    status = h2_headers_status(status, &reason, body);
    if (mends_are_on())
        strict_answer(req, &status, &reason, &body);
    library.h2o_send_error_generic(req, status, reason, body, flags);
}

void h2o_send_redirect(h2o_req_t *req, int status, const char *reason, const char *url,
                       size_t url_len)
{
    h2o_iovec_t to = h2o_iovec_init(url, url_len);

    if (mends_are_on())
        to = redirect_check_folder(req, to);
    library.h2o_send_redirect(req, status, reason, to.base, to.len);
}

void h2o_send_redirect_internal(h2o_req_t *req, h2o_iovec_t method, const char *url, size_t url_len,
                                int preserve_overrides)
{
    if (!mends_are_on() || !internal_redirect_refuse(req, url, url_len))
        library.h2o_send_redirect_internal(req, method, url, url_len, preserve_overrides);
}

void h2o_socket_close(h2o_socket_t *sock)
{
    tls_close_begin(sock);
}

void h2o_socket_read_start(h2o_socket_t *sock, h2o_socket_cb cb)
{
    h2_frames_read_start(sock);
    deferred_read_start(sock, cb);
}

void h2o_throttle_resp_register(h2o_pathconf_t *path)
{
    if (mends_are_on())
        throttle_register(path);
    else
        library.h2o_throttle_resp_register(path);
}

uint64_t h2o_timeout_get_wake_at(h2o_linklist_t *timeouts)
{
    if (mends_are_on())
        return timers_wake_at(timeouts);
    turn_time_end(&between_calls()->time);
    return library.h2o_timeout_get_wake_at(timeouts);
}

void h2o_timeout_link(h2o_loop_t *loop, h2o_timeout_t *timeout, h2o_timeout_entry_t *entry)
{
    if (mends_are_on())
        timers_link(loop, timeout, entry);
    else
        library.h2o_timeout_link(loop, timeout, entry);
}

void h2o_timeout_run(h2o_loop_t *loop, h2o_timeout_t *timeout, uint64_t now)
{
    if (h2o_linklist_is_empty(&timeout->_entries)) /* most are, in every turn */
        return;
    if (mends_are_on())
        timers_run(loop, timeout);
    else
        library.h2o_timeout_run(loop, timeout, now);
}

ssize_t phr_decode_chunked(struct phr_chunked_decoder *decoder, char *bytes, size_t *len)
{
    if (!mends_are_on())
        return library.phr_decode_chunked(decoder, bytes, len);
    return strict_decode_chunked(decoder, bytes, len);
}

int phr_parse_request(const char *bytes, size_t len, const char **method, size_t *method_len,
                      const char **path, size_t *path_len, int *minor_version,
                      struct phr_header *headers, size_t *header_count, size_t len_before)
{
    if (!mends_are_on())
        return library.phr_parse_request(bytes, len, method, method_len, path, path_len,
                                         minor_version, headers, header_count, len_before);
    return strict_parse_request(bytes, len, method, method_len, path, path_len, minor_version,
                                headers, header_count, len_before);
}
