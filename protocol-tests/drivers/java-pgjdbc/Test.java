// pgjdbc with its defaults (named statements from the fifth execution on), its COPY, its notifications and its pooled connections.

import java.io.StringReader;
import java.io.StringWriter;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.sql.Array;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.sql.Types;
import java.time.OffsetDateTime;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.Callable;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.IntStream;
import org.postgresql.PGConnection;
import org.postgresql.copy.CopyIn;
import org.postgresql.copy.CopyManager;
import org.postgresql.ds.PGConnectionPoolDataSource;

class Test {
    static final String HOST = System.getenv("TENANTRY_HOST");
    static final String PORT = System.getenv("TENANTRY_PORT");
    static final String USER = System.getenv("TENANTRY_USER");
    static final String PASSWORD = System.getenv("TENANTRY_PASSWORD");
    static final String DATABASE = System.getenv("TENANTRY_DATABASE");
    static final String VERIFIED = "&sslmode=verify-full&sslrootcert=" + System.getenv("TENANTRY_CA");
    static final boolean DIRECT = "1".equals(System.getenv("TENANTRY_DIRECT"));

    interface Check {
        void run() throws Exception;
    }

    static int number = 0;
    static boolean failed = false;

    static void check(String name, Check check) {
        number++;
        if (DIRECT && name.startsWith("connect-")) {
            System.out.printf("ok %d - %s # SKIP bare PostgreSQL knows no tenants%n", number, name);
            return;
        }
        try {
            check.run();
            System.out.printf("ok %d - %s%n", number, name);
        } catch (Exception | AssertionError e) {
            failed = true;
            int line = 0;
            for (StackTraceElement element : e.getStackTrace()) {
                if (element.getClassName().startsWith("Test") && line == 0) line = element.getLineNumber();
            }
            System.out.printf("not ok %d - %s: %s (line %d)%n", number, name, e.toString().replaceAll("\\s+", " "), line);
        }
    }

    static String url(String host, String user, String database, String more) {
        return "jdbc:postgresql://" + host + ":" + PORT + "/" + database + "?user=" + user + "&password=" + PASSWORD
            + "&connectTimeout=10&socketTimeout=15" + more;
    }

    static Connection tenant(String tenant) throws SQLException {
        return DriverManager.getConnection(url(HOST, USER + "." + tenant, DATABASE, ""));
    }

    static Connection acme() throws SQLException {
        return tenant("acme");
    }

    static void equal(Object want, Object got) {
        if (!want.equals(got)) throw new AssertionError(got + " instead of " + want);
    }

    static void fails(String sqlstate, Check check) throws Exception {
        try {
            check.run();
        } catch (SQLException e) {
            equal(sqlstate, String.valueOf(e.getSQLState()));
            return;
        }
        throw new AssertionError("no error instead of " + sqlstate);
    }

    static void execute(Connection c, String sql) throws SQLException {
        try (Statement s = c.createStatement()) {
            s.execute(sql);
        }
    }

    /** The first column of every row, as text. */
    static List<String> column(Connection c, String sql, Object... parameters) throws SQLException {
        try (PreparedStatement s = c.prepareStatement(sql)) {
            for (int i = 0; i < parameters.length; i++) s.setObject(i + 1, parameters[i]);
            ResultSet rows = s.executeQuery();
            List<String> got = new ArrayList<>();
            while (rows.next()) got.add(rows.getString(1));
            return got;
        }
    }

    static String value(Connection c, String sql, Object... parameters) throws SQLException {
        return column(c, sql, parameters).get(0);
    }

    static void usable(Connection c, String tenant) throws SQLException {
        equal(List.of(tenant), column(c, "select name from who"));
    }

    static void connects(String url, String tenant) throws SQLException {
        try (Connection c = DriverManager.getConnection(url)) {
            usable(c, tenant);
        }
    }

    static void item(Connection c) throws SQLException {
        execute(c, "drop table if exists item");
        execute(c, "create table item (id int primary key)");
    }

    static String count(Connection c) throws SQLException {
        return value(c, "select count(*) from item");
    }

    static void tls() throws Exception {
        connects(url("localhost", USER + ".acme", DATABASE, VERIFIED), "acme");
        fails("08006", () -> connects(url("other.example", USER + ".acme", DATABASE, VERIFIED), "acme"));
    }

