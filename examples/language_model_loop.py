"""Train a language model in a loop of your own: the model is a `torch.nn.Module` like any other.

    python examples/language_model_loop.py

A GPT with rotary positions and a window of 32 tokens reads bytes. `model(ids)` gives the logits of
all next tokens; `init_state` and `decode_step` continue a text with a cache.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from regard.models import AttentionConfig, GptConfig, make_model
from regard.models.base.decoder import Decoder

TEXT = """\
She sells sea shells by the sea shore.
The shells she sells are sea shells, I am sure.
So if she sells sea shells on the sea shore,
then I am sure she sells sea shore shells.
"""
VOCABULARY = 256  # a token is a byte
LENGTH = 48


def draw_batch(ids: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Draw segments of a text, with the token after each, ``[size, LENGTH + 1]``."""
    starts = torch.randint(len(ids) - LENGTH, (size, 1), generator=generator)
    return ids[starts + torch.arange(LENGTH + 1)]


@torch.inference_mode()
def continue_text(model: Decoder, prompt: str, num_tokens: int) -> str:
    """Continue a text with the most probable tokens."""
    state = model.init_state()
    ids = torch.tensor([list(prompt.encode())])  # [1, length]
    generated: list[int] = []
    for _ in range(num_tokens):
        ids = model.decode_step(ids, state).argmax(-1, keepdim=True)  # [1, 1]
        generated.append(int(ids))
    return prompt + bytes(generated).decode(errors="replace")


def main(num_steps: int = 100) -> tuple[float, str]:
    """Train; return the last loss in nats a token, and a text that the model continues."""
    torch.manual_seed(1)
    config = GptConfig(num_layers=2, dim=64, num_heads=4, hidden_dim=128, dropout=0.0)
    model = make_model(config, VOCABULARY, AttentionConfig(pattern="local:32"))
    assert isinstance(model, Decoder)
    ids = torch.tensor(list(TEXT.encode()))
    generator = torch.Generator().manual_seed(1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(1, num_steps + 1):
        batch = draw_batch(ids, 16, generator)
        logits = model(batch[:, :-1])  # [batch, length, vocabulary]
        loss = F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 25 == 0:
            print(f"step {step}   loss {loss.item():.3f}")
    text = continue_text(model.eval(), "She sells ", 28)
    print(text)
    return loss.item(), text


if __name__ == "__main__":
    main()
