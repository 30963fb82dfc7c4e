"""Our greedy k-centre against the rule written out, and against anomalib's."""

import torch
from anomalib.models.components.sampling import KCenterGreedy
from anomalib.models.image.patchcore.anomaly_map import AnomalyMapGenerator
from mini import build, train

from methods.detectors.patchcore.coreset import coreset, greedy_centres


def by_hand(points, count, first):
    chosen = [first]
    while len(chosen) < count:
        chosen.append(torch.cdist(points, points[chosen]).min(1).values.argmax().item())
    return chosen


def test_each_centre_is_the_farthest_from_those_before():
    points = torch.rand(200, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(3)
    chosen = greedy_centres(points, 20).tolist()
    assert chosen == by_hand(points, 20, chosen[0])


def test_no_row_is_chosen_twice_even_among_duplicates():
    points = torch.ones(30, 4)
    torch.manual_seed(0)
    assert len(set(greedy_centres(points, 30).tolist())) == 30


def test_covers_as_well_as_anomalib():
    points = torch.randn(2_000, 16, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(0)
    ours, theirs = coreset(points, 100), KCenterGreedy(points, 0.05).sample_coreset()
    radius = [torch.cdist(points, bank).min(1).values.max().item() for bank in (ours, theirs)]
    assert len(ours) == len(theirs) == 100
    assert radius[0] <= 1.1 * radius[1]


def test_a_small_set_is_kept_whole():
    points = torch.rand(7, 3)
    assert torch.equal(coreset(points, 10), points)


def test_with_the_same_bank_patchcore_scores_as_anomalib_does(stream, arrays):
    """What is left between ours and anomalib's pipeline is the draw of the coreset."""
    strategy = build("finetune", "patchcore")
    train(strategy, stream, arrays, last=1)
    detector = strategy.model.eval()
    images = torch.from_numpy(arrays.images[:6].copy()).movedim(-1, 1).contiguous().float() / 255
    with torch.no_grad():
        detector.net.anomaly_map_generator = AnomalyMapGenerator(detector.config.sigma)
        ours, theirs = detector.predict(images), detector.net(images)
    assert torch.equal(ours.score, theirs.pred_score)
    torch.testing.assert_close(ours.map, theirs.anomaly_map, rtol=0, atol=1e-5)
