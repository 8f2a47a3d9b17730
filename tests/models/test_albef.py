"""ALBEF's towers against a slow implementation, and the keys of its authors' file."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tasnb.models import albef
from tasnb.models.devices import forget
from tasnb.models.encoders import load_encoder
from tasnb.settings import InputError, make_settings

TINY = {
    "image_size": 32, "patch_size": 16, "width": 12, "depth": 2, "heads": 2, "text_width": 12,
    "text_depth": 2, "text_heads": 2, "vocabulary": 30, "positions": 16, "embed_dim": 6,
    "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25),
}  # fmt: skip


def published(prefix: str, image_tokens: int) -> dict[str, tuple[int, ...]]:
    """Keys and shapes as ALBEF's own modules define them, including unused ones.

    Args:
        prefix: Prefix of BERT's keys: "text_encoder.bert." in the pre-trained file,
            "text_encoder." in the retrieval files.
        image_tokens: 257 at 256 pixels a side, 577 at 384.
    """
    w, wide = 768, 3072
    keys: dict[str, tuple[int, ...]] = {
        "visual_encoder.cls_token": (1, 1, w),
        "visual_encoder.pos_embed": (1, image_tokens, w),
        "visual_encoder.patch_embed.proj.weight": (w, 3, 16, 16),
        "visual_encoder.patch_embed.proj.bias": (w,),
        "visual_encoder.norm.weight": (w,),
        "visual_encoder.norm.bias": (w,),
        f"{prefix}embeddings.position_ids": (1, 512),
        f"{prefix}embeddings.word_embeddings.weight": (30522, w),
        f"{prefix}embeddings.position_embeddings.weight": (512, w),
        f"{prefix}embeddings.token_type_embeddings.weight": (2, w),
        f"{prefix}embeddings.LayerNorm.weight": (w,),
        f"{prefix}embeddings.LayerNorm.bias": (w,),
        "text_encoder.cls.predictions.bias": (30522,),
        "text_encoder.cls.predictions.transform.dense.weight": (w, w),
        "text_encoder.cls.predictions.transform.dense.bias": (w,),
        "text_encoder.cls.predictions.transform.LayerNorm.weight": (w,),
        "text_encoder.cls.predictions.transform.LayerNorm.bias": (w,),
        "text_encoder.cls.predictions.decoder.weight": (30522, w),
        "text_encoder.cls.predictions.decoder.bias": (30522,),
        "vision_proj.weight": (256, w),
        "vision_proj.bias": (256,),
        "text_proj.weight": (256, w),
        "text_proj.bias": (256,),
        "temp": (),
        "itm_head.weight": (2, w),
        "itm_head.bias": (2,),
        "visual_encoder_m.cls_token": (1, 1, w),
        "text_encoder_m.bert.embeddings.word_embeddings.weight": (30522, w),
        "vision_proj_m.weight": (256, w),
        "text_proj_m.bias": (256,),
        "image_queue": (256, 65536),
        "text_queue": (256, 65536),
        "queue_ptr": (1,),
    }
    for n in range(12):
        block = f"visual_encoder.blocks.{n}."
        keys |= {
            block + "norm1.weight": (w,), block + "norm1.bias": (w,),
            block + "attn.qkv.weight": (3 * w, w), block + "attn.qkv.bias": (3 * w,),
            block + "attn.proj.weight": (w, w), block + "attn.proj.bias": (w,),
            block + "norm2.weight": (w,), block + "norm2.bias": (w,),
            block + "mlp.fc1.weight": (wide, w), block + "mlp.fc1.bias": (wide,),
            block + "mlp.fc2.weight": (w, wide), block + "mlp.fc2.bias": (w,),
        }  # fmt: skip
        layer = f"{prefix}encoder.layer.{n}."
        for attention in ("attention", *(["crossattention"] if n >= 6 else [])):
            for part in ("self.query", "self.key", "self.value", "output.dense"):
                keys[f"{layer}{attention}.{part}.weight"] = (w, w)
                keys[f"{layer}{attention}.{part}.bias"] = (w,)
            keys[f"{layer}{attention}.output.LayerNorm.weight"] = (w,)
            keys[f"{layer}{attention}.output.LayerNorm.bias"] = (w,)
        keys |= {
            layer + "intermediate.dense.weight": (wide, w),
            layer + "intermediate.dense.bias": (wide,),
            layer + "output.dense.weight": (w, wide), layer + "output.dense.bias": (w,),
            layer + "output.LayerNorm.weight": (w,), layer + "output.LayerNorm.bias": (w,),
        }  # fmt: skip
    return keys


def without_memory(keys: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Weights that store a single number, different for each, whatever their shape."""
    return {
        key: torch.full((), (n % 97) / 970).expand(shape)
        for n, (key, shape) in enumerate(keys.items())
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prefix", "tokens", "side"),
    [("text_encoder.bert.", 257, 256), ("text_encoder.", 577, 384)],
)
def test_the_published_keys_fit(prefix: str, tokens: int, side: int) -> None:
    weights = without_memory(published(prefix, tokens))
    model = albef.from_public(weights)
    assert model.config["image_size"] == side and not model.training
    own = model.state_dict()
    for ours, theirs in {
        "visual_encoder.blocks.7.attn.qkv.weight": "visual_encoder.blocks.7.attn.qkv.weight",
        "text_encoder.encoder.layer.5.output.dense.bias":
            f"{prefix}encoder.layer.5.output.dense.bias",
        "text_encoder.embeddings.word_embeddings.weight":
            f"{prefix}embeddings.word_embeddings.weight",
        "text_proj.bias": "text_proj.bias",
    }.items():  # fmt: skip
        assert torch.equal(own[ours], weights[theirs]), ours


