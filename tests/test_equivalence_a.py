"""STFPM, FastFlow, CFA and DRAEM train under the bench exactly as in anomalib."""

from types import SimpleNamespace
from unittest import mock

import pytest
import torch
from anomalib.models.image.cfa.lightning_model import Cfa
from anomalib.models.image.draem.lightning_model import Draem
from anomalib.models.image.draem.torch_model import DiscriminativeSubNetwork, DraemModel, ReconstructiveSubNetwork
from anomalib.models.image.fastflow.lightning_model import Fastflow
from anomalib.models.image.stfpm.lightning_model import Stfpm
from equivalence import (
    BARE,
    assert_judges,
    assert_same_training,
    lightning_loop,
    named,
    normalised,
    without_downloads,
)

pytestmark = pytest.mark.slow


def stfpm(training):
    with without_downloads():
        theirs = Stfpm(backbone="resnet18", **BARE)
    ours = training.initial.net
    theirs.model.teacher_model.feature_extractor.load_state_dict(ours.teacher_model.net.state_dict())
    theirs.model.student_model.feature_extractor.load_state_dict(ours.student_model.net.state_dict())
    losses = lightning_loop(theirs, training)
    return losses, named("net.student_model.net.", theirs.model.student_model.feature_extractor)


def fastflow(training):
    size = Fastflow.configure_pre_processor((64, 64))
    theirs = Fastflow(backbone="resnet18", pre_trained=False, flow_steps=2, pre_processor=size, **BARE)
    theirs.model.feature_extractor.load_state_dict(training.initial.features.net.state_dict())
    theirs.model.norms.load_state_dict(training.initial.norms.state_dict())
    theirs.model.fast_flow_blocks.load_state_dict(training.initial.flows.state_dict())
    losses = lightning_loop(theirs, training)
    return losses, named("norms.", theirs.model.norms) | named("flows.", theirs.model.fast_flow_blocks)


def cfa(training):
    with mock.patch("torchvision.models.get_model_weights", lambda _: SimpleNamespace(DEFAULT=None)):
        theirs = Cfa(backbone="resnet18", **BARE)
    ours = training.initial.net
    theirs.model.feature_extractor.load_state_dict(ours.feature_extractor.net.state_dict())
    theirs.model.descriptor.load_state_dict(ours.descriptor.state_dict(), strict=False)  # theirs has a layer unused
    theirs.model.initialize_centroid([SimpleNamespace(image=normalised(batch)) for batch in training.images])
    losses = lightning_loop(theirs, training)
    return losses, named("net.descriptor.", theirs.model.descriptor)


def draem(training):
    module = "anomalib.models.image.draem.lightning_model"
    with mock.patch(f"{module}.download_and_extract"), mock.patch(f"{module}.DraemModel", NarrowDraem):
        theirs = Draem(**BARE)
    theirs.augmenter = training.initial.damage
    theirs.model.reconstructive_subnetwork.load_state_dict(training.initial.restore.state_dict())
    theirs.model.discriminative_subnetwork.load_state_dict(training.initial.discriminate.state_dict())
    losses = lightning_loop(theirs, training, normalise=False)
    networks = theirs.model.reconstructive_subnetwork, theirs.model.discriminative_subnetwork
    return losses, named("restore.", networks[0]) | named("discriminate.", networks[1])


class NarrowDraem(DraemModel):
    """anomalib's model has a fixed width, of 97 million weights."""

    def __init__(self, sspcab: bool):
        torch.nn.Module.__init__(self)
        self.reconstructive_subnetwork = ReconstructiveSubNetwork(base_width=8)
        self.discriminative_subnetwork = DiscriminativeSubNetwork(6, 2, base_width=4)


@pytest.mark.parametrize(
    ("reference", "config"),
    [
        (stfpm, {"lr": 0.4, "weight_decay": 1e-3}),
        (fastflow, {"lr": 1e-3, "flow_steps": 2, "strides": (4, 8, 16)}),
        (cfa, {"learn_radius": False}),
        (draem, {"lr": 1e-4, "milestones": ()}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_trains_as_in_anomalib(reference, config):
    assert_same_training(reference.__name__, reference, **config)


@pytest.mark.parametrize("name", ["stfpm", "fastflow", "cfa", "draem"])
@pytest.mark.parametrize(("backbone", "pixels"), [("test_resnet", 32), ("mobilenetv2_035", 50), ("convnext_atto", 100)])
def test_takes_any_backbone_and_size(name, backbone, pixels):
    assert_judges(name, backbone, pixels)
