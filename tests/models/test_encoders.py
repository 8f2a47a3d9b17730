"""The embedded image-text encoders: unit vectors that depend only on their own image or text."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasnb.method.scores import similarity
from tasnb.models.checkpoints import model_digest
from tasnb.models.encoders import Encoder, _hub_model, load_encoder, version_of
from tasnb.models.processors import pixels_of
from tasnb.settings import InputError, make_settings

NAMES = (*make_settings().encoders, *make_settings().other_encoders)
TEXTS = ["a cat", "the left dog", "a man in red", "a bird", "old car", "a photo of a tree"]


def images(count: int) -> list[np.ndarray]:
    """Noisy coloured images of different sizes and shapes, down to one pixel."""
    rng = np.random.default_rng(0)
    sizes = [(1, 1), (40, 64), (64, 40), (64, 64), (5, 3), (130, 90), (17, 90), (64, 65)]
    return [
        (rng.integers(0, 60, (*sizes[i % len(sizes)], 3)) + rng.integers(0, 196, 3)).astype(
            np.uint8
        )
        for i in range(count)
    ]


@pytest.fixture(scope="module", params=NAMES, ids=lambda name: name.rpartition("/")[2])
def encoders(request: pytest.FixtureRequest) -> dict[int, Encoder]:
    """One encoder, with batches of 64 and of 3."""
    return {size: load_encoder(request.param, make_settings(batch_size=size)) for size in (64, 3)}


def assert_units(vectors: np.ndarray, count: int) -> None:
    assert vectors.dtype == np.float32 and vectors.shape[0] == count
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), 1, atol=1e-5)


def test_images(encoders: dict[int, Encoder]) -> None:
    pictures = images(8)
    whole, small = (encoders[size].encode_images(pictures) for size in (64, 3))
    assert_units(whole, 8)
    np.testing.assert_allclose(small, whole, atol=1e-5)
    backwards = encoders[3].encode_images(pictures[::-1])
    np.testing.assert_allclose(backwards[::-1], whole, atol=1e-5)
    flat = whole.reshape(8, -1)
    assert abs(flat[:, None] - flat[None]).max(2)[~np.eye(8, dtype=bool)].min() > 1e-3


def test_an_image_may_be_of_any_height(encoders: dict[int, Encoder]) -> None:
    """Including 1, 3 and 4 rows, which could be mistaken for channels."""
    reds = [np.full((n, n, 3), (255, 0, 0), np.uint8) for n in (1, 3, 4, 5)]
    vectors = encoders[64].encode_images(reds)
    np.testing.assert_allclose(vectors, np.broadcast_to(vectors[3], vectors.shape), atol=1e-5)


def test_both_towers_meet_in_one_space(encoders: dict[int, Encoder]) -> None:
    encoder = encoders[64]
    seen, read = encoder.encode_images(images(1)), encoder.encode_texts(TEXTS[:1])
    assert seen.shape[-1] == read.shape[-1] and similarity(seen, read).shape == (1, 1)


def test_nothing_gives_nothing(encoders: dict[int, Encoder]) -> None:
    width = encoders[64].encode_texts(TEXTS[:1]).shape[1]
    for found in (encoders[64].encode_texts([]), encoders[64].encode_images([])):
        assert found.shape == (0, width) and found.dtype == np.float32


@settings(max_examples=8)
@given(
    st.lists(st.sampled_from(TEXTS) | st.text("abc def,.'é猫", max_size=12), min_size=1, max_size=8)
)
def test_texts(encoders: dict[int, Encoder], texts: list[str]) -> None:
    """A text has the same vector in any order, with any other texts, and for any batch size."""
    whole, small = (encoders[size].encode_texts(texts) for size in (64, 3))
    assert_units(whole, len(texts))
    np.testing.assert_allclose(small, whole, atol=1e-5)
    alone = {text: encoders[64].encode_texts([text])[0] for text in set(texts)}
    np.testing.assert_allclose(whole, [alone[text] for text in texts], atol=1e-5)


def test_different_texts_differ(encoders: dict[int, Encoder]) -> None:
    vectors = encoders[64].encode_texts(TEXTS)
    assert abs(vectors[:, None] - vectors[None]).max(2)[~np.eye(6, dtype=bool)].min() > 1e-3


def test_a_text_beyond_the_encoders_length_is_cut_with_a_warning(
    encoders: dict[int, Encoder],
) -> None:
    encoder = encoders[64]
    long = " ".join(["the left cat"] * 30)
    with pytest.warns(
        UserWarning, match=r"reads \d+ tokens at most; truncated: 'the left cat .* \(\d+ tokens\)"
    ):
        cut = encoder.encode_texts([long])
    assert_units(cut, 1)
    with pytest.warns(UserWarning, match="truncated"):  # what was cut off does not matter
        np.testing.assert_allclose(encoder.encode_texts([long + " and a dog"]), cut, atol=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder.encode_texts(TEXTS)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("open_clop:embedded/clip-vit", "unknown kind of encoder 'open_clop': did you mean 'open_"),
        (
            "open_clip:embedded/clip-vat",
            "unknown checkpoint 'embedded/clip-vat': did you mean 'emb",
        ),
        ("open_clip:ViT-B-32", "unknown checkpoint 'ViT-B-32': "),
    ],
)
def test_unknown_names(name: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        load_encoder(name, make_settings())
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


# --- other models


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A small architecture registered with open_clip, and a file of random weights for it."""
    import json

    import open_clip
    import torch

    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "patch_size": 8,
                       "head_width": 8},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2,
                     "layers": 1},
    }  # fmt: skip
    variants = {"": {}, "-quickgelu": {"quick_gelu": True}, "-custom": {"custom_text": True}}
    for suffix, extra in variants.items():
        name = f"tiny-clip{suffix}"
        (tmp_path / f"{name}.json").write_text(json.dumps({**config, **extra}))
        open_clip.add_model_config(tmp_path / f"{name}.json")
    torch.manual_seed(0)
    model = open_clip.create_model("tiny-clip")
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    return tmp_path / "weights.pt"


