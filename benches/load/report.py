#!/usr/bin/env python3
"""The tables of targets in README.md, and with every scenario in docs/performance.md, made from results of benches/load.

    benches/load/report.py                  prints the latter, of the newest results (of the full set, else the short one)
    benches/load/report.py --write          puts both between their markers
    benches/load/report.py --check          fails if one of the files has another table
"""

import argparse, json, os, re, sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import results as files
import targets
from rig import ROOT

BEGIN, END = "<!-- benches/load -->", "<!-- /benches/load -->"


def number(value):
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def line(row):
    met = {True: "yes", False: "**no**", None: ""}[row.met]
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    return f"| {row.what} | {row.target} | {number(row.ours)} | {number(row.theirs)} | {ratio} | {met} |"


def rows_of(medians, all_rows):
    """A figure that has a target of its own is listed by that, and once."""
    main = list(targets.main_rows(medians))
    known = {row.what for row in main}
    return [*main, *(row for row in targets.every_scenario(medians) if all_rows and row.what not in known)]


def table(found, all_rows):
    machine, versions, options = found["machine"], found["versions"], found["options"]
    commit = found["commit"] + (" with changes" if found["dirty"] else "")
    medians = targets.Results(found)
    rows = rows_of(medians, all_rows)
    counted = [row for row in rows if row.met is not None]
    missing = len(rows) - len(counted) - sum(row.target == targets.NONE for row in rows)
    rows = [row for row in rows if row.met is not None or row.target == targets.NONE]
    counters = {"counters": "the machine's counters", "callgrind": "callgrind (the machine has no counters: none of the kernel)"}
    return "\n".join([
        f"{sum(row.met for row in counted)} of {len(counted)} targets are met" + (f", {missing} more were not measured" if missing else "")
        + f". {found['date']}, {commit}, {found['set']} set: medians of "
        f"{options['rounds']} rounds of {options['seconds']} s, beside PgBouncer {versions['pgbouncer']} on PostgreSQL "
        f"{versions['postgresql']}; {machine['cores']} cores ({machine['cpu']}), Linux {machine['kernel']}. "
        f"Instructions by {counters[machine['user_instructions']]}. Figures are a transaction, a connection or a GB; "
        "a number behind a name is that of its clients." + (" Tenantry is built with a profile, as its image is "
        "(`benches/pgo`); the comparison of workers is between builds without one." if medians.has_profile else "")
        + (f" Times of {len(found['again']['scenarios'])} scenarios were measured again: {found['again']['why']}." if "again" in found else ""),
        "",
        "| scenario: figure | target | Tenantry | PgBouncer, or beside what | ratio | met |",
        "|---|---|---|---|---|---|",
        *map(line, rows),
    ])


def replaced(name, new):
    """A file of the repository as it is, and with another table."""
    with open(os.path.join(ROOT, name)) as f:
        old = f.read()
    block = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.S)
    if not block.search(old):
        sys.exit(f"{name} has no {BEGIN} ... {END}")
    return old, block.sub(lambda _: f"{BEGIN}\n{new}\n{END}", old, count=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="?", help="a file of benches/results; default: the newest")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--write", action="store_true", help="replace the tables")
    what.add_argument("--check", action="store_true", help="exit with 1 if a file has another table")
    args = parser.parse_args()
    path = args.results or files.newest() or sys.exit("no results yet: run benches/load/run.py")
    with open(path) as f:
        found = json.load(f)
    if not (args.write or args.check):
        return print(table(found, all_rows=True))
    for name, all_rows in (("README.md", False), ("docs/performance.md", True)):
        old, text = replaced(name, table(found, all_rows))
        if args.check and text != old:
            sys.exit(f"{name} has another table than {os.path.basename(path)} gives: benches/load/report.py --write")
        if args.write:
            with open(os.path.join(ROOT, name), "w") as f:
                f.write(text)


if __name__ == "__main__":
    main()
