/* libFuzzer: whatever the lines of an archive are, the reader of a line ends, with a request that
 * is written as a line and read again the same, or with a word about what is wrong. */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "unfinished.h"

static void read_line(const char *line, size_t len)
{
    char why[UNFINISHED_WHY_SIZE] = "";
    struct unfinished one, two;

    int err = unfinished_parse(line, len, &one, why);
    if (err != 0) {
        assert(err == -EBADMSG && why[0] != '\0');
        return;
    }
    assert(strlen(one.id) == UNFINISHED_ID_SIZE - 1);
    char *first = unfinished_line(&one);
    assert(first != NULL && strchr(first, '\n') == NULL);
    assert(unfinished_parse(first, strlen(first), &two, why) == 0);
    char *second = unfinished_line(&two);
    assert(second != NULL && strcmp(first, second) == 0);
    free(second);
    free(first);
    unfinished_release(&one);
    unfinished_release(&two);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    const char *at = (const char *)bytes, *end = at + size;

    while (at < end) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        const char *stop = newline != NULL ? newline : end;
        read_line(at, (size_t)(stop - at));
        at = stop + 1;
    }
    return 0;
}
