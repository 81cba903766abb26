// pgx, with the cache of named prepared statements that it has by default, and pgxpool.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgconn"
	"github.com/jackc/pgtype"
	"github.com/jackc/pgx/v4"
	"github.com/jackc/pgx/v4/pgxpool"

	tap "../go-tap"
)

var ctx = context.Background()

func open(url string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(url)
	tap.Must(err)
	// Every host's name leads to the server.
	config.LookupFunc = func(context.Context, string) ([]string, error) { return []string{tap.Host}, nil }
	return pgx.ConnectConfig(ctx, config)
}

func tenant(name string) *pgx.Conn {
	c, err := open(tap.URL(tap.Host, name, "user"))
	tap.Must(err)
	return c
}

// queryer is a connection or a transaction.
type queryer interface {
	Query(context.Context, string, ...interface{}) (pgx.Rows, error)
	QueryRow(context.Context, string, ...interface{}) pgx.Row
	Exec(context.Context, string, ...interface{}) (pgconn.CommandTag, error)
}

func exec(q queryer, text string, values ...interface{}) {
	_, err := q.Exec(ctx, text, values...)
	tap.Must(err)
}

// column is the first column of every row; all are texts.
func column(q queryer, text string, values ...interface{}) ([]string, error) {
	rows, err := q.Query(ctx, text, values...)
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

func count(q queryer) string {
	return value(q, "select count(*)::text from item")
}

func usable(q queryer, name string) {
	got, err := column(q, "select name from who")
	tap.Must(err)
	tap.Equal([]string{name}, got)
}

func fails(sqlstate string, err error) {
	var of *pgconn.PgError
	if !errors.As(err, &of) {
		panic(fmt.Sprintf("%v instead of %s", err, sqlstate))
	}
	tap.Equal(sqlstate, of.Code)
}

func failing(q queryer, sqlstate, text string, values ...interface{}) {
	_, err := q.Exec(ctx, text, values...)
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

func begin(c *pgx.Conn) pgx.Tx {
	tx, err := c.Begin(ctx)
	tap.Must(err)
	return tx
}

func connects(url string, name string) {
	c, err := open(url)
	tap.Must(err)
	defer c.Close(ctx)
	usable(c, name)
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
	_, err := open(verified("other.example", "user"))
	if err == nil || !strings.Contains(err.Error(), "not other.example") {
		panic(fmt.Sprintf("the name in the certificate was not checked: %v", err))
	}
}

// two runs with two sessions of acme.
func two(run func(a, b *pgx.Conn)) func() {
	return func() {
		a, b := tenant("acme"), tenant("acme")
		defer a.Close(ctx)
		defer b.Close(ctx)
		run(a, b)
	}
}

func one(run func(c *pgx.Conn)) func() {
	return func() {
		c := tenant("acme")
		defer c.Close(ctx)
		run(c)
	}
}

func autocommit(a, b *pgx.Conn) {
	item(a)
	exec(a, "insert into item values ($1)", 1)
	tap.Equal("1", count(b))
	exec(a, "drop table item")
}

func transaction(a, b *pgx.Conn) {
	item(a)
	tx := begin(a)
	exec(tx, "insert into item values ($1)", 1)
	tap.Equal("0", count(b))
	tap.Must(tx.Commit(ctx))
	tap.Equal("1", count(b))
	tx = begin(a)
	exec(tx, "insert into item values ($1)", 2)
	tap.Must(tx.Rollback(ctx))
	tap.Equal("1", value(b, "select string_agg(id::text, ' ') from item"))
	exec(a, "drop table item")
}

func transactionError(c *pgx.Conn) {
	item(c)
	tx := begin(c)
	exec(tx, "insert into item values (1)")
	failing(tx, "22012", "select 1 / $1::int", 0)
	failing(tx, "25P02", "select 1")
	tap.Must(tx.Rollback(ctx))
	usable(c, "acme")
	tap.Equal("0", count(c))
	exec(c, "drop table item")
}

func savepoint(c *pgx.Conn) {
	item(c)
	tx := begin(c)
	exec(tx, "insert into item values (1)")
	inner, err := tx.Begin(ctx) // a savepoint
	tap.Must(err)
	exec(inner, "insert into item values (2)")
	failing(inner, "23505", "insert into item values ($1)", 1)
	tap.Must(inner.Rollback(ctx))
	exec(tx, "insert into item values (3)")
	tap.Must(tx.Commit(ctx))
	tap.Equal("1 3", value(c, "select string_agg(id::text, ' ' order by id) from item"))
	exec(c, "drop table item")
}

func prepared(a, b *pgx.Conn) {
	pids := map[int]bool{}
	ask := func(q queryer, i int) {
		text := fmt.Sprintf("select name, $1::int + %d, pg_backend_pid() from who where name = $2", i%5)
		var name string
		var number, pid int
		tap.Must(q.QueryRow(ctx, text, i, "acme").Scan(&name, &number, &pid))
		tap.Equal("acme", name)
		tap.Equal(i+i%5, number)
		pids[pid] = true
	}
	sessions := []*pgx.Conn{a, b}
	for i := 0; i < 60; i++ {
		first, again := tap.Overlap(i)
		x, y := sessions[first], sessions[1-first]
		tx := begin(x)
		ask(tx, i)
		ask(y, i)
		tap.Must(tx.Commit(ctx))
		if again {
			ask(x, i)
		}
	}
	if len(pids) < 2 {
		panic("only one server connection was used")
	}
}

func batch(c *pgx.Conn) {
	send := func(text string, values ...int) ([]int, error) {
		queue := &pgx.Batch{}
		for _, n := range values {
			queue.Queue(text, n)
		}
		results := c.SendBatch(ctx, queue)
		defer results.Close()
		var got []int
		for range values {
			var n int
			if err := results.QueryRow().Scan(&n); err != nil {
				return got, err
			}
			got = append(got, n)
		}
		return got, results.Close()
	}
	var numbers []int
	for n := 0; n < 100; n++ {
		numbers = append(numbers, n)
	}
	got, err := send("select $1::int", numbers...)
	tap.Must(err)
	tap.Equal(numbers, got)
	got, err = send("select 1 / $1::int", 1, 0, 1)
	tap.Equal([]int{1}, got)
	fails("22012", err)
	usable(c, "acme")
}

func copyIn(c *pgx.Conn) {
	item(c)
	rows := pgx.CopyFromSlice(10000, func(n int) ([]interface{}, error) { return []interface{}{n}, nil })
	done, err := c.CopyFrom(ctx, pgx.Identifier{"item"}, []string{"id"}, rows)
	tap.Must(err)
	tap.Equal(int64(10000), done)
	tap.Equal("10000 49995000", value(c, "select count(*) || ' ' || sum(id) from item"))
	exec(c, "drop table item")
}

func copyOut(c *pgx.Conn) {
	var got bytes.Buffer
	_, err := c.PgConn().CopyTo(ctx, &got, "copy (select n, name from who, generate_series(1, 10000) n) to stdout")
	tap.Must(err)
	var want strings.Builder
	for n := 1; n <= 10000; n++ {
		fmt.Fprintf(&want, "%d\tacme\n", n)
	}
	tap.Equal(want.String(), got.String())
}

func copyInAborted(c *pgx.Conn) {
	item(c)
	rows := pgx.CopyFromSlice(2, func(n int) ([]interface{}, error) {
		if n == 1 {
			return nil, errors.New("given up")
		}
		return []interface{}{n}, nil
	})
	_, err := c.CopyFrom(ctx, pgx.Identifier{"item"}, []string{"id"}, rows)
	fails("57014", err)
	_, err = c.PgConn().CopyFrom(ctx, strings.NewReader("1\nx\n"), "copy item from stdin")
	fails("22P02", err)
	usable(c, "acme")
	tap.Equal("0", count(c))
	exec(c, "drop table item")
}

// pgx reads portals to their end; a cursor is SQL's.
func cursor(a, b *pgx.Conn) {
	tx := begin(a)
	exec(tx, "declare numbers cursor for select n::text from generate_series(1, 1000) n")
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
	tap.Must(tx.Commit(ctx))
}

// A context that ends closes the connection, so this is the request itself.
func cancel(c, watch *pgx.Conn) {
	failed := make(chan error, 1)
	go func() {
		for got, err := column(watch, tap.Asleep); len(got) == 0 && err == nil; got, err = column(watch, tap.Asleep) {
			time.Sleep(10 * time.Millisecond) // between two looks
		}
		failed <- c.PgConn().CancelRequest(ctx)
	}()
	begun := time.Now()
	failing(c, "57014", "select pg_sleep(10)")
	if time.Since(begun) > 5*time.Second {
		panic("too late")
	}
	tap.Must(<-failed)
	usable(c, "acme")
}

func notify(a, b *pgx.Conn) {
	exec(a, "listen news")
	tx := begin(b)
	exec(tx, "select pg_notify('news', 'hello')")
	soon, stop := context.WithTimeout(ctx, 200*time.Millisecond)
	defer stop()
	if got, _ := a.WaitForNotification(soon); got != nil {
		panic("before the commit")
	}
	tap.Must(tx.Commit(ctx))
	later, stopLater := context.WithTimeout(ctx, 5*time.Second)
	defer stopLater()
	got, err := a.WaitForNotification(later)
	tap.Must(err)
	tap.Equal([]string{"news", "hello"}, []string{got.Channel, got.Payload})
}

func large(c *pgx.Conn) {
	text := strings.Repeat("0123456789abcdef", 20<<20>>4)
	if value(c, "select $1::text", text) != text {
		panic("it came back changed")
	}
	usable(c, "acme")
}

func types(c *pgx.Conn) {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	var numeric pgtype.Numeric
	tap.Must(numeric.Set("12345678901234567890.000123"))
	at := time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC)
	one, three := int32(1), int32(3)
	numbers := []*int32{&one, nil, &three}
	json := map[string]interface{}{"a": []interface{}{float64(1), nil, "ß"}}
	uuid := [16]byte{0x6b, 0x1f, 0x0e, 0x0c, 0x5f, 0x5e, 0x4f, 0x43, 0x9d, 0x4e, 0x0a, 0x2b, 0x4c, 0x6d, 0x8e, 0x0f}
	const integer, unicode = int64(-1) << 62, "žluťoučký 🐘 'quoted' \\"
	row := c.QueryRow(ctx, "select $1::int8, $2::numeric, $2::numeric::text, $3::text, $4::bytea, $5::timestamptz, $6::jsonb, $7::int[], $8::bool, $9::uuid, $10::date",
		integer, &numeric, unicode, all, at, json, numbers, true, uuid, nil)
	var gotInteger int64
	var gotNumeric pgtype.Numeric
	var gotNumericText, gotText string
	var gotBytes []byte
	var gotTime time.Time
	var gotJSON map[string]interface{}
	var gotNumbers []*int32
	var gotBool bool
	var gotUUID [16]byte
	var gotNull *time.Time
	tap.Must(row.Scan(&gotInteger, &gotNumeric, &gotNumericText, &gotText, &gotBytes, &gotTime, &gotJSON, &gotNumbers, &gotBool, &gotUUID, &gotNull))
	tap.Equal(integer, gotInteger)
	tap.Equal(numeric, gotNumeric)
	tap.Equal("12345678901234567890.000123", gotNumericText)
	tap.Equal(unicode, gotText)
	tap.Equal(all, gotBytes)
	tap.Equal(at, gotTime.UTC())
	tap.Equal(json, gotJSON)
	tap.Equal(numbers, gotNumbers)
	tap.Equal(true, gotBool)
	tap.Equal(uuid, gotUUID)
	tap.Equal((*time.Time)(nil), gotNull)
}

func poolReset() {
	config, err := pgxpool.ParseConfig(tap.URL(tap.Host, "acme", "user"))
	tap.Must(err)
	config.MaxConns = 1
	// The pool sends nothing of its own; a DISCARD ALL would take away the statements that the driver thinks are there.
	config.AfterRelease = func(c *pgx.Conn) bool {
		_, err := c.Exec(ctx, "reset all")
		return err == nil
	}
	pool, err := pgxpool.ConnectConfig(ctx, config)
	tap.Must(err)
	defer pool.Close()
	var same *pgx.Conn
	borrowed := func(work func(c *pgxpool.Conn)) {
		c, err := pool.Acquire(ctx)
		tap.Must(err)
		defer c.Release()
		if same == nil {
			same = c.Conn()
		}
		tap.Equal(true, c.Conn() == same)
		work(c)
	}
	var before string
	borrowed(func(c *pgxpool.Conn) { before = value(c, "show statement_timeout") })
	for i := 0; i < 3; i++ {
		borrowed(func(c *pgxpool.Conn) {
			exec(c, "set statement_timeout = '12345ms'")
			tap.Equal("12345ms", value(c, "show statement_timeout"))
		})
		borrowed(func(c *pgxpool.Conn) {
			tap.Equal(before, value(c, "show statement_timeout"))
			usable(c, "acme")
		})
	}
}

func sessionState(a, b *pgx.Conn) {
	path := value(b, "show search_path")
	exec(a, "set statement_timeout = '12345ms'")
	exec(a, "set search_path = pg_catalog, pg_temp")
	exec(b, "set statement_timeout = '23456ms'")
	keeps := func(c *pgx.Conn, timeout, where string) {
		tx := begin(c)
		tap.Equal(timeout, value(tx, "show statement_timeout"))
		tap.Must(tx.Commit(ctx))
		tap.Equal(where, value(c, "show search_path"))
	}
	for i := 0; i < 10; i++ {
		keeps(a, "12345ms", "pg_catalog, pg_temp")
		keeps(b, "23456ms", path)
	}
	usable(b, "acme")
}

func twoTenants() {
	names := []string{"acme", "umbra"}
	sessions := []*pgx.Conn{tenant("acme"), tenant("umbra")}
	defer sessions[0].Close(ctx)
	defer sessions[1].Close(ctx)
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
		tap.Must(tx.Commit(ctx))
		if again {
			ask(sessions[first], first, i)
		}
	}
}

