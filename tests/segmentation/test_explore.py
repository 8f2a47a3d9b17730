"""The explorer's session: what it shows, what it answers, and that errors leave it as it was."""

from __future__ import annotations

import copy
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from painted import PICTURES
from PIL import Image
from views import FIRST, first_settings

import tasnb
from tasnb.datasets.images import load_image
from tasnb.explorer.content import View
from tasnb.results import tables
from tasnb.segmentation.explore import ASKED_FIRST, Explorer, Session
from tasnb.settings import InputError, short
from tasnb.workbook.spare import RUN


@pytest.fixture(scope="module")
def column(shared_store: Path) -> Session:
    return Session(first_settings(shared_store), None)


@pytest.fixture
def session(column: Session) -> Session:
    """The session of a column, as when it was opened."""
    return copy.copy(column)


def file_of(picture: Path, suffix: str = "PNG") -> bytes:
    content = io.BytesIO()
    Image.open(picture).save(content, suffix)
    return content.getvalue()


def text_of(view: View) -> str:
    return view["expressions"][view["at"] - view["first"]]["text"]


def check_scores(view: View, session: Session, image: object, **settings: object) -> None:
    """The scores are those of ``segment`` with the same settings."""
    choice = view["choice"]
    own = {"encoders": [view["names"][choice["encoder"]]], "store": session.settings.store}
    own |= {name: choice[name] for name in ("recipe", "caption_input", "clip_input")}
    frame = tasnb.segment(image, text_of(view), **{**own, **settings}).frame
    expression = view["expressions"][view["at"] - view["first"]]
    assert [mask["id"] for mask in view["masks"]] == frame["mask_id"].tolist()
    evident = tasnb.segment(image, text_of(view), **{**own, **settings, "answers": "any"}).frame
    assert [name for name in "VPNCGE" if name in evident] == sorted(
        expression["scores"], key="VPNCGE".find
    )
    frame = frame.assign(E=evident["E"])
    both = f"{choice['clip_input']} {choice['caption_input']}"
    for name in expression["scores"]:
        form = both if name == "E" else choice["caption_input" if name == "P" else "clip_input"]
        shown = expression["scores"][name][f"{choice['encoder']} {form}"]
        np.testing.assert_allclose(shown, frame[name], rtol=0, atol=1e-6)
    assert view["captions"][choice["caption_input"]] == frame["caption"].tolist()


def test_a_series(session: Session) -> None:
    sentences = session.split.sentences
    view = session.view()
    assert (view["at"], view["first"], view["count"]) == (0, 0, len(sentences))
    assert len({sentences["image"].iloc[row] for row in range(len(view["expressions"]))}) == 1
    ahead = len(view["expressions"])  # the first expression about the second picture
    other = session.answer({"go": ahead})["view"]
    assert other["picture"]["src"] != view["picture"]["src"] and other["first"] == ahead
    for number in (0, ahead - 1, len(sentences) - 1):
        found = session.answer({"go": number})["view"]
        assert found["at"] == number and text_of(found) == sentences["sentence"].iloc[number]
    assert session.answer({"go": 10**6})["view"]["at"] == len(sentences) - 1
    assert session.answer({"go": -3})["view"]["at"] == 0
    json.dumps(view, allow_nan=False)


def test_jumps_lead_where_they_say(session: Session) -> None:
    settings = session.settings
    table = session.pipeline.scored("refscenes", "val", session.encoder)
    total = table.total(settings.alpha, settings.lam)
    right = {
        name: table.outcome(table.choose(score, rectify))["iou"].to_numpy() >= 0.5
        for name, score, rectify in (
            ("V", table.pairs["V"].to_numpy(), False),
            ("S", total, False),
            ("TAS", total, True),
        )
    }
    jumps = {jump["title"]: jump["at"] for jump in session.view()["jumps"]}
    for at in range(len(session.split.sentences)):
        v, s, all_ = (bool(right[name][at]) for name in ("V", "S", "TAS"))
        assert (at in jumps["V wrong, TAS right"]) == (not v and all_)
        assert (at in jumps["V right, TAS wrong"]) == (v and not all_)
        assert (at in jumps["the rectifier helps"]) == (not s and all_)
        assert (at in jumps["the rectifier hurts"]) == (s and not all_)
        found = session.answer({"go": at})["view"]
        if at in jumps["no mask is right"]:
            asked = found["expressions"][at - found["first"]]
            assert max(asked["truth"]["iou"], default=0) < 0.5


