import json

import pytest

from hannet.cli.reproduce import _scheduler


@pytest.mark.parametrize("form", ["address", "file"])
@pytest.mark.parametrize(("protocol", "told"), [("tcp", True), ("tls", False)])
def test_a_cluster_without_tls_is_told_in_one_line(capsys, tmp_path, form, protocol, told):
    address = f"{protocol}://10.0.0.1:8786"
    if form == "file":
        (tmp_path / "scheduler.json").write_text(json.dumps({"address": address}))
        address = str(tmp_path / "scheduler.json")
    assert _scheduler(address, None) == address
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Note: without TLS, whoever reaches the cluster") is told
    assert err.count("\n") == told