    static void autocommit() throws Exception {
        try (Connection a = acme(); Connection b = acme()) {
            item(a);
            execute(a, "insert into item values (1)");
            equal("1", count(b));
            execute(a, "drop table item");
        }
    }

    static void transaction() throws Exception {
        try (Connection a = acme(); Connection b = acme()) {
            item(a);
            a.setAutoCommit(false);
            execute(a, "insert into item values (1)");
            equal("0", count(b));
            a.commit();
            equal("1", count(b));
            execute(a, "insert into item values (2)");
            a.rollback();
            equal(List.of("1"), column(b, "select id from item"));
            execute(a, "drop table item");
            a.commit();
        }
    }

    static void transactionError() throws Exception {
        try (Connection c = acme()) {
            item(c);
            c.setAutoCommit(false);
            execute(c, "insert into item values (1)");
            fails("22012", () -> value(c, "select 1 / ?::int", 0));
            fails("25P02", () -> value(c, "select 1"));
            c.rollback();
            usable(c, "acme");
            equal("0", count(c));
            execute(c, "drop table item");
            c.commit();
        }
    }

    static void savepoint() throws Exception {
        try (Connection c = acme()) {
            item(c);
            c.setAutoCommit(false);
            execute(c, "insert into item values (1)");
            Savepoint here = c.setSavepoint("here");
            execute(c, "insert into item values (2)");
            fails("23505", () -> execute(c, "insert into item values (1)"));
            c.rollback(here);
            execute(c, "insert into item values (3)");
            c.commit();
            equal(List.of("1", "3"), column(c, "select id from item order by id"));
            execute(c, "drop table item");
            c.commit();
        }
    }

    static void inTransaction(Connection c, Check check) throws Exception {
        c.setAutoCommit(false);
        check.run();
        c.commit();
        c.setAutoCommit(true);
    }

    static void prepared() throws Exception {
        Set<Integer> pids = new HashSet<>();
        try (Connection a = acme(); Connection b = acme()) {
            for (int round = 0; round < 60; round++) {
                int i = round;
                Connection x = i % 2 == 0 ? a : b, y = i % 2 == 0 ? b : a;
                inTransaction(x, () -> {
                    askPrepared(x, i, pids);
                    askPrepared(y, i, pids);
                });
                if (i % 3 == 0) askPrepared(x, i, pids);
            }
        }
        if (pids.size() < 2) throw new AssertionError("only one server connection was used");
    }

    static void askPrepared(Connection c, int i, Set<Integer> pids) throws SQLException {
        String sql = "select name, ?::int + " + i % 5 + ", pg_backend_pid() from who where name = ?";
        try (PreparedStatement s = c.prepareStatement(sql)) {
            s.setInt(1, i);
            s.setString(2, "acme");
            ResultSet row = s.executeQuery();
            row.next();
            equal("acme", row.getString(1));
            equal(i + i % 5, row.getInt(2));
            pids.add(row.getInt(3));
        }
    }

    static void batch() throws Exception {
        try (Connection c = acme()) {
            execute(c, "drop table if exists item");
            execute(c, "create table item (id int, at serial)");
            try (PreparedStatement s = c.prepareStatement("insert into item values (?)")) {
                for (int n = 0; n < 100; n++) {
                    s.setInt(1, n);
                    s.addBatch();
                }
                equal(100, IntStream.of(s.executeBatch()).sum());
            }
            equal(IntStream.range(0, 100).mapToObj(String::valueOf).toList(), column(c, "select id from item order by at"));
            try (PreparedStatement s = c.prepareStatement("insert into item values (1 / ?)")) {
                for (int divisor : new int[] {1, 0, 1}) {
                    s.setInt(1, divisor);
                    s.addBatch();
                }
                fails("22012", s::executeBatch);
            }
            usable(c, "acme");
            execute(c, "drop table item");
        }
    }

    static CopyManager copy(Connection c) throws SQLException {
        return c.unwrap(PGConnection.class).getCopyAPI();
    }

