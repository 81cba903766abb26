// lib/pq through database/sql: what has parameters is parsed without a name in one round trip and bound in the next.
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lib/pq"

	tap "../go-tap"
)

// ctx ends with its check: a transaction that the check left open is rolled back.
var ctx, stop = context.WithCancel(context.Background())

// dialer leads every host's name to the server.
type dialer struct{}

func (dialer) Dial(network, _ string) (net.Conn, error) {
	return net.Dial(network, tap.Host+":"+tap.Port)
}

func (dialer) DialTimeout(network, _ string, timeout time.Duration) (net.Conn, error) {
	return net.DialTimeout(network, tap.Host+":"+tap.Port, timeout)
}

func pool(url string) *sql.DB {
	connector, err := pq.NewConnector(url)
	tap.Must(err)
	connector.Dialer(dialer{})
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(1)
	return db
}

// tenant is a pool of one connection, so one session of that tenant.
func tenant(name string) *sql.DB {
	return pool(tap.URL(tap.Host, name, "user"))
}

// queryer is a pool, a connection or a transaction.
type queryer interface {
	QueryContext(context.Context, string, ...interface{}) (*sql.Rows, error)
	ExecContext(context.Context, string, ...interface{}) (sql.Result, error)
}

func exec(q queryer, text string, values ...interface{}) {
	_, err := q.ExecContext(ctx, text, values...)
	tap.Must(err)
}

