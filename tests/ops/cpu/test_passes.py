from types import SimpleNamespace

import torch

from hannet.ops.cpu import passes


def test_compiles_without_a_cache_where_no_folder_is_writable(monkeypatch):
    def cfunc(signature, cache=False):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return lambda entry: SimpleNamespace(address=4096, name=entry.__name__)

    monkeypatch.setattr(passes, "cfunc", cfunc)
    call, address = passes.compiled.__wrapped__("forward", torch.float32)
    assert address == 4096
    assert call.owner.name == "forward"
