import itertools

import numpy as np
import pytest

from hannet.tabular import baselines, plots
from hannet.tabular import metrics as compare


@pytest.fixture
def split():
    """Makes a split of so many training rows; classes: how often each comes."""

    def make(rows, classes=()):
        rng = np.random.default_rng(0)
        x = rng.normal(size=(rows, 3))
        y = np.repeat(np.arange(len(classes)), classes) if classes else x[:, 0] * 1e6
        return compare.Split(x, y, x, y, len(classes))

    return make


@pytest.mark.parametrize(
    ("rows", "classes"), [(6, ()), (19, ()), (40, ()), (6, (3, 3)), (21, (20, 1)), (60, (20, 20, 20)), (30, (2,) * 15)]
)
def test_other_models_train_however_few_the_rows(split, rows, classes):
    data = split(rows, classes)
    for name, model in baselines.baselines(data, 0).items():
        measures = baselines.evaluate(baselines.fit_scaled(model, data), data, 0.0)
        assert measures["size"]["count"] >= 1, name
        assert np.isfinite(measures["log_loss" if classes else "rmse"]), name


def test_the_mlp_trains_on_all_rows_and_trees_split_however_few(split):
    data = split(20)
    models = baselines.baselines(data, 0)
    assert not models["MLP"].early_stopping
    rows = {name: baselines.evaluate(baselines.fit_scaled(model, data), data, 0.0) for name, model in models.items()}
    assert rows["boosted trees"]["rmse"] < 0.8 * rows["mean"]["rmse"]
    assert "but 2 rows to a leaf" in baselines.baseline_note(data)
    assert baselines.baselines(split(40), 0)["boosted trees"].min_samples_leaf == 20
    assert "to a leaf" not in baselines.baseline_note(split(40))
    assert baselines.baselines(split(20, (10, 10)), 0)["boosted trees"].min_samples_leaf == 2


def test_a_column_matters_as_much_as_the_model_uses_it(split):
    class First:
        def predict(self, x):
            return x[:, 0] * 1e6

    groups = {"all": slice(0, 3), "others": slice(1, 3), "first": slice(0, 1)}
    rises = compare.permutation_importance(First(), groups, split(200), 0)
    assert rises["others"] == (0, 0)
    assert min(rises["all"], rises["first"])[0] > 1e6
    assert rises["first"][1] > 0
    assert list(rises)[-1] == "others"


def test_what_matters_is_measured_throughout_a_sorted_table():
    class First:
        def predict(self, x):
            return x[:, 0]

    x = np.repeat([[0.0], [1.0]], compare.IMPORTANCE_ROWS, axis=0)  # in its first half nothing matters
    split = compare.Split(x, x[:, 0], x, x[:, 0], 0)
    rise, spread = compare.permutation_importance(First(), {"first": slice(0, 1)}, split, 0)["first"]
    assert rise == pytest.approx(0.7, abs=0.05)
    assert spread < 0.05


@pytest.mark.parametrize(("columns", "shuffles"), [(3, 5), (100, 2)])
def test_many_columns_are_shuffled_less_often(split, columns, shuffles):
    calls = []

    class Counts:
        def predict(self, x):
            calls.append(len(x))
            return x[:, 0]

    groups = {str(number): slice(number % 3, number % 3 + 1) for number in range(columns)}
    assert len(compare.permutation_importance(Counts(), groups, split(50), 0)) == columns
    assert len(calls) == 1 + columns * shuffles


def test_sizes():
    data = compare.Split(np.eye(4), np.arange(4.0), np.eye(4), np.arange(4.0), 0)
    sizes = {
        name: baselines.model_size(baselines.fit_scaled(model, data))
        for name, model in baselines.baselines(data, 0).items()
    }
    assert sizes["mean"] == {"count": 1, "of": "weights"}
    assert sizes["ridge"] == {"count": 5, "of": "weights"}
    assert sizes["MLP"] == {"count": 4 * 100 + 100 + 100 + 1, "of": "weights"}
    assert sizes["boosted trees"]["of"] == "leaves"


def test_pictures_of_many_classes_and_odd_names():
    y = np.arange(40)
    figure = plots.plot_predictions("$x_$" * 30, tuple(f"${n}$" for n in y), y, np.eye(40))
    figure.canvas.draw()
    figure = plots.plot_predictions("y", ("a|b$", "c" * 50), np.array([0, 1]), np.eye(2))
    figure.canvas.draw()
    assert [text.get_text() for text in figure.axes[0].texts] == ["1", "0", "0", "1"]