// column is the first column of every row, as text.
func column(q queryer, text string, values ...interface{}) ([]string, error) {
	rows, err := q.QueryContext(ctx, text, values...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var got []string
	for rows.Next() {
		var one string
		if err := rows.Scan(&one); err != nil {
			return nil, err
		}
		got = append(got, one)
	}
	return got, rows.Err()
}

func value(q queryer, text string, values ...interface{}) string {
	got, err := column(q, text, values...)
	tap.Must(err)
	return got[0]
}

func usable(q queryer, name string) {
	got, err := column(q, "select name from who")
	tap.Must(err)
	tap.Equal([]string{name}, got)
}

func fails(sqlstate string, err error) {
	var of *pq.Error
	if !errors.As(err, &of) {
		panic(fmt.Sprintf("%v instead of %s", err, sqlstate))
	}
	tap.Equal(sqlstate, string(of.Code))
}

func failing(q queryer, sqlstate, text string, values ...interface{}) {
	_, err := column(q, text, values...)
	fails(sqlstate, err)
}

func item(q queryer) {
	exec(q, "drop table if exists item")
	exec(q, "create table item (id int primary key)")
}

func crowd(q queryer, name string) {
	exec(q, "drop table if exists crowd")
	exec(q, "create table crowd (tenant text, id int, n int)")
	exec(q, "insert into crowd select $1, id, 0 from generate_series(0, 15) id", name)
}

func begin(db *sql.DB) *sql.Tx {
	tx, err := db.BeginTx(ctx, nil)
	tap.Must(err)
	return tx
}

func connects(url string, name string) {
	db := pool(url)
	defer db.Close()
	usable(db, name)
}

func by(way string) func() {
	return func() { connects(tap.URL(tap.Host, "acme", way), "acme") }
}

func connectUser() {
	connects(tap.URL(tap.Host, "acme", "user"), "acme")
	connects(tap.URL(tap.Host, "umbra", "user"), "umbra")
}

func verified(host, way string) string {
	return tap.URL(host, "acme", way, "sslmode", "verify-full", "sslrootcert", tap.CA)
}

func connectSNI() {
	connects(verified("acme.db.localhost", ""), "acme")
}

func tls() {
	connects(verified("localhost", "user"), "acme")
	db := pool(verified("other.example", "user"))
	defer db.Close()
	if err := db.Ping(); err == nil || !strings.Contains(err.Error(), "not other.example") {
		panic(fmt.Sprintf("the name in the certificate was not checked: %v", err))
	}
}

// with runs with a session of each tenant.
func with(x, y string, run func(a, b *sql.DB)) func() {
	return func() {
		a, b := tenant(x), tenant(y)
		defer a.Close()
		defer b.Close()
		ctx, stop = context.WithCancel(context.Background())
		defer stop()
		run(a, b)
	}
}

func two(run func(a, b *sql.DB)) func() {
	return with("acme", "acme", run)
}

func one(run func(c *sql.DB)) func() {
	return two(func(c, _ *sql.DB) { run(c) }) // a pool that is not used opens nothing
}

func autocommit(a, b *sql.DB) {
	item(a)
	exec(a, "insert into item values ($1)", 1)
	tap.Equal("1", value(b, "select count(*) from item"))
	exec(a, "drop table item")
}

func transaction(a, b *sql.DB) {
	item(a)
	tx := begin(a)
	exec(tx, "insert into item values ($1)", 1)
	tap.Equal("0", value(b, "select count(*) from item"))
	tap.Must(tx.Commit())
	tap.Equal("1", value(b, "select count(*) from item"))
	tx = begin(a)
	exec(tx, "insert into item values ($1)", 2)
	tap.Must(tx.Rollback())
	tap.Equal("1", value(b, "select string_agg(id::text, ' ') from item"))
	exec(a, "drop table item")
}

func transactionError(c *sql.DB) {
	item(c)
	tx := begin(c)
	exec(tx, "insert into item values (1)")
	failing(tx, "22012", "select 1 / $1::int", 0)
	failing(tx, "25P02", "select 1")
	tap.Must(tx.Rollback())
	usable(c, "acme")
	tap.Equal("0", value(c, "select count(*) from item"))
	exec(c, "drop table item")
}

func savepoint(c *sql.DB) {
	item(c)
	tx := begin(c)
	exec(tx, "insert into item values (1)")
	exec(tx, "savepoint here")
	exec(tx, "insert into item values (2)")
	failing(tx, "23505", "insert into item values ($1)", 1)
	exec(tx, "rollback to here")
	exec(tx, "insert into item values (3)")
	tap.Must(tx.Commit())
	tap.Equal("1 3", value(c, "select string_agg(id::text, ' ' order by id) from item"))
	exec(c, "drop table item")
}

// Statements without a name, as database/sql runs them by default, and then named ones of db.Prepare.
func prepared(a, b *sql.DB) {
	pids := map[int]bool{}
	text := func(kind int) string {
		return fmt.Sprintf("select name, $1::int + %d, pg_backend_pid() from who where name = $2", kind)
	}
	check := func(row *sql.Row, i int) {
		var name string
		var number, pid int
		tap.Must(row.Scan(&name, &number, &pid))
		tap.Equal("acme", name)
		tap.Equal(i+i%5, number)
		pids[pid] = true
	}
	sessions := []*sql.DB{a, b}
	for i := 0; i < 60; i++ {
		first, again := tap.Overlap(i)
		x, y := sessions[first], sessions[1-first]
		tx := begin(x)
		check(tx.QueryRow(text(i%5), i, "acme"), i)
		check(y.QueryRow(text(i%5), i, "acme"), i)
		tap.Must(tx.Commit())
		if again {
			check(x.QueryRow(text(i%5), i, "acme"), i)
		}
	}
	named := map[*sql.DB][]*sql.Stmt{}
	for _, db := range sessions {
		for kind := 0; kind < 5; kind++ {
			statement, err := db.Prepare(text(kind))
			tap.Must(err)
			named[db] = append(named[db], statement)
		}
	}
	for i := 0; i < 60; i++ {
		first, again := tap.Overlap(i)
		x, y := sessions[first], sessions[1-first]
		tx := begin(x)
		check(tx.Stmt(named[x][i%5]).QueryRow(i, "acme"), i)
		check(named[y][i%5].QueryRow(i, "acme"), i)
		tap.Must(tx.Commit())
		if again {
			check(named[x][i%5].QueryRow(i, "acme"), i)
		}
	}
	if len(pids) < 2 {
		panic("only one server connection was used")
	}
}

// The driver has no batches but many statements in one simple query.
func batch(c *sql.DB) {
	var text strings.Builder
	for n := 0; n < 100; n++ {
		fmt.Fprintf(&text, "select %d;", n)
	}
	rows, err := c.Query(text.String())
	tap.Must(err)
	for n := 0; n < 100; n++ {
		if !rows.Next() {
			panic(fmt.Sprintf("no row %d: %v", n, rows.Err()))
		}
		var got int
		tap.Must(rows.Scan(&got))
		tap.Equal(n, got)
		tap.Equal(false, rows.Next())
		tap.Equal(n < 99, rows.NextResultSet())
	}
	tap.Must(rows.Close())
	_, err = c.Exec("select 1; select 1/0; select 2")
	fails("22012", err)
	usable(c, "acme")
}

func copyIn(c *sql.DB) {
	item(c)
	tx := begin(c)
	statement, err := tx.Prepare(pq.CopyIn("item", "id"))
	tap.Must(err)
	for n := 0; n < 10000; n++ {
		_, err := statement.Exec(n)
		tap.Must(err)
	}
	_, err = statement.Exec()
	tap.Must(err)
	tap.Must(statement.Close())
	tap.Must(tx.Commit())
	tap.Equal("10000 49995000", value(c, "select count(*) || ' ' || sum(id) from item"))
	exec(c, "drop table item")
}

func copyOut() {
	panic(tap.Skip("lib/pq has no COPY TO STDOUT"))
}

// lib/pq cannot give a COPY up: closing its statement completes it.
func copyInAborted(c *sql.DB) {
	item(c)
	tx := begin(c)
	statement, err := tx.Prepare(pq.CopyIn("item", "id"))
	tap.Must(err)
	_, err = statement.Exec("1")
	tap.Must(err)
	_, err = statement.Exec("x")
	tap.Must(err)
	_, err = statement.Exec()
	fails("22P02", err)
	statement.Close() // tells of the same error again
	tap.Must(tx.Rollback())
	usable(c, "acme")
	tap.Equal("0", value(c, "select count(*) from item"))
	exec(c, "drop table item")
}

func cursor(a, b *sql.DB) {
	tx := begin(a)
	exec(tx, "declare numbers cursor for select n from generate_series(1, 1000) n")
	for from := 1; from <= 1000; from += 100 {
		piece, err := column(tx, "fetch 100 from numbers")
		tap.Must(err)
		tap.Equal(100, len(piece))
		for i, n := range piece {
			tap.Equal(fmt.Sprint(from+i), n)
		}
		usable(b, "acme")
	}
	rest, err := column(tx, "fetch 100 from numbers")
	tap.Must(err)
	tap.Equal(0, len(rest))
	tap.Must(tx.Commit())
}

// After a cancel the driver throws the connection away: what is usable is the pool.
func cancel(c, watch *sql.DB) {
	soon, stop := context.WithCancel(ctx)
	go func() {
		defer stop()
		for got, err := column(watch, tap.Asleep); len(got) == 0 && err == nil; got, err = column(watch, tap.Asleep) {
			time.Sleep(10 * time.Millisecond) // between two looks
		}
	}()
	begun := time.Now()
	_, err := c.ExecContext(soon, "select pg_sleep(10)")
	fails("57014", err)
	if time.Since(begun) > 5*time.Second {
		panic("too late")
	}
	usable(c, "acme")
}

func notify(b *sql.DB) {
	url := tap.URL(tap.Host, "acme", "user")
	listener := pq.NewDialListener(dialer{}, url, time.Second, time.Second, nil)
	defer listener.Close()
	tap.Must(listener.Listen("news"))
	tx := begin(b)
	exec(tx, "select pg_notify('news', 'hello')")
	select {
	case <-listener.Notify:
		panic("before the commit")
	case <-time.After(200 * time.Millisecond):
	}
	tap.Must(tx.Commit())
	select {
	case got := <-listener.Notify:
		tap.Equal([]string{"news", "hello"}, []string{got.Channel, got.Extra})
	case <-time.After(5 * time.Second):
		panic("no notification")
	}
}

func large(c *sql.DB) {
	text := strings.Repeat("0123456789abcdef", 20<<20>>4)
	if value(c, "select $1::text", text) != text {
		panic("it came back changed")
	}
	usable(c, "acme")
}

func types(c *sql.DB) {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC)
	numbers := []sql.NullInt64{{Int64: 1, Valid: true}, {}, {Int64: 3, Valid: true}}
	const (
		integer = int64(-1) << 62
		numeric = "12345678901234567890.000123"
		unicode = "žluťoučký 🐘 'quoted' \\"
		json    = `{"a": [1, null, "ß"]}`
		uuid    = "6b1f0e0c-5f5e-4f43-9d4e-0a2b4c6d8e0f"
	)
	row := c.QueryRow("select $1::int8, $2::numeric, $3::text, $4::bytea, $5::timestamptz, $6::jsonb, $7::int[], $8::bool, $9::uuid, $10::date",
		integer, numeric, unicode, all, at, json, pq.Array(numbers), true, uuid, nil)
	var gotInteger int64
	var gotNumeric, gotText, gotJSON, gotUUID string
	var gotBytes []byte
	var gotTime time.Time
	var gotNumbers []sql.NullInt64
	var gotBool bool
	var gotNull *time.Time
	tap.Must(row.Scan(&gotInteger, &gotNumeric, &gotText, &gotBytes, &gotTime, &gotJSON, pq.Array(&gotNumbers), &gotBool, &gotUUID, &gotNull))
	tap.Equal(integer, gotInteger)
	tap.Equal([]string{numeric, unicode, json, uuid}, []string{gotNumeric, gotText, gotJSON, gotUUID})
	tap.Equal(all, gotBytes)
	tap.Equal(at, gotTime.UTC())
	tap.Equal(numbers, gotNumbers)
	tap.Equal(true, gotBool)
	tap.Equal((*time.Time)(nil), gotNull)
}

