#ifndef LASTCALL_MENDS_H
#define LASTCALL_MENDS_H

/* The hooks of the mends, which replaced.c calls. A file for each fault is named above its hooks;
 * docs/dev/mends.md has the table. Thread: the loop that owns the connection, unless a line says
 * otherwise. None of these blocks. */

#include <stdarg.h>
#include <stdbool.h>

#include "h2o_api.h"
#include "picohttpparser.h"

/* ---- the end of a server ---- */

/* left_over.c: what libh2o does not free. These take the place of h2o_evloop_destroy(),
 * h2o_context_dispose() and h2o_config_dispose(); `own_status` is the name of a simple status
 * handler that was registered, or NULL.     Thread: the owner's. */
void left_over_evloop(h2o_evloop_t *evloop);
void left_over_context(h2o_context_t *ctx);
void left_over_config(h2o_globalconf_t *conf, const char *own_status);
/* A thread that has called libh2o ends; what it has made there is freed.     Thread: any; its own.
 */
void left_over_thread(void);
void left_over_note_h2(const h2o_http2_settings_t *settings);

/* ---- time ---- */

/* timers.c: these take the place of h2o_timeout_link(), h2o_timeout_run() and
 * h2o_timeout_get_wake_at(). */
void timers_link(h2o_loop_t *evloop, h2o_timeout_t *timeout, h2o_timeout_entry_t *entry);
void timers_run(h2o_loop_t *evloop, h2o_timeout_t *timeout);
uint64_t timers_wake_at(h2o_linklist_t *timeouts);
/* The time of this turn by their clock, in milliseconds. */
uint64_t timers_now_ms(h2o_loop_t *evloop);

/* ---- the life of a loop ---- */

/* many_paths.c: replace h2o_context_init_pathconf_context() and
 * h2o_context_dispose_pathconf_context().     Thread: the owner's. */
void many_paths_init(h2o_context_t *ctx, h2o_pathconf_t *path);
void many_paths_dispose(h2o_context_t *ctx, h2o_pathconf_t *path);

/* ---- HTTP/2 ---- */

struct conn;

struct h2_frame {
    uint32_t length;
    uint8_t type;
    uint8_t flags;
    uint32_t stream_id;
    const uint8_t *payload;
};

/* h2_frames.c: sees each frame before the library. A socket begins to speak HTTP/2: unless that
 * fails, the library's next h2o_socket_read_start() for it is for frames. */
void h2_frames_expect_connection(h2o_socket_t *sock);
void h2_frames_expect_none(h2o_socket_t *sock);
void h2_frames_read_start(h2o_socket_t *sock);
/* The library has had what was read: drop it, if the library keeps it for nothing. */
void h2_frames_after_read(struct conn *conn);

/* h2_window.c: is this WINDOW_UPDATE for a stream that has ended? */
bool h2_window_update_is_late(h2o_http2_conn_t *h2, const struct h2_frame *frame);
/* The peer's settings have changed; the library has not applied that to the streams yet. Returns 0,
 * or an error of the connection. `size_before`: the initial window until now. */
int h2_window_settings(h2o_http2_settings_t *settings, uint32_t size_before, const char **err_desc);

/* h2_body.c: handles a DATA frame. True: the library must not see it. */
bool h2_body_data(h2o_http2_conn_t *h2, struct conn *conn, const struct h2_frame *frame);
/* Count and log a request whose body is too long. */
void h2_body_note_too_long(const h2o_req_t *req);
/* The library resets this stream, which is complete: note if its content-length was wrong. */
void h2_body_note_reset(h2o_http2_conn_t *h2, const h2o_http2_stream_t *stream);
/* The library has moved what it can of a stream's answer to its output. */
void h2_body_sent(h2o_http2_conn_t *h2, h2o_http2_stream_t *stream);

/* h2_headers.c: HEADERS or CONTINUATION, the latter only where the library waits for it. Returns 0,
 * or an error for the connection. */
