"""The scores vs. hand-computed tables, brute force over masks, and scikit-learn."""

import json
import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import sklearn.metrics as sk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tlunet.errors import DataError
from tlunet.model.metrics import DefectMetrics, count
from tlunet.model.scores import (
    PixelCounts,
    average_precision,
    dice,
    from_table,
    iou,
    per_image,
    roc_auc,
    summarise,
)

KEYS = [
    *("mla", "label_accuracy", "subset_accuracy", "auc", "ap"),
    *("dice_image", "iou_image", "dice_class", "iou_class", "dice_pooled", "iou_pooled"),
    *("dice_kaggle", "iou_kaggle", "dead_classes", "n_images", "threshold"),
]


def table(*rows, threshold=0.5):
    """Counts of images given as tuples of (intersection, truth, predicted, prob) per class."""
    values = np.array(rows, dtype=np.float64)  # (N, M, 4)
    both, truth, predicted = (values[..., i].astype(np.int64) for i in range(3))
    prob = values[..., 3].astype(np.float32)
    return PixelCounts(np.arange(len(rows)), both, truth, predicted, truth > 0, prob)


def random_counts(seed, images=40, classes=4):
    """Counts with empty masks and tied probabilities, intersections within both masks."""
    draw = np.random.default_rng(seed)
    shape = images, classes
    truth = draw.integers(1, 50, shape) * (draw.random(shape) < 0.4)
    predicted = draw.integers(1, 50, shape) * (draw.random(shape) < 0.4)
    both = (draw.random(shape) * (np.minimum(truth, predicted) + 1)).astype(np.int64)
    prob = (draw.integers(0, 11, shape) / 10).astype(np.float32)
    return PixelCounts(np.arange(images), both, truth, predicted, truth > 0, prob)


def random_batch(seed, images=12, classes=3, size=(6, 9)):
    """Logits and targets of a small data set, with some empty masks on both sides."""
    draw = torch.Generator().manual_seed(seed)
    shown = torch.rand(images, classes, generator=draw) < 0.5
    found = torch.rand(images, classes, generator=draw) < 0.6
    masks = (torch.rand(images, classes, *size, generator=draw) < 0.3) & shown[..., None, None]
    masks_logits = torch.randn(images, classes, *size, generator=draw) * 2
    masks_logits = torch.where(found[..., None, None], masks_logits, -9.0)
    labels_logits = torch.randn(images, classes, generator=draw) * 2
    return masks_logits, labels_logits, masks, masks.any((2, 3)), torch.arange(images)


def flat(scores, prefix=""):
    """Flatten a nested dict for `pytest.approx`."""
    found = {}
    for key, value in scores.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}/")
        else:
            found[prefix + key] = str(value) if isinstance(value, list) else value
    return found


def same(one, other):
    """Check equal counts; probabilities up to rounding, since a sigmoid depends on its batch."""
    for name, mine in vars(one).items():
        theirs = getattr(other, name)
        assert mine.shape == theirs.shape
        assert mine.dtype == theirs.dtype
        np.testing.assert_allclose(mine, theirs, rtol=3e-7 if name == "prob" else 0, err_msg=name)


def by_class(mean, *per_class):
    return {"mean": mean, "per_class": {str(i): value for i, value in enumerate(per_class, 1)}}


# --- the pure functions -----------------------------------------------------------------------