@pytest.mark.slow
def test_a_missing_a_surplus_and_a_wrong_weight() -> None:
    keys = published("text_encoder.", 257)
    for lost in ("vision_proj.bias", "visual_encoder.pos_embed"):
        some = without_memory({k: v for k, v in keys.items() if k != lost})
        with pytest.raises(KeyError, match=f"(missing weights: |no ){lost}"):
            albef.from_public(some)
    with pytest.raises(
        KeyError, match=r"unexpected weights: visual_encoder\.blocks\.12\.norm1\.weight"
    ):
        more = {**keys, "visual_encoder.blocks.12.norm1.weight": (768,)}
        albef.from_public(without_memory(more))
    with pytest.raises(
        ValueError, match=r"text_proj.weight has the shape \(256, 1024\) instead of \(256, 768\)"
    ):
        albef.from_public(without_memory({**keys, "text_proj.weight": (256, 1024)}))


@pytest.fixture
def tiny() -> albef.Albef:
    torch.manual_seed(0)
    model = albef.Albef(TINY).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def norm(x: Tensor, weights: dict[str, Tensor], name: str, eps: float) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    spread = centred.pow(2).mean(-1, keepdim=True).add(eps).sqrt()
    return centred / spread * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    parts = []
    for a, b, c in zip(q.chunk(heads, -1), k.chunk(heads, -1), v.chunk(heads, -1), strict=True):
        parts.append((a @ b.T / a.shape[-1] ** 0.5).softmax(-1) @ c)
    return torch.cat(parts, -1)


