#include "file_facts.h"

#include <pthread.h>
#include <string.h>

#include "h2o_api.h"

static h2o_mimemap_t *types; /* read only, once it is made; lives as long as the process */

static void make_types(void)
{
    types = h2o_mimemap_create();
}

const char *file_media_type(const char *name)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    const char *slash = strrchr(name, '/'), *dot = strrchr(name, '.');

    (void)pthread_once(&once, make_types);
    if (dot == NULL || (slash != NULL && dot < slash))
        return "application/octet-stream";
    h2o_mimemap_type_t *type =
        h2o_mimemap_get_type_by_extension(types, h2o_iovec_init(dot + 1, strlen(dot + 1)));
    return type->type == H2O_MIMEMAP_TYPE_MIMETYPE ? type->data.mimetype.base
                                                   : "application/octet-stream";
}

void file_date(time_t time, char text[FILE_DATE_SIZE])
{
    struct tm tm;

    _Static_assert(FILE_DATE_SIZE == H2O_TIMESTR_RFC1123_LEN + 1, "an HTTP-date");
    text[0] = '\0';
    if (gmtime_r(&time, &tm) != NULL && tm.tm_year >= -1900 && tm.tm_year <= 8099)
        h2o_time2str_rfc1123(text, &tm); /* four digits for the year */
}

bool file_read_date(const char *text, time_t *ret_time)
{
    struct tm tm = {0};

    if (strlen(text) != H2O_TIMESTR_RFC1123_LEN ||
        h2o_time_parse_rfc1123(text, strlen(text), &tm) != 0)
        return false;
    *ret_time = timegm(&tm);
    return true;
}
