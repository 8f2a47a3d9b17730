"""What each command of ``python -m tasnb`` does with its arguments."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from tasnb.cli.given import given, given_for_pictures, say, whole
from tasnb.settings import InputError

_PICTURES = (".png", ".jpg", ".jpeg", ".webp")


def run(arguments: argparse.Namespace) -> int:
    from tasnb.cli.doctor import check_named
    from tasnb.reruns import overview
    from tasnb.workbook import headline, runner
    from tasnb.workbook.parameters import from_text, settings_of

    overrides = given(arguments)
    notebooks = runner.select(arguments.notebooks)
    overrides.update(from_text(notebooks, dict(arguments.parameters)))

    if arguments.check:
        return _check(runner.check(notebooks, overrides))
    if not arguments.prepare_only:
        check_named(settings_of(overrides))
    done = runner.run(
        notebooks, overrides, force=arguments.force, prepare_only=arguments.prepare_only
    )
    if arguments.prepare_only:
        print(f"prepared notebooks: {done}")
        return 0
    table = done.parent / "tables" / "table1.md"
    if table.is_file():
        print(f"\n{table.read_text(encoding='utf-8').strip()}\n")
    print(f"report: {done}")
    if page := overview.renew(done.parent):
        print(f"all runs: {page}")
    if checked := headline.paper_check(settings_of(overrides)):
        print(checked)
    return 0


def _check(changes: dict[str, list[str]]) -> int:
    """Prints what has changed since a run; returns 1 if anything has, else 0."""
    for name, reasons in changes.items():
        more = f" and {len(reasons) - 4} more" if len(reasons) > 4 else ""
        print(f"{name}: {'; '.join(reasons[:4]) + more if reasons else 'up to date'}")
    stale = sum(map(bool, changes.values()))
    if stale:
        return say(
            f"{stale} of {len(changes)} notebooks not up to date; the same command without "
            "--check runs them",
            1,
        )
    return 0


def segment(arguments: argparse.Namespace) -> int:
    from tasnb.cli.picture_lists import LISTS

    overrides = given_for_pictures(arguments)
    if arguments.encoder:
        overrides["encoders"] = [arguments.encoder]
    if not arguments.image.strip():
        raise InputError("the image is blank; name a picture, a folder of pictures or a list")
    image = Path(arguments.image)
    listed = image.suffix.lower() in LISTS and not image.is_dir()
    if not listed and not arguments.expressions:
        raise InputError(
            "the following arguments are required: EXPRESSION; see python -m tasnb segment --help"
        )
    if listed and arguments.expressions:
        raise InputError(
            f"{image} contains the expressions; leave out {arguments.expressions[0]!r}"
        )
    out = arguments.out or ""
    folder = out.endswith(("/", os.sep)) or Path(out or "overlay.png").is_dir()
    if listed or folder or image.is_dir() or len(arguments.expressions) > 1:
        return _segment_several(arguments, image, overrides)
    _segment_one(arguments, overrides)
    return 0


def explore(arguments: argparse.Namespace) -> int:
    from tasnb.cli import explorer

    return explorer.explore(arguments)


def _segment_one(arguments: argparse.Namespace, overrides: dict[str, Any]) -> None:
    out = Path(arguments.out or "overlay.png")
    if out.suffix.lower() not in _PICTURES:
        raise InputError(
            f"--out {out}: the overlay's file name should end in {', '.join(_PICTURES)}"
        )
    files = {"--out": out}
    others = (
        ("--mask", arguments.mask, ".png"),
        ("--rle", arguments.rle, ".json"),
        ("--html", arguments.html, ".html"),
    )
    for option, name, suffix in others:
        if name is not None:
            files[option] = Path(name)
            if files[option].suffix.lower() != suffix:
                raise InputError(f"{option} {name}: the file's name should end in {suffix}")
    if arguments.mask and files["--mask"].resolve() == out.resolve():
        raise InputError(f"--mask {out}: the overlay is saved there; choose another name")
    for option, file in files.items():
        if file.resolve() == Path(arguments.image).resolve():
            raise InputError(f"{option} {file}: that is the picture itself; choose another name")

    from tasnb.segmentation.answer import apart
    from tasnb.segmentation.many import segment
    from tasnb.store.files import atomic_write, check_writable

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
    if "--html" in files:
        from tasnb.explorer.page import page
        from tasnb.segmentation.explore import Session
        from tasnb.settings import make_settings

        session = Session(make_settings(**overrides), arguments.image, arguments.expressions[0])
        with atomic_write(files["--html"]) as temporary:
            temporary.write_text(page(session.view()), encoding="utf-8")
        print(f"page: {files['--html']}")
    share = 100 * float(result.mask.mean())
    count = len(result.chosen)
    if result.fits_nothing:
        found, least = apart(result.evidence, result.least_evidence)
        print(
            f"no mask: nothing in the picture fits {arguments.expressions[0]!r}: the evidence for "
            f"the best mask, {found}, is below least_evidence, {least}; overlay: {out}"
        )
    elif count > 1:
        print(f"{count} masks: together {share:.1f} % of the picture; overlay: {out}")
    else:
        print(f"mask: {share:.1f} % of the picture; overlay: {out}")


def _segment_several(arguments: argparse.Namespace, image: Path, overrides: dict[str, Any]) -> int:
    out = Path(arguments.out or "segmented")
    if out.suffix.lower() in _PICTURES:
        raise InputError(
            f"--out {out}: several answers need a folder, such as --out {out.with_suffix('')}/"
        )
    single = ("--mask", arguments.mask), ("--rle", arguments.rle), ("--html", arguments.html)
    for option, name in single:
        if name is not None:
            raise InputError(
                f"{option} works for a single picture only; all masks are saved to --out {out}"
            )

    from tasnb.cli import picture_lists
    from tasnb.settings import make_settings
    from tasnb.store.files import check_writable

    make_settings(**overrides)
    rows, left_out = picture_lists.rows_of(image, arguments.expressions)
    table = out / picture_lists.RESULTS
    if image.resolve() in (out.resolve(), table.resolve()):
        raise InputError(f"--out {out}: that would overwrite {image}; choose another folder")
    check_writable(out)
    failed, nothing = picture_lists.segment_list(rows, out, **overrides)
    if left_out:
        print(f"skipped files in {image} that are not pictures: {left_out}")
    if nothing:
        print(f"no mask: nothing fits the expression in {nothing} of {len(rows)} rows")
    print(f"masks: {len(rows) - failed - nothing} of {len(rows)} rows; see {table}")
    if failed:
        return say(f"{failed} of {len(rows)} rows failed; see the column error in {table}", 1)
    return 0


def fetch(arguments: argparse.Namespace) -> None:
    from tasnb import fetch as fetching

    if arguments.list:
        if arguments.names:
            raise InputError(f"--list lists everything: leave out {' '.join(arguments.names)}")
        print(fetching.listing(arguments.to))
    elif arguments.names:
        fetching.fetch(arguments.names, arguments.to)
    else:
        raise InputError("say what to download; python -m tasnb fetch --list shows the names")


def doctor(arguments: argparse.Namespace) -> int:
    from tasnb.cli.doctor import examine, line
    from tasnb.settings import make_settings

    data = str(Path(arguments.data).expanduser().absolute()) if arguments.data else ""
    settings = make_settings(arguments.profile, data=data)
    if arguments.prove:
        from tasnb.cli.proof import prove

        return prove(settings, as_json=arguments.json)
    if arguments.json:
        raise InputError("--json is for --prove: add --prove, or leave out --json")
    missing = 0
    for finding in examine(settings):
        print(line(finding, 34), flush=True)
        missing += finding.verdict == "missing"
    if missing:
        return say(
            f"profile {settings.profile} cannot run: {missing} requirements missing, see above", 1
        )
    print(f"profile {settings.profile} can run")
    return 0


def bench(arguments: argparse.Namespace) -> int:
    if arguments.reckon:
        from tasnb.bench import reckon

        if arguments.out:
            raise InputError(f"--reckon only prints: leave out --out {arguments.out}")
        print(reckon.report(arguments.profile))
        return 0

    from tasnb.bench import report

    count = None if arguments.images is None else whole("--images", arguments.images)
    same = report(arguments.profile, count, arguments.out)
    return 0 if same else say("the two orders of work give different results, see above", 1)


def convert(arguments: argparse.Namespace) -> None:
    from tasnb.models import checkpoints

    target = checkpoints.convert(Path(arguments.file).expanduser().absolute())
    print(f"weights: {target}")
