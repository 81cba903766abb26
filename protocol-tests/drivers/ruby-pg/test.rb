# ruby-pg. It has neither a statement cache nor a pool: statements are prepared by name or not at all.
require "bigdecimal"
require "json"
require "pg"
require "time"
require "timeout"

HOST, PORT, USER, PASSWORD, DATABASE, CA =
  %w[HOST PORT USER PASSWORD DATABASE CA].map { |name| ENV.fetch("TENANTRY_#{name}") }
VERIFIED = { hostaddr: HOST, sslmode: "verify-full", sslrootcert: CA }.freeze

def url(user: USER, database: DATABASE, query: "")
  "postgres://#{user}:#{PASSWORD}@#{HOST}:#{PORT}/#{database}?connect_timeout=10#{query}"
end

# Connects each tenant's client, runs the work with them, and leaves whatever happened.
def clients(*tenants)
  all = []
  tenants.each { |tenant| all << PG.connect(url(user: "#{USER}.#{tenant}")) }
  all.each { |client| client.set_notice_processor { |_| } }
  yield(*all)
ensure
  all.each(&:close)
end

def connects(*where, tenant: "acme", **options)
  client = PG.connect(*where, **options)
  usable(client, tenant)
ensure
  client&.close
end

def verified(host, user)
  connects(host: host, port: PORT, user: user, password: PASSWORD, dbname: DATABASE, **VERIFIED)
end

def equal(want, got)
  raise "#{got.inspect[0, 300]} instead of #{want.inspect[0, 300]}" unless want == got
end

def fails(sqlstate)
  yield
rescue PG::Error => e
  equal(sqlstate, e.result&.error_field(PG::PG_DIAG_SQLSTATE) || e.message)
else
  raise "no error instead of #{sqlstate}"
end

def value(client, sql, *parameters) = client.exec_params(sql, parameters).getvalue(0, 0)

def usable(client, tenant = "acme") = equal([[tenant]], client.exec("select name from who").values)

def item(client)
  client.exec("drop table if exists item")
  client.exec("create table item (id int primary key)")
end

def count(client) = value(client, "select count(*) from item")

# Two clients in every order of transactions: servers change hands. `ask` is called with one of them and a number.
def interleave(rounds, all, ask)
  rounds.times do |i|
    x, y = i.even? ? all : all.reverse
    x.transaction do
      ask.call(x, i)
      ask.call(y, i)
    end
    ask.call(x, i) if (i % 3).zero?
  end
end

