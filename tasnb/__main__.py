"""The command line: ``python -m tasnb run``, ``segment``, ``fetch``, ``doctor`` and
``bench``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from tasnb import __version__
from tasnb.profiles import DATASETS, PROFILES, RECIPES
from tasnb.settings import InputError

_RUN = """\
Runs notebooks/NN_*.ipynb in order and writes notebooks, pages, tables, figures and index.html
to runs/<profile>. What is up to date (same parameters, code and data) is skipped; what was
interrupted goes on where it was."""

_RUN_EXAMPLES = """\
examples:
  python -m tasnb run                                    everything, on the embedded benchmark
  python -m tasnb run --notebooks 05 --splits testA      one notebook, one split
  python -m tasnb run --limit 5 --out /tmp/quick         a look at five images a split
  python -m tasnb run --notebooks 05 -p alpha 0.2 --out runs/alpha02"""

_SEGMENT = """\
Finds what an expression denotes in a picture: prints a row for each mask proposal with its
scores V, P, N and S, and writes the picture with the chosen mask over it."""

_SEGMENT_EXAMPLES = """\
example:
  python -m tasnb segment photo.jpg "the left cat" --out cat.png"""

_FETCH = """\
Fetches models and data sets of the paper, which the embedded benchmark does without. Files go to
data/, models of Hugging Face's hub to its own cache. What is there already is left alone; what was
interrupted goes on where it was. With HF_HUB_OFFLINE=1 nothing is fetched."""

_FETCH_EXAMPLES = """\
examples:
  python -m tasnb fetch --list                           what there is, and what is here of it
  python -m tasnb fetch sam-vit-h refcoco                one model, one data set
  python -m tasnb fetch lite                             small public models, less than 2 GB
  python -m tasnb fetch paper --to /data/tas             all that the paper's numbers need"""

_DOCTOR = """\
Looks at packages, memory, models and data and prints a line for each: ok, note (works, but less
well) or missing. The exit status is 0 only if the profile can run."""

_BENCH = """\
Measures what the order of work, the store and the arithmetic are worth, and writes a table. Every
number is a comparison within one run: put no two machines side by side by their seconds."""

_PICTURES = (".png", ".jpg", ".jpeg", ".webp")