func sixteenClients() {
	names := []string{"acme", "umbra"}
	altering := int32(len(names))
	var lock sync.Mutex
	pids := map[int]bool{}
	read := func(q queryer, name string, i int) {
		rows, err := q.Query(ctx, fmt.Sprintf("select tenant, $1::int + %d, pg_backend_pid() from crowd", i%3), i)
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
	inTransaction := func(c *pgx.Conn, run func(tx pgx.Tx)) {
		tx := begin(c)
		defer tx.Rollback(ctx) // if it panics
		run(tx)
		tap.Must(tx.Commit(ctx))
	}
	client := func(c *pgx.Conn, name string, id int) {
		for i := 0; i < 20 || atomic.LoadInt32(&altering) > 0; i++ {
			read(c, name, i)
			inTransaction(c, func(tx pgx.Tx) {
				read(tx, name, i)
				read(tx, name, i+1)
			})
			inTransaction(c, func(tx pgx.Tx) {
				for n := 2*i + 1; n <= 2*i+2; n++ {
					got := value(tx, "update crowd set n = n + 1 where id = $1 returning tenant || ' ' || n", id)
					tap.Equal(fmt.Sprintf("%s %d", name, n), got)
				}
			})
		}
	}
	alterer := func(c *pgx.Conn) {
		defer atomic.AddInt32(&altering, -1)
		for i := 0; i < 20; i++ {
			exec(c, "alter table crowd add column extra int")
			exec(c, "alter table crowd drop column extra")
		}
	}

	var acts []func()
	owners := []*pgx.Conn{tenant("acme"), tenant("umbra")}
	for i, c := range owners {
		c := c
		defer c.Close(ctx)
		crowd(c, names[i])
		acts = append(acts, func() { alterer(c) })
	}
	for id := 0; id < 16; id++ {
		name, id := names[id%2], id
		c := tenant(name)
		defer c.Close(ctx)
		acts = append(acts, func() { client(c, name, id) })
	}
	tap.Together(acts...)
	for _, c := range owners {
		exec(c, "drop table crowd")
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
		{"copy-out", one(copyOut)},
		{"copy-in-aborted", one(copyInAborted)},
		{"cursor", two(cursor)},
		{"cancel", two(cancel)},
		{"notify", two(notify)},
		{"large", one(large)},
		{"types", one(types)},
		{"pool-reset", poolReset},
		{"session-state", two(sessionState)},
		{"two-tenants", twoTenants},
		{"sixteen-clients", sixteenClients},
	})
}
