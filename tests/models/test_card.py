import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from huggingface_hub import ModelCard, constants

from hannet import HanNet
from hannet.models.card import Evaluation, Metric

MEASURED = Evaluation(
    "image-classification",
    "photos",
    "test",
    [
        Metric("accuracy", "accuracy", 0.8, interval=(0.7112, 0.8666)),
        Metric("accuracy", "certified accuracy at l2 distance 0.5", 0.6),
    ],
)


class Hub(BaseHTTPRequestHandler):
    """As much of the Hugging Face Hub as an upload asks for; `server.files` are those of the commits."""

    def do_POST(self):
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.tokens.add(self.headers["Authorization"])
        if self.path == "/api/repos/create":
            return self.answer({"url": f"{constants.ENDPOINT}/me/net", "id": "me/net"})
        if self.path == "/api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        if self.path.endswith("/preupload/main"):
            names = [file["path"] for file in json.loads(content)["files"]]
            modes = [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]
            return self.answer({"files": modes})
        assert self.path.endswith("/commit/main"), self.path
        for line in content.splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                self.server.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
        return self.answer({"commitOid": "0" * 40, "commitUrl": f"{constants.ENDPOINT}/me/net/commit/{'0' * 40}"})

    def do_GET(self):
        self.answer({"siblings": [], "id": "me/net"})

    def answer(self, value):
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(monkeypatch):
    """A server that stands in for the Hub."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        server.files, server.tokens = {}, set()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.setenv(name, "127.0.0.1")
        yield server
        server.shutdown()


def test_push_to_hub_uploads_what_from_pretrained_reads_and_a_card_with_metrics(hub, tmp_path):
    net = HanNet(in_features=4, out_features=2, width=4, depth=2)
    address = net.push_to_hub("me/net", token="for_nobody", model_card_kwargs={"evaluation": MEASURED})  # noqa: S106
    assert str(address).startswith(f"{constants.ENDPOINT}/me/net/commit/")
    assert hub.tokens == {"Bearer for_nobody"}
    assert hub.files.keys() == {"README.md", "config.json", "model.safetensors"}
    for name, content in hub.files.items():
        (tmp_path / name).write_bytes(content)
    assert HanNet.from_pretrained(tmp_path).state_dict().keys() == net.state_dict().keys()
    card = ModelCard(hub.files["README.md"].decode())
    (model,) = card.data.to_dict()["model-index"]
    assert model["name"] == "HanNet"
    (result,) = model["results"]
    assert result["task"] == {"type": "image-classification"}
    assert result["dataset"] == {"name": "photos", "type": "photos", "split": "test"}
    assert result["metrics"] == [
        {"type": "accuracy", "value": 0.8, "name": "accuracy"},
        {"type": "accuracy", "value": 0.6, "name": "certified accuracy at l2 distance 0.5"},
    ]
    assert card.data.library_name == "hannet"
    assert card.data.tags == sorted({*card.data.tags}, key=card.data.tags.index)
    assert "| accuracy | 0.8000 | 0.7112–0.8666 |" in card.text


def test_a_card_without_an_evaluation_has_no_metrics(tmp_path):
    HanNet(in_features=4, out_features=2, width=4, depth=2).save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert "model-index" not in card
    assert "Measured on" not in card


def test_names_cannot_break_a_card():
    found = Evaluation("tabular-regression", "a: |\n---\n<script>", "test", [Metric("rmse", "a|b", 2.0, ".1f", (1, 3))])
    assert "Measured on a: \\| --- \\<script\\> (test):" in found.markdown()
    assert "| a\\|b | 2.0 | 1.0–3.0 |" in found.markdown()
    assert found.results()[0].dataset_name == "a: | --- <script>"
