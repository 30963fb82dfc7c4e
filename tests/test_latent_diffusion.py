"""Text-to-image models: loaded part by part in both layouts, their grid, their pseudo-words, and what is missing."""

import shutil

import pytest
import torch
from diffusers import DDIMScheduler
from priors import BETAS, FACTOR, LENGTH, SIZE, WIDTH, ldm, stable_diffusion

from bench.api import BadInput
from methods._latent_diffusion import load

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=[stable_diffusion, ldm], ids=lambda layout: layout.__name__)
def folder(request, tmp_path_factory):
    return request.param(tmp_path_factory.mktemp("prior"))


@pytest.fixture(scope="module")
def model(folder):
    return load(str(folder), "toy.model")


def test_what_was_saved_is_what_is_loaded(model, folder):
    assert (model.size, model.length, model.width, model.factor, model.channels) == (SIZE, LENGTH, WIDTH, FACTOR, 4)
    from safetensors.torch import load_file

    saved = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(value, saved[name]) for name, value in model.unet.state_dict().items())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    model.train()
    assert not any(part.training for part in (model.unet, model.vae, model.text_encoder))


def test_the_unet_can_be_trained_and_the_rest_not(folder):
    model = load(str(folder), "toy.model", train_unet=True)
    assert all(parameter.requires_grad for parameter in model.unet.parameters())
    assert not any(p.requires_grad for part in (model.vae, model.text_encoder) for p in part.parameters())