    static void copyIn() throws Exception {
        try (Connection c = acme()) {
            item(c);
            StringBuilder lines = new StringBuilder();
            for (int n = 0; n < 10_000; n++) lines.append(n).append('\n');
            equal(10_000L, copy(c).copyIn("copy item from stdin", new StringReader(lines.toString())));
            equal("10000 49995000", value(c, "select count(*) || ' ' || sum(id) from item"));
            execute(c, "drop table item");
        }
    }

    static void copyOut() throws Exception {
        try (Connection c = acme()) {
            StringWriter out = new StringWriter();
            copy(c).copyOut("copy (select n, name from who, generate_series(1, 10000) n) to stdout", out);
            StringBuilder want = new StringBuilder();
            for (int n = 1; n <= 10_000; n++) want.append(n).append("\tacme\n");
            equal(want.toString(), out.toString());
        }
    }

    static void copyInAborted() throws Exception {
        try (Connection c = acme()) {
            item(c);
            CopyIn givenUp = copy(c).copyIn("copy item from stdin");
            givenUp.writeToCopy("1\n".getBytes(StandardCharsets.US_ASCII), 0, 2);
            givenUp.cancelCopy(); // the driver expects the 57014 and hides it
            fails("22P02", () -> copy(c).copyIn("copy item from stdin", new StringReader("1\nx\n")));
            usable(c, "acme");
            equal("0", count(c));
            execute(c, "drop table item");
        }
    }

    static void cursor() throws Exception {
        try (Connection a = acme(); Connection b = acme()) {
            a.setAutoCommit(false); // without a transaction the fetch size is ignored
            try (PreparedStatement s = a.prepareStatement("select n from generate_series(1, ?) n")) {
                s.setInt(1, 1000);
                s.setFetchSize(100);
                ResultSet rows = s.executeQuery();
                int n = 0;
                while (rows.next()) {
                    equal(++n, rows.getInt(1));
                    if (n % 100 == 0) usable(b, "acme");
                }
                equal(1000, n);
            }
            a.commit();
        }
    }

    static void cancel() throws Exception {
        String asleep = "select 'asleep' from pg_stat_activity where state = 'active' and query = 'select pg_sleep(10)'";
        try (Connection c = acme(); Connection watch = acme(); Statement s = c.createStatement()) {
            long begun = System.nanoTime();
            new Thread(() -> {
                try {
                    while (column(watch, asleep).isEmpty()) Thread.sleep(10);
                    s.cancel();
                } catch (SQLException | InterruptedException e) {
                    throw new IllegalStateException(e);
                }
            }).start();
            fails("57014", () -> s.execute("select pg_sleep(10)"));
            if (System.nanoTime() - begun > 5_000_000_000L) throw new AssertionError("too late");
            usable(c, "acme");
            s.setQueryTimeout(1); // a cancel by the driver's own clock
            fails("57014", () -> s.execute("select pg_sleep(10)"));
            usable(c, "acme");
        }
    }

    static void notifies() throws Exception {
        try (Connection a = acme(); Connection b = acme()) {
            execute(a, "listen news");
            PGConnection listener = a.unwrap(PGConnection.class);
            b.setAutoCommit(false);
            execute(b, "select pg_notify('news', 'hello')");
            if (listener.getNotifications(200).length > 0) throw new AssertionError("before the commit");
            b.commit();
            var got = listener.getNotifications(5000);
            equal(1, got.length);
            equal("news hello", got[0].getName() + " " + got[0].getParameter());
        }
    }

    static void large() throws Exception {
        String text = "0123456789abcdef".repeat((20 << 20) / 16);
        try (Connection c = acme()) {
            if (!value(c, "select ?::text", text).equals(text)) throw new AssertionError("it came back changed");
            usable(c, "acme");
        }
    }

