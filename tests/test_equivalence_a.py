"""STFPM, FastFlow, CFA and DRAEM train under the bench exactly as in anomalib."""

from anomalib.models.image.stfpm.lightning_model import Stfpm
from equivalence import BARE, assert_same_training, lightning_loop, named, without_downloads


def stfpm(training):
    with without_downloads():
        theirs = Stfpm(backbone="resnet18", **BARE)
    ours = training.initial.net
    theirs.model.teacher_model.feature_extractor.load_state_dict(ours.teacher_model.net.state_dict())
    theirs.model.student_model.feature_extractor.load_state_dict(ours.student_model.net.state_dict())
    losses = lightning_loop(theirs, training)
    return losses, named("net.student_model.net.", theirs.model.student_model.feature_extractor)


def test_stfpm_trains_as_in_anomalib():
    assert_same_training("stfpm", stfpm, lr=0.4, weight_decay=1e-3)
