// libpq itself: what psycopg, ruby-pg, PHP and psql are made of. It has neither a statement cache nor a pool.
#include <libpq-fe.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static jmp_buf end_of_check;
static char problem[1000];
static PGconn *open_ones[8]; // closed when their check ends, however it ends
static int open_count;

#define REQUIRE(condition) \
    do { \
        if (!(condition)) fail(__LINE__, "not so: %s", #condition); \
    } while (0)

__attribute__((noreturn, format(printf, 2, 3))) static void fail(int line, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(problem, sizeof problem - 30, format, arguments);
    va_end(arguments);
    if (length > (int)sizeof problem - 31) length = sizeof problem - 31;
    snprintf(problem + length, 30, " (line %d)", line);
    for (char *c = problem; *c; c++)
        if (*c == '\n') *c = ' ';
    longjmp(end_of_check, 1);
}

static const char *env(const char *name)
{
    const char *value = getenv(name);
    return value ? value : "";
}

// Connections

static void quiet(void *unused, const char *message)
{
    (void)unused;
    (void)message; // a notice
}

static PGconn *open_with(const char *conninfo)
{
    PGconn *c = open_ones[open_count++] = PQconnectdb(conninfo);
    PQsetNoticeProcessor(c, quiet, NULL);
    return c;
}

static void close_all(void)
{
    while (open_count) PQfinish(open_ones[--open_count]);
}

static const char *url(const char *tenant, const char *way)
{
    static char text[500];
    bool by_user = !strcmp(way, "user"), by_options = !strcmp(way, "options"), by_database = !strcmp(way, "database");
    bool at = !strcmp(way, "database-at");
    snprintf(text, sizeof text, "postgres://%s%s%s:%s@%s:%s/%s%s%s?connect_timeout=10%s%s", env("TENANTRY_USER"), by_user ? "." : "",
             by_user ? tenant : "", env("TENANTRY_PASSWORD"), env("TENANTRY_HOST"), env("TENANTRY_PORT"),
             by_database ? tenant : env("TENANTRY_DATABASE"), at ? "%40" : "", at ? tenant : "",
             by_options ? "&options=-c%20app.tenant%3D" : "", by_options ? tenant : "");
    return text;
}

static PGconn *verified(const char *host, const char *user)
{
    char text[1000];
    snprintf(text, sizeof text, "host=%s hostaddr=%s port=%s user=%s password=%s dbname=%s sslmode=verify-full sslrootcert=%s", host,
             env("TENANTRY_HOST"), env("TENANTRY_PORT"), user, env("TENANTRY_PASSWORD"), env("TENANTRY_DATABASE"), env("TENANTRY_CA"));
    return open_with(text);
}

static PGconn *session(const char *tenant)
{
    PGconn *c = open_with(url(tenant, "user"));
    if (PQstatus(c) != CONNECTION_OK) fail(__LINE__, "%s", PQerrorMessage(c));
    return c;
}

// Statements

static void expect_state(int line, PGresult *result, const char *sqlstate)
{
    const char *got = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    if (!got || strcmp(got, sqlstate)) fail(line, "%s instead of %s", got ? got : "no error", sqlstate);
    PQclear(result);
}
#define FAILS(sqlstate, result) expect_state(__LINE__, result, sqlstate)

static PGresult *good(int line, PGconn *c, PGresult *result)
{
    ExecStatusType status = PQresultStatus(result);
    if (status == PGRES_FATAL_ERROR || status == PGRES_BAD_RESPONSE) fail(line, "%s", PQerrorMessage(c));
    return result;
}
#define RUN(c, sql) PQclear(good(__LINE__, c, PQexec(c, sql)))

// Every row is a line, its columns separated by spaces; null is "-". The text lives until the next call.
static const char *text_of(PGresult *result)
{
    static char *text;
    size_t size = 0;
    free(text);
    FILE *out = open_memstream(&text, &size);
    for (int row = 0; row < PQntuples(result); row++)
        for (int column = 0; column < PQnfields(result); column++)
            fprintf(out, "%s%s", PQgetisnull(result, row, column) ? "-" : PQgetvalue(result, row, column), column + 1 < PQnfields(result) ? " " : "\n");
    fclose(out);
    PQclear(result);
    return text;
}

static void expect_text(int line, PGconn *c, PGresult *result, const char *want)
{
    const char *got = text_of(good(line, c, result));
    if (strcmp(got, want)) fail(line, "\"%.200s\" instead of \"%.200s\"", got, want);
}
#define IS(c, sql, want) expect_text(__LINE__, c, PQexec(c, sql), want)
#define USABLE(c, tenant) IS(c, "select name from who", tenant "\n")

static PGresult *with(PGconn *c, const char *sql, const char *parameter)
{
    return PQexecParams(c, sql, 1, NULL, &parameter, NULL, NULL, 0);
}

static void item(PGconn *c)
{
    RUN(c, "drop table if exists item");
    RUN(c, "create table item (id int primary key)");
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

// Two clients in every order of transactions: servers change hands.
static void interleave(int rounds, PGconn *a, PGconn *b, void (*ask)(PGconn *, int))
{
    for (int i = 0; i < rounds; i++) {
        PGconn *x = i % 2 ? b : a, *y = i % 2 ? a : b;
        RUN(x, "begin");
        ask(x, i);
        ask(y, i);
        RUN(x, "commit");
        if (i % 3 == 0) ask(x, i);
    }
}

// The checks

static void by(const char *way)
{
    PGconn *c = open_with(url("acme", way));
    USABLE(c, "acme");
}

static void connect_options(void) { by("options"); }

static void connect_user(void)
{
    by("user");
    USABLE(session("umbra"), "umbra");
}

static void connect_database(void) { by("database"); }

static void connect_database_at(void) { by("database-at"); }

static void connect_sni(void)
{
    PGconn *c = verified("acme.db.localhost", env("TENANTRY_USER"));
    USABLE(c, "acme");
}

static void tls(void)
{
    char user[100];
    snprintf(user, sizeof user, "%s.acme", env("TENANTRY_USER"));
    PGconn *c = verified("localhost", user);
    USABLE(c, "acme");
    REQUIRE(PQsslInUse(c));
    REQUIRE(strstr(PQerrorMessage(verified("other.example", user)), "does not match host name"));
}

static void autocommit(void)
{
    PGconn *a = session("acme"), *b = session("acme");
    item(a);
    PQclear(good(__LINE__, a, with(a, "insert into item values ($1)", "1")));
    IS(b, "select count(*) from item", "1\n");
    RUN(a, "drop table item");
}

static void transaction(void)
{
    PGconn *a = session("acme"), *b = session("acme");
    item(a);
    RUN(a, "begin");
    RUN(a, "insert into item values (1)");
    IS(b, "select count(*) from item", "0\n");
    RUN(a, "commit");
    IS(b, "select count(*) from item", "1\n");
    RUN(a, "begin");
    RUN(a, "insert into item values (2)");
    RUN(a, "rollback");
    IS(b, "select id from item", "1\n");
    RUN(a, "drop table item");
}

static void transaction_error(void)
{
    PGconn *c = session("acme");
    item(c);
    RUN(c, "begin");
    RUN(c, "insert into item values (1)");
    FAILS("22012", with(c, "select 1 / $1::int", "0"));
    FAILS("25P02", PQexec(c, "select 1"));
    REQUIRE(PQtransactionStatus(c) == PQTRANS_INERROR);
    RUN(c, "rollback");
    USABLE(c, "acme");
    IS(c, "select count(*) from item", "0\n");
    RUN(c, "drop table item");
}

static void savepoint(void)
{
    PGconn *c = session("acme");
    item(c);
    RUN(c, "begin; insert into item values (1); savepoint here; insert into item values (2)");
    FAILS("23505", with(c, "insert into item values ($1)", "1"));
    RUN(c, "rollback to here");
    RUN(c, "insert into item values (3)");
    RUN(c, "commit");
    IS(c, "select id from item order by id", "1\n3\n");
    RUN(c, "drop table item");
}

#define KIND "select name, $1::int + %d, pg_backend_pid() from who where name = $2"
static char pids[2][20]; // of the first two server processes that were met

static void check_prepared(int line, PGconn *c, PGresult *result, int i)
{
    good(line, c, result);
    REQUIRE(PQntuples(result) == 1 && PQnfields(result) == 3);
    REQUIRE(!strcmp(PQgetvalue(result, 0, 0), "acme") && atoi(PQgetvalue(result, 0, 1)) == i + i % 5);
    const char *pid = PQgetvalue(result, 0, 2);
    for (int k = 0; k < 2 && strcmp(pids[k], pid); k++)
        if (!*pids[k]) snprintf(pids[k], sizeof pids[k], "%s", pid);
    PQclear(result);
}

static void ask_prepared(PGconn *c, int i)
{
    char name[20], number[20], sql[200];
    snprintf(name, sizeof name, "kind %d", i % 5);
    snprintf(number, sizeof number, "%d", i);
    snprintf(sql, sizeof sql, KIND, i % 5);
    const char *values[] = {number, "acme"};
    check_prepared(__LINE__, c, PQexecPrepared(c, name, 2, values, NULL, NULL, 0), i);
    check_prepared(__LINE__, c, PQexecParams(c, sql, 2, NULL, values, NULL, NULL, 0), i);
    // Without a name, parsed in one round trip and bound in the next.
    PQclear(good(__LINE__, c, PQprepare(c, "", sql, 0, NULL)));
    check_prepared(__LINE__, c, PQexecPrepared(c, "", 2, values, NULL, NULL, 0), i);
}

static void prepared(void)
{
    PGconn *a = session("acme"), *b = session("acme");
    for (int kind = 0; kind < 5; kind++) {
        char name[20], sql[200];
        snprintf(name, sizeof name, "kind %d", kind);
        snprintf(sql, sizeof sql, KIND, kind);
        PQclear(good(__LINE__, a, PQprepare(a, name, sql, 0, NULL)));
        PQclear(good(__LINE__, b, PQprepare(b, name, sql, 0, NULL)));
    }
    interleave(60, a, b, ask_prepared);
    REQUIRE(*pids[1]);
}

static PGresult *next(PGconn *c)
{
    PGresult *result = PQgetResult(c), *end = PQgetResult(c);
    REQUIRE(result && !end);
    return result;
}

// A pipeline of one statement for each number, one Sync at its end.
static void pipeline(PGconn *c, const char *sql, int count, const char *const *numbers)
{
    REQUIRE(PQenterPipelineMode(c));
    for (int n = 0; n < count; n++) REQUIRE(PQsendQueryParams(c, sql, 1, NULL, &numbers[n], NULL, NULL, 0));
    REQUIRE(PQpipelineSync(c));
}

static void end_pipeline(PGconn *c)
{
    PGresult *sync = PQgetResult(c);
    REQUIRE(PQresultStatus(sync) == PGRES_PIPELINE_SYNC);
    PQclear(sync);
    REQUIRE(PQexitPipelineMode(c));
}

static void batch(void)
{
    PGconn *c = session("acme");
    char digits[100][4];
    const char *numbers[100];
    for (int n = 0; n < 100; n++) {
        snprintf(digits[n], sizeof digits[n], "%d", n);
        numbers[n] = digits[n];
    }
    pipeline(c, "select $1::int", 100, numbers);
    for (int n = 0; n < 100; n++) {
        PGresult *result = good(__LINE__, c, next(c));
        REQUIRE(!strcmp(PQgetvalue(result, 0, 0), digits[n]));
        PQclear(result);
    }
    end_pipeline(c);

    const char *divisors[] = {"1", "0", "1"};
    pipeline(c, "select 1 / $1::int", 3, divisors);
    PQclear(good(__LINE__, c, next(c)));
    FAILS("22012", next(c));
    PGresult *aborted = next(c);
    REQUIRE(PQresultStatus(aborted) == PGRES_PIPELINE_ABORTED);
    PQclear(aborted);
    end_pipeline(c);
    USABLE(c, "acme");
}

static void put(PGconn *c, const char *line)
{
    REQUIRE(PQputCopyData(c, line, strlen(line)) == 1);
}

static void copy_in(void)
{
    PGconn *c = session("acme");
    item(c);
    RUN(c, "copy item from stdin");
    for (int n = 0; n < 10000; n++) {
        char line[20];
        snprintf(line, sizeof line, "%d\n", n);
        put(c, line);
    }
    REQUIRE(PQputCopyEnd(c, NULL) == 1);
    PQclear(good(__LINE__, c, next(c)));
    IS(c, "select count(*), sum(id) from item", "10000 49995000\n");
    RUN(c, "drop table item");
}

static void copy_out(void)
{
    PGconn *c = session("acme");
    RUN(c, "copy (select n, name from who, generate_series(1, 10000) n) to stdout");
    char *line, want[20];
    for (int n = 1; n <= 10000; n++) {
        snprintf(want, sizeof want, "%d\tacme\n", n);
        REQUIRE(PQgetCopyData(c, &line, 0) > 0 && !strcmp(line, want));
        PQfreemem(line);
    }
    REQUIRE(PQgetCopyData(c, &line, 0) == -1);
    PQclear(good(__LINE__, c, next(c)));
    USABLE(c, "acme");
}

static void copy_in_aborted(void)
{
    PGconn *c = session("acme");
    item(c);
    RUN(c, "copy item from stdin");
    put(c, "1\n");
    REQUIRE(PQputCopyEnd(c, "given up") == 1);
    FAILS("57014", next(c));
    RUN(c, "copy item from stdin");
    put(c, "1\nx\n");
    REQUIRE(PQputCopyEnd(c, NULL) == 1);
    FAILS("22P02", next(c));
    USABLE(c, "acme");
    IS(c, "select count(*) from item", "0\n");
    RUN(c, "drop table item");
}

static void cursor(void)
{
    PGconn *a = session("acme"), *b = session("acme");
    RUN(a, "begin");
    RUN(a, "declare numbers cursor for select n from generate_series(1, 1000) n");
    for (int n = 1; n <= 1000;) {
        PGresult *piece = good(__LINE__, a, PQexec(a, "fetch 100 from numbers"));
        REQUIRE(PQntuples(piece) == 100);
        for (int row = 0; row < 100; row++) REQUIRE(atoi(PQgetvalue(piece, row, 0)) == n++);
        PQclear(piece);
        USABLE(b, "acme");
    }
    IS(a, "fetch 100 from numbers", "");
    RUN(a, "commit");

    REQUIRE(PQsendQuery(a, "select n from generate_series(1, 1000) n")); // as they come, all in one portal
    REQUIRE(PQsetSingleRowMode(a));
    for (int n = 1; n <= 1000; n++) {
        PGresult *row = PQgetResult(a);
        REQUIRE(PQresultStatus(row) == PGRES_SINGLE_TUPLE && atoi(PQgetvalue(row, 0, 0)) == n);
        PQclear(row);
        if (n % 100 == 0) USABLE(b, "acme");
    }
    PQclear(good(__LINE__, a, next(a)));
}

struct canceller {
    PGcancel *request;
    PGconn *watch;
    char error[256];
};

static void *cancel_once_asleep(void *argument)
{
    struct canceller *it = argument;
    for (bool asleep = false; !asleep;) {
        usleep(10000); // between two looks
        PGresult *seen = PQexec(it->watch, "select from pg_stat_activity where state = 'active' and query = 'select pg_sleep(10)'");
        asleep = PQntuples(seen) || PQresultStatus(seen) != PGRES_TUPLES_OK;
        PQclear(seen);
    }
    PQcancel(it->request, it->error, sizeof it->error);
    return NULL;
}

static void cancel(void)
{
    PGconn *c = session("acme");
    struct canceller canceller = {.request = PQgetCancel(c), .watch = session("acme")};
    pthread_t thread;
    double begun = now();
    REQUIRE(!pthread_create(&thread, NULL, cancel_once_asleep, &canceller));
    PGresult *result = PQexec(c, "select pg_sleep(10)");
    pthread_join(thread, NULL);
    PQfreeCancel(canceller.request);
    if (*canceller.error) fail(__LINE__, "%s", canceller.error);
    FAILS("57014", result);
    REQUIRE(now() - begun < 5);
    USABLE(c, "acme");
}

static PGnotify *heard(PGconn *c, int milliseconds)
{
    struct pollfd ready = {.fd = PQsocket(c), .events = POLLIN};
    double until = now() + milliseconds / 1e3;
    for (;;) {
        REQUIRE(PQconsumeInput(c));
        PGnotify *got = PQnotifies(c);
        int left = (until - now()) * 1e3;
        if (got || left <= 0) return got;
        poll(&ready, 1, left);
    }
}

static void notify(void)
{
    PGconn *a = session("acme"), *b = session("acme");
    RUN(a, "listen news");
    RUN(b, "begin");
    RUN(b, "select pg_notify('news', 'hello')");
    REQUIRE(!heard(a, 200));
    RUN(b, "commit");
    PGnotify *got = heard(a, 5000);
    REQUIRE(got && !strcmp(got->relname, "news") && !strcmp(got->extra, "hello"));
    PQfreemem(got);
}

static void large(void)
{
    size_t size = 20 << 20;
    char *text = malloc(size + 1);
    for (size_t i = 0; i < size; i++) text[i] = "0123456789abcdef"[i % 16];
    text[size] = 0;
    PGconn *c = session("acme");
    PGresult *result = good(__LINE__, c, with(c, "select $1::text", text));
    bool same = (size_t)PQgetlength(result, 0, 0) == size && !memcmp(PQgetvalue(result, 0, 0), text, size);
    PQclear(result);
    free(text);
    REQUIRE(same);
    USABLE(c, "acme");
}

static void types(void)
{
    PGconn *c = session("acme");
    unsigned char bytes[256];
    for (int i = 0; i < 256; i++) bytes[i] = i;
    static const char *const values[] = {"-4611686018427387904", "12345678901234567890.000123", "žluťoučký 🐘 'quoted' \\",
        NULL, "2026-01-02 03:04:05.678901+00", "{\"a\": [1, null, \"ß\"]}", "{1,NULL,3}", "t", "6b1f0e0c-5f5e-4f43-9d4e-0a2b4c6d8e0f", NULL};
    enum { BYTEA = 3, COUNT = 10 };
    const char *parameters[COUNT];
    memcpy(parameters, values, sizeof values);
    parameters[BYTEA] = (char *)bytes;
    int lengths[COUNT] = {[BYTEA] = sizeof bytes}, formats[COUNT] = {[BYTEA] = 1};
    RUN(c, "set timezone = 'UTC'");
    PGresult *result = good(__LINE__, c, PQexecParams(c,
        "select $1::int8, $2::numeric, $3::text, $4::bytea, $5::timestamptz, $6::jsonb, $7::int[], $8::bool, $9::uuid, $10::date",
        COUNT, NULL, parameters, lengths, formats, 0));
    for (int i = 0; i < COUNT; i++) {
        REQUIRE(PQgetisnull(result, 0, i) == (i == COUNT - 1));
        if (values[i]) REQUIRE(!strcmp(PQgetvalue(result, 0, i), values[i]));
    }
    size_t length;
    unsigned char *back = PQunescapeBytea((unsigned char *)PQgetvalue(result, 0, BYTEA), &length);
    bool same = length == sizeof bytes && !memcmp(back, bytes, length);
    PQfreemem(back);
    PQclear(result);
    REQUIRE(same);
}

static void pool_reset(void)
{
    PGconn *c = session("acme");
    char before[50];
    snprintf(before, sizeof before, "%s", text_of(good(__LINE__, c, PQexec(c, "show statement_timeout"))));
    for (int i = 0; i < 3; i++) {
        RUN(c, "set statement_timeout = '12345ms'");
        IS(c, "show statement_timeout", "12345ms\n");
        RUN(c, "discard all");
        IS(c, "show statement_timeout", before);
        USABLE(c, "acme");
    }
}

static void session_state(void)
{
    PGconn *a = session("acme"), *b = session("acme");
    char path[200];
    snprintf(path, sizeof path, "%s", text_of(good(__LINE__, b, PQexec(b, "show search_path"))));
    RUN(a, "set statement_timeout = '12345ms'");
    RUN(a, "set search_path = pg_catalog, pg_temp");
    RUN(b, "set statement_timeout = '23456ms'");
    for (int i = 0; i < 10; i++) {
        RUN(a, "begin");
        IS(a, "show statement_timeout", "12345ms\n");
        RUN(a, "commit");
        IS(a, "show search_path", "pg_catalog, pg_temp\n");
        RUN(b, "begin");
        IS(b, "show statement_timeout", "23456ms\n");
        RUN(b, "commit");
        IS(b, "show search_path", path);
    }
    USABLE(b, "acme");
}

static void ask_tenant(PGconn *c, int i)
{
    char sql[200], number[20], want[100];
    const char *tenant = strrchr(PQuser(c), '.') + 1;
    snprintf(sql, sizeof sql, "select name, $1::int + %d from who, generate_series(1, 3)", i % 3);
    snprintf(number, sizeof number, "%d", i);
    snprintf(want, sizeof want, "%1$s %2$d\n%1$s %2$d\n%1$s %2$d\n", tenant, i + i % 3);
    const char *value = number;
    char one[100];
    snprintf(one, sizeof one, "%s %d\n", tenant, i);
    expect_text(__LINE__, c, PQexecPrepared(c, "same", 1, &value, NULL, NULL, 0), one);
    expect_text(__LINE__, c, with(c, sql, number), want);
}

static void two_tenants(void)
{
    PGconn *acme = session("acme"), *umbra = session("umbra");
    const char *same = "select name, $1::int from who"; // under the same name, too
    PQclear(good(__LINE__, acme, PQprepare(acme, "same", same, 0, NULL)));
    PQclear(good(__LINE__, umbra, PQprepare(umbra, "same", same, 0, NULL)));
    interleave(100, acme, umbra, ask_tenant);
}

// Sixteen clients and two alterers, each a process: what they share is here.
static struct {
    int altering, pids[64];
    char problems[18][sizeof problem];
} *crowd;

static void read_crowd(PGconn *c, const char *tenant, int i)
{
    char name[20], number[20], want[20];
    snprintf(name, sizeof name, "kind %d", i % 3);
    snprintf(number, sizeof number, "%d", i);
    snprintf(want, sizeof want, "%d", i + i % 3);
    const char *parameter = number;
    PGresult *rows = good(__LINE__, c, PQexecPrepared(c, name, 1, &parameter, NULL, NULL, 0));
    REQUIRE(PQntuples(rows) == 16);
    for (int row = 0; row < 16; row++) REQUIRE(!strcmp(PQgetvalue(rows, row, 0), tenant) && !strcmp(PQgetvalue(rows, row, 1), want));
    int pid = atoi(PQgetvalue(rows, 0, 2));
    crowd->pids[pid % 64] = pid;
    PQclear(rows);
}

static void crowd_client(const char *tenant, int id)
{
    PGconn *c = session(tenant);
    char text[100], number[20], want[40];
    for (int kind = 0; kind < 3; kind++) {
        snprintf(number, sizeof number, "kind %d", kind);
        snprintf(text, sizeof text, "select tenant, $1::int + %d, pg_backend_pid() from crowd", kind);
        PQclear(good(__LINE__, c, PQprepare(c, number, text, 0, NULL)));
    }
    snprintf(number, sizeof number, "%d", id);
    for (int i = 0; i < 20 || __atomic_load_n(&crowd->altering, __ATOMIC_SEQ_CST) > 0; i++) {
        read_crowd(c, tenant, i);
        RUN(c, "begin");
        read_crowd(c, tenant, i);
        read_crowd(c, tenant, i + 1);
        RUN(c, "commit");
        RUN(c, "begin");
        for (int n = 2 * i + 1; n <= 2 * i + 2; n++) {
            snprintf(want, sizeof want, "%s %d\n", tenant, n);
            expect_text(__LINE__, c, with(c, "update crowd set n = n + 1 where id = $1::int returning tenant, n", number), want);
        }
        RUN(c, "commit");
    }
}

static void crowd_alterer(const char *tenant)
{
    PGconn *c = session(tenant);
    for (int i = 0; i < 20; i++) {
        RUN(c, "alter table crowd add column extra int");
        RUN(c, "alter table crowd drop column extra");
    }
}

static void sixteen_clients(void)
{
    static const char *tenants[] = {"acme", "umbra"};
    crowd = mmap(NULL, sizeof *crowd, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(crowd != MAP_FAILED);
    crowd->altering = 2;
    PGconn *owners[2];
    for (int i = 0; i < 2; i++) {
        owners[i] = session(tenants[i]);
        RUN(owners[i], "drop table if exists crowd");
        RUN(owners[i], "create table crowd (tenant text, id int, n int)");
        PQclear(good(__LINE__, owners[i], with(owners[i], "insert into crowd select $1, id, 0 from generate_series(0, 15) id", tenants[i])));
    }
    pid_t children[18];
    for (int child = 0; child < 18; child++) {
        children[child] = fork();
        if (children[child]) continue;
        open_count = 0; // the parent's
        if (!setjmp(end_of_check)) {
            if (child < 2) crowd_alterer(tenants[child]);
            else crowd_client(tenants[child % 2], child - 2);
        } else {
            strcpy(crowd->problems[child], problem);
        }
        if (child < 2) __atomic_fetch_sub(&crowd->altering, 1, __ATOMIC_SEQ_CST);
        close_all();
        _exit(0);
    }
    for (int child = 0; child < 18; child++) waitpid(children[child], NULL, 0);
    for (int child = 0; child < 18; child++)
        if (*crowd->problems[child]) fail(__LINE__, "%s", crowd->problems[child]);
    for (int i = 0; i < 2; i++) RUN(owners[i], "drop table crowd");
    int met = 0;
    for (int i = 0; i < 64; i++) met += crowd->pids[i] != 0;
    REQUIRE(met >= 2);
}

int main(void)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } checks[] = {
        {"connect-options", connect_options}, {"connect-user", connect_user}, {"connect-database", connect_database},
        {"connect-database-at", connect_database_at}, {"connect-sni", connect_sni}, {"tls", tls}, {"autocommit", autocommit},
        {"transaction", transaction}, {"transaction-error", transaction_error}, {"savepoint", savepoint}, {"prepared", prepared},
        {"batch", batch}, {"copy-in", copy_in}, {"copy-out", copy_out}, {"copy-in-aborted", copy_in_aborted}, {"cursor", cursor},
        {"cancel", cancel}, {"notify", notify}, {"large", large}, {"types", types}, {"pool-reset", pool_reset},
        {"session-state", session_state}, {"two-tenants", two_tenants}, {"sixteen-clients", sixteen_clients},
    };
    static int failed, i; // static: they outlive the longjmp
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("TAP version 13\n1..%zu\n", sizeof checks / sizeof *checks);
    for (i = 0; i < (int)(sizeof checks / sizeof *checks); i++) {
        if (!strcmp(env("TENANTRY_DIRECT"), "1") && !strncmp(checks[i].name, "connect-", 8)) {
            printf("ok %d - %s # SKIP bare PostgreSQL knows no tenants\n", i + 1, checks[i].name);
        } else if (!setjmp(end_of_check)) {
            checks[i].run();
            printf("ok %d - %s\n", i + 1, checks[i].name);
        } else {
            failed = 1;
            printf("not ok %d - %s: %s\n", i + 1, checks[i].name, problem);
        }
        close_all();
    }
    return failed;
}
