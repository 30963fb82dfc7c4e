"""The small text-to-image prior: what is shipped fits the code that loads any other, and is made by one command."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bench.api import PROCEDURAL_PRIOR
from bench.runner.plan import plan_cells
from bench.schema.request import Request, prior_digest
from methods._latent_diffusion import load
from pretraining import prior
from pretraining.prior import model
from pretraining.prior.corpus import Corpus
from pretraining.products import products


@pytest.fixture(scope="module")
def shipped():
    return load("procedural", "toy.model")


def test_the_shipped_model_is_small_and_says_how_it_came_about(shipped):
    files = [path for path in PROCEDURAL_PRIOR.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 6e6
    about = json.loads((PROCEDURAL_PRIOR / "about.json").read_text())
    assert about["command"].endswith(f" prior --seed {about['seed']}")
    assert (shipped.size, shipped.length, shipped.width) == (model.SIZE, model.LENGTH, model.WIDTH)
    assert (shipped.masker.in_features, shipped.masker.out_features) == (model.ROW, model.FACES)
    assert shipped.grid(50).tolist() == list(range(999, 0, -20))


def test_a_cell_says_which_of_them_it_had(monkeypatch, tmp_path):
    """Another model is another key: what an earlier one gave is not taken for finished."""

    def keys(methods, detector, part="method"):
        request = Request(methods=methods, detectors=(detector,), cache=tmp_path)
        return {cell.spec["method"]: (cell.key, cell.spec.get(f"{part}_prior")) for cell in plan_cells(request)}

    before = keys(("replaycad", "finetune"), "padim")
    monkeypatch.setattr("bench.runner.plan.prior_digest", lambda: "another")
    after = keys(("replaycad", "finetune"), "padim")
    assert before["replaycad"][1] == prior_digest() and after["replaycad"][1] == "another"
    assert before["replaycad"][0] != after["replaycad"][0]
    assert before["finetune"] == after["finetune"] and before["finetune"][1] is None
    assert keys(("finetune",), "amn_diffusion", "detector")["finetune"][1] == "another"


def test_its_autoencoder_restores_products_that_it_has_not_seen(shipped):
    images = Corpus.of(1234, 24, 1).images.float() / 255
    with torch.no_grad():
        restored = shipped.decode(shipped.encode(images, sample=False))
    error = (restored - images).square().mean((1, 2, 3))
    assert (-10 * error.log10()).mean() > 28, "dB"


def test_its_denoiser_reads_words_and_masks(shipped):
    """The loss on products of the corpus is lower with their own words and masks than with another's."""
    views, known = prior.Size().views, prior.Size().known
    corpus = Corpus.of(0, known, views)
    with torch.no_grad():
        clean, places = (
            shipped.encode(pictures[::views].float() / 255, sample=False) for pictures in (corpus.images, corpus.masks)
        )
        text = shipped.context(shipped.tokens([" ".join(["a photo of a", *model.name(i)]) for i in range(known)]))
        rows = places.flatten(1).unflatten(1, (-1, model.ROW))
        where = shipped.masker(rows).relu().flatten(1).unflatten(1, (-1, model.WIDTH))
        t = torch.full((len(clean),), 600)
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
        noised, target = shipped.scheduler.add_noise(clean, noise, t), shipped.target(clean, noise, t)

        def loss(words, masks) -> float:
            return (shipped.predict(noised, t, torch.cat([words, masks], 1)) - target).square().mean().item()

        own = loss(text, where)
        assert own < 0.9 * loss(text.roll(1, 0), where), "words"
        assert own < loss(text, where.roll(1, 0)), "masks"


SMALL = prior.Size(products=12, views=2, autoencoder=2, denoiser=2, known=3)


def test_a_few_steps_run_and_give_the_same_weights_again(tmp_path):
    said = []
    runs = [prior.prior(tmp_path / str(i), i // 2, SMALL, said.append) for i in range(3)]
    part = "unet/diffusion_pytorch_model.safetensors"
    first, again, other = (load_file(tmp_path / str(i) / part) for i in range(3))
    assert runs[0] == runs[1]
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)
    assert any("denoiser 2/2" in line for line in said)


def test_an_autoencoder_that_is_there_is_taken_up_and_gives_the_same_model(tmp_path, monkeypatch):
    whole = prior.prior(tmp_path / "whole", 0, SMALL, lambda line: None)
    with monkeypatch.context() as patch:
        patch.setattr(prior, "train_denoiser", lambda *given: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            prior.prior(tmp_path / "cut", 0, SMALL, lambda line: None)
    said = []
    assert prior.prior(tmp_path / "cut", 0, SMALL, said.append) == whole
    assert any("taken up" in line for line in said)
    assert not (tmp_path / "cut" / prior.HALF).exists()


def test_a_known_product_is_named_by_what_the_encoder_saw(tmp_path):
    """Its words stand in the vocabulary at the scale of the names that the denoiser was trained with."""
    prior.prior(tmp_path, 0, SMALL, lambda line: None)
    made = load(str(tmp_path), "toy.model")
    tokens = made.tokenizer(" ".join(model.name(2)), add_special_tokens=False).input_ids
    assert len(set(tokens)) == model.WORDS and made.tokenizer.unk_token_id not in tokens
    vectors = made.text_encoder.get_input_embeddings().weight[tokens]
    assert vectors.std(1).allclose(torch.ones(model.WORDS), atol=0.2)
    assert made.tokenizer.unk_token_id in made.tokenizer(model.name(3)[0], add_special_tokens=False).input_ids


def test_products_are_seeded_and_masks_lie_where_the_item_is():
    def draw(seed: int):
        rng = np.random.default_rng(seed)
        return [product.draw(rng, 64) for product in products(rng, 12, 6, 80)]

    for (image, mask), (twin, same) in zip(draw(3), draw(3), strict=True):
        assert np.array_equal(image, twin) and np.array_equal(mask, same)
        assert image.shape == (64, 64, 3) and 0.02 < mask.mean() <= 1
