"""What the README shows works as printed."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_examples_run():
    examples = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert examples
    for example in examples:
        exec(compile(example, "README.md", "exec"), {})  # noqa: S102


def test_links_into_the_repository_lead_somewhere():
    links = {link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link}
    assert not {link for link in links if not (ROOT / link).exists()}
