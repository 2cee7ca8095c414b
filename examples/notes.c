/* Notes as JSON, in SQLite. Each worker has a connection of its own. A query that nobody waits for
 * any more is interrupted. A transaction that began ends in COMMIT or ROLLBACK, in every drain:
 * what was answered with 201 is in the database.
 *
 *     cc notes.c $(pkg-config --cflags --libs lastcall sqlite3 jansson) -o notes
 *     ./notes notes.db
 *     curl -d '{"text": "milk"}' 127.0.0.1:8080/notes
 *     curl 127.0.0.1:8080/notes */
#include <jansson.h>
#include <lastcall/lastcall.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

static const char schema[] =
    "PRAGMA busy_timeout = 10000;"
    "PRAGMA journal_mode = WAL;"
    "CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL);";

static void *open_database(unsigned worker, void *path)
{
    sqlite3 *db = NULL;

    (void)worker;
    if (sqlite3_open(path, &db) == SQLITE_OK &&
        sqlite3_exec(db, schema, NULL, NULL, NULL) == SQLITE_OK)
        return db;
    sqlite3_close(db);
    return NULL; /* lc_start() says that this worker has no state */
}

static void close_database(void *db, void *path)
{
    (void)path;
    sqlite3_close(db);
}

static void interrupt(void *db)
{
    sqlite3_interrupt(db);
}

static void send_json(lc_req *request, int status, json_t *json)
{
    char *text = json_dumps(json, JSON_COMPACT);

    json_decref(json);
    if (text == NULL)
        lc_fail(request, 500, "no memory");
    else
        lc_send_owned(request, status, "application/json", text, strlen(text), free, text);
}

static void list(lc_req *request, void *user)
{
    sqlite3 *db = lc_own(request);
    sqlite3_stmt *query = NULL;
    json_t *all = json_array();
    int result;

    (void)user;
    lc_on_cancel(request, interrupt, db);
    sqlite3_prepare_v2(db, "SELECT id, text FROM notes ORDER BY id", -1, &query, NULL);
    while ((result = sqlite3_step(query)) == SQLITE_ROW)
        json_array_append_new(all, json_pack("{s:I, s:s}", "id",
                                             (json_int_t)sqlite3_column_int64(query, 0), "text",
                                             (const char *)sqlite3_column_text(query, 1)));
    sqlite3_finalize(query);
    lc_on_cancel(request, NULL, NULL); /* from here on nothing interrupts this connection */
    if (result == SQLITE_DONE) {
        send_json(request, 200, all);
    } else {
        json_decref(all);
        lc_fail(request, 503, sqlite3_errmsg(db));
    }
}

/* One transaction: the row is there, or nothing is. */
static int insert(sqlite3 *db, const char *text)
{
    sqlite3_stmt *query = NULL;

    if (sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL) != SQLITE_OK)
        return 0;
    int done = sqlite3_prepare_v2(db, "INSERT INTO notes (text) VALUES (?)", -1, &query, NULL) ==
                   SQLITE_OK &&
               sqlite3_bind_text(query, 1, text, -1, SQLITE_STATIC) == SQLITE_OK &&
               sqlite3_step(query) == SQLITE_DONE;
    sqlite3_finalize(query);
    if (done && sqlite3_exec(db, "COMMIT", NULL, NULL, NULL) == SQLITE_OK)
        return 1;
    sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    return 0;
}

static void add(lc_req *request, void *user)
{
    sqlite3 *db = lc_own(request);
    size_t bytes;
    const char *body = lc_body(request, &bytes), *text = NULL;
    json_t *note = json_loadb(body, bytes, 0, NULL);

    (void)user;
    if (json_unpack(note, "{s:s}", "text", &text) != 0)
        lc_send(request, 400, "text/plain", "the body is not {\"text\": \"...\"}\n");
    else if (insert(db, text))
        send_json(request, 201,
                  json_pack("{s:I}", "id", (json_int_t)sqlite3_last_insert_rowid(db)));
    else
        lc_fail(request, 500, sqlite3_errmsg(db));
    json_decref(note);
}

int main(int argc, char **argv)
{
    char *path = argc > 1 ? argv[1] : "notes.db";
    lc_server *server = lc_new();

    lc_listen(server, argc > 2 ? argv[2] : "127.0.0.1:8080");
    lc_set(server, "drain.deadline", "10s");
    lc_each_worker(server, open_database, close_database, path);
    lc_handle(server, "GET /notes", list, NULL);
    lc_handle(server, "POST /notes", add, NULL);
    return lc_run(server);
}