    static void types() throws Exception {
        String sql = "select ?::int8, ?::numeric, ?::text, ?::bytea, ?::timestamptz, ?::jsonb, ?::int[], ?::bool, ?::uuid, ?::date";
        byte[] bytes = new byte[256];
        for (int i = 0; i < 256; i++) bytes[i] = (byte) i;
        BigDecimal numeric = new BigDecimal("12345678901234567890.000123");
        String text = "žluťoučký 🐘 'quoted' \\";
        OffsetDateTime time = OffsetDateTime.parse("2026-01-02T03:04:05.678901Z");
        UUID uuid = UUID.fromString("6b1f0e0c-5f5e-4f43-9d4e-0a2b4c6d8e0f");
        try (Connection c = acme(); PreparedStatement s = c.prepareStatement(sql)) {
            for (int round = 0; round < 8; round++) { // text at first, binary once the driver has named the statement
                s.setLong(1, -(1L << 62));
                s.setBigDecimal(2, numeric);
                s.setString(3, text);
                s.setBytes(4, bytes);
                s.setObject(5, time);
                s.setObject(6, "{\"a\": [1, null, \"ß\"]}", Types.OTHER);
                s.setArray(7, c.createArrayOf("int4", new Integer[] {1, null, 3}));
                s.setBoolean(8, true);
                s.setObject(9, uuid);
                s.setNull(10, Types.DATE);
                ResultSet row = s.executeQuery();
                row.next();
                equal(-(1L << 62), row.getLong(1));
                equal(numeric, row.getBigDecimal(2));
                equal(text, row.getString(3));
                equal(new String(bytes, StandardCharsets.ISO_8859_1), new String(row.getBytes(4), StandardCharsets.ISO_8859_1));
                equal(time.toInstant(), row.getObject(5, OffsetDateTime.class).toInstant());
                equal("{\"a\": [1, null, \"ß\"]}", row.getString(6));
                Array array = row.getArray(7);
                equal("[1, null, 3]", java.util.Arrays.toString((Integer[]) array.getArray()));
                equal(true, row.getBoolean(8));
                equal(uuid, row.getObject(9));
                if (row.getDate(10) != null) throw new AssertionError("not null");
            }
        }
    }

    static void poolReset() throws Exception {
        PGConnectionPoolDataSource source = new PGConnectionPoolDataSource();
        source.setURL(url(HOST, USER + ".acme", DATABASE, ""));
        var pooled = source.getPooledConnection();
        String before;
        try (Connection c = pooled.getConnection()) {
            before = value(c, "show statement_timeout");
        }
        for (int i = 0; i < 8; i++) {
            try (Connection c = pooled.getConnection()) {
                execute(c, "set statement_timeout = '12345ms'");
                equal("12345ms", value(c, "show statement_timeout"));
                execute(c, "discard all"); // closing sends nothing but a rollback
            }
            try (Connection c = pooled.getConnection()) {
                equal(before, value(c, "show statement_timeout"));
                usable(c, "acme");
            }
        }
        pooled.close();
    }

    static void sessionState() throws Exception {
        try (Connection a = acme(); Connection b = acme()) {
            String path = value(b, "show search_path");
            execute(a, "set statement_timeout = '12345ms'");
            execute(a, "set search_path = pg_catalog, pg_temp");
            execute(b, "set statement_timeout = '23456ms'");
            for (int i = 0; i < 10; i++) {
                inTransaction(a, () -> equal("12345ms", value(a, "show statement_timeout")));
                equal("pg_catalog, pg_temp", value(a, "show search_path"));
                inTransaction(b, () -> equal("23456ms", value(b, "show statement_timeout")));
                equal(path, value(b, "show search_path"));
            }
            usable(b, "acme");
        }
    }

    static void twoTenants() throws Exception {
        try (Connection acme = tenant("acme"); Connection umbra = tenant("umbra")) {
            for (int round = 0; round < 100; round++) {
                int i = round;
                boolean first = i % 2 == 0;
                Connection x = first ? acme : umbra, y = first ? umbra : acme;
                inTransaction(x, () -> {
                    askTenant(x, first ? "acme" : "umbra", i);
                    askTenant(y, first ? "umbra" : "acme", i);
                });
                if (i % 3 == 0) askTenant(x, first ? "acme" : "umbra", i);
            }
        }
    }

    static void askTenant(Connection c, String tenant, int i) throws SQLException {
        String sql = "select name || ' ' || ?::int + " + i % 3 + " from who, generate_series(1, 3)";
        String row = tenant + " " + (i + i % 3);
        equal(List.of(row, row, row), column(c, sql, i));
    }