def test_any_model_of_open_clip_with_weights_from_a_file(tiny: Path) -> None:
    name = f"open_clip:tiny-clip/{tiny}"
    encoder = load_encoder(name, make_settings(encoders=[name]))
    assert_units(encoder.encode_images(images(3)), 3)
    assert_units(encoder.encode_texts(TEXTS), len(TEXTS))
    first = model_digest(name, make_settings())
    tiny.write_bytes(tiny.read_bytes() + b" ")
    assert model_digest(name, make_settings()) != first


def test_a_text_tower_of_its_own(tiny: Path) -> None:
    """As in SigLIP: a separate module that contains the projection."""
    import open_clip
    import torch

    path = tiny.with_name("custom.pt")
    torch.save(open_clip.create_model("tiny-clip-custom").state_dict(), path)
    encoder = load_encoder(f"open_clip:tiny-clip-custom/{path}", make_settings())
    assert type(encoder.model).__name__ == "CustomTextCLIP"
    assert_units(encoder.encode_images(images(2)), 2)
    assert_units(encoder.encode_texts(TEXTS), len(TEXTS))
    assert encoder.encode_images([]).shape == (0, 16)


def test_a_damaged_file_of_weights(tiny: Path) -> None:
    for content in (b"", b"no weights"):
        tiny.write_bytes(content)
        with pytest.raises(InputError, match="cannot load open_clip:tiny-clip/") as error:
            load_encoder(f"open_clip:tiny-clip/{tiny}", make_settings(batch_size=9))
        assert "\n" not in str(error.value)


def test_what_an_encoder_does_not_read_does_not_load_it_again() -> None:
    name = NAMES[0]
    first = load_encoder(name, make_settings())
    assert load_encoder(name, make_settings(captioner="git:embedded/git", alpha=0.3)) is first
    assert load_encoder(name, make_settings(batch_size=3)) is not first