def test_by_hand():
    counts = table(
        [(2, 4, 4, 0.9), (0, 0, 0, 0.1)],  # class 1, half found
        [(0, 0, 0, 0.2), (0, 6, 0, 0.4)],  # class 2, missed
        [(0, 0, 2, 0.6), (0, 0, 0, 0.3)],  # no defect, class 1 invented
    )
    expected = {
        "mla": 1 / 3,  # 1, 0 of {2}, 0 of {1}
        "label_accuracy": 4 / 6,
        "subset_accuracy": 1 / 3,
        "auc": by_class(1, 1, 1),
        "ap": by_class(1, 1, 1),
        "dice_image": (4 / 8 + 0) / 2,
        "iou_image": (2 / 6 + 0) / 2,
        "dice_class": by_class(0.25, 0.5, 0),
        "iou_class": by_class(1 / 6, 1 / 3, 0),
        "dice_pooled": by_class(0.2, 4 / 10, 0),
        "iou_pooled": by_class(0.125, 2 / 8, 0),
        "dice_kaggle": (0.5 + 1 + 1 + 0 + 0 + 1) / 6,
        "iou_kaggle": (1 / 3 + 1 + 1 + 0 + 0 + 1) / 6,
        "dead_classes": [2],
        "n_images": 3,
        "threshold": 0.5,
        "empty_predictor": {
            "mla": 1 / 3,
            "label_accuracy": 4 / 6,
            "subset_accuracy": 1 / 3,
            "auc": by_class(0.5, 0.5, 0.5),
            "ap": by_class(1 / 3, 1 / 3, 1 / 3),
            "dice_image": 0,
            "iou_image": 0,
            "dice_class": by_class(0, 0, 0),
            "iou_class": by_class(0, 0, 0),
            "dice_pooled": by_class(0, 0, 0),
            "iou_pooled": by_class(0, 0, 0),
            "dice_kaggle": 4 / 6,
            "iou_kaggle": 4 / 6,
            "dead_classes": [1, 2],
            "n_images": 3,
            "threshold": 0.5,
        },
    }
    assert flat(summarise(counts)) == pytest.approx(flat(expected))


def test_classes_are_pooled_within_the_image():
    """dice_image of one image with two defects is neither the mean nor one of the two."""
    scores = summarise(table([(1, 1, 1, 1), (0, 7, 1, 0)]))
    assert scores["dice_image"] == pytest.approx(2 / 10)
    assert scores["iou_image"] == pytest.approx(1 / 9)
    assert scores["dice_class"] == by_class(0.5, 1, 0)
    assert scores["dice_pooled"] == by_class(0.5, 1, 0)


def test_class_without_truth():
    """Predicted or not, it is null and excluded from the means, but counts in Kaggle's Dice."""
    counts = table([(1, 2, 2, 0.8), (0, 0, 5, 0.7), (0, 0, 0, 0)])
    scores = summarise(counts)
    for name in ("dice_class", "dice_pooled"):
        assert scores[name] == by_class(0.5, 0.5, None, None)
    assert scores["auc"] == by_class(None, None, None, None)  # class 1 has only positives
    assert scores["ap"] == by_class(1, 1, None, None)
    assert scores["dead_classes"] == []
    assert scores["dice_kaggle"] == pytest.approx((0.5 + 0 + 1) / 3)


def test_all_empty():
    scores = summarise(table(*[[(0, 0, 0, 0.1)] * 2] * 3))
    assert [scores[name] for name in ("mla", "label_accuracy", "subset_accuracy")] == [1, 1, 1]
    assert [scores[name] for name in ("dice_kaggle", "iou_kaggle")] == [1, 1]
    assert [scores[name] for name in ("dice_image", "iou_image")] == [None, None]
    for name in ("auc", "ap", "dice_class", "iou_class", "dice_pooled", "iou_pooled"):
        assert scores[name] == by_class(None, None, None)
    assert scores["dead_classes"] == []


@pytest.mark.parametrize(
    ("counts", "dead"),
    [
        (table([(0, 4, 0, 0.9)], [(0, 0, 0, 0.9)]), [1]),
        (table([(0, 4, 0, 0.1)], [(0, 0, 1, 0.1)]), [1]),  # a stray pixel in another image
        (table([(1, 400, 1, 0.9)], [(0, 0, 0, 0.9)]), [1]),  # and a correct one: Dice 0.005
        (table([(3, 400, 3, 0.9)], [(0, 0, 0, 0.9)]), []),  # Dice 0.015
        (table([(0, 0, 5, 0.9), (9, 9, 9, 0.9)]), []),  # not in the truth
    ],
)
def test_a_stray_pixel_does_not_bring_a_dead_class_to_life(counts, dead):
    assert summarise(counts)["dead_classes"] == dead


def test_threshold_is_exclusive_and_used():
    counts = table([(0, 3, 0, 0.5)], [(0, 3, 0, 0.75)])
    assert summarise(counts, 0.5)["mla"] == 0.5  # 0.5 is not > 0.5
    assert summarise(counts, 0.25)["mla"] == 1
    assert summarise(counts, 0.75)["mla"] == 0
    assert summarise(counts, 0.75)["threshold"] == 0.75


