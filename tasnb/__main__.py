"""The command line: ``python -m tasnb run``, ``segment``, ``fetch`` and ``doctor``."""

from __future__ import annotations

import argparse
import json
import os
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
        help="segment pictures by expressions",
        description=_SEGMENT,
        epilog=_SEGMENT_EXAMPLES,
        formatter_class=plain,
        allow_abbrev=False,
    )
    add = segment.add_argument
    add("image", metavar="IMAGE", help="a picture file, a folder of pictures or a CSV file")
    add("expressions", metavar="EXPRESSION", nargs="*", help='such as "the left cat"')
    add("--profile", metavar="P", default="embedded", help=f"one of {', '.join(PROFILES)}")
    add("--encoder", metavar="NAME", help="image-text encoder, as open_clip:embedded/clip-vit")
    add("--out", metavar="FILE", help="overlay (default: overlay.png), or folder (segmented)")
    add("--mask", metavar="FILE.png", help="also the mask, as a grey picture (0 and 255)")
    add("--rle", metavar="FILE.json", help="also the mask as COCO results, with its score")
    add(
        "-p",
        dest="parameters",
        action="append",
        nargs=2,
        default=[],
        metavar=("NAME", "VALUE"),
        help="any setting, as alpha 0.2; repeatable",
    )
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
        overrides["limit"] = _whole("--limit", arguments.limit)
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


def _whole(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InputError(f"{name} {text!r}: should be a whole number, 0 for all") from None


def _segment(arguments: argparse.Namespace) -> int:
    from tasnb.parameters import settings_from_text
    from tasnb.picture_lists import LISTS

    overrides = {"profile": arguments.profile, **settings_from_text(dict(arguments.parameters))}
    if arguments.encoder:
        overrides["encoders"] = [arguments.encoder]
    image = Path(arguments.image)
    listed = image.suffix.lower() in LISTS and not image.is_dir()
    if not listed and not arguments.expressions:
        raise InputError(
            "the following arguments are required: EXPRESSION; see python -m tasnb segment --help"
        )
    if listed and arguments.expressions:
        raise InputError(
            f"{image} has expressions of its own; leave out {arguments.expressions[0]!r}"
        )
    out = arguments.out or ""
    folder = out.endswith(("/", os.sep)) or Path(out or "overlay.png").is_dir()
    if listed or folder or image.is_dir() or len(arguments.expressions) > 1:
        return _segment_several(arguments, image, overrides)
    _segment_one(arguments, overrides)
    return 0


def _segment_one(arguments: argparse.Namespace, overrides: dict[str, Any]) -> None:
    out = Path(arguments.out or "overlay.png")
    if out.suffix.lower() not in _PICTURES:
        raise InputError(f"--out {out}: the overlay's name should end in {', '.join(_PICTURES)}")
    files = {"--out": out}
    others = ("--mask", arguments.mask, ".png"), ("--rle", arguments.rle, ".json")
    for option, name, suffix in others:
        if name is not None:
            files[option] = Path(name)
            if files[option].suffix.lower() != suffix:
                raise InputError(f"{option} {name}: the file's name should end in {suffix}")
    if arguments.mask and files["--mask"].absolute() == out.absolute():
        raise InputError(f"--mask {out}: that is where the overlay goes; choose another name")

    from tasnb.files import atomic_write
    from tasnb.runner import check_writable
    from tasnb.segmentation import segment

    for file in files.values():
        check_writable(file.parent)
    result = segment(arguments.image, arguments.expressions[0], **overrides)
    if result.frame.empty:
        print("no mask was proposed in this picture: the answer is an empty mask")
    else:
        print(result.frame.to_string(index=False, float_format="{:.3f}".format))
    with atomic_write(out) as temporary:
        result.overlay().save(temporary)
    if "--mask" in files:
        with atomic_write(files["--mask"]) as temporary:
            result.mask_image().save(temporary)
    if "--rle" in files:
        record = {"row": 1, "image": arguments.image, **result.record()}
        with atomic_write(files["--rle"]) as temporary:
            temporary.write_text(json.dumps([record]) + "\n", encoding="utf-8")
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


def _segment_several(arguments: argparse.Namespace, image: Path, overrides: dict[str, Any]) -> int:
    out = Path(arguments.out or "segmented")
    if out.suffix.lower() in _PICTURES:
        raise InputError(f"--out {out}: several answers need a folder, as --out {out.stem}/")
    for option, name in (("--mask", arguments.mask), ("--rle", arguments.rle)):
        if name is not None:
            raise InputError(f"{option} is for one picture; --out {out} gets all masks anyway")

    from tasnb import picture_lists
    from tasnb.runner import check_writable
    from tasnb.settings import make_settings

    make_settings(**overrides)
    rows, left_out = picture_lists.rows_of(image, arguments.expressions)
    table = out / picture_lists.RESULTS
    if image.resolve() in (out.resolve(), table.resolve()):
        raise InputError(f"--out {out}: that would write over {image}; choose another folder")
    check_writable(out)
    failed = picture_lists.segment_list(rows, out, **overrides)
    if left_out:
        print(f"files of {image} left out because they are no pictures: {left_out}")
    print(f"masks: {len(rows) - failed} of {len(rows)} rows; see {table}")
    if failed:
        return _say(f"{failed} of {len(rows)} rows failed; {table} says why, column error", 1)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Returns:
        The exit status: 0, 1 for a notebook or rows of a list that failed or a profile that cannot
        run, 2 for bad input, 130 after Ctrl-C.
    """
    from tasnb.runner import NotebookFailed

    try:
        arguments = _arguments(argv)
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
