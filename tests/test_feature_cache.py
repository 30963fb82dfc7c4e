"""Features of frozen networks from disk: the same bits as computed ones, and nothing else comes out of it."""

import copy
import multiprocessing
import os
from dataclasses import replace

import pytest
import torch
from mini import RANDOM

from bench.api import Student
from bench.runner.disk_cache import Shelf
from bench.runner.feature_cache import FOLDER, FeatureCache
from bench.training.backbone import Features
from bench.training.experiences import as_float
from bench.training.tokens import MapTokens, Tokens

GB = 1e9
PLENTY = 1.0  # GB


def pictures(count: int, seed: int = 0, size: int = 64) -> torch.Tensor:
    """Plain pictures (count, 3, size, size) as they come from a data set."""
    drawn = torch.Generator().manual_seed(seed)
    return as_float(torch.randint(256, (count, size, size, 3), dtype=torch.uint8, generator=drawn))


@pytest.fixture
def kept(tmp_path):
    return FeatureCache(tmp_path / FOLDER, PLENTY * GB)


def network(cache: FeatureCache, strides=(4, 8, 16)) -> Features:
    """A network that asks a function, as behind the wall: a copy of it asks the same one."""
    return Features(RANDOM, strides, lambda asking, image: cache.maps(asking, image))


def same(one, other) -> bool:
    return list(one) == list(other) and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("make", [Tokens, MapTokens], ids=lambda kind: kind.__name__)
def test_tokens_are_kept_too(make, kept):
    spec = RANDOM if make is MapTokens else replace(RANDOM, name="test_vit")
    arguments = (1,) if make is Tokens else ()
    bare, asked, images = make(spec, *arguments), make(spec, *arguments, kept.maps), pictures(4)
    assert same(bare(images), asked(images)) and same(bare(images), asked(images))
    assert kept.lap() == (4, 4)


def test_the_other_images_of_a_batch_and_their_order_do_not_matter(kept):
    bare, asked, images = Features(RANDOM, (4, 8, 16)), network(kept), pictures(12)
    asked(images[:8]), asked(images[4:])
    kept.lap()
    mixed = images[[11, 0, 5, 2, 9, 7, 1, 4]]
    assert same(asked(mixed), bare(mixed)) and kept.lap() == (8, 0)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 12, 17])
def test_every_size_of_a_batch_gives_the_bits_that_it_has_without_a_cache(count, kept):
    bare, asked, images = Features(RANDOM, (4, 8, 16)), network(kept), pictures(20)
    asked(images[:8])
    for start in (0, 3, 3):
        part = images[start : start + count]
        assert same(asked(part), bare(part))
    assert kept.lap()[0] >= count, "the last of them was found"


def test_a_batch_with_few_unknown_images_computes_a_part_of_it(kept):
    bare, asked, images = Features(RANDOM, (4, 8, 16)), network(kept), pictures(35)
    asked(images[:32])
    kept.lap()
    again = images[torch.arange(34, 2, -1)]
    assert same(asked(again), bare(again))
    assert kept.lap() in ((24, 8), (0, 32)), "three unknown ones and five known ones beside them, if sizes are alike"


class Sized(Features):
    """Stands for a library that sums in another order for other shapes."""

    def compute(self, image):
        return {key: part + len(image) for key, part in super().compute(image).items()}


class Placed(Features):
    """Features that depend on the place in the batch."""

    def compute(self, image):
        shift = torch.arange(float(len(image))).view(-1, 1, 1, 1)
        return {key: part + shift for key, part in super().compute(image).items()}


class Mixed(Features):
    """Features that depend on the other images of the batch."""

    def compute(self, image):
        return {key: part + image.double().mean().float() for key, part in super().compute(image).items()}


def test_a_size_with_bits_of_its_own_keeps_features_of_its_own(kept):
    bare, asked, images = Sized(RANDOM, (4,)), Sized(RANDOM, (4,), kept.maps), pictures(9)
    for start, count, counted in ((0, 8, (0, 8)), (0, 3, (0, 3)), (1, 2, (0, 2)), (0, 3, (3, 0)), (1, 8, (0, 8))):
        part = images[start : start + count]
        assert same(asked(part), bare(part)) and kept.lap() == counted


@pytest.mark.parametrize("kind", [Placed, Mixed], ids=lambda kind: kind.__name__)
def test_a_network_whose_features_depend_on_the_arrangement_of_a_batch_is_not_cached(kind, kept):
    bare, asked, images = kind(RANDOM, (4,)), kind(RANDOM, (4,), kept.maps), pictures(12)
    asked(images[:8])
    assert same(asked(images[4:]), bare(images[4:])), "four of them were known, and differ"
    kept.lap()
    for cache in (kept, FeatureCache(kept.shelf.folder, PLENTY * GB)):  # the other one stands for another process
        again = kind(RANDOM, (4,), cache.maps)
        assert same(again(images[2:10]), bare(images[2:10])) and cache.lap() == (0, 8)