@pytest.mark.parametrize("seed", range(5))
def test_against_scikit_learn(seed):
    counts = random_counts(seed)
    label, guess = counts.label, counts.prob > 0.5
    scores = summarise(counts)
    jaccard = sk.jaccard_score(label, guess, average="samples", zero_division=1)
    assert scores["mla"] == pytest.approx(jaccard)
    assert scores["label_accuracy"] == pytest.approx(1 - sk.hamming_loss(label, guess))
    assert scores["subset_accuracy"] == pytest.approx(sk.accuracy_score(label, guess))
    auc = [sk.roc_auc_score(label[:, m], counts.prob[:, m]) for m in range(4)]
    ap = [sk.average_precision_score(label[:, m], counts.prob[:, m]) for m in range(4)]
    assert flat(scores["auc"]) == pytest.approx(flat(by_class(np.mean(auc), *auc)))
    assert flat(scores["ap"]) == pytest.approx(flat(by_class(np.mean(ap), *ap)))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=1, max_size=25))
def test_ranking_scores_are_exact_with_ties(pairs):
    label = np.array([truth for truth, _ in pairs])
    prob = np.array([score / 7 for _, score in pairs], dtype=np.float32)
    if label.any():
        assert average_precision(label, prob) == pytest.approx(
            sk.average_precision_score(label, prob)
        )
    else:
        assert average_precision(label, prob) is None
    if label.any() and not label.all():
        assert roc_auc(label, prob) == pytest.approx(sk.roc_auc_score(label, prob))
    else:
        assert roc_auc(label, prob) is None


def test_ranking_scores_of_many_images_do_not_overflow():
    draw = np.random.default_rng(0)
    label = draw.random(200_000) < 0.5  # n₊ n₋ is above 2³²
    prob = draw.random(200_000, dtype=np.float32)
    assert roc_auc(label, prob) == pytest.approx(sk.roc_auc_score(label, prob), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 5))
def test_ranges_and_json(seed, images, classes):
    counts = random_counts(seed, images, classes)
    scores = summarise(counts)
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores
    assert set(scores) == {*KEYS, "empty_predictor"}
    assert set(scores["empty_predictor"]) == set(KEYS)
    for key, value in flat(scores).items():
        if key.split("/")[-1] not in ("dead_classes", "n_images", "threshold"):
            assert value is None or 0 <= value <= 1, key
    for name in ("image", "kaggle"):
        if scores[f"dice_{name}"] is not None:
            assert scores[f"iou_{name}"] <= scores[f"dice_{name}"]
    areas = counts.intersection, counts.truth, counts.predicted
    d, i = dice(*areas), iou(*areas)
    np.testing.assert_allclose(d, 2 * i / (1 + i), rtol=1e-12)
    np.testing.assert_array_equal(np.isnan(d), (counts.truth == 0) & (counts.predicted == 0))


def test_the_perfect_predictor():
    counts = random_counts(0)
    perfect = replace(
        counts,
        intersection=counts.truth,
        predicted=counts.truth,
        prob=counts.label.astype(np.float32),
    )
    scores = flat(summarise(perfect))
    for key in ("mla", "auc/mean", "ap/mean", "dice_image", "iou_class/mean", "dice_kaggle"):
        assert scores[key] == 1, key


def test_a_diverged_network_is_an_error():
    with pytest.raises(ValueError, match="NaN"):
        summarise(table([(0, 1, 0, math.nan)]))


@pytest.mark.parametrize("threshold", [0, 1, -1, 50, math.nan])
def test_threshold_out_of_range(threshold):
    for use in (
        lambda: summarise(random_counts(0), threshold),
        lambda: count(*random_batch(0), threshold),
        lambda: DefectMetrics(threshold),
    ):
        with pytest.raises(ValueError, match="threshold"):
            use()


