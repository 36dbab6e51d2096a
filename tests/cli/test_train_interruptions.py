import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hannet.models import HanMixer
from images_toy import MIXER, TINY

pytestmark = pytest.mark.usefixtures("own_folder")


@pytest.mark.slow
def test_ctrl_c_says_that_nothing_is_saved():
    if not os.environ.get("HANNET_DATA"):
        pytest.skip("HANNET_DATA is not set")
    code = "from hannet.cli import main; main()"
    arguments = ["train", "images", "mnist", "--epochs", "500", "--depth", "2"]
    with subprocess.Popen([sys.executable, "-c", code, *arguments], stderr=subprocess.PIPE, text=True) as process:
        try:
            while "% HanNet " not in (line := process.stderr.readline()):
                assert line
            process.send_signal(signal.SIGINT)
            err = process.communicate(timeout=60)[1]
        finally:
            process.kill()
    assert process.returncode == 130
    assert err.splitlines()[-1] == "hannet: interrupted; nothing is saved"
    assert not list(Path("hannet-models").iterdir())


def test_a_network_on_rows_leaves_the_state_of_another_training(hannet, photos):
    kept = Path(".net.unfinished", "checkpoint.safetensors")
    kept.parent.mkdir()
    kept.write_bytes(b"of a mixer")
    assert hannet("train", "images", str(photos), *TINY, "--size", "8", "--out", "net")[0] == 0
    assert kept.exists()


def test_a_checkpoint_that_no_fresh_start_mends_says_no_such_thing(hannet, photos):
    kept = Path(".net.unfinished", "checkpoint.safetensors")
    kept.mkdir(parents=True)
    code, _, err = hannet("train", "images", str(photos), *MIXER, "--size", "16", "--out", "net")
    assert code == 1
    assert err.splitlines()[-1].startswith(f"hannet: {kept}: cannot be read")
    assert "--fresh" not in err


@pytest.mark.slow
@pytest.mark.parametrize(("number", "expected"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_training_that_was_cut_off_goes_on(hannet, photos, number, expected):
    arguments = ["train", "images", str(photos), *MIXER, "--size", "16"]
    assert hannet(*arguments, "--out", "whole")[0] == 0
    long = [*arguments[:-6], "--epochs", "2000", "--batch", "16", "--lr", "0.01", "--size", "16"]
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from hannet.cli import main; main()"
    )
    with subprocess.Popen([sys.executable, "-c", code, *long], stderr=subprocess.PIPE, text=True) as process:
        try:
            while "HanMixer" not in (line := process.stderr.readline()):
                assert line
            process.send_signal(number)
            err = process.communicate(timeout=60)[1]
        finally:
            process.kill()
    assert process.returncode == expected
    assert "the same command resumes from there" in err.splitlines()[-1]
    assert Path("hannet-models", ".photos-han-mixer.unfinished", "checkpoint.safetensors").is_file()
    code, out, err = hannet(*arguments)
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].endswith(
        "of a training with other settings, data or seed; remove it to start over (--fresh does)"
    )
    assert hannet(*arguments, "--fresh")[0] == 0
    first, second = (
        Path(name, "model.safetensors").read_bytes() for name in ("whole", "hannet-models/photos-han-mixer")
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
