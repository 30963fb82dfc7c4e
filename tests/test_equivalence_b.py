"""SuperSimpleNet, EfficientAD and Dinomaly train under the bench exactly as in anomalib."""

from functools import partial
from itertools import count
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import timm.models.vision_transformer as vit
import torch
from anomalib.models.image.dinomaly.lightning_model import TRAINING_CONFIG
from anomalib.models.image.dinomaly.lightning_model import Dinomaly as TheirDinomaly
from anomalib.models.image.efficient_ad.lightning_model import EfficientAd as TheirEfficientAd
from anomalib.models.image.efficient_ad.torch_model import Decoder
from anomalib.models.image.supersimplenet.lightning_model import Supersimplenet
from equivalence import BARE, assert_judges, assert_same_training, named, normalised, without_downloads
from PIL import Image

from bench.api import BadInput, Setup
from methods.detectors import efficientad
from methods.detectors.efficientad.outside import OutsideImages
from methods.detectors.efficientad.small import SmallDecoder, for_small_images, narrow

pytestmark = pytest.mark.slow

EPOCHS, BATCHES = 2, 2  # as `train` has it; batches per epoch


def fit(module, training, *, schedule_every: int, images=normalised) -> list[float]:
    """Lightning's loop over anomalib's own `training_step`, optimizer, schedule and gradient clipping."""
    loader = SimpleNamespace(train_dataloader=lambda: range(BATCHES))
    trainer = SimpleNamespace(max_epochs=EPOCHS, max_steps=-1, datamodule=loader, global_step=0)
    module.trainer, module.log = trainer, lambda *_, **__: None
    module.train()
    configured = module.configure_optimizers()
    if isinstance(configured, dict):
        optimizer, schedule = configured["optimizer"], configured["lr_scheduler"]
    else:
        (optimizer,), (schedule,) = configured
    losses = []
    for image, step in zip(training.batches(), count(1)):
        blank = image.new_zeros(len(image), *image.shape[-2:])
        batch = SimpleNamespace(image=images(image), gt_mask=blank, gt_label=blank[:, 0, 0])
        loss = module.training_step(batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        if most := module.trainer_arguments.get("gradient_clip_val"):
            torch.nn.utils.clip_grad_norm_(module.parameters(), most)
        optimizer.step()
        trainer.global_step = step
        if step % schedule_every == 0:
            schedule.step()
        losses.append(loss.item())
    return losses


def supersimplenet(training):
    with without_downloads():
        theirs = Supersimplenet(backbone="test_resnet", layers=["layer1", "layer2"], **BARE)
    ours = training.initial.net
    theirs.model.feature_extractor.feature_extractor.feature_extractor.load_state_dict(
        ours.feature_extractor.feature_extractor.net.state_dict()
    )
    theirs.model.adaptor.load_state_dict(ours.adaptor.state_dict())
    theirs.model.segdec.load_state_dict(ours.segdec.state_dict())
    losses = fit(theirs, training, schedule_every=BATCHES)
    return losses, named("net.adaptor.", theirs.model.adaptor) | named("net.segdec.", theirs.model.segdec)


def efficient(training):
    theirs = TheirEfficientAd(teacher_out_channels=64, **BARE)
    for network in (theirs.model.teacher, theirs.model.student):
        narrow(network, 32)
    for_small_images(theirs.model.ae, 64)
    theirs.model.load_state_dict(training.initial.net.state_dict())
    loader = [SimpleNamespace(image=image) for image in training.images]
    theirs.model.mean_std.update(theirs.teacher_channel_mean_std(loader))
    outside = training.initial.outside
    outside.generator.manual_seed(training.detector.outside.generator.initial_seed())
    theirs.imagenet_iterator = ([outside(4)] for _ in training.steps)
    losses = fit(theirs, training, schedule_every=1, images=lambda image: image)
    theirs.eval()
    with torch.no_grad():  # quantiles of normal images, as anomalib takes them of a validation set
        batches = [SimpleNamespace(image=each[:, None], gt_label=torch.zeros(len(each))) for each in training.images]
        quantiles = theirs.map_norm_quantiles(batches)
    for name, value in quantiles.items():
        torch.testing.assert_close(training.detector.net.quantiles[name], value, rtol=1e-4, atol=1e-6)
    return losses, named("net.", theirs.model)


def dinomaly(training):
    with without_downloads():
        theirs = TheirDinomaly("vit_small_patch16_224", decoder_depth=8, **BARE)
    ours = training.initial.net
    theirs.model.encoder.feature_extractor.load_state_dict(ours.encoder.net.state_dict(), strict=False)  # no classifier
    theirs.model.bottleneck.load_state_dict(ours.bottleneck.state_dict())
    theirs.model.decoder.load_state_dict(ours.decoder.state_dict())
    with mock.patch.dict(TRAINING_CONFIG["scheduler"], {"warmup_iters": 2}):
        losses = fit(theirs, training, schedule_every=1)
    return losses, named("net.bottleneck.", theirs.model.bottleneck) | named("net.decoder.", theirs.model.decoder)


@pytest.fixture
def pictures(tmp_path):
    for name in ("one.png", "two.jpg"):
        pixels = np.random.default_rng(len(name)).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
    return str(tmp_path)


@pytest.fixture
def positions_without_antialiasing():
    """anomalib patches timm for the whole process when it builds a transformer; here both sides get that patch."""
    resample = partial(vit.resample_abs_pos_embed, antialias=False)
    resample._anomalib_no_antialias = True
    with mock.patch.object(vit, "resample_abs_pos_embed", resample):
        yield


def test_supersimplenet_trains_as_in_anomalib():
    assert_same_training("supersimplenet", supersimplenet, backbone="test_resnet", strides=(4, 8), lr=1e-4, noise=0.015)


def test_efficientad_trains_as_in_anomalib(pictures):
    config = {"lr": 1e-4, "held_out": 0.0, "penalty_images": pictures}
    assert_same_training("efficientad", efficient, **config)


def test_dinomaly_trains_as_in_anomalib(positions_without_antialiasing):
    config = {"layers": 8, "depth": 8, "warmup": 2, "mining": 1000, "backbone": "vit_small_patch16_224"}
    assert_same_training("dinomaly", dinomaly, **config)


def test_efficientad_decodes_as_anomalib_where_anomalib_can():
    torch.manual_seed(0)
    theirs, ours = Decoder(8, padding=False).eval(), SmallDecoder(8, padding=False).eval()
    ours.load_state_dict(theirs.state_dict())
    code = torch.randn(1, 64, 1, 1)
    with torch.no_grad():
        assert torch.equal(ours(code, (256, 256)), theirs(code, (256, 256)))


def test_efficientad_takes_scale_from_held_out_images_that_it_does_not_learn():
    torch.manual_seed(0)
    detector = efficientad.build(efficientad.Config.tiny(), Setup(64, 0))
    images = torch.randint(0, 256, (40, 3, 64, 64)) / 255
    held = detector._held_out(images)
    assert 0 < held.sum() < 20
    assert torch.equal(detector._held_out(images.flip(0)), held.flip(0))
    detector.prepare([images])
    assert not detector.loss(images[held]).requires_grad
    assert detector.loss(images).requires_grad
    detector.consolidate([images[:20], images[20:]])
    detector.eval()
    with torch.no_grad():
        student, _ = detector.net.get_maps(images[held], normalize=True)
    torch.testing.assert_close(student.quantile(0.995), torch.tensor(0.1))  # anomalib maps that quantile to 0.1


def test_efficientad_never_takes_an_untrained_teacher_unasked():
    with pytest.raises(BadInput, match="untrained teacher"):
        efficientad.build(efficientad.Config(width=8), Setup(64, 0))


def test_efficientad_names_what_is_missing(tmp_path):
    with pytest.raises(BadInput, match="holds no images"):
        OutsideImages(str(tmp_path), 64)
    with pytest.raises(BadInput, match="64 px or more"):
        efficientad.build(efficientad.Config.tiny(), Setup(48, 0))


@pytest.mark.parametrize(
    ("name", "backbone", "pixels"),
    [
        ("supersimplenet", "test_resnet", 32),
        ("supersimplenet", "mobilenetv2_035", 50),
        ("supersimplenet", "convnext_atto", 100),
        ("efficientad", "test_resnet", 100),
        ("dinomaly", "test_resnet", 32),
        ("dinomaly", "test_vit4", 50),
        ("dinomaly", "convnext_atto", 100),
        ("invad", "test_resnet", 32),
        ("invad", "mobilenetv2_035", 50),
        ("invad", "convnext_atto", 100),
        ("vae", "test_resnet", 32),
        ("vae", "test_resnet", 100),
    ],
)
def test_takes_any_backbone_and_size(name, backbone, pixels):
    assert_judges(name, backbone, pixels)