@pytest.mark.parametrize("change", ["weights", "strides", "arguments", "threads"])
def test_what_changes_the_features_changes_the_name(change, kept):
    images, before = pictures(2), torch.get_num_threads()
    network(kept)(images)
    kept.lap()
    spec = replace(RANDOM, seed=1) if change == "weights" else RANDOM
    spec = replace(RANDOM, mean=(0.5, 0.5, 0.5)) if change == "arguments" else spec
    other = Features(spec, (8,) if change == "strides" else (4, 8, 16), kept.maps)
    try:
        torch.set_num_threads(before + (change == "threads"))
        assert same(other(images), other.compute(images)) and kept.lap() == (0, 2)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("way", ["in place", "by .data", "one weight", "a buffer", "loaded"])
def test_a_network_that_was_written_to_gives_its_own_features(way, kept):
    images, asked = pictures(2), network(kept)
    asked(images)
    weight, spread = next(asked.net.parameters()), next(b for n, b in asked.net.named_buffers() if n.endswith("var"))
    with torch.no_grad():
        if way == "in place":
            weight.mul_(1.5)
        elif way == "by .data":
            weight.data.mul_(1.5)
        elif way == "one weight":
            weight.data.view(-1)[3] = 7.0
        elif way == "a buffer":
            spread.mul_(2.0)
        else:
            asked.load_state_dict({name: value * 2 for name, value in asked.state_dict().items()})
    assert same(asked(images), asked.compute(images)) and kept.lap() == (0, 4)


def test_a_network_that_may_be_trained_is_neither_asked_for_nor_kept(kept):
    images, asked = pictures(2), network(kept)
    next(asked.net.parameters()).requires_grad_(True)
    asked(images)
    assert kept.lap() == (0, 0)
    student = Student(network(kept))
    assert student.recall is None and next(iter(student(images).values())).requires_grad
    assert kept.lap() == (0, 0)


def test_pictures_that_something_made_are_not_kept(kept):
    images, asked = pictures(2), network(kept)
    asked(images * 0.999), asked(torch.rand(2, 3, 64, 64)), asked(images.to(memory_format=torch.channels_last))
    assert kept.lap() == (0, 0) and not kept.shelf.folder.exists()


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied", "foreign"])
def test_a_damaged_file_is_computed_anew(damage, kept):
    images, asked = pictures(3), network(kept)
    wanted = asked(images)
    file = sorted(kept.shelf.folder.rglob("*.safetensors"))[1]
    content = file.read_bytes()
    turned = content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]
    file.write_bytes({"cut": content[:-100], "flipped": turned, "emptied": b"", "foreign": b"x" * 500}[damage])
    kept.lap()
    assert same(asked(images), wanted) and kept.lap() == (0, 3)
    assert same(asked(images), wanted) and kept.lap() == (3, 0), "it is whole again"
    assert file.read_bytes() == content


def test_the_folder_keeps_to_its_limit_and_what_was_not_read_for_longest_goes(tmp_path):
    group = {"a": torch.zeros(1000)}  # some 4 kB
    shelf = Shelf(tmp_path, 4 * 4200)
    for name in "wxyz":
        shelf.write(name, group)
    (tmp_path / ".v.safetensors.1.tmp").write_bytes(b"x" * 4000)  # half written by a process that was killed
    for age, path in enumerate(sorted(tmp_path.iterdir())):
        os.utime(path, (age, age))
    assert same(shelf.read("w"), group), "read last, it stays"
    shelf.write("new", group)
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["new", "w", "y", "z"]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= shelf.limit


def test_a_group_larger_than_the_limit_and_a_folder_that_cannot_be_made_are_no_errors(tmp_path):
    small = Shelf(tmp_path / "small", 100)
    small.write("a", {"a": torch.zeros(1000)})
    assert small.read("a") is None and not list((tmp_path / "small").iterdir())
    (tmp_path / "file").write_text("in the way")
    blocked = Shelf(tmp_path / "file" / "below", GB)
    blocked.write("a", {"a": torch.zeros(3)})
    assert blocked.read("a") is None


def worker(folder, limit: float, rounds: int, answers) -> None:
    """Ask for the same pictures in another order again and again; tell how many answers were right, and found."""
    torch.set_num_threads(1)
    cache, right, hits = FeatureCache(folder, limit), 0, 0
    asked, images = network(cache), pictures(8)
    wanted = asked.compute(images)
    for turn in range(rounds):
        order = torch.randperm(8, generator=torch.Generator().manual_seed(turn))
        right += same(asked(images[order]), {key: part[order] for key, part in wanted.items()})
        hits += cache.lap()[0]
    answers.put((right, hits))


@pytest.mark.parametrize("limit", [PLENTY * GB, 5e5], ids=["roomy", "evicting"])
def test_processes_share_a_folder(limit, tmp_path):
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    both = [context.Process(target=worker, args=(tmp_path, limit, 10, answers)) for _ in range(2)]
    for process in both:
        process.start()
    found = [answers.get(timeout=120) for _ in both]
    for process in both:
        process.join()
    assert [right for right, _ in found] == [10, 10]
    if limit > 1e6:
        assert all(hits >= 8 * 8 for _, hits in found)
    else:
        assert sum(path.stat().st_size for path in tmp_path.rglob("*.safetensors")) < 1.1 * limit


def test_a_copied_network_asks_the_same_cache(kept):
    asked, images = network(kept), pictures(2)
    asked(images)
    assert same(copy.deepcopy(asked)(images), asked.compute(images)) and kept.lap() == (2, 2)