def test_the_grid_is_that_of_the_reference_whatever_scheduler_was_saved(model):
    assert model.grid(50).tolist() == list(range(981, 0, -20))
    reference = DDIMScheduler(**BETAS, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    assert torch.equal(model.scheduler.alphas_cumprod, reference.alphas_cumprod)
    assert model.scheduler.final_alpha_cumprod == reference.alphas_cumprod[0]


def test_what_the_unet_predicts_is_what_it_was_trained_for(folder, tmp_path):
    """A model of velocities under a noise that ends in noise alone: its steps lead from that to the clean latents."""
    shutil.copytree(folder, tmp_path / "velocities")
    ends = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
    DDIMScheduler(**BETAS, **ends).save_pretrained(tmp_path / "velocities" / "scheduler")
    plain, made = (load(str(place), "toy.model") for place in (folder, tmp_path / "velocities"))
    clean, noise = torch.randn(2, 2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    assert plain.target(clean, noise, torch.tensor([7, 800])) is noise
    grid = made.grid(50)
    assert grid.tolist() == list(range(999, 0, -20))
    assert torch.equal(made.scheduler.add_noise(clean, noise, grid[:1]), noise)
    assert torch.allclose(made.target(clean, noise, grid[:1]), -clean)
    latents = noise
    for t in grid:
        latents = made.scheduler.step(made.target(clean, noise, t[None]), t, latents, eta=0.0).prev_sample
    assert torch.allclose(latents, made.scheduler.add_noise(clean, noise, torch.tensor([0])), atol=1e-4)


def test_an_autoencoder_without_a_posterior_has_certain_latents():
    model = load("procedural", "toy.model")
    image = torch.rand(2, 3, model.size, model.size)
    mean, deviation = model.posterior(image)
    assert mean.shape == (2, model.channels, model.size // model.factor, model.size // model.factor)
    assert not deviation.any() and torch.equal(model.encode(image, sample=True), mean)
    assert model.decode(mean).shape == image.shape


def test_encoding_draws_from_the_posterior_or_takes_its_mean(model):
    image = torch.rand(2, 3, SIZE, SIZE)
    mean = model.encode(image, sample=False)
    assert mean.shape == (2, 4, SIZE // FACTOR, SIZE // FACTOR)
    assert torch.equal(mean, model.encode(image, sample=False))
    assert not torch.equal(mean, model.encode(image, sample=True))
    expected = model.vae.encode(2 * image - 1).latent_dist.mean * 0.18215
    assert torch.allclose(mean, expected)
    decoded = model.decode(mean)
    assert decoded.shape == image.shape and decoded.min() >= 0 and decoded.max() <= 1


def test_pseudo_words_stand_in_for_embeddings_and_get_gradients(model):
    tokens = model.tokens(["a photo of a *", ""])
    assert tokens.shape == (2, LENGTH)
    plain = model.context(tokens)
    assert plain.shape == (2, LENGTH, WIDTH)
    places = torch.full_like(tokens, -1)
    places[0, 3:5] = torch.tensor([0, 1])
    embedding = model.text_encoder.get_input_embeddings().weight
    same = embedding[tokens[0, 3:5]].clone()
    with model.pseudo_words(same, places):
        assert torch.allclose(model.context(tokens), plain, atol=1e-6), "their own embeddings change nothing"
    vectors = torch.randn(2, WIDTH, requires_grad=True)
    with model.pseudo_words(vectors, places):
        spoken = model.context(tokens)
    assert torch.allclose(spoken[1], plain[1]) and not torch.allclose(spoken[0], plain[0])
    spoken[0].square().sum().backward()
    assert vectors.grad.abs().sum(1).min() > 0
    assert torch.equal(model.context(tokens), plain), "the hook is gone"


def test_sampling_is_guided_as_the_reference_says(model):
    """One step of DDIM by hand, with the empty prompt padded on its left with zeros."""
    torch.manual_seed(0)
    context = torch.randn(2, LENGTH + 3, WIDTH)
    blank = model.context(model.tokens([""]))
    made = model.sample(context, blank, steps=1, guidance=3.0, generator=torch.Generator().manual_seed(5))
    z = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(5))
    padded = torch.cat([torch.zeros(1, 3, WIDTH), blank], 1).expand(2, -1, -1)
    with torch.no_grad():
        without, given = model.predict(z, torch.tensor(1), padded), model.predict(z, torch.tensor(1), context)
    noise = without + 3 * (given - without)
    a, final = model.scheduler.alphas_cumprod[1], model.scheduler.alphas_cumprod[0]
    clean = (z - (1 - a).sqrt() * noise) / a.sqrt()
    assert torch.allclose(made, final.sqrt() * clean + (1 - final).sqrt() * noise, atol=1e-5)
    alone = model.sample(context, blank, steps=3, guidance=1.0, generator=torch.Generator().manual_seed(5))
    again = model.sample(context, 9 * blank, steps=3, guidance=1.0, generator=torch.Generator().manual_seed(5))
    assert torch.equal(alone, again), "at guidance 1 the empty prompt plays no part"


def test_half_precision_and_checkpointing_give_nearly_the_same(model, folder):
    lean = load(str(folder), "toy.model", dtype=torch.bfloat16, checkpointing=True, slicing=True)
    assert lean.unet.dtype == torch.bfloat16
    z, t = torch.randn(2, 4, 4, 4), torch.tensor([10, 700])
    context = torch.randn(2, LENGTH, WIDTH, requires_grad=True)
    exact, rough = model.predict(z, t, context), lean.predict(z, t, context)
    assert rough.dtype == torch.float32
    assert (exact - rough).abs().mean() < 0.05 * exact.abs().mean()
    rough.square().mean().backward()
    assert context.grad.abs().sum() > 0


def test_what_is_not_there_is_named_with_the_way_to_get_it():
    for source in ("/no/such/folder", "CompVis/ldm-text2im-large-256", "stable-diffusion-v1-5/stable-diffusion-v1-5"):
        with pytest.raises(BadInput, match=f"toy.model={source}: no such folder") as told:
            load(source, "toy.model")
        assert f"DiffusionPipeline.download('{source}')" in str(told.value)


@pytest.mark.parametrize("part", ["unet", "tokenizer", "scheduler"])
def test_a_missing_part_is_named(folder, tmp_path, part):
    shutil.copytree(folder, tmp_path / "model")
    shutil.rmtree(tmp_path / "model" / part)
    with pytest.raises(BadInput, match=f"lacks its folder {part}; save all of vae, unet"):
        load(str(tmp_path / "model"), "toy.model")


def test_a_part_without_weights_is_named(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "model")
    (tmp_path / "model" / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(BadInput, match="its part unet cannot be loaded"):
        load(str(tmp_path / "model"), "toy.model")
