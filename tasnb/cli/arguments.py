"""The command line: ``python -m tasnb run``, ``segment``, ``fetch``, ``doctor`` ..."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import NoReturn

from tasnb import __version__
from tasnb.cli import commands
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
  python -m tasnb run --notebooks 05 -p alpha 0.2 --out runs/alpha02
  python -m tasnb run --check                            is the report still up to date?
  python -m tasnb run --profile paper -p backend dask    the paper's, on all GPUs"""

_SEGMENT = """\
Finds what an expression denotes in a picture: prints a row for each mask proposal with its
scores V, P, N and S, and writes the picture with the chosen mask over it.

Of a CSV file with the columns image and expression, of a folder of pictures, or of several
expressions, --out is a folder: it gets a mask and an overlay a row, results.csv and masks.json
(COCO results). A row that cannot be answered has its error in results.csv; the exit status is 1."""

_SEGMENT_EXAMPLES = """\
examples:
  python -m tasnb segment photo.jpg "the left cat" --out cat.png
  python -m tasnb segment photo.jpg "the left cat" --mask mask.png --rle mask.json
  python -m tasnb segment photo.jpg "the left cat" "the right cat" --out cats/
  python -m tasnb segment pictures/ "the dog" --out dogs/
  python -m tasnb segment list.csv --out folder/"""

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

_CONVERT = """\
Writes NAME.safetensors beside a file of TorchScript, for open_clip:ViT-B-32/NAME.safetensors. To
open TorchScript is to run what is in it: give it only files whose origin you trust. Everything else
that this program loads holds numbers only."""


class _Parser(argparse.ArgumentParser):
    """Errors in one line, without the usage before them."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see {self.prog} --help")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _add_parameters(add: Callable[..., object], what: str) -> None:
    pair = ("NAME", "VALUE")
    add("-p", dest="parameters", action="append", nargs=2, default=[], metavar=pair, help=what)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m tasnb",
        description="TAS: zero-shot referring image segmentation, step by step.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"tasnb {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, what: str, description: str, epilog: str = "") -> _Parser:
        return subparsers.add_parser(
            name,
            help=what,
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    run = command(
        "run", "run the notebooks and write tables, figures and a report", _RUN, _RUN_EXAMPLES
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
    _add_parameters(add, "a parameter of the notebooks, or any setting; repeatable")
    add("--force", action="store_true", help="run also what is up to date")
    add("--check", action="store_true", help="say what has changed since the run; run nothing")
    add(
        "--prepare-only",
        action="store_true",
        help="write NN_name.prepared.ipynb with the parameters put in; run nothing",
    )
    run.set_defaults(call=commands.run)

    segment = command("segment", "segment pictures by expressions", _SEGMENT, _SEGMENT_EXAMPLES)
    add = segment.add_argument
    add("image", metavar="IMAGE", help="a picture file, a folder of pictures or a CSV file")
    add("expressions", metavar="EXPRESSION", nargs="*", help='such as "the left cat"')
    add("--profile", metavar="P", default="embedded", help=f"one of {', '.join(PROFILES)}")
    add("--encoder", metavar="NAME", help="image-text encoder, as open_clip:embedded/clip-vit")
    add("--out", metavar="FILE", help="overlay (default: overlay.png), or folder (segmented)")
    add("--mask", metavar="FILE.png", help="also the mask, as a grey picture (0 and 255)")
    add("--rle", metavar="FILE.json", help="also the mask as COCO results, with its score")
    _add_parameters(add, "any setting, as alpha 0.2; repeatable")
    segment.set_defaults(call=commands.segment)

    fetch = command("fetch", "fetch the paper's models and data sets", _FETCH, _FETCH_EXAMPLES)
    add = fetch.add_argument
    add("names", metavar="NAME", nargs="*", help="what to fetch, or a bundle: paper, lite")
    add("--to", metavar="DIR", help="where files go (default: data/)")
    add("--list", action="store_true", help="list all names, sizes and places; fetch nothing")
    fetch.set_defaults(call=commands.fetch)

    doctor = command("doctor", "say what a profile needs and what is here of it", _DOCTOR)
    add = doctor.add_argument
    add("--profile", metavar="P", default="embedded", help=f"one of {', '.join(PROFILES)}")
    add("--data", metavar="DIR", default="", help="where data and checkpoints are (default: data/)")
    doctor.set_defaults(call=commands.doctor)

    bench = command("bench", "measure the order of work, the store, metrics and memory", _BENCH)
    add = bench.add_argument
    add("--profile", metavar="P", default="embedded", help=f"one of {', '.join(PROFILES)}")
    add("--images", metavar="N", default="4", help="how many to work on (default: 4)")
    add("--out", metavar="FILE", help="default: tables/bench.csv and .md in runs/<profile>")
    bench.set_defaults(call=commands.bench)

    convert = command("convert", "turn OpenAI's own files of CLIP into safetensors", _CONVERT)
    convert.add_argument("file", metavar="FILE", help="such as ViT-B-32.pt")
    convert.set_defaults(call=commands.convert)
    return parser


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    # argparse takes no more expressions once an option came between them and the picture
    if arguments.command == "segment" and not any(word.startswith("-") for word in rest):
        arguments.expressions += rest
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Returns:
        The exit status: 0, 1 for a notebook or rows of a list that failed or a profile that cannot
        run, 2 for bad input, 130 after Ctrl-C.
    """
    from tasnb.workbook.runner import NotebookFailed

    try:
        arguments = _arguments(argv)
        return arguments.call(arguments) or 0
    except InputError as error:
        return commands.say(error, 2)
    except NotebookFailed as error:
        return commands.say(error, 1)
    except KeyboardInterrupt:
        return commands.say(
            "interrupted; the same command goes on from the results stored so far", 130
        )