@pytest.mark.parametrize(
    "ends", [(60_000, 390_000), (-2.5e6, 1e6), (0, 1e12), (123_456_000, 123_456_789), (0, 1e-7), (1, 9_999)]
)
def test_numbers_along_the_axes_stand_apart(ends):
    y = np.linspace(*ends, 20)
    figure = plots.plot_predictions("price", (), y, y)
    figure.canvas.draw()
    (axes,) = figure.axes
    for axis, side in ((axes.xaxis, 0), (axes.yaxis, 1)):
        labels = [label for label in axis.get_ticklabels() if label.get_text()]
        assert len({label.get_text() for label in labels}) == len(labels) >= 3
        boxes = [np.array(label.get_window_extent())[:, side] for label in labels]
        assert all(low[1] < high[0] for low, high in itertools.pairwise(sorted(map(tuple, boxes))))
    if ends[1] == 390_000:
        assert [label.get_text() for label in axes.get_xticklabels()][1:3] == ["80k", "160k"]


def test_metrics():
    y = np.array([1.0, 2.0, 4.0])
    metrics = compare.score(y, y + np.array([1, -1, 1]))
    assert (metrics["rmse"], metrics["mae"], metrics["interval"]) == (1, 1, (1, 1))
    assert metrics["r2"] == pytest.approx(1 - 3 / np.square(y - y.mean()).sum())
    assert compare.score(y[:1], y[:1])["r2"] is None
    metrics = compare.score(np.array([0, 1, 1]), np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]))
    assert metrics["accuracy"] == pytest.approx(2 / 3)
    assert metrics["auc"] == 1
    assert metrics["log_loss"] == pytest.approx(-np.log([0.9, 0.8, 0.4]).mean())
    assert compare.score(np.array([1, 1]), np.full((2, 2), 0.5))["auc"] is None


def test_the_interval_of_an_accuracy():
    def interval(right, rows):
        output = np.eye(2)[(np.arange(rows) >= right).astype(int)]
        return compare.score(np.zeros(rows, int), output)["interval"]

    assert interval(80, 80) == pytest.approx((0.9542, 1), abs=1e-4)
    assert interval(0, 10) == pytest.approx((0, 0.2775), abs=1e-4)
    assert interval(15, 20) == pytest.approx((0.5313, 0.8881), abs=1e-4)
    for rows in range(1, 60):
        for right in range(rows + 1):
            low, high = interval(right, rows)
            assert 0 <= low <= right / rows <= high <= 1


def test_a_model_that_is_worse_than_none_is_told():
    x = np.zeros((4, 1))
    numbers = compare.Split(x, np.array([1.0, 3, 2, 2]), x, np.array([1.0, 2, 3, 4]), 0)
    (note,) = baselines.underperformance_warning(numbers, {"rmse": 1.3})
    assert "its RMSE on held-out rows is 1.3, above that of always predicting the training rows' mean, 1.2247" in note
    assert baselines.underperformance_warning(numbers, {"rmse": 1.2}) == []
    classes = compare.Split(x, np.array([0, 1, 1, 1]), x, np.array([0, 0, 0, 1]), 2)
    (note,) = baselines.underperformance_warning(classes, {"accuracy": 0.2})
    assert "0.2000, below that of always predicting the most frequent class, 0.2500" in note
    assert baselines.underperformance_warning(classes, {"accuracy": 0.25}) == []


def test_a_small_negative_share_is_shown_as_zero():
    _, form = compare.headings([{"rmse": 1.0, "r2": -0.0001}])["r2"]
    assert (form.format(-0.0001), form.format(-0.5)) == ("0.000", "-0.500")


def test_of_few_rows_the_interval_is_called_rough():
    assert "(29)" in compare.small_sample_warning(29)[0]
    assert compare.small_sample_warning(30) == []


def test_the_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(100):
        low, high = compare.score(np.zeros(100), rng.normal(size=100))["interval"]
        hits += low <= 1 <= high
    assert 85 <= hits <= 99


@pytest.mark.parametrize(
    ("least", "form"),
    [(2345.6, ",.0f"), (12.3, ",.2f"), (0.5, ",.4f"), (0.0123, ",.5f"), (3e-7, ".2e"), (1e20, ".2e"), (0.0, ".2e")],
)
def test_errors_are_shown_with_four_digits(least, form):
    assert compare.error_format([{"rmse": least}, {"rmse": 10 * least}]) == form


@pytest.mark.parametrize("classes", [False, True])
def test_rows_of_a_group_count_as_one_observation(classes):
    """Ten rows that all are as one say no more than that one."""
    rng = np.random.default_rng(0)
    y, groups = np.zeros(40, int), np.arange(40)
    output = np.eye(2)[(rng.random(40) < 0.3).astype(int)] if classes else rng.normal(size=40)
    once = compare.score(y, output, None, groups)
    tenfold = compare.score(y.repeat(10), output.repeat(10, axis=0), None, groups.repeat(10))
    assert tenfold["interval"] == pytest.approx(once["interval"])
    apart = compare.score(y.repeat(10), output.repeat(10, axis=0))
    assert np.ptp(apart["interval"]) < 0.5 * np.ptp(once["interval"])
    assert "interval" not in compare.score(y, output, None, groups % 4)
