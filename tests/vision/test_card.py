import pytest

from hannet.vision.card import image_evaluation

REPORT = {
    "data": "/home/me/secret/photos",
    "images": {"train": 36, "validation": 3, "test": 100},
    "test_accuracy": 0.8,
    "certified_accuracy": {"0.5": 0.6},
}


def test_the_metrics_of_a_report_have_intervals_and_a_folder_is_named_alone():
    found = image_evaluation(REPORT)
    assert (found.task, found.data, found.part) == ("image-classification", "photos", "test")
    accuracy, certified = found.metrics
    assert (accuracy.name, accuracy.value) == ("accuracy", 0.8)
    assert accuracy.interval == pytest.approx((0.7112, 0.8666), abs=1e-4)
    assert (certified.name, certified.value) == ("certified accuracy at l2 distance 0.5", 0.6)


def test_a_set_of_images_keeps_its_name():
    found = image_evaluation({**REPORT, "data": "mnist", "certified_accuracy": {}})
    assert (found.data, [metric.value for metric in found.metrics]) == ("mnist", [0.8])


@pytest.mark.parametrize(("report", "lacking"), [({}, "data"), ({"data": "mnist"}, "images")])
def test_another_report_is_refused(report, lacking):
    with pytest.raises(ValueError, match=f"of `hannet train images` holds; it has no '{lacking}'"):
        image_evaluation(report)
