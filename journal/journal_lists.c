/* The journal's lists: which methods and paths are recorded, which headers are redacted. */

#include "journal_p.h"

#include <stdlib.h>
#include <string.h>

#include "exit_status.h"

/* ---- the lists ---- */

static int split(const char *what, const char *list, struct journal_words *ret_words, char *error)
{
    struct journal_words words = {.memory = strdup(list != NULL ? list : "")};
    char *rest = words.memory, *word;

    if (words.memory == NULL)
        return journal_fail(error, EXIT_STATUS_UNAVAILABLE, "no memory to start");
    while ((word = strsep(&rest, ",")) != NULL) {
        word += strspn(word, " ");
        size_t len = strlen(word);
        while (len > 0 && word[len - 1] == ' ')
            word[--len] = '\0';
        if (len == 0)
            continue;
        if (words.count == JOURNAL_WORDS_MAX) {
            free(words.memory);
            return journal_fail(error, EXIT_STATUS_CONFIG, "journal.%s: want at most %d", what,
                                JOURNAL_WORDS_MAX);
        }
        words.items[words.count++] = (struct unfinished_text){word, len};
    }
    *ret_words = words;
    return 0;
}

int journal_read_lists(struct journal *journal, const struct journal_config *config, char *error)
{
    int status = split("methods", config->methods, &journal->methods, error);

    if (status == 0)
        status = split("paths", config->paths, &journal->paths, error);
    if (status == 0)
        status = split("redact", config->redact, &journal->redact, error);
    if (status != 0)
        return status;
    for (size_t i = 0; i < journal->redact.count; i++) /* in lower case, as libh2o gives them */
        for (char *at = journal->redact.items[i].base; *at != '\0'; at++)
            *at = *at >= 'A' && *at <= 'Z' ? (char)(*at + 32) : *at;
    for (size_t i = 0; i < journal->methods.count; i++)
        journal->every_method |= strcmp(journal->methods.items[i].base, "*") == 0;
    journal->every_path = journal->paths.count == 0;
    for (size_t i = 0; i < journal->paths.count; i++) {
        const char *path = journal->paths.items[i].base;
        if (path[0] != '/' && path[0] != '*')
            return journal_fail(error, EXIT_STATUS_CONFIG,
                                "journal.paths: %s must begin with a / (or be a pattern: *)", path);
        journal->has_patterns |= strpbrk(path, "*?[") != NULL;
    }
    return 0;
}
