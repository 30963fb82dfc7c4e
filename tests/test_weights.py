"""`--weights FILE`: what torch and timm save is read safely and fits, or one sentence says why not."""

import re

import pytest
import timm
import torch
from safetensors.torch import save_file

from bench import registry
from bench.errors import BadInput
from bench.runner import plan
from bench.schema.request import IMAGENET_MEAN, IMAGENET_STD, BackboneSpec, Request, Weights
from bench.training.backbone import create

RESNET, CONVNEXT = "test_resnet", "test_convnext"


def network(name, seed=3):
    torch.manual_seed(seed)
    return timm.create_model(name)


def made(name, file):
    spec = BackboneSpec(name, Weights("path", file.name, "", str(file)))
    return create(spec, features_only=True, out_indices=[0, 1])


def same(net, whole):
    theirs = {key.replace(".", "_"): value for key, value in whole.state_dict().items()}
    for key, value in net.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            assert torch.equal(value, theirs[key.removeprefix("model.").replace(".", "_")]), key


@pytest.mark.parametrize("name", [RESNET, CONVNEXT])
@pytest.mark.parametrize("wrap", ["plain", "module", "state_dict", "no counters"])
def test_what_torch_saves(tmp_path, name, wrap):
    whole = network(name)
    state = whole.state_dict()
    if wrap == "module":
        state = {f"module.{key}": value for key, value in state.items()}
    elif wrap == "state_dict":
        state = {"epoch": 7, "state_dict": state}
    elif wrap == "no counters":
        state = {key: value for key, value in state.items() if "num_batches_tracked" not in key}
    torch.save(state, tmp_path / "w.pth")
    same(made(name, tmp_path / "w.pth"), whole)


@pytest.mark.parametrize("name", [RESNET, CONVNEXT, "test_efficientnet"])
def test_timms_own_safetensors(tmp_path, name):
    whole = network(name)
    save_file({key: value.contiguous() for key, value in whole.state_dict().items()}, tmp_path / "w.safetensors")
    same(made(name, tmp_path / "w.safetensors"), whole)


class Hostile:
    def __reduce__(self):
        return print, ("run",)


@pytest.mark.parametrize("content", ["cut short", "empty", "text", "code", "no tensors"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_that_cannot_be_read(tmp_path, content, suffix, capsys):
    file = tmp_path / f"w{suffix}"
    if content in ("cut short", "code", "no tensors"):
        torch.save(
            {"cut short": network(RESNET).state_dict(), "code": Hostile(), "no tensors": {"a": 1}}[content], file
        )
    if content == "cut short":
        file.write_bytes(file.read_bytes()[:500])
    elif content in ("empty", "text"):
        file.write_bytes(b"" if content == "empty" else b"<html>404</html>")
    with pytest.raises(BadInput, match=re.escape(f"'w{suffix}'")) as raised:
        made(RESNET, file)
    assert "\n" not in str(raised.value)
    assert "run" not in capsys.readouterr().out


@pytest.mark.parametrize(("of", "wanted"), [(RESNET, CONVNEXT), (CONVNEXT, RESNET)])
def test_weights_of_another_network(tmp_path, of, wanted):
    torch.save(network(of).state_dict(), tmp_path / "w.pth")
    with pytest.raises(BadInput, match=rf"weights 'w.pth' do not fit backbone '{wanted}'.*name the right --backbone"):
        made(wanted, tmp_path / "w.pth")


@pytest.mark.parametrize("asked, mean, std", [
    ("test_vit", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    ("test_vit:mean=0.4", (0.4, 0.4, 0.4), (0.5, 0.5, 0.5)),
    ("resnet18", IMAGENET_MEAN, IMAGENET_STD),
])  # fmt: skip
def test_images_are_normalised_as_timm_says_the_weights_were_trained(tmp_path, asked, mean, std):
    name = asked.partition(":")[0]
    save_file(network(name).state_dict(), tmp_path / "w.safetensors")
    request = Request(("finetune",), backbone=asked, weights=str(tmp_path / "w.safetensors"))
    made = plan._backbone(registry.find_entry("detector", "token_bank"), "paper", request)
    assert (made.mean, made.std) == (mean, std)
    told = {"mean": mean[0], "std": std[0]} if mean != IMAGENET_MEAN else {}
    assert made.construction == told


def test_the_projects_own_network_keeps_its_own_normalisation():
    request = Request(("finetune",))
    made = plan._backbone(registry.find_entry("detector", "patchcore"), "tiny", request)
    assert made.weights.kind == "procedural" and (made.mean, made.std) == (IMAGENET_MEAN, IMAGENET_STD)
