"""Every model of the profiles paper and lite at its real size, with random weights, on one image.

Tests cannot download weights. Instead, the real classes are built at their real sizes, random
weights are written in the published layouts, the workbook's loaders read them, and one image is
processed. Seconds and memory are printed for each stage. These tests run only on request, with
``pytest -m real_size``; they write up to 8 GB at a time and take minutes.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from freesolo_layout import published
from PIL import Image
from pycocotools import mask as coco_mask

from tasnb.baselines.scoring import METHODS, methods_of
from tasnb.datasets.images import load_image
from tasnb.method.masked_images import masked_images
from tasnb.method.proposals import propose
from tasnb.models import albef
from tasnb.models.captioners import load_captioner
from tasnb.models.clip.towers import tower_of
from tasnb.models.devices import bytes_of, device, forget
from tasnb.models.encoders import load_encoder
from tasnb.models.proposal_networks import load_proposal_network
from tasnb.models.sam import PUBLIC_SAM
from tasnb.results.speed import clock
from tasnb.settings import ROOT, Settings, make_settings

pytestmark = pytest.mark.real_size

OURS = ROOT / "data" / "embedded" / "checkpoints"
HEIGHT, WIDTH = 480, 640
LIMIT = 20.0  # GB of memory
PRECISION = "half" if device().type == "cuda" else "full"


def random_weights(model: torch.nn.Module, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Gives random weights to a model that was built on the meta device."""
    return random_values(model.state_dict(), dtype)


