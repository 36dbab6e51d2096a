import pytest

from hannet import HanNet
from hannet.export import ExportError, to_c, wasm
from hannet.export.folders import require_folder


@pytest.fixture
def exported(tmp_path):
    """A folder of C, and what writes it anew."""
    folder, net = tmp_path / "net", HanNet(2, 1, width=3, depth=2)

    def export(name="model"):
        return to_c(net, folder, name=name, verified=False, force=True)

    export()
    return folder, export


@pytest.mark.parametrize(
    "extra", ["main.c", "other_weights.h", "build/notes.txt", "src/model_weights.h", ".git/config"]
)
def test_force_leaves_what_no_export_wrote(extra, exported):
    folder, export = exported
    (folder / extra).parent.mkdir(exist_ok=True)
    (folder / extra).write_text("mine")
    with pytest.raises(ExportError, match="holds files that no export wrote, such as "):
        export()
    assert (folder / extra).read_text() == "mine"
    assert (folder / "model.h").exists()


def test_what_was_built_there_goes_with_an_earlier_export(exported):
    folder, export = exported
    (folder / "build" / "CMakeFiles").mkdir(parents=True)
    for file in ("build/CMakeCache.txt", "build/CMakeFiles/progress", "model.o"):
        (folder / file).write_text("built")
    export("other")
    assert not (folder / "build").exists()
    assert not (folder / "model.h").exists()
    assert (folder / "other.h").exists()


def test_empty_folders_are_free(tmp_path):
    require_folder(tmp_path, ".wasm", wasm.file_names, force=True)
    with pytest.raises(ExportError, match="exists already"):
        require_folder(tmp_path, ".wasm", wasm.file_names, force=False)


def test_a_file_is_never_replaced_by_a_folder(tmp_path):
    (tmp_path / "net").write_text("mine")
    with pytest.raises(ExportError, match="is a file: name a folder"):
        require_folder(tmp_path / "net", ".wasm", wasm.file_names, force=True)


def test_a_web_project_is_no_export(tmp_path):
    for file in ("net.wasm", "net.mjs", "net.d.mts"):
        (tmp_path / file).touch()
    require_folder(tmp_path, ".wasm", wasm.file_names, force=True)
    (tmp_path / "index.html").touch()
    with pytest.raises(ExportError, match=r"such as index\.html"):
        require_folder(tmp_path, ".wasm", wasm.file_names, force=True)
