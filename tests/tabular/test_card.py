import json
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from hannet.tabular.card import evaluation, make_card

OLD = Path(__file__).parents[1] / "fixtures" / "saved_by_0_1_0" / "table" / "report.json"
EVIL = "<script>alert(1)</script>\n---\n| a"


@pytest.fixture
def facts():
    return json.loads(OLD.read_text())


def test_the_card_states_the_metrics_of_the_report(facts):
    card = ModelCard(make_card(facts))
    (result,) = card.data.eval_results[:1]
    values = {one.metric_type: one.metric_value for one in card.data.eval_results}
    row = facts["rows"][0]
    assert values == {"rmse": row["rmse"], "mae": row["mae"], "r_squared": row["r2"]}
    assert (result.task_type, result.dataset_split) == ("tabular-regression", "test")
    assert card.data.pipeline_tag == "tabular-regression"
    assert "| RMSE | 106.9 | 59.2–146.0 |" in card.text
    assert "trained on 48 rows" in " ".join(card.text.split())


def test_a_target_cannot_break_the_card(facts):
    facts["target"] |= {"name": EVIL, "classes": ["a", "b"]}
    facts["rows"] = [{"model": "HanNet", "accuracy": 0.9, "interval": [0.8, 0.95], "log_loss": 0.3, "auc": None}]
    text = make_card(facts)
    card = ModelCard(text)
    assert card.data.model_name == "HanNet predicting <script>alert(1)</script> --- | a"
    assert "# HanNet predicting \\<script\\>alert(1)\\</script\\> --- \\| a\n" in card.text
    assert "<script>" not in card.text
    assert card.data.pipeline_tag == "tabular-classification"
    assert [one.metric_type for one in card.data.eval_results] == ["accuracy", "log_loss"]
    assert text.count("\n---\n") == 1
    assert evaluation(facts).metrics[1].interval is None