func poolReset(db *sql.DB) {
	borrowed := func(work func(c *sql.Conn)) {
		c, err := db.Conn(ctx)
		tap.Must(err)
		defer c.Close()
		work(c)
		exec(c, "discard all") // the pool sends nothing of its own
	}
	var before string
	borrowed(func(c *sql.Conn) { before = value(c, "show statement_timeout") })
	for i := 0; i < 3; i++ {
		borrowed(func(c *sql.Conn) {
			exec(c, "set statement_timeout = '12345ms'")
			tap.Equal("12345ms", value(c, "show statement_timeout"))
		})
		borrowed(func(c *sql.Conn) {
			tap.Equal(before, value(c, "show statement_timeout"))
			usable(c, "acme")
		})
	}
}

func sessionState(a, b *sql.DB) {
	path := value(b, "show search_path")
	exec(a, "set statement_timeout = '12345ms'")
	exec(a, "set search_path = pg_catalog, pg_temp")
	exec(b, "set statement_timeout = '23456ms'")
	keeps := func(db *sql.DB, timeout, where string) {
		tx := begin(db)
		tap.Equal(timeout, value(tx, "show statement_timeout"))
		tap.Must(tx.Commit())
		tap.Equal(where, value(db, "show search_path"))
	}
	for i := 0; i < 10; i++ {
		keeps(a, "12345ms", "pg_catalog, pg_temp")
		keeps(b, "23456ms", path)
	}
	usable(b, "acme")
}

