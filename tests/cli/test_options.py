import pytest

from hannet import cli
from hannet.experiments.base import EXPERIMENTS


@pytest.fixture
def offered(hannet, monkeypatch):
    """What Bash is offered for the last word of a command line."""

    def call(line):
        words = line.split(" ")
        monkeypatch.setenv("_HANNET_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
        code, out, err = hannet()
        assert (code, err) == (0, "")
        return out.split()

    return call


def test_a_shell_is_offered_what_fits(offered, own_folder, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "two words").mkdir()
    assert offered("hannet re") == ["reproduce", "report"]
    assert offered("hannet reproduce ") == [*EXPERIMENTS, "all"]
    assert offered("hannet reproduce --see") == ["--seeds"]
    assert offered("hannet reproduce table12 --dataset st") == ["stl10"]
    assert offered("hannet train images --model f") == ["fcnet"]
    assert offered("hannet train images ") == [
        *("mnist", "cifar10", "cifar100", "stl10", "downsampled-imagenet"),
        "photos",
    ]
    assert offered("hannet attack model --data ph") == ["photos"]
    assert {"bikesharing", "mnist", "all"} <= {*offered("hannet data get ")}


@pytest.mark.parametrize("line", ["hannet fit ", "hannet predict model ", "hannet runs ", "hannet fit a.csv --out "])
def test_where_a_file_is_meant_the_shell_offers_files(offered, line):
    assert offered(line) == []


def test_completion_is_shown_and_installed(hannet, monkeypatch, tmp_path):
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    monkeypatch.setenv("HOME", str(tmp_path))
    code, script, _ = hannet("--show-completion", "bash")
    assert code == 0
    assert "_HANNET_COMPLETE=complete_bash" in script
    assert hannet("--install-completion", "bash")[0] == 0
    assert (tmp_path / ".bash_completions" / "hannet.sh").read_text().strip() == script.strip()
    assert ".bash_completions/hannet.sh" in (tmp_path / ".bashrc").read_text()


@pytest.mark.parametrize(
    ("words", "share"),
    [
        (["--skip-broken"], 0.05),
        (["--skip-broken", "0.2"], 0.2),
        (["--skip-broken", "1"], 1.0),
        (["--skip-broken=0.3"], 0.3),
        (["--skip-broken", "--seed", "3"], 0.05),
        ([], None),
    ],
)
def test_an_option_may_be_given_without_its_value(words, share):
    command = cli.typer.main.get_command(cli.app).commands["train"].commands["images"]
    with command.make_context("images", ["photos", *words]) as context:
        assert (context.params["data"], context.params["skip_broken"]) == ("photos", share)
