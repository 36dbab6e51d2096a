from hannet.cli import progress_bar
from hannet.reporting.progress import ProgressEvent


def test_progress_in_words():
    event = ProgressEvent("HanNet, seed 0", 50, 200, metrics={"loss": 0.25, "test accuracy": 0.99})
    assert progress_bar.describe(event, None, None) == "HanNet, seed 0 50/200, loss 0.25, test accuracy 99.0%"
    assert progress_bar.describe(event, 12.3, None) == "HanNet, seed 0 50/200, 12 it/s, loss 0.25, test accuracy 99.0%"
    sweep = ProgressEvent("sweep", 2, 4, "", {"group": "3/4", "runs/min": 7.25, "failed": 2})
    later = ProgressEvent("waiting", 0, 1, "", within=sweep)
    assert progress_bar.describe(later, None, 83.0) == "waiting, group 3/4, runs/min 7.25, failed 2, 1:23 left"


def test_progress_in_a_log(capsys, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(progress_bar.time, "monotonic", lambda: clock[0])
    with progress_bar.progress_bar() as bar:
        for seconds, step in ((0, 10), (5, 60), (11, 120), (12, 130)):
            clock[0] = seconds
            bar(ProgressEvent("net", step, 130, within=ProgressEvent("sweep", step, 260, "")))
        bar.fail("net: it diverged")
    assert capsys.readouterr().err.splitlines() == [
        " 46% net 120/130, 10 it/s, 0:14 left",
        " 50% net 130/130, 10 it/s, 0:13 left",
        "failed: net: it diverged",
    ]
