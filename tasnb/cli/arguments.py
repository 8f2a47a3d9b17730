"""The command line: ``python -m tasnb run``, ``segment``, ``fetch``, ``doctor`` ..."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import NoReturn

from tasnb import __version__
from tasnb.cli import commands, course, reruns
from tasnb.cli.given import say
from tasnb.profiles import DATASETS, PROFILES, RECIPES
from tasnb.settings import InputError

_RUN = """\
Runs notebooks/NN_*.ipynb in order and writes executed notebooks, pages, tables, figures and
index.html to runs/<profile>. Notebooks that are up to date (same parameters, code and data) are
skipped; an interrupted run resumes where it stopped."""

_RUN_EXAMPLES = """\
examples:
  python -m tasnb run                                    everything, on the embedded benchmark
  python -m tasnb run --notebooks 05 --splits testA      one notebook, one split
  python -m tasnb run --limit 5 --out /tmp/quick         a quick look: five images per split
  python -m tasnb run --notebooks 05 -p alpha 0.2 --out runs/alpha02
  python -m tasnb run --check                            is the report still up to date?
  python -m tasnb run --profile paper -p backend dask    the paper's models and data, on all GPUs"""

_SEGMENT = """\
Finds the object that an expression refers to: prints one row per mask proposal with its scores V,
P, N and S, and saves the picture with the chosen mask drawn over it.

With --recipe extended -p answers any, the answer is every mask that is nearly as likely as the best
one, or nothing if the evidence E for the best one is below least_evidence. Then --mask has all of
them in one picture, or is black; --rle has each of them (segmentations) and the evidence; the
overlay outlines each, or is grey and says that nothing fits.

For a CSV file with the columns image and expression, a folder of pictures, or several expressions,
--out is a folder. It receives a mask and an overlay for each row, results.csv, and masks.json (COCO
results). If a row fails, results.csv gives the reason and the exit status is 1."""

_SEGMENT_EXAMPLES = """\
examples:
  python -m tasnb segment photo.jpg "the left cat" --out cat.png
  python -m tasnb segment photo.jpg "the left cat" --mask mask.png --rle mask.json
  python -m tasnb segment photo.jpg "the cats" --recipe extended -p answers any
  python -m tasnb segment photo.jpg "the left cat" "the right cat" --out cats/
  python -m tasnb segment pictures/ "the dog" --out dogs/
  python -m tasnb segment list.csv --out folder/"""

_FETCH = """\
Downloads the paper's models and datasets; the embedded benchmark needs none of them. Files go to
data/, models from the Hugging Face hub to its own cache. Existing files are kept, and an
interrupted download resumes where it stopped. With HF_HUB_OFFLINE=1 nothing is downloaded."""

_FETCH_EXAMPLES = """\
examples:
  python -m tasnb fetch --list                           everything available, and what is installed
  python -m tasnb fetch sam-vit-h refcoco                one model and one dataset
  python -m tasnb fetch lite                             small public models, under 2 GB
  python -m tasnb fetch paper --to /data/tas             everything that the paper's numbers need"""

_DOCTOR = """\
Checks packages, memory, models and data, and prints one line for each: ok, note (works, but not as
well as it could) or missing. The exit status is 0 only if the profile can run.

With --prove, every model of lite, paper or modern that has been downloaded is loaded and asked a
question to which the answer is published, and the exit status is 0 only if all models that were
asked agree. This downloads two to four small pictures."""


_BENCH = """\
Measures how much time the order of work, the store and the arithmetic save, and writes a table.
Every number is a comparison within one run: do not compare seconds between machines.

With --profile lite, models of the real architectures and sizes are built with random weights, and
only the two orders of work are compared, in seconds per image. Nothing is downloaded; this needs 5
GB of free memory and, on two cores, some minutes per image.

With --reckon, nothing is measured. The time and memory of the profile lite, paper or modern on
common GPUs are reckoned from the shapes of its networks, without a download."""

_EXPLORE = """\
Starts the explorer on this computer and opens it in a browser: a picture with all its masks and
their scores, sliders for the weights, a switch between one mask and several or none, and a field
for other expressions. Ctrl-C ends it."""

_CONVERT = """\
Writes NAME.safetensors next to a TorchScript file, for open_clip:ViT-B-32/NAME.safetensors.
Opening TorchScript executes code from the file, so convert only files whose origin you trust. All
other files that this program loads contain numbers only."""


