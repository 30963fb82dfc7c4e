"""ReplayCAD by hand: what learns, what is kept and counted, masks and their jitter, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import toy
from given import held_bytes
from PIL import Image
from priors import LENGTH, SIZE, WIDTH, ldm, stable_diffusion

from bench.api import BadInput, Plugin, Setup
from methods import replaycad
from methods._latent_diffusion import load
from methods.replaycad.code import ClassCode, Latents, MaskTokens, _times, learn, recall
from methods.replaycad.jitter import augmented, jittered
from methods.replaycad.masks import Sam, foreground, from_folder
from methods.replaycad.prompts import LISTS, MARK, REPLAY, TEMPLATES, placed, start
from methods.replaycad.released import RELEASED

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=[stable_diffusion, ldm], ids=lambda layout: layout.__name__)
def folder(request, tmp_path_factory):
    return request.param(tmp_path_factory.mktemp("prior"))


@pytest.fixture(scope="module")
def model(folder):
    return load(str(folder), "replaycad.model")


def config(model_folder="", **options) -> replaycad.Config:
    """Two batches per class on a model of a few weights: latents of 64 numbers, tokens of 32."""
    small = replaycad.Config(
        model=str(model_folder), words=2, first_word="", row=16, features=8, steps=2, batch_size=3, templates=2,
        masks=2, replays=5, sampling_steps=2, guidance=2.0, jitter="small:2:0.1",
    )  # fmt: skip
    return replace(small, **options)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(6, 3, 24, 24, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def masks(images) -> torch.Tensor:
    drawn = torch.zeros(len(images), 24, 24, dtype=torch.bool)
    drawn[:, 6:18, 4:16] = True
    return drawn


def test_only_words_and_mask_network_learn_and_the_prior_stays_as_it_is(model, images, masks):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(0)
    first = ClassCode.new(model, config())
    torch.manual_seed(0)
    losses = []
    code = learn(model, config(), images, masks, losses.append)
    assert len(losses) == 2 and np.isfinite(losses).all()
    assert all((a != b).any() for a, b in zip(code.parameters(), first.parameters(), strict=True))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in model.parameters())


def test_learning_lowers_the_loss_on_what_is_learned(model, images, masks):
    """On the same draws of images, times and noise before and after."""
    wanted = config(rate=2e-3)
    tokens, places = placed(model, TEMPLATES[:1], wanted.words)

    @torch.no_grad()
    def loss(code) -> float:
        torch.manual_seed(1)
        clean, where = Latents(model, images, masks, "none").draw(torch.arange(96) % len(images))
        t, noise = torch.randint(1000, (96,)), torch.randn(clean.shape)
        context = code.context(model, tokens, places, torch.zeros(96, dtype=torch.long), where)
        target = model.target(clean, noise, t)
        return (model.predict(model.scheduler.add_noise(clean, noise, t), t, context) - target).square().mean().item()

    torch.manual_seed(0)
    untrained = learn(model, replace(wanted, steps=0), images, masks)
    torch.manual_seed(0)
    assert loss(learn(model, replace(wanted, steps=60), images, masks)) < loss(untrained)


def test_kept_bytes_are_those_of_the_formula(model, images, masks):
    state = learn(model, config(), images, masks).state()
    masks_bytes = sum(len(mask) for mask in state["masks"])
    assert held_bytes(state) == 4 * (2 * WIDTH + 16 * 8 + 8) + masks_bytes
    assert len(state["masks"]) == 2 and masks_bytes < 2 * 200
    state = learn(model, config(masks_from="none"), images, masks).state()
    assert held_bytes(state) == 4 * 2 * WIDTH, "words alone"


@pytest.mark.parametrize(
    ("width", "words", "row", "features", "latent", "tokens", "kept"),
    [
        (1280, 20, 128, 200, (4, 32, 32), 5, 205_600),  # LDM-256
        (768, 20, 128, 192, (4, 64, 64), 32, 160_512),  # SD 1.5
        (768, 20, 512, 192, (4, 64, 64), 8, 455_424),  # SD 1.5, larger
    ],
)
def test_bytes_and_tokens_at_the_papers_sizes(width, words, row, features, latent, tokens, kept):
    where = MaskTokens(row, features, width)
    assert where(torch.randn(1, *latent)).shape == (1, tokens, width)
    assert held_bytes(ClassCode(torch.zeros(words, width), where, []).state()) == kept


def test_mask_tokens_are_rows_of_the_latent_in_order():
    where = MaskTokens(4, 2, 3)
    z = torch.randn(2, 2, 3, 2)
    rows = z.reshape(2, 3, 4)
    expected = (rows @ where.linear.weight.T + where.linear.bias).relu().reshape(2, 2, 3)
    assert torch.allclose(where(z), expected)


def test_a_code_comes_back_from_its_state_and_replays_alike(model, images, masks):
    code = learn(model, config(), images, masks)
    twin = ClassCode.of(code.state(), model.width)
    first, again = recall(model, config(), code, 24, seed=3), recall(model, config(), twin, 24, seed=3)
    assert first.shape == (5, 3, 24, 24) and first.dtype == torch.uint8
    assert torch.equal(first, again)
    assert not torch.equal(first, recall(model, config(), code, 24, seed=4))
    assert recall(model, config(jpeg=True), code, 24, seed=3).shape == first.shape


def test_the_mark_becomes_the_pseudo_words_and_the_rest_moves_right(model):
    tokens, places = placed(model, ("a photo of a *", "a * photo"), 3)
    assert tokens.shape == places.shape == (2, LENGTH)
    mark = model.tokenizer(MARK, add_special_tokens=False).input_ids[0]
    plain = model.tokenizer("a * photo").input_ids
    at = plain.index(mark)
    assert places[1].tolist() == [-1] * at + [0, 1, 2] + [-1] * (LENGTH - at - 3)
    after = plain[at + 1 :][: LENGTH - at - 3]
    assert tokens[1].tolist()[at + 3 : at + 3 + len(after)] == after
    with pytest.raises(BadInput, match=f"replaycad.words=40: the model reads {LENGTH} tokens only"):
        placed(model, (REPLAY,), 40)


def test_words_start_from_a_word_or_from_draws_like_the_vocabulary(model):
    embeddings = model.text_encoder.get_input_embeddings().weight
    number = model.tokenizer("a", add_special_tokens=False).input_ids[0]
    assert torch.equal(start(model, "a", 2), embeddings[number].repeat(2, 1))
    torch.manual_seed(0)
    drawn = start(model, "", 500)
    assert drawn.std() == pytest.approx(embeddings.std().item(), rel=0.2)


def test_there_are_eighty_templates_each_with_one_mark():
    assert len(TEMPLATES) == len(set(TEMPLATES)) == 80
    assert TEMPLATES[0] == REPLAY and all(text.count(MARK) == 1 for text in TEMPLATES)


def test_the_released_prompts_are_textual_inversions():
    listed = LISTS["textual_inversion"]
    assert len(listed) == 81 and len(set(listed)) == 57 and all(text.count(MARK) == 1 for text in listed)
    assert (
        listed[0] == "a photo of a *" and listed[27] == "an illustration of a *" and listed[54] == "a depiction of a *"
    )
    assert listed[29] == listed[2] == "a cropped photo of the *"


def test_a_replay_is_asked_for_with_the_prompt_given(model, images, masks):
    torch.manual_seed(0)
    settings = config()
    code = learn(model, settings, images, masks)
    found = [
        recall(model, replace(settings, prompt=text), code, 24, seed=3) for text in (REPLAY, REPLAY, "a photo of *")
    ]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


@pytest.mark.parametrize("source", ["real", "autoencoder"])
def test_the_controls_replay_real_images_or_what_the_autoencoder_makes_of_them(source, toy_folder):
    strategy, other = (method(toy_folder, replay_from=source, replays=4) for _ in range(2))
    toy.train(strategy, labels=True, last=2)
    plugin = strategy.methods[0]
    assert not plugin.codes and list(plugin.replays) == [0, 1]
    real = {bytes(image.mul(255).round().byte().numpy()) for image in toy.images(0)}
    same = [bytes(image.numpy()) in real for image in plugin.replays[0]]
    assert len(same) == 4 and all(same) == any(same) == (source == "real")
    assert (plugin.report()["fixed_bytes"] == 0) == (source == "real")
    kept = 2 * 4 * 3 * 8 * 8
    assert held_bytes(plugin.state_dict()) == kept + 2 * 8 + 8
    other.methods[0].load_state_dict(plugin.state_dict())
    assert torch.equal(other.methods[0].recall()[1][0], plugin.recall()[1][0])


def test_the_detector_leaves_out_a_last_batch_where_the_method_says_so(toy_folder):
    assert method(toy_folder, drop_last=True).model.drop_last
    assert not method(toy_folder).model.drop_last


def test_noisy_times_follow_the_cube():
    torch.manual_seed(0)
    assert _times(1000, 4000, True).double().mean() == pytest.approx(800, abs=10)
    assert _times(1000, 4000, False).double().mean() == pytest.approx(500, abs=20)


def method(folder, *, spies=(), **options):
    return toy.strategy(replaycad, spies=spies, **vars(config(folder, **options)))


@pytest.fixture(scope="module")
def toy_folder(tmp_path_factory):
    return stable_diffusion(tmp_path_factory.mktemp("prior"))


def test_every_step_trains_on_old_replays_and_new_images_from_the_same_start(toy_folder):
    seen, starts = [], []

    class Spy(Plugin):
        def before_training_exp(self, strategy, **_):
            seen.append(len(strategy.adapted_dataset))
            starts.append({name: value.clone() for name, value in strategy.model.state_dict().items()})

    strategy = method(toy_folder, spies=[Spy()])
    toy.train(strategy, labels=True)
    assert seen == [toy.IMAGES, toy.IMAGES + 5, toy.IMAGES + 10]
    assert all(torch.equal(value, starts[0][name]) for begin in starts for name, value in begin.items())
    plugin = strategy.methods[0]
    assert list(plugin.codes) == [0, 1, 2] and list(plugin.replays) == [0, 1], "made once, when needed"
    assert {c: found[0].shape for c, found in plugin.recall().items()} == dict.fromkeys(range(3), (5, 3, 8, 8))
    assert list(plugin.exhibits(torch.zeros(4, 3, 8, 8), 1)) == ["replay"]
    assert plugin.report()["fixed_bytes"] > 0
    carried = held_bytes(plugin.state_dict())
    masks = sum(len(mask) for code in plugin.codes.values() for mask in code.masks)
    assert carried == 3 * 4 * (2 * WIDTH + 16 * 8 + 8) + masks + 3 * 8 + 8


def test_a_warm_start_goes_on_from_the_last_step(toy_folder):
    starts = []

    class Spy(Plugin):
        def before_training_exp(self, strategy, **_):
            starts.append(next(strategy.model.net.parameters()).clone())

    toy.train(method(toy_folder, spies=[Spy()], from_scratch=False), labels=True, last=2)
    assert not torch.equal(starts[0], starts[1])


def test_replays_made_again_from_the_state_are_the_same(toy_folder):
    strategy, other = method(toy_folder), method(toy_folder)
    toy.train(strategy, labels=True, last=1)
    other.methods[0].load_state_dict(strategy.methods[0].state_dict())
    assert torch.equal(strategy.methods[0].recall()[0][0], other.methods[0].recall()[0][0])


def test_a_thing_is_found_by_its_colour_and_a_surface_is_taken_whole():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :64]
    things = 0.3 + 0.02 * rng.standard_normal((4, 64, 64, 3))
    inside = np.hypot(x - 30, y - 34) < 15
    things[:, inside] += (0.3, 0.1, 0.0)
    things[:, (np.hypot(x - 30, y - 34) < 4)] = 0.3  # a hole
    found = foreground(torch.from_numpy(things).movedim(-1, 1).float())
    agree = (found.numpy() & inside).sum((1, 2)) / (found.numpy() | inside).sum((1, 2))
    assert agree.min() > 0.9
    surface = torch.from_numpy(rng.random((4, 64, 64, 3))).movedim(-1, 1).float()
    assert foreground(surface).all()


def test_masks_come_from_files_in_the_order_of_the_images(tmp_path, images):
    (tmp_path / "bolt").mkdir()
    for i in range(len(images)):
        mask = np.zeros((48, 48), np.uint8)
        mask[: 4 * (i + 1)] = 255
        Image.fromarray(mask).save(tmp_path / "bolt" / f"{i:03d}.png")
    found = from_folder(str(tmp_path), "bolt", images)
    assert found.shape == (6, 24, 24)
    assert found.sum((1, 2)).tolist() == [24 * 2 * (i + 1) for i in range(6)]
    with pytest.raises(BadInput, match=r"nut holds 0 mask files for 6 training images"):
        from_folder(str(tmp_path), "nut", images)


def test_sam_is_asked_for_the_thing_in_the_middle(tmp_path, images):
    from transformers import SamConfig, SamImageProcessor, SamModel, SamProcessor

    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 64, "patch_size": 16}
    vision = small | {"output_channels": 8, "global_attn_indexes": [0], "window_size": 2, "num_pos_feats": 4}
    prompt = {"hidden_size": 8, "image_size": 64, "patch_size": 16, "mask_input_channels": 4}
    decoder = {"hidden_size": 8, "mlp_dim": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
    decoder |= {"iou_head_hidden_dim": 8, "iou_head_depth": 2}
    torch.manual_seed(0)
    parts = SamConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)
    SamModel(parts).save_pretrained(tmp_path)
    sizes = {"size": {"longest_edge": 64}, "pad_size": {"height": 64, "width": 64}}
    sizes |= {"mask_size": {"longest_edge": 16}, "mask_pad_size": {"height": 16, "width": 16}}
    SamProcessor(SamImageProcessor(**sizes)).save_pretrained(tmp_path)
    found = Sam(str(tmp_path), "cpu")(images[:2])
    assert found.shape == (2, 24, 24) and found.dtype == torch.bool
    with pytest.raises(BadInput, match=r"replaycad.sam=facebook/sam-vit-huge: no such folder"):
        Sam("facebook/sam-vit-huge", "cpu")


@pytest.mark.parametrize("kind", ["none", "rotate", "six", "small:2:0.1", "small:2:0.1:flip", "piece", "piece:rotate"])
def test_jitter_keeps_the_item_and_is_seeded(kind):
    mask = torch.zeros(1, 64, 64)
    mask[:, 22:42, 26:38] = 1
    drawn = [jittered(mask, kind, torch.Generator().manual_seed(seed)) for seed in range(8)]
    assert torch.equal(drawn[0], jittered(mask, kind, torch.Generator().manual_seed(0)))
    assert all(made.sum() == pytest.approx(mask.sum().item(), rel=0.15) for made in drawn)
    assert (kind == "none") == all(torch.equal(made, mask) for made in drawn)


def test_a_piece_moves_alone():
    mask = torch.zeros(1, 64, 64)
    mask[:, 8:14, 8:14], mask[:, 40:50, 40:50] = 1, 1
    for seed in range(8):
        made = jittered(mask, "piece", torch.Generator().manual_seed(seed))
        assert made[:, 8:14, 8:14].min() == 1 or made[:, 40:50, 40:50].min() == 1


@pytest.mark.parametrize("kind", ["turn", "six", "rotate"])
def test_image_and_mask_are_changed_alike(kind):
    image = torch.full((3, 32, 32), 0.25)
    image[:, 10:20, 4:12] = 1
    mask = (image[:1] > 0.5).float()
    for seed in range(6):
        made, where = augmented(image, mask, kind, torch.Generator().manual_seed(seed))
        assert ((made[0] > 0.6) == (where[0] > 0.5)).float().mean() > 0.97
        assert made[:, 0, 0].tolist() == pytest.approx([0.25] * 3, abs=0.02), "corners take the border's colour"


def test_the_released_settings_are_asked_for_by_name_and_fit():
    assert len(RELEASED) == 25
    assert all(hasattr(replaycad.Config(), option) for own in RELEASED.values() for option in own)
    assert sum(RELEASED[name]["replays"] for name in list(RELEASED)[:14]) == 5_400
    assert sum(RELEASED[name]["replays"] for name in list(RELEASED)[14:]) == 5_200
    for own in RELEASED.values():
        jittered(torch.ones(1, 8, 8), own.get("jitter", "none"), torch.Generator())
        augmented(torch.ones(3, 8, 8), torch.ones(1, 8, 8), own.get("augment", "none"))


def test_the_preset_needs_the_names_of_the_classes(toy_folder):
    plugin = method(toy_folder, preset="released_per_class", classes=("bottle", "lid")).methods[0]
    assert (plugin._config(0).steps, plugin._config(0).replays) == (2_500, 200)
    with pytest.raises(BadInput, match=r"nothing for class 1 \(lid\); name the stream's classes"):
        plugin._config(1)
    with pytest.raises(BadInput, match=r"nothing for class 2 \(unnamed\)"):
        plugin._config(2)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"model": "/no/such/model"}, "replaycad.model=/no/such/model: no such folder"),
        ({"replay_from": "memory"}, "replaycad.replay_from=memory: give one of prior, autoencoder, real"),
        ({"template_list": "mine"}, "replaycad.template_list=mine: give one of own, textual_inversion"),
        ({"prompt": "a photo"}, "replaycad.prompt='a photo': the class stands in it once"),
        ({"masks_from": "sky"}, "replaycad.masks_from=sky: give one of foreground, sam, folder, full, none"),
        ({"masks_from": "folder"}, "give the folder with replaycad.mask_folder"),
        ({"preset": "best"}, "the only one is released_per_class"),
        ({"row": 15}, "an encoded mask has 64 numbers, and rows of 15"),
        ({"jitter": "wild"}, "replaycad.jitter=wild: give none, rotate"),
        ({"augment": "wild"}, "replaycad.augment=wild: give none, turn"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_trained(toy_folder, options, said):
    with pytest.raises(BadInput, match=said.replace("(", r"\(")):
        replaycad.build(config(**({"model": toy_folder} | options)), Setup(SIZE, 0, detector=toy.Noisy()))