def line(x: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def test_images_by_hand(tiny: albef.Albef) -> None:
    """Pre-norm blocks on patches and a class token, a final norm, the projection, unit length."""
    pixels = torch.randn(1, 3, 32, 32)
    w = {k: v.detach() for k, v in tiny.state_dict().items()}
    at = "visual_encoder."
    kernel, bias = w[f"{at}patch_embed.proj.weight"], w[f"{at}patch_embed.proj.bias"]
    patches = [
        (kernel * pixels[0, :, y : y + 16, x : x + 16]).sum((1, 2, 3)) + bias
        for y in (0, 16)
        for x in (0, 16)
    ]
    x = torch.stack([w[f"{at}cls_token"][0, 0], *patches]) + w[f"{at}pos_embed"][0]
    for n in range(2):
        block = f"{at}blocks.{n}."
        qkv = line(norm(x, w, f"{block}norm1", 1e-6), w, f"{block}attn.qkv")
        x = x + line(attend(*qkv.chunk(3, -1), 2), w, f"{block}attn.proj")
        hidden = F.gelu(line(norm(x, w, f"{block}norm2", 1e-6), w, f"{block}mlp.fc1"))
        x = x + line(hidden, w, f"{block}mlp.fc2")
    vector = line(norm(x, w, f"{at}norm", 1e-6)[0], w, "vision_proj")
    found = tiny.encode_images(pixels)[0]
    torch.testing.assert_close(found, vector / vector.norm(), atol=1e-5, rtol=1e-4)


def test_texts_by_hand(tiny: albef.Albef) -> None:
    """Post-norm layers; the projection of the first token's vector; padding is ignored."""
    ids = torch.tensor([[3, 7, 5, 9]])
    w = {k: v.detach() for k, v in tiny.state_dict().items()}
    at = "text_encoder.embeddings."
    x = w[f"{at}word_embeddings.weight"][ids[0]] + w[f"{at}position_embeddings.weight"][:4]
    x = norm(x + w[f"{at}token_type_embeddings.weight"][0], w, f"{at}LayerNorm", 1e-12)
    for n in range(2):
        layer = f"text_encoder.encoder.layer.{n}."
        q, k, v = (line(x, w, f"{layer}attention.self.{p}") for p in ("query", "key", "value"))
        out = line(attend(q, k, v, 2), w, f"{layer}attention.output.dense")
        x = norm(x + out, w, f"{layer}attention.output.LayerNorm", 1e-12)
        out = line(F.gelu(line(x, w, f"{layer}intermediate.dense")), w, f"{layer}output.dense")
        x = norm(x + out, w, f"{layer}output.LayerNorm", 1e-12)
    found = tiny.encode_texts(ids, torch.ones_like(ids))[0]
    torch.testing.assert_close(found, line(x[0], w, "text_proj"), atol=1e-5, rtol=1e-4)
    padded = tiny.encode_texts(
        torch.cat([ids, torch.zeros(1, 3, dtype=torch.long)], 1),
        torch.tensor([[1, 1, 1, 1, 0, 0, 0]]),
    )[0]
    torch.testing.assert_close(padded, found, atol=1e-5, rtol=1e-4)


# --- by name

EMBEDDED = "albef:embedded/albef"


def test_the_embedded_checkpoint_reads_images_and_texts() -> None:
    encoder = load_encoder(EMBEDDED, make_settings())
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (40, 30 + k, 3), dtype=np.uint8) for k in range(3)]
    vectors = encoder.encode_images(images)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(encoder.encode_images(images[1:2]), vectors[1:2], atol=1e-4)
    first, second = encoder.encode_texts(["A red-car.", "a red car"])
    np.testing.assert_allclose(first, second, atol=1e-5)  # it was trained without these marks
    with pytest.warns(UserWarning, match="truncated"):
        encoder.encode_texts(["the cat " * 20])


def test_a_file_that_is_no_albef(tmp_path: Path) -> None:
    torch.save({"model": {"layer.weight": torch.zeros(2)}}, tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("not a checkpoint")
    (tmp_path / "empty.pth").write_bytes(b"")
    for file, message in (
        ("other.pth", "no visual_encoder.pos_embed: not an ALBEF checkpoint"),
        ("text.pth", ""),
        ("empty.pth", ""),
        ("nowhere.pth", "No such file"),
    ):
        with pytest.raises(InputError, match=f"cannot load albef:.*{message}") as error:
            load_encoder(f"albef:{tmp_path / file}", make_settings())
        assert "\n" not in str(error.value) and "the ALBEF authors' file" in str(error.value)
    for other in ("clip-vit", "blip2"):
        with pytest.raises(InputError, match=f"cannot load albef:embedded/{other}"):
            load_encoder(f"albef:embedded/{other}", make_settings())


def test_a_file_of_the_authors_with_berts_words_beside_it(
    tiny: albef.Albef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small file with the published keys, and a vocabulary in the format of BERT's."""
    monkeypatch.setattr(albef, "PUBLIC", TINY)
    weights = {
        re.sub("^text_encoder", "text_encoder.bert", k): v for k, v in tiny.state_dict().items()
    }
    torch.save({"model": {**weights, "temp": torch.ones(())}}, tmp_path / "ALBEF.pth")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "car", "left"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    with pytest.raises(InputError, match="its vocabulary has 9 words, the model's 30"):
        load_encoder(f"albef:{tmp_path / 'ALBEF.pth'}", make_settings())
    (tmp_path / "vocab.txt").write_text("\n".join([*words, *map(str, range(21))]))
    encoder = load_encoder(f"albef:{tmp_path / 'ALBEF.pth'}", make_settings())
    found = encoder.encode_texts(["A red-car!"], normalize=False)[0]
    ids = torch.tensor([[2, 5, 6, 7, 3]])
    expected = tiny.encode_texts(ids, torch.ones_like(ids))[0].detach()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    (tmp_path / "vocab.txt").unlink()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    forget()
    with pytest.raises(InputError, match=r"BERT's tokenizer .*expected BERT's vocab.txt in"):
        load_encoder(f"albef:{tmp_path / 'ALBEF.pth'}", make_settings())