def test_jumps_where_answers_are_of_any_number(shared_store: Path) -> None:
    changes = {"recipe": "extended", "answers": "any", "least_evidence": 0.9}
    session = Session(first_settings(shared_store, **changes), None)
    jumps = {jump["title"]: jump["at"] for jump in session.view()["jumps"]}
    run, encoder = session.pipeline, session.encoder
    found = tables.outcome(run, "TAS", encoder, "refscenes", "val")
    count = found["mask_ids"].map(len)
    assert jumps["TAS answers with nothing"] == np.flatnonzero(count == 0).tolist()
    assert jumps["TAS answers with several masks"] == np.flatnonzero(count > 1).tolist()
    right = set(jumps["V wrong, TAS right"])
    assert right <= set(np.flatnonzero(found["iou"] >= 0.5).tolist())
    assert not right.intersection(jumps["TAS answers with nothing"])


def test_another_expression_takes_the_place_of_the_one_shown(session: Session) -> None:
    before = session.view()
    view = session.answer({"expression": " the thing in front ", "at": 2})["view"]
    assert text_of(view) == "the thing in front" and view["at"] == 2
    assert view["expressions"][2]["truth"] is None
    assert view["expressions"][1] == before["expressions"][1]
    image = next(iter(session.split.images.values()))
    check_scores(view, session, image)


def test_other_inputs_and_the_other_recipe(session: Session) -> None:
    image = next(iter(session.split.images.values()))
    encoder = short(session.settings.encoders[0])
    choice = {
        "recipe": "released", "encoder": encoder, "caption_input": "crop", "clip_input": "blur",
    }  # fmt: skip
    view = session.answer({"choice": choice, "at": 1})["view"]
    assert view["choice"] == choice and view["at"] == 1
    check_scores(view, session, image)
    back = session.answer({"choice": session.view()["choice"]})["view"]
    assert back["choice"]["recipe"] == "published"
    check_scores(back, session, image)


def test_the_recipe_beyond_the_paper(session: Session) -> None:
    image = next(iter(session.split.images.values()))
    before = session.view()
    own = before["recipes"]["extended"]
    assert own["clip_input"] == "both" and own["lam"] == 0.3
    inputs = {name: own[name] for name in ("caption_input", "clip_input")}
    choice = {**before["choice"], "recipe": "extended", **inputs}
    view = session.answer({"choice": choice, "at": 0})["view"]
    check_scores(view, session, image)
    expression = view["expressions"][0]
    assert expression["orientation"] == "" and all(expression["inside"])
    read = session.answer({"choice": choice, "expression": "second from the left", "at": 0})["view"]
    assert read["expressions"][0]["places"] == "left 2"
    check_scores(read, session, image)
    assert "G" not in before["expressions"][0]["scores"] and not before["expressions"][0]["places"]


def test_a_picture_of_ones_own(session: Session) -> None:
    asked = {"picture": "my cat's 🐈 photo.png", "text": "the animal at the top"}
    view = session.answer(asked, [memoryview(file_of(PICTURES[5]))])["view"]
    assert (view["at"], view["count"], view["jumps"]) == (0, 1, [])
    assert text_of(view) == "the animal at the top" and view["expressions"][0]["truth"] is None
    assert eval(view["code"]["image"]) == "my cat's 🐈 photo.png"
    check_scores(view, session, load_image(PICTURES[5]))
    first = session.answer({"picture": "b.png", "text": " "}, [file_of(PICTURES[5])])["view"]
    assert text_of(first) == ASKED_FIRST