def random_values(shapes: dict[str, torch.Tensor], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Small noise, and norms of 1."""
    noise = torch.randn(1 << 20, generator=torch.Generator().manual_seed(0)).to(dtype) * 0.02
    found = {}
    for name, value in shapes.items():
        if not value.is_floating_point():
            continue
        count = value.numel()
        flat = noise.repeat(-(-count // len(noise)))[:count]
        is_scale = ("norm" in name.lower() and name.endswith("weight")) or "running_var" in name
        found[name] = (torch.ones(count, dtype=dtype) if is_scale else flat).reshape(value.shape)
    return found


def on_meta(build: Callable[[], torch.nn.Module]) -> torch.nn.Module:
    with torch.device("meta"):
        return build()


def write_folder(
    folder: Path, config: Any, build: Callable[[], Any], dtype: torch.dtype, beside: str, side: int
) -> None:
    """Writes a transformers model: config, weights, and an embedded processor at its image size."""
    from safetensors.torch import save_file
    from transformers import AutoProcessor

    folder.mkdir()
    model = on_meta(build)
    config.architectures = [type(model).__name__]
    config.save_pretrained(folder)
    tied = getattr(model, "_tied_weights_keys", None) or ()
    weights = {k: v for k, v in random_weights(model, dtype).items() if k not in tied}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    processor = AutoProcessor.from_pretrained(OURS / beside)
    processor.image_processor.size = {"height": side, "width": side}
    if getattr(processor.image_processor, "crop_size", None):
        processor.image_processor.crop_size = {"height": side, "width": side}
    processor.save_pretrained(folder)


def write_blip2(folder: Path) -> str:
    from transformers import Blip2Config, Blip2ForConditionalGeneration, OPTConfig

    text = OPTConfig(
        hidden_size=2560, word_embed_proj_dim=2560, ffn_dim=10240, num_hidden_layers=32,
        num_attention_heads=32, vocab_size=50304, max_position_embeddings=2048,
    )  # fmt: skip
    config = Blip2Config(text_config=text, num_query_tokens=32, image_token_index=50265)
    build = lambda: Blip2ForConditionalGeneration(config)  # noqa: E731
    write_folder(folder, config, build, torch.bfloat16, "blip2", 224)
    return f"blip2:{folder}"


def write_git(folder: Path) -> str:
    from transformers import GitConfig, GitForCausalLM

    config = GitConfig()
    write_folder(folder, config, lambda: GitForCausalLM(config), torch.float32, "git", 224)
    return f"git:{folder}"


def write_blip2_itc(folder: Path) -> str:
    from transformers import Blip2Config, Blip2ForImageTextRetrieval

    config = Blip2Config(
        qformer_config={"use_qformer_text_input": True, "vocab_size": 30523},
        image_text_hidden_size=256,
    )
    build = lambda: Blip2ForImageTextRetrieval(config)  # noqa: E731
    write_folder(folder, config, build, torch.float16, "blip2-itc", 224)
    return f"blip2-itc:{folder}"


def write_sam(size: str) -> Callable[[Path], str]:
    def write(folder: Path) -> str:
        from segment_anything import sam_model_registry

        folder.mkdir()
        model = on_meta(sam_model_registry[size])
        torch.save(random_weights(model, torch.float32), folder / PUBLIC_SAM[size])
        return f"sam:{size}/{folder / PUBLIC_SAM[size]}"

    return write


def write_hf_sam(folder: Path) -> str:
    from safetensors.torch import save_file
    from transformers import SamConfig, SamImageProcessor, SamModel, SamProcessor

    folder.mkdir()
    config = SamConfig()
    config.architectures = ["SamModel"]
    config.save_pretrained(folder)
    weights = random_weights(on_meta(lambda: SamModel(config)), torch.float32)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    SamProcessor(SamImageProcessor()).save_pretrained(folder)
    return f"hf:{folder}"


def write_clip(architecture: str) -> Callable[[Path], str]:
    def write(folder: Path) -> str:
        import open_clip

        folder.mkdir()
        model = open_clip.create_model(architecture, device="meta")
        torch.save(random_weights(model, torch.float32), folder / "clip.pt")
        return f"open_clip:{architecture}/{folder / 'clip.pt'}"

    return write


def write_albef(folder: Path) -> str:
    folder.mkdir()
    model = on_meta(lambda: albef.Albef({**albef.PUBLIC, "image_size": 384}))
    weights = random_weights(model, torch.float32)
    inner = "text_encoder."
    weights = {k.replace(inner, f"{inner}bert.") if k.startswith(inner) else k: v
               for k, v in weights.items()}  # fmt: skip
    torch.save({"model": weights}, folder / "ALBEF.pth")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "left", "cat"]
    words += [f"[unused{i}]" for i in range(albef.PUBLIC["vocabulary"] - len(words))]
    (folder / "vocab.txt").write_text("\n".join(words))
    return f"albef:{folder / 'ALBEF.pth'}"


def write_freesolo(folder: Path) -> str:
    folder.mkdir()
    shapes = {name: torch.empty(shape, device="meta") for name, shape in published().items()}
    torch.save({"model": random_values(shapes, torch.float32)}, folder / "FreeSOLO.pth")
    return f"freesolo:{folder / 'FreeSOLO.pth'}"


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """An image of the benchmark, enlarged to the size of a photograph."""
    found = load_image(ROOT / "data" / "embedded" / "images" / "000001.jpg")
    return np.asarray(Image.fromarray(found).resize((WIDTH, HEIGHT)))


@pytest.fixture(scope="module")
def report(pytestconfig: pytest.Config) -> Iterator[list[str]]:
    """Lines printed at the end, even if pytest captures output."""
    lines: list[str] = []
    yield lines
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print("\n\n" + "\n".join(lines))


def three_masks() -> np.ndarray:
    masks = np.zeros((3, HEIGHT, WIDTH), bool)
    masks[0, 40:240, 50:300] = masks[1, 200:460, 320:600] = masks[2, 300:400, 20:200] = True
    return masks


def crops_of(image: np.ndarray, form: str) -> list[np.ndarray]:
    return masked_images(image, three_masks(), form, 75)


def settings_of(profile: str, **names: Any) -> Settings:
    # No mask of random weights would pass the paper's thresholds.
    return make_settings(profile, pred_iou_thresh=0.0, stability_score_thresh=0.0, **names)


def through_network(name: str, profile: str) -> Callable[[np.ndarray], str]:
    def run(image: np.ndarray) -> str:
        network = load_proposal_network(settings_of(profile, proposal_network=name))
        masks = propose(image, network)
        return f"{len(masks)} masks, {bytes_of(network) / 1e9:.1f} GB of weights"

    return run


def through_captioner(name: str, profile: str) -> Callable[[np.ndarray], str]:
    def run(image: np.ndarray) -> str:
        # On most CPUs 16 bits are many times slower than 32.
        captioner = load_captioner(settings_of(profile, captioner=name, precision=PRECISION))
        said = captioner.caption([image, *crops_of(image, "blur")])
        assert len(said) == 4 and all(isinstance(text, str) for text in said)
        return f"{len(said)} captions, {bytes_of(captioner) / 1e9:.1f} GB of weights"

    return run


def through_encoder(name: str, profile: str) -> Callable[[np.ndarray], str]:
    def run(image: np.ndarray) -> str:
        settings = settings_of(profile, encoders=[name])
        encoder = load_encoder(name, settings)
        vectors = encoder.encode_images(crops_of(image, "crop"))
        texts = encoder.encode_texts(["left cat", "a photo of a cat"])
        assert vectors.shape[-1] == texts.shape[-1] and np.isfinite(vectors).all()
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), 1, atol=1e-3)
        methods = [m for m in methods_of(name, settings) if METHODS[m]]
        for method in methods:
            with torch.inference_mode():
                found = METHODS[method][0](tower_of(encoder), image, three_masks())
            assert len(found) == 3 and np.isfinite(found).all()
        return f"{vectors.shape[-1]} numbers, {', '.join(methods) or 'no baselines'}"

    return run


STAGES = {
    ("paper", "SAM ViT-H"): (write_sam("vit_h"), through_network),
    ("paper", "BLIP-2 OPT-2.7b"): (write_blip2, through_captioner),
    ("paper", "CLIP RN50"): (write_clip("RN50"), through_encoder),
    ("paper", "CLIP ViT-B/32"): (write_clip("ViT-B-32"), through_encoder),
    ("paper", "FreeSOLO R101"): (write_freesolo, through_network),
    ("paper", "GIT base"): (write_git, through_captioner),
    ("paper", "BLIP-2 contrast"): (write_blip2_itc, through_encoder),
    ("paper", "ALBEF"): (write_albef, through_encoder),
    ("lite", "SAM ViT-B"): (write_sam("vit_b"), through_network),
    ("lite", "SAM ViT-B (hf)"): (write_hf_sam, through_network),
    ("lite", "GIT base"): (write_git, through_captioner),
    ("lite", "CLIP ViT-B/32"): (write_clip("ViT-B-32"), through_encoder),
}


@pytest.mark.parametrize(("profile", "name"), STAGES, ids=lambda value: value)
def test_a_stage(
    profile: str, name: str, image: np.ndarray, report: list[str], tmp_path: Path
) -> None:
    if shutil.disk_usage(tmp_path).free < 12e9 or memory_gb() < LIMIT:
        pytest.skip(f"needs 12 GB of disk and {LIMIT:.0f} GB of memory")
    write, through = STAGES[profile, name]
    model = write(tmp_path / "model")
    forget()  # and what writing the weights has left
    run = through(model, profile)
    with clock() as first:
        said = run(image)
    again = "        "
    if first.seconds < 60:
        began = time.perf_counter()
        run(image)
        again = f"{time.perf_counter() - began:6.1f} s"
    report.append(
        f"{profile:6} {name:16} {device()}: with loading {first.seconds:6.1f} s, alone {again}, "
        f"peak {first.peak_gb:5.1f} GB; {said}"
    )
    forget()
    shutil.rmtree(tmp_path / "model")
    if device().type == "cpu":
        assert first.peak_gb < LIMIT


def memory_gb() -> float:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9


def test_lite_answers_about_a_photograph(
    image: np.ndarray, report: list[str], tmp_path: Path
) -> None:
    """The whole lite profile in one call, then everything after SAM with a usual number of masks.

    Random weights propose almost nothing, so the second call uses boxes as masks.
    """
    import tasnb

    models = {
        "captioner": write_git(tmp_path / "git"),
        "encoders": [write_clip("ViT-B-32")(tmp_path / "clip")],
    }
    networks = {
        "SAM": write_sam("vit_b")(tmp_path / "sam"),
        "boxes instead of SAM": write_boxes(tmp_path / "masks.json"),
    }
    photograph = tmp_path / "000001.png"
    Image.fromarray(image).save(photograph)
    thresholds = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "min_mask_area": 500.0}
    for name, network in networks.items():
        forget()
        options = {**models, **thresholds, "proposal_network": network}
        with clock() as cost:
            result = tasnb.segment(
                photograph, "the left cat", "lite", store=str(tmp_path / name), **options
            )
        assert result.mask.shape == (HEIGHT, WIDTH)
        report.append(
            f"lite   a photograph and an expression, {name}, {len(result.frame)} masks: "
            f"{cost.seconds:.1f} s with loading, peak {cost.peak_gb:.1f} GB"
        )
    assert len(result.frame) == 15


def write_boxes(path: Path) -> str:
    """Writes fifteen boxes side by side, as COCO results."""
    found = []
    for row in range(3):
        for column in range(5):
            mask = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
            mask[row * 160 :, column * 128 :][:150, :120] = 1
            rle = coco_mask.encode(mask)
            segmentation = {"size": rle["size"], "counts": rle["counts"].decode()}
            found.append({"image_id": 1, "segmentation": segmentation})
    path.write_text(json.dumps(found))
    return f"file:{path}"