func twoTenants(acme, umbra *sql.DB) {
	names, sessions := []string{"acme", "umbra"}, []*sql.DB{acme, umbra}
	ask := func(q queryer, who, i int) {
		text := fmt.Sprintf("select name || ' ' || $1::int + %d from who, generate_series(1, 3)", i%3)
		got, err := column(q, text, i)
		tap.Must(err)
		row := fmt.Sprintf("%s %d", names[who], i+i%3)
		tap.Equal([]string{row, row, row}, got)
	}
	for i := 0; i < 100; i++ {
		first, again := tap.Overlap(i)
		tx := begin(sessions[first])
		ask(tx, first, i)
		ask(sessions[1-first], 1-first, i)
		tap.Must(tx.Commit())
		if again {
			ask(sessions[first], first, i)
		}
	}
}

// What they read has no name, as database/sql runs it by default; what they update is a named statement of db.Prepare.
func sixteenClients(acme, umbra *sql.DB) {
	names := []string{"acme", "umbra"}
	altering := int32(len(names))
	var lock sync.Mutex
	pids := map[int]bool{}
	read := func(q queryer, name string, i int) {
		rows, err := q.QueryContext(ctx, fmt.Sprintf("select tenant, $1::int + %d, pg_backend_pid() from crowd", i%3), i)
		tap.Must(err)
		defer rows.Close()
		count := 0
		for ; rows.Next(); count++ {
			var tenant string
			var number, pid int
			tap.Must(rows.Scan(&tenant, &number, &pid))
			tap.Equal(name, tenant)
			tap.Equal(i+i%3, number)
			lock.Lock()
			pids[pid] = true
			lock.Unlock()
		}
		tap.Must(rows.Err())
		tap.Equal(16, count)
	}
	inTransaction := func(db *sql.DB, run func(tx *sql.Tx)) {
		tx := begin(db)
		defer tx.Rollback() // if it panics
		run(tx)
		tap.Must(tx.Commit())
	}
	client := func(db *sql.DB, name string, id int) {
		update, err := db.Prepare("update crowd set n = n + 1 where id = $1 returning tenant || ' ' || n")
		tap.Must(err)
		for i := 0; i < 20 || atomic.LoadInt32(&altering) > 0; i++ {
			read(db, name, i)
			inTransaction(db, func(tx *sql.Tx) {
				read(tx, name, i)
				read(tx, name, i+1)
			})
			inTransaction(db, func(tx *sql.Tx) {
				for n := 2*i + 1; n <= 2*i+2; n++ {
					var got string
					tap.Must(tx.Stmt(update).QueryRow(id).Scan(&got))
					tap.Equal(fmt.Sprintf("%s %d", name, n), got)
				}
			})
		}
	}
	alterer := func(db *sql.DB) {
		defer atomic.AddInt32(&altering, -1)
		for i := 0; i < 20; i++ {
			exec(db, "alter table crowd add column extra int")
			exec(db, "alter table crowd drop column extra")
		}
	}

	var acts []func()
	owners := []*sql.DB{acme, umbra}
	for i, db := range owners {
		db := db
		crowd(db, names[i])
		acts = append(acts, func() { alterer(db) })
	}
	for id := 0; id < 16; id++ {
		name, id := names[id%2], id
		db := tenant(name)
		defer db.Close()
		tap.Must(db.Ping())
		acts = append(acts, func() { client(db, name, id) })
	}
	tap.Together(acts...)
	for _, db := range owners {
		exec(db, "drop table crowd")
	}
	if len(pids) < 2 {
		panic("only one server connection was used")
	}
}

func main() {
	tap.Run([]tap.Check{
		{"connect-options", by("options")},
		{"connect-user", connectUser},
		{"connect-database", by("database")},
		{"connect-database-at", by("database-at")},
		{"connect-sni", connectSNI},
		{"tls", tls},
		{"autocommit", two(autocommit)},
		{"transaction", two(transaction)},
		{"transaction-error", one(transactionError)},
		{"savepoint", one(savepoint)},
		{"prepared", two(prepared)},
		{"batch", one(batch)},
		{"copy-in", one(copyIn)},
		{"copy-out", copyOut},
		{"copy-in-aborted", one(copyInAborted)},
		{"cursor", two(cursor)},
		{"cancel", two(cancel)},
		{"notify", one(notify)},
		{"large", one(large)},
		{"types", one(types)},
		{"pool-reset", one(poolReset)},
		{"session-state", two(sessionState)},
		{"two-tenants", with("acme", "umbra", twoTenants)},
		{"sixteen-clients", with("acme", "umbra", sixteenClients)},
	})
}