int h2_headers_begin(h2o_http2_conn_t *h2, const struct h2_frame *frame, const char **err_desc);
int h2_headers_continue(h2o_http2_conn_t *h2, const struct h2_frame *frame, const char **err_desc);
/* Wraps the library's h2o_hpack_parse_headers(), with the same arguments and result. */
int h2_headers_parse(h2o_req_t *req, h2o_hpack_header_table_t *table, const uint8_t *src,
                     size_t len, int *pseudo_map, size_t *content_length,
                     h2o_cache_digests_t **digests, const char **err_desc);
/* For h2o_send_error_generic(): the status of an error that h2_headers_parse() caused. */
int h2_headers_status(int status, const char **reason, const char *body);
/* Make the library pass the Host field on to us.     Thread: main only, before start. */
void h2_headers_init(void);

/* h2_rules.c: is the head of a request, as far as the library has read it, malformed in the sense
 * of RFC 9113 section 8.1.1? Takes Host out of the header. `host_may_differ` from :authority: then
 * it is only dropped. */
bool h2_rules_are_broken(h2o_http2_stream_t *stream, int *pseudo_map, size_t content_length,
                         bool host_may_differ);

/* ---- HTTP/1 requests ---- */

struct conn;

/* strict_requests.c */
/* Replace phr_parse_request() and phr_decode_chunked(). */
int strict_parse_request(const char *bytes, size_t len, const char **method, size_t *method_len,
                         const char **path, size_t *path_len, int *minor_version,
                         struct phr_header *headers, size_t *header_count, size_t len_before);
ssize_t strict_decode_chunked(struct phr_chunked_decoder *decoder, char *bytes, size_t *len);
/* The library answers an error: if it is for a request that we refused, put in our reason. */
void strict_answer(h2o_req_t *req, int *status, const char **reason, const char **body);
/* The library is about to parse what has arrived on this connection. */
void strict_note_reading(struct conn *conn);
/* The connection is closed. */
void strict_forget(const struct conn *conn);

/* ---- answers ---- */

/* internal_redirect.c: true: `url` is invalid and an answer has begun; this sends 502. */
bool internal_redirect_refuse(h2o_req_t *req, const char *url, size_t url_len);

/* throttle.c: the filter of `throttle-response`.     Thread: before start. */
void throttle_register(h2o_pathconf_t *path);

/* redirect.c: correct the Location that the library has built from `prefix`. */
h2o_iovec_t redirect_check(h2o_iovec_t destination, const char *prefix, size_t prefix_len);
/* The same for a URL that may be the path of `req` with a slash. */
h2o_iovec_t redirect_check_folder(h2o_req_t *req, h2o_iovec_t url);

/* ---- the library's log ---- */

/* library_log.c: log a message of the library about a request. */
void library_log_request(h2o_req_t *req, const char *module, const char *format, va_list args);
/* From now on, log what the library writes to standard error. False: that is not possible. Thread:
 * main only, after the log's start. */
bool library_log_init(void);

/* ---- files and filters ---- */

/* compressed.c: the filters that compress were registered on a path.     Thread: before start. */
void compressed_register(h2o_pathconf_t *path);

/* special_files.c: replaces h2o_filecache_open_file(). */
h2o_filecache_ref_t *special_files_open(h2o_filecache_t *cache, const char *path, int flags);

/* ranges.c: h2o_filecache_open_file() was called. `file` NULL: without success; errno stays. */
void ranges_note_file(const h2o_filecache_ref_t *file, const char *path);
/* What h2o_find_header() is to return; it has found `at`. */
ssize_t ranges_found(const h2o_headers_t *headers, const h2o_token_t *token, ssize_t at);

/* gunzip.c: replaces h2o_compress_gunzip_open(). */
h2o_compress_context_t *gunzip_open(h2o_mem_pool_t *pool);
/* The first h2o_send() after it. */
void gunzip_before_send(h2o_req_t *req);

/* shortened_file.c: would h2o_send() of that be repeated for ever? Then cut the answer. */
bool shortened_file_is_sent(const h2o_iovec_t *pieces, size_t count, h2o_send_state_t state);
void shortened_file_cut(h2o_req_t *req);

#endif
