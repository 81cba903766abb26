"""Makes a database of SQLite's, for pgloader to take over: a key that counts, an index, a foreign key. Argument: its file."""

import sqlite3, sys

books = sqlite3.connect(sys.argv[1])
books.executescript("""
    create table author (id integer primary key autoincrement, name text not null);
    create table book (id integer primary key autoincrement, title text, author integer references author (id));
    create index title on book (title);
""")
books.executemany("insert into author (name) values (?)", [(f"author {n}",) for n in range(10)])
books.executemany("insert into book (title, author) values (?, ?)", [(f"book {n}", n % 10 + 1) for n in range(1000)])
books.commit()