def test_empty_predictor_on_severstal():
    """Predicting nothing scores 0.859 Kaggle-Dice, and 0.980 on class 2 (897/247/5150/801)."""
    root = os.environ.get("TLUNET_REAL_DATA")
    if not root:
        pytest.skip("TLUNET_REAL_DATA is not set")
    labels = pd.read_csv(Path(root) / "severstal_sample" / "labels_12568.csv")
    truth = labels[["1", "2", "3", "4"]].to_numpy(np.int64)
    counts = PixelCounts(
        index=np.arange(len(truth)),
        intersection=np.zeros_like(truth),
        truth=1000 * truth,
        predicted=np.zeros_like(truth),
        label=truth > 0,
        prob=np.zeros(truth.shape, np.float32),
    )
    scores = summarise(counts)
    assert scores["n_images"] == 12568
    assert scores["empty_predictor"]["dice_kaggle"] == pytest.approx(1 - 7095 / (4 * 12568))
    assert round(scores["empty_predictor"]["dice_kaggle"], 3) == 0.859
    assert scores["empty_predictor"]["mla"] == pytest.approx(5902 / 12568)
    assert scores["empty_predictor"]["dead_classes"] == [1, 2, 3, 4]
    assert {k: v for k, v in scores.items() if k != "empty_predictor"} == scores["empty_predictor"]
    class_2 = replace(counts, **{k: v[:, 1:2] for k, v in vars(counts).items() if k != "index"})
    assert round(summarise(class_2)["dice_kaggle"], 3) == 0.980


# --- counting ---------------------------------------------------------------------------------


def test_count_by_hand():
    logits = torch.tensor([[[[2.0, -1, 0, 1e-6]], [[-3, -3, -3, -3]]]])  # 0 is p = 0.5: negative
    masks = torch.tensor([[[[1, 1, 0, 0]], [[0, 0, 0, 1]]]], dtype=torch.uint8)
    labels_logits, labels = torch.tensor([[0.0, math.log(3)]]), torch.tensor([[1, 1]])
    counts = count(logits, labels_logits, masks, labels, torch.tensor([7], dtype=torch.int32))
    assert counts.intersection.tolist() == [[1, 0]]
    assert counts.truth.tolist() == [[2, 1]]
    assert counts.predicted.tolist() == [[2, 0]]
    assert counts.prob.tolist() == [pytest.approx([0.5, 0.75], rel=1e-6)]
    assert counts.index.tolist() == [7]
    dtypes = [value.dtype for value in vars(counts).values()]
    assert dtypes == [torch.int64] * 4 + [torch.bool, torch.float32]


@pytest.mark.parametrize("seed", range(3))
def test_dice_by_brute_force(seed):
    masks_logits, labels_logits, masks, labels, index = random_batch(seed)
    metric = DefectMetrics()
    metric.update(masks_logits, labels_logits, masks, labels, index)
    scores = metric.compute()
    X, Y = masks.numpy(), masks_logits.sigmoid().numpy() > 0.5

    def score(x, y):
        return 2 * np.sum(x & y) / (np.sum(x) + np.sum(y))

    N, M = X.shape[:2]
    image = [score(X[n], Y[n]) for n in range(N) if X[n].any()]
    assert scores["dice_image"] == pytest.approx(np.mean(image))
    per_class = [
        np.mean([score(X[n, m], Y[n, m]) for n in range(N) if X[n, m].any()]) for m in range(M)
    ]
    assert flat(scores["dice_class"]) == pytest.approx(
        flat(by_class(np.mean(per_class), *per_class))
    )
    pooled = [sk.f1_score(X[:, m].ravel(), Y[:, m].ravel()) for m in range(M)]
    assert flat(scores["dice_pooled"]) == pytest.approx(flat(by_class(np.mean(pooled), *pooled)))
    jaccard = [sk.jaccard_score(X[:, m].ravel(), Y[:, m].ravel()) for m in range(M)]
    assert flat(scores["iou_pooled"]) == pytest.approx(flat(by_class(np.mean(jaccard), *jaccard)))
    kaggle = [
        score(X[n, m], Y[n, m]) if X[n, m].any() or Y[n, m].any() else 1.0
        for n in range(N)
        for m in range(M)
    ]
    assert scores["dice_kaggle"] == pytest.approx(np.mean(kaggle))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("threshold", [0.01, 0.3, 0.4, 0.5, 0.6, 0.7, 0.99])
