#include "strict_chunks.h"

#include <stdbool.h>

/* A line of a chunk size:   SIZE -> (SIZE_BLANK ->) (EXTENSION ->) SIZE_LF
 * then its data:            DATA -> DATA_CR -> DATA_LF, and the next size
 * or, after size 0:         TRAILER_LINE -> NAME -> VALUE -> VALUE_LF, and the next line
 *                           TRAILER_LINE -> LAST_LF -> WHOLE */
enum state {
    SIZE,
    SIZE_BLANK,
    EXTENSION,
    SIZE_LF,
    DATA,
    DATA_CR,
    DATA_LF,
    TRAILER_LINE,
    NAME,
    VALUE,
    VALUE_LF,
    LAST_LF,
    WHOLE,
};

static int digit_of(char byte)
{
    if (byte >= '0' && byte <= '9')
        return byte - '0';
    byte |= 0x20;
    return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

static bool is_blank(char byte)
{
    return byte == ' ' || byte == '\t';
}

/* May this byte be in a value or an extension (RFC 9110 5.5)? */
static bool is_text(char byte)
{
    unsigned char c = (unsigned char)byte;
    return (c >= 0x20 && c != 0x7f) || c == '\t';
}

/* Is this byte a tchar (RFC 9110 5.6.2)? */
static bool is_token(char byte)
{
    return (byte >= '0' && byte <= '9') || ((byte | 0x20) >= 'a' && (byte | 0x20) <= 'z') ||
           byte == '!' || (byte >= '#' && byte <= '\'') || byte == '*' || byte == '+' ||
           byte == '-' || byte == '.' || byte == '^' || byte == '_' || byte == '`' || byte == '|' ||
           byte == '~';
}

/* ---- the line of a size ---- */

static bool add_digit(struct strict_chunks *chunks, int digit)
{
    /* libh2o reads 16 digits at most; a size beyond off_t is refused. */
    if (++chunks->digits > 16 || chunks->left > INT64_MAX >> 4)
        return false;
    chunks->left = chunks->left << 4 | (uint64_t)digit;
    return true;
}

static bool check_size_line(struct strict_chunks *chunks, char byte)
{
    int digit = chunks->state == SIZE ? digit_of(byte) : -1;

    if (++chunks->line > STRICT_CHUNKS_LINE_MAX)
        return false;
    if (digit >= 0)
        return add_digit(chunks, digit);
    if (chunks->digits == 0)
        return false;
    if (byte == '\r')
        chunks->state = SIZE_LF;
    else if (chunks->state != EXTENSION && byte == ';')
        chunks->state = EXTENSION;
    else if (chunks->state != EXTENSION && is_blank(byte))
        chunks->state = SIZE_BLANK;
    else
        return chunks->state == EXTENSION && is_text(byte);
    return true;
}

static bool end_size_line(struct strict_chunks *chunks, char byte)
{
    chunks->state = chunks->left > 0 ? DATA : TRAILER_LINE;
    chunks->line = chunks->digits = 0;
    return byte == '\n';
}

/* ---- the data ---- */

/* Returns how many of the bytes are data. */
static size_t skip_data(struct strict_chunks *chunks, size_t len)
{
    size_t n = chunks->left < len ? (size_t)chunks->left : len;

    chunks->left -= n;
    if (chunks->left == 0)
        chunks->state = DATA_CR;
    return n;
}

static bool check_data_end(struct strict_chunks *chunks, char byte)
{
    bool is_good = byte == (chunks->state == DATA_CR ? '\r' : '\n');

    chunks->state = chunks->state == DATA_CR ? DATA_LF : SIZE;
    return is_good;
}

/* ---- the trailer fields ---- */

static bool check_trailer(struct strict_chunks *chunks, char byte)
{
    switch (chunks->state) {
    case TRAILER_LINE:
        chunks->state = byte == '\r' ? LAST_LF : NAME;
        return byte == '\r' || is_token(byte);
    case NAME:
        if (byte == ':')
            chunks->state = VALUE;
        return byte == ':' || is_token(byte);
    case VALUE:
        if (byte == '\r')
            chunks->state = VALUE_LF;
        return byte == '\r' || is_text(byte);
    case VALUE_LF:
        chunks->state = TRAILER_LINE;
        return byte == '\n';
    default:
        chunks->state = WHOLE;
        return byte == '\n';
    }
}

/* ---- all ---- */

enum h1_refusal strict_chunks_check(struct strict_chunks *chunks, const char *bytes, size_t len)
{
    size_t i = 0;

    while (i < len && chunks->state != WHOLE) {
        switch (chunks->state) {
        case SIZE:
        case SIZE_BLANK:
        case EXTENSION:
            if (!check_size_line(chunks, bytes[i++]))
                return REFUSAL_CHUNK;
            break;
        case SIZE_LF:
            if (!end_size_line(chunks, bytes[i++]))
                return REFUSAL_CHUNK;
            break;
        case DATA:
            i += skip_data(chunks, len - i);
            break;
        case DATA_CR:
        case DATA_LF:
            if (!check_data_end(chunks, bytes[i++]))
                return REFUSAL_CHUNK;
            break;
        default:
            if (chunks->trailer_left == 0)
                return REFUSAL_TOO_LARGE;
            chunks->trailer_left--;
            if (!check_trailer(chunks, bytes[i++]))
                return REFUSAL_TRAILER;
            break;
        }
    }
    return REFUSAL_NONE;
}