    static void sixteenClients() throws Exception {
        String[] tenants = {"acme", "umbra"};
        AtomicInteger altering = new AtomicInteger(tenants.length);
        Set<Integer> pids = ConcurrentHashMap.newKeySet();
        List<Callable<Void>> acts = new ArrayList<>();
        try (Connection acme = tenant("acme"); Connection umbra = tenant("umbra")) {
            Connection[] owners = {acme, umbra};
            for (int i = 0; i < 2; i++) {
                Connection c = owners[i];
                execute(c, "drop table if exists crowd");
                execute(c, "create table crowd (tenant text, id int, n int)");
                execute(c, "insert into crowd select '" + tenants[i] + "', id, 0 from generate_series(0, 15) id");
                acts.add(() -> {
                    for (int round = 0; round < 20; round++) {
                        execute(c, "alter table crowd add column extra int");
                        execute(c, "alter table crowd drop column extra");
                    }
                    altering.decrementAndGet();
                    return null;
                });
            }
            for (int client = 0; client < 16; client++) {
                int id = client;
                acts.add(() -> {
                    oneOfSixteen(tenants[id % 2], id, altering, pids);
                    return null;
                });
            }
            ExecutorService threads = Executors.newFixedThreadPool(acts.size());
            try {
                for (Future<Void> act : threads.invokeAll(acts)) act.get();
            } finally {
                threads.shutdownNow();
            }
            for (Connection c : owners) execute(c, "drop table crowd");
        }
        if (pids.size() < 2) throw new AssertionError("only one server connection was used");
    }

    static void oneOfSixteen(String tenant, int id, AtomicInteger altering, Set<Integer> pids) throws Exception {
        try (Connection c = tenant(tenant)) {
            for (int round = 0; round < 20 || altering.get() > 0; round++) {
                int i = round;
                readCrowd(c, tenant, i, pids);
                inTransaction(c, () -> {
                    readCrowd(c, tenant, i, pids);
                    readCrowd(c, tenant, i + 1, pids);
                });
                inTransaction(c, () -> {
                    for (int n : new int[] {2 * i + 1, 2 * i + 2}) {
                        equal(tenant + " " + n, value(c, "update crowd set n = n + 1 where id = ? returning tenant || ' ' || n", id));
                    }
                });
            }
        }
    }

    static void readCrowd(Connection c, String tenant, int i, Set<Integer> pids) throws SQLException {
        String sql = "select tenant || ' ' || ?::int + " + i % 3 + ", pg_backend_pid() from crowd";
        try (PreparedStatement s = c.prepareStatement(sql)) {
            s.setInt(1, i);
            ResultSet rows = s.executeQuery();
            int count = 0;
            for (; rows.next(); count++) {
                equal(tenant + " " + (i + i % 3), rows.getString(1));
                pids.add(rows.getInt(2));
            }
            equal(16, count);
        }
    }

    public static void main(String[] arguments) {
        System.out.println("TAP version 13\n1..24");
        check("connect-options", () -> connects(url(HOST, USER, DATABASE, "&options=-c%20app.tenant%3Dacme"), "acme"));
        check("connect-user", () -> {
            connects(url(HOST, USER + ".acme", DATABASE, ""), "acme");
            connects(url(HOST, USER + ".umbra", DATABASE, ""), "umbra");
        });
        check("connect-database", () -> connects(url(HOST, USER, "acme", ""), "acme"));
        check("connect-database-at", () -> connects(url(HOST, USER, DATABASE + "%40acme", ""), "acme"));
        check("connect-sni", () -> connects(url("acme.db.localhost", USER, DATABASE, VERIFIED), "acme"));
        check("tls", Test::tls);
        check("autocommit", Test::autocommit);
        check("transaction", Test::transaction);
        check("transaction-error", Test::transactionError);
        check("savepoint", Test::savepoint);
        check("prepared", Test::prepared);
        check("batch", Test::batch);
        check("copy-in", Test::copyIn);
        check("copy-out", Test::copyOut);
        check("copy-in-aborted", Test::copyInAborted);
        check("cursor", Test::cursor);
        check("cancel", Test::cancel);
        check("notify", Test::notifies);
        check("large", Test::large);
        check("types", Test::types);
        check("pool-reset", Test::poolReset);
        check("session-state", Test::sessionState);
        check("two-tenants", Test::twoTenants);
        check("sixteen-clients", Test::sixteenClients);
        System.exit(failed ? 1 : 0);
    }
}
