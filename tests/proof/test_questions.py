"""What models in transformers are asked: at points, and with a prompt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_captioners
import tiny_networks
from PIL import Image

from tasnb.models.captioners import load_captioner
from tasnb.proof.answers import Answer
from tasnb.proof.questions import ask
from tasnb.settings import InputError, make_settings

PICTURE = np.random.default_rng(0).integers(0, 256, (48, 80, 3), dtype=np.uint8)
KNOWN = {"picture": "cats", "source": "this test"}


def test_the_scores_at_a_point_are_those_of_transformers(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForMaskGeneration, AutoProcessor

    folder = tiny_networks.sam2(tmp_path / "sam2")
    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForMaskGeneration.from_pretrained(folder)
    given = processor(
        images=Image.fromarray(PICTURE), input_points=[[[[60, 10]]]], return_tensors="pt"
    )
    with torch.inference_mode():
        wanted = sorted(model(**given).iou_scores.flatten().tolist(), reverse=True)
    name = f"hf:{folder}"
    answer = Answer(
        model=name, ask="prompt", point=(60, 10), expected=wanted, tolerance=1e-4, **KNOWN
    )
    found = ask(answer, make_settings(), PICTURE)
    assert len(found) == 3 and answer.agrees(found)
    box = answer.model_copy(update={"point": None, "box": (1, 2, 30, 40)})
    with pytest.raises(InputError, match="takes no points and boxes"):
        ask(box, make_settings(), PICTURE)


def test_a_captioner_is_asked_the_question_of_the_answer(tmp_path: Path) -> None:
    name = f"hf:{tiny_captioners.internvl(tmp_path / 'internvl')}"
    prompt = "Please describe the image explicitly."
    own = {"prompt": prompt, "split_images": True}
    asked = Answer(model=name, ask="caption", tokens=6, expected="", **own, **KNOWN)
    plain = asked.model_copy(update={"prompt": None, "split_images": False})
    settings = make_settings(captioner=name, max_new_tokens=6, num_beams=1)
    (wanted,) = load_captioner(settings.model_copy(update=own)).caption([PICTURE])
    assert ask(asked, make_settings(), PICTURE) == wanted
    assert ask(plain, make_settings(), PICTURE) == load_captioner(settings).caption([PICTURE])[0]