def test_threshold_is_exact_in_low_precision(dtype, threshold):
    """Compare the values closest to logit(threshold) as real numbers."""
    logit = math.log(threshold / (1 - threshold))
    nearest = torch.tensor(logit, dtype=dtype)
    up, down = (torch.tensor(side * math.inf, dtype=dtype) for side in (1, -1))
    values = [nearest.nextafter(down), nearest, nearest.nextafter(up)]
    for value in values:
        counts = count(
            value.reshape(1, 1, 1, 1),
            torch.zeros(1, 1),
            torch.ones(1, 1, 1, 1, dtype=torch.bool),
            torch.ones(1, 1),
            torch.zeros(1),
            threshold,
        )
        assert counts.predicted.item() == (float(value) > logit)


def test_bfloat16_logits_count_as_their_float32_values():
    masks_logits, labels_logits, masks, labels, index = random_batch(0)
    low = masks_logits.bfloat16(), labels_logits.bfloat16()
    rest = masks, labels, index, 0.3
    same(count(*low, *rest), count(low[0].float(), low[1].float(), *rest))


def test_channels_last_and_gradients_change_nothing():
    masks_logits, labels_logits, masks, labels, index = random_batch(0)
    plain = count(masks_logits, labels_logits, masks, labels, index)
    strided = masks_logits.contiguous(memory_format=torch.channels_last).requires_grad_()
    counts = count(strided, labels_logits.requires_grad_(), masks, labels, index)
    same(plain, counts)
    assert not counts.prob.requires_grad


def test_values_are_never_read():
    """Meta tensors have no values: `.item()`, which synchronises a GPU, would raise."""
    metric = DefectMetrics().to("meta")
    metric.update(*(value.to("meta") for value in random_batch(0)))
    assert metric.prob[0].device.type == "meta"


@pytest.mark.parametrize("wrong", range(5))
def test_shapes_that_do_not_fit(wrong):
    batch = list(random_batch(0))
    batch[wrong] = batch[wrong][:1]
    with pytest.raises(ValueError, match="shapes do not match"):
        count(*batch)


# --- gathering --------------------------------------------------------------------------------


def test_batches_and_repeated_images_change_nothing():
    batch = random_batch(1)
    whole, parts = DefectMetrics(0.4), DefectMetrics(0.4)
    whole.update(*batch)
    order = torch.tensor([5, 0, 11, 3, 3, 9, 1, 2, 4, 6, 7, 8, 10, 0])  # 0 and 3 twice
    for chosen in order.split(4):
        parts.update(*(value[chosen] for value in batch))
    same(whole.counts(), parts.counts())
    assert parts.counts().index.tolist() == list(range(12))
    assert flat(parts.compute()) == pytest.approx(flat(whole.compute()))
    assert whole.compute() == summarise(whole.counts(), 0.4)
    parts.reset()
    assert parts.counts().label.shape == (0, 0)


def test_the_index_is_any_row():
    *batch, _ = random_batch(2, images=3)
    metric = DefectMetrics()
    metric.update(*batch, torch.tensor([700, 5, 31]))
    counts = metric.counts()
    assert counts.index.tolist() == [5, 31, 700]
    np.testing.assert_array_equal(counts.label, batch[3].numpy()[[1, 2, 0]])


def test_nothing_seen():
    metric = DefectMetrics()
    with pytest.warns(UserWarning, match="before the ``update``"):
        scores = metric.compute()
    assert scores["n_images"] == 0
    assert scores["mla"] is scores["dice_kaggle"] is scores["auc"]["mean"] is None
    json.dumps(scores, allow_nan=False)


@pytest.mark.parametrize("mine", [[0, 1, 2, 3], [2], []])
def test_two_processes(mine):
    """Each process gets the same scores, with uneven, repeated or no images."""
    batch = random_batch(3, images=6)
    other = DefectMetrics()
    other.update(*(value[2:] for value in batch))
    gathered = iter(other.metric_state.values())

    def gather(local, group):
        (theirs,) = next(gathered)
        assert (local.dtype, local.ndim) == (theirs.dtype, theirs.ndim)
        return [local, theirs]

    metric = DefectMetrics(dist_sync_fn=gather, distributed_available_fn=lambda: True)
    if mine:
        metric.update(*(value[mine] for value in batch))
    together = metric.counts()
    whole = DefectMetrics()
    seen = sorted({*mine, 2, 3, 4, 5})
    whole.update(*(value[seen] for value in batch))
    same(together, whole.counts())
    gathered = iter(())  # gathered counts are released: only local images are left
    assert sum(len(index) for index in metric.index) == len(mine)


