import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hannet.models import HanMixer
from hannet.train.ensemble_backend import EnsembleBackend
from hannet.train.module_backend import ModuleBackend
from images_toy import MIXER, TINY

pytestmark = pytest.mark.usefixtures("own_folder")


class CrashError(Exception):
    """What no command expects."""


def cut_off(monkeypatch, backend, after, how):
    """Ends the next training after a step; gives the numbers of the steps that are done."""
    step, done = backend.step, []

    def counted(self, number):
        done.append(number)
        living = step(self, number)
        if len(done) == after:
            how()
        return living

    monkeypatch.setattr(backend, "step", counted)
    return done


def crash():
    raise CrashError


@pytest.mark.parametrize(
    ("options", "backend"),
    [
        (TINY, EnsembleBackend),
        ((*TINY, "--model", "fcnet", "--ema", "0.5"), ModuleBackend),
        ((*MIXER, "--epochs", "3"), ModuleBackend),
    ],
    ids=["hannet", "fcnet with an average", "mixer"],
)
@pytest.mark.parametrize("end", ["signal", "crash"])
def test_the_same_command_resumes_and_ends_with_the_same_bits(hannet, photos, monkeypatch, options, backend, end):
    arguments = ("train", "images", str(photos), *options, "--size", "16", "--minutes", "0" if end == "crash" else "10")
    assert hannet(*arguments, "--out", "whole")[0] == 0
    with monkeypatch.context() as patch:
        done = cut_off(patch, backend, 5, crash if end == "crash" else lambda: signal.raise_signal(signal.SIGTERM))
        if end == "crash":
            with pytest.raises(CrashError):
                hannet(*arguments, "--out", "net")
        else:
            code, _, err = hannet(*arguments, "--out", "net")
            assert code == 143
            assert "the state is saved in .net.unfinished, and the same command resumes" in err.splitlines()[-1]
        assert not Path("net").exists()
        assert hannet(*arguments, "--out", "net")[0] == 0
    assert done == [*range(1, 6), *range(5 if end == "crash" else 6, max(done) + 1)]
    whole, net = Path("whole"), Path("net")
    assert (whole / "model.safetensors").read_bytes() == (net / "model.safetensors").read_bytes()
    for name in ("validation_accuracy", "test_accuracy"):
        first, second = (json.loads((folder / "report.json").read_text())[name] for folder in (whole, net))
        assert first == second
    assert {path.name for path in Path().iterdir()} == {"photos", "whole", "net"}


def test_a_checkpoint_that_no_fresh_start_mends_says_no_such_thing(hannet, photos):
    kept = Path(".net.unfinished", "checkpoint.safetensors")
    kept.mkdir(parents=True)
    code, _, err = hannet("train", "images", str(photos), *MIXER, "--size", "16", "--out", "net")
    assert code == 1
    assert err.splitlines()[-1].startswith(f"hannet: {kept}: cannot be read")
    assert "--fresh" not in err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "expected", "model", "options"),
    [(signal.SIGTERM, 143, "han-mixer", MIXER), (signal.SIGINT, 130, "hannet", TINY)],
)
def test_a_training_that_was_cut_off_is_resumed_or_started_over(hannet, photos, number, expected, model, options):
    arguments = ["train", "images", str(photos), *options, "--size", "16"]
    assert hannet(*arguments, "--out", "whole")[0] == 0
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from hannet.cli import main; main()"
    )
    long = [sys.executable, "-c", code, *arguments, "--epochs", "100000"]
    with subprocess.Popen(long, stderr=subprocess.PIPE, text=True) as process:
        try:
            while "% Han" not in (line := process.stderr.readline()):
                assert line
            process.send_signal(number)
            err = process.communicate(timeout=60)[1]
        finally:
            process.kill()
    assert process.returncode == expected
    assert "the same command resumes from there" in err.splitlines()[-1]
    assert Path("hannet-models", f".photos-{model}.unfinished", "checkpoint.safetensors").is_file()
    code, out, err = hannet(*arguments)
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].endswith(
        "of a training with other settings, data or seed; remove it to start over (--fresh does)"
    )
    assert hannet(*arguments, "--fresh")[0] == 0
    first, second = (
        Path(name, "model.safetensors").read_bytes() for name in ("whole", f"hannet-models/photos-{model}")
    )
    assert first == second


@pytest.mark.slow
@pytest.mark.parametrize("model", [MIXER, TINY])
def test_one_folder_has_one_training(hannet, photos, model):
    arguments = ["train", "images", str(photos), *model, "--size", "16", "--epochs", "100000", "--out", "net"]
    with subprocess.Popen(
        [sys.executable, "-c", "from hannet.cli import main; main()", *arguments], stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            while not ("HanMixer" in (line := process.stderr.readline()) or "HanNet" in line):
                assert line
            for more in ([], ["--fresh"], ["--force", "--seed", "1"]):
                code, out, err = hannet(*arguments, *more)
                assert (code, out, err.count("\n")) == (1, "", 1)
                assert "hannet: another process is training for net: wait until it ends, or name another folder" in err
            assert process.poll() is None
        finally:
            process.kill()
    assert hannet(*arguments, "--epochs", "1", "--fresh")[0] == 0  # a process that was killed is in nobody's way
    assert {path.name for path in Path().iterdir()} == {"photos", "net"}


@pytest.mark.parametrize("there", [False, True])
def test_a_second_ctrl_c_claims_no_more_than_is_kept(hannet, photos, monkeypatch, there):
    """It ends a training at once, in the middle of a step."""
    train = HanMixer.train

    def told(model, mode=True):
        if mode:
            signal.raise_signal(signal.SIGINT)
            if there:
                Path(".net.unfinished", "checkpoint.safetensors").touch()
            signal.raise_signal(signal.SIGINT)
        return train(model, mode)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background may ignore it
    monkeypatch.setattr(HanMixer, "train", told)
    try:
        code, _, err = hannet("train", "images", str(photos), *MIXER, "--size", "16", "--out", "net")
    finally:
        signal.signal(signal.SIGINT, before)
    kept = "the last checkpoint in .net.unfinished is kept" if there else "nothing is saved"
    assert (code, err.splitlines()[-1]) == (130, f"hannet: interrupted; {kept}")