def test_errors_are_one_line_and_leave_all_as_before(session: Session) -> None:
    session.answer({"go": 3})
    before = session.view()
    choice = before["choice"]
    thin = io.BytesIO()
    Image.new("RGB", (3000, 2)).save(thin, "PNG")
    wrong = [
        (
            {"picture": "notes.txt"},
            [b"no picture"],
            r"cannot read notes\.txt: choose a JPEG or PNG",
        ),
        ({"picture": "cut.png"}, [file_of(PICTURES[0])[:2000]], r"cannot read cut\.png: choose"),
        ({"picture": "thin.png"}, [thin.getvalue()], "is too thin, 3000 x 2 pixels"),
        ({"expression": "  "}, [], "expression"),
        ({"expression": "\ud800"}, [], "expression"),
        ({"choice": {**choice, "encoder": "clip-vit-9"}}, [], "clip-vit-9"),
        ({"choice": {**choice, "recipe": "secret"}, "at": 1}, [], "secret"),
        ({"choice": 7}, [], ""),
        ({"go": "next"}, [], ""),
        ({"picture": "none.png"}, [], ""),
    ]
    for asked, buffers, said in wrong:
        answer = session.answer({"choice": choice, **asked}, buffers)
        assert set(answer) == {"error"} and "\n" not in answer["error"]
        assert re.search(said, answer["error"]), answer
        assert session.view() == before
    assert text_of(session.answer({"go": 0})["view"])  # it goes on working


def test_two_sessions_do_not_mix(column: Session, shared_store: Path) -> None:
    one, other = copy.copy(column), Session(first_settings(shared_store), PICTURES[5], "the animal")
    first, second = one.view(), other.view()
    one.answer({"expression": "the left thing"})
    assert other.view() == second
    other.answer({"picture": "b.png", "text": "the dog"}, [file_of(PICTURES[6])])
    shown = one.view()
    assert shown["picture"] == first["picture"] and text_of(shown) == "the left thing"
    assert text_of(other.view()) == "the dog"


def test_what_explore_is_given(shared_store: Path) -> None:
    own = {**FIRST, "store": str(shared_store)}
    column = tasnb.explore(**own, alpha=0.3).view
    one = {"answers": "one", "several_share": 0.5, "least_evidence": 0.8}
    assert column["at"] == 0 and column["weights"] == {"alpha": 0.3, "lam": 0.7, **one}
    found = column["expressions"][2]["text"]
    assert text_of(tasnb.explore(expression=found, **own).view) == found
    assert tasnb.explore(sentence=3, **own).view["at"] == 3
    asked = tasnb.explore(expression="the purple zebra", **own).view
    assert asked["at"] == 0 and text_of(asked) == "the purple zebra"
    picture = tasnb.explore(str(PICTURES[5]), "the animal", **own).view
    assert eval(picture["code"]["image"]) == str(PICTURES[5]) and picture["count"] == 1
    for wrong in ({"sentence": 10**6}, {"expression": " "}, {"alpha": "a"}, {"image": "no.jpg"}):
        with pytest.raises(InputError):
            tasnb.explore(**{**own, **wrong})


def test_the_widget_answers_and_keeps_what_it_shows(column: Session) -> None:
    """Through the widget's own messages, except that nobody is connected."""
    widget = Explorer(copy.copy(column))
    sent: list[dict] = []
    widget.send = lambda content, buffers=None: sent.append(content)
    widget._handle_custom_msg({"number": "a-0", "go": 1}, [])
    widget._handle_custom_msg({"number": "a-1", "expression": ""}, [])
    told = [message["progress"] for message in sent if "progress" in message]
    sent = [message for message in sent if "progress" not in message]
    assert [(at, all_) for at, all_, _ in told] == [
        (at, len(told)) for at in range(1, len(told) + 1)
    ]
    assert [answer["number"] for answer in sent] == ["a-0", "a-1"]
    assert sent[0]["view"]["at"] == widget.view["at"] == 1
    assert sent[1]["error"] and widget.view == sent[0]["view"]


def test_where_nobody_clicks_it_leaves_a_page(
    column: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(RUN, "1")
    shown, _ = Explorer(copy.copy(column))._repr_mimebundle_()
    assert shown["text/html"].startswith("<iframe") and "srcdoc=" in shown["text/html"]
    assert shown["text/plain"] == f"explorer: {column.view()['expressions'][0]['text']}"
    monkeypatch.delenv(RUN)
    shown = Explorer(copy.copy(column))._repr_mimebundle_()
    shown = shown[0] if isinstance(shown, tuple) else shown
    assert "application/vnd.jupyter.widget-view+json" in shown


def test_a_process_waits_for_models_that_are_being_loaded(session: Session) -> None:
    """PyTorch aborts if the interpreter ends while a daemon is loading a model."""
    loading = session.warm()
    assert not loading.daemon
    loading.join()