CHECKS = {
  "connect-options" => -> { connects(url(query: "&options=-c%20app.tenant%3Dacme")) },
  "connect-user" => lambda {
    %w[acme umbra].each { |tenant| connects(url(user: "#{USER}.#{tenant}"), tenant: tenant) }
  },
  "connect-database" => -> { connects(url(database: "acme")) },
  "connect-database-at" => -> { connects(url(database: "#{DATABASE}%40acme")) },
  "connect-sni" => -> { verified("acme.db.localhost", USER) },

  "tls" => lambda {
    verified("localhost", "#{USER}.acme")
    begin
      verified("other.example", "#{USER}.acme")
    rescue PG::ConnectionBad => e
      raise unless e.message.include?("does not match host name")
    else
      raise "the name in the certificate was not checked"
    end
  },

  "autocommit" => lambda {
    clients("acme", "acme") do |a, b|
      item(a)
      a.exec_params("insert into item values ($1)", [1])
      equal("1", count(b))
      a.exec("drop table item")
    end
  },

  "transaction" => lambda {
    clients("acme", "acme") do |a, b|
      item(a)
      a.transaction do
        a.exec_params("insert into item values ($1)", [1])
        equal("0", count(b))
      end
      equal("1", count(b))
      given_up = Class.new(StandardError)
      begin
        a.transaction do
          a.exec_params("insert into item values ($1)", [2])
          raise given_up
        end
      rescue given_up
        equal(PG::PQTRANS_IDLE, a.transaction_status)
      end
      equal([["1"]], b.exec("select id from item").values)
      a.exec("drop table item")
    end
  },

  "transaction-error" => lambda {
    clients("acme") do |c|
      item(c)
      c.exec("begin")
      c.exec("insert into item values (1)")
      fails("22012") { c.exec_params("select 1 / $1::int", [0]) }
      fails("25P02") { c.exec("select 1") }
      equal(PG::PQTRANS_INERROR, c.transaction_status)
      c.exec("rollback")
      usable(c)
      equal("0", count(c))
      c.exec("drop table item")
    end
  },

  "savepoint" => lambda {
    clients("acme") do |c|
      item(c)
      c.transaction do
        c.exec("insert into item values (1)")
        c.exec("savepoint here")
        c.exec("insert into item values (2)")
        fails("23505") { c.exec_params("insert into item values ($1)", [1]) }
        c.exec("rollback to here")
        c.exec("insert into item values (3)")
      end
      equal([["1"], ["3"]], c.exec("select id from item order by id").values)
      c.exec("drop table item")
    end
  },

  # By name and without one.
  "prepared" => lambda {
    clients("acme", "acme") do |a, b|
      pids = []
      sql = ->(kind) { "select name, $1::int + #{kind}, pg_backend_pid() from who where name = $2" }
      [a, b].each { |c| 5.times { |kind| c.prepare("kind #{kind}", sql.call(kind)) } }
      ask = lambda do |c, i|
        [c.exec_prepared("kind #{i % 5}", [i, "acme"]), c.exec_params(sql.call(i % 5), [i, "acme"])].each do |result|
          name, number, pid = result.values.first
          equal(["acme", (i + i % 5).to_s], [name, number])
          pids << pid
        end
      end
      interleave(60, [a, b], ask)
      raise "only one server connection was used" if pids.uniq.size < 2
    end
  },

  "batch" => lambda {
    clients("acme") do |c|
      run = lambda do |sql, values|
        c.enter_pipeline_mode
        values.each { |n| c.send_query_params(sql, [n]) }
        c.pipeline_sync
        results = values.map { c.get_result.tap { c.get_result } }
        equal(PG::PGRES_PIPELINE_SYNC, c.get_result.result_status)
        c.exit_pipeline_mode
        results
      end
      equal((0...100).map(&:to_s), run.call("select $1::int", (0...100)).map { |result| result.getvalue(0, 0) })
      before, broken, after = run.call("select 1 / $1::int", [1, 0, 1])
      equal("1", before.getvalue(0, 0))
      equal("22012", broken.error_field(PG::PG_DIAG_SQLSTATE))
      equal(PG::PGRES_PIPELINE_ABORTED, after.result_status)
      usable(c)
    end
  },

  "copy-in" => lambda {
    clients("acme") do |c|
      item(c)
      c.copy_data("copy item from stdin") { 10_000.times { |n| c.put_copy_data("#{n}\n") } }
      equal([%w[10000 49995000]], c.exec("select count(*), sum(id) from item").values)
      c.exec("drop table item")
    end
  },

  "copy-out" => lambda {
    clients("acme") do |c|
      got = []
      c.copy_data("copy (select n, name from who, generate_series(1, 10000) n) to stdout") do
        while (row = c.get_copy_data)
          got << row
        end
      end
      equal((1..10_000).map { |n| "#{n}\tacme\n" }, got)
    end
  },

  "copy-in-aborted" => lambda {
    clients("acme") do |c|
      item(c)
      c.exec("copy item from stdin")
      c.put_copy_data("1\n")
      c.put_copy_end("given up")
      fails("57014") { c.get_last_result }
      fails("22P02") { c.copy_data("copy item from stdin") { c.put_copy_data("1\nx\n") } }
      usable(c)
      equal("0", count(c))
      c.exec("drop table item")
    end
  },

  # libpq has no portals: a cursor is SQL's.
  "cursor" => lambda {
    clients("acme", "acme") do |a, b|
      got = []
      a.transaction do
        a.exec("declare numbers cursor for select n from generate_series(1, 1000) n")
        loop do
          piece = a.exec("fetch 100 from numbers").column_values(0)
          break if piece.empty?

          equal(100, piece.size)
          got.concat(piece)
          usable(b)
        end
      end
      equal((1..1000).map(&:to_s), got)
    end
  },

  "cancel" => lambda {
    asleep = "select 'asleep' from pg_stat_activity where state = 'active' and query = 'select pg_sleep(10)'"
    clients("acme", "acme") do |c, watch|
      begun = Time.now
      canceller = Thread.new do
        sleep 0.01 while watch.exec(asleep).ntuples.zero?
        c.cancel
      end
      fails("57014") { c.exec("select pg_sleep(10)") }
      equal(nil, canceller.value)
      raise "too late" if Time.now - begun > 5

      usable(c)
    end
  },

  "notify" => lambda {
    clients("acme", "acme") do |a, b|
      a.exec("listen news")
      b.transaction do
        b.exec("select pg_notify('news', 'hello')")
        equal(nil, a.wait_for_notify(0.2))
      end
      got = nil
      a.wait_for_notify(5) { |channel, _pid, payload| got = [channel, payload] }
      equal(%w[news hello], got)
    end
  },

  "large" => lambda {
    clients("acme") do |c|
      text = "0123456789abcdef" * ((20 << 20) / 16)
      raise "it came back changed" unless value(c, "select $1::text", text) == text

      usable(c)
    end
  },

  "types" => lambda {
    clients("acme") do |c|
      c.type_map_for_results = PG::BasicTypeMapForResults.new(c)
      values = {
        "int8" => -(2**62), "numeric" => BigDecimal("12345678901234567890.000123"), "text" => "žluťoučký 🐘 'quoted' \\",
        "bytea" => (0..255).to_a.pack("C*"), "timestamptz" => Time.utc(2026, 1, 2, 3, 4, 5, 678_901),
        "jsonb" => { "a" => [1, nil, "ß"] }, "int[]" => [1, nil, 3], "bool" => true,
        "uuid" => "6b1f0e0c-5f5e-4f43-9d4e-0a2b4c6d8e0f", "date" => nil
      }
      parameters = values.merge(
        "numeric" => values["numeric"].to_s("F"), "bytea" => { value: values["bytea"], format: 1 },
        "timestamptz" => values["timestamptz"].iso8601(6), "jsonb" => values["jsonb"].to_json,
        "int[]" => PG::TextEncoder::Array.new.encode(values["int[]"])
      ).values
      columns = values.keys.each_with_index.map { |type, i| "$#{i + 1}::#{type}" }.join(", ")
      [0, 1].each do |format|
        row = c.exec_params("select #{columns}", parameters, format).values.first
        # Read as binary, the driver leaves what it does not know in PostgreSQL's own form.
        known = format.zero? ? values.keys : %w[int8 text bytea timestamptz bool date]
        known.each { |type| equal(values[type], row[values.keys.index(type)]) }
      end
    end
  },

  "pool-reset" => lambda {
    clients("acme") do |c|
      before = value(c, "show statement_timeout")
      3.times do
        c.exec("set statement_timeout = '12345ms'")
        equal("12345ms", value(c, "show statement_timeout"))
        c.exec("discard all")
        equal(before, value(c, "show statement_timeout"))
        usable(c)
      end
    end
  },

  "session-state" => lambda {
    clients("acme", "acme") do |a, b|
      path = value(b, "show search_path")
      a.exec("set statement_timeout = '12345ms'")
      a.exec("set search_path = pg_catalog, pg_temp")
      b.exec("set statement_timeout = '23456ms'")
      10.times do
        [[a, "12345ms", "pg_catalog, pg_temp"], [b, "23456ms", path]].each do |c, timeout, where|
          c.transaction { equal(timeout, value(c, "show statement_timeout")) }
          equal(where, value(c, "show search_path"))
        end
      end
      usable(b)
    end
  },

  "two-tenants" => lambda {
    clients("acme", "umbra") do |acme, umbra|
      sql = ->(kind) { "select name, $1::int + #{kind} from who, generate_series(1, 3)" }
      [acme, umbra].each { |c| 3.times { |kind| c.prepare("kind #{kind}", sql.call(kind)) } }
      ask = lambda do |c, i|
        want = [[c == acme ? "acme" : "umbra", (i + i % 3).to_s]] * 3
        equal(want, c.exec_prepared("kind #{i % 3}", [i]).values)
        equal(want, c.exec_params(sql.call(i % 3), [i]).values)
      end
      interleave(100, [acme, umbra], ask)
    end
  },

  "sixteen-clients" => lambda {
    tenants = Array.new(18) { |i| %w[acme umbra][i % 2] } # the first two own the tables
    clients(*tenants) do |*all|
      pids = Queue.new
      altering = Queue.new
      read = lambda do |c, tenant, i|
        sql = "select tenant, $1::int + #{i % 3}, pg_backend_pid() from crowd"
        [c.exec_prepared("kind #{i % 3}", [i]), c.exec_params(sql, [i])].each do |result|
          equal([[tenant, (i + i % 3).to_s]] * 16, result.values.map { |row| row.first(2) })
          pids << result.getvalue(0, 2)
        end
      end
      client = lambda do |c, tenant, id|
        3.times { |kind| c.prepare("kind #{kind}", "select tenant, $1::int + #{kind}, pg_backend_pid() from crowd") }
        c.prepare("update", "update crowd set n = n + 1 where id = $1 returning tenant, n")
        i = 0
        while i < 20 || altering.size < 2
          read.call(c, tenant, i)
          c.transaction { [i, i + 1].each { |n| read.call(c, tenant, n) } }
          c.transaction do
            [2 * i + 1, 2 * i + 2].each { |n| equal([[tenant, n.to_s]], c.exec_prepared("update", [id]).values) }
          end
          i += 1
        end
      end
      alterer = lambda do |c|
        20.times do
          c.exec("alter table crowd add column extra int")
          c.exec("alter table crowd drop column extra")
        end
      ensure
        altering << c
      end
      owners, working = all.partition.with_index { |_, i| i < 2 }
      owners.zip(tenants) do |c, tenant|
        c.exec("drop table if exists crowd")
        c.exec("create table crowd (tenant text, id int, n int)")
        c.exec_params("insert into crowd select $1, id, 0 from generate_series(0, 15) id", [tenant])
      end
      threads = owners.map { |c| Thread.new { alterer.call(c) } }
      threads += working.each_with_index.map { |c, id| Thread.new { client.call(c, tenants[id], id) } }
      threads.each { |thread| thread.report_on_exception = false }
      threads.each(&:join)
      owners.each { |c| c.exec("drop table crowd") }
      met = Array.new(pids.size) { pids.pop }.uniq
      raise "only one server connection was used" if met.size < 2
    end
  }
}.freeze

$stdout.sync = true
failed = false
puts "TAP version 13\n1..#{CHECKS.size}"
CHECKS.each_with_index do |(name, check), index|
  if ENV["TENANTRY_DIRECT"] == "1" && name.start_with?("connect-")
    puts "ok #{index + 1} - #{name} # SKIP bare PostgreSQL knows no tenants"
    next
  end
  Timeout.timeout(15) { check.call }
  puts "ok #{index + 1} - #{name}"
rescue StandardError => e
  failed = true
  lines = e.backtrace.grep(/test\.rb/).map { |line| line[/test\.rb:(\d+)/, 1] }
  puts "not ok #{index + 1} - #{name}: #{e.class}: #{e.message.split.join(' ')} (lines #{lines.first(2).join(' from ')})"
end
exit !failed