def test_openais_weights_get_their_own_gelu(tiny: Path) -> None:
    assert _hub_model("open_clip:ViT-B-32/openai", Path("data"))[0] == "ViT-B-32-quickgelu"
    assert _hub_model("open_clip:RN50-quickgelu/openai", Path("data"))[0] == "RN50-quickgelu"
    assert _hub_model("open_clip:ViT-B-32/laion2b_s34b_b79k", Path("data"))[0] == "ViT-B-32"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("open_clip:ViT-B-23/openai", "unknown open_clip model 'ViT-B-23': did you mean"),
        (
            "open_clip:ViT-B-32/opneai",
            "unknown weights for ViT-B-32 'opneai': did you mean 'openai'",
        ),
    ],
)
def test_unknown_models_of_open_clip(name: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        load_encoder(name, make_settings())
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


# --- BLIP-2's image-text contrast


@pytest.fixture(scope="module")
def tiny_blip2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BLIP-2 for retrieval with the embedded tokenizer, in the format of a hub."""
    import torch
    from transformers import (
        AutoTokenizer,
        Blip2Config,
        Blip2ForImageTextRetrieval,
        Blip2Processor,
        Blip2QFormerConfig,
        Blip2VisionConfig,
        BlipImageProcessor,
    )

    folder = tmp_path_factory.mktemp("hub") / "blip2"
    data = make_settings().data / "embedded" / "checkpoints"
    tokenizer = AutoTokenizer.from_pretrained(data / "albef")
    vision = Blip2VisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        image_size=32, patch_size=16,
    )  # fmt: skip
    qformer = Blip2QFormerConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, encoder_hidden_size=16, use_qformer_text_input=True,
        max_position_embeddings=512, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    torch.manual_seed(0)
    model = Blip2ForImageTextRetrieval(
        Blip2Config(vision_config=vision, qformer_config=qformer, num_query_tokens=3,
                    image_text_hidden_size=8, image_token_index=None)
    )  # fmt: skip
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    size = {"height": 32, "width": 32}
    Blip2Processor(BlipImageProcessor(size=size), tokenizer).save_pretrained(folder)
    return folder


def test_towers_apart_say_what_blip2_says_of_a_pair(tiny_blip2: Path) -> None:
    """Compares with transformers' own joint forward pass, which is independent of tasnb."""
    import torch
    from transformers import AutoProcessor, Blip2ForImageTextRetrieval

    name = f"blip2-itc:{tiny_blip2}"
    encoder = load_encoder(name, make_settings())
    pictures = images(4)
    vectors = encoder.encode_images(pictures)
    assert vectors.shape == (4, 3, 8)  # queries
    model = Blip2ForImageTextRetrieval.from_pretrained(tiny_blip2).eval()
    processor = AutoProcessor.from_pretrained(tiny_blip2)
    words = processor.tokenizer(TEXTS, padding=True, return_tensors="pt")
    pixels = pixels_of(encoder.image_processor, pictures)
    with torch.inference_mode():
        joint = model(pixels, words.input_ids, words.attention_mask).logits_per_text
    found = similarity(vectors, encoder.encode_texts(TEXTS))
    np.testing.assert_allclose(found, joint.numpy(), atol=1e-5)


def as_lavis_does(text: str) -> str:
    """LAVIS's processor `blip_caption`, by regular expressions."""
    import re

    text = re.sub(r'[.!"()*#:;~]', " ", text.lower())
    words = re.sub(r"\s{2,}", " ", text).rstrip("\n").strip(" ").split(" ")
    return " ".join(words[:50])


def test_texts_are_spelt_and_cut_as_blip2s_authors_do(tiny_blip2: Path) -> None:
    encoder = load_encoder(f"blip2-itc:{tiny_blip2}", make_settings())
    assert encoder.room == 30  # 32 tokens, although it has 512 positions
    texts = [
        'A "red" car (old); left!', "the man's hat, isn't it?", "half-open door...",
        "#7 on ~ top: x", "", ".", "cat " * 40,
    ]  # fmt: skip
    found = encoder._words(texts)
    plain = [as_lavis_does(text) for text in texts]
    expected = encoder.tokenizer(
        plain, padding=True, truncation=True, max_length=32, return_tensors="pt"
    )
    assert found.input_ids.tolist() == expected.input_ids.tolist()
    assert found.input_ids.shape[1] == 32
    with pytest.warns(
        UserWarning, match=r"reads 30 tokens at most; truncated: 'cat cat .* \(40 tokens\)"
    ):
        cut = encoder.encode_texts(["cat " * 40, "cat " * 30])
    np.testing.assert_array_equal(*cut)
    same = encoder.encode_texts(["Left cat!", "left cat", "left cat?"])
    np.testing.assert_allclose(same[0], same[1], atol=1e-6)
    assert abs(same[2] - same[1]).max() > 1e-3  # a question mark is kept


def test_what_has_changed_has_another_version() -> None:
    assert version_of("blip2-itc:embedded/blip2-itc") == 2
    assert version_of("open_clip:embedded/clip-vit") == version_of("albef:ALBEF.pth") == 1


def test_a_blip2_without_its_text_side_is_refused(tiny_blip2: Path, tmp_path: Path) -> None:
    """transformers would fill the missing weights with noise and only warn."""
    import json
    import shutil

    from safetensors.torch import load_file, save_file

    copy = tmp_path / "captioner"
    shutil.copytree(tiny_blip2, copy)
    weights = load_file(copy / "model.safetensors")
    some = {k: v for k, v in weights.items() if "intermediate.dense" not in k}
    save_file(some, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"weight qformer.* is missing: not a model for retrieval"):
        load_encoder(f"blip2-itc:{copy}", make_settings())
    config = json.loads((tiny_blip2 / "config.json").read_text())
    del config["qformer_config"]["use_qformer_text_input"]  # spelled differently in old revisions
    (copy / "config.json").write_text(json.dumps(config))
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="its config does not set use_qformer_text_input"):
        load_encoder(f"blip2-itc:{copy}", make_settings())
