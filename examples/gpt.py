"""A small GPT on letters, with dense feed-forwards and with Han-blocks in their place.
The text is tinyshakespeare if the folder that HANNET_DATA names has it, else the README of this repository.
"""

import os
from pathlib import Path

import torch
from torch import nn

from _gallery import arguments, save
from hannet import surgery
from hannet.reporting.figures import new_figure

WIDTH, LENGTH, BATCH = 64, 48, 16
options = arguments()
steps = 5 if options.quick else 300
shakespeare = Path(os.environ.get("HANNET_DATA", ""), "tinyshakespeare", "input.txt")
text = (shakespeare if shakespeare.is_file() else Path(__file__).parents[1] / "README.md").read_text()
letters = sorted(set(text))
codes = torch.tensor([letters.index(letter) for letter in text[:200_000]])


class GPT(nn.Module):
    """Two blocks of attention and feed-forward."""

    def __init__(self):
        super().__init__()
        self.letters = nn.Embedding(len(letters), WIDTH)
        self.places = nn.Parameter(torch.zeros(LENGTH, WIDTH))
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, 0.0, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, len(letters))
        self.mask = nn.Transformer.generate_square_subsequent_mask(LENGTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, length) -> (batch, length, letters)."""
        return self.head(self.blocks(self.letters(x) + self.places, self.mask))


axes = (figure := new_figure(6, 3.6)).subplots()
for label, depth in {"dense": 0, "Han-blocks of 4": 4, "Han-blocks of 16": 16}.items():
    torch.manual_seed(0)
    model = GPT()
    if depth:
        surgery.replace_feedforward(model, hidden=2 * WIDTH, depth=depth)
    size = sum(p.numel() for name, p in model.named_parameters() if "linear" in name)
    optimizer, losses = torch.optim.AdamW(model.parameters(), lr=0.003), []
    for _ in range(steps):
        rows = torch.randint(len(codes) - LENGTH, (BATCH, 1)) + torch.arange(LENGTH)
        loss = nn.functional.cross_entropy(model(codes[rows]).flatten(0, 1), codes[rows + 1].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    axes.plot(torch.tensor(losses).unfold(0, max(1, steps // 20), 1).mean(1), label=f"{label}: {size:,} parameters")
axes.set(xlabel="step", ylabel="training loss, nats a letter", title="feed-forwards")
axes.legend()
save(figure, options.picture)