class _Parser(argparse.ArgumentParser):
    """Reports errors in one line, without the usage text."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see {self.prog} --help")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _add_parameters(add: Callable[..., object], what: str) -> None:
    pair = ("NAME", "VALUE")
    add("-p", dest="parameters", action="append", nargs=2, default=[], metavar=pair, help=what)


def _add_recipe(add: Callable[..., object]) -> None:
    add("--recipe", metavar="R", help=f"reading of the method: {', '.join(RECIPES)}")


def _add_choices(add: Callable[..., object], out: str, notebooks: str) -> None:
    """The options of ``run`` and ``sweep`` for what is run, and where."""
    add("--profile", metavar="P", help=f"models and data: {', '.join(PROFILES)}")
    _add_recipe(add)
    add("--datasets", type=_names, metavar="A,B", help=f"some of {', '.join(DATASETS)}, or folders")
    add("--splits", type=_names, metavar="S,T", help="some of val, testA, ... (default: all)")
    what = f"which notebooks (default: {notebooks})"
    add("--notebooks", type=_names, metavar="01,05", default=[], help=what)
    add("--out", metavar="DIR", help=out)
    add("--store", metavar="DIR", help="where computed results are kept (default: runs/store)")
    limit = "only N images of each split; photographs are drawn at random (default: all)"
    add("--limit", metavar="N", help=limit)


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
    _add_choices(add, "where to write the report (default: runs/<profile>)", "all")
    _add_parameters(add, "a notebook parameter or any setting; may be repeated")
    add("--force", action="store_true", help="run everything, even if it is up to date")
    add("--check", action="store_true", help="say what has changed since the run; run nothing")
    add(
        "--prepare-only",
        action="store_true",
        help="write NN_name.prepared.ipynb with the parameters filled in, without running it",
    )
    run.set_defaults(call=commands.run)

    reruns.declare(command, _add_choices)
    course.declare(command, _add_choices)

    segment = command(
        "segment", "segment the object that an expression refers to", _SEGMENT, _SEGMENT_EXAMPLES
    )
    add = segment.add_argument
    add("image", metavar="IMAGE", help="a picture file, a folder of pictures or a CSV file")
    add("expressions", metavar="EXPRESSION", nargs="*", help='such as "the left cat"')
    add("--profile", metavar="P", default="embedded", help=f"one of {', '.join(PROFILES)}")
    _add_recipe(add)
    add("--encoder", metavar="NAME", help="image-text encoder, such as open_clip:embedded/clip-vit")
    add(
        "--out",
        metavar="FILE",
        help="overlay (default: overlay.png), or a folder (default: segmented)",
    )
    add("--mask", metavar="FILE.png", help="also save the mask as a greyscale image (0 and 255)")
    add("--rle", metavar="FILE.json", help="also save the mask and its score as COCO results")
    add("--html", metavar="FILE.html", help="also save an interactive page that shows all masks")
    _add_parameters(add, "any setting, such as alpha 0.2; may be repeated")
    segment.set_defaults(call=commands.segment)

    explore = command("explore", "look at a picture's masks and scores in a browser", _EXPLORE)
    add = explore.add_argument
    add("image", metavar="PICTURE", nargs="?", help="a picture file (default: the benchmark)")
    add("expression", metavar="EXPRESSION", nargs="?", default="", help='such as "the left cat"')
    add("--profile", metavar="P", default="embedded", help=f"one of {', '.join(PROFILES)}")
    _add_recipe(add)
    add("--port", metavar="N", default="8866", help="of 127.0.0.1 (default: 8866, or a free one)")
    add("--no-browser", action="store_true", help="only print the address")
    _add_parameters(add, "any setting, such as alpha 0.2; may be repeated")
    explore.set_defaults(call=commands.explore)

    fetch = command("fetch", "download the paper's models and datasets", _FETCH, _FETCH_EXAMPLES)
    add = fetch.add_argument
    add(
        "names",
        metavar="NAME",
        nargs="*",
        help="what to download, or a bundle: paper, lite, modern",
    )
    add("--to", metavar="DIR", help="where to save files (default: data/)")
    add(
        "--list",
        action="store_true",
        help="list all names, sizes and locations without downloading",
    )
    fetch.set_defaults(call=commands.fetch)

    doctor = command("doctor", "check whether a profile can run, and what is missing", _DOCTOR)
    add = doctor.add_argument
    add("--profile", metavar="P", default="embedded", help=f"one of {', '.join(PROFILES)}")
    add(
        "--data",
        metavar="DIR",
        default="",
        help="where to look for data and checkpoints (default: data/)",
    )
    add("--prove", action="store_true", help="compare the models' answers with published ones")
    add("--json", action="store_true", help="with --prove: print a JSON document")
    doctor.set_defaults(call=commands.doctor)

    bench = command("bench", "measure what the order of work and the store save", _BENCH)
    add = bench.add_argument
    add("--profile", metavar="P", default="embedded", help=f"one of {', '.join(PROFILES)}")
    add("--images", metavar="N", help="how many images to measure on (default: 4; lite: 2)")
    add("--out", metavar="FILE", help="default: tables/bench.csv and .md in runs/<profile>")
    reckoned = "measure nothing: print the time and memory that a public profile takes on GPUs"
    add("--reckon", action="store_true", help=reckoned)
    bench.set_defaults(call=commands.bench)

    convert = command("convert", "convert OpenAI's CLIP files to safetensors", _CONVERT)
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
        The exit status: 0 on success; 1 if a notebook or rows of a list failed, or a profile cannot
        run; 2 for bad input; 130 after Ctrl-C.
    """
    from tasnb.workbook.runner import NotebookFailed

    try:
        arguments = _arguments(argv)
        return arguments.call(arguments) or 0
    except InputError as error:
        return say(error, 2)
    except NotebookFailed as error:
        return say(error, 1)
    except KeyboardInterrupt:
        return say("interrupted; run the same command again to resume from the stored results", 130)
