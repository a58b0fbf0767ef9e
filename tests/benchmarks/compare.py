"""Compare ways to get a core archive of a live Python process, all in one run on one machine.

Without a part, the main comparison is measured. Absolute times mean little on a shared machine: ratios are to
method memory, measured in the same run.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from itertools import product
from pathlib import Path

from contents import KINDS
from growth import measure_growth
from measure import Measurer
from overhead import measure_overhead, measure_session
from page import rewrite
from picture import draw
from results import WAYS, Report, Spec, load
from table import lines_of

PARTS = ("main", "growth", "overhead", "session")
PAGE = Path(__file__).parents[2] / "docs/explanation/benchmarks.md"
EPILOG = """\
How long it takes on two processors: the main comparison 6 minutes, --growth 5, --overhead 6, --session 1;
--all all of that. With --quick each takes a minute or two. --full alone (the matrix of 4 sizes x 2 numbers
of threads x 3 kinds of memory) takes 2 to 3 hours; --full --rounds 1 an hour. It needs 6 GiB of memory and
12 GiB of disk beyond a twentieth that is left free.

What is not measured is marked as such: fork+SIGSEGV+tar, gcore and gcore+tar where they would take longer
than --limit, on the line through what they took for the two sizes before; and any way for which disk or
memory is too small. Any way is stopped after twice the limit and two minutes.
"""


def main() -> None:
    """Measure, or read what was measured; then print and write."""
    options = parse()
    if options.from_json:
        report = load(options.from_json)
        show(report, options)
    else:
        report = Report(command=command_line(), machine=machine())
        try:
            measure(report, options)
        finally:  # an hour's work is not lost when something fails or is interrupted
            show(report, options)
    if options.picture:
        options.picture.write_text(draw(report.main[0]))
    if options.docs:
        PAGE.with_suffix(".svg").write_text(draw(report.main[0]))
        rewrite(PAGE, report)


def show(report: Report, options: argparse.Namespace) -> None:
    """Print the tables, and write all numbers."""
    for line in lines_of(report):
        print(line)
    if options.json:
        report.save(options.json)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = parser.add_argument_group("parts")
    parts.add_argument("--main", action="store_true", help="the comparison of all ways (default)")
    parts.add_argument("--growth", action="store_true", help="with size, threads, mappings, libraries")
    parts.add_argument("--overhead", action="store_true", help="of the plugin on 4,000 passing tests")
    parts.add_argument("--session", action="store_true", help="200 failing tests with default limits")
    parts.add_argument("--all", action="store_true", help="all four")
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument(
        "--quick", action="store_const", dest="extent", const="--quick", help="small, few rounds"
    )
    extent.add_argument(
        "--full", action="store_const", dest="extent", const="--full", help="the whole matrix"
    )
    choice = parser.add_argument_group("what the main comparison compares")
    choice.add_argument("--sizes", type=int, nargs="+", metavar="MIB")
    choice.add_argument("--threads", type=int, nargs="+", metavar="N")
    choice.add_argument(
        "--memory", nargs="+", choices=KINDS, help="mixed: one quarter random, else JSON lines"
    )
    choice.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS, metavar="WAY", help=", ".join(WAYS))
    parser.add_argument("--rounds", type=int, help="of everything (default 3; of the overhead 30)")
    parser.add_argument("--tests", type=int, help="of the overhead (default 4,000)")
    parser.add_argument("--limit", type=float, default=3, metavar="MINUTES", help="see below (default 3)")
    parser.add_argument("--dir", type=Path, help="where archives are written (default: a temporary folder)")
    output = parser.add_argument_group("output")
    output.add_argument("--json", type=Path, metavar="FILE", help="all numbers")
    output.add_argument(
        "--from", type=Path, metavar="FILE", dest="from_json", help="measure nothing, read that JSON"
    )
    output.add_argument("--picture", type=Path, metavar="FILE", help="SVG of the first main comparison")
    output.add_argument("--docs", action="store_true", help="picture and ratios into docs/explanation")
    parser.set_defaults(extent="")
    options = parser.parse_args()
    chosen = {part for part in PARTS if options.all or getattr(options, part)}
    options.parts = chosen or {"main"}
    if (options.picture or options.docs) and not options.from_json and "main" not in options.parts:
        parser.error("the picture is of the main comparison: add --main")
    return options


def measure(report: Report, options: argparse.Namespace) -> None:
    """Measure the chosen parts."""
    is_quick = options.extent == "--quick"
    rounds = options.rounds or (1 if is_quick else 3)
    with tempfile.TemporaryDirectory(dir=options.dir, prefix="benchmark-") as name:
        folder = Path(name)
        measurer = Measurer(folder, options.limit * 60)
        if "main" in options.parts:
            for threads, memory, size in cells_of(options):
                report.main.append(measurer.measure_cell(Spec(size, threads, memory), options.ways, rounds))
        if "growth" in options.parts:
            report.growth = measure_growth(measurer, options.extent, rounds, folder)
        if "overhead" in options.parts:
            report.overhead = measure_overhead(
                folder,
                options.tests or (200 if is_quick else 4000),
                options.rounds or (2 if is_quick else 30),
            )
        if "session" in options.parts:
            report.session = measure_session(folder, 30 if is_quick else 200, rounds)


def cells_of(options: argparse.Namespace) -> list[tuple[int, str, int]]:
    """Return threads, memory and size of each process; sizes grow, so that one tells of the next."""
    sizes, threads, memory = {
        "--quick": ([64], [4], ["mixed"]),
        "": ([1024], [64], ["mixed"]),
        "--full": ([64, 256, 1024, 4096], [1, 64], ["random", "compressible", "sparse"]),
    }[options.extent]
    return list(product(options.threads or threads, options.memory or memory, sorted(options.sizes or sizes)))


def command_line() -> str:
    """Return the command, without options for files: those say nothing about the numbers."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for option in ("--json", "--picture", "--dir"):
        parser.add_argument(option)
    parser.add_argument("--docs", action="store_true")
    return " ".join(["python tests/benchmarks/compare.py", *parser.parse_known_args()[1]])


def machine() -> str:
    """Return what the numbers depend on."""
    kernel = ".".join(platform.release().split(".")[:2])
    return (
        f"{os.cpu_count()} processors, Linux {kernel}, "
        f"{platform.python_implementation()} {platform.python_version()}"
    )


if __name__ == "__main__":
    main()