class _Parser(argparse.ArgumentParser):
    """Errors in one line, without the usage before them."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see {self.prog} --help")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _parser() -> argparse.ArgumentParser:
    plain = argparse.RawDescriptionHelpFormatter
    parser = _Parser(
        prog="python -m tasnb",
        description="TAS: zero-shot referring image segmentation, step by step.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"tasnb {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    run = commands.add_parser(
        "run",
        help="run the notebooks and write tables, figures and a report",
        description=_RUN,
        epilog=_RUN_EXAMPLES,
        formatter_class=plain,
        allow_abbrev=False,
    )
    add = run.add_argument
    add("--profile", metavar="P", help=f"which models and data: {', '.join(PROFILES)}")
    add("--recipe", metavar="R", help=f"which reading of the method: {', '.join(RECIPES)}")
    add("--datasets", type=_names, metavar="A,B", help=f"some of {', '.join(DATASETS)}, or folders")
    add("--splits", type=_names, metavar="S,T", help="some of val, testA, ... (default: all)")
    add("--notebooks", type=_names, metavar="01,05", default=[], help="some (default: all)")
    add("--out", metavar="DIR", help="where the report goes (default: runs/<profile>)")
    add("--store", metavar="DIR", help="where stored results lie (default: runs/store)")
    add("--limit", metavar="N", help="the first N images of each split (default: all)")
    add(
        "-p",
        dest="parameters",
        action="append",
        nargs=2,
        default=[],
        metavar=("NAME", "VALUE"),
        help="a parameter of the notebooks, as their parameters cell declares it; repeatable",
    )
    add("--force", action="store_true", help="run also what is up to date")
    add(
        "--prepare-only",
        action="store_true",
        help="write NN_name.prepared.ipynb with the parameters put in; run nothing",
    )
    run.set_defaults(call=_run)

    segment = commands.add_parser(
        "segment",
        help="segment one picture by one expression",
        description=_SEGMENT,
        epilog=_SEGMENT_EXAMPLES,
        formatter_class=plain,
        allow_abbrev=False,
    )
    add = segment.add_argument
    add("image", metavar="IMAGE", help="a picture file")
    add("expression", metavar="EXPRESSION", help='such as "the left cat"')
    add("--profile", metavar="P", default="embedded", help=f"one of {', '.join(PROFILES)}")
    add("--encoder", metavar="NAME", help="image-text encoder, as open_clip:embedded/clip-vit")
    add("--out", metavar="FILE", default="overlay.png", help="default: overlay.png")
    segment.set_defaults(call=_segment)

    fetch = commands.add_parser(
        "fetch",
        help="fetch the paper's models and data sets",
        description=_FETCH,
        epilog=_FETCH_EXAMPLES,
        formatter_class=plain,
        allow_abbrev=False,
    )
    add = fetch.add_argument
    add("names", metavar="NAME", nargs="*", help="what to fetch, or a bundle: paper, lite")
    add("--to", metavar="DIR", help="where files go (default: data/)")
    add("--list", action="store_true", help="list all names, sizes and places; fetch nothing")
    fetch.set_defaults(call=_fetch)

    doctor = commands.add_parser(
        "doctor",
        help="say what a profile needs and what is here of it",
        description=_DOCTOR,
        formatter_class=plain,
        allow_abbrev=False,
    )
    add = doctor.add_argument
    add("--profile", metavar="P", default="embedded", help=f"one of {', '.join(PROFILES)}")
    add("--data", metavar="DIR", default="", help="where data and checkpoints are (default: data/)")
    doctor.set_defaults(call=_doctor)

    bench = commands.add_parser(
        "bench",
        help="measure the order of work, the store, metrics and memory",
        description=_BENCH,
        formatter_class=plain,
        allow_abbrev=False,
    )
    add = bench.add_argument
    add("--profile", metavar="P", default="embedded", help=f"one of {', '.join(PROFILES)}")
    add("--images", metavar="N", default="4", help="how many to work on (default: 4)")
    add("--out", metavar="FILE", help="default: tables/bench.csv and .md in runs/<profile>")
    bench.set_defaults(call=_bench)
    return parser


def _run(arguments: argparse.Namespace) -> None:
    from tasnb import runner
    from tasnb.parameters import from_text

    overrides: dict[str, Any] = {
        name: getattr(arguments, name)
        for name in ("profile", "recipe", "splits")
        if getattr(arguments, name) is not None
    }
    for name in ("out", "store"):  # as typed in this shell; notebooks run elsewhere
        if getattr(arguments, name) is not None:
            overrides[name] = str(Path(getattr(arguments, name)).expanduser().absolute())
    if arguments.datasets is not None:
        overrides["datasets"] = [
            name if name in DATASETS or not Path(name).is_dir() else str(Path(name).absolute())
            for name in arguments.datasets
        ]
    if arguments.limit is not None:
        overrides["limit"] = _whole("--limit", arguments.limit, ", 0 for all")
    notebooks = runner.select(arguments.notebooks)
    overrides.update(from_text(notebooks, dict(arguments.parameters)))

    done = runner.run(
        notebooks, overrides, force=arguments.force, prepare_only=arguments.prepare_only
    )
    if arguments.prepare_only:
        print(f"prepared notebooks: {done}")
        return
    table = done.parent / "tables" / "table1.md"
    if table.is_file():
        print(f"\n{table.read_text(encoding='utf-8').strip()}\n")
    print(f"report: {done}")


def _whole(name: str, text: str, zero: str = "") -> int:
    try:
        return int(text)
    except ValueError:
        raise InputError(f"{name} {text!r}: should be a whole number{zero}") from None


def _segment(arguments: argparse.Namespace) -> None:
    out = Path(arguments.out)
    if out.suffix.lower() not in _PICTURES:
        raise InputError(f"--out {out}: the overlay's name should end in {', '.join(_PICTURES)}")

    from tasnb.files import atomic_write
    from tasnb.runner import check_writable
    from tasnb.segmentation import segment

    check_writable(out.parent)
    chosen = {"encoders": [arguments.encoder]} if arguments.encoder else {}
    result = segment(arguments.image, arguments.expression, profile=arguments.profile, **chosen)
    if result.frame.empty:
        print("no mask was proposed in this picture: the answer is an empty mask")
    else:
        print(result.frame.to_string(index=False, float_format="{:.3f}".format))
    overlay = result.overlay()
    with atomic_write(out) as temporary:
        overlay.save(temporary)
    share = 100 * float(result.mask.mean())
    print(f"mask: {share:.1f} % of the picture; overlay: {out}")


def _fetch(arguments: argparse.Namespace) -> None:
    from tasnb.fetch import fetch, listing

    if arguments.list:
        if arguments.names:
            raise InputError(f"--list lists all: leave out {' '.join(arguments.names)}")
        print(listing(arguments.to))
    elif arguments.names:
        fetch(arguments.names, arguments.to)
    else:
        raise InputError("name what to fetch; see python -m tasnb fetch --list")


def _doctor(arguments: argparse.Namespace) -> int:
    from tasnb.doctor import examine, line
    from tasnb.settings import make_settings

    data = str(Path(arguments.data).expanduser().absolute()) if arguments.data else ""
    settings = make_settings(arguments.profile, data=data)
    missing = 0
    for finding in examine(settings):
        print(line(finding, 34), flush=True)
        missing += finding.verdict == "missing"
    if missing:
        return _say(f"profile {settings.profile} cannot run: {missing} missing, see above", 1)
    print(f"profile {settings.profile} can run")
    return 0


def _bench(arguments: argparse.Namespace) -> int:
    from tasnb.bench import report

    same = report(arguments.profile, _whole("--images", arguments.images), arguments.out)
    return 0 if same else _say("the two orders of work differ in what they answer, see above", 1)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Returns:
        The exit status: 0, 1 for a notebook that failed or a profile that cannot run, 2 for bad
        input, 130 after Ctrl-C.
    """
    from tasnb.runner import NotebookFailed

    try:
        arguments = _parser().parse_args(argv)
        return arguments.call(arguments) or 0
    except InputError as error:
        return _say(error, 2)
    except NotebookFailed as error:
        return _say(error, 1)
    except KeyboardInterrupt:
        return _say("interrupted; the same command goes on from the results stored so far", 130)


def _say(message: object, status: int) -> int:
    print(f"tasnb: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