# --- the table --------------------------------------------------------------------------------

NAMES = ["crack", "inclusion", "patch", "scratch"]


def test_table_columns():
    counts = replace(
        table([(2, 4, 4, 0.9), (0, 0, 0, 0.1)], [(0, 0, 3, 0.2), (0, 6, 0, 0.4)]),
        index=np.array([2, 0]),
    )
    rows = per_image(counts, ["a.jpg", "b.jpg", "c.jpg"], ["crack", "patch"])
    assert rows.to_dict("list") | {"dice": None, "iou": None, "prob": None} == {
        "image_id": ["c.jpg", "c.jpg", "a.jpg", "a.jpg"],
        "class_id": [1, 2, 1, 2],
        "class_name": ["crack", "patch", "crack", "patch"],
        "label": [True, False, False, True],
        "prob": None,
        "intersection": [2, 0, 0, 0],
        "truth_pixels": [4, 0, 0, 6],
        "predicted_pixels": [4, 0, 3, 0],
        "dice": None,
        "iou": None,
    }
    np.testing.assert_allclose(rows["prob"], [0.9, 0.1, 0.2, 0.4], rtol=1e-7)
    np.testing.assert_allclose(rows["dice"], [0.5, math.nan, 0, 0])
    np.testing.assert_allclose(rows["iou"], [1 / 3, math.nan, 0, 0])


def test_round_trip_through_parquet(tmp_path):
    counts = random_counts(4)
    ids = [f"{i:04d}.jpg" for i in range(40)]
    per_image(counts, ids, NAMES).to_parquet(tmp_path / "test_images.parquet")
    stored = pq.read_table(tmp_path / "test_images.parquet")
    both_empty = int(((counts.truth == 0) & (counts.predicted == 0)).sum())
    assert both_empty > 0
    assert stored["dice"].null_count == stored["iou"].null_count == both_empty
    read = pd.read_parquet(tmp_path / "test_images.parquet")
    same(from_table(read), counts)
    np.testing.assert_array_equal(from_table(read).prob, counts.prob)
    assert summarise(from_table(read), 0.3) == summarise(counts, 0.3)
    shuffled = from_table(read.sample(frac=1, random_state=0))
    assert flat(summarise(shuffled)) == pytest.approx(flat(summarise(counts)))


def test_empty_table():
    empty = per_image(random_counts(0, images=0), [], NAMES)
    assert len(empty) == 0
    assert summarise(from_table(empty))["n_images"] == 0


def test_table_needs_a_name_for_each_class_and_image():
    with pytest.raises(ValueError, match="3 class names for 4 classes"):
        per_image(random_counts(0), ["x"] * 40, NAMES[:3])
    with pytest.raises(IndexError):
        per_image(random_counts(0), ["x"] * 39, NAMES)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda rows: rows.drop(columns=["prob", "label"]), "column 'prob'"),
        (lambda rows: rows.assign(truth_pixels=math.nan), "column 'truth_pixels'"),
        (lambda rows: rows.drop(index=5), r"'b.jpg': has the classes \[1, 3, 4\], expected 1 to 4"),
        (lambda rows: pd.concat([rows, rows.iloc[:1]]), r"'a.jpg': has the classes \[1, 1, 2"),
        (lambda rows: rows.replace({"class_id": {1: 10**9}}), "expected 1 to 1000000000"),
        (lambda rows: rows.replace({"class_id": {1: 0}}), r"has the classes \[0, 2, 3, 4\]"),
    ],
)
def test_damaged_table(damage, message):
    rows = per_image(random_counts(0, images=2), ["a.jpg", "b.jpg"], NAMES)
    with pytest.raises(DataError, match=message):
        from_table(damage(rows))
